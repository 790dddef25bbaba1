//! Reminders that fail, and their effect on other reminders.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use persistent_runtime::{
    Client, Commit, Context, Event, MemoryStorage, Observer, Options, Record, Reminder, Restart,
    Runtime, ServerId, Storage, StorageFuture, forward_storage, persistent_server,
};
use persistent_tests::{Fault, FaultyStorage};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::{Instant, sleep};

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

/// Regression: the panic deleted the reminder, and also the one that `started` had set under the
/// same name, so that the clock stopped.
#[tokio::test(start_paused = true)]
async fn a_reminder_that_started_sets_survives_a_panic_of_its_message() {
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

/// Keeps the events of all servers.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<(ServerId, Event)>>>);

impl Observer for Events {
    fn on_event(&self, server: &ServerId, event: &Event) {
        self.0.lock().unwrap().push((server.clone(), event.clone()));
    }
}

impl Events {
    /// Returns the failures of reminders: name, reason and next attempt.
    fn failures(&self) -> Vec<(String, String, Option<SystemTime>)> {
        let events = self.0.lock().unwrap();
        let failures = events.iter().filter_map(|(_, event)| match event {
            Event::ReminderFailed { name, reason, retry } => {
                Some((name.clone(), reason.clone(), *retry))
            }
            _ => None,
        });
        failures.collect()
    }

    fn delays(&self) -> usize {
        let events = self.0.lock().unwrap();
        events.iter().filter(|(_, event)| matches!(event, Event::RemindersDelayed { .. })).count()
    }
}

/// A server whose reminder can fail in many ways.
#[derive(Default, Serialize, Deserialize)]
struct Task {
    done: Vec<String>,
}

/// An extension: how often the next `Attempt` messages panic. A panic rolls the state back.
#[derive(Clone, Default)]
struct Panics(Arc<AtomicU64>);

#[persistent_server(max_restarts(0, within = "5s"), call_timeout = "100s")]
impl Task {
    pub fn plan(&mut self, wait: Duration, context: &Context<Self>) {
        context.remind("plain", wait, TaskMessage::Finish { name: "plain".to_owned() });
    }

    pub fn plan_to_hang(&mut self, wait: Duration, context: &Context<Self>) {
        context.remind("hang", wait, TaskMessage::Hang);
    }

    pub fn plan_many(&mut self, number: usize, wait: Duration, context: &Context<Self>) {
        for name in (0..number).map(|n| n.to_string()) {
            context.remind(&name, wait, TaskMessage::Finish { name: name.clone() });
        }
    }

    pub fn plan_to_panic(&mut self, wait: Duration, context: &Context<Self>) {
        context.remind("panic", wait, TaskMessage::Attempt);
    }

    pub fn retry(&mut self, name: String, context: &Context<Self>) -> bool {
        context.retry_reminder(&name)
    }

    pub fn crash(&self) {
        panic!("on purpose");
    }

    #[info]
    fn finish(&mut self, name: String) {
        self.done.push(name);
    }

    #[info]
    async fn hang(&mut self) {
        pending::<()>().await;
    }

    #[info]
    fn attempt(&mut self, context: &Context<Self>) {
        self.done.push("attempt".to_owned());
        let Some(Panics(panics)) = context.extension() else { return };
        let left = panics.load(Ordering::SeqCst);
        panics.store(left.saturating_sub(1), Ordering::SeqCst);
        assert!(left == 0, "{left} panics are left");
    }

    pub fn done(&self) -> Vec<String> {
        self.done.clone()
    }
}

const SEVERAL: usize = 200;

/// Regression: 64 such servers kept all others of their type waiting for ever.
#[tokio::test(start_paused = true)]
async fn failed_servers_do_not_keep_the_reminders_of_others_waiting() {
    let events = Events::default();
    let runtime = Runtime::builder().observer(events.clone()).in_memory().await.unwrap();
    let failed: Vec<_> = (0..SEVERAL).map(|n| runtime.at::<Task>(n.to_string(), ())).collect();
    for server in &failed {
        server.plan(SECOND).await.unwrap();
        server.crash().await.unwrap_err();
    }
    let healthy = runtime.at::<Task>("healthy", ());
    healthy.plan(2 * SECOND).await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(healthy.done().await.unwrap(), ["plain"]);
    sleep(3600 * SECOND).await;
    let attempts = events.delays() / SEVERAL;
    assert!((10..=20).contains(&attempts), "{attempts} attempts in an hour");
    failed[0].reset().await.unwrap();
    sleep(SECOND).await;
    assert_eq!(failed[0].done().await.unwrap(), ["plain"], "it is tried again at once");
}

#[tokio::test(start_paused = true)]
async fn handlers_that_hang_do_not_keep_the_reminders_of_others_waiting() {
    let runtime = Runtime::in_memory().await.unwrap();
    for n in 0..SEVERAL {
        runtime.at::<Task>(n.to_string(), ()).plan_to_hang(SECOND).await.unwrap();
    }
    let healthy = runtime.at::<Task>("healthy", ());
    healthy.plan(2 * SECOND).await.unwrap();
    sleep(10 * SECOND).await;
    assert_eq!(healthy.done().await.unwrap(), ["plain"]);
}

#[tokio::test(start_paused = true)]
async fn states_that_cannot_be_decoded_do_not_keep_the_reminders_of_others_waiting() {
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    for key in (0..SEVERAL).map(|n| n.to_string()).chain(["healthy".to_owned()]) {
        runtime.at::<Task>(key, ()).plan(SECOND).await.unwrap();
    }
    runtime.shutdown(SECOND).await.unwrap();
    for n in 0..SEVERAL {
        let server = ServerId::new("Task", n.to_string());
        let Record { reminders, due, .. } = storage.get(&server).unwrap();
        let damaged = Record::new(1, 1, &b"?"[..]).with_reminders(reminders, due);
        let update = persistent_runtime::Update::Put(damaged);
        storage.commit(Commit::new(server, update)).await.unwrap();
    }
    let runtime = Runtime::builder().register::<Task>().open_with(storage).await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(runtime.at::<Task>("healthy", ()).done().await.unwrap(), ["plain"]);
    let listed = runtime.reminders::<Task>("0").await.unwrap();
    assert_eq!(listed[0].name, "plain", "without the state");
}

/// A storage that counts requests.
#[derive(Clone, Default)]
struct Counted {
    states: MemoryStorage,
    due_queries: Arc<AtomicUsize>,
    commits: Arc<AtomicUsize>,
}

impl Storage for Counted {
    fn commit(&self, commit: Commit) -> StorageFuture<'_, ()> {
        Box::pin(async move {
            self.commits.fetch_add(1, Ordering::SeqCst);
            // Other messages run meanwhile.
            sleep(Duration::from_millis(1)).await;
            self.states.commit(commit).await
        })
    }

    fn due<'a>(
        &'a self,
        kind: &'a str,
        after: Option<(u64, &'a str)>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        self.due_queries.fetch_add(1, Ordering::SeqCst);
        self.states.due(kind, after, limit)
    }

    forward_storage!(self.states, except commit, due);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_serves_many_reminders() {
    let storage = Counted::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    for n in 0..SEVERAL {
        let server = runtime.at::<Task>(n.to_string(), ());
        server.plan(SECOND).await.unwrap();
        server.plan_to_panic(2 * SECOND).await.unwrap();
    }
    sleep(60 * SECOND).await;
    for n in 0..SEVERAL {
        let done = runtime.at::<Task>(n.to_string(), ()).done().await.unwrap();
        assert_eq!(done, ["plain", "attempt"], "{n}");
    }
    assert_eq!(storage.due_queries.load(Ordering::SeqCst), 1, "each commit tells what is next");

    let many = 2_000;
    for n in 0..many {
        runtime.at::<Task>(format!("more {n}"), ()).plan(3600 * SECOND).await.unwrap();
    }
    sleep(4000 * SECOND).await;
    for n in 0..many {
        let done = runtime.at::<Task>(format!("more {n}"), ()).done().await.unwrap();
        assert_eq!(done, ["plain"], "more {n}: the agenda has a limit");
    }
    let queries = storage.due_queries.load(Ordering::SeqCst);
    assert!(queries < 20, "{queries} queries for {many} servers");
}

#[tokio::test(start_paused = true)]
async fn reminders_of_one_server_that_are_due_share_commits() {
    let storage = Counted::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Task>("a", ());
    server.plan_many(800, SECOND).await.unwrap();
    let before = storage.commits.load(Ordering::SeqCst);
    sleep(60 * SECOND).await;
    assert_eq!(server.done().await.unwrap().len(), 800);
    let commits = storage.commits.load(Ordering::SeqCst) - before;
    assert!(commits <= 200, "{commits} commits");
}

/// The outcome of the commit is unknown to the runtime, so the storage decides.
#[tokio::test(start_paused = true)]
async fn a_reminder_whose_commit_is_reported_as_failed_fires_if_it_is_stored() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let server = runtime.at::<Task>("a", ());
    server.done().await.unwrap();
    storage.on_commit(Fault::RefuseThoughDone);
    server.plan(SECOND).await.unwrap_err();
    storage.on_commit(Fault::None);
    sleep(2 * SECOND).await;
    assert_eq!(server.done().await.unwrap(), ["plain"]);
}

#[tokio::test(start_paused = true)]
async fn a_reminder_that_panics_is_tried_again_and_then_given_up() {
    for restart in [Restart::Transient, Restart::Permanent] {
        let (events, panics) = (Events::default(), Panics::default());
        let options = Options::new().max_restarts(9, SECOND).restart(restart).reminder_attempts(3);
        let builder = Runtime::builder().configure::<Task>(options).observer(events.clone());
        let runtime = builder.extension(panics.clone()).in_memory().await.unwrap();
        let server = runtime.at::<Task>("a", ());

        panics.0.store(2, Ordering::SeqCst);
        server.plan_to_panic(SECOND).await.unwrap();
        // After 1 s, then 1 s and 2 s after each panic.
        sleep(Duration::from_millis(3900)).await;
        assert_eq!(server.done().await.unwrap(), [""; 0]);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(server.done().await.unwrap(), ["attempt"], "with the third attempt");
        assert_eq!(events.failures().len(), 2);
        assert_eq!(runtime.reminders::<Task>("a").await.unwrap(), []);

        panics.0.store(3, Ordering::SeqCst);
        server.plan_to_panic(SECOND).await.unwrap();
        sleep(600 * SECOND).await;
        assert_eq!(server.done().await.unwrap().len(), 1);
        let (name, reason, retry) = events.failures().pop().unwrap();
        assert_eq!((&*name, &*reason, retry), ("panic", "1 panics are left", None));
        let listed = runtime.reminders::<Task>("a").await.unwrap();
        let [Reminder { name, due: None, attempts: 3, error: Some(error), .. }] = &listed[..]
        else {
            panic!("{listed:?}");
        };
        assert_eq!((&**name, &**error), ("panic", "1 panics are left"));
        server.plan(SECOND).await.unwrap();
        sleep(2 * SECOND).await;
        assert_eq!(server.done().await.unwrap().len(), 2, "it keeps no other waiting");

        assert!(server.retry("panic".to_owned()).await.unwrap());
        assert!(!server.retry("panic".to_owned()).await.unwrap());
        sleep(SECOND).await;
        assert_eq!(server.done().await.unwrap(), ["attempt", "plain", "attempt"]);
        assert_eq!(runtime.reminders::<Task>("a").await.unwrap(), []);
    }
}

/// A periodic job.
#[derive(Default, Serialize, Deserialize)]
struct Job {
    ticks: Vec<SystemTime>,
}

/// True while each tick of a job panics.
static BREAKS: AtomicBool = AtomicBool::new(false);

#[persistent_server(idle_timeout = "5s", reminder_attempts = 2)]
impl Job {
    #[started]
    fn started(&self, context: &Context<Self>) {
        context.remind_every("tick", 60 * SECOND, JobMessage::Tick);
    }

    pub fn add(&mut self, period: Duration, context: &Context<Self>) {
        context.remind_every("more", period, JobMessage::Tick);
    }

    pub fn end(&mut self, name: String, context: &Context<Self>) -> bool {
        context.cancel_reminder(&name)
    }

    #[info]
    fn tick(&mut self, context: &Context<Self>) {
        self.ticks.push(context.now());
        assert!(!BREAKS.load(Ordering::SeqCst), "broken");
    }

    pub fn ticks(&self) -> usize {
        self.ticks.len()
    }

    /// Returns the times between the ticks in seconds.
    pub fn gaps(&self) -> Vec<u64> {
        let gap = |pair: &[SystemTime]| pair[1].duration_since(pair[0]).unwrap() + SECOND / 2;
        self.ticks.windows(2).map(|pair| gap(pair).as_secs()).collect()
    }
}

/// Regression: a reminder that set itself again in its handler ended with its first panic, and
/// `remind` in `#[started]` postponed it at each activation.
#[tokio::test(start_paused = true)]
async fn a_periodic_reminder_survives_panics_unloads_and_processes() {
    let (clock, storage) = (StepClock::new(SystemTime::UNIX_EPOCH), MemoryStorage::new());
    let runtime = clock.open(&storage).await;
    let began = Instant::now();
    let job = runtime.start::<Job>("a", ()).await.unwrap();
    // Each call activates the server anew.
    while began.elapsed() < 310 * SECOND {
        sleep(10 * SECOND).await;
        job.ticks().await.unwrap();
    }
    assert_eq!(job.ticks().await.unwrap(), 5);

    BREAKS.store(true, Ordering::SeqCst);
    sleep(300 * SECOND).await;
    let listed = runtime.reminders::<Job>("a").await.unwrap();
    assert!(listed[0].due.is_some(), "it is never given up");
    BREAKS.store(false, Ordering::SeqCst);
    sleep(55 * SECOND).await;
    assert_eq!(job.gaps().await.unwrap(), [60, 60, 60, 60, 360], "it keeps its times");

    assert!(runtime.reminders::<Job>("a").await.unwrap()[0].error.is_none());
    drop((job, runtime));
    let runtime = clock.open(&storage).await;
    sleep(1000 * SECOND).await;
    let job = runtime.at::<Job>("a", ());
    assert!(job.ticks().await.unwrap() > 20);

    job.add(SECOND).await.unwrap();
    let before = job.ticks().await.unwrap();
    sleep(10 * SECOND + SECOND / 2).await;
    assert!((10..=11).contains(&(job.ticks().await.unwrap() - before)));
    for name in ["more", "tick"] {
        assert!(job.end(name.to_owned()).await.unwrap(), "{name}");
    }
    let last = job.ticks().await.unwrap();
    // A later activation would set one again.
    sleep(4 * SECOND).await;
    assert_eq!(job.ticks().await.unwrap(), last);
}

/// A wall clock that can step, beside tokio's paused clock.
#[derive(Clone)]
struct StepClock {
    began: Instant,
    base: SystemTime,
    stepped: Arc<AtomicU64>,
}

impl StepClock {
    fn new(base: SystemTime) -> Self {
        Self { began: Instant::now(), base, stepped: Arc::default() }
    }

    fn now(&self) -> SystemTime {
        let stepped = Duration::from_secs(self.stepped.load(Ordering::SeqCst));
        self.base + self.began.elapsed() + stepped
    }

    async fn open(&self, storage: &MemoryStorage) -> Runtime {
        let clock = self.clone();
        let builder = Runtime::builder().clock(move || clock.now()).register::<Sundial>();
        builder.register::<Job>().open_with(storage.clone()).await.unwrap()
    }
}

/// Compares times.
#[derive(Default, Serialize, Deserialize)]
struct Sundial {
    due: Option<SystemTime>,
    rings: Vec<SystemTime>,
}

#[persistent_server]
impl Sundial {
    pub fn set_in(&mut self, wait: Duration, context: &Context<Self>) {
        self.due = Some(context.now() + wait);
        context.remind("ring", wait, SundialMessage::Ring);
    }

    pub fn set_at(&mut self, when: SystemTime, context: &Context<Self>) {
        self.due = Some(when);
        context.remind("ring", when, SundialMessage::Ring);
    }

    #[info]
    fn ring(&mut self, context: &Context<Self>) {
        let now = context.now();
        // Both in microseconds, as `Context::now` returns them.
        assert!(Some(now) >= self.due, "{now:?} is early for {:?}", self.due);
        self.rings.push(now);
    }

    pub fn now(&self, context: &Context<Self>) -> SystemTime {
        context.now()
    }

    pub fn rings(&self) -> Vec<SystemTime> {
        self.rings.clone()
    }
}

/// Regression: the system time was read once per process, so a suspend or a step of the system time
/// made reminders hours late or early.
#[tokio::test(start_paused = true)]
async fn reminders_follow_steps_of_the_system_time() {
    let clock = StepClock::new(SystemTime::UNIX_EPOCH + 1_000_000 * SECOND);
    let storage = MemoryStorage::new();
    let runtime = clock.open(&storage).await;
    let server = runtime.at::<Sundial>("a", ());
    let due = clock.now() + 3600 * SECOND;
    server.set_at(due).await.unwrap();
    sleep(60 * SECOND).await;
    // As after a suspend of an hour.
    clock.stepped.store(3600, Ordering::SeqCst);
    sleep(10 * SECOND).await;
    assert_eq!(server.rings().await.unwrap().len(), 1, "within ten seconds");
    assert_eq!(server.now().await.unwrap(), clock.now());

    server.set_at(clock.now() + 60 * SECOND).await.unwrap();
    clock.stepped.store(1800, Ordering::SeqCst);
    sleep(1800 * SECOND).await;
    assert_eq!(server.rings().await.unwrap().len(), 1, "a step backwards makes it later");
    sleep(70 * SECOND).await;
    assert_eq!(server.rings().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn ticks_that_were_missed_become_one() {
    let clock = StepClock::new(SystemTime::UNIX_EPOCH + 1_000_000 * SECOND);
    let storage = MemoryStorage::new();
    let runtime = clock.open(&storage).await;
    let job = runtime.start::<Job>("missed", ()).await.unwrap();
    sleep(61 * SECOND).await;
    assert_eq!(job.ticks().await.unwrap(), 1);
    drop((job, runtime));
    // Another process, 1000 s later.
    clock.stepped.store(1000, Ordering::SeqCst);
    let runtime = clock.open(&storage).await;
    sleep(SECOND).await;
    let job = runtime.at::<Job>("missed", ());
    assert_eq!(job.ticks().await.unwrap(), 2);
    sleep(60 * SECOND).await;
    assert_eq!(job.ticks().await.unwrap(), 3);
}

/// Regression: due times were rounded down to a millisecond.
#[tokio::test(start_paused = true)]
async fn no_reminder_is_early() {
    for micros in [0, 1, 499, 500, 999] {
        let base = SystemTime::UNIX_EPOCH + Duration::from_micros(1_000_000_000 + micros);
        let clock = StepClock::new(base);
        let runtime = clock.open(&MemoryStorage::new()).await;
        let server = runtime.at::<Sundial>("a", ());
        for wait in [1, 4_001, 5_000, 5_999].map(Duration::from_micros) {
            server.set_in(wait).await.unwrap();
            sleep(SECOND).await;
            server.set_at(clock.now() + wait).await.unwrap();
            sleep(SECOND).await;
        }
        assert_eq!(server.rings().await.unwrap().len(), 8, "with the first attempt");
    }
}

/// Versions of one server type. Each is a program of its own.
mod evolving {
    /// The first program, which sets a reminder of each message.
    pub mod first {
        use std::time::Duration;

        use persistent_runtime::{Context, persistent_server};
        use serde::{Deserialize, Serialize};

        #[derive(Default, Serialize, Deserialize)]
        pub struct Trial {
            pub log: Vec<String>,
        }

        #[persistent_server(name = "trial")]
        impl Trial {
            pub fn begin(&mut self, context: &Context<Self>) {
                let user = "ada".to_owned();
                for (name, message) in [
                    ("renamed", TrialMessage::Expire { user: user.clone() }),
                    ("extended", TrialMessage::Warn { user: user.clone() }),
                    ("first argument", TrialMessage::Ping),
                    ("last argument", TrialMessage::Pong { loud: true }),
                    ("removed", TrialMessage::Forget { user }),
                ] {
                    context.remind(name, Duration::from_mins(1), message);
                }
            }

            #[info]
            fn expire(&mut self, user: String) {
                self.log.push(user);
            }

            #[info]
            fn warn(&mut self, user: String) {
                self.log.push(user);
            }

            #[info]
            fn ping(&mut self) {}

            #[info]
            fn pong(&mut self, loud: bool) {
                self.log.push(loud.to_string());
            }

            #[info]
            fn forget(&mut self, user: String) {
                self.log.push(user);
            }
        }
    }

    /// Reads all messages but one, without a new version.
    pub mod second {
        use persistent_runtime::persistent_server;
        use serde::{Deserialize, Serialize};

        #[derive(Default, Serialize, Deserialize)]
        pub struct Trial {
            pub log: Vec<String>,
        }

        fn seven() -> u32 {
            7
        }

        #[persistent_server(name = "trial")]
        impl Trial {
            #[info]
            #[serde(alias = "Expire")]
            fn finish(&mut self, #[serde(alias = "user")] owner: String) {
                self.log.push(format!("finish {owner}"));
            }

            #[info]
            fn warn(
                &mut self,
                user: String,
                why: Option<String>,
                #[serde(default)] level: u8,
                #[serde(default = "seven")] days: u32,
            ) {
                self.log.push(format!("warn {user} {why:?} {level} {days}"));
            }

            #[info]
            fn ping(&mut self, id: Option<u64>) {
                self.log.push(format!("ping {id:?}"));
            }

            #[info]
            fn pong(&mut self) {
                self.log.push("pong".to_owned());
            }

            pub fn log(&self) -> Vec<String> {
                self.log.clone()
            }
        }
    }

    /// A new version with migrations.
    pub mod third {
        use persistent_runtime::persistent_server;
        use serde::{Deserialize, Serialize};

        #[derive(Default, Serialize, Deserialize)]
        pub struct Trial {
            pub lines: Vec<String>,
        }

        #[derive(Deserialize)]
        enum Old {
            Begin,
            Expire { user: String },
            Warn { user: String },
            Ping,
            Pong { loud: bool },
            Forget { user: String },
        }

        #[persistent_server(name = "trial", version = 2)]
        impl Trial {
            #[migrate(from = 1)]
            fn state(old: super::first::Trial) -> Self {
                Self { lines: old.log }
            }

            #[migrate_message(from = 1)]
            fn message(old: Old) -> Option<TrialMessage> {
                let line = match old {
                    Old::Begin | Old::Ping => return None,
                    Old::Pong { loud } => loud.to_string(),
                    Old::Expire { user } | Old::Warn { user } | Old::Forget { user } => user,
                };
                Some(TrialMessage::Note { line })
            }

            #[info]
            fn note(&mut self, line: String) {
                self.lines.push(line);
            }

            pub fn lines(&self) -> Vec<String> {
                self.lines.clone()
            }
        }
    }
}

/// Stores the reminders of the first program.
async fn first_trial() -> MemoryStorage {
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    runtime.at::<evolving::first::Trial>("a", ()).begin().await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    storage
}

/// Regression: each of these changes lost its reminder silently.
#[tokio::test(start_paused = true)]
async fn reminders_survive_changes_of_their_methods() {
    use evolving::{second, third};

    let (storage, events) = (first_trial().await, Events::default());
    let builder = Runtime::builder().register::<second::Trial>().observer(events.clone());
    let runtime = builder.open_with(storage.clone()).await.unwrap();
    sleep(62 * SECOND).await;
    let trial = runtime.at::<second::Trial>("a", ());
    let mut log = trial.log().await.unwrap();
    log.sort();
    assert_eq!(log, ["finish ada", "ping None", "pong", "warn ada None 0 7"]);
    let failures = events.failures();
    let (name, reason, retry) = &failures[0];
    assert_eq!(name, "removed");
    assert!(reason.contains("Forget") && retry.is_some(), "{reason}");
    sleep(3600 * SECOND).await;
    let attempts = events.failures().len();
    assert!((10..=20).contains(&attempts), "{attempts} attempts in an hour");
    let listed = runtime.reminders::<second::Trial>("a").await.unwrap();
    assert_eq!(listed.len(), 1, "it stays stored");
    assert!(listed[0].name == "removed" && listed[0].due.is_some() && listed[0].attempts > 9);
    assert!(listed[0].error.as_ref().unwrap().contains("Forget"));
    runtime.shutdown(SECOND).await.unwrap();

    let builder = Runtime::builder().register::<third::Trial>();
    let runtime = builder.open_with(storage).await.unwrap();
    // Paused time does not advance the wall clock from one runtime to the next.
    sleep(3600 * SECOND + 700 * SECOND).await;
    let lines = runtime.at::<third::Trial>("a", ()).lines().await.unwrap();
    assert_eq!(lines.last().unwrap(), "ada", "a later program reads it");
    assert_eq!(runtime.reminders::<third::Trial>("a").await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn migrations_of_messages_convert_reminders() {
    use evolving::third;

    let (storage, events) = (first_trial().await, Events::default());
    let builder = Runtime::builder().register::<third::Trial>().observer(events.clone());
    let runtime = builder.open_with(storage).await.unwrap();
    sleep(62 * SECOND).await;
    let mut lines = runtime.at::<third::Trial>("a", ()).lines().await.unwrap();
    lines.sort();
    assert_eq!(lines, ["ada", "ada", "ada", "true"]);
    assert_eq!(events.failures(), []);
    let left = runtime.reminders::<third::Trial>("a").await.unwrap();
    assert_eq!(left, [], "the one that the migration omits is gone, too");
}

/// The names and arguments of messages are a stored form of journals, too.
mod journaled {
    pub mod first {
        use persistent_runtime::persistent_server;
        use serde::{Deserialize, Serialize};

        #[derive(Default, Serialize, Deserialize)]
        pub struct Log {
            pub lines: Vec<String>,
        }

        #[persistent_server(name = "log", journal = messages)]
        impl Log {
            pub fn note(&mut self, text: String) {
                self.lines.push(text);
            }

            pub fn clear(&mut self) {
                self.lines.clear();
            }
        }
    }

    pub mod second {
        use persistent_runtime::persistent_server;
        use serde::{Deserialize, Serialize};

        #[derive(Default, Serialize, Deserialize)]
        pub struct Log {
            pub lines: Vec<String>,
        }

        #[persistent_server(name = "log", journal = messages)]
        impl Log {
            #[serde(alias = "Note")]
            pub fn write(&mut self, text: String, level: Option<u8>) {
                self.lines.push(format!("{text} {level:?}"));
            }

            pub fn clear(&mut self, keep: Option<usize>) {
                self.lines.truncate(keep.unwrap_or_default());
            }

            pub fn lines(&self) -> Vec<String> {
                self.lines.clone()
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn journaled_messages_survive_changes_of_their_methods() {
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let log = runtime.start::<journaled::first::Log>("a", ()).await.unwrap();
    log.note("one".to_owned()).await.unwrap();
    log.clear().await.unwrap();
    log.note("two".to_owned()).await.unwrap();
    log.kill().await.unwrap();
    drop((log, runtime));
    assert_eq!(storage.get(&ServerId::new("log", "a")).unwrap().messages.len(), 3);
    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    let log = runtime.at::<journaled::second::Log>("a", ());
    assert_eq!(log.lines().await.unwrap(), ["two None"]);
}
