//! The server of the histories.

use std::{sync::OnceLock, time::Duration};

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

use super::chronicle::{self, LiveInstance};

/// The text of each planned panic.
pub(super) const PLANNED: &str = "planned";

/// Records each write, so that each reply shows the whole history of the server.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    entries: Vec<u16>,
    /// The number of complete entries. Differs from the number of entries only in the middle
    /// of a handler.
    whole: usize,
    #[serde(skip)]
    instance: OnceLock<LiveInstance>,
}

#[persistent_server]
impl Ledger {
    #[started]
    fn started(&self, context: &Context<Self>) {
        self.instance.get_or_init(|| LiveInstance::begin(context.key()));
    }

    #[terminate]
    fn terminate(&self, context: &Context<Self>) {
        chronicle::terminates(context.key());
    }

    /// Adds an entry and returns all entries.
    pub fn write(&mut self, id: u16) -> Vec<u16> {
        self.entries.push(id);
        self.whole += 1;
        self.all()
    }

    /// Like `write`, but waits in the middle.
    pub async fn write_slowly(&mut self, id: u16, wait: Duration) -> Vec<u16> {
        self.entries.push(id);
        pause(wait).await;
        self.whole += 1;
        self.all()
    }

    /// Returns all entries.
    #[must_use]
    pub fn read(&self) -> Vec<u16> {
        self.all()
    }

    /// Returns all entries after `wait`.
    pub async fn read_slowly(&self, wait: Duration) -> Vec<u16> {
        pause(wait).await;
        self.all()
    }

    /// Returns all entries through a method that may write but changes nothing.
    pub fn touch(&mut self) -> Vec<u16> {
        self.all()
    }

    /// Adds an entry after `wait`, by a reminder.
    pub fn remind(&mut self, id: u16, wait: Duration, context: &Context<Self>) {
        let due = chronicle::now().ms + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        context.remind(&id.to_string(), wait, LedgerMessage::Ring { id, due });
    }

    #[info]
    fn ring(&mut self, id: u16, due: u64) {
        if chronicle::now().ms < due {
            chronicle::tell(|chronicle| chronicle.violations.push(format!("{id} rings early")));
        }
        self.entries.push(id);
        self.whole += 1;
    }

    /// Panics, after a change if `id` is given.
    pub fn fail(&mut self, id: Option<u16>) {
        self.entries.extend(id);
        fail();
    }

    /// Like `fail`, but waits in the middle.
    pub async fn fail_slowly(&mut self, id: Option<u16>, wait: Duration) {
        self.entries.extend(id);
        pause(wait).await;
        fail();
    }

    fn all(&self) -> Vec<u16> {
        assert_eq!(self.entries.len(), self.whole, "a partial change was kept");
        self.entries.clone()
    }
}

/// Panics without calling the panic hook, which would print each of many panics.
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
