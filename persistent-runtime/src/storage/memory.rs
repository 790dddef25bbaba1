//! A storage in memory.

use std::{collections::BTreeMap, fmt, future::ready, ops::Bound, sync::Arc};

use super::{Commit, Completion, Record, Storage, StorageFuture};
use crate::{id::ServerId, storage::StorageError, support::sync::Mutex, support::sync::MutexGuard};

/// A storage in memory, for tests and for servers that need not outlive the process.
///
/// Clones share their content. So a test can open a runtime on one clone, shut it down, and open
/// the next on another clone or inspect what is stored. Closing a `MemoryStorage` has no effect.
///
/// ```
/// # use persistent_runtime::{persistent_server, MemoryStorage, Runtime};
/// # use std::time::Duration;
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
/// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = MemoryStorage::new();
/// let first = Runtime::builder().open_with(storage.clone()).await?;
/// first.at::<Counter>("a", ()).add().await?;
/// first.shutdown(Duration::from_secs(1)).await?;
/// let second = Runtime::builder().open_with(storage).await?;
/// assert_eq!(second.at::<Counter>("a", ()).add().await?, 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Mutex<BTreeMap<ServerId, Record>>>);

impl MemoryStorage {
    /// Creates an empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the record of a server, without a future.
    #[must_use]
    pub fn get(&self, server: &ServerId) -> Option<Record> {
        self.lock().get(server).cloned()
    }

    fn apply(&self, commit: Commit) -> Result<(), StorageError> {
        let Commit { server, update, .. } = commit;
        let mut records = self.lock();
        let record = records.remove(&server);
        if let Some(record) = update.apply(record)? {
            records.insert(server, record);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Record>> {
        self.0.lock()
    }
}

impl Storage for MemoryStorage {
    fn load<'a>(&'a self, server: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        Box::pin(ready(Ok(self.get(server))))
    }

    fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
        Box::pin(ready(self.apply(commit)))
    }

    fn submit(self: Arc<Self>, commit: Commit, completion: Completion) {
        completion.complete(self.apply(commit));
    }

    fn kinds<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let records = self.lock();
        let mut kinds: Vec<Arc<str>> = Vec::new();
        let mut servers = records.keys();
        // The keys of one kind are next to each other.
        while kinds.len() < limit
            && let Some(server) = servers.find(|server| {
                let last = kinds.last().map(|kind| &**kind).or(after);
                last.is_none_or(|last| last < server.kind())
            })
        {
            kinds.push(server.kind().into());
        }
        Box::pin(ready(Ok(kinds)))
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        from: Bound<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let server = |key: &str| ServerId::new(kind.to_owned(), key);
        let from = match from {
            Bound::Included(key) => Bound::Included(server(key)),
            Bound::Excluded(key) => Bound::Excluded(server(key)),
            Bound::Unbounded => Bound::Included(server("")),
        };
        let records = self.lock();
        let keys = records
            .range((from, Bound::Unbounded))
            .take_while(|(server, _)| server.kind() == kind)
            .take(limit)
            .map(|(server, _)| Arc::from(server.key()))
            .collect();
        Box::pin(ready(Ok(keys)))
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        let records = self.lock();
        let mut due: Vec<(u64, Arc<str>)> = records
            .iter()
            .filter(|(server, _)| server.kind() == kind)
            .filter_map(|(server, record)| Some((record.due?, server.shared_key().clone())))
            .filter(|(due, key)| after.is_none_or(|after| after < (*due, &**key)))
            .collect();
        due.sort_unstable();
        due.truncate(limit);
        Box::pin(ready(Ok(due)))
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        let count = self.lock().keys().filter(|server| server.kind() == kind).count();
        Box::pin(ready(Ok(count as u64)))
    }
}

/// Shows the number of records only: states may hold secrets.
impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("records", &self.lock().len()).finish()
    }
}
