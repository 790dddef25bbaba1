use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use persistent_runtime::{
    __shuttle as model, Commit, Completion, MemoryStorage, Record, ServerId, Storage, StorageError,
    StorageFuture, forward_storage,
};
use shuttle::{
    future::yield_now,
    rand::{Rng, thread_rng},
};

use crate::{explore::pause, log::wrong};

/// A storage in memory whose loads and commits take a moment, in which everything
/// else goes on.
#[derive(Clone, Default)]
pub struct SlowStorage {
    states: MemoryStorage,
    faults: Arc<AtomicUsize>,
    held: Arc<AtomicBool>,
    under_way: Arc<AtomicUsize>,
}

impl SlowStorage {
    /// The next `commits` fail, and store nothing.
    pub fn fail(&self, commits: usize) {
        self.faults.store(commits, Ordering::SeqCst);
    }

    /// Whether commits wait until this is called again.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// What is stored for a server.
    #[must_use]
    pub fn get(&self, id: &ServerId) -> Option<Record> {
        self.states.get(id)
    }

    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.faults)
    }
}

/// A load or a commit that is under way. Those of one server exclude each other,
/// and the scenarios have one server each.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            wrong("two loads or commits of one server at once");
        }
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Storage for SlowStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        Box::pin(async move {
            let _alone = UnderWay::begin(&self.under_way);
            pause().await;
            self.states.load(id).await
        })
    }

    fn commit(&self, mut commit: Commit) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            let _alone = UnderWay::begin(&self.under_way);
            pause().await;
            while self.held.load(Ordering::SeqCst) {
                yield_now().await;
            }
            let faults = self.faults.load(Ordering::SeqCst);
            if faults > 0 {
                self.faults.store(faults - 1, Ordering::SeqCst);
                return Err(StorageError::other("refused on purpose"));
            }
            // Not the key of the server's own, which shows whether it is gone.
            let server = &commit.server;
            commit.server = ServerId::new(server.kind().to_owned(), server.key());
            self.states.commit(commit).await?;
            pause().await;
            Ok(())
        })
    }

    /// Half of the commits are completed by a task of their own.
    fn submit(self: Arc<Self>, commit: Commit, completion: Completion) {
        if thread_rng().r#gen() {
            return completion.drive(async move { self.commit(commit).await });
        }
        model::spawn(async move {
            let outcome = self.commit(commit).await;
            drop(self);
            completion.complete(outcome);
        });
    }

    forward_storage!(self.states, except load, commit);
}
