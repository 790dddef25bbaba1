//! Deadlines of many targets: one task and one heap per runtime, and no timer per server.
//!
//! The heap holds weak references, so it keeps no target alive. Entries are never removed or
//! moved: a target that is busy lets its entry become stale. When that entry expires,
//! [`Expire::expire`] returns the target's true deadline, which is pushed again. The cost is
//! therefore proportional to the number of expired entries and independent of the number of calls.
//!
//! A target decides by itself how many entries it has. To stay at one, it schedules a deadline
//! only if no entry of its own expires earlier.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fmt,
    num::NonZeroU64,
    sync::{
        Arc,
        Weak,
        // Decides the cost of memory, not the order of events.
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    support::sync::Mutex, support::sync::Notify, support::sync::task, support::sync::time,
    support::sync::time::Instant,
};

/// A target of the [`ExpiryQueue`].
pub(crate) trait Expire: Send + Sync {
    /// Handles a deadline that has passed at `now`. Returns the next deadline to schedule, if
    /// any.
    ///
    /// The queue calls this without holding a lock, from the task of [`ExpiryQueue::run`].
    fn expire(self: Arc<Self>, now: CompactInstant) -> Option<CompactInstant>;
}

/// An [`Instant`] of one [`ExpiryQueue`] in half its size, also as an `Option`: each idle server
/// stores several.
///
/// Counts the nanoseconds since the queue was created, plus one. Values of different queues are
/// not comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CompactInstant(NonZeroU64);

impl CompactInstant {
    /// Adds `wait`. Returns `None` on overflow, which is after more than 500 years.
    pub(crate) fn checked_add(self, wait: Duration) -> Option<Self> {
        let nanos = u64::try_from(wait.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Self)
    }
}

/// A heap of deadlines and their targets. The [module documentation](self) describes its entries.
pub(crate) struct ExpiryQueue {
    /// The instant that [`CompactInstant`]s count from.
    base: Instant,
    heap: Mutex<BinaryHeap<Entry>>,
    /// The number of targets dropped since their entries were last removed.
    dropped: AtomicUsize,
    /// Notified if the earliest deadline becomes earlier.
    earlier: Notify,
}

/// The number of entries that expire before the task yields.
const BATCH: usize = 256;

struct Entry {
    deadline: CompactInstant,
    target: Weak<dyn Expire>,
}

impl ExpiryQueue {
    pub(crate) fn new() -> Self {
        Self {
            base: Instant::now(),
            heap: Mutex::default(),
            dropped: AtomicUsize::new(0),
            earlier: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> CompactInstant {
        self.compact(Instant::now())
    }

    /// Converts an instant. Saturates at both ends.
    pub(crate) fn compact(&self, instant: Instant) -> CompactInstant {
        let since = instant.duration_since(self.base);
        let nanos = since.as_secs().saturating_mul(1_000_000_000);
        let nanos = nanos.saturating_add(since.subsec_nanos().into());
        CompactInstant(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Converts an instant back. Returns `None` if the platform's clock can't represent it.
    pub(crate) fn expand(&self, instant: CompactInstant) -> Option<Instant> {
        self.base.checked_add(Duration::from_nanos(instant.0.get() - 1))
    }

    /// Schedules a call of [`Expire::expire`] on `target` at `deadline`.
    pub(crate) fn schedule(&self, deadline: CompactInstant, target: Weak<dyn Expire>) {
        let mut heap = self.heap.lock();
        let first = heap.peek().is_none_or(|entry| deadline < entry.deadline);
        heap.push(Entry { deadline, target });
        drop(heap);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Notes that the target of an entry was dropped. Removes such entries once they are the
    /// majority: their weak references would keep the memory of the targets until their deadlines.
    pub(crate) fn note_dropped(&self) {
        /// The number of dropped targets between two checks of the heap, which take its lock.
        const STEP: usize = 1024;
        let dropped = self.dropped.fetch_add(1, Relaxed) + 1;
        if !dropped.is_multiple_of(STEP) {
            return;
        }
        let mut heap = self.heap.lock();
        if dropped > heap.len() / 2 {
            self.dropped.store(0, Relaxed);
            heap.retain(|entry| entry.target.strong_count() > 0);
        }
    }

    /// Expires entries as their deadlines pass. Never returns.
    pub(crate) async fn run(&self) {
        loop {
            let next = self.heap.lock().peek().map(|entry| entry.deadline);
            match next.and_then(|deadline| self.expand(deadline)) {
                None => self.earlier.notified().await,
                Some(deadline) if deadline <= Instant::now() => self.expire_due(),
                Some(deadline) => {
                    let _ = time::timeout_at(deadline, self.earlier.notified()).await;
                }
            }
            task::coop::consume_budget().await;
        }
    }

    /// Expires the due entries, at most one batch.
    fn expire_due(&self) {
        let now = self.now();
        let mut heap = self.heap.lock();
        let mut due = Vec::new();
        while due.len() < BATCH
            && let Some(entry) = heap.peek_mut()
            && entry.deadline <= now
        {
            due.push(PeekMut::pop(entry).target);
        }
        // Lock order: `expire` takes the locks of its target, under which `schedule` may be called.
        drop(heap);
        for target in due {
            if let Some(strong) = target.upgrade()
                && let Some(deadline) = strong.expire(now)
            {
                self.heap.lock().push(Entry { deadline, target });
            }
        }
    }
}

impl fmt::Debug for ExpiryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpiryQueue")
            .field("entries", &self.heap.lock().len())
            .finish_non_exhaustive()
    }
}

/// Reversed, because [`BinaryHeap`] is a max-heap and the earliest deadline must be on top.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Returns a true deadline for as many expiries as given, and counts them.
    struct Target {
        busy: usize,
        expired: AtomicUsize,
    }

    impl Target {
        fn new(busy: usize) -> Arc<Self> {
            Arc::new(Self { busy, expired: AtomicUsize::new(0) })
        }
    }

    impl Expire for Target {
        fn expire(self: Arc<Self>, now: CompactInstant) -> Option<CompactInstant> {
            (self.expired.fetch_add(1, Ordering::Relaxed) < self.busy).then_some(now)
        }
    }

    #[test]
    fn only_due_entries_of_living_targets_expire_and_a_busy_target_is_scheduled_again() {
        let queue = ExpiryQueue::new();
        let [idle, busy, later, dropped] = [0, 2, 0, 0].map(Target::new);
        let now = queue.now();
        let hour = now.checked_add(Duration::from_secs(3600)).unwrap();
        for (deadline, target) in [(hour, &later), (now, &idle), (now, &busy), (now, &dropped)] {
            let target: Weak<Target> = Arc::downgrade(target);
            queue.schedule(deadline, target);
        }
        drop(dropped);
        for _ in 0..4 {
            queue.expire_due();
        }
        let expired = [idle, busy, later].map(|target| target.expired.load(Ordering::Relaxed));
        assert_eq!(expired, [1, 3, 0]);
        assert_eq!(queue.heap.lock().len(), 1, "the entry of the later target");
    }

    #[test]
    fn a_compact_instant_has_half_the_size_and_the_same_value() {
        assert_eq!(size_of::<Option<CompactInstant>>(), size_of::<Instant>() / 2);
        let queue = ExpiryQueue::new();
        let instant = queue.base + Duration::from_nanos(1_234_567_890);
        assert_eq!(queue.expand(queue.compact(instant)), Some(instant));
        assert_eq!(queue.compact(queue.base).checked_add(Duration::MAX), None);
    }

    /// Regression: the weak references of dropped targets kept their memory until their deadlines.
    #[test]
    fn entries_of_dropped_targets_are_removed_once_they_are_the_majority() {
        let queue = ExpiryQueue::new();
        let later = queue.now().checked_add(Duration::from_secs(3600)).unwrap();
        let schedule = || {
            let target: Arc<dyn Expire> = Target::new(0);
            queue.schedule(later, Arc::downgrade(&target));
            target
        };
        let kept: Vec<_> = (0..1000).map(|_| schedule()).collect();
        for _ in 0..10_000 {
            drop(schedule());
            queue.note_dropped();
            assert!(queue.heap.lock().len() <= 1000 + 2 * 1024);
        }
        let live = queue.heap.lock().iter().filter(|it| it.target.strong_count() > 0).count();
        assert_eq!(live, kept.len());
    }
}
