//! The stream of the committed states of one server.

use std::{
    fmt,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::{
    api::{client::Handle, context::Context, server::Server},
    codec::DecodeError,
    engine::{context::ContextCore, followers::EncodedChange, reminders::Reminders},
    error::CallError,
    storage::encoded::Encoded,
    support::catch::catch_unwind,
};

/// A change of a server's stored state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<S> {
    /// This state is committed.
    Committed(S),
    /// The server was deleted.
    Deleted,
    /// The reader was too slow, and changes were dropped. The next change tells the newer state.
    #[non_exhaustive]
    Missed {
        /// The number of dropped changes.
        changes: usize,
    },
}

/// The committed states of one server, in order, as a [`Stream`]. Returned by
/// [`Client::changes`](crate::Client::changes).
///
/// The stream buffers 64 changes. If the buffer is full, further changes are dropped, and a
/// [`Change::Missed`] in their place has their number.
pub struct Changes<S: Server> {
    changes: mpsc::Receiver<EncodedChange>,
    /// Keeps the server's cell alive, and with it the sending end.
    handle: Handle<S>,
}

impl<S: Server> Changes<S> {
    pub(crate) fn new(changes: mpsc::Receiver<EncodedChange>, handle: Handle<S>) -> Self {
        Self { changes, handle }
    }

    /// Receives the next change. Returns `None` after the runtime has ended, or after the server
    /// was [transferred](crate::Runtime::transfer) to another one.
    ///
    /// # Errors
    /// [`CallError::Decode`] if the stored form of the state does not decode. The stream goes on.
    ///
    /// # Cancel safety
    /// If the future is dropped, no change is lost.
    pub async fn next(&mut self) -> Option<Result<Change<S>, CallError>> {
        let change = self.changes.recv().await?;
        Some(self.decode(change))
    }

    fn decode(&self, change: EncodedChange) -> Result<Change<S>, CallError> {
        Ok(match change {
            EncodedChange::Committed(state) => Change::Committed(self.state(&state)?),
            EncodedChange::Deleted => Change::Deleted,
            EncodedChange::Missed(changes) => Change::Missed { changes },
        })
    }

    fn state(&self, encoded: &Encoded) -> Result<S, CallError> {
        let core = self.handle.core();
        let init = core.options().init.clone();
        let context = Context::<S>::new(ContextCore::new(core.cell(), init, Reminders::default()));
        catch_unwind(|| S::decode(S::VERSION, &encoded.bytes(), &context))
            .unwrap_or_else(|reason| Err(DecodeError::Restore { reason }))
            .map_err(|source| CallError::Decode {
                server: core.server().clone(),
                version: S::VERSION,
                source: source.into(),
            })
    }
}

impl<S: Server> Stream for Changes<S> {
    type Item = Result<Change<S>, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let change = ready!(self.changes.poll_recv(cx));
        Poll::Ready(change.map(|change| self.decode(change)))
    }
}

impl<S: Server> fmt::Debug for Changes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("server", self.handle.core().server())
            .field("buffered", &self.changes.len())
            .finish()
    }
}
