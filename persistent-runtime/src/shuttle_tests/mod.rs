//! Tests of rare interleavings: shuttle runs the runtime itself, preempts it at every lock,
//! atomic, notification and await, and tries many orders of these events.
//!
//! ```sh
//! RUSTFLAGS='--cfg shuttle' CARGO_TARGET_DIR=target/shuttle \
//!     cargo test -p persistent-runtime --lib shuttle_tests
//! ```
//!
//! `INTERLEAVINGS=1000000` tries that many orders of each scenario. A failure prints its
//! schedule; `SCHEDULE=…` repeats that order and must be run with one test only.
//!
//! Scenarios use the public API and the [simulation](crate::support::sync::shuttle) of tasks
//! and time. Each scenario checks the replies it receives, and [`explore::explore`] checks
//! after each order that nothing is left. Modules import only those above them in this list:
//!
//! - [`callers`]: tasks that send messages, and time;
//! - [`monitor`]: counts handlers and instances, and records violations;
//! - [`server`], [`storage`]: the server and the storage of all scenarios;
//! - [`explore`]: the schedulers, and the runtime that a scenario runs on;
//! - [`scenarios`]: the tests.

mod callers;
mod explore;
mod monitor;
mod scenarios;
mod server;
mod storage;
