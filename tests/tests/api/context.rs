//! The effects that a handler can ask its context for: continuations, timers, streams,
//! reminders, deferred replies and resources.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::{Duration, SystemTime},
};

use futures_core::Stream;
use persistent_runtime::{
    CallError, Client, Context, Options, Reply, Restart, Runtime, ServerId, Source, StopReason,
    persistent_server,
};
use persistent_tests::{Fault, FaultyStorage};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Records the messages that it handles.
#[derive(Default, Serialize, Deserialize)]
struct Diary {
    entries: Vec<String>,
    #[serde(skip)]
    waiting: Vec<Reply<usize>>,
    #[serde(skip)]
    source: Option<Source>,
}

#[persistent_server(max_restarts(100, within = "1s"))]
impl Diary {
    #[cast]
    pub fn write(&mut self, entry: String) {
        self.entries.push(entry);
    }

    #[info]
    fn note(&mut self, entry: String) {
        self.entries.push(entry);
    }

    #[info]
    fn burn(&mut self) {
        self.entries.clear();
        panic!("burnt");
    }

    pub fn entries(&self) -> Vec<String> {
        self.entries.clone()
    }

    pub fn write_then(&mut self, entry: String, then: Vec<String>, context: &Context<Self>) {
        self.entries.push(entry);
        for entry in then {
            context.continue_with(DiaryMessage::Note { entry });
        }
    }

    pub fn crash_after_then(&mut self, context: &Context<Self>) {
        context.continue_with(DiaryMessage::Note { entry: "never".into() });
        context.remind("never", Duration::ZERO, DiaryMessage::Note { entry: "never".into() });
        context.stop("never");
        panic!("on purpose");
    }

    pub fn write_later(&mut self, wait: Duration, entry: String, context: &Context<Self>) {
        self.source = Some(context.send_after(wait, DiaryMessage::Note { entry }));
    }

    pub fn write_often(&mut self, period: Duration, context: &Context<Self>) {
        let message = || DiaryMessage::Note { entry: "tick".into() };
        self.source = Some(context.interval(period, message));
    }

    pub fn cancel(&mut self) {
        if let Some(source) = self.source.take() {
            source.cancel();
        }
    }

    pub async fn cancel_after(&mut self, wait: Duration) {
        tokio::time::sleep(wait).await;
        self.cancel();
    }

    pub fn finished(&self) -> bool {
        self.source.as_ref().is_none_or(Source::is_finished)
    }

    pub fn copy(&mut self, lines: u64, context: &Context<Self>) {
        self.source = Some(context.attach_stream(Lines { left: lines }));
    }

    pub fn remind(&mut self, name: String, wait: Duration, context: &Context<Self>) {
        context.remind(&name, wait, DiaryMessage::Note { entry: name.clone() });
    }

    pub fn remind_to_burn(&mut self, wait: Duration, context: &Context<Self>) {
        context.remind("burn", wait, DiaryMessage::Burn);
    }

    pub fn forget(&mut self, name: String, context: &Context<Self>) -> bool {
        context.cancel_reminder(&name)
    }

    /// Returns the pending reminders.
    pub fn reminders(&self, context: &Context<Self>) -> Vec<(String, SystemTime)> {
        let reminders = context.reminders().into_iter();
        reminders.filter_map(|reminder| Some((reminder.name, reminder.due?))).collect()
    }

    /// Deferred: the next `publish` sends the reply.
    pub fn subscribe(&mut self, reply: Reply<usize>) {
        self.waiting.push(reply);
    }

    #[cast]
    pub fn publish(&mut self, entry: String) {
        self.entries.push(entry);
        for reply in self.waiting.drain(..) {
            reply.send(self.entries.len());
        }
    }

    #[cast]
    pub fn publish_and_crash(&mut self) {
        for reply in self.waiting.drain(..) {
            reply.send(77);
        }
        panic!("after the reply was sent");
    }

    /// Deferred: a task sends the reply after `wait`.
    pub fn ponder(&mut self, wait: Duration, reply: Reply<String>) {
        self.entries.push("pondered".into());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            reply.send("42".into());
        });
    }

    pub fn keep(&mut self, name: String, value: String, context: &Context<Self>) {
        context.insert_resource(&name, value);
        context.insert_resource(&name, Connection(name.len()));
    }

    pub fn kept(&self, name: String, context: &Context<Self>) -> Option<(String, usize)> {
        let connection = context.resource::<Connection>(&name)?.0;
        Some((context.resource::<String>(&name)?.to_string(), connection))
    }

    pub fn remove(&mut self, name: String, context: &Context<Self>) -> bool {
        context.remove_resource::<String>(&name).is_some()
    }

    pub fn crash(&mut self) {
        self.entries.clear();
        panic!("on purpose");
    }
}

struct Connection(usize);

/// A stream of numbered lines.
struct Lines {
    left: u64,
}

impl Stream for Lines {
    type Item = DiaryMessage;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<DiaryMessage>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(DiaryMessage::Note { entry: self.left.to_string() }))
    }
}

async fn diary() -> (Runtime, FaultyStorage, DiaryClient) {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder()
        .configure::<Diary>(Options::new().idle_timeout(3600 * SECOND))
        .open_with(storage.clone())
        .await
        .unwrap();
    let diary = runtime.at::<Diary>("a", ());
    (runtime, storage, diary)
}

fn strings<const N: usize>(entries: [&str; N]) -> Vec<String> {
    entries.map(str::to_owned).into()
}

#[tokio::test(start_paused = true)]
async fn a_continuation_runs_before_all_queued_messages() {
    let (_runtime, storage, diary) = diary().await;
    diary.entries().await.unwrap();
    let queued: Vec<_> = (0..3)
        .map(|n| {
            let diary = diary.clone();
            tokio::spawn(async move {
                if n == 0 {
                    diary.write_then("0".into(), strings(["then 0", "then 1"])).await.unwrap();
                } else {
                    diary.write(n.to_string()).await.unwrap();
                }
            })
        })
        .collect();
    for task in queued {
        task.await.unwrap();
    }
    assert_eq!(diary.entries().await.unwrap(), ["0", "then 0", "then 1", "1", "2"]);
    diary.kill().await.unwrap();
    assert_eq!(diary.entries().await.unwrap().len(), 5, "each continuation is committed");
    assert!(storage.writes() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_discards_the_effects_of_its_message() {
    let (_runtime, storage, diary) = diary().await;
    diary.write("before".into()).await.unwrap();
    diary.crash_after_then().await.unwrap_err();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(diary.entries().await.unwrap(), ["before"]);
    assert_eq!(diary.reminders().await.unwrap(), []);
    assert_eq!(storage.states.get(&ServerId::new("Diary", "a")).unwrap().due, None);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_arrives_after_its_delay_and_is_committed() {
    let (_runtime, _storage, diary) = diary().await;
    diary.write_later(SECOND, "later".into()).await.unwrap();
    tokio::time::sleep(SECOND * 9 / 10).await;
    assert_eq!(diary.entries().await.unwrap(), [""; 0]);
    tokio::time::sleep(SECOND / 5).await;
    diary.kill().await.unwrap();
    assert_eq!(diary.entries().await.unwrap(), ["later"]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_ticks_until_it_is_cancelled() {
    let (_runtime, _storage, diary) = diary().await;
    diary.write_often(SECOND).await.unwrap();
    tokio::time::sleep(SECOND * 7 / 2).await;
    assert_eq!(diary.entries().await.unwrap(), ["tick"; 3]);
    diary.cancel().await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(diary.entries().await.unwrap(), ["tick"; 3]);
}

/// A message of a cancelled timer is not handled, even if it is already in the mailbox.
#[tokio::test(start_paused = true)]
async fn a_cancelled_timer_does_not_fire_from_the_mailbox() {
    let (_runtime, _storage, diary) = diary().await;
    diary.write_later(SECOND, "cancelled".into()).await.unwrap();
    diary.with_timeout(60 * SECOND).cancel_after(5 * SECOND).await.unwrap();
    assert_eq!(diary.entries().await.unwrap(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_timer_of_an_ended_instance_never_fires_in_the_next_instance() {
    let (_runtime, _storage, diary) = diary().await;
    for end in ["crash", "kill", "stop"] {
        diary.write_later(SECOND, end.into()).await.unwrap();
        diary.write_often(SECOND).await.unwrap();
        match end {
            "crash" => diary.crash().await.unwrap_err().to_string().clear(),
            "kill" => diary.kill().await.unwrap(),
            _ => diary.stop("other").await.unwrap(),
        }
        diary.entries().await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(diary.entries().await.unwrap(), [""; 0], "{end}");
    }
    // The same for a message that is in the mailbox when its instance ends.
    diary.write_later(SECOND, "queued".into()).await.unwrap();
    let slow = diary.with_timeout(60 * SECOND);
    let slow = tokio::spawn(async move { slow.cancel_after(5 * SECOND).await });
    tokio::time::sleep(2 * SECOND).await;
    diary.kill().await.unwrap();
    slow.await.unwrap().unwrap_err();
    assert_eq!(diary.entries().await.unwrap(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_timer_does_not_delay_an_unload_but_an_interval_that_ticks_does() {
    let (runtime, _storage, diary) = diary().await;
    let impatient = diary.with_options(Options::new().idle_timeout(10 * SECOND)).unwrap();
    impatient.write_later(60 * SECOND, "never".into()).await.unwrap();
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(runtime.count::<Diary>().await.unwrap().live, 0);
    impatient.write_often(5 * SECOND).await.unwrap();
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(runtime.count::<Diary>().await.unwrap().live, 1);
}

#[tokio::test(start_paused = true)]
async fn stream_items_are_messages_and_the_stream_ends_with_its_instance() {
    let (_runtime, _storage, diary) = diary().await;
    diary.copy(3).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(diary.entries().await.unwrap(), ["2", "1", "0"]);
    assert!(diary.finished().await.unwrap());
    // The mailbox slows an endless stream down, and the stream ends with its instance.
    diary.copy(u64::MAX).await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    diary.kill().await.unwrap();
    let entries = diary.entries().await.unwrap().len();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(diary.entries().await.unwrap().len(), entries);
}

#[tokio::test(start_paused = true)]
async fn a_deferred_reply_from_a_later_message_waits_for_the_commit_of_that_message() {
    let (_runtime, storage, diary) = diary().await;
    diary.entries().await.unwrap();
    let subscriber = tokio::spawn({
        let diary = diary.clone();
        async move { (diary.subscribe().await, Instant::now()) }
    });
    tokio::time::sleep(SECOND).await;
    storage.on_commit(Fault::Slow(SECOND));
    let begin = Instant::now();
    diary.publish("news".into()).await.unwrap();
    let (answer, at) = subscriber.await.unwrap();
    assert_eq!((answer.unwrap(), at - begin), (1, SECOND), "not before the commit");
}

#[tokio::test(start_paused = true)]
async fn a_deferred_reply_fails_with_the_handler_that_sends_it() {
    let (_runtime, storage, diary) = diary().await;
    diary.entries().await.unwrap();
    let subscribe = || {
        let diary = diary.clone();
        tokio::spawn(async move { diary.subscribe().await })
    };
    let subscriber = subscribe();
    tokio::task::yield_now().await;
    diary.publish_and_crash().await.unwrap();
    assert!(matches!(subscriber.await.unwrap(), Err(CallError::Crashed { .. })));

    let subscriber = subscribe();
    tokio::task::yield_now().await;
    storage.on_commit(Fault::Refuse);
    diary.publish("lost".into()).await.unwrap();
    assert!(matches!(subscriber.await.unwrap(), Err(CallError::Storage { .. })));
    storage.on_commit(Fault::None);

    let subscriber = subscribe();
    tokio::task::yield_now().await;
    diary.kill().await.unwrap();
    assert!(matches!(subscriber.await.unwrap(), Err(CallError::NoReply { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_task_can_send_a_deferred_reply_after_its_server_is_gone() {
    let (runtime, _storage, diary) = diary().await;
    assert_eq!(diary.ponder(SECOND).await.unwrap(), "42");
    let waiting = tokio::spawn({
        let diary = diary.clone();
        async move { diary.ponder(SECOND).await }
    });
    tokio::time::sleep(SECOND / 10).await;
    diary.kill().await.unwrap();
    drop(diary);
    assert_eq!(waiting.await.unwrap().unwrap(), "42");
    let diary = runtime.at::<Diary>("a", ());
    assert_eq!(diary.entries().await.unwrap(), ["pondered"; 2]);
    let late = diary.with_timeout(SECOND).ponder(2 * SECOND).await;
    assert!(matches!(late, Err(CallError::Timeout { .. })), "the deadline still applies");
}

#[tokio::test(start_paused = true)]
async fn a_reminder_activates_an_unloaded_server_and_fires_once() {
    let (runtime, storage, diary) = diary().await;
    diary.remind("tea".into(), 10 * SECOND).await.unwrap();
    diary.kill().await.unwrap();
    drop(diary);
    tokio::time::sleep(SECOND * 99 / 10).await;
    assert_eq!(runtime.count::<Diary>().await.unwrap().live, 0);
    tokio::time::sleep(SECOND).await;
    assert_eq!(runtime.count::<Diary>().await.unwrap().live, 1);
    let diary = runtime.at::<Diary>("a", ());
    assert_eq!(diary.entries().await.unwrap(), ["tea"]);
    tokio::time::sleep(1000 * SECOND).await;
    assert_eq!(diary.entries().await.unwrap(), ["tea"]);
    assert_eq!(storage.states.get(&ServerId::new("Diary", "a")).unwrap().due, None);
}

#[tokio::test(start_paused = true)]
async fn a_reminder_survives_its_runtime_and_fires_at_once_if_overdue() {
    let (runtime, storage, diary) = diary().await;
    diary.remind("tea".into(), 10 * SECOND).await.unwrap();
    diary.remind("cake".into(), 1000 * SECOND).await.unwrap();
    drop(runtime);
    tokio::time::sleep(100 * SECOND).await;

    // In production the wall clock continues while a process is down. In a test with paused
    // time it does not, so the reminder for tea is due 10 s after the runtime opens.
    let runtime = Runtime::builder().register::<Diary>().open_with(storage.clone()).await.unwrap();
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(runtime.at::<Diary>("a", ()).entries().await.unwrap(), ["tea"]);
    drop(runtime);

    // The reminders of an unregistered type start with its first client.
    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    tokio::time::sleep(2000 * SECOND).await;
    let diary = runtime.at::<Diary>("another", ());
    tokio::time::sleep(SECOND).await;
    diary.entries().await.unwrap();
    assert_eq!(runtime.at::<Diary>("a", ()).entries().await.unwrap(), ["tea", "cake"]);
}

/// A reminder fires again if its process dies between the due time and the commit. It
/// does not fire again once its commit is done.
#[tokio::test(start_paused = true)]
async fn a_reminder_survives_a_kill_between_its_due_time_and_its_commit() {
    let (runtime, storage, diary) = diary().await;
    diary.remind("tea".into(), SECOND).await.unwrap();
    storage.on_commit(Fault::Hang);
    tokio::time::sleep(5 * SECOND).await;
    drop(runtime);
    storage.on_commit(Fault::None);
    let runtime = Runtime::builder().register::<Diary>().open_with(storage.clone()).await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(runtime.at::<Diary>("a", ()).entries().await.unwrap(), ["tea"]);
}

#[tokio::test(start_paused = true)]
async fn a_reminder_is_retried_after_a_storage_error() {
    let (runtime, storage, diary) = diary().await;
    diary.remind("tea".into(), SECOND).await.unwrap();
    storage.on_commit(Fault::Refuse);
    tokio::time::sleep(60 * SECOND).await;
    storage.on_commit(Fault::None);
    tokio::time::sleep(10 * SECOND).await;
    drop(runtime);
    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    assert_eq!(runtime.at::<Diary>("a", ()).entries().await.unwrap(), ["tea"]);
}

#[tokio::test(start_paused = true)]
async fn reminders_can_be_replaced_listed_and_cancelled() {
    let (_runtime, _storage, diary) = diary().await;
    diary.remind("a".into(), 10 * SECOND).await.unwrap();
    diary.remind("b".into(), 5 * SECOND).await.unwrap();
    diary.remind("c".into(), 20 * SECOND).await.unwrap();
    diary.remind("a".into(), 30 * SECOND).await.unwrap();
    let names = |list: Vec<(String, SystemTime)>| -> Vec<String> {
        assert!(list.is_sorted_by_key(|(_, due)| *due));
        list.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(diary.reminders().await.unwrap()), ["b", "c", "a"]);
    assert!(diary.forget("c".into()).await.unwrap());
    assert!(!diary.forget("c".into()).await.unwrap());
    diary.kill().await.unwrap();
    assert_eq!(names(diary.reminders().await.unwrap()), ["b", "a"], "everything is committed");
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(diary.entries().await.unwrap(), ["b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_reminder_that_panics_delays_no_other() {
    for policy in [Restart::Transient, Restart::Permanent] {
        let storage = FaultyStorage::default();
        let runtime = Runtime::builder()
            .configure::<Diary>(Options::new().restart(policy).reminder_attempts(3))
            .open_with(storage.clone())
            .await
            .unwrap();
        let diary = runtime.at::<Diary>("a", ());
        diary.write("before".into()).await.unwrap();
        diary.remind_to_burn(SECOND).await.unwrap();
        diary.remind("after".into(), 2 * SECOND).await.unwrap();
        let mut events = diary.watch().await.unwrap();
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(diary.entries().await.unwrap(), ["before", "after"], "{policy:?}");
        assert_eq!(diary.reminders().await.unwrap(), [], "it is given up");
        let first = events.next().await.unwrap();
        assert!(matches!(first, persistent_runtime::Event::Crashed { .. }), "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_overdue_reminders_all_fire() {
    let (runtime, storage, _diary) = diary().await;
    for n in 0..2000 {
        let diary = runtime.at::<Diary>(n.to_string(), ());
        diary.remind("one".into(), SECOND / 10).await.unwrap();
        diary.remind("two".into(), SECOND / 5).await.unwrap();
    }
    drop(runtime);
    let runtime = Runtime::builder().register::<Diary>().open_with(storage).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    for n in 0..2000 {
        let entries = runtime.at::<Diary>(n.to_string(), ()).entries().await.unwrap();
        assert_eq!(entries, ["one", "two"], "{n}");
    }
}

#[tokio::test]
async fn reminders_are_stored_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reminders.db");
    let runtime = Runtime::open(&path).await.unwrap();
    let diary = runtime.at::<Diary>("a", ());
    diary.remind("now".into(), Duration::ZERO).await.unwrap();
    diary.remind("never".into(), Duration::MAX).await.unwrap();
    while diary.entries().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    diary.remind("soon".into(), Duration::from_millis(50)).await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let runtime = Runtime::builder().register::<Diary>().open(&path).await.unwrap();
    let diary = runtime.at::<Diary>("a", ());
    while diary.entries().await.unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(diary.entries().await.unwrap(), ["now", "soon"]);
    assert_eq!(diary.reminders().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn resources_outlive_panics_but_not_activations() {
    let (_runtime, _storage, diary) = diary().await;
    let large = "x".repeat(5_000_000);
    let all = [("plain", "value"), ("", "empty name"), ("nul\0💾", "odd"), ("large", &large)];
    let keep = async || {
        for (name, value) in all {
            diary.keep(name.into(), value.into()).await.unwrap();
        }
    };
    let kept = async |name: &str| diary.kept(name.into()).await.unwrap();
    keep().await;
    for _ in 0..3 {
        diary.crash().await.unwrap_err();
        tokio::time::sleep(60 * SECOND).await;
        for (name, value) in all {
            assert!(kept(name).await == Some((value.to_owned(), name.len())), "{name:?}");
        }
    }
    diary.keep("plain".into(), "replaced".into()).await.unwrap();
    assert_eq!(kept("plain").await.unwrap().0, "replaced");
    assert!(diary.remove("plain".into()).await.unwrap());
    assert_eq!(kept("plain").await, None);

    for end in ["kill", "stop", "delete", "idle"] {
        keep().await;
        match end {
            "kill" => diary.kill().await.unwrap(),
            "stop" => diary.stop(StopReason::Other(end.into())).await.unwrap(),
            "delete" => diary.delete().await.unwrap(),
            _ => tokio::time::sleep(4000 * SECOND).await,
        }
        assert!(kept("large").await.is_none(), "{end}");
    }
    // Without further calls, a crashed server expires like an idle one.
    keep().await;
    diary.crash().await.unwrap_err();
    tokio::time::sleep(4000 * SECOND).await;
    assert!(kept("large").await.is_none());
}

/// Continues, stops and sets timers before its first message.
#[derive(Default, Serialize, Deserialize)]
struct Eager(Vec<String>);

#[persistent_server]
impl Eager {
    #[started]
    fn started(&mut self, context: &Context<Self>) {
        context.continue_with(EagerMessage::Add { word: "then".into() });
        self.0.push("started".into());
    }

    #[cast]
    pub fn add(&mut self, word: String) {
        self.0.push(word);
    }

    pub fn words(&self) -> Vec<String> {
        self.0.clone()
    }
}

#[tokio::test]
async fn effects_of_started_come_before_the_activating_message() {
    let runtime = Runtime::in_memory().await.unwrap();
    let eager = runtime.at::<Eager>("a", ());
    eager.add("message".into()).await.unwrap();
    assert_eq!(eager.words().await.unwrap(), ["started", "then", "message"]);
}

/// A state with a field that cannot be stored and is rebuilt from the stored form.
struct Greeter {
    greeting: Greeting,
    name: String,
    key: String,
}

type Greeting = Box<dyn Fn(&str) -> String + Send>;

#[derive(Serialize, Deserialize)]
struct StoredGreeter {
    name: String,
}

#[persistent_server]
impl Greeter {
    #[init]
    fn new(name: String, context: &Context<Self>) -> Self {
        Self::restore(StoredGreeter { name }, context).unwrap()
    }

    #[save]
    fn save(&self) -> StoredGreeter {
        StoredGreeter { name: self.name.clone() }
    }

    #[restore]
    fn restore(stored: StoredGreeter, context: &Context<Self>) -> Result<Self, String> {
        if stored.name == "nobody" {
            return Err("nobody can't be greeted".into());
        }
        let greeting = Box::new(|name: &str| format!("hello, {name}"));
        Ok(Self { greeting, name: stored.name, key: context.key().to_owned() })
    }

    pub fn rename(&mut self, name: String) {
        self.name = name;
    }

    pub fn greet(&self) -> String {
        format!("{} from {}", (self.greeting)(&self.name), self.key)
    }
}

#[tokio::test]
async fn save_and_restore_define_the_stored_form() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let greeter = runtime.at::<Greeter>("g", "ada".to_owned());
    assert_eq!(greeter.greet().await.unwrap(), "hello, ada from g");
    greeter.rename("bob".into()).await.unwrap();
    let stored = storage.states.get(&ServerId::new("Greeter", "g")).unwrap();
    assert_eq!(&stored.state.bytes()[..], b"\x81\xa4name\xa3bob");
    greeter.kill().await.unwrap();
    assert_eq!(greeter.greet().await.unwrap(), "hello, bob from g");
    greeter.rename("nobody".into()).await.unwrap();
    greeter.kill().await.unwrap();
    let error = greeter.greet().await.unwrap_err();
    assert!(error.to_string().contains("nobody can't be greeted"), "{error}");
    assert!(matches!(error, CallError::Decode { .. }));
}
