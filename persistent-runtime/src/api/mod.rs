//! The types that users and generated code name.

pub(crate) mod address;
#[cfg(feature = "macros")]
pub(crate) mod agent;
pub(crate) mod client;
pub(crate) mod context;
pub(crate) mod server;
pub(crate) mod source;
