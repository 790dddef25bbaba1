//! A cell: one address in memory.
//!
//! A cell stays in the registry while a client of it exists, while its server is in memory, and
//! while it has something to remember: crashes, resources, or where its server was transferred.
//! A message that meets an unloading server is not lost: it queues in the same
//! cell, and the cell's task activates the server again. A cell leaves the registry under the
//! registry's lock, when nobody can send to it any more.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{self, Poll},
};

use crate::{
    call::{
        output_gate::GateHost,
        reply::{DeferredReplies, ReplySender, Waiting},
    },
    config::settings::Settings,
    engine::{
        command::{Command, Envelope},
        followers::{EncodedChange, Follower, Followers},
        instance::{Instance, earliest},
        mailbox::{Failed, Lend, Mailbox},
        registry::Registry,
        resources::Resources,
        task::{Step, Task},
    },
    error::CallError,
    id::ServerId,
    observe::event::{Event, EventStream, Watchers},
    stop_reason::StopReason,
    storage::{CommitHost, Storage, StorageError},
    support::{
        catch::{drop_catching, wake},
        expiry::{CompactInstant, Expire},
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
            time::Instant,
        },
    },
};

/// One address: its mailbox and, while it is in memory, its server.
///
/// The fields that a busy task reads between two messages come first, a cache line away from the
/// mailbox, which senders write to.
#[repr(C)]
pub(crate) struct Cell {
    /// True if the task should look into the mailbox before its next message: a reply was posted,
    /// or the server is killed.
    has_signal: AtomicBool,
    /// True while a caller has borrowed the instance: other callers spin on this instead of taking
    /// the mailbox's lock from it.
    is_borrowed: AtomicBool,
    /// True if the server may have followers.
    is_followed: AtomicBool,
    /// Twice the sequence number of the last commit, plus one while its outcome is known and its
    /// task has not seen it.
    commit: AtomicU64,
    registry: Arc<Registry>,
    /// The number of clients. It leaves 0 only under the registry's lock.
    references: AtomicUsize,
    id: ServerId,
    mailbox: Mutex<Mailbox>,
}

const _: () = assert!(std::mem::offset_of!(Cell, mailbox) >= 64, "a cache line apart");

impl Cell {
    pub(crate) fn new(registry: Arc<Registry>, id: ServerId) -> Self {
        Self {
            has_signal: AtomicBool::new(false),
            is_borrowed: AtomicBool::new(false),
            is_followed: AtomicBool::new(false),
            commit: AtomicU64::new(0),
            registry,
            references: AtomicUsize::new(0),
            id,
            mailbox: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> &ServerId {
        &self.id
    }

    pub(crate) fn key(&self) -> &Arc<str> {
        self.id.shared_key()
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Returns the settings of servers for which no client has set options.
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        self.registry.settings()
    }

    /// See the [lock rules](super::mailbox).
    pub(crate) fn lock(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock()
    }

    /// Returns true if the registry can drop this cell. The registry calls this under its lock, so
    /// that no client can appear meanwhile.
    pub(crate) fn is_vacant(&self) -> bool {
        self.references.load(Ordering::Acquire) == 0 && self.lock().is_vacant()
    }

    /// Borrows the instance for one message, if it is idle and `is_free` returns true for it.
    pub(crate) fn lend(&self, is_free: impl FnOnce(&Instance) -> bool) -> Lend {
        let lend = self.lock().lend(is_free);
        if let Lend::Lent(_) = lend {
            self.is_borrowed.store(true, Ordering::Relaxed);
        }
        lend
    }

    /// Returns true while a caller has borrowed the instance. A hint: only [`lend`](Self::lend)
    /// decides.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.is_borrowed.load(Ordering::Relaxed)
    }

    /// Lets a task take over an instance that a caller has borrowed.
    pub(crate) fn end_borrow(&self) {
        self.lock().run();
        self.is_borrowed.store(false, Ordering::Relaxed);
    }

    /// Puts back an instance that a caller has borrowed, or starts a task if something has arrived
    /// meanwhile or a save is due: the expiry queue does not find a server idle that is borrowed
    /// again and again.
    pub(crate) fn put_back(self: &Arc<Self>, instance: Box<Instance>) {
        let now = self.registry.services().expiry().now();
        let mut mailbox = self.lock();
        // The stopping flag is read under the lock: a shutdown that sets it later finds the
        // instance idle.
        if mailbox.nothing_arrived()
            && !self.registry.is_stopping()
            && !instance.parts.is_save_due(|| now)
        {
            let deadline = mailbox.put_back(instance, now);
            drop(mailbox);
            self.is_borrowed.store(false, Ordering::Relaxed);
            self.schedule(deadline);
        } else {
            mailbox.run();
            drop(mailbox);
            self.is_borrowed.store(false, Ordering::Relaxed);
            self.start_task(Some(instance), None);
        }
    }

    /// Schedules a deadline in the expiry queue.
    pub(crate) fn schedule(self: &Arc<Self>, deadline: Option<CompactInstant>) {
        if let Some(deadline) = deadline {
            let target: Weak<Self> = Arc::downgrade(self);
            self.registry.services().expiry().schedule(deadline, target);
        }
    }

    /// Activates a permanent server whose failure is over.
    fn recover(self: &Arc<Self>, failed: Option<Failed>) {
        if failed.is_some_and(|failed| failed.is_permanent) {
            self.send_past(Envelope::command(Command::Start, None));
        }
    }

    /// Drops the crashes outside the window. Returns when the newest remaining one expires.
    pub(crate) fn forget_old_crashes(
        &self,
        mailbox: &mut Mailbox,
        now: CompactInstant,
    ) -> Option<CompactInstant> {
        if !mailbox.has_crashes() {
            return None;
        }
        let expiry = self.registry.services().expiry();
        let now = expiry.expand(now)?;
        mailbox.crashes_mut().forget_old(now).map(|last| expiry.compact(last))
    }

    /// Wakes all senders that wait for capacity, so that they see a refusal.
    pub(crate) fn wake_senders(&self) {
        let senders = self.lock().take_senders();
        for sender in senders {
            wake(Some(sender));
        }
    }

    /// Returns the deferred replies that were sent while the task was at work.
    pub(crate) fn take_posted(&self) -> Vec<ReplySender> {
        if !self.has_signal() {
            return Vec::new();
        }
        let mut mailbox = self.lock();
        self.has_signal.store(mailbox.is_killed(), Ordering::Release);
        mailbox.take_posted()
    }

    /// Returns true if the task should look into the mailbox before its next message.
    pub(crate) fn has_signal(&self) -> bool {
        self.has_signal.load(Ordering::Acquire)
    }

    /// Returns true once if the server was killed.
    pub(crate) fn take_killed(&self) -> bool {
        self.has_signal() && self.lock().take_killed()
    }

    /// Ends the instance at once: no hook runs, nothing is stored.
    pub(crate) fn kill(self: &Arc<Self>) {
        self.kill_locked(self.lock());
    }

    fn kill_locked(self: &Arc<Self>, mut mailbox: MutexGuard<'_, Mailbox>) {
        if mailbox.is_busy() {
            mailbox.set_killed();
            self.has_signal.store(true, Ordering::Release);
        }
        let Some(instance) = mailbox.take_idle() else { return self.wake_task(mailbox) };
        drop(mailbox);
        // The next life must not begin before this one is over.
        discard(Some(instance));
        self.drop_resources();
        self.notify(&Event::Killed);
        self.start_task(None, None);
    }

    /// Wakes the task, if it waits or is parked.
    fn wake_task(&self, mut mailbox: MutexGuard<'_, Mailbox>) {
        let waker = mailbox.take_waker();
        let parked = mailbox.unpark();
        drop(mailbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(task) = parked {
            self.registry.spawn(task.run(None));
        }
    }

    /// Returns true if commit `sequence` is over and its task has not seen it yet.
    pub(crate) fn is_commit_finished(&self, sequence: u64) -> bool {
        self.commit.load(Ordering::Acquire) == 2 * sequence + 1
    }

    /// Drops the resources.
    pub(crate) fn drop_resources(&self) {
        let resources = self.lock().take_resources();
        drop(resources);
    }

    /// Notifies observers and watchers.
    pub(crate) fn notify(&self, event: &Event) {
        self.registry.services().observe(|observer| observer.on_event(&self.id, event));
        let woken = self.lock().watchers().map(|watchers| watchers.send(event));
        for watcher in woken.into_iter().flatten() {
            wake(Some(watcher));
        }
    }

    /// Returns true if the server may have followers.
    pub(crate) fn is_followed(&self) -> bool {
        self.is_followed.load(Ordering::Relaxed)
    }

    /// Adds a follower. It receives nothing before it has begun.
    pub(crate) fn add_follower(&self, follower: Follower) {
        let mut mailbox = self.lock();
        // Under the lock: `halt` takes it to drop the followers.
        if !self.registry.services().is_halted() {
            mailbox.followers_mut().add(follower);
            self.is_followed.store(true, Ordering::Relaxed);
        }
    }

    /// Sends a change to all followers.
    pub(crate) fn notify_followers(&self, change: &EncodedChange) {
        self.with_followers(|followers| followers.send(change));
    }

    /// Calls `work` with the followers, outside of the lock: sending wakes their tasks. Called by
    /// the server's task only.
    pub(crate) fn with_followers(&self, work: impl FnOnce(&mut Followers)) {
        let mut followers = self.lock().take_followers();
        work(&mut followers);
        let mut mailbox = self.lock();
        followers.append(mailbox.take_followers());
        self.is_followed.store(!followers.is_empty(), Ordering::Relaxed);
        if self.registry.services().is_halted() {
            drop(mailbox);
            return drop(followers);
        }
        *mailbox.followers_mut() = followers;
    }

    /// Ends the streams of all followers: the server has moved away.
    pub(crate) fn drop_followers(&self) {
        let followers = self.lock().take_followers();
        drop(followers);
    }

    /// Unloads the server if it is idle. If it is busy, wakes its task.
    pub(crate) fn unload(self: &Arc<Self>, reason: StopReason) {
        let mut mailbox = self.lock();
        let instance = mailbox.take_idle();
        self.wake_task(mailbox);
        self.wake_senders();
        if instance.is_some() {
            self.start_task(instance, Some(reason));
        }
    }

    /// Drops everything at once: the runtime is gone.
    pub(crate) fn halt(self: &Arc<Self>) {
        self.wake_senders();
        self.kill();
        let removed = self.lock().halt();
        drop(removed);
        self.drop_resources();
    }

    /// Starts a task. Never under the lock: a task that cannot be spawned is dropped here, which
    /// takes the lock.
    fn start_task(self: &Arc<Self>, instance: Option<Box<Instance>>, unload: Option<StopReason>) {
        self.registry.spawn(Task::new(self.clone(), instance).run(unload.map(Step::Unload)));
    }

    pub(crate) fn runtime_stopped(&self) -> CallError {
        CallError::RuntimeStopped { server: self.id.clone() }
    }

    pub(crate) fn limit_exceeded(&self, failed: &Failed) -> CallError {
        let expiry = self.registry.services().expiry();
        let until = failed.until.and_then(|until| expiry.expand(until));
        let retry_in = until.map(|until| until.duration_since(Instant::now()));
        CallError::RestartLimit { server: self.id.clone(), panic: (*failed.panic).into(), retry_in }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if self.mailbox.get_mut().is_armed() {
            self.registry.services().expiry().note_dropped();
        }
    }
}

impl Expire for Cell {
    fn expire(self: Arc<Self>, now: CompactInstant) -> Option<CompactInstant> {
        let mut mailbox = self.lock();
        if !mailbox.disarm(now) {
            return None;
        }
        let crashes = self.forget_old_crashes(&mut mailbox, now);
        let (failed, failure) = mailbox.expire_failure(now);
        // A task or caller that has the instance arms the deadline again when it puts it back.
        if mailbox.is_busy() {
            drop(mailbox);
            self.recover(failed);
            return None;
        }
        let (mut resources, mut unload) = (Resources::default(), None);
        let deadline = match mailbox.idle_deadline(now) {
            Some((deadline, is_over)) => {
                unload = is_over.then_some(StopReason::Idle);
                deadline
            }
            None => {
                let (expired, until) = mailbox.expire_resources(now);
                resources = expired;
                earliest(earliest(crashes, until), failure)
            }
        };
        if deadline.is_some_and(|deadline| deadline > now) {
            let rearmed = mailbox.arm(deadline);
            drop(mailbox);
            drop(resources);
            self.recover(failed);
            return rearmed;
        }
        let instance = mailbox.take_idle();
        drop(mailbox);
        drop(resources);
        self.recover(failed);
        if instance.is_some() {
            // To be unloaded, or else to save what is due.
            self.start_task(instance, unload);
        } else {
            self.registry.release(&self.id);
        }
        None
    }
}

impl DeferredReplies for Cell {
    fn defer(&self, caller: Waiting) {
        self.lock().defer(caller);
    }

    fn post(&self, reply: ReplySender) {
        let mut mailbox = self.lock();
        if mailbox.is_busy() {
            mailbox.post(reply);
            self.has_signal.store(true, Ordering::Release);
            self.wake_task(mailbox);
        } else {
            // Of an idle server every commit is settled.
            drop(mailbox);
            reply.release();
        }
    }
}

impl CommitHost for Cell {
    /// Notes the outcome of a commit. If a parked task waits only for this, it resumes here: the
    /// storage's thread releases the replies and makes the server idle.
    fn committed(self: Arc<Self>, sequence: u64, outcome: Result<(), StorageError>) {
        let mut mailbox = self.lock();
        if self.commit.load(Ordering::Acquire) != 2 * sequence {
            // Its task is gone, and with it everyone who waited.
            return;
        }
        match outcome {
            Ok(()) => {
                if let Some(task) = mailbox.unpark_committed() {
                    drop(mailbox);
                    return task.resume_after_commit();
                }
            }
            Err(error) => mailbox.set_commit_error(sequence, error),
        }
        // It fails if the task was abandoned, and the next one began a commit since the load above.
        let (from, to) = (2 * sequence, 2 * sequence + 1);
        let _ = self.commit.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed);
        self.wake_task(mailbox);
    }

    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.registry.services().spawn_commit(work);
    }
}

impl GateHost for Cell {
    fn server(&self) -> &ServerId {
        &self.id
    }

    fn storage(&self) -> &Arc<dyn Storage> {
        self.registry.services().storage()
    }

    fn begin_commit(&self) -> u64 {
        let sequence = self.commit.load(Ordering::Acquire) / 2 + 1;
        self.commit.store(2 * sequence, Ordering::Release);
        sequence
    }

    fn poll_commit(&self, sequence: u64, cx: &task::Context<'_>) -> Poll<Result<(), StorageError>> {
        if !self.is_commit_finished(sequence) {
            let mut mailbox = self.lock();
            if !self.is_commit_finished(sequence) {
                let removed = mailbox.set_waker(cx.waker());
                drop(mailbox);
                drop(removed);
                return Poll::Pending;
            }
        }
        self.commit.store(2 * sequence, Ordering::Release);
        Poll::Ready(match self.lock().take_commit_error(sequence) {
            None => Ok(()),
            Some(error) => Err(error),
        })
    }
}

/// Drops an instance without running its `terminate` hook. A panic of the state's own `Drop` ends
/// here.
pub(crate) fn discard(instance: Option<Box<Instance>>) {
    drop_catching(instance);
}

/// A counted reference to a cell: the cell stays in its registry while there is one.
pub(crate) struct CellRef(Arc<Cell>);

impl CellRef {
    /// Creates the first reference. The caller holds the registry's lock.
    pub(crate) fn new(cell: Arc<Cell>) -> Self {
        cell.references.fetch_add(1, Ordering::Relaxed);
        Self(cell)
    }

    /// Calls `act` with the cell where the server is now, locked. Messages to a server that was
    /// transferred are forwarded there, too.
    fn at_server<T>(&self, act: impl FnOnce(&Arc<Cell>, MutexGuard<'_, Mailbox>) -> T) -> T {
        let mut cell = self.clone();
        loop {
            let mailbox = cell.lock();
            let Some(next) = mailbox.moved().cloned() else { return act(&cell, mailbox) };
            drop(mailbox);
            cell = next;
        }
    }

    /// Kills the server, wherever it was transferred.
    pub(crate) fn kill_server(&self) {
        self.at_server(Cell::kill_locked);
    }

    /// Forgets the crashes of the server, wherever it was transferred.
    pub(crate) fn reset_server(&self) {
        self.at_server(|cell, mut mailbox| {
            mailbox.reset();
            drop(mailbox);
            cell.registry.agenda().unpark(cell.key());
        });
    }

    /// Adds a watcher of the server, wherever it is transferred.
    pub(crate) fn watch_server(&self) -> EventStream {
        let client = Box::new(self.clone());
        self.at_server(|cell, mut mailbox| {
            // Under the lock: `halt` takes it to drop the watchers.
            if cell.registry.services().is_halted() {
                drop(mailbox);
                return Watchers::default().add(client);
            }
            mailbox.watchers_mut().add(client)
        })
    }
}

impl std::ops::Deref for CellRef {
    type Target = Arc<Cell>;

    fn deref(&self) -> &Arc<Cell> {
        &self.0
    }
}

impl Clone for CellRef {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for CellRef {
    fn drop(&mut self) {
        if self.0.references.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.registry.release(&self.0.id);
        }
    }
}
