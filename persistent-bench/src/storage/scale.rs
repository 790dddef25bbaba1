//! The size and duration of the measurements.

use std::time::Duration;

/// The largest number of rows per transaction of the contenders that use plain rusqlite.
pub const BATCH: u64 = 1024;

/// The size of a run.
#[derive(Clone, Copy)]
pub struct Scale {
    pub rounds: usize,
    /// The time per contender and round.
    pub slice: Duration,
    /// The number of stored servers in the measurements of many servers.
    pub servers: u64,
    /// The duration of the sustained load.
    pub sustained: Duration,
}

pub const QUICK: Scale = Scale {
    rounds: 3,
    slice: Duration::from_millis(150),
    servers: 50_000,
    sustained: Duration::from_secs(5),
};

pub const FULL: Scale = Scale {
    rounds: 5,
    slice: Duration::from_secs(2),
    servers: 1_000_000,
    sustained: Duration::from_mins(1),
};
