use std::time::Duration;

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

/// A number that goes up.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The number.
    pub value: u64,
}

#[persistent_server(max_restarts(1_000_000, within = "1s"))]
impl Counter {
    /// A counter that starts elsewhere.
    #[must_use]
    pub fn starting_at(value: u64) -> Self {
        Self { value }
    }

    /// Goes up by one; returns the new number.
    pub fn increment(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    /// Goes up by one.
    #[cast]
    pub fn bump(&mut self) {
        self.value += 1;
    }

    /// The number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Changes nothing, though it could.
    pub fn touch(&mut self) -> u64 {
        self.value
    }

    /// Changes the state and panics.
    pub fn crash(&mut self, text: String) {
        self.value += 1_000_000;
        panic!("{text}");
    }

    /// Panics with something that is no text.
    pub fn crash_oddly(&mut self) {
        self.value += 1_000_000;
        std::panic::panic_any(42);
    }

    /// Goes up by one after a while; returns the new number.
    pub async fn increment_after(&mut self, wait: Duration) -> u64 {
        tokio::time::sleep(wait).await;
        self.value += 1;
        self.value
    }

    /// The number, after a while.
    pub async fn value_after(&self, wait: Duration) -> u64 {
        tokio::time::sleep(wait).await;
        self.value
    }

    /// Goes up by one and ends the server; returns the new number.
    pub fn increment_and_stop(&mut self, reason: String, context: &Context<Self>) -> u64 {
        self.value += 1;
        context.stop(reason);
        self.value
    }

    /// Half a change, an await, the other half: never seen in the middle.
    pub async fn increment_in_halves(&mut self) -> u64 {
        self.value += 1;
        tokio::task::yield_now().await;
        self.value += 1;
        self.value
    }
}
