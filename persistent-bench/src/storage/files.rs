//! The sizes of a database's files.

use std::{fs, path::Path};

use rusqlite::{Connection, OpenFlags};

use crate::load::float;

const MEGABYTE: f64 = 1e6;

/// Returns the size of the commit log's rows in megabytes, or 0 if there is no commit log.
pub fn commit_log_megabytes(path: &Path) -> f64 {
    let sum = || {
        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let sum = "SELECT coalesce(sum(length(changes)), 0) FROM commit_log";
        reader.query_row(sum, [], |row| row.get::<_, i64>(0))
    };
    float(sum().unwrap_or(0).unsigned_abs()) / MEGABYTE
}

/// Returns the size of the file at `path` with `suffix` in megabytes, or 0 if there is none.
pub fn megabytes(path: &Path, suffix: &str) -> f64 {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    let bytes = fs::metadata(name).map_or(0, |file| file.len());
    float(bytes) / MEGABYTE
}
