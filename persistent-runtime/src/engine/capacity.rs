//! Senders that wait for capacity in a full mailbox.

use std::sync::Arc;

use crate::{engine::cell::Cell, support::sync::Notify};

/// A place among the senders that wait for capacity. Dropping it, for whatever reason, wakes the
/// next one.
pub(crate) struct CapacityWaiter<'a> {
    cell: &'a Cell,
    capacity: Arc<Notify>,
}

impl<'a> CapacityWaiter<'a> {
    /// Joins the waiting senders. If there is capacity, one of them is woken, perhaps this one:
    /// the task that made the room may have seen nobody waiting.
    pub(crate) fn new(cell: &'a Cell) -> Self {
        let mut mailbox = cell.lock();
        let capacity = mailbox.block_sender();
        let has_capacity = cell.has_capacity(&mailbox);
        drop(mailbox);
        if has_capacity {
            capacity.notify_one();
        }
        Self { cell, capacity }
    }

    pub(crate) fn capacity(&self) -> &Notify {
        &self.capacity
    }
}

impl Drop for CapacityWaiter<'_> {
    fn drop(&mut self) {
        if self.cell.lock().unblock_sender() {
            self.capacity.notify_one();
        }
    }
}
