//! Arbitrary bytes and texts at every place where the runtime reads some: the result is
//! an error or a value, never a panic and never a large allocation.

use std::{
    collections::{BTreeMap, HashMap},
    panic,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use persistent_runtime::{
    Address, CallError, Client, Commit, Config, Context, MemoryStorage, Options, Record, Runtime,
    ServerId, Storage, Update, persistent_server,
};
use persistent_tests::{
    Counter,
    power::{Random, seed_of, times},
};
use serde::{Deserialize, Serialize};

/// All panics of this process, caught or not.
static PANICS: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.lock().unwrap().push(panic.to_string());
        usual(panic);
    }));
    Mutex::default()
});

fn assert_no_panic() {
    let panics = PANICS.lock().unwrap().clone();
    assert!(panics.is_empty(), "{panics:?}");
}

/// A state with every kind of field.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Shapes {
    #[serde(default)]
    number: u64,
    #[serde(default)]
    text: String,
    #[serde(default)]
    bytes: Vec<u8>,
    #[serde(default)]
    lists: Vec<Vec<u64>>,
    #[serde(default)]
    wide: Vec<[u64; 32]>,
    #[serde(default)]
    map: HashMap<String, Option<f64>>,
    #[serde(default)]
    ordered: BTreeMap<(i8, char), bool>,
    #[serde(default)]
    tree: Tree,
    #[serde(default)]
    loose: Option<Loose>,
    #[serde(default)]
    address: Option<Address<Counter>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
enum Tree {
    #[default]
    Leaf,
    Node(Box<Tree>),
    Fork {
        branches: Vec<Tree>,
    },
}

/// serde buffers the whole value before it decides on a variant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Loose {
    Number(i64),
    Texts(Vec<String>),
    Map(BTreeMap<String, Loose>),
}

#[persistent_server(name = "shapes", idle_timeout = never)]
impl Shapes {
    pub fn fill(&mut self, size: usize, context: &Context<Self>) {
        let list: Vec<u64> = (0..20).map(|bits| (1 << (3 * bits)) - 1).collect();
        self.number = u64::MAX;
        self.text = "ü".repeat(size);
        self.bytes = vec![200; size];
        self.lists = vec![list.clone(), Vec::new(), list];
        self.wide = vec![[7; 32]; 3];
        self.map = HashMap::from([("a".to_owned(), Some(0.5)), (String::new(), None)]);
        self.ordered = BTreeMap::from([((-1, 'ä'), true), ((5, 'b'), false)]);
        let fork = Tree::Fork { branches: vec![Tree::Leaf, Tree::Node(Box::default())] };
        self.tree = Tree::Node(Box::new(fork));
        let texts = Loose::Texts(vec!["x".repeat(40)]);
        self.loose = Some(Loose::Map(BTreeMap::from([("k".to_owned(), texts)])));
        self.address = Some(Address::new("somewhere", ()));
        for name in ["first", "second"] {
            let message = ShapesMessage::Ring { text: name.repeat(size), again: Some(Tree::Leaf) };
            context.remind(name, std::time::SystemTime::UNIX_EPOCH, message);
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    #[info]
    fn ring(&mut self, text: String, again: Option<Tree>) {
        self.text = text;
        self.tree = again.unwrap_or_default();
    }
}

/// Returns the stored record of a server that was filled with values of this size.
async fn valid(size: usize) -> Record {
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    runtime.at::<Shapes>("valid", ()).fill(size).await.unwrap();
    storage.get(&ServerId::new("shapes", "valid")).unwrap()
}

/// Returns every length and nesting that a `MessagePack` header can announce, without
/// content.
fn claims() -> Vec<Vec<u8>> {
    let mut claims = Vec::new();
    // Binary, extension, text, list and map, each with a length of one, two and four bytes.
    for codes in [&[0xc4, 0xc5, 0xc6][..], &[0xc7, 0xc8, 0xc9], &[0xd9, 0xda, 0xdb]] {
        for (code, bytes) in codes.iter().zip([1, 2, 4]) {
            claims.push([&[*code][..], &vec![0xff; bytes]].concat());
        }
    }
    for codes in [[0xdc, 0xdd], [0xde, 0xdf]] {
        for (code, bytes) in codes.iter().zip([2, 4]) {
            claims.push([&[*code][..], &vec![0xff; bytes]].concat());
            // The largest positive number, for decoders that use signed lengths.
            claims.push([&[*code, 0x7f][..], &vec![0xff; bytes - 1]].concat());
        }
    }
    claims.push(vec![0xc1]);
    claims
}

fn mutated(valid: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..[1, 1, 1, 2, 5][random.within(0..5)] {
        let at = random.within(0..bytes.len() + 1);
        let claims = claims();
        match random.within(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.within(0..8),
            1 if at < bytes.len() => bytes[at] = random.number().to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.number().to_le_bytes()[0]),
            4 => {
                let claim = &claims[random.within(0..claims.len())];
                let end = bytes.len().min(at + random.within(0..claim.len() + 1));
                bytes.splice(at..end, claim.iter().copied());
            }
            5 => {
                let end = bytes.len().min(at + random.within(0..9));
                bytes.drain(at..end);
            }
            _ => {
                let end = bytes.len().min(at + random.within(0..40));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// Returns states in which each field is replaced by each header, and nested lists, maps
/// and variants of any depth.
fn hostile() -> Vec<Vec<u8>> {
    let fields = ["text", "bytes", "lists", "wide", "map", "ordered", "tree", "loose", "unknown"];
    let mut states = claims();
    let mut deep = Vec::new();
    for depth in [10, 900, 1023, 1024, 1025, 5000, 100_000] {
        let node = |bytes: &[u8]| bytes.repeat(depth);
        deep.push(node(&[0x91]));
        deep.push(node(&[0x81, 0xa0]));
        deep.push(node(&[0x81]));
        deep.push([node(b"\x81\xa4Node"), b"\xa4Leaf".to_vec()].concat());
        deep.push([node(b"\x81\xa4Fork\x81\xa8branches\x91"), b"\xa4Leaf".to_vec()].concat());
    }
    for field in fields {
        for value in claims().iter().chain(&deep) {
            let mut state = vec![0x81, 0xa0 + u8::try_from(field.len()).unwrap()];
            state.extend_from_slice(field.as_bytes());
            state.extend_from_slice(value);
            states.push(state);
        }
    }
    states.extend(deep);
    states
}

/// Returns the peak of the process's virtual memory in KiB. It includes memory that was
/// allocated but never used.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(not(target_os = "linux"))]
fn peak() -> usize {
    0
}

/// Makes a server read the record. Returns true if it could be decoded. An unreadable
/// record must stay unchanged.
async fn read(storage: &MemoryStorage, runtime: &Runtime, record: Record) -> bool {
    let id = ServerId::new("shapes", "a");
    storage.commit(Commit::new(id.clone(), Update::Put(record.clone()))).await.unwrap();
    let server = runtime.at::<Shapes>("a", ());
    let outcome = server.number().await;
    let readable = match &outcome {
        Ok(_) => true,
        Err(CallError::Decode { .. }) => {
            assert_eq!(storage.get(&id), Some(record));
            assert!(outcome.unwrap_err().to_string().contains("shapes \"a\""));
            false
        }
        Err(error) => panic!("{error}"),
    };
    server.kill().await.unwrap();
    readable
}

/// A single test, because the peak is measured per process.
#[tokio::test]
async fn arbitrary_records_are_decoded_or_refused_without_large_allocations() {
    assert_no_panic();
    let mut random = Random::new(seed_of("records"));
    let valid = [valid(3).await, valid(300).await];
    let storage = MemoryStorage::new();
    let runtime = Runtime::builder().open_with(storage.clone()).await.unwrap();
    let empty = [];
    let of = |state: &[u8], reminders: &[u8]| {
        let due = (!reminders.is_empty()).then_some(0);
        Record::new(1, 1, state).with_reminders(reminders, due)
    };
    for record in &valid {
        assert!(read(&storage, &runtime, record.clone()).await);
    }
    let hostile = hostile();
    let begin = peak();
    let (mut readable, mut refused) = (0, 0);
    let mut count = |read: bool| *(if read { &mut readable } else { &mut refused }) += 1;

    for state in hostile {
        count(read(&storage, &runtime, of(&state, &empty)).await);
        count(read(&storage, &runtime, of(&valid[0].state.bytes(), &state)).await);
    }
    for round in 0..times(20_000) {
        let noise: Vec<u8> =
            (0..random.within(0..64)).map(|_| random.number().to_le_bytes()[0]).collect();
        let Record { state, reminders, .. } = &valid[usize::from(round % 8 == 0)];
        let record = match round % 4 {
            0 => of(&noise, &empty),
            1 => of(&state.bytes(), &mutated(reminders, &mut random)),
            _ => of(&mutated(&state.bytes(), &mut random), reminders),
        };
        let mut record = record;
        record.version = u32::from(!random.chance(1, 50));
        record.format = u32::from(!random.chance(1, 50));
        count(read(&storage, &runtime, record).await);
    }
    let grown = (peak() - begin) / 1024;
    eprintln!("{readable} read, {refused} refused, {grown} MiB more at the peak");
    assert!(readable > 1000 && refused > 1000, "{readable} {refused}");
    // An announced length that the decoder trusted would allocate two or four gigabytes.
    assert!(grown < 1024, "{grown} MiB");
    assert_no_panic();
}

/// Words for places where configuration is read.
const WORDS: [&str; 42] = [
    "defaults",
    "servers",
    "Counter",
    "idle_timeout",
    "call_timeout",
    "mailbox",
    "persist",
    "restart",
    "max_restarts",
    "backoff",
    "count",
    "within",
    "min",
    "max",
    "factor",
    "jitter",
    "every",
    "on_stop",
    "every_message",
    "permanent",
    "temporary",
    "transient",
    "never",
    "10s",
    "0s",
    "1ns",
    "584554530872y",
    "18446744073709551615s",
    "99999999999999999999d",
    "-1s",
    "1e9s",
    "",
    "ü",
    "key",
    "kind",
    "init",
    "a",
    "0",
    "1",
    "18446744073709551615",
    "0.5",
    "1e308",
];

fn written(random: &mut Random, depth: usize) -> serde_json::Value {
    let word = |random: &mut Random| WORDS[random.within(0..WORDS.len())].to_owned();
    match random.within(0..if depth == 0 { 5 } else { 9 }) {
        0..=2 => word(random).into(),
        3 => match random.within(0..6) {
            0 => 0.into(),
            1 => u64::MAX.into(),
            2 => (-1).into(),
            3 => 1e308.into(),
            4 => 0.5.into(),
            _ => 3.into(),
        },
        4 => [serde_json::Value::Null, true.into()][random.within(0..2)].clone(),
        5 => (0..random.within(0..4)).map(|_| written(random, depth - 1)).collect(),
        _ => (0..random.within(0..5))
            .map(|_| (word(random), written(random, depth - 1)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// Returns an option and a value that may be valid for it.
fn option(random: &mut Random) -> (String, serde_json::Value) {
    let times = &WORDS[22..31];
    let time = |random: &mut Random| serde_json::Value::from(times[random.within(0..times.len())]);
    let numbers = ["0", "1", "5", "18446744073709551615", "0.5", "2.0", "1e308"];
    let number = |random: &mut Random| -> serde_json::Value {
        serde_json::from_str(numbers[random.within(0..numbers.len())]).unwrap()
    };
    let value = match random.within(0..10) {
        9 => ("await_commits", random.chance(1, 2).into()),
        8 => ("retry_after", time(random)),
        0 => ("idle_timeout", time(random)),
        1 => ("call_timeout", time(random)),
        2 => ("mailbox", number(random)),
        3 => ("persist", serde_json::json!({ "every": time(random) })),
        4 => {
            ("max_restarts", serde_json::json!({ "count": number(random), "within": time(random) }))
        }
        5 => (
            "backoff",
            serde_json::json!({
                "min": time(random), "max": time(random),
                "factor": number(random), "jitter": number(random),
            }),
        ),
        6 => ("restart", WORDS[19 + random.within(0..3)].into()),
        _ => (WORDS[random.within(0..WORDS.len())], written(random, 2)),
    };
    (value.0.to_owned(), value.1)
}

/// Accepted options are also used: a time that is too long to wait for is added to
/// another time at some point.
#[tokio::test]
async fn arbitrary_configuration_is_accepted_or_refused() {
    assert_no_panic();
    let mut random = Random::new(seed_of("configuration"));
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..times(6000) {
        let mut options = serde_json::Map::new();
        for _ in 0..random.within(0..3) {
            options.extend([option(&mut random)]);
        }
        let mut text = match round % 3 {
            0 => written(&mut random, 4).to_string(),
            _ => serde_json::Value::from(options.clone()).to_string(),
        };
        if random.chance(1, 8) && !text.is_empty() {
            let bytes = mutated(text.as_bytes(), &mut random);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let _ = serde_json::from_str::<Address<Counter>>(&text);
        let _ = serde_json::from_str::<Config>(&text);
        let variables: Vec<(String, String)> = options
            .iter()
            .map(|(name, value)| {
                let name = format!("GAME{}{name}", ["_", "__COUNTER__"][random.within(0..2)]);
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.to_uppercase(), value)
            })
            .collect();
        let builder = match serde_json::from_str::<Options>(&text) {
            Ok(options) => Runtime::builder().defaults(options),
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
                Runtime::builder().variables("GAME", variables)
            }
        };
        let Ok(runtime) = builder.in_memory().await else {
            refused += 1;
            continue;
        };
        accepted += 1;
        let server = runtime.at::<Counter>("a", ());
        // A deadline of zero may pass before the call is done.
        match server.increment().await {
            Ok(_) | Err(CallError::Timeout { .. }) => {}
            Err(error) => panic!("{text}: {error}"),
        }
        server.kill().await.unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(20), server.value()).await;
        assert!(waited.is_ok(), "{text}");
        assert_no_panic();
    }
    eprintln!("{accepted} accepted, {refused} refused");
    assert!(accepted > 500 && refused > 500, "{accepted} {refused}");
}
