//! The mailbox of a cell: the state machine of one server.
//!
//! # Phases
//!
//! | from | to | by | cause |
//! | --- | --- | --- | --- |
//! | Absent, Idle | Running | [`start`](Mailbox::start) | a message starts a task |
//! | Idle | Running | [`take_idle`](Mailbox::take_idle) | an unload, a due save, a kill or a shutdown |
//! | Idle | Borrowed | [`lend`](Mailbox::lend) | a caller handles its message inline |
//! | Borrowed | Idle | [`put_back`](Mailbox::put_back) | the message is handled, and nothing else has arrived |
//! | Borrowed | Running | [`run`](Mailbox::run) | something has arrived, or the message needs a task |
//! | Running | Parked | [`park`](Mailbox::park) | the task only waits for a commit |
//! | Parked | Running | [`start`](Mailbox::start), [`unpark`](Mailbox::unpark), [`unpark_committed`](Mailbox::unpark_committed) | a message, a signal or the commit |
//! | Running | Idle, Absent | [`finish_task`](Mailbox::finish_task) | the task has nothing left to do |
//! | any | Absent | [`abandon_task`](Mailbox::abandon_task) | the task was dropped before its end |
//!
//! | phase | the instance is | it may be touched by |
//! | --- | --- | --- |
//! | Absent | not in memory | nothing |
//! | Idle | in the mailbox | no thread, until a transition takes it |
//! | Borrowed | with a caller, for one message that needs no waiting | that caller |
//! | Running | with the server's task; or nowhere, during an activation, a backoff or `#[terminate]` | that task |
//! | Parked | with the task, and the task in the mailbox | no thread, until a transition takes the task |
//!
//! A cell has at most one task. It begins when the phase becomes Running and ends when the phase
//! becomes Idle or Absent. Before it puts the instance back or parks, a caller or a task checks
//! under the same lock that nothing has arrived meanwhile; so no message is left behind.
//!
//! # Lock rules
//!
//! 1. The fields are private. Each transition is one method.
//! 2. Nothing that could hold a client or run user code may be dropped or woken under the lock:
//!    dropping a client may remove the cell from the registry, which takes the registry's lock, and
//!    an executor may poll its task while it is woken. A transition that removes such a value returns
//!    it, and the caller drops or wakes it after the guard.
//! 3. The lock is never held across an await, a storage request, a spawn or a handler.
//! 4. The registry's lock is taken before the mailbox's, never after.

use std::{mem, sync::Arc, task::Waker, time::Duration};

use crate::{
    call::reply::{ReplySender, Waiting},
    config::options::Options,
    engine::{
        capacity::BlockedSenders,
        cell::CellRef,
        command::{CallOptions, Envelope},
        crash_budget::CrashBudget,
        erased::{MessageQueue, ServerType},
        followers::Followers,
        instance::Instance,
        resources::Resources,
        services::ShutdownGuard,
        task::Task,
    },
    observe::event::Watchers,
    storage::StorageError,
    support::{catch::wake, expiry::CompactInstant},
};

/// The content of a cell, under the cell's lock.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// `None` while it is empty and the server is idle.
    queue: Option<Box<dyn MessageQueue>>,
    /// The options of the envelope that was queued last, while a task is at work.
    last_options: Option<Arc<CallOptions>>,
    phase: Phase,
    /// Present unless the phase is Absent: a shutdown waits for it.
    active: Option<ShutdownGuard>,
    /// Wakes the task, while it waits.
    waker: Option<Waker>,
    /// The two earliest entries that this cell has in the expiry queue. Any others are stale.
    armed: Option<CompactInstant>,
    armed_later: Option<CompactInstant>,
    cold: Option<Box<ColdState>>,
}

/// Where the instance is.
#[derive(Default)]
enum Phase {
    #[default]
    Absent,
    Idle {
        instance: Box<Instance>,
        since: CompactInstant,
    },
    Running,
    Borrowed,
    Parked(Box<Task>),
}

/// The parts that few cells need.
#[derive(Default)]
struct ColdState {
    crashes: CrashBudget,
    /// Present once the restart limit is exceeded.
    failed: Option<Failed>,
    /// The callers that wait for deferred replies, and others that no longer do.
    deferred: Vec<Waiting>,
    /// Deferred replies that were sent while the task was at work.
    posted: Vec<ReplySender>,
    resources: Resources,
    /// When an absent server loses its resources.
    resources_until: Option<CompactInstant>,
    watchers: Watchers,
    followers: Followers,
    /// The options that came with a server from another runtime.
    transferred_options: Option<Arc<Options>>,
    /// Where the server is now, once it was transferred.
    moved: Option<CellRef>,
    blocked_senders: BlockedSenders,
    /// True if the instance is to end at once.
    killed: bool,
    /// The commit that failed and that its task has not seen yet.
    commit_error: Option<(u64, StorageError)>,
}

/// The failure of a server.
#[derive(Clone)]
pub(crate) struct Failed {
    /// The text of the last panic.
    pub(crate) panic: Arc<str>,
    /// When the server is available again; `None` if it must be reset.
    pub(crate) until: Option<CompactInstant>,
    /// True if it is activated then without a message.
    pub(crate) is_permanent: bool,
}

/// Values that a transition has removed. Drop them outside of the lock.
#[must_use = "to be dropped after the lock"]
pub(crate) struct Removed<T>(T);

/// The values that a task leaves in its mailbox.
type Remains = (Option<Box<dyn MessageQueue>>, Option<Arc<CallOptions>>, Option<Waker>);

/// The values that a message takes from the mailbox when it starts a task.
pub(crate) struct Start {
    pub(crate) parked: Option<Box<Task>>,
    pub(crate) instance: Option<Box<Instance>>,
    pub(crate) refuses_or_forwards: bool,
    pub(crate) removed: Removed<Option<Arc<CallOptions>>>,
}

/// The content of a mailbox, as its task sees it.
pub(crate) enum Poll {
    Killed,
    /// Messages were moved to the task.
    Messages,
    /// Nothing.
    Empty {
        /// True if deferred replies were sent.
        has_posted: bool,
    },
}

/// A waker that is woken when this is dropped. Declared before the lock's guard, it is dropped after
/// it.
pub(crate) struct WakeLater(pub(crate) Option<Waker>);

impl Drop for WakeLater {
    fn drop(&mut self) {
        wake(self.0.take());
    }
}

/// The state of a server that may be lent to a caller.
pub(crate) enum Lend {
    Lent(Box<Instance>),
    /// Another caller has it, and nothing is queued behind that.
    Borrowed,
    Unavailable,
}

impl Mailbox {
    // The queue.

    pub(crate) fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    fn queue(&mut self, of: &dyn ServerType) -> &mut dyn MessageQueue {
        &mut **self.queue.get_or_insert_with(|| of.queue())
    }

    /// Notes the options of the next envelope. Returns them if they differ from the last ones.
    fn changed_options(
        &mut self,
        options: &Arc<CallOptions>,
    ) -> (Option<Arc<CallOptions>>, Removed<Option<Arc<CallOptions>>>) {
        if self.last_options.as_ref().is_some_and(|last| Arc::ptr_eq(last, options)) {
            return (None, Removed(None));
        }
        let former = self.last_options.replace(options.clone());
        (Some(options.clone()), Removed(former))
    }

    /// Queues the message in `slot`, and wakes the task.
    pub(crate) fn enqueue_message(
        &mut self,
        of: &dyn ServerType,
        slot: &mut dyn std::any::Any,
        reply: Option<ReplySender>,
        options: &Arc<CallOptions>,
    ) -> (Removed<Option<Arc<CallOptions>>>, Option<Waker>) {
        let (options, removed) = self.changed_options(options);
        self.queue(of).push_message(slot, reply, options);
        (removed, self.waker.take())
    }

    /// Queues a command or a boxed message, and wakes the task.
    pub(crate) fn enqueue(
        &mut self,
        of: &dyn ServerType,
        envelope: Envelope,
        options: &Arc<CallOptions>,
    ) -> (Removed<Option<Arc<CallOptions>>>, Option<Waker>) {
        let (options, removed) = self.changed_options(options);
        self.queue(of).push(Envelope { options, ..envelope });
        (removed, self.waker.take())
    }

    /// Moves what is queued behind `inbox`. The queue changes hands as a whole: a sender on
    /// another core would wait for the cache lines of each message.
    fn drain_into(&mut self, inbox: &mut Option<Box<dyn MessageQueue>>) {
        match (&mut self.queue, &mut *inbox) {
            (Some(queue), Some(inbox)) if inbox.len() == 0 => mem::swap(queue, inbox),
            (Some(queue), Some(inbox)) => inbox.append(&mut **queue),
            (queue @ Some(_), None) => *inbox = queue.take(),
            (None, _) => {}
        }
    }

    /// Looks for what has arrived, moving messages to `inbox` if it `has_room`. A sender that has
    /// waited for that is left in `sender`, to be woken after the lock.
    pub(crate) fn poll(
        &mut self,
        inbox: &mut Option<Box<dyn MessageQueue>>,
        has_room: bool,
        sender: &mut WakeLater,
    ) -> Poll {
        if self.take_killed() {
            return Poll::Killed;
        }
        if has_room {
            let is_empty = self.len() == 0;
            self.drain_into(inbox);
            if let Some(cold) = &mut self.cold {
                sender.0 = cold.blocked_senders.take_next();
            }
            if !is_empty {
                return Poll::Messages;
            }
        }
        Poll::Empty { has_posted: self.has_posted() }
    }

    // Capacity.

    /// Returns true if senders wait for capacity.
    pub(crate) fn has_blocked_senders(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.blocked_senders.is_empty())
    }

    pub(crate) fn blocked_senders_mut(&mut self) -> &mut BlockedSenders {
        &mut self.cold_mut().blocked_senders
    }

    /// Returns what wakes all blocked senders.
    pub(crate) fn take_senders(&mut self) -> Vec<Waker> {
        self.cold.as_mut().map(|cold| cold.blocked_senders.take_all()).unwrap_or_default()
    }

    // Phases.

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.phase, Phase::Absent)
    }

    /// Returns true if a task or a caller has the instance. It looks for what has arrived before
    /// it puts the instance back.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Borrowed | Phase::Parked(_))
    }

    /// Returns true if nothing has arrived since a task or a caller took the instance.
    pub(crate) fn nothing_arrived(&self) -> bool {
        self.len() == 0 && !self.has_posted() && !self.is_killed()
    }

    /// Idle → Borrowed, if `is_free` returns true for the instance.
    pub(crate) fn lend(&mut self, is_free: impl FnOnce(&Instance) -> bool) -> Lend {
        match &self.phase {
            Phase::Idle { instance, .. } if is_free(instance) => {
                match mem::replace(&mut self.phase, Phase::Borrowed) {
                    Phase::Idle { instance, .. } => Lend::Lent(instance),
                    other => {
                        self.phase = other;
                        Lend::Unavailable
                    }
                }
            }
            Phase::Borrowed if self.len() == 0 => Lend::Borrowed,
            _ => Lend::Unavailable,
        }
    }

    /// Idle → Running.
    pub(crate) fn take_idle(&mut self) -> Option<Box<Instance>> {
        match mem::replace(&mut self.phase, Phase::Running) {
            Phase::Idle { instance, .. } => Some(instance),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Borrowed → Running.
    pub(crate) fn run(&mut self) {
        self.phase = Phase::Running;
    }

    /// Absent, Idle, Parked → Running, for a message that starts or resumes the task. Returns
    /// `None` if the server is busy otherwise.
    ///
    /// `active` is called under the lock: a shutdown must not find the runtime quiet before the
    /// server counts.
    pub(crate) fn start(&mut self, active: impl FnOnce() -> ShutdownGuard) -> Option<Start> {
        let parked = self.unpark();
        if parked.is_none() && self.is_busy() {
            return None;
        }
        let instance = self.take_idle();
        self.phase = Phase::Running;
        self.active.get_or_insert_with(active);
        let removed = Removed(self.last_options.take());
        Some(Start { parked, instance, refuses_or_forwards: self.refuses_or_forwards(), removed })
    }

    /// Parked → Running.
    pub(crate) fn unpark(&mut self) -> Option<Box<Task>> {
        match mem::replace(&mut self.phase, Phase::Running) {
            Phase::Parked(task) => Some(task),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Parked → Running, if the task only waits for the commit that has succeeded.
    pub(crate) fn unpark_committed(&mut self) -> Option<Box<Task>> {
        match &self.phase {
            Phase::Parked(task) if task.only_awaits_commit() => self.unpark(),
            _ => None,
        }
    }

    /// Running → Parked.
    pub(crate) fn park(&mut self, task: Box<Task>) -> Removed<Option<Waker>> {
        self.phase = Phase::Parked(task);
        Removed(self.waker.take())
    }

    /// Borrowed → Idle. Returns the deadline to schedule, if any.
    pub(crate) fn put_back(
        &mut self,
        instance: Box<Instance>,
        since: CompactInstant,
    ) -> Option<CompactInstant> {
        let deadline = instance.parts.deadline(since);
        self.phase = Phase::Idle { instance, since };
        self.arm(deadline)
    }

    /// Running → Idle, or → Absent without an instance. Returns the deadline to schedule, if any.
    /// An idle server keeps no queue in memory.
    pub(crate) fn finish_task(
        &mut self,
        instance: Option<Box<Instance>>,
        since: CompactInstant,
        absent_until: impl FnOnce(&mut Self) -> Option<CompactInstant>,
    ) -> (Option<CompactInstant>, Removed<(Option<ShutdownGuard>, Remains)>) {
        let deadline = match instance {
            Some(instance) => {
                let deadline = instance.parts.deadline(since);
                self.phase = Phase::Idle { instance, since };
                deadline
            }
            None => {
                let deadline = absent_until(self);
                self.phase = Phase::Absent;
                deadline
            }
        };
        let active = if self.is_absent() { self.active.take() } else { None };
        (self.arm(deadline), Removed((active, self.take_remains())))
    }

    fn take_remains(&mut self) -> Remains {
        (self.queue.take(), self.last_options.take(), self.waker.take())
    }

    /// → Absent, when a task is dropped before it has finished.
    pub(crate) fn abandon_task(&mut self) -> Removed<impl Sized + use<>> {
        self.phase = Phase::Absent;
        let posted = self.take(|cold| &mut cold.posted);
        Removed((posted, self.active.take(), self.take_remains()))
    }

    /// Removes everything that holds other servers or callers: the runtime is gone.
    pub(crate) fn halt(&mut self) -> Removed<impl Sized + use<>> {
        let watchers = self.take_watchers();
        let followers = self.take_followers();
        let moved = self.take(|cold| &mut cold.moved);
        Removed((self.queue.take(), watchers, followers, moved))
    }

    // The task's waker.

    pub(crate) fn set_waker(&mut self, waker: &Waker) -> Removed<Option<Waker>> {
        if self.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return Removed(None);
        }
        Removed(self.waker.replace(waker.clone()))
    }

    /// Returns what wakes the task, if it waits.
    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    // Deadlines.

    /// Notes a deadline. Returns it if the expiry queue has no entry that comes early enough.
    pub(crate) fn arm(&mut self, deadline: Option<CompactInstant>) -> Option<CompactInstant> {
        let deadline = deadline?;
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return None;
        }
        self.armed_later = self.armed.replace(deadline);
        Some(deadline)
    }

    /// Returns true if the expiry queue has an entry of this cell.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Handles an expired entry. Returns false if it is stale.
    pub(crate) fn disarm(&mut self, now: CompactInstant) -> bool {
        if self.armed.is_none_or(|armed| armed > now) {
            return false;
        }
        self.armed = self.armed_later.take().filter(|later| *later > now);
        true
    }

    /// Returns the next deadline of an idle instance, and true if it is to be unloaded now. While a
    /// caller waits for a deferred reply, the idle timeout begins again.
    pub(crate) fn idle_deadline(
        &mut self,
        now: CompactInstant,
    ) -> Option<(Option<CompactInstant>, bool)> {
        let is_awaited = self.is_awaited();
        let Phase::Idle { instance, since } = &mut self.phase else { return None };
        if is_awaited {
            // Later than now, even if the idle timeout is zero.
            *since = now.checked_add(Duration::from_millis(1)).unwrap_or(now);
        }
        let is_over = instance.parts.idle_deadline(*since).is_some_and(|idle| idle <= now);
        Some((instance.parts.deadline(*since), is_over))
    }

    // The cold state.

    fn cold_mut(&mut self) -> &mut ColdState {
        self.cold.get_or_insert_default()
    }

    fn take<T: Default>(&mut self, part: impl FnOnce(&mut ColdState) -> &mut T) -> T {
        self.cold.as_deref_mut().map(|cold| mem::take(part(cold))).unwrap_or_default()
    }

    /// Returns true if nothing here needs the cell. Watchers hold clients of their own.
    pub(crate) fn is_vacant(&self) -> bool {
        self.is_absent()
            && self.cold.as_ref().is_none_or(|cold| {
                let forwards = cold.moved.as_ref().is_some_and(|to| !to.registry().is_stopping());
                cold.failed.is_none()
                    && cold.crashes.is_empty()
                    && cold.resources.is_empty()
                    && !forwards
            })
    }

    /// Returns true if messages may have to be refused or forwarded.
    pub(crate) fn refuses_or_forwards(&self) -> bool {
        self.failed().is_some() || self.moved().is_some()
    }

    /// Returns the failure, if the restart limit is exceeded.
    pub(crate) fn failed(&self) -> Option<&Failed> {
        self.cold.as_ref()?.failed.as_ref()
    }

    pub(crate) fn set_failed(&mut self, failed: Failed) {
        self.cold_mut().failed = Some(failed);
    }

    /// Removes a failure whose time is over. Returns it, or else when the time of a present one is
    /// over.
    pub(crate) fn expire_failure(
        &mut self,
        now: CompactInstant,
    ) -> (Option<Failed>, Option<CompactInstant>) {
        let Some(cold) = &mut self.cold else { return (None, None) };
        let is_over = |failed: &mut Failed| failed.until.is_some_and(|until| until <= now);
        let expired = cold.failed.take_if(is_over);
        (expired, cold.failed.as_ref().and_then(|failed| failed.until))
    }

    pub(crate) fn crashes_mut(&mut self) -> &mut CrashBudget {
        &mut self.cold_mut().crashes
    }

    pub(crate) fn has_crashes(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.crashes.is_empty())
    }

    /// Forgets the crashes and the failure.
    pub(crate) fn reset(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.failed = None;
            cold.crashes = CrashBudget::default();
        }
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.killed)
    }

    pub(crate) fn set_killed(&mut self) {
        self.cold_mut().killed = true;
    }

    pub(crate) fn take_killed(&mut self) -> bool {
        self.take(|cold| &mut cold.killed)
    }

    pub(crate) fn has_posted(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.posted.is_empty())
    }

    pub(crate) fn post(&mut self, reply: ReplySender) {
        self.cold_mut().posted.push(reply);
    }

    pub(crate) fn take_posted(&mut self) -> Vec<ReplySender> {
        self.take(|cold| &mut cold.posted)
    }

    /// Notes a caller that waits for a deferred reply.
    pub(crate) fn defer(&mut self, caller: Waiting) {
        let deferred = &mut self.cold_mut().deferred;
        if deferred.len() == deferred.capacity() {
            deferred.retain(Waiting::is_waiting);
            deferred.reserve(deferred.len() + 1);
        }
        deferred.push(caller);
    }

    /// Returns true if a caller waits for a deferred reply.
    fn is_awaited(&mut self) -> bool {
        let Some(cold) = &mut self.cold else { return false };
        cold.deferred.retain(Waiting::is_waiting);
        !cold.deferred.is_empty()
    }

    /// Returns the resources, to insert one.
    pub(crate) fn resources_mut(&mut self) -> &mut Resources {
        &mut self.cold_mut().resources
    }

    /// Returns the resources, if there may be any.
    pub(crate) fn resources(&mut self) -> Option<&mut Resources> {
        self.cold.as_mut().map(|cold| &mut cold.resources)
    }

    pub(crate) fn take_resources(&mut self) -> Resources {
        self.take(|cold| &mut cold.resources)
    }

    /// Lets the resources of an absent server live until `until`. Returns that deadline, if there
    /// are any.
    pub(crate) fn keep_resources_until(
        &mut self,
        until: Option<CompactInstant>,
    ) -> Option<CompactInstant> {
        let cold = self.cold.as_mut()?;
        cold.resources_until = until.filter(|_| !cold.resources.is_empty());
        cold.resources_until
    }

    /// Removes the resources of an absent server if their time is over. Returns the deadline of
    /// those that stay.
    pub(crate) fn expire_resources(
        &mut self,
        now: CompactInstant,
    ) -> (Resources, Option<CompactInstant>) {
        let Some(cold) = &mut self.cold else { return (Resources::default(), None) };
        let mut expired = Resources::default();
        if cold.resources_until.take_if(|until| *until <= now).is_some() {
            expired = mem::take(&mut cold.resources);
        }
        (expired, cold.resources_until)
    }

    pub(crate) fn watchers_mut(&mut self) -> &mut Watchers {
        &mut self.cold_mut().watchers
    }

    pub(crate) fn take_watchers(&mut self) -> Watchers {
        self.take(|cold| &mut cold.watchers)
    }

    pub(crate) fn watchers(&mut self) -> Option<&mut Watchers> {
        self.cold.as_mut().map(|cold| &mut cold.watchers)
    }

    pub(crate) fn followers_mut(&mut self) -> &mut Followers {
        &mut self.cold_mut().followers
    }

    pub(crate) fn take_followers(&mut self) -> Followers {
        self.take(|cold| &mut cold.followers)
    }

    pub(crate) fn transferred_options(&self) -> Option<Arc<Options>> {
        self.cold.as_ref()?.transferred_options.clone()
    }

    /// Returns where the server is now, if it was transferred.
    pub(crate) fn moved(&self) -> Option<&CellRef> {
        self.cold.as_ref()?.moved.as_ref()
    }

    pub(crate) fn set_moved(&mut self, to: CellRef) -> Removed<Option<CellRef>> {
        Removed(self.cold_mut().moved.replace(to))
    }

    /// Takes in what came with a server from another runtime.
    pub(crate) fn receive(
        &mut self,
        resources: Resources,
        options: Option<Arc<Options>>,
    ) -> Removed<impl Sized + use<>> {
        let cold = self.cold_mut();
        cold.transferred_options = options;
        Removed((mem::replace(&mut cold.resources, resources), cold.moved.take()))
    }

    pub(crate) fn set_resources(&mut self, resources: Resources) -> Removed<Resources> {
        Removed(mem::replace(&mut self.cold_mut().resources, resources))
    }

    /// Notes the error of a commit.
    pub(crate) fn set_commit_error(&mut self, sequence: u64, error: StorageError) {
        self.cold_mut().commit_error = Some((sequence, error));
    }

    /// Takes the error of commit `sequence`, if it failed.
    pub(crate) fn take_commit_error(&mut self, sequence: u64) -> Option<StorageError> {
        let (failed, error) = self.take(|cold| &mut cold.commit_error)?;
        (failed == sequence).then_some(error)
    }
}
