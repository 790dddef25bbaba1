//! The writer without its thread: each test decides when it commits, flushes or is killed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::{
    id::ServerId,
    storage::{
        Commit, MemoryStorage, Record, SqliteOptions, SqliteStorage, Storage, StorageEvent,
        StorageFuture, StorageObserver,
        encoded::Encoded,
        sqlite::{
            flush::MIN_ROW_COST,
            pacing::{IDLE_BEFORE_STEP, STEP_BUSY},
        },
    },
};

mod commits;
mod damage;
mod flush;
mod log;
mod model;

/// A storage whose writer runs only when a test calls it.
struct Engine {
    folder: TempDir,
    storage: SqliteStorage,
    writer: Writer,
}

impl Engine {
    fn new() -> Self {
        Self::with(&SqliteOptions::new())
    }

    fn with(options: &SqliteOptions) -> Self {
        Self::open(tempfile::tempdir().unwrap(), options)
    }

    fn open(folder: TempDir, options: &SqliteOptions) -> Self {
        let files = Files::open(&database(&folder)).unwrap();
        let (storage, writer) = SqliteStorage::prepare(files, options).unwrap();
        Self { folder, storage, writer }
    }

    /// Opens what the next process would find if this one was killed now.
    fn crashed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let file = |folder| PathBuf::from(format!("{}{suffix}", database(folder).display()));
            fs::copy(file(&self.folder), file(&folder)).unwrap();
        }
        Self::open(folder, &SqliteOptions::new())
    }

    /// Commits all updates in one batch.
    async fn try_commit(&mut self, updates: Vec<(ServerId, Update)>) -> Vec<bool> {
        let commits: Vec<StorageFuture<'_, ()>> = updates
            .into_iter()
            .map(|(id, update)| self.storage.commit(Commit::new(id, update)))
            .collect();
        if let Recv::Batch(batch) = self.storage.queue.recv(Some(Duration::ZERO)) {
            self.writer.commit(batch);
        }
        let mut outcomes = Vec::new();
        for commit in commits {
            outcomes.push(commit.await.is_ok());
        }
        outcomes
    }

    async fn commit(&mut self, key: &str, update: Update) {
        assert_eq!(self.try_commit(vec![(id(key), update)]).await, [true], "{key}");
    }

    async fn load(&self, key: &str) -> Option<Record> {
        self.storage.load(&id(key)).await.unwrap()
    }

    fn flush_all(&mut self) {
        self.writer.freeze();
        self.finish_flush();
    }

    fn finish_flush(&mut self) {
        while self.writer.flush.is_some() {
            self.writer.flush(servers(2));
            assert!(self.writer.last_error.is_none(), "{:?}", self.writer.last_error);
        }
    }

    fn number(&self, sql: &str) -> i64 {
        self.writer.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Records the events of the background work.
    fn events(&self) -> Arc<Mutex<Vec<String>>> {
        let events = Arc::<Mutex<Vec<String>>>::default();
        let record = events.clone();
        self.storage.observe(StorageObserver::new(move |event| {
            record.lock().unwrap().push(match event {
                StorageEvent::Failed { work, error } => format!("{work:?} failed: {error}"),
                StorageEvent::Recovered { work } => format!("{work:?} recovered"),
            });
        }));
        events
    }

    /// Commits as the writer thread does, with the work that is due after the batch.
    async fn run_with(&mut self, key: &str, update: Update) {
        let commit = self.storage.commit(Commit::new(id(key), update));
        assert!(self.writer.run_once(&self.storage.queue));
        commit.await.unwrap();
    }

    fn wal_size(&self) -> u64 {
        fs::metadata(format!("{}-wal", database(&self.folder).display())).unwrap().len()
    }

    fn limit_pages(&self, pages: u32) {
        let sql = format!("PRAGMA max_page_count = {pages}");
        self.writer.connection.query_row(&sql, [], |_| Ok(())).unwrap();
    }
}

type State = Vec<u8>;

fn database(folder: &TempDir) -> PathBuf {
    folder.path().join("engine.db")
}

fn id(key: &str) -> ServerId {
    ServerId::new("kind", key)
}

fn servers(servers: usize) -> StepSize {
    StepSize { servers, bytes: usize::MAX }
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn record(state: impl Into<Encoded>) -> Record {
    Record::new(1, 1, state)
}

fn put(state: &str) -> Update {
    Update::Put(record(state.as_bytes()))
}

fn append(messages: &[&str]) -> Update {
    Update::Append(messages.iter().map(|text| bytes(text)).collect())
}

fn text(record: Option<Record>) -> Option<String> {
    let record = record?;
    let state = record.state.bytes();
    let parts = [&state[..]].into_iter().chain(record.messages.iter().map(|message| &**message));
    Some(parts.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "))
}
