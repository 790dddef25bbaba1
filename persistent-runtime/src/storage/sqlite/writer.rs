//! The writer thread: appends batches of commits to the commit log, and moves them to the tables
//! between the batches.

use std::{
    collections::{BTreeSet, HashSet},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{
    checkpoint::{self, Checkpoints},
    checksum::Checksum,
    commit_log::{self, ROW_BYTES, Row, SPLICE_MIN},
    error::Result,
    files::Files,
    flush::{self, Flush, StepSize, transaction},
    health::Health,
    memtable::{Memtable, Memtables, PendingUpdate},
    pacing::{Action, BatchSize, FlushView, Pacer, View},
    queue::{Queue, Receiver, Recv, Submission},
    tables::Tables,
};
use crate::{
    id::ServerId,
    storage::{
        Commit, Completion, StorageError, StorageErrorKind, StorageWork, Update, commit::no_record,
    },
};

/// The least time between two comparisons of the files with those that were opened. What is
/// committed in between to a file that was removed can be lost.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Limits of one transaction, so that no commit waits long for others.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// The state of the writer thread.
pub struct Writer {
    connection: Connection,
    tables: Arc<Tables>,
    memtables: Arc<Memtables>,
    checkpoints: Checkpoints,
    pacer: Pacer,
    kept_pages: u32,
    /// The log number of the next update.
    next: u64,
    flush: Option<Flush>,
    /// The error of the last flush and its time.
    last_error: Option<(Instant, StorageError)>,
    /// True if the commit log may have flushed rows.
    has_flushed_rows: bool,
    /// True if pages were freed since the file was last known to have few of them.
    has_free_pages: bool,
    buffer: Vec<u8>,
    health: Health,
    /// When the files were last compared with those that were opened.
    checked: Instant,
    /// Why nothing is stored any more.
    files_changed: Option<StorageError>,
    // Dropped last.
    files: Files,
}

impl Writer {
    pub fn new(
        connection: Connection,
        tables: Arc<Tables>,
        memtables: Arc<Memtables>,
        checkpoints: Checkpoints,
        health: Health,
        files: Files,
        next: u64,
    ) -> Self {
        let limits = checkpoints.limits;
        Self {
            connection,
            tables,
            memtables,
            checkpoints,
            pacer: Pacer::new(limits),
            kept_pages: limits.kept_pages,
            next,
            flush: None,
            last_error: None,
            has_flushed_rows: true,
            has_free_pages: true,
            buffer: Vec::new(),
            health,
            checked: Instant::now(),
            files_changed: None,
            files,
        }
    }

    /// Runs until the queue is closed and empty. Holds the lock until everything is flushed, so
    /// that the next runtime opens a database that no other writes to.
    pub fn run(mut self, queue: &Receiver) {
        while self.run_once(&queue.0) {}
        self.close(&queue.0);
    }

    /// Commits what is queued, or takes a step of other work if nothing is. Returns false when the
    /// queue is closed and empty.
    fn run_once(&mut self, queue: &Queue) -> bool {
        let timeout = match self.files_changed {
            None => self.pacer.timeout(&self.view()),
            Some(_) => None,
        };
        let received = queue.recv(timeout);
        self.pacer.waited(!matches!(received, Recv::Timeout));
        match received {
            Recv::Batch(commits) => {
                let mut commits = commits.into_iter();
                while let Some(batch) = next_batch(&mut commits) {
                    let size = self.commit(batch);
                    self.after_batch(size);
                }
            }
            Recv::Timeout => {
                let action = self.pacer.when_idle(&self.view());
                self.act(action);
            }
            Recv::Closed => return false,
        }
        true
    }

    /// Commits a batch in one transaction and completes each of its commits.
    pub fn commit(&mut self, mut batch: Vec<Submission>) -> BatchSize {
        if let Some(error) = self.refusal() {
            fail(batch, &error);
            return BatchSize::default();
        }
        self.fail_appends_without_record(&mut batch);
        if batch.is_empty() {
            return BatchSize::default();
        }
        let mut number = self.next;
        let size = match self.append(&batch) {
            Ok(size) => size,
            Err(error) => {
                fail(batch, &error.into());
                return BatchSize::default();
            }
        };
        self.checkpoints.mark(&self.files);
        let (mut completions, mut holds) = (Vec::with_capacity(batch.len()), Vec::new());
        let updates = batch.into_iter().map(|Submission { commit, completion, hold }| {
            completions.push(completion);
            holds.extend(hold);
            let pending = PendingUpdate::new(number, commit.update);
            number += commit_log::numbers(&pending.update);
            (commit.server, pending)
        });
        self.memtables.publish(updates, size.weight);
        Completion::complete_all(completions);
        drop(holds);
        size
    }

    /// Appends the rows of a batch to the commit log.
    fn append(&mut self, batch: &[Submission]) -> Result<BatchSize> {
        let Self { connection, memtables, buffer, next, .. } = self;
        // A difference refers to the previous update of the server. That is the one in the
        // memtable, unless the batch has another one before.
        let is_large = |commit: &Commit| match &commit.update {
            Update::Put(record) => record.state.len() >= SPLICE_MIN,
            Update::Append(_) | Update::Delete => false,
        };
        let has_large = batch.iter().any(|submission| is_large(&submission.commit));
        let mut seen = has_large.then(HashSet::new);
        let mut size = BatchSize::default();
        // `next` advances even if the transaction fails, so that no row is written twice.
        transaction(connection, || {
            let insert = |mut row: Row| {
                connection
                    .prepare_cached("INSERT INTO commit_log (number, changes) VALUES (?, ?)")?
                    .execute(params![row.number().cast_signed(), row.seal()])?;
                Ok::<_, rusqlite::Error>(row.into_buffer())
            };
            let mut row = Row::new(*next, mem::take(buffer));
            for Submission { commit, .. } in batch {
                // A large update has a row of its own: together with others it could be too large for
                // SQLite, and they would fail with it.
                let is_full = row.len() >= ROW_BYTES || commit.update.bytes() >= ROW_BYTES;
                if is_full && row.len() > 0 {
                    row = Row::new(*next, insert(row)?);
                }
                let is_first = seen.as_mut().is_none_or(|seen| seen.insert(&commit.server));
                let old = if is_first && is_large(commit) {
                    memtables.active_state(&commit.server)
                } else {
                    None
                };
                let before = row.len();
                row.push(&commit.server, &commit.update, old.as_ref());
                let bytes = row.len() - before;
                size.bytes += bytes;
                size.weight += commit_log::weight(bytes, &commit.update, old.is_some());
                *next += commit_log::numbers(&commit.update);
            }
            *buffer = insert(row)?;
            Ok(())
        })?;
        // One large state must not occupy memory forever.
        buffer.clear();
        buffer.shrink_to(4 * ROW_BYTES);
        Ok(size)
    }

    /// Compares the files with those that were opened.
    fn check_files(&mut self) {
        self.checked = Instant::now();
        if self.files_changed.is_none() {
            let log_has_pages = || checkpoint::log_has_pages(&self.connection);
            self.files_changed = self.files.check(log_has_pages).err();
        }
    }

    /// Returns why nothing can be committed: a file has changed, or the commit log is full, because
    /// flushes fail.
    fn refusal(&mut self) -> Option<StorageError> {
        if self.checked.elapsed() >= CHECK_INTERVAL {
            self.check_files();
        }
        if self.files_changed.is_some() {
            return self.files_changed.clone();
        }
        if let Some(error) = self.checkpoints.refusal(&self.connection) {
            return Some(error);
        }
        if !self.pacer.must_refuse(self.memtables.active().0) {
            return None;
        }
        self.last_error = None;
        let action = self.pacer.before_refusal(&self.view());
        self.act(action);
        let (_, error) = self.last_error.as_ref()?;
        Some(error.clone().with_context("the commit log is full and cannot be flushed"))
    }

    /// Completes appends to deleted servers with an error, and removes them from the batch.
    fn fail_appends_without_record(&self, batch: &mut Vec<Submission>) {
        let is_append =
            |submission: &Submission| matches!(submission.commit.update, Update::Append(_));
        let is_wrong = |submission: &Submission| {
            is_append(submission) && !self.may_append(&submission.commit.server, &[])
        };
        let has_delete = batch.iter().any(|submission| submission.commit.update == Update::Delete);
        if !has_delete && !batch.iter().any(is_wrong) {
            return;
        }
        let mut at = 0;
        while at < batch.len() {
            let (before, after) = batch.split_at(at);
            if is_append(&after[0]) && !self.may_append(&after[0].commit.server, before) {
                fail(vec![batch.remove(at)], &no_record());
            } else {
                at += 1;
            }
        }
    }

    /// Returns false if the last update of a server, in the batch or before it, is a delete.
    fn may_append(&self, server: &ServerId, batch: &[Submission]) -> bool {
        let decides = |commit: &Commit| {
            commit.server == *server && !matches!(commit.update, Update::Append(_))
        };
        match batch.iter().map(|submission| &submission.commit).rfind(|commit| decides(commit)) {
            Some(commit) => commit.update != Update::Delete,
            None => !self.memtables.is_deleted(server),
        }
    }

    /// Does the work that is due after a batch.
    fn after_batch(&mut self, size: BatchSize) {
        let action = self.pacer.flush_after(&self.view(), size);
        self.act(action);
        let action = self.pacer.delete_after(self.has_flushed_rows, size);
        self.act(action);
        self.checkpoints.after_commit(&self.connection, size.bytes);
        self.note_checkpoint();
    }

    fn view(&self) -> View {
        let (weight, since) = self.memtables.active();
        let flush = self.flush.as_ref();
        View {
            weight,
            age: since.map(|since| since.elapsed()),
            flush: flush.map(|it| FlushView { left: it.left(), is_sorting: it.is_sorting() }),
            failed_since: self.last_error.as_ref().map(|(since, _)| since.elapsed()),
            has_flushed_rows: self.has_flushed_rows,
            has_free_pages: self.has_free_pages,
        }
    }

    fn act(&mut self, action: Option<Action>) {
        if action == Some(Action::Freeze) {
            self.check_files();
        }
        match action {
            // A runtime that has the database open by now would lose what it has stored.
            _ if self.files_changed.is_some() => {}
            Some(Action::Freeze) => self.freeze(),
            Some(Action::Flush(size)) => self.flush(size),
            Some(Action::Delete(bytes)) => self.delete_flushed(bytes),
            Some(Action::Reclaim(pages)) => self.reclaim(pages),
            None => {}
        }
    }

    fn freeze(&mut self) {
        self.flush = Some(Flush::new(&self.memtables, self.next));
    }

    /// Flushes the next servers. A failure fails no commit: the step is repeated later.
    fn flush(&mut self, size: StepSize) {
        let Some(mut flush) = self.flush.take() else { return };
        let (tables, memtables) = (&self.tables, &self.memtables);
        let outcome = flush.step(&self.connection, tables, memtables, size, &mut self.next);
        if outcome.is_ok() {
            self.checkpoints.mark(&self.files);
        }
        match outcome {
            Ok(true) => {
                self.last_error = None;
                let damage = damage(flush.damaged());
                self.health.note(StorageWork::Flush, damage.as_ref().map_or(Ok(()), Err));
                self.has_flushed_rows = true;
                flush.discard();
            }
            outcome => {
                let failed = outcome.err().map(super::error::Error::from);
                self.last_error = failed.map(|error| (Instant::now(), error.into()));
                if let Some((_, error)) = &self.last_error {
                    self.health.note(StorageWork::Flush, Err(error));
                }
                self.flush = Some(flush);
            }
        }
        self.checkpoints.after_flush(&self.connection);
        self.note_checkpoint();
    }

    fn note_checkpoint(&mut self) {
        if let Some(outcome) = self.checkpoints.take_outcome() {
            self.health.note(StorageWork::Checkpoint, outcome.as_ref().copied());
        }
    }

    fn delete_flushed(&mut self, bytes: usize) {
        // A deletion that fails is repeated after the next flush.
        self.has_flushed_rows = flush::delete_flushed(&self.connection, bytes).unwrap_or(false);
        self.has_free_pages = true;
    }

    /// Gives free pages back to the file system. A failure is repeated after the next deletion.
    fn reclaim(&mut self, pages: u32) {
        self.has_free_pages =
            flush::reclaim(&self.connection, pages, self.kept_pages).unwrap_or(false);
        self.checkpoints.after_flush(&self.connection);
    }

    /// Moves everything into the tables, as far as the disk allows it. In a hurry it stays in the
    /// commit log.
    fn close(mut self, queue: &Queue) {
        self.last_error = None;
        while self.files_changed.is_none()
            && !queue.is_hurried()
            && let Some(action) = self.pacer.at_close(&self.view())
        {
            self.act(Some(action));
        }
        self.checkpoints.close(&self.connection, &self.files);
    }
}

/// Returns the error of rows that cannot be written.
fn damage(servers: &BTreeSet<ServerId>) -> Option<StorageError> {
    let first = servers.first()?;
    let others = match servers.len() - 1 {
        0 => String::new(),
        1 => " and another server".to_owned(),
        others => format!(" and {others} other servers"),
    };
    let text = format!(
        "a page of the database is damaged; changes of {first}{others} stay in the \
         commit log; restore a backup"
    );
    Some(StorageError::new(StorageErrorKind::Corrupt, text))
}

/// Takes as many commits as fit into one transaction, or `None` if there are none left.
fn next_batch(commits: &mut impl Iterator<Item = Submission>) -> Option<Vec<Submission>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_ROWS
        && bytes < BATCH_BYTES
        && let Some(next) = commits.next()
    {
        bytes += next.commit.update.bytes();
        batch.push(next);
    }
    (!batch.is_empty()).then_some(batch)
}

fn fail(batch: Vec<Submission>, error: &StorageError) {
    for Submission { completion, hold, .. } in batch {
        completion.complete(Err(error.clone()));
        drop(hold);
    }
}

/// Reads the part of the commit log that is not flushed. Returns it with the next log number.
pub fn recover(connection: &Connection) -> Result<(Memtable, u64)> {
    let (flushed, sum): (i64, i64) =
        connection.query_row("SELECT number, checksum FROM flushed", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    // With a wrong number, rows that were never read would be deleted.
    if Checksum::new().number(flushed.cast_unsigned()).value() != sum.cast_unsigned() {
        let text = "the table `flushed` is damaged";
        return Err(StorageError::new(StorageErrorKind::Corrupt, text).into());
    }
    let mut next = flushed.cast_unsigned().max(1);
    let mut memtable = Memtable::default();
    let mut rows = connection
        .prepare("SELECT number, changes FROM commit_log WHERE number >= ? ORDER BY number")?;
    let mut rows = rows.query([flushed])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let updates = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        next = commit_log::replay(number.cast_unsigned(), updates, &mut memtable)?;
    }
    Ok((memtable, next))
}

#[cfg(test)]
mod tests;
