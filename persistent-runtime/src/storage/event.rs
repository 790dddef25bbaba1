//! Events of a storage's work in the background.

use std::fmt;

use super::StorageError;
use crate::support::catch::catch_unwind;

/// Something that happened in the background work of a storage.
/// [`Observer::on_storage_event`](crate::Observer::on_storage_event) receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StorageEvent {
    /// Work in the background has failed. It is tried again, and commits go on meanwhile. If it
    /// fails for long, a bound of the storage is reached, and commits are refused with this error.
    ///
    /// Reported once, and again if the kind of the error changes.
    Failed {
        /// The work that failed.
        work: StorageWork,
        /// Why it failed.
        error: StorageError,
    },
    /// Work that had failed has succeeded.
    Recovered {
        /// The work that succeeded.
        work: StorageWork,
    },
}

/// The work of a storage in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageWork {
    /// Moving commits from the commit log into the tables.
    Flush,
    /// Moving pages from the write-ahead log into the database file.
    Checkpoint,
}

/// A receiver of the events of a storage, which the runtime gives to
/// [`Storage::observe`](crate::Storage::observe).
pub struct StorageObserver(Box<dyn Fn(&StorageEvent) + Send + Sync>);

impl StorageObserver {
    /// Creates an observer that calls `notify`.
    pub fn new(notify: impl Fn(&StorageEvent) + Send + Sync + 'static) -> Self {
        Self(Box::new(notify))
    }

    /// Reports an event. A panic of the receiver ends here.
    pub fn notify(&self, event: &StorageEvent) {
        let _ = catch_unwind(|| (self.0)(event));
    }
}

impl fmt::Debug for StorageObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageObserver").finish_non_exhaustive()
    }
}
