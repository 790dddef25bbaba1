//! What the order of events hangs on: locks, atomics, the registry's map, tasks,
//! time. Nothing else knows who decides that order: tokio and the operating system,
//! or, under `--cfg shuttle`, a scheduler that tries many orders.
//!
//! The rest of tokio that is used, its channels and its budget, asks no runtime for
//! anything but to wake whom it was given.

#[cfg(not(shuttle))]
pub(crate) use {
    dashmap::DashMap,
    std::{
        sync::{Mutex, MutexGuard, RwLock, atomic},
        thread_local,
    },
    tokio::{runtime, sync::Notify, task, time},
};

#[cfg(shuttle)]
pub(crate) use {
    ::shuttle::sync::{Mutex, MutexGuard, RwLock, atomic},
    ::shuttle::thread_local,
    shuttle::{Notify, runtime, task, time},
    shuttle_dashmap::DashMap,
};

#[cfg(shuttle)]
pub mod shuttle;
