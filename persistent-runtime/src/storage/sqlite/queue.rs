//! What waits for the writer.

use std::{
    hint, mem,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{storage::Commit, storage::Completion};

/// A change, and who waits for it.
pub struct Submission {
    pub commit: Commit,
    pub completion: Completion,
}

/// What the writer finds when it looks.
pub enum Found {
    /// All that waited, in order.
    Commits(Vec<Submission>),
    /// Nothing, for as long as it was to wait.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

/// See the [module](self).
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// Whether there is something to see, for a look without the lock.
    stirs: AtomicBool,
    /// Whether few commits were taken last.
    few: AtomicBool,
}

/// With more callers than that, their threads have a better use for the time.
const FEW: usize = 4;

/// For how long the writer looks again before it sleeps: a caller who has just been
/// told mostly comes back within it, and to wake a thread takes about as long.
const LINGER: Duration = Duration::from_micros(50);

#[derive(Default)]
struct State {
    commits: Vec<Submission>,
    is_closed: bool,
    /// Whether the writer sleeps: to wake it is a system call.
    sleeps: bool,
}

impl Queue {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Gives a commit to the writer, or back once it is closed.
    pub fn push(&self, commit: Submission) -> Option<Submission> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return Some(commit);
        }
        state.commits.push(commit);
        self.stirs.store(true, Ordering::Relaxed);
        if mem::take(&mut state.sleeps) {
            drop(state);
            self.filled.notify_one();
        }
        None
    }

    /// Lets nothing more in.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.stirs.store(true, Ordering::Relaxed);
        self.filled.notify_one();
    }

    /// Lets nothing more in, and nobody wait any longer.
    fn abandon(&self) {
        self.close();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = mem::take(&mut state.commits);
        drop(state);
        drop(left);
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed
    }

    /// Waits for commits, for as long as `patience` says, or for ever.
    pub fn take(&self, patience: Option<Duration>) -> Found {
        let few = self.few.load(Ordering::Relaxed);
        if few && patience.is_none_or(|patience| patience > LINGER) {
            self.linger();
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = |state: &mut State| state.commits.is_empty() && !state.is_closed;
        if is_quiet(&mut state) && patience != Some(Duration::ZERO) {
            state.sleeps = true;
            state = match patience {
                None => {
                    self.filled.wait_while(state, is_quiet).unwrap_or_else(PoisonError::into_inner)
                }
                Some(patience) => {
                    let woken = self.filled.wait_timeout_while(state, patience, is_quiet);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.sleeps = false;
        }
        if !state.commits.is_empty() {
            self.stirs.store(false, Ordering::Relaxed);
            self.few.store(state.commits.len() <= FEW, Ordering::Relaxed);
            let room = Vec::with_capacity(state.commits.len());
            return Found::Commits(mem::replace(&mut state.commits, room));
        }
        if state.is_closed { Found::End } else { Found::Nothing }
    }

    /// Waits for a moment without going to sleep, and without giving way: where others
    /// want this core, a thread that does so is let in again much later than one that
    /// is woken.
    fn linger(&self) {
        let begin = Instant::now();
        while !self.stirs.load(Ordering::Relaxed) && begin.elapsed() < LINGER {
            hint::spin_loop();
        }
    }
}

/// The writer's end. When that is gone, by a panic even, nobody waits for it.
pub struct Taker(pub Arc<Queue>);

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
