//! The engine: addresses, their mailboxes, and the tasks that run servers.

pub(crate) mod cell;
pub(crate) mod crash_budget;
pub(crate) mod direct;
pub(crate) mod mailbox;
pub(crate) mod recorded;
pub(crate) mod registry;
pub(crate) mod reminders;
pub(crate) mod resources;
pub(crate) mod task;
pub(crate) mod visit;
