//! Child processes that are killed with SIGKILL.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use persistent_runtime::{OpenError, Runtime, StorageErrorKind};
use persistent_tests::{
    Twins,
    power::{Random, times},
};

struct Writer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Writer {
    fn spawn(database: &Path, level: Option<&str>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_writer"))
            .arg(database)
            .args(level)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// Kills the child and returns the output that has not been read yet.
    fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// A child under load is killed at random moments. Every acknowledged change is stored,
/// no change is stored in part, and no change is stored that was not requested.
#[test]
fn an_acknowledged_write_survives_kill_9() {
    let changes = kill_at_random(None, times(150));
    assert!(changes > 1000, "the rounds were not empty: {changes}");
}

/// Under a weaker level the reply to a call that asks for a commit is still a receipt,
/// and under `on_stop` so is the reply to a stop.
#[test]
fn a_requested_commit_survives_kill_9_under_every_weaker_level() {
    for level in ["every", "on_stop"] {
        let changes = kill_at_random(Some(level), times(60));
        assert!(changes > 100, "the rounds were not empty: {changes}");
    }
}

/// Under a level of 20 ms, a change is stored a second after it was acknowledged,
/// although no call asks for a commit.
#[test]
fn a_change_older_than_the_persist_period_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.db");
    let mut kept = HashMap::new();
    for round in 0..times(4) {
        let mut writer = Writer::spawn(&path, Some("late"));
        assert_eq!(writer.line(), "open\n");
        let (begin, mut late) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_millis(1200) {
            let line = writer.line();
            if begin.elapsed() < Duration::from_millis(200) {
                late += 1;
                acknowledge(&line, &mut kept);
            }
        }
        assert!(late > 10, "the round was not empty: {late}");
        writer.kill();
        check(&path, &mut kept, u64::MAX / 2, round);
    }
}

fn acknowledge(line: &str, acknowledged: &mut HashMap<String, u64>) {
    let (key, value) = line.trim_end().split_once(' ').unwrap();
    let value: u64 = value.parse().unwrap();
    let last = acknowledged.entry(key.to_owned()).or_default();
    *last = value.max(*last);
}

/// Returns the number of acknowledged changes.
fn kill_at_random(level: Option<&str>, rounds: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.db");
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    let (mut random, mut changes) = (Random::new(9), 0);
    for round in 0..rounds {
        let mut writer = Writer::spawn(&path, level);
        assert_eq!(
            writer.line(),
            "open\n",
            "round {round}: the lock of a killed holder is released"
        );
        // The pipe buffers the child's output, or makes the child wait.
        let moment = Instant::now() + Duration::from_micros(random.number() % 60_000);
        while Instant::now() < moment {
            std::thread::sleep(Duration::from_micros(200));
        }
        for line in writer.kill().lines() {
            acknowledge(line, &mut acknowledged);
            changes += 1;
        }
        // Two writers per key with one call in flight each, or any number of calls without a
        // receipt.
        let unheard = level.map_or(2, |_| u64::MAX / 2);
        check(&path, &mut acknowledged, unheard, round);
    }
    eprintln!("{rounds} kills survived, {changes} acknowledged changes");
    changes
}

#[tokio::main(flavor = "current_thread")]
async fn check(path: &Path, acknowledged: &mut HashMap<String, u64>, unheard: u64, round: usize) {
    let runtime = Runtime::open(path).await.unwrap();
    for (key, last) in acknowledged {
        let server = runtime.find::<Twins>(&**key).await.unwrap();
        let (first, second) = server.both().await.unwrap();
        assert_eq!(first, second, "round {round}, {key}: a partial change");
        assert!(first >= *last, "round {round}, {key}: {last} was acknowledged, {first} is stored");
        assert!(first <= *last + unheard, "round {round}, {key}: {first} out of {last}");
        *last = first;
    }
    runtime.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("held.db");
    let mut holder = Writer::spawn(&path, None);
    assert_eq!(holder.line(), "open\n");
    let expected = format!("process {}", holder.child.id());

    let error = Runtime::open(&path).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("held.db") && text.contains(&expected), "{text}");
    let OpenError::Storage(error) = error else { panic!("{text}") };
    assert_eq!(error.kind(), StorageErrorKind::Locked, "{text}");

    let mut second = Writer::spawn(&path, None);
    assert!(second.line().contains(&expected), "the refused process names the holder");
    second.child.wait().unwrap();

    holder.kill();
    let runtime = Runtime::open(&path).await.unwrap();
    assert!(runtime.count::<Twins>().await.unwrap().stored <= 4);
}
