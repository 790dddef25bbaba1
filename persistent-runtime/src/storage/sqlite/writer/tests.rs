use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use super::*;
use crate::{
    id::ServerId, storage::Commit, storage::MemoryStorage, storage::Record, storage::SqliteStorage,
    storage::Storage, storage::StorageFuture, storage::encoded::Encoded,
};

/// A storage whose writer does only what it is told.
struct Engine {
    folder: TempDir,
    storage: SqliteStorage,
    writer: Writer,
}

impl Engine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::open(folder)
    }

    fn open(folder: TempDir) -> Self {
        let (storage, writer) = SqliteStorage::prepare(&database(&folder)).unwrap();
        Self { folder, storage, writer }
    }

    /// What is found when the process is killed here.
    fn crashed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let file = |folder| PathBuf::from(format!("{}{suffix}", database(folder).display()));
            fs::copy(file(&self.folder), file(&folder)).unwrap();
        }
        Self::open(folder)
    }

    /// Commits all in one batch.
    async fn try_commit(&mut self, changes: Vec<(ServerId, Update)>) -> Vec<bool> {
        let commits: Vec<StorageFuture<'_, ()>> = changes
            .into_iter()
            .map(|(id, update)| self.storage.commit(Commit::new(id, update)))
            .collect();
        if let Found::Commits(batch) = self.storage.queue.take(Some(Duration::ZERO)) {
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

    fn fold(&mut self) {
        self.writer.freeze();
        self.fold_rest();
    }

    fn fold_rest(&mut self) {
        while self.writer.fold.is_some() {
            self.writer.fold(2);
            assert!(self.writer.trouble.is_none());
        }
    }

    fn number(&self, sql: &str) -> i64 {
        self.writer.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Commits as the writer's thread does, with all that comes behind it.
    async fn turn_with(&mut self, key: &str, update: Update) {
        let commit = self.storage.commit(Commit::new(id(key), update));
        assert!(self.writer.turn(&self.storage.queue));
        commit.await.unwrap();
    }

    fn log_size(&self) -> u64 {
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

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn record(state: impl Into<Encoded>) -> Record {
    Record {
        version: 1,
        format: 1,
        state: state.into(),
        reminders: [].into(),
        due: None,
        messages: Vec::new(),
    }
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

#[tokio::test]
async fn a_load_finds_the_last_change_wherever_it_is() {
    let mut engine = Engine::new();
    engine.commit("a", put("one")).await;
    assert_eq!(engine.number("SELECT count(*) FROM servers"), 0, "it is in the journal");
    assert_eq!(text(engine.load("a").await).unwrap(), "one");
    engine.writer.freeze();
    assert_eq!(text(engine.load("a").await).unwrap(), "one", "frozen");
    engine.commit("a", put("two")).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "two", "newer than what is frozen");
    engine.fold_rest();
    assert_eq!(text(engine.load("a").await).unwrap(), "two");
    engine.fold();
    assert_eq!(engine.number("SELECT count(*) FROM servers WHERE state = CAST('two' AS BLOB)"), 1);
    assert_eq!(text(engine.load("a").await).unwrap(), "two", "from the table");
    engine.commit("a", Update::Delete).await;
    assert_eq!(engine.load("a").await, None);
    engine.fold();
    assert_eq!(engine.number("SELECT count(*) FROM servers"), 0);
    assert_eq!(engine.load("a").await, None);
}

#[tokio::test]
async fn what_is_newer_than_a_fold_is_not_folded_twice_and_not_lost() {
    let mut engine = Engine::new();
    for key in ["put", "deleted", "appended", "left"] {
        engine.commit(key, put("old")).await;
    }
    engine.writer.freeze();
    engine.commit("put", put("new")).await;
    engine.commit("deleted", Update::Delete).await;
    engine.commit("appended", append(&["more"])).await;
    engine.fold_rest();
    let rows = "SELECT group_concat(key, ' ') FROM (SELECT key FROM servers ORDER BY key)";
    let rows: String = engine.writer.connection.query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, "appended left", "the others have no row to write yet");
    for engine in [engine.crashed(), engine] {
        assert_eq!(text(engine.load("put").await).unwrap(), "new");
        assert_eq!(engine.load("deleted").await, None);
        assert_eq!(text(engine.load("appended").await).unwrap(), "old more");
        assert_eq!(text(engine.load("left").await).unwrap(), "old");
    }
}

/// Killed after each chunk, and once more after each chunk of the fold that
/// follows.
#[tokio::test]
async fn a_fold_that_is_cut_off_anywhere_is_done_again() {
    let mut engine = Engine::new();
    engine.commit("c", put("stale")).await;
    engine.fold();
    let changes = vec![
        (id("a"), put("a")),
        (id("b"), put("b")),
        (id("b"), append(&["1", "2"])),
        (id("c"), Update::Delete),
        (id("d"), put("gone")),
        (id("d"), Update::Delete),
        (id("d"), put("d")),
    ];
    assert_eq!(engine.try_commit(changes).await, [true; 7]);
    engine.commit("b", append(&["3"])).await;
    engine.writer.freeze();
    let mut steps = 0;
    while engine.writer.fold.is_some() {
        engine.writer.fold(1);
        steps += 1;
        let mut second = engine.crashed();
        second.writer.freeze();
        while second.writer.fold.is_some() {
            second.writer.fold(1);
            check_what_was_cut_off(&second.crashed()).await;
        }
        check_what_was_cut_off(&second).await;
    }
    assert!(steps >= 4, "{steps} chunks");
    check_what_was_cut_off(&engine).await;
}

async fn check_what_was_cut_off(engine: &Engine) {
    assert_eq!(text(engine.load("a").await).unwrap(), "a");
    assert_eq!(text(engine.load("b").await).unwrap(), "b 1 2 3");
    assert_eq!(engine.load("c").await, None);
    assert_eq!(text(engine.load("d").await).unwrap(), "d");
    assert_eq!(engine.storage.count("kind").await.unwrap(), 3);
}

#[tokio::test]
async fn messages_stay_in_order_through_any_number_of_folds_and_lives() {
    let mut engine = Engine::new();
    engine.commit("a", put("0")).await;
    engine.fold();
    engine.commit("a", append(&["1"])).await;
    engine.fold();
    engine.commit("a", append(&["2", "3"])).await;
    engine.writer.freeze();
    engine.commit("a", append(&["4"])).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1 2 3 4");
    assert_eq!(text(engine.crashed().load("a").await).unwrap(), "0 1 2 3 4");
    engine.fold_rest();
    engine = engine.crashed();
    engine.commit("a", append(&["5"])).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1 2 3 4 5");
    engine.fold();
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1 2 3 4 5");
    let snapshot = Record { messages: vec![bytes("7")], ..record(&b"6"[..]) };
    engine.commit("a", Update::Put(snapshot)).await;
    engine.fold();
    assert_eq!(text(engine.load("a").await).unwrap(), "6 7", "older messages are gone");
    assert_eq!(engine.number("SELECT count(*) FROM messages"), 1);
    engine.commit("a", Update::Delete).await;
    engine.fold();
    assert_eq!(engine.number("SELECT count(*) FROM messages"), 0);
    engine.commit("a", put("8")).await;
    engine.commit("a", append(&["9"])).await;
    assert_eq!(text(engine.load("a").await).unwrap(), "8 9");
}

#[tokio::test]
async fn nothing_can_be_appended_to_what_is_not_there() {
    let mut engine = Engine::new();
    engine.commit("a", put("0")).await;
    engine.commit("a", Update::Delete).await;
    assert_eq!(engine.try_commit(vec![(id("a"), append(&["1"]))]).await, [false]);
    let changes = vec![(id("a"), append(&["1"])), (id("b"), put("b"))];
    assert_eq!(engine.try_commit(changes).await, [false, true]);
    assert_eq!(engine.load("a").await, None);
    let changes = vec![
        (id("a"), put("0")),
        (id("a"), append(&["1"])),
        (id("b"), Update::Delete),
        (id("b"), append(&["2"])),
    ];
    assert_eq!(engine.try_commit(changes).await, [true, true, true, false]);
    assert_eq!(text(engine.load("a").await).unwrap(), "0 1");
    assert_eq!(engine.load("b").await, None);
}

/// A page of keys, of what is due, and a count, with changes in both generations
/// and in the tables.
#[tokio::test]
async fn lists_and_counts_merge_what_is_pending_with_the_tables() {
    let mut engine = Engine::new();
    let due = |due| Update::Put(Record { due, ..record(&b"state"[..]) });
    let stages: [&[(&str, Update)]; 3] = [
        &[("a", due(Some(5))), ("c", due(Some(1))), ("e", due(None)), ("g", due(Some(3)))],
        &[("b", due(Some(2))), ("c", due(Some(9))), ("e", Update::Delete)],
        &[("a", append(&["x"])), ("b", Update::Delete), ("e", due(Some(4))), ("f", due(None))],
    ];
    for (stage, changes) in stages.into_iter().enumerate() {
        for (key, update) in changes {
            engine.commit(key, update.clone()).await;
        }
        match stage {
            0 => engine.fold(),
            1 => engine.writer.freeze(),
            _ => {}
        }
    }
    loop {
        assert_eq!(engine.storage.count("kind").await.unwrap(), 5);
        let all = ["a", "c", "e", "f", "g"];
        for limit in 0..7 {
            let keys = engine.storage.keys("kind", None, limit).await.unwrap();
            assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), all[..limit.min(5)]);
        }
        let keys = engine.storage.keys("kind", Some("b"), 3).await.unwrap();
        assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["c", "e", "f"]);
        let all = [(3, "g"), (4, "e"), (5, "a"), (9, "c")];
        for limit in 0..6 {
            let due = engine.storage.due("kind", None, limit).await.unwrap();
            let due: Vec<_> = due.iter().map(|(due, key)| (*due, &**key)).collect();
            assert_eq!(due, all[..limit.min(4)]);
        }
        let due = engine.storage.due("kind", Some((4, "e")), 1).await.unwrap();
        assert_eq!(due, [(5, "a".into())]);
        if engine.writer.fold.is_some() {
            engine.writer.fold(1);
        } else if engine.writer.memtable.active().1.is_some() {
            engine.writer.freeze();
        } else {
            break;
        }
    }
}

#[tokio::test]
async fn a_change_that_is_too_large_fails_alone() {
    let mut engine = Engine::new();
    let large = Update::Put(record(vec![0; 1_000_000_000]));
    let changes = vec![(id("a"), put("a")), (id("b"), large), (id("c"), put("c"))];
    assert_eq!(engine.try_commit(changes).await, [true, false, true]);
    assert_eq!(engine.storage.count("kind").await.unwrap(), 2);
}

#[tokio::test]
async fn a_full_disk_fails_the_batch_and_the_next_one_works_once_there_is_room() {
    let mut engine = Engine::new();
    engine.commit("a", put("a")).await;
    let changes = || {
        let large = Update::Put(record(vec![7; 1_000_000]));
        vec![(id("a"), put("lost")), (id("b"), large), (id("c"), put("c"))]
    };
    engine.limit_pages(12);
    assert_eq!(engine.try_commit(changes()).await, [false; 3]);
    assert!(engine.writer.connection.is_autocommit(), "rolled back");
    for engine in [&engine, &engine.crashed()] {
        assert_eq!(text(engine.load("a").await).unwrap(), "a");
        assert_eq!(engine.load("b").await, None);
    }
    engine.limit_pages(100_000);
    assert_eq!(engine.try_commit(changes()).await, [true; 3]);
    engine.fold();
    assert_eq!(text(engine.load("a").await).unwrap(), "lost");
    assert_eq!(engine.load("b").await.unwrap().state.len(), 1_000_000);
}

/// A fold that fails fails nobody, until the journal is at its bound.
#[tokio::test]
async fn a_fold_that_fails_fails_no_call_until_the_journal_is_full() {
    let mut engine = Engine::new();
    engine.writer.generation = 10_000;
    for n in 0..9 {
        engine.commit(&n.to_string(), Update::Put(record(vec![1; 50_000]))).await;
    }
    let pages = u32::try_from(engine.number("PRAGMA page_count")).unwrap();
    engine.limit_pages(pages);
    engine.fold_rest();
    engine.writer.freeze();
    engine.writer.fold(usize::MAX);
    assert!(engine.writer.trouble.is_some(), "no room for the fold");

    engine.limit_pages(100_000);
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON servers
        BEGIN SELECT RAISE(ABORT, 'no room'); END";
    engine.writer.connection.execute(refuse, []).unwrap();
    let mut stored = 0;
    while engine.try_commit(vec![(id(&format!("x{stored}")), put("x"))]).await == [true] {
        stored += 1;
        assert!(stored < 1000, "the journal has a bound");
    }
    assert!(stored > 20, "{stored} calls went well while the fold did not");
    let refused = engine.storage.commit(Commit::new(id("y"), put("y")));
    let Found::Commits(batch) = engine.storage.queue.take(None) else { panic!("no commit") };
    engine.writer.commit(batch);
    assert!(refused.await.unwrap_err().to_string().contains("no room"), "says why");
    assert_eq!(engine.load("y").await, None);
    assert_eq!(text(engine.load("x0").await).unwrap(), "x");

    engine.writer.connection.execute("DROP TRIGGER refuse", []).unwrap();
    engine.commit("y", put("again")).await;
    assert!(engine.writer.trouble.is_none());
    let engine = engine.crashed();
    assert_eq!(text(engine.load("y").await).unwrap(), "again");
    assert_eq!(text(engine.load("x0").await).unwrap(), "x");
    assert_eq!(engine.load("8").await.unwrap().state.len(), 50_000);
}

/// Of a large state only what differs is written, and that is enough.
#[tokio::test]
async fn a_small_change_of_a_large_state_is_a_small_row() {
    let mut engine = Engine::new();
    let mut state = vec![7; 1_000_000];
    let journal = "SELECT sum(length(changes)) FROM journal";
    engine.commit("a", Update::Put(record(&*state))).await;
    let whole = engine.number(journal);
    assert!(whole > 1_000_000);
    let changes: [&dyn Fn(&mut State); 7] = [
        &|state| state[500_000] = 1,
        &|state| state[0] = 1,
        &|state| state[999_999] = 1,
        &|state| state.push(3),
        &|state| drop(state.drain(400_000..400_100)),
        &|state| state.splice(300_000..300_001, [1, 2, 3]).for_each(drop),
        &|_| {},
    ];
    for change in changes {
        change(&mut state);
        engine.commit("a", Update::Put(record(&*state))).await;
        assert_eq!(engine.load("a").await.unwrap().state.bytes()[..], state);
        assert_eq!(engine.crashed().load("a").await.unwrap().state.bytes()[..], state);
    }
    assert!(engine.number(journal) < whole + 500, "{}", engine.number(journal) - whole);

    // The next generation begins with a whole one: the one before will be deleted.
    engine.writer.freeze();
    state[9] = 9;
    engine.commit("a", Update::Put(record(&*state))).await;
    engine.fold_rest();
    engine.writer.clean(usize::MAX);
    state[10] = 10;
    engine.commit("a", Update::Put(record(&*state))).await;
    assert_eq!(engine.crashed().load("a").await.unwrap().state.bytes()[..], state);

    // Two of one server in a batch, and another kind of change between.
    let large = |fill: u8| Update::Put(record(vec![fill; 50_000]));
    let changes = vec![(id("a"), large(1)), (id("a"), put("small")), (id("a"), large(2))];
    assert_eq!(engine.try_commit(changes).await, [true; 3]);
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

#[tokio::test]
async fn a_damaged_journal_is_an_error_and_stays_as_it_is() {
    let mut engine = Engine::new();
    engine.commit("a", put("one")).await;
    for damage in [
        "UPDATE journal SET changes = substr(changes, 1, length(changes) - 1)",
        "UPDATE journal SET changes = x''",
        "UPDATE journal SET changes = CAST(replace(changes, 'one', 'two') AS BLOB)",
        "UPDATE journal SET number = number + 1",
    ] {
        let crashed = engine.crashed();
        crashed.writer.connection.execute(damage, []).unwrap();
        let before = crashed.number("SELECT coalesce(sum(length(changes)), 0) FROM journal");
        let path = database(&crashed.folder);
        let error = SqliteStorage::open(&path).err().expect(damage).to_string();
        assert!(error.contains("of the journal is damaged"), "{error}");
        assert_eq!(crashed.number("SELECT coalesce(sum(length(changes)), 0) FROM journal"), before);
    }
}

#[tokio::test]
async fn who_comes_again_at_once_waits_for_a_fold_now_and_then() {
    const FOLDS: usize = 3;
    let mut engine = Engine::new();
    let many = (0..(FOLDS + 2) * SOME_SERVERS).map(|n| (id(&n.to_string()), put("old")));
    engine.try_commit(many.collect()).await;
    engine.writer.freeze();
    let rest = |engine: &Engine| engine.writer.fold.as_ref().map_or(0, Fold::rest);
    let mut folds = 0;
    for _ in 0..FOLDS * SOME_SERVERS {
        let before = rest(&engine);
        engine.turn_with("again", put("new")).await;
        let done = before - rest(&engine);
        assert!(done == 0 || done == SOME_SERVERS, "{done}");
        folds += usize::from(done > 0);
        assert_eq!(engine.writer.patience(), Some(PAUSE));
    }
    assert_eq!(folds, FOLDS);
    // Nobody comes.
    let queue = engine.storage.queue.clone();
    for _ in 0..2 {
        let before = rest(&engine);
        assert!(engine.writer.turn(&queue));
        assert_eq!(before - rest(&engine), SOME_SERVERS);
        assert_eq!(engine.writer.patience(), Some(Duration::ZERO));
    }
}

/// Another thread puts it in order, and frees it.
#[tokio::test]
async fn a_generation_of_many_servers_is_folded() {
    const MANY: usize = 5000;
    let mut engine = Engine::new();
    let queue = engine.storage.queue.clone();
    for waits in [true, false] {
        let state = format!("{waits}");
        let many = (0..MANY).map(|n| (id(&n.to_string()), put(&state)));
        assert!(engine.try_commit(many.collect()).await.into_iter().all(|done| done));
        engine.writer.freeze();
        if waits {
            engine.writer.fold(MANY);
        }
        while engine.writer.fold.is_some() {
            assert!(engine.writer.turn(&queue));
        }
        let stored = format!("SELECT count(*) FROM servers WHERE state = CAST('{state}' AS BLOB)");
        assert_eq!(engine.number(&stored), 5000);
        assert_eq!(text(engine.crashed().load("4999").await).unwrap(), state);
    }
}

/// What a commit costs is its sync, which takes longer where the log grows.
#[tokio::test]
async fn the_log_stays_small_while_commits_are_small_however_large_the_states_are() {
    for size in [100, 500_000] {
        let mut engine = Engine::new();
        let mut bytes = vec![0; size];
        let mut state = Encoded::from(&bytes[..]);
        let mut log = 0;
        for n in 0_u16..3000 {
            bytes[50..52].copy_from_slice(&n.to_le_bytes());
            state = state.followed_by(&bytes);
            engine.turn_with("a", Update::Put(record(state.clone()))).await;
            log = log.max(engine.log_size());
        }
        assert!(log > 4 << 20 && log < 6 << 20, "{log} bytes of log");
    }
}

#[tokio::test]
async fn a_difference_is_journaled_from_a_kilobyte_on() {
    for (size, whole) in [(SPLICED - 1, true), (SPLICED, false)] {
        let mut engine = Engine::new();
        engine.commit("a", Update::Put(record(vec![1; size]))).await;
        engine.commit("a", Update::Put(record([vec![1; size - 1], vec![2]].concat()))).await;
        let last = "SELECT length(changes) FROM journal ORDER BY number DESC LIMIT 1";
        assert_eq!(engine.number(last) > 1000, whole, "{size} bytes");
    }
}

#[tokio::test]
async fn the_journal_is_deleted_by_bytes_and_a_row_is_some() {
    let mut engine = Engine::new();
    for n in 0..250 {
        engine.commit(&n.to_string(), put("small")).await;
    }
    for n in 0..3 {
        engine.commit(&n.to_string(), Update::Put(record(vec![n; ROW_BYTES]))).await;
    }
    engine.fold();
    engine.commit("0", put("not folded")).await;
    let rows = "SELECT count(*) FROM journal";
    for (bytes, left) in [(200 * flush::ROW, 54), (50 * flush::ROW, 4), (1, 3), (ROW_BYTES + 99, 1)]
    {
        engine.writer.clean(bytes);
        assert_eq!(engine.number(rows), left);
        assert!(engine.writer.rubbish);
    }
    engine.writer.clean(usize::MAX);
    assert!(!engine.writer.rubbish);
    assert_eq!(engine.number(rows), 1, "what is not folded stays");
    assert_eq!(text(engine.crashed().load("0").await).unwrap(), "not folded");
}

/// However many changes come, and at whatever size, all files stay small.
#[tokio::test]
async fn the_journal_and_the_log_stay_bounded_under_load() {
    let mut engine = Engine::new();
    engine.writer.generation = 1 << 20;
    let (mut log, mut journal, mut folds) = (0, 0, 0);
    for round in 0_u32..700 {
        let change = |n: u32| {
            let state = vec![n.to_le_bytes()[0]; 400];
            (id(&((round * 7919 + n * 31) & 0xfff).to_string()), Update::Put(record(state)))
        };
        let queue = engine.storage.queue.clone();
        let waiting: Vec<_> = (0..256)
            .map(change)
            .map(|(id, update)| engine.storage.commit(Commit::new(id, update)))
            .collect();
        let before = engine.writer.fold.is_some();
        assert!(engine.writer.turn(&queue));
        folds += u32::from(before && engine.writer.fold.is_none());
        for commit in waiting {
            commit.await.unwrap();
        }
        let (weight, _) = engine.writer.memtable.active();
        assert!(weight <= 2 * engine.writer.generation, "round {round}: {weight}");
        log = log.max(engine.log_size());
        journal =
            journal.max(engine.number("SELECT coalesce(sum(length(changes)), 0) FROM journal"));
    }
    assert!(folds > 20, "{folds} folds");
    assert!(journal < 5 << 20, "{journal} bytes of journal");
    assert!(log < 100 << 20, "{log} bytes of log");
}

#[tokio::test]
async fn a_row_that_is_not_what_was_folded_is_an_error_of_its_server() {
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
    engine.fold();
    let load = async |key: &str| engine.storage.load(&id(key)).await.map(text);
    let whole = load("a").await.unwrap();
    assert_eq!(whole.as_deref(), Some("state one two"));
    for (table, column, other, value) in [
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
        let set = |value: &str| {
            let sql = format!(
                "UPDATE {table} SET {column} = CAST({value} AS {}) WHERE key = 'a'",
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

/// What it says was folded would be deleted.
#[test]
fn a_wrong_end_of_the_fold_is_noticed_before_the_journal_is_cleaned() {
    let engine = Engine::new();
    engine.writer.connection.execute_batch("UPDATE fold SET number = number + 8").unwrap();
    let error = recover(&engine.writer.connection).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("fold"), "{error}");
}

#[tokio::test]
async fn a_closed_database_is_plain_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    for n in ["1", "2"] {
        let storage = SqliteStorage::open(&path).unwrap();
        for key in ["a", "b"] {
            storage.commit(Commit::new(id(key), put(n))).await.unwrap();
        }
        storage.commit(Commit::new(id("a"), append(&["m"]))).await.unwrap();
        // Closed by hand, and dropped.
        if n == "1" {
            storage.close().await.unwrap();
        }
        drop(storage);
        check_tables(&path, n);
    }
}

fn check_tables(path: &Path, n: &str) {
    assert!(!path.with_extension("db-wal").exists(), "the log is empty");
    let plain = Connection::open(path).unwrap();
    let text = |sql: &str| plain.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(
        text("SELECT group_concat(key || CAST(state AS TEXT)) FROM servers"),
        format!("a{n},b{n}")
    );
    assert_eq!(text("SELECT group_concat(key || CAST(message AS TEXT)) FROM messages"), "am");
    assert_eq!(text("SELECT CAST(count(*) AS TEXT) FROM journal"), "0");
}

/// What is folded and forgotten between the two looks of a reader is in the
/// second one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_misses_nothing_that_is_folded_meanwhile() {
    let Engine { folder, storage, mut writer } = Engine::new();
    let queue = storage.queue.clone();
    let folding = std::thread::spawn(move || {
        let mut folds = 0;
        while !queue.is_closed() {
            if let Found::Commits(batch) = queue.take(Some(Duration::ZERO)) {
                writer.commit(batch);
            }
            match &writer.fold {
                Some(_) => writer.fold(2),
                None => writer.freeze(),
            }
            folds += u32::from(writer.fold.is_none());
        }
        folds
    });
    for round in 0..300_u64 {
        for key in 0..4 {
            let due = Update::Put(Record { due: Some(round), ..record(&b"state"[..]) });
            storage.commit(Commit::new(id(&key.to_string()), due)).await.unwrap();
        }
        assert_eq!(storage.keys("kind", None, 9).await.unwrap().len(), 4, "round {round}");
        assert_eq!(storage.count("kind").await.unwrap(), 4, "round {round}");
        let due = storage.due("kind", None, 9).await.unwrap();
        let due: Vec<_> = due.iter().map(|(due, key)| (*due, &**key)).collect();
        assert_eq!(due, ["0", "1", "2", "3"].map(|key| (round, key)));
        assert_eq!(storage.load(&id("3")).await.unwrap().unwrap().due, Some(round));
    }
    drop(storage.close());
    assert!(folding.join().unwrap() > 10, "nothing was folded");
    drop(folder);
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_is_gone() {
    let engine = Engine::new();
    let commit = engine.storage.commit(Commit::new(id("a"), put("a")));
    drop(Taker(engine.storage.queue.clone()));
    assert!(commit.await.unwrap_err().to_string().contains("gone"));
    let later = engine.storage.commit(Commit::new(id("a"), put("a"))).await;
    assert!(later.unwrap_err().to_string().contains("closed"));
}

#[test]
fn every_commit_is_synced() {
    let engine = Engine::new();
    assert_eq!(engine.number("PRAGMA synchronous"), 2, "FULL");
}

/// Random operations, folds and kills, beside a storage that is just a map.
#[tokio::test]
async fn it_does_what_a_map_does_through_folds_and_kills() {
    for seed in 1..=6 {
        model(seed).await;
    }
}

async fn model(seed: u64) {
    const KINDS: [&str; 2] = ["kind", "kind2"];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let (mut engine, map) = (Engine::new(), MemoryStorage::new());
    for step in 0..600_u64 {
        let context = format!("seed {seed}, step {step}");
        match random(12) {
            0..6 => {
                let mut changes = Vec::new();
                for _ in 0..=random(3) {
                    let kind = KINDS[usize::from(random(4) == 0)];
                    let id = ServerId::new(kind, random(12).to_string());
                    let old = map.get(&id);
                    let update = match random(8) {
                        0 => Update::Delete,
                        1..4 if old.is_some() => Update::Append(
                            (0..random(4)).map(|_| bytes(&random(1000).to_string())).collect(),
                        ),
                        roll => {
                            let mut state = match old {
                                Some(old) if roll < 7 => old.state.bytes().into_owned(),
                                _ => vec![0; usize::try_from(random(40_000)).unwrap()],
                            };
                            let at = usize::try_from(random(state.len() as u64 + 1)).unwrap();
                            let end = (at + usize::try_from(random(9)).unwrap()).min(state.len());
                            let new =
                                vec![step.to_le_bytes()[0]; usize::try_from(random(9)).unwrap()];
                            state.splice(at..end, new);
                            Update::Put(Record {
                                version: u32::try_from(random(3)).unwrap(),
                                due: Some(random(20)).filter(|due| due % 2 == 0),
                                reminders: random(9).to_string().into(),
                                messages: (0..random(3) / 2).map(|_| bytes("first")).collect(),
                                ..record(state)
                            })
                        }
                    };
                    map.commit(Commit::new(id.clone(), update.clone())).await.unwrap();
                    changes.push((id, update));
                }
                let outcomes = engine.try_commit(changes).await;
                assert!(outcomes.into_iter().all(|well| well), "{context}");
            }
            6 if engine.writer.fold.is_none() => engine.writer.freeze(),
            6..9 => {
                let servers = usize::try_from(random(6)).unwrap();
                engine.writer.fold(servers + 1);
            }
            9 => engine.writer.clean(1),
            10 if random(4) == 0 => engine = engine.crashed(),
            _ => {
                let kind = KINDS[usize::from(random(4) == 0)];
                let after = random(12).to_string();
                let after = (random(2) == 0).then_some(&*after);
                let limit = usize::try_from(random(14)).unwrap();
                let storage = &engine.storage;
                assert_eq!(
                    storage.keys(kind, after, limit).await.unwrap(),
                    map.keys(kind, after, limit).await.unwrap(),
                    "{context}"
                );
                let after = after.map(|key| (random(20), key));
                assert_eq!(
                    storage.due(kind, after, limit).await.unwrap(),
                    map.due(kind, after, limit).await.unwrap(),
                    "{context}"
                );
                let count = map.count(kind).await.unwrap();
                assert_eq!(storage.count(kind).await.unwrap(), count, "{context}");
            }
        }
        let id = ServerId::new(KINDS[0], random(12).to_string());
        assert!(engine.storage.load(&id).await.unwrap() == map.get(&id), "{context}: {id}");
    }
    engine.fold_rest();
    engine.fold();
    assert!(engine.writer.memtable.active().1.is_none());
    for kind in KINDS {
        for key in 0..12 {
            let id = ServerId::new(kind, key.to_string());
            assert!(engine.storage.load(&id).await.unwrap() == map.get(&id), "seed {seed}: {id}");
        }
    }
}
