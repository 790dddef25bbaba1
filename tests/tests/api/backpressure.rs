//! Backpressure: senders that wait for capacity in a full mailbox, and fairness beside an
//! endless source.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use futures_core::Stream;
use persistent_runtime::{
    CallError, Client, Context, Options, Persist, Runtime, persistent_server,
};
use persistent_tests::{Counter, Fault, FaultyStorage, finishes};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// A server with a mailbox of one message that fails at its first crash.
#[derive(Default, Serialize, Deserialize)]
struct Narrow {
    count: u64,
}

#[persistent_server(mailbox = 1, max_restarts(0, within = "5s"), call_timeout = "60s")]
impl Narrow {
    pub async fn crash_after(&mut self, wait: Duration) {
        tokio::time::sleep(wait).await;
        panic!("at last");
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    #[cast]
    pub fn bump(&mut self) {
        self.count += 1;
    }
}

/// Regression: a cast that was refused after it had been granted capacity did not release
/// it, so that the call behind it waited until its own deadline.
#[tokio::test(start_paused = true)]
async fn senders_behind_a_refused_cast_are_refused_at_once() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Narrow>("a", ());
    server.count().await.unwrap();
    let in_line = async || tokio::time::sleep(SECOND / 10).await;
    let call = || {
        let server = server.clone();
        tokio::spawn(async move { server.count().await })
    };
    let crash = tokio::spawn({
        let server = server.clone();
        async move { server.crash_after(SECOND).await }
    });
    in_line().await;
    let queued = call();
    in_line().await;
    let cast = tokio::spawn({
        let server = server.clone();
        async move { server.bump().await }
    });
    in_line().await;
    let last = call();
    let begin = Instant::now();
    assert!(matches!(crash.await.unwrap(), Err(CallError::Crashed { .. })));
    assert!(matches!(queued.await.unwrap(), Err(CallError::RestartLimit { .. })));
    assert!(matches!(cast.await.unwrap(), Err(CallError::RestartLimit { .. })));
    assert!(matches!(last.await.unwrap(), Err(CallError::RestartLimit { .. })));
    assert!(begin.elapsed() < 2 * SECOND, "{:?}", begin.elapsed());
}

static STEPS: AtomicUsize = AtomicUsize::new(0);

#[derive(Default, Serialize, Deserialize)]
struct Steps(u64);

#[persistent_server(mailbox = 3, call_timeout = "60s")]
impl Steps {
    pub fn step(&mut self) {
        self.0 += 1;
        STEPS.fetch_add(1, Ordering::SeqCst);
    }
}

/// Replies wait for the commits before them. The mailbox capacity limits the number of
/// messages handled ahead of the storage.
#[tokio::test(start_paused = true)]
async fn a_server_runs_ahead_of_the_storage_by_at_most_its_mailbox_capacity() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    storage.on_commit(Fault::Slow(SECOND));
    for level in [Persist::EveryMessage, Persist::OnStop] {
        let server = runtime.at::<Steps>(format!("{level:?}"), ());
        let careful = server.with_persist(Persist::EveryMessage);
        let others = server.with_persist(level);
        STEPS.store(0, Ordering::SeqCst);
        let steps: Vec<_> = (0..10)
            .map(|nth| {
                let server = if nth == 0 { careful.clone() } else { others.clone() };
                tokio::spawn(async move { server.step().await })
            })
            .collect();
        tokio::time::sleep(SECOND / 2).await;
        assert_eq!(STEPS.load(Ordering::SeqCst), 3, "{level:?}");
        for step in steps {
            step.await.unwrap().unwrap();
        }
        assert_eq!(STEPS.load(Ordering::SeqCst), 10);
    }
}

/// A server that records the tasks that have run it.
#[derive(Default, Serialize, Deserialize)]
struct Guest {
    hosts: BTreeSet<String>,
    casts: u64,
}

#[persistent_server(persist = on_stop)]
impl Guest {
    #[cast]
    pub fn come(&mut self) {
        self.hosts.insert(format!("{:?}", tokio::task::try_id()));
        self.casts += 1;
    }

    pub fn stay(&self) -> (u64, usize) {
        (self.casts, self.hosts.len())
    }
}

/// Starting a task per small batch of messages costs more than polling the mailbox again.
#[tokio::test]
async fn one_task_handles_a_burst_of_casts() {
    const SENDERS: u64 = 32;
    const CASTS: u64 = 40;
    let runtime = Runtime::in_memory().await.unwrap();
    let guest = runtime.at::<Guest>("a", ());
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let guest = guest.clone();
            tokio::spawn(async move {
                for _ in 0..CASTS {
                    guest.come().await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(guest.stay().await.unwrap(), (SENDERS * CASTS, 1));
}

/// A stream that is always ready and never ends.
struct Endless;

impl Stream for Endless {
    type Item = FeedMessage;

    fn poll_next(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<FeedMessage>> {
        Poll::Ready(Some(FeedMessage::Item))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Feed {
    items: u64,
}

#[persistent_server]
impl Feed {
    pub fn open(&mut self, context: &Context<Self>) {
        context.attach_stream(Endless);
    }

    #[info]
    fn item(&mut self) {
        self.items += 1;
    }

    pub fn items(&self) -> u64 {
        self.items
    }
}

/// Regression: a stream that was always ready kept the thread of its server, so that
/// neither calls nor other tasks ran.
#[test]
fn an_endless_stream_yields_to_calls_and_other_tasks() {
    assert!(finishes(false, || async {
        let turns = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let turns = turns.clone();
            async move {
                loop {
                    turns.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            }
        });
        let runtime = Runtime::in_memory().await.unwrap();
        let feed = runtime.at::<Feed>("a", ());
        feed.open().await.unwrap();
        for _ in 0..3 {
            let (items, had) = (feed.items().await.unwrap(), turns.load(Ordering::SeqCst));
            tokio::time::sleep(SECOND / 100).await;
            assert!(feed.items().await.unwrap() > items, "the stream continues");
            assert!(turns.load(Ordering::SeqCst) > had, "the other task runs");
        }
    }));
}

/// Regression: a shutdown waited past its deadline for the end of an endless stream.
#[test]
fn an_endless_stream_does_not_delay_a_shutdown() {
    assert!(finishes(true, || async {
        let runtime = Runtime::in_memory().await.unwrap();
        let feed = runtime.at::<Feed>("a", ());
        feed.open().await.unwrap();
        feed.items().await.unwrap();
        let end = runtime.shutdown(SECOND).await;
        assert!(end.is_ok(), "{end:?}");
        let answer = feed.items().await;
        assert!(matches!(answer, Err(CallError::RuntimeStopped { .. })), "{answer:?}");
    }));
}

/// Each waiting sender must be woken, also a sender that starts to wait just after the
/// task emptied the mailbox and found no sender to wake.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_senders_that_wait_for_a_mailbox_of_one_are_woken() {
    let runtime = Runtime::builder()
        .configure::<Counter>(Options::new().mailbox(1).persist(Persist::OnStop))
        .in_memory()
        .await
        .unwrap();
    let counter = runtime.at::<Counter>("a", ());
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let counter = counter.clone();
            tokio::spawn(async move {
                for _ in 0..2000 {
                    counter.bump().await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(counter.value().await.unwrap(), 16_000);
}

#[tokio::test(start_paused = true)]
async fn a_sender_in_a_loop_does_not_starve_another_sender() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Narrow>("a", ());
    let others = [server.clone(), server.clone()].map(|server| {
        tokio::spawn(async move {
            for _ in 0..100 {
                server.bump().await.unwrap();
            }
        })
    });
    let mut casts = 0;
    while !others.iter().all(tokio::task::JoinHandle::is_finished) {
        assert!(casts < 10_000, "the other sender is starved");
        server.bump().await.unwrap();
        casts += 1;
    }
    assert_eq!(server.count().await.unwrap(), casts + 200);
}
