//! The generic edge: the types that users and generated code name.
//!
//! [`typed`] puts a server type behind the engine's seam. The other modules are thin wrappers
//! around the engine that know the type, and each other.

pub(crate) mod address;
#[cfg(feature = "macros")]
pub(crate) mod agent;
pub(crate) mod changes;
pub(crate) mod client;
pub(crate) mod context;
pub(crate) mod listener;
pub(crate) mod message;
mod queue;
pub(crate) mod server;
pub(crate) mod typed;
