//! Replays of journaled messages: their results, and the effects that they must not have.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use persistent_runtime::{
    Address, CallError, Client, Commit, Context, MemoryStorage, Options, Persist, Record,
    ReplayError, Reply, Runtime, Server, ServerId, Storage, Update, persistent_server,
};
use persistent_tests::{FaultyStorage, Ledger, LedgerClient};
use serde::{Deserialize, Serialize};

fn record<S: Server>(storage: &MemoryStorage, key: &str) -> Option<Record> {
    storage.get(&ServerId::new(S::NAME, key))
}

async fn open(storage: &MemoryStorage) -> Runtime {
    Runtime::builder().open_with(storage.clone()).await.unwrap()
}

/// Appends raw messages to the stored ones.
async fn append(storage: &MemoryStorage, id: ServerId, bytes: &[u8]) {
    storage.commit(Commit::new(id, Update::Append(vec![bytes.into()]))).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_not_a_message_are_an_error_and_stay_unchanged() {
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
        // Repairing the server costs its state.
        open(&storage).await.at::<Ledger>("a", ()).delete().await.unwrap();
        assert_eq!(record::<Ledger>(&storage, "a"), None);
    }
}

/// A server whose code changes while the test runs.
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
            // Draws random numbers until one satisfies a condition.
            _ => while context.random() != 0 {},
        }
    }

    pub fn value(&self) -> u64 {
        self.0
    }
}

#[tokio::test]
async fn a_replay_that_diverges_is_an_error_and_changes_nothing() {
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
        (2, "did not read each time and random number"),
        (3, "had not read before"),
        (4, "had not read before"),
        (5, "changed a reminder"),
        (6, "had not read before"),
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

/// The first version of the program.
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

/// The second version: another state, and no migration of messages.
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

/// The third version, which migrates messages.
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

/// The fourth version, whose migrations lead from each version to the next.
mod fourth {
    use persistent_runtime::persistent_server;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Score {
        points: Vec<u64>,
    }

    #[derive(Deserialize)]
    struct Second(Vec<u64>);

    #[derive(Deserialize)]
    enum FirstForm {
        Add { points: u64 },
        Wink,
    }

    #[derive(Deserialize)]
    enum SecondForm {
        Note { points: u64, twice: bool },
    }

    #[persistent_server(name = "Score", version = 4, oldest = 1, journal = messages)]
    impl Score {
        #[migrate(from = 3)]
        fn from_third(points: Vec<u64>) -> Self {
            Self { points }
        }

        #[migrate(from = 1)]
        fn from_first(sum: u64) -> Second {
            Second(vec![sum])
        }

        #[migrate(from = 2)]
        fn from_second(old: Second) -> Vec<u64> {
            old.0
        }

        #[migrate_message(from = 1)]
        fn message_from_first(old: FirstForm) -> Option<SecondForm> {
            match old {
                FirstForm::Add { points } => Some(SecondForm::Note { points, twice: true }),
                FirstForm::Wink => None,
            }
        }

        #[migrate_message(from = 2)]
        fn message_from_second(old: SecondForm) -> (u64, bool) {
            let SecondForm::Note { points, twice } = old;
            (points, twice)
        }

        #[migrate_message(from = 3)]
        fn message_from_third(old: (u64, bool)) -> ScoreMessage {
            let (points, twice) = old;
            ScoreMessage::Note { points: vec![points; 1 + usize::from(twice)] }
        }

        pub fn note(&mut self, points: Vec<u64>) {
            self.points.extend(points);
        }

        pub fn points(&self) -> Vec<u64> {
            self.points.clone()
        }
    }
}

#[tokio::test]
async fn states_and_messages_are_migrated_from_each_version_to_the_next() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let score = runtime.at::<first::Score>("one", ());
    score.add(1).await.unwrap();
    score.stop("a snapshot").await.unwrap();
    for points in [2, 3] {
        score.add(points).await.unwrap();
        score.wink().await.unwrap();
    }
    drop(runtime);
    let runtime = open(&storage).await;
    let score = runtime.at::<third::Score>("two", ());
    score.note(1, false).await.unwrap();
    score.stop("a snapshot").await.unwrap();
    score.note(2, true).await.unwrap();
    drop(runtime);

    let runtime = open(&storage).await;
    let one = runtime.find::<fourth::Score>("one").await.unwrap();
    assert_eq!(one.points().await.unwrap(), [1, 2, 2, 3, 3]);
    let two = runtime.find::<fourth::Score>("two").await.unwrap();
    assert_eq!(two.points().await.unwrap(), [1, 2, 2]);
}

#[tokio::test]
async fn messages_of_an_earlier_version_are_refused_without_a_migration() {
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
        if matches!(**source, ReplayError::Version { stored: 1, current: 2, .. })));
    let text = error.to_string();
    for part in ["message 1 of 4 of Score \"a\"", "version 1", "migrate_message(from = 1)"] {
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
    score.kill().await.unwrap();
    assert_eq!(score.points().await.unwrap(), [1, 2, 3, 4, 4, 5]);
    drop(runtime);

    let runtime = open(&storage).await;
    let error = runtime.at::<first::Score>("a", ()).wink().await.unwrap_err();
    assert!(error.to_string().contains("run the newer program"), "{error}");
}

#[tokio::test]
async fn an_orderly_stop_of_the_old_program_leaves_no_messages_to_migrate() {
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
async fn a_migrated_server_is_stored_in_its_new_version_when_it_is_unloaded() {
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

mod sound {
    use std::time::Duration;

    use persistent_runtime::{Context, persistent_server};
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Fuse(u64);

    #[persistent_server(name = "Fuse", journal = messages)]
    impl Fuse {
        pub fn light(&mut self, context: &Context<Self>) {
            context.remind("end", Duration::from_secs(1), FuseMessage::End);
        }

        pub fn add(&mut self, length: u64) {
            self.0 += length;
        }

        #[info]
        fn end(&mut self) {}
    }
}

/// The next version, which panics when its reminder fires.
mod faulty {
    use persistent_runtime::persistent_server;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Fuse(Vec<u64>);

    #[derive(Deserialize)]
    enum Old {
        Light,
        Add { length: u64 },
        End,
    }

    #[persistent_server(name = "Fuse", version = 2, journal = messages)]
    impl Fuse {
        #[migrate(from = 1)]
        fn from_first(length: u64) -> Self {
            Self(vec![length])
        }

        #[migrate_message(from = 1)]
        fn message_from_first(old: Old) -> Option<FuseMessage> {
            match old {
                Old::Light => None,
                Old::Add { length } => Some(FuseMessage::Add { length }),
                Old::End => Some(FuseMessage::End),
            }
        }

        pub fn add(&mut self, length: u64) {
            self.0.push(length);
        }

        pub fn lengths(&self) -> Vec<u64> {
            self.0.clone()
        }

        #[info]
        fn end(&mut self) {
            panic!("bang");
        }
    }
}

/// The state is stored in the current version when it is stored with the failed reminder.
#[tokio::test(start_paused = true)]
async fn a_reminder_that_crashes_a_migrated_server_leaves_it_migrated() {
    let storage = MemoryStorage::new();
    let runtime = open(&storage).await;
    let fuse = runtime.at::<sound::Fuse>("a", ());
    fuse.light().await.unwrap();
    fuse.add(7).await.unwrap();
    drop(runtime);
    let before = record::<sound::Fuse>(&storage, "a").unwrap();
    assert_eq!((before.version, before.messages.len(), before.due.is_some()), (1, 1, true));

    let runtime = open(&storage).await;
    let fuse = runtime.at::<faulty::Fuse>("a", ());
    assert_eq!(fuse.lengths().await.unwrap(), [0, 7]);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let after = record::<faulty::Fuse>(&storage, "a").unwrap();
    assert_eq!((after.version, after.messages.len(), after.due > before.due), (2, 0, true));
    assert_eq!(fuse.lengths().await.unwrap(), [0, 7]);
}

/// The same server with `journal = state`.
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
async fn a_server_can_change_its_journal_mode() {
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

/// Uses every method of its context.
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
        context.continue_with(BusyMessage::Receive { what: "then".to_owned() });
        let receive = |what: &str| BusyMessage::Receive { what: what.to_owned() };
        context.send_after(Duration::from_millis(1), receive("timer"));
        context.attach_stream(futures::stream::iter([receive("stream")]));
        context.interval(Duration::from_hours(1), move || BusyMessage::Receive {
            what: String::new(),
        });
        self.others.push(context.client_of(&Address::<Ledger>::new("other", ())));
        let other = context.client_of(&Address::<Ledger>::new("other", ()));
        tokio::spawn(async move { other.book(1).await });
        let asked = context.resource::<AtomicUsize>("asked");
        let asked = asked.unwrap_or_else(|| context.insert_resource("asked", AtomicUsize::new(0)));
        asked.fetch_add(1, Ordering::SeqCst);
        self.log.len()
    }

    pub fn asked(&self, context: &Context<Self>) -> Option<usize> {
        context.resource::<AtomicUsize>("asked").map(|asked| asked.load(Ordering::SeqCst))
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
    fn receive(&mut self, what: String) {
        self.log.push(what);
    }
}

#[tokio::test(start_paused = true)]
async fn effects_of_a_message_do_not_repeat_in_a_replay() {
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
    assert_eq!(
        record::<Busy>(&storage, "a").unwrap().messages.len(),
        6,
        "each activation has its own"
    );
    let other = runtime.at::<Ledger>("other", ());
    assert_eq!(other.entries().await.unwrap(), [1]);
    drop(runtime);

    let runtime = open(&storage).await;
    let busy = runtime.at::<Busy>("a", ());
    assert_eq!(busy.log().await.unwrap(), log);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(busy.log().await.unwrap(), log);
    assert_eq!(busy.asked().await.unwrap(), None);
    let other = runtime.at::<Ledger>("other", ());
    assert_eq!(other.entries().await.unwrap(), [1]);
    assert_eq!(busy.ask().await.unwrap(), 7);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(busy.log().await.unwrap()[6..], ["ask", "then", "stream", "timer"]);
    assert_eq!(other.entries().await.unwrap(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn effects_of_a_message_happen_once_when_replays_are_checked() {
    let runtime = Runtime::builder().check_replay(true).in_memory().await.unwrap();
    let busy = runtime.start::<Busy>("a", ()).await.unwrap();
    busy.ask().await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(busy.log().await.unwrap(), ["ask", "then", "stream", "timer"]);
    assert_eq!(busy.asked().await.unwrap(), Some(1));
    let other = runtime.at::<Ledger>("other", ());
    assert_eq!(other.entries().await.unwrap(), [1]);
    let (answer, answered) = tokio::join!(busy.later(), busy.answer());
    assert_eq!(answer.unwrap(), 1);
    answered.unwrap();
}

/// A stop leaves a snapshot, so that only a refused stop is ever replayed.
#[tokio::test]
async fn a_replayed_stop_stops_nothing() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let busy = runtime.start::<Busy>("a", ()).await.unwrap();
    let id = ServerId::new("Busy", "a");
    append(&storage.states, id, b"\xa4Last").await;
    busy.kill().await.unwrap();
    let mut events = busy.watch().await.unwrap();
    assert_eq!(busy.log().await.unwrap(), ["last"]);
    busy.kill().await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(format!("{event:?}"));
        if seen.last().unwrap() == "Killed" {
            break;
        }
    }
    assert_eq!(seen, ["Started", "Killed"]);
}

/// Deterministic or not, depending on its argument.
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
        context.continue_with(SuspectMessage::Aside);
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
async fn the_replay_check_finds_a_nondeterministic_handler_and_discards_its_changes() {
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
            (suspect.takes_the_time().await, "takes_the_time"),
            (suspect.goes_through_a_set(words).await, "goes_through_a_set"),
            (suspect.panics_the_second_time().await, "panics_the_second_time"),
        ] {
            let error = caught.unwrap_err();
            assert!(
                matches!(&error, CallError::Diverged { method: name, .. } if name == method),
                "{error}"
            );
            assert!(error.to_string().contains(method), "{error}");
        }
        assert_eq!(suspect.seen().await.unwrap(), 6, "no crash was counted");
        runtime.shutdown(Duration::from_secs(1)).await.unwrap();
        let runtime = open(&storage).await;
        assert_eq!(runtime.at::<Suspect>("a", ()).seen().await.unwrap(), 6);
    }
}

/// A replay starts from the stored state, so that fields which are not stored are reset.
#[tokio::test]
async fn the_replay_check_starts_from_the_stored_form() {
    let runtime = Runtime::builder().check_replay(true).in_memory().await.unwrap();
    let suspect = runtime.at::<Suspect>("a", ());
    for _ in 0..3 {
        suspect.counts_what_is_not_stored().await.unwrap();
    }
    suspect.counts_what_is_not_stored().await.unwrap();
    let error = suspect.counts_what_is_not_stored().await.unwrap_err();
    assert!(matches!(error, CallError::Diverged { .. }), "a snapshot is between them: {error}");
    assert_eq!(suspect.seen().await.unwrap(), 4);

    suspect.counts_what_is_not_stored().await.unwrap();
    suspect.kill().await.unwrap();
    suspect.counts_what_is_not_stored().await.unwrap();
    suspect.forgets_what_is_not_stored().await.unwrap();
    suspect.counts_what_is_not_stored().await.unwrap();
    assert_eq!(suspect.seen().await.unwrap(), 8);
}

#[tokio::test]
async fn without_the_replay_check_no_message_is_handled_twice() {
    BOMB.store(false, Ordering::SeqCst);
    let runtime = Runtime::in_memory().await.unwrap();
    let suspect = runtime.at::<Suspect>("bomb", ());
    suspect.takes_the_time().await.unwrap();
    assert_eq!(suspect.seen().await.unwrap(), 1);
}
