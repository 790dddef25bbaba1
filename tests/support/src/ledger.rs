use std::time::{Duration, SystemTime};

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

/// A state that grows with each message, while the messages stay small.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The booked amounts.
    pub entries: Vec<i64>,
    stamps: Vec<SystemTime>,
    dice: Vec<u64>,
}

#[persistent_server(journal = messages(snapshot_every = 5), max_restarts(100, within = "1s"))]
impl Ledger {
    /// Books an amount and returns the sum.
    pub fn book(&mut self, amount: i64) -> i64 {
        self.entries.push(amount);
        self.entries.iter().sum()
    }

    /// Books an amount.
    #[cast]
    pub fn post(&mut self, amount: i64) {
        self.entries.push(amount);
    }

    /// Changes nothing, through a method that may write.
    pub fn touch(&mut self) {}

    /// Returns the booked amounts.
    #[must_use]
    pub fn entries(&self) -> Vec<i64> {
        self.entries.clone()
    }

    /// Returns the booked amounts after a yield.
    pub async fn entries_later(&self) -> Vec<i64> {
        tokio::task::yield_now().await;
        self.entries.clone()
    }

    /// Records the time and some random numbers, and returns them.
    pub fn stamp(&mut self, dice: usize, context: &Context<Self>) -> (SystemTime, Vec<u64>) {
        let now = context.now();
        self.stamps.push(now);
        let dice: Vec<_> = (0..dice).map(|_| context.random()).collect();
        self.dice.extend(&dice);
        (now, dice)
    }

    /// Returns the time without recording it.
    #[must_use]
    pub fn read_clock(&self, context: &Context<Self>) -> SystemTime {
        context.now()
    }

    /// Returns all recorded times and random numbers.
    #[must_use]
    pub fn stamps(&self) -> (Vec<SystemTime>, Vec<u64>) {
        (self.stamps.clone(), self.dice.clone())
    }

    /// Changes the state, reads a random number, and panics.
    pub fn crash(&mut self, context: &Context<Self>) {
        self.entries.push(context.random().cast_signed());
        panic!("out of ink");
    }

    /// Books an amount and stops the server.
    pub fn book_and_stop(&mut self, amount: i64, context: &Context<Self>) {
        self.entries.push(amount);
        context.stop("audit");
    }

    /// Books 0 now, and 60 in a minute by a reminder.
    pub fn remind(&mut self, context: &Context<Self>) {
        self.entries.push(0);
        context.remind("book", Duration::from_mins(1), LedgerMessage::Post { amount: 60 });
    }

    /// Books -1 and deletes a reminder. Returns true if the reminder existed.
    pub fn cancel(&mut self, name: String, context: &Context<Self>) -> bool {
        self.entries.push(-1);
        context.cancel_reminder(&name)
    }

    /// Books the number of reminders.
    pub fn count_reminders(&mut self, context: &Context<Self>) {
        self.entries.push(context.reminders().len().try_into().unwrap());
    }
}
