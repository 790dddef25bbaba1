//! The database file: its lock, its schema, connections to it.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{checksum::Checksum, error::Result};
use crate::storage::{StorageError, StorageErrorKind};

/// "PSRV": identifies our databases.
const APPLICATION_ID: i32 = 0x5053_5256;
/// The version of the schema below.
const FILE_FORMAT: u32 = 1;

/// `servers` and `messages` are clustered by kind and key, so that an activation is one lookup.
/// `flushed` has one row: the log number below which the commit log is in the other tables.
const SCHEMA: &str = "
    CREATE TABLE servers (
        kind    TEXT NOT NULL,
        key     TEXT NOT NULL,
        version INTEGER NOT NULL,
        format  INTEGER NOT NULL,
        state   BLOB NOT NULL,
        reminders BLOB NOT NULL,
        due     INTEGER,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX servers_due ON servers (kind, due, key) WHERE due IS NOT NULL;
    CREATE TABLE messages (
        kind    TEXT NOT NULL,
        key     TEXT NOT NULL,
        number  INTEGER NOT NULL,
        message BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (kind, key, number)
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE commit_log (
        number  INTEGER PRIMARY KEY,
        changes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE flushed (
        number  INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;";

/// The time for which a connection waits for the lock of another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes the lock file and writes this process into it. The operating system releases the lock
/// when the process ends, in whatever way.
pub fn lock(path: &Path) -> Result<File> {
    let name = beside(path, ".lock");
    let with_name =
        |error| StorageError::from(error).with_context(format_args!("{}", name.display()));
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(with_name)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another runtime",
                holder => holder,
            };
            let text = format!("in use by {holder}; stop that runtime or open another file");
            return Err(StorageError::new(StorageErrorKind::Locked, text).into());
        }
        Err(TryLockError::Error(error)) => return Err(with_name(error).into()),
    }
    let holder = format!("process {}\n", process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(with_name)?;
    Ok(file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Refuses a write-ahead log without its database: SQLite would take the missing file for a new
/// database, and delete the log with everything in it.
fn check_log(path: &Path) -> Result<()> {
    let log = beside(path, "-wal");
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    if size(path) == 0 && size(&log) > 0 {
        let text = format!(
            "the file is empty or missing, but its log {} is not; restore the file, or move the \
             log away",
            log.display()
        );
        return Err(StorageError::new(StorageErrorKind::Corrupt, text).into());
    }
    Ok(())
}

/// Sets whether closing the connection leaves the write-ahead log and the database as they are.
pub fn keep_log(connection: &Connection, keeps: bool) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps)?;
    Ok(())
}

/// Opens the writer's connection to a database of this library, or creates the database. The
/// connection keeps the log for now: a database that turns out to be damaged must not be changed.
pub fn connect(path: &Path) -> Result<Connection> {
    check_log(path)?;
    let connection = Connection::open(path)?;
    keep_log(&connection, true)?;
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application = number("application_id")?;
    let format = number("user_version")?.cast_unsigned();
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (tables, application, format) != (0, 0, 0) {
        let text = "a database of another program; open another file";
        return Err(StorageError::new(StorageErrorKind::NotADatabase, text).into());
    }
    if format > FILE_FORMAT {
        let text = format!(
            "file format {format} is newer than {FILE_FORMAT}, the newest that this release \
             reads; upgrade the program"
        );
        return Err(StorageError::new(StorageErrorKind::NewerFormat, text).into());
    }
    // A new database leaves its rollback journal behind when it switches to a write-ahead log.
    // Both together must not survive a power cut: the rollback would empty the database, and then
    // the log would be a log without a database.
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    // The pragma can return the requested mode and then an error. If the switch failed, the old
    // mode is active, in which a power cut can undo commits. So all rows are read.
    let modes: Vec<String> = connection
        .prepare("PRAGMA journal_mode = WAL")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if modes != ["wal"] {
        let text = format!("the switch to a write-ahead log failed: {modes:?}");
        return Err(StorageError::other(text).into());
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Checkpoints run on a thread of their own.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if tables == 0 {
        let sum = Checksum::new().number(0).value().cast_signed();
        connection.execute_batch(&format!(
            "BEGIN; {SCHEMA} INSERT INTO flushed VALUES (0, {sum});
             PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {FILE_FORMAT}; COMMIT;"
        ))?;
    }
    Ok(connection)
}

/// Opens a read-only connection.
pub fn connect_to_read(path: &Path) -> Result<Connection> {
    Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}
