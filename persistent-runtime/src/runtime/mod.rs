//! The runtime that a program opens, and the background tasks that belong to no server.

pub(crate) mod builder;
pub(crate) mod keys;
mod reminder_scheduler;
mod revive;
#[expect(clippy::module_inception, reason = "named after the type in it")]
pub(crate) mod runtime;
