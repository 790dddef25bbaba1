// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.
//
// `serialize_with` and `deserialize_with` look redundant, and their strings keep the
// spaces of the tokens. They are there for the compile errors: serde's derive needs the
// bounds of a field's type in several places and would report a missing one in each.
// These functions require each bound once, and the type in the string has the span of
// the user's type, so that the error underlines it.

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
    fn from_first(old: FirstTeam) -> Self {
        old.into()
    }
    #[cfg(feature = "second")]
    fn from_second(old: SecondTeam) -> Self {
        old.into()
    }
    #[doc = " Every minute."]
    async fn tick(&mut self, minute: u64, context: &Context<Self>) {}
}
#[cfg(unix)]
#[doc = "The messages of a `Team`, one variant per method."]
#[derive(
    :: core :: fmt :: Debug,
    crate :: runtime :: __private :: serde :: Serialize,
    crate :: runtime :: __private :: serde :: Deserialize,
)]
#[serde(crate = "crate::runtime::__private::serde")]
pub(crate) enum TeamMessage {
    #[doc = " Every minute."]
    Tick {
        #[doc = "The argument `minute`."]
        #[serde(
            serialize_with = "crate::runtime::__private::serialize::<u64, _>",
            deserialize_with = "crate::runtime::__private::deserialize::<u64, _>"
        )]
        minute: u64,
    },
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
    type Init = (String, u8);
    const NAME: &'static str = "team";
    const VERSION: u32 = 3;
    fn options() -> crate::runtime::Options {
        crate::runtime::Options::new()
            .restart(crate::runtime::Restart::Permanent)
            .max_restarts(3, ::core::time::Duration::new(5, 0))
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
    }
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
            TeamMessage::Tick { .. } => {
                &crate::runtime::__private::Method { name: "tick", is_read: false, is_async: true }
            }
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
            1 => crate::runtime::__private::decode::<FirstTeam>(bytes).map(Self::from_first),
            #[cfg(feature = "second")]
            2 => crate::runtime::__private::decode::<SecondTeam>(bytes).map(Self::from_second),
            stored => ::core::result::Result::Err(crate::runtime::DecodeError::Version {
                stored,
                current: 3,
            }),
        }
    }
}
