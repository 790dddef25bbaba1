use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

/// Two numbers that are equal except in the middle of a handler.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twins {
    first: u64,
    padding: String,
    second: u64,
}

#[persistent_server]
impl Twins {
    /// Increments the first number, yields, increments the second, and returns it.
    pub async fn grow(&mut self) -> u64 {
        self.first += 1;
        tokio::task::yield_now().await;
        self.padding = "p".repeat(usize::try_from(self.first % 3).unwrap_or(0) * 3000);
        self.second += 1;
        self.second
    }

    /// Returns both numbers.
    #[must_use]
    pub fn both(&self) -> (u64, u64) {
        (self.first, self.second)
    }
}
