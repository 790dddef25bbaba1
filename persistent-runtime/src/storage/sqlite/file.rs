//! The database's file: its lock, its tables, connections to it.

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Result, config::DbConfig};

use super::checksum::Checksum;
use crate::{error::OpenError, error::StorageError};

/// "PSRV": tells our databases from those of other programs.
const APPLICATION_ID: i32 = 0x5053_5256;
/// The layout of the tables below.
const FILE_FORMAT: u32 = 1;

/// `servers` and `messages` are clustered on the address, so that an activation
/// is one look-up. `fold` has one row: what the journal says up to that number is
/// in the other tables.
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
    CREATE TABLE journal (
        number  INTEGER PRIMARY KEY,
        changes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE fold (
        number  INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;";

/// How long a connection waits for another program's lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes the lock file, or says who has it. The operating system gives the
/// lock back when its holder dies, however it dies.
pub fn lock(path: &Path) -> Result<File, OpenError> {
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

/// Whether closing the connection leaves the log and the database as they are.
pub fn keep_log(connection: &Connection, keeps: bool) -> Result<(), StorageError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps)?;
    Ok(())
}

/// The writing connection, on a database that is ours. It keeps the log for now:
/// a database that turns out to be damaged is left as it is.
pub fn connect(path: &Path) -> Result<Connection, OpenError> {
    find(path)?;
    let connection = Connection::open(path).map_err(StorageError::from)?;
    keep_log(&connection, true)?;
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
        // A new database leaves its rollback journal behind for a log. After a power cut
        // the two must not be there together: the one would empty the database, and the
        // other then be a log without its database.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
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
        // Checkpoints are another thread's work.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.busy_timeout(PATIENCE)?;
        if tables == 0 {
            let sum = Checksum::new().number(0).value().cast_signed();
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} INSERT INTO fold VALUES (0, {sum});
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {FILE_FORMAT}; COMMIT;"
            ))?;
        }
        Ok(())
    };
    prepare()?;
    Ok(connection)
}

/// A connection that only reads.
pub fn connect_to_read(path: &Path) -> Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}
