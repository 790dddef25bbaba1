// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.

impl Player {
    #[doc = " Adds `points` and returns the new score."]
    #[doc = ""]
    #[doc = " A paragraph more."]
    pub fn add(&mut self, points: u64) -> u64 {
        self.score += points;
        self.score
    }
    pub async fn rival(&self, context: &Context<Self>) -> Option<Self> {
        None
    }
    #[cfg(feature = "cheats")]
    pub fn set(&mut self, r#type: Kind, mut value: Vec<Self>) {}
    pub async fn trade(&mut self, item: Item, context: &Context<Self>, reply: Reply<Option<Self>>) {
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    fn helper(&self) {}
}
#[doc = "The messages of a `Player`, one variant per method."]
#[derive(:: core :: fmt :: Debug)]
pub enum PlayerMessage {
    #[doc = " Adds `points` and returns the new score."]
    Add {
        #[doc = "The argument `points`."]
        points: u64,
    },
    #[doc = "Calls `Player::rival`."]
    Rival,
    #[cfg(feature = "cheats")]
    #[doc = "Calls `Player::set`."]
    Set {
        #[doc = "The argument `type`."]
        r#type: Kind,
        #[doc = "The argument `value`."]
        value: Vec<Player>,
    },
    #[doc = "Calls `Player::trade`."]
    Trade {
        #[doc = "The argument `item`."]
        item: Item,
    },
}
#[automatically_derived]
impl ::persistent_runtime::__private::serde::Serialize for PlayerMessage {
    fn serialize<__S: ::persistent_runtime::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        match *self {
            PlayerMessage::Add { points: ref field0 } => {
                let mut content =
                    ::persistent_runtime::__private::serde::Serializer::serialize_struct_variant(
                        serializer,
                        "PlayerMessage",
                        0,
                        "Add",
                        1,
                    )?;
                ::persistent_runtime::__private::write_argument::<u64, _>(
                    &mut content,
                    "points",
                    field0,
                )?;
                ::persistent_runtime::__private::serde::ser::SerializeStructVariant::end(content)
            }
            PlayerMessage::Rival => {
                ::persistent_runtime::__private::serde::Serializer::serialize_unit_variant(
                    serializer,
                    "PlayerMessage",
                    1,
                    "Rival",
                )
            }
            #[cfg(feature = "cheats")]
            PlayerMessage::Set { r#type: ref field0, value: ref field1 } => {
                let mut content =
                    ::persistent_runtime::__private::serde::Serializer::serialize_struct_variant(
                        serializer,
                        "PlayerMessage",
                        2,
                        "Set",
                        2,
                    )?;
                ::persistent_runtime::__private::write_argument::<Kind, _>(
                    &mut content,
                    "type",
                    field0,
                )?;
                ::persistent_runtime::__private::write_argument::<Vec<Player>, _>(
                    &mut content,
                    "value",
                    field1,
                )?;
                ::persistent_runtime::__private::serde::ser::SerializeStructVariant::end(content)
            }
            PlayerMessage::Trade { item: ref field0 } => {
                let mut content =
                    ::persistent_runtime::__private::serde::Serializer::serialize_struct_variant(
                        serializer,
                        "PlayerMessage",
                        3,
                        "Trade",
                        1,
                    )?;
                ::persistent_runtime::__private::write_argument::<Item, _>(
                    &mut content,
                    "item",
                    field0,
                )?;
                ::persistent_runtime::__private::serde::ser::SerializeStructVariant::end(content)
            }
        }
    }
}
#[automatically_derived]
impl ::persistent_runtime::__private::MessageEnum for PlayerMessage {
    const NAME: &'static str = "PlayerMessage";
    const VARIANTS: &'static [&'static str] = &["Add", "Rival", "Set", "Trade"];
    fn shape(tag: &str) -> ::core::option::Option<::persistent_runtime::__private::Shape<Self>> {
        match tag {
            "Add" => ::core::option::Option::Some(
                ::persistent_runtime::__private::Shape::Arguments(&["points"], &[]),
            ),
            "Rival" => ::core::option::Option::Some(::persistent_runtime::__private::Shape::Unit(
                PlayerMessage::Rival,
            )),
            #[cfg(feature = "cheats")]
            "Set" => ::core::option::Option::Some(
                ::persistent_runtime::__private::Shape::Arguments(&["type", "value"], &[]),
            ),
            "Trade" => ::core::option::Option::Some(
                ::persistent_runtime::__private::Shape::Arguments(&["item"], &[]),
            ),
            _ => ::core::option::Option::None,
        }
    }
    fn read<'de, __A: ::persistent_runtime::__private::Arguments<'de>>(
        tag: &str,
        mut source: __A,
    ) -> ::core::result::Result<Self, __A::Error> {
        match tag {
            "Add" => {
                let mut field0 = ::core::option::Option::None;
                loop {
                    match ::persistent_runtime::__private::Arguments::next(&mut source)? {
                        ::core::option::Option::Some(0) => {
                            ::persistent_runtime::__private::Arguments::read::<u64>(
                                &mut source,
                                &mut field0,
                            )?
                        }
                        _ => break,
                    }
                }
                ::core::result::Result::Ok(PlayerMessage::Add {
                    points: ::persistent_runtime::__private::Arguments::take::<u64>(
                        &source, "points", field0,
                    )?,
                })
            }
            #[cfg(feature = "cheats")]
            "Set" => {
                let mut field0 = ::core::option::Option::None;
                let mut field1 = ::core::option::Option::None;
                loop {
                    match ::persistent_runtime::__private::Arguments::next(&mut source)? {
                        ::core::option::Option::Some(0) => {
                            ::persistent_runtime::__private::Arguments::read::<Kind>(
                                &mut source,
                                &mut field0,
                            )?
                        }
                        ::core::option::Option::Some(1) => {
                            ::persistent_runtime::__private::Arguments::read::<Vec<Player>>(
                                &mut source,
                                &mut field1,
                            )?
                        }
                        _ => break,
                    }
                }
                ::core::result::Result::Ok(PlayerMessage::Set {
                    r#type: ::persistent_runtime::__private::Arguments::take::<Kind>(
                        &source, "type", field0,
                    )?,
                    value: ::persistent_runtime::__private::Arguments::take::<Vec<Player>>(
                        &source, "value", field1,
                    )?,
                })
            }
            "Trade" => {
                let mut field0 = ::core::option::Option::None;
                loop {
                    match ::persistent_runtime::__private::Arguments::next(&mut source)? {
                        ::core::option::Option::Some(0) => {
                            ::persistent_runtime::__private::Arguments::read::<Item>(
                                &mut source,
                                &mut field0,
                            )?
                        }
                        _ => break,
                    }
                }
                ::core::result::Result::Ok(PlayerMessage::Trade {
                    item: ::persistent_runtime::__private::Arguments::take::<Item>(
                        &source, "item", field0,
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
impl<'de> ::persistent_runtime::__private::serde::Deserialize<'de> for PlayerMessage {
    fn deserialize<__D: ::persistent_runtime::__private::serde::Deserializer<'de>>(
        deserializer: __D,
    ) -> ::core::result::Result<Self, __D::Error> {
        ::persistent_runtime::__private::read_message(deserializer)
    }
}
#[doc = "A client of one `Player`. Cloning is cheap."]
pub struct PlayerClient {
    handle: ::persistent_runtime::__private::Handle<Player>,
}
impl PlayerClient {
    #[doc = " Adds `points` and returns the new score."]
    #[doc = ""]
    #[doc = " A paragraph more."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if no reply arrives."]
    pub async fn add(
        &self,
        points: u64,
    ) -> ::core::result::Result<u64, ::persistent_runtime::CallError> {
        ::persistent_runtime::__private::assert_payload::<u64>();
        self.handle.call(PlayerMessage::Add { points }).await
    }
    #[doc = "Calls `Player::rival`."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if no reply arrives."]
    pub async fn rival(
        &self,
    ) -> ::core::result::Result<Option<Player>, ::persistent_runtime::CallError> {
        ::persistent_runtime::__private::assert_payload::<Option<Player>>();
        self.handle.call(PlayerMessage::Rival {}).await
    }
    #[cfg(feature = "cheats")]
    #[doc = "Calls `Player::set`."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if the message cannot be queued."]
    pub async fn set(
        &self,
        r#type: Kind,
        value: Vec<Player>,
    ) -> ::core::result::Result<(), ::persistent_runtime::CallError> {
        self.handle.cast(PlayerMessage::Set { r#type, value }).await
    }
    #[doc = "Calls `Player::trade`."]
    #[doc = ""]
    #[doc = "# Errors"]
    #[doc = "Returns a [`CallError`](::persistent_runtime::CallError) if no reply arrives."]
    pub async fn trade(
        &self,
        item: Item,
    ) -> ::core::result::Result<Option<Player>, ::persistent_runtime::CallError> {
        ::persistent_runtime::__private::assert_payload::<Option<Player>>();
        self.handle.call(PlayerMessage::Trade { item }).await
    }
}
#[automatically_derived]
impl ::core::clone::Clone for PlayerClient {
    fn clone(&self) -> Self {
        Self { handle: ::core::clone::Clone::clone(&self.handle) }
    }
}
#[automatically_derived]
impl ::core::fmt::Debug for PlayerClient {
    fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        formatter.debug_tuple("PlayerClient").field(&self.handle).finish()
    }
}
#[automatically_derived]
impl ::persistent_runtime::Client<Player> for PlayerClient {
    fn from_handle(handle: ::persistent_runtime::__private::Handle<Player>) -> Self {
        Self { handle }
    }
    fn handle(&self) -> &::persistent_runtime::__private::Handle<Player> {
        &self.handle
    }
}
#[automatically_derived]
impl ::persistent_runtime::Server for Player {
    type Message = PlayerMessage;
    type Client = PlayerClient;
    type Key = ::core::primitive::str;
    const NAME: &'static str = "Player";
    const VERSION: u32 = 1;
    fn options() -> ::persistent_runtime::Options {
        ::persistent_runtime::Options::new()
    }
    type Init = ();
    async fn init(
        (): Self::Init,
        context: &::persistent_runtime::Context<Self>,
    ) -> ::core::result::Result<Self, ::persistent_runtime::__private::String> {
        ::core::result::Result::Ok(::persistent_runtime::__private::default_state::<Player>())
    }
    fn method(message: &Self::Message) -> &'static ::persistent_runtime::__private::Method {
        match *message {
            PlayerMessage::Add { .. } => &::persistent_runtime::__private::Method {
                name: "add",
                is_read: false,
                is_async: false,
                is_info: false,
            },
            PlayerMessage::Rival { .. } => &::persistent_runtime::__private::Method {
                name: "rival",
                is_read: true,
                is_async: true,
                is_info: false,
            },
            #[cfg(feature = "cheats")]
            PlayerMessage::Set { .. } => &::persistent_runtime::__private::Method {
                name: "set",
                is_read: false,
                is_async: false,
                is_info: false,
            },
            PlayerMessage::Trade { .. } => &::persistent_runtime::__private::Method {
                name: "trade",
                is_read: false,
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
            PlayerMessage::Add { points } => reply.set(Self::add(self, points)),
            #[cfg(feature = "cheats")]
            PlayerMessage::Set { r#type, value } => reply.set(Self::set(self, r#type, value)),
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
            PlayerMessage::Rival {} => reply
                .set(::persistent_runtime::__private::sendable(Self::rival(self, context)).await),
            PlayerMessage::Trade { item } => {
                ::persistent_runtime::__private::sendable(Self::trade(
                    self,
                    item,
                    context,
                    reply.defer::<Self, Option<Self>>(context),
                ))
                .await
            }
            message => ::persistent_runtime::Server::handle(self, message, context, reply),
        }
    }
    fn encode(
        &self,
        buffer: &mut ::persistent_runtime::__private::Vec<u8>,
    ) -> ::core::result::Result<(), ::persistent_runtime::EncodeError> {
        ::persistent_runtime::__private::encode::<Player>(self, buffer)
    }
    fn check(bytes: &[u8]) -> ::core::result::Result<(), ::persistent_runtime::EncodeError> {
        ::persistent_runtime::__private::check(
            bytes,
            ::persistent_runtime::__private::decode::<Player>,
            ::persistent_runtime::__private::encode::<Player>,
        )
    }
    fn decode(
        version: u32,
        bytes: &[u8],
        context: &::persistent_runtime::Context<Self>,
    ) -> ::core::result::Result<Self, ::persistent_runtime::DecodeError> {
        match version {
            1 => ::persistent_runtime::__private::decode::<Player>(bytes),
            stored => ::core::result::Result::Err(::persistent_runtime::DecodeError::Version {
                stored,
                current: 1,
            }),
        }
    }
}
