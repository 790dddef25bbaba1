//! The flush of a frozen memtable into the tables, step by step, in the order of the tables, so
//! that each page is written once.
//!
//! The process may be killed between any two steps. The next process finds the whole memtable in
//! the commit log again, and its flush repeats what this one has done. The transaction of the last
//! step also records the log number up to which the commit log is flushed. Rows below it are not
//! read again, and are deleted later.

use std::{mem, sync::Arc, thread};

use rusqlite::{Connection, Result, params};

use super::{
    checksum::Checksum,
    memtable::{Memtable, Memtables, PendingUpdate},
    tables::{Tables, checksum, message_checksum},
};
use crate::{
    id::ServerId,
    storage::{Record, Update},
};

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
        Self { memtable, order, done: 0, end }
    }

    /// Returns how many servers are left.
    pub fn left(&self) -> usize {
        self.memtable.len() - self.done
    }

    /// Returns true if the next step would have to wait for the order.
    pub fn is_sorting(&self) -> bool {
        matches!(&self.order, Order::Sorting(thread) if !thread.is_finished())
    }

    /// Flushes the next `count` servers in one transaction. Returns true after the last.
    ///
    /// # Errors
    /// If the transaction failed. It has changed nothing, and the step can be repeated.
    pub fn step(
        &mut self,
        connection: &Connection,
        tables: &Tables,
        memtables: &Memtables,
        count: usize,
    ) -> Result<bool> {
        if let Order::Sorting(_) = &self.order {
            self.order.wait(&self.memtable);
        }
        let Order::Sorted(order) = &self.order else { return Ok(false) };
        let to = self.done.saturating_add(count).min(order.len());
        let is_last = to == order.len();
        let servers = &order[self.done..to];
        transaction(connection, || {
            for server in servers {
                // Skipping leaves a row that is older than the recorded log number. No reader sees
                // it: the newer update is in the active memtable, whose flush replaces the row.
                if let Some(pending) = self.memtable.get(server)
                    && !memtables.is_replaced(server)
                {
                    apply(connection, tables, server, pending)?;
                }
            }
            if is_last {
                let sum = Checksum::new().number(self.end).value();
                connection
                    .prepare_cached("UPDATE flushed SET number = ?, checksum = ?")?
                    .execute([self.end.cast_signed(), sum.cast_signed()])?;
            }
            Ok(())
        })?;
        self.done = to;
        if is_last {
            memtables.drop_frozen();
        }
        Ok(is_last)
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

/// Applies an update to the tables. Applying it twice has the same effect as once.
fn apply(
    connection: &Connection,
    tables: &Tables,
    server: &ServerId,
    PendingUpdate { number, update }: &PendingUpdate,
) -> Result<()> {
    let delete_messages = || -> Result<()> {
        if tables.may_have_messages() {
            connection
                .prepare_cached("DELETE FROM messages WHERE kind = ? AND key = ?")?
                .execute([server.kind(), server.key()])?;
        }
        Ok(())
    };
    let append = |messages: &[Arc<[u8]>]| {
        if !messages.is_empty() {
            // Set before a reader can see a message.
            tables.set_may_have_messages();
        }
        for (number, message) in (number + 1..).zip(messages) {
            connection
                .prepare_cached("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?)")?
                .execute(params![
                    server.kind(),
                    server.key(),
                    number.cast_signed(),
                    &message[..],
                    message_checksum(server, number, message).cast_signed()
                ])?;
        }
        Ok(())
    };
    match update {
        Update::Put(record) => {
            let Record { version, format, state, reminders, due, messages } = record;
            let state = state.bytes();
            delete_messages()?;
            connection
                .prepare_cached(
                    "INSERT INTO servers
                     (kind, key, version, format, state, reminders, due, checksum)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                     ON CONFLICT DO UPDATE SET
                     version = excluded.version, format = excluded.format,
                     state = excluded.state, reminders = excluded.reminders,
                     due = excluded.due, checksum = excluded.checksum",
                )?
                .execute(params![
                    server.kind(),
                    server.key(),
                    version,
                    format,
                    &state[..],
                    &reminders[..],
                    due.map(u64::cast_signed),
                    checksum(server, record, &state).cast_signed()
                ])?;
            append(messages)
        }
        Update::Append(messages) => append(messages),
        Update::Delete => {
            delete_messages()?;
            connection
                .prepare_cached("DELETE FROM servers WHERE kind = ? AND key = ?")?
                .execute([server.kind(), server.key()])?;
            Ok(())
        }
    }
}
