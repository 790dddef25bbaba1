//! Senders that wait for capacity in a full mailbox, in order of arrival.
//!
//! Only the first of them may enter, and a sender that is woken and finds no capacity keeps its
//! place. The first is woken by a task that has taken messages, and by a sender before it that
//! has entered or given up.

use std::{collections::VecDeque, mem, task::Waker};

use crate::{engine::cell::Cell, support::catch::wake};

/// The senders that wait for capacity.
#[derive(Default)]
pub(crate) struct BlockedSenders {
    /// By place.
    senders: VecDeque<(u64, Option<Waker>)>,
    /// The place of the next sender.
    next: u64,
}

impl BlockedSenders {
    pub(crate) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    fn push(&mut self) -> u64 {
        let place = self.next;
        self.next += 1;
        self.senders.push_back((place, None));
        place
    }

    fn remove(&mut self, place: u64) -> Option<Waker> {
        let index = self.senders.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.senders.remove(index)?.1
    }

    pub(crate) fn is_first(&self, place: u64) -> bool {
        self.senders.front().is_some_and(|(first, _)| *first == place)
    }

    /// Sets what wakes a sender. Returns the former waker.
    pub(crate) fn set_waker(&mut self, place: u64, waker: Waker) -> Option<Waker> {
        let index = self.senders.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.senders[index].1.replace(waker)
    }

    /// Returns what wakes the first sender, unless it was woken already.
    pub(crate) fn take_first(&mut self) -> Option<Waker> {
        self.senders.front_mut()?.1.take()
    }

    /// Returns what wakes all senders.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        self.senders.iter_mut().filter_map(|(_, waker)| mem::take(waker)).collect()
    }
}

/// A place among the senders that wait for capacity. Dropping it, for whatever reason, wakes the
/// next sender if there is capacity.
pub(crate) struct CapacityWaiter<'a> {
    cell: &'a Cell,
    place: u64,
}

impl<'a> CapacityWaiter<'a> {
    /// Joins the waiting senders.
    pub(crate) fn new(cell: &'a Cell) -> Self {
        let place = cell.lock().blocked_senders_mut().push();
        Self { cell, place }
    }

    pub(crate) fn place(&self) -> u64 {
        self.place
    }
}

impl Drop for CapacityWaiter<'_> {
    fn drop(&mut self) {
        let mut mailbox = self.cell.lock();
        let has_capacity = self.cell.has_capacity(&mailbox);
        let senders = mailbox.blocked_senders_mut();
        let removed = senders.remove(self.place);
        let next = if has_capacity { senders.take_first() } else { None };
        drop(mailbox);
        drop(removed);
        wake(next);
    }
}
