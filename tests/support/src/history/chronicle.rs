//! The record of a history, as its clients, the hooks of its servers and its storage
//! report it. A history runs on one thread.

use std::{cell::RefCell, collections::HashMap, mem, time::SystemTime};

use persistent_runtime::CallError;
use tokio::time::Instant;

use super::{Act, Step, check::Log, plan::PlannedFault};

/// All events of a history, ordered by one clock.
#[derive(Default)]
pub(super) struct Chronicle {
    clock: u64,
    began: Option<Instant>,
    /// The number of live instances per server and epoch. A new epoch begins with a new
    /// runtime.
    live: HashMap<(u32, String), usize>,
    epoch: u32,
    terminating: HashMap<String, u64>,
    pub(super) calls: Vec<Call>,
    pub(super) faults: Vec<Fired>,
    pub(super) ends: Vec<Ended>,
    pub(super) restarts: Vec<Restarted>,
    pub(super) violations: Vec<String>,
}

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    /// A logical clock that orders any two events.
    pub(super) tick: u64,
    /// Virtual time in milliseconds.
    pub(super) ms: u64,
}

impl Time {
    /// Later than every event.
    pub(super) const NEVER: Self = Self { tick: u64::MAX, ms: u64::MAX };
}

/// A step of a client and its outcome.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) step: Step,
    /// The number of the runtime that handled the call.
    pub(super) generation: usize,
    pub(super) begin: Time,
    pub(super) end: Time,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The content of the server, from a call with a reply.
    Saw(Log),
    Done,
    Failed(CallError),
    Dropped,
    Hung,
}

/// A storage fault that took effect.
#[derive(Clone, Debug)]
pub(super) struct Fired {
    pub(super) at: Time,
    pub(super) fault: PlannedFault,
}

/// An orderly end of a server.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) key: String,
    pub(super) terminating: u64,
    pub(super) stopped: Time,
}

/// The end of a runtime.
#[derive(Clone, Debug)]
pub(super) struct Restarted {
    pub(super) begin: Time,
    pub(super) end: Time,
    /// True if the runtime was shut down, false if it was dropped.
    pub(super) orderly: bool,
    /// True if each server ended in order.
    pub(super) finished: bool,
    /// The keys of the servers that the shutdown could not save.
    pub(super) unsaved: Vec<String>,
}

thread_local! {
    static CHRONICLE: RefCell<Chronicle> = RefCell::default();
}

/// Starts a new chronicle and returns the previous one.
pub(super) fn renew() -> Chronicle {
    let new = Chronicle { began: Some(Instant::now()), ..Chronicle::default() };
    CHRONICLE.with_borrow_mut(|chronicle| mem::replace(chronicle, new))
}

/// Ends the chronicle and returns it.
pub(super) fn close() -> Chronicle {
    CHRONICLE.with_borrow_mut(mem::take)
}

/// Calls `what` with the current chronicle.
pub(super) fn tell<R>(what: impl FnOnce(&mut Chronicle) -> R) -> R {
    CHRONICLE.with_borrow_mut(what)
}

/// Advances the logical clock and returns the time.
pub(super) fn now() -> Time {
    tell(Chronicle::now)
}

/// Returns a wall clock that begins with the history and goes on from runtime to runtime.
pub(super) fn wall_clock() -> impl Fn() -> SystemTime + Send + Sync {
    let began = tell(|chronicle| *chronicle.began.get_or_insert_with(Instant::now));
    move || SystemTime::UNIX_EPOCH + began.elapsed()
}

/// Starts a new epoch: the instances of the old one are gone, as after the death of a
/// process.
pub(super) fn new_epoch() {
    tell(|chronicle| chronicle.epoch += 1);
}

/// Records that the `terminate` hook of a server runs.
pub(super) fn terminates(key: &str) {
    tell(|chronicle| {
        let tick = chronicle.now().tick;
        chronicle.terminating.insert(key.to_owned(), tick);
    });
}

/// Records that a server has stopped.
pub(super) fn stopped(key: &str) {
    tell(|chronicle| {
        let stopped = chronicle.now();
        if let Some(terminating) = chronicle.terminating.remove(key) {
            chronicle.ends.push(Ended { key: key.to_owned(), terminating, stopped });
        }
    });
}

/// Returns the number of instances in memory.
pub(super) fn alive() -> usize {
    tell(|chronicle| chronicle.live.values().sum())
}

impl Chronicle {
    pub(super) fn now(&mut self) -> Time {
        self.clock += 1;
        let began = *self.began.get_or_insert_with(Instant::now);
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Time { tick: self.clock, ms }
    }
}

/// An instance in memory. A second one of the same server is a violation.
#[derive(Debug)]
pub(super) struct LiveInstance {
    epoch: u32,
    key: String,
}

impl LiveInstance {
    pub(super) fn begin(key: &str) -> Self {
        tell(|chronicle| {
            let instance = Self { epoch: chronicle.epoch, key: key.to_owned() };
            let count = chronicle.live.entry((instance.epoch, instance.key.clone())).or_default();
            *count += 1;
            if *count > 1 {
                chronicle.violations.push(format!("two instances of {key} at once"));
            }
            instance
        })
    }
}

impl Drop for LiveInstance {
    fn drop(&mut self) {
        // The chronicle is already gone if the thread is ending.
        let _ = CHRONICLE.try_with(|chronicle| {
            let mut chronicle = chronicle.borrow_mut();
            let key = (self.epoch, mem::take(&mut self.key));
            if let Some(live) = chronicle.live.get_mut(&key) {
                *live = live.saturating_sub(1);
            }
        });
    }
}

impl Call {
    /// Formats the call as a line of the trace.
    pub(super) fn describe(&self) -> String {
        let Self { client, step, begin, end, outcome, .. } = self;
        let outcome = match outcome {
            Outcome::Saw(log) => format!("{log:?}"),
            Outcome::Done => "done".to_owned(),
            Outcome::Failed(error) => error.to_string(),
            Outcome::Dropped => "dropped".to_owned(),
            Outcome::Hung => "hangs".to_owned(),
        };
        let until = if matches!(step.act, Act::Sleep(_)) {
            String::new()
        } else {
            format!(" until {} ms #{}", end.ms, end.tick)
        };
        format!("{:>5} ms #{:<3} client {client}: {step}{until}: {outcome}", begin.ms, begin.tick)
    }
}
