//! A server in memory.

use std::sync::Arc;

use crate::{
    config::{
        options::{Options, Persist},
        settings::Settings,
    },
    engine::{erased::LiveServer, message_journal::MessageJournal},
    storage::encoded::Encoded,
    support::expiry::{CompactInstant, ExpiryQueue},
};

/// A server in memory: what the engine knows of it, and the typed server behind the
/// [seam](super::erased), in one allocation.
pub(crate) struct Instance<T: LiveServer + ?Sized = dyn LiveServer> {
    pub(crate) parts: InstanceParts,
    pub(crate) server: T,
}

/// The part of an instance that does not depend on the server type.
#[expect(clippy::struct_excessive_bools, reason = "facts, each of its own")]
pub(crate) struct InstanceParts {
    /// The stored form of the state as it was last loaded or staged. `None` if the next one must
    /// be written in any case. A server that journals its messages has it only for listeners and
    /// observers.
    pub(crate) saved: Option<Encoded>,
    /// Present if the server journals its messages.
    pub(crate) journal: Option<Box<MessageJournal>>,
    /// True if the state may differ from `saved`.
    pub(crate) is_unsaved: bool,
    /// True if replies were sent that depend on the unsaved part of the state: under a weaker
    /// persist level they wait for no commit.
    pub(crate) is_owed: bool,
    /// The time at which an unsaved state is saved at the latest.
    pub(crate) save_by: Option<CompactInstant>,
    /// The limit that set `save_by`, in milliseconds. Only a shorter one can bring it forward, so
    /// most changes need not read the clock.
    save_limit: u32,
    /// True once a message has been handled without a crash.
    pub(crate) has_succeeded: bool,
    pub(crate) settings: Arc<Settings>,
    /// The options that the activating client set.
    pub(crate) options: Option<Arc<Options>>,
    /// True if the instance is counted as live. An instance that only replays is not.
    is_live: bool,
}

impl Instance {
    /// Counts the instance as live until it is dropped.
    pub(crate) fn set_live(&mut self) {
        self.server.context().registry().add_live();
        self.parts.is_live = true;
    }
}

impl<T: LiveServer + ?Sized> Drop for Instance<T> {
    fn drop(&mut self) {
        if self.parts.is_live {
            self.server.context().registry().remove_live();
        }
    }
}

impl InstanceParts {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            saved: None,
            journal: None,
            is_unsaved: false,
            is_owed: false,
            save_by: None,
            save_limit: 0,
            has_succeeded: false,
            settings,
            options: None,
            is_live: false,
        }
    }

    /// Returns true if a message would leave nothing to be committed now.
    pub(crate) fn needs_no_commit(&self, is_read: bool, persist: Option<Persist>) -> bool {
        match persist.unwrap_or(self.settings.persist) {
            Persist::Every(_) | Persist::OnStop => true,
            _ => is_read && !self.is_unsaved,
        }
    }

    /// Notes the success of a message that needs no commit now. Returns false if there is more to
    /// do.
    pub(crate) fn finish_without_commit(
        &mut self,
        is_read: bool,
        persist: Option<Persist>,
        has_no_effects: bool,
        expiry: &ExpiryQueue,
    ) -> bool {
        if !has_no_effects || !self.needs_no_commit(is_read, persist) {
            return false;
        }
        self.has_succeeded = true;
        if !is_read {
            self.is_unsaved = true;
            self.save_within(persist.unwrap_or(self.settings.persist), expiry);
        }
        self.is_owed = self.is_unsaved;
        true
    }

    /// Returns true if the next commit must not put the acknowledged part of the state at risk:
    /// changes under a weaker level are unsaved, and the message has `persist`.
    pub(crate) fn owes_before(&self, persist: Option<Persist>) -> bool {
        self.is_owed && persist.unwrap_or(self.settings.persist) == Persist::EveryMessage
    }

    /// Returns true if the time has come to save.
    pub(crate) fn is_save_due(&self, now: impl FnOnce() -> CompactInstant) -> bool {
        self.save_by.is_some_and(|save_by| save_by <= now())
    }

    /// Lets an unsaved state be saved within the time limit of a persist level, if it is not saved
    /// sooner anyway.
    pub(crate) fn save_within(&mut self, level: Persist, expiry: &ExpiryQueue) {
        if let Persist::Every(limit) = level
            && self.is_unsaved
        {
            let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
            if self.save_by.is_none() || millis < self.save_limit {
                self.save_by = earliest(self.save_by, expiry.now().checked_add(limit));
                self.save_limit = millis;
            }
        }
    }

    /// Keeps acknowledged changes that could not be saved, to be saved at `time`, however short the
    /// limit of later changes.
    pub(crate) fn retry_save_at(&mut self, time: Option<CompactInstant>) {
        self.saved = None;
        if let Some(journal) = &mut self.journal {
            journal.require_snapshot();
        }
        (self.is_unsaved, self.is_owed) = (true, true);
        self.save_by = time;
        self.save_limit = 0;
    }

    /// Returns the settings if they differ from those of the server's type.
    pub(crate) fn own_settings(&self) -> Option<Arc<Settings>> {
        self.options.as_ref().map(|_| self.settings.clone())
    }

    /// Returns when an instance that is idle since `since` needs attention.
    pub(crate) fn deadline(&self, since: CompactInstant) -> Option<CompactInstant> {
        earliest(self.idle_deadline(since), self.save_by)
    }

    pub(crate) fn idle_deadline(&self, since: CompactInstant) -> Option<CompactInstant> {
        since.checked_add(self.settings.idle_timeout)
    }
}

/// Returns the earlier of two deadlines, if there are any.
pub(crate) fn earliest(
    one: Option<CompactInstant>,
    other: Option<CompactInstant>,
) -> Option<CompactInstant> {
    one.into_iter().chain(other).min()
}
