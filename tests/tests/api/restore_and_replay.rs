//! What a `#[restore]` function asks its context for, on a server that journals its messages.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use persistent_runtime::{Client, Context, MemoryStorage, Runtime, persistent_server};

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
        context.remind("wake", Duration::from_secs(3600), RemindedMessage::Wake);
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
