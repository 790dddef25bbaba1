//! The storage in SQLite: an append-only commit log, and tables that it is flushed into.

use std::{
    fmt,
    ops::Bound,
    path::{self, Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

use tokio::{sync::watch, time::Instant};

use super::{
    Commit, Completion, Record, Storage, StorageError, StorageErrorKind, StorageFuture,
    StorageObserver, Update,
};
use crate::{id::ServerId, support::spin::BusyWait};
use checkpoint::Checkpoints;
use error::{Error, Result};
use files::Files;
use health::Health;
use limits::Limits;
use memtable::Memtables;
use paused_clock::{Hold, PausedClock};
use queue::{Queue, Receiver, Submission};
use reader::Readers;
use tables::Tables;
use writer::Writer;

mod backup;
mod checkpoint;
mod checksum;
mod commit_log;
mod error;
mod file;
mod files;
mod flush;
mod health;
mod limits;
mod listing;
mod location;
mod lock;
mod memtable;
mod pacing;
mod paused_clock;
mod queue;
mod reader;
mod tables;
mod writer;

/// SQLite's limit for a row is a billion bytes. This leaves some for the other columns.
const ROW_LIMIT: usize = 1_000_000_000 - 4096;

/// A storage in a SQLite database.
///
/// One thread owns the writing connection. It appends all waiting commits to the commit log in one
/// transaction with one sync (group commit), while the next batch gathers. Between batches it
/// flushes the commit log into tables, one row per server. Readers have connections of their own
/// and never wait for the writer. The database is in WAL mode with `synchronous=FULL`: a completed
/// commit survives a power cut.
///
/// Other programs may read the database while it is open. They see tables that are some seconds
/// old. After [`close`](Storage::close) everything is in the tables.
///
/// The lock file `<path>.lock` keeps a second runtime out, and names the process that holds it. Do
/// not remove it while the database is open. If it, the database or its write-ahead log is removed,
/// replaced or emptied nevertheless, commits fail with [`StorageErrorKind::FileChanged`] from at
/// most a second later.
///
/// A storage that is opened while the clock of the tokio runtime is paused, in tests, keeps the
/// clock from advancing while a commit is written.
///
/// ```
/// # use persistent_runtime::{Runtime, SqliteOptions, SqliteStorage};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("game.db");
/// let storage = SqliteStorage::open_with(path, SqliteOptions::new().busy_wait(false))?;
/// let runtime = Runtime::builder().open_with(storage).await?;
/// # Ok(()) }
/// ```
pub struct SqliteStorage {
    path: PathBuf,
    queue: Arc<Queue>,
    writer: Option<WriterThread>,
    memtables: Arc<Memtables>,
    tables: Arc<Tables>,
    readers: Readers,
    record_limit: usize,
    observer: Arc<OnceLock<StorageObserver>>,
    /// `None` outside of tests.
    paused_clock: Option<PausedClock>,
}

struct WriterThread {
    handle: JoinHandle<()>,
    /// The thread drops the sender when it has released the database.
    released: watch::Receiver<()>,
}

/// The options of a [`SqliteStorage`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteOptions {
    busy_wait: bool,
    secure_delete: bool,
    record_limit: usize,
    wal_limit: u64,
    limits: Limits,
}

impl SqliteOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self {
            busy_wait: true,
            secure_delete: false,
            record_limit: 16 << 20,
            wal_limit: 1 << 30,
            limits: Limits::DEFAULT,
        }
    }

    /// Sets whether the writer thread spins for up to 50 µs after a small batch before it sleeps.
    /// Spinning shortens the calls of a single caller. On a machine with one core the writer never
    /// spins. The default is true.
    pub fn busy_wait(mut self, busy_wait: bool) -> Self {
        self.busy_wait = busy_wait;
        self
    }

    /// Sets whether deleted and replaced content is overwritten with zeros in the database file.
    /// The default is false: it stays in the file until its place is used again.
    ///
    /// Content is in the commit log and in the write-ahead log first. There it is gone about a
    /// second after the writer has nothing else to do, and at the latest when the database is
    /// closed.
    pub fn secure_delete(mut self, secure_delete: bool) -> Self {
        self.secure_delete = secure_delete;
        self
    }

    /// Sets the largest size of a record in bytes: the state, its reminders and the journaled
    /// messages that follow it. A larger commit fails with [`StorageErrorKind::TooLarge`]. The
    /// default is 16 MiB. The limit of SQLite is a billion bytes.
    ///
    /// A commit waits for the records that are written before it, so a large record delays the
    /// commits of all servers.
    pub fn record_limit(mut self, bytes: usize) -> Self {
        self.record_limit = bytes;
        self
    }

    /// Sets the size of the write-ahead log at which commits are refused, in bytes, approximately.
    /// The default is 1 GiB.
    ///
    /// The log has at most 64 MiB, unless it cannot start over: because moving it into the database
    /// file fails, or because a program reads the database in a long transaction. From 256 MiB on,
    /// an observer receives a [`StorageEvent`](crate::StorageEvent).
    pub fn wal_limit(mut self, bytes: u64) -> Self {
        self.wal_limit = bytes;
        self
    }

    /// Divides the sizes and times at which the storage flushes, moves its log and gives space back
    /// by about a thousand. So a short test with little data reaches all of them.
    #[cfg(feature = "testing")]
    pub fn small_limits(mut self) -> Self {
        self.limits = Limits::SMALL;
        self
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SqliteStorage {
    /// Opens the database at `path`, or creates it. The folder must exist.
    ///
    /// Blocks while SQLite opens the file and recovers its log, and while the commit log is read:
    /// in async code call it by `spawn_blocking`, as `Runtime::open` does.
    ///
    /// # Errors
    /// If the file cannot be opened or created; the text names it. The kind is
    /// [`Locked`](StorageErrorKind::Locked) if another runtime has the database open,
    /// [`NotADatabase`](StorageErrorKind::NotADatabase) if the file belongs to another program,
    /// [`NewerFormat`](StorageErrorKind::NewerFormat) if a newer release wrote it, and
    /// [`Corrupt`](StorageErrorKind::Corrupt) if it is damaged or lacks its write-ahead log. A file
    /// that does not open is left as it is. Files with several hard links, URIs and `:memory:` are
    /// refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_with(path, SqliteOptions::new())
    }

    /// Opens the database at `path` with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[expect(clippy::needless_pass_by_value, reason = "options are consumed as by every builder")]
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StorageError> {
        let path = path.as_ref();
        Self::start(path, &options).map_err(|error| cannot_open(path, error))
    }

    /// Returns the absolute path of the file that `path` leads to.
    pub(crate) fn resolve(path: &Path) -> Result<PathBuf, StorageError> {
        location::resolve(path).map_err(|error| cannot_open(path, error))
    }

    fn start(path: &Path, options: &SqliteOptions) -> Result<Self> {
        let begin = Instant::now();
        let (mut storage, writer) = Self::prepare(Files::open(path)?, options)?;
        storage.paused_clock = PausedClock::since(begin);
        let queue = Receiver(storage.queue.clone());
        let (guard, released) = watch::channel(());
        let thread =
            thread::Builder::new().name("persistent-writer".to_owned()).spawn(move || {
                let _guard = guard;
                writer.run(&queue);
            })?;
        storage.writer = Some(WriterThread { handle: thread, released });
        Ok(storage)
    }

    /// Opens the database without starting its writer thread.
    fn prepare(mut files: Files, options: &SqliteOptions) -> Result<(Self, Writer)> {
        let mut connect = || -> Result<_> {
            let connection = file::connect(&files, options.secure_delete)?;
            files.note_log();
            let (replayed, next) = writer::recover(&connection)?;
            let tables = Tables::new(&connection)?;
            file::keep_log(&connection, false)?;
            Ok((
                connection,
                replayed,
                next,
                tables,
                Checkpoints::new(files.place().clone(), options.limits, options.wal_limit)?,
            ))
        };
        let (connection, replayed, next, tables, checkpoints) =
            connect().map_err(|error| files.explain(error.into()))?;
        files.opened();
        let memtables = Arc::new(Memtables::new(replayed));
        let readers = Readers::new(files.place().clone());
        let path = files.path().to_owned();
        let (tables, queue) = (Arc::new(tables), Queue::new(BusyWait::new(options.busy_wait)));
        let observer = Arc::default();
        let health = Health::new(Arc::clone(&observer));
        let (tables_, memtables_) = (tables.clone(), memtables.clone());
        let writer = Writer::new(connection, tables_, memtables_, checkpoints, health, files, next);
        let record_limit = options.record_limit.min(ROW_LIMIT);
        let storage = Self {
            path,
            queue,
            writer: None,
            memtables,
            tables,
            readers,
            record_limit,
            observer,
            paused_clock: None,
        };
        Ok((storage, writer))
    }

    fn enqueue(&self, commit: Commit, completion: Completion) {
        let server = &commit.server;
        let bytes = server.kind().len() + server.key().len() + commit.update.bytes();
        if bytes > self.record_limit {
            let limit = self.record_limit;
            let text = format!(
                "the commit has {bytes} bytes, and the limit is {limit}; divide the state among \
                 several servers, or raise `SqliteOptions::record_limit`"
            );
            completion.complete(Err(StorageError::new(StorageErrorKind::TooLarge, text)));
        } else {
            let hold = self.hold_clock();
            if let Err(completion) = self.queue.push(Submission { commit, completion, hold }) {
                completion.complete(Err(closed()));
            }
        }
    }

    fn hold_clock(&self) -> Option<Hold> {
        self.paused_clock.as_ref().map(PausedClock::hold)
    }

    /// Refuses further calls. The writer commits what is queued, flushes and releases the file.
    fn begin_close(&self) {
        self.readers.close();
        self.queue.close();
    }
}

impl Storage for SqliteStorage {
    fn load<'a>(&'a self, server: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        Box::pin(async move {
            if self.queue.is_closed() {
                return Err(closed());
            }
            // Before the tables: updates move from the memtables to the tables.
            let pending = self.memtables.find(server);
            let appended = match pending.map(|pending| (pending.number, pending.update)) {
                Some((_, Update::Put(record))) => return Ok(Some(record)),
                Some((_, Update::Delete)) => return Ok(None),
                Some((number, Update::Append(messages))) => Some((number, messages)),
                None => None,
            };
            let (tables, server) = (self.tables.clone(), server.clone());
            let max = appended.as_ref().map(|(number, _)| *number);
            let bytes = |record: &Option<Record>| record.as_ref().map_or(0, |it| it.state.len());
            let query = move |reader: &_| tables.load(reader, &server, max);
            let record = self.readers.look_up(bytes, query).await?;
            match appended {
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
        let memtables = self.memtables.clone();
        Box::pin(
            self.readers
                .run(move |reader| listing::kinds(reader, &memtables, after.as_deref(), limit)),
        )
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        from: Bound<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let (kind, from) = (kind.to_owned(), from.map(Arc::from));
        let memtables = self.memtables.clone();
        let list = move |reader: &_| listing::list(reader, &memtables, &kind, from, limit);
        Box::pin(self.readers.run(list))
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        let kind = kind.to_owned();
        let from = after
            .map_or(Bound::Unbounded, |(due, key)| Bound::Excluded((due, Arc::<str>::from(key))));
        let memtables = self.memtables.clone();
        let list = move |reader: &_| listing::list(reader, &memtables, &kind, from, limit);
        Box::pin(self.readers.run(list))
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        let kind = kind.to_owned();
        let memtables = self.memtables.clone();
        Box::pin(self.readers.run(move |reader| listing::count(reader, &memtables, &kind)))
    }

    fn backup<'a>(&'a self, path: &'a Path) -> StorageFuture<'a, ()> {
        let to = path.to_owned();
        Box::pin(async move {
            let written = self.readers.run(move |reader| backup::write(reader, &to)).await;
            let context = format_args!("cannot write the backup {}", path.display()).to_string();
            written.map_err(|error| error.with_context(context))
        })
    }

    fn observe(&self, observer: StorageObserver) {
        let _ = self.observer.set(observer);
    }

    fn close(&self) -> StorageFuture<'_, ()> {
        let hold = self.hold_clock();
        self.begin_close();
        let released = self.writer.as_ref().map(|writer| writer.released.clone());
        let hurry = Hurry(self.queue.clone());
        Box::pin(async move {
            let _hurry = hurry;
            if let Some(mut released) = released {
                // Nothing is ever sent: this ends when the sender is dropped.
                let _ = released.changed().await;
            }
            drop(hold);
            Ok(())
        })
    }
}

/// Lets the writer hurry once nobody waits for its end.
struct Hurry(Arc<Queue>);

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.hurry();
    }
}

/// Waits until the file is released.
impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.begin_close();
        if let Some(writer) = self.writer.take() {
            let _ = writer.handle.join();
        }
    }
}

impl fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStorage").field("path", &self.path).finish_non_exhaustive()
    }
}

fn cannot_open(path: &Path, error: Error) -> StorageError {
    let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    StorageError::from(error).with_context(format_args!("cannot open database {}", path.display()))
}

fn closed() -> StorageError {
    StorageError::new(StorageErrorKind::Closed, "the database is closed")
}
