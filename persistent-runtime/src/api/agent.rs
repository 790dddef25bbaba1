//! Agents: persistent values without a server type of their own.

use serde::{Deserialize, Serialize};

use crate::{api::client::Client, error::CallError, payload::Payload, persistent_server};

/// A type whose values can be held by an [`Agent`].
pub trait AgentState: Payload + Clone + std::fmt::Debug + Sync {
    /// The stored name of agents with this type. Renaming it orphans the stored values.
    const NAME: &'static str;
}

/// A persistent value, as a ready-made server.
///
/// Its client has the messages `get`, `set` and `swap`, and methods that take closures: `get_with`,
/// `update` and `get_and_update`.
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

    /// Returns a copy of the value.
    #[must_use]
    pub fn get(&self) -> T {
        self.value.clone()
    }

    /// Replaces the value.
    pub fn set(&mut self, value: T) {
        self.value = value;
    }

    /// Replaces the value. Returns the previous value.
    #[must_use]
    pub fn swap(&mut self, value: T) -> T {
        std::mem::replace(&mut self.value, value)
    }
}

/// Methods that take closures.
///
/// Each closure is one message: it runs between the other messages of the agent, and its result
/// returns after the commit of its change. A closure cannot be sent to another process. If it
/// panics, its change is dropped and its call fails with [`CallError::Crashed`].
impl<T: AgentState> AgentClient<T> {
    /// Calls `read` with the value and returns its result. Stores nothing.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn get_with<R: Send + 'static>(
        &self,
        read: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        Client::handle(self).run(true, |agent| read(&agent.value)).await
    }

    /// Calls `change` with the value and stores the changed value.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn update(
        &self,
        change: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<(), CallError> {
        self.get_and_update(change).await
    }

    /// Calls `change` with the value, stores the changed value, and returns the result of `change`.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn get_and_update<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        Client::handle(self).run(false, |agent| change(&mut agent.value)).await
    }
}
