//! Reminders that fail, and their effect on other reminders.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use persistent_runtime::{Context, Options, Runtime, persistent_server};
use persistent_tests::FaultyStorage;
use serde::{Deserialize, Deserializer, Serialize};

const SECOND: Duration = Duration::from_secs(1);

mod before {
    use persistent_runtime::{Context, persistent_server};
    use serde::{Deserialize, Serialize};

    use super::SECOND;

    #[derive(Default, Serialize, Deserialize)]
    pub struct Shift {
        rings: u64,
    }

    #[persistent_server(name = "shift")]
    impl Shift {
        pub fn set(&mut self, context: &Context<Self>) {
            context.remind("dropped", SECOND, ShiftMessage::Dropped);
            context.remind("ring", 2 * SECOND, ShiftMessage::Ring);
        }

        #[info]
        fn dropped(&mut self) {}

        #[info]
        fn ring(&mut self) {
            self.rings += 1;
        }
    }
}

mod after {
    use persistent_runtime::persistent_server;
    use serde::{Deserialize, Serialize};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Shift {
        rings: u64,
    }

    #[persistent_server(name = "shift")]
    impl Shift {
        #[info]
        fn ring(&mut self) {
            self.rings += 1;
        }

        pub fn rings(&self) -> u64 {
            self.rings
        }
    }
}

/// Regression: a reminder whose message the new version could not decode was retried
/// again and again, and the reminders after it never fired.
#[tokio::test(start_paused = true)]
async fn a_reminder_that_cannot_be_decoded_blocks_no_other() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    runtime.at::<before::Shift>("a", ()).set().await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    let runtime = Runtime::builder().register::<after::Shift>().open_with(storage).await.unwrap();
    tokio::time::sleep(3600 * SECOND).await;
    assert_eq!(runtime.at::<after::Shift>("a", ()).rings().await.unwrap(), 1);
}

/// A server with timers and reminders.
#[derive(Default, Serialize, Deserialize)]
struct Alarm {
    rings: u64,
}

#[persistent_server]
impl Alarm {
    pub fn remind(&mut self, wait: Duration, context: &Context<Self>) {
        context.remind("ring", wait, AlarmMessage::Ring);
    }

    pub fn remind_slowly(&mut self, wait: Duration, takes: Duration, context: &Context<Self>) {
        context.remind("slow", wait, AlarmMessage::Slow { takes });
    }

    #[info]
    fn ring(&mut self) {
        self.rings += 1;
    }

    #[info]
    async fn slow(&mut self, takes: Duration) {
        tokio::time::sleep(takes).await;
    }

    pub fn rings(&self) -> u64 {
        self.rings
    }
}

/// Regression: the reminder scheduler of a type waited until each reminder had been
/// handled.
#[tokio::test(start_paused = true)]
async fn a_slow_reminder_does_not_delay_those_of_other_servers() {
    let runtime = Runtime::builder()
        .defaults(Options::new().call_timeout(3600 * SECOND))
        .in_memory()
        .await
        .unwrap();
    let (slow, other) = (runtime.at::<Alarm>("slow", ()), runtime.at::<Alarm>("other", ()));
    slow.remind_slowly(SECOND, 600 * SECOND).await.unwrap();
    other.remind(2 * SECOND).await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(other.rings().await.unwrap(), 1);
}

/// Makes the next tick panic. A static, because the state is rolled back.
static UNLUCKY: AtomicBool = AtomicBool::new(false);

/// Sets the next reminder at each tick and at each activation.
#[derive(Default, Serialize, Deserialize)]
struct Clock {
    ticks: u64,
}

#[persistent_server(restart = permanent)]
impl Clock {
    #[started]
    fn started(&self, context: &Context<Self>) {
        context.remind("tick", 60 * SECOND, ClockMessage::Tick);
    }

    #[info]
    fn tick(&mut self, context: &Context<Self>) {
        context.remind("tick", 60 * SECOND, ClockMessage::Tick);
        self.ticks += 1;
        assert!(!UNLUCKY.swap(false, Ordering::SeqCst), "unlucky");
    }

    pub fn ticks(&self) -> u64 {
        self.ticks
    }
}

/// A reminder whose message panics is deleted. Regression: this also deleted the reminder
/// that `started` had set under the same name, so that the clock stopped.
#[tokio::test(start_paused = true)]
async fn a_reminder_set_by_started_after_its_crash_is_kept() {
    let runtime =
        Runtime::builder().defaults(Options::new().idle_timeout(None)).in_memory().await.unwrap();
    let clock = runtime.at::<Clock>("a", ());
    clock.ticks().await.unwrap();
    tokio::time::sleep(150 * SECOND).await;
    assert_eq!(clock.ticks().await.unwrap(), 2);
    UNLUCKY.store(true, Ordering::SeqCst);
    tokio::time::sleep(600 * SECOND).await;
    assert!(!UNLUCKY.load(Ordering::SeqCst), "the server has crashed");
    assert!(clock.ticks().await.unwrap() > 2);
}

/// Can be encoded, and panics when it is decoded.
#[derive(Clone, Debug, Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("a Deserialize that panics")
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Reader {
    count: u64,
}

#[persistent_server]
impl Reader {
    pub fn set(&mut self, context: &Context<Self>) {
        context.remind("read", SECOND, ReaderMessage::Take { _unreadable: Unreadable });
    }

    #[info]
    fn take(&mut self, _unreadable: Unreadable) {}

    pub async fn nap(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Regression: this panic occurred outside any handler. It ended the server's task, and
/// all messages queued behind the reminder were lost.
#[tokio::test(start_paused = true)]
async fn a_reminder_that_panics_while_decoding_loses_only_itself() {
    let runtime = Runtime::builder().check_states(false).in_memory().await.unwrap();
    let server = runtime.at::<Reader>("a", ());
    server.set().await.unwrap();
    let nap = tokio::spawn({
        let server = server.clone();
        async move { server.nap(3 * SECOND).await }
    });
    tokio::time::sleep(2 * SECOND).await;
    let queued = tokio::spawn({
        let server = server.clone();
        async move { server.count().await }
    });
    nap.await.unwrap().unwrap();
    assert_eq!(queued.await.unwrap().unwrap(), 0);
}
