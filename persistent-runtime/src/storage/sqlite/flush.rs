//! The flush of a frozen memtable into the tables, step by step, in the order of the tables, so
//! that each page is written once.
//!
//! The process may be killed between any two steps. The next process finds the whole memtable in
//! the commit log again, and its flush repeats what this one has done. The transaction of the last
//! step also records the log number up to which the commit log is flushed. Rows below it are not
//! read again, and are deleted later.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    thread,
};

use rusqlite::{Connection, ErrorCode, Result, ffi, params};

use super::{
    checksum::Checksum,
    commit_log::{self, Row},
    memtable::{Memtable, Memtables, PendingUpdate},
    tables::{self, Tables, checksum, message_checksum},
};
use crate::{
    id::ServerId,
    storage::{Record, Update},
};

/// With more damaged servers than this, the database is damaged as a whole.
const MAX_DAMAGED: usize = 1024;
/// A memtable with more servers is sorted and freed by another thread.
const MAX_INLINE: usize = 4096;

/// A flush in progress.
pub struct Flush {
    memtable: Arc<Memtable>,
    order: Order,
    /// The number of servers flushed so far.
    done: usize,
    /// The log number after the last of the memtable.
    end: u64,
    /// The least id of the next new row; `None` before the first step.
    next_id: Option<i64>,
    /// The servers whose updates cannot be applied, because a page is damaged.
    damaged: BTreeSet<ServerId>,
}

/// The size of a step: a number of servers, and the bytes of their updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSize {
    pub servers: usize,
    pub bytes: usize,
}

enum Order {
    Sorting(thread::JoinHandle<Vec<ServerId>>),
    Sorted(Vec<ServerId>),
}

impl Flush {
    /// Freezes the active memtable, which has all updates below the log number `end`.
    pub fn new(memtables: &Memtables, end: u64) -> Self {
        let memtable = memtables.freeze();
        let order = Order::of(&memtable);
        Self { memtable, order, done: 0, end, next_id: None, damaged: BTreeSet::new() }
    }

    /// Returns how many servers are left.
    pub fn left(&self) -> usize {
        self.memtable.len() - self.done
    }

    /// Returns true if the next step would have to wait for the order.
    pub fn is_sorting(&self) -> bool {
        matches!(&self.order, Order::Sorting(thread) if !thread.is_finished())
    }

    /// Flushes the next servers in one transaction: at most `size`, and at least one. Returns true
    /// after the last.
    ///
    /// A damaged page costs its servers and no others: their updates go back into the commit log,
    /// from the number `next` on, and into the active memtable.
    ///
    /// # Errors
    /// If the transaction failed. It has changed nothing, and the step can be repeated.
    pub fn step(
        &mut self,
        connection: &Connection,
        tables: &Tables,
        memtables: &Memtables,
        size: StepSize,
        next: &mut u64,
    ) -> Result<bool> {
        if let Order::Sorting(_) = &self.order {
            self.order.wait(&self.memtable);
        }
        let Order::Sorted(order) = &self.order else { return Ok(false) };
        let (to, updates) = self.select(order, memtables, size);
        let is_last = to == order.len();
        let mut next_id;
        let mut damaged = self.damaged.clone();
        let put_back = loop {
            next_id = match self.next_id {
                Some(next_id) => next_id,
                None => first_id(connection)?,
            };
            let mut culprit = None;
            let outcome = transaction(connection, || {
                let mut applier = Applier {
                    connection,
                    tables,
                    next_id: &mut next_id,
                    changes: BTreeMap::new(),
                    culprit: &mut culprit,
                };
                applier
                    .apply_all(updates.iter().filter(|(server, _)| !damaged.contains(server)))?;
                if !is_last {
                    return Ok(None);
                }
                let sum = Checksum::new().number(self.end).value();
                connection
                    .prepare_cached("UPDATE flushed SET number = ?, checksum = ?")?
                    .execute([self.end.cast_signed(), sum.cast_signed()])?;
                PutBack::write(connection, memtables, &self.memtable, &damaged, *next)
            });
            match (outcome, culprit) {
                (Ok(put_back), _) => break put_back,
                // SQLite commits no transaction that has met damage. So it is repeated without the
                // server.
                (Err(error), Some(server)) if is_damage(&error) && damaged.len() < MAX_DAMAGED => {
                    damaged.insert(server);
                }
                (Err(error), _) => return Err(error),
            }
        };
        (self.done, self.next_id, self.damaged) = (to, Some(next_id), damaged);
        if is_last {
            let mut updates = Vec::new();
            if let Some(put_back) = put_back {
                *next = put_back.end;
                updates = put_back.updates;
            }
            memtables.end_flush(updates);
        }
        Ok(is_last)
    }

    /// Returns the next servers with their updates, and the position after them.
    fn select<'a>(
        &'a self,
        order: &'a [ServerId],
        memtables: &Memtables,
        size: StepSize,
    ) -> (usize, Vec<(&'a ServerId, &'a PendingUpdate)>) {
        let (mut to, mut bytes) = (self.done, 0);
        let mut updates = Vec::new();
        while to < order.len()
            && to - self.done < size.servers
            && (bytes < size.bytes || to == self.done)
        {
            let server = &order[to];
            to += 1;
            // Skipping leaves a row that is older than the recorded log number. No reader sees it:
            // the newer update is in the active memtable, whose flush replaces the row. A server that
            // was deleted gets a new id.
            if let Some(pending) = self.memtable.get(server)
                && (pending.renews_id() || !memtables.is_replaced(server))
            {
                bytes += pending.update.bytes();
                updates.push((server, pending));
            }
        }
        (to, updates)
    }

    /// Returns the servers whose rows are damaged.
    pub fn damaged(&self) -> &BTreeSet<ServerId> {
        &self.damaged
    }

    /// Frees the memory, on another thread if that takes long.
    pub fn discard(self) {
        if self.memtable.len() > MAX_INLINE {
            // If no thread can be spawned, this drops it here.
            let _ = thread::Builder::new().spawn(move || drop(self));
        }
    }
}

impl Order {
    fn of(memtable: &Arc<Memtable>) -> Self {
        if memtable.len() > MAX_INLINE {
            let memtable = memtable.clone();
            let name = "persistent-flush".to_owned();
            let thread = thread::Builder::new().name(name).spawn(move || memtable.sorted());
            if let Ok(thread) = thread {
                return Self::Sorting(thread);
            }
        }
        Self::Sorted(memtable.sorted())
    }

    fn wait(&mut self, memtable: &Memtable) {
        if let Self::Sorting(thread) = mem::replace(self, Self::Sorted(Vec::new())) {
            *self = Self::Sorted(thread.join().unwrap_or_else(|_| memtable.sorted()));
        }
    }
}

/// Returns the first id for the new rows of a flush.
fn first_id(connection: &Connection) -> Result<i64> {
    connection.prepare_cached("SELECT next_id FROM flushed")?.query_row([], |row| row.get(0))
}

fn damage(text: &str) -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(text.to_owned()))
}

/// Returns an error unless a statement has changed the one row that an index has led to.
fn one_row(rows: usize) -> Result<()> {
    if rows == 1 { Ok(()) } else { Err(damage("an index leads to a row that is missing")) }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    // An index that has lost an entry allows a second row, and then refuses it.
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::DatabaseCorrupt
            || error.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE
    })
}

/// Updates of damaged servers that went back into the commit log.
struct PutBack {
    updates: Vec<(ServerId, PendingUpdate)>,
    /// The log number after the last of them.
    end: u64,
}

impl PutBack {
    /// Writes the updates into the commit log, those that are replaced in the active memtable
    /// excepted. Returns `None` if there are none.
    fn write(
        connection: &Connection,
        memtables: &Memtables,
        frozen: &Memtable,
        damaged: &BTreeSet<ServerId>,
        next: u64,
    ) -> Result<Option<Self>> {
        let (mut row, mut end, mut updates) = (Row::new(next, Vec::new()), next, Vec::new());
        for server in damaged {
            let Some(pending) = memtables.unreplaced(server, frozen) else { continue };
            if matches!(pending.update, Update::Append(_)) {
                // Messages could be in the log twice, or in the log and in the tables.
                return Err(damage("a page with journaled messages is damaged"));
            }
            if pending.is_recreated {
                row.push(server, &Update::Delete, None);
                end += commit_log::numbers(&Update::Delete);
            }
            row.push(server, &pending.update, None);
            let number = end;
            end += commit_log::numbers(&pending.update);
            updates.push((server.clone(), PendingUpdate { number, ..pending }));
        }
        if updates.is_empty() {
            return Ok(None);
        }
        connection
            .prepare_cached("INSERT INTO commit_log (number, changes) VALUES (?, ?)")?
            .execute(params![row.number().cast_signed(), row.seal()])?;
        Ok(Some(Self { updates, end }))
    }
}

/// The least cost of deleting a row, in bytes of a larger row.
pub const MIN_ROW_COST: usize = 2048;

/// Deletes flushed rows of the commit log, about `bytes` and at least one row. Returns false if
/// there were none.
pub fn delete_flushed(connection: &Connection, bytes: usize) -> Result<bool> {
    let rows = i64::try_from(bytes / MIN_ROW_COST).unwrap_or(i64::MAX);
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    // `length` does not read a blob, so the innermost query is cheap.
    let deleted = transaction(connection, || {
        connection
            .prepare_cached(
                "DELETE FROM commit_log WHERE number IN (
                     SELECT number FROM (
                         SELECT number, length, sum(length) OVER (ORDER BY number) AS total
                         FROM (
                             SELECT number, length(changes) AS length FROM commit_log
                             WHERE number < (SELECT number FROM flushed)
                             ORDER BY number LIMIT max(?, 1)))
                     WHERE total - length < ?)",
            )?
            .execute([rows, bytes])
    })?;
    Ok(deleted > 0)
}

/// The file keeps as many free pages as this part of all its pages.
const KEPT_PART: u32 = 8;

/// Gives at most `limit` free pages back to the file system. Returns false if the file has no more
/// than it should keep, which is at least `kept`.
pub fn reclaim(connection: &Connection, limit: u32, kept: u32) -> Result<bool> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    let (all, free) = (number("page_count")?, number("freelist_count")?);
    let surplus = free.saturating_sub(kept.max(all / KEPT_PART));
    if surplus == 0 {
        return Ok(false);
    }
    transaction(connection, || {
        let pragma = format!("PRAGMA incremental_vacuum({})", surplus.min(limit));
        let mut statement = connection.prepare(&pragma)?;
        // Each step of the statement frees one page; none if another program has turned
        // `auto_vacuum` off.
        let (mut steps, mut freed) = (statement.query([])?, 0);
        while steps.next()?.is_some() {
            freed += 1;
        }
        Ok(freed > 0)
    })
}

/// Runs `work` in a transaction, and rolls back if it fails.
///
/// Every transaction is synced, even if its loss alone would do no harm: a failed sync can lose
/// everything that was written since the last successful one, and the log ends at the gap.
pub fn transaction<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let outcome = work().and_then(|output| {
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(output)
    });
    // SQLite has already rolled back after some errors, e.g. on a full disk.
    if outcome.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome
}

/// Applies updates to the tables. Applying them twice has the same effect as once.
struct Applier<'a> {
    connection: &'a Connection,
    tables: &'a Tables,
    /// The least id of the next new row. No id is used twice.
    next_id: &'a mut i64,
    /// By how much the number of servers of each kind has changed.
    changes: BTreeMap<&'a str, i64>,
    /// The server whose update is being applied.
    culprit: &'a mut Option<ServerId>,
}

impl<'a> Applier<'a> {
    fn apply_all<'b>(
        &mut self,
        updates: impl Iterator<Item = &'b (&'a ServerId, &'a PendingUpdate)>,
    ) -> Result<()>
    where
        'a: 'b,
    {
        let mut rows = Vec::new();
        for (server, pending) in updates {
            *self.culprit = Some((*server).clone());
            rows.push((tables::id(self.connection, server)?, *server, *pending));
        }
        // The order of the table. New rows come last, in the order of the index.
        rows.sort_by_key(|(id, ..)| id.unwrap_or(i64::MAX));
        for (id, server, pending) in rows {
            *self.culprit = Some(server.clone());
            self.apply(id, server, pending)?;
        }
        *self.culprit = None;
        let next_id = "UPDATE flushed SET next_id = ?";
        self.connection.prepare_cached(next_id)?.execute([&*self.next_id])?;
        self.write_counts()
    }

    fn apply(
        &mut self,
        id: Option<i64>,
        server: &'a ServerId,
        pending: &PendingUpdate,
    ) -> Result<()> {
        let number = pending.number;
        match (&pending.update, id) {
            (Update::Put(record), Some(id)) if !pending.is_recreated => {
                self.delete_messages(id)?;
                self.update(id, server, number, record)?;
                self.append(id, server, number, &record.messages)
            }
            (Update::Put(record), id) => {
                if let Some(id) = id {
                    self.delete(id, server)?;
                }
                let id = self.insert(server, number, record)?;
                self.append(id, server, number, &record.messages)
            }
            (Update::Append(messages), Some(id)) => self.append(id, server, number, messages),
            (Update::Delete, Some(id)) => self.delete(id, server),
            (Update::Append(_) | Update::Delete, None) => Ok(()),
        }
    }

    fn update(&self, id: i64, server: &ServerId, number: u64, record: &Record) -> Result<()> {
        let state = record.state.bytes();
        self.connection
            .prepare_cached(
                "UPDATE servers SET sequence = ?, version = ?, format = ?, due = ?, checksum = ?,
                 reminders = ?, state = ? WHERE id = ?",
            )?
            .execute(params![
                number.cast_signed(),
                record.version,
                record.format,
                record.due.map(u64::cast_signed),
                checksum(server, id, number, record, &state).cast_signed(),
                &record.reminders[..],
                &state[..],
                id
            ])
            .and_then(one_row)
    }

    /// Inserts a row, and returns its id.
    fn insert(&mut self, server: &'a ServerId, number: u64, record: &Record) -> Result<i64> {
        let state = record.state.bytes();
        let id = *self.next_id;
        self.connection
            .prepare_cached("INSERT INTO servers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![
                id,
                server.kind(),
                server.key(),
                number.cast_signed(),
                record.version,
                record.format,
                record.due.map(u64::cast_signed),
                checksum(server, id, number, record, &state).cast_signed(),
                &record.reminders[..],
                &state[..]
            ])?;
        *self.next_id += 1;
        *self.changes.entry(server.kind()).or_default() += 1;
        Ok(id)
    }

    fn delete(&mut self, id: i64, server: &'a ServerId) -> Result<()> {
        self.delete_messages(id)?;
        let delete = "DELETE FROM servers WHERE id = ?";
        self.connection.prepare_cached(delete)?.execute([id]).and_then(one_row)?;
        *self.changes.entry(server.kind()).or_default() -= 1;
        Ok(())
    }

    fn append(
        &self,
        id: i64,
        server: &ServerId,
        number: u64,
        messages: &[Arc<[u8]>],
    ) -> Result<()> {
        if !messages.is_empty() {
            // Set before a reader can see a message.
            self.tables.set_may_have_messages();
        }
        for (number, message) in (number + 1..).zip(messages) {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?)")?
                .execute(params![
                    id,
                    number.cast_signed(),
                    message_checksum(server, number, message).cast_signed(),
                    &message[..]
                ])?;
        }
        Ok(())
    }

    fn delete_messages(&self, id: i64) -> Result<()> {
        if self.tables.may_have_messages() {
            let delete = "DELETE FROM messages WHERE server = ?";
            self.connection.prepare_cached(delete)?.execute([id])?;
        }
        Ok(())
    }

    /// Writes how many servers of each kind there are.
    fn write_counts(&self) -> Result<()> {
        for (kind, change) in &self.changes {
            self.connection
                .prepare_cached(
                    "INSERT INTO kinds VALUES (?, ?)
                     ON CONFLICT DO UPDATE SET servers = servers + excluded.servers",
                )?
                .execute(params![kind, change])?;
            let empty = "DELETE FROM kinds WHERE kind = ? AND servers = 0";
            self.connection.prepare_cached(empty)?.execute([kind])?;
        }
        Ok(())
    }
}
