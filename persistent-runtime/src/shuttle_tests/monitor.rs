//! Counts instances and handlers, and records violations of their invariants.

use std::{cell::RefCell, mem, thread};

use crate::support::sync::shuttle::preempt;

thread_local! {
    /// Shuttle runs all tasks of an execution on the thread of its test.
    static COUNTS: RefCell<Counts> = RefCell::default();
}

/// The counts of one execution.
#[derive(Default)]
struct Counts {
    instances: usize,
    running_handlers: usize,
    finished_handlers: usize,
    aborted_handlers: usize,
    violations: Vec<&'static str>,
}

fn with_counts<T>(access: impl FnOnce(&mut Counts) -> T) -> T {
    COUNTS.with_borrow_mut(access)
}

/// Records a violation. [`end`] reports it: the runtime would catch a panic here.
pub(super) fn violation(what: &'static str) {
    with_counts(|counts| counts.violations.push(what));
}

/// Begins an execution.
pub(super) fn begin() {
    with_counts(|counts| *counts = Counts::default());
}

/// Ends an execution.
///
/// # Panics
///
/// If an invariant was violated, or if an instance or a handler is left.
pub(super) fn end() {
    let Counts { instances, running_handlers, violations, .. } = with_counts(mem::take);
    assert_eq!((instances, running_handlers), (0, 0), "instances and handlers that are left");
    assert!(violations.is_empty(), "{violations:?}");
}

/// Returns true while a handler runs.
pub(super) fn is_handling() -> bool {
    with_counts(|counts| counts.running_handlers > 0)
}

/// Returns how many handlers have finished.
pub(super) fn finished_handlers() -> usize {
    with_counts(|counts| counts.finished_handlers)
}

/// Returns how many handlers were dropped before they finished.
pub(super) fn aborted_handlers() -> usize {
    with_counts(|counts| counts.aborted_handlers)
}

/// An instance in memory. At most one exists at a time.
pub(super) struct Instance(());

impl Instance {
    pub(super) fn begin() -> Self {
        if with_counts(|counts| mem::replace(&mut counts.instances, 1)) > 0 {
            violation("two instances exist at once");
        }
        Self(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        with_counts(|counts| counts.instances = 0);
    }
}

/// A running handler. At most one exists at a time.
pub(super) struct Handling {
    finished: bool,
}

impl Handling {
    /// Begins a handler, and lets the scheduler preempt it.
    pub(super) fn begin() -> Self {
        if with_counts(|counts| mem::replace(&mut counts.running_handlers, 1)) > 0 {
            violation("two handlers run at once");
        }
        preempt();
        Self { finished: false }
    }

    pub(super) fn finish(mut self) {
        self.finished = true;
        with_counts(|counts| counts.finished_handlers += 1);
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        with_counts(|counts| {
            counts.running_handlers = 0;
            counts.aborted_handlers += usize::from(!self.finished && !thread::panicking());
        });
    }
}
