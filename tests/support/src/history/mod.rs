//! Generated histories: several clients and servers, a storage that fails, and restarts.
//! The check asks whether an order of events explains what the clients saw.
//!
//! A [`Plan`] is generated from a seed, run on a tokio runtime with one thread and paused
//! time, and judged by the documented promises.

mod check;
mod chronicle;
mod generate;
mod judge;
mod ledger;
mod plan;
mod run;
mod shrink;
mod tour;

pub use check::{Effect, Log, Operation, is_linearizable};
pub use ledger::{Ledger, LedgerClient, LedgerMessage};
pub use plan::{Act, Ending, Level, Plan, PlannedFault, Step, WaitLimit};
pub use run::Failure;
