//! Queries on the tables, merged with the memtables.

use std::{
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    checksum::Checksum,
    error::Result,
    memtable::{Memtables, Overlay},
};
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
            return record(connection, server);
        }
        // Both queries must see the same step of a flush.
        let transaction = connection.unchecked_transaction()?;
        let Some(mut record) = record(connection, server)? else { return Ok(None) };
        let mut statement = connection.prepare_cached(
            "SELECT number, message, checksum FROM messages
             WHERE kind = ? AND key = ? AND number <= ? ORDER BY number",
        )?;
        let max = max.map_or(i64::MAX, u64::cast_signed);
        let mut rows = statement.query(params![server.kind(), server.key(), max])?;
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

fn record(connection: &Connection, server: &ServerId) -> Result<Option<Record>> {
    let row = connection
        .prepare_cached(
            "SELECT version, format, state, reminders, due, checksum FROM servers
             WHERE kind = ? AND key = ?",
        )?
        .query_row([server.kind(), server.key()], |row| {
            let record = Record {
                version: row.get(0)?,
                format: row.get(1)?,
                state: row.get_ref(2)?.as_blob()?.into(),
                reminders: row.get_ref(3)?.as_blob()?.into(),
                due: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
                messages: Vec::new(),
            };
            Ok((record, row.get(5)?))
        })
        .optional()?;
    let Some((record, sum)) = row else { return Ok(None) };
    verify(sum, checksum(server, &record, &record.state.bytes()))?;
    Ok(Some(record))
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
pub fn checksum(server: &ServerId, record: &Record, state: &[u8]) -> u64 {
    let due = record.due.map_or([0, 0], |due| [1, due]);
    [record.version.into(), record.format.into()]
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

/// Returns a page of kinds.
pub fn kinds(
    connection: &Connection,
    memtables: &Memtables,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Arc<str>>> {
    // Before the tables: updates move from the memtables to the tables.
    let pending = memtables.kinds();
    let mut next = connection
        .prepare_cached("SELECT min(kind) FROM servers WHERE (?1 IS NULL OR kind > ?1)")?;
    let mut kinds: Vec<Arc<str>> = Vec::new();
    let mut last = after.map(Arc::<str>::from);
    while kinds.len() < limit {
        let stored: Option<Arc<str>> = next.query_row([last.as_deref()], |row| row.get(0))?;
        let after = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let changed = pending.range::<str, _>((after, Bound::Unbounded)).next();
        let changed = changed.map(|kind| Arc::from(&**kind));
        let Some(kind) = stored.into_iter().chain(changed).min() else { break };
        // The memtables may have deleted all servers of the kind.
        let exists = !pending.contains(&*kind)
            || !keys(connection, &memtables.overlay(&kind), &kind, None, 1)?.is_empty();
        if exists {
            kinds.push(kind.clone());
        }
        last = Some(kind);
    }
    Ok(kinds)
}

/// Returns a page of keys.
pub fn keys(
    connection: &Connection,
    overlay: &Overlay,
    kind: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Arc<str>>> {
    let pending = overlay
        .iter()
        .filter(|(key, row)| row.is_some() && after.is_none_or(|after| after < &***key))
        .map(|(key, _)| key.clone());
    let mut statement = connection.prepare_cached(
        "SELECT key FROM servers WHERE kind = ?1 AND (?2 IS NULL OR key > ?2) ORDER BY key",
    )?;
    let rows = statement.query_map(params![kind, after], |row| row.get(0))?;
    page(rows, |key: &Arc<str>| overlay.contains_key(key), pending.collect(), limit)
}

/// Returns a page of servers by due time.
pub fn due(
    connection: &Connection,
    overlay: &Overlay,
    kind: &str,
    after: Option<(u64, &str)>,
    limit: usize,
) -> Result<Vec<(u64, Arc<str>)>> {
    let pending = overlay
        .iter()
        .filter_map(|(key, row)| Some(((*row)?.due?, key)))
        .filter(|(due, key)| after.is_none_or(|after| after < (*due, &***key)))
        .map(|(due, key)| (due, key.clone()));
    // No due time is negative.
    let (time, key) = after.map_or((-1, ""), |(due, key)| (due.cast_signed(), key));
    let mut statement = connection.prepare_cached(
        "SELECT due, key FROM servers
         WHERE kind = ? AND due IS NOT NULL AND (due, key) > (?, ?) ORDER BY due, key",
    )?;
    let rows = statement.query_map(params![kind, time, key], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, Arc<str>>(1)?))
    })?;
    page(rows, |(_, key)| overlay.contains_key(key), pending.collect(), limit)
}

/// Merges the rows that are not replaced with the pending ones, and returns the first `limit`.
fn page<T: Ord>(
    rows: impl Iterator<Item = rusqlite::Result<T>>,
    is_replaced: impl Fn(&T) -> bool,
    mut pending: Vec<T>,
    limit: usize,
) -> Result<Vec<T>> {
    if pending.len() > limit {
        pending.select_nth_unstable(limit);
        pending.truncate(limit);
    }
    let rows = rows.filter(|row| row.as_ref().map_or(true, |row| !is_replaced(row)));
    for row in rows.take(limit) {
        pending.push(row?);
    }
    pending.sort_unstable();
    pending.truncate(limit);
    Ok(pending)
}

/// Returns how many servers of a kind there are.
pub fn count(connection: &Connection, overlay: &Overlay, kind: &str) -> Result<u64> {
    let transaction = connection.unchecked_transaction()?;
    let rows = connection
        .prepare_cached("SELECT count(*) FROM servers WHERE kind = ?")?
        .query_row([kind], |row| row.get::<_, i64>(0))?;
    let mut exists = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM servers WHERE kind = ? AND key = ?)")?;
    let mut count = rows.cast_unsigned();
    for (key, row) in overlay {
        let in_tables: bool = exists.query_row([kind, key], |row| row.get(0))?;
        match (in_tables, row) {
            (false, Some(_)) => count += 1,
            (true, None) => count -= 1,
            _ => {}
        }
    }
    drop(exists);
    transaction.commit()?;
    Ok(count)
}
