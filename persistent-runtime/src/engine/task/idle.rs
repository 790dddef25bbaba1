//! Where a task leaves its server: idle in the mailbox, or parked together with the task.

use std::{
    sync::Arc,
    task::{self, Waker},
};

use super::Task;
use crate::{
    engine::{cell::Cell, instance::earliest, mailbox::Mailbox},
    support::{expiry::CompactInstant, sync::MutexGuard},
};

impl Task {
    /// Returns true if there is nothing to do before the commit in flight is over.
    pub(crate) fn only_awaits_commit(&self) -> bool {
        self.gate.sole_commit().is_some()
            && self.gate.waiters() < self.cell.settings().mailbox
            && !self.has_messages()
            && self.is_quiet()
    }

    /// Returns true if an instance is loaded, its context has nothing left to do, and no save is
    /// due.
    fn is_quiet(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| {
            instance.server.context().has_no_effects() && !instance.parts.is_save_due(|| self.now())
        })
    }

    /// Parks in the mailbox. Returns the task if something has arrived.
    pub(super) fn park(mut self: Box<Self>) -> Option<Box<Self>> {
        let Some(sequence) = self.gate.sole_commit() else { return Some(self) };
        let since = self.parked_since.unwrap_or_else(|| self.now());
        let cell = self.cell.clone();
        let mut mailbox = cell.lock();
        if mailbox.len() > 0 || cell.has_signal() || cell.is_commit_finished(sequence) {
            return Some(self);
        }
        self.yields_before_next = false;
        self.parked_since = Some(since);
        self.inbox = None;
        let removed = mailbox.park(self);
        drop(mailbox);
        drop(removed);
        None
    }

    /// Resumes a parked task after its commit, on any thread. The idle time counts from
    /// parking.
    pub(crate) fn resume_after_commit(mut self: Box<Self>) {
        let cell = self.cell.clone();
        let left = match self.gate.advance() {
            // The next commit is in flight.
            None if self.only_awaits_commit() => self.park(),
            None => Some(self),
            Some(released) => {
                let left = self.try_finish();
                // Released last: a caller that comes back at once finds the server idle.
                released.release();
                left
            }
        };
        if let Some(task) = left {
            cell.registry().spawn(task.run(None));
        }
    }

    /// Makes the server idle, or parks until its commit is over. Returns the task if there is
    /// something else to do.
    pub(super) fn go_idle(mut self: Box<Self>) -> Option<Box<Self>> {
        let is_settled = self.gate.poll(&task::Context::from_waker(Waker::noop())).is_ready();
        if self.gate.has_failed() || !self.is_quiet() {
            Some(self)
        } else if is_settled {
            self.try_finish()
        } else if self.only_awaits_commit() {
            self.park()
        } else {
            Some(self)
        }
    }

    /// Makes the server idle, unless something has arrived.
    fn try_finish(mut self: Box<Self>) -> Option<Box<Self>> {
        let since = self.parked_since.unwrap_or_else(|| self.now());
        let cell = self.cell.clone();
        let mailbox = cell.lock();
        if !mailbox.nothing_arrived() || cell.registry().is_stopping() {
            return Some(self);
        }
        self.finish_task(&cell, mailbox, since);
        None
    }

    /// Puts the instance, if there is one, where the next message finds it.
    pub(super) fn finish_task(
        &mut self,
        cell: &Arc<Cell>,
        mut mailbox: MutexGuard<'_, Mailbox>,
        now: CompactInstant,
    ) {
        let instance = self.instance.take();
        let is_absent = instance.is_none();
        let idle_timeout = self.settings().idle_timeout;
        let (deadline, removed) = mailbox.finish_task(instance, now, |mailbox| {
            let resources = mailbox.keep_resources_until(now.checked_add(idle_timeout));
            let crashes = cell.forget_old_crashes(mailbox, now);
            let failure = mailbox.failed().and_then(|failed| failed.until);
            earliest(earliest(crashes, resources), failure)
        });
        drop(mailbox);
        self.is_finished = true;
        drop(removed);
        cell.schedule(deadline);
        if is_absent {
            cell.registry().release(cell.id());
        }
    }
}
