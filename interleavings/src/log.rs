use std::{
    cell::RefCell, future::pending, panic::resume_unwind, sync::OnceLock, thread, time::Duration,
};

use crate::explore::pause;
use persistent_runtime::{__model::preempt, Context, Reply, persistent_server};
use serde::{Deserialize, Serialize};

thread_local! {
    /// All tasks of an execution run on the thread of its test.
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// What the handlers of an execution have seen.
#[derive(Default)]
struct Seen {
    living: usize,
    handling: usize,
    handled: usize,
    aborted: usize,
    wrongs: Vec<&'static str>,
}

fn seen<T>(look: impl FnOnce(&mut Seen) -> T) -> T {
    SEEN.with_borrow_mut(look)
}

/// Notes what must not be; a panic here would be the runtime's to catch.
pub(crate) fn wrong(what: &'static str) {
    seen(|seen| seen.wrongs.push(what));
}

pub(crate) fn begin() {
    seen(|seen| *seen = Seen::default());
}

pub(crate) fn end() {
    let Seen { living, handling, wrongs, .. } = seen(std::mem::take);
    assert_eq!((living, handling), (0, 0), "instances and handlers that are left");
    assert!(wrongs.is_empty(), "{wrongs:?}");
}

/// Whether a handler is at work.
#[must_use]
pub fn handling() -> bool {
    seen(|seen| seen.handling > 0)
}

/// How many handlers have come to their end.
#[must_use]
pub fn handled() -> usize {
    seen(|seen| seen.handled)
}

/// How many handlers were dropped half-way.
#[must_use]
pub fn aborted() -> usize {
    seen(|seen| seen.aborted)
}

/// An instance in memory.
struct Life;

impl Life {
    fn begin() -> Self {
        if seen(|seen| std::mem::replace(&mut seen.living, 1)) > 0 {
            wrong("two instances live at once");
        }
        Self
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        seen(|seen| seen.living = 0);
    }
}

/// A handler at work.
struct Handling {
    done: bool,
}

impl Handling {
    /// Takes a moment, in which everything else goes on.
    fn begin() -> Self {
        if seen(|seen| std::mem::replace(&mut seen.handling, 1)) > 0 {
            wrong("two handlers run at once");
        }
        preempt();
        Self { done: false }
    }

    fn done(mut self) {
        self.done = true;
        seen(|seen| seen.handled += 1);
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        seen(|seen| {
            seen.handling = 0;
            seen.aborted += usize::from(!self.done && !thread::panicking());
        });
    }
}

/// A message: the `number`th of the sender `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Who.
    pub by: u8,
    /// Which.
    pub number: u8,
}

/// A server that keeps every message in the order in which it handled them, so
/// that each answer shows all that was before it.
#[derive(Default, Serialize, Deserialize)]
pub struct Log {
    marks: Vec<Mark>,
    #[serde(skip)]
    waiting: Vec<Reply<Vec<Mark>>>,
    #[serde(skip)]
    life: OnceLock<Life>,
}

#[persistent_server(name = "log")]
impl Log {
    #[started]
    fn started(&self) {
        self.life.get_or_init(Life::begin);
    }

    /// All that was written.
    #[must_use]
    pub fn read(&self) -> Vec<Mark> {
        let handling = Handling::begin();
        let marks = self.marks.clone();
        handling.done();
        marks
    }

    /// Writes `mark`; returns all that was written, with it.
    pub fn write(&mut self, mark: Mark) -> Vec<Mark> {
        let handling = Handling::begin();
        self.marks.push(mark);
        handling.done();
        self.marks.clone()
    }

    /// As [`write`](Self::write), and waits for something meanwhile.
    pub async fn write_slowly(&mut self, mark: Mark) -> Vec<Mark> {
        let handling = Handling::begin();
        self.marks.push(mark);
        pause().await;
        handling.done();
        self.marks.clone()
    }

    /// Never ends by itself.
    pub async fn hang(&self) {
        let _handling = Handling::begin();
        pending::<()>().await;
    }

    /// As [`write`](Self::write), for nobody who waits.
    #[cast]
    pub fn note(&mut self, mark: Mark) {
        let handling = Handling::begin();
        self.marks.push(mark);
        handling.done();
    }

    /// Has `mark` written in a while, by a timer that is stored.
    pub fn remind(&mut self, mark: Mark, wait: Duration, context: &Context<Self>) {
        context.remind("write", wait, LogMessage::Note { mark });
    }

    /// Writes `mark`, and panics.
    pub fn crash(&mut self, mark: Mark) {
        let _handling = Handling::begin();
        self.marks.push(mark);
        // Not by `panic!`: its hook would print a schedule.
        resume_unwind(Box::new("on purpose"));
    }

    /// Answered by the next [`answer`](Self::answer).
    pub fn wait(&mut self, reply: Reply<Vec<Mark>>) {
        self.waiting.push(reply);
    }

    /// Answers all who wait, from a thread of its own, so at any time.
    pub fn answer(&mut self) {
        let (waiting, marks) = (std::mem::take(&mut self.waiting), self.marks.clone());
        shuttle::thread::spawn(move || {
            for reply in waiting {
                reply.send(marks.clone());
            }
        });
    }
}
