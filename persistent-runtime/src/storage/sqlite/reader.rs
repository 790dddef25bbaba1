//! Connections that only read, beside the writer.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{closed, file::connect_to_read};
use crate::error::StorageError;

/// A look-up that takes longer had to wait for the disk.
const FAST: Duration = Duration::from_micros(200);
/// How many look-ups then go to threads, before one is tried in place again.
const AWAY: u32 = 64;
/// How many threads read at once.
const THREADS: usize = 16;

/// Reading connections that are idle. A clone shares them.
///
/// A look-up that the page cache answers takes less time than to have another
/// thread do it, so look-ups run in place, on the thread that asks. Once one has
/// waited for the disk, the next go to blocking threads.
#[derive(Clone)]
pub struct Readers(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// `None` once closed.
    idle: Mutex<Option<Vec<Connection>>>,
    /// How many look-ups still go to threads.
    away: AtomicU32,
    threads: Semaphore,
}

impl Readers {
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Shared {
            path: path.to_owned(),
            idle: Mutex::new(Some(Vec::new())),
            away: AtomicU32::new(0),
            threads: Semaphore::new(THREADS),
        }))
    }

    /// Runs a short query, in place if that is likely to be fast.
    pub async fn look_up<T, E>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        E: Into<StorageError>,
    {
        let less = |away: u32| away.checked_sub(1);
        if self.0.away.fetch_update(Relaxed, Relaxed, less).is_ok() {
            return self.run(query).await;
        }
        let begin = Instant::now();
        let result = self.query(query);
        if begin.elapsed() > FAST {
            self.0.away.store(AWAY, Relaxed);
        }
        result
    }

    /// Runs a query off the async threads.
    pub async fn run<T, E>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        E: Into<StorageError>,
    {
        let _permit = self.0.threads.acquire().await.map_err(StorageError::new)?;
        let readers = self.clone();
        spawn_blocking(move || readers.query(query)).await.map_err(StorageError::new)?
    }

    fn query<T, E: Into<StorageError>>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, StorageError> {
        let idle = || self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = idle().as_mut().ok_or_else(closed)?.pop();
        let connection = match connection {
            Some(connection) => connection,
            None => connect_to_read(&self.0.path)?,
        };
        let result = query(&connection).map_err(Into::into)?;
        if let Some(idle) = &mut *idle() {
            idle.push(connection);
        }
        Ok(result)
    }

    /// Every later query is an error.
    pub fn close(&self) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
