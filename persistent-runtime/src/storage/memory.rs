use std::{collections::BTreeMap, future::ready, ops::Bound, sync::Arc};

use super::{Commit, Record, Storage, StorageFuture};
use crate::{id::ServerId, support::sync::Mutex, support::sync::MutexGuard};

/// States in memory: for tests, and for servers that need not outlive the
/// process.
///
/// Clones share their content, so a test can give one clone to a runtime, shut
/// that down, and open the next on another clone, or look at what is stored.
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
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is stored for a server.
    #[must_use]
    pub fn get(&self, id: &ServerId) -> Option<Record> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Record>> {
        self.0.lock()
    }
}

impl Storage for MemoryStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        Box::pin(ready(Ok(self.get(id))))
    }

    fn commit(&self, change: Commit) -> StorageFuture<'_, ()> {
        let Commit { id, update } = change;
        let mut states = self.lock();
        let record = states.remove(&id);
        let outcome = update.apply(record).map(|record| {
            if let Some(record) = record {
                states.insert(id, record);
            }
        });
        Box::pin(ready(outcome))
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let from = match after {
            Some(key) => Bound::Excluded(ServerId::new(kind.to_owned(), key)),
            None => Bound::Included(ServerId::new(kind.to_owned(), "")),
        };
        let states = self.lock();
        let keys = states
            .range((from, Bound::Unbounded))
            .take_while(|(id, _)| id.kind() == kind)
            .take(limit)
            .map(|(id, _)| Arc::from(id.key()))
            .collect();
        Box::pin(ready(Ok(keys)))
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        let states = self.lock();
        let mut due: Vec<(u64, Arc<str>)> = states
            .iter()
            .filter(|(id, _)| id.kind() == kind)
            .filter_map(|(id, record)| Some((record.due?, id.shared_key().clone())))
            .filter(|(due, key)| after.is_none_or(|after| after < (*due, &**key)))
            .collect();
        due.sort_unstable();
        due.truncate(limit);
        Box::pin(ready(Ok(due)))
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        let count = self.lock().keys().filter(|id| id.kind() == kind).count();
        Box::pin(ready(Ok(count as u64)))
    }
}
