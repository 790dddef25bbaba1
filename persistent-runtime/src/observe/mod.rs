//! Events of servers, and the traits that receive them.

pub(crate) mod event;
pub(crate) mod listener;
