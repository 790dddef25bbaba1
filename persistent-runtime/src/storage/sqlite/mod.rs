//! States in SQLite: a journal that is appended to, and tables that it is folded
//! into.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::{Commit, Committed, Completion, Record, Storage, StorageFuture, Update};
use crate::{error::OpenError, error::StorageError, id::ServerId};
use checkpoint::Checkpoints;
use memtable::Memtable;
use queue::{Queue, Submission, Taker};
use reader::Readers;
use tables::Tables;
use writer::Writer;

mod checkpoint;
mod checksum;
mod commit_log;
mod file;
mod flush;
mod memtable;
mod queue;
mod reader;
mod tables;
mod writer;

/// SQLite takes no row of more than a billion bytes. This leaves some for what
/// stands beside the state and the key.
const ROW_LIMIT: usize = 1_000_000_000 - 4096;

/// States in a SQLite database: WAL, `synchronous=FULL`, group commit.
///
/// One thread owns the writing connection. It appends all changes that wait to a
/// journal, in one transaction; the next batch gathers while that is synced. In
/// between it moves what the journal has into tables. Reads have connections of
/// their own and never wait for it.
///
/// While a runtime has the database open, other programs may read it, and see
/// in the tables what is some seconds old. Once it is closed, all is there.
///
/// A lock file beside the database, `<path>.lock`, keeps a second runtime out;
/// it says who holds it.
pub struct SqliteStorage {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    memtable: Arc<Memtable>,
    tables: Arc<Tables>,
    readers: Readers,
}

impl SqliteStorage {
    /// Opens the database at `path`, or creates it; its folder must exist.
    ///
    /// Blocks while SQLite opens the file and recovers its log, and while the
    /// journal is read.
    ///
    /// # Errors
    /// Each of [`OpenError`] but `Options`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let lock = file::lock(path)?;
        let (storage, writer) = Self::prepare(path)?;
        let queue = Taker(storage.queue.clone());
        let thread = thread::Builder::new()
            .name("persistent-writer".to_owned())
            .spawn(move || writer.run(&queue, &lock))
            .map_err(StorageError::from)?;
        *storage.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(storage)
    }

    /// A storage whose writer does not run yet.
    fn prepare(path: &Path) -> Result<(Self, Writer), OpenError> {
        let connection = file::connect(path)?;
        let (replayed, next) = writer::recover(&connection)?;
        let tables = Arc::new(Tables::new(&connection).map_err(StorageError::from)?);
        file::keep_log(&connection, false)?;
        let memtable = Arc::new(Memtable::new(replayed));
        let checkpoints = Checkpoints::new(path)?;
        let writer = Writer::new(connection, tables.clone(), memtable.clone(), checkpoints, next);
        let readers = Readers::new(path);
        let storage =
            Self { queue: Queue::new(), writer: Mutex::new(None), memtable, tables, readers };
        Ok((storage, writer))
    }
}

impl Storage for SqliteStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        Box::pin(async move {
            if self.queue.is_closed() {
                return Err(closed());
            }
            // First the memtable: what leaves it is in the tables before.
            let pending = self.memtable.find(id);
            let more = match pending.map(|pending| (pending.number, pending.update)) {
                Some((_, Update::Put(record))) => return Ok(Some(record)),
                Some((_, Update::Delete)) => return Ok(None),
                Some((number, Update::Append(messages))) => Some((number, messages)),
                None => None,
            };
            let (tables, id) = (self.tables.clone(), id.clone());
            let before = more.as_ref().map(|(number, _)| *number);
            let record =
                self.readers.look_up(move |reader| tables.load(reader, &id, before)).await?;
            match more {
                Some((_, messages)) => Update::Append(messages).apply(record),
                None => Ok(record),
            }
        })
    }

    fn commit(&self, change: Commit) -> StorageFuture<'_, ()> {
        let (told, outcome) = oneshot::channel();
        self.submit(change, Completion::new(Arc::new(Waiting(Mutex::new(Some(told))))));
        Box::pin(async { outcome.await.unwrap_or_else(|_| Err(closed())) })
    }

    fn submit(&self, change: Commit, receipt: Completion) -> Option<(Commit, Completion)> {
        if change.id.kind().len() + change.id.key().len() + change.update.bytes() > ROW_LIMIT {
            receipt.done(Err(StorageError::new("it is larger than SQLite can store")));
        } else if let Some(Submission { receipt, .. }) =
            self.queue.push(Submission { change, receipt })
        {
            receipt.done(Err(closed()));
        }
        None
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let (kind, after) = (kind.to_owned(), after.map(str::to_owned));
        let memtable = self.memtable.clone();
        Box::pin(self.readers.run(move |reader| {
            let overlay = memtable.overlay(&kind);
            tables::keys(reader, &overlay, &kind, after.as_deref(), limit)
        }))
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        let kind = kind.to_owned();
        let after = after.map(|(due, key)| (due, key.to_owned()));
        let memtable = self.memtable.clone();
        Box::pin(self.readers.run(move |reader| {
            let overlay = memtable.overlay(&kind);
            let after = after.as_ref().map(|(due, key)| (*due, &**key));
            tables::due(reader, &overlay, &kind, after, limit)
        }))
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        let kind = kind.to_owned();
        let memtable = self.memtable.clone();
        Box::pin(self.readers.run(move |reader| {
            let overlay = memtable.overlay(&kind);
            tables::count(reader, &overlay, &kind)
        }))
    }

    fn close(&self) {
        self.readers.close();
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = writer {
            // It commits what is queued, then sees the end of the queue.
            let _ = thread.join();
        }
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.close();
    }
}

/// Who waits in a future.
struct Waiting(Mutex<Option<oneshot::Sender<Result<(), StorageError>>>>);

impl Committed for Waiting {
    fn committed(self: Arc<Self>, outcome: Result<(), StorageError>) {
        if let Some(told) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = told.send(outcome);
        }
    }
}

fn closed() -> StorageError {
    StorageError::new("the database is closed")
}
