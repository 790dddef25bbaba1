//! Persist levels: the changes that each level may lose, and those that it never loses.

use std::{thread, time::Duration};

use persistent_runtime::{
    CallError, Client, Context, Event, Options, Outcome, Persist, Runtime, ServerId, StopReason,
    persistent_server,
};
use persistent_tests::{Counter, CounterClient, Fault, FaultyStorage};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

async fn open(storage: &FaultyStorage, level: Persist) -> (Runtime, CounterClient) {
    let runtime = Runtime::builder()
        .configure::<Counter>(Options::new().persist(level).idle_timeout(60 * SECOND))
        .open_with(storage.clone())
        .await
        .unwrap();
    let server = runtime.at::<Counter>("a", ());
    (runtime, server)
}

fn stored(storage: &FaultyStorage) -> Option<u8> {
    let record = storage.states.get(&ServerId::new("Counter", "a"))?;
    record.state.bytes().last().copied()
}

#[tokio::test(start_paused = true)]
async fn on_stop_writes_nothing_before_the_end() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = open(&storage, Persist::OnStop).await;
    for _ in 0..100 {
        server.increment().await.unwrap();
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(storage.writes(), 0);
    server.stop("other").await.unwrap();
    assert_eq!((storage.writes(), stored(&storage)), (1, Some(100)));
}

#[tokio::test(start_paused = true)]
async fn weaker_levels_save_at_each_orderly_end() {
    for level in [Persist::OnStop, Persist::Every(1000 * SECOND)] {
        for end in ["stop", "idle", "shutdown"] {
            let storage = FaultyStorage::default();
            let (runtime, server) = open(&storage, level).await;
            server.increment().await.unwrap();
            assert_eq!(storage.writes(), 0);
            match end {
                "stop" => server.stop("other").await.unwrap(),
                "idle" => tokio::time::sleep(61 * SECOND).await,
                _ => runtime.shutdown(SECOND).await.unwrap(),
            }
            assert_eq!(stored(&storage), Some(1), "{level:?}, {end}");
        }
        let storage = FaultyStorage::default();
        let (_runtime, server) = open(&storage, level).await;
        server.increment().await.unwrap();
        server.stop(StopReason::Finished).await.unwrap();
        assert_eq!((storage.writes(), stored(&storage)), (0, None), "a delete writes no state");
    }
}

/// A kill at any moment loses at most the changes that the level allows, and none under
/// `every_message`.
#[tokio::test(start_paused = true)]
async fn a_kill_loses_at_most_what_the_level_says() {
    let most = Duration::from_millis(500);
    for level in [Persist::EveryMessage, Persist::Every(most), Persist::OnStop] {
        let storage = FaultyStorage::default();
        let (_runtime, server) = open(&storage, level).await;
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        for _ in 0..200 {
            let mut acknowledged = vec![(Instant::now(), server.value().await.unwrap())];
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let end = Instant::now() + Duration::from_millis(random % 2000);
            while Instant::now() < end {
                acknowledged.push((Instant::now(), server.increment().await.unwrap()));
                tokio::time::sleep(Duration::from_millis(random % 97)).await;
            }
            let killed = Instant::now();
            server.kill().await.unwrap();
            let kept = server.value().await.unwrap();
            let last = acknowledged.last().unwrap().1;
            let floor = match level {
                Persist::EveryMessage => last,
                Persist::Every(most) => {
                    let safe = acknowledged.iter().rfind(|(at, _)| killed - *at > most);
                    safe.map_or(acknowledged[0].1, |(_, value)| *value)
                }
                _ => 0,
            };
            assert!((floor..=last).contains(&kept), "{level:?}: {floor} <= {kept} <= {last}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_saves_once_per_period_for_any_number_of_messages() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = open(&storage, Persist::Every(SECOND)).await;
    for _ in 0..1000 {
        server.increment().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((9..=11).contains(&storage.writes()), "{}", storage.writes());
    // The last change is saved although no further message arrives.
    tokio::time::sleep(2 * SECOND).await;
    server.kill().await.unwrap();
    assert_eq!(server.value().await.unwrap(), 1000);
}

/// A server whose handler blocks its thread longer than the persist period.
#[derive(Default, Serialize, Deserialize)]
struct Mill {
    ground: u64,
}

#[persistent_server(persist = every("1ms"))]
impl Mill {
    #[cast]
    pub fn grind(&mut self) {
        thread::sleep(Duration::from_millis(2));
        self.ground += 1;
    }

    pub fn turn(&mut self) -> u64 {
        self.grind();
        self.ground
    }

    pub fn ground(&self) -> u64 {
        self.ground
    }
}

#[tokio::test]
async fn a_long_queue_does_not_delay_a_save() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let mill = runtime.at::<Mill>("a", ());
    for _ in 0..30 {
        mill.grind().await.unwrap();
    }
    assert_eq!(mill.ground().await.unwrap(), 30);
    assert!(storage.writes() > 10, "{}", storage.writes());
}

#[tokio::test(start_paused = true)]
async fn a_panic_rolls_back_to_the_last_saved_state() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = open(&storage, Persist::Every(SECOND)).await;
    server.increment().await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    server.increment().await.unwrap();
    server.crash("now".into()).await.unwrap_err();
    assert_eq!(server.value().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_can_ask_for_a_commit_per_call() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = open(&storage, Persist::OnStop).await;
    let careful = server.with_persist(Persist::EveryMessage);
    server.increment().await.unwrap();
    assert_eq!(stored(&storage), None);
    assert_eq!(careful.increment().await.unwrap(), 2);
    assert_eq!(stored(&storage), Some(2));
    server.increment().await.unwrap();
    assert_eq!(stored(&storage), Some(2));
    assert_eq!(careful.value().await.unwrap(), 3, "a read also asks for a commit");
    assert_eq!(stored(&storage), Some(3));
    careful.value().await.unwrap();
    assert_eq!(storage.writes(), 2, "no changes, no write");

    // The reply is a receipt: it waits for the commit.
    storage.on_commit(Fault::Slow(SECOND));
    server.increment().await.unwrap();
    let begin = Instant::now();
    careful.value().await.unwrap();
    assert_eq!(begin.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_client_can_ask_for_a_weaker_level_for_its_own_changes() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = open(&storage, Persist::EveryMessage).await;
    server.value().await.unwrap();
    let writes = storage.writes();
    let careless = server.with_persist(Persist::Every(10 * SECOND));
    for _ in 0..5 {
        careless.increment().await.unwrap();
    }
    assert_eq!(storage.writes(), writes);
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!((storage.writes(), stored(&storage)), (writes + 1, Some(5)));
    careless.increment().await.unwrap();
    server.increment().await.unwrap();
    assert_eq!(
        (storage.writes(), stored(&storage)),
        (writes + 2, Some(7)),
        "both changes share one commit"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_with_a_shorter_limit_brings_the_save_forward() {
    for longer in [Persist::OnStop, Persist::Every(50 * SECOND)] {
        let storage = FaultyStorage::default();
        let (_runtime, server) = open(&storage, Persist::Every(5 * SECOND)).await;
        server.value().await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        server.with_persist(longer).increment().await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!((storage.writes(), stored(&storage)), (1, Some(0)));
        server.increment().await.unwrap();
        // A change with a longer limit does not put the save off.
        server.with_persist(longer).increment().await.unwrap();
        tokio::time::sleep(6 * SECOND).await;
        assert_eq!((storage.writes(), stored(&storage)), (2, Some(3)), "after {longer:?}");
    }
}

/// While saves fail, later changes do not make the attempts more frequent.
#[tokio::test(start_paused = true)]
async fn a_retry_waits_however_short_the_limit_of_later_changes() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = open(&storage, Persist::Every(Duration::from_millis(1))).await;
    storage.on_commit(Fault::Refuse);
    server.increment().await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    let writes = storage.writes();
    assert!(writes > 0);
    for _ in 0..40 {
        server.increment().await.unwrap();
        tokio::time::sleep(SECOND / 20).await;
    }
    let tries = storage.writes() - writes;
    assert!((1..=3).contains(&tries), "{tries} attempts in two seconds");
}

/// A refused late save is retried, also if only the client's persist level delayed it.
#[tokio::test(start_paused = true)]
async fn a_refused_late_save_is_retried_with_backoff() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = open(&storage, Persist::EveryMessage).await;
    server.value().await.unwrap();
    let writes = storage.writes();
    storage.on_commit(Fault::Refuse);
    let careless = server.with_persist(Persist::Every(Duration::from_millis(1)));
    assert_eq!(careless.increment().await.unwrap(), 1);
    tokio::time::sleep(10 * SECOND).await;
    let tries = storage.writes() - writes;
    assert!((2..=12).contains(&tries), "{tries} attempts in ten seconds");
    storage.on_commit(Fault::None);
    tokio::time::sleep(2 * SECOND).await;
    server.kill().await.unwrap();
    assert_eq!(server.value().await.unwrap(), 1);
}

/// A server with each way to ask for a commit.
#[derive(Default, Serialize, Deserialize)]
struct Tally {
    count: u64,
}

#[persistent_server(persist = on_stop, call_timeout = "60s")]
impl Tally {
    pub fn add(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub async fn look(&self, wait: Duration) -> u64 {
        tokio::time::sleep(wait).await;
        self.count
    }

    pub async fn work(&mut self, wait: Duration) -> u64 {
        self.count += 1;
        tokio::time::sleep(wait).await;
        self.count
    }

    pub async fn work_and_panic(&mut self, wait: Duration) {
        self.count += 1;
        tokio::time::sleep(wait).await;
        panic!("late");
    }

    pub fn remind(&mut self, context: &Context<Self>) {
        self.count += 1;
        context.remind("ring", 10 * SECOND, TallyMessage::Ring);
    }

    #[info]
    fn ring(&mut self) {
        self.count += 100;
    }

    pub fn end(&mut self, context: &Context<Self>) {
        self.count += 1;
        context.stop("enough");
    }

    #[cast]
    pub fn go_on(&mut self, context: &Context<Self>) {
        context.continue_with(TallyMessage::GoOn);
    }
}

/// Returns a server with 100 acknowledged changes, of which none is stored.
async fn tally(storage: &FaultyStorage) -> (Runtime, TallyClient) {
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Tally>("a", ());
    server.with_persist(Persist::EveryMessage).count().await.unwrap();
    for _ in 0..100 {
        server.add().await.unwrap();
    }
    (runtime, server)
}

fn tallied(storage: &FaultyStorage) -> u8 {
    let record = storage.states.get(&ServerId::new("Tally", "a")).unwrap();
    record.state.bytes().last().copied().unwrap()
}

/// A commit that somebody asks for and that the storage refuses must undo nothing that was
/// acknowledged before, and the changes are saved once the storage works again.
#[tokio::test(start_paused = true)]
async fn a_refused_commit_undoes_no_change_that_was_acknowledged_before() {
    for fault in [Fault::Refuse, Fault::RefuseLate(SECOND), Fault::Panic] {
        for asks in ["read", "write", "async write", "stop", "delete", "transfer", "own stop"] {
            let storage = FaultyStorage::default();
            let (runtime, server) = tally(&storage).await;
            let other = Runtime::in_memory().await.unwrap();
            let strong = server.with_persist(Persist::EveryMessage);
            storage.on_commit(fault);
            let outcome = match asks {
                "read" => strong.count().await.map(drop),
                "write" => strong.add().await.map(drop),
                "async write" => strong.work(SECOND).await.map(drop),
                "stop" => server.stop("other").await,
                "delete" => server.delete().await,
                "transfer" => runtime.transfer(&server.address(), &other).await,
                _ => server.end().await,
            };
            assert!(matches!(outcome, Err(CallError::Storage { .. })), "{asks}: {outcome:?}");
            // The change of a weaker message that stopped its server is kept, too.
            let count = if asks == "own stop" { 101 } else { 100 };
            assert_eq!(server.count().await.unwrap(), count, "{asks}, {fault:?}");
            storage.on_commit(Fault::None);
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(u64::from(tallied(&storage)), count, "{asks}, {fault:?}");
            assert_eq!(strong.add().await.unwrap(), count + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_reminder_undoes_no_change_that_was_acknowledged_before() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = tally(&storage).await;
    storage.on_commit(Fault::Refuse);
    server.remind().await.unwrap_err();
    assert_eq!(server.count().await.unwrap(), 101, "its own change and its reminder are kept");
    storage.on_commit(Fault::None);
    tokio::time::sleep(5 * SECOND).await;
    server.add().await.unwrap();
    storage.on_commit(Fault::Refuse);
    // The reminder fires, and its commit is refused.
    tokio::time::sleep(7 * SECOND).await;
    assert_eq!(server.count().await.unwrap(), 102);
    storage.on_commit(Fault::None);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(server.count().await.unwrap(), 202, "it fires once");
}

/// Messages of strong and weak clients that are queued together.
#[tokio::test(start_paused = true)]
async fn a_refused_commit_undoes_no_weak_change_that_was_queued_before_it() {
    for fault in [Fault::Refuse, Fault::RefuseLate(SECOND)] {
        let storage = FaultyStorage::default();
        let (_runtime, server) = tally(&storage).await;
        let strong = server.with_persist(Persist::EveryMessage);
        storage.on_commit(fault);
        let (_, weak, refused, behind) =
            tokio::join!(server.look(SECOND / 10), server.add(), strong.add(), server.add(),);
        assert_eq!(weak.unwrap(), 101);
        refused.unwrap_err();
        // It fails with the commit in flight, or runs after its failure.
        let count = behind.unwrap_or(101);
        assert_eq!(server.count().await.unwrap(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_learns_that_changes_are_unsaved() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = tally(&storage).await;
    let mut watch = server.watch().await.unwrap();
    storage.on_next_commit(Fault::Refuse);
    server.with_persist(Persist::EveryMessage).add().await.unwrap_err();
    server.count().await.unwrap();
    let unsaved = watch.next().await;
    assert!(matches!(unsaved, Some(Event::Unsaved { .. })), "{unsaved:?}");
    assert_eq!(watch.next().await, Some(Event::Started));
}

/// Cannot be encoded while `is_bad`.
#[derive(Default, Serialize, Deserialize)]
struct Brittle {
    count: u64,
    #[serde(serialize_with = "refuse_bad", default)]
    is_bad: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn refuse_bad<S: serde::Serializer>(is_bad: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    if *is_bad {
        return Err(serde::ser::Error::custom("bad"));
    }
    serializer.serialize_bool(false)
}

#[persistent_server(persist = on_stop)]
impl Brittle {
    pub fn add(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn set_bad(&mut self, is_bad: bool) {
        self.is_bad = is_bad;
    }

    pub fn remind(&mut self, context: &Context<Self>) {
        context.remind("count", SECOND, BrittleMessage::Count);
    }

    pub fn end(&mut self, context: &Context<Self>) {
        context.stop("enough");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_encoded_loses_no_change_that_was_acknowledged_before() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Brittle>("a", ());
    let strong = server.with_persist(Persist::EveryMessage);
    strong.count().await.unwrap();
    for _ in 0..10 {
        server.add().await.unwrap();
    }
    server.set_bad(true).await.unwrap();
    for refused in
        [strong.count().await.map(drop), strong.add().await.map(drop), server.stop("other").await]
    {
        assert!(matches!(refused, Err(CallError::Encode { .. })), "{refused:?}");
        assert_eq!(server.count().await.unwrap(), 10);
    }
    for kept in [server.remind().await, server.end().await] {
        let outcome = kept.as_ref().unwrap_err().outcome();
        assert_eq!(outcome, Outcome::Unknown, "{kept:?}");
        assert_eq!(server.count().await.unwrap(), 10);
    }
    server.set_bad(false).await.unwrap();
    assert_eq!(strong.add().await.unwrap(), 11);

    // The shutdown says what it could not save, and does not wait for its deadline.
    server.add().await.unwrap();
    server.set_bad(true).await.unwrap();
    let begin = Instant::now();
    let error = runtime.shutdown(60 * SECOND).await.unwrap_err();
    assert_eq!((error.unfinished, error.unsaved_count, error.unsaved.len()), (0, 1, 1));
    assert_eq!(error.unsaved[0].server, ServerId::new("Brittle", "a"));
    assert!(error.unsaved[0].reason.contains("bad"), "{error}");
    assert!(begin.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn every_is_kept_while_an_async_handler_waits() {
    let every = Persist::Every(SECOND);
    for (asks, kept) in [("read", 101), ("write", 101), ("panic", 101)] {
        let storage = FaultyStorage::default();
        let (_runtime, server) = tally(&storage).await;
        let server = server.with_persist(every);
        server.add().await.unwrap();
        let call = tokio::spawn({
            let server = server.clone();
            async move {
                match asks {
                    "read" => server.look(10 * SECOND).await.map(drop),
                    "write" => server.work(10 * SECOND).await.map(drop),
                    _ => server.work_and_panic(10 * SECOND).await,
                }
            }
        });
        tokio::time::sleep(SECOND * 11 / 10).await;
        assert_eq!(tallied(&storage), kept, "{asks}");
        assert_eq!(call.await.unwrap().is_ok(), asks != "panic");
        let after = if asks == "write" { 102 } else { 101 };
        assert_eq!(server.count().await.unwrap(), after);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(u64::from(tallied(&storage)), after, "{asks}");
        let writes = storage.writes();
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(storage.writes(), writes);
    }
}

/// A save that is refused while a handler waits fails neither the handler nor the changes.
#[tokio::test(start_paused = true)]
async fn a_late_save_that_is_refused_while_a_handler_waits_is_retried() {
    for fault in [Fault::Refuse, Fault::RefuseLate(SECOND), Fault::RefuseLate(10 * SECOND)] {
        let storage = FaultyStorage::default();
        let (_runtime, server) = tally(&storage).await;
        let server = server.with_persist(Persist::Every(SECOND));
        server.add().await.unwrap();
        storage.on_next_commit(fault);
        assert_eq!(server.work(5 * SECOND).await.unwrap(), 102, "{fault:?}");
        assert_eq!(server.count().await.unwrap(), 102);
        tokio::time::sleep(3 * SECOND).await;
        assert_eq!(tallied(&storage), 102);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_level_behind_a_longer_one_is_kept() {
    let storage = FaultyStorage::default();
    let (_runtime, server) = tally(&storage).await;
    server.with_persist(Persist::Every(3600 * SECOND)).add().await.unwrap();
    server.with_persist(Persist::Every(SECOND / 20)).add().await.unwrap();
    tokio::time::sleep(SECOND / 10).await;
    assert_eq!(tallied(&storage), 102);
}

/// A caller that comes back at once borrows the instance again and again.
#[tokio::test]
async fn a_caller_that_is_served_inline_does_not_delay_a_save() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let mill = runtime.at::<Mill>("a", ());
    for turn in 1..=30 {
        assert_eq!(mill.turn().await.unwrap(), turn);
    }
    assert!(storage.writes() > 10, "{}", storage.writes());
}
