//! Generated histories: several clients, several servers, a storage that fails,
//! restarts, and the question whether what the clients saw can be explained.
//!
//! A [`Plan`] is generated from a seed, run on a tokio of one thread with paused
//! time, and judged by the promises of the runtime's documentation.

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
pub use plan::{Act, Ending, Level, Patience, Plan, PlannedFault, Step};
pub use run::Failure;
