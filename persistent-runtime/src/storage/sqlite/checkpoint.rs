//! Checkpoints of the write-ahead log, on a thread of their own. Commits wait for a checkpoint
//! only when the log has to restart.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, Result};

use super::{
    error,
    file::{BUSY_TIMEOUT, connect_to_write, keep_log},
    files::{Files, Place},
    limits::Limits,
};
use crate::storage::{StorageError, StorageErrorKind};

/// A commit with fewer bytes is small.
const SMALL_COMMIT: usize = 16 << 10;
/// Pages at which a log that does not start over is reported: 256 MiB.
const REPORT_PAGES: u32 = 65_536;
/// The size of a page, approximately.
const PAGE_BYTES: u64 = 4096;
/// The least time between two attempts to let a log start over that has reached its limit.
pub const RESTART_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes that a commit writes besides its updates, approximately.
const COMMIT_OVERHEAD: usize = 4096;

/// The writer's handle to the checkpoint thread.
pub struct Checkpoints {
    begin: SyncSender<()>,
    ended: Receiver<Result<(), StorageError>>,
    is_running: bool,
    /// The outcome of the last checkpoint, until it is taken.
    outcome: Option<Result<(), StorageError>>,
    pub limits: Limits,
    /// The number of pages at which commits are refused.
    refuse_pages: u32,
    /// Why commits are refused, and since when: the log has reached its limit.
    overflow: Option<(Instant, StorageError)>,
    /// The error of the last checkpoint, if it failed.
    failure: Option<StorageError>,
    /// True if a checkpoint may have removed the mark that a copy of the file without its log is
    /// recognized by.
    needs_mark: bool,
    written: usize,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    /// `wal_limit` is the size of the log at which commits are refused, in bytes.
    pub fn new(place: Place, limits: Limits, wal_limit: u64) -> error::Result<Self> {
        let connection = connect_to_write(&place.path)?;
        // Opens the log now: later its name could lead to another file.
        run(&connection, "PRAGMA wal_checkpoint(NOOP)")?;
        let (begin, requests) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let thread =
            thread::Builder::new().name("persistent-checkpoint".to_owned()).spawn(move || {
                while let Ok(()) = requests.recv() {
                    // A file that was emptied must not be filled in part, and the holes of a log
                    // that was emptied must not replace pages. A checkpoint that fails, e.g. on a
                    // full disk, is repeated with the next.
                    let checked = place.check_content(|| log_has_pages(&connection));
                    let outcome = checked.and_then(|()| {
                        let moved = run(&connection, "PRAGMA wal_checkpoint(PASSIVE)");
                        moved.map(drop).map_err(|error| error::Error::from(error).into())
                    });
                    if end.send(outcome).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            begin,
            ended,
            is_running: false,
            outcome: None,
            limits,
            refuse_pages: (wal_limit / PAGE_BYTES).try_into().unwrap_or(u32::MAX),
            overflow: None,
            failure: None,
            needs_mark: true,
            written: 0,
            thread,
        })
    }

    /// Returns the outcome of the last checkpoint, once.
    pub fn take_outcome(&mut self) -> Option<Result<(), StorageError>> {
        self.is_running();
        self.outcome.take()
    }

    /// Returns why commits must be refused: the log has reached its limit and cannot start over.
    pub fn refusal(&mut self, connection: &Connection) -> Option<StorageError> {
        let (since, _) = self.overflow.as_ref()?;
        if since.elapsed() >= RESTART_INTERVAL {
            self.overflow = None;
            self.inspect(self.limits.max_pages, connection);
        }
        self.overflow.as_ref().map(|(_, error)| error.clone())
    }

    /// Begins a checkpoint if one is due after a commit of `written` bytes, and waits for it if
    /// the log has become too long. The writer must not write meanwhile.
    pub fn after_commit(&mut self, connection: &Connection, written: usize) {
        self.written += written + COMMIT_OVERHEAD;
        if self.written >= self.limits.inspect_bytes {
            self.written = 0;
            let Limits { max_pages, max_pages_small, .. } = self.limits;
            let limit = if written < SMALL_COMMIT { max_pages_small } else { max_pages };
            self.inspect(limit, connection);
        }
    }

    /// Does the same after a step of a flush. Its bytes are not counted.
    pub fn after_flush(&mut self, connection: &Connection) {
        self.inspect(self.limits.max_pages, connection);
    }

    /// Marks the file after a successful transaction, if a checkpoint has ended before.
    pub fn mark(&mut self, files: &Files) {
        if self.needs_mark && !self.is_running() {
            files.mark();
            self.needs_mark = false;
        }
    }

    fn is_running(&mut self) -> bool {
        if self.is_running
            && let Ok(outcome) = self.ended.try_recv()
        {
            self.end(outcome);
        }
        self.is_running
    }

    fn end(&mut self, outcome: Result<(), StorageError>) {
        self.is_running = false;
        self.failure = outcome.as_ref().err().cloned();
        self.outcome = Some(outcome);
    }

    fn inspect(&mut self, limit: u32, connection: &Connection) {
        let limit = limit.min(self.refuse_pages);
        let Ok(log) = run(connection, "PRAGMA wal_checkpoint(NOOP)") else { return };
        if log.pages >= limit {
            // A long read transaction keeps the log from restarting. Then every inspection comes
            // here, and finds little to do.
            self.wait();
            self.begin();
            self.wait();
            if log.pages >= self.refuse_pages.min(REPORT_PAGES) {
                self.restart(log.pages, connection);
            }
        } else if log.pages.saturating_sub(log.moved) >= self.limits.checkpoint_pages.min(limit / 2)
        {
            self.begin();
        }
    }

    fn begin(&mut self) {
        if !self.is_running() && !self.has_lost_pages() {
            self.is_running = self.begin.send(()).is_ok();
            self.needs_mark = true;
        }
    }

    /// Returns true if pages that SQLite counts as moved may be lost: a sync of the database file
    /// covers the pages of earlier checkpoints too, and after it has failed the operating system
    /// may have dropped all of them. They are still in the log. So the log must not start over
    /// until it is opened again, when SQLite moves all of it.
    fn has_lost_pages(&self) -> bool {
        self.failure.as_ref().is_some_and(|error| error.kind() == StorageErrorKind::Io)
    }

    fn wait(&mut self) {
        if self.is_running
            && let Ok(outcome) = self.ended.recv()
        {
            self.end(outcome);
        }
    }

    /// Lets a large log start over with the next commit, or takes note of why it cannot.
    fn restart(&mut self, pages: u32, connection: &Connection) {
        let restart = || {
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, bool>(0))
        };
        // After a failure the files may have changed: then nothing must be moved.
        if self.failure.is_none() && without_waiting(connection, restart) == Ok(false) {
            self.outcome = Some(Ok(()));
            return;
        }
        let size = (u64::from(pages) * PAGE_BYTES) >> 20;
        let error = match &self.failure {
            Some(error) => error.clone().with_context(format_args!(
                "the write-ahead log has {size} MiB and cannot be moved into the database file; \
                 restart the program once the cause is mended"
            )),
            None => StorageError::new(
                StorageErrorKind::Locked,
                format!(
                    "the write-ahead log has {size} MiB and cannot start over while a program \
                     reads the database in a long transaction; end that transaction"
                ),
            ),
        };
        self.outcome = Some(Err(error.clone()));
        if pages >= self.refuse_pages {
            self.overflow = Some((Instant::now(), error));
        }
    }

    /// Ends the thread, and moves the whole log into the file.
    pub fn close(mut self, connection: &Connection, files: &Files) {
        self.wait();
        let has_lost_pages = self.has_lost_pages();
        drop((self.begin, self.ended));
        let _ = self.thread.join();
        let place = files.place();
        if has_lost_pages
            || place.check_main().is_err()
            || place.log_is_emptied(|| log_has_pages(connection))
        {
            let _ = keep_log(connection, true);
        } else if run(connection, "PRAGMA wal_checkpoint(TRUNCATE)").is_err() {
            // SQLite would try again when the connection closes, with pages that may be lost.
            let _ = keep_log(connection, true);
        } else if !files.has_log() {
            files.unmark();
        }
    }
}

/// Runs `work` with a connection that does not wait for the locks of others.
fn without_waiting<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    connection.busy_timeout(Duration::ZERO)?;
    let outcome = work();
    connection.busy_timeout(BUSY_TIMEOUT)?;
    outcome
}

/// Returns true if SQLite expects pages in the log.
pub fn log_has_pages(connection: &Connection) -> bool {
    run(connection, "PRAGMA wal_checkpoint(NOOP)").is_ok_and(|log| log.pages > 0)
}

/// The size of the write-ahead log.
struct LogSize {
    pages: u32,
    /// The pages that are in the database file already.
    moved: u32,
}

fn run(connection: &Connection, pragma: &str) -> Result<LogSize> {
    connection.prepare_cached(pragma)?.query_row([], |row| {
        let pages = |column| row.get::<_, i64>(column).map(|it| u32::try_from(it).unwrap_or(0));
        Ok(LogSize { pages: pages(1)?, moved: pages(2)? })
    })
}
