//! The servers of the storage part.

use std::collections::BTreeMap;

use persistent_runtime::persistent_server;
use serde::{Deserialize, Serialize};

/// A state that is encoded as 100 bytes.
#[derive(Clone, Serialize, Deserialize)]
pub struct Meter {
    text: String,
    count: u64,
}

impl Default for Meter {
    fn default() -> Self {
        // All counts from here on are encoded in the same number of bytes.
        Self { text: "m".repeat(100 - OTHER_BYTES), count: 1 << 40 }
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

    /// Gives the state another size. Up to 3 bytes more than `bytes` are encoded.
    pub fn resize(&mut self, bytes: usize) {
        self.text = "m".repeat(bytes.saturating_sub(OTHER_BYTES));
    }
}

/// A typical state of a chosen size: named fields, texts and numbers.
#[derive(Serialize, Deserialize)]
pub struct Shop {
    name: String,
    stock: BTreeMap<String, Item>,
}

#[derive(Serialize, Deserialize)]
struct Item {
    title: String,
    price: u64,
    left: u32,
    weight: f64,
    tags: Vec<String>,
    discount: Option<u32>,
    listing: Listing,
}

#[derive(Serialize, Deserialize)]
enum Listing {
    Public,
    Hidden,
}

fn sku(nth: u64) -> String {
    format!("sku-{nth:06}")
}

#[persistent_server(idle_timeout = "1h", call_timeout = "60s")]
impl Shop {
    #[init]
    pub(crate) fn new(bytes: u64) -> Self {
        let item = |n| {
            let item = Item {
                title: format!("Thing number {n:06}"),
                price: 1 << 40,
                left: 100,
                weight: 1.5,
                tags: vec!["new".to_owned(), "blue".to_owned()],
                discount: None,
                listing: if n % 2 == 0 { Listing::Public } else { Listing::Hidden },
            };
            (sku(n), item)
        };
        let stock = (0..bytes.div_ceil(ITEM_BYTES)).map(item).collect();
        Self { name: "shop".to_owned(), stock }
    }

    /// Changes 8 bytes.
    pub fn pay(&mut self, nth: u64) {
        let count = self.stock.len() as u64;
        if let Some(item) = self.stock.get_mut(&sku(nth % count)) {
            item.price += 1;
        }
    }
}

/// The same state in a server that journals its messages.
#[derive(Serialize, Deserialize)]
pub struct Journaled(Shop);

#[persistent_server(idle_timeout = "1h", call_timeout = "60s", journal = messages)]
impl Journaled {
    #[init]
    fn new(bytes: u64) -> Self {
        Self(Shop::new(bytes))
    }

    pub fn pay(&mut self, nth: u64) {
        self.0.pay(nth);
    }
}

/// The cheapest state to encode that has named fields: one list of texts and numbers.
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

/// The encoded size of a meter without the letters of its text.
const OTHER_BYTES: usize = 23;
/// The encoded sizes of an entry and an item.
const ENTRY_BYTES: u64 = 40;
const ITEM_BYTES: u64 = 115;
