//! Damaged rows, and the form of a closed database.

use std::{
    io::{Seek, SeekFrom, Write},
    ops::Bound,
};

use super::*;

#[tokio::test]
async fn a_damaged_commit_log_is_an_error_and_is_not_changed() {
    let mut engine = Engine::new();
    engine.commit("a", put("one")).await;
    for damage in [
        "UPDATE commit_log SET changes = substr(changes, 1, length(changes) - 1)",
        "UPDATE commit_log SET changes = x''",
        "UPDATE commit_log SET changes = CAST(replace(changes, 'one', 'two') AS BLOB)",
        "UPDATE commit_log SET number = number + 1",
    ] {
        let Engine { folder, .. } = engine.crashed();
        let path = database(&folder);
        let connection = Connection::open(&path).unwrap();
        let length = "SELECT coalesce(sum(length(changes)), 0) FROM commit_log";
        let length = || connection.query_row(length, [], |row| row.get::<_, i64>(0)).unwrap();
        connection.execute(damage, []).unwrap();
        let before = length();
        let error = SqliteStorage::open(&path).expect_err(damage).to_string();
        assert!(error.contains("of the commit log is damaged; restore a backup"), "{error}");
        assert_eq!(length(), before);
    }
}

#[tokio::test]
async fn a_damaged_row_is_an_error_of_its_server_alone() {
    let mut engine = Engine::new();
    for key in ["a", "b"] {
        let record = Record {
            reminders: b"reminders".into(),
            due: Some(5),
            messages: vec![bytes("one"), bytes("two")],
            ..record(&b"state"[..])
        };
        engine.commit(key, Update::Put(record)).await;
    }
    engine.flush_all();
    let load = async |key: &str| engine.storage.load(&id(key)).await.map(text);
    let whole = load("a").await.unwrap();
    assert_eq!(whole.as_deref(), Some("state one two"));
    for (table, column, other, value) in [
        ("servers", "sequence", "sequence + 1", "sequence - 1"),
        ("servers", "version", "3", "1"),
        ("servers", "format", "0", "1"),
        ("servers", "state", "x'7374617464'", "x'7374617465'"),
        ("servers", "reminders", "x''", "CAST('reminders' AS BLOB)"),
        ("servers", "due", "NULL", "5"),
        ("servers", "due", "0", "5"),
        ("servers", "checksum", "checksum + 1", "checksum - 1"),
        ("messages", "number", "number + 1000", "number - 1000"),
        ("messages", "checksum", "checksum - 1", "checksum + 1"),
        ("messages", "message", "x''", "CASE number % 3 WHEN 2 THEN 'one' ELSE 'two' END"),
    ] {
        let a = "(SELECT id FROM servers WHERE key = 'a')";
        let of = if table == "servers" { "id" } else { "server" };
        let set = |value: &str| {
            let sql = format!(
                "UPDATE {table} SET {column} = CAST({value} AS {}) WHERE {of} = {a}",
                if ["state", "reminders", "message"].contains(&column) {
                    "BLOB"
                } else {
                    "INTEGER"
                }
            );
            engine.writer.connection.execute_batch(&sql).unwrap();
        };
        set(other);
        let error = load("a").await.unwrap_err().to_string();
        assert!(error.contains("checksum") && error.contains("backup"), "{column}: {error}");
        assert_eq!(load("b").await.unwrap(), whole, "{column}");
        set(value);
        assert_eq!(load("a").await.unwrap(), whole, "{column}");
    }
}

/// With a wrong position, rows that were never read would be deleted.
#[test]
fn a_damaged_flush_position_is_an_error_before_rows_are_deleted() {
    let engine = Engine::new();
    engine.writer.connection.execute_batch("UPDATE flushed SET number = number + 8").unwrap();
    let error = recover(&engine.writer.connection).map(|_| ()).unwrap_err();
    let error = StorageError::from(error);
    assert!(error.to_string().contains("flushed"), "{error}");
}

#[tokio::test]
async fn a_closed_database_has_everything_in_its_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    for n in ["1", "2"] {
        let storage = SqliteStorage::open(&path).unwrap();
        for key in ["a", "b"] {
            storage.commit(Commit::new(id(key), put(n))).await.unwrap();
        }
        storage.commit(Commit::new(id("a"), append(&["m"]))).await.unwrap();
        // Closed explicitly, and closed by the drop.
        if n == "1" {
            storage.close().await.unwrap();
        }
        drop(storage);
        check_tables(&path, n);
    }
}

fn check_tables(path: &Path, n: &str) {
    assert!(!path.with_extension("db-wal").exists(), "the write-ahead log is empty");
    let plain = Connection::open(path).unwrap();
    let text = |sql: &str| plain.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(
        text("SELECT group_concat(key || CAST(state AS TEXT)) FROM servers"),
        format!("a{n},b{n}")
    );
    assert_eq!(
        text(
            "SELECT group_concat(key || CAST(message AS TEXT)) FROM messages JOIN servers ON id = server"
        ),
        "am"
    );
    assert_eq!(text("SELECT CAST(count(*) AS TEXT) FROM commit_log"), "0");
}

/// A page of zeros costs the servers whose rows it had. The commits and the flushes of all others
/// go on, and the commit log does not grow.
#[tokio::test]
async fn a_damaged_page_costs_its_servers_and_no_others() {
    const COUNT: usize = 2000;
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let all = |state: &str| -> Vec<(ServerId, Update)> {
        (0..COUNT).map(|n| (id(&format!("{n:05}")), put(&state.repeat(40)))).collect()
    };
    let mut engine = Engine::open(folder, &SqliteOptions::new());
    assert!(engine.try_commit(all("first")).await.into_iter().all(|done| done));
    let Engine { folder, storage, writer } = engine;
    let queue = storage.queue.clone();
    writer.close(&queue);
    drop(storage);
    let page = "SELECT pageno FROM dbstat WHERE name = 'servers' AND pagetype = 'leaf'
                ORDER BY path LIMIT 1 OFFSET 20";
    let page: u64 = Connection::open(&path)
        .unwrap()
        .query_row(page, [], |row| row.get::<_, i64>(0))
        .unwrap()
        .cast_unsigned();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start((page - 1) * 4096)).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    drop(file);

    let mut engine = Engine::open(folder, &SqliteOptions::new());
    let events = engine.events();
    let mut unreadable = Vec::new();
    for (server, _) in all("") {
        if let Err(error) = engine.storage.load(&server).await {
            assert_eq!(error.kind(), StorageErrorKind::Corrupt, "{error}");
            unreadable.push(server);
        }
    }
    assert!((1..100).contains(&unreadable.len()), "{} rows of a page", unreadable.len());

    let mut log = Vec::new();
    for round in ["second", "third", "fourth"] {
        engine.try_commit(all(round)).await;
        engine.writer.freeze();
        // Newer than what is frozen.
        engine.try_commit(vec![(unreadable[0].clone(), put("the newest"))]).await;
        engine.finish_flush();
        engine.writer.delete_flushed(usize::MAX);
        log.push(engine.number("SELECT sum(length(changes)) FROM commit_log"));
        for engine in [&engine, &engine.crashed()] {
            for (server, update) in all(round) {
                let Update::Put(expected) = update else { unreachable!() };
                let found = engine.storage.load(&server).await.unwrap();
                if server == unreadable[0] {
                    assert_eq!(text(found).unwrap(), "the newest", "{round}");
                } else {
                    assert!(found == Some(expected), "{round}: {server}");
                }
            }
            assert_eq!(
                engine.storage.keys("kind", Bound::Unbounded, 9999).await.unwrap().len(),
                COUNT
            );
        }
    }
    assert!(log[2] < 64 << 10 && log[2] <= log[0] + 1000, "{log:?} bytes");
    let events = std::mem::take(&mut *events.lock().unwrap());
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("Flush failed: a page of the database is damaged"), "{events:?}");

    // They are deleted, as the error of a damaged state advises, and begin anew.
    for server in &unreadable {
        engine.try_commit(vec![(server.clone(), Update::Delete)]).await;
        assert_eq!(engine.try_commit(vec![(server.clone(), put("new"))]).await, [true]);
    }
    engine.flush_all();
    for server in &unreadable {
        assert_eq!(text(engine.storage.load(server).await.unwrap()).unwrap(), "new");
    }
}

/// A state that is larger than a page continues on others, and each of them points to the next.
#[tokio::test]
async fn a_damaged_pointer_or_page_of_a_large_state_costs_its_server_alone() {
    let mut engine = Engine::new();
    let state = |key: &str| vec![key.as_bytes()[0]; 40_000];
    for key in ["a", "b", "c"] {
        engine.commit(key, Update::Put(record(state(key)))).await;
    }
    let Engine { folder, storage, writer } = engine;
    let queue = storage.queue.clone();
    writer.close(&queue);
    drop(storage);
    let path = database(&folder);
    let whole = fs::read(&path).unwrap();
    // The pages that continue the state of `b` are full of it, and so are free pages.
    let is_of_b = |page: &[u8]| page[4..2004].iter().all(|byte| *byte == b'b');
    let pages = whole.chunks(4096).enumerate().filter(|(_, page)| is_of_b(page));
    let pages: Vec<usize> = pages.map(|(nth, _)| nth).collect();
    assert!(pages.len() >= 8, "{pages:?}");
    let mut refused = 0;
    for page in &pages {
        for (at, byte) in [(0, 0x7f), (3, 1), (3, 0), (2000, b'x')] {
            let mut damaged = whole.clone();
            if damaged[page * 4096 + at] == byte {
                continue;
            }
            damaged[page * 4096 + at] = byte;
            let other = tempfile::tempdir().unwrap();
            fs::write(database(&other), damaged).unwrap();
            let engine = Engine::open(other, &SqliteOptions::new());
            match engine.storage.load(&id("b")).await {
                Err(error) => {
                    assert_eq!(
                        error.kind(),
                        StorageErrorKind::Corrupt,
                        "page {page}, {at}: {error}"
                    );
                    refused += 1;
                }
                // The last page points nowhere.
                Ok(found) => assert!(found == Some(record(state("b"))), "page {page}, {at}"),
            }
            for key in ["a", "c"] {
                assert!(engine.load(key).await == Some(record(state(key))), "page {page}, {at}");
            }
        }
    }
    assert!(refused >= 30, "{refused} for nine pages of the state");
}
