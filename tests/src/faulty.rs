use std::{
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use persistent_runtime::{
    Change, MemoryStorage, Record, ServerId, Storage, StorageError, StorageFuture, Update,
};

/// What a faulty storage does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// What it should.
    #[default]
    None,
    /// Fails, and has done nothing.
    Refuse,
    /// Fails, but has done it.
    RefuseThoughDone,
    /// Never answers.
    Hang,
    /// Answers late.
    Slow(Duration),
    /// Fails late, and has done nothing.
    RefuseLate(Duration),
    /// Panics.
    Panic,
}

/// A storage in memory that counts what it does, and does it wrong on request.
#[derive(Clone, Default)]
pub struct FaultyStorage {
    /// What is stored.
    pub states: MemoryStorage,
    content: Arc<Content>,
}

#[derive(Default)]
struct Content {
    on_load: Mutex<Fault>,
    on_commit: Mutex<Fault>,
    on_next_commit: Mutex<Option<Fault>>,
    loads: AtomicUsize,
    writes: AtomicUsize,
    wipes: AtomicUsize,
}

impl FaultyStorage {
    /// Every load from now on goes like this.
    pub fn on_load(&self, fault: Fault) {
        *self.content.on_load.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Every commit from now on goes like this.
    pub fn on_commit(&self, fault: Fault) {
        *self.content.on_commit.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The next commit goes like this, those after it as before.
    pub fn on_next_commit(&self, fault: Fault) {
        *self.content.on_next_commit.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// How many clones of this storage there are, with this one:
    /// a runtime that is really gone has dropped its own.
    #[must_use]
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.content)
    }

    /// How many loads there were.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.content.loads.load(Ordering::SeqCst)
    }

    /// How many commits of a state there were.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.content.writes.load(Ordering::SeqCst)
    }

    /// How many commits of a wipe there were.
    #[must_use]
    pub fn wipes(&self) -> usize {
        self.content.wipes.load(Ordering::SeqCst)
    }
}

fn refused() -> StorageError {
    StorageError::new("refused by the test")
}

impl Storage for FaultyStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        self.content.loads.fetch_add(1, Ordering::SeqCst);
        let fault = *self.content.on_load.lock().unwrap_or_else(PoisonError::into_inner);
        Box::pin(async move {
            match fault {
                Fault::None => {}
                Fault::Refuse | Fault::RefuseThoughDone => return Err(refused()),
                Fault::Hang => pending().await,
                Fault::Slow(wait) => tokio::time::sleep(wait).await,
                Fault::RefuseLate(wait) => {
                    tokio::time::sleep(wait).await;
                    return Err(refused());
                }
                Fault::Panic => panic!("the storage panics"),
            }
            self.states.load(id).await
        })
    }

    fn commit(&self, change: Change) -> StorageFuture<'_, ()> {
        let count = match change.update {
            Update::Wipe => &self.content.wipes,
            Update::Put(_) | Update::Append(_) => &self.content.writes,
        };
        count.fetch_add(1, Ordering::SeqCst);
        let next =
            self.content.on_next_commit.lock().unwrap_or_else(PoisonError::into_inner).take();
        let always = *self.content.on_commit.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = next.unwrap_or(always);
        Box::pin(async move {
            match fault {
                Fault::None => {}
                Fault::Refuse => return Err(refused()),
                Fault::RefuseThoughDone => {
                    self.states.commit(change).await?;
                    return Err(refused());
                }
                Fault::Hang => pending().await,
                Fault::Slow(wait) => tokio::time::sleep(wait).await,
                Fault::RefuseLate(wait) => {
                    tokio::time::sleep(wait).await;
                    return Err(refused());
                }
                Fault::Panic => panic!("the storage panics"),
            }
            self.states.commit(change).await
        })
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        self.states.keys(kind, after, limit)
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        self.states.due(kind, after, limit)
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        self.states.count(kind)
    }
}
