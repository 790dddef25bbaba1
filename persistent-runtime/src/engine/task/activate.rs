//! Loading and creating the instance.

use std::sync::Arc;

use super::{Failure, HookResult, Task, drive, save::RETRY};
use crate::{
    codec::{self, DecodeError},
    config::options::{Journal, Options},
    engine::{
        command::CallOptions,
        context::ContextCore,
        erased::{AnyInit, Hook},
        instance::{Instance, InstanceParts},
        message_journal::{MessageJournal, ReplayChecker},
        reminders::Reminders,
        replay::replay,
    },
    error::CallError,
    observe::event::Event,
    storage::{Record, StorageError, encoded::Encoded},
    support::{catch::catch_unwind, sync::task::yield_now},
};

/// The purpose for which an instance is loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be the server, or its state.
    Live,
    /// To check replays: nothing that it asks for happens.
    Check,
}

impl Task {
    /// Loads the instance, or creates it if nothing is stored and the caller has init arguments.
    ///
    /// After a failed commit with a fallback, that is activated instead, unless the commit took
    /// effect all the same.
    pub(super) async fn activate(
        &mut self,
        options: &CallOptions,
    ) -> Result<Box<Instance>, Failure> {
        self.gate.drain().await;
        self.take_failure();
        let Some(fallback) = self.fallback.take() else {
            let record = self.load().await?;
            return self.activate_from(record, options, false).await;
        };
        let own_options = self.fallback_options.take().unwrap_or_default();
        let activated = match self.load().await {
            Err(Failure::Error(error @ CallError::Killed { .. })) => Err(Failure::Error(error)),
            _ if self.cell.registry().services().is_halted() => Err(self.kill_failure()),
            Ok(stored) if fallback.is_outdated(stored.as_ref()) => {
                return Box::pin(self.activate_from(stored, &own_options, false)).await;
            }
            _ => {
                let record = Some(fallback.record.clone());
                Box::pin(self.activate_from(record, &own_options, true)).await
            }
        };
        if activated.is_err() && self.is_overdue() {
            // The shutdown still stores it.
            self.fallback = Some(fallback);
        }
        activated
    }

    /// Activates the server with the fallback of a failed commit.
    pub(super) async fn recover(&mut self) {
        match self.activate(&CallOptions::default()).await {
            Ok(instance) => self.instance = Some(instance),
            Err(failure) => self.decline(failure, None).await,
        }
    }

    async fn activate_from(
        &mut self,
        record: Option<Record>,
        options: &CallOptions,
        is_fallback: bool,
    ) -> Result<Box<Instance>, Failure> {
        let registry = self.cell.registry().clone();
        let of = registry.server_type();
        let client_options = self.adopt_settings(options);
        let init = options.init.clone();
        let started = of.started_hook();
        let mut instance = match record {
            Some(record) => {
                let reminders = Reminders::read(&record.reminders, record.version)
                    .map_err(|source| self.decode_failure(record.version, source))?;
                let (init, copy) = (init.clone(), reminders.clone());
                let mut instance = self.rebuild(&record, init.clone(), copy, Purpose::Live).await?;
                instance.parts.journal = self.journal(&record, init, reminders).await?;
                instance.parts.saved = self.saved(record, &instance)?;
                instance.parts.is_unsaved = started == Hook::Writes;
                instance
            }
            None => {
                let Some(init) = init else {
                    return Err(Failure::Error(CallError::NotFound { server: self.id() }));
                };
                let mut instance = self.init(init).await?;
                instance.parts.journal = MessageJournal::new(of, None, true).map(Box::new);
                instance.parts.is_unsaved = true;
                instance
            }
        };
        instance.parts.options = client_options;
        instance.set_live();
        if started != Hook::Absent {
            let hook = instance.server.started();
            match drive(&mut self.gate, &self.cell, hook).await {
                HookResult::Done(()) => {}
                HookResult::Panicked(text) => {
                    return Err(Failure::Panic { text, is_poison: true });
                }
                HookResult::Killed => return Err(self.kill_failure()),
            }
        }
        instance.server.context().effects.end_activation();
        if is_fallback {
            // Not saved at once: the storage has just failed.
            instance.parts.retry_save_at(self.now().checked_add(RETRY));
            Self::check(&instance)?;
        } else {
            self.persist(&mut instance, None)?;
        }
        self.cell.notify(&Event::Started);
        Ok(instance)
    }

    /// Creates the message journal of a server that begins with `record`.
    async fn journal(
        &mut self,
        record: &Record,
        init: Option<AnyInit>,
        reminders: Reminders,
    ) -> Result<Option<Box<MessageJournal>>, Failure> {
        let registry = self.cell.registry().clone();
        let of = registry.server_type();
        let needs_snapshot = record.version != of.version() || of.started_hook() == Hook::Writes;
        let Some(mut journal) = MessageJournal::new(of, Some(record), needs_snapshot) else {
            return Ok(None);
        };
        if !needs_snapshot && registry.services().checks_replay() {
            let checker = self.rebuild(record, init, reminders, Purpose::Check).await?;
            journal.check(ReplayChecker::new(checker));
        }
        Ok(Some(Box::new(journal)))
    }

    /// Returns what the next stored form is compared with.
    fn saved(&self, record: Record, instance: &Instance) -> Result<Option<Encoded>, Failure> {
        let of = self.cell.registry().server_type();
        let has_listeners = self.has_change_listeners();
        if record.version != of.version() {
            Ok(None)
        } else if !record.messages.is_empty() {
            has_listeners.then(|| self.encode(instance, None)).transpose()
        } else {
            Ok((has_listeners || of.journal() == Journal::State).then_some(record.state))
        }
    }

    /// Applies the options of the activating client, or those that came with a transfer.
    pub(super) fn adopt_settings(&mut self, options: &CallOptions) -> Option<Arc<Options>> {
        let transferred = || self.cell.lock().transferred_options();
        let options = options.options.clone().or_else(transferred);
        let registry = self.cell.registry();
        self.settings = options.as_deref().map(|options| registry.settings_with(options));
        options
    }

    /// Loads what is stored once everything that was staged is durable.
    pub(super) async fn load(&mut self) -> Result<Option<Record>, Failure> {
        self.gate.drain().await;
        self.take_failure();
        let id = self.id();
        let storage = self.cell.registry().services().storage().clone();
        match self.drive(async { storage.load(&id).await }).await {
            HookResult::Done(Ok(record)) => Ok(record),
            HookResult::Done(Err(source)) => Err(self.not_run(source)),
            HookResult::Panicked(panic) => Err(self.not_run(StorageError::other(panic))),
            HookResult::Killed => Err(self.kill_failure()),
        }
    }

    async fn init(&mut self, init: AnyInit) -> Result<Box<Instance>, Failure> {
        let registry = self.cell.registry().clone();
        let context = ContextCore::new(&self.cell, Some(init.clone()), Reminders::default());
        let parts = InstanceParts::new(self.settings().clone());
        let first = registry.server_type().init(init, parts, context);
        let reason = match self.drive(first).await {
            HookResult::Done(Ok(instance)) => return Ok(instance),
            HookResult::Done(Err(reason)) => reason,
            HookResult::Panicked(panic) => format!("panicked: {panic}"),
            HookResult::Killed => return Err(self.kill_failure()),
        };
        Err(Failure::Error(CallError::Init { server: self.id(), reason }))
    }

    /// Rebuilds the instance that `record` leads to, its messages replayed.
    pub(super) async fn rebuild(
        &mut self,
        record: &Record,
        init: Option<AnyInit>,
        reminders: Reminders,
        purpose: Purpose,
    ) -> Result<Box<Instance>, Failure> {
        let mut instance = self.decode(record, init, reminders, purpose)?;
        if record.messages.is_empty() {
            return Ok(instance);
        }
        // The effects of the `#[restore]` or `#[migrate]` function belong to no message.
        let set_aside = instance.server.context().effects.set_aside();
        for (number, entry) in (1..).zip(&record.messages) {
            replay(&mut instance.server, record.version, entry).map_err(|source| {
                Failure::Error(CallError::Replay {
                    server: self.id(),
                    version: record.version,
                    number,
                    of: record.messages.len(),
                    source: source.into(),
                })
            })?;
            // A kill does not wait for the last message.
            if self.spend_budget()
                && let HookResult::Killed = self.drive(yield_now()).await
            {
                return Err(self.kill_failure());
            }
        }
        let context = instance.server.context();
        context.effects.restore(set_aside);
        if purpose == Purpose::Live {
            context.end_replay();
        }
        Ok(instance)
    }

    pub(super) fn decode(
        &self,
        record: &Record,
        init: Option<AnyInit>,
        reminders: Reminders,
        purpose: Purpose,
    ) -> Result<Box<Instance>, Failure> {
        let registry = self.cell.registry();
        let mut context = ContextCore::new(&self.cell, init, reminders);
        if !record.messages.is_empty() || purpose == Purpose::Check {
            context = context.with_inputs();
        }
        if purpose == Purpose::Check {
            context.begin_replay();
        }
        let parts = InstanceParts::new(self.settings().clone());
        let decoded = if record.format == codec::FORMAT {
            catch_unwind(|| {
                let bytes = record.state.bytes();
                registry.server_type().decode(record.version, &bytes, parts, context)
            })
            // No crash, which may delete the state: nothing has been handled.
            .unwrap_or_else(|text| Err(DecodeError::panicked(&text)))
        } else {
            Err(DecodeError::Format { stored: record.format })
        };
        let instance = decoded.map_err(|source| self.decode_failure(record.version, source))?;
        if purpose == Purpose::Check {
            // The live instance already has what `#[restore]` asked for.
            instance.server.context().effects.discard();
        }
        Ok(instance)
    }
}
