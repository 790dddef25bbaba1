//! What a server is while it is in memory.

use std::sync::Arc;

use super::{Driven, log::Log, replay::run};
use crate::{
    api::context::Context, api::server::ReplySlot, api::server::Server, config::options::Options,
    config::options::Persist, config::settings::Settings, engine::cell::earliest,
    engine::registry::Live, storage::encoded::Encoded, support::expiry::CompactInstant,
};

/// A server in memory.
pub(crate) struct Instance<S: Server> {
    pub(super) state: S,
    /// The stored form of `state` as it was last loaded or staged; none when
    /// the next one must be written in any case. Where messages are journaled
    /// it is kept only for those who hear of changes.
    pub(super) saved: Option<Encoded>,
    /// Where messages are journaled: those since the state was last stored.
    pub(super) log: Option<Box<Log<S>>>,
    /// Whether `state` may differ from `saved`.
    pub(super) unsaved: bool,
    /// When it is to be saved at the latest.
    pub(super) flush_at: Option<CompactInstant>,
    /// Whether it has handled a message well.
    pub(super) proven: bool,
    pub(super) settings: Arc<Settings>,
    /// What the activating client set.
    pub(super) options: Option<Arc<Options>>,
    pub(super) context: Context<S>,
    pub(super) live: Live<S>,
}

impl<S: Server> Instance<S> {
    /// Runs a message whose method is not `async`.
    pub(crate) fn run(&mut self, message: S::Message, reply: ReplySlot<'_>) -> Driven<()> {
        let Self { state, log, context, .. } = self;
        let ran = match log {
            Some(log) if !S::method(&message).is_read => log.record(state, message, context, reply),
            _ => run(state, message, context, reply),
        };
        match ran {
            Ok(()) => Driven::Done(()),
            Err(panic) => Driven::Panicked(panic),
        }
    }

    /// Whether a message would leave nothing to be committed.
    pub(crate) fn is_free(&self, reads: bool, persist: Option<Persist>) -> bool {
        match persist.unwrap_or(self.settings.persist) {
            Persist::EveryMessage => reads && !self.unsaved,
            Persist::Every(_) | Persist::OnStop => true,
        }
    }

    /// Notes what a message has come to, if there is nothing to it but that it
    /// may have changed a state that can wait to be saved.
    pub(crate) fn settle_directly(&mut self, reads: bool, persist: Option<Persist>) -> bool {
        if !self.context.is_quiet() || !self.is_free(reads, persist) {
            return false;
        }
        self.proven = true;
        if !reads {
            self.unsaved = true;
            self.flush_within(persist.unwrap_or(self.settings.persist));
        }
        true
    }

    /// Sees to it that the level's time limit is kept.
    pub(super) fn flush_within(&mut self, level: Persist) {
        if let Persist::Every(most) = level
            && self.unsaved
            && self.flush_at.is_none()
        {
            self.flush_at = self.live.expiry().now().checked_add(most);
        }
    }

    /// The settings, if they are not those of its kind.
    pub(super) fn own_settings(&self) -> Option<Arc<Settings>> {
        self.options.as_ref().map(|_| self.settings.clone())
    }

    pub(crate) fn deadline(&self, since: CompactInstant) -> Option<CompactInstant> {
        earliest(self.idle_deadline(since), self.flush_at)
    }

    pub(crate) fn idle_deadline(&self, since: CompactInstant) -> Option<CompactInstant> {
        since.checked_add(self.settings.idle_timeout)
    }
}
