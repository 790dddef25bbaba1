//! Observation of servers: events, the streams that deliver them, and the traits that receive
//! events and changes.

pub(crate) mod event;
pub(crate) mod observer;
