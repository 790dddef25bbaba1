//! The task that runs a server while it has something to do: activation,
//! messages, commits, crashes, stops. A server at rest has none.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::pin,
    sync::Arc,
    task::{self, Poll},
};

use crate::{
    api::client::Handle, api::server::ReplySlot, api::server::Server, call::output_gate::Gate,
    call::reply::Answer, codec::DecodeError, config::options::Persist, config::options::Settings,
    engine::cell::Cell, engine::cell::discard, engine::crash_budget::End,
    engine::mailbox::Envelope, engine::mailbox::Job, engine::mailbox::Order,
    engine::mailbox::Phase, engine::mailbox::Stop, engine::mailbox::Terms, error::CallError,
    id::ServerId, stop_reason::StopReason, storage::StorageError, support::catch::poll_caught,
    support::expiry::Moment, support::sync::task::coop::consume_budget,
    support::sync::task::yield_now,
};

mod instance;
mod life;
mod log;
mod replay;
mod rest;
mod save;
mod transfer;

pub(crate) use instance::Instance;
pub(crate) use transfer::{Offer, Transfer};

/// See the [module](self). There is one at most per cell: it begins when the
/// cell's phase becomes `Running` and ends when that changes.
pub(crate) struct Task<S: Server> {
    cell: Arc<Cell<S>>,
    instance: Option<Box<Instance<S>>>,
    gate: Gate,
    /// Of an activation with options of its own; else they are the kind's.
    settings: Option<Arc<Settings>>,
    /// Messages taken from the mailbox and not handled yet.
    inbox: VecDeque<Envelope<S>>,
    /// Those of the envelope taken last.
    terms: Option<Arc<Terms<S>>>,
    /// Whether the mailbox may say that messages are refused or forwarded. It comes to
    /// say so by what this task does, or before the task begins, and never with the
    /// server in memory.
    blocked: bool,
    /// How many turns other tasks have before it looks for more: messages have come
    /// in bursts.
    turns: u32,
    /// Whether the messages after the first are handled elsewhere.
    moves: bool,
    /// When it was parked, with no message since.
    since: Option<Moment>,
    rests: bool,
}

/// A task that takes as many messages at once looks again before it ends: to
/// begin another one for the next of them costs more.
const FLOOD: usize = 8;
/// So many turns others have where nobody waits for an answer. The fewer messages
/// are taken at a time, the more often their senders wait for the mailbox's memory.
const TURNS: u32 = 4;

pub(crate) enum Step<S: Server> {
    Handle(Envelope<S>),
    /// See to what is left of a message that has run.
    Finish(Left<S>),
    /// The restart limit is exceeded.
    Refuse(Envelope<S>, Arc<str>),
    /// The server has been handed to another runtime.
    Forward(Envelope<S>, Handle<S>),
    /// What a handler asked to be handled next.
    Then(S::Message),
    Save,
    Killed,
    Unload(StopReason),
    /// Go on in a task of its own.
    Move,
    /// Wait for the commit, and be no task meanwhile.
    Park,
    /// See whether more comes.
    Linger,
    Rest,
}

/// How far a message has come without waiting.
enum Now<S: Server> {
    Done,
    /// It has to wait for something before it runs.
    Wait(Envelope<S>),
    /// It has run.
    Finish(Left<S>),
}

/// A message that has run.
pub(crate) struct Ran {
    pub(crate) reads: bool,
    pub(crate) driven: Driven<()>,
    pub(crate) persist: Option<Persist>,
    pub(crate) answer: Option<Answer>,
}

/// What is left of a message that has run.
pub(crate) enum Left<S: Server> {
    /// Its handler has stopped the server.
    Stop(Box<Instance<S>>, StopReason, Option<Answer>),
    /// It was not handled well; the instance is gone.
    Decline(Trouble, Option<Answer>),
}

/// What a handler is given.
enum Work<S: Server> {
    Message(S::Message),
    Job(Job<S>),
}

/// How a message ended.
enum Fate {
    Handled,
    Crashed,
    /// Nothing of it is left, through no fault of its own.
    Lost(CallError),
}

/// How the server's own code, or the storage's, went.
pub(crate) enum Driven<T> {
    Done(T),
    Panicked(String),
    Killed,
}

/// Why a message was not handled well.
pub(crate) enum Trouble {
    Error(CallError),
    /// It counts as a crash.
    Panic {
        text: String,
        /// Whether nothing had gone well before it in this activation.
        poison: bool,
    },
}

impl<S: Server> Task<S> {
    pub(crate) fn new(cell: Arc<Cell<S>>, instance: Option<Box<Instance<S>>>) -> Box<Self> {
        Box::new(Self {
            gate: Gate::new(cell.clone()),
            settings: instance.as_deref().and_then(Instance::own_settings),
            inbox: VecDeque::new(),
            terms: None,
            blocked: false,
            turns: 0,
            moves: false,
            since: None,
            rests: false,
            instance,
            cell,
        })
    }

    /// Handles the first message here and now, if that needs no waiting, and comes
    /// to rest or waits for the commit in the mailbox. Gives itself back with what
    /// is to be done next, if there is something.
    pub(crate) fn handle_first(
        mut self: Box<Self>,
        mut envelope: Envelope<S>,
    ) -> Option<(Box<Self>, Option<Step<S>>)> {
        self.accept(&mut envelope);
        match self.handle_now(envelope) {
            Now::Done => self.leave().map(|task| (task, None)),
            Now::Wait(envelope) => Some((self, Some(Step::Handle(envelope)))),
            Now::Finish(left) => Some((self, Some(Step::Finish(left)))),
        }
    }

    /// As [`handle_first`](Self::handle_first), with a message that its caller has
    /// run.
    pub(crate) fn finish_first(
        mut self: Box<Self>,
        instance: Box<Instance<S>>,
        ran: Ran,
    ) -> Option<(Box<Self>, Option<Step<S>>)> {
        self.settings = instance.own_settings();
        match self.finish(instance, ran) {
            None => self.leave().map(|task| (task, None)),
            Some(left) => Some((self, Some(Step::Finish(left)))),
        }
    }

    /// Tells whether the mailbox says that messages are refused or forwarded.
    pub(crate) fn blocked(mut self: Box<Self>, blocked: bool) -> Box<Self> {
        self.blocked |= blocked;
        self
    }

    pub(crate) fn cell(&self) -> &Arc<Cell<S>> {
        &self.cell
    }

    /// Whether a message that its sender waits for can be handled where the task is,
    /// without a future.
    pub(crate) fn is_at_hand(&self, envelope: &Envelope<S>) -> bool {
        self.instance.is_some() && matches!(envelope.order, Order::Message(_))
    }

    /// Has the task wait once before the next message, to be moved elsewhere.
    pub(crate) fn handle_no_more(&mut self) {
        self.moves = true;
    }

    /// From a first step, if there is one, until the server is at rest. What most
    /// tasks don't come to is boxed: a task is allocated for each burst of messages,
    /// and had better be small.
    pub(crate) async fn run(mut self: Box<Self>, first: Option<Step<S>>) {
        let mut first = first;
        loop {
            let step = match first.take() {
                Some(Step::Handle(mut envelope)) => {
                    self.accept(&mut envelope);
                    self.route(envelope)
                }
                Some(step) => step,
                None => poll_fn(|cx| self.poll_next(cx)).await,
            };
            match step {
                Step::Handle(envelope) => match self.handle_now(envelope) {
                    Now::Done => {}
                    Now::Wait(envelope) => Box::pin(self.handle(envelope)).await,
                    Now::Finish(left) => {
                        Box::pin(self.see_to(left)).await;
                    }
                },
                Step::Finish(left) => {
                    Box::pin(self.see_to(left)).await;
                }
                Step::Refuse(envelope, panic) => {
                    let refusal = self.cell.limit_exceeded(&panic);
                    self.gate.hold(envelope.answer, Err(refusal));
                }
                Step::Forward(envelope, target) => {
                    Box::pin(self.forward(envelope, target)).await;
                }
                Step::Then(message) => Box::pin(self.then(message)).await,
                Step::Save => Box::pin(self.flush()).await,
                Step::Killed => self.killed(),
                Step::Unload(reason) => Box::pin(self.unload(reason)).await,
                Step::Move => {
                    self.moves = false;
                    yield_now().await;
                }
                Step::Park => match self.park() {
                    Some(task) => self = task,
                    None => return,
                },
                Step::Linger => {
                    for _ in 0..mem::take(&mut self.turns) {
                        yield_now().await;
                    }
                }
                Step::Rest => return,
            }
            // One busy server must not keep a thread to itself.
            consume_budget().await;
        }
    }

    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Step<S>> {
        let settled = self.gate.poll(cx).is_ready();
        if self.gate.take_failure().is_some() {
            discard(self.instance.take());
        }
        if self.cell.kind().core().is_halted() {
            self.inbox.clear();
            discard(self.instance.take());
        }
        if self.cell.beckons() && self.cell.lock().take(|extras| &mut extras.killed) {
            return Poll::Ready(Step::Killed);
        }
        for answer in self.cell.take_posted() {
            self.gate.hold(Some(answer), Ok(()));
        }
        // What waits for the disk is bounded.
        let has_room = self.gate.held() < self.cell.settings().mailbox;
        if has_room && let Some(instance) = &self.instance {
            if instance.flush_at.is_some_and(|flush_at| flush_at <= self.now()) {
                return Poll::Ready(Step::Save);
            }
            if let Some(message) = instance.context.next_then() {
                return Poll::Ready(Step::Then(message));
            }
        }
        if has_room && let Some(envelope) = self.next_envelope() {
            return Poll::Ready(self.route(envelope));
        }
        if self.moves && !self.inbox.is_empty() {
            return Poll::Ready(Step::Move);
        }
        if self.turns > 0 {
            return Poll::Ready(Step::Linger);
        }
        let cell = self.cell.clone();
        let mut mailbox = cell.lock();
        if mailbox.take(|extras| &mut extras.killed) {
            return Poll::Ready(Step::Killed);
        }
        if has_room {
            mailbox.hand_over(&mut self.inbox);
            if !self.inbox.is_empty() {
                drop(mailbox);
                self.turns = self.patience();
                return self.poll_next(cx);
            }
        }
        // What was posted keeps it from parking.
        if self.waits_only() {
            return Poll::Ready(Step::Park);
        }
        if !settled || mailbox.has_posted() {
            mailbox.waker = Some(cx.waker().clone());
            if mailbox.has_posted() {
                mailbox.wake();
            }
            return Poll::Pending;
        }
        if self.instance.is_some() && cell.kind().is_stopping() {
            return Poll::Ready(Step::Unload(StopReason::Shutdown));
        }
        let now = self.now();
        self.come_to_rest(&cell, mailbox, now);
        Poll::Ready(Step::Rest)
    }

    /// How many turns others should have behind what is in the inbox.
    fn patience(&self) -> u32 {
        match self.inbox.back() {
            Some(last) if self.inbox.len() >= FLOOD => match last.answer {
                Some(_) => 1,
                None => TURNS,
            },
            _ => 0,
        }
    }

    /// Takes the next envelope of the inbox, if that may be, and goes by its
    /// terms.
    fn next_envelope(&mut self) -> Option<Envelope<S>> {
        if self.moves {
            return None;
        }
        let mut envelope = self.inbox.pop_front()?;
        self.accept(&mut envelope);
        Some(envelope)
    }

    /// Goes by the terms of an envelope.
    fn accept(&mut self, envelope: &mut Envelope<S>) {
        self.since = None;
        if envelope.terms.is_some() {
            self.terms = envelope.terms.take();
        }
    }

    /// Where an envelope goes.
    fn route(&mut self, envelope: Envelope<S>) -> Step<S> {
        if self.blocked {
            // A handle must not be dropped under the lock.
            let (moved, failed) = {
                let mailbox = self.cell.lock();
                (mailbox.moved().cloned(), mailbox.failed().cloned())
            };
            self.blocked = moved.is_some() || failed.is_some();
            match (moved, failed) {
                (Some(target), _) if !matches!(envelope.order, Order::Receive(_)) => {
                    return Step::Forward(envelope, target);
                }
                (_, Some(panic)) if !matches!(envelope.order, Order::Stop(_)) => {
                    return Step::Refuse(envelope, panic);
                }
                _ => {}
            }
        }
        Step::Handle(envelope)
    }

    /// Handles a message that need not wait for anything, which most don't: with
    /// the server in memory, and a method that is not `async`. Goes on with the
    /// inbox as long as there is nothing to look at between one and the next.
    fn handle_now(&mut self, Envelope { mut order, mut answer, .. }: Envelope<S>) -> Now<S> {
        let most = self.cell.settings().mailbox;
        loop {
            let Some(instance) = &mut self.instance else {
                return Now::Wait(Envelope::new(order, answer));
            };
            let message = match order {
                Order::Message(message) if !S::is_async(&message) => message,
                order => return Now::Wait(Envelope::new(order, answer)),
            };
            let reads = S::is_read(&message);
            let persist = self.terms.as_ref().and_then(|terms| terms.persist);
            let driven = instance.run(message, ReplySlot::queued(&mut answer));
            let done = matches!(driven, Driven::Done(()));
            if !done || !instance.settle_directly(reads, persist) {
                let Some(instance) = self.instance.take() else { return Now::Done };
                let ran = Ran { reads, driven, persist, answer };
                return self.finish(instance, ran).map_or(Now::Done, Now::Finish);
            }
            let flushes = instance.flush_at.is_some();
            self.gate.hold(answer, Ok(()));
            if flushes || self.cell.beckons() || self.gate.held() >= most {
                return Now::Done;
            }
            let Some(next) = self.next_envelope() else { return Now::Done };
            Envelope { order, answer, .. } = next;
        }
    }

    async fn handle(&mut self, Envelope { order, answer, .. }: Envelope<S>) {
        let terms = self.terms.clone().unwrap_or_default();
        match order {
            Order::Message(message) => self.serve(Work::Message(message), &terms, answer).await,
            Order::Run(job) => self.serve(Work::Job(*job), &terms, answer).await,
            Order::Info(info) => {
                let (message, origin) = *info;
                // Else its activation is over, or somebody has cancelled it.
                if origin.is_current() {
                    self.serve(Work::Message(message), &terms, answer).await;
                }
            }
            Order::Remind => self.remind(&terms, answer).await,
            Order::Start => match self.ready(&terms).await {
                Ok(instance) => {
                    self.instance = Some(instance);
                    self.gate.hold(answer, Ok(()));
                }
                Err(trouble) => self.decline(trouble, answer).await,
            },
            Order::Transfer(transfer) => self.transfer(*transfer, answer).await,
            Order::Receive(offer) => self.receive(offer, answer).await,
            Order::Stop(stop) => {
                let Stop { reason, delete } = *stop;
                let instance = self.instance.take();
                if instance.is_none() {
                    self.adopt_settings(&terms);
                }
                self.stop(instance, &reason, delete, answer).await;
            }
        }
    }

    /// Handles work of a client's, activating the server if need be.
    async fn serve(&mut self, work: Work<S>, terms: &Terms<S>, answer: Option<Answer>) {
        match self.ready(terms).await {
            Ok(instance) => {
                self.work(instance, work, terms.persist, answer).await;
            }
            Err(trouble) => self.decline(trouble, answer).await,
        }
    }

    /// Handles what a handler asked to be handled next.
    async fn then(&mut self, message: S::Message) {
        if let Some(instance) = self.instance.take() {
            self.work(instance, Work::Message(message), None, None).await;
        }
    }

    /// The instance, activated if need be, with nothing to be handled first.
    async fn ready(&mut self, terms: &Terms<S>) -> Result<Box<Instance<S>>, Trouble> {
        loop {
            let instance = match self.instance.take() {
                Some(instance) => instance,
                None => self.activate(terms).await?,
            };
            let Some(message) = instance.context.next_then() else { return Ok(instance) };
            let fate = self.work(instance, Work::Message(message), None, None).await;
            consume_budget().await;
            match fate {
                Fate::Lost(error) => return Err(Trouble::Error(error)),
                // It has stopped itself: to start it again would be for ever.
                Fate::Handled if self.instance.is_none() => {
                    return Err(Trouble::Error(CallError::NoReply { server: self.id() }));
                }
                Fate::Handled | Fate::Crashed => {}
            }
            let killed = self.cell.lock().take(|extras| &mut extras.killed);
            if killed || self.cell.kind().core().is_halted() {
                discard(self.instance.take());
                return Err(self.kill_trouble());
            }
            let failed = self.cell.lock().failed().cloned();
            if let Some(panic) = failed {
                return Err(Trouble::Error(self.cell.limit_exceeded(&panic)));
            }
        }
    }

    /// Handles the earliest durable timer if it is due. It is deleted in the
    /// commit of what it causes, and by a crash as any message is.
    async fn remind(&mut self, terms: &Terms<S>, answer: Option<Answer>) {
        let instance = match self.ready(terms).await {
            Ok(instance) => instance,
            Err(trouble) => return self.decline(trouble, answer).await,
        };
        let now = self.cell.kind().core().clock().now();
        // One that can't be read spoils no other.
        let mut unreadable = None;
        let due = instance.context.with_reminders(|reminders| reminders.due_by(now));
        let next = due.into_iter().find_map(|due| match due.message() {
            Ok(message) => Some((due, message)),
            Err(source) => {
                unreadable = Some(source);
                None
            }
        });
        let Some((reminder, message)) = next else {
            self.instance = Some(instance);
            let outcome = match unreadable {
                None => Ok(()),
                Some(source) => Err(self.error(&self.decode_trouble(S::VERSION, source))),
            };
            return self.gate.hold(answer, outcome);
        };
        instance.context.cancel_reminder(reminder.name());
        let fate = self.work(instance, Work::Message(message), None, answer).await;
        if matches!(fate, Fate::Crashed) {
            self.drop_reminder(&reminder).await;
        }
    }

    /// Runs one message.
    async fn work(
        &mut self,
        mut instance: Box<Instance<S>>,
        work: Work<S>,
        persist: Option<Persist>,
        mut answer: Option<Answer>,
    ) -> Fate {
        let (reads, driven) = match work {
            Work::Message(message) if instance.log.is_none() || S::is_async(&message) => {
                let Instance { state, context, .. } = &mut *instance;
                let reads = S::is_read(&message);
                let reply = ReplySlot::queued(&mut answer);
                (reads, self.drive(S::handle(state, message, context, reply)).await)
            }
            Work::Message(message) => {
                let reads = S::is_read(&message);
                (reads, instance.run(message, ReplySlot::queued(&mut answer)))
            }
            Work::Job(Job { reads, work }) => {
                if let (Some(log), false) = (&mut instance.log, reads) {
                    // Nobody could journal it.
                    log.store_whole();
                }
                let state = &mut instance.state;
                (reads, self.drive(async { work(state, &mut answer) }).await)
            }
        };
        match self.finish(instance, Ran { reads, driven, persist, answer }) {
            None => Fate::Handled,
            Some(left) => self.see_to(left).await,
        }
    }

    /// Sees to what a message has come to, as far as that needs no waiting. The
    /// instance is put back only when its state is one that a handler returned.
    fn finish(&mut self, mut instance: Box<Instance<S>>, ran: Ran) -> Option<Left<S>> {
        let Ran { reads, driven, persist, answer } = ran;
        let outcome = match driven {
            // A commit failed meanwhile: this state stands on one that is lost.
            _ if let Some(source) = self.gate.take_failure() => Err(self.storage_trouble(source)),
            Driven::Done(()) => {
                instance.unsaved |= !reads;
                self.keep(&mut instance, persist)
            }
            Driven::Panicked(text) => Err(Trouble::Panic { text, poison: !instance.proven }),
            Driven::Killed => Err(self.kill_trouble()),
        };
        let posted = self.cell.take_posted();
        if let Err(trouble) = outcome {
            discard(Some(instance));
            let error = self.error(&trouble);
            for answer in posted {
                self.gate.hold(Some(answer), Err(error.clone()));
            }
            return Some(Left::Decline(trouble, answer));
        }
        instance.proven = true;
        for answer in posted {
            self.gate.hold(Some(answer), Ok(()));
        }
        if let Some(reason) = instance.context.take_stop() {
            return Some(Left::Stop(instance, reason, answer));
        }
        self.gate.hold(answer, Ok(()));
        self.instance = Some(instance);
        None
    }

    async fn see_to(&mut self, left: Left<S>) -> Fate {
        match left {
            Left::Stop(instance, reason, answer) => {
                Box::pin(self.stop(Some(instance), &reason, false, answer)).await;
                Fate::Handled
            }
            Left::Decline(trouble, answer) => {
                let fate = match &trouble {
                    Trouble::Panic { .. } => Fate::Crashed,
                    Trouble::Error(error) => Fate::Lost(error.clone()),
                };
                self.decline(trouble, answer).await;
                fate
            }
        }
    }

    /// Answers a message that was not handled well; the instance is gone.
    async fn decline(&mut self, trouble: Trouble, answer: Option<Answer>) {
        let error = self.error(&trouble);
        match trouble {
            Trouble::Error(_) => self.gate.hold(answer, Err(error)),
            Trouble::Panic { text, poison } => {
                if self.settings().restart.deletes(End::Crash) {
                    self.stage(None);
                    self.cell.forget_kept();
                }
                self.gate.hold(answer, Err(error));
                Box::pin(self.crash(text, poison)).await;
            }
        }
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
            if mailbox.take(|extras| &mut extras.killed) {
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

    fn now(&self) -> Moment {
        self.cell.kind().core().sweeper().now()
    }

    /// Those of the current or the last activation.
    fn settings(&self) -> &Arc<Settings> {
        self.settings.as_ref().unwrap_or(self.cell.settings())
    }

    /// What a caller is told.
    fn error(&self, trouble: &Trouble) -> CallError {
        match trouble {
            Trouble::Error(error) => error.clone(),
            Trouble::Panic { text, poison } => {
                CallError::Crashed { server: self.id(), panic: text.clone(), poison: *poison }
            }
        }
    }

    fn storage_trouble(&self, source: StorageError) -> Trouble {
        Trouble::Error(CallError::Storage { server: self.id(), source })
    }

    fn decode_trouble(&self, version: u32, source: DecodeError) -> Trouble {
        let source = source.into();
        Trouble::Error(CallError::Decode { server: self.id(), version, source })
    }
}

/// The task was dropped before it came to rest: its tokio runtime is gone, or
/// a panic got past every guard. Nobody may wait for it any more.
impl<S: Server> Drop for Task<S> {
    fn drop(&mut self) {
        if self.rests {
            return;
        }
        let left = {
            let mut mailbox = self.cell.lock();
            mailbox.phase = Phase::Absent;
            mailbox.waker = None;
            let outbox = mailbox.take(|extras| &mut extras.outbox);
            (mem::take(&mut mailbox.queue), mailbox.terms.take(), outbox, mailbox.active.take())
        };
        drop((left, mem::take(&mut self.inbox)));
        self.cell.kind().release(self.cell.id());
    }
}
