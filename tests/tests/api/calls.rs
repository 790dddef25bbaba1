//! Addresses, calls, casts, deadlines and payloads.

use std::time::Duration;

use persistent_runtime::{
    Address, CallError, Client, MemoryStorage, Options, Outcome, Runtime, persistent_server,
};
use persistent_tests::{Counter, CounterClient, CounterMessage, Fault, FaultyStorage};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_struct_behaves_the_same_as_a_plain_value_and_as_a_server() {
    let mut plain = Counter::default();
    assert_eq!((plain.value(), plain.increment()), (0, 1));
    (0..3).for_each(|_| plain.bump());
    assert_eq!(plain.value(), 4);

    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    assert_eq!((server.value().await.unwrap(), server.increment().await.unwrap()), (0, 1));
    for _ in 0..3 {
        server.bump().await.unwrap();
    }
    assert_eq!(server.value().await.unwrap(), 4);
}

#[tokio::test]
async fn casts_and_calls_of_one_client_keep_their_order() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Log>("a", ());
    for n in 0..500 {
        match n % 3 {
            0 => server.note(n).await.unwrap(),
            1 => Client::cast(&server, LogMessage::Note { n }).await.unwrap(),
            _ => assert_eq!(server.note_and_count(n).await.unwrap(), n + 1),
        }
    }
    assert_eq!(server.all().await.unwrap(), (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn concurrent_casts_all_count_and_survive_a_crash() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    let casts: Vec<_> = (0..20)
        .map(|task| {
            let server = server.clone();
            tokio::spawn(async move {
                for cast in 0..5 {
                    tokio::time::sleep(Duration::from_micros(task * 37 % 11 * cast)).await;
                    server.bump().await.unwrap();
                }
            })
        })
        .collect();
    for cast in casts {
        cast.await.unwrap();
    }
    assert_eq!(server.value().await.unwrap(), 100);
    server.crash("now".into()).await.unwrap_err();
    assert_eq!(server.value().await.unwrap(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_times_out_and_the_server_continues() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    let hasty = server.with_timeout(Duration::from_millis(100));
    let begin = Instant::now();
    let error = hasty.increment_after(Duration::from_millis(500)).await.unwrap_err();
    assert!(
        matches!(error, CallError::Timeout { after, .. } if after == begin.elapsed()),
        "{error}"
    );
    // The handler was not cancelled. Its late reply is dropped.
    assert_eq!(server.value().await.unwrap(), 1);
    assert_eq!(begin.elapsed(), Duration::from_millis(500));
    assert_eq!(server.increment().await.unwrap(), 2);
}

/// A client reuses its timer for each call.
#[tokio::test(start_paused = true)]
async fn each_call_of_a_client_has_a_deadline_of_its_own() {
    let ms = Duration::from_millis;
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ()).with_timeout(ms(100));
    server.increment_after(ms(90)).await.unwrap();
    sleep(ms(70)).await;
    server.increment_after(ms(90)).await.unwrap();
    let times_out = async |early: Duration| {
        sleep(early).await;
        let begin = Instant::now();
        let result = server.increment_after(ms(500)).await;
        assert!(matches!(result, Err(CallError::Timeout { .. })), "{result:?}");
        assert_eq!(begin.elapsed(), ms(100));
    };
    times_out(ms(0)).await;
    tokio::join!(times_out(ms(0)), times_out(ms(30)), times_out(ms(60)));
    // A dropped call leaves a timer behind that must not affect the next call.
    timeout(ms(50), server.increment_after(ms(500))).await.unwrap_err();
    times_out(ms(0)).await;
}

#[tokio::test(start_paused = true)]
async fn one_deadline_covers_activation_queueing_handling_and_commit() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let timeout = Duration::from_millis(100);
    let times_out = async |server: &CounterClient| {
        let begin = Instant::now();
        let result = server.increment().await;
        assert!(matches!(result, Err(CallError::Timeout { .. })), "{result:?}");
        assert_eq!(begin.elapsed(), timeout);
    };

    let server = runtime.at::<Counter>("activation", ()).with_timeout(timeout);
    storage.on_load(Fault::Hang);
    times_out(&server).await;
    storage.on_load(Fault::None);

    let server = runtime.at::<Counter>("commit", ()).with_timeout(timeout);
    storage.on_commit(Fault::Hang);
    times_out(&server).await;
    storage.on_commit(Fault::None);

    let server = runtime.at::<Counter>("queue", ()).with_timeout(timeout);
    let busy = server.with_timeout(Duration::from_mins(1));
    let other = tokio::spawn(async move { busy.value_after(Duration::from_secs(1)).await });
    tokio::task::yield_now().await;
    times_out(&server).await;
    assert_eq!(other.await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_makes_senders_wait_in_order_and_loses_nothing() {
    let runtime = Runtime::builder()
        .configure::<Counter>(Options::new().mailbox(2))
        .in_memory()
        .await
        .unwrap();
    let server = runtime.at::<Counter>("a", ());
    let busy = server.clone();
    let busy = tokio::spawn(async move { busy.value_after(Duration::from_secs(1)).await });
    tokio::task::yield_now().await;
    server.bump().await.unwrap();
    server.bump().await.unwrap();
    let full = server.with_timeout(Duration::from_millis(10)).bump().await;
    assert!(matches!(full, Err(CallError::Timeout { .. })), "the third waits: {full:?}");
    let begin = Instant::now();
    server.bump().await.unwrap();
    assert!(begin.elapsed() > Duration::from_millis(900), "the third waits for capacity");
    assert_eq!(busy.await.unwrap().unwrap(), 0);
    assert_eq!(server.value().await.unwrap(), 3, "the sender that timed out was not queued");
}

#[tokio::test]
async fn a_dropped_call_does_not_cancel_its_handler() {
    let runtime = Runtime::in_memory().await.unwrap();
    let server = runtime.at::<Counter>("a", ());
    server.value().await.unwrap();
    let call = server.clone();
    let call = tokio::spawn(async move { call.increment_in_halves().await });
    tokio::task::yield_now().await;
    call.abort();
    let value = server.value().await.unwrap();
    assert!(value == 0 || value == 2, "a partial message: {value}");
}

#[tokio::test]
async fn servers_of_different_types_or_keys_are_separate() {
    let runtime = Runtime::in_memory().await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    assert_eq!(runtime.at::<Counter>("b", ()).value().await.unwrap(), 0);
    runtime.at::<Log>("a", ()).note(7).await.unwrap();
    assert_eq!(runtime.at::<Counter>("a", ()).value().await.unwrap(), 1);
    assert_eq!(runtime.at::<Log>("a", ()).all().await.unwrap(), [7]);
}

#[tokio::test]
async fn two_types_with_one_stored_name_are_refused() {
    let runtime = Runtime::in_memory().await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    let error = runtime.at::<impostor::Counter>("a", ()).get().await.unwrap_err();
    assert!(matches!(error, CallError::NameTaken { .. }), "{error}");
    assert!(
        error.to_string().contains("Counter") && error.to_string().contains("name ="),
        "{error}"
    );
    assert_eq!(runtime.at::<Counter>("a", ()).value().await.unwrap(), 1);
}

mod impostor {
    use super::{Deserialize, Serialize, persistent_server};

    #[derive(Default, Serialize, Deserialize)]
    pub struct Counter;

    #[persistent_server]
    impl Counter {
        pub fn get(&self) {}
    }
}

#[tokio::test]
async fn find_creates_nothing_and_at_creates_with_the_first_message() {
    let storage = FaultyStorage::default();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let error = runtime.find::<Counter>("a").await.unwrap_err();
    assert!(matches!(error, CallError::NotFound { .. }), "{error}");
    let text = r#"Counter "a" does not exist; start it, or use a client with init arguments"#;
    assert_eq!(error.to_string(), text);
    assert_eq!(storage.writes(), 0);

    let loads = storage.loads();
    let server = runtime.at::<Counter>("a", ());
    assert_eq!((storage.loads(), storage.writes()), (loads, 0), "`at` does no I/O");
    assert_eq!(server.value().await.unwrap(), 0);
    assert_eq!(runtime.find::<Counter>("a").await.unwrap().value().await.unwrap(), 0);
}

#[tokio::test]
async fn a_found_client_does_not_create_the_server_again() {
    let runtime = Runtime::in_memory().await.unwrap();
    runtime.start::<Counter>("a", ()).await.unwrap();
    let found = runtime.find::<Counter>("a").await.unwrap();
    found.delete().await.unwrap();
    assert!(matches!(found.increment().await, Err(CallError::NotFound { .. })));
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, 0);
}

#[tokio::test]
async fn starting_twice_gives_the_same_instance() {
    let runtime = Runtime::in_memory().await.unwrap();
    let first = runtime.start::<Counter>("a", ()).await.unwrap();
    first.increment().await.unwrap();
    let second = runtime.start::<Counter>("a", ()).await.unwrap();
    assert_eq!(second.increment().await.unwrap(), 2);
    assert_eq!(first.value().await.unwrap(), 2);
    assert_eq!(runtime.count::<Counter>().await.unwrap().live, 1);
}

#[tokio::test]
async fn an_address_stored_in_another_server_works_after_a_restart() {
    let storage = FaultyStorage::default();
    let first = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let counter = first.at::<Counter>("a", ());
    counter.increment().await.unwrap();
    first.at::<Fan>("fan", ()).follow(counter.address()).await.unwrap();
    first.shutdown(Duration::from_secs(1)).await.unwrap();

    let second = Runtime::builder().open_with(storage).await.unwrap();
    let fan = second.at::<Fan>("fan", ());
    assert_eq!(fan.cheer().await.unwrap(), 2, "through the handler's context");
    let counter: CounterClient = second.client(&fan.idol().await.unwrap().unwrap());
    assert_eq!(counter.increment().await.unwrap(), 3);
    assert_eq!(second.at::<Counter>("a", ()).value().await.unwrap(), 3);
}

/// Regression: the init argument `()` was stored like a missing argument, so that a
/// stored address no longer led to a server that had not been created yet.
#[test]
fn a_stored_address_keeps_an_init_argument_of_unit_type() {
    for (address, known) in
        [(Address::<Counter>::new("a", ()), true), (Address::existing("a"), false)]
    {
        let stored = serde_json_like(&address);
        assert_eq!(read::<Address<Counter>>(&stored).unwrap().init().is_some(), known);
        let text = serde_json::to_string(&address).unwrap();
        let read: Address<Counter> = serde_json::from_str(&text).unwrap();
        assert_eq!(read.init().is_some(), known, "{text}");
    }
}

#[tokio::test]
async fn an_address_of_one_type_is_not_used_as_an_address_of_another() {
    let stored = serde_json_like(&Address::<Counter>::new("a", ()));
    let address = read::<Address<Log>>(&stored).unwrap();
    assert_eq!((address.id().kind(), address.key()), ("Counter", "a"));
    assert!(address.init().is_none() && address != Address::existing("a"));
    assert_eq!(serde_json_like(&address), stored);

    let runtime = Runtime::in_memory().await.unwrap();
    runtime.at::<Log>("a", ()).note_and_count(1).await.unwrap();
    let log = runtime.client(&address);
    assert_eq!(serde_json_like(&log.address()), stored);
    for error in [log.all().await.unwrap_err(), log.stop("test").await.unwrap_err()] {
        assert!(matches!(&error, CallError::OtherKind { current, .. } if current == "Log"));
        assert!(error.to_string().starts_with("cannot reach Counter \"a\""), "{error}");
    }
    assert_eq!(read::<Address<Counter>>(&stored).unwrap().key(), "a");
}

/// Servers and a list of their addresses, in two versions of a program.
mod members {
    use super::*;

    macro_rules! version {
        ($version:ident, $init:ty) => {
            pub mod $version {
                use super::*;

                #[derive(Serialize, Deserialize)]
                pub struct Member($init);

                #[persistent_server(name = "member")]
                impl Member {
                    #[init]
                    fn new(init: $init) -> Self {
                        Self(init)
                    }

                    pub fn init(&self) -> String {
                        format!("{:?}", self.0)
                    }
                }

                #[derive(Default, Serialize, Deserialize)]
                pub struct Team {
                    members: Vec<Address<Member>>,
                    score: u64,
                }

                #[persistent_server(name = "team")]
                impl Team {
                    pub fn join(&mut self, member: Address<Member>) -> u64 {
                        self.members.push(member);
                        self.score += 1;
                        self.score
                    }

                    pub fn members(&self) -> Vec<Address<Member>> {
                        self.members.clone()
                    }
                }
            }
        };
    }

    version!(first, String);
    version!(second, (String, u8));
}

/// A changed `#[init]` made every state unreadable that contained such an address.
#[tokio::test]
async fn an_address_decodes_whatever_became_of_the_init_arguments() {
    use members::{first, second};
    let storage = MemoryStorage::new();
    let address = Address::<first::Member>::new("ada", "Ada".to_owned());
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    assert_eq!(runtime.at::<first::Team>("reds", ()).join(address.clone()).await.unwrap(), 1);
    runtime.shutdown(SECOND).await.unwrap();

    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let team = runtime.at::<second::Team>("reds", ());
    let members = team.members().await.unwrap();
    assert!(members[0].init().is_none());
    let error = runtime.client(&members[0]).init().await.unwrap_err();
    let CallError::Init { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.starts_with("the init arguments of its address do not decode: "), "{reason}");
    let next = Address::<second::Member>::new("bob", ("Bob".to_owned(), 1));
    assert_eq!(runtime.client(&next).init().await.unwrap(), r#"("Bob", 1)"#);
    assert_eq!(team.join(next).await.unwrap(), 2);
    runtime.shutdown(SECOND).await.unwrap();

    // The former init arguments were stored again.
    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    let members = runtime.at::<first::Team>("reds", ()).members().await.unwrap();
    assert_eq!(members[0].init(), address.init());
    assert_eq!(runtime.client(&members[0]).init().await.unwrap(), r#""Ada""#);
    assert!(members[1].init().is_none());
}

/// Its init arguments can contain an address of another such server.
#[derive(Serialize, Deserialize)]
struct Chained(Option<Address<Chained>>);

#[persistent_server]
impl Chained {
    #[init]
    fn new(next: Option<Address<Chained>>) -> Self {
        Self(next)
    }
}

#[test]
fn addresses_within_init_arguments_are_limited() {
    let chain = |links: usize| {
        let first = Address::<Chained>::new("end", None);
        (0..links).fold(first, |next, _| Address::new("link", Some(next)))
    };
    let links = |mut address: &Address<Chained>| {
        let mut links = 0;
        while let Some(Some(next)) = address.init() {
            (links, address) = (links + 1, next);
        }
        links
    };
    let most = (1..10).find(|most| encode(&chain(most + 1)).is_err()).unwrap();
    assert_eq!(links(&read::<Address<Chained>>(&encode(&chain(most)).unwrap()).unwrap()), most);
    assert!(encode(&chain(1000)).unwrap_err().contains("nested deeper"));
}

fn serde_json_like<T: Serialize>(value: &T) -> Vec<u8> {
    encode(value).unwrap()
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut buffer = Vec::new();
    let encoded = persistent_runtime::__private::encode(value, &mut buffer);
    encoded.map(|()| buffer).map_err(|error| error.to_string())
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    persistent_runtime::__private::decode(bytes).map_err(|error| error.to_string())
}

#[tokio::test]
async fn empty_and_large_states_survive_unchanged() {
    let storage = FaultyStorage::default();
    for (size, text) in [(0, ""), (10_000, "x"), (1, &*"é".repeat(2_500_000))] {
        let numbers: Vec<u64> = (0..size).collect();
        let value = Some((numbers, text.to_owned()));
        for next in [value, None] {
            let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
            let server = runtime.at::<Cupboard>("a", ());
            assert_eq!(server.put(next.clone()).await.unwrap(), ());
            runtime.shutdown(Duration::from_secs(5)).await.unwrap();
            let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
            assert_eq!(runtime.at::<Cupboard>("a", ()).get().await.unwrap(), next);
            runtime.shutdown(Duration::from_secs(5)).await.unwrap();
        }
    }
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    runtime.at::<Unit>("a", ()).poke().await.unwrap();
    runtime.shutdown(Duration::from_secs(5)).await.unwrap();
    let runtime = Runtime::builder().open_with(storage).await.unwrap();
    runtime.find::<Unit>("a").await.unwrap().poke().await.unwrap();
}

#[tokio::test]
async fn every_key_is_found_exactly_as_it_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let large = "k".repeat(100_000);
    let keys =
        ["", " ", "\0", "a\0b", "a", "A", "ä", "a\u{308}", "💾", "'; DROP TABLE servers", &large];
    let runtime = Runtime::open(&path).await.unwrap();
    for (n, key) in (1..).zip(keys) {
        let server = runtime.at::<Log>(key, ());
        server.note(n).await.unwrap();
        server.all().await.unwrap();
    }
    runtime.shutdown(Duration::from_secs(5)).await.unwrap();
    let runtime = Runtime::open(&path).await.unwrap();
    for (n, key) in (1..).zip(keys) {
        assert_eq!(runtime.find::<Log>(key).await.unwrap().all().await.unwrap(), [n], "{key:.9?}");
    }
    assert_eq!(runtime.count::<Log>().await.unwrap().stored, keys.len() as u64);
    assert!(runtime.find::<Log>("a\0").await.is_err());
}

#[tokio::test]
async fn messages_are_plain_values() {
    let message = CounterMessage::IncrementAfter { wait: Duration::from_secs(1) };
    assert_eq!(format!("{message:?}"), "IncrementAfter { wait: 1s }");
    let copy: CounterMessage = read(&serde_json_like(&message)).unwrap();
    assert_eq!(format!("{copy:?}"), format!("{message:?}"));
}

/// Records numbers in order.
#[derive(Default, Serialize, Deserialize)]
struct Log(Vec<u64>);

#[persistent_server]
impl Log {
    #[cast]
    pub fn note(&mut self, n: u64) {
        self.0.push(n);
    }

    pub fn note_and_count(&mut self, n: u64) -> u64 {
        self.0.push(n);
        self.0.len() as u64
    }

    pub fn all(&self) -> Vec<u64> {
        self.0.clone()
    }
}

/// Holds the address of another server.
#[derive(Default, Serialize, Deserialize)]
struct Fan {
    idol: Option<Address<Counter>>,
}

#[persistent_server]
impl Fan {
    pub fn follow(&mut self, idol: Address<Counter>) {
        self.idol = Some(idol);
    }

    pub async fn cheer(&self, context: &persistent_runtime::Context<Self>) -> u64 {
        context.client_of(self.idol.as_ref().unwrap()).increment().await.unwrap()
    }

    pub fn idol(&self) -> Option<Address<Counter>> {
        self.idol.clone()
    }
}

/// Holds an optional value.
#[derive(Default, Serialize, Deserialize)]
struct Cupboard(Option<(Vec<u64>, String)>);

#[persistent_server]
impl Cupboard {
    pub fn put(&mut self, value: Option<(Vec<u64>, String)>) {
        self.0 = value;
    }

    pub fn get(&self) -> Option<(Vec<u64>, String)> {
        self.0.clone()
    }
}

/// An empty state.
#[derive(Default, Serialize, Deserialize)]
struct Unit;

#[persistent_server]
impl Unit {
    pub fn poke(&mut self) {}
}

#[derive(Default, Serialize, Deserialize)]
struct Meter {
    ticks: u64,
}

#[persistent_server]
impl Meter {
    pub fn start(&mut self, context: &persistent_runtime::Context<Self>) {
        context.continue_with(MeterMessage::Tick { by: 2, note: None });
    }

    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    #[info]
    fn tick(&mut self, by: u64, note: Option<String>) {
        let _ = note;
        self.ticks += by;
    }
}

#[tokio::test]
async fn only_the_server_itself_sends_the_message_of_an_info_method() {
    let runtime = Runtime::in_memory().await.unwrap();
    let meter = runtime.at::<Meter>("a", ());
    let error = meter.cast(MeterMessage::Tick { by: 1, note: None }).await.unwrap_err();
    assert!(matches!(&error, CallError::Info { method, .. } if method == "tick"), "{error}");
    assert_eq!(error.outcome(), Outcome::NotRun);
    meter.cast(MeterMessage::Start).await.unwrap();
    assert_eq!(meter.ticks().await.unwrap(), 2);
}

/// The form of messages is part of the stored data.
#[test]
fn messages_have_the_form_that_serdes_derive_would_give_them() {
    #[derive(Serialize, Deserialize)]
    #[serde(rename = "MeterMessage")]
    enum Derived {
        Start,
        Ticks,
        Tick { by: u64, note: Option<String> },
    }

    let messages = [
        (MeterMessage::Start, Derived::Start),
        (MeterMessage::Ticks, Derived::Ticks),
        (MeterMessage::Tick { by: 1, note: None }, Derived::Tick { by: 1, note: None }),
        (
            MeterMessage::Tick { by: 2, note: Some("x".to_owned()) },
            Derived::Tick { by: 2, note: Some("x".to_owned()) },
        ),
    ];
    for (message, derived) in messages {
        let stored = serde_json_like(&derived);
        assert_eq!(serde_json_like(&message), stored);
        let text = serde_json::to_string(&derived).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
        let read = read::<MeterMessage>(&stored).unwrap();
        assert_eq!(serde_json_like(&read), stored);
    }
    for (text, expected) in [
        (r#"{"Tick":{"note":null,"by":1}}"#, Ok("Tick { by: 1, note: None }")),
        (r#"{"Tick":{"more":[1],"by":1}}"#, Ok("Tick { by: 1, note: None }")),
        (r#"{"Tick":[1,"x"]}"#, Ok(r#"Tick { by: 1, note: Some("x") }"#)),
        (r#"{"Start":null}"#, Ok("Start")),
        (r#"{"Tick":{"note":null}}"#, Err("missing field `by`")),
        (r#"{"Tick":{"by":1,"by":1}}"#, Err("duplicate field `by`")),
        (r#"{"Tick":1}"#, Err("expected struct variant MeterMessage::Tick")),
        (r#""Tick""#, Err("expected struct variant")),
        (r#""Tock""#, Err("unknown variant `Tock`, expected one of `Start`, `Ticks`, `Tick`")),
        ("1", Err("expected value")),
    ] {
        match (serde_json::from_str::<MeterMessage>(text), expected) {
            (Ok(message), expected) => assert_eq!(Ok(&*format!("{message:?}")), expected, "{text}"),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{text}: {error}");
            }
            (Err(error), Ok(_)) => panic!("{text}: {error}"),
        }
    }
}

/// A server with methods that Clippy complains about. Clippy checks that the generated client and
/// messages do not repeat what is allowed here.
#[derive(Default, Serialize, Deserialize)]
struct Order(usize);

#[persistent_server]
impl Order {
    #[expect(clippy::too_many_arguments)]
    pub fn add(
        &mut self,
        one: u8,
        two: u8,
        three: u8,
        four: u8,
        five: u8,
        six: u8,
        seven: u8,
        eight: u8,
    ) -> usize {
        self.0 += [one, two, three, four, five, six, seven, eight].len();
        self.0
    }

    #[expect(clippy::type_complexity)]
    pub fn count(
        &self,
        rows: Vec<(String, Option<Result<(u8, u16), (String, Vec<u8>)>>)>,
    ) -> usize {
        self.0 + rows.len()
    }
}

#[tokio::test]
async fn a_method_may_have_many_arguments_of_long_types() {
    let runtime = Runtime::in_memory().await.unwrap();
    let order = runtime.at::<Order>("a", ());
    assert_eq!(order.add(1, 2, 3, 4, 5, 6, 7, 8).await.unwrap(), 8);
    assert_eq!(order.count(vec![("row".to_owned(), None)]).await.unwrap(), 9);
}
