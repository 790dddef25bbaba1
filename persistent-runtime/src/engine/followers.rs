//! The committed states of one server, for those who follow it.

use std::mem;

use tokio::sync::mpsc;

use crate::storage::encoded::Encoded;

/// The number of changes that a follower buffers.
const BACKLOG: usize = 64;

/// A change as a follower receives it, before it is decoded.
#[derive(Clone)]
pub(crate) enum EncodedChange {
    Committed(Encoded),
    Deleted,
    /// The follower was too slow for this many changes.
    Missed(usize),
}

/// The sending end of one follower.
pub(crate) struct Follower {
    changes: mpsc::Sender<EncodedChange>,
    /// True once it has received the state that it begins with.
    has_begun: bool,
    /// The changes dropped since the last one that was sent.
    missed: usize,
}

impl Follower {
    pub(crate) fn new() -> (Self, mpsc::Receiver<EncodedChange>) {
        let (changes, receiver) = mpsc::channel(BACKLOG);
        (Self { changes, has_begun: false, missed: 0 }, receiver)
    }

    /// Returns a second handle of the same follower.
    pub(crate) fn handle(&self) -> mpsc::Sender<EncodedChange> {
        self.changes.clone()
    }

    fn send(&mut self, change: EncodedChange) {
        if self.missed > 0 {
            if self.changes.try_send(EncodedChange::Missed(self.missed)).is_err() {
                self.missed += 1;
                return;
            }
            self.missed = 0;
        }
        if self.changes.try_send(change).is_err() {
            self.missed += 1;
        }
    }
}

/// All followers of one server. Only the server's task sends to them.
#[derive(Default)]
pub(crate) struct Followers(Vec<Follower>);

impl Followers {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, follower: Follower) {
        self.0.push(follower);
    }

    /// Adds the followers that have come meanwhile.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Sends one follower the state that it begins with.
    pub(crate) fn begin(&mut self, handle: &mpsc::Sender<EncodedChange>, state: Encoded) {
        for follower in &mut self.0 {
            if follower.changes.same_channel(handle) {
                follower.has_begun = true;
                follower.send(EncodedChange::Committed(state));
                return;
            }
        }
    }

    /// Sends a change to all followers that have begun. Removes those that are gone.
    pub(crate) fn send(&mut self, change: &EncodedChange) {
        for mut follower in mem::take(&mut self.0) {
            if follower.has_begun {
                follower.send(change.clone());
            }
            if !follower.changes.is_closed() {
                self.0.push(follower);
            }
        }
    }
}
