//! What the attribute generates: one [`Server`] impl per annotated block.

use std::{fmt::Debug, future::Future};

use crate::{
    api::{client::Client, context::Context},
    call::reply::{Reply, ReplySlot},
    codec::{self, DecodeError, EncodeError},
    config::options::{Journal, Options},
    engine::erased::{Hook, Method},
    payload::Payload,
    stop_reason::StopReason,
};

/// A type whose values live as persistent servers.
///
/// `#[persistent_server]` writes this impl; it is public so that generic code
/// can name it (`fn audit<S: Server>(runtime: &Runtime)`), not to be written
/// by hand, and its provided items may change between minor versions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a persistent server",
    label = "no `#[persistent_server]` impl block for this type",
    note = "put `#[persistent_server]` on one inherent impl block of `{Self}`"
)]
pub trait Server: Sized + Send + 'static {
    /// One variant a callable method.
    type Message: Payload + Debug;
    /// The typed client.
    type Client: Client<Self>;
    /// What `#[init]` takes: `()`, its one argument, or a tuple of several.
    type Init: Payload + Clone + Debug + Sync;

    /// The stable name that states are stored under.
    const NAME: &'static str;
    /// The version of the state's shape, stored beside each state.
    const VERSION: u32;
    /// What is stored of a change.
    const JOURNAL: Journal = Journal::State;
    /// The `#[started]` hook.
    const STARTED: Hook = Hook::Absent;
    /// The `#[terminate]` hook.
    const TERMINATE: Hook = Hook::Absent;

    /// The options that the attribute sets.
    fn options() -> Options;

    /// Makes the state of a server's first life.
    fn init(
        init: Self::Init,
        context: &Context<Self>,
    ) -> impl Future<Output = Result<Self, String>> + Send;

    /// Runs after each activation, before the first message.
    fn started(&mut self, context: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = context;
        async {}
    }

    /// Runs once at each orderly end of an activation.
    fn terminate(
        &mut self,
        reason: &StopReason,
        context: &Context<Self>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (reason, context);
        async {}
    }

    /// Returns the method that handles `message`.
    fn method(message: &Self::Message) -> &'static Method;

    /// Runs a method that is not `async` and passes its result to `reply`. Does
    /// nothing for an `async` method.
    fn handle(&mut self, message: Self::Message, context: &Context<Self>, reply: ReplySlot<'_>);

    /// Runs any method and passes its result to `reply`.
    fn handle_async(
        &mut self,
        message: Self::Message,
        context: &Context<Self>,
        reply: ReplySlot<'_>,
    ) -> impl Future<Output = ()> + Send {
        async move { self.handle(message, context, reply) }
    }

    /// Appends the stored form of the state to `buffer`.
    ///
    /// # Errors
    /// If the state has no stored form, a custom `Serialize` that fails say.
    fn encode(&self, buffer: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Rebuilds a state of this or an earlier version from its stored form.
    ///
    /// # Errors
    /// If the bytes are not such a state, or of a version with no migration.
    fn decode(version: u32, bytes: &[u8], context: &Context<Self>) -> Result<Self, DecodeError>;

    /// Reads a journaled message of this or an earlier version, and leaves in
    /// `bytes` what follows it; none if it has no meaning any more.
    ///
    /// # Errors
    /// If the bytes don't begin with such a message, or are of a version with
    /// no migration of messages.
    fn decode_message(
        version: u32,
        bytes: &mut &[u8],
    ) -> Result<Option<Self::Message>, DecodeError> {
        if version == Self::VERSION {
            codec::decode_next(bytes).map(Some)
        } else {
            Err(DecodeError::Version { stored: version, current: Self::VERSION })
        }
    }
}

impl ReplySlot<'_> {
    /// Takes the caller away, to be answered by the returned reply.
    pub fn defer<S: Server, R: Send + 'static>(self, context: &Context<S>) -> Reply<R> {
        Reply::new(self.take_sender(), context.deferred_replies())
    }
}
