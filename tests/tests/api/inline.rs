//! Messages that run inline in their caller's task: an idle server has no task.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use persistent_runtime::{
    Address, CallError, Client, Context, Options, Persist, Reply, Restart, Runtime,
    persistent_server,
};
use persistent_tests::{Counter, FaultyStorage};
use serde::{Deserialize, Serialize};

/// Returns the identity of the task that runs it.
#[derive(Default, Serialize, Deserialize)]
struct Mirror {
    count: u64,
    #[serde(skip)]
    waiting: Vec<Reply<String>>,
}

#[persistent_server]
impl Mirror {
    pub fn who(&self) -> String {
        format!("{:?}", tokio::task::try_id())
    }

    pub async fn who_async(&self) -> String {
        tokio::task::yield_now().await;
        self.who()
    }

    pub fn who_writes(&mut self) -> String {
        self.count += 1;
        self.who()
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn read_and_stop(&self, context: &Context<Self>) -> u64 {
        context.stop("seen enough");
        self.count
    }

    pub fn spawns(&self) -> bool {
        tokio::spawn(async {});
        true
    }

    pub fn read_and_then(&self, context: &Context<Self>) {
        context.continue_with(MirrorMessage::WhoWrites);
    }

    pub fn read_and_remind(&self, context: &Context<Self>) {
        context.remind("now", Duration::ZERO, MirrorMessage::WhoWrites);
    }

    pub fn later(&mut self, reply: Reply<String>) {
        self.waiting.push(reply);
    }

    pub fn at_once(&self, reply: Reply<String>) {
        reply.send("at once".to_owned());
    }

    pub fn never(&self, reply: Reply<String>) {
        drop(reply);
    }

    pub fn answer(&mut self) {
        for reply in self.waiting.drain(..) {
            reply.send("later".to_owned());
        }
    }

    pub fn crash(&self) {
        panic!("in the caller's task");
    }
}

#[tokio::test]
async fn synchronous_messages_run_inline_and_asynchronous_ones_do_not() {
    let runtime = Runtime::in_memory().await.unwrap();
    let mirror = runtime.start::<Mirror>("a", ()).await.unwrap();
    tokio::task::yield_now().await;
    let caller = tokio::spawn(async move {
        let me = format!("{:?}", tokio::task::try_id());
        assert_eq!(mirror.who().await.unwrap(), me);
        assert_ne!(mirror.who_async().await.unwrap(), me);
        tokio::task::yield_now().await;
        assert_eq!(mirror.who_writes().await.unwrap(), me);
        let careless = mirror.with_persist(Persist::OnStop);
        tokio::task::yield_now().await;
        assert_eq!(careless.who_writes().await.unwrap(), me, "no commit is needed");
        assert_eq!(mirror.count().await.unwrap(), 2);
    });
    caller.await.unwrap();
}

/// Sends itself a message when it starts, which is handled after the message that
/// activated it.
#[derive(Default, Serialize, Deserialize)]
struct Starter {
    noted: Option<String>,
}

#[persistent_server]
impl Starter {
    #[started]
    async fn start(&mut self, context: &Context<Self>) {
        context.client().note().await.unwrap();
    }

    #[cast]
    pub fn note(&mut self) {
        self.noted = Some(self.who());
    }

    pub fn who(&self) -> String {
        format!("{:?}", tokio::task::try_id())
    }

    pub fn noted(&self) -> Option<String> {
        self.noted.clone()
    }
}

#[tokio::test]
async fn a_caller_activates_a_server_inline_but_handles_no_message_of_other_senders() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Starter>("a", ());
    let caller = tokio::spawn(async move {
        let me = format!("{:?}", tokio::task::try_id());
        assert_eq!(server.who().await.unwrap(), me);
        let noted = server.noted().await.unwrap().unwrap();
        assert_ne!(noted, me);
    });
    caller.await.unwrap();
}

#[tokio::test]
async fn a_queued_read_that_panics_is_a_crash() {
    let runtime = Runtime::in_memory().await.unwrap();
    let mirror = runtime.at::<Mirror>("a", ());
    mirror.count().await.unwrap();
    let (_, crash) = tokio::join!(mirror.who_async(), mirror.crash());
    assert!(matches!(crash, Err(CallError::Crashed { .. })), "{crash:?}");
}

/// Unsaved changes are saved before the reply to a read that asks for a commit, so that
/// this read cannot run inline.
#[tokio::test]
async fn a_read_that_asks_for_a_commit_gets_one() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder()
        .defaults(Options::new().persist(Persist::OnStop))
        .open_with(storage.clone())
        .await
        .unwrap();
    let mirror = runtime.at::<Mirror>("a", ());
    mirror.who_writes().await.unwrap();
    assert_eq!(storage.writes(), 0);
    assert_eq!(mirror.with_persist(Persist::EveryMessage).count().await.unwrap(), 1);
    assert_eq!(storage.writes(), 1);
}

#[tokio::test]
async fn a_panic_of_an_inline_message_crashes_the_server_and_not_its_caller() {
    let runtime = Runtime::in_memory().await.unwrap();
    let mirror = runtime.start::<Mirror>("a", ()).await.unwrap();
    for _ in 0..3 {
        tokio::task::yield_now().await;
        let error = mirror.crash().await.unwrap_err();
        assert!(matches!(error, CallError::Crashed { .. }), "{error}");
        assert_eq!(mirror.count().await.unwrap(), 0);
    }
    mirror.crash().await.unwrap_err();
    let error = mirror.count().await.unwrap_err();
    assert!(matches!(error, CallError::RestartLimit { .. }), "{error}");
}

/// Regression: a crash or a stop in the caller's task used the restart policy of the
/// server type instead of the one that the client had asked for.
#[tokio::test(start_paused = true)]
async fn a_stop_or_crash_inline_uses_the_restart_policy_of_the_instance() {
    let runtime = Runtime::in_memory().await.unwrap();
    let frail = Options::new().restart(Restart::Temporary);
    let mirror = runtime.at::<Mirror>("a", ()).with_options(frail).unwrap();
    for end in ["an inline crash", "an inline stop", "a queued crash"] {
        mirror.who_writes().await.unwrap();
        assert_eq!(mirror.count().await.unwrap(), 1, "before {end}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        match end {
            "an inline crash" => mirror.crash().await.unwrap_err().to_string().truncate(0),
            "an inline stop" => assert_eq!(mirror.read_and_stop().await.unwrap(), 1),
            _ => {
                let (_, crash) = tokio::join!(mirror.who_writes(), mirror.crash());
                crash.unwrap_err();
            }
        }
        assert_eq!(mirror.count().await.unwrap(), 0, "after {end}");
    }
}

#[tokio::test(start_paused = true)]
async fn effects_of_a_read_take_place_when_it_runs_inline() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let mirror = runtime.start::<Mirror>("a", ()).await.unwrap();
    let pause = || tokio::time::sleep(Duration::from_millis(1));
    pause().await;
    mirror.read_and_then().await.unwrap();
    assert_eq!(mirror.count().await.unwrap(), 1);
    pause().await;
    mirror.read_and_remind().await.unwrap();
    pause().await;
    assert_eq!(mirror.count().await.unwrap(), 2);
    assert_eq!(mirror.read_and_stop().await.unwrap(), 2);
    pause().await;
    assert_eq!(runtime.count::<Mirror>().await.unwrap().live, 0);
    assert_eq!(mirror.count().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deferred_reply_works_when_its_message_runs_inline() {
    let runtime = Runtime::builder()
        .defaults(Options::new().persist(Persist::OnStop))
        .in_memory()
        .await
        .unwrap();
    let mirror = runtime.start::<Mirror>("a", ()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(mirror.at_once().await.unwrap(), "at once");
    assert!(matches!(mirror.never().await, Err(CallError::NoReply { .. })));
    let waiting = tokio::spawn({
        let mirror = mirror.clone();
        async move { mirror.later().await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    mirror.answer().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "later");
    let late = mirror.with_timeout(Duration::from_secs(1)).later().await;
    assert!(matches!(late, Err(CallError::Timeout { .. })), "the deadline applies: {late:?}");
}

/// Calls that never wait still let other tasks run.
#[tokio::test]
async fn a_caller_in_a_loop_yields_its_thread() {
    let runtime = Runtime::in_memory().await.unwrap();
    let counter = runtime.start::<Counter>("a", ()).await.unwrap();
    let has_run = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let has_run = has_run.clone();
        async move { has_run.store(true, Ordering::SeqCst) }
    });
    for call in 0.. {
        if has_run.load(Ordering::SeqCst) {
            break;
        }
        assert!(call < 100_000, "the other task never ran");
        counter.value().await.unwrap();
    }
    other.await.unwrap();
}

/// A call works outside a tokio runtime. The servers' own runtime does the work.
#[test]
fn calls_work_outside_a_tokio_runtime() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = tokio.block_on(Runtime::in_memory()).unwrap();
    let counter = runtime.at::<Counter>("a", ());
    for n in 1..=100 {
        assert_eq!(futures::executor::block_on(counter.increment()).unwrap(), n);
        assert_eq!(futures::executor::block_on(counter.value()).unwrap(), n);
    }
    let slow = counter.with_timeout(Duration::from_millis(10));
    let late = futures::executor::block_on(slow.value_after(Duration::from_secs(5)));
    assert!(matches!(late, Err(CallError::Timeout { .. })), "{late:?}");
}

/// Regression: a handler that ran inline saw the task context of its caller, and its
/// `tokio::spawn` panicked where the caller had no tokio runtime.
#[test]
fn a_handler_may_spawn_although_its_caller_is_outside_a_tokio_runtime() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = tokio.block_on(Runtime::in_memory()).unwrap();
    let mirror = tokio.block_on(runtime.start::<Mirror>("a", ())).unwrap();
    for _ in 0..100 {
        assert!(futures::executor::block_on(mirror.spawns()).unwrap());
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Link;

#[persistent_server(call_timeout = "60s")]
impl Link {
    #[started]
    async fn start_the_next(&self, context: &Context<Self>) {
        let left: u32 = context.key().parse().unwrap();
        if let Some(left) = left.checked_sub(1) {
            let next = context.client_of(&Address::<Link>::new(left.to_string(), ()));
            next.touch().await.unwrap();
        }
    }

    pub fn touch(&self) {}
}

/// Each link of the chain starts inline in the previous one. A stack that grew with the
/// chain would overflow.
#[tokio::test]
async fn servers_that_activate_one_another_do_not_grow_the_stack() {
    let runtime = Runtime::in_memory().await.unwrap();
    runtime.at::<Link>("5000", ()).touch().await.unwrap();
    assert_eq!(runtime.count::<Link>().await.unwrap().live, 5001);
}

/// Uses one thread, so that the other tasks run only if the caller yields.
#[tokio::test]
async fn a_caller_that_never_waits_lets_other_tasks_run() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.start::<Counter>("a", ()).await.unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    for casts in [false, true] {
        enough.store(false, Ordering::Relaxed);
        let (server, seen) = (server.clone(), enough.clone());
        let busy = tokio::spawn(async move {
            for sent in 0..100_000 {
                if seen.load(Ordering::Relaxed) {
                    return sent;
                }
                if casts {
                    server.bump().await.unwrap();
                } else {
                    server.value().await.unwrap();
                }
            }
            100_000
        });
        tokio::task::yield_now().await;
        enough.store(true, Ordering::Relaxed);
        // Fewer than the mailbox holds, because the sender would wait at a full mailbox.
        assert!((1..1000).contains(&busy.await.unwrap()));
    }
}
