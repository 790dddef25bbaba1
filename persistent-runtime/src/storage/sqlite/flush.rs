//! The fold: a frozen generation goes into the tables, chunk by chunk, in their
//! order, so that each page of them is written once.
//!
//! A process may be killed between any two chunks. It then finds the whole
//! generation in the journal again, and the next fold overwrites what this one
//! did. The last chunk says, in its own transaction, up to which number of the
//! journal all is done; rows up to there are rubbish, and are not read again.

use std::{sync::Arc, thread};

use rusqlite::{Connection, Result, params};

use super::{
    checksum::Checksum,
    memtable::{Generation, Memtable, Pending},
    tables::{Tables, checksum, message_checksum},
};
use crate::{id::ServerId, storage::Record, storage::Update};

/// From this size on, a generation is put in order by another thread.
const SORTED_AT_ONCE: usize = 4096;

/// See the [module](self).
pub struct Fold {
    generation: Arc<Generation>,
    order: Order,
    /// How many servers are done.
    done: usize,
    /// The number behind those of the generation.
    end: u64,
}

enum Order {
    Sorting(thread::JoinHandle<Vec<ServerId>>),
    Sorted(Vec<ServerId>),
}

impl Fold {
    /// Freezes what the journal has below the number `end`.
    pub fn new(memtable: &Memtable, end: u64) -> Self {
        let generation = memtable.freeze();
        let order = Order::of(&generation);
        Self { generation, order, done: 0, end }
    }

    /// How many servers are left.
    pub fn rest(&self) -> usize {
        self.generation.len() - self.done
    }

    /// Whether the next chunk would wait for the order.
    pub fn is_sorting(&self) -> bool {
        matches!(&self.order, Order::Sorting(thread) if !thread.is_finished())
    }

    /// Moves the next `count` servers, in one transaction; true with the last.
    ///
    /// # Errors
    /// Nothing has happened then, and the same chunk can be tried again.
    pub fn step(
        &mut self,
        connection: &Connection,
        tables: &Tables,
        memtable: &Memtable,
        count: usize,
    ) -> Result<bool> {
        if let Order::Sorting(_) = &self.order {
            self.order.wait(&self.generation);
        }
        let Order::Sorted(order) = &self.order else { return Ok(false) };
        let to = self.done.saturating_add(count).min(order.len());
        let last = to == order.len();
        let chunk = &order[self.done..to];
        transaction(connection, || {
            for id in chunk {
                // The tables are then older than the journal says they are, which
                // nobody sees: what is newer comes after it, and replaces it.
                if let Some(pending) = self.generation.get(id)
                    && !memtable.is_replaced(id)
                {
                    apply(connection, tables, id, pending)?;
                }
            }
            if last {
                let sum = Checksum::new().number(self.end).value();
                connection
                    .prepare_cached("UPDATE fold SET number = ?, checksum = ?")?
                    .execute([self.end.cast_signed(), sum.cast_signed()])?;
            }
            Ok(())
        })?;
        self.done = to;
        if last {
            memtable.forget();
        }
        Ok(last)
    }

    /// Frees the memory, which takes a while, elsewhere.
    pub fn discard(self) {
        if self.generation.len() > SORTED_AT_ONCE {
            // Without a thread it is freed here.
            let _ = thread::Builder::new().spawn(move || drop(self));
        }
    }
}

impl Order {
    fn of(generation: &Arc<Generation>) -> Self {
        if generation.len() > SORTED_AT_ONCE {
            let generation = generation.clone();
            let name = "persistent-fold".to_owned();
            let thread = thread::Builder::new().name(name).spawn(move || generation.sorted());
            if let Ok(thread) = thread {
                return Self::Sorting(thread);
            }
        }
        Self::Sorted(generation.sorted())
    }

    fn wait(&mut self, generation: &Generation) {
        if let Self::Sorting(thread) = std::mem::replace(self, Self::Sorted(Vec::new())) {
            *self = Self::Sorted(thread.join().unwrap_or_else(|_| generation.sorted()));
        }
    }
}

/// What deleting a row costs at least, in bytes of a larger one.
pub const ROW: usize = 2048;

/// Deletes about `bytes` of the journal's rows that are in the tables, one row at least;
/// false if there were none.
pub fn clean(connection: &Connection, bytes: usize) -> Result<bool> {
    let rows = i64::try_from(bytes / ROW).unwrap_or(i64::MAX);
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    // The innermost query leaves the changes themselves unread.
    let deleted = transaction(connection, || {
        connection
            .prepare_cached(
                "DELETE FROM journal WHERE number IN (
                     SELECT number FROM (
                         SELECT number, length, sum(length) OVER (ORDER BY number) AS total
                         FROM (
                             SELECT number, length(changes) AS length FROM journal
                             WHERE number < (SELECT number FROM fold)
                             ORDER BY number LIMIT max(?, 1)))
                     WHERE total - length < ?)",
            )?
            .execute([rows, bytes])
    })?;
    Ok(deleted > 0)
}

/// Runs `work` in a transaction, and takes it back if it fails.
///
/// Each one is synced, also those whose loss would harm nothing: a sync that fails may
/// lose all that was written before it, for good, and the commits behind that with it.
pub fn transaction<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let outcome = work().and_then(|output| {
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(output)
    });
    // SQLite rolls back by itself after some errors, a full disk say.
    if outcome.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome
}

/// Does to the tables what a change says; doing it twice is doing it once.
fn apply(
    connection: &Connection,
    tables: &Tables,
    id: &ServerId,
    Pending { number, update }: &Pending,
) -> Result<()> {
    let forget = || -> Result<()> {
        if tables.has_messages() {
            connection
                .prepare_cached("DELETE FROM messages WHERE kind = ? AND key = ?")?
                .execute([id.kind(), id.key()])?;
        }
        Ok(())
    };
    let append = |messages: &[Arc<[u8]>]| {
        if !messages.is_empty() {
            // Before a reader can see one.
            tables.set_has_messages();
        }
        for (number, message) in (number + 1..).zip(messages) {
            connection
                .prepare_cached("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?)")?
                .execute(params![
                    id.kind(),
                    id.key(),
                    number.cast_signed(),
                    &message[..],
                    message_checksum(id, number, message).cast_signed()
                ])?;
        }
        Ok(())
    };
    match update {
        Update::Put(record) => {
            let Record { version, format, state, reminders, due, messages } = record;
            let state = state.bytes();
            forget()?;
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
                    id.kind(),
                    id.key(),
                    version,
                    format,
                    &state[..],
                    &reminders[..],
                    due.map(u64::cast_signed),
                    checksum(id, record, &state).cast_signed()
                ])?;
            append(messages)
        }
        Update::Append(messages) => append(messages),
        Update::Delete => {
            forget()?;
            connection
                .prepare_cached("DELETE FROM servers WHERE kind = ? AND key = ?")?
                .execute([id.kind(), id.key()])?;
            Ok(())
        }
    }
}
