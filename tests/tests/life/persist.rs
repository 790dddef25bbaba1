//! Persist levels: the changes that each level may lose, and those that it never loses.

use std::{thread, time::Duration};

use persistent_runtime::{
    Client, Options, Persist, Runtime, ServerId, StopReason, persistent_server,
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
        server.stop(StopReason::Normal).await.unwrap();
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
