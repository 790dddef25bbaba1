//! Read-only connections beside the writer's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task::spawn_blocking,
};

use super::{closed, error::Error, file::connect_to_read, files::Place};
use crate::storage::StorageError;

/// A lookup that takes longer had to wait for the disk, unless its state is large.
const SLOW_LOOKUP: Duration = Duration::from_micros(200);
/// A lookup that takes longer runs on a blocking thread the next time, however large its state is.
const LONG_LOOKUP: Duration = Duration::from_millis(1);
/// The number of lookups that go to blocking threads after a slow one, before the next runs in place.
const OFFLOAD_COUNT: u32 = 64;
/// The number of threads that read at once.
const MAX_THREADS: usize = 16;

/// A pool of read-only connections. Clones share it.
///
/// A lookup that the page cache answers takes less time than a thread switch. So lookups run in
/// place, on the caller's thread, until one had to wait for the disk: then the next ones run on
/// blocking threads. A disk can hang, so at most one lookup at a time runs in place, and none on a
/// current-thread runtime, where every task would wait for it.
#[derive(Clone)]
pub struct Readers(Arc<Shared>);

struct Shared {
    place: Place,
    /// The unused connections; `None` if the pool is closed.
    idle: Mutex<Option<Vec<Connection>>>,
    offload_left: AtomicU32,
    /// True while a lookup runs in place.
    is_in_place: AtomicBool,
    threads: Semaphore,
}

impl Readers {
    pub fn new(place: Place) -> Self {
        Self(Arc::new(Shared {
            place,
            idle: Mutex::new(Some(Vec::new())),
            offload_left: AtomicU32::new(0),
            is_in_place: AtomicBool::new(false),
            threads: Semaphore::new(MAX_THREADS),
        }))
    }

    /// Runs a short query, in place if that is likely to be fast. `bytes` returns the size of the
    /// result: copying and verifying a byte takes less than a nanosecond.
    pub async fn look_up<T, E>(
        &self,
        bytes: impl FnOnce(&T) -> usize,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        E: Into<Error>,
    {
        let decrement = |left: u32| left.checked_sub(1);
        let is_offloaded = self.0.offload_left.fetch_update(Relaxed, Relaxed, decrement).is_ok()
            || !has_other_workers();
        if is_offloaded || self.0.is_in_place.swap(true, Acquire) {
            return self.run(query).await;
        }
        let _in_place = InPlace(&self.0.is_in_place);
        let begin = Instant::now();
        let result = self.query(query);
        let bytes = result.as_ref().map_or(0, bytes);
        let usual = SLOW_LOOKUP + Duration::from_nanos(bytes as u64);
        if begin.elapsed() > usual.min(LONG_LOOKUP) {
            self.0.offload_left.store(OFFLOAD_COUNT, Relaxed);
        }
        result
    }

    /// Runs a query on a blocking thread.
    pub async fn run<T, E>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        E: Into<Error>,
    {
        let _permit = self.0.threads.acquire().await.map_err(StorageError::other)?;
        let readers = self.clone();
        spawn_blocking(move || readers.query(query)).await.map_err(StorageError::other)?
    }

    fn query<T, E: Into<Error>>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, StorageError> {
        let connection = self.idle().as_mut().ok_or_else(closed)?.pop();
        let connection = match connection {
            Some(connection) => connection,
            None => connect_to_read(&self.0.place)?,
        };
        let result = query(&connection).map_err(Into::<Error>::into)?;
        if let Some(idle) = &mut *self.idle() {
            idle.push(connection);
        }
        Ok(result)
    }

    /// Makes every later query an error.
    pub fn close(&self) {
        self.idle().take();
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the next lookup run in place.
struct InPlace<'a>(&'a AtomicBool);

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

/// Returns true if other workers of the tokio runtime go on while this thread is blocked.
fn has_other_workers() -> bool {
    Handle::try_current().is_ok_and(|tokio| {
        tokio.runtime_flavor() == RuntimeFlavor::MultiThread && tokio.metrics().num_workers() > 1
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;
    use crate::storage::sqlite::{SqliteOptions, SqliteStorage};

    /// A lookup whose disk hangs is stood for by one that waits for the end of the test.
    #[test]
    fn a_lookup_that_hangs_keeps_no_other_task_waiting() {
        for mut tokio in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let tokio = tokio.worker_threads(2).enable_all().build().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("hung.db");
            let storage = SqliteStorage::open_with(path, SqliteOptions::new()).unwrap();
            let (end, ended) = mpsc::channel::<()>();
            let (begin, started) = mpsc::channel();
            tokio.block_on(async {
                let readers = storage.readers.clone();
                let hung = tokio::spawn(async move {
                    let query = move |_: &Connection| {
                        begin.send(()).unwrap();
                        ended.recv().unwrap();
                        Ok::<_, Error>(1)
                    };
                    readers.look_up(|_| 0, query).await.unwrap()
                });
                while started.try_recv().is_err() {
                    tokio::task::yield_now().await;
                }
                for _ in 0..9 {
                    let readers = storage.readers.clone();
                    let other = async move { readers.look_up(|_| 0, |_| Ok::<_, Error>(2)).await };
                    assert_eq!(tokio::spawn(other).await.unwrap().unwrap(), 2);
                }
                end.send(()).unwrap();
                assert_eq!(hung.await.unwrap(), 1);
            });
        }
    }
}
