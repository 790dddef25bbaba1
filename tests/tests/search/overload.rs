//! More load than the mailboxes and the storage can take, for one minute of virtual time:
//! queues are bounded, each call is refused by its deadline, and nothing is left over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use persistent_runtime::{CallError, Client, Options, Runtime, persistent_server};
use persistent_tests::{Counter, Fault, FaultyStorage, Request};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DEADLINE: Duration = Duration::from_millis(500);
const MAILBOX: usize = 32;
const CALLERS: usize = 1_000;
/// The latency of a commit, which carries at most as many messages as the mailbox holds.
const COMMIT: Duration = Duration::from_millis(20);

/// An argument of a message, counted while it exists.
#[derive(Serialize, Deserialize)]
struct Parcel {
    #[serde(skip)]
    counted: Arc<()>,
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parcel")
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Office {
    taken: usize,
}

#[persistent_server]
impl Office {
    pub fn take(&mut self, parcel: Parcel) -> usize {
        drop(parcel.counted);
        self.taken += 1;
        self.taken
    }

    /// A cast has no reply that a commit could delay, so that the handler itself is slow.
    pub async fn take_slowly(&mut self, parcel: Parcel) -> usize {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.take(parcel)
    }

    pub fn taken(&self) -> usize {
        self.taken
    }
}

#[derive(Default)]
struct Tally {
    answered: usize,
    refused: usize,
}

/// Counts a call. A refused call ends with a timeout, and no call exceeds its deadline.
fn count<R>(tally: &mut Tally, began: Instant, deadline: Duration, answer: &Result<R, CallError>) {
    let latency = began.elapsed();
    assert!(latency <= deadline + Duration::from_millis(1), "{latency:?}");
    match answer {
        Ok(_) => tally.answered += 1,
        Err(CallError::Timeout { .. }) => tally.refused += 1,
        Err(error) => panic!("{error}"),
    }
}

fn options() -> Options {
    Options::new().mailbox(MAILBOX).call_timeout(DEADLINE)
}

async fn office(storage: &FaultyStorage) -> (Runtime, OfficeClient) {
    let builder = Runtime::builder().configure::<Office>(options());
    let runtime = builder.open_with(storage.clone()).await.unwrap();
    let office = runtime.start::<Office>("a", ()).await.unwrap();
    storage.on_commit(Fault::Slow(COMMIT));
    (runtime, office)
}

/// Checks that the next calls take no time once the storage is fast again.
async fn is_at_full_speed(storage: &FaultyStorage, office: &OfficeClient) {
    storage.on_commit(Fault::None);
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    for _ in 0..1_000 {
        office.take(Parcel { counted: Arc::default() }).await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn calls_over_capacity_are_refused_by_their_deadline() {
    let storage = FaultyStorage::default();
    let (runtime, office) = office(&storage).await;
    let (end, parcel) = (Instant::now() + MINUTE, Arc::new(()));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (office, parcel) = (office.clone(), parcel.clone());
        callers.spawn(async move {
            let mut tally = Tally::default();
            while Instant::now() < end {
                let began = Instant::now();
                let answer = office.take(Parcel { counted: parcel.clone() }).await;
                count(&mut tally, began, DEADLINE, &answer);
            }
            tally
        });
    }
    let mut most = 0;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(7)).await;
        most = most.max(Arc::strong_count(&parcel));
    }
    let mut all = Tally::default();
    for Tally { answered, refused } in callers.join_all().await {
        all.answered += answered;
        all.refused += refused;
    }
    // One parcel per caller and one per call in flight, those in the mailbox, and those that
    // the task has taken from it.
    let bound = 1 + 2 * CALLERS + MAILBOX + 64;
    assert!(most <= bound, "{most} messages at once, of {bound}");
    assert!(all.answered > 10_000, "{}", all.answered);
    assert!(all.refused > 1_000, "{}", all.refused);

    tokio::time::sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&parcel), 1, "no message is left");
    let taken = office.taken().await.unwrap();
    let possible = all.answered..=all.answered + all.refused;
    assert!(possible.contains(&taken), "{taken} of {possible:?}");
    is_at_full_speed(&storage, &office).await;
    runtime.shutdown(SECOND).await.unwrap();
}

/// An acknowledged cast is queued, and so it is handled. A cast that finds no capacity
/// until its deadline is not handled.
#[tokio::test(start_paused = true)]
async fn casts_over_capacity_are_refused_or_handled() {
    let storage = FaultyStorage::default();
    let (runtime, office) = office(&storage).await;
    let (end, parcel) = (Instant::now() + MINUTE, Arc::new(()));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (office, parcel) = (office.clone(), parcel.clone());
        callers.spawn(async move {
            let mut tally = Tally::default();
            while Instant::now() < end {
                let began = Instant::now();
                let parcel = Parcel { counted: parcel.clone() };
                let answer = office.cast(OfficeMessage::TakeSlowly { parcel }).await;
                count(&mut tally, began, DEADLINE, &answer);
            }
            tally
        });
    }
    let mut most = 0;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(7)).await;
        most = most.max(Arc::strong_count(&parcel));
    }
    let mut all = Tally::default();
    for Tally { answered, refused } in callers.join_all().await {
        all.answered += answered;
        all.refused += refused;
    }
    let bound = 1 + 2 * CALLERS + MAILBOX + 64;
    assert!(most <= bound, "{most} messages at once, of {bound}");
    assert!(all.refused > 10_000, "{}", all.refused);
    tokio::time::sleep(SECOND).await;
    assert_eq!(office.taken().await.unwrap(), all.answered);
    is_at_full_speed(&storage, &office).await;
    runtime.shutdown(SECOND).await.unwrap();
}

/// One storage for many servers with one commit in flight each: this bounds its queue for
/// any number of callers.
#[tokio::test(start_paused = true)]
async fn a_storage_has_at_most_one_commit_in_flight_per_server() {
    const SERVERS: usize = 500;
    let storage = FaultyStorage::default();
    let most = Arc::new(AtomicUsize::new(0));
    let runtime = Runtime::builder()
        .configure::<Counter>(options())
        .open_with(storage.clone())
        .await
        .unwrap();
    for server in 0..SERVERS {
        runtime.start::<Counter>(server.to_string(), ()).await.unwrap();
    }
    let mut free_at = Instant::now();
    storage.script({
        let most = most.clone();
        move |request, _| {
            if request == Request::Load {
                return Fault::None;
            }
            // The storage does one commit at a time.
            let commit = Duration::from_millis(1);
            free_at = free_at.max(Instant::now()) + commit;
            let wait = free_at - Instant::now();
            let ahead = usize::try_from(wait.as_millis() / commit.as_millis()).unwrap();
            most.fetch_max(ahead, Ordering::SeqCst);
            Fault::Slow(wait)
        }
    });
    let end = Instant::now() + MINUTE;
    let mut callers = JoinSet::new();
    for caller in 0..2 * SERVERS {
        let server = caller % SERVERS;
        // From less than the time of a commit to more than twice that time.
        let deadline = Duration::from_millis(200 + u64::try_from(caller).unwrap());
        let counter = runtime.at::<Counter>(server.to_string(), ()).with_timeout(deadline);
        callers.spawn(async move {
            let mut tally = Tally::default();
            while Instant::now() < end {
                let began = Instant::now();
                let answer = counter.increment().await;
                count(&mut tally, began, deadline, &answer);
            }
            (server, tally)
        });
    }
    let mut tallies: Vec<Tally> = (0..SERVERS).map(|_| Tally::default()).collect();
    for (server, Tally { answered, refused }) in callers.join_all().await {
        tallies[server].answered += answered;
        tallies[server].refused += refused;
    }
    let most = most.load(Ordering::SeqCst);
    assert!((SERVERS / 2..=SERVERS + 1).contains(&most), "{most} commits at once");
    assert!(tallies.iter().map(|tally| tally.answered).sum::<usize>() > 1_000);
    assert!(tallies.iter().map(|tally| tally.refused).sum::<usize>() > 1_000);

    storage.script(|_, _| Fault::None);
    tokio::time::sleep(2 * SECOND).await;
    let began = Instant::now();
    for (server, Tally { answered, refused }) in tallies.into_iter().enumerate() {
        let counter = runtime.at::<Counter>(server.to_string(), ());
        let value = usize::try_from(counter.increment().await.unwrap()).unwrap() - 1;
        assert!((answered..=answered + refused).contains(&value), "{value} in {server}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    runtime.shutdown(SECOND).await.unwrap();
}
