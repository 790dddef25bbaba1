//! From a changed state to the next commit.

use std::time::Duration;

use super::{Failure, Task, activate::Purpose};
use crate::{
    codec::{self, EncodeError},
    config::options::Persist,
    engine::{
        context::{AnyAddress, ContextCore},
        followers::{EncodedChange, Follower},
        instance::Instance,
        message_journal::{MessageJournal, ReplayChecker},
        reminders::{Reminder, Reminders},
    },
    error::CallError,
    observe::event::Event,
    storage::{Record, Update, encoded::Encoded},
    support::catch::catch_unwind,
};

/// When a late save that the storage has refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Task {
    /// Persists what a message changed, as the persist level says: the client's, or the server's
    /// own. A reminder is stored under each level.
    pub(super) fn persist(
        &mut self,
        instance: &mut Instance,
        persist: Option<Persist>,
    ) -> Result<(), Failure> {
        let effects = &instance.server.context().effects;
        if let Some(error) = effects.take_error() {
            return Err(Failure::Error(error));
        }
        let level = persist.unwrap_or(instance.parts.settings.persist);
        if level == Persist::EveryMessage || effects.reminders_changed() {
            return self.save(instance);
        }
        let expiry = self.cell.registry().services().expiry();
        instance.parts.save_within(level, expiry);
        Ok(())
    }

    /// Stages the state if its stored form or the reminders have changed; or, where messages are
    /// journaled and no snapshot is due, the messages that led to it.
    pub(super) fn save(&mut self, instance: &mut Instance) -> Result<(), Failure> {
        let reminders_changed = instance.server.context().effects.take_reminders_changed();
        if !instance.parts.is_unsaved && !reminders_changed {
            return Ok(());
        }
        instance.parts.is_unsaved = false;
        instance.parts.save_by = None;
        let has_listeners = self.has_change_listeners();
        let journal = instance.parts.journal.as_deref_mut();
        let messages = journal.filter(|_| !reminders_changed).and_then(MessageJournal::take);
        if !has_listeners && let Some(messages) = messages {
            // It would be out of date if a follower came later.
            instance.parts.saved = None;
            self.gate.stage(Update::Append(messages));
            return Ok(());
        }
        let new = self.encode(instance, instance.parts.saved.as_ref())?;
        let context = instance.server.context();
        let (reminders, due) =
            context.effects.with_reminders(|reminders| (reminders.write(), reminders.due()));
        let reminders = reminders.map_err(|source| self.encode_failure(source))?;
        let address = context.address().clone();
        let parts = &mut instance.parts;
        let old = parts.saved.take();
        let changed = old.as_ref().is_none_or(|old| !old.is(&new));
        parts.saved = (has_listeners || parts.journal.is_none()).then(|| new.clone());
        let record = || {
            let version = self.cell.registry().server_type().version();
            Record::new(version, codec::FORMAT, new.clone()).with_reminders(reminders, due)
        };
        match (messages, &mut parts.journal) {
            (Some(messages), _) => {
                let record = changed.then(record);
                self.gate.stage(Update::Append(messages));
                if record.is_some() {
                    self.notify_observers(record);
                }
            }
            (None, Some(journal)) => {
                let record = record();
                let checker = self.checker(&record, &address)?;
                journal.restart(self.cell.registry().server_type(), &record, checker);
                self.stage(Some(record));
            }
            (None, None) if changed || reminders_changed => {
                let record = record();
                self.stage(Some(record));
            }
            (None, None) => {}
        }
        if changed {
            self.notify_listeners(address, old, new);
        }
        Ok(())
    }

    /// Returns the stored form of the state; `saved` itself, if it is equal to that. Any other form
    /// can be read back, as far as that is checked.
    pub(super) fn encode(
        &self,
        instance: &Instance,
        saved: Option<&Encoded>,
    ) -> Result<Encoded, Failure> {
        codec::with_buffer(|buffer| match catch_unwind(|| instance.server.encode(buffer)) {
            Err(text) => Err(Failure::Panic { text, is_poison: false }),
            Ok(Err(source)) => Err(self.encode_failure(source)),
            Ok(Ok(())) => {
                let new = match saved {
                    Some(saved) => saved.followed_by(buffer),
                    None => buffer[..].into(),
                };
                if saved.is_none_or(|saved| !saved.is(&new)) {
                    let checked = self.cell.registry().check_state(buffer);
                    checked.map_err(|source| self.encode_failure(source))?;
                }
                Ok(new)
            }
        })
    }

    fn encode_failure(&self, source: EncodeError) -> Failure {
        Failure::Error(CallError::Encode { server: self.id(), source: source.into() })
    }

    /// Returns true if a listener, observer or follower receives each change, with the state that
    /// it led to.
    pub(super) fn has_change_listeners(&self) -> bool {
        let registry = self.cell.registry();
        registry.server_type().has_listeners()
            || registry.services().is_change_observed()
            || self.cell.is_followed()
    }

    /// Creates a second instance of what `record` leads to, if replays are checked.
    fn checker(
        &self,
        record: &Record,
        address: &AnyAddress,
    ) -> Result<Option<ReplayChecker>, Failure> {
        if !self.cell.registry().services().checks_replay() {
            return Ok(None);
        }
        let reminders = Reminders::read(&record.reminders)
            .map_err(|source| self.decode_failure(record.version, source))?;
        let init = address.init.clone();
        self.decode(record, init, reminders, Purpose::Check).map(ReplayChecker::new).map(Some)
    }

    /// Makes `record` the next commit, or a deletion, and notifies observers once it is durable.
    pub(super) fn stage(&mut self, record: Option<Record>) {
        self.gate.stage(record.clone().map_or(Update::Delete, Update::Put));
        if record.is_none() {
            self.notify_followers(EncodedChange::Deleted);
        }
        if let Some(due) = record.as_ref().and_then(|record| record.due) {
            let registry = self.cell.registry().clone();
            self.gate.on_commit(move || registry.reminder_wakeup().stored(due));
        }
        self.notify_observers(record);
    }

    /// Notifies the runtime's observers of a change once it is committed.
    fn notify_observers(&mut self, record: Option<Record>) {
        let services = self.cell.registry().services().clone();
        if services.is_change_observed() {
            let id = self.id();
            self.gate.on_commit(move || {
                services.observe(|observer| observer.on_change(&id, record.as_ref()));
            });
        }
    }

    /// Lets a follower begin with the current state, once that is committed.
    pub(super) fn follow(
        &mut self,
        instance: &mut Instance,
        follower: Follower,
    ) -> Result<(), Failure> {
        self.save(instance)?;
        let state = match &instance.parts.saved {
            Some(saved) => saved.clone(),
            None => self.encode(instance, None)?,
        };
        let (cell, handle) = (self.cell.clone(), follower.handle());
        // What is staged from now on is reported behind this state.
        cell.add_follower(follower);
        self.gate.on_commit(move || cell.with_followers(|all| all.begin(&handle, state)));
        Ok(())
    }

    /// Notifies the server's followers of a change once it is committed.
    fn notify_followers(&mut self, change: EncodedChange) {
        if self.cell.is_followed() {
            let cell = self.cell.clone();
            self.gate.on_commit(move || cell.notify_followers(&change));
        }
    }

    /// Notifies the server's followers and the type's listeners of a change once it is committed.
    fn notify_listeners(&mut self, address: AnyAddress, old: Option<Encoded>, new: Encoded) {
        self.notify_followers(EncodedChange::Committed(new.clone()));
        if !self.cell.registry().server_type().has_listeners() {
            return;
        }
        let cell = self.cell.clone();
        self.gate.on_commit(move || {
            let context = ContextCore::new(&cell, address.init, Reminders::default());
            cell.registry().server_type().notify_changed(context, old.as_ref(), &new);
        });
    }

    /// Saves what a weaker persist level has postponed.
    pub(super) async fn save_late(&mut self) {
        if let Some(mut instance) = self.instance.take() {
            self.save_or_keep(&mut instance).await;
            self.instance = Some(instance);
        }
    }

    /// Saves unacknowledged changes and waits for the commit. If it cannot be
    /// saved, it stays in memory and is tried again: nothing is lost while the process lives.
    pub(super) async fn save_or_keep(&mut self, instance: &mut Instance) -> bool {
        if !instance.parts.is_unsaved {
            return true;
        }
        // A failure of an earlier commit must drop the instance: its callers received the error.
        self.gate.drain().await;
        if self.gate.has_failed() {
            return true;
        }
        let saved = self.save(instance);
        self.gate.drain().await;
        let reason = match (saved, self.gate.take_failure()) {
            (Ok(()), None) => return true,
            (Err(failure), _) => self.error(&failure).to_string(),
            (_, Some(source)) => source.to_string(),
        };
        let parts = &mut instance.parts;
        parts.saved = None;
        if let Some(journal) = &mut parts.journal {
            journal.require_snapshot();
        }
        parts.retry_save_at(self.now().checked_add(RETRY));
        self.cell.notify(&Event::Unsaved { reason });
        false
    }

    /// Deletes a reminder whose message crashed the server. The server is back at a state that
    /// still has the reminder.
    pub(super) async fn delete_reminder(&mut self, reminder: &Reminder) {
        if let Some(mut instance) = self.instance.take() {
            instance.server.context().effects.remove_reminder(reminder);
            let _ = self.save(&mut instance);
            self.instance = Some(instance);
        } else if let Ok(Some(record)) = self.load().await
            && let Ok(mut reminders) = Reminders::read(&record.reminders)
            // Before the reminder goes: the journaled messages may have read it.
            && let Ok(record) = self.fold_messages(record, &reminders).await
            && reminders.remove(reminder)
            && let Ok(bytes) = reminders.write()
        {
            self.stage(Some(record.with_reminders(bytes, reminders.due())));
        }
    }

    /// Returns a record without messages that leads to the same state as `record`.
    async fn fold_messages(
        &mut self,
        record: Record,
        reminders: &Reminders,
    ) -> Result<Record, Failure> {
        if record.messages.is_empty() {
            return Ok(record);
        }
        let instance = self.rebuild(&record, None, reminders.clone(), Purpose::Live).await?;
        let state = self.encode(&instance, None)?;
        let version = self.cell.registry().server_type().version();
        Ok(Record::new(version, record.format, state).with_reminders(record.reminders, record.due))
    }
}
