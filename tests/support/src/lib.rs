//! Servers, searches and a simulated disk for the integration tests.

/// Runs the examples in the documentation of the attribute.
#[cfg(doctest)]
#[doc = include_str!("../../../persistent-macros/src/persistent_server.md")]
mod attribute {}
mod counter;
mod finishes;
pub mod history;
mod ledger;
pub mod power;
mod probe;
mod twins;

pub use persistent_runtime::testing::{Fault, FaultyStorage, Request};

pub use counter::{Counter, CounterClient, CounterMessage};
pub use finishes::finishes;
pub use ledger::{Ledger, LedgerClient, LedgerMessage};
pub use probe::{Probe, ProbeClient, ProbeMessage, events};
pub use twins::{Twins, TwinsClient, TwinsMessage};
