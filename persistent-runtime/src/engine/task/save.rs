//! From a changed state to the next commit.

use std::time::Duration;

use super::{
    Instance, Task, Trouble,
    log::{Log, Shadow},
};
use crate::{
    api::address::Address, api::context::Context, api::server::Server, codec, codec::EncodeError,
    config::options::Persist, engine::reminders::Reminder, engine::reminders::Reminders,
    error::CallError, observe::event::Event, storage::Record, storage::Update,
    storage::encoded::Encoded, support::catch::catch_unwind,
};

/// When a late save that the store has refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl<S: Server> Task<S> {
    /// Sees to what a message changed, as the persist level says: the client's,
    /// or the server's own. A durable timer is stored under each level.
    pub(super) fn keep(
        &mut self,
        instance: &mut Instance<S>,
        persist: Option<Persist>,
    ) -> Result<(), Trouble> {
        if let Some(error) = instance.context.take_trouble() {
            return Err(Trouble::Error(error));
        }
        let level = persist.unwrap_or(instance.settings.persist);
        if level == Persist::EveryMessage || instance.context.is_reminded() {
            return self.save(instance);
        }
        instance.flush_within(level);
        Ok(())
    }

    /// Stages the state if its stored form has changed, or the durable timers
    /// have; or the messages that have led to it, where they are journaled and
    /// it is not time for a snapshot.
    pub(super) fn save(&mut self, instance: &mut Instance<S>) -> Result<(), Trouble> {
        let reminded = instance.context.take_reminded();
        if !instance.unsaved && !reminded {
            return Ok(());
        }
        instance.unsaved = false;
        instance.flush_at = None;
        let Instance { state, saved, log, context, .. } = instance;
        let is_heard = self.is_heard();
        let messages = log.as_deref_mut().filter(|_| !reminded).and_then(Log::take);
        if !is_heard && let Some(messages) = messages {
            self.gate.stage(Update::Append(messages));
            return Ok(());
        }
        let new = self.encode(state, saved.as_ref())?;
        let (reminders, due) =
            context.with_reminders(|reminders| (reminders.write(), reminders.due()));
        let reminders = reminders.map_err(|source| self.encode_trouble(source))?;
        let old = saved.take();
        let changed = old.as_ref().is_none_or(|old| !old.is(&new));
        *saved = (is_heard || log.is_none()).then(|| new.clone());
        let record = || {
            let (version, format) = (S::VERSION, codec::FORMAT);
            let (state, messages) = (new.clone(), Vec::new());
            Record { version, format, state, reminders, due, messages }
        };
        match (messages, log) {
            (Some(messages), _) => {
                self.gate.stage(Update::Append(messages));
                if changed {
                    self.tell_observers(Some(record()));
                }
            }
            (None, Some(log)) => {
                let record = record();
                log.begin(&record, self.shadow(&record, context)?);
                self.stage(Some(record));
            }
            (None, None) if changed || reminded => self.stage(Some(record())),
            (None, None) => {}
        }
        if changed {
            self.tell_change(context.address(), old, new);
        }
        Ok(())
    }

    /// The stored form of `state`; `saved`, if it is that.
    pub(super) fn encode(&self, state: &S, saved: Option<&Encoded>) -> Result<Encoded, Trouble> {
        codec::with_buffer(|buffer| match catch_unwind(|| state.encode(buffer)) {
            Err(text) => Err(Trouble::Panic { text, poison: false }),
            Ok(Err(source)) => Err(self.encode_trouble(source)),
            Ok(Ok(())) => Ok(match saved {
                Some(saved) => saved.followed_by(buffer),
                None => buffer[..].into(),
            }),
        })
    }

    fn encode_trouble(&self, source: EncodeError) -> Trouble {
        Trouble::Error(CallError::Encode { server: self.id(), source: source.into() })
    }

    /// Whether somebody hears of each change, with the state that it has led to.
    pub(super) fn is_heard(&self) -> bool {
        let kind = self.cell.kind();
        !kind.listeners().is_empty() || kind.core().is_observed()
    }

    /// A second state of what `record` leads to, if replays are checked.
    fn shadow(&self, record: &Record, context: &Context<S>) -> Result<Option<Shadow<S>>, Trouble> {
        if !self.cell.kind().core().checks_replay() {
            return Ok(None);
        }
        let context = context.for_replay(&self.cell);
        let state = self.decode(record, &context)?;
        Ok(Some(Shadow { state, context }))
    }

    /// Makes `record` the next commit, and has those told who want to know.
    pub(super) fn stage(&mut self, record: Option<Record>) {
        self.gate.stage(record.clone().map_or(Update::Delete, Update::Put));
        if let Some(due) = record.as_ref().and_then(|record| record.due) {
            let kind = self.cell.kind().clone();
            self.gate.then(move || kind.bell().ring(due));
        }
        self.tell_observers(record);
    }

    /// Has the runtime's observers hear of a change once it is committed.
    fn tell_observers(&mut self, record: Option<Record>) {
        let kind = self.cell.kind().clone();
        if kind.core().is_observed() {
            let id = self.id();
            self.gate.then(move || {
                kind.core().observe(|observer| observer.on_change(&id, record.as_ref()));
            });
        }
    }

    /// Has the type's listeners hear of a change once it is committed.
    pub(super) fn tell_change(&mut self, address: &Address<S>, old: Option<Encoded>, new: Encoded) {
        if self.cell.kind().listeners().is_empty() {
            return;
        }
        let (cell, address) = (self.cell.clone(), address.clone());
        self.gate.then(move || {
            let context = Context::new(&cell, address, Reminders::default());
            let state = |encoded: Encoded| S::decode(S::VERSION, &encoded.bytes(), &context).ok();
            let old = old.and_then(state);
            if let Some(new) = state(new) {
                cell.kind().listen(|listener| {
                    listener.on_state_changed(context.address(), old.as_ref(), &new);
                });
            }
        });
    }

    /// Saves what a weaker persist level has let wait.
    pub(super) async fn flush(&mut self) {
        if let Some(mut instance) = self.instance.take() {
            self.save_or_keep(&mut instance).await;
            self.instance = Some(instance);
        }
    }

    /// Saves what nobody has a receipt for yet, and waits for the commit. If it
    /// can't be saved it stays in memory, to be tried again: nothing is lost
    /// while the process lives.
    pub(super) async fn save_or_keep(&mut self, instance: &mut Instance<S>) -> bool {
        if !instance.unsaved {
            return true;
        }
        // A failure of what was staged before is another matter: callers were
        // told, and memory has to go back.
        self.gate.settle().await;
        if self.gate.has_failed() {
            return true;
        }
        let saved = self.save(instance);
        self.gate.settle().await;
        let reason = match (saved, self.gate.take_failure()) {
            (Ok(()), None) => return true,
            (Err(trouble), _) => self.error(&trouble).to_string(),
            (_, Some(source)) => source.to_string(),
        };
        instance.saved = None;
        if let Some(log) = &mut instance.log {
            log.store_whole();
        }
        instance.unsaved = true;
        instance.flush_at = self.now().checked_add(RETRY);
        self.cell.tell(&Event::Unsaved { reason });
        false
    }

    /// Deletes a durable timer whose message crashed the server, which is back
    /// at a state that still has it.
    pub(super) async fn drop_reminder(&mut self, reminder: &Reminder) {
        if let Some(mut instance) = self.instance.take() {
            instance.context.drop_reminder(reminder);
            let _ = self.save(&mut instance);
            self.instance = Some(instance);
        } else if let Ok(Some(record)) = self.load().await
            && let Ok(mut reminders) = Reminders::read(&record.reminders)
            // Before it goes: its messages may have seen it.
            && let Ok(mut record) = self.fold(record, &reminders).await
            && reminders.remove(reminder)
            && let Ok(bytes) = reminders.write()
        {
            record.reminders = bytes;
            record.due = reminders.due();
            self.stage(Some(record));
        }
    }

    /// The record with no messages that leads where `record` does.
    async fn fold(&mut self, record: Record, reminders: &Reminders) -> Result<Record, Trouble> {
        if record.messages.is_empty() {
            return Ok(record);
        }
        let address = Address::existing(self.cell.key().clone());
        let context = Context::new(&self.cell, address, reminders.clone());
        let state = self.read(&record, &context).await?;
        let state = self.encode(&state, None)?;
        Ok(Record { version: S::VERSION, state, messages: Vec::new(), ..record })
    }
}
