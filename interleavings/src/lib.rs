//! Interleavings of awaits and threads: the runtime itself, on a scheduler that
//! preempts at every lock, atomic and notification, in orders that it draws.
//!
//! ```sh
//! RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR=target/shuttle cargo test -p interleavings
//! ```
//!
//! `INTERLEAVINGS=1000000` tries that many orders of each scenario. A failure prints
//! its schedule; `SCHEDULE=…` (one test only) runs that one again.
#![cfg(shuttle)]

mod explore;
mod log;
mod slow;

pub use explore::{Caller, World, advance, caller, explore, meanwhile};
pub use log::{Log, LogClient, LogMessage, Mark, aborted, handled, handling};
pub use slow::SlowStorage;
