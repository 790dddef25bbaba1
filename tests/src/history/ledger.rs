//! The server that histories are about.

use std::{sync::OnceLock, time::Duration};

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

use super::chronicle::{self, Life};

/// The text of each panic that a history plans.
pub(super) const PLANNED: &str = "planned";

/// Writes down what it is told, so that each answer shows all that has happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    entries: Vec<u16>,
    /// As many as there are entries, but for the middle of a handler.
    whole: usize,
    #[serde(skip)]
    life: OnceLock<Life>,
}

#[persistent_server]
impl Ledger {
    #[started]
    fn started(&self, context: &Context<Self>) {
        self.life.get_or_init(|| Life::begin(context.key()));
    }

    #[terminate]
    fn terminate(&self, context: &Context<Self>) {
        chronicle::terminates(context.key());
    }

    /// Adds an entry; returns all.
    pub fn write(&mut self, id: u16) -> Vec<u16> {
        self.entries.push(id);
        self.whole += 1;
        self.all()
    }

    /// As `write`, waiting in the middle.
    pub async fn write_slowly(&mut self, id: u16, wait: Duration) -> Vec<u16> {
        self.entries.push(id);
        pause(wait).await;
        self.whole += 1;
        self.all()
    }

    /// All entries.
    #[must_use]
    pub fn read(&self) -> Vec<u16> {
        self.all()
    }

    /// All entries, after a while.
    pub async fn read_slowly(&self, wait: Duration) -> Vec<u16> {
        pause(wait).await;
        self.all()
    }

    /// All entries, though it could change them.
    pub fn touch(&mut self) -> Vec<u16> {
        self.all()
    }

    /// Panics, with a change made or not.
    pub fn fail(&mut self, id: Option<u16>) {
        self.entries.extend(id);
        fail();
    }

    /// As `fail`, waiting in the middle.
    pub async fn fail_slowly(&mut self, id: Option<u16>, wait: Duration) {
        self.entries.extend(id);
        pause(wait).await;
        fail();
    }

    fn all(&self) -> Vec<u16> {
        assert_eq!(self.entries.len(), self.whole, "half a change was kept");
        self.entries.clone()
    }
}

/// Without the hook that prints a panic: there are many.
fn fail() {
    std::panic::resume_unwind(Box::new(PLANNED));
}

async fn pause(wait: Duration) {
    if wait.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(wait).await;
    }
}
