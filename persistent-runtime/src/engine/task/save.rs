//! From a changed state to the next commit.

use std::{mem, sync::Arc, time::Duration};

use super::{Failure, Task, activate::Purpose};
use crate::{
    call::output_gate::FailedCommit,
    codec::{self, EncodeError},
    config::options::Persist,
    engine::{
        cell::Cell,
        command::CallOptions,
        context::{AnyAddress, ContextCore},
        followers::{EncodedChange, Follower},
        instance::{Instance, InstanceParts},
        message_journal::{MessageJournal, ReplayChecker},
        reminders::{Reminder, Reminders, StoredReminder},
    },
    error::CallError,
    observe::event::Event,
    storage::{Record, StorageError, Update, encoded::Encoded},
    support::catch::catch_unwind,
};

/// When a late save that the storage has refused is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A save of acknowledged changes that needs the state no more.
pub(super) enum PreparedSave {
    /// The pending messages of the journal.
    Messages,
    Snapshot(Record, AnyAddress),
}

impl Task {
    /// Persists what a message changed, as the persist level says: the client's, or the server's
    /// own. A reminder is stored under each level.
    pub(super) fn persist(
        &mut self,
        instance: &mut Instance,
        persist: Option<Persist>,
    ) -> Result<(), Failure> {
        Self::check(instance)?;
        let effects = &instance.server.context().effects;
        let level = persist.unwrap_or(instance.parts.settings.persist);
        if level == Persist::EveryMessage || effects.reminders_changed() {
            return self.save(instance);
        }
        let expiry = self.cell.registry().services().expiry();
        instance.parts.save_within(level, expiry);
        Ok(())
    }

    /// Returns the error with which a message failed although its handler returned.
    pub(super) fn check(instance: &Instance) -> Result<(), Failure> {
        match instance.server.context().effects.take_error() {
            Some(error) => Err(Failure::Error(error)),
            None => Ok(()),
        }
    }

    /// Stages what earlier messages under weaker levels left unsaved, before a message under
    /// `every_message` runs. If it cannot be encoded, that message must not run: nothing could be
    /// stored of it, and its change could not be undone.
    pub(super) fn save_owed(
        &mut self,
        instance: &mut Instance,
        persist: Option<Persist>,
    ) -> Result<(), Failure> {
        if !instance.parts.owes_before(persist) {
            return Ok(());
        }
        self.save(instance)
    }

    /// Stages the state if its stored form or the reminders have changed; or, where messages are
    /// journaled and no snapshot is due, the messages that led to it. If it cannot be encoded,
    /// acknowledged changes stay in memory, and the save is retried.
    ///
    /// If acknowledged changes are unsaved, the state becomes the fallback of the commit.
    pub(super) fn save(&mut self, instance: &mut Instance) -> Result<(), Failure> {
        let is_owed = mem::take(&mut instance.parts.is_owed);
        let saved = self.stage_state(instance, is_owed && !self.gate.has_staged());
        if saved.is_err() && is_owed {
            instance.parts.retry_save_at(self.now().checked_add(RETRY));
        }
        saved
    }

    fn stage_state(&mut self, instance: &mut Instance, is_owed: bool) -> Result<(), Failure> {
        let reminders_changed = instance.server.context().effects.take_reminders_changed();
        if !instance.parts.is_unsaved && !reminders_changed {
            return Ok(());
        }
        instance.parts.is_unsaved = false;
        instance.parts.save_by = None;
        let has_listeners = self.has_change_listeners();
        let journal = instance.parts.journal.as_deref_mut();
        let messages = journal.filter(|_| !reminders_changed).and_then(MessageJournal::take);
        if !has_listeners
            && !is_owed
            && let Some(messages) = messages
        {
            // It would be out of date if a follower came later.
            instance.parts.saved = None;
            self.gate.stage(Update::Append(messages));
            return Ok(());
        }
        let snapshot = self.snapshot(instance)?;
        if is_owed {
            self.set_fallback(instance, &snapshot);
        }
        let address = instance.server.context().address().clone();
        self.stage_snapshot(&mut instance.parts, snapshot, messages, reminders_changed, address)
    }

    /// Encodes the state and the reminders.
    pub(super) fn snapshot(&self, instance: &Instance) -> Result<Record, Failure> {
        let state = self.encode(instance, instance.parts.saved.as_ref())?;
        let effects = &instance.server.context().effects;
        let (reminders, due) =
            effects.with_reminders(|reminders| (reminders.write(), reminders.due()));
        let reminders = reminders.map_err(|source| self.encode_failure(source))?;
        let version = self.cell.registry().server_type().version();
        Ok(Record::new(version, codec::FORMAT, state).with_reminders(reminders, due))
    }

    /// Stages a snapshot of the state, or the `messages` that led to it.
    fn stage_snapshot(
        &mut self,
        parts: &mut InstanceParts,
        snapshot: Record,
        messages: Option<Vec<Arc<[u8]>>>,
        reminders_changed: bool,
        address: AnyAddress,
    ) -> Result<(), Failure> {
        let has_listeners = self.has_change_listeners();
        let (new, due) = (snapshot.state.clone(), snapshot.due);
        let old = parts.saved.take();
        let changed = old.as_ref().is_none_or(|old| !old.is(&new));
        parts.saved = (has_listeners || parts.journal.is_none()).then(|| new.clone());
        match (messages, &mut parts.journal) {
            (Some(messages), _) => {
                self.gate.stage(Update::Append(messages));
                if changed {
                    self.notify_observers(Some(snapshot));
                }
            }
            (None, Some(journal)) => {
                let checker = self.checker(&snapshot, &address)?;
                journal.restart(self.cell.registry().server_type(), &snapshot, checker);
                self.stage(Some(snapshot));
            }
            (None, None) if changed || reminders_changed => self.stage(Some(snapshot)),
            (None, None) => {}
        }
        // Without a predecessor, the state may come from a failed commit, whose announcement is lost.
        if reminders_changed || (old.is_none() && due.is_some()) {
            self.announce_due(due);
        }
        if changed {
            self.notify_listeners(address, old, new);
        }
        Ok(())
    }

    /// Prepares a save of acknowledged changes, for a time at which the state is not at hand.
    pub(super) fn prepare_save(&self, instance: &mut Instance) -> Option<PreparedSave> {
        if !instance.parts.is_owed {
            return None;
        }
        let has_listeners = self.has_change_listeners();
        match &mut instance.parts.journal {
            Some(journal) if !has_listeners && journal.has_pending() => {
                Some(PreparedSave::Messages)
            }
            _ => {
                let snapshot = self.snapshot(instance).ok()?;
                let address = instance.server.context().address().clone();
                Some(PreparedSave::Snapshot(snapshot, address))
            }
        }
    }

    /// Stages a prepared save.
    pub(super) fn stage_prepared(
        &mut self,
        parts: &mut InstanceParts,
        save: PreparedSave,
    ) -> Result<(), Failure> {
        (parts.is_unsaved, parts.is_owed, parts.save_by) = (false, false, None);
        match save {
            PreparedSave::Messages => {
                if let Some(messages) = parts.journal.as_mut().and_then(|journal| journal.take()) {
                    parts.saved = None;
                    self.gate.stage(Update::Append(messages));
                }
                Ok(())
            }
            PreparedSave::Snapshot(snapshot, address) => {
                self.stage_snapshot(parts, snapshot, None, false, address)
            }
        }
    }

    /// Makes `snapshot`, the acknowledged state of the instance, the fallback of the next commit.
    pub(super) fn set_fallback(&mut self, instance: &Instance, snapshot: &Record) {
        self.gate.set_fallback(snapshot.clone());
        let init = instance.server.context().address().init.clone();
        let options = instance.parts.options.clone();
        self.fallback_options = Some(Box::new(CallOptions { init, options, persist: None }));
    }

    /// Returns the error of a failed commit, once. Keeps its fallback.
    pub(super) fn take_failure(&mut self) -> Option<StorageError> {
        let FailedCommit { source, fallback } = self.gate.take_failure()?;
        if let Some(fallback) = fallback {
            self.cell.notify(&Event::Unsaved { reason: source.to_string() });
            self.fallback = Some(fallback);
        }
        Some(source)
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
        let reminders = Reminders::read(&record.reminders, record.version)
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
        self.notify_observers(record);
    }

    /// Announces what is due next, once the staged commit is durable.
    pub(super) fn announce_due(&mut self, due: Option<u64>) {
        let mut announcement = Announcement { cell: Some(self.cell.clone()), due };
        self.gate.on_commit(move || announcement.make());
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
        // Later changes are reported behind this state.
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
            let _ = self.save_or_keep(&mut instance).await;
            self.instance = Some(instance);
        }
    }

    /// Saves changes that no commit in progress includes, and waits for the commit. If they cannot
    /// be saved, they stay in memory, and the save is retried: nothing is lost while the process
    /// lives.
    pub(super) async fn save_or_keep(&mut self, instance: &mut Instance) -> Result<(), Failure> {
        if !instance.parts.is_unsaved {
            return Ok(());
        }
        // A failure of an earlier commit must drop the instance: its callers received the error.
        self.gate.drain().await;
        if self.gate.has_failed() {
            return Ok(());
        }
        // The instance itself is the fallback.
        instance.parts.is_owed = false;
        let saved = self.save(instance);
        self.finish_late_save(&mut instance.parts, saved).await
    }

    /// Waits for a commit that no message depends on. If it fails, the changes stay in memory.
    pub(super) async fn finish_late_save(
        &mut self,
        parts: &mut InstanceParts,
        saved: Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.gate.drain().await;
        let failure = match (saved, self.gate.take_failure()) {
            (Ok(()), None) => return Ok(()),
            (Err(failure), _) => failure,
            (Ok(()), Some(failed)) => self.commit_failure(failed.source),
        };
        parts.retry_save_at(self.now().checked_add(RETRY));
        self.cell.notify(&Event::Unsaved { reason: self.reason(&failure) });
        Err(failure)
    }

    /// Returns why a save failed.
    pub(super) fn reason(&self, failure: &Failure) -> String {
        match failure {
            Failure::Error(CallError::Storage { source, .. }) => source.to_string(),
            failure => self.error(failure).to_string(),
        }
    }

    /// Records that the message of a reminder could not be handled: its panic has crashed the
    /// server, which is back at a state that still has the reminder, or it cannot be decoded. After
    /// `limit` attempts the runtime gives up.
    pub(super) async fn fail_reminder(
        &mut self,
        reminder: &StoredReminder,
        reason: String,
        limit: Option<u32>,
    ) -> Result<(), Failure> {
        let now = self.cell.registry().services().clock().now();
        let mut failed = None;
        let mut fail = |reminders: &mut Reminders| {
            failed = reminders.fail(reminder, &reason, now, limit);
            failed.is_some()
        };
        if let Some(mut instance) = self.instance.take() {
            if instance.server.context().effects.change_reminders(fail) {
                instance.parts.is_unsaved = true;
                let _ = self.save_or_keep(&mut instance).await;
            }
            self.instance = Some(instance);
        } else if let Some(record) = self.load().await? {
            let mut reminders = Reminders::read(&record.reminders, record.version)
                .map_err(|source| self.decode_failure(record.version, source))?;
            // Before the reminder changes: the journaled messages may have read it.
            let record = self.fold_messages(record, &reminders).await?;
            fail(&mut reminders);
            let bytes = reminders.write().map_err(|source| self.encode_failure(source))?;
            self.stage(Some(record.with_reminders(bytes, reminders.due())));
            self.announce_due(reminders.due());
        }
        if let Some(Reminder { name, due: retry, .. }) = failed {
            self.cell.notify(&Event::ReminderFailed { name, reason, retry });
        }
        Ok(())
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

/// The announcement of what is due next, which waits for a commit. Dropped without
/// [`make`](Self::make), the commit has failed, and may be stored all the same.
struct Announcement {
    /// `None` once it is made.
    cell: Option<Arc<Cell>>,
    due: Option<u64>,
}

impl Announcement {
    fn make(&mut self) {
        if let Some(cell) = self.cell.take() {
            cell.registry().agenda().announce(cell.key(), self.due);
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if let Some(cell) = &self.cell {
            cell.registry().agenda().invalidate();
        }
    }
}
