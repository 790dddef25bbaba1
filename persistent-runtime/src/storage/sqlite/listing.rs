//! Lists of the tables merged with the memtables, in pages.
//!
//! Each page reads a range of rows from the tables, and then merges the same range of the memtables
//! under their lock. If a memtable was dropped in between, updates have moved into the tables, and
//! the page is read again. So a list costs what it returns and what is pending in its range, and holds
//! the lock for a bounded time.

use std::{ops::Bound, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    error::Result,
    memtable::{Memtable, Memtables},
};
use crate::storage::StorageError;

/// The least number of rows that a page reads.
const MIN_ROWS: usize = 64;
/// The largest number of rows that a page reads.
const MAX_ROWS: usize = 1024;

/// The number of attempts of a count. Each ends when updates that it has read move.
const MAX_COUNTS: usize = 8;

/// An item of a list: a key, or a due time with its key.
pub trait Item: Ord + Clone {
    fn key(&self) -> &Arc<str>;

    /// Reads rows of the tables after `from`.
    fn read(
        connection: &Connection,
        kind: &str,
        from: &Bound<Self>,
        limit: usize,
    ) -> Result<Vec<Self>>;

    /// Visits the entries of a memtable after `from`, until `visit` returns false.
    fn visit(memtable: &Memtable, kind: &str, from: &Bound<Self>, visit: impl FnMut(&Self) -> bool);
}

/// A range of a list.
pub struct Page<T> {
    pub items: Vec<T>,
    /// The last item of the range; `None` if it has no end.
    pub end: Option<T>,
}

/// Returns the first `limit` items after `from`.
pub fn list<T: Item>(
    connection: &Connection,
    memtables: &Memtables,
    kind: &str,
    mut from: Bound<T>,
    limit: usize,
) -> Result<Vec<T>> {
    let mut list = Vec::new();
    while list.len() < limit {
        let reading = memtables.begin_reading();
        let max = (limit - list.len()).clamp(MIN_ROWS, MAX_ROWS);
        let items = T::read(connection, kind, &from, max)?;
        let end = if items.len() < max { None } else { items.last().cloned() };
        let Some(page) = memtables.merge(&reading, kind, &from, Page { items, end }) else {
            continue;
        };
        list.extend(page.items);
        match page.end {
            Some(end) => from = Bound::Excluded(end),
            None => break,
        }
    }
    list.truncate(limit);
    Ok(list)
}

impl Item for Arc<str> {
    fn key(&self) -> &Arc<str> {
        self
    }

    fn read(
        connection: &Connection,
        kind: &str,
        from: &Bound<Self>,
        limit: usize,
    ) -> Result<Vec<Self>> {
        let (is_after, from) = match from {
            Bound::Unbounded => (">=", ""),
            Bound::Included(key) => (">=", &**key),
            Bound::Excluded(key) => (">", &**key),
        };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT key FROM servers WHERE kind = ? AND key {is_after} ? ORDER BY key LIMIT ?"
        ))?;
        let rows = statement.query_map(params![kind, from, limit_of(limit)], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn visit(
        memtable: &Memtable,
        kind: &str,
        from: &Bound<Self>,
        visit: impl FnMut(&Self) -> bool,
    ) {
        memtable.visit_keys(kind, from, visit);
    }
}

impl Item for (u64, Arc<str>) {
    fn key(&self) -> &Arc<str> {
        &self.1
    }

    fn read(
        connection: &Connection,
        kind: &str,
        from: &Bound<Self>,
        limit: usize,
    ) -> Result<Vec<Self>> {
        let (is_after, due, key) = match from {
            Bound::Unbounded => (">=", 0, ""),
            Bound::Included((due, key)) => (">=", due.cast_signed(), &**key),
            Bound::Excluded((due, key)) => (">", due.cast_signed(), &**key),
        };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT due, key FROM servers
             WHERE kind = ? AND due IS NOT NULL AND (due, key) {is_after} (?, ?)
             ORDER BY due, key LIMIT ?"
        ))?;
        let rows = statement.query_map(params![kind, due, key, limit_of(limit)], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn visit(
        memtable: &Memtable,
        kind: &str,
        from: &Bound<Self>,
        visit: impl FnMut(&Self) -> bool,
    ) {
        memtable.visit_due(kind, from, visit);
    }
}

fn limit_of(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Returns the first `limit` kinds after `after`.
pub fn kinds(
    connection: &Connection,
    memtables: &Memtables,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Arc<str>>> {
    let mut kinds: Vec<Arc<str>> = Vec::new();
    let mut last = after.map(Arc::<str>::from);
    while kinds.len() < limit {
        memtables.begin_reading();
        // Before the tables: updates move from the memtables to the tables.
        let pending = memtables.next_kind(last.as_deref());
        let stored = next_kind(connection, last.as_deref())?;
        let Some(kind) = stored.into_iter().chain(pending).min() else { break };
        // Its servers may all be deleted.
        if !list::<Arc<str>>(connection, memtables, &kind, Bound::Unbounded, 1)?.is_empty() {
            kinds.push(kind.clone());
        }
        last = Some(kind);
    }
    Ok(kinds)
}

fn next_kind(connection: &Connection, after: Option<&str>) -> Result<Option<Arc<str>>> {
    let is_after = if after.is_some() { ">" } else { ">=" };
    let kind = connection
        .prepare_cached(&format!(
            "SELECT kind FROM kinds WHERE kind {is_after} ? ORDER BY kind LIMIT 1"
        ))?
        .query_row([after.unwrap_or_default()], |row| row.get(0));
    Ok(kind.optional()?)
}

/// Returns how many servers of a kind there are.
pub fn count(connection: &Connection, memtables: &Memtables, kind: &str) -> Result<u64> {
    for _attempt in 0..MAX_COUNTS {
        let reading = memtables.begin_reading();
        // All queries must see the same step of a flush.
        let transaction = connection.unchecked_transaction()?;
        let mut count = stored_count(connection, kind)?;
        let mut exists = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM servers WHERE kind = ? AND key = ?)")?;
        let mut from = Bound::Unbounded;
        let is_whole = loop {
            let Some(page) = memtables.replaced_rows(&reading, kind, &from) else { break false };
            for (key, exists_now) in page.items {
                let existed: bool = exists.query_row([kind, &key], |row| row.get(0))?;
                count += i64::from(exists_now) - i64::from(existed);
            }
            match page.end {
                Some((end, _)) => from = Bound::Excluded(end),
                None => break true,
            }
        };
        drop(exists);
        transaction.commit()?;
        if is_whole {
            return Ok(count.try_into().unwrap_or(0));
        }
    }
    let text = "the servers changed faster than they could be counted; try again";
    Err(StorageError::other(text).into())
}

fn stored_count(connection: &Connection, kind: &str) -> Result<i64> {
    let count = connection
        .prepare_cached("SELECT servers FROM kinds WHERE kind = ?")?
        .query_row([kind], |row| row.get(0));
    Ok(count.optional()?.unwrap_or(0))
}
