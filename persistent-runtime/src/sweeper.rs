//! Idle timeouts in bulk: one task and one heap a runtime, nothing a server.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    sync::{Arc, PoisonError, Weak},
};

use crate::sync::{
    Mutex, MutexGuard, Notify, task,
    time::{self, Instant},
};

/// Something with deadlines.
pub(crate) trait Sweep: Send + Sync {
    /// A deadline has come; returns the next one to be woken at.
    fn sweep(self: Arc<Self>, now: Instant) -> Option<Instant>;
}

/// See the [module](self). Each server is in the heap at most once: while it is
/// busy its entry goes stale, and is put back with the true deadline when it
/// comes up. So the cost is proportional to what expires, not to the calls.
#[derive(Default)]
pub(crate) struct Sweeper {
    heap: Mutex<BinaryHeap<Entry>>,
    earlier: Notify,
}

/// How many are swept before other tasks have their turn.
const BATCH: usize = 256;

struct Entry {
    deadline: Instant,
    target: Weak<dyn Sweep>,
}

impl Sweeper {
    /// Has `target` swept at `deadline`.
    pub(crate) fn arm(&self, deadline: Instant, target: Weak<dyn Sweep>) {
        let mut heap = self.lock();
        let first = heap.peek().is_none_or(|entry| deadline < entry.deadline);
        heap.push(Entry { deadline, target });
        drop(heap);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Sweeps for ever.
    pub(crate) async fn run(&self) {
        loop {
            let next = self.lock().peek().map(|entry| entry.deadline);
            match next {
                None => self.earlier.notified().await,
                Some(deadline) if deadline <= Instant::now() => self.sweep(),
                Some(deadline) => {
                    let _ = time::timeout_at(deadline, self.earlier.notified()).await;
                }
            }
            task::coop::consume_budget().await;
        }
    }

    /// Sweeps what is due, up to a batch.
    fn sweep(&self) {
        let now = Instant::now();
        let mut heap = self.lock();
        let mut due = Vec::new();
        while due.len() < BATCH
            && let Some(entry) = heap.peek_mut()
            && entry.deadline <= now
        {
            due.push(PeekMut::pop(entry).target);
        }
        // A target takes locks of its own: never under ours.
        drop(heap);
        for target in due {
            if let Some(strong) = target.upgrade()
                && let Some(deadline) = strong.sweep(now)
            {
                self.lock().push(Entry { deadline, target });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Entry>> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The earliest deadline is the greatest, for the heap's sake.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.cmp(&self.deadline)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Entry {}
