//! Concurrent histories generated from seeds: there must be an order of events that
//! explains what the clients saw and what is stored at the end.
//!
//! `HISTORIES=1000000 PERSISTENT_SEED=7` tries a million histories, starting with seed 7. A failure
//! prints the command that runs one history only.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use persistent_tests::history::Plan;

/// The default number of histories.
const HISTORIES: u64 = 100_000;

/// Seeds of histories that failed in the past.
const REGRESSIONS: [u64; 1] = [108_695];

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// The seed of the running history.
static CURRENT: AtomicU64 = AtomicU64::new(0);

fn check(seed: u64) {
    CURRENT.store(seed, Ordering::SeqCst);
    let plan = Plan::generate(seed);
    if let Err(failure) = plan.run() {
        let (_, smallest) = plan.shrink(failure.clone());
        panic!(
            "{failure}\nwithout what it does not need: {smallest}\nagain: PERSISTENT_SEED={seed} \
             HISTORIES=1 cargo test -p persistent-tests --test search histories"
        );
    }
}

#[test]
fn each_history_has_an_explanation() {
    let first = number("PERSISTENT_SEED").unwrap_or(0);
    let count = number("HISTORIES").unwrap_or(HISTORIES);
    let search = thread::spawn(move || {
        REGRESSIONS.into_iter().chain(first..first + count).for_each(check);
    });
    // A loop that never waits would stop the virtual time, and so every deadline.
    let mut last = (u64::MAX, 0);
    while !search.is_finished() {
        thread::sleep(Duration::from_millis(20));
        let current = CURRENT.load(Ordering::SeqCst);
        last = if last.0 == current { (current, last.1 + 1) } else { (current, 0) };
        assert!(last.1 < 3_000, "history {current} never ends");
    }
    if let Err(panic) = search.join() {
        std::panic::resume_unwind(panic);
    }
}
