//! The message journal: the messages and snapshots that are stored, and the times at
//! which they are.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use persistent_runtime::{
    Address, Builder, CallError, Client, Context, Encoded, Listener, MemoryStorage, Observer,
    Options, Persist, Record, Restart, Runtime, Server, ServerId, persistent_server,
};
use persistent_tests::{Fault, FaultyStorage, Ledger};
use serde::{Deserialize, Serialize};

fn record<S: Server>(storage: &MemoryStorage, key: &str) -> Option<Record> {
    storage.get(&ServerId::new(S::NAME, key))
}

/// Returns the bytes of the stored state and the number of messages after it.
fn stored(storage: &MemoryStorage) -> (Encoded, usize) {
    let record = record::<Ledger>(storage, "a").unwrap();
    (record.state, record.messages.len())
}

async fn open(storage: &MemoryStorage) -> Runtime {
    Runtime::builder().open_with(storage.clone()).await.unwrap()
}

#[tokio::test]
async fn a_message_is_stored_instead_of_the_state_and_replayed_after_a_kill() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    let (first, messages) = stored(&storage);
    assert_eq!(messages, 0, "the first activation stores a snapshot");
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
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [3, 4, -5, 8]);
}

#[tokio::test]
async fn every_nth_message_stores_a_snapshot() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    let mut behind = Vec::new();
    for amount in 0..12 {
        ledger.book(amount).await.unwrap();
        behind.push(stored(&storage).1);
        if amount % 4 == 2 {
            ledger.kill().await.unwrap();
        }
    }
    assert_eq!(behind, [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]);
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), (0..12).collect::<Vec<_>>());
}

#[derive(Default, Serialize, Deserialize)]
struct Page(String);

#[persistent_server(journal = messages)]
impl Page {
    pub fn write(&mut self, text: String) {
        self.0 = text;
    }

    pub fn read(&self) -> String {
        self.0.clone()
    }
}

#[tokio::test]
async fn messages_larger_than_the_state_cause_a_snapshot() {
    for is_killed in [true, false] {
        let storage = MemoryStorage::new();
        let runtime = open(&storage).await;
        let page = runtime.start::<Page>("a", ()).await.unwrap();
        let (part, mut behind) = ("x".repeat(400_000), Vec::new());
        let large = part.repeat(10);
        for text in [&part, &part, &part, &part, &large, &part, &part, &part, &large] {
            page.write(text.clone()).await.unwrap();
            behind.push(record::<Page>(&storage, "a").unwrap().messages.len());
            if is_killed {
                page.kill().await.unwrap();
            }
            assert_eq!(page.read().await.unwrap(), *text);
        }
        // A snapshot is due after one megabyte at first, and then after as many bytes as the
        // first large state has.
        assert_eq!(behind, [1, 2, 0, 1, 0, 1, 2, 3, 0]);
    }
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
async fn a_journaled_message_does_not_encode_the_state() {
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
    assert_eq!(ENCODED.load(Ordering::SeqCst), 2, "the snapshot of the unload");
    assert_eq!(record::<Heavy>(&storage, "a").unwrap().messages.len(), 0);
    assert_eq!(heavy.get(99_000).await.unwrap(), 7);
    assert_eq!(DECODED.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn each_orderly_unload_stores_a_snapshot() {
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
async fn reads_write_nothing_and_all_other_messages_are_journaled() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    assert_eq!(storage.writes(), 1);
    ledger.entries().await.unwrap();
    ledger.entries_later().await.unwrap();
    ledger.read_clock().await.unwrap();
    ledger.stop("without messages there is nothing to store").await.unwrap();
    ledger.entries().await.unwrap();
    assert_eq!(storage.writes(), 1);
    ledger.touch().await.unwrap();
    assert_eq!(storage.writes(), 2, "comparing the states encodes them");
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
    ledger.kill().await.unwrap();
    assert_eq!(
        ledger.stamps().await.unwrap().1,
        dice,
        "no input of the panicked messages is recorded"
    );
}

#[tokio::test(start_paused = true)]
async fn a_replay_sees_the_recorded_time_and_random_numbers() {
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
    assert!(!stamps.contains(&ledger.read_clock().await.unwrap()), "the replay is over");
    assert_eq!(ledger.stamps().await.unwrap(), (stamps, dice.clone()));
    dice.sort_unstable();
    dice.dedup();
    assert_eq!(dice.len(), 4, "random numbers do not repeat");
}

/// Reads the time and random numbers without `journal = messages`, so that nothing is
/// recorded.
#[derive(Default, Serialize, Deserialize)]
struct Clockwork {
    seen: Vec<(SystemTime, u64)>,
}

#[persistent_server]
impl Clockwork {
    pub fn read(&mut self, context: &Context<Self>) -> (SystemTime, u64) {
        self.seen.push((context.now(), context.random()));
        self.seen[self.seen.len() - 1]
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_message_journal_reads_time_and_random_numbers() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let clockwork = runtime.at::<Clockwork>("a", ());
    let (first, one) = clockwork.read().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (second, other) = clockwork.read().await.unwrap();
    assert_eq!(second.duration_since(first).unwrap(), Duration::from_secs(1));
    assert_ne!(one, other);
    assert!(first.duration_since(SystemTime::UNIX_EPOCH).unwrap() > Duration::from_hours(24));
    assert_eq!(record::<Clockwork>(&storage, "a").unwrap().messages.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn reminders_are_stored_with_the_state() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let ledger = runtime.at::<Ledger>("a", ());
    ledger.book(1).await.unwrap();
    ledger.remind().await.unwrap();
    assert_eq!(stored(&storage).1, 0);
    assert!(record::<Ledger>(&storage, "a").unwrap().due.is_some());
    assert!(!ledger.cancel("other".to_owned()).await.unwrap());
    ledger.count_reminders().await.unwrap();
    assert_eq!(stored(&storage).1, 2, "no reminder was changed");
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1]);

    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1, 60]);
    let fired = record::<Ledger>(&storage, "a").unwrap();
    assert_eq!((fired.due, fired.messages.len()), (None, 0));
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1, 60]);

    ledger.remind().await.unwrap();
    assert!(ledger.cancel("book".to_owned()).await.unwrap());
    assert_eq!(record::<Ledger>(&storage, "a").unwrap().due, None);
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [1, 0, -1, 1, 60, 0, -1]);
}

/// Lists its reminders in a handler and panics.
#[derive(Default, Serialize, Deserialize)]
struct Fuse(Vec<usize>);

#[persistent_server(journal = messages)]
impl Fuse {
    pub fn light(&mut self, context: &Context<Self>) {
        context.remind("end", Duration::from_secs(1), FuseMessage::End);
    }

    pub fn observe(&mut self, context: &Context<Self>) {
        let reminders = context.reminders();
        self.0.push(reminders.iter().filter(|reminder| reminder.due.is_some()).count());
    }

    pub fn observed(&self) -> Vec<usize> {
        self.0.clone()
    }

    #[info]
    fn end(&mut self) {
        panic!("bang");
    }
}

/// After the crash the runtime gives the reminder up. Messages that observed it before must not be
/// replayed after it.
#[tokio::test(start_paused = true)]
async fn a_reminder_that_crashes_leaves_the_state_that_observed_it() {
    for policy in [Restart::Transient, Restart::Permanent] {
        let storage = MemoryStorage::new();
        let options = Options::new().restart(policy).reminder_attempts(1);
        let builder = Runtime::builder().configure::<Fuse>(options);
        let runtime = builder.open_with(storage.clone()).await.unwrap();
        let fuse = runtime.at::<Fuse>("a", ());
        fuse.light().await.unwrap();
        fuse.observe().await.unwrap();
        let record = || record::<Fuse>(&storage, "a").unwrap();
        assert!((record().due.is_some(), record().messages.len()) == (true, 1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!((record().due.is_some(), record().messages.len()) == (false, 0));
        assert_eq!(fuse.observed().await.unwrap(), [1]);
        fuse.observe().await.unwrap();
        fuse.kill().await.unwrap();
        assert_eq!(fuse.observed().await.unwrap(), [1, 0]);
    }
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
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2], "unsaved changes are lost");

    ledger.book(4).await.unwrap();
    ledger.with_persist(Persist::EveryMessage).book(5).await.unwrap();
    assert_eq!(stored(&storage.states).1, 4, "the earlier message was stored too");
    ledger.book(6).await.unwrap();
    ledger.book(7).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(stored(&storage.states).1, 0, "at most five messages are stored");
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2, 4, 5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_late_save_is_retried_with_all_messages() {
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
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2, 3, 2, 3]);
}

#[tokio::test]
async fn a_failed_commit_rolls_back_to_the_stored_state() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    ledger.book(1).await.unwrap();
    ledger.book(2).await.unwrap();
    storage.on_next_commit(Fault::Refuse);
    let error = ledger.book(3).await.unwrap_err();
    assert!(matches!(error, CallError::Storage { .. }), "{error}");
    assert_eq!(ledger.entries().await.unwrap(), [1, 2]);
    // The commit was done although it was reported as failed, so that the message may be
    // stored.
    storage.on_next_commit(Fault::RefuseThoughDone);
    ledger.book(4).await.unwrap_err();
    assert_eq!(ledger.entries().await.unwrap(), [1, 2, 4]);
    // The same if a snapshot is due.
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
        ledger.kill().await.unwrap();
        assert_eq!(ledger.entries().await.unwrap(), live);
        assert_eq!(live.len(), usize::try_from(round + 1).unwrap() * 50);
    }
    assert!(storage.writes() < 200, "each call had a commit of its own");
}

#[tokio::test]
async fn a_recreated_server_has_no_messages_of_the_deleted_one() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let ledger = runtime.start::<Ledger>("a", ()).await.unwrap();
    ledger.book(1).await.unwrap();
    ledger.delete().await.unwrap();
    assert_eq!(record::<Ledger>(&storage.states, "a"), None);
    // The delete, the new activation and its messages may share commits.
    storage.on_commit(Fault::Slow(Duration::from_millis(5)));
    let calls = tokio::join!(ledger.book(2), ledger.delete(), ledger.book(3));
    assert_eq!((calls.0.unwrap(), calls.2.unwrap()), (2, 3));
    assert_eq!(ledger.book(4).await.unwrap(), 7);
    ledger.kill().await.unwrap();
    assert_eq!(ledger.entries().await.unwrap(), [3, 4]);
}

#[tokio::test]
async fn a_crash_of_a_temporary_server_deletes_its_messages() {
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

#[tokio::test]
async fn a_transfer_moves_the_message_journal() {
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
    ledger.kill().await.unwrap();

    // A server that is not in memory is transferred as it is stored.
    drop(other);
    assert_eq!(stored(&there).1, 1);
    let other = open(&there).await;
    let runtime = open(&here).await;
    let address = Address::<Ledger>::new("a", ());
    other.transfer(&address, &runtime).await.unwrap();
    assert_eq!(stored(&here).1, 1);
    assert_eq!(runtime.client(&address).entries().await.unwrap(), [1, 2, 3]);
}

/// A server whose hooks change its state.
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
async fn changes_made_by_hooks_are_stored_as_snapshots() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let hooked = runtime.at::<Hooked>("a", ());
    let messages = || record::<Hooked>(&storage, "a").unwrap().messages.len();
    hooked.say("one".to_owned()).await.unwrap();
    assert_eq!(messages(), 1);
    hooked.kill().await.unwrap();
    assert_eq!(hooked.said().await.unwrap(), ["started", "one", "started"]);
    assert_eq!(messages(), 0, "stored by the activation");
    hooked.say("two".to_owned()).await.unwrap();
    hooked.stop("pause").await.unwrap();
    assert_eq!(messages(), 0);
    hooked.said().await.unwrap();
    hooked.stop("with no message in between").await.unwrap();
    let said = hooked.said().await.unwrap();
    assert_eq!(said[3..], ["two", "terminate", "started", "terminate", "started"]);
}

type Received = (Option<Vec<i64>>, Vec<i64>);

/// A listener that records the changes that it receives.
#[derive(Clone, Default)]
struct Scribe {
    changes: Arc<Mutex<Vec<Received>>>,
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
async fn listeners_and_observers_receive_states_and_not_messages() {
    let storage = MemoryStorage::new();
    let scribe = Scribe::default();
    let observed = |builder: Builder| builder.listener(scribe.clone()).observer(scribe.clone());
    let runtime = observed(Runtime::builder()).open_with(storage.clone()).await.unwrap();
    let ledger = runtime.at::<Ledger>("a", ());
    ledger.book(1).await.unwrap();
    ledger.touch().await.unwrap();
    ledger.kill().await.unwrap();
    ledger.book(2).await.unwrap();
    assert_eq!(stored(&storage).1, 3, "the messages are still journaled");
    let changes = std::mem::take(&mut *scribe.changes.lock().unwrap());
    assert_eq!(
        changes,
        [(None, vec![]), (Some(vec![]), vec![1]), (Some(vec![1]), vec![1, 2])],
        "unchanged states are not reported"
    );
    let records = std::mem::take(&mut *scribe.records.lock().unwrap());
    assert_eq!(records.len(), 3);
    ledger.stop("pause").await.unwrap();
    assert_eq!(stored(&storage), (records[2].state.clone(), 0), "observers receive whole states");
}

#[tokio::test]
async fn a_listener_or_an_observer_alone_receives_each_change() {
    let scribe = Scribe::default();
    let builder = Runtime::builder;
    for builder in [builder().listener(scribe.clone()), builder().observer(scribe.clone())] {
        let runtime = builder.in_memory().await.unwrap();
        runtime.at::<Ledger>("a", ()).book(1).await.unwrap();
    }
    let changes = scribe.changes.lock().unwrap();
    assert_eq!(*changes, [(None, vec![]), (Some(vec![]), vec![1])]);
    assert_eq!(scribe.records.lock().unwrap().len(), 2);
}

/// A message with an argument that cannot be encoded.
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
async fn a_message_or_state_that_cannot_be_encoded_is_an_error_and_is_rolled_back() {
    let runtime = Runtime::in_memory().await.unwrap();
    let guest = runtime.at::<Guest>("a", ());
    let error = guest.take(Shy(true)).await.unwrap_err();
    assert!(matches!(error, CallError::Encode { .. }), "{error}");
    assert_eq!(guest.len().await.unwrap(), 0, "no handler ran");
    guest.take(Shy(false)).await.unwrap();
    let error = guest.become_shy().await.unwrap_err();
    assert!(matches!(error, CallError::Encode { .. }), "a snapshot was due: {error}");
    assert_eq!(guest.len().await.unwrap(), 1);
    guest.take(Shy(false)).await.unwrap();
    assert_eq!(guest.len().await.unwrap(), 2);
}

/// Kills, refused commits, idle times and new processes in any order: the state is always
/// the result of the acknowledged messages.
#[tokio::test(start_paused = true)]
async fn acknowledged_messages_survive_any_sequence_of_failures() {
    for seed in 0..30_u64 {
        let storage = FaultyStorage::default();
        let builder = || Runtime::builder().check_replay(seed % 2 == 0);
        let mut runtime = builder().open_with(storage.clone()).await.unwrap();
        let mut expected = Vec::new();
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for step in 0..100 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let ledger = runtime.at::<Ledger>("a", ());
            match random % 16 {
                0 => ledger.kill().await.unwrap(),
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
                6 => drop(ledger.stamp(usize::try_from(random >> 60).unwrap()).await),
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
