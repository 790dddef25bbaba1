//! From a message to its outcome.

use super::{Failure, HookResult, Step, Task, discard, drain, drive_until};
use crate::{
    call::{
        output_gate::OutputGate,
        reply::{ReplySender, ReplySlot},
    },
    codec::DecodeError,
    config::options::Persist,
    engine::{
        cell::Cell,
        command::{CallOptions, Command, Content, Job},
        crash_budget::End,
        erased::{AnyMessage, Batch, Front, Method},
        instance::{Instance, InstanceParts},
        reminders::{Reminders, StoredReminder},
    },
    error::CallError,
    stop_reason::StopReason,
    storage::Update,
    support::{
        catch::{catch_unwind, drop_pinned},
        sync::{task::yield_now, time},
    },
};

use std::{
    any::Any,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The number of reminders that a server handles before it looks at its mailbox again.
const REMINDERS: usize = 16;

/// The progress of the front message without waiting.
pub(crate) enum Progress {
    Done,
    /// It has to wait for something before it runs.
    Wait,
    /// It has run.
    Left(Remainder),
}

/// A message that has run.
pub(crate) struct Executed {
    pub(crate) is_read: bool,
    /// The persist level of its client, over the server's own.
    pub(crate) persist: Option<Persist>,
    pub(crate) outcome: HookResult<()>,
    pub(crate) reply: Option<ReplySender>,
}

/// The work left to do for a message that has run.
pub(crate) enum Remainder {
    /// Stop the server, as its handler asked.
    Stop(Box<Instance>, StopReason, Option<ReplySender>),
    /// Report the failure; the instance is gone.
    Fail(Failure, Option<ReplySender>),
}

/// The input of a handler.
enum Work {
    Message(AnyMessage, &'static Method),
    Job(Job),
}

/// The outcome of a message.
pub(super) enum Outcome {
    Handled,
    /// With the panic message.
    Crashed(String),
    /// The message was dropped for a reason outside its handler.
    Lost(CallError),
}

/// The engine's side of a batch of messages, between which nothing has to be looked at.
struct MessageBatch<'a> {
    parts: &'a mut InstanceParts,
    gate: &'a mut OutputGate,
    options: &'a mut Option<Arc<CallOptions>>,
    cell: &'a Cell,
    only_one: bool,
    budget: &'a mut u32,
    /// The message that ended the batch, if there is more to do for it.
    executed: Option<Executed>,
}

impl Batch for MessageBatch<'_> {
    fn begin(&mut self, options: Option<Arc<CallOptions>>) {
        if options.is_some() {
            *self.options = options;
        }
    }

    fn handled(
        &mut self,
        method: &'static Method,
        outcome: Result<(), String>,
        reply: Option<ReplySender>,
        has_no_effects: bool,
        next: Option<&CallOptions>,
    ) -> bool {
        let persist = self.options.as_ref().and_then(|options| options.persist);
        let expiry = self.cell.registry().services().expiry();
        if outcome.is_err()
            || !self.parts.finish_without_commit(method.is_read, persist, has_no_effects, expiry)
        {
            let is_read = method.is_read;
            self.executed = Some(Executed { is_read, persist, outcome: outcome.into(), reply });
            return false;
        }
        self.gate.release_after_commit(reply, Ok(()));
        *self.budget = self.budget.saturating_sub(1);
        next.is_none_or(|next| !self.parts.owes_before(next.persist))
            && !self.only_one
            && *self.budget > 0
            && self.parts.save_by.is_none()
            && !self.cell.has_signal()
            && self.gate.waiters() < self.cell.settings().mailbox
    }
}

impl Instance {
    /// Runs a message whose method is not `async`, and journals it if its type does so.
    pub(crate) fn run(
        &mut self,
        message: &mut dyn Any,
        method: &'static Method,
        reply: ReplySlot<'_>,
    ) -> Result<(), String> {
        let Self { parts, server } = self;
        match &mut parts.journal {
            Some(journal) if !method.is_read => journal.record(server, message, method, reply),
            _ => server.handle(message, reply),
        }
    }
}

impl Task {
    /// Handles the task's first message at once: the instance is loaded and the method is not
    /// `async`. Afterwards the server is idle, or the task is parked; otherwise returns the task
    /// with its next step.
    pub(crate) fn handle_first(
        mut self: Box<Self>,
        message: &mut dyn Any,
        method: &'static Method,
        reply: Option<ReplySender>,
    ) -> Option<(Box<Self>, Option<Step>)> {
        let instance = self.instance.take()?;
        match self.execute(instance, message, method, reply) {
            None => self.go_idle().map(|task| (task, None)),
            Some(left) => Some((self, Some(Step::Proceed(left)))),
        }
    }

    /// Finishes a message that a caller has run inline, as by [`handle_first`](Self::handle_first).
    pub(crate) fn finish_first(
        mut self: Box<Self>,
        instance: Box<Instance>,
        executed: Executed,
    ) -> Option<(Box<Self>, Option<Step>)> {
        self.settings = instance.parts.own_settings();
        match self.finish(instance, executed) {
            None => self.go_idle().map(|task| (task, None)),
            Some(left) => Some((self, Some(Step::Proceed(left)))),
        }
    }

    fn execute(
        &mut self,
        mut instance: Box<Instance>,
        message: &mut dyn Any,
        method: &'static Method,
        mut reply: Option<ReplySender>,
    ) -> Option<Remainder> {
        let persist = self.persist_level();
        if let Err(failure) = self.save_owed(&mut instance, persist) {
            self.keep(instance, &failure, reply);
            return None;
        }
        let outcome = instance.run(message, method, ReplySlot::to_sender(&mut reply)).into();
        self.finish(instance, Executed { is_read: method.is_read, persist, outcome, reply })
    }

    /// Returns the persist level of the client whose message was taken last.
    fn persist_level(&self) -> Option<Persist> {
        self.options.as_ref().and_then(|options| options.persist)
    }

    /// Fails a message that has changed nothing, or whose change cannot be undone without changes
    /// that were acknowledged.
    pub(super) fn keep(
        &mut self,
        instance: Box<Instance>,
        failure: &Failure,
        reply: Option<ReplySender>,
    ) {
        self.gate.release_after_commit(reply, Err(self.error(failure)));
        self.instance = Some(instance);
    }

    /// Handles the front messages that need not wait: the instance is loaded, and their methods
    /// are not `async`. Most messages are handled here.
    pub(super) fn handle_ready(&mut self) -> Progress {
        let Some(inbox) = &mut self.inbox else { return Progress::Done };
        let Some(front) = inbox.front() else { return Progress::Done };
        let Some(mut instance) = self.instance.take() else { return Progress::Wait };
        let Front::Message(method) = front else {
            self.instance = Some(instance);
            return Progress::Wait;
        };
        if method.is_async {
            self.instance = Some(instance);
            return Progress::Wait;
        }
        self.accept_front();
        let left = if instance.parts.journal.is_some() {
            let Some(envelope) = self.pop() else { return Progress::Done };
            let Content::Message(mut message) = envelope.content else { return Progress::Done };
            self.execute(instance, &mut *message, method, envelope.reply)
        } else if let Err(failure) = self.save_owed(&mut instance, self.persist_level()) {
            let reply = self.pop().and_then(|envelope| envelope.reply);
            self.keep(instance, &failure, reply);
            None
        } else {
            let Instance { parts, server } = &mut *instance;
            let mut batch = MessageBatch {
                parts,
                gate: &mut self.gate,
                options: &mut self.options,
                cell: &self.cell,
                only_one: self.yields_before_next,
                budget: &mut self.budget,
                executed: None,
            };
            let Some(inbox) = &mut self.inbox else { return Progress::Done };
            server.handle_queued(&mut **inbox, &mut batch);
            match batch.executed {
                Some(executed) => self.finish(instance, executed),
                None => {
                    self.instance = Some(instance);
                    None
                }
            }
        };
        left.map_or(Progress::Done, Progress::Left)
    }

    /// Handles the front message. Awaits activation and `async` handlers.
    pub(super) async fn handle_front(&mut self) {
        self.accept_front();
        let Some(front) = self.inbox.as_ref().and_then(|inbox| inbox.front()) else { return };
        let options = self.options.clone().unwrap_or_default();
        if let Front::Message(method) = front {
            let instance = match self.ready(&options).await {
                Ok(instance) => instance,
                Err(failure) => {
                    let reply = self.pop().and_then(|envelope| envelope.reply);
                    return self.decline(failure, reply).await;
                }
            };
            if !method.is_async {
                self.instance = Some(instance);
                if let Progress::Left(left) = self.handle_ready() {
                    Box::pin(self.proceed(left)).await;
                }
                return;
            }
            let Some(envelope) = self.pop() else { return self.instance = Some(instance) };
            if let Content::Message(message) = envelope.content {
                let work = Work::Message(message, method);
                self.work(instance, work, options.persist, envelope.reply).await;
            }
            return;
        }
        let Some(envelope) = self.pop() else { return };
        let reply = envelope.reply;
        match envelope.content {
            Content::Command(command) => self.obey(command, &options, reply).await,
            // The front was a command.
            Content::Message(_) => {}
        }
    }

    /// Carries out a command. The rare ones are boxed: the future of each message would be as large.
    pub(super) async fn obey(
        &mut self,
        command: Command,
        options: &CallOptions,
        reply: Option<ReplySender>,
    ) {
        match command {
            Command::Run(job) => {
                Box::pin(self.serve(|_| Some(Work::Job(*job)), options, reply)).await;
            }
            Command::Info(info) => {
                let (message, origin) = *info;
                // Otherwise its activation is over, or the source was cancelled.
                if origin.is_current() {
                    let work = |instance: &Instance| Work::message(instance, message);
                    Box::pin(self.serve(work, options, reply)).await;
                }
            }
            Command::Remind => Box::pin(self.remind(options, reply)).await,
            Command::Start => Box::pin(self.start(options, reply)).await,
            Command::Create => match self.exists().await {
                Ok(false) => Box::pin(self.start(options, reply)).await,
                Ok(true) => {
                    let server = self.id();
                    let exists = CallError::AlreadyExists { server };
                    self.gate.release_after_commit(reply, Err(exists));
                }
                Err(failure) => self.decline(failure, reply).await,
            },
            Command::Transfer(transfer) => Box::pin(self.transfer(*transfer, reply)).await,
            Command::Receive(offer) => Box::pin(self.receive(offer, reply)).await,
            Command::Follow(follower) => match self.ready(options).await {
                Ok(mut instance) => match self.follow(&mut instance, *follower) {
                    Ok(()) => {
                        self.instance = Some(instance);
                        self.gate.release_after_commit(reply, Ok(()));
                    }
                    Err(failure) => {
                        discard(Some(instance));
                        self.decline(failure, reply).await;
                    }
                },
                Err(failure) => self.decline(failure, reply).await,
            },
            Command::Stop(reason) => {
                let instance = self.instance.take();
                if instance.is_none() {
                    self.adopt_settings(options);
                }
                self.stop(instance, &reason, false, reply).await;
            }
        }
    }

    async fn start(&mut self, options: &CallOptions, reply: Option<ReplySender>) {
        match self.ready(options).await {
            Ok(mut instance) => {
                instance.parts.is_owed = instance.parts.is_unsaved;
                self.instance = Some(instance);
                self.gate.release_after_commit(reply, Ok(()));
            }
            Err(failure) => self.decline(failure, reply).await,
        }
    }

    /// Returns true if the server is in memory or stored.
    async fn exists(&mut self) -> Result<bool, Failure> {
        Ok(self.instance.is_some() || self.load().await?.is_some())
    }

    /// Runs a client's work, activating the server if need be.
    async fn serve(
        &mut self,
        work: impl FnOnce(&Instance) -> Option<Work>,
        options: &CallOptions,
        reply: Option<ReplySender>,
    ) {
        match self.ready(options).await {
            Ok(instance) => match work(&instance) {
                Some(work) => {
                    self.work(instance, work, options.persist, reply).await;
                }
                None => self.instance = Some(instance),
            },
            Err(failure) => self.decline(failure, reply).await,
        }
    }

    /// Handles a continuation.
    pub(super) async fn handle_continuation(&mut self, message: AnyMessage) {
        if let Some(instance) = self.instance.take() {
            self.continue_with(instance, message).await;
        }
    }

    async fn continue_with(&mut self, instance: Box<Instance>, message: AnyMessage) -> Outcome {
        match Work::message(&instance, message) {
            Some(work) => self.work(instance, work, None, None).await,
            None => {
                self.instance = Some(instance);
                Outcome::Handled
            }
        }
    }

    /// Returns the instance, activated if need be, with no continuation left.
    pub(super) async fn ready(&mut self, options: &CallOptions) -> Result<Box<Instance>, Failure> {
        loop {
            let instance = match self.instance.take() {
                Some(instance) => instance,
                None => Box::pin(self.activate(options)).await?,
            };
            let Some(message) = instance.server.context().effects.next_continuation() else {
                return Ok(instance);
            };
            let outcome = Box::pin(self.continue_with(instance, message)).await;
            // Commits go on between two continuations.
            let yields = self.spend_budget();
            let pace = async move {
                if yields {
                    yield_now().await;
                }
            };
            let killed = matches!(self.drive(pace).await, HookResult::Killed);
            if killed || self.cell.take_killed() || self.cell.registry().services().is_halted() {
                discard(self.instance.take());
                return Err(self.kill_failure());
            }
            // No later message may build on a change that is not stored.
            if let Some(source) = self.take_failure() {
                discard(self.instance.take());
                return Err(self.commit_failure(source));
            }
            match outcome {
                Outcome::Lost(error) => return Err(Failure::Error(error)),
                // The server has stopped itself: starting it again could go on for ever.
                Outcome::Handled if self.instance.is_none() => {
                    return Err(Failure::Error(CallError::NoReply { server: self.id() }));
                }
                Outcome::Handled | Outcome::Crashed(_) => {}
            }
            let failed = self.cell.lock().failed().cloned();
            if let Some(failed) = failed {
                return Err(Failure::Error(self.cell.limit_exceeded(&failed)));
            }
        }
    }

    /// Handles the reminders that are due, up to [`REMINDERS`]. A reminder is deleted in the commit of
    /// its message.
    async fn remind(&mut self, options: &CallOptions, reply: Option<ReplySender>) {
        for _ in 0..REMINDERS {
            match self.remind_next(options).await {
                Ok(true) if self.gate.waiters() < self.cell.settings().mailbox => {}
                Ok(_) => break,
                Err(failure) => return self.decline(failure, reply).await,
            }
        }
        if let Some(instance) = &self.instance {
            let due = instance.server.context().effects.with_reminders(Reminders::due);
            self.cell.registry().agenda().announce(self.cell.key(), due);
        }
        self.gate.release_after_commit(reply, Ok(()));
    }

    /// Handles the earliest reminder if it is due. Returns true if another one may be.
    async fn remind_next(&mut self, options: &CallOptions) -> Result<bool, Failure> {
        let instance = self.ready(options).await?;
        let now = self.cell.registry().services().clock().now();
        let effects = &instance.server.context().effects;
        let due = effects.with_reminders(|reminders| reminders.due_by(now).cloned());
        let Some(reminder) = due else {
            self.instance = Some(instance);
            return Ok(false);
        };
        let work = read_reminder(&instance, &reminder)
            .map(|message| message.and_then(|message| Work::message(&instance, message)));
        // The commit of the message must not put what was acknowledged before at risk.
        let is_async = matches!(&work, Ok(Some(work)) if work.is_async());
        let prepared = self.prepare(instance, Some(Persist::EveryMessage), is_async).await;
        // A failure to encode the state is no crash of the message.
        let prepared = prepared.map_err(|failure| Failure::Error(self.error(&failure)));
        let mut instance = prepared?;
        let now = self.cell.registry().services().clock().now();
        let work = match work {
            Ok(work) => work,
            Err(error) => {
                self.instance = Some(instance);
                // It may be that the next program can decode it.
                self.fail_reminder(&reminder, error.to_string(), None).await?;
                return Ok(true);
            }
        };
        instance.server.context().effects.change_reminders(|reminders| {
            reminders.finish(&reminder, now);
            true
        });
        let Some(work) = work else {
            // Its migration omits the message.
            instance.parts.is_unsaved = true;
            let _ = self.save_or_keep(&mut instance).await;
            self.instance = Some(instance);
            return Ok(true);
        };
        match self.run_prepared(instance, work, None, None).await {
            Outcome::Handled => Ok(self.instance.is_some()),
            Outcome::Crashed(panic) => {
                let limit = self.settings().reminder_attempts;
                let failed = self.fail_reminder(&reminder, panic, Some(limit)).await;
                failed.map(|()| false).map_err(|failure| Failure::Error(self.error(&failure)))
            }
            Outcome::Lost(error) => Err(Failure::Error(error)),
        }
    }

    /// Handles one message or job.
    async fn work(
        &mut self,
        instance: Box<Instance>,
        work: Work,
        persist: Option<Persist>,
        reply: Option<ReplySender>,
    ) -> Outcome {
        match self.prepare(instance, persist, work.is_async()).await {
            Ok(instance) => self.run_prepared(instance, work, persist, reply).await,
            Err(failure) => {
                let error = self.error(&failure);
                self.gate.release_after_commit(reply, Err(error.clone()));
                Outcome::Lost(error)
            }
        }
    }

    /// Stages or commits what has to be stored before a message runs. A failure leaves the instance
    /// where it was if it has acknowledged changes, and drops it otherwise.
    ///
    /// Under `await_commits` every earlier change is committed before an `async` handler starts: what
    /// such a handler does elsewhere cannot be undone.
    async fn prepare(
        &mut self,
        mut instance: Box<Instance>,
        persist: Option<Persist>,
        is_async: bool,
    ) -> Result<Box<Instance>, Failure> {
        let awaits = is_async && instance.parts.settings.await_commits;
        let saved =
            if awaits { self.save(&mut instance) } else { self.save_owed(&mut instance, persist) };
        if let Err(failure) = saved {
            if instance.parts.is_owed {
                self.instance = Some(instance);
            } else {
                discard(Some(instance));
            }
            return Err(failure);
        }
        if !awaits {
            return Ok(instance);
        }
        let drained = drain(&mut self.gate, &self.cell).await;
        match (drained, self.take_failure()) {
            (HookResult::Killed, failed) if self.is_overdue() => {
                // The instance, or the fallback of the failed commit, is still to be saved.
                if failed.is_some() {
                    discard(Some(instance));
                } else {
                    self.instance = Some(instance);
                }
                Err(Failure::Error(CallError::Killed { server: self.id() }))
            }
            (HookResult::Killed, _) => {
                discard(Some(instance));
                self.fallback = None;
                Err(self.kill_failure())
            }
            (_, Some(source)) => {
                discard(Some(instance));
                Err(self.not_run(source))
            }
            (_, None) => Ok(instance),
        }
    }

    /// Runs one message or job behind [`prepare`](Self::prepare).
    async fn run_prepared(
        &mut self,
        mut instance: Box<Instance>,
        work: Work,
        persist: Option<Persist>,
        mut reply: Option<ReplySender>,
    ) -> Outcome {
        let (is_read, outcome) = match work {
            Work::Message(message, method) if method.is_async => {
                let outcome = self.run_async(&mut instance, message, method, &mut reply).await;
                (method.is_read, outcome)
            }
            Work::Message(mut message, method) => {
                let slot = ReplySlot::to_sender(&mut reply);
                (method.is_read, instance.run(&mut *message, method, slot).into())
            }
            Work::Job(Job { is_read, work }) => {
                if let (Some(journal), false) = (&mut instance.parts.journal, is_read) {
                    // A closure cannot be journaled.
                    journal.require_snapshot();
                }
                let state = instance.server.state();
                (is_read, catch_unwind(|| work(state, &mut reply)).into())
            }
        };
        match self.finish(instance, Executed { is_read, persist, outcome, reply }) {
            None => Outcome::Handled,
            Some(left) => Box::pin(self.proceed(left)).await,
        }
    }

    /// Runs a message whose method is `async`. Acknowledged changes that are unsaved are encoded
    /// first, because the handler has the state until it ends: so they can be saved meanwhile, when
    /// their time has come, and if a shutdown ends the handler.
    async fn run_async(
        &mut self,
        instance: &mut Instance,
        message: AnyMessage,
        method: &'static Method,
        reply: &mut Option<ReplySender>,
    ) -> HookResult<()> {
        let mut owed = self.prepare_save(instance);
        let Instance { parts, server } = instance;
        let save_by = parts.save_by.filter(|_| owed.is_some());
        let expiry = self.cell.registry().services().expiry();
        let mut due =
            pin!(save_by.and_then(|save_by| expiry.expand(save_by)).map(time::sleep_until));
        let mut handling = pin!(Some(server.handle_async(message, reply)));
        let mut saving = None;
        let outcome = loop {
            let is_due = |cx: &mut Context<'_>| match due.as_mut().as_pin_mut() {
                Some(due) if owed.is_some() => due.poll(cx),
                _ => Poll::Pending,
            };
            match drive_until(&mut self.gate, &self.cell, handling.as_mut(), is_due).await {
                Some(outcome) => break outcome,
                None => saving = owed.take().map(|owed| self.stage_prepared(parts, owed)),
            }
        };
        drop_pinned(handling);
        match (&outcome, saving) {
            (HookResult::Done(()), Some(saved)) => {
                let _ = self.finish_late_save(parts, saved).await;
            }
            // The panic decides what is lost.
            (HookResult::Panicked(_), Some(_)) => {
                self.gate.drain().await;
                self.gate.take_failure();
            }
            _ => {}
        }
        if let (HookResult::Killed, Some(owed)) = (&outcome, owed)
            && !method.is_read
            && self.is_overdue()
        {
            let saved = self.stage_prepared(parts, owed);
            let saved = self.settle(saved).await;
            self.report_unsaved(saved);
        }
        outcome
    }

    /// Applies the outcome of a message without awaiting. Returns what is left for
    /// [`proceed`](Self::proceed). The instance is kept only if its state is one that a handler
    /// returned.
    fn finish(&mut self, mut instance: Box<Instance>, executed: Executed) -> Option<Remainder> {
        let Executed { is_read, persist, outcome, reply } = executed;
        let outcome = match (self.take_failure(), outcome) {
            // A commit failed meanwhile: this state builds on a state that is lost.
            (Some(source), _) => Err(self.commit_failure(source)),
            (None, HookResult::Done(())) => {
                instance.parts.is_unsaved |= !is_read;
                self.persist(&mut instance, persist)
            }
            (None, HookResult::Panicked(text)) => {
                Err(Failure::Panic { text, is_poison: !instance.parts.has_succeeded })
            }
            (None, HookResult::Killed) if is_read && self.is_overdue() => {
                // A read has left the state as it was: it is still to be saved.
                let failure = Failure::Error(CallError::Killed { server: self.id() });
                self.keep(instance, &failure, reply);
                return None;
            }
            (None, HookResult::Killed) => Err(self.kill_failure()),
        };
        let posted = self.cell.take_posted();
        if let Err(failure) = outcome {
            let error = self.error(&failure);
            for reply in posted {
                self.gate.release_after_commit(Some(reply), Err(error.clone()));
            }
            if instance.parts.is_owed {
                if let CallError::Encode { .. } = error {
                    instance.server.context().effects.discard();
                    self.keep(instance, &self.unknown(&failure), reply);
                    return None;
                }
                if let Some(messages) =
                    instance.parts.journal.as_mut().and_then(|journal| journal.take())
                {
                    self.gate.stage(Update::Append(messages));
                }
            }
            discard(Some(instance));
            return Some(Remainder::Fail(failure, reply));
        }
        instance.parts.has_succeeded = true;
        for reply in posted {
            self.gate.release_after_commit(Some(reply), Ok(()));
        }
        if let Some(reason) = instance.server.context().effects.take_stop() {
            return Some(Remainder::Stop(instance, reason, reply));
        }
        instance.parts.is_owed = instance.parts.is_unsaved;
        self.gate.release_after_commit(reply, Ok(()));
        self.instance = Some(instance);
        None
    }

    pub(super) async fn proceed(&mut self, left: Remainder) -> Outcome {
        match left {
            Remainder::Stop(instance, reason, reply) => {
                Box::pin(self.stop(Some(instance), &reason, true, reply)).await;
                Outcome::Handled
            }
            Remainder::Fail(failure, reply) => {
                let outcome = match &failure {
                    Failure::Panic { text, .. } => Outcome::Crashed(text.clone()),
                    Failure::Error(error) => Outcome::Lost(error.clone()),
                };
                self.decline(failure, reply).await;
                outcome
            }
        }
    }

    /// Reports the failure of a message; the instance is gone.
    pub(super) async fn decline(&mut self, failure: Failure, reply: Option<ReplySender>) {
        let error = self.error(&failure);
        match failure {
            Failure::Error(_) => self.gate.release_after_commit(reply, Err(error)),
            Failure::Panic { text, is_poison } => {
                if self.settings().restart.deletes(End::Crashed) {
                    self.stage(None);
                    self.cell.drop_resources();
                }
                self.gate.release_after_commit(reply, Err(error));
                Box::pin(self.crash(text, is_poison)).await;
            }
        }
    }
}

impl Work {
    fn message(instance: &Instance, message: AnyMessage) -> Option<Self> {
        let method = instance.server.method(&*message)?;
        Some(Self::Message(message, method))
    }

    fn is_async(&self) -> bool {
        matches!(self, Self::Message(_, method) if method.is_async)
    }
}

/// Decodes the message of a reminder. A message of an earlier version for which there is no
/// migration is read as one of the next version that this program reads: versions are raised for
/// states, too.
fn read_reminder(
    instance: &Instance,
    reminder: &StoredReminder,
) -> Result<Option<AnyMessage>, DecodeError> {
    let decode = |version| {
        let mut bytes = reminder.message();
        let decoded = catch_unwind(|| instance.server.decode_message(version, &mut bytes));
        match decoded.unwrap_or_else(|panic| Err(DecodeError::panicked(&panic))) {
            Ok(Some(_)) if !bytes.is_empty() => Err(DecodeError::Trailing { bytes: bytes.len() }),
            decoded => decoded,
        }
    };
    let mut version = reminder.version();
    loop {
        match decode(version) {
            Err(DecodeError::Version { stored, current }) if stored < current => version += 1,
            decoded => return decoded,
        }
    }
}
