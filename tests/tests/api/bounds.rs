//! Isolation from foreign code and limits: panics in a storage, destructors of replies,
//! dropped runtimes, and the limit of open files per process.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use persistent_runtime::{
    Address, CallError, Client, Context, MemoryStorage, Record, Reply, Runtime, ServerId, Storage,
    StorageFuture, forward_storage, persistent_server,
};
use persistent_tests::{Counter, Fault, FaultyStorage, finishes};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinSet};

const SECOND: Duration = Duration::from_secs(1);

/// A storage whose methods panic once themselves, as opposed to their futures.
#[derive(Clone, Default)]
struct Jumpy {
    states: MemoryStorage,
    at_load: Arc<AtomicBool>,
    at_due: Arc<AtomicBool>,
    at_close: Arc<AtomicBool>,
}

fn panics_once(request: &AtomicBool) {
    assert!(!request.swap(false, Ordering::SeqCst), "a storage that panics");
}

impl Storage for Jumpy {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        panics_once(&self.at_load);
        self.states.load(id)
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        panics_once(&self.at_due);
        self.states.due(kind, after, limit)
    }

    fn close(&self) -> StorageFuture<'_, ()> {
        panics_once(&self.at_close);
        self.states.close()
    }

    forward_storage!(self.states, except load, due, close);
}

/// A state of 16 KiB by value.
#[derive(Serialize, Deserialize)]
struct Chunk {
    cells: [[[u16; 32]; 32]; 8],
}

#[persistent_server]
impl Chunk {
    #[init]
    fn new() -> Self {
        Self { cells: [[[0; 32]; 32]; 8] }
    }

    pub fn add(&mut self) -> u16 {
        self.cells[1][0][0] += 1;
        self.cells[1][0][0]
    }
}

/// A stack overflow ends the process. The thread of a test and a worker of tokio have 2 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_large_state_by_value_fits_the_stack_of_a_thread() {
    let calls = tokio::spawn(async {
        let runtime = Runtime::in_memory().await.unwrap();
        let chunk = runtime.at::<Chunk>("a", ());
        assert_eq!(chunk.add().await.unwrap(), 1);
        chunk.kill().await.unwrap();
        assert_eq!(chunk.add().await.unwrap(), 2);
        chunk.stop("the test").await.unwrap();
        assert_eq!(chunk.add().await.unwrap(), 3);
    });
    calls.await.unwrap();
}

/// Regression: the panic ended the task that loads the state, and later calls waited for
/// that task.
#[tokio::test(start_paused = true)]
async fn a_load_that_panics_fails_its_own_call_only() {
    let storage = Jumpy::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    storage.at_load.store(true, Ordering::SeqCst);
    let (first, second) = tokio::join!(server.increment(), server.increment());
    assert!(matches!(first, Err(CallError::Storage { .. })), "{first:?}");
    assert_eq!(second.unwrap(), 1);
}

#[derive(Default, Serialize, Deserialize)]
struct Alarm {
    rings: u64,
}

#[persistent_server]
impl Alarm {
    pub fn remind(&mut self, context: &Context<Self>) {
        context.remind("ring", SECOND, AlarmMessage::Ring);
    }

    #[info]
    fn ring(&mut self) {
        self.rings += 1;
    }

    pub fn rings(&self) -> u64 {
        self.rings
    }
}

/// Regression: the panic ended the reminder scheduler, so that no reminder fired any
/// more.
#[tokio::test(start_paused = true)]
async fn a_due_query_that_panics_does_not_end_the_reminder_scheduler() {
    let storage = Jumpy::default();
    storage.at_due.store(true, Ordering::SeqCst);
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Alarm>("a", ());
    server.remind().await.unwrap();
    tokio::time::sleep(1000 * SECOND).await;
    assert!(!storage.at_due.load(Ordering::SeqCst), "the task panicked");
    server.remind().await.unwrap();
    tokio::time::sleep(1000 * SECOND).await;
    assert_eq!(server.rings().await.unwrap(), 2);
}

/// Regression: the panic left the destructor of the runtime, which aborts the process if
/// another panic is unwinding.
#[tokio::test(start_paused = true)]
async fn a_close_that_panics_does_not_unwind_out_of_the_runtimes_drop() {
    let storage = Jumpy::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    storage.at_close.store(true, Ordering::SeqCst);
    drop(runtime);
    tokio::time::sleep(SECOND).await;
    assert!(!storage.at_close.load(Ordering::SeqCst), "the task panicked");
}

static LAST_CALL: Mutex<Option<MusingClient>> = Mutex::new(None);

/// A reply whose destructor calls the server that sent it.
#[derive(Debug, Serialize, Deserialize)]
struct Thought;

impl Drop for Thought {
    fn drop(&mut self) {
        let client = LAST_CALL.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = client {
            futures::executor::block_on(client.reset()).unwrap();
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Musing {
    count: u64,
}

#[persistent_server]
impl Musing {
    pub fn muse(&self, wait: Duration, reply: Reply<Thought>) {
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            reply.send(Thought);
        });
    }

    pub fn add(&mut self) {
        self.count += 1;
    }
}

/// A reply that no caller awaits any more is dropped by the server's task. If it were
/// dropped under the server's lock, its destructor, which calls that server, would
/// deadlock.
#[test]
fn a_reply_without_a_caller_is_not_dropped_under_a_lock() {
    assert!(finishes(true, || async {
        let storage = FaultyStorage::default();
        let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
        let server = runtime.at::<Musing>("a", ());
        server.add().await.unwrap();
        *LAST_CALL.lock().unwrap() = Some(server.clone());
        tokio::time::timeout(SECOND, server.muse(3 * SECOND)).await.unwrap_err();
        // The reply arrives while the next activation is still loading.
        storage.on_load(Fault::Slow(4 * SECOND));
        server.kill().await.unwrap();
        runtime.start::<Musing>("a", ()).await.unwrap();
    }));
}

/// Clients, event streams and crashes hold references to a runtime. A cycle of references
/// would keep a dropped runtime and its storage in memory.
#[tokio::test(start_paused = true)]
async fn a_dropped_runtime_is_freed_with_its_last_client() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let mut clients = Vec::new();
    for n in 0..10 {
        let client = runtime.at::<Counter>(n.to_string(), ());
        client.increment().await.unwrap();
        clients.push(client);
    }
    let watch = clients[0].watch().await.unwrap();
    clients[1].crash("before the end".into()).await.unwrap_err();
    drop(runtime);
    tokio::time::sleep(100 * SECOND).await;
    drop((clients, watch));
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(storage.clones(), 1);
}

/// Regression: a cancelled transfer left its target in the server that stayed, and with
/// it kept the target's runtime in memory.
#[tokio::test(start_paused = true)]
async fn a_cancelled_transfer_does_not_keep_its_target_in_memory() {
    let storage = FaultyStorage::default();
    let here = Runtime::in_memory().await.unwrap();
    let there = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = here.at::<Counter>("a", ());
    server.increment().await.unwrap();
    let busy = tokio::spawn({
        let server = server.clone();
        async move { server.increment_after(2 * SECOND).await }
    });
    tokio::time::sleep(SECOND / 10).await;
    let address = server.address();
    let transfer = here.transfer(&address, &there);
    tokio::time::timeout(SECOND / 10, transfer).await.unwrap_err();
    drop(there);
    assert_eq!(busy.await.unwrap().unwrap(), 2);
    // The race decides whether the server was transferred.
    server.value().await.ok();
    drop((here, server));
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(storage.clones(), 1);
}

static GO: Notify = Notify::const_new();

#[derive(Default, Serialize, Deserialize)]
struct Latecomer;

#[persistent_server]
impl Latecomer {
    pub async fn look(&self, context: &Context<Self>) {
        GO.notified().await;
        let _ = context.client_of(&Address::<Counter>::new("x", ()));
    }
}

/// Regression: a handler that asked for a client after the end of its runtime registered
/// a new cell, which kept the runtime in memory.
#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_its_runtime_does_not_keep_it_in_memory() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Latecomer>("a", ());
    let call = tokio::spawn({
        let server = server.clone();
        async move { server.look().await }
    });
    tokio::time::sleep(SECOND).await;
    GO.notify_one();
    drop(runtime);
    let answer = call.await.unwrap();
    assert!(matches!(answer, Ok(()) | Err(CallError::RuntimeStopped { .. })), "{answer:?}");
    drop(server);
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(storage.clones(), 1);
}

/// Thousands of first messages at once, as after a deployment, must need neither more
/// open files than a process may have nor more time than the call deadline.
#[tokio::test]
async fn thousands_of_servers_can_activate_at_once_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    for activation in 1..=2 {
        let runtime = Runtime::open(&path).await.unwrap();
        let mut calls = JoinSet::new();
        for n in 0..3000 {
            let server = runtime.at::<Counter>(n.to_string(), ()).with_timeout(60 * SECOND);
            calls.spawn(async move { server.increment().await });
        }
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap(), activation);
        }
        runtime.shutdown(60 * SECOND).await.unwrap();
    }
}
