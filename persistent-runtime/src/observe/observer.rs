//! The trait that receives the changes and events of all server types.

use crate::{
    id::ServerId,
    observe::event::Event,
    storage::{Record, StorageEvent},
};

/// A receiver of the changes and events of all servers of a runtime, given to
/// [`Builder::observer`](crate::Builder::observer), which has an example.
///
/// The methods are called on the server's task, in the order of the server's messages. Keep them
/// short and send long work to a task of your own. A panic in a method is caught and ignored.
pub trait Observer: Send + Sync + 'static {
    /// Returns true if [`on_change`](Self::on_change) is to be called.
    ///
    /// Called once, when the runtime opens. An observer that only receives events returns false:
    /// otherwise each server that [journals its messages](crate::Journal) encodes its whole state
    /// at each change.
    fn wants_changes(&self) -> bool {
        true
    }

    /// Called after a change is committed, with the record that the server has now, or with
    /// `None` after the server was deleted.
    ///
    /// Changes that share a commit are reported one by one. The record has the complete state,
    /// also if only a message was stored for the change.
    fn on_change(&self, server: &ServerId, record: Option<&Record>) {
        let _ = (server, record);
    }

    /// Called after an event.
    fn on_event(&self, server: &ServerId, event: &Event) {
        let _ = (server, event);
    }

    /// Called when work of the storage in the background fails, and when it succeeds again. This
    /// method is called on a thread of the storage, which writes nothing meanwhile.
    fn on_storage_event(&self, event: &StorageEvent) {
        let _ = event;
    }
}
