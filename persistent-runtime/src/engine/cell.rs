//! One address: its mailbox and, while it is in memory, its server.
//!
//! A cell is there for as long as somebody holds a client of it, it is in
//! memory, or it has something to remember: crashes, kept values, where its server
//! was handed to. So a message that meets an unloading
//! server has nowhere wrong to go: it queues in the same cell, and the cell's
//! task activates the server again. A cell leaves the registry under the
//! registry's lock, when nobody can send to it any more.

use std::{
    any::Any,
    mem,
    pin::{Pin, pin},
    sync::{Arc, PoisonError, Weak},
    task::{self, Poll},
};

use crate::{
    api::server::Server, call::output_gate::Desk, call::reply::Answer, call::reply::Outbox,
    config::options::Settings, engine::crash_budget::Crashes, engine::mailbox::Envelope,
    engine::mailbox::Extras, engine::mailbox::Mailbox, engine::mailbox::Order,
    engine::mailbox::Phase, engine::mailbox::Sent, engine::mailbox::Terms, engine::registry::Kind,
    engine::resources::Kept, engine::task::Instance, engine::task::Step, engine::task::Task,
    engine::visit, error::CallError, id::ServerId, observe::event::Event,
    observe::event::EventStream, observe::event::Watchers, services::Active,
    stop_reason::StopReason, storage::CommitHost, storage::Storage, storage::StorageError,
    support::catch::caught, support::expiry::Moment, support::expiry::Sweep, support::sync::Mutex,
    support::sync::MutexGuard, support::sync::Notify, support::sync::atomic::AtomicBool,
    support::sync::atomic::AtomicUsize, support::sync::atomic::Ordering,
};

/// See the [module](self).
///
/// What a busy task looks at between two messages is a cache line away from what
/// their senders write to.
#[repr(C)]
pub(crate) struct Cell<S: Server> {
    /// Whether the task should look into the mailbox before its next message: at
    /// the outbox, or because the server is killed.
    beckons: AtomicBool,
    /// Whether a submitted commit is over, and its task has not seen it yet.
    settled: AtomicBool,
    kind: Arc<Kind<S>>,
    /// How many clients there are. It leaves 0 under the registry's lock only.
    handles: AtomicUsize,
    id: ServerId,
    mailbox: Mutex<Mailbox<S>>,
}

impl<S: Server> Cell<S> {
    pub(crate) fn new(kind: Arc<Kind<S>>, id: ServerId) -> Self {
        Self {
            id,
            kind,
            handles: AtomicUsize::new(0),
            beckons: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            mailbox: Mutex::new(Mailbox::new()),
        }
    }

    pub(crate) fn id(&self) -> &ServerId {
        &self.id
    }

    pub(crate) fn key(&self) -> &Arc<str> {
        self.id.shared_key()
    }

    pub(crate) fn kind(&self) -> &Arc<Kind<S>> {
        &self.kind
    }

    /// The settings of servers that nobody has set options for.
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        self.kind.settings()
    }

    /// Nothing may be dropped under this lock that could hold a client.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Mailbox<S>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn held(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn let_go(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.kind.release(&self.id);
        }
    }

    /// Whether the registry can do without this cell. The registry asks under
    /// its lock, so that no client can appear meanwhile.
    pub(crate) fn is_vacant(&self) -> bool {
        self.handles.load(Ordering::Acquire) == 0 && {
            let mailbox = self.lock();
            matches!(mailbox.phase, Phase::Absent) && mailbox.extras().is_none_or(Extras::is_void)
        }
    }

    /// Queues `envelope` and sees to it that it is handled; gives it back if the
    /// mailbox is full. A refusal goes to the one who waits for the answer, or
    /// else is returned.
    pub(crate) fn try_send(
        self: &Arc<Self>,
        envelope: Envelope<S>,
        terms: &Arc<Terms<S>>,
    ) -> Result<Sent<S>, CallError> {
        self.push(envelope, terms, |mailbox| self.has_room(mailbox) && mailbox.waiting() == 0)
    }

    /// As [`try_send`](Self::try_send), whether there is room or not.
    pub(crate) fn send_past(self: &Arc<Self>, envelope: Envelope<S>) {
        // Who is to know of a refusal waits for the answer.
        let _ = self.push(envelope, &Arc::default(), |_| true);
    }

    fn has_room(&self, mailbox: &Mailbox<S>) -> bool {
        mailbox.queue.len() < self.settings().mailbox
    }

    /// Queues `envelope` if it may be now.
    fn push(
        self: &Arc<Self>,
        envelope: Envelope<S>,
        terms: &Arc<Terms<S>>,
        may: impl FnOnce(&Mailbox<S>) -> bool,
    ) -> Result<Sent<S>, CallError> {
        let mut mailbox = self.lock();
        if let Err(error) = self.admit(&envelope.order, &mailbox) {
            drop(mailbox);
            return envelope.refuse(error).map(|()| Sent::Queued);
        }
        if !may(&mailbox) {
            drop(mailbox);
            return Ok(Sent::Full(envelope));
        }
        let parked = mailbox.unpark();
        if parked.is_none() && mailbox.phase.is_busy() {
            let former = mailbox.enqueue(envelope, terms);
            mailbox.wake();
            drop(mailbox);
            drop(former);
            return Ok(Sent::Queued);
        }
        // Nothing is queued before it: it is the task's first message.
        let instance = mailbox.take_idle(Phase::Running);
        mailbox.phase = Phase::Running;
        // Under the lock: a shutdown must not find the runtime quiet before the
        // server counts.
        mailbox.active.get_or_insert_with(|| Active::new(self.kind.core().clone()));
        let former = mailbox.terms.take();
        let blocked = mailbox.is_blocked();
        drop(mailbox);
        drop(former);
        let task = parked.unwrap_or_else(|| Task::new(self.clone(), instance));
        let envelope = Envelope { terms: Some(terms.clone()), ..envelope };
        Ok(Self::begin(task.blocked(blocked), envelope))
    }

    /// Has a task handle its first message, in the caller's place if that waits for it.
    fn begin(task: Box<Task<S>>, envelope: Envelope<S>) -> Sent<S> {
        if envelope.is_waited_for() {
            return visit::run(task, envelope);
        }
        task.cell().clone().kind.spawn(task.run(Some(Step::Handle(envelope))));
        Sent::Queued
    }

    /// As [`try_send`](Self::try_send), waiting for room.
    ///
    /// Cancel safe: a dropped call has queued nothing.
    pub(crate) async fn send(
        self: &Arc<Self>,
        envelope: Envelope<S>,
        terms: &Arc<Terms<S>>,
    ) -> Result<(), CallError> {
        let Sent::Full(mut envelope) = self.try_send(envelope, terms)? else { return Ok(()) };
        let line = Line::join(self);
        let mut woken = false;
        loop {
            let mut room = pin!(line.room.notified());
            room.as_mut().enable();
            // Before one's turn, only to be told of a refusal.
            match self.push(envelope, terms, |mailbox| woken && self.has_room(mailbox))? {
                Sent::Full(full) => envelope = full,
                Sent::Queued | Sent::Handled => return Ok(()),
            }
            room.await;
            woken = true;
        }
    }

    /// Puts an instance back that a caller has borrowed, or has a task see to
    /// what has come up meanwhile.
    pub(crate) fn put_back(self: &Arc<Self>, instance: Box<Instance<S>>) {
        let now = self.kind.core().sweeper().now();
        let mut mailbox = self.lock();
        // The flag counts under the lock only: a shutdown that came after it was
        // looked at finds the instance at rest.
        if mailbox.is_quiet() && !self.kind.is_stopping() {
            let deadline = instance.deadline(now);
            mailbox.phase = Phase::Idle { instance, since: now };
            let arm = mailbox.arm(deadline);
            drop(mailbox);
            self.arm(arm);
        } else {
            mailbox.phase = Phase::Running;
            drop(mailbox);
            self.run(Some(instance), None);
        }
    }

    /// Has the sweeper come by, if it would come too late.
    pub(crate) fn arm(self: &Arc<Self>, deadline: Option<Moment>) {
        if let Some(deadline) = deadline {
            let target: Weak<Self> = Arc::downgrade(self);
            self.kind.core().sweeper().arm(deadline, target);
        }
    }

    /// Drops the crashes that count no more; when the last of the others will.
    pub(crate) fn forget_old_crashes(
        &self,
        mailbox: &mut Mailbox<S>,
        now: Moment,
    ) -> Option<Moment> {
        let crashes = &mut mailbox.extras_mut()?.crashes;
        let sweeper = self.kind.core().sweeper();
        crashes.forget_old(sweeper.instant(now)?).map(|last| sweeper.moment(last))
    }

    /// Whether an order may join the queue.
    fn admit(&self, order: &Order<S>, mailbox: &Mailbox<S>) -> Result<(), CallError> {
        if self.kind.is_stopping() {
            return Err(self.stopped());
        }
        if let Some(by) = self.kind.name_taken_by() {
            return Err(CallError::NameTaken { server: self.id.clone(), by });
        }
        match mailbox.failed() {
            Some(panic) if !matches!(order, Order::Stop(_)) => Err(self.limit_exceeded(panic)),
            _ => Ok(()),
        }
    }

    /// Has all who wait for room look whether they are refused.
    pub(crate) fn wake_line(&self) {
        let room = self.lock().extras().map(|extras| extras.room.clone());
        if let Some(room) = room {
            room.notify_waiters();
        }
    }

    /// Deferred answers that were sent while the task was at work.
    pub(crate) fn take_posted(&self) -> Vec<Answer> {
        if !self.beckons() {
            return Vec::new();
        }
        let mut mailbox = self.lock();
        self.beckons.store(mailbox.is_killed(), Ordering::Release);
        mailbox.take(|extras| &mut extras.outbox)
    }

    /// See the [field](Self::beckons).
    pub(crate) fn beckons(&self) -> bool {
        self.beckons.load(Ordering::Acquire)
    }

    /// Ends the instance at once: no hook runs, nothing is stored.
    pub(crate) fn kill(self: &Arc<Self>) {
        let mut mailbox = self.lock();
        if mailbox.phase.is_busy() {
            mailbox.extend().killed = true;
            self.beckons.store(true, Ordering::Release);
        }
        let Some(instance) = mailbox.take_idle(Phase::Running) else { return self.rouse(mailbox) };
        drop(mailbox);
        // The next life must not begin before this one is over.
        discard(Some(instance));
        self.forget_kept();
        self.tell(&Event::Killed);
        self.run(None, None);
    }

    /// Has the task look again, if it waits.
    fn rouse(&self, mut mailbox: MutexGuard<'_, Mailbox<S>>) {
        mailbox.wake();
        let parked = mailbox.unpark();
        drop(mailbox);
        if let Some(task) = parked {
            self.kind.spawn(task.run(None));
        }
    }

    /// Whether a submitted commit is over, and its task has not seen it yet.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// A new watcher, who keeps `client`.
    pub(crate) fn watch(&self, client: Box<dyn Any + Send + Sync>) -> EventStream {
        let mut mailbox = self.lock();
        // Under the lock that the end takes to let the watchers go.
        if self.kind.core().is_halted() {
            return Watchers::default().add(client);
        }
        mailbox.extend().watchers.add(client)
    }

    /// Drops the kept values.
    pub(crate) fn forget_kept(&self) {
        let kept = self.lock().take(|extras| &mut extras.kept);
        let _ = caught(|| drop(kept));
    }

    /// Tells all who watch.
    pub(crate) fn tell(&self, event: &Event) {
        self.kind.core().observe(|observer| observer.on_event(&self.id, event));
        if let Some(extras) = self.lock().extras_mut() {
            extras.watchers.tell(event);
        }
    }

    /// Forgets the crashes and the failure.
    pub(crate) fn reset(&self) {
        if let Some(extras) = self.lock().extras_mut() {
            extras.failed = None;
            extras.crashes = Crashes::default();
        }
    }

    /// Has the instance unloaded if it is at rest; if not, its task looks.
    pub(crate) fn unload(self: &Arc<Self>, reason: StopReason) {
        let mut mailbox = self.lock();
        let instance = mailbox.take_idle(Phase::Running);
        self.rouse(mailbox);
        self.wake_line();
        if instance.is_some() {
            self.run(instance, Some(reason));
        }
    }

    /// Drops everything at once: the runtime is gone.
    pub(crate) fn halt(self: &Arc<Self>) {
        self.wake_line();
        self.kill();
        let mut mailbox = self.lock();
        let queue = mem::take(&mut mailbox.queue);
        let watchers = mailbox.take(|extras| &mut extras.watchers);
        let moved = mailbox.take(|extras| &mut extras.moved);
        drop(mailbox);
        drop((queue, watchers, moved));
        self.forget_kept();
    }

    /// Never under the lock: a task that can't be spawned is dropped here, and
    /// takes the lock to say so.
    fn run(self: &Arc<Self>, instance: Option<Box<Instance<S>>>, unload: Option<StopReason>) {
        self.kind.spawn(Task::new(self.clone(), instance).run(unload.map(Step::Unload)));
    }

    pub(crate) fn stopped(&self) -> CallError {
        CallError::RuntimeStopped { server: self.id.clone() }
    }

    pub(crate) fn limit_exceeded(&self, panic: &str) -> CallError {
        CallError::RestartLimit { server: self.id.clone(), panic: panic.to_owned() }
    }
}

impl<S: Server> Sweep for Cell<S> {
    fn sweep(self: Arc<Self>, now: Moment) -> Option<Moment> {
        let mut mailbox = self.lock();
        if !mailbox.disarm(now) {
            return None;
        }
        let crashes = self.forget_old_crashes(&mut mailbox, now);
        let mut kept = Kept::default();
        let (deadline, unload) = match &mailbox.phase {
            // Who has it arms the sweeper again when it comes to rest.
            Phase::Running | Phase::Borrowed | Phase::Parked(_) => return None,
            Phase::Absent => {
                let until = mailbox.extras_mut().and_then(|extras| {
                    if extras.kept_until.take_if(|until| *until <= now).is_some() {
                        kept = mem::take(&mut extras.kept);
                    }
                    extras.kept_until
                });
                (earliest(crashes, until), None)
            }
            Phase::Idle { instance, since } => {
                let idle = instance.idle_deadline(*since);
                let unload = idle.filter(|idle| *idle <= now).map(|_| StopReason::Idle);
                (instance.deadline(*since), unload)
            }
        };
        if deadline.is_some_and(|deadline| deadline > now) {
            let rearmed = mailbox.arm(deadline);
            drop(mailbox);
            let _ = caught(|| drop(kept));
            return rearmed;
        }
        let instance = mailbox.take_idle(Phase::Running);
        drop(mailbox);
        let _ = caught(|| drop(kept));
        if instance.is_some() {
            // To be unloaded, or else to save what is due.
            self.run(instance, unload);
        } else {
            self.kind.release(&self.id);
        }
        None
    }
}

/// A place among those who wait for room. Leaving it, for whatever reason, gives
/// the next one a turn.
struct Line<'a, S: Server> {
    cell: &'a Cell<S>,
    room: Arc<Notify>,
}

impl<'a, S: Server> Line<'a, S> {
    /// Who joins when there is room has somebody woken, perhaps itself: the task
    /// that made the room may have seen nobody in line.
    fn join(cell: &'a Cell<S>) -> Self {
        let mut mailbox = cell.lock();
        let extras = mailbox.extend();
        extras.waiting += 1;
        let room = extras.room.clone();
        let has_room = cell.has_room(&mailbox);
        drop(mailbox);
        if has_room {
            room.notify_one();
        }
        Self { cell, room }
    }
}

impl<S: Server> Drop for Line<'_, S> {
    fn drop(&mut self) {
        let mut mailbox = self.cell.lock();
        let extras = mailbox.extend();
        extras.waiting -= 1;
        let others = extras.waiting > 0;
        drop(mailbox);
        if others {
            self.room.notify_one();
        }
    }
}

/// The earlier of two deadlines, if there are any.
pub(crate) fn earliest(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    one.into_iter().chain(other).min()
}

impl<S: Server> Outbox for Cell<S> {
    fn post(&self, answer: Answer) {
        let mut mailbox = self.lock();
        if mailbox.phase.is_busy() {
            mailbox.extend().outbox.push(answer);
            self.beckons.store(true, Ordering::Release);
            self.rouse(mailbox);
        } else {
            // At rest every commit is settled.
            drop(mailbox);
            answer.release();
        }
    }
}

impl<S: Server> CommitHost for Cell<S> {
    /// Goes on here where a parked task waits for this alone: the storage's thread
    /// lets the answers go and puts the server to rest.
    fn committed(self: Arc<Self>, _sequence: u64, outcome: Result<(), StorageError>) {
        let mut mailbox = self.lock();
        if let Some(extras) = mailbox.extras_mut()
            && let Some(others) = extras.strays.checked_sub(1)
        {
            extras.strays = others;
            return;
        }
        let waits = matches!(&mailbox.phase, Phase::Parked(task) if task.waits_only());
        if outcome.is_ok()
            && waits
            && let Some(task) = mailbox.unpark()
        {
            drop(mailbox);
            return task.go_on_after_commit();
        }
        if let Err(error) = outcome {
            mailbox.extend().refusal = Some(error);
        }
        self.settled.store(true, Ordering::Release);
        self.rouse(mailbox);
    }

    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.kind.spawn(work);
    }
}

impl<S: Server> Desk for Cell<S> {
    fn server(&self) -> &ServerId {
        &self.id
    }

    fn storage(&self) -> &Arc<dyn Storage> {
        self.kind.core().storage()
    }

    fn abandon_commit(&self) {
        let mut mailbox = self.lock();
        if self.settled.swap(false, Ordering::AcqRel) {
            mailbox.take(|extras| &mut extras.refusal);
        } else {
            mailbox.extend().strays += 1;
        }
    }

    fn poll_commit(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), StorageError>> {
        let mut mailbox = self.lock();
        if !self.is_settled() {
            mailbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.settled.store(false, Ordering::Release);
        Poll::Ready(match mailbox.take(|extras| &mut extras.refusal) {
            None => Ok(()),
            Some(error) => Err(error),
        })
    }
}

/// Drops an instance that no hook sees out; a panic in its own `Drop` ends here.
pub(crate) fn discard<S: Server>(instance: Option<Box<Instance<S>>>) {
    let _ = caught(|| drop(instance));
}
