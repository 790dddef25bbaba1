//! All primitives on which the order of events depends: locks, atomics, the registry's map, tasks
//! and time.
//!
//! This module is the only one that knows who decides that order: tokio and the operating system,
//! or, in unit tests under `--cfg shuttle`, a scheduler that tries many orders. The other parts of tokio in use,
//! its channels and its cooperative budget, only call wakers and need no replacement.
//!
//! # Poisoning
//!
//! [`Mutex::lock`], [`RwLock::read`] and [`RwLock::write`] return the guard, not a `Result`: a lock
//! is not poisoned by a panic. In return, each critical section must leave its value consistent
//! if it panics. Code of users, which may panic anywhere, runs outside of the locks, or its panics
//! are caught. Code outside this module never handles poisoning.

pub(crate) mod os;
#[cfg(all(test, shuttle))]
pub(crate) mod shuttle;

#[cfg(not(all(test, shuttle)))]
pub(crate) use {
    dashmap::DashMap,
    os::{Mutex, MutexGuard, RwLock},
    std::{sync::atomic, thread_local},
    tokio::{runtime, sync::Notify, task, time},
};

#[cfg(all(test, shuttle))]
pub(crate) use {
    ::shuttle::{
        sync::{MutexGuard, atomic},
        thread_local,
    },
    shuttle::{Mutex, Notify, RwLock, is_time_simulated, runtime, task, time},
    shuttle_dashmap::DashMap,
};

/// Returns true if a test has paused or moved tokio's clock.
#[cfg(not(all(test, shuttle)))]
pub(crate) fn is_time_simulated() -> bool {
    let before = std::time::Instant::now();
    let tokio = time::Instant::now().into_std();
    tokio < before || std::time::Instant::now() < tokio
}
