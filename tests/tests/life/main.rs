//! Tests of the life of a server: activation, crash, unload, stop and transfer.

mod changes;
mod lifecycle;
mod listeners_and_transfer;
mod persist;
mod recovery;
mod reminders;
mod shutdown;
