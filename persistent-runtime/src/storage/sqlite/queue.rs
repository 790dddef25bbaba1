//! The queue between the callers and the writer thread.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::paused_clock::Hold;
use crate::{
    storage::{Commit, Completion},
    support::spin::{BusyWait, WRITER_SPIN},
};

/// A commit with its completion.
pub struct Submission {
    pub commit: Commit,
    pub completion: Completion,
    /// Dropped after the completion.
    pub hold: Option<Hold>,
}

/// The result of waiting for commits.
pub enum Recv {
    /// All queued commits, in order.
    Batch(Vec<Submission>),
    /// None came within the timeout.
    Timeout,
    /// The queue is empty and closed.
    Closed,
}

/// The queued commits.
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// Tells a spinning writer, without the lock, that there are commits or that the queue is
    /// closed.
    has_work: AtomicBool,
    /// Work that can wait is left undone when the writer ends.
    is_hurried: AtomicBool,
    last_batch_small: AtomicBool,
    busy_wait: BusyWait,
}

/// The writer spins after a batch of at most this many commits. With more callers, their threads
/// make better use of the time.
const SMALL_BATCH: usize = 4;

#[derive(Default)]
struct State {
    commits: Vec<Submission>,
    is_closed: bool,
    /// The writer sleeps. Waking it is a system call.
    is_parked: bool,
}

impl Queue {
    pub fn new(busy_wait: BusyWait) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            has_work: AtomicBool::new(false),
            is_hurried: AtomicBool::new(false),
            last_batch_small: AtomicBool::new(false),
            busy_wait,
        })
    }

    /// Enqueues a commit. Returns the completion if the queue is closed.
    pub fn push(&self, submission: Submission) -> Result<(), Completion> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(submission.completion);
        }
        state.commits.push(submission);
        self.has_work.store(true, Ordering::Relaxed);
        if mem::take(&mut state.is_parked) {
            drop(state);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Refuses further commits. The queued ones can still be received.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.has_work.store(true, Ordering::Relaxed);
        self.filled.notify_one();
    }

    /// Lets the writer end without work that can wait.
    pub fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Relaxed);
    }

    pub fn is_hurried(&self) -> bool {
        self.is_hurried.load(Ordering::Relaxed)
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Waits for commits until `timeout`, or forever without one.
    pub fn recv(&self, timeout: Option<Duration>) -> Recv {
        let is_small = self.last_batch_small.load(Ordering::Relaxed);
        if is_small && timeout.is_none_or(|timeout| timeout > WRITER_SPIN) {
            self.busy_wait.spin_until(WRITER_SPIN, || self.has_work.load(Ordering::Relaxed));
        }
        let mut state = self.lock();
        let is_idle = |state: &mut State| state.commits.is_empty() && !state.is_closed;
        if is_idle(&mut state) && timeout != Some(Duration::ZERO) {
            state.is_parked = true;
            state = match timeout {
                None => {
                    self.filled.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner)
                }
                Some(timeout) => {
                    let woken = self.filled.wait_timeout_while(state, timeout, is_idle);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.is_parked = false;
        }
        if !state.commits.is_empty() {
            self.has_work.store(false, Ordering::Relaxed);
            self.last_batch_small.store(state.commits.len() <= SMALL_BATCH, Ordering::Relaxed);
            let empty = Vec::with_capacity(state.commits.len());
            return Recv::Batch(mem::replace(&mut state.commits, empty));
        }
        if state.is_closed { Recv::Closed } else { Recv::Timeout }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end of the queue. Dropping it, e.g. by a panic of the writer, closes the queue and
/// fails all queued commits.
pub struct Receiver(pub Arc<Queue>);

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.close();
        // Dropped without the lock: a completion that is dropped runs code of its server.
        let left = mem::take(&mut self.0.lock().commits);
        drop(left);
    }
}
