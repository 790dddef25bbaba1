//! What waits for a server, and where the server itself is.

use std::{collections::VecDeque, mem, sync::Arc, task::Waker};

use crate::{
    api::client::Handle, api::server::Server, api::source::Origin, call::reply::Answer,
    config::options::Options, config::options::Persist, engine::crash_budget::Crashes,
    engine::resources::Kept, engine::task::Instance, engine::task::Offer, engine::task::Task,
    engine::task::Transfer, error::CallError, observe::event::Watchers, services::Active,
    stop_reason::StopReason, storage::StorageError, support::expiry::Moment, support::sync::Notify,
};

/// What a server can be asked to do, in the order in which it was asked. Most are
/// messages, and to hand one to another core costs by its size: the others are boxed.
pub(crate) struct Envelope<S: Server> {
    pub(crate) order: Order<S>,
    pub(crate) answer: Option<Answer>,
    /// Those of the sender; none once queued, if they are those of the envelope
    /// before it. So a sender of many shares its terms with the task only once.
    pub(crate) terms: Option<Arc<Terms<S>>>,
}

pub(crate) enum Order<S: Server> {
    /// Be active.
    Start,
    Message(S::Message),
    /// A message from one of the server's own sources.
    Info(Box<(S::Message, Origin)>),
    /// Handle the earliest durable timer, if it is due.
    Remind,
    /// Anything to be done with the state.
    Run(Box<Job<S>>),
    /// Move to another runtime.
    Transfer(Box<Transfer<S>>),
    /// Take a server in from another runtime.
    Receive(Box<Offer<S>>),
    Stop(Box<Stop>),
}

/// What has become of an envelope.
pub(crate) enum Sent<S: Server> {
    /// There is no room for it.
    Full(Envelope<S>),
    /// It is with a task, or queued for one, or refused.
    Queued,
    /// It is handled. A commit may keep its answer, or its handler.
    Handled,
}

/// An orderly end.
pub(crate) struct Stop {
    pub(crate) reason: StopReason,
    pub(crate) delete: bool,
}

/// Code that a client brings along.
pub(crate) struct Job<S: Server> {
    /// Whether it leaves the state alone.
    pub(crate) reads: bool,
    pub(crate) work: Work<S>,
}

type Work<S> = Box<dyn FnOnce(&mut S, &mut Option<Answer>) + Send>;

/// What a client asks of each message of its own.
pub(crate) struct Terms<S: Server> {
    /// What to create the server from when nothing is stored.
    pub(crate) init: Option<Arc<S::Init>>,
    /// Over all other options, if the message activates the server.
    pub(crate) options: Option<Arc<Options>>,
    /// Over the server's own level.
    pub(crate) persist: Option<Persist>,
}

impl<S: Server> Clone for Terms<S> {
    fn clone(&self) -> Self {
        Self { init: self.init.clone(), options: self.options.clone(), persist: self.persist }
    }
}

impl<S: Server> Default for Terms<S> {
    fn default() -> Self {
        Self { init: None, options: None, persist: None }
    }
}

impl<S: Server> Envelope<S> {
    pub(crate) fn new(order: Order<S>, answer: Option<Answer>) -> Self {
        Self { order, answer, terms: None }
    }

    /// Whether its sender has nothing to do but to wait for what can be done at
    /// once: that may be done in the sender's place.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.answer.is_some()
            && match &self.order {
                Order::Message(message) => !S::is_async(message),
                Order::Start | Order::Stop(_) => true,
                _ => false,
            }
    }

    /// Tells the one who waits for the answer, or else the one who asks.
    pub(crate) fn refuse(self, error: CallError) -> Result<(), CallError> {
        match self.answer {
            Some(mut answer) => {
                answer.fail(error);
                answer.release();
                Ok(())
            }
            None => Err(error),
        }
    }
}

/// A cell's content, under the cell's lock.
pub(crate) struct Mailbox<S: Server> {
    pub(crate) queue: VecDeque<Envelope<S>>,
    /// Those of the last envelope that was queued, while a task is at work.
    pub(crate) terms: Option<Arc<Terms<S>>>,
    pub(crate) phase: Phase<S>,
    /// While it is not absent: a shutdown waits for it.
    pub(crate) active: Option<Active>,
    /// Wakes the task that runs the server, while it waits.
    pub(crate) waker: Option<Waker>,
    /// When the sweeper comes by next, and the time after that: what is in its
    /// heap of this cell. Few servers have more there, and what is not known of
    /// here is stale.
    armed: Option<Moment>,
    armed_later: Option<Moment>,
    extras: Option<Box<Extras<S>>>,
}

/// What few cells have anything of.
pub(crate) struct Extras<S: Server> {
    pub(crate) crashes: Crashes,
    /// The last panic's text, once the restart limit is exceeded.
    pub(crate) failed: Option<Arc<str>>,
    /// Deferred answers that were sent while the task was at work.
    pub(crate) outbox: Vec<Answer>,
    pub(crate) kept: Kept,
    /// When a server that is not in memory loses its kept values.
    pub(crate) kept_until: Option<Moment>,
    pub(crate) watchers: Watchers,
    /// The options that came with a server from another runtime.
    pub(crate) adopted: Option<Arc<Options>>,
    /// Where the server is now, once it has been handed on.
    pub(crate) moved: Option<Handle<S>>,
    /// How many senders wait for room in the queue.
    pub(crate) waiting: usize,
    /// Wakes one of them, in the order in which they came; each wakes the next.
    pub(crate) room: Arc<Notify>,
    /// Whether the instance is to end at once.
    pub(crate) killed: bool,
    /// Of the commit that is over.
    pub(crate) refusal: Option<StorageError>,
    /// How many commits nobody waits for any more.
    pub(crate) strays: usize,
}

impl<S: Server> Default for Extras<S> {
    fn default() -> Self {
        Self {
            crashes: Crashes::default(),
            failed: None,
            outbox: Vec::new(),
            kept: Kept::default(),
            kept_until: None,
            watchers: Watchers::default(),
            adopted: None,
            moved: None,
            waiting: 0,
            room: Arc::default(),
            killed: false,
            refusal: None,
            strays: 0,
        }
    }
}

/// Where the instance is.
pub(crate) enum Phase<S: Server> {
    /// Not in memory.
    Absent,
    /// In memory and at rest.
    Idle { instance: Box<Instance<S>>, since: Moment },
    /// With its task: being activated, at work, or being unloaded.
    Running,
    /// With a caller, for one message that can't wait.
    Borrowed,
    /// With a task that has nothing to do until its commit is done, and so is
    /// none of tokio's meanwhile.
    Parked(Box<Task<S>>),
}

impl<S: Server> Phase<S> {
    /// Whether somebody has the instance, who looks for what has come up before
    /// it is put back.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Running | Self::Borrowed | Self::Parked(_))
    }
}

impl<S: Server> Extras<S> {
    /// Whether nothing here needs the cell. Watchers hold clients of their own.
    pub(crate) fn is_void(&self) -> bool {
        let forwards = self.moved.as_ref().is_some_and(|to| !to.cell().kind().is_stopping());
        self.failed.is_none() && self.crashes.is_empty() && self.kept.is_empty() && !forwards
    }
}

impl<S: Server> Mailbox<S> {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            terms: None,
            phase: Phase::Absent,
            active: None,
            waker: None,
            armed: None,
            armed_later: None,
            extras: None,
        }
    }

    /// Queues an envelope on `terms`; returns what is to be dropped outside of
    /// the lock.
    pub(crate) fn enqueue(
        &mut self,
        mut envelope: Envelope<S>,
        terms: &Arc<Terms<S>>,
    ) -> Option<Arc<Terms<S>>> {
        let same = self.terms.as_ref().is_some_and(|last| Arc::ptr_eq(last, terms));
        envelope.terms = (!same).then(|| terms.clone());
        self.queue.push_back(envelope);
        if same { None } else { self.terms.replace(terms.clone()) }
    }

    /// Whether messages may have to be refused or forwarded.
    pub(crate) fn is_blocked(&self) -> bool {
        self.failed().is_some() || self.moved().is_some()
    }

    /// What there is of the extras.
    pub(crate) fn extras(&self) -> Option<&Extras<S>> {
        self.extras.as_deref()
    }

    /// As [`extras`](Self::extras), to take from.
    pub(crate) fn extras_mut(&mut self) -> Option<&mut Extras<S>> {
        self.extras.as_deref_mut()
    }

    /// The extras, to add to.
    pub(crate) fn extend(&mut self) -> &mut Extras<S> {
        self.extras.get_or_insert_default()
    }

    /// Takes something out of the extras.
    pub(crate) fn take<T: Default>(&mut self, part: impl FnOnce(&mut Extras<S>) -> &mut T) -> T {
        self.extras_mut().map(|extras| mem::take(part(extras))).unwrap_or_default()
    }

    /// The last panic's text, if the restart limit is exceeded.
    pub(crate) fn failed(&self) -> Option<&Arc<str>> {
        self.extras()?.failed.as_ref()
    }

    /// Where the server is now, if it has been handed on.
    pub(crate) fn moved(&self) -> Option<&Handle<S>> {
        self.extras()?.moved.as_ref()
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.extras().is_some_and(|extras| extras.killed)
    }

    /// Moves what is queued behind what is in `inbox`: a task holds as many
    /// messages beside the mailbox. They mostly change hands untouched, for under
    /// the lock a sender on another core would wait for their memory.
    pub(crate) fn hand_over(&mut self, inbox: &mut VecDeque<Envelope<S>>) {
        if inbox.is_empty() {
            mem::swap(&mut self.queue, inbox);
        } else {
            inbox.append(&mut self.queue);
        }
        if let Some(extras) = self.extras()
            && extras.waiting > 0
        {
            extras.room.notify_one();
        }
    }

    /// How many senders wait for room in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.extras().map_or(0, |extras| extras.waiting)
    }

    pub(crate) fn has_posted(&self) -> bool {
        self.extras().is_some_and(|extras| !extras.outbox.is_empty())
    }

    /// Takes the instance if it is at rest; it is `then` afterwards.
    pub(crate) fn take_idle(&mut self, then: Phase<S>) -> Option<Box<Instance<S>>> {
        match mem::replace(&mut self.phase, then) {
            Phase::Idle { instance, .. } => Some(instance),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Takes the task if it is parked, to be run.
    pub(crate) fn unpark(&mut self) -> Option<Box<Task<S>>> {
        match mem::replace(&mut self.phase, Phase::Running) {
            Phase::Parked(task) => Some(task),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Has the sweeper come by at `deadline`; returns what to arm it with,
    /// unless it comes early enough as it is.
    pub(crate) fn arm(&mut self, deadline: Option<Moment>) -> Option<Moment> {
        let deadline = deadline?;
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return None;
        }
        self.armed_later = self.armed.replace(deadline);
        Some(deadline)
    }

    /// The sweeper has come; whether it was awaited.
    pub(crate) fn disarm(&mut self, now: Moment) -> bool {
        if self.armed.is_none_or(|armed| armed > now) {
            return false;
        }
        self.armed = self.armed_later.take().filter(|later| *later > now);
        true
    }

    /// Whether nothing has come up while somebody had the instance.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && !self.has_posted() && !self.is_killed()
    }

    /// Has the task look again, if it waits.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
