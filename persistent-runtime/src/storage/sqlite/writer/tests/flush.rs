//! Flushes: what is where at which time, and what a kill leaves.

use std::{collections::BTreeSet, ops::Bound};

use super::*;

#[tokio::test]
async fn a_load_finds_the_last_update_wherever_it_is() {
    let mut engine = Engine::new();
    engine.commit("a", put("one")).await;
    assert_eq!(engine.number("SELECT count(*) FROM servers"), 0, "it is in the commit log");
    assert_eq!(text(engine.load("a").await).unwrap(), "one");
    engine.writer.freeze();
    assert_eq!(text(engine.load("a").await).unwrap(), "one", "frozen");
    engine.commit("a", put("two")).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "two", "newer than what is frozen");
    engine.finish_flush();
    assert_eq!(text(engine.load("a").await).unwrap(), "two");
    engine.flush_all();
    assert_eq!(engine.number("SELECT count(*) FROM servers WHERE state = CAST('two' AS BLOB)"), 1);
    assert_eq!(text(engine.load("a").await).unwrap(), "two", "from the table");
    engine.commit("a", Update::Delete).await;
    assert_eq!(engine.load("a").await, None);
    engine.flush_all();
    assert_eq!(engine.number("SELECT count(*) FROM servers"), 0);
    assert_eq!(engine.load("a").await, None);
}

#[tokio::test]
async fn updates_during_a_flush_are_not_lost_and_make_older_ones_obsolete() {
    let mut engine = Engine::new();
    for key in ["put", "deleted", "appended", "left"] {
        engine.commit(key, put("old")).await;
    }
    engine.writer.freeze();
    engine.commit("put", put("new")).await;
    engine.commit("deleted", Update::Delete).await;
    engine.commit("appended", append(&["more"])).await;
    engine.finish_flush();
    let rows = "SELECT group_concat(key, ' ') FROM (SELECT key FROM servers ORDER BY key)";
    let rows: String = engine.writer.connection.query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, "appended left", "the newer updates make the other rows obsolete");
    for engine in [engine.crashed(), engine] {
        assert_eq!(text(engine.load("put").await).unwrap(), "new");
        assert_eq!(engine.load("deleted").await, None);
        assert_eq!(text(engine.load("appended").await).unwrap(), "old more");
        assert_eq!(text(engine.load("left").await).unwrap(), "old");
    }
}

/// Kills the process after each step of a flush, and again after each step of the next one.
#[tokio::test]
async fn a_flush_that_is_killed_after_any_step_is_repeated() {
    let mut engine = Engine::new();
    engine.commit("c", put("stale")).await;
    engine.flush_all();
    let updates = vec![
        (id("a"), put("a")),
        (id("b"), put("b")),
        (id("b"), append(&["1", "2"])),
        (id("c"), Update::Delete),
        (id("d"), put("gone")),
        (id("d"), Update::Delete),
        (id("d"), put("d")),
    ];
    assert_eq!(engine.try_commit(updates).await, [true; 7]);
    engine.commit("b", append(&["3"])).await;
    engine.writer.freeze();
    let mut steps = 0;
    while engine.writer.flush.is_some() {
        engine.writer.flush(servers(1));
        steps += 1;
        let mut second = engine.crashed();
        second.writer.freeze();
        while second.writer.flush.is_some() {
            second.writer.flush(servers(1));
            check_after_kill(&second.crashed()).await;
        }
        check_after_kill(&second).await;
    }
    assert!(steps >= 4, "{steps} steps");
    check_after_kill(&engine).await;
}

async fn check_after_kill(engine: &Engine) {
    assert_eq!(text(engine.load("a").await).unwrap(), "a");
    assert_eq!(text(engine.load("b").await).unwrap(), "b 1 2 3");
    assert_eq!(engine.load("c").await, None);
    assert_eq!(text(engine.load("d").await).unwrap(), "d");
    assert_eq!(engine.storage.count("kind").await.unwrap(), 3);
}

#[tokio::test]
async fn messages_stay_in_order_through_flushes_and_restarts() {
    let mut engine = Engine::new();
    engine.commit("a", put("0")).await;
    engine.flush_all();
    engine.commit("a", append(&["1"])).await;
    engine.flush_all();
    engine.commit("a", append(&["2", "3"])).await;
    engine.writer.freeze();
    engine.commit("a", append(&["4"])).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1 2 3 4");
    assert_eq!(text(engine.crashed().load("a").await).unwrap(), "0 1 2 3 4");
    engine.finish_flush();
    engine = engine.crashed();
    engine.commit("a", append(&["5"])).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1 2 3 4 5");
    engine.flush_all();
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1 2 3 4 5");
    let snapshot = Record { messages: vec![bytes("7")], ..record(&b"6"[..]) };
    engine.commit("a", Update::Put(snapshot)).await;
    engine.flush_all();
    assert_eq!(text(engine.load("a").await).unwrap(), "6 7", "older messages are gone");
    assert_eq!(engine.number("SELECT count(*) FROM messages"), 1);
    engine.commit("a", Update::Delete).await;
    engine.flush_all();
    assert_eq!(engine.number("SELECT count(*) FROM messages"), 0);
    engine.commit("a", put("8")).await;
    engine.commit("a", append(&["9"])).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "8 9");
}

#[tokio::test]
async fn a_busy_caller_waits_for_a_flush_step_only_once_in_many_commits() {
    const STEPS: usize = 3;
    let mut engine = Engine::new();
    let many = (0..(STEPS + 2) * STEP_BUSY).map(|n| (id(&n.to_string()), put("old")));
    engine.try_commit(many.collect()).await;
    engine.writer.freeze();
    let rest = |engine: &Engine| engine.writer.flush.as_ref().map_or(0, Flush::left);
    let mut flushes = 0;
    for _ in 0..STEPS * STEP_BUSY {
        let before = rest(&engine);
        engine.run_with("again", put("new")).await;
        let done = before - rest(&engine);
        assert!(done == 0 || done == STEP_BUSY, "{done}");
        flushes += usize::from(done > 0);
        assert_eq!(engine.writer.pacer.timeout(&engine.writer.view()), Some(IDLE_BEFORE_STEP));
    }
    assert_eq!(flushes, STEPS);
    // No commit comes.
    let queue = engine.storage.queue.clone();
    for _ in 0..2 {
        let before = rest(&engine);
        assert!(engine.writer.run_once(&queue));
        assert_eq!(before - rest(&engine), STEP_BUSY);
        assert_eq!(engine.writer.pacer.timeout(&engine.writer.view()), Some(Duration::ZERO));
    }
}

/// The same thread or another one frees it.
#[tokio::test]
async fn a_large_memtable_is_sorted_by_another_thread_and_flushed() {
    const MANY: usize = 5000;
    let mut engine = Engine::new();
    let queue = engine.storage.queue.clone();
    for waits in [true, false] {
        let state = format!("{waits}");
        let many = (0..MANY).map(|n| (id(&n.to_string()), put(&state)));
        assert!(engine.try_commit(many.collect()).await.into_iter().all(|done| done));
        engine.writer.freeze();
        if waits {
            engine.writer.flush(servers(MANY));
        }
        while engine.writer.flush.is_some() {
            assert!(engine.writer.run_once(&queue));
        }
        let stored = format!("SELECT count(*) FROM servers WHERE state = CAST('{state}' AS BLOB)");
        assert_eq!(engine.number(&stored), 5000);
        assert_eq!(text(engine.crashed().load("4999").await).unwrap(), state);
    }
}

/// A record that is flushed between the two lookups of a reader is found by the second one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_misses_no_update_that_is_flushed_meanwhile() {
    let Engine { folder, storage, mut writer } = Engine::new();
    let queue = storage.queue.clone();
    let flusher = std::thread::spawn(move || {
        let mut flushes = 0;
        while !queue.is_closed() {
            if let Recv::Batch(batch) = queue.recv(Some(Duration::ZERO)) {
                writer.commit(batch);
            }
            match &writer.flush {
                Some(_) => writer.flush(servers(2)),
                None => writer.freeze(),
            }
            flushes += u32::from(writer.flush.is_none());
        }
        flushes
    });
    for round in 0..300_u64 {
        for key in 0..4 {
            let due = Update::Put(Record { due: Some(round), ..record(&b"state"[..]) });
            storage.commit(Commit::new(id(&key.to_string()), due)).await.unwrap();
        }
        assert_eq!(
            storage.keys("kind", Bound::Unbounded, 9).await.unwrap().len(),
            4,
            "round {round}"
        );
        assert_eq!(storage.count("kind").await.unwrap(), 4, "round {round}");
        let due = storage.due("kind", None, 9).await.unwrap();
        let due: Vec<_> = due.iter().map(|(due, key)| (*due, &**key)).collect();
        assert_eq!(due, ["0", "1", "2", "3"].map(|key| (round, key)));
        assert_eq!(storage.load(&id("3")).await.unwrap().unwrap().due, Some(round));
    }
    drop(storage.close());
    assert!(flusher.join().unwrap() > 10, "the test flushed too little");
    drop(folder);
}

/// The id of a row is the incarnation of its server.
#[tokio::test]
async fn a_server_that_is_created_again_has_a_new_id_and_no_id_is_used_twice() {
    let mut engine = Engine::new();
    let mut used = BTreeSet::new();
    let id_of_a = |engine: &Engine| engine.number("SELECT id FROM servers WHERE key = 'a'");
    for round in 0..8 {
        engine.commit("a", put("first")).await;
        engine.commit("z", put("the last row of the table")).await;
        match round % 4 {
            // Deleted and created again in one memtable, in two, and with a kill in between.
            0 => {}
            1 => engine.writer.freeze(),
            2 => engine.flush_all(),
            _ => engine = engine.crashed(),
        }
        engine.commit("a", Update::Delete).await;
        engine.commit("z", Update::Delete).await;
        if round % 4 == 2 {
            engine.writer.freeze();
        }
        engine.commit("a", put("second")).await;
        engine.finish_flush();
        engine.flush_all();
        assert!(used.insert(id_of_a(&engine)), "round {round}: {used:?}");
        let id = id_of_a(&engine);
        engine.commit("a", put("third")).await;
        engine.commit("b", put("another")).await;
        engine.flush_all();
        assert_eq!(id_of_a(&engine), id, "round {round}: a change keeps the id");
        for key in ["a", "b"] {
            engine.commit(key, Update::Delete).await;
        }
    }
}

#[tokio::test]
async fn kinds_are_counted_in_the_transaction_that_changes_them() {
    let mut engine = Engine::new();
    let (other, count) =
        (ServerId::new("other", "a"), "SELECT coalesce(sum(servers), 0) FROM kinds");
    let rows = "SELECT count(*) FROM servers";
    engine
        .try_commit(vec![(id("a"), put("1")), (id("b"), put("1")), (other.clone(), put("1"))])
        .await;
    engine.flush_all();
    engine
        .try_commit(vec![(id("a"), put("2")), (id("c"), put("2")), (other, Update::Delete)])
        .await;
    engine.commit("b", Update::Delete).await;
    engine.writer.freeze();
    while engine.writer.flush.is_some() {
        assert_eq!(engine.number(count), engine.number(rows));
        assert_eq!(engine.storage.count("kind").await.unwrap(), 2);
        assert_eq!(engine.crashed().storage.count("kind").await.unwrap(), 2);
        engine.writer.flush(servers(1));
    }
    assert_eq!(engine.number("SELECT servers FROM kinds"), 2, "the empty kind has no row");
}

#[tokio::test]
async fn a_step_ends_with_its_bytes_and_has_at_least_one_server() {
    let mut engine = Engine::new();
    for key in ["a", "b", "c", "d"] {
        engine.commit(key, put(&"x".repeat(1000))).await;
    }
    engine.writer.freeze();
    let rows = "SELECT count(*) FROM servers";
    for (bytes, expected) in [(0, 1), (1000, 2), (1001, 4)] {
        engine.writer.flush(StepSize { servers: 9, bytes });
        assert_eq!(engine.number(rows), expected);
    }
}

#[tokio::test]
async fn free_pages_return_to_the_file_system_when_the_writer_is_idle() {
    let mut engine = Engine::new();
    let state = "x".repeat(100_000);
    let many: Vec<_> = (0..200).map(|n| (id(&n.to_string()), put(&state))).collect();
    engine.try_commit(many.clone()).await;
    engine.flush_all();
    let full = engine.number("PRAGMA page_count");
    engine.try_commit(many.into_iter().map(|(id, _)| (id, Update::Delete)).collect()).await;
    engine.flush_all();
    engine.writer.delete_flushed(usize::MAX);
    let mut steps = 0;
    let queue = engine.storage.queue.clone();
    while engine.writer.has_free_pages {
        assert!(engine.writer.run_once(&queue));
        steps += 1;
    }
    let (left, free) = (engine.number("PRAGMA page_count"), engine.number("PRAGMA freelist_count"));
    assert!(full > 5000 && left < 1100, "{left} of {full} pages, {free} of them free");
    // A commit waits for one of them, and each has a sync.
    assert!((20..60).contains(&steps), "{steps} steps for {full} pages");
}
