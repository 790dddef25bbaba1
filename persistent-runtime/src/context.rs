//! What a handler knows of its own server.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Address, Client, Server, StopReason, kind::Kind};

/// A server's view of itself, for handlers and hooks that take
/// `&Context<Self>`. It is no field of the message.
///
/// ```
/// # use persistent_runtime::{persistent_server, Context, Runtime, StopReason};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Basket { items: Vec<String> }
/// #[persistent_server]
/// impl Basket {
///     /// Empties the basket and ends its server behind this message.
///     pub fn check_out(&mut self, context: &Context<Self>) -> String {
///         context.stop(StopReason::Normal);
///         format!("{}: {} items", context.key(), std::mem::take(&mut self.items).len())
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::in_memory().await?;
/// let basket = runtime.at::<Basket>("ada", ());
/// assert_eq!(basket.check_out().await?, "ada: 0 items");
/// # Ok(()) }
/// ```
pub struct Context<S: Server> {
    kind: Arc<Kind<S>>,
    address: Address<S>,
    stop: Mutex<Option<StopReason>>,
}

impl<S: Server> Context<S> {
    pub(crate) fn new(kind: Arc<Kind<S>>, address: Address<S>) -> Self {
        Self { kind, address, stop: Mutex::new(None) }
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.address.key()
    }

    /// The server's own address, with the init arguments of the client that
    /// activated it.
    #[must_use]
    pub fn address(&self) -> &Address<S> {
        &self.address
    }

    /// A client of the server itself, to hand to others. A handler that waits
    /// for an answer of its own server waits until the call's deadline.
    #[must_use]
    pub fn client(&self) -> S::Client {
        self.client_of(&self.address)
    }

    /// A client of another server of the same runtime.
    #[must_use]
    pub fn client_of<T: Server>(&self, address: &Address<T>) -> T::Client {
        T::Client::from_handle(self.kind.core().handle(address))
    }

    /// Ends the server behind the message in progress, whose answer is
    /// released with the final commit. Messages queued meanwhile start it
    /// again. A message that panics stops nothing.
    pub fn stop(&self, reason: impl Into<StopReason>) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    pub(crate) fn take_stop(&self) -> Option<StopReason> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S: Server> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.address).finish()
    }
}
