//! Stops, hooks, kills and shutdowns that fail half-way: the errors that callers get, and
//! the state that is stored.

use std::{
    ops::Bound,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::executor::block_on;
use persistent_runtime::{
    CallError, Client, Context, Event, MemoryStorage, Options, Persist, Reply, Restart, Runtime,
    ServerId, StopReason, Storage, StorageError, StorageFuture, forward_storage, persistent_server,
};
use persistent_tests::{Counter, Fault, FaultyStorage, finishes};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// A commit that fails while the slow `terminate` hook of `Farewell` is running.
const DURING_THE_HOOK: Fault = Fault::RefuseLate(Duration::from_millis(100));

/// A server with a `terminate` hook that takes longer than a commit, may change the state, and
/// sends deferred replies.
#[derive(Default, Serialize, Deserialize)]
struct Farewell {
    count: u64,
    last_words: String,
    #[serde(skip)]
    waiting: Vec<Reply<u64>>,
}

#[persistent_server]
impl Farewell {
    #[terminate]
    async fn terminate(&mut self, reason: &StopReason) {
        tokio::time::sleep(SECOND).await;
        if reason.to_string() == "note" {
            self.last_words = "noted".into();
        }
        for reply in self.waiting.drain(..) {
            self.last_words = "changed".into();
            reply.send(self.count);
        }
    }

    pub fn add(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub fn add_and_stop(&mut self, context: &Context<Self>) -> u64 {
        self.count += 1;
        context.stop("enough");
        self.count
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn wait(&mut self, reply: Reply<u64>) {
        self.waiting.push(reply);
    }
}

/// Regression: a handler that stopped its server was acknowledged before the final
/// commit, which the storage then refused.
#[tokio::test(start_paused = true)]
async fn a_refused_change_of_a_handler_that_stops_is_not_acknowledged() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    storage.on_commit(Fault::Refuse);
    let answer = server.increment_and_stop("enough".into()).await;
    storage.on_commit(Fault::None);
    assert!(matches!(answer, Err(CallError::Storage { .. })), "{answer:?}");
    assert_eq!(server.value().await.unwrap(), 1);
}

/// The same with a commit that fails while `terminate` runs. Regression: this failure was
/// ignored.
#[tokio::test(start_paused = true)]
async fn a_change_refused_during_terminate_is_not_acknowledged() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Farewell>("a", ());
    server.add().await.unwrap();
    storage.on_next_commit(DURING_THE_HOOK);
    let answer = server.add_and_stop().await;
    assert!(matches!(answer, Err(CallError::Storage { .. })), "{answer:?}");
    assert_eq!(server.count().await.unwrap(), 1);
}

/// Regression: under a weaker level the stop itself saves the state. It returned `Ok`
/// although that failed, and the change was lost.
#[tokio::test(start_paused = true)]
async fn a_stop_whose_save_is_refused_during_terminate_fails() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder()
        .defaults(Options::new().persist(Persist::OnStop))
        .open_with(storage.clone())
        .await
        .unwrap();
    let server = runtime.at::<Farewell>("a", ());
    server.add().await.unwrap();
    storage.on_next_commit(DURING_THE_HOOK);
    let stopped = server.stop("other").await;
    assert!(stopped.is_err(), "{stopped:?}");
}

/// Regression: the caller received an error for its change, and then the commit of
/// `terminate` stored the change.
#[tokio::test(start_paused = true)]
async fn a_failed_change_is_not_stored_by_terminate() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Farewell>("a", ());
    server.add().await.unwrap();
    storage.on_next_commit(DURING_THE_HOOK);
    let (added, stopped) = tokio::join!(server.add(), server.stop("note"));
    added.unwrap_err();
    assert_eq!(server.count().await.unwrap(), 1, "after the stop returned {stopped:?}");
}

/// Regression: replies from `terminate` were sent before its commit, even if that commit
/// failed.
#[tokio::test(start_paused = true)]
async fn a_reply_sent_in_terminate_fails_with_its_commit() {
    for refused in [false, true] {
        let storage = FaultyStorage::default();
        let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
        let server = runtime.at::<Farewell>("a", ());
        server.add().await.unwrap();
        let waiting = tokio::spawn({
            let server = server.clone();
            async move { server.wait().await }
        });
        tokio::time::sleep(SECOND).await;
        if refused {
            storage.on_next_commit(DURING_THE_HOOK);
        }
        assert_eq!(server.stop("other").await.is_err(), refused);
        assert_eq!(waiting.await.unwrap().is_err(), refused);
    }
}

/// Regression: a stop used the restart policy of the type for an unloaded server, and the
/// client's policy for a loaded one. One of the two deleted the state.
#[tokio::test(start_paused = true)]
async fn a_stop_follows_its_clients_restart_policy_for_loaded_and_unloaded_servers() {
    for idle in [0, 100] {
        let runtime = Runtime::builder()
            .defaults(Options::new().idle_timeout(10 * SECOND))
            .in_memory()
            .await
            .unwrap();
        let server = runtime
            .at::<Counter>("a", ())
            .with_options(Options::new().restart(Restart::Permanent))
            .unwrap();
        server.increment().await.unwrap();
        tokio::time::sleep(idle * SECOND).await;
        server.stop(StopReason::Finished).await.unwrap();
        assert_eq!(server.value().await.unwrap(), 1, "idle for {idle} s");
    }
}

/// An unload during a short storage failure keeps the unsaved changes.
#[tokio::test(start_paused = true)]
async fn a_refused_unload_loses_nothing_acknowledged() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder()
        .defaults(Options::new().persist(Persist::OnStop).idle_timeout(SECOND))
        .open_with(storage.clone())
        .await
        .unwrap();
    let server = runtime.at::<Counter>("a", ());
    for _ in 0..9 {
        server.increment().await.unwrap();
    }
    storage.on_commit(Fault::Refuse);
    tokio::time::sleep(2 * SECOND).await;
    storage.on_commit(Fault::None);
    assert!(storage.writes() > 0, "the unload was attempted");
    assert_eq!(server.value().await.unwrap(), 9);
}

/// Stops itself in `started` whenever it is loaded from the storage.
#[derive(Default, Serialize, Deserialize)]
struct Expired {
    count: u64,
}

#[persistent_server]
impl Expired {
    #[started]
    fn started(&self, context: &Context<Self>) {
        context.continue_with(ExpiredMessage::Check);
    }

    #[info]
    fn check(&self, context: &Context<Self>) {
        if self.count > 0 {
            context.stop("expired");
        }
    }

    pub fn add(&mut self) {
        self.count += 1;
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Regression: the message that activated the server waited for an activation that lasts,
/// so that the server was activated and stopped endlessly without a single yield.
#[test]
fn a_server_that_stops_in_started_fails_its_caller() {
    assert!(finishes(true, || async {
        let runtime = Runtime::in_memory().await.unwrap();
        let server = runtime.at::<Expired>("a", ());
        server.add().await.unwrap();
        server.stop("other").await.unwrap();
        let answer = server.count().await;
        assert!(answer.is_err(), "{answer:?}");
    }));
}

/// Regression: a shutdown could not end that loop.
#[test]
fn a_server_that_stops_in_started_does_not_delay_a_shutdown() {
    assert!(finishes(false, || async {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::open(folder.path().join("x.db")).await.unwrap();
        let server = runtime.at::<Expired>("a", ()).with_timeout(SECOND);
        server.add().await.unwrap();
        server.stop("other").await.unwrap();
        server.count().await.unwrap_err();
        runtime.shutdown(SECOND).await.unwrap();
    }));
}

/// Changes its state in a message from `started`, before any other message.
#[derive(Default, Serialize, Deserialize)]
struct Prepared {
    count: u64,
}

#[persistent_server]
impl Prepared {
    #[started]
    fn started(&self, context: &Context<Self>) {
        context.continue_with(PreparedMessage::Prepare);
    }

    #[info]
    async fn prepare(&mut self) {
        tokio::task::yield_now().await;
        self.count += 1;
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Regression: an effect of `started` that could not be stored was retried endlessly, and
/// the caller got no error.
#[test]
fn a_start_whose_first_change_is_refused_fails_its_caller() {
    assert!(finishes(true, || async {
        let storage = FaultyStorage::default();
        storage.on_commit(Fault::Refuse);
        let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
        let server = runtime.at::<Prepared>("a", ());
        let answer = tokio::time::timeout(SECOND, server.count()).await;
        assert!(matches!(answer, Ok(Err(CallError::Storage { .. }))), "{answer:?}");
        storage.on_commit(Fault::None);
        assert_eq!(server.count().await.unwrap(), 1);
    }));
}

/// Never reaches its first message.
#[derive(Default, Serialize, Deserialize)]
struct Circular;

#[persistent_server]
impl Circular {
    #[started]
    fn started(&self, context: &Context<Self>) {
        context.continue_with(CircularMessage::Step);
    }

    #[info]
    fn step(&self, context: &Context<Self>) {
        context.continue_with(CircularMessage::Step);
    }

    pub fn poke(&self) {}
}

/// Regression: an endless chain of continuations never yielded its thread, so that
/// neither deadlines nor a kill took effect.
#[test]
fn an_endless_chain_from_started_times_out_and_can_be_killed() {
    assert!(finishes(false, || async {
        let runtime = Runtime::in_memory().await.unwrap();
        let server = runtime.at::<Circular>("a", ());
        let answer = server.with_timeout(SECOND / 20).poke().await;
        assert!(matches!(answer, Err(CallError::Timeout { .. })), "{answer:?}");
        server.kill().await.unwrap();
        drop(runtime);
    }));
}

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MOST_ALIVE: AtomicUsize = AtomicUsize::new(0);
static DROPPING: AtomicBool = AtomicBool::new(false);

/// Counts its instances. The first one is slow to drop.
#[derive(Debug)]
struct Single;

impl Default for Single {
    fn default() -> Self {
        let alive = ALIVE.fetch_add(1, Ordering::SeqCst) + 1;
        MOST_ALIVE.fetch_max(alive, Ordering::SeqCst);
        Self
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        if !DROPPING.swap(true, Ordering::SeqCst) {
            thread::sleep(SECOND / 5);
        }
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Holder {
    #[serde(skip)]
    _single: Single,
}

#[persistent_server]
impl Holder {
    pub fn put(&self, context: &Context<Self>) {
        context.insert_resource("k", 7_u64);
    }

    pub fn get(&self, context: &Context<Self>) -> Option<u64> {
        context.resource::<u64>("k").map(|value| *value)
    }
}

/// Regression: a kill of an idle server let the next activation start before the old
/// instance was dropped. Two instances existed at once, and the end of the old one
/// removed the resources of the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_does_not_affect_the_next_activation() {
    // Otherwise a second value exists while the state is read back.
    let runtime = Runtime::builder().check_states(false).in_memory().await.unwrap();
    let server = runtime.at::<Holder>("a", ());
    let mut watch = server.watch().await.unwrap();
    server.get().await.unwrap();
    // The server is idle and has no task.
    tokio::time::sleep(SECOND / 50).await;
    let killer = thread::spawn({
        let server = server.clone();
        move || futures::executor::block_on(server.kill()).unwrap()
    });
    while !DROPPING.load(Ordering::SeqCst) {
        tokio::time::sleep(SECOND / 1000).await;
    }
    server.put().await.unwrap();
    assert_eq!(server.get().await.unwrap(), Some(7));
    killer.join().unwrap();
    assert_eq!(server.get().await.unwrap(), Some(7));
    assert_eq!(MOST_ALIVE.load(Ordering::SeqCst), 1);
    for event in [Event::Started, Event::Killed, Event::Started] {
        assert_eq!(watch.next().await, Some(event));
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Fuse {
    burnt: u64,
}

#[persistent_server(persist = on_stop)]
impl Fuse {
    #[started]
    fn lay(&mut self, context: &Context<Self>) {
        if context.key() == "short" {
            context.continue_with(FuseMessage::Blow);
        }
    }

    pub async fn wait(&self) {
        tokio::task::yield_now().await;
    }

    pub fn burn(&mut self) -> u64 {
        self.burnt += 1;
        self.burnt
    }

    pub fn blow(&self, context: &Context<Self>) {
        futures::executor::block_on(context.client().kill()).unwrap();
    }
}

#[tokio::test]
async fn messages_queued_behind_a_kill_start_a_new_activation() {
    let runtime = Runtime::in_memory().await.unwrap();
    let fuse = runtime.at::<Fuse>("a", ());
    fuse.wait().await.unwrap();
    let (.., before, _, after) = tokio::join!(fuse.wait(), fuse.burn(), fuse.blow(), fuse.burn());
    assert_eq!((before.unwrap(), after.unwrap()), (1, 1));
}

#[tokio::test]
async fn a_kill_before_the_first_message_takes_effect() {
    let runtime = Runtime::in_memory().await.unwrap();
    let burnt = runtime.at::<Fuse>("short", ()).burn().await;
    assert!(matches!(burnt, Err(CallError::Killed { .. })), "{burnt:?}");
}

/// Regression: a cast that arrived between the last poll of the mailbox and its closing
/// returned `Ok` and was never handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_shutdown_loses_no_accepted_cast() {
    let begin = Instant::now();
    for round in 0_u32.. {
        if begin.elapsed() > 3 * SECOND / 2 {
            break;
        }
        let storage = MemoryStorage::new();
        let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
        let server = runtime.at::<Counter>("a", ());
        let go = Arc::new(AtomicBool::new(false));
        let caster = thread::spawn({
            let go = go.clone();
            move || {
                while !go.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                for _ in 0..round % 400 {
                    std::hint::spin_loop();
                }
                block_on(server.bump()).is_ok()
            }
        });
        go.store(true, Ordering::Release);
        for _ in 0..round * 7 % 3000 {
            std::hint::spin_loop();
        }
        runtime.shutdown(SECOND).await.unwrap();
        let taken = caster.join().unwrap();
        let stored = storage.get(&ServerId::new("Counter", "a")).is_some();
        assert_eq!(taken, stored, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_flight_ends_after_its_runtime() {
    for by_shutdown in [false, true] {
        let storage = FaultyStorage::default();
        storage.on_commit(Fault::Slow(SECOND));
        let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
        let server = runtime.at::<Counter>("a", ());
        let call = tokio::spawn(async move { server.increment().await });
        tokio::time::sleep(SECOND / 10).await;
        if by_shutdown {
            runtime.shutdown(SECOND / 100).await.unwrap_err();
        } else {
            drop(runtime);
        }
        assert_eq!(call.await.unwrap().unwrap(), 1, "by a shutdown: {by_shutdown}");
        assert!(storage.states.get(&ServerId::new("Counter", "a")).is_some());
    }
}

/// Changes without commits, and handlers of each kind that are at work when a shutdown comes.
#[derive(Default, Serialize, Deserialize)]
struct Game {
    moves: u64,
    steps: u64,
    is_over: bool,
}

#[persistent_server(persist = on_stop, call_timeout = "100s")]
impl Game {
    #[terminate]
    fn terminate(&mut self) {
        self.is_over = true;
    }

    pub fn play(&mut self) -> u64 {
        self.moves += 1;
        self.moves
    }

    pub async fn look(&self, wait: Duration) -> u64 {
        tokio::time::sleep(wait).await;
        self.moves
    }

    pub async fn ponder(&mut self, wait: Duration) -> u64 {
        self.moves += 1000;
        tokio::time::sleep(wait).await;
        self.moves += 1000;
        self.moves
    }

    #[cast]
    pub async fn step(&mut self) {
        tokio::time::sleep(SECOND / 10).await;
        self.steps += 1;
    }

    #[cast]
    pub async fn go_on(&mut self, context: &Context<Self>) {
        tokio::time::sleep(SECOND / 10).await;
        context.continue_with(GameMessage::GoOn);
    }

    pub fn state(&self) -> (u64, u64, bool) {
        (self.moves, self.steps, self.is_over)
    }
}

async fn game(storage: &FaultyStorage) -> (Runtime, GameClient) {
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let game = runtime.at::<Game>("a", ());
    for _ in 0..100 {
        game.play().await.unwrap();
    }
    (runtime, game)
}

async fn after(storage: &FaultyStorage) -> (u64, u64, bool) {
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    runtime.at::<Game>("a", ()).state().await.unwrap()
}

/// The deadline of a shutdown ends handlers that wait. What was acknowledged before is saved.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_shutdown_loses_no_acknowledged_change() {
    for work in ["read", "change", "chain", "casts"] {
        let storage = FaultyStorage::default();
        let (runtime, game) = game(&storage).await;
        let caller = game.clone();
        match work {
            "read" => drop(tokio::spawn(async move { caller.look(50 * SECOND).await })),
            "change" => drop(tokio::spawn(async move { caller.ponder(50 * SECOND).await })),
            "chain" => game.go_on().await.unwrap(),
            _ => {
                for _ in 0..200 {
                    game.step().await.unwrap();
                }
            }
        }
        tokio::time::sleep(SECOND / 20).await;
        let begin = tokio::time::Instant::now();
        let error = runtime.shutdown(SECOND).await.unwrap_err();
        assert_eq!((error.unfinished, error.unsaved_count), (1, 0), "{work}: {error}");
        assert!(begin.elapsed() < 2 * SECOND);
        let steps = if work == "casts" { 10 } else { 0 };
        assert_eq!(after(&storage).await, (100, steps, false), "{work}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_retries_a_refused_save_until_its_deadline() {
    let storage = FaultyStorage::default();
    let (runtime, _game) = game(&storage).await;
    storage.on_commit(Fault::Refuse);
    let heal = async {
        tokio::time::sleep(SECOND / 2).await;
        storage.on_commit(Fault::None);
    };
    let (shutdown, ()) = tokio::join!(runtime.shutdown(5 * SECOND), heal);
    shutdown.unwrap();
    assert_eq!(after(&storage).await, (100, 0, true));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_names_the_servers_that_it_could_not_save() {
    for fault in [Fault::Refuse, Fault::RefuseLate(SECOND / 2), Fault::Panic, Fault::Hang] {
        let storage = FaultyStorage::default();
        let (runtime, _game) = game(&storage).await;
        runtime.at::<Counter>("bystander", ()).increment().await.unwrap();
        storage.on_commit(fault);
        let begin = tokio::time::Instant::now();
        let error = runtime.shutdown(3 * SECOND).await.unwrap_err();
        assert!(begin.elapsed() <= 4 * SECOND, "{fault:?}: {:?}", begin.elapsed());
        let servers: Vec<_> = error.unsaved.iter().map(|unsaved| &unsaved.server).collect();
        assert_eq!(servers, [&ServerId::new("Game", "a")], "{error}");
        assert_eq!(error.unsaved_count, 1);
        assert!(error.to_string().contains("Game \"a\""), "{error}");
        storage.on_commit(Fault::None);
        assert_eq!(after(&storage).await, (0, 0, false));
    }
}

#[tokio::test(start_paused = true)]
async fn the_list_of_unsaved_servers_is_bounded() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    for n in 0..150 {
        runtime.at::<Game>(n.to_string(), ()).play().await.unwrap();
    }
    storage.on_commit(Fault::Refuse);
    let error = runtime.shutdown(SECOND).await.unwrap_err();
    assert_eq!((error.unsaved.len(), error.unsaved_count), (100, 150));
    assert!(error.unsaved[0].reason.contains("refused"), "{error}");
}

#[derive(Default, Serialize, Deserialize)]
struct Admin {
    orders: u64,
}

#[persistent_server(call_timeout = "100s")]
impl Admin {
    /// Shuts down its own runtime.
    pub async fn halt(&mut self, context: &Context<Self>) -> bool {
        self.orders += 1;
        let runtime = context.extension::<Slot>().unwrap().0.lock().unwrap().take().unwrap();
        runtime.shutdown(10 * SECOND).await.is_ok()
    }
}

/// A place for a runtime that is known to its own handlers.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<Runtime>>>);

#[tokio::test]
async fn a_handler_can_shut_its_runtime_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let slot = Slot::default();
    let runtime = Runtime::builder().extension(slot.clone()).open(&path).await.unwrap();
    let admin = runtime.at::<Admin>("a", ());
    *slot.0.lock().unwrap() = Some(runtime.clone());
    assert!(admin.halt().await.unwrap(), "the reply of the handler arrives");
    // Waits for the shutdown that the handler began.
    runtime.shutdown(10 * SECOND).await.unwrap();
    let runtime = Runtime::open(&path).await.unwrap();
    assert!(runtime.find::<Admin>("a").await.is_ok(), "its change is stored");
    runtime.shutdown(10 * SECOND).await.unwrap();
}

#[test]
fn a_runtime_is_counted_listed_and_shut_down_outside_of_tokio() {
    let folder = tempfile::tempdir().unwrap();
    let home = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let open = async {
        let memory = Runtime::in_memory().await.unwrap();
        [memory, Runtime::open(folder.path().join("a.db")).await.unwrap()]
    };
    for runtime in home.block_on(open) {
        block_on(runtime.at::<Counter>("a", ()).increment()).unwrap();
        assert_eq!(block_on(runtime.count::<Counter>()).unwrap().stored, 1);
        let mut keys = runtime.keys::<Counter>();
        assert_eq!(&*block_on(keys.next()).unwrap().unwrap(), "a");
        assert!(block_on(keys.next()).is_none());
        block_on(runtime.shutdown(SECOND)).unwrap();
    }
}

/// A runtime whose tokio runtime is gone can still be shut down.
#[test]
fn a_shutdown_after_its_tokio_runtime_says_what_was_not_saved() {
    let home = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let storage = FaultyStorage::default();
    let (runtime, _game) = home.block_on(game(&storage));
    drop(home);
    let error = block_on(runtime.shutdown(SECOND)).unwrap_err();
    assert_eq!(error.unsaved_count, 1, "{error}");
}

/// A storage that cannot list its servers, or never answers.
#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_the_activation_of_permanent_servers() {
    for hangs in [false, true] {
        let storage = Unlisted { states: MemoryStorage::new(), hangs };
        let runtime = Runtime::builder().register::<Guard>().open_with(storage).await.unwrap();
        runtime.at::<Guard>("a", ()).touch().await.unwrap();
        tokio::time::sleep(SECOND).await;
        let begin = tokio::time::Instant::now();
        runtime.shutdown(2 * SECOND).await.unwrap();
        assert!(begin.elapsed() < SECOND, "hangs: {hangs}");
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Guard;

#[persistent_server(restart = permanent)]
impl Guard {
    pub fn touch(&self) {}
}

struct Unlisted {
    states: MemoryStorage,
    hangs: bool,
}

impl Storage for Unlisted {
    fn keys<'a>(
        &'a self,
        _: &'a str,
        _: Bound<&'a str>,
        _: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let hangs = self.hangs;
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Err(StorageError::other("cannot list"))
        })
    }

    forward_storage!(self.states, except keys);
}

/// A storage whose disk hangs when it closes.
struct NeverClosed(MemoryStorage);

impl Storage for NeverClosed {
    fn close(&self) -> StorageFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    forward_storage!(self.0, except close);
}

#[tokio::test]
async fn a_storage_that_does_not_close_is_reported_after_the_deadline() {
    let runtime = Runtime::builder().open_with(NeverClosed(MemoryStorage::new())).await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    let error = runtime.shutdown(SECOND / 10).await.unwrap_err();
    assert_eq!((error.unfinished, error.unsaved_count, error.is_storage_open), (0, 0, true));
    assert!(error.to_string().contains("could not be closed in time"), "{error}");
}
