//! Commits, lists, and errors that fail some commits and not others.

use std::ops::Bound;

use super::*;

#[tokio::test]
async fn an_append_without_a_record_fails_alone() {
    let mut engine = Engine::new();
    engine.commit("a", put("0")).await;
    engine.commit("a", Update::Delete).await;
    assert_eq!(engine.try_commit(vec![(id("a"), append(&["1"]))]).await, [false]);
    let updates = vec![(id("a"), append(&["1"])), (id("b"), put("b"))];
    assert_eq!(engine.try_commit(updates).await, [false, true]);
    assert_eq!(engine.load("a").await, None);
    let updates = vec![
        (id("a"), put("0")),
        (id("a"), append(&["1"])),
        (id("b"), Update::Delete),
        (id("b"), append(&["2"])),
    ];
    assert_eq!(engine.try_commit(updates).await, [true, true, true, false]);
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1");
    assert_eq!(engine.load("b").await, None);
}

/// Pages and counts, with updates in both memtables and in the tables.
#[tokio::test]
async fn lists_and_counts_merge_the_memtables_with_the_tables() {
    let mut engine = Engine::new();
    let due = |due| Update::Put(Record { due, ..record(&b"state"[..]) });
    let stages: [&[(&str, Update)]; 3] = [
        &[("a", due(Some(5))), ("c", due(Some(1))), ("e", due(None)), ("g", due(Some(3)))],
        &[("b", due(Some(2))), ("c", due(Some(9))), ("e", Update::Delete)],
        &[("a", append(&["x"])), ("b", Update::Delete), ("e", due(Some(4))), ("f", due(None))],
    ];
    for (stage, updates) in stages.into_iter().enumerate() {
        for (key, update) in updates {
            engine.commit(key, update.clone()).await;
        }
        match stage {
            0 => engine.flush_all(),
            1 => engine.writer.freeze(),
            _ => {}
        }
    }
    loop {
        assert_eq!(engine.storage.count("kind").await.unwrap(), 5);
        let kinds = engine.storage.kinds(None, 9).await.unwrap();
        assert_eq!(kinds.iter().map(|kind| &**kind).collect::<Vec<_>>(), ["kind"]);
        assert_eq!(engine.storage.kinds(Some("kind"), 9).await.unwrap(), []);
        let all = ["a", "c", "e", "f", "g"];
        for limit in 0..7 {
            let keys = engine.storage.keys("kind", Bound::Unbounded, limit).await.unwrap();
            assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), all[..limit.min(5)]);
        }
        let keys = engine.storage.keys("kind", Bound::Excluded("b"), 3).await.unwrap();
        assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["c", "e", "f"]);
        let all = [(3, "g"), (4, "e"), (5, "a"), (9, "c")];
        for limit in 0..6 {
            let due = engine.storage.due("kind", None, limit).await.unwrap();
            let due: Vec<_> = due.iter().map(|(due, key)| (*due, &**key)).collect();
            assert_eq!(due, all[..limit.min(4)]);
        }
        let due = engine.storage.due("kind", Some((4, "e")), 1).await.unwrap();
        assert_eq!(due, [(5, "a".into())]);
        if engine.writer.flush.is_some() {
            engine.writer.flush(servers(1));
        } else if engine.writer.memtables.active().1.is_some() {
            engine.writer.freeze();
        } else {
            break;
        }
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_fails_alone() {
    let mut engine = Engine::new();
    let large = Update::Put(record(vec![0; 1_000_000_000]));
    let updates = vec![(id("a"), put("a")), (id("b"), large), (id("c"), put("c"))];
    assert_eq!(engine.try_commit(updates).await, [true, false, true]);
    assert_eq!(engine.storage.count("kind").await.unwrap(), 2);
}

#[tokio::test]
async fn a_full_disk_fails_the_batch_and_a_later_batch_succeeds_once_there_is_space() {
    let mut engine = Engine::new();
    engine.commit("a", put("a")).await;
    let updates = || {
        let large = Update::Put(record(vec![7; 1_000_000]));
        vec![(id("a"), put("lost")), (id("b"), large), (id("c"), put("c"))]
    };
    engine.limit_pages(12);
    assert_eq!(engine.try_commit(updates()).await, [false; 3]);
    assert!(engine.writer.connection.is_autocommit(), "rolled back");
    for engine in [&engine, &engine.crashed()] {
        assert_eq!(text(engine.load("a").await).unwrap(), "a");
        assert_eq!(engine.load("b").await, None);
    }
    engine.limit_pages(100_000);
    assert_eq!(engine.try_commit(updates()).await, [true; 3]);
    engine.flush_all();
    assert_eq!(text(engine.load("a").await).unwrap(), "lost");
    assert_eq!(engine.load("b").await.unwrap().state.len(), 1_000_000);
}

#[tokio::test]
async fn a_failing_flush_fails_no_commit_until_the_commit_log_is_full() {
    let mut engine = Engine::new();
    engine.writer.pacer.set_memtable_limit(10_000);
    for n in 0..9 {
        engine.commit(&n.to_string(), Update::Put(record(vec![1; 50_000]))).await;
    }
    let pages = u32::try_from(engine.number("PRAGMA page_count")).unwrap();
    engine.limit_pages(pages);
    engine.finish_flush();
    engine.writer.freeze();
    engine.writer.flush(servers(usize::MAX));
    assert!(engine.writer.last_error.is_some(), "no space for the flush");

    engine.limit_pages(100_000);
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON servers
        BEGIN SELECT RAISE(ABORT, 'no space'); END";
    engine.writer.connection.execute(refuse, []).unwrap();
    let mut stored = 0;
    while engine.try_commit(vec![(id(&format!("x{stored}")), put("x"))]).await == [true] {
        stored += 1;
        assert!(stored < 1000, "the commit log has a limit");
    }
    assert!(stored > 20, "{stored} commits succeeded while the flush failed");
    let refused = engine.storage.commit(Commit::new(id("y"), put("y")));
    let Recv::Batch(batch) = engine.storage.queue.recv(None) else { panic!("no commit") };
    engine.writer.commit(batch);
    assert!(refused.await.unwrap_err().to_string().contains("no space"), "names the reason");
    assert_eq!(engine.load("y").await, None);
    assert_eq!(text(engine.load("x0").await).unwrap(), "x");

    engine.writer.connection.execute("DROP TRIGGER refuse", []).unwrap();
    engine.commit("y", put("again")).await;
    assert!(engine.writer.last_error.is_none());
    let engine = engine.crashed();
    assert_eq!(text(engine.load("y").await).unwrap(), "again");
    assert_eq!(text(engine.load("x0").await).unwrap(), "x");
    assert_eq!(engine.load("8").await.unwrap().state.len(), 50_000);
}

#[tokio::test]
async fn commits_fail_when_the_writer_has_died() {
    let engine = Engine::new();
    let commit = engine.storage.commit(Commit::new(id("a"), put("a")));
    drop(Receiver(engine.storage.queue.clone()));
    assert!(commit.await.unwrap_err().to_string().contains("shut down"));
    let later = engine.storage.commit(Commit::new(id("a"), put("a"))).await;
    assert!(later.unwrap_err().to_string().contains("closed"));
}

#[test]
fn every_commit_is_synced() {
    let engine = Engine::new();
    assert_eq!(engine.number("PRAGMA synchronous"), 2, "FULL");
}
