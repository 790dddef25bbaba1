// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.

impl Ledger {
    pub fn book(&mut self, amount: i64, context: &Context<Self>) -> u64 {
        self.entries.push((context.now(), amount));
        self.entries.len()
    }
    pub async fn print(&self) {}
    fn from_first(old: FirstLedger) -> Self {
        old.into()
    }
    fn message_from_first(old: FirstMessage) -> Option<LedgerMessage> {
        None
    }
}
#[doc = "The messages of a `Ledger`, one variant per method."]
#[derive(:: core :: fmt :: Debug)]
pub enum LedgerMessage {
    #[doc = "Calls `Ledger::book`."]
    Book {
        #[doc = "The argument `amount`."]
        amount: i64,
    },
    #[doc = "Calls `Ledger::print`."]
    Print,
}
#[automatically_derived]
impl ::persistent_runtime::__private::serde::Serialize for LedgerMessage {
    fn serialize<__S: ::persistent_runtime::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        match *self {
            LedgerMessage::Book { amount: ref field0 } => {
                let mut content =
                    ::persistent_runtime::__private::serde::Serializer::serialize_struct_variant(
                        serializer,
                        "LedgerMessage",
                        0,
                        "Book",
                        1,
                    )?;
                ::persistent_runtime::__private::write_argument::<i64, _>(
                    &mut content,
                    "amount",
                    field0,
                )?;
                ::persistent_runtime::__private::serde::ser::SerializeStructVariant::end(content)
            }
            LedgerMessage::Print => {
                ::persistent_runtime::__private::serde::Serializer::serialize_unit_variant(
                    serializer,
                    "LedgerMessage",
                    1,
                    "Print",
                )
            }
        }
    }
}
#[automatically_derived]
impl ::persistent_runtime::__private::MessageEnum for LedgerMessage {
    const NAME: &'static str = "LedgerMessage";
    const VARIANTS: &'static [&'static str] = &["Book", "Print"];
    fn shape(tag: &str) -> ::core::option::Option<::persistent_runtime::__private::Shape<Self>> {
        match tag {
            "Book" => ::core::option::Option::Some(
                ::persistent_runtime::__private::Shape::Arguments(&["amount"], &[]),
            ),
            "Print" => ::core::option::Option::Some(::persistent_runtime::__private::Shape::Unit(
                LedgerMessage::Print,
            )),
            _ => ::core::option::Option::None,
        }
    }
    fn read<'de, __A: ::persistent_runtime::__private::Arguments<'de>>(
        tag: &str,
        mut source: __A,
    ) -> ::core::result::Result<Self, __A::Error> {
        match tag {
            "Book" => {
                let mut field0 = ::core::option::Option::None;
                loop {
                    match ::persistent_runtime::__private::Arguments::next(&mut source)? {
                        ::core::option::Option::Some(0) => {
                            ::persistent_runtime::__private::Arguments::read::<i64>(
                                &mut source,
                                &mut field0,
                            )?
                        }
                        _ => break,
                    }
                }
                ::core::result::Result::Ok(LedgerMessage::Book {
                    amount: ::persistent_runtime::__private::Arguments::take::<i64>(
                        &source, "amount", field0,
                    )?,
                })
            }
            _ => ::core::result::Result::Err(::persistent_runtime::__private::unknown::<Self, _>(
                tag,
            )),
        }
    }
}
#[automatically_derived]
impl<'de> ::persistent_runtime::__private::serde::Deserialize<'de> for LedgerMessage {
    fn deserialize<__D: ::persistent_runtime::__private::serde::Deserializer<'de>>(
        deserializer: __D,
    ) -> ::core::result::Result<Self, __D::Error> {
        ::persistent_runtime::__private::read_message(deserializer)
    }
}
#[doc = "A client of one `Ledger`. Cloning is cheap."]
pub struct LedgerClient {
    handle: ::persistent_runtime::__private::Handle<Ledger>,
}
impl LedgerClient {
    #[doc = "Calls `Ledger::book`."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if no reply arrives."]
    pub async fn book(
        &self,
        amount: i64,
    ) -> ::core::result::Result<u64, ::persistent_runtime::CallError> {
        ::persistent_runtime::__private::assert_payload::<u64>();
        self.handle.call(LedgerMessage::Book { amount }).await
    }
    #[doc = "Calls `Ledger::print`."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if no reply arrives."]
    pub async fn print(&self) -> ::core::result::Result<(), ::persistent_runtime::CallError> {
        self.handle.call(LedgerMessage::Print {}).await
    }
}
#[automatically_derived]
impl ::core::clone::Clone for LedgerClient {
    fn clone(&self) -> Self {
        Self { handle: ::core::clone::Clone::clone(&self.handle) }
    }
}
#[automatically_derived]
impl ::core::fmt::Debug for LedgerClient {
    fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        formatter.debug_tuple("LedgerClient").field(&self.handle).finish()
    }
}
#[automatically_derived]
impl ::persistent_runtime::Client<Ledger> for LedgerClient {
    fn from_handle(handle: ::persistent_runtime::__private::Handle<Ledger>) -> Self {
        Self { handle }
    }
    fn handle(&self) -> &::persistent_runtime::__private::Handle<Ledger> {
        &self.handle
    }
}
#[automatically_derived]
impl ::persistent_runtime::Server for Ledger {
    type Message = LedgerMessage;
    type Client = LedgerClient;
    type Key = ::core::primitive::str;
    const NAME: &'static str = "Ledger";
    const VERSION: u32 = 2;
    const JOURNAL: ::persistent_runtime::Journal =
        ::persistent_runtime::Journal::Messages { snapshot_every: 500 };
    fn options() -> ::persistent_runtime::Options {
        ::persistent_runtime::Options::new()
    }
    type Init = ();
    async fn init(
        (): Self::Init,
        context: &::persistent_runtime::Context<Self>,
    ) -> ::core::result::Result<Self, ::persistent_runtime::__private::String> {
        ::core::result::Result::Ok(::persistent_runtime::__private::default_state::<Ledger>())
    }
    fn method(message: &Self::Message) -> &'static ::persistent_runtime::__private::Method {
        match *message {
            LedgerMessage::Book { .. } => &::persistent_runtime::__private::Method {
                name: "book",
                is_read: false,
                is_async: false,
                is_info: false,
            },
            LedgerMessage::Print { .. } => &::persistent_runtime::__private::Method {
                name: "print",
                is_read: true,
                is_async: true,
                is_info: false,
            },
        }
    }
    fn handle(
        &mut self,
        message: Self::Message,
        context: &::persistent_runtime::Context<Self>,
        reply: ::persistent_runtime::__private::ReplySlot<'_>,
    ) {
        match message {
            LedgerMessage::Book { amount } => reply.set(Self::book(self, amount, context)),
            _ => {}
        }
    }
    async fn handle_async(
        &mut self,
        message: Self::Message,
        context: &::persistent_runtime::Context<Self>,
        reply: ::persistent_runtime::__private::ReplySlot<'_>,
    ) {
        match message {
            LedgerMessage::Print {} => {
                reply.set(::persistent_runtime::__private::sendable(Self::print(self)).await)
            }
            message => ::persistent_runtime::Server::handle(self, message, context, reply),
        }
    }
    fn encode(
        &self,
        buffer: &mut ::persistent_runtime::__private::Vec<u8>,
    ) -> ::core::result::Result<(), ::persistent_runtime::EncodeError> {
        ::persistent_runtime::__private::encode::<Ledger>(self, buffer)
    }
    fn check(bytes: &[u8]) -> ::core::result::Result<(), ::persistent_runtime::EncodeError> {
        ::persistent_runtime::__private::check(
            bytes,
            ::persistent_runtime::__private::decode::<Ledger>,
            ::persistent_runtime::__private::encode::<Ledger>,
        )
    }
    fn decode(
        version: u32,
        bytes: &[u8],
        context: &::persistent_runtime::Context<Self>,
    ) -> ::core::result::Result<Self, ::persistent_runtime::DecodeError> {
        match version {
            2 => ::persistent_runtime::__private::decode::<Ledger>(bytes),
            1 => ::persistent_runtime::__private::decode::<FirstLedger>(bytes).map(|state| {
                let state = Self::from_first(state);
                state
            }),
            stored => ::core::result::Result::Err(::persistent_runtime::DecodeError::Version {
                stored,
                current: 2,
            }),
        }
    }
    fn decode_message(
        version: u32,
        bytes: &mut &[u8],
    ) -> ::core::result::Result<
        ::core::option::Option<Self::Message>,
        ::persistent_runtime::DecodeError,
    > {
        match version {
            2 => ::persistent_runtime::__private::decode_message::<Self::Message>(bytes)
                .map(::core::option::Option::Some),
            1 => {
                ::persistent_runtime::__private::decode_next::<FirstMessage>(bytes).map(|old| {
                    ::core::option::Option::Some(old).and_then(|old| {
                        ::persistent_runtime::__private::migrated::<
                            Self::Message,
                            Option<LedgerMessage>,
                        >(Self::message_from_first(old))
                    })
                })
            }
            stored => ::core::result::Result::Err(::persistent_runtime::DecodeError::Version {
                stored,
                current: 2,
            }),
        }
    }
}
