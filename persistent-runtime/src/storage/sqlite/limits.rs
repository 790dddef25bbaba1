//! The sizes and times at which the storage flushes, moves its log and gives space back.

use std::time::Duration;

/// Limits that short tests shrink, so that they reach what otherwise takes seconds and megabytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The weight at which a memtable is full. There are at most two, so twice this limits the
    /// memory and the work of opening a database.
    pub memtable: usize,
    /// The least age of the oldest update at which an idle writer freezes the memtable. The updates
    /// of a hot server merge meanwhile.
    pub min_age: Duration,
    /// The age of the oldest update at which the memtable is frozen under load.
    pub max_age: Duration,
    /// The largest number of servers that are flushed in one step.
    pub max_step: usize,
    /// Bytes of flushed rows that are deleted in one step.
    pub delete_batch: usize,
    /// Free pages that the file keeps, for the commit log.
    pub kept_pages: u32,
    /// Bytes written between two inspections of the write-ahead log.
    pub inspect_bytes: usize,
    /// Pages in the log that are worth a checkpoint.
    pub checkpoint_pages: u32,
    /// Pages at which the writer waits until all are in the database file, so that the log restarts.
    pub max_pages: u32,
    /// The same limit while commits are small. A small commit costs its sync, and syncing a file
    /// that has not grown takes two thirds of the time.
    pub max_pages_small: u32,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        memtable: 64 << 20,
        min_age: Duration::from_secs(1),
        max_age: Duration::from_secs(30),
        max_step: usize::MAX,
        delete_batch: 2 << 20,
        kept_pages: 1024,
        inspect_bytes: 1 << 20,
        checkpoint_pages: 1024,
        max_pages: 16_384,
        max_pages_small: 1024,
    };

    #[cfg(feature = "testing")]
    pub const SMALL: Self = Self {
        memtable: 64 << 10,
        min_age: Duration::from_millis(1),
        max_age: Duration::from_millis(30),
        max_step: 3,
        delete_batch: 8 << 10,
        kept_pages: 8,
        inspect_bytes: 4 << 10,
        checkpoint_pages: 8,
        max_pages: 64,
        max_pages_small: 16,
    };
}
