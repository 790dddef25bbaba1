//! From a changed state to the next commit.

use std::{sync::Arc, time::Duration};

use super::{Instance, Task, Trouble};
use crate::{
    Address, CallError, Context, Event, Persist, Record, Server, Update, codec,
    panic::caught,
    reminder::{Reminder, Reminders},
    sync::time::Instant,
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
        if let Some(source) = instance.context.take_trouble() {
            let source = Arc::new(source);
            return Err(Trouble::Error(CallError::Encode { server: self.id(), source }));
        }
        let level = persist.unwrap_or(instance.settings.persist);
        if level == Persist::EveryMessage || instance.context.is_reminded() {
            return self.save(instance);
        }
        instance.flush_within(level);
        Ok(())
    }

    /// Stages the state if its stored form has changed, or the durable timers
    /// have.
    pub(super) fn save(&mut self, instance: &mut Instance<S>) -> Result<(), Trouble> {
        let reminded = instance.context.take_reminded();
        if !instance.unsaved && !reminded {
            return Ok(());
        }
        instance.unsaved = false;
        instance.flush_at = None;
        let Instance { state, saved, context, .. } = instance;
        let encode_trouble = |source| {
            let source = Arc::new(source);
            Trouble::Error(CallError::Encode { server: self.id(), source })
        };
        let new = codec::with_buffer(|buffer| match caught(|| state.encode(buffer)) {
            Err(text) => Err(Trouble::Panic { text, poison: false }),
            Ok(Err(source)) => Err(encode_trouble(source)),
            Ok(Ok(())) => Ok(match saved {
                Some(saved) if **saved == buffer[..] => saved.clone(),
                _ => Arc::from(&buffer[..]),
            }),
        })?;
        let (reminders, due) =
            context.with_reminders(|reminders| (reminders.write(), reminders.due()));
        let reminders = reminders.map_err(encode_trouble)?;
        let old = saved.replace(new.clone());
        let changed = old.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &new));
        if changed || reminded {
            let (version, format) = (S::VERSION, codec::FORMAT);
            let (state, messages) = (new.clone(), Vec::new());
            self.stage(Some(Record { version, format, state, reminders, due, messages }));
        }
        if changed {
            self.tell_change(context.address(), old, new);
        }
        Ok(())
    }

    /// Makes `record` the next commit, and has those told who want to know.
    pub(super) fn stage(&mut self, record: Option<Record>) {
        let kind = self.cell.kind().clone();
        self.gate.stage(record.clone().map_or(Update::Wipe, Update::Put));
        if let Some(due) = record.as_ref().and_then(|record| record.due) {
            let kind = kind.clone();
            self.gate.then(move || kind.bell().ring(due));
        }
        if kind.core().is_observed() {
            let id = self.id();
            self.gate.then(move || {
                kind.core().observe(|observer| observer.on_change(&id, record.as_ref()));
            });
        }
    }

    /// Has the type's listeners hear of a change once it is committed.
    pub(super) fn tell_change(
        &mut self,
        address: &Address<S>,
        old: Option<Arc<[u8]>>,
        new: Arc<[u8]>,
    ) {
        if self.cell.kind().listeners().is_empty() {
            return;
        }
        let (cell, address) = (self.cell.clone(), address.clone());
        self.gate.then(move || {
            let context = Context::new(&cell, address, Reminders::default());
            let state = |bytes: Arc<[u8]>| S::decode(S::VERSION, &bytes, &context).ok();
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
        instance.unsaved = true;
        instance.flush_at = Instant::now().checked_add(RETRY);
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
        } else if let Ok(Some(mut record)) = self.load().await
            && let Ok(mut reminders) = Reminders::read(&record.reminders)
            && reminders.remove(reminder)
            && let Ok(bytes) = reminders.write()
        {
            record.reminders = bytes;
            record.due = reminders.due();
            self.stage(Some(record));
        }
    }
}
