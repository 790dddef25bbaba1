//! The writer: batch after batch into the journal, and the fold between them.

use std::{
    collections::HashSet,
    fs::File,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{
    checkpoint::Checkpoints,
    checksum::Checksum,
    commit_log::{self, ROW_BYTES, Row, SPLICED},
    flush::{self, Fold, transaction},
    memtable::{Generation, Memtable, Pending},
    queue::{Found, Queue, Submission, Taker},
    tables::Tables,
};
use crate::{
    error::StorageError, id::ServerId, storage::Commit, storage::Completion, storage::Update,
};

/// Limits of one transaction, so that no commit waits for long behind others.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// The weight at which a generation is frozen. There are two at most, so twice
/// this bounds the memory, and what is read when a database is opened.
const GENERATION: usize = 64 << 20;
/// How old a change becomes at least before it is folded for its age: hot
/// servers have many changes in that time, of which one is folded.
const YOUNG: Duration = Duration::from_secs(1);
/// How long it must have been quiet before a fold is begun.
const QUIET: Duration = Duration::from_millis(20);
/// How long before what has been begun uses the pause: one who calls again and again
/// makes shorter ones, and would wait for it each time.
const PAUSE: Duration = Duration::from_millis(1);
/// The age at which a change is folded though there was no pause.
const OLD: Duration = Duration::from_secs(30);
/// How many servers are folded at once, in a pause or between two batches: a commit
/// may come at any time, and each fold has a sync.
const SOME_SERVERS: usize = 128;
/// How many servers are folded at once where nobody waits.
const FREE_SERVERS: usize = 4096;
/// Bytes of the journal that are deleted at once.
const CLEANED: usize = 2 << 20;
/// When a failed fold is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a batch came to.
#[derive(Default)]
pub struct Written {
    /// Bytes in the journal.
    bytes: usize,
    /// By how much the generation has grown.
    weight: usize,
}

/// See the [module](self).
pub struct Writer {
    connection: Connection,
    tables: Arc<Tables>,
    memtable: Arc<Memtable>,
    checkpoints: Checkpoints,
    /// The next change's number.
    next: u64,
    fold: Option<Fold>,
    /// How many servers should be folded by now.
    late: usize,
    /// When a fold failed, and why.
    trouble: Option<(Instant, StorageError)>,
    /// Whether the journal has rows that are in the tables.
    rubbish: bool,
    /// How many bytes of them should be deleted by now.
    owed: usize,
    /// Whether nobody has come since the last look.
    quiet: bool,
    buffer: Vec<u8>,
    generation: usize,
}

impl Writer {
    pub fn new(
        connection: Connection,
        tables: Arc<Tables>,
        memtable: Arc<Memtable>,
        checkpoints: Checkpoints,
        next: u64,
    ) -> Self {
        Self {
            connection,
            tables,
            memtable,
            checkpoints,
            next,
            fold: None,
            late: 0,
            trouble: None,
            rubbish: true,
            owed: 0,
            quiet: true,
            buffer: Vec::new(),
            generation: GENERATION,
        }
    }

    /// Until the queue ends. The lock file is held to the end, so that the next
    /// runtime opens a quiet database.
    pub fn run(mut self, queue: &Taker, lock: &File) {
        while self.turn(&queue.0) {}
        self.close();
        // Closing alone would not do: a child process that is just being spawned has
        // the file as well, until it becomes another program.
        let _ = lock.unlock();
    }

    /// Sees to what waits, or uses the pause; false at the end.
    fn turn(&mut self, queue: &Queue) -> bool {
        let found = queue.take(self.patience());
        self.quiet = matches!(found, Found::Nothing);
        match found {
            Found::Commits(commits) => {
                let mut commits = commits.into_iter();
                while self.serve(&mut commits) {}
            }
            Found::Nothing => self.pause(),
            Found::End => return false,
        }
        true
    }

    /// Commits the next of them, as many as fit into a batch.
    fn serve(&mut self, commits: &mut impl Iterator<Item = Submission>) -> bool {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ROWS
            && bytes < BATCH_BYTES
            && let Some(next) = commits.next()
        {
            bytes += next.commit.update.bytes();
            batch.push(next);
        }
        if batch.is_empty() {
            return false;
        }
        let written = self.commit(batch);
        self.keep_up(&written);
        true
    }

    /// Commits a batch in one transaction and answers each of its commits.
    pub fn commit(&mut self, mut batch: Vec<Submission>) -> Written {
        if let Some(error) = self.refusal() {
            answer(batch, &Err(error));
            return Written::default();
        }
        self.refuse_appends_to_nothing(&mut batch);
        if batch.is_empty() {
            return Written::default();
        }
        let first = self.next;
        let written = match self.append(&batch) {
            Ok(written) => written,
            Err(error) => {
                answer(batch, &Err(error));
                return Written::default();
            }
        };
        let mut number = first;
        let mut waiting = Vec::with_capacity(batch.len());
        let changes = batch.into_iter().map(|Submission { commit, completion }| {
            waiting.push(completion);
            let pending = Pending { number, update: commit.update };
            number += commit_log::numbers(&pending.update);
            (commit.server, pending)
        });
        self.memtable.publish(changes, written.weight);
        Completion::complete_all(waiting);
        written
    }

    /// Writes the journal's rows.
    fn append(&mut self, batch: &[Submission]) -> Result<Written, StorageError> {
        let Self { connection, memtable, buffer, next, .. } = self;
        // A difference is taken to the last change of the server. That is what the
        // memtable has, unless there is another before it in the batch.
        let is_large = |commit: &Submission| match &commit.commit.update {
            Update::Put(record) => record.state.len() >= SPLICED,
            Update::Append(_) | Update::Delete => false,
        };
        let mut seen = batch.iter().any(is_large).then(HashSet::new);
        let mut written = Written::default();
        // The numbers are used up even if it fails, so no row comes twice.
        transaction(connection, || {
            let insert = |mut row: Row| {
                connection
                    .prepare_cached("INSERT INTO journal (number, changes) VALUES (?, ?)")?
                    .execute(params![row.number().cast_signed(), row.seal()])?;
                Ok::<_, rusqlite::Error>(row.into_buffer())
            };
            let mut row = Row::new(*next, mem::take(buffer));
            for commit in batch {
                let change = &commit.commit;
                if row.len() >= ROW_BYTES {
                    row = Row::new(*next, insert(row)?);
                }
                let first = seen.as_mut().is_none_or(|seen| seen.insert(&change.server));
                let old = if first && is_large(commit) {
                    memtable.active_state(&change.server)
                } else {
                    None
                };
                let before = row.len();
                row.push(&change.server, &change.update, old.as_ref());
                let bytes = row.len() - before;
                written.bytes += bytes;
                written.weight += commit_log::weight(bytes, &change.update, old.is_some());
                *next += commit_log::numbers(&change.update);
            }
            *buffer = insert(row)?;
            Ok(())
        })?;
        // One large state must not keep its memory for ever.
        buffer.clear();
        buffer.shrink_to(4 * ROW_BYTES);
        Ok(written)
    }

    /// Why nothing can be committed: the journal has become too long, since it
    /// can't be folded.
    fn refusal(&mut self) -> Option<StorageError> {
        let (weight, _) = self.memtable.active();
        if weight < 2 * self.generation {
            return None;
        }
        self.trouble = None;
        self.fold(FREE_SERVERS);
        self.trouble.as_ref().map(|(_, error)| error.clone())
    }

    /// Tells who wants to append to what is deleted that this can't be.
    fn refuse_appends_to_nothing(&self, batch: &mut Vec<Submission>) {
        let is_append = |commit: &Submission| matches!(commit.commit.update, Update::Append(_));
        let is_wrong =
            |commit: &Submission| is_append(commit) && !self.may_append(&commit.commit.server, &[]);
        let deletes = batch.iter().any(|commit| commit.commit.update == Update::Delete);
        if !deletes && !batch.iter().any(is_wrong) {
            return;
        }
        let mut at = 0;
        while at < batch.len() {
            let (before, rest) = batch.split_at(at);
            if is_append(&rest[0]) && !self.may_append(&rest[0].commit.server, before) {
                let error = StorageError::new("there is no record to append to");
                answer(vec![batch.remove(at)], &Err(error));
            } else {
                at += 1;
            }
        }
    }

    /// Whether a server is not known to be deleted, by a batch or before it.
    fn may_append(&self, id: &ServerId, batch: &[Submission]) -> bool {
        let decides =
            |change: &Commit| change.server == *id && !matches!(change.update, Update::Append(_));
        match batch.iter().map(|commit| &commit.commit).rfind(|change| decides(change)) {
            Some(change) => change.update != Update::Delete,
            None => !self.memtable.is_deleted(id),
        }
    }

    /// Does as much of the fold as a batch must, so that it is over before the
    /// next generation is full.
    fn keep_up(&mut self, written: &Written) {
        let (weight, since) = self.memtable.active();
        match &self.fold {
            Some(_) if weight >= self.generation => self.fold(FREE_SERVERS),
            Some(fold) if fold.is_sorting() => {}
            Some(fold) => {
                let (rest, room) = (fold.rest(), (self.generation * 3 / 4).saturating_sub(weight));
                self.late += match written.weight {
                    grown if grown < room => rest * grown / room + 1,
                    _ => rest,
                };
                if self.late >= SOME_SERVERS.min(rest) {
                    self.fold(self.late);
                }
            }
            None if weight >= self.generation || since.is_some_and(|it| it.elapsed() >= OLD) => {
                self.freeze();
            }
            None => {}
        }
        if self.rubbish {
            // Twice as fast as is written.
            self.owed += 2 * (written.bytes + flush::ROW);
            if self.owed >= CLEANED {
                let bytes = mem::take(&mut self.owed);
                self.clean(bytes);
            }
        }
        self.checkpoints.keep_up(&self.connection, written.bytes);
    }

    /// How long to wait for commits before the pause is used.
    fn patience(&self) -> Option<Duration> {
        if let Some((since, _)) = &self.trouble {
            return Some(RETRY.saturating_sub(since.elapsed()).max(QUIET));
        }
        match &self.fold {
            Some(fold) if fold.is_sorting() => Some(PAUSE),
            None if !self.rubbish => {
                let (_, since) = self.memtable.active();
                since.map(|since| YOUNG.saturating_sub(since.elapsed()).max(QUIET))
            }
            _ => Some(if self.quiet { Duration::ZERO } else { PAUSE }),
        }
    }

    /// Nobody waits.
    fn pause(&mut self) {
        let (_, since) = self.memtable.active();
        if let Some(fold) = &self.fold {
            if !fold.is_sorting() {
                self.fold(SOME_SERVERS);
            }
        } else if self.rubbish {
            self.clean(CLEANED);
        } else if since.is_some_and(|since| since.elapsed() >= YOUNG) {
            self.freeze();
        }
    }

    fn freeze(&mut self) {
        self.fold = Some(Fold::new(&self.memtable, self.next));
    }

    /// Folds the next servers. A fold that fails is no call's failure: it is tried
    /// again a while later.
    fn fold(&mut self, servers: usize) {
        let is_tried = |(since, _): &(Instant, _)| since.elapsed() < RETRY;
        if self.trouble.as_ref().is_some_and(is_tried) {
            return;
        }
        let Some(mut fold) = self.fold.take() else { return };
        self.late = 0;
        match fold.step(&self.connection, &self.tables, &self.memtable, servers) {
            Ok(true) => {
                self.trouble = None;
                self.rubbish = true;
                fold.discard();
            }
            outcome => {
                self.trouble = outcome.err().map(|error| (Instant::now(), error.into()));
                self.fold = Some(fold);
            }
        }
        self.checkpoints.look(&self.connection);
    }

    fn clean(&mut self, bytes: usize) {
        // What fails is tried again behind the next fold.
        self.rubbish = flush::clean(&self.connection, bytes).unwrap_or(false);
    }

    /// Leaves plain tables behind, if the disk lets it.
    fn close(mut self) {
        self.trouble = None;
        while self.trouble.is_none() {
            match &self.fold {
                Some(_) => self.fold(FREE_SERVERS),
                None if self.memtable.active().1.is_some() => self.freeze(),
                None if self.rubbish => self.clean(usize::MAX),
                None => break,
            }
        }
        self.checkpoints.close();
        let _ = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")
            .and_then(|mut checkpoint| checkpoint.query_row([], |_| Ok(())));
    }
}

fn answer(batch: Vec<Submission>, outcome: &Result<(), StorageError>) {
    for commit in batch {
        commit.completion.complete(outcome.clone());
    }
}

/// What the journal has that is not in the tables, and the number behind it.
pub fn recover(connection: &Connection) -> Result<(Generation, u64), StorageError> {
    let (folded, sum): (i64, i64) =
        connection.query_row("SELECT number, checksum FROM fold", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    // A wrong number would have rows of the journal deleted unread.
    if Checksum::new().number(folded.cast_unsigned()).value() != sum.cast_unsigned() {
        return Err(StorageError::new("the table `fold` is damaged"));
    }
    let mut next = folded.cast_unsigned().max(1);
    let mut generation = Generation::default();
    let mut rows = connection
        .prepare("SELECT number, changes FROM journal WHERE number >= ? ORDER BY number")?;
    let mut rows = rows.query([folded])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let changes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        next = commit_log::replay(number.cast_unsigned(), changes, &mut generation)?;
    }
    Ok((generation, next))
}

#[cfg(test)]
mod tests;
