//! What `.ci/run --mutants` asks about each mutant: the suites that are quick. The searches
//! would take an hour a mutant.

#[path = "tests/bounds.rs"]
mod bounds;
#[path = "tests/calls.rs"]
mod calls;
#[path = "tests/concurrency.rs"]
mod concurrency;
#[path = "tests/context.rs"]
mod context;
#[path = "tests/direct.rs"]
mod direct;
#[path = "tests/ends.rs"]
mod ends;
#[path = "tests/lifecycle.rs"]
mod lifecycle;
#[path = "tests/line.rs"]
mod line;
#[path = "tests/messages.rs"]
mod messages;
#[path = "tests/neighbours.rs"]
mod neighbours;
#[path = "tests/persist.rs"]
mod persist;
#[path = "tests/recovery.rs"]
mod recovery;
#[path = "tests/reminders.rs"]
mod reminders;
#[path = "tests/replay.rs"]
mod replay;
#[path = "tests/storage.rs"]
mod storage;
