//! Servers that journal their messages: what is stored, and what a replay
//! makes of it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use persistent_runtime::{
    Address, Builder, CallError, Change, Client, Context, Listener, MemoryStorage, Observer,
    Options, Persist, Record, ReplayError, Reply, Restart, Runtime, Server, ServerId, Storage,
    Update, persistent_server,
};
use persistent_tests::{Fault, FaultyStorage};
use serde::{Deserialize, Serialize};

/// A state that grows with each message, and messages that don't.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ledger {
    entries: Vec<i64>,
    stamps: Vec<SystemTime>,
    dice: Vec<u64>,
}

#[persistent_server(journal = messages(snapshot_every = 5), max_restarts(100, within = "1s"))]
impl Ledger {
    pub fn book(&mut self, amount: i64) -> i64 {
        self.entries.push(amount);
        self.entries.iter().sum()
    }

    #[cast]
    pub fn post(&mut self, amount: i64) {
        self.entries.push(amount);
    }

    pub fn touch(&mut self) {}

    pub fn entries(&self) -> Vec<i64> {
        self.entries.clone()
    }

    pub async fn entries_later(&self) -> Vec<i64> {
        tokio::task::yield_now().await;
        self.entries.clone()
    }

    pub fn stamp(&mut self, dice: usize, context: &Context<Self>) -> (SystemTime, Vec<u64>) {
        let now = context.now();
        self.stamps.push(now);
        let dice: Vec<_> = (0..dice).map(|_| context.random()).collect();
        self.dice.extend(&dice);
        (now, dice)
    }

    pub fn read_clock(&self, context: &Context<Self>) -> SystemTime {
        context.now()
    }

    pub fn stamps(&self) -> (Vec<SystemTime>, Vec<u64>) {
        (self.stamps.clone(), self.dice.clone())
    }

    pub fn crash(&mut self, context: &Context<Self>) {
        self.entries.push(context.random().cast_signed());
        panic!("out of ink");
    }

    pub fn book_and_stop(&mut self, amount: i64, context: &Context<Self>) {
        self.entries.push(amount);
        context.stop("audit");
    }

    pub fn remind(&mut self, context: &Context<Self>) {
        self.entries.push(0);
        context.remind("book", Duration::from_mins(1), LedgerMessage::Post { amount: 60 });
    }

    pub fn cancel(&mut self, name: String, context: &Context<Self>) -> bool {
        self.entries.push(-1);
        context.cancel_reminder(&name)
    }

    pub fn count_reminders(&mut self, context: &Context<Self>) {
        self.entries.push(context.reminders().len().try_into().unwrap());
    }
}

fn record<S: Server>(storage: &MemoryStorage, key: &str) -> Option<Record> {
    storage.get(&ServerId::new(S::NAME, key))
}

/// The stored state's bytes, and the number of messages behind it.
fn stored(storage: &MemoryStorage) -> (Arc<[u8]>, usize) {
    let record = record::<Ledger>(storage, "a").unwrap();
    (record.state, record.messages.len())
}

async fn open(storage: &MemoryStorage) -> Runtime {
    Runtime::builder().open_with(storage.clone()).await.unwrap()
}

#[tokio::test]
async fn a_message_is_stored_in_the_place_of_its_state_and_replayed_after_a_kill() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    let (first, messages) = stored(&storage);
    assert_eq!(messages, 0, "a first life begins with a snapshot");
    for (amount, sum) in [(3, 3), (4, 7), (-5, 2)] {
        assert_eq!(ledger.book(amount).await.unwrap(), sum);
    }
    assert_eq!(stored(&storage), (first.clone(), 3));
    drop(runtime);

    let runtime = open(&storage).await;
    let ledger = runtime.find::<Ledger>("a").await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [3, 4, -5]);
    assert_eq!(stored(&storage), (first.clone(), 3), "an activation stores nothing");
    assert_eq!(ledger.book(8).await.unwrap(), 10);
    assert_eq!(stored(&storage), (first, 4));
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [3, 4, -5, 8]);
}

#[tokio::test]
async fn every_nth_message_stores_the_state() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    let mut behind = Vec::new();
    for amount in 0..12 {
        ledger.book(amount).await.unwrap();
        behind.push(stored(&storage).1);
        if amount % 4 == 2 {
            ledger.kill();
        }
    }
    assert_eq!(behind, [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]);
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), (0..12).collect::<Vec<_>>());
}

/// Counts how often its state is encoded and decoded.
#[derive(Default)]
struct Heavy(Vec<u8>);

static ENCODED: AtomicUsize = AtomicUsize::new(0);
static DECODED: AtomicUsize = AtomicUsize::new(0);

#[persistent_server(journal = messages)]
impl Heavy {
    #[save]
    fn save(&self) -> &Vec<u8> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        &self.0
    }

    #[restore]
    fn restore(bytes: Vec<u8>) -> Self {
        DECODED.fetch_add(1, Ordering::SeqCst);
        Self(bytes)
    }

    pub fn set(&mut self, at: usize, byte: u8) {
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = byte;
    }

    pub fn get(&self, at: usize) -> u8 {
        self.0[at]
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_costs_no_encoding_of_the_state() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let heavy = runtime.start::<Heavy>("a", ()).await.unwrap();
    assert_eq!(ENCODED.load(Ordering::SeqCst), 1, "the first state");
    for at in (0..100).rev() {
        heavy.set(at * 1000, 7).await.unwrap();
        heavy.get(at * 1000).await.unwrap();
    }
    assert_eq!(ENCODED.load(Ordering::SeqCst), 1);
    assert_eq!(record::<Heavy>(&storage, "a").unwrap().messages.len(), 100);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(ENCODED.load(Ordering::SeqCst), 2, "the idle unload's snapshot");
    assert_eq!(record::<Heavy>(&storage, "a").unwrap().messages.len(), 0);
    assert_eq!(heavy.get(99_000).await.unwrap(), 7);
    assert_eq!(DECODED.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_leaves_memory_in_order_leaves_a_snapshot() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    for amount in 0..2 {
        ledger.book(amount).await.unwrap();
        assert_eq!(stored(&storage).1, 1);
        match amount {
            0 => tokio::time::sleep(Duration::from_secs(61)).await,
            _ => ledger.stop("audit").await.unwrap(),
        }
        assert_eq!(stored(&storage).1, 0);
    }
    ledger.book(2).await.unwrap();
    ledger.book_and_stop(3).await.unwrap();
    assert_eq!(stored(&storage).1, 0);
    ledger.book(4).await.unwrap();
    runtime.shutdown(Duration::from_secs(1)).await.unwrap();
    let (state, messages) = stored(&storage);
    assert_eq!(messages, 0);

    let runtime = open(&storage).await;
    let ledger = runtime.find::<Ledger>("a").await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [0, 1, 2, 3, 4]);
    runtime.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(stored(&storage), (state, 0), "nothing has changed");
}

#[tokio::test]
async fn reads_write_nothing_and_all_else_is_journaled() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    assert_eq!(storage.writes(), 1);
    ledger.entries().await.unwrap();
    ledger.entries_later().await.unwrap();
    ledger.read_clock().await.unwrap();
    assert_eq!(storage.writes(), 1);
    ledger.touch().await.unwrap();
    assert_eq!(storage.writes(), 2, "to find out that nothing has changed costs the state's size");
}

#[tokio::test]
async fn a_panic_journals_nothing() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    ledger.book(1).await.unwrap();
    for _ in 0..3 {
        let error = ledger.crash().await.unwrap_err();
        assert!(matches!(error, CallError::Crashed { .. }), "{error}");
        assert_eq!(stored(&storage).1, 1);
    }
    assert_eq!(ledger.entries().await.unwrap(), [1]);
    let (_, dice) = ledger.stamp(1).await.unwrap();
    ledger.kill();
    assert_eq!(ledger.stamps().await.unwrap().1, dice, "nothing of the panics is on its tape");
}

#[tokio::test(start_paused = true)]
async fn a_replay_sees_the_time_and_the_chance_that_the_message_saw() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.at::<Ledger>("a", ());
    let (mut stamps, mut dice) = (Vec::new(), Vec::new());
    for count in [3, 0, 1] {
        let before = ledger.read_clock().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (now, thrown) = ledger.stamp(count).await.unwrap();
        assert_eq!(now.duration_since(before).unwrap(), Duration::from_millis(1500));
        stamps.push(now);
        dice.extend(thrown);
    }
    drop(runtime);
    let runtime = open(&storage).await;
    let ledger = runtime.find::<Ledger>("a").await.unwrap();
    assert_eq!(stored(&storage).1, 3);
    assert_eq!(ledger.stamps().await.unwrap(), (stamps, dice.clone()));
    dice.sort_unstable();
    dice.dedup();
    assert_eq!(dice.len(), 4, "chance does not repeat itself");
}

/// Time and chance are for every server; here nobody records them.
#[derive(Default, Serialize, Deserialize)]
struct Clockwork {
    seen: Vec<(SystemTime, u64)>,
}

#[persistent_server]
impl Clockwork {
    pub fn look(&mut self, context: &Context<Self>) -> (SystemTime, u64) {
        self.seen.push((context.now(), context.random()));
        self.seen[self.seen.len() - 1]
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_journals_its_state_has_time_and_chance_too() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let clockwork = runtime.at::<Clockwork>("a", ());
    let (first, one) = clockwork.look().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (second, other) = clockwork.look().await.unwrap();
    assert_eq!(second.duration_since(first).unwrap(), Duration::from_secs(1));
    assert_ne!(one, other);
    assert!(first.duration_since(SystemTime::UNIX_EPOCH).unwrap() > Duration::from_hours(24));
    assert_eq!(record::<Clockwork>(&storage, "a").unwrap().messages.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn durable_timers_are_stored_with_the_state() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.at::<Ledger>("a", ());
    ledger.book(1).await.unwrap();
    ledger.remind().await.unwrap();
    assert_eq!(stored(&storage).1, 0);
    assert!(record::<Ledger>(&storage, "a").unwrap().due.is_some());
    assert!(!ledger.cancel("other".to_owned()).await.unwrap());
    ledger.count_reminders().await.unwrap();
    assert_eq!(stored(&storage).1, 2, "neither has changed one");
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1]);

    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1, 60]);
    let fired = record::<Ledger>(&storage, "a").unwrap();
    assert_eq!((fired.due, fired.messages.len()), (None, 0));
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1, 60]);

    ledger.remind().await.unwrap();
    assert!(ledger.cancel("book".to_owned()).await.unwrap());
    assert_eq!(record::<Ledger>(&storage, "a").unwrap().due, None);
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1, 60, 0, -1]);
}

#[tokio::test(start_paused = true)]
async fn under_a_weaker_level_messages_are_stored_together() {
    let storage = FaultyStorage::default();
    let every = Options::new().persist(Persist::Every(Duration::from_millis(500)));
    let runtime = Runtime::builder().defaults(every).open_with(storage.clone()).await.unwrap();
    let ledger = runtime.at::<Ledger>("a", ());
    ledger.with_persist(Persist::EveryMessage).book(1).await.unwrap();
    let writes = storage.writes();
    ledger.book(2).await.unwrap();
    ledger.stamp(1).await.unwrap();
    assert_eq!((storage.writes(), stored(&storage.states).1), (writes, 0));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!((storage.writes(), stored(&storage.states).1), (writes + 1, 2));

    ledger.book(3).await.unwrap();
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2], "what was not saved is lost");

    ledger.book(4).await.unwrap();
    ledger.with_persist(Persist::EveryMessage).book(5).await.unwrap();
    assert_eq!(stored(&storage.states).1, 4, "the one before went along");
    ledger.book(6).await.unwrap();
    ledger.book(7).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(stored(&storage.states).1, 0, "no more than five are kept");
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2, 4, 5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_late_save_that_the_store_refuses_is_tried_again_with_all_of_it() {
    let storage = FaultyStorage::default();
    let every = Options::new().persist(Persist::Every(Duration::from_millis(500)));
    let runtime = Runtime::builder().defaults(every).open_with(storage.clone()).await.unwrap();
    let ledger = runtime.at::<Ledger>("a", ());
    ledger.with_persist(Persist::EveryMessage).book(1).await.unwrap();
    for fault in [Fault::Refuse, Fault::RefuseThoughDone] {
        ledger.book(2).await.unwrap();
        ledger.book(3).await.unwrap();
        storage.on_next_commit(fault);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(stored(&storage.states).1, 0);
    }
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2, 3, 2, 3]);
}

#[tokio::test]
async fn a_failed_commit_goes_back_to_what_is_stored() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    ledger.book(1).await.unwrap();
    ledger.book(2).await.unwrap();
    storage.on_next_commit(Fault::Refuse);
    let error = ledger.book(3).await.unwrap_err();
    assert!(matches!(error, CallError::Storage { .. }), "{error}");
    assert_eq!(ledger.entries().await.unwrap(), [1, 2]);
    // It was journaled though it was reported as failed: it may be there.
    storage.on_next_commit(Fault::RefuseThoughDone);
    ledger.book(4).await.unwrap_err();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2, 4]);
    // The same where a snapshot was due.
    ledger.book(5).await.unwrap();
    storage.on_next_commit(Fault::Refuse);
    ledger.book(6).await.unwrap_err();
    assert_eq!(stored(&storage.states).1, 4);
    assert_eq!(ledger.book(7).await.unwrap(), 19);
    assert_eq!(stored(&storage.states).1, 0);
}

#[tokio::test]
async fn calls_that_share_commits_are_journaled_in_their_order() {
    let storage = FaultyStorage::default();
    storage.on_commit(Fault::Slow(Duration::from_millis(1)));
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    for round in 0..5 {
        let calls = (0..50).map(|n| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.book(round * 50 + n).await.unwrap() })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let live = ledger.entries().await.unwrap();
        ledger.kill();
        assert_eq!(ledger.entries().await.unwrap(), live);
        assert_eq!(live.len(), usize::try_from(round + 1).unwrap() * 50);
    }
    assert!(storage.writes() < 200, "they did not share any");
}

/// Appends messages of its own to what is stored.
async fn append(storage: &MemoryStorage, id: ServerId, bytes: &[u8]) {
    storage.commit(Change::new(id, Update::Append(vec![bytes.into()]))).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_message_are_an_error_and_stay() {
    for bytes in [&b"\xc1"[..], b"", b"\x01", b"\xa5touch\xa5more?", b"\xa5Touch\x92\x01\x02"] {
        let storage = MemoryStorage::new();
        let runtime = open(&storage).await;
        runtime.at::<Ledger>("a", ()).book(1).await.unwrap();
        drop(runtime);
        append(&storage, ServerId::new("Ledger", "a"), bytes).await;
        let before = record::<Ledger>(&storage, "a");

        let runtime = open(&storage).await;
        let ledger = runtime.at::<Ledger>("a", ());
        for _ in 0..5 {
            let error = ledger.book(2).await.unwrap_err();
            let CallError::Replay { number: 2, of: 2, version: 1, source, .. } = &error else {
                panic!("{bytes:?}: {error}");
            };
            assert!(matches!(**source, ReplayError::Decode(_)), "{bytes:?}: {source:?}");
            assert!(error.to_string().contains("Ledger \"a\""), "{error}");
        }
        runtime.shutdown(Duration::from_secs(1)).await.unwrap();
        assert_eq!(record::<Ledger>(&storage, "a"), before);
        // The price of mending it is the state.
        open(&storage).await.at::<Ledger>("a", ()).stop_and_wipe().await.unwrap();
        assert_eq!(record::<Ledger>(&storage, "a"), None);
    }
}

/// Its code changes while the test runs.
#[derive(Default, Serialize, Deserialize)]
struct Fickle(u64);

thread_local! {
    static MOOD: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
}

#[persistent_server(journal = messages, restart = temporary)]
impl Fickle {
    pub fn act(&mut self, context: &Context<Self>) {
        let now = context.now();
        match MOOD.get() {
            0 => self.0 = context.random(),
            1 => panic!("in a bad mood"),
            2 => {}
            3 => self.0 = context.random() ^ context.random(),
            4 => drop((context.now(), context.random(), now)),
            5 => {
                self.0 = context.random();
                context.remind("x", Duration::ZERO, FickleMessage::Act);
            }
            // One that goes on until it likes what it sees.
            _ => while context.random() != 0 {},
        }
    }

    pub fn value(&self) -> u64 {
        self.0
    }
}

#[tokio::test]
async fn a_handler_that_is_on_another_path_in_a_replay_is_an_error_and_all_stays() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let fickle = runtime.at::<Fickle>("a", ());
    fickle.act().await.unwrap();
    fickle.act().await.unwrap();
    let value = fickle.value().await.unwrap();
    let before = record::<Fickle>(&storage, "a");
    drop(runtime);
    for (mood, text) in [
        (1, "panicked: in a bad mood"),
        (2, "each time and random number again"),
        (3, "had not asked for"),
        (4, "had not asked for"),
        (5, "durable timer"),
        (6, "had not asked for"),
    ] {
        MOOD.set(mood);
        let runtime = open(&storage).await;
        let error = runtime.at::<Fickle>("a", ()).value().await.unwrap_err();
        let CallError::Replay { number: 1, of: 2, source, .. } = &error else { panic!("{error}") };
        assert_eq!(matches!(**source, ReplayError::Panicked { .. }), mood == 1, "{error}");
        assert!(error.to_string().contains(text), "{mood}: {error}");
        runtime.shutdown(Duration::from_secs(1)).await.unwrap();
        assert_eq!(record::<Fickle>(&storage, "a"), before);
    }
    MOOD.set(0);
    let runtime = open(&storage).await;
    assert_eq!(runtime.at::<Fickle>("a", ()).value().await.unwrap(), value);
}

/// The program before its next version.
mod first {
    use persistent_runtime::persistent_server;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Score(u64);

    #[persistent_server(name = "Score", journal = messages)]
    impl Score {
        pub fn add(&mut self, points: u64) {
            self.0 += points;
        }

        pub fn wink(&mut self) {}
    }
}

/// Its state has another shape, and there is no way for its messages.
mod second {
    use persistent_runtime::persistent_server;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Score(Vec<u64>);

    #[persistent_server(name = "Score", version = 2, journal = messages)]
    impl Score {
        #[migrate(from = 1)]
        fn from_first(sum: u64) -> Self {
            Self(vec![sum])
        }

        pub fn add(&mut self, points: u64) {
            self.0.push(points);
        }

        pub fn points(&self) -> Vec<u64> {
            self.0.clone()
        }
    }
}

/// There is one.
mod third {
    use persistent_runtime::persistent_server;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Score(Vec<u64>);

    #[derive(Deserialize)]
    enum Old {
        Add { points: u64 },
        Wink,
    }

    #[persistent_server(name = "Score", version = 2, journal = messages)]
    impl Score {
        #[migrate(from = 1)]
        fn from_first(sum: u64) -> Self {
            Self(vec![sum])
        }

        #[migrate_message(from = 1)]
        fn message_from_first(old: Old) -> Option<ScoreMessage> {
            match old {
                Old::Add { points } => Some(ScoreMessage::Note { points, twice: false }),
                Old::Wink => None,
            }
        }

        pub fn note(&mut self, points: u64, twice: bool) {
            self.0.push(points);
            self.0.extend(twice.then_some(points));
        }

        pub fn points(&self) -> Vec<u64> {
            self.0.clone()
        }
    }
}

#[tokio::test]
async fn messages_of_an_earlier_version_are_refused_until_there_is_a_way() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let score = runtime.at::<first::Score>("a", ());
    score.add(1).await.unwrap();
    score.stop("a snapshot").await.unwrap();
    for points in [2, 3] {
        score.add(points).await.unwrap();
        score.wink().await.unwrap();
    }
    drop(runtime);
    let before = record::<first::Score>(&storage, "a").unwrap();
    assert_eq!((before.version, before.messages.len()), (1, 4));

    let runtime = open(&storage).await;
    let error = runtime.at::<second::Score>("a", ()).points().await.unwrap_err();
    assert!(matches!(&error, CallError::Replay { version: 1, number: 1, of: 4, source, .. }
        if matches!(**source, ReplayError::Version { stored: 1, current: 2 })));
    let text = error.to_string();
    for part in ["4 journaled messages of Score \"a\"", "version 1", "migrate_message(from = 1)"] {
        assert!(text.contains(part), "{text}");
    }
    drop(runtime);
    assert_eq!(record::<first::Score>(&storage, "a").unwrap(), before);

    let runtime = open(&storage).await;
    let score = runtime.at::<third::Score>("a", ());
    assert_eq!(score.points().await.unwrap(), [1, 2, 3]);
    assert_eq!(record::<first::Score>(&storage, "a").unwrap(), before, "nothing has changed");
    score.note(4, true).await.unwrap();
    let after = record::<third::Score>(&storage, "a").unwrap();
    assert_eq!((after.version, after.messages.len()), (2, 0));
    score.note(5, false).await.unwrap();
    score.kill();
    assert_eq!(score.points().await.unwrap(), [1, 2, 3, 4, 4, 5]);
    drop(runtime);

    let runtime = open(&storage).await;
    let error = runtime.at::<first::Score>("a", ()).wink().await.unwrap_err();
    assert!(error.to_string().contains("run the newer program"), "{error}");
}

#[tokio::test]
async fn an_orderly_stop_of_the_old_program_leaves_nothing_to_be_migrated() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    runtime.at::<first::Score>("a", ()).add(7).await.unwrap();
    runtime.shutdown(Duration::from_secs(1)).await.unwrap();
    let runtime = open(&storage).await;
    let score = runtime.at::<second::Score>("a", ());
    score.add(8).await.unwrap();
    assert_eq!(score.points().await.unwrap(), [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_migrated_server_is_stored_as_migrated_when_it_leaves_memory() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    runtime.at::<first::Score>("a", ()).add(7).await.unwrap();
    drop(runtime);
    let runtime = open(&storage).await;
    assert_eq!(runtime.at::<third::Score>("a", ()).points().await.unwrap(), [0, 7]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let after = record::<third::Score>(&storage, "a").unwrap();
    assert_eq!((after.version, after.messages.len()), (2, 0));
}

/// The same server, once it stores its states.
mod plain {
    use persistent_runtime::persistent_server;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Score(u64);

    #[persistent_server(name = "Score", journal = state)]
    impl Score {
        pub fn add(&mut self, points: u64) {
            self.0 += points;
        }

        pub fn wink(&mut self) {}

        pub fn points(&self) -> u64 {
            self.0
        }
    }
}

#[tokio::test]
async fn a_server_can_change_what_it_journals() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    runtime.at::<first::Score>("a", ()).add(1).await.unwrap();
    runtime.at::<first::Score>("a", ()).add(2).await.unwrap();
    drop(runtime);

    let runtime = open(&storage).await;
    let score = runtime.at::<plain::Score>("a", ());
    assert_eq!(score.points().await.unwrap(), 3);
    assert_eq!(record::<plain::Score>(&storage, "a").unwrap().messages.len(), 2);
    score.wink().await.unwrap();
    let record_of = |storage| record::<plain::Score>(storage, "a").unwrap();
    assert_eq!(record_of(&storage).messages.len(), 0);
    score.add(3).await.unwrap();
    assert_eq!(record_of(&storage).messages.len(), 0);
    drop(runtime);

    let runtime = open(&storage).await;
    runtime.at::<first::Score>("a", ()).add(4).await.unwrap();
    assert_eq!(record_of(&storage).messages.len(), 1);
    drop(runtime);
    let runtime = open(&storage).await;
    assert_eq!(runtime.at::<plain::Score>("a", ()).points().await.unwrap(), 10);
}

#[tokio::test]
async fn a_wiped_server_begins_with_no_messages() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    ledger.book(1).await.unwrap();
    ledger.stop_and_wipe().await.unwrap();
    assert_eq!(record::<Ledger>(&storage.states, "a"), None);
    // The wipe, the new life and its messages may share commits.
    storage.on_commit(Fault::Slow(Duration::from_millis(5)));
    let calls = tokio::join!(ledger.book(2), ledger.stop_and_wipe(), ledger.book(3));
    assert_eq!((calls.0.unwrap(), calls.2.unwrap()), (2, 3));
    assert_eq!(ledger.book(4).await.unwrap(), 7);
    ledger.kill();
    assert_eq!(ledger.entries().await.unwrap(), [3, 4]);
}

#[tokio::test]
async fn a_crash_of_a_temporary_server_takes_its_messages_along() {
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder()
        .defaults(Options::new().restart(Restart::Temporary))
        .open_with(storage.clone())
        .await
        .unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    ledger.book(1).await.unwrap();
    ledger.crash().await.unwrap_err();
    assert_eq!(ledger.entries().await.unwrap(), [0; 0]);
    assert_eq!(stored(&storage).1, 0);
}

/// Asks its context for whatever there is.
#[derive(Default, Serialize, Deserialize)]
struct Busy {
    log: Vec<String>,
    #[serde(skip)]
    waiting: Vec<Reply<u32>>,
    #[serde(skip)]
    others: Vec<LedgerClient>,
}

#[persistent_server(journal = messages)]
impl Busy {
    pub fn ask(&mut self, context: &Context<Self>) -> usize {
        self.log.push("ask".to_owned());
        context.then(BusyMessage::Hear { what: "then".to_owned() });
        let hear = |what: &str| BusyMessage::Hear { what: what.to_owned() };
        context.send_after(Duration::from_millis(1), hear("timer"));
        context.attach(futures::stream::iter([hear("stream")]));
        context
            .interval(Duration::from_hours(1), move || BusyMessage::Hear { what: String::new() });
        self.others.push(context.client_of(&Address::<Ledger>::new("other", ())));
        let other = context.client_of(&Address::<Ledger>::new("told", ()));
        tokio::spawn(async move { other.book(1).await });
        let kept = context.kept::<AtomicUsize>("asked");
        let kept = kept.unwrap_or_else(|| context.keep("asked", AtomicUsize::new(0)));
        kept.fetch_add(1, Ordering::SeqCst);
        self.log.len()
    }

    pub fn asked(&self, context: &Context<Self>) -> Option<usize> {
        context.kept::<AtomicUsize>("asked").map(|asked| asked.load(Ordering::SeqCst))
    }

    pub fn later(&mut self, reply: Reply<u32>) {
        self.log.push("later".to_owned());
        self.waiting.push(reply);
    }

    pub fn answer(&mut self) {
        self.log.push("answer".to_owned());
        for reply in self.waiting.drain(..) {
            reply.send(1);
        }
    }

    pub fn last(&mut self, context: &Context<Self>) {
        self.log.push("last".to_owned());
        context.stop("enough");
    }

    pub fn log(&self) -> Vec<String> {
        self.log.clone()
    }

    #[info]
    fn hear(&mut self, what: String) {
        self.log.push(what);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_message_has_asked_for_does_not_happen_again_in_a_replay() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let busy = runtime.at::<Busy>("a", ());
    assert_eq!(busy.ask().await.unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let waiting = tokio::spawn({
        let busy = busy.clone();
        async move { busy.later().await }
    });
    tokio::task::yield_now().await;
    busy.answer().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    assert_eq!(busy.asked().await.unwrap(), Some(1));
    let log = busy.log().await.unwrap();
    assert_eq!(log, ["ask", "then", "stream", "timer", "later", "answer"]);
    assert_eq!(record::<Busy>(&storage, "a").unwrap().messages.len(), 6, "each is one of its own");
    let told = runtime.at::<Ledger>("told", ());
    assert_eq!(told.entries().await.unwrap(), [1]);
    drop(runtime);

    let runtime = open(&storage).await;
    let busy = runtime.at::<Busy>("a", ());
    assert_eq!(busy.log().await.unwrap(), log);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(busy.log().await.unwrap(), log);
    assert_eq!(busy.asked().await.unwrap(), None);
    let told = runtime.at::<Ledger>("told", ());
    assert_eq!(told.entries().await.unwrap(), [1]);
    assert_eq!(busy.ask().await.unwrap(), 7);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(busy.log().await.unwrap()[6..], ["ask", "then", "stream", "timer"]);
    assert_eq!(told.entries().await.unwrap(), [1, 1]);
}

/// A stop leaves a snapshot, so only a refused one is ever replayed.
#[tokio::test]
async fn a_replayed_stop_stops_nothing() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let busy = runtime.start::<Busy>("a", ()).await.unwrap();
    let id = ServerId::new("Busy", "a");
    append(&storage.states, id, b"\xa4Last").await;
    busy.kill();
    let mut events = busy.watch();
    assert_eq!(busy.log().await.unwrap(), ["last"]);
    busy.kill();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(format!("{event:?}"));
        if seen.last().unwrap() == "Killed" {
            break;
        }
    }
    assert_eq!(seen, ["Started", "Killed"]);
}

#[tokio::test]
async fn a_transferred_server_takes_its_messages_along() {
    let (here, there) = (MemoryStorage::new(), MemoryStorage::new());
    let runtime = open(&here).await;
    let ledger = runtime.at::<Ledger>("a", ());
    ledger.book(1).await.unwrap();
    ledger.book(2).await.unwrap();
    let other = open(&there).await;
    runtime.transfer(&ledger.address(), &other).await.unwrap();
    assert_eq!(record::<Ledger>(&here, "a"), None);
    assert_eq!(stored(&there).1, 0, "it was unloaded before");
    assert_eq!(ledger.book(3).await.unwrap(), 6);
    ledger.kill();

    // One that is not in memory goes as it is stored.
    drop(other);
    assert_eq!(stored(&there).1, 1);
    let other = open(&there).await;
    let runtime = open(&here).await;
    let address = Address::<Ledger>::new("a", ());
    other.transfer(&address, &runtime).await.unwrap();
    assert_eq!(stored(&here).1, 1);
    assert_eq!(runtime.client(&address).entries().await.unwrap(), [1, 2, 3]);
}

/// Its hooks change it.
#[derive(Default, Serialize, Deserialize)]
struct Hooked(Vec<String>);

#[persistent_server(journal = messages)]
impl Hooked {
    #[started]
    fn started(&mut self) {
        self.0.push("started".to_owned());
    }

    #[terminate]
    fn terminate(&mut self) {
        self.0.push("terminate".to_owned());
    }

    pub fn say(&mut self, what: String) {
        self.0.push(what);
    }

    pub fn said(&self) -> Vec<String> {
        self.0.clone()
    }
}

#[tokio::test]
async fn what_hooks_change_is_stored_with_the_state() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let hooked = runtime.at::<Hooked>("a", ());
    let messages = || record::<Hooked>(&storage, "a").unwrap().messages.len();
    hooked.say("one".to_owned()).await.unwrap();
    assert_eq!(messages(), 1);
    hooked.kill();
    assert_eq!(hooked.said().await.unwrap(), ["started", "one", "started"]);
    assert_eq!(messages(), 0, "stored by the activation");
    hooked.say("two".to_owned()).await.unwrap();
    hooked.stop("rest").await.unwrap();
    assert_eq!(messages(), 0);
    let said = hooked.said().await.unwrap();
    assert_eq!(said, ["started", "one", "started", "two", "terminate", "started"]);
}

type Heard = (Option<Vec<i64>>, Vec<i64>);

/// Writes down what it hears.
#[derive(Clone, Default)]
struct Scribe {
    changes: Arc<Mutex<Vec<Heard>>>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Listener<Ledger> for Scribe {
    fn on_state_changed(&self, _: &Address<Ledger>, old: Option<&Ledger>, new: &Ledger) {
        let change = (old.map(|old| old.entries.clone()), new.entries.clone());
        self.changes.lock().unwrap().push(change);
    }
}

impl Observer for Scribe {
    fn on_change(&self, _: &ServerId, record: Option<&Record>) {
        self.records.lock().unwrap().extend(record.cloned());
    }
}

#[tokio::test]
async fn those_who_hear_of_changes_hear_of_states() {
    let storage = MemoryStorage::new();
    let scribe = Scribe::default();
    let heard = |builder: Builder| builder.listener(scribe.clone()).observer(scribe.clone());
    let runtime = heard(Runtime::builder()).open_with(storage.clone()).await.unwrap();
    let ledger = runtime.at::<Ledger>("a", ());
    ledger.book(1).await.unwrap();
    ledger.touch().await.unwrap();
    ledger.kill();
    ledger.book(2).await.unwrap();
    assert_eq!(stored(&storage).1, 3, "the messages are journaled all the same");
    let changes = std::mem::take(&mut *scribe.changes.lock().unwrap());
    assert_eq!(
        changes,
        [(None, vec![]), (Some(vec![]), vec![1]), (Some(vec![1]), vec![1, 2])],
        "and unchanged states are no news"
    );
    let records = std::mem::take(&mut *scribe.records.lock().unwrap());
    assert_eq!(records.len(), 3);
    ledger.stop("rest").await.unwrap();
    assert_eq!(stored(&storage), (records[2].state.clone(), 0), "they hear of whole states");
}

/// Deterministic or not, as it is told.
#[derive(Default, Serialize, Deserialize)]
struct Suspect {
    seen: Vec<u64>,
    words: Vec<String>,
    #[serde(skip)]
    unstored: u64,
}

static BOMB: AtomicBool = AtomicBool::new(false);

#[persistent_server(journal = messages(snapshot_every = 4), max_restarts(0, within = "5s"))]
impl Suspect {
    pub fn honest(&mut self, context: &Context<Self>) -> u64 {
        self.seen.push(context.random());
        context.then(SuspectMessage::Aside);
        self.seen.len() as u64
    }

    #[info]
    fn aside(&mut self, context: &Context<Self>) {
        self.words.push(format!("{:?}", context.now()));
    }

    pub fn takes_the_time(&mut self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        self.seen.push(u64::try_from(now.as_nanos()).unwrap());
    }

    pub fn goes_through_a_set(&mut self, words: Vec<String>) {
        let set: HashSet<String> = words.into_iter().collect();
        self.words.extend(set);
    }

    pub fn counts_what_is_not_stored(&mut self) {
        self.unstored += 1;
        self.seen.push(self.unstored);
    }

    pub fn forgets_what_is_not_stored(&mut self, context: &Context<Self>) {
        self.seen.push(7);
        self.unstored = 0;
        context.remind("x", Duration::from_hours(1), SuspectMessage::Aside);
    }

    pub fn panics_the_second_time(&mut self) {
        assert!(!BOMB.swap(true, Ordering::SeqCst), "again");
        self.seen.push(1);
    }

    pub fn seen(&self) -> usize {
        self.seen.len()
    }
}

#[tokio::test]
async fn the_check_finds_a_handler_that_is_not_deterministic_and_drops_what_it_did() {
    for level in [Persist::EveryMessage, Persist::OnStop] {
        BOMB.store(false, Ordering::SeqCst);
        let storage = MemoryStorage::new();
        let runtime = Runtime::builder()
            .check_replay(true)
            .defaults(Options::new().persist(level))
            .open_with(storage.clone())
            .await
            .unwrap();
        let suspect = runtime.at::<Suspect>("a", ());
        for seen in 1..=6 {
            assert_eq!(suspect.honest().await.unwrap(), seen);
        }
        suspect.with_persist(Persist::EveryMessage).seen().await.unwrap();
        let words = ["a", "b", "c", "d", "e", "f", "g", "h"].map(str::to_owned).to_vec();
        for (caught, method) in [
            (suspect.takes_the_time().await, "TakesTheTime"),
            (suspect.goes_through_a_set(words).await, "GoesThroughASet"),
            (suspect.panics_the_second_time().await, "PanicsTheSecondTime"),
        ] {
            let error = caught.unwrap_err();
            assert!(
                matches!(&error, CallError::Diverged { method: name, .. } if name == method),
                "{error}"
            );
            assert!(error.to_string().contains(method), "{error}");
        }
        assert_eq!(suspect.seen().await.unwrap(), 6, "nobody's restart limit was harmed");
        runtime.shutdown(Duration::from_secs(1)).await.unwrap();
        let runtime = open(&storage).await;
        assert_eq!(runtime.at::<Suspect>("a", ()).seen().await.unwrap(), 6);
    }
}

/// A replay begins with a stored state, so what is not stored is gone there.
#[tokio::test]
async fn the_check_begins_where_a_replay_would() {
    let runtime = Runtime::builder().check_replay(true).in_memory().await.unwrap();
    let suspect = runtime.at::<Suspect>("a", ());
    for _ in 0..3 {
        suspect.counts_what_is_not_stored().await.unwrap();
    }
    suspect.counts_what_is_not_stored().await.unwrap();
    let error = suspect.counts_what_is_not_stored().await.unwrap_err();
    assert!(matches!(error, CallError::Diverged { .. }), "a snapshot lies between: {error}");
    assert_eq!(suspect.seen().await.unwrap(), 4);

    suspect.counts_what_is_not_stored().await.unwrap();
    suspect.kill();
    suspect.counts_what_is_not_stored().await.unwrap();
    suspect.forgets_what_is_not_stored().await.unwrap();
    suspect.counts_what_is_not_stored().await.unwrap();
    assert_eq!(suspect.seen().await.unwrap(), 8);
}

#[tokio::test]
async fn without_the_check_nothing_is_handled_twice() {
    BOMB.store(false, Ordering::SeqCst);
    let runtime = Runtime::in_memory().await.unwrap();
    let suspect = runtime.at::<Suspect>("bomb", ());
    suspect.takes_the_time().await.unwrap();
    assert_eq!(suspect.seen().await.unwrap(), 1);
}

/// A message with an argument that can't be encoded.
#[derive(Clone, Debug, Default, Deserialize)]
struct Shy(bool);

impl Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { Err(serde::ser::Error::custom("too shy")) } else { false.serialize(serializer) }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Guest(Vec<Shy>);

#[persistent_server(journal = messages(snapshot_every = 2))]
impl Guest {
    pub fn take(&mut self, shy: Shy) {
        self.0.push(shy);
    }

    pub fn become_shy(&mut self) {
        self.0.push(Shy(true));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[tokio::test]
async fn what_has_no_stored_form_is_an_error_and_is_dropped() {
    let runtime = Runtime::in_memory().await.unwrap();
    let guest = runtime.at::<Guest>("a", ());
    let error = guest.take(Shy(true)).await.unwrap_err();
    assert!(matches!(error, CallError::Encode { .. }), "{error}");
    assert_eq!(guest.len().await.unwrap(), 0, "no handler has run");
    guest.take(Shy(false)).await.unwrap();
    let error = guest.become_shy().await.unwrap_err();
    assert!(matches!(error, CallError::Encode { .. }), "a snapshot was due: {error}");
    assert_eq!(guest.len().await.unwrap(), 1);
    guest.take(Shy(false)).await.unwrap();
    assert_eq!(guest.len().await.unwrap(), 2);
}

/// Kills, refusals, idle times and new processes in any order: the state is
/// always what the acknowledged messages make of it.
#[tokio::test(start_paused = true)]
async fn whatever_happens_the_acknowledged_messages_are_there() {
    for seed in 0..30_u64 {
        let storage = FaultyStorage::default();
        let builder = || Runtime::builder().check_replay(seed % 2 == 0);
        let mut runtime = builder().open_with(storage.clone()).await.unwrap();
        let mut expected = Vec::new();
        let mut chance = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for step in 0..100 {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            let ledger = runtime.at::<Ledger>("a", ());
            match chance % 16 {
                0 => ledger.kill(),
                1 => tokio::time::sleep(Duration::from_secs(61)).await,
                2 => runtime = builder().open_with(storage.clone()).await.unwrap(),
                3 => runtime.shutdown(Duration::from_secs(1)).await.unwrap(),
                4 => ledger.crash().await.map(drop).unwrap_or_default(),
                5 => {
                    storage.on_next_commit(Fault::Refuse);
                    if ledger.book(step).await.is_ok() {
                        expected.push(step);
                    }
                    storage.on_next_commit(Fault::None);
                }
                6 => drop(ledger.stamp(usize::try_from(chance >> 60).unwrap()).await),
                _ => match ledger.book(step).await {
                    Ok(_) => expected.push(step),
                    Err(CallError::RuntimeStopped { .. }) => {
                        runtime = builder().open_with(storage.clone()).await.unwrap();
                    }
                    Err(error) => panic!("{error}"),
                },
            }
        }
        let runtime = builder().open_with(storage.clone()).await.unwrap();
        let ledger = runtime.at::<Ledger>("a", ());
        assert_eq!(ledger.entries().await.unwrap(), expected, "seed {seed}");
    }
}
