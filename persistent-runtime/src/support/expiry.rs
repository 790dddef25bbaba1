//! Idle timeouts in bulk: one task and one heap a runtime, nothing a server.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    num::NonZeroU64,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use crate::{
    support::sync::Mutex, support::sync::MutexGuard, support::sync::Notify, support::sync::task,
    support::sync::time, support::sync::time::Instant,
};

/// Something with deadlines.
pub(crate) trait Sweep: Send + Sync {
    /// A deadline has come; returns the next one to be woken at.
    fn sweep(self: Arc<Self>, now: Moment) -> Option<Moment>;
}

/// An [`Instant`] of one runtime in half the room, for there are some in each
/// idle server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    /// None in some centuries, where clocks may end.
    pub(crate) fn after(self, wait: Duration) -> Option<Self> {
        let nanos = u64::try_from(wait.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Self)
    }
}

/// See the [module](self). Each server is in the heap at most once: while it is
/// busy its entry goes stale, and is put back with the true deadline when it
/// comes up. So the cost is proportional to what expires, not to the calls.
pub(crate) struct Sweeper {
    /// The first moment.
    base: Instant,
    heap: Mutex<BinaryHeap<Entry>>,
    earlier: Notify,
}

/// How many are swept before other tasks have their turn.
const BATCH: usize = 256;

struct Entry {
    deadline: Moment,
    target: Weak<dyn Sweep>,
}

impl Sweeper {
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), heap: Mutex::default(), earlier: Notify::new() }
    }

    pub(crate) fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    pub(crate) fn moment(&self, instant: Instant) -> Moment {
        let since = instant.duration_since(self.base);
        let nanos = since.as_secs().saturating_mul(1_000_000_000);
        Moment(NonZeroU64::MIN.saturating_add(nanos.saturating_add(since.subsec_nanos().into())))
    }

    /// None in some centuries, where clocks may end.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        self.base.checked_add(Duration::from_nanos(moment.0.get() - 1))
    }

    /// Has `target` swept at `deadline`.
    pub(crate) fn arm(&self, deadline: Moment, target: Weak<dyn Sweep>) {
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
            match next.and_then(|deadline| self.instant(deadline)) {
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
        let now = self.now();
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
