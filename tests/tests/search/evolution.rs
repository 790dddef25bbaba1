//! A program that reads what another version of it has stored.
//!
//! Each cell of the tables below is one change of a program, with its outcome: the new program reads
//! the stored value as the table says, or refuses it with an error that names the server, the version
//! and the field. A refusal leaves every byte as it is, by whatever way the server is reached, and the
//! old program still reads it. No cell ends in a server that was created anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write},
    future::Future,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use persistent_runtime::{
    Address, CallError, Client, Context, Event, MemoryStorage, Observer, Payload, Record, Runtime,
    Server, ServerId, SqliteStorage, Storage, persistent_server,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// The outcome of reading.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// The text of the value.
    Reads(&'static str),
    /// A part of the error.
    Refused(&'static str),
}

use Outcome::{Reads, Refused};

/// A storage that outlives the runtimes on it.
enum Place {
    Memory(MemoryStorage),
    File(TempDir),
}

impl Place {
    fn all() -> [Self; 2] {
        [Self::Memory(MemoryStorage::new()), Self::File(tempfile::tempdir().unwrap())]
    }

    fn path(folder: &TempDir) -> PathBuf {
        folder.path().join("evolution.db")
    }

    async fn open(&self) -> Runtime {
        self.open_with(Runtime::builder()).await
    }

    async fn open_with(&self, builder: persistent_runtime::Builder) -> Runtime {
        match self {
            Self::Memory(storage) => builder.open_with(storage.clone()).await.unwrap(),
            Self::File(folder) => builder.open(Self::path(folder)).await.unwrap(),
        }
    }

    /// Returns what is stored. No runtime is open.
    async fn record<S: Server>(&self, key: &str) -> Option<Record> {
        let id = ServerId::new(S::NAME, key);
        match self {
            Self::Memory(storage) => storage.get(&id),
            Self::File(folder) => {
                let storage = SqliteStorage::open(Self::path(folder)).unwrap();
                let record = storage.load(&id).await.unwrap();
                storage.close().await.unwrap();
                record
            }
        }
    }
}

async fn close(runtime: Runtime) {
    runtime.shutdown(MINUTE).await.unwrap();
}

/// A server type that shows its state as a text.
trait Subject: Server + Debug {
    fn text(client: Self::Client) -> impl Future<Output = Result<String, CallError>> + Send;
    fn change(client: Self::Client, to: Self::Init) -> impl Future<Output = Result<(), CallError>>;
}

/// Implements [`Subject`] by methods of the same names.
macro_rules! subject {
    ($({$($generics:tt)*})? $type:ty) => {
        impl $($($generics)*)? Subject for $type {
            async fn text(client: Self::Client) -> Result<String, CallError> {
                client.text().await
            }

            async fn change(client: Self::Client, to: Self::Init) -> Result<(), CallError> {
                client.change(to).await
            }
        }
    };
}

/// Returns the text of a stored server, or the error.
async fn text<S: Subject + Server<Key = str>>(
    runtime: &Runtime,
    key: &str,
) -> Result<String, CallError> {
    S::text(runtime.find::<S>(key).await?).await
}

/// Asserts that no way to the server gets past the refusal.
async fn assert_refused<S: Subject + Server<Key = str>>(
    runtime: &Runtime,
    key: &str,
    init: &S::Init,
    record: &Record,
    word: &str,
) {
    let start = runtime.start::<S>(key, init.clone()).await.map(drop);
    let message = S::text(runtime.at::<S>(key, init.clone())).await.map(drop);
    let found = text::<S>(runtime, key).await.map(drop);
    for outcome in [start, message, found] {
        let error = outcome.expect_err(key);
        assert!(
            matches!(error, CallError::Decode { .. } | CallError::Replay { .. }),
            "{key}: {error}"
        );
        let error = error.to_string();
        let server = format!("{} {key:?}", S::NAME);
        let version = format!("version {}", record.version);
        for part in [&server, &version, word] {
            assert!(error.contains(part), "{key}: {part} is missing in: {error}");
        }
    }
    runtime.create::<S>(key, init.clone()).await.map(drop).expect_err(key);
    let _ = runtime.at::<S>(key, init.clone()).stop("maintenance").await;
}

/// Reads as `New` what `Old` has stored, and the reverse once `New` has changed it.
async fn check<Old, New>(
    place: &Place,
    key: &str,
    (old, forth): (Old::Init, Outcome),
    (new, back): (New::Init, Outcome),
) where
    Old: Subject + Server<Key = str>,
    New: Subject + Server<Key = str>,
{
    let runtime = place.open().await;
    Old::text(runtime.at::<Old>(key, old.clone())).await.unwrap();
    close(runtime).await;
    if !read::<Old, New>(place, key, &new, forth).await {
        return;
    }
    let runtime = place.open().await;
    New::change(runtime.find::<New>(key).await.unwrap(), new).await.unwrap();
    close(runtime).await;
    read::<New, Old>(place, key, &old, back).await;
}

/// Asserts what `Reader` makes of a server of `Writer`. Returns true if it reads it.
async fn read<Writer, Reader>(
    place: &Place,
    key: &str,
    init: &Reader::Init,
    outcome: Outcome,
) -> bool
where
    Writer: Subject + Server<Key = str>,
    Reader: Subject + Server<Key = str>,
{
    let before = place.record::<Writer>(key).await.expect(key);
    let runtime = place.open().await;
    let written = text::<Writer>(&runtime, key).await.expect(key);
    close(runtime).await;

    let runtime = place.open().await;
    let is_read = match outcome {
        Reads(expected) => {
            assert_eq!(text::<Reader>(&runtime, key).await.expect(key), expected, "{key}");
            true
        }
        Refused(word) => {
            assert_refused::<Reader>(&runtime, key, init, &before, word).await;
            false
        }
    };
    close(runtime).await;
    assert_eq!(place.record::<Writer>(key).await.as_ref(), Some(&before), "{key}");

    let runtime = place.open().await;
    assert_eq!(text::<Writer>(&runtime, key).await.expect(key), written, "{key}");
    close(runtime).await;
    is_read
}

/// A server with one value, of whichever type.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "T: Value")]
struct Cell<T> {
    value: T,
}

trait Value: Payload + Clone + Debug + Sync {}

impl<T: Payload + Clone + Debug + Sync> Value for T {}

#[persistent_server(name = "cell")]
impl<T: Value> Cell<T> {
    #[init]
    fn new(value: T) -> Self {
        Self { value }
    }

    pub fn change(&mut self, to: T) {
        self.value = to;
    }

    pub fn text(&self) -> String {
        format!("{:?}", self.value)
    }

    /// Equal for equal values of different types.
    pub fn json(&self) -> String {
        json(&self.value)
    }
}

subject!({<T: Value>} Cell<T>);

fn json<T: Value>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u8);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u8, u8);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: u8,
    y: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Dot,
    Round(u8),
    Wide { x: u8, y: u8 },
}

type Column = Vec<Result<String, CallError>>;

/// Declares the types, in the order of the columns, and the values of each.
macro_rules! types {
    ($($type:ty: $($value:expr),+;)*) => {
        /// Stores each value under its type and number.
        async fn write_values(place: &Place) -> Vec<(String, String)> {
            let mut rows = Vec::new();
            $(
                let runtime = place.open().await;
                for (number, value) in (0..).zip([$($value),+]) {
                    let key = format!("{} {number}", stringify!($type));
                    let json = json::<$type>(&value);
                    runtime.start::<Cell<$type>>(&*key, value).await.unwrap();
                    rows.push((key, json));
                }
                close(runtime).await;
            )*
            rows
        }

        /// Returns what each row reads as, type by type.
        async fn read_values(
            place: &Place,
            rows: &[(String, String)],
        ) -> Vec<(&'static str, Column)> {
            let mut columns = Vec::new();
            $(
                let runtime = place.open().await;
                let mut column = Vec::new();
                for (key, _) in rows {
                    let cell = runtime.find::<Cell<$type>>(&**key).await;
                    column.push(match cell {
                        Ok(cell) => cell.json().await,
                        Err(error) => Err(error),
                    });
                }
                close(runtime).await;
                columns.push((stringify!($type), column));
            )*
            columns
        }
    };
}

types! {
    bool: true;
    u8: 0, 5, 200;
    u64: 65, (1 << 53) + 1, u64::MAX;
    i64: -5, 5;
    u128: 5, u128::MAX;
    i128: 5, -5;
    f32: 0.5, 2.0;
    f64: 0.5, 1e300, std::f64::consts::PI, f64::NAN;
    char: 'c';
    String: "c".to_owned(), "5".to_owned(), "Dot".to_owned(), "127.0.0.1".to_owned();
    (): ();
    Option<u8>: None, Some(5);
    Option<Option<u8>>: None, Some(None), Some(Some(5));
    Option<()>: Some(());
    Vec<u8>: vec![], vec![5], vec![5, 5], vec![5, 5, 5];
    [u8; 2]: [5, 6];
    (u8, u8, u8): (5, 6, 7);
    BTreeSet<u8>: BTreeSet::from([5, 6]);
    BTreeMap<String, u8>: BTreeMap::from([("x".to_owned(), 5), ("y".to_owned(), 6)]), BTreeMap::from([("Round".to_owned(), 5)]);
    BTreeMap<u64, u8>: BTreeMap::from([(0, 5), (1, 6)]);
    Unit: Unit;
    Newtype: Newtype(5);
    Pair: Pair(5, 6);
    Point: Point { x: 5, y: 6 };
    Shape: Shape::Dot, Shape::Round(5), Shape::Wide { x: 5, y: 6 };
    Duration: Duration::from_millis(5);
    IpAddr: IpAddr::V4(Ipv4Addr::LOCALHOST);
}

/// One row per value, named by its type and number, and one column per type, in the order above:
/// `=` reads the same value, `.` refuses it, and `~` reads the value that [`OTHER`] says.
const TABLE: &str = "
    bool 0                 =..........................
    u8 0                   .=======...==........=.....
    u8 1                   .=======...==........=.....
    u8 2                   .=======...==........=.....
    u64 0                  .=======...==........=.....
    u64 1                  ..====.....................
    u64 2                  ..=.==.....................
    i64 0                  ...=.===...................
    i64 1                  .=======...==........=.....
    u128 0                 ....==...~....~..~.........
    u128 1                 ....=~........~..~.........
    i128 0                 ....==...~....~..~.........
    i128 1                 ....~=........~..~.........
    f32 0                  ......==...................
    f32 1                  ......==...................
    f64 0                  ......==...................
    f64 1                  .......=...................
    f64 2                  .......=...................
    f64 3                  ......==...................
    char 0                 ........==.................
    String 0               ........==.................
    String 1               ........==.................
    String 2               .........=..............=..
    String 3               .........=................=
    () 0                   ..........====......=......
    Option<u8> 0           ..........====......=......
    Option<u8> 1           .=======...==........=.....
    Option<Option<u8>> 0   ..........====......=......
    Option<Option<u8>> 1   ............==.............
    Option<Option<u8>> 2   .=======...==........=.....
    Option<()> 0           ............==.............
    Vec<u8> 0              ..............=..=..~......
    Vec<u8> 1              ..............=..=.........
    Vec<u8> 2              ..............==.~....=~.~.
    Vec<u8> 3              ..............=.=~.........
    [u8; 2] 0              ..............==.=....=~.~.
    (u8, u8, u8) 0         ..............=.==.........
    BTreeSet<u8> 0         ..............==.=....=~.~.
    BTreeMap<String, u8> 0 ..................=....=...
    BTreeMap<String, u8> 1 ..................=.....=..
    BTreeMap<u64, u8> 0    ...................=...~...
    Unit 0                 ..........====......=......
    Newtype 0              .=======...==........=.....
    Pair 0                 ..............==.=....=~.~.
    Point 0                ..................=....=...
    Shape 0                .........=..............=..
    Shape 1                ..................=.....=..
    Shape 2                ........................=..
    Duration 0             .........................=.
    IpAddr 0               .........=................=
";

/// The values that are read in another form: a set of a list, a struct of a list or of numbered entries,
/// and the 16 bytes of a 128-bit integer.
const OTHER: &[(&str, &str, &str)] = &[
    (
        "u128 0",
        "String",
        r#""\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0005""#,
    ),
    ("u128 0", "Vec<u8>", "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,5]"),
    ("u128 0", "BTreeSet<u8>", "[0,5]"),
    ("u128 1", "i128", "-1"),
    ("u128 1", "Vec<u8>", "[255,255,255,255,255,255,255,255,255,255,255,255,255,255,255,255]"),
    ("u128 1", "BTreeSet<u8>", "[255]"),
    (
        "i128 0",
        "String",
        r#""\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0005""#,
    ),
    ("i128 0", "Vec<u8>", "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,5]"),
    ("i128 0", "BTreeSet<u8>", "[0,5]"),
    ("i128 1", "u128", "340282366920938463463374607431768211451"),
    ("i128 1", "Vec<u8>", "[255,255,255,255,255,255,255,255,255,255,255,255,255,255,255,251]"),
    ("i128 1", "BTreeSet<u8>", "[251,255]"),
    ("Vec<u8> 0", "Unit", "null"),
    ("Vec<u8> 2", "BTreeSet<u8>", "[5]"),
    ("Vec<u8> 2", "Point", r#"{"x":5,"y":5}"#),
    ("Vec<u8> 2", "Duration", r#"{"secs":5,"nanos":5}"#),
    ("Vec<u8> 3", "BTreeSet<u8>", "[5]"),
    ("[u8; 2] 0", "Point", r#"{"x":5,"y":6}"#),
    ("[u8; 2] 0", "Duration", r#"{"secs":5,"nanos":6}"#),
    ("BTreeSet<u8> 0", "Point", r#"{"x":5,"y":6}"#),
    ("BTreeSet<u8> 0", "Duration", r#"{"secs":5,"nanos":6}"#),
    ("BTreeMap<u64, u8> 0", "Point", r#"{"x":5,"y":6}"#),
    ("Pair 0", "Point", r#"{"x":5,"y":6}"#),
    ("Pair 0", "Duration", r#"{"secs":5,"nanos":6}"#),
];

#[tokio::test]
async fn a_changed_type_reads_the_stored_value_or_refuses_it() {
    for place in Place::all() {
        let rows = write_values(&place).await;
        let before = records(&place, &rows).await;
        let columns = read_values(&place, &rows).await;
        let (mut table, mut other) = ("\n".to_owned(), Vec::new());
        for (row, (key, json)) in rows.iter().enumerate() {
            let cells = columns.iter().map(|(name, column)| match &column[row] {
                Ok(read) if read == json => '=',
                Ok(read) => {
                    other.push((&**key, *name, &**read));
                    '~'
                }
                Err(error) => {
                    assert!(matches!(error, CallError::Decode { version: 1, .. }), "{error}");
                    for part in [&format!("cell {key:?} (version 1)"), "at field `value"] {
                        assert!(error.to_string().contains(part), "{part} is missing in: {error}");
                    }
                    '.'
                }
            });
            let cells: String = cells.collect();
            writeln!(table, "    {key:<22} {cells}").unwrap();
        }
        assert_eq!(table, TABLE);
        assert_eq!(other, OTHER);
        assert_eq!(records(&place, &rows).await, before);
    }
}

async fn records(place: &Place, rows: &[(String, String)]) -> Vec<Option<Record>> {
    let mut records = Vec::new();
    for (key, _) in rows {
        records.push(place.record::<Cell<()>>(key).await);
    }
    records
}

/// Declares two versions of a type `State` per name, each with a value and what the other version
/// makes of it.
macro_rules! changes {
    ($($name:ident {
        { $($old:tt)* } $old_value:expr => $forth:expr;
        { $($new:tt)* } $new_value:expr => $back:expr;
    })*) => {
        $(
            mod $name {
                use super::*;

                mod old {
                    use super::*;

                    #[derive(Clone, Debug, Serialize, Deserialize)]
                    $($old)*

                    pub fn value() -> State {
                        $old_value
                    }
                }

                mod new {
                    use super::*;

                    #[derive(Clone, Debug, Serialize, Deserialize)]
                    $($new)*

                    pub fn value() -> State {
                        $new_value
                    }
                }

                pub async fn check(place: &Place) {
                    let (old, new) = ((old::value(), $forth), (new::value(), $back));
                    let key = stringify!($name);
                    super::check::<Cell<old::State>, Cell<new::State>>(place, key, old, new).await;
                }
            }
        )*

        async fn check_changes(place: &Place) {
            $($name::check(place).await;)*
        }
    };
}

changes! {
    field_added {
        { pub struct State { a: u8 } } State { a: 1 } => Refused("at field `value`: missing field `b`");
        { pub struct State { a: u8, b: u8 } } State { a: 2, b: 3 } => Reads("State { a: 2 }");
    }
    field_added_with_a_default {
        { pub struct State { a: u8 } } State { a: 1 } => Reads("State { a: 1, b: 0 }");
        { pub struct State { a: u8, #[serde(default)] b: u8 } } State { a: 2, b: 3 } => Reads("State { a: 2 }");
    }
    field_added_as_an_option {
        { pub struct State { a: u8 } } State { a: 1 } => Reads("State { a: 1, b: None }");
        { pub struct State { a: u8, b: Option<u8> } } State { a: 2, b: Some(3) } => Reads("State { a: 2 }");
    }
    field_removed {
        { pub struct State { a: u8, b: u8 } } State { a: 1, b: 2 } => Reads("State { a: 1 }");
        { pub struct State { a: u8 } } State { a: 3 } => Refused("missing field `b`");
    }
    field_removed_where_none_may_be_unknown {
        { pub struct State { a: u8, b: u8 } } State { a: 1, b: 2 } => Refused("unknown field `b`");
        { #[serde(deny_unknown_fields)] pub struct State { a: u8 } } State { a: 3 } => Refused("");
    }
    fields_reordered {
        { pub struct State { a: u8, b: u8 } } State { a: 1, b: 2 } => Reads("State { b: 2, a: 1 }");
        { pub struct State { b: u8, a: u8 } } State { b: 3, a: 4 } => Reads("State { a: 4, b: 3 }");
    }
    field_renamed {
        { pub struct State { a: u8 } } State { a: 1 } => Refused("missing field `b`");
        { pub struct State { b: u8 } } State { b: 2 } => Refused("");
    }
    field_renamed_with_an_alias {
        { pub struct State { a: u8 } } State { a: 1 } => Reads("State { b: 1 }");
        { pub struct State { #[serde(alias = "a")] b: u8 } } State { b: 2 } => Refused("missing field `a`");
    }
    field_renamed_under_its_stored_name {
        { pub struct State { a: u8 } } State { a: 1 } => Reads("State { b: 1 }");
        { pub struct State { #[serde(rename = "a")] b: u8 } } State { b: 2 } => Reads("State { a: 2 }");
    }
    // The same change as to remove one field and to add another one.
    option_renamed {
        { pub struct State { a: Option<u8> } } State { a: Some(1) } => Reads("State { b: None }");
        { pub struct State { b: Option<u8> } } State { b: Some(2) } => Reads("State { a: None }");
    }
    number_widened {
        { pub struct State { a: u8 } } State { a: 1 } => Reads("State { a: 1 }");
        { pub struct State { a: u64 } } State { a: 300 } => Refused("at field `value.a`");
    }
    number_to_text {
        { pub struct State { a: u8 } } State { a: 1 } => Refused("at field `value.a`");
        { pub struct State { a: String } } State { a: "1".to_owned() } => Refused("");
    }
    made_an_option {
        { pub struct State { a: u8 } } State { a: 1 } => Reads("State { a: Some(1) }");
        { pub struct State { a: Option<u8> } } State { a: None } => Refused("at field `value.a`");
    }
    made_a_list {
        { pub struct State { a: u8 } } State { a: 1 } => Refused("at field `value.a`");
        { pub struct State { a: Vec<u8> } } State { a: vec![1] } => Refused("");
    }
    field_of_a_list_changed {
        { pub struct State { list: Vec<(u8, u8)> } } State { list: vec![(1, 2), (1, 200)] }
            => Refused("at field `value.list[1][1]`");
        { pub struct State { list: Vec<(u8, i8)> } } State { list: vec![(1, -1)] } => Refused("");
    }
    fields_flattened {
        { pub struct State { a: u8, x: u8, y: u8 } } State { a: 1, x: 2, y: 3 }
            => Reads("State { a: 1, at: Point { x: 2, y: 3 } }");
        { pub struct State { a: u8, #[serde(flatten)] at: Point } }
            State { a: 4, at: Point { x: 5, y: 6 } } => Reads("State { a: 4, x: 5, y: 6 }");
    }
    tuple_grown {
        { pub struct State(u8, u8); } State(1, 2) => Refused("at field `value`");
        { pub struct State(u8, u8, u8); } State(1, 2, 3) => Refused("");
    }
    tuple_shortened {
        { pub struct State(u8, u8, u8); } State(1, 2, 3) => Refused("invalid length 3, expected 2");
        { pub struct State(u8, u8); } State(1, 2) => Refused("");
    }
    pairs_to_a_map {
        { pub struct State(Vec<(String, u8)>); } State(vec![("a".to_owned(), 1)]) => Refused("at field `value`");
        { pub struct State(BTreeMap<String, u8>); } State(BTreeMap::new()) => Refused("");
    }
    variant_added {
        { pub enum State { A } } State::A => Reads("A");
        { #[allow(dead_code)] pub enum State { A, B } } State::B => Refused("unknown variant `B`");
    }
    variant_removed {
        { #[allow(dead_code)] pub enum State { A, B } } State::B => Refused("unknown variant `B`");
        { pub enum State { A } } State::A => Refused("");
    }
    another_variant_removed {
        { #[allow(dead_code)] pub enum State { A, B } } State::A => Reads("A");
        { pub enum State { A } } State::A => Reads("A");
    }
    variants_reordered {
        { #[allow(dead_code)] pub enum State { A, B(u8) } } State::B(1) => Reads("B(1)");
        { #[allow(dead_code)] pub enum State { B(u8), A } } State::A => Reads("A");
    }
    variant_renamed {
        { pub enum State { A(u8) } } State::A(1) => Refused("unknown variant `A`");
        { pub enum State { B(u8) } } State::B(2) => Refused("");
    }
    variant_renamed_with_an_alias {
        { pub enum State { A(u8) } } State::A(1) => Reads("B(1)");
        { pub enum State { #[serde(alias = "A")] B(u8) } } State::B(2) => Refused("unknown variant `B`");
    }
    tagged_variant_renamed {
        { #[serde(tag = "t")] pub enum State { A { a: u8 } } } State::A { a: 1 } => Refused("unknown variant `A`");
        { #[serde(tag = "t")] pub enum State { B { a: u8 } } } State::B { a: 2 } => Refused("");
    }
    content_added_to_a_variant {
        { pub enum State { A } } State::A => Refused("at field `value.A`");
        { pub enum State { A(u8) } } State::A(1) => Refused("");
    }
    content_removed_from_a_variant {
        { pub enum State { A(u8) } } State::A(1) => Refused("at field `value.A`");
        { pub enum State { A } } State::A => Refused("");
    }
    field_added_to_a_variant {
        { pub enum State { A { a: u8 } } } State::A { a: 1 } => Reads("A { a: 1, b: 0 }");
        { pub enum State { A { a: u8, #[serde(default)] b: u8 } } } State::A { a: 2, b: 3 } => Reads("A { a: 2 }");
    }
    type_of_a_variant_changed {
        { pub enum State { A(u8) } } State::A(1) => Refused("at field `value.A`");
        { pub enum State { A(String) } } State::A("1".to_owned()) => Refused("");
    }
    number_to_an_enum {
        { pub struct State { a: u8 } } State { a: 0 } => Refused("at field `value.a`");
        { pub struct State { a: Shape } } State { a: Shape::Dot } => Refused("");
    }
}

#[tokio::test]
async fn a_changed_state_is_read_or_refused() {
    for place in Place::all() {
        check_changes(&place).await;
    }
}

/// Declares a version of a server type with one value.
macro_rules! version {
    ($module:ident($($options:tt)*): $state:ty { $($hooks:tt)* }) => {
        mod $module {
            use super::*;

            #[derive(Clone, Debug, Serialize, Deserialize)]
            pub struct Score {
                pub points: $state,
            }

            #[persistent_server(name = "score", $($options)*)]
            impl Score {
                #[init]
                fn new(points: $state) -> Self {
                    Self { points }
                }

                pub fn change(&mut self, to: $state) {
                    self.points = to;
                }

                pub fn text(&self) -> String {
                    format!("{:?}", self.points)
                }

                $($hooks)*
            }

            subject!(Score);
        }
    };
}

version!(first(version = 1): u8 {});
version!(same(version = 2): u8 {
    #[migrate(from = 1)]
    fn from_first(old: Score) -> Self {
        old
    }
});
version!(second(version = 2): Vec<u8> {
    #[migrate(from = 1)]
    fn from_first(old: first::Score) -> Self {
        Self { points: vec![old.points] }
    }
});
version!(third(version = 3): String {
    #[migrate(from = 1)]
    fn from_first(old: first::Score) -> Second {
        Second { points: vec![old.points] }
    }

    #[migrate(from = 2)]
    fn from_second(old: Second) -> Self {
        Self { points: format!("{:?}", old.points) }
    }
});
version!(third_from_second(version = 3, oldest = 2): String {
    #[migrate(from = 2)]
    fn from_second(old: Second) -> Self {
        Self { points: format!("{:?}", old.points) }
    }
});
version!(second_only(version = 2, oldest = 2): u8 {});
version!(panicking(version = 2): u8 {
    #[migrate(from = 1)]
    fn from_first(_old: Score) -> Self {
        panic!("a migration with a mistake")
    }
});
version!(mistaken(version = 2): u8 {
    #[migrate(from = 1)]
    fn from_first(_old: Second) -> Self {
        Self { points: 0 }
    }
});
version!(saved(version = 1): u8 {
    #[save]
    fn save(&self) -> u8 {
        self.points
    }

    #[restore]
    fn restore(points: u8) -> Self {
        Self { points }
    }
});
version!(choosy(version = 1): u8 {
    #[save]
    fn save(&self) -> u8 {
        self.points
    }

    #[restore]
    fn restore(points: u8) -> Result<Self, String> {
        Err(format!("{points} points are too many"))
    }
});

/// The stored form of the second version.
#[derive(Deserialize)]
struct Second {
    points: Vec<u8>,
}

#[tokio::test]
async fn a_state_of_another_version_is_migrated_or_refused() {
    const NEWER_THAN_1: Outcome = Refused("newer than version 1 of this program");
    const NEWER_THAN_2: Outcome = Refused("newer than version 2 of this program");
    const NO_MIGRATION: Outcome = Refused("#[migrate(from = 1)]");
    const NONE: Outcome = Refused("");
    let text = || "4".to_owned();

    macro_rules! check {
        ($($key:literal: $old:ident($old_init:expr) $forth:expr, $new:ident($new_init:expr) $back:expr;)*) => {
            for place in Place::all() {
                $(
                    let (old, new) = (($old_init, $forth), ($new_init, $back));
                    check::<$old::Score, $new::Score>(&place, $key, old, new).await;
                )*
            }
        };
    }

    check! {
        "the same form": first(1) Reads("1"), same(2) NEWER_THAN_1;
        "another form": first(1) Reads("[1]"), second(vec![2, 3]) NEWER_THAN_1;
        "a chain": first(1) Reads(r#""[1]""#), third(text()) NEWER_THAN_1;
        "the end of a chain": second(vec![1, 2]) Reads(r#""[1, 2]""#), third(text()) NEWER_THAN_2;
        "without the chain": second(vec![1]) Reads(r#""[1]""#), third_from_second(text()) NEWER_THAN_2;
        "older than the oldest": first(1) NO_MIGRATION, third_from_second(text()) NONE;
        "no migration": first(1) NO_MIGRATION, second_only(2) NONE;
        "a panic": first(1) Refused("a migration with a mistake"), panicking(2) NONE;
        "another old form": first(1) Refused("at field `points`"), mistaken(2) NONE;
        "a saved form": first(1) Refused("expected u8"), saved(2) NONE;
        "no saved form": saved(1) Refused("expected struct Score"), first(2) NONE;
        "a saved form with rules": saved(1) Refused("1 points are too many"), choosy(2) NONE;
    }
}

/// Versions of a server type with other init arguments.
mod arguments {
    use super::*;

    macro_rules! arguments {
        ($module:ident: $init:ty, {$($new:tt)*}) => {
            pub mod $module {
                use super::*;

                #[derive(Debug, Serialize, Deserialize)]
                pub struct Named {
                    name: String,
                }

                #[persistent_server(name = "named", persist = on_stop)]
                impl Named {
                    $($new)*

                    pub fn change(&mut self, to: $init) {
                        self.name = format!("changed to {to:?}");
                    }

                    pub fn text(&self) -> String {
                        self.name.clone()
                    }
                }

                subject!(Named);
            }
        };
    }

    arguments!(text: String, {
        #[init]
        fn new(name: String) -> Self {
            Self { name }
        }
    });
    arguments!(more: (String, u8), {
        #[init]
        fn new(name: String, number: u8) -> Self {
            Self { name: format!("{name} {number}") }
        }
    });
    arguments!(number: u64, {
        #[init]
        fn new(number: u64) -> Self {
            Self { name: number.to_string() }
        }
    });
    arguments!(none: (), {
        #[init]
        fn new() -> Self {
            Self { name: "new".to_owned() }
        }
    });
}

#[tokio::test]
async fn changed_init_arguments_leave_a_stored_state_as_it_is() {
    use arguments::{more::Named as More, none::Named as Nothing, number::Named as Number};
    type Text = arguments::text::Named;
    let text = || "Ada".to_owned();
    let (read, back) = (Reads("Ada"), Reads("changed to 5"));
    for place in Place::all() {
        let more = ((text(), 1), Reads(r#"changed to ("Ada", 1)"#));
        check::<Text, More>(&place, "added", (text(), read), more).await;
        check::<Text, Number>(&place, "another type", (text(), read), (5, back)).await;
        check::<Text, Nothing>(&place, "removed", (text(), read), ((), Reads("changed to ()")))
            .await;
        let (none, text) = (((), Reads("new")), (text(), Reads(r#"changed to "Ada""#)));
        check::<Nothing, Text>(&place, "the first ones", none, text).await;
    }
}

/// A kill loses the new server, whose level is `on_stop`. Then the arguments of the new program count.
#[tokio::test]
async fn changed_init_arguments_create_a_server_that_was_never_stored() {
    use arguments::{number::Named as Number, text::Named as Text};
    for place in Place::all() {
        let runtime = place.open().await;
        let server = runtime.start::<Text>("a", "Ada".to_owned()).await.unwrap();
        server.kill().await.unwrap();
        close(runtime).await;
        let runtime = place.open().await;
        let error = text::<Number>(&runtime, "a").await.unwrap_err();
        assert!(matches!(error, CallError::NotFound { .. }), "{error}");
        assert_eq!(runtime.at::<Number>("a", 5).text().await.unwrap(), "5");
        close(runtime).await;
    }
}

/// Versions of a program with two kinds of servers, under changed names.
mod kinds {
    use super::*;

    macro_rules! kind {
        ($module:ident($($name:literal)?): $key:ty, { $($field:tt)* }) => {
            pub mod $module {
                use super::*;

                #[derive(Debug, Default, Serialize, Deserialize)]
                pub struct Alpha {
                    $($field)*
                }

                #[persistent_server($(name = $name,)? key = $key)]
                impl Alpha {
                    #[init]
                    fn new(text: String) -> Self {
                        serde_json::from_str(&text).unwrap()
                    }

                    pub fn change(&mut self, to: String) {
                        *self = Self::new(to);
                    }

                    pub fn text(&self) -> String {
                        format!("{self:?}")
                    }
                }

                subject!(Alpha);
            }
        };
    }

    kind!(alpha("alpha"): str, { a: u8 });
    kind!(beta("beta"): str, { b: u8 });
    kind!(alpha_as_beta("beta"): str, { a: u8 });
    kind!(beta_as_alpha("alpha"): str, { b: u8 });
    kind!(unnamed(): str, { a: u8 });
    kind!(numbered("alpha"): u64, { a: u8 });

    /// The type is renamed and keeps its stored name.
    pub mod renamed {
        use super::*;

        #[derive(Debug, Serialize, Deserialize)]
        pub struct Gamma {
            a: u8,
        }

        #[persistent_server(name = "alpha")]
        impl Gamma {
            #[init]
            fn new(a: u8) -> Self {
                Self { a }
            }

            pub fn change(&mut self, to: u8) {
                self.a = to;
            }

            pub fn text(&self) -> String {
                format!("{self:?}")
            }
        }

        subject!(Gamma);
    }
}

const A: &str = r#"{"a": 1}"#;
const B: &str = r#"{"b": 2}"#;

#[tokio::test]
async fn a_renamed_kind_is_read_under_its_stored_name_only() {
    use kinds::{alpha, alpha_as_beta, beta, beta_as_alpha, renamed::Gamma, unnamed};
    for place in Place::all() {
        let (old, new) = ((A.to_owned(), Reads("Gamma { a: 1 }")), (2, Reads("Alpha { a: 2 }")));
        check::<alpha::Alpha, Gamma>(&place, "renamed", old, new).await;

        // Two types exchange their names.
        let missing = |text: &str, word| (text.to_owned(), Refused(word));
        let (old, new) = (missing(A, "missing field `b`"), missing(B, ""));
        check::<alpha::Alpha, beta_as_alpha::Alpha>(&place, "exchanged", old, new).await;
        let (old, new) = (missing(B, "missing field `a`"), missing(A, ""));
        check::<beta::Alpha, alpha_as_beta::Alpha>(&place, "exchanged", old, new).await;

        // A name that is lost, or a type that is removed, hides its servers and leaves them as they are.
        let runtime = place.open().await;
        runtime.start::<alpha::Alpha>("hidden", A.to_owned()).await.unwrap();
        close(runtime).await;
        let before = place.record::<alpha::Alpha>("hidden").await.unwrap();
        let runtime = place.open().await;
        let error = text::<unnamed::Alpha>(&runtime, "hidden").await.unwrap_err();
        assert!(matches!(error, CallError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(r#"Alpha "hidden""#), "{error}");
        let other = r#"{"a": 9}"#.to_owned();
        runtime.create::<unnamed::Alpha>("hidden", other).await.unwrap();
        close(runtime).await;
        assert_eq!(place.record::<alpha::Alpha>("hidden").await.unwrap(), before);
        let runtime = place.open().await;
        assert_eq!(text::<alpha::Alpha>(&runtime, "hidden").await.unwrap(), "Alpha { a: 1 }");
        assert_eq!(text::<unnamed::Alpha>(&runtime, "hidden").await.unwrap(), "Alpha { a: 9 }");
        close(runtime).await;
    }
}

/// A server with the address of another one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Holder<S: Subject>(Address<S>);

#[persistent_server(name = "holder")]
impl<S: Subject> Holder<S> {
    #[init]
    fn new(address: Address<S>) -> Self {
        Self(address)
    }

    pub fn change(&mut self, to: Address<S>) {
        self.0 = to;
    }

    /// Returns what the other server says, or the name of the error.
    pub async fn text(&self, context: &Context<Self>) -> String {
        let text = S::text(context.client_of(&self.0)).await;
        text.unwrap_or_else(|error| format!("{error:?}").split(' ').next().unwrap().to_owned())
    }
}

subject!({<S: Subject>} Holder<S>);

/// Reads as `Holder<New>` the address that `Holder<Old>` has stored, and the reverse.
async fn check_address<Old, New>(
    place: &Place,
    key: &str,
    (old, forth): (Address<Old>, Outcome),
    (new, back): (Address<New>, Outcome),
) where
    Old: Subject,
    New: Subject,
{
    check::<Holder<Old>, Holder<New>>(place, key, (old, forth), (new, back)).await;
}

#[tokio::test]
async fn a_stored_address_is_followed_or_refused() {
    use arguments::{number::Named as Number, text::Named as Text};
    use kinds::{alpha, beta, numbered, renamed::Gamma, unnamed};
    type Alpha = alpha::Alpha;
    for place in Place::all() {
        let runtime = place.open().await;
        runtime.start::<Text>("stored", "Ada".to_owned()).await.unwrap();
        runtime.start::<Alpha>("stored", A.to_owned()).await.unwrap();
        runtime.start::<unnamed::Alpha>("stored", A.to_owned()).await.unwrap();
        runtime.start::<beta::Alpha>("stored", B.to_owned()).await.unwrap();
        close(runtime).await;
        let runtime = place.open().await;
        runtime.start::<numbered::Alpha>(7, A.to_owned()).await.unwrap();
        close(runtime).await;

        let named = || Address::<Text>::new("stored", "Ada".to_owned());
        let number = || Address::<Number>::new("stored", 5);
        let (old, new) = ((named(), Reads("Ada")), (number(), Reads("Ada")));
        check_address(&place, "init of a stored server", old, new).await;

        let alpha = || Address::<Alpha>::new("stored", A.to_owned());
        let (old, new) = (
            (alpha(), Reads("Gamma { a: 1 }")),
            (Address::<Gamma>::existing("stored"), Reads("Alpha { a: 1 }")),
        );
        check_address(&place, "renamed", old, new).await;
        let (old, new) = (
            (alpha(), Reads("OtherKind")),
            (Address::<unnamed::Alpha>::existing("stored"), Reads("OtherKind")),
        );
        check_address(&place, "a lost name", old, new).await;
        let (old, new) = (
            (alpha(), Reads("OtherKind")),
            (Address::<beta::Alpha>::existing("stored"), Reads("OtherKind")),
        );
        check_address(&place, "another type", old, new).await;

        let numbered = || Address::<numbered::Alpha>::existing(7);
        let word = r#""stored" is not a key of a alpha"#;
        let (old, new) = ((alpha(), Refused(word)), (numbered(), Refused("")));
        check_address(&place, "the type of the key", old, new).await;
        // Each number is a text.
        let (old, new) = ((numbered(), Reads("Alpha { a: 1 }")), (alpha(), Refused(word)));
        check_address(&place, "the type of the key, backwards", old, new).await;
    }
}

/// The address of a server that does not exist cannot create it with arguments that do not decode.
#[tokio::test]
async fn an_address_with_other_init_arguments_creates_nothing() {
    use arguments::{number::Named as Number, text::Named as Text};
    for place in Place::all() {
        let runtime = place.open().await;
        let address = Address::<Text>::new("absent", "Ada".to_owned());
        runtime.start::<Holder<Text>>("a", address).await.unwrap();
        close(runtime).await;
        let runtime = place.open().await;
        assert_eq!(text::<Holder<Number>>(&runtime, "a").await.unwrap(), "Init");
        close(runtime).await;
        assert_eq!(place.record::<Text>("absent").await, None);
        let runtime = place.open().await;
        assert_eq!(text::<Holder<Text>>(&runtime, "a").await.unwrap(), "Ada");
        close(runtime).await;
    }
}

/// Versions of a server type whose messages are journaled and remembered.
macro_rules! messages {
    ($module:ident($($options:tt)*) { $($methods:tt)* }) => {
        #[allow(dead_code, reason = "stored messages call the methods of later versions")]
        mod $module {
            use super::*;

            #[derive(Default, Serialize, Deserialize)]
            pub struct Log {
                lines: Vec<String>,
            }

            #[persistent_server(name = "log", $($options)*)]
            impl Log {
                /// Sets a reminder of the message.
                #[allow(clippy::boxed_local, reason = "the message contains its own type")]
                pub fn remember(&mut self, message: Box<LogMessage>, context: &Context<Self>) {
                    context.remind("the reminder", MINUTE, *message);
                }

                pub fn lines(&self) -> Vec<String> {
                    self.lines.clone()
                }

                $($methods)*
            }

            impl Log {
                fn note(&mut self, line: String) {
                    self.lines.push(line);
                }
            }

            impl Logs for Log {
                async fn lines(client: Self::Client) -> Result<Vec<String>, CallError> {
                    client.lines().await
                }
            }
        }
    };
}

/// A server type that [`messages`] makes.
trait Logs: Server<Key = str, Init = ()> {
    fn lines(client: Self::Client) -> impl Future<Output = Result<Vec<String>, CallError>>;
}

/// The methods after all changes but a new version.
macro_rules! changed_messages {
    ($module:ident($($options:tt)*) { $($more:tt)* }) => {
        messages!($module($($options)*) {
            $($more)*

            pub fn same(&mut self, a: u8) {
                self.note(format!("same {a}"));
            }

            pub fn fresh(&mut self, a: u8) {
                self.note(format!("fresh {a}"));
            }

            #[serde(alias = "Aliased")]
            pub fn current(&mut self, a: u8) {
                self.note(format!("current {a}"));
            }

            pub fn required(&mut self, a: u8, b: u8) {
                self.note(format!("required {a} {b}"));
            }

            pub fn defaulted(&mut self, a: u8, #[serde(default)] b: u8) {
                self.note(format!("defaulted {a} {b}"));
            }

            pub fn optional(&mut self, a: u8, b: Option<u8>) {
                self.note(format!("optional {a} {b:?}"));
            }

            pub fn shortened(&mut self, a: u8) {
                self.note(format!("shortened {a}"));
            }

            pub fn first(&mut self, a: Option<u8>) {
                self.note(format!("first {a:?}"));
            }

            pub fn first_required(&mut self, a: u8) {
                self.note(format!("first_required {a}"));
            }

            pub fn last(&mut self) {
                self.note("last".to_owned());
            }

            pub fn widened(&mut self, a: u64) {
                self.note(format!("widened {a}"));
            }

            pub fn narrowed(&mut self, a: u8) {
                self.note(format!("narrowed {a}"));
            }

            pub fn rounded(&mut self, a: f32) {
                self.note(format!("rounded {a}"));
            }

            pub fn retyped(&mut self, a: u8) {
                self.note(format!("retyped {a}"));
            }

            pub fn argument(&mut self, b: u8) {
                self.note(format!("argument {b}"));
            }

            pub fn argument_aliased(&mut self, #[serde(alias = "a")] b: u8) {
                self.note(format!("argument_aliased {b}"));
            }

            pub fn reordered(&mut self, b: u8, a: u8) {
                self.note(format!("reordered {a} {b}"));
            }

            pub fn wrapped(&mut self, a: Option<u8>) {
                self.note(format!("wrapped {a:?}"));
            }

            pub fn unwrapped(&mut self, a: u8) {
                self.note(format!("unwrapped {a}"));
            }

            #[info]
            fn inner(&mut self, a: u8) {
                self.note(format!("inner {a}"));
            }
        });
    };
}

messages!(before(journal = messages) {
    pub fn same(&mut self, a: u8) {
        self.note(format!("same {a}"));
    }

    pub fn renamed(&mut self, a: u8) {
        self.note(format!("renamed {a}"));
    }

    pub fn aliased(&mut self, a: u8) {
        self.note(format!("aliased {a}"));
    }

    pub fn required(&mut self, a: u8) {
        self.note(format!("required {a}"));
    }

    pub fn defaulted(&mut self, a: u8) {
        self.note(format!("defaulted {a}"));
    }

    pub fn optional(&mut self, a: u8) {
        self.note(format!("optional {a}"));
    }

    pub fn shortened(&mut self, a: u8, b: u8) {
        self.note(format!("shortened {a} {b}"));
    }

    pub fn first(&mut self) {
        self.note("first".to_owned());
    }

    pub fn first_required(&mut self) {
        self.note("first_required".to_owned());
    }

    pub fn last(&mut self, a: u8) {
        self.note(format!("last {a}"));
    }

    pub fn widened(&mut self, a: u8) {
        self.note(format!("widened {a}"));
    }

    pub fn narrowed(&mut self, a: u64) {
        self.note(format!("narrowed {a}"));
    }

    pub fn rounded(&mut self, a: f64) {
        self.note(format!("rounded {a}"));
    }

    pub fn retyped(&mut self, a: String) {
        self.note(format!("retyped {a}"));
    }

    pub fn argument(&mut self, a: u8) {
        self.note(format!("argument {a}"));
    }

    pub fn argument_aliased(&mut self, a: u8) {
        self.note(format!("argument_aliased {a}"));
    }

    pub fn reordered(&mut self, a: u8, b: u8) {
        self.note(format!("reordered {a} {b}"));
    }

    pub fn wrapped(&mut self, a: u8) {
        self.note(format!("wrapped {a}"));
    }

    pub fn unwrapped(&mut self, a: Option<u8>) {
        self.note(format!("unwrapped {a:?}"));
    }

    pub fn inner(&mut self, a: u8) {
        self.note(format!("inner {a}"));
    }

    pub fn waits(&mut self, a: u8) {
        self.note(format!("waits {a}"));
    }
});
changed_messages!(after(journal = messages) {});
// The version is raised for the state.
changed_messages!(raised(journal = messages, version = 2) {
    #[migrate(from = 1)]
    fn from_first(old: Log) -> Self {
        old
    }
});
// The messages are not journaled any more.
changed_messages!(unjournaled(version = 1) {
    pub async fn waits(&mut self, a: u8) {
        tokio::task::yield_now().await;
        self.note(format!("waits {a}"));
    }
});
// Converts each message.
messages!(converted(journal = messages, version = 2) {
    #[migrate(from = 1)]
    fn from_first(old: Log) -> Self {
        old
    }

    #[migrate_message(from = 1)]
    fn message_from_first(old: before::LogMessage) -> Option<LogMessage> {
        let text = format!("{old:?}");
        (!text.starts_with("Widened")).then_some(LogMessage::Converted { text })
    }

    pub fn converted(&mut self, text: String) {
        self.note(text);
    }
});
// Converts the messages of the second version. Those of the first have the form of the second.
messages!(late(journal = messages, version = 3) {
    #[migrate(from = 1)]
    fn from_first(old: Log) -> Log {
        old
    }

    #[migrate(from = 2)]
    fn from_second(old: Log) -> Self {
        old
    }

    #[migrate_message(from = 2)]
    fn message_from_second(old: before::LogMessage) -> LogMessage {
        match old {
            before::LogMessage::Same { a } => LogMessage::Same { a: a * 10 },
            old => LogMessage::Converted { text: format!("{old:?}") },
        }
    }

    /// Another meaning of the same form: tenths.
    pub fn same(&mut self, a: u8) {
        self.note(format!("same {a} tenths"));
    }

    pub fn converted(&mut self, text: String) {
        self.note(text);
    }
});

/// A message of the old program, its line there, and what the changed program makes of it.
fn message_changes() -> Vec<(&'static str, before::LogMessage, &'static str, Outcome)> {
    use before::LogMessage::*;
    vec![
        ("unchanged", Same { a: 1 }, "same 1", Reads("same 1")),
        ("method renamed", Renamed { a: 1 }, "renamed 1", Refused("`Renamed`")),
        ("method with an alias", Aliased { a: 1 }, "aliased 1", Reads("current 1")),
        ("argument added", Required { a: 1 }, "required 1", Refused("missing field `b`")),
        ("default added", Defaulted { a: 1 }, "defaulted 1", Reads("defaulted 1 0")),
        ("option added", Optional { a: 1 }, "optional 1", Reads("optional 1 None")),
        ("argument removed", Shortened { a: 1, b: 2 }, "shortened 1 2", Reads("shortened 1")),
        ("first option added", First, "first", Reads("first None")),
        ("first argument added", FirstRequired, "first_required", Refused("FirstRequired")),
        ("last argument removed", Last { a: 1 }, "last 1", Reads("last")),
        ("number widened", Widened { a: 1 }, "widened 1", Reads("widened 1")),
        ("number narrowed", Narrowed { a: 255 }, "narrowed 255", Reads("narrowed 255")),
        ("too large", Narrowed { a: 300 }, "narrowed 300", Refused("`Narrowed.a`")),
        ("float narrowed", Rounded { a: 0.5 }, "rounded 0.5", Reads("rounded 0.5")),
        ("too exact", Rounded { a: 0.1 }, "rounded 0.1", Refused("`Rounded.a`")),
        ("type changed", Retyped { a: "1".to_owned() }, "retyped 1", Refused("`Retyped.a`")),
        ("argument renamed", Argument { a: 1 }, "argument 1", Refused("missing field `b`")),
        (
            "argument with an alias",
            ArgumentAliased { a: 1 },
            "argument_aliased 1",
            Reads("argument_aliased 1"),
        ),
        ("arguments reordered", Reordered { a: 1, b: 2 }, "reordered 1 2", Reads("reordered 1 2")),
        ("made an option", Wrapped { a: 1 }, "wrapped 1", Reads("wrapped Some(1)")),
        ("some unwrapped", Unwrapped { a: Some(1) }, "unwrapped Some(1)", Reads("unwrapped 1")),
        ("none unwrapped", Unwrapped { a: None }, "unwrapped None", Refused("`Unwrapped.a`")),
        ("made an info", Inner { a: 1 }, "inner 1", Reads("inner 1")),
        ("method removed", Waits { a: 1 }, "waits 1", Refused("`Waits`")),
    ]
}

/// Stores each message behind a snapshot.
async fn journal(place: &Place) {
    let runtime = place.open().await;
    for (key, message, ..) in message_changes() {
        let log = runtime.start::<before::Log>(key, ()).await.unwrap();
        log.stop("a snapshot").await.unwrap();
        log.cast(message).await.unwrap();
        log.lines().await.unwrap();
        log.kill().await.unwrap();
    }
    close(runtime).await;
}

/// Asserts what `Reader` makes of each journaled message.
async fn check_journal<Reader: Logs>(
    outcome: impl Fn(&before::LogMessage, Outcome) -> Result<String, &'static str>,
) {
    for place in Place::all() {
        journal(&place).await;
        for (key, message, line, changed) in message_changes() {
            let before = place.record::<before::Log>(key).await.unwrap();
            assert_eq!((before.version, before.messages.len()), (1, 1), "{key}");
            let runtime = place.open().await;
            let log = runtime.find::<Reader>(key).await;
            let lines = match log {
                Ok(log) => Reader::lines(log).await,
                Err(error) => Err(error),
            };
            let outcome = outcome(&message, changed);
            match (&outcome, lines) {
                (Ok(expected), Ok(lines)) => {
                    let expected: Vec<_> = expected.lines().collect();
                    assert_eq!(lines, expected, "{key}");
                }
                (Err(word), Err(error)) => {
                    assert!(matches!(
                        error,
                        CallError::Replay { version: 1, number: 1, of: 1, .. }
                    ));
                    for part in [&format!("message 1 of 1 of log {key:?}"), *word, "version 1"] {
                        assert!(error.to_string().contains(part), "{part} is missing in: {error}");
                    }
                    let create = runtime.create::<Reader>(key, ()).await.map(drop);
                    create.expect_err(key);
                    let start = runtime.start::<Reader>(key, ()).await.map(drop);
                    start.expect_err(key);
                    let _ = runtime.at::<Reader>(key, ()).stop("maintenance").await;
                }
                (expected, lines) => panic!("{key}: {expected:?}, {lines:?}"),
            }
            close(runtime).await;
            match outcome {
                Err(_) => {
                    assert_eq!(place.record::<before::Log>(key).await.unwrap(), before, "{key}");
                    let runtime = place.open().await;
                    let log = runtime.find::<before::Log>(key).await.unwrap();
                    assert_eq!(log.lines().await.unwrap(), [line], "{key}");
                    close(runtime).await;
                }
                Ok(expected) => {
                    // The messages are stored as a state by now.
                    let runtime = place.open().await;
                    let log = runtime.find::<Reader>(key).await.unwrap();
                    let lines = Reader::lines(log).await.unwrap();
                    assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{key}");
                    close(runtime).await;
                }
            }
        }
    }
}

/// Returns the outcome of the table.
fn as_changed(outcome: Outcome) -> Result<String, &'static str> {
    match outcome {
        Reads(line) => Ok(line.to_owned()),
        Refused(word) => Err(word),
    }
}

/// The outcome for the program that converts each message but one.
fn as_converted(message: &before::LogMessage) -> String {
    match message {
        before::LogMessage::Widened { .. } => String::new(),
        message => format!("{message:?}"),
    }
}

#[tokio::test]
async fn a_journaled_message_of_a_changed_method_is_replayed_or_refused() {
    check_journal::<after::Log>(|_, changed| as_changed(changed)).await;
}

#[tokio::test]
async fn a_journaled_message_of_another_version_is_migrated_or_refused() {
    check_journal::<raised::Log>(|_, _| Err("#[migrate_message(from = 1)]")).await;
    check_journal::<late::Log>(|_, _| Err("#[migrate_message(from = 1)]")).await;
    check_journal::<converted::Log>(|message, _| Ok(as_converted(message))).await;
}

/// A message whose method waits by now would have no effect in a replay.
#[tokio::test]
async fn a_journaled_message_is_read_by_a_program_without_a_journal() {
    check_journal::<unjournaled::Log>(|message, changed| match message {
        before::LogMessage::Waits { .. } => Err("`waits` is `async` by now"),
        _ => as_changed(changed),
    })
    .await;
}

#[derive(Clone, Default)]
struct Failures(Arc<Mutex<BTreeMap<String, String>>>);

impl Observer for Failures {
    fn on_event(&self, server: &ServerId, event: &Event) {
        if let Event::ReminderFailed { name, reason, .. } = event {
            assert_eq!(name, "the reminder");
            self.0.lock().unwrap().insert(server.key().to_owned(), reason.clone());
        }
    }
}

/// Asserts what `Reader` makes of the reminder of each message.
async fn check_reminders<Reader: Logs>(
    outcome: impl Fn(&before::LogMessage, Outcome) -> Result<String, &'static str>,
) {
    for place in Place::all() {
        let runtime = place.open().await;
        for (key, message, ..) in message_changes() {
            runtime.at::<before::Log>(key, ()).remember(Box::new(message)).await.unwrap();
        }
        close(runtime).await;

        let failures = Failures::default();
        let builder = Runtime::builder().register::<Reader>().observer(failures.clone());
        let runtime = place.open_with(builder).await;
        sleep(MINUTE + 2 * SECOND).await;
        let mut refused = Vec::new();
        for (key, message, line, changed) in message_changes() {
            let lines = Reader::lines(runtime.find::<Reader>(key).await.unwrap()).await.unwrap();
            let listed = runtime.reminders::<Reader>(key).await.unwrap();
            let failure = failures.0.lock().unwrap().get(key).cloned();
            match outcome(&message, changed) {
                Ok(expected) => {
                    assert_eq!((lines.join("\n"), failure), (expected, None), "{key}");
                    assert_eq!(listed, [], "{key}");
                }
                Err(word) => {
                    assert_eq!(lines, [""; 0], "{key}");
                    let reason = failure.expect(key);
                    assert!(reason.contains(word), "{key}: {word} is missing in: {reason}");
                    assert_eq!(listed[0].error.as_ref(), Some(&reason), "{key}");
                    refused.push((key, line));
                }
            }
        }
        close(runtime).await;
        if Reader::VERSION > before::Log::VERSION {
            continue;
        }
        let runtime = place.open_with(Runtime::builder().register::<before::Log>()).await;
        sleep(20 * MINUTE).await;
        for (key, line) in refused {
            let log = runtime.find::<before::Log>(key).await.unwrap();
            assert_eq!(log.lines().await.unwrap(), [line], "{key}");
            assert_eq!(runtime.reminders::<before::Log>(key).await.unwrap(), [], "{key}");
        }
        close(runtime).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reminder_of_a_changed_method_is_handled_or_refused() {
    check_reminders::<after::Log>(|_, changed| as_changed(changed)).await;
    check_reminders::<unjournaled::Log>(|message, changed| match message {
        before::LogMessage::Waits { .. } => Ok("waits 1".to_owned()),
        _ => as_changed(changed),
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reminder_of_another_version_is_handled_migrated_or_refused() {
    check_reminders::<raised::Log>(|_, changed| as_changed(changed)).await;
    check_reminders::<converted::Log>(|message, _| Ok(as_converted(message))).await;
    // The second version had the messages of the first one.
    check_reminders::<late::Log>(|message, _| match message {
        before::LogMessage::Same { .. } => Ok("same 10 tenths".to_owned()),
        message => Ok(format!("{message:?}")),
    })
    .await;
}
