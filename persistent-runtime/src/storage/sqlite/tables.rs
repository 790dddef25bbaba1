//! Look-ups in the tables.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rusqlite::{Connection, OptionalExtension};

use super::{checksum::Checksum, error::Result};
use crate::{
    id::ServerId,
    storage::{Record, StorageError, StorageErrorKind},
};

/// The facts known of the tables without reading them.
pub struct Tables {
    /// False if there is no message in the database, as in most: then lookups and flushes need
    /// not search for messages.
    may_have_messages: AtomicBool,
}

impl Tables {
    pub fn new(connection: &Connection) -> Result<Self> {
        let exist = "SELECT EXISTS (SELECT 1 FROM messages)";
        let messages = connection.query_row(exist, [], |row| row.get(0))?;
        Ok(Self { may_have_messages: AtomicBool::new(messages) })
    }

    // Relaxed: a transaction that sees a message begins after the commit of that message, which
    // synchronizes.
    pub fn may_have_messages(&self) -> bool {
        self.may_have_messages.load(Relaxed)
    }

    pub fn set_may_have_messages(&self) {
        self.may_have_messages.store(true, Relaxed);
    }

    /// Loads a server's record with its messages up to the log number `max`.
    pub fn load(
        &self,
        connection: &Connection,
        server: &ServerId,
        max: Option<u64>,
    ) -> Result<Option<Record>> {
        if !self.may_have_messages() {
            return Ok(row(connection, server)?.map(|row| row.record));
        }
        // Both queries must see the same step of a flush.
        let transaction = connection.unchecked_transaction()?;
        let Some(Row { id, mut record }) = row(connection, server)? else { return Ok(None) };
        let mut statement = connection.prepare_cached(
            "SELECT number, message, checksum FROM messages
             WHERE server = ? AND number <= ? ORDER BY number",
        )?;
        let max = max.map_or(i64::MAX, u64::cast_signed);
        let mut rows = statement.query([id, max])?;
        while let Some(row) = rows.next()? {
            let number = row.get::<_, i64>(0)?.cast_unsigned();
            let message: Arc<[u8]> =
                row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?.into();
            verify(row.get(2)?, message_checksum(server, number, &message))?;
            record.messages.push(message);
        }
        drop(rows);
        drop(statement);
        transaction.commit()?;
        Ok(Some(record))
    }
}

/// A row of `servers`.
struct Row {
    id: i64,
    record: Record,
}

fn row(connection: &Connection, server: &ServerId) -> Result<Option<Row>> {
    let row = connection
        .prepare_cached(
            "SELECT id, sequence, version, format, due, checksum, reminders, state FROM servers
             WHERE kind = ? AND key = ?",
        )?
        .query_row([server.kind(), server.key()], |row| {
            let (id, sequence) = (row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned());
            let state = row.get_ref(7)?.as_blob()?;
            let record = Record {
                version: row.get(2)?,
                format: row.get(3)?,
                due: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
                reminders: row.get_ref(6)?.as_blob()?.into(),
                state: state.into(),
                messages: Vec::new(),
            };
            let verified = verify(row.get(5)?, checksum(server, id, sequence, &record, state));
            Ok(verified.map(|()| Row { id, record }))
        })
        .optional()?;
    row.transpose()
}

/// Returns the id of the row of a server.
pub fn id(connection: &Connection, server: &ServerId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM servers WHERE kind = ? AND key = ?")?
        .query_row([server.kind(), server.key()], |row| row.get(0))
        .optional()
}

fn verify(stored: i64, sum: u64) -> Result<()> {
    if stored.cast_unsigned() == sum {
        return Ok(());
    }
    let text = "the stored record is damaged: its checksum does not match; the stored bytes were \
                not changed; restore a backup of the database, or delete the server to begin with \
                a new state";
    Err(StorageError::new(StorageErrorKind::Corrupt, text).into())
}

/// Returns the checksum of a row of `servers`. `state` is the state of the record in one piece.
pub fn checksum(server: &ServerId, id: i64, sequence: u64, record: &Record, state: &[u8]) -> u64 {
    let due = record.due.map_or([0, 0], |due| [1, due]);
    [id.cast_unsigned(), sequence, record.version.into(), record.format.into()]
        .into_iter()
        .chain(due)
        .fold(id_checksum(server), Checksum::number)
        .bytes(state)
        .bytes(&record.reminders)
        .value()
}

/// Returns the checksum of a row of `messages`.
pub fn message_checksum(server: &ServerId, number: u64, message: &[u8]) -> u64 {
    id_checksum(server).number(number).bytes(message).value()
}

fn id_checksum(server: &ServerId) -> Checksum {
    Checksum::new().bytes(server.kind().as_bytes()).bytes(server.key().as_bytes())
}
