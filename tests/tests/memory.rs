//! Repeated operations do not grow the process.
#![cfg(target_os = "linux")]

use std::{fs, time::Duration};

use persistent_runtime::{Client, Options, Persist, Runtime};
use persistent_tests::Counter;
use tokio::sync::Mutex;

/// Memory is measured per process, so that only one test may run at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Returns the number of resident pages.
fn pages() -> usize {
    let sizes = fs::read_to_string("/proc/self/statm").unwrap();
    sizes.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Returns the growth in KiB after `times` further runs of `work`.
async fn growth(warm_up: u32, times: u32, mut work: impl AsyncFnMut()) -> usize {
    for _ in 0..warm_up {
        work().await;
    }
    let before = pages();
    for _ in 0..times {
        work().await;
    }
    pages().saturating_sub(before) * 4
}

/// Regression: each flush left an entry in the expiry queue until the idle timeout.
#[tokio::test(start_paused = true)]
async fn a_server_that_flushes_often_does_not_grow() {
    let _alone = ALONE.lock().await;
    let pause = Duration::from_millis(1);
    let month = Duration::from_hours(30 * 24);
    let options = Options::new().persist(Persist::Every(pause)).idle_timeout(month);
    let runtime = Runtime::builder().configure::<Counter>(options).in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    let grown = growth(10_000, 100_000, async || {
        server.increment().await.unwrap();
        tokio::time::sleep(3 * pause).await;
    });
    let grown = grown.await;
    assert!(grown < 1024, "{grown} KiB more");
}

/// Regression: a dropped event stream stayed in the list of its server until the next
/// event, which an idle server does not have.
#[tokio::test(start_paused = true)]
async fn dropped_watches_are_forgotten() {
    let _alone = ALONE.lock().await;
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    let grown = growth(1000, 20_000, async || {
        drop(server.watch().await.unwrap());
        server.value().await.unwrap();
    });
    let grown = grown.await;
    assert!(grown < 1024, "{grown} KiB more");
}
