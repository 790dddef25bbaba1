//! Senders that wait for capacity in a full mailbox.
//!
//! They enter in order of arrival, and a sender that is woken and finds no capacity keeps its place.
//! Once a sender has given up, the load exceeds what the server can handle: in order of arrival
//! each sender would enter shortly before its deadline, and no call would succeed. So the newest
//! sender enters first then, until none is left.
//!
//! The next sender is woken by a task that has taken messages, and by a sender that has entered or
//! given up.

use std::{collections::VecDeque, mem, task::Waker};

use crate::{engine::cell::Cell, support::catch::wake};

/// The senders that wait for capacity.
#[derive(Default)]
pub(crate) struct BlockedSenders {
    /// By place.
    senders: VecDeque<(u64, Option<Waker>)>,
    /// The place of the sender that comes next.
    new_place: u64,
    /// True if a sender has given up while others waited.
    is_overloaded: bool,
}

impl BlockedSenders {
    pub(crate) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    fn push(&mut self) -> u64 {
        let place = self.new_place;
        self.new_place += 1;
        self.senders.push_back((place, None));
        place
    }

    fn remove(&mut self, place: u64) -> Option<Waker> {
        let index = self.senders.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        let (_, waker) = self.senders.remove(index)?;
        self.is_overloaded &= !self.senders.is_empty();
        waker
    }

    /// Returns true if this sender is the next one to enter.
    pub(crate) fn is_next(&self, place: u64) -> bool {
        let next = if self.is_overloaded { self.senders.back() } else { self.senders.front() };
        next.is_some_and(|(next, _)| *next == place)
    }

    /// Sets what wakes a sender. Returns the former waker.
    pub(crate) fn set_waker(&mut self, place: u64, waker: Waker) -> Option<Waker> {
        let index = self.senders.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.senders[index].1.replace(waker)
    }

    /// Returns what wakes the next sender to enter, unless it was woken already.
    pub(crate) fn take_next(&mut self) -> Option<Waker> {
        let senders = &mut self.senders;
        let next = if self.is_overloaded { senders.back_mut() } else { senders.front_mut() };
        next?.1.take()
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
    pub(crate) has_entered: bool,
}

impl<'a> CapacityWaiter<'a> {
    /// Joins the waiting senders.
    pub(crate) fn new(cell: &'a Cell) -> Self {
        let place = cell.lock().blocked_senders_mut().push();
        Self { cell, place, has_entered: false }
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
        senders.is_overloaded |= !self.has_entered;
        let removed = senders.remove(self.place);
        let next = if has_capacity { senders.take_next() } else { None };
        drop(mailbox);
        drop(removed);
        wake(next);
    }
}
