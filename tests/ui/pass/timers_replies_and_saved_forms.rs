#![deny(unused, missing_debug_implementations)]

use std::{fmt::Debug, time::Duration};

use persistent_runtime::{Client, Context, Reply, Runtime, Payload, persistent_server};
use serde::{Deserialize, Serialize};

/// A type without serde of its own.
struct Queue<T> {
    key: String,
    items: Vec<T>,
    waiting: Vec<Reply<T>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tick(u64);

#[persistent_server(name = "queue", version = 2, persist = every("1ms"))]
impl<T> Queue<T>
where
    T: Payload + Debug + Clone + Sync,
{
    #[init]
    fn new(context: &Context<Self>) -> Self {
        Self { key: context.key().to_owned(), items: Vec::new(), waiting: Vec::new() }
    }

    #[save]
    fn save(&self) -> &[T] {
        &self.items
    }

    #[restore]
    fn restore(mut items: Vec<T>, context: &Context<Self>) -> Result<Self, String> {
        items.reverse();
        Ok(Self { key: context.key().to_owned(), items, waiting: Vec::new() })
    }

    #[migrate(from = 1)]
    fn from_first(items: Vec<T>) -> Self {
        Self { key: String::new(), items, waiting: Vec::new() }
    }

    pub fn push(&mut self, item: T) {
        match self.waiting.pop() {
            Some(reply) => reply.send(item),
            None => self.items.push(item),
        }
    }

    /// Waits for an item.
    pub fn pop(&mut self, reply: Reply<T>) {
        match self.items.pop() {
            Some(item) => reply.send(item),
            None => self.waiting.push(reply),
        }
    }

    pub async fn first(&self, reply: Reply<Result<T, String>>, reply_to: u8) {
        let first = self.items.first().cloned();
        reply.send(first.ok_or(format!("{} {reply_to}", self.key)));
    }

    pub fn never(&self, _: Reply<Vec<T>>, _context: &Context<Self>) {}

    pub fn tick_soon(&self, context: &Context<Self>) {
        let _ = context.send_after(Duration::from_millis(1), QueueMessage::Tick { tick: Tick(1) });
        context.continue_with(QueueMessage::Quiet);
    }

    #[info]
    async fn tick(&mut self, tick: Tick, context: &Context<Self>) {
        self.key = format!("{} {}", context.key(), tick.0);
    }

    #[info]
    pub(crate) fn quiet(&self) {}
}

#[derive(Default)]
struct Plain(u64);

#[persistent_server(persist = every_message)]
impl Plain {
    #[save]
    pub fn save(&self) -> u64 {
        self.0
    }

    #[restore]
    pub fn restore(bytes: u64) -> Self {
        Self(bytes)
    }

    pub fn add(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Lazy;

#[persistent_server(persist = on_stop)]
impl Lazy {}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    let queue = runtime.at::<Queue<u8>>("a", ());
    assert_eq!(queue.first(7).await.unwrap().unwrap_err(), "a 7");
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.pop().await }
    });
    tokio::task::yield_now().await;
    queue.push(5).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 5);
    queue.push(1).await.unwrap();
    queue.push(2).await.unwrap();
    queue.tick_soon().await.unwrap();
    queue.stop("done").await.unwrap();
    assert_eq!(queue.pop().await.unwrap(), 1);
    assert!(queue.never().await.is_err());
    runtime.start::<Lazy>("a", ()).await.unwrap();

    let plain = runtime.at::<Plain>("a", ());
    assert_eq!(plain.add().await.unwrap(), 1);
    plain.stop("done").await.unwrap();
    assert_eq!(plain.add().await.unwrap(), 2);
}
