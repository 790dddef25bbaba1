//! Those who hear of every change.

use crate::{
    api::address::Address, api::server::Server, id::ServerId, observe::event::Event,
    stop_reason::StopReason, storage::Record,
};

/// Hears of all servers of one type; given to
/// [`Builder::listener`](crate::Builder::listener).
///
/// Each method is called in the server's own order, on the server's task: keep
/// it short, hand long work to a task of your own. A panic in it harms nobody.
///
/// A server that [journals its messages](crate::Journal) has to encode its
/// state at each change for whoever hears of it: the change costs the state's
/// size then.
pub trait Listener<S: Server>: Send + Sync + 'static {
    /// A change is committed. Called for real changes only; changes that
    /// shared a commit are told one by one. `old` is `None` in a
    /// first life, and where a migration lies between.
    fn on_state_changed(&self, address: &Address<S>, old: Option<&S>, new: &S) {
        let _ = (address, old, new);
    }

    /// The server has come to an orderly end with `state`, after its
    /// `terminate` hook.
    fn on_terminate(&self, address: &Address<S>, reason: &StopReason, state: &S) {
        let _ = (address, reason, state);
    }

    /// A handler or hook panicked with this text.
    fn on_crash(&self, address: &Address<S>, panic: &str) {
        let _ = (address, panic);
    }
}

/// Hears of all servers of a runtime, whatever their types; given to
/// [`Builder::observer`](crate::Builder::observer). As with a [`Listener`],
/// calls are in each server's own order, a panic harms nobody, and a server that
/// journals its messages pays the same price.
pub trait Observer: Send + Sync + 'static {
    /// A change is committed; `None` stands for a delete. Changes that shared a
    /// commit are told one by one. The record is the server as it is now, also
    /// where a message was stored in the place of its state.
    fn on_change(&self, server: &ServerId, record: Option<&Record>) {
        let _ = (server, record);
    }

    /// Something has happened in a server's life.
    fn on_event(&self, server: &ServerId, event: &Event) {
        let _ = (server, event);
    }
}
