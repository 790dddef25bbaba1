//! The database in the file: its schema, connections to it.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    checksum::Checksum,
    error::Result,
    files::{Files, Place},
};
use crate::storage::{StorageError, StorageErrorKind};

/// "PSRV": identifies our databases.
const APPLICATION_ID: i32 = 0x5053_5256;
/// The version of the schema below.
const FILE_FORMAT: u32 = 1;

/// A row of `servers` can be larger than a page, and comparing such a row would read all of it. So
/// the look-ups compare entries of indexes, and the state is the last column. `kinds` has the
/// number of rows of each kind. `flushed` has one row: the log number below which the commit log is
/// in the other tables, and the id of the next new server.
const SCHEMA: &str = "
    CREATE TABLE servers (
        id      INTEGER PRIMARY KEY,
        kind    TEXT NOT NULL,
        key     TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        version INTEGER NOT NULL,
        format  INTEGER NOT NULL,
        due     INTEGER,
        checksum INTEGER NOT NULL,
        reminders BLOB NOT NULL,
        state   BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX servers_key ON servers (kind, key);
    CREATE INDEX servers_due ON servers (kind, due, key) WHERE due IS NOT NULL;
    CREATE TABLE messages (
        server  INTEGER NOT NULL,
        number  INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        message BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX messages_number ON messages (server, number);
    CREATE TABLE kinds (
        kind    TEXT PRIMARY KEY,
        servers INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE commit_log (
        number  INTEGER PRIMARY KEY,
        changes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE flushed (
        number  INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        next_id INTEGER NOT NULL
    ) STRICT;";

/// The size to which the write-ahead log is cut when it starts over.
const LOG_SIZE_LIMIT: u32 = 64 << 20;
/// The time for which a connection waits for the lock of another program.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets whether closing the connection leaves the write-ahead log and the database as they are.
pub fn keep_log(connection: &Connection, keeps: bool) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps)?;
    Ok(())
}

/// Opens the writer's connection to a database of this library, or creates the database in an
/// empty file. The connection keeps a log that has content for now: a database that turns out to be
/// damaged must not be changed.
pub fn connect(files: &Files, secure_delete: bool) -> Result<Connection> {
    let connection = connect_to_write(files.path())?;
    keep_log(&connection, files.has_log())?;
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application = number("application_id")?;
    let format = number("user_version")?.cast_unsigned();
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (tables, application, format) != (0, 0, 0) {
        let text = "a database of another program";
        return Err(StorageError::new(StorageErrorKind::NotADatabase, text).into());
    }
    if format > FILE_FORMAT {
        let text = format!(
            "file format {format} is newer than {FILE_FORMAT}, the newest that this release \
             reads; upgrade the program"
        );
        return Err(StorageError::new(StorageErrorKind::NewerFormat, text).into());
    }
    if tables == 0 {
        // Cannot be changed later.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
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
    connection.pragma_update(None, "journal_size_limit", LOG_SIZE_LIMIT)?;
    connection.pragma_update(None, "secure_delete", secure_delete)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if tables == 0 {
        let sum = Checksum::new().number(0).value().cast_signed();
        connection.execute_batch(&format!(
            "BEGIN; {SCHEMA} INSERT INTO flushed VALUES (0, {sum}, 1);
             PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {FILE_FORMAT}; COMMIT;"
        ))?;
    }
    Ok(connection)
}

/// Opens a connection to a file that exists.
pub fn connect_to_write(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // On macOS, `fsync` leaves the data in the cache of the disk. Other systems ignore this.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    Ok(connection)
}

/// Opens a read-only connection.
pub fn connect_to_read(place: &Place) -> Result<Connection> {
    // SQLite would create a log that is missing, and delete one whose database is empty.
    place.check()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(&place.path, flags)?;
    // A file that has taken the place of the database would answer with other states.
    place.check()?;
    Ok(connection)
}
