//! The storages: SQLite's files and limits, and storages of others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use persistent_runtime::{
    Client, Commit, MemoryStorage, OpenError, Record, Runtime, ServerId, SqliteStorage, StopReason,
    Storage, StorageFuture, Update,
};
use persistent_tests::{Counter, FaultyStorage};

/// In a session every other commit comes with a receipt, and the others are awaited:
/// also one that begins where a receipt is told.
#[tokio::test(start_paused = true)]
async fn a_storage_may_take_each_commit_in_another_way() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.session()).await.unwrap();
    let counter = runtime.at::<Counter>("a", ());
    for n in 1..=2 {
        assert_eq!(counter.increment().await.unwrap(), n);
    }
    assert_eq!(storage.writes(), 3, "the first life, too");
    let (three, four) = tokio::join!(counter.increment(), counter.increment());
    assert_eq!((three.unwrap(), four.unwrap()), (3, 4));
    assert_eq!(storage.writes(), 5);
}

/// A second storage, as a user would write one: it gets every load, save and
/// delete.
#[tokio::test]
async fn a_storage_of_the_users_own_gets_every_load_save_and_delete() {
    #[derive(Clone, Default)]
    struct Journal {
        rows: Arc<Mutex<HashMap<ServerId, Record>>>,
        log: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Journal {
        fn note(&self, what: &'static str) {
            self.log.lock().unwrap().push(what);
        }
    }

    impl Storage for Journal {
        fn load<'a>(&'a self, id: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
            self.note("load");
            Box::pin(async { Ok(self.rows.lock().unwrap().get(id).cloned()) })
        }

        fn commit(&self, change: Commit) -> StorageFuture<'_, ()> {
            self.note(if change.update == Update::Delete { "delete" } else { "save" });
            let mut rows = self.rows.lock().unwrap();
            let outcome = change.update.apply(rows.remove(&change.server)).map(|record| {
                rows.extend(record.map(|record| (change.server, record)));
            });
            Box::pin(async { outcome })
        }

        fn kinds<'a>(&'a self, _: Option<&'a str>, _: usize) -> StorageFuture<'a, Vec<Arc<str>>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn keys<'a>(
            &'a self,
            _: &'a str,
            _: Option<&'a str>,
            _: usize,
        ) -> StorageFuture<'a, Vec<Arc<str>>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn due<'a>(
            &'a self,
            _: &'a str,
            _: Option<(u64, &'a str)>,
            _: usize,
        ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn count<'a>(&'a self, _: &'a str) -> StorageFuture<'a, u64> {
            Box::pin(async { Ok(self.rows.lock().unwrap().len() as u64) })
        }

        fn close(&self) -> StorageFuture<'_, ()> {
            self.note("close");
            Box::pin(async { Ok(()) })
        }
    }

    let journal = Journal::default();
    let runtime = Runtime::builder().open_with(journal.clone()).await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    assert_eq!(server.increment().await.unwrap(), 1);
    server.kill().await.unwrap();
    assert_eq!(server.value().await.unwrap(), 1);
    server.stop(StopReason::Normal).await.unwrap();
    assert_eq!(server.value().await.unwrap(), 0);
    runtime.shutdown(Duration::from_secs(1)).await.unwrap();
    let log = journal.log.lock().unwrap().clone();
    // The first life, the increment, the kill and the revival, the stop, the
    // second life, the end.
    assert_eq!(log[..7], ["load", "save", "save", "load", "delete", "load", "save"]);
    assert!(log[7..].iter().all(|entry| *entry == "close"), "{log:?}");
}

/// Both storages at hand, through one list of operations.
#[tokio::test]
async fn both_storages_load_what_was_committed_and_list_it_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStorage::open(folder.path().join("both.db")).unwrap();
    let storages: [&dyn Storage; 2] = [&MemoryStorage::new(), &sqlite];
    for storage in storages {
        let id = |key: &str| ServerId::new("kind", key);
        let record =
            |n: u8| Record::new(3, 1, &[n; 9][..]).with_reminders([n], Some(u64::from(n % 3)));
        for (n, key) in (0..).zip(["b", "a", "", "ä", "c"]) {
            storage.commit(Commit::new(id(key), Update::Put(record(n)))).await.unwrap();
        }
        storage
            .commit(Commit::new(ServerId::new("kind2", "z"), Update::Put(record(9))))
            .await
            .unwrap();
        storage.commit(Commit::new(id("a"), Update::Put(record(7)))).await.unwrap();
        storage.commit(Commit::new(id("c"), Update::Delete)).await.unwrap();
        storage.commit(Commit::new(id("never"), Update::Delete)).await.unwrap();

        assert_eq!(storage.load(&id("a")).await.unwrap(), Some(record(7)));
        assert_eq!(storage.load(&id("c")).await.unwrap(), None);
        assert_eq!(storage.load(&ServerId::new("other", "a")).await.unwrap(), None);
        assert_eq!(storage.count("kind").await.unwrap(), 4);
        let keys = async |after, limit| -> Vec<String> {
            let keys = storage.keys("kind", after, limit).await.unwrap();
            keys.iter().map(ToString::to_string).collect()
        };
        assert_eq!(keys(None, 9).await, ["", "a", "b", "ä"]);
        assert_eq!(keys(None, 2).await, ["", "a"]);
        assert_eq!(keys(Some("a"), 9).await, ["b", "ä"]);

        // Due at n % 3: "b" at 0, "" at 2, "ä" at 0, "a" at 1 since it was replaced.
        let due = async |after, limit| -> Vec<(u64, String)> {
            let due = storage.due("kind", after, limit).await.unwrap();
            due.into_iter().map(|(due, key)| (due, key.to_string())).collect()
        };
        let all = [(0, "b"), (0, "ä"), (1, "a"), (2, "")].map(|(due, key)| (due, key.to_owned()));
        assert_eq!(due(None, 9).await, all);
        assert_eq!(due(None, 2).await, all[..2]);
        assert_eq!(due(Some((0, "b")), 9).await, all[1..]);
        assert_eq!(due(Some((2, "")), 9).await, []);
    }
    sqlite.close().await.unwrap();
    sqlite.close().await.unwrap();
    let closed = sqlite.load(&ServerId::new("kind", "a")).await.unwrap_err();
    assert!(closed.to_string().contains("closed"), "{closed}");
    sqlite.commit(Commit::new(ServerId::new("kind", "a"), Update::Delete)).await.unwrap_err();
}

#[tokio::test]
async fn a_second_runtime_on_one_file_is_refused_and_told_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.db");
    let first = Runtime::open(&path).await.unwrap();
    let error = Runtime::open(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    first.at::<Counter>("a", ()).increment().await.unwrap();
    first.shutdown(Duration::from_secs(1)).await.unwrap();
    let second = Runtime::open(&path).await.unwrap();
    drop(second);
    let third = Runtime::open(&path).await.expect("a dropped runtime lets go as well");
    assert_eq!(third.at::<Counter>("a", ()).value().await.unwrap(), 1);
}

#[tokio::test]
async fn files_of_others_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let sql = |name: &str, sql: &str| {
        rusqlite::Connection::open(path(name)).unwrap().execute_batch(sql).unwrap();
    };
    sql("foreign.db", "CREATE TABLE diary (day TEXT)");
    sql("other-app.db", "PRAGMA application_id = 77");
    drop(Runtime::open(path("newer.db")).await.unwrap());
    sql("newer.db", "PRAGMA user_version = 99");
    std::fs::write(path("text.db"), "no database at all, but quite some text ".repeat(100))
        .unwrap();
    drop(Runtime::open(path("empty.db")).await.unwrap());
    std::fs::write(path("empty.db"), "").unwrap();

    for (name, words) in [
        ("foreign.db", "another program"),
        ("other-app.db", "another program"),
        ("newer.db", "file format 99"),
        ("text.db", "not a database"),
        ("missing/folder.db", "No such file or directory"),
    ] {
        let before = std::fs::read(path(name)).ok();
        let error = Runtime::open(path(name)).await.unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert_eq!(std::fs::read(path(name)).ok(), before, "{name}");
    }
    Runtime::open(path("empty.db")).await.expect("an empty file is a new database");
}

#[tokio::test]
async fn a_database_has_the_durability_that_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal.db");
    let runtime = Runtime::open(&path).await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    // Other programs may read beside the runtime.
    let reader = rusqlite::Connection::open(&path).unwrap();
    let mode: String = reader.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let rows = |table: &str| -> u32 {
        let count = format!("SELECT count(*) FROM {table}");
        reader.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    assert!(rows("journal") + rows("servers") > 0, "what was acknowledged is in the file");
    // Once it is closed, all is in the tables.
    runtime.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(rows("journal"), 0);
    let row: (String, String, u32, u32, Vec<u8>) = reader
        .query_row("SELECT kind, key, version, format, state FROM servers", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap();
    assert_eq!(row, ("Counter".into(), "a".into(), 1, 1, b"\x81\xa5value\x01".to_vec()));
}
