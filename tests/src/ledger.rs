use std::time::{Duration, SystemTime};

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

/// A state that grows with each message, and messages that don't.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// What was booked.
    pub entries: Vec<i64>,
    stamps: Vec<SystemTime>,
    dice: Vec<u64>,
}

#[persistent_server(journal = messages(snapshot_every = 5), max_restarts(100, within = "1s"))]
impl Ledger {
    /// Returns the sum.
    pub fn book(&mut self, amount: i64) -> i64 {
        self.entries.push(amount);
        self.entries.iter().sum()
    }

    /// Books without a word.
    #[cast]
    pub fn post(&mut self, amount: i64) {
        self.entries.push(amount);
    }

    /// Changes nothing, though it could.
    pub fn touch(&mut self) {}

    /// What was booked.
    #[must_use]
    pub fn entries(&self) -> Vec<i64> {
        self.entries.clone()
    }

    /// What was booked, after a while.
    pub async fn entries_later(&self) -> Vec<i64> {
        tokio::task::yield_now().await;
        self.entries.clone()
    }

    /// Notes the time and some throws of dice; returns them.
    pub fn stamp(&mut self, dice: usize, context: &Context<Self>) -> (SystemTime, Vec<u64>) {
        let now = context.now();
        self.stamps.push(now);
        let dice: Vec<_> = (0..dice).map(|_| context.random()).collect();
        self.dice.extend(&dice);
        (now, dice)
    }

    /// The time, without a note.
    #[must_use]
    pub fn read_clock(&self, context: &Context<Self>) -> SystemTime {
        context.now()
    }

    /// All times and throws.
    #[must_use]
    pub fn stamps(&self) -> (Vec<SystemTime>, Vec<u64>) {
        (self.stamps.clone(), self.dice.clone())
    }

    /// Changes the state, asks for chance, and panics.
    pub fn crash(&mut self, context: &Context<Self>) {
        self.entries.push(context.random().cast_signed());
        panic!("out of ink");
    }

    /// Books and ends the server.
    pub fn book_and_stop(&mut self, amount: i64, context: &Context<Self>) {
        self.entries.push(amount);
        context.stop("audit");
    }

    /// Books 0, and 60 in a minute.
    pub fn remind(&mut self, context: &Context<Self>) {
        self.entries.push(0);
        context.remind("book", Duration::from_mins(1), LedgerMessage::Post { amount: 60 });
    }

    /// Books -1 and deletes a durable timer; whether there was one.
    pub fn cancel(&mut self, name: String, context: &Context<Self>) -> bool {
        self.entries.push(-1);
        context.cancel_reminder(&name)
    }

    /// Books the number of durable timers.
    pub fn count_reminders(&mut self, context: &Context<Self>) {
        self.entries.push(context.reminders().len().try_into().unwrap());
    }
}
