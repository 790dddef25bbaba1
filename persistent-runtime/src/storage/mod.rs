//! Where states are kept: the seam between the runtime and a database.

use std::{fmt, iter, pin::Pin, sync::Arc};

use crate::{
    error::StorageError, id::ServerId, storage::encoded::Encoded, support::catch::catch_unwind,
};

pub(crate) mod encoded;
mod memory;
mod sqlite;

pub use memory::MemoryStorage;
pub use sqlite::SqliteStorage;

/// What the methods of a [`Storage`] return.
pub type StorageFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// One server's state as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The version of the state's shape, the attribute's `version`.
    pub version: u32,
    /// The encoding of `state`; a storage keeps it and makes nothing of it.
    pub format: u32,
    /// The encoded state.
    pub state: Encoded,
    /// The server's durable timers, encoded; empty when there are none. A
    /// storage keeps them and makes nothing of them.
    pub reminders: Vec<u8>,
    /// When the earliest of them is due, in milliseconds since 1970: what
    /// [`Storage::due`] looks for.
    pub due: Option<u64>,
    /// What the server has handled since `state` was taken, oldest first, of a
    /// server that journals its messages; empty for every other.
    pub messages: Vec<Arc<[u8]>>,
}

/// States may hold secrets: their size is all that is shown.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("version", &self.version)
            .field("format", &self.format)
            .field("bytes", &self.state.len())
            .field("due", &self.due)
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// One commit: what becomes of one server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Commit {
    /// The server.
    pub id: ServerId,
    /// What becomes of what is stored for it.
    pub update: Update,
}

/// What becomes of what is stored for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// This record takes its place.
    Put(Record),
    /// These go behind the messages of the record that is there.
    Append(Vec<Arc<[u8]>>),
    /// It is deleted.
    Delete,
}

impl Commit {
    /// `update` for the server `id`.
    #[must_use]
    pub fn new(id: ServerId, update: Update) -> Self {
        Self { id, update }
    }
}

impl Update {
    /// Has this and `next` happen at once. `next` comes later: what it replaces
    /// need not be written at all. Messages follow a record, or messages, never a
    /// delete.
    pub fn merge(&mut self, next: Self) {
        match (self, next) {
            (Self::Put(Record { messages, .. }) | Self::Append(messages), Self::Append(more)) => {
                messages.extend(more);
            }
            (update, next) => *update = next,
        }
    }

    /// What is stored behind this, where `record` was stored before: all that
    /// a simple storage needs to know.
    ///
    /// # Errors
    /// If messages are to go behind a record that isn't there.
    pub fn apply(self, record: Option<Record>) -> Result<Option<Record>, StorageError> {
        match (self, record) {
            (Self::Put(record), _) => Ok(Some(record)),
            (Self::Append(more), Some(mut record)) => {
                record.messages.extend(more);
                Ok(Some(record))
            }
            (Self::Append(_), None) => Err(StorageError::new("there is no record to append to")),
            (Self::Delete, _) => Ok(None),
        }
    }

    /// How much there is to write.
    fn bytes(&self) -> usize {
        let sum = |messages: &[Arc<[u8]>]| messages.iter().map(|message| message.len()).sum();
        match self {
            Self::Put(record) => {
                record.state.len() + record.reminders.len() + sum(&record.messages)
            }
            Self::Append(messages) => sum(messages),
            Self::Delete => 0,
        }
    }
}

/// Who is told of a commit, apart from any task; see [`Storage::submit`].
pub struct Completion(Option<Arc<dyn Committed>>);

/// The server that a commit is of.
pub(crate) trait Committed: Send + Sync {
    fn committed(self: Arc<Self>, outcome: Result<(), StorageError>);

    /// Has `work` done where the server's own is.
    fn delegate(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

impl Completion {
    pub(crate) fn new(server: Arc<dyn Committed>) -> Self {
        Self(Some(server))
    }

    /// Tells the outcome. What follows from it is done there and then, so no lock
    /// of the storage's may be held.
    pub fn done(mut self, outcome: Result<(), StorageError>) {
        self.tell(outcome);
    }

    /// Tells all of them that their commits are done, as [`done`](Self::done) does.
    /// Many are not told on this thread, so that the next commit need not wait for
    /// what follows.
    pub fn all_done(receipts: Vec<Self>) {
        /// So few are told sooner than another thread is woken.
        const FEW: usize = 4;
        /// Between these, other tasks have their turn.
        const MANY: usize = 128;
        if receipts.len() <= FEW {
            return receipts.into_iter().for_each(|receipt| receipt.done(Ok(())));
        }
        let mut receipts = receipts.into_iter();
        while let Some(first) = receipts.next() {
            let some: Vec<_> = iter::once(first).chain(receipts.by_ref().take(MANY - 1)).collect();
            let Some(server) = some[0].0.clone() else { continue };
            server.delegate(Box::new(|| some.into_iter().for_each(|receipt| receipt.done(Ok(())))));
        }
    }

    /// Nobody is to be told.
    pub(crate) fn void(mut self) {
        self.0 = None;
    }

    fn tell(&mut self, outcome: Result<(), StorageError>) {
        if let Some(server) = self.0.take() {
            // What a caller who has given up leaves behind may panic when dropped.
            let _ = catch_unwind(|| server.committed(outcome));
        }
    }
}

/// Dropped untold, it tells that the commit has failed.
impl Drop for Completion {
    fn drop(&mut self) {
        self.tell(Err(StorageError::new("the storage is gone")));
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Completion").finish()
    }
}

/// A place that keeps states.
///
/// The runtime has one; [`SqliteStorage`] and [`MemoryStorage`] are at hand,
/// and tests put their own in to count, delay or refuse.
///
/// The runtime has at most one commit of a server in flight, and loads a
/// server only when none is. It relies on this: **a commit whose future
/// resolves to `Ok` is durable**, and a later `load` returns it. A commit that
/// resolves to an error may or may not have happened, but never half; the
/// runtime loads the server again. A panic in a method counts as its error.
///
/// Dropping a future early is allowed at any time; its commit may still happen.
///
/// A storage that counts the commits of another:
///
/// ```
/// # use persistent_runtime::{persistent_server, Commit, MemoryStorage, Record, Runtime, ServerId, Storage, StorageFuture};
/// # use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
/// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } pub fn get(&self) -> u64 { self.0 } }
/// #[derive(Clone, Default)]
/// struct Counting { storage: MemoryStorage, commits: Arc<AtomicU64> }
///
/// impl Storage for Counting {
///     fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
///         self.storage.load(id)
///     }
///     fn commit(&self, change: Commit) -> StorageFuture<'_, ()> {
///         self.commits.fetch_add(1, Relaxed);
///         self.storage.commit(change)
///     }
///     fn keys<'a>(&'a self, kind: &'a str, after: Option<&'a str>, limit: usize) -> StorageFuture<'a, Vec<Arc<str>>> {
///         self.storage.keys(kind, after, limit)
///     }
///     fn due<'a>(&'a self, kind: &'a str, after: Option<(u64, &'a str)>, limit: usize) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
///         self.storage.due(kind, after, limit)
///     }
///     fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
///         self.storage.count(kind)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = Counting::default();
/// let runtime = Runtime::builder().open_with(storage.clone()).await?;
/// let counter = runtime.at::<Counter>("a", ());
/// counter.add().await?;
/// counter.get().await?;
/// assert_eq!(storage.commits.load(Relaxed), 2); // the first life, and the change
/// # Ok(()) }
/// ```
pub trait Storage: Send + Sync + 'static {
    /// The record of one server, `None` when there is none.
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>>;

    /// Makes one change durable, as a whole or not at all.
    fn commit(&self, change: Commit) -> StorageFuture<'_, ()>;

    /// As [`commit`](Self::commit), for a storage that has threads of its own to
    /// tell the outcome from: then a server that waits for nothing else needs no
    /// task to wait in. One that can't do so returns what it was given.
    ///
    /// The receipt may be told at any time, on any thread, even in here.
    fn submit(&self, change: Commit, receipt: Completion) -> Option<(Commit, Completion)> {
        Some((change, receipt))
    }

    /// The next `limit` keys of a kind in ascending order of their bytes,
    /// those behind `after`.
    fn keys<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>>;

    /// The next `limit` servers of a kind with durable timers, as when the
    /// earliest is due and the key, in ascending order of both, those behind
    /// `after`.
    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>>;

    /// How many servers of a kind are stored.
    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64>;

    /// Finishes what was begun and lets go of files and locks; may block.
    /// Every later call is an error. Called once at least, perhaps again.
    fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::*;

    type Work = Box<dyn FnOnce() + Send>;

    /// Counts what it is told, and keeps what it is to do.
    #[derive(Default)]
    struct Told {
        done: AtomicUsize,
        failed: AtomicUsize,
        work: Mutex<Vec<Work>>,
    }

    impl Committed for Told {
        fn committed(self: Arc<Self>, outcome: Result<(), StorageError>) {
            if outcome.is_ok() { &self.done } else { &self.failed }.fetch_add(1, Relaxed);
        }

        fn delegate(&self, work: Work) {
            self.work.lock().unwrap().push(work);
        }
    }

    #[test]
    fn each_of_many_receipts_is_told_once_and_many_are_told_elsewhere() {
        for count in [0, 1, 4, 5, 127, 128, 129, 1000] {
            let told = Arc::new(Told::default());
            Completion::all_done((0..count).map(|_| Completion::new(told.clone())).collect());
            let here = told.done.load(Relaxed);
            assert_eq!(here, if count <= 4 { count } else { 0 });
            for work in told.work.lock().unwrap().drain(..) {
                let before = told.done.load(Relaxed);
                work();
                assert!(told.done.load(Relaxed) - before <= 128, "others have their turn");
            }
            assert_eq!(told.done.load(Relaxed), count);
            assert_eq!(told.failed.load(Relaxed), 0);
        }
    }

    #[test]
    fn receipts_whose_telling_is_dropped_tell_that_it_has_failed() {
        let told = Arc::new(Told::default());
        Completion::all_done((0..10).map(|_| Completion::new(told.clone())).collect());
        told.work.lock().unwrap().clear();
        assert_eq!((told.done.load(Relaxed), told.failed.load(Relaxed)), (0, 10));
    }
}
