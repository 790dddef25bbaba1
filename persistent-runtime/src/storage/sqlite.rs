use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use tokio::sync::oneshot;

use super::{Change, Record, Storage, StorageFuture, Update};
use crate::{OpenError, ServerId, StorageError};

/// "PSRV": tells our databases from those of other programs.
const APPLICATION_ID: i32 = 0x5053_5256;
/// The layout of the tables below.
const FILE_FORMAT: u32 = 1;

/// Clustered on the address, so that an activation is one look-up.
const SCHEMA: &str = "
    CREATE TABLE servers (
        kind    TEXT NOT NULL,
        key     TEXT NOT NULL,
        version INTEGER NOT NULL,
        format  INTEGER NOT NULL,
        state   BLOB NOT NULL,
        reminders BLOB NOT NULL,
        due     INTEGER,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX servers_due ON servers (kind, due, key) WHERE due IS NOT NULL;";

/// Limits of one transaction, so that no commit waits for long behind others.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// States in a SQLite database: WAL, `synchronous=FULL`, group commit.
///
/// One thread owns the writing connection. It commits all changes that wait in
/// one transaction; the next batch gathers while that is synced. Reads have
/// connections of their own and never wait for it.
///
/// A lock file beside the database, `<path>.lock`, keeps a second runtime out;
/// it says who holds it. Other programs may read the database meanwhile.
pub struct SqliteStorage {
    path: PathBuf,
    writer: Mutex<Option<Writer>>,
    /// Idle reading connections; `None` once closed.
    readers: Arc<Mutex<Option<Vec<Connection>>>>,
}

struct Writer {
    queue: mpsc::Sender<Commit>,
    thread: JoinHandle<()>,
}

struct Commit {
    change: Change,
    done: oneshot::Sender<Result<(), StorageError>>,
}

impl SqliteStorage {
    /// Opens the database at `path`, or creates it; its folder must exist.
    ///
    /// Blocks while SQLite opens the file and recovers its log.
    ///
    /// # Errors
    /// Each of [`OpenError`] but `Options`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let lock = lock(&path)?;
        let connection = connect(&path)?;
        let (queue, commits) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("persistent-writer".to_owned())
            .spawn(move || write(connection, &commits, &lock))
            .map_err(StorageError::from)?;
        Ok(Self {
            path,
            writer: Mutex::new(Some(Writer { queue, thread })),
            readers: Arc::new(Mutex::new(Some(Vec::new()))),
        })
    }

    /// Runs `query` on a reading connection, off the async threads.
    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StorageFuture<'_, T> {
        let readers = self.readers.clone();
        let path = self.path.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || {
                let idle = match &mut *readers.lock().unwrap_or_else(PoisonError::into_inner) {
                    Some(idle) => idle.pop(),
                    None => return Err(closed()),
                };
                let connection = match idle {
                    Some(connection) => connection,
                    None => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
                };
                let result = query(&connection)?;
                if let Some(idle) = &mut *readers.lock().unwrap_or_else(PoisonError::into_inner) {
                    idle.push(connection);
                }
                Ok(result)
            })
            .await
            .map_err(StorageError::new)?
        })
    }
}

impl Storage for SqliteStorage {
    fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        let id = id.clone();
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT version, format, state, reminders, due FROM servers
                     WHERE kind = ? AND key = ?",
                )?
                .query_row([id.kind(), id.key()], |row| {
                    Ok(Record {
                        version: row.get(0)?,
                        format: row.get(1)?,
                        state: row.get_ref(2)?.as_blob()?.into(),
                        reminders: row.get_ref(3)?.as_blob()?.into(),
                        due: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
                        messages: Vec::new(),
                    })
                })
                .optional()
        })
    }

    fn commit(&self, change: Change) -> StorageFuture<'_, ()> {
        let (done, result) = oneshot::channel();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a writer the sender is dropped, and the wait below says so.
        if let Some(writer) = &*writer {
            let _ = writer.queue.send(Commit { change, done });
        }
        Box::pin(async { result.await.unwrap_or_else(|_| Err(closed())) })
    }

    fn keys<'a>(
        &'a self,
        kind: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        let (kind, after) = (kind.to_owned(), after.map(str::to_owned));
        self.read(move |connection| {
            // `NULL` sorts before every text; a missing bound lets all pass.
            connection
                .prepare_cached(
                    "SELECT key FROM servers WHERE kind = ?1 AND (?2 IS NULL OR key > ?2)
                     ORDER BY key LIMIT ?3",
                )?
                .query_map(params![kind, after, rows(limit)], |row| row.get(0))?
                .collect()
        })
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        let kind = kind.to_owned();
        // Nothing is due in negative time.
        let (due, key) = match after {
            Some((due, key)) => (due.cast_signed(), key.to_owned()),
            None => (-1, String::new()),
        };
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT due, key FROM servers
                     WHERE kind = ? AND due IS NOT NULL AND (due, key) > (?, ?)
                     ORDER BY due, key LIMIT ?",
                )?
                .query_map(params![kind, due, key, rows(limit)], |row| {
                    Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
                })?
                .collect()
        })
    }

    fn count<'a>(&'a self, kind: &'a str) -> StorageFuture<'a, u64> {
        let kind = kind.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT count(*) FROM servers WHERE kind = ?")?
                .query_row([kind], |row| row.get::<_, i64>(0))
                .map(i64::cast_unsigned)
        })
    }

    fn close(&self) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writer { queue, thread }) = writer {
            // The thread commits what is queued, then sees the end of the queue.
            drop(queue);
            let _ = thread.join();
        }
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.close();
    }
}

/// A limit as SQLite takes it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn closed() -> StorageError {
    StorageError::new("the database is closed")
}

/// Takes the lock file, or says who has it. The operating system gives the
/// lock back when its holder dies, however it dies.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(name)
        .map_err(StorageError::from)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another runtime".to_owned(),
                holder => holder.to_owned(),
            };
            return Err(OpenError::Locked { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(StorageError::from(error).into()),
    }
    let holder = format!("process {}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(StorageError::from)?;
    Ok(file)
}

/// Refuses a log without its database: SQLite would take that for a new database,
/// and delete the log with what it holds.
fn find(path: &Path) -> Result<(), StorageError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    if size(path) == 0 && size(Path::new(&log)) > 0 {
        return Err(StorageError::new(format!(
            "{} is empty or missing, but {} is not; put the database back or move the log away",
            path.display(),
            Path::new(&log).display()
        )));
    }
    Ok(())
}

/// The writing connection, on a database that is ours.
fn connect(path: &Path) -> Result<Connection, OpenError> {
    find(path)?;
    let connection = Connection::open(path).map_err(StorageError::from)?;
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application = number("application_id").map_err(StorageError::from)?;
    let format = number("user_version").map_err(StorageError::from)?.cast_unsigned();
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(StorageError::from)?;
    if application != APPLICATION_ID && (tables, application, format) != (0, 0, 0) {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if format > FILE_FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found: format, known: FILE_FORMAT });
    }
    let prepare = || -> Result<(), StorageError> {
        // The row says what is intended, an error behind it that it was not done:
        // the old mode would be left, in which a power cut may undo a commit.
        let modes: Vec<String> = connection
            .prepare("PRAGMA journal_mode = WAL")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if modes != ["wal"] {
            return Err(StorageError::new(format!("there is no write-ahead log, but {modes:?}")));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        if tables == 0 {
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {FILE_FORMAT}; COMMIT;"
            ))?;
        }
        Ok(())
    };
    prepare()?;
    Ok(connection)
}

/// The writer thread: batch after batch until the queue ends. It holds the
/// lock file to its end, so that the next runtime opens a quiet database.
fn write(connection: Connection, commits: &mpsc::Receiver<Commit>, lock: &File) {
    while let Ok(first) = commits.recv() {
        let mut bytes = first.change.update.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH_ROWS
            && bytes < BATCH_BYTES
            && let Ok(next) = commits.try_recv()
        {
            bytes += next.change.update.bytes();
            batch.push(next);
        }
        commit(&connection, batch);
    }
    drop(connection);
    // Closing alone would not do: a child process that is just being spawned has
    // the file as well, until it becomes another program.
    let _ = lock.unlock();
}

/// Commits a batch in one transaction and answers each of its commits. A row
/// that SQLite refuses for its own sake fails alone; any other error fails all.
fn commit(connection: &Connection, batch: Vec<Commit>) {
    let transaction = || -> rusqlite::Result<Vec<Result<(), StorageError>>> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let rows = batch
            .iter()
            .map(|commit| match put(connection, &commit.change) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::TooBig) => {
                    Ok(Err(StorageError::from(error)))
                }
                Err(error) => Err(error),
                Ok(()) => Ok(Ok(())),
            })
            .collect::<rusqlite::Result<_>>()?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(rows)
    };
    match transaction() {
        Ok(rows) => {
            for (commit, outcome) in batch.into_iter().zip(rows) {
                let _ = commit.done.send(outcome);
            }
        }
        Err(error) => {
            // SQLite rolls back by itself after some errors, a full disk say.
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            let error = StorageError::from(error);
            for commit in batch {
                let _ = commit.done.send(Err(error.clone()));
            }
        }
    }
}

fn put(connection: &Connection, Change { id, update }: &Change) -> rusqlite::Result<()> {
    match update {
        Update::Put(Record { version, format, state, reminders, due, .. }) => connection
            .prepare_cached(
                "INSERT INTO servers (kind, key, version, format, state, reminders, due)
                 VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET
                 version = excluded.version, format = excluded.format, state = excluded.state,
                 reminders = excluded.reminders, due = excluded.due",
            )?
            .execute(params![
                id.kind(),
                id.key(),
                version,
                format,
                &state[..],
                &reminders[..],
                due.map(u64::cast_signed)
            ])?,
        Update::Append(_) => unimplemented!("no server journals its messages yet"),
        Update::Wipe => connection
            .prepare_cached("DELETE FROM servers WHERE kind = ? AND key = ?")?
            .execute([id.kind(), id.key()])?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = oneshot::Receiver<Result<(), StorageError>>;

    fn commit_of(key: &str, bytes: usize) -> (Commit, Outcome) {
        let (done, outcome) = oneshot::channel();
        let record = Record {
            version: 1,
            format: 1,
            state: vec![0; bytes].into(),
            reminders: [].into(),
            due: None,
            messages: Vec::new(),
        };
        let change = Change::new(ServerId::new("kind", key), Update::Put(record));
        (Commit { change, done }, outcome)
    }

    fn run(connection: &Connection, sizes: &[usize]) -> Vec<bool> {
        let (batch, outcomes): (Vec<_>, Vec<_>) =
            sizes.iter().zip('a'..).map(|(bytes, key)| commit_of(&key.to_string(), *bytes)).unzip();
        commit(connection, batch);
        outcomes.into_iter().map(|mut outcome| outcome.try_recv().unwrap().is_ok()).collect()
    }

    fn stored(connection: &Connection) -> String {
        let keys = "SELECT coalesce(group_concat(key, ''), '') FROM servers";
        connection.query_row(keys, [], |row| row.get(0)).unwrap()
    }

    /// SQLite's limit is a billion bytes a row.
    #[test]
    fn a_row_that_is_too_large_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connect(&folder.path().join("large.db")).unwrap();
        assert_eq!(run(&connection, &[1, 1_000_000_001, 1]), [true, false, true]);
        assert_eq!(stored(&connection), "ac");
    }

    #[test]
    fn a_full_disk_fails_the_batch_and_the_next_one_works_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connect(&folder.path().join("full.db")).unwrap();
        assert_eq!(run(&connection, &[1]), [true]);
        let limit = |pages: u32| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            connection.query_row(&sql, [], |_| Ok(())).unwrap();
        };
        limit(8);
        assert_eq!(run(&connection, &[9, 1_000_000, 9]), [false; 3]);
        assert!(connection.is_autocommit(), "rolled back");
        assert_eq!(stored(&connection), "a");
        limit(100_000);
        assert_eq!(run(&connection, &[9, 1_000_000, 9]), [true; 3]);
        assert_eq!(stored(&connection), "abc");
    }

    #[test]
    fn every_commit_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connect(&folder.path().join("full.db")).unwrap();
        let level: i32 =
            connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(level, 2, "FULL");
    }
}
