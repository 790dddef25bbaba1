//! Where records are kept: the seam between the runtime and a database.

use std::{ops::Bound, path::Path, pin::Pin, sync::Arc};

use crate::id::ServerId;

pub use commit::{Commit, Update};
pub(crate) use completion::CommitHost;
pub use completion::Completion;
pub use error::{StorageError, StorageErrorKind};
pub use event::{StorageEvent, StorageObserver, StorageWork};
pub use memory::MemoryStorage;
pub use record::Record;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStorage};

mod commit;
mod completion;
pub(crate) mod encoded;
mod error;
mod event;
mod forward;
mod memory;
mod record;
#[cfg(feature = "sqlite")]
mod sqlite;

/// The future that the methods of a [`Storage`] return.
pub type StorageFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// A place that keeps the records of servers.
///
/// This crate has [`SqliteStorage`] and [`MemoryStorage`]. Other implementations connect another
/// database, or wrap a storage to count, delay or refuse; [`forward_storage!`] writes the methods
/// that a wrapper does not change. `Arc<dyn Storage>` is a storage, too, so a program can choose
/// one at run time. The module `testing::conformance`, behind the feature `testing`, tests an
/// implementation.
///
/// # What the runtime relies on
///
/// - **A commit that reports `Ok` is durable**, and every later [`load`](Self::load) returns it.
/// - A commit that reports an error may or may not have happened, but never in part. The runtime
///   then loads the server again.
/// - A commit of one server is independent of the commits of all others.
///
/// # What a storage can rely on
///
/// - At most one commit per server is in flight, and a server is loaded only while none is. After
///   an error, or after the future of a commit was dropped, the runtime may load the server before
///   that commit has ended.
/// - Any future may be dropped early. Its commit may still happen.
/// - After [`close`](Self::close) was called, the runtime submits nothing more. Calls that are in
///   flight at that time may end in an error.
///
/// A panic in a method is reported to the caller as an error of that call.
///
/// ```
/// # use persistent_runtime::{forward_storage, persistent_server, Commit, MemoryStorage, Runtime, Storage, StorageFuture};
/// # use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
/// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } pub fn get(&self) -> u64 { self.0 } }
/// /// Counts the commits of a storage in memory.
/// #[derive(Clone, Default)]
/// struct Counting {
///     inner: MemoryStorage,
///     commits: Arc<AtomicU64>,
/// }
///
/// impl Storage for Counting {
///     fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
///         self.commits.fetch_add(1, Relaxed);
///         self.inner.commit(commit)
///     }
///
///     forward_storage!(self.inner, except commit);
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = Counting::default();
/// let runtime = Runtime::builder().open_with(storage.clone()).await?;
/// let counter = runtime.at::<Counter>("a", ());
/// counter.add().await?;
/// counter.get().await?;
/// assert_eq!(storage.commits.load(Relaxed), 1); // the creation together with the change
/// # Ok(()) }
/// ```
///
/// [`forward_storage!`]: crate::forward_storage
pub trait Storage: Send + Sync + 'static {
    /// Returns the record of one server, or `None` if there is none.
    fn load<'a>(&'a self, server: &'a ServerId) -> StorageFuture<'a, Option<Record>>;

    /// Makes one commit durable, as a whole or not at all.
    fn commit(&self, commit: Commit) -> StorageFuture<'_, ()>;

    /// Begins a commit and reports its outcome through `completion`. The runtime submits all its
    /// commits by this method.
    ///
    /// The default drives [`commit`](Self::commit). A storage with threads of its own overrides it
    /// and completes from there, so that a waiting server needs no task.
    ///
    /// The completion may be used at any time, on any thread, in any order, and also before this
    /// method returns.
    fn submit(self: Arc<Self>, commit: Commit, completion: Completion) {
        completion.drive(async move { self.commit(commit).await });
    }

    /// Returns the first `limit` kinds after `after` of which at least one server is stored, in
    /// ascending order of their bytes.
    fn kinds<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>>;

    /// Returns the first `limit` keys of a kind from `from`, in ascending order of their bytes.
    fn keys<'a>(
        &'a self,
        kind: &'a str,
        from: Bound<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>>;

    /// Returns the first `limit` servers of a kind with [`Record::due`] after `after`, each as its
    /// due time and its key, in ascending order of the two.
    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>>;

    /// Returns how many servers of a kind are stored.
    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64>;

    /// Writes a consistent copy of everything that is stored into a new file, which this storage can
    /// open. It has at least all commits that had ended before the call. Commits go on meanwhile.
    ///
    /// The default returns an error: a database server has backups of its own.
    fn backup<'a>(&'a self, path: &'a Path) -> StorageFuture<'a, ()> {
        let _ = path;
        Box::pin(async { Err(StorageError::other("this storage writes no backups")) })
    }

    /// Takes a receiver of the events of the storage's work in the background. The runtime calls
    /// this at most once, when it opens.
    ///
    /// The default drops it: for a storage without such work.
    fn observe(&self, observer: StorageObserver) {
        drop(observer);
    }

    /// Ends all commits that were submitted, and releases files, locks and connections.
    ///
    /// The call itself closes the storage: every later call of another method answers
    /// [`StorageErrorKind::Closed`]. The future is ready once everything is released; the storage
    /// finishes that if the future is dropped, without work that can wait until the storage is opened
    /// again. Further calls of `close` wait for the same end
    /// and answer `Ok`.
    ///
    /// The runtime calls this once from `Runtime::shutdown` or from the drop of the last
    /// `Runtime`, and does not use the storage afterwards. A drop cannot await: it blocks its
    /// thread until the future is ready, ten seconds at most. So the future must not need that
    /// thread, e.g. a task of a current-thread runtime.
    ///
    /// The default is for a storage that has nothing to release: it stays open.
    ///
    /// [`StorageErrorKind::Closed`]: crate::StorageErrorKind::Closed
    fn close(&self) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
