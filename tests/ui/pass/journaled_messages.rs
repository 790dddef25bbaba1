//! A generic server that journals its messages, in a crate that denies a lot.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs)]

use persistent_runtime::{Context, Payload, persistent_server};
use serde::{Deserialize, Serialize};

/// A stack.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Stack<T: Payload> {
    items: Vec<T>,
}

/// The messages of a stack of version 1.
#[derive(Deserialize)]
#[serde(bound = "")]
pub enum First<T: Payload> {
    /// Now called otherwise.
    Add {
        /// What.
        item: T,
    },
}

#[persistent_server(name = "stack", version = 4, journal = messages(snapshot_every = 10,))]
impl<T: Payload + std::fmt::Debug + Clone + Sync> Stack<T> {
    #[init]
    fn new() -> Self {
        Self { items: Vec::new() }
    }

    /// Puts an item on the top.
    pub fn push(&mut self, item: T, context: &Context<Self>) -> u64 {
        self.items.push(item);
        context.random()
    }

    /// Waits for nothing that changes it.
    pub async fn top(&self) -> Option<T> {
        self.items.last().cloned()
    }

    #[migrate(from = 1)]
    fn from_first(items: Vec<T>) -> Self {
        Self { items }
    }

    #[migrate(from = 2)]
    fn from_second(stack: Self) -> Stack<T> {
        stack
    }

    #[cfg(any())]
    #[migrate(from = 3)]
    fn from_nowhere(old: Nowhere) -> Self {
        old.into()
    }

    #[migrate_message(from = 1)]
    fn message_from_first(old: First<T>) -> StackMessage<T> {
        let First::Add { item } = old;
        StackMessage::Push { item }
    }

    #[cfg(all())]
    #[migrate_message(from = 2)]
    fn message_from_second(bytes: StackMessage<T>) -> Option<StackMessage<T>> {
        Some(bytes)
    }

    #[cfg(any())]
    #[migrate_message(from = 3)]
    fn message_from_nowhere(old: Nowhere) -> StackMessage<T> {
        old.into()
    }
}

fn main() {}
