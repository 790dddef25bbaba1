//! The seam between the engine and the server types.
//!
//! The engine is not generic: it reaches a server type through the three traits below, which the
//! [API layer](crate::api) implements once per type. Everything that differs per type is here;
//! everything else is compiled once.
//!
//! A message crosses the seam as a *slot*, a `&mut dyn Any` that is a `Guarded<S::Message>`:
//! moving a message in or out of a slot takes no allocation. A message that has to wait outside
//! of a [`MessageQueue`] is an [`AnyMessage`], a boxed slot.

use std::{any::Any, pin::Pin, sync::Arc};

use crate::{
    call::reply::{ReplySender, ReplySlot},
    codec::{DecodeError, EncodeError},
    config::options::Journal,
    engine::{
        command::{CallOptions, Envelope},
        context::{AnyAddress, ContextCore},
        instance::{Instance, InstanceParts},
    },
    stop_reason::StopReason,
    storage::encoded::Encoded,
};

/// A boxed `Guarded<S::Message>`.
pub(crate) type AnyMessage = Box<dyn Any + Send>;

/// Init arguments, an `Arc<Guarded<S::Init>>`.
pub(crate) type AnyInit = Arc<dyn Any + Send + Sync>;

/// A future of a hook or a handler.
pub(crate) type HookFuture<'a, T = ()> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The method behind a message, as far as the engine knows it.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The method's name.
    pub name: &'static str,
    /// True if the method takes `&self`, so that it cannot change the state.
    pub is_read: bool,
    /// True if the method is `async`, so that it may wait.
    pub is_async: bool,
    /// True if only the server itself sends the message.
    pub is_info: bool,
}

/// An optional hook, as far as the engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The type has no such hook.
    Absent,
    /// The hook takes `&self`.
    Reads,
    /// The hook takes `&mut self`, so that it may change the state.
    Writes,
}

/// One server type.
pub(crate) trait ServerType: Send + Sync {
    /// Returns the stored name of the type.
    fn kind(&self) -> &'static str;

    /// Returns the version of the state's shape.
    fn version(&self) -> u32;

    /// Returns what is stored of a change.
    fn journal(&self) -> Journal;

    fn started_hook(&self) -> Hook;

    fn terminate_hook(&self) -> Hook;

    /// Creates an empty queue for messages of this type.
    fn queue(&self) -> Box<dyn MessageQueue>;

    /// Creates the state of a first life. Returns the text of the `#[init]` function's error.
    fn init(
        &self,
        init: AnyInit,
        instance: InstanceParts,
        context: ContextCore,
    ) -> HookFuture<'_, Result<Box<Instance>, String>>;

    /// Rebuilds a state from its stored form.
    fn decode(
        &self,
        version: u32,
        bytes: &[u8],
        instance: InstanceParts,
        context: ContextCore,
    ) -> Result<Box<Instance>, DecodeError>;

    /// Checks that an encoded state can be read back.
    fn check_state(&self, bytes: &[u8]) -> Result<(), EncodeError>;

    /// Checks that an encoded message can be read back.
    fn check_message(&self, bytes: &[u8]) -> Result<(), EncodeError>;

    /// Returns true if changes of this type are to be reported to
    /// [`notify_changed`](Self::notify_changed).
    fn has_listeners(&self) -> bool;

    /// Reports a committed change to the type's listeners.
    fn notify_changed(&self, context: ContextCore, old: Option<&Encoded>, new: &Encoded);

    /// Reports a crash to the type's listeners.
    fn notify_crashed(&self, address: AnyAddress, panic: &str);

    /// Reports an orderly end to the type's listeners.
    fn notify_terminated(&self, server: &dyn LiveServer, reason: &StopReason);
}

/// One server in memory: its state and its context.
pub(crate) trait LiveServer: Any + Send {
    fn context(&self) -> &ContextCore;

    /// Returns the method behind a message.
    fn method(&self, message: &dyn Any) -> Option<&'static Method>;

    /// Runs a message whose method is not `async`. A panic is returned as its text.
    fn handle(&mut self, message: &mut dyn Any, reply: ReplySlot<'_>) -> Result<(), String>;

    /// Runs the queued messages in order while their methods are not `async`, until `batch`
    /// breaks or the front of the queue is something else.
    fn handle_queued(&mut self, queue: &mut dyn MessageQueue, batch: &mut dyn Batch);

    /// Runs any message.
    fn handle_async<'a>(
        &'a mut self,
        message: AnyMessage,
        reply: &'a mut Option<ReplySender>,
    ) -> HookFuture<'a>;

    /// Runs the `#[started]` hook.
    fn started(&mut self) -> HookFuture<'_>;

    /// Runs the `#[terminate]` hook.
    fn terminate<'a>(&'a mut self, reason: &'a StopReason) -> HookFuture<'a>;

    /// Appends the stored form of the state to `buffer`.
    fn encode(&self, buffer: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Appends the stored form of a message to `buffer`.
    fn encode_message(&self, message: &dyn Any, buffer: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads a message of this or an earlier version, and leaves in `bytes` what follows it.
    /// Returns `None` if the message has no meaning any more.
    fn decode_message(
        &self,
        version: u32,
        bytes: &mut &[u8],
    ) -> Result<Option<AnyMessage>, DecodeError>;

    /// Returns the state, an `S`.
    fn state(&mut self) -> &mut dyn Any;
}

/// The engine's side of [`LiveServer::handle_queued`].
pub(crate) trait Batch {
    /// Applies the outcome of one message. Returns false to end the batch. `next` are the
    /// call options of the next message, if they change.
    fn handled(
        &mut self,
        method: &'static Method,
        outcome: Result<(), String>,
        reply: Option<ReplySender>,
        has_no_effects: bool,
        next: Option<&CallOptions>,
    ) -> bool;

    /// Notes the call options of the message that runs next.
    fn begin(&mut self, options: Option<Arc<CallOptions>>);
}

/// The kind of the envelope at the front of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Front {
    Message(&'static Method),
    Command,
}

/// The envelopes that wait for one server, in order.
pub(crate) trait MessageQueue: Any + Send {
    fn len(&self) -> usize;

    /// Appends the message in `slot`.
    fn push_message(
        &mut self,
        slot: &mut dyn Any,
        reply: Option<ReplySender>,
        options: Option<Arc<CallOptions>>,
    );

    /// Appends an envelope.
    fn push(&mut self, envelope: Envelope);

    fn front(&self) -> Option<Front>;

    /// Returns true if the sender of the last envelope waits for a reply.
    fn is_back_waited_for(&self) -> bool;

    /// Takes the call options of the front envelope.
    fn take_front_options(&mut self) -> Option<Arc<CallOptions>>;

    fn pop(&mut self) -> Option<Envelope>;

    /// Moves all of `other`, a queue of the same type, behind this one's envelopes.
    fn append(&mut self, other: &mut dyn MessageQueue);
}
