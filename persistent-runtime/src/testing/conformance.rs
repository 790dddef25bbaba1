//! A test suite for implementations of [`Storage`].
//!
//! An implementation calls [`run`] in a test:
//!
//! ```
//! use std::{collections::HashMap, sync::Mutex};
//!
//! use persistent_runtime::{MemoryStorage, testing::conformance};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! // The content of a database must survive its closing, so there is one storage per name.
//! let databases = Mutex::new(HashMap::<String, MemoryStorage>::new());
//! conformance::run(async |name: &str| {
//!     Ok(databases.lock().unwrap().entry(name.to_owned()).or_default().clone())
//! })
//! .await;
//! # }
//! ```
//!
//! The suite checks what the documentation of [`Storage`] and [`Update`] promises, as far as that
//! is visible without faults of the disk or the network: those are for tests of the implementation.

use std::{ops::Bound, sync::Arc};

use tokio::task::JoinSet;

use crate::{
    id::ServerId,
    storage::{Commit, Completion, Record, Storage, StorageError, StorageErrorKind, Update},
};

/// Runs all checks.
///
/// `open` opens the database of the given name, and creates an empty one if there is none. The
/// suite uses several names, and opens a database again after closing it. It must run inside a
/// tokio runtime with time enabled.
///
/// # Panics
/// If a check fails. The message names the check.
pub async fn run<S: Storage>(open: impl AsyncFn(&str) -> Result<S, StorageError>) {
    let begin = async |name: &'static str| {
        let storage = open(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        Subject { name, storage: Arc::new(storage) }
    };
    records_are_loaded_as_they_were_committed(begin("records").await).await;
    a_put_replaces_and_a_delete_deletes_everything(begin("replace").await).await;
    appended_messages_stay_in_order(begin("append").await).await;
    an_append_without_a_record_fails_alone(begin("no record").await).await;
    kinds_are_separate(begin("separate kinds").await).await;
    keys_are_listed_in_pages(begin("keys").await).await;
    due_servers_are_listed_in_pages(begin("due").await).await;
    kinds_are_listed_in_pages(begin("kinds").await).await;
    servers_commit_concurrently(begin("concurrency").await).await;
    dropped_futures_harm_no_later_commit(begin("dropped futures").await).await;
    closing_ends_what_was_submitted(begin("close").await, begin).await;
}

/// A storage under test.
struct Subject<S> {
    name: &'static str,
    storage: Arc<S>,
}

impl<S: Storage> Subject<S> {
    async fn commit(&self, server: &ServerId, update: Update) {
        let commit = Commit::new(server.clone(), update);
        let outcome = self.storage.commit(commit).await;
        outcome.unwrap_or_else(|error| panic!("{}: commit of {server}: {error}", self.name));
    }

    /// Submits a commit, as the runtime does, and returns the future of its outcome.
    fn submit(
        &self,
        commit: Commit,
    ) -> impl Future<Output = Result<(), StorageError>> + Send + use<S> {
        let (completion, outcome) = Completion::channel();
        self.storage.clone().submit(commit, completion);
        outcome
    }

    async fn load(&self, server: &ServerId) -> Option<Record> {
        let record = self.storage.load(server).await;
        record.unwrap_or_else(|error| panic!("{}: load of {server}: {error}", self.name))
    }

    async fn assert_stored(&self, server: &ServerId, expected: Option<&Record>) {
        let found = self.load(server).await;
        let is_same = found.as_ref() == expected;
        assert!(is_same, "{}: {server} is {found:?}, expected {expected:?}", self.name);
    }

    async fn assert_count(&self, kind: &str, expected: u64) {
        let count = self.storage.count(kind).await;
        let count = count.unwrap_or_else(|error| panic!("{}: count: {error}", self.name));
        assert_eq!(count, expected, "{}: count of {kind:?}", self.name);
    }

    async fn keys(&self, kind: &str, from: Bound<&str>, limit: usize) -> Vec<String> {
        let keys = self.storage.keys(kind, from, limit).await;
        texts(keys.unwrap_or_else(|error| panic!("{}: keys: {error}", self.name)))
    }

    async fn kinds(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        let kinds = self.storage.kinds(after, limit).await;
        texts(kinds.unwrap_or_else(|error| panic!("{}: kinds: {error}", self.name)))
    }

    async fn due(
        &self,
        kind: &str,
        after: Option<(u64, &str)>,
        limit: usize,
    ) -> Vec<(u64, String)> {
        let due = self.storage.due(kind, after, limit).await;
        let due = due.unwrap_or_else(|error| panic!("{}: due: {error}", self.name));
        due.into_iter().map(|(due, key)| (due, key.to_string())).collect()
    }

    async fn end(self) {
        let closed = self.storage.close().await;
        closed.unwrap_or_else(|error| panic!("{}: close: {error}", self.name));
    }
}

fn texts(texts: Vec<Arc<str>>) -> Vec<String> {
    texts.into_iter().map(|text| text.to_string()).collect()
}

fn id(key: &str) -> ServerId {
    ServerId::new("kind", key)
}

fn record(state: &[u8]) -> Record {
    Record::new(1, 1, state)
}

fn put(state: &[u8]) -> Update {
    Update::Put(record(state))
}

fn messages(texts: &[&str]) -> Vec<Arc<[u8]>> {
    texts.iter().map(|text| text.as_bytes().into()).collect()
}

/// Keys and kinds that a storage may be tempted to change.
fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> =
        ["", " ", "a", "A", "a ", "'", "\"", "%", "_", "\\", "a\0b", "\0", "ä", "🦀", "a\u{308}"]
            .map(str::to_owned)
            .into();
    texts.push("long ".repeat(200));
    texts
}

async fn records_are_loaded_as_they_were_committed<S: Storage>(subject: Subject<S>) {
    let due = |due| record(b"state").with_reminders(*b"reminders", Some(due));
    let records = [
        record(b""),
        record(b"state"),
        Record::new(u32::MAX, u32::MAX, &b"\0\xff"[..]),
        due(0),
        due(u64::MAX / 2),
        record(b"state").with_reminders(*b"reminders", None),
        record(b"state").with_messages(messages(&["one", "", "three"])),
        record(&vec![7; 5_000_000]).with_messages(vec![vec![8; 1_000_000].into()]),
    ];
    for (nth, record) in records.iter().enumerate() {
        let server = id(&nth.to_string());
        subject.assert_stored(&server, None).await;
        subject.commit(&server, Update::Put(record.clone())).await;
        subject.assert_stored(&server, Some(record)).await;
    }
    for key in odd_texts() {
        subject.commit(&ServerId::new("odd", &*key), put(key.as_bytes())).await;
    }
    for key in odd_texts() {
        let server = ServerId::new("odd", &*key);
        subject.assert_stored(&server, Some(&record(key.as_bytes()))).await;
    }
    subject.end().await;
}

async fn a_put_replaces_and_a_delete_deletes_everything<S: Storage>(subject: Subject<S>) {
    let server = id("a");
    let full = record(b"old").with_reminders(*b"r", Some(5)).with_messages(messages(&["1", "2"]));
    subject.commit(&server, Update::Put(full.clone())).await;
    subject.commit(&server, put(b"new")).await;
    subject.assert_stored(&server, Some(&record(b"new"))).await;
    assert_eq!(subject.due("kind", None, 9).await, [], "{}: the record is replaced", subject.name);
    subject.commit(&server, Update::Put(full)).await;
    for _ in 0..2 {
        subject.commit(&server, Update::Delete).await;
        subject.assert_stored(&server, None).await;
        subject.assert_count("kind", 0).await;
        assert_eq!(subject.due("kind", None, 9).await, [], "{}: deleted", subject.name);
    }
    subject.commit(&server, put(b"again")).await;
    subject.assert_stored(&server, Some(&record(b"again"))).await;
    subject.end().await;
}

async fn appended_messages_stay_in_order<S: Storage>(subject: Subject<S>) {
    let server = id("a");
    let first = record(b"state").with_reminders(*b"r", Some(7)).with_messages(messages(&["0"]));
    subject.commit(&server, Update::Put(first.clone())).await;
    let mut expected = vec!["0".to_owned()];
    for round in 0..20 {
        let more: Vec<_> = (0..round % 4).map(|nth| format!("{round}.{nth}")).collect();
        let texts: Vec<_> = more.iter().map(String::as_str).collect();
        subject.commit(&server, Update::Append(messages(&texts))).await;
        expected.extend(more);
        let texts: Vec<_> = expected.iter().map(String::as_str).collect();
        let stored = first.clone().with_messages(messages(&texts));
        subject.assert_stored(&server, Some(&stored)).await;
    }
    let due = subject.due("kind", None, 9).await;
    assert_eq!(due, [(7, "a".to_owned())], "{}: appends keep the due time", subject.name);
    subject.end().await;
}

async fn an_append_without_a_record_fails_alone<S: Storage>(subject: Subject<S>) {
    subject.commit(&id("deleted"), put(b"state")).await;
    subject.commit(&id("deleted"), Update::Delete).await;
    for key in ["deleted", "never"] {
        let server = id(key);
        let append = Commit::new(server.clone(), Update::Append(messages(&["1"])));
        let neighbour = Commit::new(id("neighbour"), put(key.as_bytes()));
        let (wrong, right) = (subject.submit(append), subject.submit(neighbour));
        let name = subject.name;
        if let Err(error) = wrong.await {
            assert_eq!(error.kind(), StorageErrorKind::NoRecord, "{name}: {error}");
        }
        let right = right.await;
        right.unwrap_or_else(|error| panic!("{name}: the neighbour failed: {error}"));
        let found = subject.storage.load(&server).await;
        assert!(!matches!(found, Ok(Some(_))), "{name}: the append created {found:?}");
        let stored = record(key.as_bytes());
        subject.assert_stored(&id("neighbour"), Some(&stored)).await;
    }
    subject.end().await;
}

async fn kinds_are_separate<S: Storage>(subject: Subject<S>) {
    for kind in odd_texts() {
        for key in ["", "a", "kind"] {
            let server = ServerId::new(kind.clone(), key);
            subject.commit(&server, put(format!("{kind} {key}").as_bytes())).await;
        }
    }
    for kind in odd_texts() {
        for key in ["", "a", "kind"] {
            let server = ServerId::new(kind.clone(), key);
            let stored = record(format!("{kind} {key}").as_bytes());
            subject.assert_stored(&server, Some(&stored)).await;
        }
        assert_eq!(
            subject.keys(&kind, Bound::Unbounded, 9).await,
            ["", "a", "kind"],
            "{}",
            subject.name
        );
        subject.assert_count(&kind, 3).await;
    }
    subject.assert_count("no such kind", 0).await;
    subject.end().await;
}

async fn keys_are_listed_in_pages<S: Storage>(subject: Subject<S>) {
    let name = subject.name;
    let mut all = odd_texts();
    for key in all.iter().rev() {
        subject.commit(&id(key), put(b"state")).await;
    }
    for kind in ["kinc", "kind ", "kind2"] {
        subject.commit(&ServerId::new(kind, "other"), put(b"state")).await;
    }
    subject.commit(&id("deleted"), put(b"state")).await;
    subject.commit(&id("deleted"), Update::Delete).await;
    all.sort_unstable();
    subject.assert_count("kind", all.len() as u64).await;
    for limit in [0, 1, 2, 7, all.len(), all.len() + 1] {
        let page = subject.keys("kind", Bound::Unbounded, limit).await;
        assert_eq!(page, all[..limit.min(all.len())], "{name}: the first {limit}");
    }
    for after in all.iter().map(String::as_str).chain(["a!", "deleted", "zzz", "\u{10ffff}"]) {
        let expected: Vec<_> = all.iter().filter(|key| &***key > after).cloned().collect();
        let page = subject.keys("kind", Bound::Excluded(after), 99).await;
        assert_eq!(page, expected, "{name}: after {after:?}");
        let page = subject.keys("kind", Bound::Excluded(after), 2).await;
        assert_eq!(page, expected[..expected.len().min(2)], "{name}: two after {after:?}");
        let expected: Vec<_> = all.iter().filter(|key| &***key >= after).cloned().collect();
        let page = subject.keys("kind", Bound::Included(after), 99).await;
        assert_eq!(page, expected, "{name}: from {after:?}");
    }
    subject.end().await;
}

async fn due_servers_are_listed_in_pages<S: Storage>(subject: Subject<S>) {
    let name = subject.name;
    let due_at = |due| Update::Put(record(b"state").with_reminders(*b"r", due));
    let mut all: Vec<(u64, String)> = Vec::new();
    for (nth, key) in (0_u64..).zip(odd_texts()) {
        // Several servers are due at once, and the order of the times is not that of the keys.
        let due = nth * 7 % 5 * 1_000_000_000_000;
        subject.commit(&id(&key), due_at(Some(due))).await;
        all.push((due, key));
    }
    for (key, updates) in [
        ("moved", [due_at(Some(3)), due_at(Some(2))]),
        ("unset", [due_at(Some(3)), due_at(None)]),
        ("gone", [due_at(Some(3)), Update::Delete]),
    ] {
        for update in updates {
            subject.commit(&id(key), update).await;
        }
    }
    subject.commit(&ServerId::new("kind2", "other"), due_at(Some(1))).await;
    all.push((2, "moved".to_owned()));
    all.sort_unstable();
    for limit in [0, 1, 2, 7, all.len(), all.len() + 1] {
        let page = subject.due("kind", None, limit).await;
        assert_eq!(page, all[..limit.min(all.len())], "{name}: the first {limit}");
    }
    let known = all.iter().map(|(due, key)| (*due, &**key));
    for after in known.chain([(0, "b"), (1, "b"), (u64::MAX / 2, "")]) {
        let is_after = |(due, key): &&(u64, String)| (*due, &**key) > after;
        let expected: Vec<_> = all.iter().filter(is_after).cloned().collect();
        let page = subject.due("kind", Some(after), 99).await;
        assert_eq!(page, expected, "{name}: after {after:?}");
    }
    subject.end().await;
}

async fn kinds_are_listed_in_pages<S: Storage>(subject: Subject<S>) {
    let name = subject.name;
    assert_eq!(subject.kinds(None, 9).await, [""; 0], "{name}: an empty database");
    let mut all = odd_texts();
    for kind in &all {
        for key in ["a", "b"] {
            subject.commit(&ServerId::new(kind.clone(), key), put(b"state")).await;
        }
    }
    for key in ["a", "b"] {
        subject.commit(&ServerId::new("deleted", key), put(b"state")).await;
        subject.commit(&ServerId::new("deleted", key), Update::Delete).await;
    }
    subject.commit(&ServerId::new("a", "a"), Update::Delete).await;
    all.sort_unstable();
    for limit in [0, 1, 2, 7, all.len(), all.len() + 1] {
        let page = subject.kinds(None, limit).await;
        assert_eq!(page, all[..limit.min(all.len())], "{name}: the first {limit}");
    }
    for after in all.iter().map(String::as_str).chain(["a!", "deleted", "zzz", "\u{10ffff}"]) {
        let expected: Vec<_> = all.iter().filter(|kind| &***kind > after).cloned().collect();
        assert_eq!(subject.kinds(Some(after), 99).await, expected, "{name}: after {after:?}");
    }
    subject.end().await;
}

async fn servers_commit_concurrently<S: Storage>(subject: Subject<S>) {
    const SERVERS: u64 = 100;
    const COMMITS: u64 = 20;
    let subject = Arc::new(subject);
    let mut servers = JoinSet::new();
    for nth in 0..SERVERS {
        let subject = subject.clone();
        servers.spawn(async move {
            let server = id(&nth.to_string());
            for sequence in 1..=COMMITS {
                let update = put(&(nth * 1000 + sequence).to_le_bytes());
                let commit = Commit::new(server.clone(), update).with_sequence(sequence);
                let outcome = subject.submit(commit).await;
                outcome.unwrap_or_else(|error| panic!("{}: {server}: {error}", subject.name));
                let stored = record(&(nth * 1000 + sequence).to_le_bytes());
                subject.assert_stored(&server, Some(&stored)).await;
            }
        });
    }
    servers.join_all().await;
    subject.assert_count("kind", SERVERS).await;
    let subject = Arc::into_inner(subject).expect("all tasks have ended");
    subject.end().await;
}

async fn dropped_futures_harm_no_later_commit<S: Storage>(subject: Subject<S>) {
    let server = id("a");
    for nth in 0..100_u8 {
        drop(subject.storage.commit(Commit::new(id("other"), put(&[nth]))));
        drop(subject.storage.load(&server));
        drop(subject.submit(Commit::new(id("unheard"), put(&[nth]))));
        subject.commit(&server, put(&[nth])).await;
        subject.assert_stored(&server, Some(&record(&[nth]))).await;
    }
    subject.end().await;
}

/// Submits commits, closes, and opens the database again.
async fn closing_ends_what_was_submitted<S: Storage>(
    subject: Subject<S>,
    begin: impl AsyncFn(&'static str) -> Subject<S>,
) {
    let name = subject.name;
    subject.commit(&id("before"), put(b"before")).await;
    let outcomes: Vec<_> = (0..100_u8)
        .map(|nth| subject.submit(Commit::new(id(&nth.to_string()), put(&[nth]))))
        .collect();
    for _ in 0..2 {
        let closed = subject.storage.close().await;
        closed.unwrap_or_else(|error| panic!("{name}: close: {error}"));
    }
    // A storage with nothing to release may stay open.
    let late = subject.storage.commit(Commit::new(id("late"), put(b"late"))).await;
    let calls = [
        late.clone(),
        subject.storage.load(&id("before")).await.map(drop),
        subject.storage.kinds(None, 1).await.map(drop),
        subject.storage.keys("kind", Bound::Unbounded, 1).await.map(drop),
        subject.storage.due("kind", None, 1).await.map(drop),
        subject.storage.count("kind").await.map(drop),
    ];
    for call in calls {
        if let Err(error) = call {
            assert_eq!(error.kind(), StorageErrorKind::Closed, "{name}: {error}");
        }
    }
    drop(subject);

    let subject = begin(name).await;
    subject.assert_stored(&id("before"), Some(&record(b"before"))).await;
    let late = late.is_ok().then(|| record(b"late"));
    subject.assert_stored(&id("late"), late.as_ref()).await;
    for (nth, outcome) in (0..).zip(outcomes) {
        if outcome.await.is_ok() {
            subject.assert_stored(&id(&nth.to_string()), Some(&record(&[nth]))).await;
        }
    }
    subject.end().await;
}
