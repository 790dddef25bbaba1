//! The task that runs a server while it has something to do: activation,
//! messages, commits, crashes, stops. A server at rest has none.

use std::{
    future::poll_fn,
    mem,
    pin::pin,
    sync::{Arc, Weak},
    task::{self, Poll},
    time::Duration,
};

use tokio::{task::coop::consume_budget, time::Instant};

use crate::{
    Address, CallError, Change, Context, DecodeError, Record, ReplySlot, Restart, Server, ServerId,
    StopReason, StorageError,
    cell::{Cell, discard},
    codec,
    core::Active,
    gate::Gate,
    kind::Live,
    mailbox::{Envelope, Order, Phase},
    panic::{caught, poll_caught},
    reply::Answer,
    restart::{End, Verdict},
};

/// A server in memory.
pub(crate) struct Instance<S: Server> {
    state: S,
    /// The stored form of `state` as it was last loaded or staged; none when
    /// the next one must be written in any case.
    saved: Option<Arc<[u8]>>,
    context: Context<S>,
    _live: Live<S>,
}

/// See the [module](self). There is one at most per cell: it begins when the
/// cell's phase becomes `Running` and ends when that changes.
pub(crate) struct Task<S: Server> {
    cell: Arc<Cell<S>>,
    instance: Option<Box<Instance<S>>>,
    gate: Gate,
    rests: bool,
    _active: Active,
}

enum Step<S: Server> {
    Handle(Envelope<S>),
    /// The restart limit is exceeded.
    Refuse(Envelope<S>, Arc<str>),
    Unload,
    Rest,
}

/// How the server's own code, or the storage's, went.
enum Driven<T> {
    Done(T),
    Panicked(String),
    Killed,
}

/// Why a server is not in memory after all.
enum Trouble {
    Error(CallError),
    /// It counts as a crash.
    Panic(String),
}

impl<S: Server> Task<S> {
    pub(crate) fn new(cell: Arc<Cell<S>>, instance: Option<Box<Instance<S>>>) -> Self {
        let core = cell.kind().core();
        Self {
            gate: Gate::new(cell.id().clone(), core.storage().clone()),
            rests: false,
            _active: Active::new(core.clone()),
            instance,
            cell,
        }
    }

    pub(crate) async fn run(mut self, unload: Option<StopReason>) {
        if let Some(reason) = unload {
            self.unload(reason).await;
        }
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Step::Handle(envelope) => self.handle(envelope).await,
                Step::Refuse(envelope, panic) => {
                    let refusal = self.cell.limit_exceeded(&panic);
                    self.gate.hold(envelope.answer, Err(refusal));
                }
                Step::Unload => self.unload(StopReason::Shutdown).await,
                Step::Rest => return,
            }
            // One busy server must not keep a thread to itself.
            consume_budget().await;
        }
    }

    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Step<S>> {
        let settled = self.gate.poll(cx).is_ready();
        if self.gate.take_failure().is_some() || self.cell.kind().core().is_halted() {
            discard(self.instance.take());
        }
        let cell = self.cell.clone();
        let mut mailbox = cell.lock();
        if mem::take(&mut mailbox.killed) {
            drop(mailbox);
            discard(self.instance.take());
            mailbox = cell.lock();
        }
        // Answers wait for the disk in bounded numbers.
        if self.gate.held() < cell.settings().mailbox
            && let Some(envelope) = cell.take(&mut mailbox)
        {
            let failed = mailbox.failed.clone();
            return Poll::Ready(match failed {
                Some(panic) if !matches!(envelope.order, Order::Stop { .. }) => {
                    Step::Refuse(envelope, panic)
                }
                _ => Step::Handle(envelope),
            });
        }
        if !settled {
            mailbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.instance.is_some() && cell.kind().is_stopping() {
            return Poll::Ready(Step::Unload);
        }
        let now = Instant::now();
        let settings = cell.settings();
        let (phase, deadline) = match self.instance.take() {
            Some(instance) => {
                (Phase::Idle { instance, since: now }, now.checked_add(settings.idle_timeout))
            }
            None => (Phase::Absent, mailbox.crashes.forget_old(now, settings.within)),
        };
        let absent = matches!(phase, Phase::Absent);
        mailbox.phase = phase;
        mailbox.waker = None;
        let arm = mailbox.arm(deadline);
        drop(mailbox);
        self.rests = true;
        if let Some(deadline) = arm {
            let target: Weak<Cell<S>> = Arc::downgrade(&cell);
            cell.kind().core().sweeper().arm(deadline, target);
        }
        if absent {
            cell.kind().release(cell.id());
        }
        Poll::Ready(Step::Rest)
    }

    async fn handle(&mut self, Envelope { order, init, answer }: Envelope<S>) {
        match order {
            Order::Message(message) => self.message(message, init, answer).await,
            Order::Start => match self.instance(init).await {
                Ok(instance) => {
                    self.instance = Some(instance);
                    self.gate.hold(answer, Ok(()));
                }
                Err(trouble) => self.decline(trouble, answer).await,
            },
            Order::Stop { reason, wipe } => {
                let instance = self.instance.take();
                self.stop(instance, &reason, wipe, answer).await;
            }
        }
    }

    /// Runs one message. The instance is put back only when its state is one
    /// that a handler returned and that is staged.
    async fn message(
        &mut self,
        message: S::Message,
        init: Option<Arc<S::Init>>,
        mut answer: Option<Answer>,
    ) {
        let mut instance = match self.instance(init).await {
            Ok(instance) => instance,
            Err(trouble) => return self.decline(trouble, answer).await,
        };
        let reads = S::is_read(&message);
        let reply = answer.as_mut().map_or(ReplySlot(None), Answer::slot);
        let Instance { state, context, .. } = &mut *instance;
        let driven = self.drive(S::handle(state, message, context, reply)).await;
        let saved = match driven {
            // A commit failed meanwhile: this state stands on one that is lost.
            _ if let Some(source) = self.gate.take_failure() => Err(self.storage_trouble(source)),
            Driven::Done(()) if reads => Ok(()),
            Driven::Done(()) => self.save(&mut instance),
            Driven::Panicked(panic) => Err(Trouble::Panic(panic)),
            Driven::Killed => Err(Trouble::Error(CallError::Killed { server: self.id() })),
        };
        if let Err(trouble) = saved {
            discard(Some(instance));
            return self.decline(trouble, answer).await;
        }
        match instance.context.take_stop() {
            None => {
                self.gate.hold(answer, Ok(()));
                self.instance = Some(instance);
            }
            Some(reason) => self.stop(Some(instance), &reason, false, answer).await,
        }
    }

    /// The instance, activated if need be.
    async fn instance(&mut self, init: Option<Arc<S::Init>>) -> Result<Box<Instance<S>>, Trouble> {
        match self.instance.take() {
            Some(instance) => Ok(instance),
            None => self.activate(init).await,
        }
    }

    async fn activate(&mut self, init: Option<Arc<S::Init>>) -> Result<Box<Instance<S>>, Trouble> {
        // What was acknowledged or staged so far must be what is loaded.
        self.gate.settle().await;
        let id = self.id();
        let kind = self.cell.kind().clone();
        let storage = kind.core().storage().clone();
        let record = match self.drive(storage.load(&id)).await {
            Driven::Done(Ok(record)) => record,
            Driven::Done(Err(source)) => return Err(self.storage_trouble(source)),
            Driven::Panicked(panic) => return Err(self.storage_trouble(StorageError::new(panic))),
            Driven::Killed => return Err(Trouble::Error(CallError::Killed { server: id })),
        };
        let context =
            Context::new(kind.clone(), Address::from_parts(self.cell.key().clone(), init.clone()));
        let stored = record.is_some();
        let (state, saved) = match (record, init) {
            (Some(record), _) => {
                (self.decode(&record)?, (record.version == S::VERSION).then_some(record.state))
            }
            (None, Some(init)) => (self.init(&init, &context).await?, None),
            (None, None) => return Err(Trouble::Error(CallError::NotFound { server: id })),
        };
        let mut instance = Box::new(Instance { state, saved, context, _live: Live::new(kind) });
        let Instance { state, context, .. } = &mut *instance;
        match self.drive(S::started(state, context)).await {
            Driven::Done(()) => {}
            Driven::Panicked(panic) => return Err(Trouble::Panic(panic)),
            Driven::Killed => return Err(Trouble::Error(CallError::Killed { server: id })),
        }
        if !stored || S::STARTED_WRITES {
            self.save(&mut instance)?;
        }
        Ok(instance)
    }

    async fn init(&mut self, init: &Arc<S::Init>, context: &Context<S>) -> Result<S, Trouble> {
        let init = S::Init::clone(init);
        let reason = match self.drive(S::init(init, context)).await {
            Driven::Done(Ok(state)) => return Ok(state),
            Driven::Done(Err(reason)) => reason,
            Driven::Panicked(panic) => format!("panicked: {panic}"),
            Driven::Killed => return Err(Trouble::Error(CallError::Killed { server: self.id() })),
        };
        Err(Trouble::Error(CallError::Init { server: self.id(), reason }))
    }

    fn decode(&self, record: &Record) -> Result<S, Trouble> {
        let decoded = if record.format == codec::FORMAT {
            caught(|| S::decode(record.version, &record.state)).map_err(Trouble::Panic)?
        } else {
            Err(DecodeError::Format { stored: record.format })
        };
        decoded.map_err(|source| {
            Trouble::Error(CallError::Decode {
                server: self.id(),
                version: record.version,
                source: source.into(),
            })
        })
    }

    /// Stages the state if its stored form has changed.
    fn save(&mut self, instance: &mut Instance<S>) -> Result<(), Trouble> {
        let Instance { state, saved, .. } = instance;
        let changed = codec::with_buffer(|buffer| {
            match caught(|| state.encode(buffer)) {
                Err(panic) => return Err(Trouble::Panic(panic)),
                Ok(Err(source)) => {
                    let source = Arc::new(source);
                    return Err(Trouble::Error(CallError::Encode { server: self.id(), source }));
                }
                Ok(Ok(())) => {}
            }
            let bytes = &buffer[..];
            Ok((saved.as_deref() != Some(bytes)).then(|| Arc::<[u8]>::from(bytes)))
        })?;
        if let Some(state) = changed {
            *saved = Some(state.clone());
            let record = Record { version: S::VERSION, format: codec::FORMAT, state };
            self.gate.stage(Change::new(self.id(), Some(record)));
        }
        Ok(())
    }

    /// Answers a message that ran into trouble; the instance is gone.
    async fn decline(&mut self, trouble: Trouble, answer: Option<Answer>) {
        match trouble {
            Trouble::Error(error) => self.gate.hold(answer, Err(error)),
            Trouble::Panic(panic) => self.crash(panic, answer).await,
        }
    }

    /// Does what the restart policy says of a crash, and again if the server
    /// crashes while it is revived.
    async fn crash(&mut self, mut panic: String, mut answer: Option<Answer>) {
        let settings = *self.cell.settings();
        loop {
            if settings.restart.wipes(End::Crash) {
                self.gate.stage(Change::new(self.id(), None));
            }
            let crashed = CallError::Crashed { server: self.id(), panic: panic.clone() };
            self.gate.hold(answer.take(), Err(crashed));
            self.gate.settle().await;
            let verdict = {
                let mut mailbox = self.cell.lock();
                let verdict = mailbox.crashes.record(Instant::now(), &settings);
                if verdict == Verdict::Fail {
                    mailbox.failed = Some(panic.as_str().into());
                }
                verdict
            };
            let Verdict::Rest(rest) = verdict else { return };
            if !rest.is_zero() {
                self.rest(rest).await;
            }
            if settings.restart != Restart::Permanent || self.cell.kind().is_stopping() {
                return;
            }
            match self.activate(None).await {
                Ok(instance) => self.instance = Some(instance),
                Err(Trouble::Panic(again)) => {
                    panic = again;
                    continue;
                }
                // The next message meets it too, and tells its caller.
                Err(Trouble::Error(_)) => {}
            }
            return;
        }
    }

    /// Waits between a crash and the next activation; a shutdown or a kill
    /// ends the wait.
    async fn rest(&mut self, rest: Duration) {
        let kind = self.cell.kind().clone();
        let mut sleep = pin!(tokio::time::sleep(rest));
        self.drive(poll_fn(|cx| {
            if kind.is_stopping() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }
        }))
        .await;
    }

    async fn stop(
        &mut self,
        instance: Option<Box<Instance<S>>>,
        reason: &StopReason,
        wipe: bool,
        answer: Option<Answer>,
    ) {
        let end = if *reason == StopReason::Normal { End::NormalStop } else { End::OtherStop };
        let wipes = wipe || self.cell.settings().restart.wipes(end);
        if let Some(instance) = instance {
            self.terminate(instance, reason, !wipes).await;
        }
        if wipes {
            self.gate.stage(Change::new(self.id(), None));
        }
        self.gate.hold(answer, Ok(()));
        self.gate.settle().await;
        self.cell.reset();
    }

    async fn unload(&mut self, reason: StopReason) {
        if let Some(instance) = self.instance.take() {
            self.terminate(instance, &reason, true).await;
            self.gate.settle().await;
        }
    }

    /// Runs the hook. What it changed is stored if the state is to be kept and
    /// the hook returned.
    async fn terminate(&mut self, mut instance: Box<Instance<S>>, reason: &StopReason, keep: bool) {
        let Instance { state, context, .. } = &mut *instance;
        let driven = self.drive(S::terminate(state, reason, context)).await;
        if keep && S::TERMINATE_WRITES && matches!(driven, Driven::Done(())) {
            // Without a caller to tell, the state before the hook stays stored.
            let _ = self.save(&mut instance);
        }
        discard(Some(instance));
    }

    /// Runs `work`; commits and their answers go on meanwhile.
    async fn drive<F: Future>(&mut self, work: F) -> Driven<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _ = self.gate.poll(cx);
            if let Poll::Ready(done) = poll_caught(work.as_mut(), cx) {
                return Poll::Ready(match done {
                    Ok(output) => Driven::Done(output),
                    Err(panic) => Driven::Panicked(panic),
                });
            }
            let mut mailbox = self.cell.lock();
            if mem::take(&mut mailbox.killed) {
                return Poll::Ready(Driven::Killed);
            }
            mailbox.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn id(&self) -> ServerId {
        self.cell.id().clone()
    }

    fn storage_trouble(&self, source: StorageError) -> Trouble {
        Trouble::Error(CallError::Storage { server: self.id(), source })
    }
}

/// The task was dropped before it came to rest: its tokio runtime is gone, or
/// a panic got past every guard. Nobody may wait for it any more.
impl<S: Server> Drop for Task<S> {
    fn drop(&mut self) {
        if self.rests {
            return;
        }
        let queue = {
            let mut mailbox = self.cell.lock();
            mailbox.phase = Phase::Absent;
            mailbox.waker = None;
            mem::take(&mut mailbox.queue)
        };
        self.cell.free(queue.len());
        drop(queue);
        self.cell.kind().release(self.cell.id());
    }
}
