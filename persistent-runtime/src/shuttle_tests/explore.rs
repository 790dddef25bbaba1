//! The schedulers, and the runtime that a scenario runs on.

use std::{
    env,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use shuttle::{
    Config, MaxSteps, Runner,
    future::yield_now,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler},
};

use super::{
    monitor,
    server::{Entry, History, HistoryClient},
    storage::SlowStorage,
};
use crate::{Client, Options, Runtime, support::sync::shuttle as simulation};

/// The number of orders that are tried of each scenario by default.
const ORDERS: usize = 10_000;
/// The depth of probabilistic concurrency testing: one more than the number of times that the
/// scheduler leaves its preferred task. Most races need few such preemptions.
const PCT_DEPTH: usize = 4;
/// Longer than any timeout.
const LONG: Duration = Duration::from_hours(1);

/// The runtime, the storage and the one server of a scenario.
#[derive(Clone)]
pub(super) struct Fixture {
    runtime: Runtime,
    options: Options,
    key: Arc<str>,
    pub(super) storage: SlowStorage,
}

impl Fixture {
    /// Returns a new client of the server.
    pub(super) fn client(&self) -> HistoryClient {
        self.runtime.at::<History>(self.key.clone(), ())
    }

    /// Opens another runtime on a storage of its own.
    pub(super) async fn another_runtime(&self) -> Runtime {
        open(&self.options, &SlowStorage::default()).await
    }

    /// Stops the server and returns its stored entries.
    pub(super) async fn stored(&self) -> Vec<Entry> {
        let client = self.client();
        client.stop("to read what is stored").await.expect("the last state is saved");
        client.read().await.expect("the stored state is loaded")
    }

    /// Returns the entries that a new runtime finds in the storage.
    pub(super) async fn stored_for_new_runtime(&self) -> Vec<Entry> {
        let runtime = open(&self.options, &self.storage).await;
        let stored = runtime.at::<History>("a", ()).read().await;
        runtime.shutdown(LONG).await.expect("time does not advance");
        stored.expect("the stored state is loaded")
    }
}

impl Deref for Fixture {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

/// Runs `scenario` in many orders: a quarter of them random at each step, the others with few
/// preemptions.
///
/// # Panics
///
/// If the scenario panics, if it deadlocks, or if anything is left after it: a cell once all
/// servers are idle, or a task or an instance after the shutdown.
pub(super) fn explore(
    options: Options,
    scenario: impl AsyncFn(Fixture) + Clone + Send + Sync + 'static,
) {
    let orders = Orders::default();
    let count = orders.0.clone();
    let execute = move || {
        count.fetch_add(1, Ordering::Relaxed);
        execute(options.clone(), &scenario);
    };
    if let Ok(schedule) = env::var("SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), execute);
    }
    let orders = env::var("INTERLEAVINGS")
        .map_or(ORDERS, |orders| orders.parse().expect("INTERLEAVINGS is a number"));
    let random = orders / 4;
    run(RandomScheduler::new(random), execute.clone());
    run(PctScheduler::new(PCT_DEPTH, orders - random), execute);
}

/// Counts the orders, and prints the number of the one that failed.
#[derive(Default)]
struct Orders(Arc<AtomicUsize>);

impl Drop for Orders {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the order that failed is number {}", self.0.load(Ordering::Relaxed));
        }
    }
}

fn run(scheduler: impl Scheduler + 'static, execute: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    Runner::new(scheduler, config).run(execute);
}

async fn open(options: &Options, storage: &SlowStorage) -> Runtime {
    let opening = Runtime::builder().defaults(options.clone()).open_with(storage.clone());
    opening.await.expect("the options are valid")
}

/// Runs `scenario` in one order.
fn execute(options: Options, scenario: &impl AsyncFn(Fixture)) {
    monitor::begin();
    let (storage, key) = (SlowStorage::default(), Arc::from("a"));
    simulation::run(async {
        let runtime = open(&options, &storage).await;
        let (storage, key_of_server) = (storage.clone(), Arc::clone(&key));
        let fixture = Fixture { runtime: runtime.clone(), options, key: key_of_server, storage };
        scenario(fixture).await;
        // The cell holds the key.
        while Arc::strong_count(&key) > 1 {
            simulation::advance(LONG);
            yield_now().await;
        }
        let shutdown = runtime.shutdown(LONG).await;
        shutdown.expect("time does not advance");
    });
    monitor::end();
    assert_eq!(storage.clones(), 1, "a runtime holds the storage after its shutdown");
}
