//! Start, stop, unload and restart: when a server ends, and whether its state is
//! kept.

use std::{sync::Arc, time::Duration};

use persistent_runtime::{
    Backoff, CallError, Client, Options, Reply, Restart, Runtime, ServerId, StopReason,
    persistent_server,
};
use persistent_tests::{Counter, Fault, FaultyStorage, Probe, events};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_finished_server_is_deleted_and_the_same_client_creates_a_fresh_server() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    server.stop(StopReason::Finished).await.unwrap();
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, 0);
    assert_eq!(server.value().await.unwrap(), 0);
}

#[tokio::test]
async fn a_stop_with_another_reason_keeps_the_state() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    for _ in 0..4 {
        server.bump().await.unwrap();
    }
    server.stop("a custom reason").await.unwrap();
    assert_eq!(server.value().await.unwrap(), 4);
    server.stop(StopReason::Finished).await.unwrap();
    assert_eq!(server.value().await.unwrap(), 0);
}

#[tokio::test]
async fn a_server_that_stops_itself_keeps_its_last_change() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    assert_eq!(server.increment_and_stop("enough".into()).await.unwrap(), 2);
    assert_eq!(runtime.find::<Counter>("a").await.unwrap().value().await.unwrap(), 2);
}

/// Covers every row of the table of restart policies.
#[tokio::test]
async fn each_restart_policy_keeps_and_deletes_as_documented() {
    // Columns: restart policy, kept when finished, kept at another stop, kept at a crash.
    let rows = [
        (Restart::Temporary, false, false, false),
        (Restart::Transient, false, true, true),
        (Restart::Permanent, true, true, true),
    ];
    for (policy, finished, other, crash) in rows {
        let storage = FaultyStorage::default();
        let open = || {
            Runtime::builder()
                .configure::<Counter>(Options::new().restart(policy))
                .open_with(storage.clone())
        };
        let runtime = open().await.unwrap();
        let server = runtime.at::<Counter>("a", ());
        let expect = u64::from;
        let fresh = async || {
            server.delete().await.unwrap();
            server.increment().await.unwrap();
        };

        fresh().await;
        server.stop(StopReason::Finished).await.unwrap();
        assert_eq!(server.value().await.unwrap(), expect(finished), "{policy:?}, finished");

        fresh().await;
        server.stop("other").await.unwrap();
        assert_eq!(server.value().await.unwrap(), expect(other), "{policy:?}, other stop");

        fresh().await;
        server.crash("now".into()).await.unwrap_err();
        assert_eq!(server.value().await.unwrap(), expect(crash), "{policy:?}, crash");

        fresh().await;
        server.kill().await.unwrap();
        assert_eq!(server.value().await.unwrap(), 1, "{policy:?}, kill");

        fresh().await;
        runtime.shutdown(SECOND).await.unwrap();
        let runtime = open().await.unwrap();
        assert_eq!(
            runtime.at::<Counter>("a", ()).value().await.unwrap(),
            1,
            "{policy:?}, shutdown"
        );

        drop(runtime);
        let runtime = open().await.unwrap();
        assert_eq!(runtime.at::<Counter>("a", ()).value().await.unwrap(), 1, "{policy:?}, drop");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unload_keeps_the_state_under_every_restart_policy() {
    for policy in [Restart::Temporary, Restart::Transient, Restart::Permanent] {
        let runtime = Runtime::builder()
            .defaults(Options::new().restart(policy).idle_timeout(SECOND))
            .in_memory()
            .await
            .unwrap();
        let server = runtime.at::<Counter>("a", ());
        server.increment().await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(runtime.count::<Counter>().await.unwrap().live, 0);
        assert_eq!(server.value().await.unwrap(), 1, "{policy:?}");
    }
}

#[tokio::test]
async fn a_stop_of_an_unloaded_server_follows_its_restart_policy() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    server.kill().await.unwrap();
    server.stop("other").await.unwrap();
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, 1);
    server.stop(StopReason::Finished).await.unwrap();
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn permanent_servers_restart_at_once_after_a_crash_and_others_with_the_next_message() {
    for (policy, revived) in [(Restart::Transient, 1), (Restart::Permanent, 2)] {
        let runtime =
            Runtime::builder().defaults(Options::new().restart(policy)).in_memory().await.unwrap();
        let key = format!("revives-{policy:?}");
        let server = runtime.at::<Probe>(&*key, 1);
        server.crash().await.unwrap_err();
        tokio::time::sleep(SECOND).await;
        let started = events(&key).iter().filter(|event| *event == "started").count();
        assert_eq!(started, revived, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn permanent_servers_of_a_registered_type_activate_when_a_runtime_opens() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    for n in 0..200_u64 {
        runtime.start::<Counter>(n.to_string(), ()).await.unwrap();
    }
    runtime.shutdown(SECOND).await.unwrap();

    for (policy, live) in
        [(Restart::Permanent, 200), (Restart::Transient, 0), (Restart::Temporary, 0)]
    {
        let runtime = Runtime::builder()
            .configure::<Counter>(Options::new().restart(policy))
            .register::<Counter>()
            .open_with(storage.clone())
            .await
            .unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(runtime.count::<Counter>().await.unwrap().live, live, "{policy:?}");
    }
    let runtime = Runtime::builder()
        .configure::<Counter>(Options::new().restart(Restart::Permanent))
        .open_with(storage.clone())
        .await
        .unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(runtime.count::<Counter>().await.unwrap().live, 0, "not registered");
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_is_unloaded_until_the_next_message() {
    let runtime =
        Runtime::builder().defaults(Options::new().idle_timeout(SECOND)).in_memory().await.unwrap();
    let server = runtime.at::<Probe>("gone", 1);
    server.seed().await.unwrap();
    tokio::time::sleep(SECOND * 999 / 1000).await;
    assert_eq!(runtime.count::<Probe>().await.unwrap().live, 1);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(runtime.count::<Probe>().await.unwrap().live, 0);
    assert_eq!(events("gone"), ["init 1", "started", "terminate idle"]);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(runtime.count::<Probe>().await.unwrap().live, 0);
    assert_eq!(server.last_words().await.unwrap(), "idle", "what `terminate` changed is stored");
    assert_eq!(events("gone")[3..], ["started"], "`init` did not run again");
}

#[tokio::test(start_paused = true)]
async fn a_call_restarts_the_idle_timeout() {
    let runtime =
        Runtime::builder().defaults(Options::new().idle_timeout(SECOND)).in_memory().await.unwrap();
    let server = runtime.at::<Probe>("kept-awake", 1);
    for _ in 0..20 {
        server.seed().await.unwrap();
        tokio::time::sleep(SECOND * 9 / 10).await;
    }
    assert_eq!(events("kept-awake"), ["init 1", "started"]);
}

#[tokio::test(start_paused = true)]
async fn idle_timeouts_may_be_never_tiny_or_huge() {
    let never: Option<Duration> = None;
    let tiny = Some(Duration::from_nanos(1));
    for (timeout, live) in
        [(never, 1), (Some(Duration::MAX), 1), (tiny, 0), (Some(Duration::ZERO), 0)]
    {
        let runtime = Runtime::builder()
            .defaults(Options::new().idle_timeout(timeout))
            .in_memory()
            .await
            .unwrap();
        let server = runtime.at::<Counter>("a", ());
        assert_eq!(server.increment().await.unwrap(), 1);
        tokio::time::sleep(1_000_000 * SECOND).await;
        assert_eq!(runtime.count::<Counter>().await.unwrap().live, live, "{timeout:?}");
        assert_eq!(server.increment().await.unwrap(), 2);
    }
}

/// A crash leaves an entry in the expiry queue, which must not delay the idle timeout of
/// the next activation.
#[tokio::test(start_paused = true)]
async fn a_crash_does_not_delay_the_idle_timeout() {
    let runtime = Runtime::builder()
        .defaults(Options::new().max_restarts(5, 3600 * SECOND).idle_timeout(SECOND))
        .configure::<Counter>(Options::new().max_restarts(5, 3600 * SECOND))
        .in_memory()
        .await
        .unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.crash("now".into()).await.unwrap_err();
    tokio::time::sleep(SECOND / 2).await;
    server.increment().await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(runtime.count::<Counter>().await.unwrap().live, 0);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_servers_that_expire_together_do_not_delay_another() {
    let runtime =
        Runtime::builder().defaults(Options::new().idle_timeout(SECOND)).in_memory().await.unwrap();
    let bystander = runtime.at::<Counter>("bystander", ());
    for n in 0..1000 {
        runtime.start::<Counter>(n.to_string(), ()).await.unwrap();
    }
    for n in 1..=40 {
        assert_eq!(bystander.increment().await.unwrap(), n);
        tokio::time::sleep(SECOND / 10).await;
    }
    let count = runtime.count::<Counter>().await.unwrap();
    assert_eq!((count.live, count.stored), (1, 1001));
}

/// Calls at t ± 20 % against an idle timeout of t, for more than 10 s.
#[tokio::test(start_paused = true)]
async fn calls_at_the_edge_of_the_idle_timeout_never_fail_and_all_count() {
    let timeout = Duration::from_millis(50);
    for slow in [Fault::None, Fault::Slow(Duration::from_millis(3))] {
        let storage = FaultyStorage::default();
        storage.on_load(slow);
        storage.on_commit(slow);
        let runtime = Runtime::builder()
            .defaults(Options::new().idle_timeout(timeout))
            .open_with(storage)
            .await
            .unwrap();
        let callers: Vec<_> = (0..3_u64)
            .map(|caller| {
                let server = runtime.at::<Counter>("a", ());
                tokio::spawn(async move {
                    let begin = Instant::now();
                    let mut acknowledged = 0;
                    let mut random = 0x9E37_79B9_7F4A_7C15 ^ caller;
                    while begin.elapsed() < 10 * SECOND {
                        server.increment().await.unwrap();
                        acknowledged += 1;
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let wait = timeout * 8 / 10
                            + timeout * 4 / 10 * u32::try_from(random % 1000).unwrap() / 1000;
                        tokio::time::sleep(wait).await;
                    }
                    acknowledged
                })
            })
            .collect();
        let mut acknowledged = 0;
        for caller in callers {
            acknowledged += caller.await.unwrap();
        }
        assert!(acknowledged > 400, "{acknowledged}");
        assert_eq!(runtime.at::<Counter>("a", ()).value().await.unwrap(), acknowledged);
    }
}

#[tokio::test(start_paused = true)]
async fn casts_queued_while_the_idle_timer_fires_are_not_lost() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder()
        .defaults(Options::new().idle_timeout(SECOND))
        .open_with(storage.clone())
        .await
        .unwrap();
    let server = runtime.at::<Farewell>("a", ());
    for round in 1..=20 {
        server.add(1).await.unwrap();
        // While `terminate` is still running.
        tokio::time::sleep(SECOND + Duration::from_millis(50)).await;
        assert_eq!(runtime.count::<Farewell>().await.unwrap().live, 1, "unloading");
        for _ in 0..9 {
            server.add(1).await.unwrap();
        }
        assert_eq!(server.total().await.unwrap(), round * 10);
    }
}

/// A server with a slow `terminate` hook.
#[derive(Default, Serialize, Deserialize)]
struct Farewell {
    total: u64,
}

#[persistent_server]
impl Farewell {
    #[terminate]
    async fn terminate(&mut self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    #[cast]
    pub fn add(&mut self, n: u64) {
        self.total += n;
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_on_a_stopped_runtime_fails_at_once() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    let begin = Instant::now();
    assert!(matches!(server.value().await, Err(CallError::RuntimeStopped { .. })));
    assert!(matches!(server.bump().await, Err(CallError::RuntimeStopped { .. })));
    assert!(matches!(server.stop("x").await, Err(CallError::RuntimeStopped { .. })));
    let late = runtime.find::<Counter>("b").await.map(drop);
    assert!(matches!(late, Err(CallError::RuntimeStopped { .. })), "{late:?}");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_runtime_answers_waiting_callers_and_keeps_acknowledged_changes() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.increment_after(SECOND).await })
        })
        .collect();
    tokio::time::sleep(SECOND / 10).await;
    drop(runtime);
    let begin = Instant::now();
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    assert!(matches!(server.increment().await, Err(CallError::RuntimeStopped { .. })));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    assert_eq!(runtime.at::<Counter>("a", ()).value().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_handles_queued_messages_and_runs_terminate() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let busy = runtime.at::<Counter>("busy", ());
    let probe = runtime.at::<Probe>("shutdown", 1);
    probe.seed().await.unwrap();
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let busy = busy.clone();
            tokio::spawn(async move { busy.increment_after(SECOND).await })
        })
        .collect();
    tokio::time::sleep(SECOND / 10).await;
    runtime.shutdown(10 * SECOND).await.unwrap();
    for (n, call) in (1..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), n);
    }
    assert_eq!(events("shutdown"), ["init 1", "started", "terminate shutdown"]);
    assert_eq!(storage.states.get(&ServerId::new("Counter", "busy")).unwrap().version, 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_at_its_deadline_and_counts_unfinished_servers() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    let call = tokio::spawn(async move { server.increment_after(3600 * SECOND).await });
    tokio::task::yield_now().await;
    let begin = Instant::now();
    let error = runtime.shutdown(SECOND).await.unwrap_err();
    assert!(error.unfinished > 0, "{error}");
    assert_eq!(begin.elapsed(), SECOND);
    call.await.unwrap().unwrap_err();
    runtime.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_changed_option_takes_effect_at_the_next_activation() {
    let storage = FaultyStorage::default();
    for (timeout, live) in [(60, 1), (1, 0)] {
        let runtime = Runtime::builder()
            .configure::<Counter>(Options::new().idle_timeout(timeout * SECOND))
            .open_with(storage.clone())
            .await
            .unwrap();
        runtime.at::<Counter>("a", ()).increment().await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(runtime.count::<Counter>().await.unwrap().live, live);
        runtime.shutdown(SECOND).await.unwrap();
    }
    let stored = storage.states.get(&ServerId::new("Counter", "a")).unwrap();
    assert_eq!(&stored.state.bytes()[..], b"\x81\xa5value\x02", "options are not stored");
}

#[tokio::test]
async fn two_runtimes_run_side_by_side_with_separate_settings() {
    let first = Runtime::builder()
        .defaults(Options::new().restart(Restart::Temporary))
        .in_memory()
        .await
        .unwrap();
    let second = Runtime::in_memory().await.unwrap();
    for (runtime, kept) in [(&first, 0), (&second, 1)] {
        let server = runtime.at::<Counter>("a", ());
        server.increment().await.unwrap();
        server.stop("other").await.unwrap();
        assert_eq!(server.value().await.unwrap(), kept);
    }
}

#[tokio::test]
async fn an_invalid_option_is_an_error_when_the_runtime_opens() {
    let backoff = Backoff::new(SECOND, SECOND).with_factor(0.5);
    for (options, word) in [
        (Options::new().mailbox(0), "mailbox"),
        (Options::new().backoff(backoff), "factor"),
        (Options::new().call_timeout(Duration::ZERO), "call_timeout"),
    ] {
        let error = Runtime::builder().configure::<Counter>(options).in_memory().await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("Counter") && text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn init_runs_only_without_a_stored_state() {
    let storage = FaultyStorage::default();
    for seed in [1, 2] {
        let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
        let server = runtime.start::<Probe>("init-once", seed).await.unwrap();
        assert_eq!(server.seed().await.unwrap(), 1);
        runtime.shutdown(SECOND).await.unwrap();
    }
    let inits = events("init-once").into_iter().filter(|event| event.starts_with("init"));
    assert_eq!(inits.collect::<Vec<_>>(), ["init 1"]);
}

#[tokio::test]
async fn a_failing_init_is_reported_and_stores_nothing() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    for (seed, word) in [(13, "13 is refused"), (666, "666 panics")] {
        let key = format!("failing-init-{seed}");
        let writes = storage.writes();
        let error = runtime.start::<Probe>(&*key, seed).await.map(drop).unwrap_err();
        assert!(
            matches!(error, CallError::Init { .. }) && error.to_string().contains(word),
            "{error}"
        );
        assert_eq!(events(&key).len(), 1, "one attempt per message");
        assert_eq!(storage.writes(), writes);
        // Another client may have a valid init argument.
        assert_eq!(runtime.at::<Probe>(&*key, 7).seed().await.unwrap(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn terminate_runs_once_at_each_orderly_end_and_not_at_a_crash_or_kill() {
    let runtime =
        Runtime::builder().defaults(Options::new().idle_timeout(SECOND)).in_memory().await.unwrap();
    let ends = |key: &str| -> Vec<String> {
        events(key).into_iter().filter(|event| event.starts_with("terminate")).collect()
    };
    let server = runtime.at::<Probe>("ends", 1);
    server.seed().await.unwrap();
    server.crash().await.unwrap_err();
    server.seed().await.unwrap();
    server.kill().await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(ends("ends"), [""; 0]);
    server.seed().await.unwrap();
    server.stop("custom").await.unwrap();
    server.seed().await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    server.seed().await.unwrap();
    server.stop(StopReason::Finished).await.unwrap();
    server.seed().await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    let reasons = ["custom", "idle", "finished", "shutdown"].map(|end| format!("terminate {end}"));
    assert_eq!(ends("ends"), reasons);
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_handler_that_hangs_and_queued_messages_are_handled() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ()).with_timeout(3600 * SECOND);
    server.increment().await.unwrap();
    let spawn = |wait| {
        let server = server.clone();
        tokio::spawn(async move { server.increment_after(wait).await })
    };
    let (stuck, queued) = (spawn(Duration::MAX / 4), spawn(Duration::ZERO));
    tokio::time::sleep(SECOND).await;
    server.kill().await.unwrap();
    assert!(matches!(stuck.await.unwrap(), Err(CallError::Killed { .. })));
    assert_eq!(queued.await.unwrap().unwrap(), 2);
}

/// Regression test for a race of a stop and a start: the start waits for the final
/// commit, so that it loads the stored state.
#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_final_commit_of_a_stop() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Probe>("stop-start", 1);
    server.seed().await.unwrap();
    storage.on_commit(Fault::Slow(SECOND));
    let stop = {
        let server = server.clone();
        tokio::spawn(async move { server.stop("first").await })
    };
    tokio::time::sleep(SECOND / 10).await;
    let again = runtime.start::<Probe>("stop-start", 2).await.unwrap();
    assert_eq!(again.last_words().await.unwrap(), "first");
    stop.await.unwrap().unwrap();
    assert_eq!(events("stop-start"), ["init 1", "started", "terminate first", "started"]);
}

/// A cell without an instance or a client leaves the registry. Otherwise the registry
/// would grow with every key that was ever used.
#[tokio::test(start_paused = true)]
async fn unloaded_servers_without_clients_leave_nothing_in_memory() {
    let runtime =
        Runtime::builder().defaults(Options::new().idle_timeout(SECOND)).in_memory().await.unwrap();
    let init = Arc::new(());
    for n in 0..100 {
        let weight = Weight { copies: init.clone() };
        runtime.at::<Heavy>(n.to_string(), weight).poke().await.unwrap();
    }
    assert!(Arc::strong_count(&init) > 100, "live servers keep their init arguments");
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(Arc::strong_count(&init), 1);
}

/// An init argument that counts its copies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Weight {
    #[serde(skip)]
    copies: Arc<()>,
}

#[derive(Serialize, Deserialize)]
struct Heavy;

#[persistent_server]
impl Heavy {
    #[init]
    fn new(weight: Weight) -> Self {
        drop(weight.copies);
        Self
    }

    pub fn poke(&mut self) {}
}

/// Keeps its callers waiting.
#[derive(Default, Serialize, Deserialize)]
struct Gate {
    #[serde(skip)]
    waiting: Vec<Reply<u32>>,
}

#[persistent_server(call_timeout = "60s")]
impl Gate {
    pub fn pass(&mut self, reply: Reply<u32>) {
        self.waiting.push(reply);
    }

    #[cast]
    pub fn open(&mut self) {
        self.waiting.drain(..).for_each(|reply| reply.send(1));
    }

    /// Returns the numbers of replies that are kept, and of those whose caller has gone.
    pub fn waiting(&self) -> (usize, usize) {
        let closed = self.waiting.iter().filter(|reply| reply.is_closed()).count();
        (self.waiting.len(), closed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_not_idle_while_a_caller_waits_for_a_deferred_reply() {
    for idle_timeout in [Duration::ZERO, SECOND] {
        let runtime = Runtime::builder()
            .defaults(Options::new().idle_timeout(idle_timeout))
            .in_memory()
            .await
            .unwrap();
        let gate = runtime.at::<Gate>("a", ());
        let caller = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        tokio::time::sleep(30 * SECOND).await;
        gate.open().await.unwrap();
        assert_eq!(caller.await.unwrap().unwrap(), 1);
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(runtime.count::<Gate>().await.unwrap().live, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_knows_that_its_caller_has_gone() {
    let runtime = Runtime::builder()
        .defaults(Options::new().idle_timeout(10 * SECOND))
        .in_memory()
        .await
        .unwrap();
    let gate = runtime.at::<Gate>("a", ());
    for _ in 0..50 {
        gate.with_timeout(SECOND / 1000).pass().await.unwrap_err();
    }
    gate.cast(GateMessage::Pass).await.unwrap();
    assert_eq!(gate.waiting().await.unwrap(), (51, 51));
    let caller = tokio::spawn({
        let gate = gate.clone();
        async move { gate.pass().await }
    });
    tokio::time::sleep(SECOND).await;
    assert_eq!(gate.waiting().await.unwrap(), (52, 51));
    caller.abort();
    tokio::time::sleep(SECOND).await;
    assert_eq!(gate.waiting().await.unwrap(), (52, 52));
    // Callers that have gone do not keep the server in memory.
    tokio::time::sleep(21 * SECOND).await;
    assert_eq!(runtime.count::<Gate>().await.unwrap().live, 0);
}
