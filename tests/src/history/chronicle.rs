//! What happens in a history, told by those who see it: the clients, the servers'
//! own hooks, the storage. All of a history happens on one thread.

use std::{cell::RefCell, collections::HashMap, mem};

use persistent_runtime::CallError;
use tokio::time::Instant;

use super::{Act, Step, check::Log, plan::PlannedFault};

/// All that has happened, in order of one clock.
#[derive(Default)]
pub(super) struct Chronicle {
    clock: u64,
    began: Option<Instant>,
    /// How many lives of each server there are, by the epoch in which they began.
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
    /// By the clock that tells any two events apart.
    pub(super) tick: u64,
    /// Milliseconds of virtual time.
    pub(super) ms: u64,
}

impl Time {
    /// After all.
    pub(super) const NEVER: Self = Self { tick: u64::MAX, ms: u64::MAX };
}

/// What a client did.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) step: Step,
    /// Which of the runtimes that followed each other it went to.
    pub(super) generation: usize,
    pub(super) begin: Time,
    pub(super) end: Time,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Of a call with an answer.
    Saw(Log),
    Done,
    Failed(CallError),
    Dropped,
    Hung,
}

/// A fault of the storage.
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Restarted {
    pub(super) begin: Time,
    pub(super) end: Time,
    /// Whether each server came to an orderly end.
    pub(super) orderly: bool,
}

thread_local! {
    static CHRONICLE: RefCell<Chronicle> = RefCell::default();
}

/// Begins a new one; returns the one before.
pub(super) fn renew() -> Chronicle {
    let new = Chronicle { began: Some(Instant::now()), ..Chronicle::default() };
    CHRONICLE.with_borrow_mut(|chronicle| mem::replace(chronicle, new))
}

/// The end of the chronicle.
pub(super) fn close() -> Chronicle {
    CHRONICLE.with_borrow_mut(mem::take)
}

/// Adds to it.
pub(super) fn tell<R>(what: impl FnOnce(&mut Chronicle) -> R) -> R {
    CHRONICLE.with_borrow_mut(what)
}

/// One tick later.
pub(super) fn now() -> Time {
    tell(Chronicle::now)
}

/// The process dies, as far as the servers can tell: their lives count no more.
pub(super) fn new_epoch() {
    tell(|chronicle| chronicle.epoch += 1);
}

/// A server's hook sees its end.
pub(super) fn terminates(key: &str) {
    tell(|chronicle| {
        let tick = chronicle.now().tick;
        chronicle.terminating.insert(key.to_owned(), tick);
    });
}

/// A server has come to its end.
pub(super) fn stopped(key: &str) {
    tell(|chronicle| {
        let stopped = chronicle.now();
        if let Some(terminating) = chronicle.terminating.remove(key) {
            chronicle.ends.push(Ended { key: key.to_owned(), terminating, stopped });
        }
    });
}

/// How many servers are in memory.
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

/// A server in memory: there is one at most of each.
#[derive(Debug)]
pub(super) struct Life {
    epoch: u32,
    key: String,
}

impl Life {
    pub(super) fn begin(key: &str) -> Self {
        tell(|chronicle| {
            let life = Self { epoch: chronicle.epoch, key: key.to_owned() };
            let count = chronicle.live.entry((life.epoch, life.key.clone())).or_default();
            *count += 1;
            if *count > 1 {
                chronicle.violations.push(format!("two lives of {key} at once"));
            }
            life
        })
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // At the end of the thread there is nobody to tell.
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
    /// A line of the trace.
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
