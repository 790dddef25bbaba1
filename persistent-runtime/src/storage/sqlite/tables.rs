//! What readers look up in the tables.

use std::{
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::{
    checksum::Checksum,
    memtable::{Memtable, Overlay},
};
use crate::{error::StorageError, id::ServerId, storage::Record};

/// What is known of the tables without a look at them.
pub struct Tables {
    /// Whether there may be messages; most databases have none, and then no
    /// look-up and no change of a server need look for them.
    messages: AtomicBool,
}

impl Tables {
    pub fn new(connection: &Connection) -> Result<Self> {
        let exist = "SELECT EXISTS (SELECT 1 FROM messages)";
        let messages = connection.query_row(exist, [], |row| row.get(0))?;
        Ok(Self { messages: AtomicBool::new(messages) })
    }

    // A transaction that can see a message began after its commit, which is
    // synchronization enough.
    pub fn has_messages(&self) -> bool {
        self.messages.load(Relaxed)
    }

    pub fn set_has_messages(&self) {
        self.messages.store(true, Relaxed);
    }

    /// A server's row, with its messages up to a number.
    pub fn load(
        &self,
        connection: &Connection,
        id: &ServerId,
        before: Option<u64>,
    ) -> Result<Option<Record>, StorageError> {
        if !self.has_messages() {
            return record(connection, id);
        }
        // Both look-ups see the same fold.
        let transaction = connection.unchecked_transaction()?;
        let Some(mut record) = record(connection, id)? else { return Ok(None) };
        let mut statement = connection.prepare_cached(
            "SELECT number, message, checksum FROM messages
             WHERE kind = ? AND key = ? AND number <= ? ORDER BY number",
        )?;
        let before = before.map_or(i64::MAX, u64::cast_signed);
        let mut rows = statement.query(params![id.kind(), id.key(), before])?;
        while let Some(row) = rows.next()? {
            let number = row.get::<_, i64>(0)?.cast_unsigned();
            let message: Arc<[u8]> =
                row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?.into();
            verify(row.get(2)?, message_checksum(id, number, &message))?;
            record.messages.push(message);
        }
        drop(rows);
        drop(statement);
        transaction.commit()?;
        Ok(Some(record))
    }
}

fn record(connection: &Connection, id: &ServerId) -> Result<Option<Record>, StorageError> {
    let row = connection
        .prepare_cached(
            "SELECT version, format, state, reminders, due, checksum FROM servers
             WHERE kind = ? AND key = ?",
        )?
        .query_row([id.kind(), id.key()], |row| {
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
    verify(sum, checksum(id, &record, &record.state.bytes()))?;
    Ok(Some(record))
}

fn verify(stored: i64, sum: u64) -> Result<(), StorageError> {
    if stored.cast_unsigned() == sum {
        return Ok(());
    }
    Err(StorageError::new(
        "what is stored is damaged, as its checksum says, and was left as it is; put a backup of \
         the database in its place, or delete the server to begin it anew",
    ))
}

/// That of a row of `servers`, all of it. `state` is the record's, in one piece.
pub fn checksum(id: &ServerId, record: &Record, state: &[u8]) -> u64 {
    let due = record.due.map_or([0, 0], |due| [1, due]);
    [record.version.into(), record.format.into()]
        .into_iter()
        .chain(due)
        .fold(address(id), Checksum::number)
        .bytes(state)
        .bytes(&record.reminders)
        .value()
}

/// That of a row of `messages`, all of it.
pub fn message_checksum(id: &ServerId, number: u64, message: &[u8]) -> u64 {
    address(id).number(number).bytes(message).value()
}

fn address(id: &ServerId) -> Checksum {
    Checksum::new().bytes(id.kind().as_bytes()).bytes(id.key().as_bytes())
}

/// Returns a page of kinds, those of the tables and of the memtable merged.
pub fn kinds(
    connection: &Connection,
    memtable: &Memtable,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Arc<str>>> {
    let pending = memtable.kinds();
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
        // All servers of the kind may have been deleted since.
        let exists = !pending.contains(&*kind)
            || !keys(connection, &memtable.overlay(&kind), &kind, None, 1)?.is_empty();
        if exists {
            kinds.push(kind.clone());
        }
        last = Some(kind);
    }
    Ok(kinds)
}

/// A page of keys, those of the tables and of the overlay merged.
pub fn keys(
    connection: &Connection,
    overlay: &Overlay,
    kind: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Arc<str>>> {
    let pending = overlay
        .iter()
        .filter(|(key, stored)| stored.is_some() && after.is_none_or(|after| after < &***key))
        .map(|(key, _)| key.clone());
    // `NULL` sorts before every text; a missing bound lets all pass.
    let mut statement = connection.prepare_cached(
        "SELECT key FROM servers WHERE kind = ?1 AND (?2 IS NULL OR key > ?2) ORDER BY key",
    )?;
    let rows = statement.query_map(params![kind, after], |row| row.get(0))?;
    page(rows, |key: &Arc<str>| overlay.contains_key(key), pending.collect(), limit)
}

/// A page of what is due, likewise.
pub fn due(
    connection: &Connection,
    overlay: &Overlay,
    kind: &str,
    after: Option<(u64, &str)>,
    limit: usize,
) -> Result<Vec<(u64, Arc<str>)>> {
    let pending = overlay
        .iter()
        .filter_map(|(key, stored)| Some(((*stored)?.due?, key)))
        .filter(|(due, key)| after.is_none_or(|after| after < (*due, &***key)))
        .map(|(due, key)| (due, key.clone()));
    // Nothing is due in negative time.
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

/// The first `limit` of the rows that nothing replaces, and of what is pending.
fn page<T: Ord>(
    rows: impl Iterator<Item = Result<T>>,
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

/// How many servers of a kind there are, each once.
pub fn count(connection: &Connection, overlay: &Overlay, kind: &str) -> Result<u64> {
    let transaction = connection.unchecked_transaction()?;
    let rows = connection
        .prepare_cached("SELECT count(*) FROM servers WHERE kind = ?")?
        .query_row([kind], |row| row.get::<_, i64>(0))?;
    let mut exists = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM servers WHERE kind = ? AND key = ?)")?;
    let mut count = rows.cast_unsigned();
    for (key, stored) in overlay {
        let in_tables: bool = exists.query_row([kind, key], |row| row.get(0))?;
        match (in_tables, stored) {
            (false, Some(_)) => count += 1,
            (true, None) => count -= 1,
            _ => {}
        }
    }
    drop(exists);
    transaction.commit()?;
    Ok(count)
}
