//! The trait that receives the changes and ends of one server type.

use crate::{api::address::Address, api::server::Server, stop_reason::StopReason};

/// A receiver of the changes and ends of all servers of one type, given to
/// [`Builder::listener`](crate::Builder::listener), which has an example.
///
/// The methods are called on the server's task, in the order of the server's messages. Keep them
/// short and send long work to a task of your own. A panic in a method is caught and ignored.
///
/// # Cost
///
/// A server that [journals its messages](crate::Journal) encodes its whole state at each change
/// if its type has a listener.
pub trait Listener<S: Server>: Send + Sync + 'static {
    /// Called after a change is committed, from `old` to `new`.
    ///
    /// Not called for a message that left the state as it was. Changes that share a commit are
    /// reported one by one. `old` is `None` if the server is new, or if the state was migrated.
    fn on_state_changed(&self, address: &Address<S>, old: Option<&S>, new: &S) {
        let _ = (address, old, new);
    }

    /// Called after an orderly stop with the final `state`, after the `terminate` hook.
    fn on_terminate(&self, address: &Address<S>, reason: &StopReason, state: &S) {
        let _ = (address, reason, state);
    }

    /// Called after a handler or hook panicked with the message `panic`.
    fn on_crash(&self, address: &Address<S>, panic: &str) {
        let _ = (address, panic);
    }
}
