//! Streams of committed states.

use std::time::Duration;

use persistent_runtime::{
    Address, CallError, Change, Changes, Client, Context, Persist, Runtime, StopReason,
    persistent_server,
};
use persistent_tests::{Fault, FaultyStorage};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Score {
    points: u64,
    #[serde(skip)]
    viewers: u32,
}

#[persistent_server]
impl Score {
    pub fn add(&mut self, points: u64) {
        self.points += points;
        self.viewers += 1;
    }

    pub fn points(&self) -> u64 {
        self.points
    }

    pub fn add_and_panic(&mut self, points: u64) {
        self.points += points;
        panic!("on purpose");
    }

    pub fn remind(&self, context: &Context<Self>) {
        context.remind("later", Duration::from_hours(1), ScoreMessage::Add { points: 1 });
    }
}

/// A server that journals its messages.
#[derive(Default, Serialize, Deserialize)]
struct Log(Vec<u64>);

#[persistent_server(journal = messages)]
impl Log {
    pub fn write(&mut self, line: u64) {
        self.0.push(line);
    }
}

/// Receives the points of `count` committed states.
async fn points(changes: &mut Changes<Score>, count: usize) -> Vec<u64> {
    let mut points = Vec::new();
    while points.len() < count {
        match changes.next().await.unwrap().unwrap() {
            Change::Committed(score) => points.push(score.points),
            other => panic!("{other:?}"),
        }
    }
    points
}

/// Returns true if no change is there.
async fn is_quiet(changes: &mut Changes<Score>) -> bool {
    timeout(Duration::from_millis(100), changes.next()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_the_current_state_and_has_each_committed_one() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let score = runtime.at::<Score>("a", ());
    score.add(1).await.unwrap();
    let mut changes = score.changes().await.unwrap();
    score.add(2).await.unwrap();
    score.points().await.unwrap();
    score.add(0).await.unwrap();
    score.remind().await.unwrap();
    score.add(3).await.unwrap();
    assert_eq!(points(&mut changes, 3).await, [1, 3, 6], "reads and equal states are no changes");

    score.add_and_panic(10).await.unwrap_err();
    storage.on_next_commit(Fault::Refuse);
    score.add(20).await.unwrap_err();
    assert!(is_quiet(&mut changes).await, "what is not committed is not reported");
    score.stop("maintenance").await.unwrap();
    score.add(4).await.unwrap();
    assert_eq!(points(&mut changes, 1).await, [10], "it outlives activations");
    score.delete().await.unwrap();
    assert_eq!(changes.next().await.unwrap().unwrap(), Change::Deleted);
    score.add(5).await.unwrap();
    assert_eq!(points(&mut changes, 2).await, [0, 5], "a new server, and its first change");
}

#[tokio::test(start_paused = true)]
async fn a_state_in_a_stream_is_the_stored_one() {
    let runtime = Runtime::in_memory().await.unwrap();
    let score = runtime.at::<Score>("a", ());
    score.add(1).await.unwrap();
    let mut changes = score.changes().await.unwrap();
    let stored = Change::Committed(Score { points: 1, viewers: 0 });
    assert_eq!(changes.next().await.unwrap().unwrap(), stored);
}

#[tokio::test(start_paused = true)]
async fn unsaved_changes_are_committed_before_a_stream_begins_with_them() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let score = runtime.at::<Score>("a", ()).with_persist(Persist::OnStop);
    score.add(1).await.unwrap();
    score.add(2).await.unwrap();
    let before = storage.writes();
    let mut changes = score.changes().await.unwrap();
    assert_eq!(storage.writes(), before + 1);
    assert_eq!(points(&mut changes, 1).await, [3]);
    score.add(4).await.unwrap();
    assert!(is_quiet(&mut changes).await, "not committed yet");
    score.stop(StopReason::from("maintenance")).await.unwrap();
    assert_eq!(points(&mut changes, 1).await, [7]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_begin_is_an_error_and_leaves_nothing_behind() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let missing = runtime.client(&Address::<Score>::existing("a")).changes().await.unwrap_err();
    assert!(matches!(missing, CallError::NotFound { .. }), "{missing}");
    let score = runtime.at::<Score>("a", ());
    storage.on_next_commit(Fault::Refuse);
    let refused = score.changes().await.unwrap_err();
    assert!(matches!(refused, CallError::Storage { .. }), "{refused}");
    score.add(1).await.unwrap();
    assert_eq!(points(&mut score.changes().await.unwrap(), 1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_learns_how_many_changes_it_missed() {
    let runtime = Runtime::in_memory().await.unwrap();
    let score = runtime.at::<Score>("a", ());
    let mut slow = score.changes().await.unwrap();
    let mut other = score.changes().await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..100 {
        score.add(1).await.unwrap();
        seen.extend(points(&mut other, 1).await);
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>(), "a slow reader holds nobody up");
    // The first of the 64 is the state that the stream began with.
    assert_eq!(points(&mut slow, 64).await, (0..64).collect::<Vec<_>>());
    score.add(1).await.unwrap();
    let missed = slow.next().await.unwrap().unwrap();
    assert!(matches!(missed, Change::Missed { changes: 37, .. }), "{missed:?}");
    assert_eq!(points(&mut slow, 1).await, [101]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_journals_messages_streams_states() {
    let runtime = Runtime::in_memory().await.unwrap();
    let log = runtime.at::<Log>("a", ());
    log.write(1).await.unwrap();
    let mut changes = log.changes().await.unwrap();
    log.write(2).await.unwrap();
    for lines in [&[1][..], &[1, 2]] {
        match changes.next().await.unwrap().unwrap() {
            Change::Committed(log) => assert_eq!(log.0, lines),
            other => panic!("{:?}", std::mem::discriminant(&other)),
        }
    }
    drop(changes);
    // Without a follower only messages are stored; a later follower begins with the state of then.
    for line in 3..6 {
        log.write(line).await.unwrap();
    }
    let mut changes = log.changes().await.unwrap();
    match changes.next().await.unwrap().unwrap() {
        Change::Committed(log) => assert_eq!(log.0, [1, 2, 3, 4, 5]),
        other => panic!("{:?}", std::mem::discriminant(&other)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_runtime_and_when_its_server_moves() {
    let (here, there) = (Runtime::in_memory().await.unwrap(), Runtime::in_memory().await.unwrap());
    let score = here.at::<Score>("a", ());
    let mut moving = score.changes().await.unwrap();
    here.transfer(&score.address(), &there).await.unwrap();
    assert_eq!(points(&mut moving, 1).await, [0]);
    assert!(moving.next().await.is_none());

    let score = there.at::<Score>("a", ());
    let mut changes = score.changes().await.unwrap();
    there.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(points(&mut changes, 1).await, [0]);
    assert!(changes.next().await.is_none());
}
