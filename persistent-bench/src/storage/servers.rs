//! The servers of the storage part.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

use crate::load::microseconds;

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

/// A server that sets its reminder again whenever its message is handled. Times that it has missed
/// become one, so that a late server does not handle several messages in a row.
#[derive(Default, Serialize, Deserialize)]
pub struct Alarm {
    period: Duration,
}

#[persistent_server(idle_timeout = "1h", call_timeout = "60s")]
impl Alarm {
    pub fn set(&mut self, first: SystemTime, period: Duration, context: &Context<Self>) {
        self.period = period;
        context.remind("ring", first, AlarmMessage::Ring { due: first });
    }

    #[info]
    fn ring(&mut self, due: SystemTime, context: &Context<Self>) {
        let late = due.elapsed().unwrap_or_default();
        if let Some(lateness) = context.extension::<Lateness>() {
            lateness.note(late);
        }
        let missed = late.as_nanos() / self.period.as_nanos();
        let next = due + self.period * (u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1);
        context.remind("ring", next, AlarmMessage::Ring { due: next });
    }
}

/// The lateness of each reminder since the last [`take`](Self::take), in microseconds.
#[derive(Clone, Default)]
pub struct Lateness(Arc<Mutex<Vec<f32>>>);

impl Lateness {
    fn note(&self, late: Duration) {
        self.0.lock().expect("no panic under the lock").push(microseconds(late));
    }

    pub fn take(&self) -> Vec<f32> {
        mem::take(&mut self.0.lock().expect("no panic under the lock"))
    }
}

/// The encoded size of a meter without the letters of its text.
const OTHER_BYTES: usize = 23;
/// The encoded sizes of an entry and an item.
const ENTRY_BYTES: u64 = 40;
const ITEM_BYTES: u64 = 115;
