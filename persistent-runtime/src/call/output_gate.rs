//! The output gate: the commits of one server in order, and the replies that wait for them.
//!
//! A handler never waits for the disk. Its reply does, and so does each later reply of the same
//! server, which may have seen the change. At most one commit of a server is in flight. What
//! changes meanwhile is merged into one next commit, in which the last state wins.

use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use smallvec::SmallVec;

use crate::{
    call::reply::ReplySender,
    error::{CallError, Outcome},
    id::ServerId,
    storage::{
        Commit, CommitHost, Completion, Record, Storage, StorageError, StorageErrorKind, Update,
    },
    support::catch::catch_unwind,
};

pub(crate) struct OutputGate {
    host: Arc<dyn GateHost>,
    /// The sequence number of the commit in flight.
    in_flight: Option<u64>,
    /// The waiters that the commit in flight releases.
    in_flight_waiters: Waiters,
    in_flight_fallback: Option<Box<Fallback>>,
    /// The next commit.
    staged: Option<Update>,
    /// The waiters that the next commit releases.
    staged_waiters: Waiters,
    staged_fallback: Option<Box<Record>>,
    failure: Option<FailedCommit>,
}

/// A commit that has failed.
pub(crate) struct FailedCommit {
    pub(crate) source: StorageError,
    pub(crate) fallback: Option<Box<Fallback>>,
}

/// The state to go back to after a commit over changes that were acknowledged without a commit.
pub(crate) struct Fallback {
    /// The last acknowledged state.
    pub(crate) record: Record,
    /// The commit that failed.
    update: Update,
}

impl Fallback {
    /// Returns true if the commit took effect although it failed, so that what is stored includes
    /// the acknowledged changes. A delete includes none.
    pub(crate) fn is_outdated(&self, stored: Option<&Record>) -> bool {
        match (&self.update, stored) {
            (Update::Put(record), Some(stored)) => record == stored,
            (Update::Append(messages), Some(stored)) => stored.messages.ends_with(messages),
            _ => false,
        }
    }
}

type Waiters = SmallVec<[Waiter; 1]>;

/// The server that the gate belongs to.
pub(crate) trait GateHost: CommitHost {
    fn server(&self) -> &ServerId;

    fn storage(&self) -> &Arc<dyn Storage>;

    /// Returns the sequence number of the next commit.
    fn begin_commit(&self) -> u64;

    /// Returns the outcome of commit `sequence` once. Until it is known, registers the task to be
    /// woken.
    fn poll_commit(&self, sequence: u64, cx: &Context<'_>) -> Poll<Result<(), StorageError>>;
}

enum Waiter {
    Reply(ReplySender),
    /// Called once the commit is durable, and only then.
    Callback(Box<dyn FnOnce() + Send>),
}

impl OutputGate {
    pub(crate) fn new(host: Arc<dyn GateHost>) -> Self {
        Self {
            host,
            in_flight: None,
            in_flight_waiters: SmallVec::new(),
            in_flight_fallback: None,
            staged: None,
            staged_waiters: SmallVec::new(),
            staged_fallback: None,
            failure: None,
        }
    }

    /// Merges `update` into the next commit.
    pub(crate) fn stage(&mut self, update: Update) {
        match &mut self.staged {
            Some(staged) => staged.merge(update),
            staged => *staged = Some(update),
        }
    }

    /// Makes `fallback` the fallback of the next commit, on which nothing is staged yet: the state
    /// that was acknowledged without a commit.
    pub(crate) fn set_fallback(&mut self, fallback: Record) {
        self.staged_fallback = Some(Box::new(fallback));
    }

    pub(crate) fn has_staged(&self) -> bool {
        self.staged.is_some()
    }

    /// Releases `reply` with `outcome` once everything that was staged is durable.
    pub(crate) fn release_after_commit(
        &mut self,
        reply: Option<ReplySender>,
        outcome: Result<(), CallError>,
    ) {
        if let Some(mut reply) = reply {
            if let Err(error) = outcome {
                reply.fail(error);
            }
            self.push(Waiter::Reply(reply));
        }
    }

    /// Calls `callback` once everything that was staged is durable; never, if that fails.
    pub(crate) fn on_commit(&mut self, callback: impl FnOnce() + Send + 'static) {
        self.push(Waiter::Callback(Box::new(callback)));
    }

    fn push(&mut self, waiter: Waiter) {
        if self.staged.is_some() {
            self.staged_waiters.push(waiter);
        } else if self.in_flight.is_some() {
            self.in_flight_waiters.push(waiter);
        } else {
            waiter.release();
        }
    }

    /// Returns how many replies and callbacks wait.
    pub(crate) fn waiters(&self) -> usize {
        self.in_flight_waiters.len() + self.staged_waiters.len()
    }

    /// Drives the commits. Ready once everything is settled.
    ///
    /// After a failed commit, every waiting reply has the error, what was staged on top of the
    /// failed state is dropped, and [`take_failure`](Self::take_failure) returns the error: memory
    /// is then ahead of what was acknowledged. It must go back to the fallback, or else to what is
    /// stored.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        loop {
            if let Some(sequence) = self.in_flight {
                match ready!(self.host.poll_commit(sequence, cx)) {
                    Ok(()) => self.release(),
                    Err(error) => self.fail(error),
                }
            }
            if !self.begin() {
                return Poll::Ready(());
            }
        }
    }

    /// Continues after the commit in flight has succeeded. Returns what is to be released if there
    /// is no next commit.
    pub(crate) fn advance(&mut self) -> Option<Released> {
        if self.staged.is_none() {
            self.in_flight = None;
            return Some(Released(mem::take(&mut self.in_flight_waiters)));
        }
        self.release();
        self.begin();
        None
    }

    /// Submits the next commit, if there is one.
    fn begin(&mut self) -> bool {
        let Some(update) = self.staged.take() else { return false };
        let sequence = self.host.begin_commit();
        self.in_flight_fallback = self
            .staged_fallback
            .take()
            .map(|record| Box::new(Fallback { record: *record, update: update.clone() }));
        let commit = Commit::new(self.host.server().clone(), update).with_sequence(sequence);
        // The empty one of the two keeps its memory.
        mem::swap(&mut self.in_flight_waiters, &mut self.staged_waiters);
        self.in_flight = Some(sequence);
        let completion = Completion::new(self.host.clone(), sequence);
        let storage = self.host.storage().clone();
        // A panic drops the completion, which reports an error.
        let _ = catch_unwind(|| storage.submit(commit, completion));
        true
    }

    /// Returns the sequence number of the commit in flight, if its outcome is all that is needed
    /// to continue and releasing its waiters is quick.
    pub(crate) fn sole_commit(&self) -> Option<u64> {
        let is_reply = |waiter: &Waiter| matches!(waiter, Waiter::Reply(_));
        let waiters = self.in_flight_waiters.iter().chain(&self.staged_waiters);
        self.in_flight.filter(|_| waiters.into_iter().all(is_reply))
    }

    fn release(&mut self) {
        self.in_flight = None;
        self.in_flight_fallback = None;
        self.in_flight_waiters.drain(..).for_each(Waiter::release);
    }

    /// Waits until everything is settled.
    pub(crate) async fn drain(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// Returns the failed commit, once.
    pub(crate) fn take_failure(&mut self) -> Option<FailedCommit> {
        self.failure.take()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn fail(&mut self, error: StorageError) {
        self.in_flight = None;
        self.staged = None;
        self.staged_fallback = None;
        for waiter in self.in_flight_waiters.drain(..).chain(self.staged_waiters.drain(..)) {
            if let Waiter::Reply(mut reply) = waiter {
                let server = self.host.server().clone();
                let outcome = match error.kind() {
                    // Refused before anything was written.
                    StorageErrorKind::TooLarge => Outcome::Undone,
                    _ => Outcome::Unknown,
                };
                let source = error.clone();
                reply.fail(CallError::Storage { server, source, outcome });
                reply.release();
            }
        }
        let fallback = self.in_flight_fallback.take();
        self.failure = Some(FailedCommit { source: error, fallback });
    }
}

/// The waiters of a commit that has succeeded.
pub(crate) struct Released(Waiters);

impl Released {
    pub(crate) fn release(self) {
        self.0.into_iter().for_each(Waiter::release);
    }
}

impl Waiter {
    fn release(self) {
        match self {
            Self::Reply(reply) => reply.release(),
            // A listener's panic ends here.
            Self::Callback(callback) => drop(catch_unwind(callback)),
        }
    }
}
