use std::{
    env,
    future::poll_fn,
    mem,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use persistent_runtime::{__shuttle as model, Client, Options, Runtime};
use shuttle::{
    Config, MaxSteps, Runner,
    future::{self, JoinHandle, yield_now},
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler},
};

use crate::{Log, LogClient, Mark, SlowStorage, log};

/// How many orders of each scenario are tried, if nobody says otherwise.
const ORDERS: usize = 10_000;
/// One more than how often a scheduler turns away from the task that it prefers.
/// Races need few turns, but the right ones.
const TURNS: usize = 4;

/// Longer than any timeout.
const LONG: Duration = Duration::from_hours(1);

/// A caller of its own, on a thread of its own as far as the order of events goes.
pub type Caller<T> = JoinHandle<T>;

/// Starts a caller.
pub fn caller<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Caller<T> {
    future::spawn(work)
}

/// A caller that moves time on.
#[must_use]
pub fn advance(by: Duration) -> Caller<()> {
    caller(async move { model::advance(by) })
}

/// An await that is not over at once. Unlike a yield it asks for nothing: a
/// scheduler that prefers this task goes on with it.
pub(crate) async fn pause() {
    let mut paused = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Lets time go on, a `step` at a time, until `work` is done.
pub async fn meanwhile<T>(step: Duration, work: Caller<T>) -> T {
    while !work.is_finished() {
        model::advance(step);
        yield_now().await;
    }
    work.await.expect("nobody aborts it")
}

/// What a scenario plays in.
#[derive(Clone)]
pub struct World {
    runtime: Runtime,
    options: Options,
    key: Arc<str>,
    /// What is stored.
    pub storage: SlowStorage,
}

impl World {
    /// A new client of the one server.
    #[must_use]
    pub fn log(&self) -> LogClient {
        self.runtime.at::<Log>(self.key.clone(), ())
    }

    /// A runtime on a storage of its own.
    pub async fn another(&self) -> Runtime {
        open(&self.options, &SlowStorage::default()).await
    }

    /// What of the one server is stored, and nothing that only memory has.
    pub async fn stored(&self) -> Vec<Mark> {
        let log = self.log();
        log.stop("a look").await.expect("the storage takes the last state");
        log.read().await.expect("the storage gives it back")
    }

    /// What the next runtime finds on the storage.
    pub async fn found_by_another(&self) -> Vec<Mark> {
        let runtime = open(&self.options, &self.storage).await;
        let found = runtime.at::<Log>("a", ()).read().await;
        runtime.shutdown(LONG).await.expect("time stands still");
        found.expect("the storage gives it back")
    }
}

impl Deref for World {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

/// Plays `scenario` in many orders of its events, some of them drawn at each
/// step, most with few turns. Nothing may be left after each: no cell once all is
/// idle, no task and no instance once the runtime has shut down.
pub fn explore(options: Options, scenario: impl AsyncFn(World) + Clone + Send + Sync + 'static) {
    let tried = Tried::default();
    let count = tried.0.clone();
    let play = move || {
        count.fetch_add(1, Ordering::Relaxed);
        play(options.clone(), &scenario);
    };
    if let Ok(schedule) = env::var("SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), play);
    }
    let orders = env::var("INTERLEAVINGS")
        .map_or(ORDERS, |orders| orders.parse().expect("INTERLEAVINGS is a number"));
    let drawn = orders / 4;
    run(RandomScheduler::new(drawn), play.clone());
    run(PctScheduler::new(TURNS, orders - drawn), play);
}

/// How many orders were tried, for who looks for one that fails.
#[derive(Default)]
struct Tried(Arc<AtomicUsize>);

impl Drop for Tried {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the order that failed is number {}", self.0.load(Ordering::Relaxed));
        }
    }
}

fn run(scheduler: impl Scheduler + 'static, play: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    Runner::new(scheduler, config).run(play);
}

async fn open(options: &Options, storage: &SlowStorage) -> Runtime {
    let opening = Runtime::builder().defaults(options.clone()).open_with(storage.clone());
    opening.await.expect("the options can be honoured")
}

fn play(options: Options, scenario: &impl AsyncFn(World)) {
    log::begin();
    let (storage, key) = (SlowStorage::default(), Arc::from("a"));
    model::run(async {
        let runtime = open(&options, &storage).await;
        let (storage, key_of) = (storage.clone(), Arc::clone(&key));
        scenario(World { runtime: runtime.clone(), options, key: key_of, storage }).await;
        while Arc::strong_count(&key) > 1 {
            model::advance(LONG);
            yield_now().await;
        }
        let shut_down = runtime.shutdown(LONG).await;
        shut_down.expect("time stands still");
    });
    log::end();
    assert_eq!(storage.holders(), 1, "nothing holds the storage, so nothing holds the runtime");
}
