//! A message handled by its caller: a server at rest has no task to send to, so
//! the caller borrows it, runs the handler in place, and puts it back.
//!
//! Only what ends there and then is handled so: a method that is not `async`,
//! on a server at rest, with nothing to be committed. All else goes through the
//! mailbox. The phase is `Borrowed` meanwhile, as if a task had the server, so
//! every other rule holds: messages queue, in order, and whoever puts the server
//! back looks for them. Handlers don't nest: one that calls another server waits,
//! so it is `async`, so it has a task.

use std::{any::Any, hint, sync::Arc};

use crate::{
    api::server::ReplySlot, api::server::Server, call::reply, call::reply::Answer,
    call::reply::Waiting, engine::cell::Cell, engine::mailbox::Phase, engine::mailbox::Terms,
    engine::task::Driven, engine::task::Instance, engine::task::Ran, engine::task::Task,
    error::CallError, support::sync,
};

/// What became of a message.
pub(crate) enum Direct<M, R> {
    Answered(Result<R, CallError>),
    /// It has run, but its answer is for later.
    Handed(Waiting<R>),
    /// It has to go through the mailbox.
    Declined(M),
}

/// Handles `message` here and now if that can be.
pub(crate) fn handle<S: Server, R: Send + 'static>(
    cell: &Arc<Cell<S>>,
    terms: &Terms<S>,
    message: S::Message,
) -> Direct<S::Message, R> {
    let reads = S::method(&message).is_read;
    if S::method(&message).is_async {
        return Direct::Declined(message);
    }
    let Some(mut instance) = borrow(cell, terms, reads) else { return Direct::Declined(message) };
    let mut place = Place { value: None, waiting: None };
    let driven = {
        // A handler finds tokio where it runs, also if its caller is no task.
        let home = cell.kind().core().tokio();
        let _entered = sync::task::try_id().is_none().then(|| home.enter());
        instance.run(message, ReplySlot::direct(&mut place))
    };
    if matches!(driven, Driven::Done(())) && instance.settle_directly(reads, terms.persist) {
        cell.put_back(instance);
        return match place {
            Place { value: Some(value), .. } => Direct::Answered(Ok(value)),
            Place { waiting: Some(waiting), .. } => Direct::Handed(waiting),
            _ => Direct::Answered(Err(CallError::NoReply { server: cell.id().clone() })),
        };
    }
    let (answer, waiting) = place.into_channel();
    cell.lock().phase = Phase::Running;
    let ran = Ran { reads, driven, persist: terms.persist, answer };
    if let Some((task, next)) = Task::new(cell.clone(), None).finish_first(instance, ran) {
        cell.kind().spawn(task.run(next));
    }
    Direct::Handed(waiting)
}

/// How often a caller looks again for a server that another caller has. Such a
/// message can't wait for anything, so most are over at once, and to look again is
/// cheaper than to queue and be woken.
const LOOKS: u32 = 16;
/// How long it stays away in between: each look takes the memory of the lock from the
/// one who has the server.
const PAUSE: u32 = 64;

/// The instance, if it is at rest and the message would leave it at rest.
fn borrow<S: Server>(cell: &Cell<S>, terms: &Terms<S>, reads: bool) -> Option<Box<Instance<S>>> {
    for _ in 0..LOOKS {
        if cell.kind().is_stopping() {
            return None;
        }
        let mut mailbox = cell.lock();
        match &mailbox.phase {
            Phase::Idle { instance, .. } if instance.is_free(reads, terms.persist) => {
                return mailbox.take_idle(Phase::Borrowed);
            }
            // Those who wait in the queue come first.
            Phase::Borrowed if mailbox.queue.is_empty() => {}
            _ => return None,
        }
        drop(mailbox);
        for _ in 0..PAUSE {
            hint::spin_loop();
        }
    }
    None
}

/// The caller's place for a result, on its own stack.
struct Place<R> {
    value: Option<R>,
    /// Set once the handler has taken the caller away, to be answered later.
    waiting: Option<Waiting<R>>,
}

/// A [`Place`] whatever its type.
pub(crate) trait CallersPlace: Send {
    fn value(&mut self) -> &mut dyn Any;
    fn defer(&mut self) -> Answer;
}

impl<R: Send + 'static> CallersPlace for Place<R> {
    fn value(&mut self) -> &mut dyn Any {
        &mut self.value
    }

    fn defer(&mut self) -> Answer {
        let (answer, waiting) = reply::channel();
        self.waiting = Some(waiting);
        answer
    }
}

impl<R: Send + 'static> Place<R> {
    /// The same place for a task to answer.
    fn into_channel(self) -> (Option<Answer>, Waiting<R>) {
        let Self { value, waiting } = self;
        match waiting {
            Some(waiting) => (None, waiting),
            None => {
                let (mut answer, waiting) = reply::channel();
                if let Some(value) = value {
                    answer.set(value);
                }
                (Some(answer), waiting)
            }
        }
    }
}
