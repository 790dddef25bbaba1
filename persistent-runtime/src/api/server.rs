//! The trait that the attribute implements, once per annotated impl block.

use std::{fmt::Debug, future::Future};

use crate::{
    api::{client::Client, context::Context},
    call::reply::{Reply, ReplySlot},
    codec::{self, DecodeError, EncodeError},
    config::options::{Journal, Options},
    engine::erased::{Hook, Method},
    id::key::KeyType,
    payload::Payload,
    stop_reason::StopReason,
};

/// A type of persistent servers.
///
/// `#[persistent_server]` implements this trait. It is public so that generic code can name it, e.g.
/// in `fn audit<S: Server>(runtime: &Runtime)`. Do not implement it by hand: its items may change
/// between minor versions.
///
/// ```
/// # use persistent_runtime::{persistent_server, Runtime, Server, StorageError};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
/// # #[persistent_server] impl Player {}
/// async fn report<S: Server>(runtime: &Runtime) -> Result<String, StorageError> {
///     Ok(format!("{}: {} stored", S::NAME, runtime.count::<S>().await?.stored))
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::in_memory().await?;
/// assert_eq!(report::<Player>(&runtime).await?, "Player: 0 stored");
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a persistent server",
    label = "no `#[persistent_server]` impl block for this type",
    note = "put `#[persistent_server]` on one inherent impl block of `{Self}`"
)]
pub trait Server: Sized + Send + 'static {
    /// The generated message enum: one variant per method that is a message.
    type Message: Payload + Debug;
    /// The generated client.
    type Client: Client<Self>;
    /// The type of the keys: `str`, or the type that the option `key` names.
    type Key: KeyType + ?Sized;
    /// The init arguments: `()`, the only argument of `#[init]`, or a tuple of its arguments.
    type Init: Payload + Clone + Debug + Sync;

    /// The kind: the name under which the servers of this type are stored.
    const NAME: &'static str;
    /// The version of the state's shape, stored with each state.
    const VERSION: u32;
    /// The stored form of a change.
    const JOURNAL: Journal = Journal::State;
    /// The kind of the `#[started]` hook.
    const STARTED: Hook = Hook::Absent;
    /// The kind of the `#[terminate]` hook.
    const TERMINATE: Hook = Hook::Absent;

    /// Returns the options that the attribute sets.
    fn options() -> Options;

    /// Creates the state of a new server. An error is the text of the `#[init]` function's error.
    fn init(
        init: Self::Init,
        context: &Context<Self>,
    ) -> impl Future<Output = Result<Self, String>> + Send;

    /// Runs the `#[started]` hook: after each activation, before the first message.
    fn started(&mut self, context: &Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = context;
        async {}
    }

    /// Runs the `#[terminate]` hook: once at each orderly end of an activation.
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
    /// If the state does not encode, e.g. because a custom `Serialize` fails.
    fn encode(&self, buffer: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Checks that the stored form of a state can be read back, without a hook.
    ///
    /// # Errors
    /// If it cannot.
    fn check(bytes: &[u8]) -> Result<(), EncodeError>;

    /// Decodes a stored state of this or an earlier version.
    ///
    /// # Errors
    /// If the bytes are not such a state, or if their version has no migration.
    fn decode(version: u32, bytes: &[u8], context: &Context<Self>) -> Result<Self, DecodeError>;

    /// Decodes a stored message of this or an earlier version, and advances `bytes` past it.
    /// Returns `None` if the migration omits the message.
    ///
    /// # Errors
    /// If the bytes do not begin with such a message, or if their version has no migration of
    /// messages.
    fn decode_message(
        version: u32,
        bytes: &mut &[u8],
    ) -> Result<Option<Self::Message>, DecodeError> {
        if version == Self::VERSION {
            codec::decode_message(bytes).map(Some)
        } else {
            Err(DecodeError::Version { stored: version, current: Self::VERSION })
        }
    }
}

impl ReplySlot<'_> {
    /// Defers the reply: returns a [`Reply`] through which the caller is answered later.
    pub fn defer<S: Server, R: Send + 'static>(self, context: &Context<S>) -> Reply<R> {
        Reply::new(self.take_sender(), context.deferred_replies())
    }
}
