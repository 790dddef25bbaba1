// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.

#[cfg(unix)]
impl sports::Team {
    async fn found(name: String, size: u8, context: &Context<Self>) -> Result<Self, Error> {
        Ok(Self::new(name, size))
    }
    fn save(&self) -> &Roster {
        &self.roster
    }
    fn restore(context: &Context<Self>, roster: Roster) -> Result<Self, Error> {
        Self::read(roster)
    }
    fn started(&mut self) {}
    async fn ended(&self, context: &Context<Self>, reason: &StopReason) {}
    fn from_first(old: FirstTeam) -> SecondTeam {
        old.into()
    }
    fn from_second(old: SecondTeam) -> Self {
        old.into()
    }
    #[doc = " Every minute, as [`Self::found`] says."]
    async fn tick(&mut self, minute: u64, context: &Context<Self>) {}
}
#[cfg(unix)]
#[doc = "The messages of a `Team`, one variant per method."]
#[derive(:: core :: fmt :: Debug)]
pub(crate) enum TeamMessage {
    #[doc = " Every minute, as [`Self::found`] says."]
    #[doc = ""]
    #[doc = "[`Self::found`]: sports::Team::found"]
    Tick {
        #[doc = "The argument `minute`."]
        minute: u64,
    },
}
#[cfg(unix)]
#[automatically_derived]
impl crate::runtime::__private::serde::Serialize for TeamMessage {
    fn serialize<__S: crate::runtime::__private::serde::Serializer>(
        &self,
        serializer: __S,
    ) -> ::core::result::Result<__S::Ok, __S::Error> {
        match *self {
            TeamMessage::Tick { minute: ref field0 } => {
                let mut content =
                    crate::runtime::__private::serde::Serializer::serialize_struct_variant(
                        serializer,
                        "TeamMessage",
                        0,
                        "Tick",
                        1,
                    )?;
                crate::runtime::__private::write_argument::<u64, _>(
                    &mut content,
                    "minute",
                    field0,
                )?;
                crate::runtime::__private::serde::ser::SerializeStructVariant::end(content)
            }
        }
    }
}
#[cfg(unix)]
#[automatically_derived]
impl crate::runtime::__private::MessageEnum for TeamMessage {
    const NAME: &'static str = "TeamMessage";
    const VARIANTS: &'static [&'static str] = &["Tick"];
    fn shape(tag: &str) -> ::core::option::Option<crate::runtime::__private::Shape<Self>> {
        match tag {
            "Tick" => ::core::option::Option::Some(crate::runtime::__private::Shape::Arguments(
                &["minute"],
                &[],
            )),
            _ => ::core::option::Option::None,
        }
    }
    fn read<'de, __A: crate::runtime::__private::Arguments<'de>>(
        tag: &str,
        mut source: __A,
    ) -> ::core::result::Result<Self, __A::Error> {
        match tag {
            "Tick" => {
                let mut field0 = ::core::option::Option::None;
                loop {
                    match crate::runtime::__private::Arguments::next(&mut source)? {
                        ::core::option::Option::Some(0) => {
                            crate::runtime::__private::Arguments::read::<u64>(
                                &mut source,
                                &mut field0,
                            )?
                        }
                        _ => break,
                    }
                }
                ::core::result::Result::Ok(TeamMessage::Tick {
                    minute: crate::runtime::__private::Arguments::take::<u64>(
                        &source, "minute", field0,
                    )?,
                })
            }
            _ => ::core::result::Result::Err(crate::runtime::__private::unknown::<Self, _>(tag)),
        }
    }
}
#[automatically_derived]
impl<'de> crate::runtime::__private::serde::Deserialize<'de> for TeamMessage {
    fn deserialize<__D: crate::runtime::__private::serde::Deserializer<'de>>(
        deserializer: __D,
    ) -> ::core::result::Result<Self, __D::Error> {
        crate::runtime::__private::read_message(deserializer)
    }
}
#[cfg(unix)]
#[doc = "A client of one `Team`. Cloning is cheap."]
pub(crate) struct TeamClient {
    handle: crate::runtime::__private::Handle<sports::Team>,
}
#[cfg(unix)]
impl TeamClient {}
#[cfg(unix)]
#[automatically_derived]
impl ::core::clone::Clone for TeamClient {
    fn clone(&self) -> Self {
        Self { handle: ::core::clone::Clone::clone(&self.handle) }
    }
}
#[cfg(unix)]
#[automatically_derived]
impl ::core::fmt::Debug for TeamClient {
    fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        formatter.debug_tuple("TeamClient").field(&self.handle).finish()
    }
}
#[cfg(unix)]
#[automatically_derived]
impl crate::runtime::Client<sports::Team> for TeamClient {
    fn from_handle(handle: crate::runtime::__private::Handle<sports::Team>) -> Self {
        Self { handle }
    }
    fn handle(&self) -> &crate::runtime::__private::Handle<sports::Team> {
        &self.handle
    }
}
#[cfg(unix)]
#[automatically_derived]
impl crate::runtime::Server for sports::Team {
    type Message = TeamMessage;
    type Client = TeamClient;
    type Key = (League, u32);
    const NAME: &'static str = "team";
    const VERSION: u32 = 3;
    fn options() -> crate::runtime::Options {
        crate::runtime::Options::new()
            .restart(crate::runtime::Restart::Permanent)
            .max_restarts(3, ::core::time::Duration::new(5, 0))
            .retry_after(::core::time::Duration::new(60, 0))
            .backoff(
                crate::runtime::Backoff::new(
                    ::core::time::Duration::new(0, 100000000),
                    ::core::time::Duration::new(30, 0),
                )
                .with_factor(2.0)
                .with_jitter(0.25),
            )
            .idle_timeout(::core::option::Option::None)
            .mailbox(16)
            .call_timeout(::core::time::Duration::new(1, 500000000))
            .persist(crate::runtime::Persist::Every(::core::time::Duration::new(0, 500000000)))
            .await_commits(true)
    }
    type Init = (String, u8);
    async fn init(
        (name, size): Self::Init,
        context: &crate::runtime::Context<Self>,
    ) -> ::core::result::Result<Self, crate::runtime::__private::String> {
        <Result<Self, Error> as crate::runtime::__private::InitOutput<Self>>::into_state(
            crate::runtime::__private::sendable(Self::found(name, size, context)).await,
        )
    }
    const STARTED: crate::runtime::__private::Hook = crate::runtime::__private::Hook::Writes;
    async fn started(&mut self, context: &crate::runtime::Context<Self>) {
        Self::started(self)
    }
    const TERMINATE: crate::runtime::__private::Hook = crate::runtime::__private::Hook::Reads;
    async fn terminate(
        &mut self,
        reason: &crate::runtime::StopReason,
        context: &crate::runtime::Context<Self>,
    ) {
        crate::runtime::__private::sendable(Self::ended(self, context, reason)).await
    }
    fn method(message: &Self::Message) -> &'static crate::runtime::__private::Method {
        match *message {
            TeamMessage::Tick { .. } => &crate::runtime::__private::Method {
                name: "tick",
                is_read: false,
                is_async: true,
                is_info: true,
            },
        }
    }
    fn handle(
        &mut self,
        message: Self::Message,
        context: &crate::runtime::Context<Self>,
        reply: crate::runtime::__private::ReplySlot<'_>,
    ) {
        match message {
            _ => {}
        }
    }
    async fn handle_async(
        &mut self,
        message: Self::Message,
        context: &crate::runtime::Context<Self>,
        reply: crate::runtime::__private::ReplySlot<'_>,
    ) {
        match message {
            TeamMessage::Tick { minute } => reply
                .set(crate::runtime::__private::sendable(Self::tick(self, minute, context)).await),
            message => crate::runtime::Server::handle(self, message, context, reply),
        }
    }
    fn encode(
        &self,
        buffer: &mut crate::runtime::__private::Vec<u8>,
    ) -> ::core::result::Result<(), crate::runtime::EncodeError> {
        crate::runtime::__private::encode::<&Roster>(&Self::save(self), buffer)
    }
    fn check(bytes: &[u8]) -> ::core::result::Result<(), crate::runtime::EncodeError> {
        crate::runtime::__private::check_decodes(bytes, crate::runtime::__private::decode::<Roster>)
    }
    fn decode(
        version: u32,
        bytes: &[u8],
        context: &crate::runtime::Context<Self>,
    ) -> ::core::result::Result<Self, crate::runtime::DecodeError> {
        match version {
            3 => crate::runtime::__private::decode::<Roster>(bytes).and_then(|roster| {
                crate::runtime::__private::restored::<Self, Result<Self, Error>>(Self::restore(
                    context, roster,
                ))
            }),
            1 => crate::runtime::__private::decode::<FirstTeam>(bytes).map(|state| {
                let state: SecondTeam = Self::from_first(state);
                let state = Self::from_second(state);
                state
            }),
            2 => crate::runtime::__private::decode::<SecondTeam>(bytes).map(|state| {
                let state = Self::from_second(state);
                state
            }),
            stored => ::core::result::Result::Err(crate::runtime::DecodeError::Version {
                stored,
                current: 3,
            }),
        }
    }
}
