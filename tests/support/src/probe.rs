use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use persistent_runtime::{Context, StopReason, persistent_server};
use serde::{Deserialize, Serialize};

static EVENTS: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

/// Returns the hook calls of the probe under `key` in this process. Each test uses keys
/// of its own.
#[must_use]
pub fn events(key: &str) -> Vec<String> {
    let events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    events.get(key).cloned().unwrap_or_default()
}

fn saw(key: &str, event: impl Into<String>) {
    let mut events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    events.entry(key.to_owned()).or_default().push(event.into());
}

/// A server that records the calls of its hooks.
#[derive(Serialize, Deserialize)]
pub struct Probe {
    seed: u64,
    last_words: String,
}

#[persistent_server(version = 1)]
impl Probe {
    #[init]
    fn new(seed: u64, context: &Context<Self>) -> Result<Self, String> {
        saw(context.key(), format!("init {seed}"));
        match seed {
            13 => Err("13 is refused".to_owned()),
            666 => panic!("666 panics"),
            seed => Ok(Self { seed, last_words: String::new() }),
        }
    }

    #[started]
    fn started(&self, context: &Context<Self>) {
        saw(context.key(), "started");
    }

    #[terminate]
    fn terminate(&mut self, reason: &StopReason, context: &Context<Self>) {
        saw(context.key(), format!("terminate {reason}"));
        self.last_words = reason.to_string();
    }

    /// Returns the init argument of the stored state.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the reason of the last orderly end.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.last_words.clone()
    }

    /// Panics.
    pub fn crash(&self) {
        panic!("crash");
    }
}
