//! Checkpoints: the log's pages go into the database file, by a thread of their
//! own: commits wait only where the log begins anew.

use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, Result};

use crate::error::StorageError;

/// Pages of the log that are worth a checkpoint: 4 MiB.
const STEP: u32 = 1024;
/// Pages at which the writer waits until all are in the database, so that the
/// log begins anew: 64 MiB.
const BOUND: u32 = 16_384;
/// The same while commits are small: 4 MiB. What they cost is the sync, and to
/// sync a file that has not grown takes two thirds of the time.
const LOW_BOUND: u32 = 1024;
/// A commit of fewer bytes is small.
const SMALL: usize = 16 << 10;
/// How much is written between two looks at the log.
const LOOK_BYTES: usize = 1 << 20;
/// What a commit writes beside its changes, about.
const PAGE: usize = 4096;

/// See the [module](self). It is the writer's.
pub struct Checkpoints {
    begin: SyncSender<()>,
    ended: Receiver<()>,
    runs: bool,
    written: usize,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    pub fn new(path: &Path) -> Result<Self, StorageError> {
        let connection = Connection::open(path)?;
        let (begin, orders) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let thread =
            thread::Builder::new().name("persistent-checkpoint".to_owned()).spawn(move || {
                while let Ok(()) = orders.recv() {
                    // One that fails, on a full disk say, is tried again with
                    // the next step.
                    let _ = look(&connection, "PRAGMA wal_checkpoint(PASSIVE)");
                    if end.send(()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { begin, ended, runs: false, written: 0, thread })
    }

    /// Begins a checkpoint where one is due, and waits for it where the log has
    /// become too long. Nothing may be written meanwhile.
    pub fn keep_up(&mut self, connection: &Connection, written: usize) {
        self.written += written + PAGE;
        if self.written >= LOOK_BYTES {
            self.written = 0;
            self.look_within(if written < SMALL { LOW_BOUND } else { BOUND }, connection);
        }
    }

    /// Looks at the log whatever was written, which a fold can't say.
    pub fn look(&mut self, connection: &Connection) {
        self.look_within(BOUND, connection);
    }

    fn look_within(&mut self, bound: u32, connection: &Connection) {
        if self.runs {
            self.runs = self.ended.try_recv().is_err();
        }
        let Ok(log) = look(connection, "PRAGMA wal_checkpoint(NOOP)") else { return };
        if log.pages >= bound {
            // A reader that has looked at the log for long keeps it from beginning
            // anew; then this is done again, and has little to do.
            self.wait();
            self.begin();
            self.wait();
        } else if log.pages.saturating_sub(log.moved) >= STEP.min(bound / 2) {
            self.begin();
        }
    }

    fn begin(&mut self) {
        if !self.runs {
            self.runs = self.begin.send(()).is_ok();
        }
    }

    fn wait(&mut self) {
        if self.runs {
            let _ = self.ended.recv();
            self.runs = false;
        }
    }

    /// Ends the thread.
    pub fn close(self) {
        drop((self.begin, self.ended));
        let _ = self.thread.join();
    }
}

/// The log, in pages.
struct Log {
    pages: u32,
    /// Those that are in the database already.
    moved: u32,
}

fn look(connection: &Connection, pragma: &str) -> Result<Log> {
    connection.prepare_cached(pragma)?.query_row([], |row| {
        let pages = |column| row.get::<_, i64>(column).map(|it| u32::try_from(it).unwrap_or(0));
        Ok(Log { pages: pages(1)?, moved: pages(2)? })
    })
}
