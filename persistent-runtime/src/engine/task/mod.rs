//! The task of one server: activation, messages, commits, crashes, stops.
//!
//! A server that is idle has no task. A cell has at most one: it begins when the cell's phase
//! becomes Running and ends when the phase becomes Idle or Absent; see the
//! [mailbox](super::mailbox).
//!
//! | file | part |
//! | --- | --- |
//! | `mod.rs` | the run loop: what is next |
//! | `handle.rs` | from a message to its outcome |
//! | `activate.rs` | loading and creating the instance |
//! | `save.rs` | from a changed state to the next commit |
//! | `crash.rs` | restart policy and backoff |
//! | `stop.rs` | orderly ends |
//! | `idle.rs` | where the task leaves its server: idle, or parked with it |
//! | `transfer.rs` | moving the server to another runtime |

use std::{
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll},
    thread,
};

use crate::{
    call::{
        output_gate::{Fallback, OutputGate},
        reply::ReplySender,
    },
    codec::DecodeError,
    config::settings::Settings,
    engine::{
        cell::{Cell, CellRef, discard},
        command::{CallOptions, Command, Content, Envelope},
        erased::{AnyMessage, MessageQueue},
        instance::Instance,
        mailbox::{self, Failed, WakeLater},
        send::Outgoing,
    },
    error::{CallError, Outcome},
    id::ServerId,
    stop_reason::StopReason,
    storage::StorageError,
    support::{
        catch::{drop_pinned, poll_catching},
        expiry::CompactInstant,
        spin::{BURST, CAST_YIELDS},
        sync::task::yield_now,
    },
};

mod activate;
mod crash;
mod idle;
mod messages;
mod save;
mod stop;
mod transfer;

pub(crate) use messages::Executed;
pub(crate) use transfer::{Transfer, TransferOffer};

use messages::{Progress, Remainder};

/// The task of one server.
pub(crate) struct Task {
    cell: Arc<Cell>,
    instance: Option<Box<Instance>>,
    gate: OutputGate,
    /// The acknowledged state to go back to, after a commit over it has failed.
    fallback: Option<Box<Fallback>>,
    /// The call options to activate a fallback with.
    fallback_options: Option<Box<CallOptions>>,
    /// The settings of an activation with options of its own.
    settings: Option<Arc<Settings>>,
    /// Messages taken from the mailbox and not handled yet.
    inbox: Option<Box<dyn MessageQueue>>,
    /// The call options of the message that was taken last.
    options: Option<Arc<CallOptions>>,
    /// True if messages may have to be refused or forwarded. Set before the task starts or by this
    /// task; never while an instance is loaded.
    may_be_blocked: bool,
    /// The number of yields before the task looks for more messages.
    yields_left: u32,
    /// True if the task has to yield before its next message.
    yields_before_next: bool,
    /// When the task was parked, if there was no message since.
    parked_since: Option<CompactInstant>,
    /// The number of messages and steps before the task yields.
    budget: u32,
    /// True once the phase is Idle or Absent again.
    is_finished: bool,
}

/// The number of messages that a task handles before other tasks of its thread run: as many as one
/// poll takes from a channel of tokio.
pub(crate) const MESSAGES_PER_POLL: u32 = 128;

/// The next step of a task.
pub(crate) enum Step {
    /// Handle the front of the inbox.
    HandleFront,
    /// Finish a message that has run.
    Proceed(Remainder),
    /// Refuse a message: the restart limit is exceeded.
    Refuse(Envelope, Failed),
    /// Forward a message: the server was transferred.
    Forward(Envelope, CellRef),
    /// Handle a continuation.
    HandleContinuation(AnyMessage),
    Save,
    /// Activate the server with the fallback of a failed commit.
    Recover,
    Killed,
    /// Save what can be saved, and end: the deadline of the shutdown has passed.
    Cut,
    Unload(StopReason),
    /// Yield before the next message.
    Yield,
    /// Yield before looking for more messages.
    YieldAfterBurst,
    /// Leave tokio until the commit in flight is over.
    Park,
    Finished,
}

/// The result of user code or of the storage.
pub(crate) enum HookResult<T> {
    Done(T),
    Panicked(String),
    Killed,
}

impl From<Result<(), String>> for HookResult<()> {
    fn from(outcome: Result<(), String>) -> Self {
        match outcome {
            Ok(()) => Self::Done(()),
            Err(panic) => Self::Panicked(panic),
        }
    }
}

/// Why a message failed.
pub(crate) enum Failure {
    Error(CallError),
    /// Counts as a crash.
    Panic {
        text: String,
        /// True if no message had succeeded before it in this activation.
        is_poison: bool,
    },
}

impl Task {
    pub(crate) fn new(cell: Arc<Cell>, instance: Option<Box<Instance>>) -> Box<Self> {
        Box::new(Self {
            gate: OutputGate::new(cell.clone()),
            settings: instance.as_ref().and_then(|instance| instance.parts.own_settings()),
            fallback: None,
            fallback_options: None,
            inbox: None,
            options: None,
            may_be_blocked: false,
            yields_left: 0,
            yields_before_next: false,
            parked_since: None,
            budget: MESSAGES_PER_POLL,
            is_finished: false,
            instance,
            cell,
        })
    }

    /// Prepares the task for a message with these options.
    pub(crate) fn begin(&mut self, refuses_or_forwards: bool, options: Arc<CallOptions>) {
        self.may_be_blocked |= refuses_or_forwards;
        self.options = Some(options);
        self.parked_since = None;
    }

    /// Adds a message to the inbox, which is empty.
    pub(crate) fn push(&mut self, outgoing: Outgoing<'_>, reply: Option<ReplySender>) {
        let of = self.cell.registry().server_type();
        let inbox = self.inbox.get_or_insert_with(|| of.queue());
        match outgoing {
            Outgoing::Message(slot, _) => inbox.push_message(slot, reply, None),
            Outgoing::Envelope(envelope) => {
                if let Some(envelope) = envelope.take() {
                    inbox.push(envelope);
                }
            }
        }
    }

    pub(crate) fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    pub(crate) fn has_instance(&self) -> bool {
        self.instance.is_some()
    }

    /// Lets the task yield once before its next message, so that it moves to a thread of tokio.
    pub(crate) fn yield_before_next(&mut self) {
        self.yields_before_next = true;
    }

    /// Runs until the server is idle, or the task is parked. A task is allocated per burst of
    /// messages, so the steps that few tasks need are boxed.
    pub(crate) async fn run(mut self: Box<Self>, first: Option<Step>) {
        let mut first = first;
        loop {
            let step = match first.take() {
                Some(Step::HandleFront) => self.route(),
                Some(step) => step,
                None => poll_fn(|cx| self.poll_next(cx)).await,
            };
            match step {
                Step::HandleFront => match self.handle_ready() {
                    Progress::Done => {}
                    Progress::Wait => Box::pin(self.handle_front()).await,
                    Progress::Left(left) => {
                        Box::pin(self.proceed(left)).await;
                    }
                },
                Step::Proceed(left) => {
                    Box::pin(self.proceed(left)).await;
                }
                Step::Refuse(envelope, failed) => {
                    let refusal = self.cell.limit_exceeded(&failed);
                    self.gate.release_after_commit(envelope.reply, Err(refusal));
                }
                Step::Forward(envelope, target) => {
                    Box::pin(self.forward(envelope, target)).await;
                }
                Step::HandleContinuation(message) => {
                    Box::pin(self.handle_continuation(message)).await;
                }
                Step::Save => Box::pin(self.save_late()).await,
                Step::Recover => Box::pin(self.recover()).await,
                Step::Killed => self.finish_kill(),
                Step::Cut => Box::pin(self.cut()).await,
                Step::Unload(reason) => Box::pin(self.unload(reason)).await,
                Step::Yield => {
                    self.yields_before_next = false;
                    yield_now().await;
                }
                Step::YieldAfterBurst => {
                    for _ in 0..mem::take(&mut self.yields_left) {
                        yield_now().await;
                    }
                }
                Step::Park => match self.park() {
                    Some(task) => self = task,
                    None => return,
                },
                Step::Finished => return,
            }
            self.pace().await;
        }
    }

    /// Counts a step. Yields after [`MESSAGES_PER_POLL`] messages and steps: a busy server must not
    /// keep a thread to itself. Tokio's own budget counts in tokio's tasks only, not in the poll of
    /// a caller that is outside of tokio or unconstrained.
    async fn pace(&mut self) {
        if self.spend_budget() {
            yield_now().await;
        }
    }

    /// Counts a step. Returns true if the task has to yield.
    fn spend_budget(&mut self) -> bool {
        self.budget = self.budget.saturating_sub(1);
        let is_spent = self.budget == 0;
        if is_spent {
            self.budget = MESSAGES_PER_POLL;
        }
        is_spent
    }

    /// Decides what is next. The order of the checks is the protocol:
    ///
    /// 1. finished commits; a failed commit drops the instance;
    /// 2. the end of the runtime, and a kill;
    /// 3. the fallback of a failed commit;
    /// 4. deferred replies;
    /// 5. a due save, then continuations, then messages, unless too many replies wait for commits;
    /// 6. yields;
    /// 7. the mailbox, under its lock: more messages, or parking, waiting, unloading, finishing.
    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Step> {
        loop {
            let is_settled = self.gate.poll(cx).is_ready();
            if self.take_failure().is_some() {
                discard(self.instance.take());
            }
            if self.cell.registry().services().is_halted() {
                self.inbox = None;
                self.fallback = None;
                discard(self.instance.take());
            }
            if self.cell.take_killed() {
                return Poll::Ready(Step::Killed);
            }
            if self.cell.registry().services().is_overdue() {
                self.inbox = None;
                if self.instance.is_some() || self.fallback.is_some() {
                    return Poll::Ready(Step::Cut);
                }
            }
            if self.fallback.is_some() {
                return Poll::Ready(Step::Recover);
            }
            for reply in self.cell.take_posted() {
                self.gate.release_after_commit(Some(reply), Ok(()));
            }
            let has_room = self.gate.waiters() < self.cell.settings().mailbox;
            if has_room && let Some(instance) = &self.instance {
                if instance.parts.is_save_due(|| self.now()) {
                    return Poll::Ready(Step::Save);
                }
                if let Some(message) = instance.server.context().effects.next_continuation() {
                    return Poll::Ready(Step::HandleContinuation(message));
                }
            }
            if self.has_messages() {
                if self.yields_before_next {
                    return Poll::Ready(Step::Yield);
                }
                if has_room {
                    return Poll::Ready(self.route());
                }
            }
            if self.yields_left > 0 {
                return Poll::Ready(Step::YieldAfterBurst);
            }
            let cell = self.cell.clone();
            let mut sender = WakeLater(None);
            let mut mailbox = cell.lock();
            let has_posted = match mailbox.poll(&mut self.inbox, has_room, &mut sender) {
                mailbox::Poll::Killed => return Poll::Ready(Step::Killed),
                mailbox::Poll::Messages => {
                    drop(mailbox);
                    self.yields_left = self.yields_after_burst();
                    continue;
                }
                mailbox::Poll::Empty { has_posted } => has_posted,
            };
            if has_posted {
                drop(mailbox);
                continue;
            }
            if self.only_awaits_commit() {
                return Poll::Ready(Step::Park);
            }
            if !is_settled {
                let removed = mailbox.set_waker(cx.waker());
                drop(mailbox);
                drop(removed);
                return Poll::Pending;
            }
            if self.instance.is_some() && cell.registry().is_stopping() {
                return Poll::Ready(Step::Unload(StopReason::Shutdown));
            }
            let now = self.now();
            self.finish_task(&cell, mailbox, now);
            return Poll::Ready(Step::Finished);
        }
    }

    fn has_messages(&self) -> bool {
        self.inbox.as_ref().is_some_and(|inbox| inbox.len() > 0)
    }

    /// Returns how often to yield behind a burst of casts. Larger bursts mean less contention on
    /// the mailbox's cache lines. Callers, on the other hand, are let in at once: if the server is
    /// idle when they come back, they run inline.
    fn yields_after_burst(&self) -> u32 {
        match &self.inbox {
            Some(inbox) if inbox.len() >= BURST && !inbox.is_back_waited_for() => CAST_YIELDS,
            _ => 0,
        }
    }

    /// Applies the options of the front message.
    fn accept_front(&mut self) {
        self.parked_since = None;
        if let Some(options) = self.inbox.as_mut().and_then(|inbox| inbox.take_front_options()) {
            self.options = Some(options);
        }
    }

    /// Takes the front message.
    fn pop(&mut self) -> Option<Envelope> {
        self.accept_front();
        self.inbox.as_mut()?.pop()
    }

    /// Decides what happens to the front message.
    fn route(&mut self) -> Step {
        if self.may_be_blocked {
            let (moved, failed) = {
                let mailbox = self.cell.lock();
                (mailbox.moved().cloned(), mailbox.failed().cloned())
            };
            self.may_be_blocked = moved.is_some() || failed.is_some();
            if (moved.is_some() || failed.is_some())
                && let Some(envelope) = self.pop()
            {
                match (moved, failed, &envelope.content) {
                    (Some(_), _, Content::Command(Command::Receive(_))) | (None, None, _) => {}
                    (Some(target), ..) => return Step::Forward(envelope, target),
                    (_, Some(_), Content::Command(Command::Stop(_))) => {}
                    (_, Some(failed), _) => return Step::Refuse(envelope, failed),
                }
                self.put_front(envelope);
            }
        }
        Step::HandleFront
    }

    /// Puts back a message that was taken last.
    fn put_front(&mut self, envelope: Envelope) {
        let of = self.cell.registry().server_type();
        let mut inbox = of.queue();
        inbox.push(envelope);
        if let Some(rest) = &mut self.inbox {
            inbox.append(&mut **rest);
        }
        self.inbox = Some(inbox);
    }

    /// Runs `work`. Commits and their replies go on meanwhile.
    async fn drive<F: Future>(&mut self, work: F) -> HookResult<F::Output> {
        let Self { gate, cell, .. } = self;
        drive(gate, cell, work).await
    }

    fn id(&self) -> ServerId {
        self.cell.id().clone()
    }

    fn now(&self) -> CompactInstant {
        self.cell.registry().services().expiry().now()
    }

    /// Returns the settings of the current or the last activation.
    fn settings(&self) -> &Arc<Settings> {
        self.settings.as_ref().unwrap_or(self.cell.settings())
    }

    /// Returns what the caller of a failed message gets.
    fn error(&self, failure: &Failure) -> CallError {
        match failure {
            Failure::Error(error) => error.clone(),
            Failure::Panic { text, is_poison } => {
                CallError::Crashed { server: self.id(), panic: text.clone(), poison: *is_poison }
            }
        }
    }

    fn commit_failure(&self, source: StorageError) -> Failure {
        Failure::Error(CallError::Storage { server: self.id(), source, outcome: Outcome::Unknown })
    }

    /// Returns the failure of a message whose own change is kept, because it cannot be undone
    /// without changes that were acknowledged before.
    fn unknown(&self, failure: &Failure) -> Failure {
        self.commit_failure(StorageError::other(self.reason(failure)))
    }

    /// Returns the failure of a message that was not handled because the storage failed.
    fn not_run(&self, source: StorageError) -> Failure {
        Failure::Error(CallError::Storage { server: self.id(), source, outcome: Outcome::NotRun })
    }

    fn decode_failure(&self, version: u32, source: DecodeError) -> Failure {
        let source = source.into();
        Failure::Error(CallError::Decode { server: self.id(), version, source })
    }
}

/// Runs `work`, which may borrow the instance. Commits and their replies go on meanwhile.
async fn drive<F: Future>(gate: &mut OutputGate, cell: &Cell, work: F) -> HookResult<F::Output> {
    let mut work = pin!(Some(work));
    let result = drive_until(gate, cell, work.as_mut(), |_| Poll::Pending).await;
    drop_pinned(work);
    result.unwrap_or(HookResult::Killed)
}

/// The same, until `is_due` is ready and every commit has succeeded. Returns `None` then. Leaves
/// `work` where it is.
async fn drive_until<F: Future>(
    gate: &mut OutputGate,
    cell: &Cell,
    mut work: Pin<&mut Option<F>>,
    mut is_due: impl FnMut(&mut task::Context<'_>) -> Poll<()>,
) -> Option<HookResult<F::Output>> {
    poll_fn(|cx| {
        let is_settled = gate.poll(cx).is_ready() && !gate.has_failed();
        let services = cell.registry().services();
        let Some(running) = work.as_mut().as_pin_mut() else { return Poll::Pending };
        let poll = services.poll_handler(|| poll_catching(running, cx));
        if let Poll::Ready(done) = poll {
            return Poll::Ready(Some(match done {
                Ok(output) => HookResult::Done(output),
                Err(panic) => HookResult::Panicked(panic),
            }));
        }
        if poll_killed(cell, cx).is_ready() {
            return Poll::Ready(Some(HookResult::Killed));
        }
        if is_settled { is_due(cx).map(|()| None) } else { Poll::Pending }
    })
    .await
}

/// Waits until every commit is finished.
async fn drain(gate: &mut OutputGate, cell: &Cell) -> HookResult<()> {
    poll_fn(|cx| {
        let is_settled = gate.poll(cx).is_ready();
        match poll_killed(cell, cx) {
            Poll::Ready(()) => Poll::Ready(HookResult::Killed),
            Poll::Pending if is_settled => Poll::Ready(HookResult::Done(())),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Ready if the server was killed, or if the deadline of a shutdown has passed. Otherwise registers
/// the task to be woken.
fn poll_killed(cell: &Cell, cx: &task::Context<'_>) -> Poll<()> {
    let mut mailbox = cell.lock();
    if mailbox.take_killed() || cell.registry().services().is_overdue() {
        return Poll::Ready(());
    }
    let removed = mailbox.set_waker(cx.waker());
    drop(mailbox);
    drop(removed);
    Poll::Pending
}

/// The task was dropped before it finished: its tokio runtime is gone, or a panic got past every
/// guard. Nobody may wait for it any more.
impl Drop for Task {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        if !thread::panicking() {
            let services = self.cell.registry().services();
            services.home().note_dropped_task();
            services.end_with_home();
        }
        let removed = self.cell.lock().abandon_task();
        drop((removed, self.inbox.take()));
        discard(self.instance.take());
        self.cell.wake_senders();
        self.cell.registry().release(self.cell.id());
    }
}
