//! A counter that callers read and increment: as a server of this library, and by tokio's
//! primitives.

use std::{future::ready, sync::Arc, time::Duration};

use persistent_runtime::{Client, StopReason, persistent_server};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Runtime,
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

/// The mailbox size, where a library has one.
pub const MAILBOX: usize = 1024;
/// A deadline that is never exceeded.
const DEADLINE: Duration = Duration::from_secs(5);

/// A contender: one way to implement the counter.
pub trait Peer: Clone + Send + Sync + 'static {
    /// The environment that counters are started in.
    type Host: Send + Sync + 'static;

    /// Starts a host. `one_thread` is true on a current-thread runtime.
    fn host(one_thread: bool) -> impl Future<Output = Self::Host> + Send;

    /// Starts a counter at zero.
    fn spawn(host: &Self::Host, key: u32) -> impl Future<Output = Self> + Send;

    /// Reads the counter.
    fn ask(&self) -> impl Future<Output = u64> + Send;

    /// Reads the counter within a deadline.
    fn ask_within(&self) -> impl Future<Output = u64> + Send {
        async { timeout(DEADLINE, self.ask()).await.expect("an answer in time") }
    }

    /// Increments the counter without waiting for the reply.
    fn cast(&self) -> impl Future<Output = ()> + Send;

    /// Stops the counter.
    fn stop(self) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// Runs `work` on a current-thread runtime.
    fn block_on<F: Future>(runtime: &Runtime, work: F) -> F::Output {
        runtime.block_on(work)
    }
}

/// A server of this library. Its calls always have a deadline.
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
    type Host = persistent_runtime::Runtime;

    async fn host(_one_thread: bool) -> Self::Host {
        persistent_runtime::Runtime::in_memory().await.expect("a runtime in memory")
    }

    async fn spawn(host: &Self::Host, key: u32) -> Self {
        host.at::<Counter>(key.to_string(), ())
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

    async fn stop(self) {
        Client::stop(&self, StopReason::Finished).await.expect("an end");
    }
}

/// A server of this library, called with a deadline that no clock can reach.
#[derive(Clone)]
pub struct WithoutDeadline(This);

impl Peer for WithoutDeadline {
    type Host = persistent_runtime::Runtime;

    async fn host(one_thread: bool) -> Self::Host {
        This::host(one_thread).await
    }

    async fn spawn(host: &Self::Host, key: u32) -> Self {
        Self(This::spawn(host, key).await.with_timeout(Duration::MAX))
    }

    async fn ask(&self) -> u64 {
        self.0.ask().await
    }

    async fn cast(&self) {
        Peer::cast(&self.0).await;
    }
}

/// A tokio task that receives messages from a channel.
#[derive(Clone)]
pub struct Channel(mpsc::Sender<Message>);

enum Message {
    Ask(oneshot::Sender<u64>),
    Add,
}

impl Peer for Channel {
    type Host = ();

    async fn host(_one_thread: bool) {}

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

/// tokio's mutex, without a task.
#[derive(Clone)]
pub struct Lock(Arc<Mutex<u64>>);

impl Peer for Lock {
    type Host = ();

    async fn host(_one_thread: bool) {}

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
