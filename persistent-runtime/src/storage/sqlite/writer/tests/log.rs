//! The size of the commit log and of the write-ahead log.

use super::*;
use crate::storage::sqlite::checkpoint::RESTART_INTERVAL;

/// Only the difference is written, and it is enough to restore the state.
#[tokio::test]
async fn a_small_change_of_a_large_state_writes_a_small_row() {
    let mut engine = Engine::new();
    let mut state = vec![7; 1_000_000];
    let log_bytes = "SELECT sum(length(changes)) FROM commit_log";
    engine.commit("a", Update::Put(record(&*state))).await;
    let whole = engine.number(log_bytes);
    assert!(whole > 1_000_000);
    let updates: [&dyn Fn(&mut State); 7] = [
        &|state| state[500_000] = 1,
        &|state| state[0] = 1,
        &|state| state[999_999] = 1,
        &|state| state.push(3),
        &|state| drop(state.drain(400_000..400_100)),
        &|state| state.splice(300_000..300_001, [1, 2, 3]).for_each(drop),
        &|_| {},
    ];
    for update in updates {
        update(&mut state);
        engine.commit("a", Update::Put(record(&*state))).await;
        assert_eq!(engine.load("a").await.unwrap().state.bytes()[..], state);
        assert_eq!(engine.crashed().load("a").await.unwrap().state.bytes()[..], state);
    }
    assert!(engine.number(log_bytes) < whole + 500, "{}", engine.number(log_bytes) - whole);

    // The next memtable begins with the whole state: the rows of the last one will be deleted.
    engine.writer.freeze();
    state[9] = 9;
    engine.commit("a", Update::Put(record(&*state))).await;
    engine.finish_flush();
    engine.writer.delete_flushed(usize::MAX);
    state[10] = 10;
    engine.commit("a", Update::Put(record(&*state))).await;
    assert_eq!(engine.crashed().load("a").await.unwrap().state.bytes()[..], state);

    // Two large states of one server in a batch, with another update between.
    let large = |fill: u8| Update::Put(record(vec![fill; 50_000]));
    let updates = vec![(id("a"), large(1)), (id("a"), put("small")), (id("a"), large(2))];
    assert_eq!(engine.try_commit(updates).await, [true; 3]);
    engine.commit("a", append(&["more"])).await;
    engine.commit("a", large(3)).await;
    engine.commit("b", large(4)).await;
    engine.commit("b", Update::Delete).await;
    engine.commit("b", large(5)).await;
    for engine in [engine.crashed(), engine] {
        assert_eq!(engine.load("a").await, Some(record(vec![3; 50_000])));
        assert_eq!(engine.load("b").await, Some(record(vec![5; 50_000])));
    }
}

/// A small commit costs its sync, and syncing a file that grows takes longer.
#[tokio::test]
async fn the_write_ahead_log_stays_small_while_commits_are_small() {
    for size in [100, 500_000] {
        let mut engine = Engine::new();
        let mut bytes = vec![0; size];
        let mut state = Encoded::from(&bytes[..]);
        let mut log = 0;
        for n in 0_u16..3000 {
            bytes[50..52].copy_from_slice(&n.to_le_bytes());
            state = state.followed_by(&bytes);
            engine.run_with("a", Update::Put(record(state.clone()))).await;
            log = log.max(engine.wal_size());
        }
        assert!(log > 4 << 20 && log < 6 << 20, "{log} bytes of log");
    }
}

#[tokio::test]
async fn states_of_a_kilobyte_and_more_are_logged_as_differences() {
    for (size, whole) in [(SPLICE_MIN - 1, true), (SPLICE_MIN, false)] {
        let mut engine = Engine::new();
        engine.commit("a", Update::Put(record(vec![1; size]))).await;
        engine.commit("a", Update::Put(record([vec![1; size - 1], vec![2]].concat()))).await;
        let last = "SELECT length(changes) FROM commit_log ORDER BY number DESC LIMIT 1";
        assert_eq!(engine.number(last) > 1000, whole, "{size} bytes");
    }
}

#[tokio::test]
async fn flushed_rows_are_deleted_by_bytes_and_at_least_one_at_a_time() {
    let mut engine = Engine::new();
    for n in 0..250 {
        engine.commit(&n.to_string(), put("small")).await;
    }
    for n in 0..3 {
        engine.commit(&n.to_string(), Update::Put(record(vec![n; ROW_BYTES]))).await;
    }
    engine.flush_all();
    engine.commit("0", put("not flushed")).await;
    let rows = "SELECT count(*) FROM commit_log";
    for (bytes, left) in
        [(200 * MIN_ROW_COST, 54), (50 * MIN_ROW_COST, 4), (1, 3), (ROW_BYTES + 99, 1)]
    {
        engine.writer.delete_flushed(bytes);
        assert_eq!(engine.number(rows), left);
        assert!(engine.writer.has_flushed_rows);
    }
    engine.writer.delete_flushed(usize::MAX);
    assert!(!engine.writer.has_flushed_rows);
    assert_eq!(engine.number(rows), 1, "what is not flushed is kept");
    assert_eq!(text(engine.crashed().load("0").await).unwrap(), "not flushed");
}

#[tokio::test]
async fn the_commit_log_and_the_write_ahead_log_stay_bounded_under_load() {
    let mut engine = Engine::new();
    engine.writer.pacer.set_memtable_limit(1 << 20);
    let (mut wal, mut log, mut flushes) = (0, 0, 0);
    for round in 0_u32..700 {
        let update = |n: u32| {
            let state = vec![n.to_le_bytes()[0]; 400];
            (id(&((round * 7919 + n * 31) & 0xfff).to_string()), Update::Put(record(state)))
        };
        let queue = engine.storage.queue.clone();
        let waiting: Vec<_> = (0..256)
            .map(update)
            .map(|(id, update)| engine.storage.commit(Commit::new(id, update)))
            .collect();
        let before = engine.writer.flush.is_some();
        assert!(engine.writer.run_once(&queue));
        flushes += u32::from(before && engine.writer.flush.is_none());
        for commit in waiting {
            commit.await.unwrap();
        }
        let (weight, _) = engine.writer.memtables.active();
        assert!(weight <= 2 * (1 << 20), "round {round}: {weight}");
        wal = wal.max(engine.wal_size());
        log = log.max(engine.number("SELECT coalesce(sum(length(changes)), 0) FROM commit_log"));
    }
    assert!(flushes > 20, "{flushes} flushes");
    assert!(log < 5 << 20, "{log} bytes of commit log");
    assert!(wal < 100 << 20, "{wal} bytes of write-ahead log");
}

/// A program that reads in one long transaction keeps the write-ahead log from starting over.
#[tokio::test]
async fn at_its_limit_the_write_ahead_log_refuses_commits_until_it_can_start_over() {
    let limit = 8 << 20;
    let mut engine = Engine::with(&SqliteOptions::new().wal_limit(limit));
    let events = engine.events();
    let events = || std::mem::take(&mut *events.lock().unwrap());
    engine.run_with("a", put("first")).await;
    let reader = Connection::open(database(&engine.folder)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM servers").unwrap();
    let queue = engine.storage.queue.clone();
    let mut number = 0_u32;
    let error = loop {
        number += 1;
        let state = number.to_le_bytes().repeat(3000);
        let commit = engine.storage.commit(Commit::new(id("a"), Update::Put(record(state))));
        assert!(engine.writer.run_once(&queue));
        if let Err(error) = commit.await {
            break error;
        }
        assert!(engine.wal_size() < 2 * limit, "the log has no limit");
    };
    assert_eq!(error.kind(), StorageErrorKind::Locked);
    assert!(error.to_string().contains("end that transaction"), "{error}");
    assert!(engine.wal_size() >= limit, "{}", engine.wal_size());
    assert_eq!(events(), [format!("Checkpoint failed: {error}")]);
    assert_eq!(engine.try_commit(vec![(id("b"), put("refused"))]).await, [false]);

    drop(reader);
    tokio::time::sleep(RESTART_INTERVAL).await;
    engine.run_with("b", put("stored")).await;
    assert_eq!(events(), ["Checkpoint recovered"]);
    assert_eq!(text(engine.crashed().load("b").await).unwrap(), "stored");
    assert_eq!(engine.load("a").await.unwrap().state.len(), 12_000);
}

#[tokio::test]
async fn a_flush_that_fails_is_reported_once_and_so_is_its_success() {
    let mut engine = Engine::new();
    let events = engine.events();
    for key in 0..50 {
        engine.commit(&key.to_string(), Update::Put(record(vec![1; 10_000]))).await;
    }
    engine.limit_pages(1);
    engine.writer.freeze();
    for _ in 0..3 {
        engine.writer.flush(servers(usize::MAX));
    }
    assert!(engine.writer.last_error.is_some());
    engine.limit_pages(1_000_000);
    engine.writer.flush(servers(usize::MAX));
    let events = std::mem::take(&mut *events.lock().unwrap());
    let failed = "Flush failed: database or disk is full (SQLite error 13)";
    assert_eq!(events, [failed, "Flush recovered"]);
}

/// A dropped future of a close waits for no flush.
#[tokio::test]
async fn in_a_hurry_a_close_leaves_the_commit_log_for_the_next_opening() {
    let mut engine = Engine::new();
    engine.commit("a", put("stored")).await;
    let Engine { folder, storage, writer } = engine;
    let queue = storage.queue.clone();
    let close = storage.close();
    assert!(!queue.is_hurried());
    drop(close);
    assert!(queue.is_hurried());
    writer.close(&queue);
    drop(storage);
    let engine = Engine::open(folder, &SqliteOptions::new());
    assert_eq!(engine.number("SELECT count(*) FROM servers"), 0);
    assert_eq!(text(engine.load("a").await).unwrap(), "stored");
}

/// A count reads rows of counts, and no longer transaction keeps the log from starting over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_counts_do_not_let_the_write_ahead_log_grow() {
    let Engine { folder, storage, mut writer } = Engine::new();
    let storage = Arc::new(storage);
    let queue = storage.queue.clone();
    let many = (0..5000).map(|n| {
        let put = Update::Put(record(vec![1; 500]));
        storage.commit(Commit::new(id(&n.to_string()), put))
    });
    let many: Vec<_> = many.collect();
    assert!(writer.run_once(&queue));
    for commit in many {
        commit.await.unwrap();
    }
    let counters: Vec<_> = (0..2)
        .map(|_| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let mut counts = 0;
                while let Ok(count) = storage.count("kind").await {
                    assert_eq!(count, 5000);
                    counts += 1;
                }
                counts
            })
        })
        .collect();
    let wal = format!("{}-wal", database(&folder).display());
    let mut largest = 0;
    for round in 0..200_u32 {
        let batch: Vec<_> = (0..25)
            .map(|n| {
                let state = (round * 31 + n).to_le_bytes().repeat(10_000);
                storage.commit(Commit::new(id(&n.to_string()), Update::Put(record(state))))
            })
            .collect();
        assert!(writer.run_once(&queue));
        for commit in batch {
            commit.await.unwrap();
        }
        largest = largest.max(fs::metadata(&wal).unwrap().len());
    }
    drop(storage.close());
    for counter in counters {
        assert!(counter.await.unwrap() > 10);
    }
    assert!(largest < 128 << 20, "{largest} bytes of 200 MB");
}

#[tokio::test]
async fn a_large_update_shares_its_row_with_none_before_it() {
    let mut engine = Engine::new();
    let large = || Update::Put(record(vec![1; ROW_BYTES]));
    for (updates, rows) in [
        (vec![large()], 1),
        (vec![put("small"), put("small")], 1),
        (vec![put("small"), large()], 2),
        (vec![large(), put("small"), put("small"), large(), large()], 4),
    ] {
        let before = engine.number("SELECT count(*) FROM commit_log");
        let keys = (0..updates.len()).map(|nth| id(&nth.to_string()));
        engine.try_commit(keys.zip(updates).collect()).await;
        assert_eq!(engine.number("SELECT count(*) FROM commit_log") - before, rows);
    }
}
