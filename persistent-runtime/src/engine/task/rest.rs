//! Where a task leaves its server when there is nothing to do: in the cell, at rest, or
//! itself with it until a commit is over.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{self, Waker},
};

use super::{Instance, Task};
use crate::{
    api::server::Server, engine::cell::Cell, engine::cell::earliest, engine::mailbox::Mailbox,
    engine::mailbox::Phase, support::expiry::CompactInstant, support::sync::MutexGuard,
};

impl<S: Server> Task<S> {
    /// Whether there is nothing to do before a submitted commit is over.
    pub(crate) fn waits_only(&self) -> bool {
        self.gate.is_submitted()
            && self.gate.held() < self.cell.settings().mailbox
            && self.inbox.is_empty()
            && self.instance.as_deref().is_some_and(|instance| instance.context.is_quiet())
    }

    /// Waits in the mailbox; gives itself back if something has come up.
    pub(super) fn park(mut self: Box<Self>) -> Option<Box<Self>> {
        let since = self.since.unwrap_or_else(|| self.now());
        let cell = self.cell.clone();
        let mut mailbox = cell.lock();
        if !mailbox.queue.is_empty() || cell.beckons() || cell.is_settled() {
            return Some(self);
        }
        self.moves = false;
        self.since = Some(since);
        mailbox.waker = None;
        mailbox.phase = Phase::Parked(self);
        None
    }

    /// Goes on where it was parked, its commit being done. This may be any thread:
    /// the time is that at which it was parked.
    pub(crate) fn go_on_after_commit(mut self: Box<Self>) {
        let cell = self.cell.clone();
        let left = match self.gate.advance() {
            // The storage may have taken the next one in another way.
            None if self.waits_only() => self.park(),
            None => Some(self),
            Some(released) => {
                let left = self.try_to_rest();
                // Who has an answer may come again at once, and had better find the
                // server at rest.
                released.release();
                left
            }
        };
        if let Some(task) = left {
            cell.kind().spawn(task.run(None));
        }
    }

    /// Comes to rest, or waits for its commit in the mailbox; gives itself back if
    /// there is something else to do.
    pub(super) fn leave(mut self: Box<Self>) -> Option<Box<Self>> {
        let settled = self.gate.poll(&mut task::Context::from_waker(Waker::noop())).is_ready();
        let is_quiet = |instance: &Instance<S>| instance.context.is_quiet();
        if self.gate.has_failed() || !self.instance.as_deref().is_some_and(is_quiet) {
            Some(self)
        } else if settled {
            self.try_to_rest()
        } else if self.waits_only() {
            self.park()
        } else {
            Some(self)
        }
    }

    /// With nothing left to do but what may have come up.
    fn try_to_rest(mut self: Box<Self>) -> Option<Box<Self>> {
        let since = self.since.unwrap_or_else(|| self.now());
        let cell = self.cell.clone();
        let mailbox = cell.lock();
        if !mailbox.is_quiet() || cell.kind().is_stopping() {
            return Some(self);
        }
        self.come_to_rest(&cell, mailbox, since);
        None
    }

    /// Puts the instance, if there is one, where the next message finds it.
    pub(super) fn come_to_rest(
        &mut self,
        cell: &Arc<Cell<S>>,
        mut mailbox: MutexGuard<'_, Mailbox<S>>,
        now: CompactInstant,
    ) {
        let (phase, deadline) = match self.instance.take() {
            Some(instance) => {
                let deadline = instance.deadline(now);
                (Phase::Idle { instance, since: now }, deadline)
            }
            None => {
                let until = mailbox.extras_mut().and_then(|extras| {
                    let until = now.checked_add(self.settings().idle_timeout);
                    extras.kept_until = until.filter(|_| !extras.kept.is_empty());
                    extras.kept_until
                });
                let crashes = cell.forget_old_crashes(&mut mailbox, now);
                (Phase::Absent, earliest(crashes, until))
            }
        };
        let absent = matches!(phase, Phase::Absent);
        mailbox.phase = phase;
        let active = if absent { mailbox.active.take() } else { None };
        // A server at rest has no mailbox to speak of.
        mailbox.queue = VecDeque::new();
        let terms = mailbox.terms.take();
        mailbox.waker = None;
        let arm = mailbox.arm(deadline);
        drop(mailbox);
        drop(terms);
        drop(active);
        self.rests = true;
        cell.arm(arm);
        if absent {
            cell.kind().release(cell.id());
        }
    }
}
