//! The size of the file after all servers were deleted.

use std::{path::Path, thread};

use persistent_runtime::{SqliteStorage, Storage, Update};

use super::{files::megabytes, scale::Scale, stored};
use crate::{Fallible, load::two_workers, report::Report};

/// Stores all servers and deletes them. Prints the sizes and adds the ratios to the report.
pub fn run(scale: Scale, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let (path, raw) = tokio.block_on(stored::twice(folder.path(), 1000, scale.servers))?;
    let (before, raw_before) = (both_files(&path), raw.megabytes()?);
    let storage = SqliteStorage::open(&path)?;
    tokio.block_on(stored::commit(&storage, 0..scale.servers, &Update::Delete))?;
    // A storage may give space back while it is open.
    let pause = scale.sustained / 2;
    thread::sleep(pause);
    let open = both_files(&path);
    tokio.block_on(storage.close())?;
    let closed = both_files(&path);
    raw.delete(0..scale.servers)?;
    println!(
        "\n{} servers of 1000 bytes take {before:.1} MB; all deleted: {open:.1} MB after {pause:?}, \
         {closed:.1} MB after closing\nplain SQLite: {raw_before:.1} MB, all deleted: {:.1} MB",
        scale.servers,
        raw.megabytes()?
    );
    report.set("size_vs_sqlite", before / raw_before);
    report.set("reclaim_open", open / before);
    report.set("reclaim_closed", closed / before);
    Ok(())
}

/// Returns the size of the database and its write-ahead log in megabytes.
fn both_files(path: &Path) -> f64 {
    megabytes(path, "") + megabytes(path, "-wal")
}
