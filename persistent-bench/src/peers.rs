//! A number that many callers ask for and add to: ours, and by means of tokio.

use std::{future::ready, sync::Arc, time::Duration};

use persistent_runtime::{Client, StopReason, persistent_server};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Runtime,
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

/// How many messages may queue, where that can be set.
pub const MAILBOX: usize = 1024;
/// A deadline that is never reached.
const DEADLINE: Duration = Duration::from_secs(5);

/// One way to have such a number.
pub trait Peer: Clone + Send + Sync + 'static {
    /// What its instances live in.
    type Home: Send + Sync + 'static;

    /// `alone`: in a runtime of one thread.
    fn home(alone: bool) -> impl Future<Output = Self::Home> + Send;

    fn spawn(home: &Self::Home, key: u32) -> impl Future<Output = Self> + Send;

    fn ask(&self) -> impl Future<Output = u64> + Send;

    /// Asks with a deadline.
    fn ask_within(&self) -> impl Future<Output = u64> + Send {
        async { timeout(DEADLINE, self.ask()).await.expect("an answer in time") }
    }

    /// Adds one, without waiting until that is done.
    fn cast(&self) -> impl Future<Output = ()> + Send;

    fn end(self) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// Runs `work` on a runtime of one thread.
    fn block_on<F: Future>(runtime: &Runtime, work: F) -> F::Output {
        runtime.block_on(work)
    }
}

/// This project's. Its calls always have a deadline.
pub type This = CounterClient;

#[derive(Default, Serialize, Deserialize)]
pub struct Counter(u64);

#[persistent_server(persist = on_stop, idle_timeout = "1h")]
impl Counter {
    pub fn value(&self) -> u64 {
        self.0
    }

    #[cast]
    pub fn add(&mut self) {
        self.0 += 1;
    }
}

impl Peer for This {
    type Home = persistent_runtime::Runtime;

    async fn home(_alone: bool) -> Self::Home {
        persistent_runtime::Runtime::in_memory().await.expect("a runtime in memory")
    }

    async fn spawn(home: &Self::Home, key: u32) -> Self {
        home.at::<Counter>(key.to_string(), ())
    }

    async fn ask(&self) -> u64 {
        self.value().await.expect("an answer")
    }

    async fn ask_within(&self) -> u64 {
        self.ask().await
    }

    async fn cast(&self) {
        self.add().await.expect("a place in the mailbox");
    }

    async fn end(self) {
        self.stop(StopReason::Normal).await.expect("an end");
    }
}

/// The same without a deadline, as far as there is such a thing.
#[derive(Clone)]
pub struct Patient(This);

impl Peer for Patient {
    type Home = persistent_runtime::Runtime;

    async fn home(alone: bool) -> Self::Home {
        This::home(alone).await
    }

    async fn spawn(home: &Self::Home, key: u32) -> Self {
        Self(This::spawn(home, key).await.with_timeout(Duration::MAX))
    }

    async fn ask(&self) -> u64 {
        self.0.ask().await
    }

    async fn cast(&self) {
        Peer::cast(&self.0).await;
    }
}

/// A tokio task with a channel, by hand.
#[derive(Clone)]
pub struct Channel(mpsc::Sender<Message>);

enum Message {
    Ask(oneshot::Sender<u64>),
    Add,
}

impl Peer for Channel {
    type Home = ();

    async fn home(_alone: bool) {}

    async fn spawn((): &(), _key: u32) -> Self {
        let (sender, mut messages) = mpsc::channel(MAILBOX);
        tokio::spawn(async move {
            let mut value = 0;
            while let Some(message) = messages.recv().await {
                match message {
                    Message::Ask(reply) => reply.send(value).expect("a waiting caller"),
                    Message::Add => value += 1,
                }
            }
        });
        Self(sender)
    }

    async fn ask(&self) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.0.send(Message::Ask(reply)).await.expect("a running task");
        answer.await.expect("an answer")
    }

    async fn cast(&self) {
        self.0.send(Message::Add).await.expect("a running task");
    }
}

/// A lock, and no task at all.
#[derive(Clone)]
pub struct Lock(Arc<Mutex<u64>>);

impl Peer for Lock {
    type Home = ();

    async fn home(_alone: bool) {}

    async fn spawn((): &(), _key: u32) -> Self {
        Self(Arc::new(Mutex::new(0)))
    }

    async fn ask(&self) -> u64 {
        *self.0.lock().await
    }

    async fn cast(&self) {
        *self.0.lock().await += 1;
    }
}
