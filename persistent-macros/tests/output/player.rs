// Written by `UPDATE_GOLDEN=1 cargo test -p persistent-macros`.
//
// `serialize_with` and `deserialize_with` look redundant, and their strings keep the
// spaces of the tokens. They are there for the compile errors: serde's derive needs the
// bounds of a field's type in several places and would report a missing one in each.
// These functions require each bound once, and the type in the string has the span of
// the user's type, so that the error underlines it.

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
#[derive(
    :: core :: fmt :: Debug,
    :: persistent_runtime :: __private :: serde :: Serialize,
    :: persistent_runtime :: __private :: serde :: Deserialize,
)]
#[serde(crate = "::persistent_runtime::__private::serde")]
pub enum PlayerMessage {
    #[doc = " Adds `points` and returns the new score."]
    Add {
        #[doc = "The argument `points`."]
        #[serde(
            serialize_with = "::persistent_runtime::__private::serialize::<u64, _>",
            deserialize_with = "::persistent_runtime::__private::deserialize::<u64, _>"
        )]
        points: u64,
    },
    #[doc = "Calls `Player::rival`."]
    Rival,
    #[cfg(feature = "cheats")]
    #[doc = "Calls `Player::set`."]
    Set {
        #[doc = "The argument `type`."]
        #[serde(
            serialize_with = "::persistent_runtime::__private::serialize::<Kind, _>",
            deserialize_with = "::persistent_runtime::__private::deserialize::<Kind, _>"
        )]
        r#type: Kind,
        #[doc = "The argument `value`."]
        #[serde(
            serialize_with = "::persistent_runtime::__private::serialize::<Vec < Player >, _>",
            deserialize_with = "::persistent_runtime::__private::deserialize::<Vec < Player >, _>"
        )]
        value: Vec<Player>,
    },
    #[doc = "Calls `Player::trade`."]
    Trade {
        #[doc = "The argument `item`."]
        #[serde(
            serialize_with = "::persistent_runtime::__private::serialize::<Item, _>",
            deserialize_with = "::persistent_runtime::__private::deserialize::<Item, _>"
        )]
        item: Item,
    },
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
    type Init = ();
    const NAME: &'static str = "Player";
    const VERSION: u32 = 1;
    fn options() -> ::persistent_runtime::Options {
        ::persistent_runtime::Options::new()
    }
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
            },
            PlayerMessage::Rival { .. } => &::persistent_runtime::__private::Method {
                name: "rival",
                is_read: true,
                is_async: true,
            },
            #[cfg(feature = "cheats")]
            PlayerMessage::Set { .. } => &::persistent_runtime::__private::Method {
                name: "set",
                is_read: false,
                is_async: false,
            },
            PlayerMessage::Trade { .. } => &::persistent_runtime::__private::Method {
                name: "trade",
                is_read: false,
                is_async: true,
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
