//! Tests of the life of a server: activation, crash, unload, stop and transfer.

mod await_commits;
mod changes;
mod lifecycle;
mod listeners_and_transfer;
mod persist;
mod recovery;
mod reminders;
mod shutdown;
