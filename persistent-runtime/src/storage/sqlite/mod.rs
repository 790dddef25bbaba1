//! States in SQLite: a journal that is appended to, and tables that it is folded
//! into.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use super::{Commit, Completion, Record, Storage, StorageFuture, Update};
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
    /// Its sender is dropped when the writer thread has released the database.
    released: Mutex<Option<watch::Receiver<()>>>,
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
        let (releases, released) = watch::channel(());
        let thread = thread::Builder::new()
            .name("persistent-writer".to_owned())
            .spawn(move || {
                let _releases = releases;
                writer.run(&queue, &lock);
            })
            .map_err(StorageError::from)?;
        *storage.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        *storage.released.lock().unwrap_or_else(PoisonError::into_inner) = Some(released);
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
        let storage = Self {
            queue: Queue::new(),
            writer: Mutex::new(None),
            released: Mutex::new(None),
            memtable,
            tables,
            readers,
        };
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

    fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
        let (completion, outcome) = Completion::channel();
        self.enqueue(commit, completion);
        Box::pin(outcome)
    }

    fn submit(self: Arc<Self>, commit: Commit, completion: Completion) {
        self.enqueue(commit, completion);
    }

    fn kinds<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let after = after.map(str::to_owned);
        let memtable = self.memtable.clone();
        Box::pin(
            self.readers
                .run(move |reader| tables::kinds(reader, &memtable, after.as_deref(), limit)),
        )
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

    fn close(&self) -> StorageFuture<'_, ()> {
        self.begin_close();
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            if let Some(mut released) = released {
                // Nothing is sent: this ends when the sender is dropped.
                let _ = released.changed().await;
            }
            Ok(())
        })
    }
}

impl SqliteStorage {
    fn enqueue(&self, commit: Commit, completion: Completion) {
        let id = &commit.server;
        if id.kind().len() + id.key().len() + commit.update.bytes() > ROW_LIMIT {
            completion.complete(Err(StorageError::new("it is larger than SQLite can store")));
        } else if let Some(Submission { completion, .. }) =
            self.queue.push(Submission { commit, completion })
        {
            completion.complete(Err(closed()));
        }
    }

    /// The writer commits what is queued, then sees the end of the queue.
    fn begin_close(&self) {
        self.readers.close();
        self.queue.close();
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.begin_close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = writer {
            let _ = thread.join();
        }
    }
}

fn closed() -> StorageError {
    StorageError::new("the database is closed")
}
