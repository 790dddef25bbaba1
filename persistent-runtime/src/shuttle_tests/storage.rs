//! The storage of all scenarios.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use shuttle::{
    future::yield_now,
    rand::{Rng, thread_rng},
};

use super::{callers::pause, monitor::violation};
use crate::{
    Commit, Completion, MemoryStorage, Record, ServerId, Storage, StorageError, StorageFuture,
    forward_storage, support::sync::shuttle as simulation,
};

/// A storage in memory. Other tasks may run during its loads and commits.
#[derive(Clone, Default)]
pub(super) struct SlowStorage {
    states: MemoryStorage,
    faults: Arc<AtomicUsize>,
    held: Arc<AtomicBool>,
    in_flight: Arc<AtomicUsize>,
}

impl SlowStorage {
    /// Lets the next `commits` commits fail and store nothing.
    pub(super) fn fail(&self, commits: usize) {
        self.faults.store(commits, Ordering::SeqCst);
    }

    /// Blocks commits while `held` is true.
    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Returns the number of clones of this storage.
    pub(super) fn clones(&self) -> usize {
        Arc::strong_count(&self.faults)
    }
}

/// A load or commit in flight. Each scenario has one server, so at most one exists at a time.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            violation("two loads or commits of one server are in flight at once");
        }
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Storage for SlowStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        Box::pin(async move {
            let _in_flight = InFlight::begin(&self.in_flight);
            pause().await;
            self.states.load(id).await
        })
    }

    fn commit(&self, mut commit: Commit) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            let _in_flight = InFlight::begin(&self.in_flight);
            pause().await;
            while self.held.load(Ordering::SeqCst) {
                yield_now().await;
            }
            let faults = self.faults.load(Ordering::SeqCst);
            if faults > 0 {
                self.faults.store(faults - 1, Ordering::SeqCst);
                return Err(StorageError::other("refused on purpose"));
            }
            // A copy of the key: the count of references to the server's own shows whether the
            // server is still in memory.
            let server = &commit.server;
            commit.server = ServerId::new(server.kind().to_owned(), server.key());
            self.states.commit(commit).await?;
            pause().await;
            Ok(())
        })
    }

    /// Completes half of the commits from another task.
    fn submit(self: Arc<Self>, commit: Commit, completion: Completion) {
        if thread_rng().r#gen() {
            return completion.drive(async move { self.commit(commit).await });
        }
        simulation::spawn(async move {
            let outcome = self.commit(commit).await;
            drop(self);
            completion.complete(outcome);
        });
    }

    forward_storage!(self.states, except load, commit);
}
