//! The same rows, written by plain rusqlite.

use std::{path::Path, sync::Arc, time::Duration};

use persistent_runtime::Record;
use rusqlite::{Connection, Result, params};
use serde::Serialize;

use super::files::megabytes;
use crate::Fallible;

const KIND: &str = "Meter";

const UPSERT: &str = "INSERT INTO states (kind, key, version, format, state) VALUES (?, ?, 1, 1, ?)
    ON CONFLICT DO UPDATE SET state = excluded.state";

/// The encoded state of a server. Its last eight bytes are a number.
#[derive(Clone)]
pub struct State(Vec<u8>);

impl State {
    pub fn new(state: &impl Serialize) -> Fallible<Self> {
        Ok(Self(rmp_serde::to_vec_named(state)?))
    }

    /// Returns the state of a record.
    pub fn of(record: &Record) -> Self {
        Self(record.state.bytes().into_owned())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Increments the number: SQLite does not write a row that equals the stored one.
    fn change(&mut self) -> &[u8] {
        if let Some(number) = self.0.last_chunk_mut::<8>() {
            *number = (u64::from_be_bytes(*number) + 1).to_be_bytes();
        }
        &self.0
    }
}

/// A database with one table of states.
pub struct Raw {
    connection: Connection,
    put: &'static str,
}

impl Raw {
    /// Creates a table to which each change is appended.
    pub fn appends(path: &Path) -> Result<Self> {
        let schema = "CREATE TABLE states (
            id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL,
            version INTEGER NOT NULL, format INTEGER NOT NULL, state BLOB NOT NULL) STRICT";
        let put = "INSERT INTO states (kind, key, version, format, state) VALUES (?, ?, 1, 1, ?)";
        Self::open(path, schema, put)
    }

    /// Creates a table with one row per key.
    pub fn upserts(path: &Path) -> Result<Self> {
        let schema = "CREATE TABLE states (
            kind TEXT NOT NULL, key TEXT NOT NULL,
            version INTEGER NOT NULL, format INTEGER NOT NULL, state BLOB NOT NULL,
            PRIMARY KEY (kind, key)) WITHOUT ROWID, STRICT";
        Self::open(path, schema, UPSERT)
    }

    /// Creates a table with one row per key, or opens it. An index finds the row: no search reads
    /// the states of other rows.
    pub fn indexed(path: &Path) -> Result<Self> {
        let schema = "CREATE TABLE IF NOT EXISTS states (
            id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL,
            version INTEGER NOT NULL, format INTEGER NOT NULL, state BLOB NOT NULL,
            UNIQUE (kind, key)) STRICT";
        Self::open(path, schema, UPSERT)
    }

    fn open(path: &Path, schema: &str, put: &'static str) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_mins(1))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(schema)?;
        Ok(Self { connection, put })
    }

    /// Writes a change of `state` under each of the keys, in one transaction.
    pub fn commit(&self, keys: impl IntoIterator<Item = u64>, state: &mut State) -> Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut put = self.connection.prepare_cached(self.put)?;
        for key in keys {
            put.execute(params![KIND, key.to_string(), state.change()])?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Deletes the rows of the keys, in one transaction.
    pub fn delete(&self, keys: impl IntoIterator<Item = u64>) -> Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let delete = "DELETE FROM states WHERE kind = ? AND key = ?";
        let mut delete = self.connection.prepare_cached(delete)?;
        for key in keys {
            delete.execute(params![KIND, key.to_string()])?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Returns the size of the database file in megabytes, with an empty write-ahead log.
    pub fn megabytes(&self) -> Result<f64> {
        self.checkpoint()?;
        Ok(megabytes(Path::new(self.connection.path().unwrap_or_default()), ""))
    }

    /// Moves the write-ahead log into the database file.
    pub fn checkpoint(&self) -> Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// Passes each key to `read`, in ascending order.
    pub fn keys(&self, mut read: impl FnMut(Arc<str>)) -> Result<()> {
        let select = "SELECT key FROM states WHERE kind = ? ORDER BY key";
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query([KIND])?;
        while let Some(row) = rows.next()? {
            read(row.get(0)?);
        }
        Ok(())
    }

    /// Passes the state under `key` to `read`.
    pub fn load<T>(&self, key: u64, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let select = "SELECT version, format, state FROM states WHERE kind = ? AND key = ?";
        let mut select = self.connection.prepare_cached(select)?;
        select.query_row(params![KIND, key.to_string()], |row| {
            let (_, _) = (row.get::<_, u32>(0)?, row.get::<_, u32>(1)?);
            Ok(read(row.get_ref(2)?.as_blob()?))
        })
    }
}
