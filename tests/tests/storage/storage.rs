//! The storages: conformance, SQLite's files and limits, and storages that a user writes.

use std::{
    collections::HashMap,
    error::Error,
    fs,
    path::Path,
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use persistent_runtime::{
    CallError, Client, Commit, Completion, MemoryStorage, OpenError, Outcome, Record, Runtime,
    Server, ServerId, SqliteOptions, SqliteStorage, StopReason, Storage, StorageErrorKind,
    StorageFuture, Update, forward_storage, testing::conformance,
};
use persistent_tests::{Counter, FaultyStorage, power::Block};
use rusqlite::Connection;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_storage_in_sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(async |name: &str| SqliteStorage::open(folder.path().join(name))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_in_sqlite_conforms_without_busy_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new().busy_wait(false);
    conformance::run(async |name: &str| {
        SqliteStorage::open_with(folder.path().join(name), options.clone())
    })
    .await;
}

#[tokio::test]
async fn the_storage_in_memory_conforms() {
    let databases = Mutex::new(HashMap::<String, MemoryStorage>::new());
    let open = |name: &str| databases.lock().unwrap().entry(name.to_owned()).or_default().clone();
    conformance::run(async |name: &str| Ok(open(name))).await;
}

#[tokio::test]
async fn storages_behind_a_trait_object_conform() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(async |name: &str| {
        let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(folder.path().join(name))?);
        Ok(storage)
    })
    .await;
}

/// Counts the commits of another storage, and forwards everything else.
struct Counting {
    inner: Arc<dyn Storage>,
    commits: AtomicU64,
}

impl Storage for Counting {
    fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
        self.commits.fetch_add(1, Relaxed);
        self.inner.commit(commit)
    }

    forward_storage!(self.inner, except commit);
}

#[tokio::test]
async fn a_decorator_conforms_and_no_commit_bypasses_it() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(async |name: &str| {
        let inner = Arc::new(SqliteStorage::open(folder.path().join(name))?);
        Ok(Counting { inner, commits: AtomicU64::new(0) })
    })
    .await;
    let inner: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let counting = Arc::new(Counting { inner, commits: AtomicU64::new(0) });
    let (completion, outcome) = Completion::channel();
    let commit = Commit::new(ServerId::new("kind", "a"), Update::Delete);
    counting.clone().submit(commit.clone(), completion);
    outcome.await.unwrap();
    counting.commit(commit).await.unwrap();
    assert_eq!(counting.commits.load(Relaxed), 2);
}

#[tokio::test]
async fn a_program_can_choose_the_storage_at_run_time() {
    let folder = tempfile::tempdir().unwrap();
    let storages: [Arc<dyn Storage>; 2] = [
        Arc::new(MemoryStorage::new()),
        Arc::new(SqliteStorage::open(folder.path().join("chosen.db")).unwrap()),
    ];
    for storage in storages {
        let runtime = Runtime::builder().open_with(storage).await.unwrap();
        let counter = runtime.at::<Counter>("a", ());
        assert_eq!(counter.increment().await.unwrap(), 1);
        counter.kill().await.unwrap();
        assert_eq!(counter.increment().await.unwrap(), 2);
        runtime.shutdown(SECOND).await.unwrap();
    }
}

/// In a session, every other commit is completed by a task of its own, and the others by the
/// default of `submit`.
#[tokio::test(start_paused = true)]
async fn a_storage_may_complete_each_commit_in_another_way() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.session()).await.unwrap();
    let counter = runtime.at::<Counter>("a", ());
    for n in 1..=2 {
        assert_eq!(counter.increment().await.unwrap(), n);
    }
    assert_eq!(storage.writes(), 2, "the creation shares the commit of the first change");
    let (three, four) = tokio::join!(counter.increment(), counter.increment());
    assert_eq!((three.unwrap(), four.unwrap()), (3, 4));
    assert_eq!(storage.writes(), 4);
}

#[tokio::test]
async fn a_storage_of_the_users_own_gets_every_load_save_and_delete() {
    /// Notes each call.
    #[derive(Clone, Default)]
    struct Noting {
        inner: MemoryStorage,
        calls: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Noting {
        fn note(&self, call: &'static str) {
            self.calls.lock().unwrap().push(call);
        }
    }

    impl Storage for Noting {
        fn load<'a>(&'a self, server: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
            self.note("load");
            self.inner.load(server)
        }

        fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
            self.note(if commit.update == Update::Delete { "delete" } else { "save" });
            self.inner.commit(commit)
        }

        fn close(&self) -> StorageFuture<'_, ()> {
            self.note("close");
            self.inner.close()
        }

        forward_storage!(self.inner, except load, commit, close);
    }

    let storage = Noting::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    assert_eq!(server.increment().await.unwrap(), 1);
    server.kill().await.unwrap();
    assert_eq!(server.value().await.unwrap(), 1);
    server.stop(StopReason::Finished).await.unwrap();
    assert_eq!(server.value().await.unwrap(), 0);
    runtime.shutdown(SECOND).await.unwrap();
    let calls = storage.calls.lock().unwrap().clone();
    // The creation with the increment, the activation after the kill, the stop, the second
    // creation, the end.
    assert_eq!(calls[..6], ["load", "save", "load", "delete", "load", "save"]);
    assert!(calls[6..].iter().all(|call| *call == "close"), "{calls:?}");
}

#[tokio::test]
async fn a_second_runtime_on_one_file_is_refused_and_learns_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.db");
    let first = Runtime::open(&path).await.unwrap();
    let error = Runtime::open(&path).await.unwrap_err();
    assert_eq!(kind(&error), StorageErrorKind::Locked, "{error}");
    assert!(error.to_string().contains(&format!("process {}", process::id())), "{error}");
    first.at::<Counter>("a", ()).increment().await.unwrap();
    first.shutdown(SECOND).await.unwrap();
    let second = Runtime::open(&path).await.unwrap();
    drop(second);
    let third = Runtime::open(&path).await.expect("a dropped runtime has released the file");
    assert_eq!(third.at::<Counter>("a", ()).value().await.unwrap(), 1);
}

#[tokio::test]
async fn a_storage_that_is_closed_twice_at_once_releases_the_file_to_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.db");
    for _ in 0..20 {
        let storage = SqliteStorage::open(&path).unwrap();
        let (first, second) = tokio::join!(storage.close(), storage.close());
        first.unwrap();
        second.unwrap();
    }
    let storage = SqliteStorage::open(&path).unwrap();
    drop(storage.close());
    drop(storage);
    SqliteStorage::open(&path).expect("a dropped storage has released the file");
}

fn kind(error: &OpenError) -> StorageErrorKind {
    let OpenError::Storage(error) = error else { panic!("{error:?}") };
    error.kind()
}

#[tokio::test]
async fn files_of_other_programs_are_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let sql = |name: &str, sql: &str| {
        Connection::open(path(name)).unwrap().execute_batch(sql).unwrap();
    };
    sql("foreign.db", "CREATE TABLE diary (day TEXT)");
    sql("other-app.db", "PRAGMA application_id = 77");
    drop(Runtime::open(path("newer.db")).await.unwrap());
    sql("newer.db", "PRAGMA user_version = 99");
    fs::write(path("text.db"), "no database at all, but quite some text ".repeat(100)).unwrap();
    drop(Runtime::open(path("empty.db")).await.unwrap());
    fs::write(path("empty.db"), "").unwrap();

    for (name, expected, words) in [
        ("foreign.db", StorageErrorKind::NotADatabase, "another program"),
        ("other-app.db", StorageErrorKind::NotADatabase, "another program"),
        ("newer.db", StorageErrorKind::NewerFormat, "file format 99"),
        ("text.db", StorageErrorKind::NotADatabase, "not a database"),
        ("missing/folder.db", StorageErrorKind::Io, "create it first"),
    ] {
        let before = fs::read(path(name)).ok();
        let error = Runtime::open(path(name)).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(kind(&error), expected, "{text}");
        assert!(text.contains(words), "{text}");
        assert!(text.contains(path(name).to_str().unwrap()), "the path is named: {text}");
        let mut source = error.source();
        while let Some(error) = source {
            assert!(!text.contains(&error.to_string()), "twice: {error} in {text}");
            source = error.source();
        }
        assert_eq!(fs::read(path(name)).ok(), before, "{name}");
    }
    Runtime::open(path("empty.db")).await.expect("an empty file is a new database");
}

#[tokio::test]
async fn a_database_has_the_durability_that_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal.db");
    let runtime = Runtime::open(&path).await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    // Other programs may read the database while a runtime has it open.
    let reader = Connection::open(&path).unwrap();
    let mode: String = reader.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let rows = |table: &str| -> u32 {
        let count = format!("SELECT count(*) FROM {table}");
        reader.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    assert!(rows("commit_log") + rows("servers") > 0, "an acknowledged change is in the file");
    // A closed database has everything in its tables.
    runtime.shutdown(SECOND).await.unwrap();
    assert_eq!(rows("commit_log"), 0);
    let row: (String, String, u32, u32, Vec<u8>) = reader
        .query_row("SELECT kind, key, version, format, state FROM servers", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap();
    assert_eq!(row, ("Counter".into(), "a".into(), 1, 1, b"\x81\xa5value\x01".to_vec()));
}

/// Returns the content of the database and of its write-ahead log.
fn content(path: &Path) -> Vec<u8> {
    let mut content = fs::read(path).unwrap();
    content.extend(fs::read(format!("{}-wal", path.display())).unwrap_or_default());
    content
}

#[tokio::test]
async fn secure_delete_leaves_no_copy_of_what_was_deleted() {
    const SECRET: &[u8] = b"a secret of some length";
    for secure in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.db");
        let open = || {
            let options = SqliteOptions::new().secure_delete(secure);
            SqliteStorage::open_with(&path, options).unwrap()
        };
        for round in 0..2 {
            let storage = open();
            for key in 0..50 {
                let server = ServerId::new("Secret", format!("{key}"));
                let record = Record::new(1, 1, SECRET.repeat(1 + key % 5 * 200));
                storage.commit(Commit::new(server.clone(), Update::Put(record))).await.unwrap();
                if round == 1 {
                    storage.commit(Commit::new(server, Update::Delete)).await.unwrap();
                }
            }
            storage.close().await.unwrap();
            drop(storage);
        }
        let copies = content(&path).windows(SECRET.len()).filter(|bytes| *bytes == SECRET).count();
        assert_eq!(copies == 0, secure, "{copies} copies");
    }
}

#[tokio::test]
async fn a_commit_over_the_limit_is_refused_alone_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new().record_limit(1000);
    let storage = SqliteStorage::open_with(folder.path().join("limit.db"), options).unwrap();
    let server = ServerId::new("kind", "key");
    let put = |bytes: usize| {
        let record = Record::new(1, 1, vec![b'x'; bytes]);
        storage.commit(Commit::new(server.clone(), Update::Put(record)))
    };
    let fits = 1000 - "kind".len() - "key".len();
    let (small, large, other) = tokio::join!(put(fits), put(fits + 1), put(1));
    let error = large.unwrap_err();
    assert_eq!(
        (small.is_ok(), error.kind(), other.is_ok()),
        (true, StorageErrorKind::TooLarge, true)
    );
    let text = error.to_string();
    assert!(text.contains("1001 bytes") && text.contains("record_limit"), "{text}");
    assert_eq!(storage.load(&server).await.unwrap().unwrap().state.len(), 1);
}

/// Nothing was written, so the caller can go on with something smaller.
#[tokio::test]
async fn a_change_over_the_limit_is_undone_and_its_caller_learns_that() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new().record_limit(1000);
    let builder = Runtime::builder().sqlite(options);
    let runtime = builder.open(folder.path().join("limit.db")).await.unwrap();
    let block = runtime.at::<Block>("a", ());
    block.set(1, 100).await.unwrap();
    let error = block.set(2, 10_000).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Undone, "{error}");
    assert!(matches!(error, CallError::Storage { .. }), "{error}");
    assert_eq!(block.grow(100).await.unwrap(), 2);
    runtime.shutdown(SECOND).await.unwrap();
}

/// The pages of a list have a thousand rows, and here each has rows of the tables, newer ones of the
/// commit log, and deleted ones.
#[tokio::test]
async fn thousands_of_servers_are_listed_counted_and_due_in_order() {
    const COUNT: usize = 4000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.db");
    let key = |nth: usize| format!("{}/{nth:05}", ["eu", "us"][nth % 2]);
    let due = |nth: usize| Some(1 + (nth * 7919 % COUNT) as u64);
    let commit = async |storage: &SqliteStorage, nth: usize, update: Update| {
        storage.commit(Commit::new(ServerId::new(Counter::NAME, key(nth)), update)).await.unwrap();
    };
    let put = |nth: usize| {
        let record = Record::new(1, 1, &b"\x81\xa5value\x01"[..]);
        Update::Put(record.with_reminders(*b"\x90", due(nth)))
    };
    let storage = SqliteStorage::open(&path).unwrap();
    let all: Vec<_> = (0..COUNT)
        .filter(|nth| nth % 5 != 0)
        .map(|nth| storage.commit(Commit::new(ServerId::new(Counter::NAME, key(nth)), put(nth))))
        .collect();
    futures::future::try_join_all(all).await.unwrap();
    storage.close().await.unwrap();
    drop(storage);
    // Now the tables have these. Every fifth is new, and every seventh is deleted.
    let storage = SqliteStorage::open(&path).unwrap();
    for nth in (0..COUNT).step_by(5) {
        commit(&storage, nth, put(nth)).await;
    }
    for nth in (0..COUNT).step_by(7) {
        commit(&storage, nth, Update::Delete).await;
    }
    let left = || (0..COUNT).filter(|nth| nth % 7 != 0);
    let mut dues: Vec<_> = left().map(|nth| (due(nth).unwrap(), key(nth))).collect();
    dues.sort_unstable();
    let (mut listed, mut after) = (Vec::new(), None::<(u64, Arc<str>)>);
    loop {
        let from = after.as_ref().map(|(due, key)| (*due, &**key));
        let page = storage.due(Counter::NAME, from, 300).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        listed.extend(page.into_iter().map(|(due, key)| (due, key.to_string())));
    }
    assert!(listed == dues, "{} of {} due servers", listed.len(), dues.len());

    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    let list = async |mut keys: persistent_runtime::Keys| {
        let mut list = Vec::new();
        while let Some(key) = keys.next().await {
            list.push(key.unwrap().to_string());
        }
        list
    };
    let mut keys: Vec<_> = left().map(key).collect();
    keys.sort_unstable();
    assert!(list(runtime.keys::<Counter>()).await == keys);
    let in_us: Vec<_> = keys.iter().filter(|key| key.starts_with("us/")).cloned().collect();
    assert!(list(runtime.keys::<Counter>().with_prefix("us/")).await == in_us);
    let from = &in_us[in_us.len() / 2];
    let rest = list(runtime.keys::<Counter>().with_prefix("us/").starting_at(from)).await;
    assert!(rest == in_us[in_us.len() / 2..]);
    assert_eq!(list(runtime.keys::<Counter>().with_prefix("eu/03998")).await, ["eu/03998"]);
    assert_eq!(list(runtime.keys::<Counter>().with_prefix("asia/")).await, [""; 0]);
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, keys.len() as u64);
    runtime.shutdown(SECOND).await.unwrap();
}
