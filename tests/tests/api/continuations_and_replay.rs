//! Continuations, and the effects of `#[restore]` and `#[started]` functions before the first message.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use persistent_runtime::{
    CallError, Client, Context, MemoryStorage, Observer, Record, Runtime, ServerId,
    persistent_server,
};
use persistent_tests::{Fault, FaultyStorage};
use serde::{Deserialize, Serialize};

/// Sets a reminder each time it is restored.
#[derive(Default)]
struct Reminded(u32);

#[persistent_server(journal = messages)]
impl Reminded {
    #[save]
    fn save(&self) -> u32 {
        self.0
    }

    #[restore]
    fn restore(saved: u32, context: &Context<Self>) -> Self {
        context.remind("wake", Duration::from_hours(1), RemindedMessage::Wake);
        Self(saved)
    }

    pub fn add(&mut self, n: u32) -> u32 {
        self.0 += n;
        self.0
    }

    pub fn reminders(&self, context: &Context<Self>) -> usize {
        context.reminders().len()
    }

    #[info]
    fn wake(&mut self) {}
}

/// Regression: the reminder was taken for one that the first replayed message had set, and the
/// server could never be activated again.
#[tokio::test]
async fn a_reminder_set_by_restore_is_not_attributed_to_a_replayed_message() {
    let runtime = Runtime::builder().open_with(MemoryStorage::new()).await.unwrap();
    let server = runtime.at::<Reminded>("a", ());
    for n in 1..=3 {
        server.add(n).await.unwrap();
    }
    server.kill().await.unwrap();
    assert_eq!(server.add(4).await.unwrap(), 10);
    assert_eq!(server.reminders().await.unwrap(), 1);
}

/// Sends itself a continuation each time it is restored.
#[derive(Default)]
struct Woken {
    sum: u32,
    woken: u32,
}

#[persistent_server(journal = messages)]
impl Woken {
    #[save]
    fn save(&self) -> u32 {
        self.sum
    }

    #[restore]
    fn restore(saved: u32, context: &Context<Self>) -> Self {
        context.continue_with(WokenMessage::Wake);
        Self { sum: saved, woken: 0 }
    }

    pub fn add(&mut self, n: u32) {
        self.sum += n;
    }

    pub fn woken(&self) -> u32 {
        self.woken
    }

    #[info]
    fn wake(&mut self) {
        self.woken += 1;
    }
}

/// Regression: the end of a replayed message dropped the continuation.
#[tokio::test]
async fn a_continuation_of_restore_is_handled_after_a_replay() {
    let runtime = Runtime::builder().open_with(MemoryStorage::new()).await.unwrap();
    let server = runtime.at::<Woken>("a", ());
    for _ in 0..3 {
        server.add(1).await.unwrap();
    }
    server.kill().await.unwrap();
    assert_eq!(server.woken().await.unwrap(), 1);
}

static TICKS: AtomicUsize = AtomicUsize::new(0);

/// Starts an interval each time it is restored.
#[derive(Default)]
struct Ticking(u32);

#[persistent_server(journal = messages)]
impl Ticking {
    #[save]
    fn save(&self) -> u32 {
        self.0
    }

    #[restore]
    fn restore(saved: u32, context: &Context<Self>) -> Self {
        context.interval(Duration::from_secs(1), || TickingMessage::Tick);
        Self(saved)
    }

    pub fn add(&mut self, n: u32) -> u32 {
        self.0 += n;
        self.0
    }

    #[info]
    fn tick(&self) {
        TICKS.fetch_add(1, SeqCst);
    }
}

/// Regression: the second state of a checked replay started sources of its own, which sent
/// messages to the server.
#[tokio::test(start_paused = true)]
async fn a_replay_check_starts_no_sources() {
    let runtime =
        Runtime::builder().check_replay(true).open_with(MemoryStorage::new()).await.unwrap();
    let server = runtime.at::<Ticking>("a", ());
    server.add(1).await.unwrap();
    server.kill().await.unwrap();
    server.add(2).await.unwrap();
    TICKS.store(0, SeqCst);
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert_eq!(TICKS.load(SeqCst), 10);
}

static CHANGES: AtomicUsize = AtomicUsize::new(0);
static MAX_BEHIND: AtomicUsize = AtomicUsize::new(0);

/// Counts committed changes.
struct Counting;

impl Observer for Counting {
    fn on_change(&self, _: &ServerId, _: Option<&Record>) {
        CHANGES.fetch_add(1, SeqCst);
    }
}

/// Imports in 1000 steps, each a continuation, before its first message.
#[derive(Default, Serialize, Deserialize)]
struct Import(usize);

#[persistent_server]
impl Import {
    #[started]
    fn begin(&self, context: &Context<Self>) {
        context.continue_with(ImportMessage::Step);
    }

    #[info]
    fn step(&mut self, context: &Context<Self>) {
        self.0 += 1;
        MAX_BEHIND.fetch_max(self.0.saturating_sub(CHANGES.load(SeqCst)), SeqCst);
        if self.0 < 1000 {
            context.continue_with(ImportMessage::Step);
        }
    }

    pub fn steps(&self) -> usize {
        self.0
    }
}

/// Regression: no step was committed before the last one, and the callback of each waited in
/// memory.
#[tokio::test]
async fn continuations_are_committed_one_by_one() {
    let runtime = Runtime::builder().observer(Counting).in_memory().await.unwrap();
    assert_eq!(runtime.at::<Import>("a", ()).steps().await.unwrap(), 1000);
    assert!(MAX_BEHIND.load(SeqCst) <= 3, "{MAX_BEHIND:?} steps were not committed");
}

#[tokio::test]
async fn a_replay_check_attributes_no_reminder_of_restore_to_a_message() {
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().check_replay(true).open_with(storage).await.unwrap();
    let server = runtime.at::<Reminded>("a", ());
    for _ in 0..2 {
        let count = server.add(1).await.unwrap();
        assert_eq!(server.add(1).await.unwrap(), count + 1);
        server.kill().await.unwrap();
    }
    assert_eq!(server.reminders().await.unwrap(), 1);
}

/// Continues once.
#[derive(Default, Serialize, Deserialize)]
struct Short(usize);

#[persistent_server]
impl Short {
    #[started]
    fn begin(&self, context: &Context<Self>) {
        context.continue_with(ShortMessage::Step);
    }

    #[info]
    fn step(&mut self) {
        self.0 += 1;
    }

    pub fn steps(&self) -> usize {
        self.0
    }
}

#[tokio::test]
async fn a_commit_that_fails_between_continuations_is_not_acknowledged() {
    for fault in [Fault::Refuse, Fault::None] {
        let storage = FaultyStorage::default();
        storage.on_commit(fault);
        let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
        let is_stored = |key| storage.states.get(&ServerId::new("Short", key)).is_some();
        let started = runtime.start::<Short>("started", ()).await;
        assert_eq!(started.is_ok(), is_stored("started"));
        let read = runtime.at::<Short>("read", ()).steps().await;
        assert_eq!(read.is_ok(), is_stored("read"));
        assert_eq!(read.is_ok(), matches!(fault, Fault::None));
    }
}

/// Continues twice, and counts the continuations that have run outside of its state.
#[derive(Default, Serialize, Deserialize)]
struct Walk(u64);

#[persistent_server]
impl Walk {
    pub fn begin(&mut self, waits: bool, context: &Context<Self>) {
        self.0 += 1;
        context.continue_with(if waits { WalkMessage::Stroll } else { WalkMessage::Step });
        context.continue_with(WalkMessage::Step);
    }

    #[info]
    fn step(&mut self, context: &Context<Self>) {
        self.0 += 1;
        context.extension::<Arc<AtomicUsize>>().unwrap().fetch_add(1, SeqCst);
    }

    #[info]
    async fn stroll(&mut self, context: &Context<Self>) {
        self.step(context);
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.step(context);
    }

    pub fn steps(&self) -> u64 {
        self.0
    }
}

/// A continuation does not wait for the commit of the message that asked for it. If that commit
/// fails, the changes of the continuations that have run are undone, and the others are discarded.
#[tokio::test(start_paused = true)]
async fn a_continuation_shares_the_fate_of_the_commit_that_it_overtakes() {
    // Of the continuations, both sync ones run before the commit fails. The async one is in
    // progress then, and the one behind it never runs.
    for (waits, early, late) in [(false, 2, 2), (true, 1, 2)] {
        let storage = FaultyStorage::default();
        let ran = Arc::new(AtomicUsize::new(0));
        let builder = Runtime::builder().extension(ran.clone());
        let runtime = builder.open_with(storage.clone()).await.unwrap();
        let walk = runtime.start::<Walk>("a", ()).await.unwrap();
        storage.on_next_commit(Fault::RefuseLate(Duration::from_secs(1)));
        let look = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            ran.load(SeqCst)
        };
        let (begun, seen) = tokio::join!(walk.begin(waits), look);
        assert!(matches!(begun, Err(CallError::Storage { .. })), "{waits}: {begun:?}");
        assert_eq!(seen, early, "{waits}: continuations wait for no commit");
        assert_eq!(walk.steps().await.unwrap(), 0, "{waits}: undone");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!((walk.steps().await.unwrap(), ran.load(SeqCst)), (0, late), "{waits}");
        // Without a failure, all of them run and are stored.
        walk.begin(waits).await.unwrap();
        let steps = walk.steps().await.unwrap();
        walk.kill().await.unwrap();
        let expected = if waits { 4 } else { 3 };
        assert_eq!((steps, walk.steps().await.unwrap()), (expected, expected), "{waits}");
    }
}
