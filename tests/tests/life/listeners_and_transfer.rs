//! Listeners, event streams, agents, and transfers between runtimes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use persistent_runtime::{
    Address, Agent, AgentState, CallError, Client, Context, Event, Listener, Observer, Options,
    Persist, Record, Runtime, Server, ServerId, StopReason, persistent_server,
};
use persistent_tests::{Counter, CounterClient, Fault, FaultyStorage, Probe};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

/// A listener that records what it receives.
#[derive(Clone, Default)]
struct Ear {
    received: Arc<Mutex<Vec<String>>>,
    panics: bool,
}

impl Ear {
    fn receive(&self, what: String) {
        self.received.lock().unwrap().push(what);
        assert!(!self.panics, "a listener that panics");
    }

    fn received(&self) -> Vec<String> {
        std::mem::take(&mut self.received.lock().unwrap())
    }
}

impl Listener<Counter> for Ear {
    fn on_state_changed(&self, _: &Address<Counter>, old: Option<&Counter>, new: &Counter) {
        self.receive(format!("{:?} to {}", old.map(|old| old.value), new.value));
    }

    fn on_terminate(&self, address: &Address<Counter>, reason: &StopReason, state: &Counter) {
        self.receive(format!("{} {reason} with {}", address.key(), state.value));
    }

    fn on_crash(&self, address: &Address<Counter>, panic: &str) {
        self.receive(format!("{} crashed: {panic}", address.key()));
    }
}

impl Observer for Ear {
    fn on_change(&self, server: &ServerId, record: Option<&Record>) {
        let state = record.map(|record| record.state.bytes()[record.state.len() - 1]);
        self.receive(format!("{server} stored {state:?}"));
    }

    fn on_event(&self, server: &ServerId, event: &Event) {
        self.receive(format!("{server} {event:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_receives_every_change_in_order_and_each_end() {
    let (ear, storage) = (Ear::default(), FaultyStorage::default());
    let runtime = Runtime::builder()
        .listener::<Counter>(ear.clone())
        .defaults(Options::new().idle_timeout(SECOND))
        .open_with(storage.clone())
        .await
        .unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    server.touch().await.unwrap();
    server.value().await.unwrap();
    server.increment().await.unwrap();
    assert_eq!(ear.received(), ["None to 0", "Some(0) to 1", "Some(1) to 2"]);

    // Changes that share a commit are reported one by one.
    storage.on_commit(Fault::Slow(SECOND / 10));
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.increment().await.unwrap() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(ear.received(), ["Some(2) to 3", "Some(3) to 4", "Some(4) to 5"]);

    // A change that is not committed is not reported.
    storage.on_commit(Fault::Refuse);
    server.increment().await.unwrap_err();
    storage.on_commit(Fault::None);
    assert_eq!(ear.received(), [""; 0]);

    server.crash("now".into()).await.unwrap_err();
    assert_eq!(server.increment().await.unwrap(), 6);
    server.stop("custom").await.unwrap();
    server.value().await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    server.delete().await.unwrap();
    server.value().await.unwrap();
    server.stop(StopReason::Finished).await.unwrap();
    server.value().await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    assert_eq!(
        ear.received(),
        [
            "a crashed: now",
            "Some(5) to 6",
            "a custom with 6",
            "a idle with 6",
            "None to 0",
            "a finished with 0",
            "None to 0",
            "a shutdown with 0",
        ]
    );
}

#[tokio::test]
async fn a_panic_in_a_listener_affects_no_server() {
    let ear = Ear { panics: true, ..Ear::default() };
    let second = Ear::default();
    let runtime = Runtime::builder()
        .listener::<Counter>(ear.clone())
        .listener::<Counter>(second.clone())
        .observer(ear.clone())
        .in_memory()
        .await
        .unwrap();
    let server = runtime.at::<Counter>("a", ());
    assert_eq!(server.increment().await.unwrap(), 1);
    server.crash("now".into()).await.unwrap_err();
    assert_eq!(server.increment().await.unwrap(), 2);
    server.stop("other").await.unwrap();
    assert!(ear.received().len() > 4);
    assert_eq!(second.received().len(), 5, "the next listener still receives the change");
}

#[tokio::test(start_paused = true)]
async fn an_observer_receives_events_of_all_types() {
    let ear = Ear::default();
    let runtime = Runtime::builder().observer(ear.clone()).in_memory().await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    runtime.at::<Probe>("observed", 1).seed().await.unwrap();
    runtime.at::<Counter>("a", ()).kill().await.unwrap();
    runtime.at::<Counter>("a", ()).delete().await.unwrap();
    let received = ear.received();
    let about = |kind: &str| -> Vec<&str> {
        received.iter().filter_map(|received| received.strip_prefix(kind)).collect()
    };
    let start = " Started";
    assert_eq!(
        about(r#"Counter "a""#),
        [start, " stored Some(0)", " stored Some(1)", " Killed", " stored None"]
    );
    assert_eq!(about(r#"Probe "observed""#)[0], start);
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_shows_the_events_of_a_server_in_order() {
    let runtime =
        Runtime::builder().defaults(Options::new().idle_timeout(SECOND)).in_memory().await.unwrap();
    let server = runtime.at::<Probe>("watched", 1);
    let mut watch = server.watch().await.unwrap();
    server.seed().await.unwrap();
    server.crash().await.unwrap_err();
    server.crash().await.unwrap_err();
    server.seed().await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    server.seed().await.unwrap();
    server.kill().await.unwrap();
    server.seed().await.unwrap();
    server.stop("custom").await.unwrap();
    for _ in 0..2 {
        server.crash().await.unwrap_err();
    }
    server.reset().await.unwrap();
    server.stop(StopReason::Finished).await.unwrap();
    drop(server);
    runtime.shutdown(SECOND).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = watch.next().await {
        events.push(event);
    }
    let crashed = |poison| Event::Crashed { panic: "crash".into(), poison };
    let stopped = |reason| Event::Stopped { reason };
    assert_eq!(
        events,
        [
            Event::Started,
            crashed(false),
            Event::Started,
            crashed(true),
            Event::Started,
            stopped(StopReason::Idle),
            Event::Started,
            Event::Killed,
            Event::Started,
            stopped("custom".into()),
            Event::Started,
            crashed(true),
            Event::Started,
            crashed(true),
        ]
    );
}

/// Regression: an event stream that was opened after the end of its runtime never ended.
#[tokio::test(start_paused = true)]
async fn an_event_stream_of_an_ended_runtime_ends_at_once() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    let mut watch = server.watch().await.unwrap();
    let next = tokio::time::timeout(1000 * SECOND, watch.next()).await;
    assert_eq!(next.ok(), Some(None));
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_reports_a_failure_and_missed_events() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Probe>("failing", 1);
    let mut watch = server.watch().await.unwrap();
    for _ in 0..4 {
        server.crash().await.unwrap_err();
    }
    let mut last = Event::Started;
    while last != (Event::Failed { panic: "crash".into() }) {
        last = watch.next().await.unwrap();
    }
    server.reset().await.unwrap();
    for _ in 0..200 {
        server.seed().await.unwrap();
        server.kill().await.unwrap();
    }
    let mut seen = 0;
    for _ in 0..256 {
        watch.next().await.unwrap();
        seen += 1;
    }
    server.seed().await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Event::Missed { events: 400 - seen });
    assert_eq!(watch.next().await.unwrap(), Event::Started);
}

/// Watches a counter and counts its crashes.
#[derive(Default, Serialize, Deserialize)]
struct Nurse {
    crashes: u32,
}

#[persistent_server]
impl Nurse {
    pub fn look_after(&mut self, patient: Address<Counter>, context: &Context<Self>) {
        context.watch(&patient, |event| NurseMessage::Receive {
            crashed: matches!(event, Event::Crashed { .. }),
        });
    }

    #[info]
    fn receive(&mut self, crashed: bool) {
        self.crashes += u32::from(crashed);
    }

    pub fn crashes(&self) -> u32 {
        self.crashes
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_can_watch_another() {
    let runtime = Runtime::in_memory().await.unwrap();
    let patient = runtime.at::<Counter>("patient", ());
    let nurse = runtime.at::<Nurse>("nurse", ());
    nurse.look_after(patient.address()).await.unwrap();
    for _ in 0..3 {
        patient.increment().await.unwrap();
        patient.crash("ouch".into()).await.unwrap_err();
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(nurse.crashes().await.unwrap(), 3);
}

#[tokio::test]
async fn a_poison_message_is_distinguished_from_a_single_crash() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    let crash = async || match server.crash("boom".into()).await.unwrap_err() {
        CallError::Crashed { poison, .. } => poison,
        error => panic!("{error}"),
    };
    server.increment().await.unwrap();
    assert!(!crash().await, "other messages succeeded before it");
    assert!(crash().await, "no message succeeded before it");
    assert!(crash().await);
    server.increment().await.unwrap();
    assert!(!crash().await);
}

/// A shopping cart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: Vec<String>,
}

impl AgentState for Cart {
    const NAME: &'static str = "cart";
}

/// A number without methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Number(u64);

impl AgentState for Number {
    const NAME: &'static str = "number";
}

#[tokio::test]
async fn agents_are_shared_and_survive_kills_and_panics() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let cart = runtime.at::<Agent<Cart>>("ada", Cart::default());
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let cart = cart.clone();
            tokio::spawn(
                async move { cart.update(move |cart| cart.items.push(n.to_string())).await },
            )
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(cart.get_with(|cart| cart.items.len()).await.unwrap(), 10);
    cart.kill().await.unwrap();
    assert_eq!(cart.get().await.unwrap().items.len(), 10);
    let error = cart
        .update(|cart| {
            cart.items.clear();
            panic!("dropped the cart");
        })
        .await
        .unwrap_err();
    assert!(error.to_string().contains("dropped the cart"), "{error}");
    assert_eq!(cart.get_and_update(|cart| cart.items.pop()).await.unwrap().unwrap(), "9");
    let last = Cart { items: vec!["last".into()] };
    assert_eq!(cart.swap(last.clone()).await.unwrap().items.len(), 9);
    drop(runtime);

    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let cart = runtime.find::<Agent<Cart>>("ada").await.unwrap();
    assert_eq!(cart.get().await.unwrap(), last);
    let writes = storage.writes();
    cart.get_with(|cart| cart.items.len()).await.unwrap();
    cart.update(|_| ()).await.unwrap();
    assert_eq!(storage.writes(), writes, "reads and unchanged states write nothing");
    // Agents of several types can have the same key.
    assert_eq!(runtime.at::<Agent<Number>>("ada", Number(7)).get().await.unwrap(), Number(7));
}

#[tokio::test(start_paused = true)]
async fn servers_lists_live_and_stored_servers_once_and_in_order() {
    let runtime = Runtime::builder()
        .configure::<Counter>(Options::new().persist(Persist::OnStop).idle_timeout(SECOND))
        .in_memory()
        .await
        .unwrap();
    let mut expected = Vec::new();
    for n in 0..1000 {
        let key = format!("{:04}", n * 7 % 1000);
        runtime.start::<Counter>(&*key, ()).await.unwrap();
        expected.push(key);
        if n == 600 {
            tokio::time::sleep(2 * SECOND).await;
        }
    }
    // The first servers are stored, the others are in memory only.
    let count = runtime.count::<Counter>().await.unwrap();
    assert_eq!((count.live, count.stored), (399, 601));
    runtime.at::<Counter>("0007", ()).value().await.unwrap();
    expected.sort();
    let mut servers = runtime.keys::<Counter>();
    let mut found = Vec::new();
    while let Some(key) = servers.next().await {
        found.push(key.unwrap().to_string());
    }
    assert_eq!(found, expected);
}

async fn pair() -> (Runtime, FaultyStorage, Runtime, FaultyStorage) {
    let (here, there) = (FaultyStorage::default(), FaultyStorage::default());
    (
        Runtime::builder().open_with(here.clone()).await.unwrap(),
        here,
        Runtime::builder().open_with(there.clone()).await.unwrap(),
        there,
    )
}

fn id() -> ServerId {
    ServerId::new("Counter", "a")
}

#[tokio::test(start_paused = true)]
async fn a_transferred_server_exists_only_in_its_new_runtime() {
    let (here, source, there, target) = pair().await;
    let client = here.at::<Counter>("a", ());
    client.increment().await.unwrap();
    here.transfer(&client.address(), &there).await.unwrap();
    assert!(source.states.get(&id()).is_none());
    assert!(target.states.get(&id()).is_some());
    assert_eq!(there.count::<Counter>().await.unwrap().live, 1, "active there");
    assert_eq!(there.find::<Counter>("a").await.unwrap().increment().await.unwrap(), 2);
    assert_eq!(client.increment().await.unwrap(), 3, "old clients are forwarded");
    assert_eq!(
        here.at::<Counter>("a", ()).increment().await.unwrap(),
        4,
        "new clients are forwarded"
    );
    // Transfers the server there and back again.
    there.transfer(&client.address(), &here).await.unwrap();
    assert_eq!(client.increment().await.unwrap(), 5);
    assert!(target.states.get(&id()).is_none());
    assert_eq!(there.at::<Counter>("a", ()).increment().await.unwrap(), 6);
}

/// Calls of the client that was transferred are forwarded, calls to the namesake are not.
#[tokio::test(start_paused = true)]
async fn a_server_can_be_transferred_to_where_its_namesake_left() {
    let (here, _, there, _) = pair().await;
    let elsewhere = Runtime::in_memory().await.unwrap();
    let client = here.at::<Counter>("a", ());
    client.increment().await.unwrap();
    here.transfer(&client.address(), &there).await.unwrap();
    let namesake = elsewhere.at::<Counter>("a", ());
    for _ in 0..5 {
        namesake.increment().await.unwrap();
    }
    elsewhere.transfer(&namesake.address(), &here).await.unwrap();
    assert_eq!(namesake.value().await.unwrap(), 5);
    assert_eq!(client.value().await.unwrap(), 5, "the server is here now");
    assert_eq!(there.at::<Counter>("a", ()).value().await.unwrap(), 1);
}

#[derive(Default, Serialize, Deserialize)]
struct Fragile;

#[persistent_server(max_restarts(0, within = "60s"))]
impl Fragile {
    pub fn touch(&self) {}

    pub fn crash(&self) {
        panic!("on purpose");
    }

    pub async fn hang(&self) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn the_controls_and_watchers_of_a_client_follow_a_transferred_server() {
    let (here, there) = (Runtime::in_memory().await.unwrap(), Runtime::in_memory().await.unwrap());
    let client = here.start::<Fragile>("a", ()).await.unwrap();
    let mut early = client.watch().await.unwrap();
    here.transfer(&client.address(), &there).await.unwrap();
    let mut late = client.watch().await.unwrap();
    let hanging = tokio::spawn({
        let client = client.clone();
        async move { client.hang().await }
    });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    client.kill().await.unwrap();
    assert!(matches!(hanging.await.unwrap(), Err(CallError::Killed { .. })));
    client.crash().await.unwrap_err();
    assert!(matches!(client.touch().await, Err(CallError::RestartLimit { .. })));
    client.reset().await.unwrap();
    client.touch().await.unwrap();
    let panic = "on purpose".to_owned();
    let common = [
        Event::Killed,
        Event::Started,
        Event::Crashed { panic: panic.clone(), poison: true },
        Event::Failed { panic },
        Event::Started,
    ];
    let moved = [Event::Stopped { reason: StopReason::Transfer }, Event::Started];
    for event in moved.iter().chain(&common) {
        assert_eq!(early.next().await.as_ref(), Some(event));
    }
    for event in &common {
        assert_eq!(late.next().await.as_ref(), Some(event));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_keeps_options_resources_and_reminders() {
    let (here, _, there, _) = pair().await;
    let client = here
        .at::<Traveller>("a", ())
        .with_options(Options::new().idle_timeout(10 * SECOND))
        .unwrap();
    client.pack("map".into()).await.unwrap();
    client.remind(100 * SECOND).await.unwrap();
    here.transfer(&client.address(), &there).await.unwrap();
    let there_client = there.at::<Traveller>("a", ());
    assert_eq!(there_client.luggage().await.unwrap().as_deref(), Some("map"));
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(
        there.count::<Traveller>().await.unwrap().live,
        0,
        "the idle timeout was transferred"
    );
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(there_client.reminded().await.unwrap(), 1);
}

/// Holds a resource, which is in memory only.
#[derive(Default, Serialize, Deserialize)]
struct Traveller {
    reminded: u32,
}

#[persistent_server]
impl Traveller {
    pub fn pack(&self, luggage: String, context: &Context<Self>) {
        context.insert_resource("luggage", luggage);
    }

    pub fn luggage(&self, context: &Context<Self>) -> Option<String> {
        context.resource::<String>("luggage").map(|luggage| luggage.to_string())
    }

    pub fn remind(&mut self, wait: Duration, context: &Context<Self>) {
        context.remind("later", wait, TravellerMessage::Receive);
    }

    #[info]
    fn receive(&mut self) {
        self.reminded += 1;
    }

    pub fn reminded(&self) -> u32 {
        self.reminded
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transfer_under_traffic_fails_no_accepted_message() {
    let (here, source, there, _) = pair().await;
    let server = here.at::<Counter>("a", ()).with_timeout(60 * SECOND);
    let address = server.address();
    // A server that was never activated has nothing to transfer.
    assert_eq!(server.increment().await.unwrap(), 1);
    let calls: Vec<_> = (1..3000)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.increment().await })
        })
        .collect();
    for round in 0..4 {
        let (from, to) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        from.transfer(&address, to).await.unwrap();
    }
    here.transfer(&address, &there).await.unwrap();
    let mut values = Vec::new();
    for call in calls {
        values.push(call.await.unwrap().unwrap());
    }
    values.sort_unstable();
    assert!(values.into_iter().eq(2..=3000), "each call once");
    assert_eq!(there.find::<Counter>("a").await.unwrap().value().await.unwrap(), 3000);
    assert!(source.states.get(&id()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_transfer_directly_after_a_crash_neither_deadlocks_nor_loses_changes() {
    let (here, _, there, _) = pair().await;
    let server = here.at::<Counter>("a", ());
    for round in 1..=20 {
        assert_eq!(server.increment().await.unwrap(), round);
        let crash = tokio::spawn({
            let server = server.clone();
            async move { server.crash("before the transfer".into()).await }
        });
        let (from, to) = if round % 2 == 1 { (&here, &there) } else { (&there, &here) };
        from.transfer(&server.address(), to).await.unwrap();
        crash.await.unwrap().unwrap_err();
        assert_eq!(server.value().await.unwrap(), round);
    }
}

/// Regression: a transfer whose last save was refused moved the state before it and
/// returned `Ok`, so that nine acknowledged changes were lost.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_cannot_save_unsaved_changes_fails() {
    let storage = FaultyStorage::default();
    let here = Runtime::builder()
        .defaults(Options::new().persist(Persist::OnStop))
        .open_with(storage.clone())
        .await
        .unwrap();
    let there = Runtime::in_memory().await.unwrap();
    let server = here.at::<Counter>("a", ());
    server.increment().await.unwrap();
    server.with_persist(Persist::EveryMessage).value().await.unwrap();
    for _ in 0..9 {
        server.increment().await.unwrap();
    }
    storage.on_next_commit(Fault::Refuse);
    let moved = here.transfer(&server.address(), &there).await;
    assert!(moved.is_err(), "{} of 10 are left", server.value().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_refused_transfer_leaves_the_server_in_place() {
    let (here, source, there, target) = pair().await;
    let server: CounterClient = here.at::<Counter>("a", ());
    let address = server.address();
    let error = here.transfer(&address, &there).await.unwrap_err();
    assert!(matches!(error, CallError::NotFound { .. }), "{error}");
    assert!(target.states.get(&id()).is_none());

    server.increment().await.unwrap();
    target.on_commit(Fault::Refuse);
    let error = here.transfer(&address, &there).await.unwrap_err();
    assert!(matches!(error, CallError::Storage { .. }), "{error}");
    target.on_commit(Fault::None);
    target.on_load(Fault::Refuse);
    here.transfer(&address, &there).await.unwrap_err();
    target.on_load(Fault::None);
    assert_eq!(server.increment().await.unwrap(), 2);

    // A target that answers too late is abandoned, and must not accept the server later.
    let busy = there.at::<Counter>("a", ()).with_timeout(100 * SECOND);
    let (waited, deleted, moved) =
        tokio::join!(busy.value_after(50 * SECOND), busy.delete(), here.transfer(&address, &there));
    let error = moved.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    waited.unwrap();
    deleted.unwrap();
    assert_eq!(server.increment().await.unwrap(), 3);
    assert_eq!(busy.increment().await.unwrap(), 1);

    let error = here.transfer(&address, &there).await.unwrap_err();
    assert!(matches!(error, CallError::AlreadyExists { .. }), "{error}");
    busy.stop("the server is stored anyway").await.unwrap();
    let error = here.transfer(&address, &there).await.unwrap_err();
    assert!(matches!(error, CallError::AlreadyExists { .. }), "{error}");
    busy.delete().await.unwrap();
    there.shutdown(SECOND).await.unwrap();
    let error = here.transfer(&address, &there).await.unwrap_err();
    assert!(matches!(error, CallError::RuntimeStopped { .. }), "{error}");
    assert_eq!(server.increment().await.unwrap(), 4);
    assert!(source.states.get(&id()).is_some());
    here.transfer(&address, &here).await.unwrap();
    assert_eq!(server.increment().await.unwrap(), 5);
}

/// Once the target has started to store the server, the transfer must not be cancelled:
/// the server would exist twice.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_is_being_stored_is_not_cancelled() {
    let (here, source, there, target) = pair().await;
    let counter = here.at::<Counter>("a", ());
    counter.increment().await.unwrap();
    target.on_next_commit(Fault::Slow(100 * SECOND));
    let error = here.transfer(&counter.address(), &there).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(counter.increment().await.unwrap(), 2);
    assert_eq!(there.at::<Counter>("a", ()).increment().await.unwrap(), 3);
    assert!(source.states.get(&id()).is_none());
}

static ENCODED: AtomicUsize = AtomicUsize::new(0);

/// Counts how often it is encoded.
#[derive(Default, Deserialize)]
struct Costly(u64);

impl Serialize for Costly {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        self.0.serialize(serializer)
    }
}

#[persistent_server]
impl Costly {
    pub fn get(&self) -> u64 {
        self.0
    }

    pub fn set(&mut self, n: u64) {
        self.0 = n;
    }
}

/// A read never encodes the state, so that its cost cannot depend on the size of the
/// state. No message accesses another server.
#[tokio::test]
async fn the_cost_of_a_read_depends_on_neither_its_state_nor_other_servers() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().check_states(false).open_with(storage.clone()).await.unwrap();
    for n in 0..1000 {
        runtime.at::<Costly>(n.to_string(), ()).set(n).await.unwrap();
    }
    let (encoded, loads) = (ENCODED.load(Ordering::SeqCst), storage.loads());
    let server = runtime.at::<Costly>("500", ());
    for _ in 0..1000 {
        assert_eq!(server.get().await.unwrap(), 500);
    }
    assert_eq!((ENCODED.load(Ordering::SeqCst), storage.loads()), (encoded, loads));
    server.set(1).await.unwrap();
    assert_eq!(ENCODED.load(Ordering::SeqCst), encoded + 1, "a write encodes its own state once");
}

/// Generic code can call the controls of any server.
#[tokio::test]
async fn controls_are_available_in_generic_code() {
    async fn delete<S: Server>(runtime: &Runtime, address: &Address<S>) -> Result<(), CallError> {
        runtime.client(address).delete().await
    }
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.increment().await.unwrap();
    delete(&runtime, &server.address()).await.unwrap();
    assert_eq!(server.value().await.unwrap(), 0);
}

/// Regression: a postponed transfer back waited in the mailbox and occupied its only
/// place, which the message before it needed. Neither was ever handled.
#[tokio::test(start_paused = true)]
async fn a_postponed_transfer_back_leaves_capacity_for_the_messages_before_it() {
    let open = async || {
        let storage = FaultyStorage::default();
        storage.on_commit(Fault::Slow(SECOND / 100));
        let narrow = Options::new().mailbox(1);
        Runtime::builder().configure::<Counter>(narrow).open_with(storage).await.unwrap()
    };
    let (here, there) = (open().await, open().await);
    let counter = here.at::<Counter>("a", ());
    counter.increment().await.unwrap();
    here.transfer(&counter.address(), &there).await.unwrap();
    let address = counter.address();
    let back = there.transfer(&address, &here);
    let (back, value) = tokio::join!(back, counter.increment());
    back.unwrap();
    assert_eq!(value.unwrap(), 2);
    assert_eq!(here.find::<Counter>("a").await.unwrap().value().await.unwrap(), 2);
}

/// Returns a server that comes back `here` in half a second, after it has handled the
/// forwarded messages. Meanwhile a bump waits for it here.
async fn returning() -> (Runtime, Runtime, CounterClient, JoinHandle<Result<(), CallError>>) {
    let (here, _, there, _) = pair().await;
    let counter = here.at::<Counter>("a", ());
    counter.increment().await.unwrap();
    here.transfer(&counter.address(), &there).await.unwrap();
    let slowly = || {
        let counter = counter.clone();
        tokio::spawn(async move { counter.increment_after(SECOND).await })
    };
    slowly();
    tokio::time::sleep(SECOND / 10).await;
    let back = tokio::spawn({
        let (here, there, address) = (here.clone(), there.clone(), counter.address());
        async move { there.transfer(&address, &here).await }
    });
    tokio::task::yield_now().await;
    slowly();
    tokio::time::sleep(SECOND * 7 / 5).await;
    counter.bump().await.unwrap();
    assert!(!back.is_finished());
    (here, there, counter, back)
}

#[tokio::test(start_paused = true)]
async fn a_kill_before_a_transfer_back_loses_only_the_message_in_progress() {
    let (here, there, counter, back) = returning().await;
    counter.kill().await.unwrap();
    back.await.unwrap().unwrap();
    assert_eq!(counter.value().await.unwrap(), 3);
    assert_eq!(here.count::<Counter>().await.unwrap().live, 1);
    assert_eq!(there.count::<Counter>().await.unwrap().live, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_stays_if_the_target_of_its_transfer_back_ends() {
    for orderly in [true, false] {
        let (here, there, counter, back) = returning().await;
        if orderly {
            here.shutdown(10 * SECOND).await.unwrap();
        } else {
            here.shutdown(SECOND / 10).await.unwrap_err();
        }
        let error = back.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::RuntimeStopped { .. }), "{error}");
        let error = counter.value().await.unwrap_err();
        assert!(matches!(error, CallError::RuntimeStopped { .. }), "{error}");
        let expected = if orderly { 4 } else { 3 };
        assert_eq!(there.at::<Counter>("a", ()).value().await.unwrap(), expected);
        there.shutdown(SECOND).await.unwrap();
    }
}

/// Otherwise the server would be stored in a runtime that no longer runs.
#[tokio::test(start_paused = true)]
async fn a_server_stays_if_the_target_of_its_transfer_ends() {
    let (here, source, there, target) = pair().await;
    let counter = here.at::<Counter>("a", ());
    let address = counter.address();
    counter.increment().await.unwrap();
    here.transfer(&address, &there).await.unwrap();
    target.on_load(Fault::Slow(SECOND));
    let back = there.transfer(&address, &here);
    let end = async {
        tokio::time::sleep(SECOND / 2).await;
        here.shutdown(SECOND / 10).await
    };
    let (back, end) = tokio::join!(back, end);
    end.unwrap_err();
    let error = back.unwrap_err();
    assert!(matches!(error, CallError::RuntimeStopped { .. }), "{error}");
    assert!(source.states.get(&id()).is_none());
    assert_eq!(there.at::<Counter>("a", ()).increment().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_can_be_transferred_from_a_runtime_that_is_shutting_down() {
    let (here, there, counter, back) = returning().await;
    there.shutdown(10 * SECOND).await.unwrap();
    back.await.unwrap().unwrap();
    assert_eq!(counter.value().await.unwrap(), 4);
    here.shutdown(SECOND).await.unwrap();
}

/// Regression: a copy that could not be deleted prevented its server from ever coming
/// back.
#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_deleted_is_reported_and_replaced_by_its_server() {
    let (here, source, there, _) = pair().await;
    let counter = here.at::<Counter>("a", ());
    counter.increment().await.unwrap();
    source.on_next_commit(Fault::Refuse);
    let error = here.transfer(&counter.address(), &there).await.unwrap_err();
    assert!(matches!(error, CallError::Storage { .. }), "{error}");
    assert_eq!(there.find::<Counter>("a").await.unwrap().increment().await.unwrap(), 2);
    assert_eq!(counter.increment().await.unwrap(), 3, "the server was transferred");
    assert!(source.states.get(&id()).is_some(), "a copy is left");
    there.transfer(&counter.address(), &here).await.unwrap();
    counter.kill().await.unwrap();
    assert_eq!(counter.increment().await.unwrap(), 4);
    assert_eq!(there.count::<Counter>().await.unwrap().stored, 0);
}
