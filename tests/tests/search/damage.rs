//! Databases that are truncated, overwritten or have flipped bits, and databases that another
//! program holds.

use std::{
    collections::{BTreeMap, HashMap},
    fs, panic,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
    time::Duration,
};

use persistent_runtime::{CallError, Client, OpenError, Runtime};
use persistent_tests::{
    Counter,
    power::{Block, Random, seed_of, times},
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::timeout;

/// All panics outside the tests themselves, caught or not. Damage must not cause any.
static PANICS: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|place| !place.file().starts_with("tests/")) {
            PANICS.lock().unwrap().push(panic.to_string());
        }
        usual(panic);
    }));
    Mutex::default()
});

/// A timeout that only a hanging call reaches.
const MINUTE: Duration = Duration::from_mins(1);

/// A database in two forms: the files of a killed process, and closed.
struct Original {
    folder: TempDir,
    /// The last turn of each server. Earlier turns are smaller.
    turns: BTreeMap<String, u64>,
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let _ = fs::remove_file(beside(to, suffix));
        if beside(from, suffix).exists() {
            fs::copy(beside(from, suffix), beside(to, suffix)).unwrap();
        }
    }
    let _ = fs::remove_file(beside(to, "-shm"));
}

impl Original {
    async fn make(random: &mut Random) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut original = Self { folder, turns: BTreeMap::new() };
        let path = original.folder.path().join("original.db");
        // The killed process has records in the tables and updates in the commit log.
        for run in 0..2 {
            let runtime = Runtime::open(&path).await.unwrap();
            for server in 0..40_u64 {
                let key = format!("block {server}");
                let turn = 1000 * (server + 1) + run;
                let bytes = [100, 3000, 20_000][random.within(0..3)];
                if run == 0 || random.chance(2, 3) {
                    runtime.at::<Block>(&*key, ()).set(turn, bytes).await.unwrap();
                    original.turns.insert(key, turn);
                }
            }
            if run == 1 {
                copy(&path, &original.path("killed"));
            }
            runtime.shutdown(MINUTE).await.unwrap();
        }
        copy(&path, &original.path("ended"));
        original
    }

    fn path(&self, how: &str) -> PathBuf {
        self.folder.path().join(format!("{how}.db"))
    }
}

/// Reads a server that must exist.
async fn look(runtime: &Runtime, key: &str) -> Result<Result<u64, String>, CallError> {
    runtime.find::<Block>(key).await?.with_timeout(MINUTE / 2).look().await
}

/// Flips, cuts or overwrites bytes.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    // The first page matters most and would be hit least.
    let end = if random.chance(1, 4) { bytes.len().min(4096) } else { bytes.len() };
    let at = random.within(0..end);
    match random.within(0..6) {
        0 | 1 => bytes[at] ^= 1 << random.within(0..8),
        2 => bytes.truncate(at),
        3 => bytes.truncate(at / 4096 * 4096),
        4 => {
            let to = bytes.len().min(at + random.within(1..5000));
            bytes[at..to].fill(0);
        }
        _ => {
            let to = bytes.len().min(at + random.within(1..600));
            bytes[at..to].fill_with(|| random.number().to_le_bytes()[0]);
        }
    }
}

/// The number of times each outcome was found.
#[derive(Default, Debug)]
struct Found(HashMap<&'static str, usize>);

impl Found {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

#[tokio::test]
async fn a_damaged_database_gives_errors_and_no_wrong_states() {
    assert!(PANICS.lock().unwrap().is_empty());
    let mut random = Random::new(seed_of("damage"));
    let original = Original::make(&mut random).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.db");
    let mut found = Found::default();
    for round in 0..times(240) {
        let (how, file) = [("ended", ""), ("killed", ""), ("killed", "-wal")][round % 3];
        copy(&original.path(how), &path);
        let mut bytes = fs::read(beside(&path, file)).unwrap();
        damage(&mut bytes, &mut random);
        fs::write(beside(&path, file), bytes).unwrap();
        let before = fs::read(&path).unwrap();

        let runtime = match timeout(MINUTE, Runtime::open(&path)).await.expect("no call hangs") {
            Ok(runtime) => runtime,
            Err(error) => {
                found.count("does not open");
                assert!(error.to_string().len() > 20, "{error}");
                assert!(
                    fs::read(&path).unwrap() == before,
                    "round {round}: {error}: the file was changed"
                );
                continue;
            }
        };
        for (key, &turn) in &original.turns {
            match timeout(MINUTE, look(&runtime, key)).await.expect("no call hangs") {
                Ok(Ok(seen)) if seen == turn => found.count("right"),
                // A log that ends early looks like one that a power cut ended.
                Ok(Ok(seen)) => {
                    assert!(file == "-wal" && seen / 1000 == turn / 1000, "{seen}, not {turn}");
                    found.count("of an earlier commit");
                }
                Err(CallError::NotFound { .. }) => {
                    // Each server was in the database before the log began.
                    assert!(file.is_empty(), "{key}: the log is damaged, not the database");
                    found.count("absent");
                }
                Err(error @ CallError::Storage { .. }) => {
                    assert!(error.to_string().contains(key.as_str()), "{error}");
                    found.count("a storage error");
                }
                other => panic!("round {round}, {key}: {other:?}"),
            }
        }
        timeout(MINUTE, runtime.shutdown(MINUTE / 2)).await.expect("no call hangs").unwrap();
    }
    eprintln!("{found:?}");
    let panics = PANICS.lock().unwrap();
    assert!(panics.is_empty(), "{panics:?}");
    for some in ["does not open", "right", "a storage error"] {
        assert!(found.0.contains_key(some), "the damage has covered too little: {found:?}");
    }
}

#[tokio::test]
async fn a_bit_that_flips_in_a_state_is_an_error_of_its_server_and_of_no_other() {
    assert!(PANICS.lock().unwrap().is_empty());
    let mut random = Random::new(seed_of("flip"));
    let original = Original::make(&mut random).await;
    let bytes = fs::read(original.path("ended")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.db");
    let state = |key: &str| -> Vec<u8> {
        let plain = Connection::open(&path).unwrap();
        let sql = "SELECT state FROM servers WHERE key = ?";
        plain.query_row(sql, [key], |row| row.get(0)).unwrap()
    };
    let (mut flips, mut unused) = (0, 0);
    for (victim, turn) in &original.turns {
        let filler = format!("{turn:015x}.").repeat(2);
        let places: Vec<usize> = bytes
            .windows(filler.len())
            .enumerate()
            .filter_map(|(at, window)| (window == filler.as_bytes()).then_some(at))
            .collect();
        fs::write(&path, &bytes).unwrap();
        let whole = state(victim);
        for _ in 0..times(3) {
            let at = places[random.within(0..places.len())] + random.within(0..filler.len());
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << random.within(0..8);
            fs::write(&path, &bytes).unwrap();
            // The space between the rows of a page is unused.
            let is_harmed = state(victim) != whole;
            *(if is_harmed { &mut flips } else { &mut unused }) += 1;

            let runtime = Runtime::open(&path).await.unwrap();
            for (key, turn) in &original.turns {
                match look(&runtime, key).await {
                    Ok(Ok(seen)) if key != victim || !is_harmed => assert_eq!(seen, *turn, "{key}"),
                    Err(error @ CallError::Storage { .. }) if key == victim && is_harmed => {
                        let text = error.to_string();
                        assert!(text.contains(key.as_str()), "{text}");
                        assert!(text.contains("damaged") && text.contains("backup"), "{text}");
                    }
                    other => panic!("{key}: {other:?}"),
                }
            }
            runtime.shutdown(MINUTE).await.unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "the stored bytes were not changed");
        }

        // As the error says, a delete lets the server begin with a new state.
        let runtime = Runtime::open(&path).await.unwrap();
        let server = runtime.at::<Block>(&**victim, ());
        server.delete().await.unwrap();
        assert_eq!(server.grow(100).await.unwrap(), 1);
        runtime.shutdown(MINUTE).await.unwrap();
    }
    eprintln!("{flips} flips, all detected; {unused} more in unused space");
    assert!(flips >= times(original.turns.len()), "{flips} flips");
    assert!(PANICS.lock().unwrap().is_empty());
}

/// SQLite takes an empty or missing file for a new database and deletes the log beside it, which
/// may have all the data.
#[tokio::test]
async fn a_database_that_is_gone_does_not_take_its_log_with_it() {
    let original = Original::make(&mut Random::new(seed_of("gone"))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone.db");
    for empty in [true, false] {
        copy(&original.path("killed"), &path);
        let database = fs::read(&path).unwrap();
        let log = fs::read(beside(&path, "-wal")).unwrap();
        if empty {
            fs::write(&path, "").unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let error = Runtime::open(&path).await.unwrap_err();
        assert!(error.to_string().contains("gone.db-wal"), "{error}");
        assert!(fs::read(beside(&path, "-wal")).unwrap() == log);

        fs::write(&path, database).unwrap();
        let runtime = Runtime::open(&path).await.unwrap();
        for (key, turn) in &original.turns {
            assert_eq!(look(&runtime, key).await.unwrap(), Ok(*turn), "{key}");
        }
        runtime.shutdown(MINUTE).await.unwrap();
    }
}

/// SQLite waits for the lock of another program for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_another_program_holds_is_an_error_until_it_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("held.db");
    let runtime = Runtime::open(&path).await.unwrap();
    assert_eq!(runtime.at::<Counter>("a", ()).increment().await.unwrap(), 1);
    runtime.shutdown(MINUTE).await.unwrap();
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();

    let error = timeout(MINUTE, Runtime::open(&path)).await.expect("no call hangs").unwrap_err();
    assert!(matches!(error, OpenError::Storage(_)), "{error}");
    assert!(error.to_string().contains("database is locked"), "{error}");

    drop(holder);
    let runtime = Runtime::open(&path).await.unwrap();
    assert_eq!(runtime.at::<Counter>("a", ()).value().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_beside_another_program_s_long_transaction_waits_or_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy.db");
    let runtime = Runtime::open(&path).await.unwrap();
    let server = runtime.at::<Counter>("a", ()).with_timeout(MINUTE);
    assert_eq!(server.increment().await.unwrap(), 1);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let change = tokio::spawn({
        let server = server.clone();
        async move { server.increment().await }
    });
    let waited = timeout(MINUTE / 6, async {
        while !change.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let ended = waited.await.is_ok();
    other.execute_batch("ROLLBACK").unwrap();
    let expected = match change.await.unwrap() {
        Ok(value) => value,
        Err(error) => {
            assert!(ended && error.to_string().contains("database is locked"), "{error}");
            1
        }
    };
    assert_eq!(server.value().await.unwrap(), expected);
    assert_eq!(server.increment().await.unwrap(), expected + 1);
}
