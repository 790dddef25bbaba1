//! The servers of the storage half.

use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

/// 100 bytes, once encoded.
#[derive(Clone, Serialize, Deserialize)]
pub struct Meter {
    text: String,
    count: u64,
}

impl Default for Meter {
    fn default() -> Self {
        // Large enough that all counts take the same bytes.
        Self { text: "m".repeat(77), count: 1 << 40 }
    }
}

#[persistent_server(idle_timeout = "1h", call_timeout = "60s")]
impl Meter {
    pub fn add(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

/// As many entries as make up a size.
#[derive(Serialize, Deserialize)]
pub struct Ledger(Vec<Entry>);

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    balance: u64,
}

#[persistent_server(idle_timeout = "1h", call_timeout = "60s")]
impl Ledger {
    #[init]
    pub(crate) fn new(bytes: u64) -> Self {
        let entry = |n| Entry { name: format!("account {n:08}"), balance: 1 << 40 };
        Self((0..bytes.div_ceil(ENTRY_BYTES)).map(entry).collect())
    }

    /// Changes 8 bytes.
    pub fn pay(&mut self, nth: u64) {
        let count = self.0.len() as u64;
        if let Ok(nth) = usize::try_from(nth % count) {
            self.0[nth].balance += 1;
        }
    }
}

/// What an entry takes, encoded.
const ENTRY_BYTES: u64 = 40;
