use std::time::Duration;

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

/// A number that only grows.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The current value.
    pub value: u64,
}

#[persistent_server(max_restarts(1_000_000, within = "1s"))]
impl Counter {
    /// Creates a counter with an initial value.
    #[must_use]
    pub fn starting_at(value: u64) -> Self {
        Self { value }
    }

    /// Adds one and returns the new value.
    pub fn increment(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    /// Adds one.
    #[cast]
    pub fn bump(&mut self) {
        self.value += 1;
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Returns the value through a method that may write but changes nothing.
    pub fn touch(&mut self) -> u64 {
        self.value
    }

    /// Changes the state and panics.
    pub fn crash(&mut self, text: String) {
        self.value += 1_000_000;
        panic!("{text}");
    }

    /// Changes the state and panics with a payload that is not text.
    pub fn crash_oddly(&mut self) {
        self.value += 1_000_000;
        std::panic::panic_any(42);
    }

    /// Adds one after `wait` and returns the new value.
    pub async fn increment_after(&mut self, wait: Duration) -> u64 {
        tokio::time::sleep(wait).await;
        self.value += 1;
        self.value
    }

    /// Returns the value after `wait`.
    pub async fn value_after(&self, wait: Duration) -> u64 {
        tokio::time::sleep(wait).await;
        self.value
    }

    /// Adds one, stops the server and returns the new value.
    pub fn increment_and_stop(&mut self, reason: String, context: &Context<Self>) -> u64 {
        self.value += 1;
        context.stop(reason);
        self.value
    }

    /// Adds one, yields, adds one again. The odd value in between is never observed.
    pub async fn increment_in_halves(&mut self) -> u64 {
        self.value += 1;
        tokio::task::yield_now().await;
        self.value += 1;
        self.value
    }
}
