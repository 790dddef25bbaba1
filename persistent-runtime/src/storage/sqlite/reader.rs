//! Read-only connections beside the writer's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{closed, error::Error, file::connect_to_read, files::Place};
use crate::storage::StorageError;

/// A lookup that takes longer had to wait for the disk.
const SLOW_LOOKUP: Duration = Duration::from_micros(200);
/// The number of lookups that go to blocking threads after a slow one, before the next runs in place.
const OFFLOAD_COUNT: u32 = 64;
/// The number of threads that read at once.
const MAX_THREADS: usize = 16;

/// A pool of read-only connections. Clones share it.
///
/// A lookup that the page cache answers takes less time than a thread switch. So lookups run in
/// place, on the caller's thread, until one had to wait for the disk: then the next ones run on
/// blocking threads.
#[derive(Clone)]
pub struct Readers(Arc<Shared>);

struct Shared {
    place: Place,
    /// The unused connections; `None` if the pool is closed.
    idle: Mutex<Option<Vec<Connection>>>,
    offload_left: AtomicU32,
    threads: Semaphore,
}

impl Readers {
    pub fn new(place: Place) -> Self {
        Self(Arc::new(Shared {
            place,
            idle: Mutex::new(Some(Vec::new())),
            offload_left: AtomicU32::new(0),
            threads: Semaphore::new(MAX_THREADS),
        }))
    }

    /// Runs a short query, in place if that is likely to be fast.
    pub async fn look_up<T, E>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        E: Into<Error>,
    {
        let decrement = |left: u32| left.checked_sub(1);
        if self.0.offload_left.fetch_update(Relaxed, Relaxed, decrement).is_ok() {
            return self.run(query).await;
        }
        let begin = Instant::now();
        let result = self.query(query);
        if begin.elapsed() > SLOW_LOOKUP {
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
