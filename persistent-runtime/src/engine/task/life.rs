//! From activation to the end: what an instance is made of, and what becomes of
//! it.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use super::{
    Driven, Instance, Task, Trouble,
    log::{Log, Shadow},
};
use crate::{
    api::address::Address, api::context::Context, api::server::Server, call::reply::Answer, codec,
    codec::DecodeError, config::options::Journal, config::options::Options,
    config::options::Restart, engine::cell::discard, engine::crash_budget::End,
    engine::crash_budget::Verdict, engine::mailbox::Terms, engine::registry::Live,
    engine::reminders::Reminders, error::CallError, observe::event::Event, stop_reason::StopReason,
    storage::Record, storage::StorageError, storage::encoded::Encoded, support::catch::caught,
    support::sync::time, support::sync::time::Instant,
};

impl<S: Server> Task<S> {
    pub(super) async fn activate(&mut self, terms: &Terms<S>) -> Result<Box<Instance<S>>, Trouble> {
        let kind = self.cell.kind().clone();
        let options = self.adopt_settings(terms);
        let record = self.load().await?;
        let init = &terms.init;
        let reminders = match &record {
            Some(record) => Reminders::read(&record.reminders)
                .map_err(|source| self.decode_trouble(record.version, source))?,
            None => Reminders::default(),
        };
        let address = Address::from_parts(self.cell.key().clone(), init.clone());
        let context = Context::new(&self.cell, address, reminders);
        let (state, saved, log, stored) = match (record, init) {
            (Some(record), _) => {
                let state = self.read(&record, &context).await?;
                let log = self.log(&record, &context).await?;
                let saved = self.saved(record, &state)?;
                (state, saved, log, true)
            }
            (None, Some(init)) => {
                (self.init(init, &context).await?, None, Log::new(None, true), false)
            }
            (None, None) => return Err(Trouble::Error(CallError::NotFound { server: self.id() })),
        };
        let mut instance = Box::new(Instance {
            state,
            saved,
            log: log.map(Box::new),
            unsaved: !stored || S::STARTED_WRITES,
            flush_at: None,
            proven: false,
            settings: self.settings().clone(),
            options,
            context,
            live: Live::new(kind),
        });
        let Instance { state, context, .. } = &mut *instance;
        match self.drive(S::started(state, context)).await {
            Driven::Done(()) => {}
            Driven::Panicked(text) => return Err(Trouble::Panic { text, poison: true }),
            Driven::Killed => return Err(self.kill_trouble()),
        }
        self.keep(&mut instance, None)?;
        self.cell.tell(&Event::Started);
        Ok(instance)
    }

    /// What is journaled of a server that begins with `record`.
    async fn log(
        &mut self,
        record: &Record,
        context: &Context<S>,
    ) -> Result<Option<Log<S>>, Trouble> {
        let whole = record.version != S::VERSION || S::STARTED_WRITES;
        let Some(mut log) = Log::new(Some(record), whole) else { return Ok(None) };
        if !whole && self.cell.kind().core().checks_replay() {
            let context = context.for_replay(&self.cell);
            let state = self.read(record, &context).await?;
            log.check(Shadow { state, context });
        }
        Ok(Some(log))
    }

    /// What the next stored form is compared with.
    fn saved(&self, record: Record, state: &S) -> Result<Option<Encoded>, Trouble> {
        let is_heard = self.is_heard();
        if record.version != S::VERSION {
            Ok(None)
        } else if !record.messages.is_empty() {
            is_heard.then(|| self.encode(state, None)).transpose()
        } else {
            Ok((is_heard || S::JOURNAL == Journal::State).then_some(record.state))
        }
    }

    /// Goes by the options of the client that sends a server to its next life,
    /// or of the runtime that it came from.
    pub(super) fn adopt_settings(&mut self, terms: &Terms<S>) -> Option<Arc<Options>> {
        let adopted = || self.cell.lock().extras().and_then(|extras| extras.adopted.clone());
        let options = terms.options.clone().or_else(adopted);
        let kind = self.cell.kind();
        self.settings = options.as_deref().map(|options| kind.settings_with(options));
        options
    }

    /// What is stored once all that was staged is.
    pub(super) async fn load(&mut self) -> Result<Option<Record>, Trouble> {
        self.gate.settle().await;
        self.gate.take_failure();
        let id = self.id();
        let storage = self.cell.kind().core().storage().clone();
        match self.drive(async { storage.load(&id).await }).await {
            Driven::Done(Ok(record)) => Ok(record),
            Driven::Done(Err(source)) => Err(self.storage_trouble(source)),
            Driven::Panicked(panic) => Err(self.storage_trouble(StorageError::other(panic))),
            Driven::Killed => Err(self.kill_trouble()),
        }
    }

    pub(super) async fn init(
        &mut self,
        init: &Arc<S::Init>,
        context: &Context<S>,
    ) -> Result<S, Trouble> {
        let first = async { S::init(S::Init::clone(init), context).await };
        let reason = match self.drive(first).await {
            Driven::Done(Ok(state)) => return Ok(state),
            Driven::Done(Err(reason)) => reason,
            Driven::Panicked(panic) => format!("panicked: {panic}"),
            Driven::Killed => return Err(self.kill_trouble()),
        };
        Err(Trouble::Error(CallError::Init { server: self.id(), reason }))
    }

    pub(super) fn decode(&self, record: &Record, context: &Context<S>) -> Result<S, Trouble> {
        let decoded = if record.format == codec::FORMAT {
            caught(|| S::decode(record.version, &record.state.bytes(), context))
                .map_err(|text| Trouble::Panic { text, poison: true })?
        } else {
            Err(DecodeError::Format { stored: record.format })
        };
        decoded.map_err(|source| self.decode_trouble(record.version, source))
    }

    /// Does what the restart policy says of a crash, and again if the server
    /// crashes while it is revived.
    pub(super) async fn crash(&mut self, mut panic: String, mut poison: bool) {
        let settings = self.settings().clone();
        loop {
            // What an earlier message made is kept: it is what is loaded next.
            self.gate.settle().await;
            let address = Address::existing(self.cell.key().clone());
            self.cell.kind().listen(|listener| listener.on_crash(&address, &panic));
            self.cell.tell(&Event::Crashed { panic: panic.clone(), poison });
            let verdict = {
                let mut mailbox = self.cell.lock();
                let extras = mailbox.extend();
                let verdict = extras.crashes.record(Instant::now(), &settings);
                if verdict == Verdict::Fail {
                    extras.failed = Some(panic.as_str().into());
                    self.blocked = true;
                }
                verdict
            };
            let Verdict::Rest(rest) = verdict else {
                self.cell.wake_line();
                return self.cell.tell(&Event::Failed { panic });
            };
            if !rest.is_zero() {
                self.rest(rest).await;
            }
            if settings.restart != Restart::Permanent || self.cell.kind().is_stopping() {
                return;
            }
            match self.activate(&Terms::default()).await {
                Ok(instance) => self.instance = Some(instance),
                Err(Trouble::Panic { text, .. }) => {
                    (panic, poison) = (text, true);
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
    pub(super) async fn rest(&mut self, rest: Duration) {
        let kind = self.cell.kind().clone();
        let mut sleep = pin!(time::sleep(rest));
        let cell = self.cell.clone();
        self.drive(poll_fn(|cx| {
            // Before the flag is looked at, or its setter finds nobody to wake.
            cell.lock().waker = Some(cx.waker().clone());
            if kind.is_stopping() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }
        }))
        .await;
    }

    pub(super) async fn stop(
        &mut self,
        instance: Option<Box<Instance<S>>>,
        reason: &StopReason,
        delete: bool,
        answer: Option<Answer>,
    ) {
        let end = if *reason == StopReason::Normal { End::NormalStop } else { End::OtherStop };
        let deletes = delete || self.settings().restart.deletes(end);
        let was_live = instance.is_some();
        let mut outcome = Ok(());
        if let Some(instance) = instance {
            outcome = self.terminate(instance, reason, !deletes).await;
        }
        if deletes {
            self.stage(None);
            outcome = Ok(());
        }
        self.gate.hold(answer, outcome.map_err(|trouble| self.error(&trouble)));
        self.ended(reason, was_live).await;
        self.cell.reset();
    }

    pub(super) async fn unload(&mut self, reason: StopReason) {
        let Some(mut instance) = self.instance.take() else { return };
        if reason == StopReason::Idle && !self.save_or_keep(&mut instance).await {
            self.instance = Some(instance);
            return;
        }
        // Without a caller to tell, the state before the trouble stays stored.
        let _ = self.terminate(instance, &reason, true).await;
        self.ended(&reason, true).await;
    }

    /// Runs the hook. What it changed is stored if the state is to be kept and
    /// the hook returned.
    pub(super) async fn terminate(
        &mut self,
        mut instance: Box<Instance<S>>,
        reason: &StopReason,
        keep: bool,
    ) -> Result<(), Trouble> {
        let mut outcome = if keep { self.save(&mut instance) } else { Ok(()) };
        let Instance { state, context, .. } = &mut *instance;
        let driven = self.drive(S::terminate(state, reason, context)).await;
        if let Some(source) = self.gate.take_failure() {
            // This state stands on one that is lost.
            outcome = Err(self.storage_trouble(source));
        } else if keep && outcome.is_ok() && matches!(driven, Driven::Done(())) {
            instance.unsaved |= S::TERMINATE_WRITES;
            if let Some(log) = &mut instance.log
                && (instance.unsaved || log.is_behind())
            {
                // The next activation need not replay anything.
                log.store_whole();
                instance.unsaved = true;
            }
            outcome = self.save(&mut instance);
        }
        for answer in self.cell.take_posted() {
            let outcome = outcome.as_ref().map_err(|trouble| self.error(trouble)).copied();
            self.gate.hold(Some(answer), outcome);
        }
        let Instance { state, context, .. } = &*instance;
        self.cell.kind().listen(|listener| listener.on_terminate(context.address(), reason, state));
        discard(Some(instance));
        outcome
    }

    /// The end of an orderly end: its commit is done.
    pub(super) async fn ended(&mut self, reason: &StopReason, was_live: bool) {
        self.gate.settle().await;
        self.gate.take_failure();
        self.cell.forget_kept();
        if was_live {
            self.cell.tell(&Event::Stopped { reason: reason.clone() });
        }
    }

    /// Somebody has killed the server between two messages.
    pub(super) fn killed(&mut self) {
        if let Some(instance) = self.instance.take() {
            discard(Some(instance));
            let _ = self.kill_trouble();
        }
    }

    /// What a kill in the middle of a message comes to.
    pub(super) fn kill_trouble(&self) -> Trouble {
        self.cell.forget_kept();
        self.cell.tell(&Event::Killed);
        Trouble::Error(CallError::Killed { server: self.id() })
    }
}
