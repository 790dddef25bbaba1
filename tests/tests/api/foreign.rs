//! Code of users where it can do harm: destructors, panic payloads and wakers that panic or call
//! back, and callers on other executors than the runtime's own.

use std::{
    mem,
    panic::panic_any,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context as TaskContext, Wake, Waker},
    thread,
    time::Duration,
};

use persistent_runtime::{
    CallError, Client, Context, Event, Options, Persist, Reply, Runtime, persistent_server,
};
use persistent_tests::{Fault, FaultyStorage};
use serde::{Deserialize, Serialize};
use tokio::task::yield_now;

const MINUTE: Duration = Duration::from_mins(1);

/// Panics when it is dropped, with a payload that does the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 && !thread::panicking() {
            panic_any(Self(true));
        }
    }
}

/// Handles bombs, which are armed if they come from outside.
#[derive(Default, Serialize, Deserialize)]
struct Handler {
    count: u64,
    #[serde(skip)]
    held: Vec<Bomb>,
    #[serde(skip)]
    waiting: Vec<Reply<Bomb>>,
}

#[persistent_server(max_restarts(1_000_000, within = "1s"))]
impl Handler {
    #[init]
    fn init(bomb: Bomb) -> Self {
        mem::forget(bomb);
        Self::default()
    }

    pub fn add(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    #[cast]
    pub fn bump(&mut self) {
        self.count += 1;
    }

    pub fn throw(&self) {
        panic_any(Bomb(true));
    }

    pub fn change_and_throw(&mut self) {
        self.count += 1000;
        panic_any(Bomb(true));
    }

    pub async fn throw_later(&mut self) {
        self.count += 1000;
        yield_now().await;
        panic_any(Bomb(true));
    }

    pub async fn hold(&self) {
        let _bomb = Bomb(true);
        std::future::pending::<()>().await;
    }

    /// A tokio runtime panics when it is dropped inside a task.
    pub async fn hold_a_tokio_runtime(&self) {
        let _tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::future::pending::<()>().await;
    }

    pub fn take(&self, bomb: Bomb) {
        mem::forget(bomb);
    }

    pub async fn give(&self) -> Bomb {
        yield_now().await;
        Bomb(true)
    }

    pub fn wait(&mut self, reply: Reply<Bomb>) {
        self.waiting.push(reply);
    }

    pub fn answer(&mut self) {
        for reply in self.waiting.drain(..) {
            reply.send(Bomb(true));
        }
    }

    pub fn keep_in_state(&mut self) {
        self.held.push(Bomb(true));
    }

    pub fn keep_as_resources(&self, context: &Context<Self>) {
        context.insert_resource("one", Bomb(true));
        context.insert_resource("other", Bomb(true));
    }

    pub fn continue_with_bomb(&self, context: &Context<Self>) {
        context.continue_with(HandlerMessage::Take { bomb: Bomb(true) });
        panic!("so that the continuation is dropped");
    }
}

fn quiet_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<Bomb>().is_none() {
            hook(info);
        }
    }));
}

fn crashed<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::Crashed { .. }))
}

#[tokio::test]
async fn a_panic_payload_whose_destructor_panics_costs_one_message() {
    quiet_panics();
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Handler>("a", Bomb(false));
    for n in 1..=3 {
        assert_eq!(server.add().await.unwrap(), 2 * n - 1);
        assert!(crashed(&server.throw().await), "inline");
        assert!(crashed(&server.change_and_throw().await));
        assert!(crashed(&server.throw_later().await));
        assert_eq!(server.add().await.unwrap(), 2 * n);
    }
    runtime.shutdown(Duration::from_mins(1)).await.unwrap();
}

#[tokio::test]
async fn a_killed_handler_whose_destructors_panic_loses_no_queued_message() {
    quiet_panics();
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    for (key, holds_tokio) in [("bomb", false), ("tokio", true)] {
        let server = runtime.at::<Handler>(key, Bomb(false));
        // The handler runs while a commit is in flight, which the next activation has to see.
        storage.on_next_commit(Fault::Slow(Duration::from_millis(20)));
        let first = tokio::spawn({
            let server = server.clone();
            async move { server.add().await }
        });
        yield_now().await;
        let holds = tokio::spawn({
            let server = server.clone();
            async move {
                if holds_tokio { server.hold_a_tokio_runtime().await } else { server.hold().await }
            }
        });
        yield_now().await;
        let queued = [(); 5].map(|()| {
            let server = server.clone();
            tokio::spawn(async move { server.add().await })
        });
        yield_now().await;
        server.bump().await.unwrap();
        server.kill().await.unwrap();
        assert!(matches!(holds.await.unwrap(), Err(CallError::Killed { .. })));
        assert_eq!(first.await.unwrap().unwrap(), 1);
        for (queued, n) in queued.into_iter().zip(2..) {
            assert_eq!(queued.await.unwrap().unwrap(), n);
        }
        assert_eq!(server.add().await.unwrap(), 8);
    }
}

#[tokio::test]
async fn values_whose_destructors_panic_lose_no_other_message() {
    quiet_panics();
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Handler>("a", Bomb(true));
    let mut n = 0;
    let mut adds = async || {
        n += 1;
        assert_eq!(server.add().await.unwrap(), n);
    };
    adds().await;

    // Messages that are dropped before they are handled.
    server.kill().await.unwrap();
    storage.on_load(Fault::Refuse);
    let take = HandlerMessage::Take { bomb: Bomb(true) };
    server.cast(take).await.unwrap();
    server.take(Bomb(true)).await.unwrap_err();
    storage.on_load(Fault::None);
    adds().await;
    assert!(crashed(&server.continue_with_bomb().await));
    adds().await;

    // Results that nobody takes.
    for deferred in [false, true] {
        {
            let mut call = Box::pin(async {
                if deferred { server.wait().await } else { server.give().await }
            });
            assert!(call.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
        }
        server.answer().await.unwrap();
        adds().await;
    }

    // The state and the resources.
    for ends in 0..3 {
        server.keep_in_state().await.unwrap();
        server.keep_as_resources().await.unwrap();
        match ends {
            0 => server.kill().await.unwrap(),
            1 => server.stop("enough").await.unwrap(),
            _ => assert!(crashed(&server.throw().await)),
        }
        adds().await;
    }

    // The init arguments, with the last client.
    let other = runtime.at::<Handler>("b", Bomb(true));
    assert_eq!(other.add().await.unwrap(), 1);
    drop(other);
    runtime.shutdown(Duration::from_mins(1)).await.unwrap();
}

/// An executor that polls its task inside of `wake`.
struct PollsInWake {
    task: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    done: mpsc::Sender<()>,
}

impl PollsInWake {
    fn run(task: impl Future<Output = ()> + Send + 'static) -> mpsc::Receiver<()> {
        let (done, is_done) = mpsc::channel();
        Arc::new(Self { task: Mutex::new(Some(Box::pin(task))), done }).wake();
        is_done
    }
}

impl Wake for PollsInWake {
    fn wake(self: Arc<Self>) {
        // A poll further down this stack is in progress.
        let Ok(mut task) = self.task.try_lock() else { return };
        let waker = Waker::from(self.clone());
        if let Some(running) = &mut *task
            && running.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_ready()
        {
            *task = None;
            let _ = self.done.send(());
        }
    }
}

/// Runs `work` on a thread, so that a deadlock fails the test.
fn within_a_minute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_mins(1)).expect("a deadlock")
}

#[derive(Default, Serialize, Deserialize)]
struct Narrow {
    seen: Vec<u32>,
}

#[persistent_server(mailbox = 1, call_timeout = "60s")]
impl Narrow {
    #[cast]
    pub fn note(&mut self, n: u32) {
        self.seen.push(n);
    }

    pub async fn block(&self, until: Gate) {
        until.wait().await;
    }

    pub fn seen(&self) -> Vec<u32> {
        self.seen.clone()
    }
}

/// Opens once. All gates with one number are the same.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Gate(usize);

static GATES: [tokio::sync::Semaphore; 6] = [const { tokio::sync::Semaphore::const_new(0) }; 6];

impl Gate {
    async fn wait(self) {
        let _ = GATES[self.0].acquire().await.unwrap();
    }

    fn open(self) {
        GATES[self.0].add_permits(1000);
    }
}

#[test]
fn an_executor_that_polls_inside_of_wake_does_not_deadlock() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = tokio.block_on(Runtime::in_memory()).unwrap();
    within_a_minute(move || {
        let server = runtime.at::<Narrow>("a", ());
        let gate = Gate(0);
        let blocked = PollsInWake::run({
            let server = server.clone();
            async move { server.block(gate).await.unwrap() }
        });
        tokio.block_on(server.note(1)).unwrap();
        // The mailbox is full.
        let senders = [2, 3].map(|n| {
            let server = server.clone();
            PollsInWake::run(async move {
                server.note(n).await.unwrap();
                server.seen().await.unwrap();
            })
        });
        let mut events = tokio.block_on(server.watch()).unwrap();
        let watcher = PollsInWake::run({
            let server = server.clone();
            async move {
                while events.next().await != Some(Event::Killed) {}
                server.reset().await.unwrap();
                let _again = server.watch().await.unwrap();
            }
        });
        gate.open();
        for done in [blocked].into_iter().chain(senders) {
            done.recv().unwrap();
        }
        tokio.block_on(server.kill()).unwrap();
        watcher.recv().unwrap();
        assert_eq!(tokio.block_on(server.seen()).unwrap(), [1, 2, 3]);
    });
}

/// A waker that panics.
struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
        panic_any(Bomb(true));
    }
}

#[test]
fn a_waker_that_panics_harms_no_other_caller() {
    quiet_panics();
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let storage = FaultyStorage::default();
    let builder = Runtime::builder();
    let runtime = tokio.block_on(builder.open_with(storage.clone())).unwrap();
    let server = runtime.at::<Narrow>("a", ());
    let gate = Gate(1);
    let panics = Arc::new(Panics(AtomicUsize::new(0)));
    let waker = Waker::from(panics.clone());
    let mut cx = TaskContext::from_waker(&waker);
    storage.on_commit(Fault::Slow(Duration::from_millis(1)));
    let mut events = tokio.block_on(server.watch()).unwrap();
    let mut pending: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
    // Waits for a handler, for capacity, for an event, and for the deadline.
    pending.push(Box::pin(async { server.block(gate).await.unwrap() }));
    pending.push(Box::pin(async { server.note(1).await.unwrap() }));
    pending.push(Box::pin(async { server.note(2).await.unwrap() }));
    pending.push(Box::pin(async { while events.next().await != Some(Event::Killed) {} }));
    pending.push(Box::pin(async {
        let hasty = server.with_timeout(Duration::from_millis(1));
        hasty.block(gate).await.unwrap_err();
    }));
    pending.retain_mut(|future| future.as_mut().poll(&mut cx).is_pending());
    assert_eq!(pending.len(), 4, "one message fits into the mailbox");
    let others = [3, 4, 5].map(|n| {
        let server = server.clone();
        tokio.spawn(async move { server.note(n).await })
    });
    // The deadline.
    while panics.0.load(SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    // The executor is gone: what waited for it is dropped.
    pending.truncate(1);
    gate.open();
    for other in others {
        tokio.block_on(other).unwrap().unwrap();
    }
    tokio.block_on(server.kill()).unwrap();
    let late = server.with_timeout(Duration::from_mins(1));
    let mut seen = tokio.block_on(late.seen()).unwrap();
    seen.sort_unstable();
    assert_eq!(seen[seen.len() - 3..], [3, 4, 5]);
    assert!(panics.0.load(SeqCst) > 1);
}

#[tokio::test]
async fn senders_that_wait_for_capacity_keep_their_order() {
    for mailbox in [1, 2, 4] {
        let builder = Runtime::builder().defaults(Options::new().mailbox(mailbox));
        let runtime = builder.in_memory().await.unwrap();
        let server = runtime.at::<Wide>("a", ());
        let senders: Vec<_> = (0..50)
            .map(|n| {
                let server = server.clone();
                tokio::spawn(async move { server.note_slowly(n).await.unwrap() })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        assert_eq!(server.seen().await.unwrap(), (0..50).collect::<Vec<_>>());
    }
}

/// As [`Narrow`], with the runtime's own mailbox.
#[derive(Default, Serialize, Deserialize)]
struct Wide {
    seen: Vec<u32>,
}

#[persistent_server(call_timeout = "60s")]
impl Wide {
    #[cast]
    pub async fn note_slowly(&mut self, n: u32) {
        for _ in 0..3 {
            yield_now().await;
        }
        self.seen.push(n);
    }

    pub fn seen(&self) -> Vec<u32> {
        self.seen.clone()
    }
}

/// Waits, blocks and spawns.
#[derive(Default, Serialize, Deserialize)]
struct Worker {
    count: u64,
}

#[persistent_server]
impl Worker {
    pub fn add(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    #[cast]
    pub fn bump(&mut self) {
        self.count += 1;
    }

    pub async fn hang(&self) {
        std::future::pending::<()>().await;
    }

    pub async fn wait(&self, until: Gate) {
        until.wait().await;
    }

    /// Blocks its thread.
    pub async fn block(&self, blocked: Gate, until: Gate) {
        blocked.open();
        yield_now().await;
        while GATES[until.0].available_permits() == 0 {
            thread::yield_now();
        }
    }

    /// Starts work that ends later.
    pub fn spawn(&self, until: Gate, then: Gate) {
        tokio::spawn(async move {
            until.wait().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            then.open();
        });
    }
}

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The ways in which a caller is polled.
const CALLERS: [fn(CallerFuture) -> Outcome; 6] = [
    |call| futures::executor::block_on(call),
    |call| current_thread().block_on(call),
    |call| multi_thread().block_on(async { tokio::spawn(call).await.unwrap() }),
    |call| {
        // Without timers.
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(call)
    },
    |call| current_thread().block_on(tokio::task::unconstrained(call)),
    |call| tokio::task::LocalSet::new().block_on(&current_thread(), call),
];

type CallerFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Outcome = Vec<String>;

/// Uses each part of the interface once, and returns what it returned.
fn use_everything(runtime: Runtime) -> CallerFuture {
    fn name<T>(result: Result<T, CallError>) -> String {
        match result {
            Ok(_) => "ok".to_owned(),
            Err(CallError::Timeout { .. }) => "timeout".to_owned(),
            Err(CallError::RuntimeStopped { .. }) => "stopped".to_owned(),
            Err(error) => error.to_string(),
        }
    }
    Box::pin(async move {
        let client = runtime.at::<Worker>("used", ()).with_timeout(Duration::from_millis(50));
        let lazy = client.with_persist(Persist::OnStop);
        vec![
            name(client.bump().await),
            name(lazy.add().await),
            name(client.add().await),
            name(client.hang().await),
            name(client.stop("enough").await),
            name(client.watch().await),
            name(client.kill().await),
            name(client.reset().await),
        ]
    })
}

#[test]
fn a_caller_may_be_on_any_executor() {
    let home = multi_thread();
    for caller in CALLERS {
        let runtime = home.block_on(Runtime::in_memory()).unwrap();
        // A handler that never ends keeps `stop` waiting.
        let expected = ["ok", "ok", "ok", "timeout", "timeout", "ok", "ok", "ok"];
        assert_eq!(caller(use_everything(runtime.clone())), expected);
        let counts = runtime.clone();
        let outcome = caller(Box::pin(async move {
            let count = counts.count::<Worker>().await.unwrap();
            let mut keys = counts.keys::<Worker>();
            let key = keys.next().await.unwrap().unwrap();
            counts.shutdown(Duration::from_mins(1)).await.unwrap();
            vec![count.stored.to_string(), key.to_string()]
        }));
        assert_eq!(outcome, ["1", "used"]);
    }
}

#[test]
fn a_caller_meets_its_deadline_while_the_home_is_not_driven() {
    for caller in CALLERS {
        let home = current_thread();
        let runtime = home.block_on(Runtime::in_memory()).unwrap();
        let server = home.block_on(runtime.start::<Worker>("a", ())).unwrap();
        let hasty = server.with_timeout(Duration::from_millis(10));
        let outcome = caller(Box::pin(async move {
            assert!(matches!(hasty.hang().await, Err(CallError::Timeout { .. })));
            Vec::new()
        }));
        assert_eq!(outcome, Outcome::default());
        // The home goes on once it is driven again.
        home.block_on(server.kill()).unwrap();
        assert_eq!(home.block_on(server.add()).unwrap(), 1);
    }
}

#[test]
fn a_caller_meets_its_deadline_while_a_handler_blocks_the_home() {
    let home = multi_thread();
    let runtime = home.block_on(Runtime::in_memory()).unwrap();
    let (blocked, until) = (Gate(2), Gate(3));
    let blocking = home.spawn({
        let server = runtime.at::<Worker>("a", ());
        async move { server.with_timeout(Duration::MAX).block(blocked, until).await }
    });
    futures::executor::block_on(blocked.wait());
    let hasty = runtime.at::<Worker>("b", ()).with_timeout(Duration::from_millis(10));
    let late = futures::executor::block_on(hasty.hang());
    assert!(matches!(late, Err(CallError::Timeout { .. })), "{late:?}");
    until.open();
    home.block_on(blocking).unwrap().unwrap();
}

#[test]
fn once_the_home_is_gone_nothing_is_accepted() {
    for caller in CALLERS {
        for was_used in [false, true] {
            let home = multi_thread();
            let runtime = home.block_on(Runtime::in_memory()).unwrap();
            if was_used {
                home.block_on(runtime.at::<Worker>("used", ()).add()).unwrap();
            }
            drop(home);
            let expected =
                ["stopped", "stopped", "stopped", "stopped", "stopped", "ok", "ok", "ok"];
            assert_eq!(caller(use_everything(runtime.clone())), expected);
            caller(Box::pin(async move {
                let _ = runtime.shutdown(Duration::from_millis(10)).await;
                Vec::new()
            }));
        }
    }
}

#[test]
fn callers_that_wait_are_answered_when_the_home_goes() {
    let home = multi_thread();
    let runtime = home.block_on(Runtime::in_memory()).unwrap();
    let server = runtime.at::<Narrow>("a", ()).with_timeout(Duration::MAX);
    let waker = Waker::noop();
    let mut cx = TaskContext::from_waker(waker);
    let mut hangs = Box::pin(server.block(Gate(0)));
    let mut sends = Box::pin(async {
        server.note(1).await.unwrap();
        server.note(2).await
    });
    let _ = hangs.as_mut().poll(&mut cx);
    let sent = sends.as_mut().poll(&mut cx);
    drop(home);
    let hung = within_a_minute_blocking(hangs);
    // Another test may have opened the gate.
    assert!(hung.is_ok() || matches!(hung, Err(CallError::RuntimeStopped { .. })), "{hung:?}");
    if sent.is_pending() {
        let sent = within_a_minute_blocking(sends);
        assert!(matches!(sent, Err(CallError::RuntimeStopped { .. })), "{sent:?}");
    }
}

fn within_a_minute_blocking<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    let end = std::time::Instant::now() + Duration::from_mins(1);
    let mut cx = TaskContext::from_waker(Waker::noop());
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return done;
        }
        assert!(std::time::Instant::now() < end);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Never has nothing to do.
#[derive(Default, Serialize, Deserialize)]
struct Endless;

#[persistent_server]
impl Endless {
    #[started]
    fn start(&self, context: &Context<Self>) {
        context.continue_with(EndlessMessage::Step {});
    }

    #[info]
    fn step(&self, context: &Context<Self>) {
        context.continue_with(EndlessMessage::Step {});
    }

    pub fn touch(&self) {}
}

#[test]
fn an_endless_activation_does_not_hold_its_caller_past_the_deadline() {
    let home = multi_thread();
    for caller in CALLERS {
        let runtime = home.block_on(Runtime::in_memory()).unwrap();
        let outcome = caller(Box::pin(async move {
            let server = runtime.at::<Endless>("a", ()).with_timeout(Duration::from_millis(10));
            assert!(matches!(server.touch().await, Err(CallError::Timeout { .. })));
            server.kill().await.unwrap();
            Vec::new()
        }));
        assert_eq!(outcome, Outcome::default());
    }
}

#[test]
fn what_a_handler_spawns_outlives_its_callers_runtime() {
    let home = multi_thread();
    let runtime = home.block_on(Runtime::in_memory()).unwrap();
    let server = home.block_on(runtime.start::<Worker>("a", ())).unwrap();
    for caller in CALLERS {
        let (start, end) = (Gate(4), Gate(5));
        let calls = server.clone();
        caller(Box::pin(async move {
            calls.spawn(start, end).await.unwrap();
            Vec::new()
        }));
        start.open();
        home.block_on(end.wait());
        GATES[end.0].forget_permits(usize::MAX);
        GATES[start.0].forget_permits(usize::MAX);
    }
}

#[tokio::test]
async fn a_call_can_be_dropped_after_any_number_of_polls() {
    let storage = FaultyStorage::default();
    storage.on_commit(Fault::Slow(Duration::from_millis(1)));
    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    for kind in 0..4 {
        for polls in 1.. {
            let server = runtime.at::<Worker>(format!("{kind}/{polls}"), ());
            let mut call: Pin<Box<dyn Future<Output = ()> + Send>> = match kind {
                0 => Box::pin(async { assert_eq!(server.add().await.unwrap(), 1) }),
                1 => Box::pin(async { server.bump().await.unwrap() }),
                2 => Box::pin(async { server.stop("enough").await.unwrap() }),
                _ => Box::pin(async { drop(runtime.find::<Worker>("none").await) }),
            };
            let mut is_done = false;
            for _ in 0..polls {
                let mut one = Box::pin(std::future::poll_fn(|cx| {
                    is_done = call.as_mut().poll(cx).is_ready();
                    std::task::Poll::Ready(())
                }));
                one.as_mut().await;
                if is_done {
                    break;
                }
                yield_now().await;
            }
            drop(call);
            server.add().await.unwrap();
            if is_done || polls == 20 {
                break;
            }
        }
    }
    runtime.shutdown(Duration::from_mins(1)).await.unwrap();
}

#[derive(Default, Serialize, Deserialize)]
struct Log;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

#[persistent_server(mailbox = 10_000)]
impl Log {
    #[cast]
    pub fn look(&self) {
        HANDLED.fetch_add(1, SeqCst);
    }
}

/// Uses one thread, on which other tasks run only if the server's task yields.
#[tokio::test]
async fn a_full_queue_is_handled_in_several_polls() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.start::<Log>("a", ()).await.unwrap();
    let sender = tokio::spawn(tokio::task::unconstrained(async move {
        for _ in 0..5000 {
            let message = LogMessage::Look {};
            let mut cast = Box::pin(server.cast(message));
            // Sends without a yield.
            let _ = cast.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        }
    }));
    sender.await.unwrap();
    let mut last = HANDLED.load(SeqCst);
    while last < 5000 {
        yield_now().await;
        let now = HANDLED.load(SeqCst);
        assert!(now - last <= 128 + 1, "{} at once", now - last);
        last = now;
    }
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_runtime_without_timers_is_refused_at_once() {
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _ = bare.block_on(Runtime::in_memory());
}

/// A server whose calls have a late deadline.
#[derive(Default, Serialize, Deserialize)]
struct Napper;

#[persistent_server(call_timeout = "1h")]
impl Napper {
    pub async fn nap(&self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A caller that counts the references to it.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a call from this thread, in the context of `home` or outside of it.
#[test]
fn the_timer_of_a_deadline_does_not_keep_the_waker_of_a_caller_that_has_its_reply() {
    let home = multi_thread();
    let runtime = home.block_on(Runtime::in_memory()).unwrap();
    let napper = runtime.at::<Napper>("a", ());
    for inside in [true, false] {
        let _context = inside.then(|| home.enter());
        let caller = Arc::new(Unpark(thread::current()));
        let waker = Waker::from(caller.clone());
        let mut call = Box::pin(napper.nap());
        while call.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending() {
            thread::park();
        }
        drop((call, waker));
        // The thread that woke this one may still hold its reference.
        let begin = std::time::Instant::now();
        while Arc::strong_count(&caller) > 1 {
            assert!(begin.elapsed() < MINUTE, "the deadline keeps the waker");
            thread::yield_now();
        }
    }
}
