//! Servers that are stored by commits, without a call to each, and the same rows in plain SQLite.

use std::path::{Path, PathBuf};

use persistent_runtime::{
    Commit, MemoryStorage, Record, Runtime, Server, ServerId, SqliteStorage, Storage, StorageError,
    Update,
};

use super::{
    raw::{Raw, State},
    servers::Meter,
};
use crate::Fallible;

/// The number of commits that wait at the same time.
const COMMITS: usize = 10_000;

/// Returns the record of a meter whose state is encoded as `bytes` bytes.
pub async fn record(bytes: usize) -> Fallible<Record> {
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().open_with(storage.clone()).await?;
    runtime.at::<Meter>("meter", ()).resize(bytes).await?;
    let server = ServerId::new(Meter::NAME, "meter");
    Ok(storage.load(&server).await?.ok_or("there is no record")?)
}

/// Makes the same update of the meter under each of the keys.
pub async fn commit(
    storage: &SqliteStorage,
    keys: impl IntoIterator<Item = u64>,
    update: &Update,
) -> Result<(), StorageError> {
    let commit = |key: u64| {
        let server = ServerId::new(Meter::NAME, key.to_string());
        storage.commit(Commit::new(server, update.clone()))
    };
    let mut keys = keys.into_iter();
    loop {
        let commits: Vec<_> = keys.by_ref().take(COMMITS).map(commit).collect();
        if commits.is_empty() {
            return Ok(());
        }
        for commit in commits {
            commit.await?;
        }
    }
}

/// Stores the meters `0..servers` with states of `bytes` bytes in a database of this library and
/// in an ideal table.
pub async fn twice(folder: &Path, bytes: usize, servers: u64) -> Fallible<(PathBuf, Raw)> {
    let record = record(bytes).await?;
    let raw = Raw::indexed(&folder.join("raw.db"))?;
    raw.commit(0..servers, &mut State::of(&record))?;
    raw.checkpoint()?;
    let this = folder.join("this.db");
    let storage = SqliteStorage::open(&this)?;
    commit(&storage, 0..servers, &Update::Put(record)).await?;
    storage.close().await?;
    Ok((this, raw))
}
