//! A persistent value without a server of one's own.

use serde::{Deserialize, Serialize};

use crate::{api::client::Client, error::CallError, payload::Payload, persistent_server};

/// What an [`Agent`] can hold.
pub trait AgentState: Payload + Clone + std::fmt::Debug + Sync {
    /// The stable name that agents of this type are stored under.
    const NAME: &'static str;
}

/// A persistent value: `get`, `set`, `swap` as messages, and closures for the
/// rest.
///
/// ```
/// # use persistent_runtime::{Agent, AgentState, Runtime};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// struct Cart(Vec<String>);
///
/// impl AgentState for Cart {
///     const NAME: &'static str = "cart";
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::in_memory().await?;
/// let cart = runtime.at::<Agent<Cart>>("ada", Cart(Vec::new()));
/// cart.update(|cart| cart.0.push("ink".into())).await?;
/// assert_eq!(cart.get_with(|cart| cart.0.len()).await?, 1);
/// assert_eq!(cart.get_and_update(|cart| cart.0.pop()).await?, Some("ink".into()));
/// # Ok(()) }
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct Agent<T: AgentState> {
    value: T,
}

#[persistent_server(name = T::NAME)]
impl<T: AgentState> Agent<T> {
    #[init]
    fn new(value: T) -> Self {
        Self { value }
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> T {
        self.value.clone()
    }

    /// Makes `value` the value.
    pub fn set(&mut self, value: T) {
        self.value = value;
    }

    /// Makes `value` the value; returns the one before.
    #[must_use]
    pub fn swap(&mut self, value: T) -> T {
        std::mem::replace(&mut self.value, value)
    }
}

/// Closures run where the value is, as a message of their own; one that panics
/// costs its own call.
impl<T: AgentState> AgentClient<T> {
    /// Reads the value; `read` can't be seen to change it.
    ///
    /// # Errors
    /// As for every call.
    pub async fn get_with<R: Send + 'static>(
        &self,
        read: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        Client::handle(self).run(true, |agent| read(&agent.value)).await
    }

    /// Changes the value.
    ///
    /// # Errors
    /// As for every call.
    pub async fn update(
        &self,
        change: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<(), CallError> {
        self.get_and_update(change).await
    }

    /// Changes the value, and returns what `change` does.
    ///
    /// # Errors
    /// As for every call.
    pub async fn get_and_update<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        Client::handle(self).run(false, |agent| change(&mut agent.value)).await
    }
}
