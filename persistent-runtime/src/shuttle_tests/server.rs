//! The server of all scenarios.

use std::{future::pending, mem, panic::resume_unwind, sync::OnceLock, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    callers::pause,
    monitor::{Handling, Instance},
};
use crate::{Context, Reply, persistent_server};

/// A message: number `number` of the sender `sender`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub sender: u8,
    pub number: u8,
}

/// A server that stores every message in the order in which it handled them. So each reply
/// shows all earlier messages.
#[derive(Default, Serialize, Deserialize)]
pub struct History {
    entries: Vec<Entry>,
    #[serde(skip)]
    deferred: Vec<Reply<Vec<Entry>>>,
    #[serde(skip)]
    instance: OnceLock<Instance>,
}

#[persistent_server(name = "history")]
impl History {
    #[started]
    fn started(&self) {
        self.instance.get_or_init(Instance::begin);
    }

    /// Returns all entries.
    pub fn read(&self) -> Vec<Entry> {
        let handling = Handling::begin();
        let entries = self.entries.clone();
        handling.finish();
        entries
    }

    /// Appends `entry` and returns all entries.
    pub fn append(&mut self, entry: Entry) -> Vec<Entry> {
        let handling = Handling::begin();
        self.entries.push(entry);
        handling.finish();
        self.entries.clone()
    }

    /// Appends `entry`, awaits once and returns all entries.
    pub async fn append_slowly(&mut self, entry: Entry) -> Vec<Entry> {
        let handling = Handling::begin();
        self.entries.push(entry);
        pause().await;
        handling.finish();
        self.entries.clone()
    }

    /// Never returns.
    pub async fn hang(&self) {
        let _handling = Handling::begin();
        pending::<()>().await;
    }

    /// Appends `entry`.
    #[cast]
    pub fn post(&mut self, entry: Entry) {
        let handling = Handling::begin();
        self.entries.push(entry);
        handling.finish();
    }

    /// Sets a reminder that appends `entry` after `wait`.
    pub fn remind(&mut self, entry: Entry, wait: Duration, context: &Context<Self>) {
        context.remind("append", wait, HistoryMessage::Post { entry });
    }

    /// Appends `entry` and panics.
    pub fn crash(&mut self, entry: Entry) {
        let _handling = Handling::begin();
        self.entries.push(entry);
        // The hook of `panic!` would print a schedule.
        resume_unwind(Box::new("on purpose"));
    }

    /// Defers the reply until the next [`reply`](Self::reply).
    pub fn defer(&mut self, reply: Reply<Vec<Entry>>) {
        self.deferred.push(reply);
    }

    /// Sends all deferred replies from another thread, so that they are sent at any time.
    pub fn reply(&mut self) {
        let (deferred, entries) = (mem::take(&mut self.deferred), self.entries.clone());
        shuttle::thread::spawn(move || {
            for reply in deferred {
                reply.send(entries.clone());
            }
        });
    }
}
