//! Pacing: the writer's decisions when to freeze and flush the memtable, when to delete flushed
//! rows of the commit log, and how long to wait for commits.
//!
//! The decisions are functions of a [`View`]. They do no I/O and read no clock.
//!
//! - A memtable is frozen when it is full, or when it has an update that is old enough and no
//!   commit comes. So the commit log has a bound, and of the many updates of a hot server only the
//!   last is flushed.
//! - Under load each batch adds to the debt of the flush in proportion to its weight, so that the
//!   flush ends before the next memtable is full. A debt is paid in steps, since each step is a
//!   transaction with a sync. Deleting flushed rows works in the same way.
//! - When no commit comes, the work goes on in short steps, and a commit waits for one at most.

use std::{mem, time::Duration};

use super::{
    flush::{MIN_ROW_COST, StepSize},
    limits::Limits,
};

/// The time without a commit after which work begins.
const IDLE_BEFORE_START: Duration = Duration::from_millis(20);
/// The time without a commit after which work that has begun takes another step. Shorter gaps occur
/// between the calls of one busy caller, who would otherwise wait for the step.
pub const IDLE_BEFORE_STEP: Duration = Duration::from_millis(1);
/// The number of servers flushed in one step while commits may come.
pub const STEP_BUSY: usize = 128;
/// The number of servers flushed in one step when commits cannot continue before, or no more come.
const STEP_BLOCKING: usize = 4096;
/// Bytes of updates that are flushed in one step, if the batch before it was smaller. A commit waits
/// for one step at most.
const STEP_BYTES: usize = 2 << 20;
/// Bytes that are flushed or deleted in one step of closing.
const STEP_CLOSING: usize = 16 << 20;
/// Free pages that are given back to the file system in one step: 1 MiB.
const RECLAIM_PAGES: u32 = 256;
/// When a failed flush is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The inputs of the decisions.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The weight of the active memtable.
    pub weight: usize,
    /// The age of the oldest update in the active memtable; `None` if it is empty.
    pub age: Option<Duration>,
    /// The flush in progress.
    pub flush: Option<FlushView>,
    /// The time since the last flush failed; `None` if it did not fail.
    pub failed_since: Option<Duration>,
    /// True if the commit log may have flushed rows.
    pub has_flushed_rows: bool,
    /// True if the file may have more free pages than it should keep.
    pub has_free_pages: bool,
}

/// The state of a flush.
#[derive(Clone, Copy, Debug)]
pub struct FlushView {
    /// The number of servers left.
    pub left: usize,
    /// True if a step would have to wait for the order.
    pub is_sorting: bool,
}

/// The size of a batch of commits.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchSize {
    /// Bytes in the commit log.
    pub bytes: usize,
    /// Growth of the active memtable's weight.
    pub weight: usize,
}

/// A step of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Freeze the active memtable and begin its flush.
    Freeze,
    /// Flush the next servers.
    Flush(StepSize),
    /// Delete about this many bytes of flushed rows.
    Delete(usize),
    /// Give this many free pages back to the file system.
    Reclaim(u32),
}

/// Decides the writer's next step.
pub struct Pacer {
    limits: Limits,
    /// The number of servers that the batches since the last step should have flushed.
    flush_debt: usize,
    /// The number of bytes that the batches since the last deletion should have deleted.
    delete_debt: usize,
    /// No commit came in the last wait.
    is_idle: bool,
}

impl Pacer {
    pub fn new(limits: Limits) -> Self {
        Self { limits, flush_debt: 0, delete_debt: 0, is_idle: true }
    }

    #[cfg(test)]
    pub fn set_memtable_limit(&mut self, limit: usize) {
        self.limits.memtable = limit;
    }

    /// Returns how long to wait for commits before [`when_idle`](Self::when_idle); `None` is
    /// forever.
    pub fn timeout(&self, view: &View) -> Option<Duration> {
        if let Some(since) = view.failed_since {
            return Some(RETRY_AFTER.saturating_sub(since).max(IDLE_BEFORE_START));
        }
        match view.flush {
            Some(flush) if flush.is_sorting => Some(IDLE_BEFORE_STEP),
            None if !view.has_flushed_rows && !view.has_free_pages => {
                view.age.map(|age| self.limits.min_age.saturating_sub(age).max(IDLE_BEFORE_START))
            }
            _ => Some(if self.is_idle { Duration::ZERO } else { IDLE_BEFORE_STEP }),
        }
    }

    /// Takes note of whether commits came within the timeout.
    pub fn waited(&mut self, commits_came: bool) {
        self.is_idle = !commits_came;
    }

    /// Returns true if the memtables are so large that commits must be refused unless
    /// [`before_refusal`](Self::before_refusal) makes room.
    pub fn must_refuse(&self, weight: usize) -> bool {
        weight >= 2 * self.limits.memtable
    }

    /// Returns the step that may prevent a refusal. It is taken also if the last flush has failed
    /// just now: refusing needs a reason that still holds.
    pub fn before_refusal(&mut self, view: &View) -> Option<Action> {
        view.flush.map(|_| self.flush(STEP_BLOCKING, usize::MAX))
    }

    /// Returns the step of flushing that is due after a batch.
    pub fn flush_after(&mut self, view: &View, batch: BatchSize) -> Option<Action> {
        let is_full = view.weight >= self.limits.memtable;
        // Faster than the batches write.
        let bytes = STEP_BYTES.max(2 * batch.weight);
        match view.flush {
            Some(_) if is_full => self.retry(view, STEP_BLOCKING, bytes),
            Some(flush) if flush.is_sorting => None,
            Some(FlushView { left, .. }) => {
                // The last quarter is a reserve.
                let room = (self.limits.memtable * 3 / 4).saturating_sub(view.weight);
                self.flush_debt += match batch.weight {
                    weight if weight < room => left * weight / room + 1,
                    _ => left,
                };
                let is_due = self.flush_debt >= STEP_BUSY.min(left);
                is_due.then(|| self.retry(view, self.flush_debt, bytes)).flatten()
            }
            None => (is_full || view.age.is_some_and(|age| age >= self.limits.max_age))
                .then_some(Action::Freeze),
        }
    }

    /// Returns the deletion that is due after a batch.
    pub fn delete_after(&mut self, has_flushed_rows: bool, batch: BatchSize) -> Option<Action> {
        if !has_flushed_rows {
            return None;
        }
        // Twice as fast as the batches write.
        self.delete_debt += 2 * (batch.bytes + MIN_ROW_COST);
        let is_due = self.delete_debt >= self.limits.delete_batch;
        is_due.then(|| Action::Delete(mem::take(&mut self.delete_debt)))
    }

    /// Returns the step to take when no commit came within the timeout.
    pub fn when_idle(&mut self, view: &View) -> Option<Action> {
        match view.flush {
            Some(flush) if flush.is_sorting => None,
            Some(_) => self.retry(view, STEP_BUSY, STEP_BYTES),
            None if view.has_flushed_rows => Some(Action::Delete(self.limits.delete_batch)),
            None if view.has_free_pages => Some(Action::Reclaim(RECLAIM_PAGES)),
            None => {
                view.age.is_some_and(|age| age >= self.limits.min_age).then_some(Action::Freeze)
            }
        }
    }

    /// Returns the next step of closing, which leaves everything in the tables. It ends with a
    /// failure.
    pub fn at_close(&mut self, view: &View) -> Option<Action> {
        match view.flush {
            _ if view.failed_since.is_some() => None,
            Some(_) => Some(self.flush(STEP_BLOCKING, STEP_CLOSING)),
            None if view.age.is_some() => Some(Action::Freeze),
            None if view.has_flushed_rows => Some(Action::Delete(STEP_CLOSING)),
            None => view.has_free_pages.then_some(Action::Reclaim(RECLAIM_PAGES)),
        }
    }

    /// Flushes, unless the last flush has failed a moment ago.
    fn retry(&mut self, view: &View, servers: usize, bytes: usize) -> Option<Action> {
        let may_flush = view.failed_since.is_none_or(|since| since >= RETRY_AFTER);
        may_flush.then(|| self.flush(servers, bytes))
    }

    fn flush(&mut self, servers: usize, bytes: usize) -> Action {
        self.flush_debt = 0;
        Action::Flush(StepSize { servers: servers.min(self.limits.max_step), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;
    /// The weight at which a flush has ended: three quarters of the limit.
    const TARGET: usize = 750;
    const BATCH: BatchSize = BatchSize { bytes: 10, weight: 10 };
    const NEVER: Option<Duration> = None;
    const SMALL_STEP: Action = Action::Flush(StepSize { servers: STEP_BUSY, bytes: STEP_BYTES });

    fn step(servers: usize, bytes: usize) -> Action {
        Action::Flush(StepSize { servers, bytes })
    }

    fn pacer() -> Pacer {
        let mut pacer = Pacer::new(Limits::DEFAULT);
        pacer.set_memtable_limit(LIMIT);
        pacer
    }

    fn empty() -> View {
        View {
            weight: 0,
            age: None,
            flush: None,
            failed_since: None,
            has_flushed_rows: false,
            has_free_pages: false,
        }
    }

    fn aged(age: Duration) -> View {
        View { weight: 1, age: Some(age), ..empty() }
    }

    fn flushing(left: usize) -> View {
        View { flush: Some(FlushView { left, is_sorting: false }), ..empty() }
    }

    fn sorting() -> View {
        View { flush: Some(FlushView { left: 9999, is_sorting: true }), ..empty() }
    }

    fn failed(view: View, since: Duration) -> View {
        View { failed_since: Some(since), ..view }
    }

    fn with_pages(view: View) -> View {
        View { has_free_pages: true, ..view }
    }

    fn with_rows(view: View) -> View {
        View { has_flushed_rows: true, ..view }
    }

    #[test]
    fn the_timeout_is_as_long_as_no_work_is_due() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (view, idle, busy) in [
            (empty(), NEVER, NEVER),
            (aged(Duration::ZERO), ms(1000), ms(1000)),
            (aged(Duration::from_millis(400)), ms(600), ms(600)),
            (aged(Duration::from_millis(990)), ms(20), ms(20)),
            (aged(Duration::from_secs(60)), ms(20), ms(20)),
            (with_rows(empty()), ms(0), ms(1)),
            (with_pages(empty()), ms(0), ms(1)),
            (flushing(5), ms(0), ms(1)),
            (with_rows(flushing(5)), ms(0), ms(1)),
            (sorting(), ms(1), ms(1)),
            (failed(flushing(5), Duration::ZERO), ms(1000), ms(1000)),
            (failed(with_rows(flushing(5)), Duration::from_millis(300)), ms(700), ms(700)),
            (failed(flushing(5), Duration::from_secs(60)), ms(20), ms(20)),
        ] {
            let mut pacer = pacer();
            assert_eq!(pacer.timeout(&view), idle, "{view:?}");
            pacer.waited(true);
            assert_eq!(pacer.timeout(&view), busy, "{view:?}");
            pacer.waited(false);
            assert_eq!(pacer.timeout(&view), idle, "{view:?}");
        }
    }

    #[test]
    fn an_idle_writer_flushes_then_deletes_then_freezes() {
        for (view, action) in [
            (empty(), None),
            (aged(Duration::from_millis(999)), None),
            (aged(Duration::from_secs(1)), Some(Action::Freeze)),
            (
                with_rows(aged(Duration::from_secs(9))),
                Some(Action::Delete(Limits::DEFAULT.delete_batch)),
            ),
            (with_rows(flushing(5)), Some(SMALL_STEP)),
            (with_rows(sorting()), None),
            (with_pages(with_rows(empty())), Some(Action::Delete(Limits::DEFAULT.delete_batch))),
            (with_pages(aged(Duration::from_secs(9))), Some(Action::Reclaim(RECLAIM_PAGES))),
            (failed(flushing(5), Duration::from_millis(999)), None),
            (failed(flushing(5), Duration::from_secs(1)), Some(SMALL_STEP)),
        ] {
            assert_eq!(pacer().when_idle(&view), action, "{view:?}");
        }
    }

    #[test]
    fn a_batch_freezes_a_memtable_that_is_full_or_old() {
        let full = |weight| View { weight, ..aged(Duration::ZERO) };
        for (view, action) in [
            (empty(), None),
            (full(LIMIT - 1), None),
            (full(LIMIT), Some(Action::Freeze)),
            (aged(Duration::from_millis(29_999)), None),
            (aged(Duration::from_secs(30)), Some(Action::Freeze)),
            // A flush in progress comes first.
            (View { weight: LIMIT, ..flushing(5) }, Some(step(STEP_BLOCKING, STEP_BYTES))),
            (View { weight: LIMIT, ..sorting() }, Some(step(STEP_BLOCKING, STEP_BYTES))),
            (View { weight: LIMIT - 1, ..sorting() }, None),
            (failed(View { weight: LIMIT, ..flushing(5) }, Duration::ZERO), None),
        ] {
            assert_eq!(pacer().flush_after(&view, BATCH), action, "{view:?}");
        }
    }

    /// A batch has at most a quarter of a memtable's weight.
    #[test]
    fn a_flush_under_load_ends_before_the_next_memtable_is_full() {
        for servers in [1, 10, 127, 128, 129, 5000, 1_000_000] {
            for weight in [1, 10, 100, LIMIT / 4] {
                let (mut pacer, mut left, mut grown) = (pacer(), servers, 0);
                let batch = BatchSize { bytes: weight, weight };
                while left > 0 {
                    grown += weight;
                    assert!(grown <= TARGET, "{servers} servers, batches of {weight}");
                    let view = View { weight: grown, ..flushing(left) };
                    match pacer.flush_after(&view, batch) {
                        Some(Action::Flush(StepSize { servers, .. })) => {
                            assert!(servers >= STEP_BUSY.min(left), "a step is worth its sync");
                            left = left.saturating_sub(servers);
                        }
                        None => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn small_batches_share_the_sync_of_a_step() {
        let mut pacer = pacer();
        pacer.set_memtable_limit(usize::MAX / 4);
        for round in 0..3 {
            for batch in 1..STEP_BUSY {
                assert_eq!(pacer.flush_after(&flushing(9999), BATCH), None, "{round}, {batch}");
            }
            let step = Some(SMALL_STEP);
            assert_eq!(pacer.flush_after(&flushing(9999), BATCH), step, "{round}");
        }
        // A step in a pause pays the debt.
        for _ in 1..STEP_BUSY {
            assert_eq!(pacer.flush_after(&flushing(9999), BATCH), None);
        }
        assert_eq!(pacer.when_idle(&flushing(9999)), Some(SMALL_STEP));
        assert_eq!(pacer.flush_after(&flushing(9999), BATCH), None);
    }

    #[test]
    fn the_debt_of_a_failing_flush_is_kept() {
        let mut pacer = pacer();
        pacer.set_memtable_limit(usize::MAX / 4);
        let failing = failed(flushing(9999), Duration::ZERO);
        for _ in 0..2 * STEP_BUSY {
            assert_eq!(pacer.flush_after(&failing, BATCH), None);
        }
        let step = Some(step(2 * STEP_BUSY + 1, STEP_BYTES));
        assert_eq!(pacer.flush_after(&failed(failing, RETRY_AFTER), BATCH), step);
    }

    #[test]
    fn flushed_rows_are_deleted_twice_as_fast_as_batches_write() {
        let mut pacer = pacer();
        let bytes = Limits::DEFAULT.delete_batch / 8 - MIN_ROW_COST;
        let batch = BatchSize { bytes, weight: 0 };
        assert_eq!(pacer.delete_after(false, batch), None);
        for _ in 0..2 {
            let actions: Vec<_> = (0..4).map(|_| pacer.delete_after(true, batch)).collect();
            assert_eq!(
                actions,
                [None, None, None, Some(Action::Delete(Limits::DEFAULT.delete_batch))]
            );
        }
    }

    #[test]
    fn commits_are_refused_only_after_a_flush_was_tried() {
        let mut pacer = pacer();
        assert!(!pacer.must_refuse(2 * LIMIT - 1));
        assert!(pacer.must_refuse(2 * LIMIT));
        let failing = failed(flushing(5), Duration::ZERO);
        assert_eq!(pacer.before_refusal(&failing), Some(step(STEP_BLOCKING, usize::MAX)));
        assert_eq!(pacer.before_refusal(&empty()), None);
    }

    #[test]
    fn closing_flushes_and_deletes_everything_unless_it_fails() {
        for (view, action) in [
            (with_rows(flushing(5)), Some(step(STEP_BLOCKING, STEP_CLOSING))),
            (with_rows(sorting()), Some(step(STEP_BLOCKING, STEP_CLOSING))),
            (with_rows(aged(Duration::ZERO)), Some(Action::Freeze)),
            (with_rows(empty()), Some(Action::Delete(STEP_CLOSING))),
            (empty(), None),
            (failed(with_rows(flushing(5)), Duration::from_secs(60)), None),
        ] {
            assert_eq!(pacer().at_close(&view), action, "{view:?}");
        }
    }
}
