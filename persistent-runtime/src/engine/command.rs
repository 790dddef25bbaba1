//! The content of mailboxes: messages and commands, in envelopes.

use std::{any::Any, sync::Arc};

use crate::{
    call::reply::ReplySender,
    config::options::{Options, Persist},
    engine::{
        erased::{AnyInit, AnyMessage},
        followers::Follower,
        sources::Origin,
        task::{Transfer, TransferOffer},
    },
    error::CallError,
    stop_reason::StopReason,
    support::catch::Guarded,
};

/// The options of a client, which go with each of its messages.
#[derive(Clone, Default)]
pub(crate) struct CallOptions {
    /// The arguments of `#[init]`, for a server of which nothing is stored.
    pub(crate) init: Option<AnyInit>,
    /// Options over all other layers, if the message activates the server.
    pub(crate) options: Option<Arc<Options>>,
    /// The persist level, over the server's own.
    pub(crate) persist: Option<Persist>,
}

/// One entry of a mailbox, outside of its typed queue.
pub(crate) struct Envelope {
    pub(crate) content: Content,
    pub(crate) reply: Option<ReplySender>,
    /// `None` if equal to the options of the envelope before: a sender of many messages then
    /// shares its options with the task only once.
    pub(crate) options: Option<Arc<CallOptions>>,
}

pub(crate) enum Content {
    Message(AnyMessage),
    Command(Command),
}

/// A request to a server that is not a message. Moving a queue entry to another core costs
/// by its size, so all but the small commands are boxed.
pub(crate) enum Command {
    /// Activate the server.
    Start,
    /// Activate the server, if it does not exist yet.
    Create,
    /// Handle a message from one of the server's own sources.
    Info(Box<(AnyMessage, Origin)>),
    /// Handle the earliest reminder, if it is due.
    Remind,
    /// Run a closure on the state.
    Run(Box<Job>),
    /// Move the server to another runtime.
    Transfer(Box<Transfer>),
    /// Take a server in from another runtime.
    Receive(Box<TransferOffer>),
    /// Add a follower of the committed states.
    Follow(Box<Follower>),
    /// End the instance in order.
    Stop(Box<StopReason>),
}

/// A closure that a client runs on the state.
pub(crate) struct Job {
    /// True if the closure cannot change the state.
    pub(crate) is_read: bool,
    pub(crate) work: JobFn,
}

impl Job {
    pub(crate) fn new<S: 'static, R: Send + 'static>(
        is_read: bool,
        work: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Self {
        let mut work = Guarded::new(work);
        let work = Box::new(move |state: &mut dyn Any, reply: &mut Option<ReplySender>| {
            if let (Some(work), Some(state), Some(reply)) =
                (work.take(), state.downcast_mut::<S>(), reply)
            {
                reply.set_result(work(state));
            }
        });
        Self { is_read, work }
    }
}

/// Takes the state, an `S`.
type JobFn = Box<dyn FnOnce(&mut dyn Any, &mut Option<ReplySender>) + Send>;

impl Envelope {
    pub(crate) fn command(command: Command, reply: Option<ReplySender>) -> Self {
        Self { content: Content::Command(command), reply, options: None }
    }
}

/// Reports a refusal to the caller that waits for `reply`, or else returns it.
pub(crate) fn refuse(reply: Option<ReplySender>, error: CallError) -> Result<(), CallError> {
    match reply {
        Some(mut reply) => {
            reply.fail(error);
            reply.release();
            Ok(())
        }
        None => Err(error),
    }
}
