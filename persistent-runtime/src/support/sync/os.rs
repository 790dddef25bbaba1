//! Locks of the operating system without poisoning. [`sync`](super) says why.
//!
//! `sync::Mutex` and `sync::RwLock` are these, except in unit tests under `--cfg shuttle`. Code whose threads
//! shuttle does not schedule, such as the writer thread of the SQLite storage, uses them directly.

use std::sync::{self, LockResult, PoisonError};

pub(crate) use std::sync::MutexGuard;
#[cfg(not(all(test, shuttle)))]
use std::sync::{RwLockReadGuard, RwLockWriteGuard};

/// A [`std::sync::Mutex`] without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        ignore_poison(self.0.lock())
    }

    #[cfg(not(all(test, shuttle)))]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        ignore_poison(self.0.get_mut())
    }
}

/// A [`std::sync::RwLock`] without poisoning.
#[cfg(not(all(test, shuttle)))]
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(sync::RwLock<T>);

#[cfg(not(all(test, shuttle)))]
impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        ignore_poison(self.0.read())
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        ignore_poison(self.0.write())
    }
}

/// Turns the result of a lock operation into its value, e.g. of a wait on a
/// [`Condvar`](std::sync::Condvar).
pub(crate) fn ignore_poison<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
