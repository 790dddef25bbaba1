//! Every shape that serde can describe, in every other one: a value that is acknowledged is read
//! back as it was, and any other value is refused.
//!
//! A value is of the type [`Dyn`], whose shape is chosen when the test runs. So each shape is
//! compiled once, and not once within each other shape.

use std::{
    cell::RefCell,
    cmp::Ordering,
    collections::BTreeMap,
    marker::PhantomData,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    ops::Range,
    path::PathBuf,
    rc::Rc,
    time::{Duration, SystemTime},
};

use persistent_runtime::{
    __private::{check, decode, encode},
    Address, CallError, Client, Context, Runtime, persistent_server,
};
use persistent_tests::Counter;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
    ser::SerializeSeq,
};

/// A shape, and the shape of the values that it contains.
#[derive(Debug)]
struct Spec {
    kind: Kind,
    inner: Option<Rc<Spec>>,
}

impl Spec {
    fn new(kind: Kind, inner: Option<&Rc<Self>>) -> Rc<Self> {
        Rc::new(Self { kind, inner: inner.cloned() })
    }

    fn contains(&self, kinds: &[Kind]) -> bool {
        kinds.contains(&self.kind) || self.inner.as_ref().is_some_and(|inner| inner.contains(kinds))
    }
}

/// The shape of the value that is decoded next, and of a key.
type Chosen = (Option<Rc<Spec>>, Option<Rc<Spec>>);

thread_local! {
    static SHAPE: RefCell<Chosen> = const { RefCell::new((None, None)) };
}

/// A value of a shape that is not known before the test runs.
#[derive(Clone, Debug, PartialEq)]
struct Dyn(Value);

/// The key of a map.
#[derive(Clone, Debug, PartialEq)]
struct Key(Value);

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        format!("{self:?}").cmp(&format!("{other:?}"))
    }
}

impl Serialize for Dyn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_as(serializer)
    }
}

impl<'de> Deserialize<'de> for Dyn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let around = SHAPE.with_borrow(|shape| shape.0.clone());
        let spec = around.clone().ok_or_else(|| de::Error::custom("no shape is chosen"))?;
        SHAPE.with_borrow_mut(|shape| shape.0.clone_from(&spec.inner));
        let value = Value::deserialize_as(spec.kind, deserializer);
        SHAPE.with_borrow_mut(|shape| shape.0 = around);
        value.map(Self)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_as(serializer)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spec = SHAPE.with_borrow(|shape| shape.1.clone());
        let spec = spec.ok_or_else(|| de::Error::custom("no shape of keys is chosen"))?;
        Value::deserialize_as(spec.kind, deserializer).map(Self)
    }
}

/// Declares the shapes, each with functions that return its values. Each takes a function that
/// returns an inner value.
macro_rules! shapes {
    ($($name:ident: $type:ty = $($value:expr),+;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Kind {
            $($name,)*
        }

        const KINDS: &[Kind] = &[$(Kind::$name),*];

        #[derive(Clone, Debug, PartialEq)]
        enum Value {
            $($name($type),)*
        }

        impl Value {
            fn serialize_as<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$name(value) => value.serialize(serializer),)*
                }
            }

            fn deserialize_as<'de, D: Deserializer<'de>>(
                kind: Kind,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                match kind {
                    $(Kind::$name => <$type>::deserialize(deserializer).map(Self::$name),)*
                }
            }

            /// Returns values of this shape that differ in their form.
            fn all(kind: Kind, next: Next<'_>) -> Vec<Self> {
                match kind {
                    $(Kind::$name => {
                        let values: &[fn(Next<'_>) -> $type] = &[$($value),+];
                        values.iter().map(|value| Self::$name(value(next))).collect()
                    })*
                }
            }
        }
    };
}

/// Returns a value of the inner shape, with a number that chooses between them.
type Next<'a> = &'a dyn Fn(usize) -> Dyn;

/// Returns the values of a shape.
fn values(spec: &Spec) -> Vec<Dyn> {
    let inner = spec.inner.as_ref().map(|inner| values(inner)).unwrap_or_default();
    let next = |n: usize| inner[n % inner.len()].clone();
    Value::all(spec.kind, &next).into_iter().map(Dyn).collect()
}

shapes! {
    Bool: bool = |_| true;
    U8: u8 = |_| 0, |_| 200;
    U64: u64 = |_| 5, |_| u64::MAX;
    I64: i64 = |_| -5, |_| i64::MIN;
    U128: u128 = |_| 5, |_| u128::MAX;
    I128: i128 = |_| -5;
    F32: f32 = |_| 0.1;
    F64: f64 = |_| 5.0, |_| 0.1;
    Char: char = |_| 'ß';
    Text: String = |_| String::new(), |_| "text".to_owned();
    Binary: Bytes = |_| Bytes(vec![]), |_| Bytes(vec![1, 200]);
    Nothing: () = |_| ();
    UnitStruct: Unit = |_| Unit;
    Phantom: PhantomData<u8> = |_| PhantomData;
    Ip: IpAddr = |_| IpAddr::from([192, 0, 2, 1]), |_| Ipv6Addr::LOCALHOST.into();
    Socket: SocketAddr = |_| SocketAddr::from(([192, 0, 2, 1], 80));
    Time: SystemTime = |_| SystemTime::UNIX_EPOCH + Duration::new(5, 7);
    NonZero: NonZeroU16 = |_| NonZeroU16::MAX;
    Path: PathBuf = |_| "/a/b".into();
    Bounds: Range<u8> = |_| 1..200;
    Word: Word = |_| Word::One, |_| Word::Two;
    Other: Address<Counter> = |_| Address::new("a", ()), |_| Address::existing("a");
    // From here on with an inner shape.
    Optional: Option<Box<Dyn>> = |_| None, |next| Some(Box::new(next(0)));
    Twice: Option<Option<Box<Dyn>>> =
        |_| None, |_| Some(None), |next| Some(Some(Box::new(next(0))));
    Outcome: Result<Box<Dyn>, u8> = |_| Err(1), |next| Ok(Box::new(next(0)));
    Newtype: Newtype = |next| Newtype(next(0).into());
    Pair: (Box<Dyn>, u8) = |next| (next(0).into(), 1);
    TupleStruct: TupleStruct = |next| TupleStruct(next(0).into(), next(1).into());
    List: Vec<Dyn> = |_| vec![], |next| vec![next(0), next(1)];
    Map: BTreeMap<Key, Dyn> =
        |_| BTreeMap::new(), |next| keys().into_iter().zip((0..).map(next)).collect();
    ByText: BTreeMap<String, Dyn> = |next| BTreeMap::from([("a".to_owned(), next(0))]);
    Fields: Fields = |next| fields(next);
    Defaults: Defaults =
        |_| Defaults::default(), |next| Defaults { list: vec![next(0)], none: None, skipped: 0 };
    Strict: Strict = |next| Strict { value: next(0).into() };
    External: External =
        |_| External::Unit, |next| External::Newtype(next(0).into()),
        |next| External::Tuple(next(0).into(), 1), |next| External::Struct { value: next(0).into() };
    Tagged: Tagged =
        |_| Tagged::Unit, |next| Tagged::Newtype(fields(next)),
        |next| Tagged::Struct { value: next(0).into() };
    TaggedValue: TaggedValue = |_| TaggedValue::Ip { ip: Ipv6Addr::LOCALHOST.into() };
    Adjacent: Adjacent =
        |_| Adjacent::Unit, |next| Adjacent::Newtype(next(0).into()),
        |next| Adjacent::Tuple(next(0).into(), 1), |next| Adjacent::Struct { value: next(0).into() };
    Untagged: Untagged =
        |_| Untagged::Unit, |next| Untagged::Tuple(next(0).into(), 1),
        |next| Untagged::Newtype(next(0).into());
    Shadowed: Shadowed = |_| Shadowed::Float(0.5), |next| Shadowed::Newtype(next(0).into());
    Swallowed: Swallowed =
        |_| Swallowed::Defaults { none: 1 }, |next| Swallowed::Fields(fields(next));
    Flat: Flat = |next| Flat { id: 1, inner: fields(next) };
    FlatOption: FlatOption =
        |_| FlatOption { id: 1, inner: None }, |next| FlatOption { id: 1, inner: Some(fields(next)) };
    FlatMap: FlatMap = |next| FlatMap { id: 1, map: BTreeMap::from([("a".to_owned(), next(0))]) };
    FlatKeys: FlatKeys = |next| {
        FlatKeys { id: 1, map: keys().into_iter().zip((0..).map(next)).collect() }
    };
    FlatExternal: FlatExternal =
        |next| FlatExternal { id: 1, inner: External::Newtype(next(0).into()) },
        |next| FlatExternal { id: 1, inner: External::Struct { value: next(0).into() } };
    FlatTagged: FlatTagged =
        |_| FlatTagged { id: 1, inner: Tagged::Unit },
        |next| FlatTagged { id: 1, inner: Tagged::Struct { value: next(0).into() } };
    Converted: Converted = |next| Converted { fields: fields(next).into() };
    SkipsValue: SkipsValue = |next| SkipsValue { value: Some(next(0).into()) };
    NoDefault: NoDefault = |_| NoDefault { list: vec![] }, |next| NoDefault { list: vec![next(0)] };
    Renamed: Renamed = |_| Renamed { value: None }, |next| Renamed { value: Some(next(0).into()) };
    Refuses: Refuses = |_| Refuses(1), |_| Refuses(7);
    WrongLength: WrongLength = |next| WrongLength(vec![next(0)]);
}

/// The values of the chosen shape of keys.
fn keys() -> Vec<Key> {
    let spec = SHAPE.with_borrow(|shape| shape.1.clone()).unwrap();
    values(&spec).into_iter().map(|value| Key(value.0)).collect()
}

/// Bytes, which are stored as such.
#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Word {
    One,
    #[serde(rename = "2")]
    Two,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Box<Dyn>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TupleStruct(Box<Dyn>, Box<Dyn>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fields {
    value: Box<Dyn>,
    second: Box<Dyn>,
}

fn fields(next: Next<'_>) -> Fields {
    Fields { value: next(0).into(), second: next(1).into() }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Defaults {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<Dyn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    none: Option<u8>,
    #[serde(skip)]
    skipped: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Strict {
    #[serde(alias = "former")]
    value: Box<Dyn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum External {
    Unit,
    Newtype(Box<Dyn>),
    Tuple(Box<Dyn>, u8),
    Struct { value: Box<Dyn> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Unit,
    Newtype(Fields),
    Struct { value: Box<Dyn> },
}

/// A concrete type in place of a [`Dyn`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum TaggedValue {
    Ip { ip: IpAddr },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
enum Adjacent {
    Unit,
    Newtype(Box<Dyn>),
    Tuple(Box<Dyn>, u8),
    Struct { value: Box<Dyn> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Unit,
    Tuple(Box<Dyn>, u8),
    Newtype(Box<Dyn>),
}

/// An earlier variant reads what a later one has written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Shadowed {
    Float(f64),
    Newtype(Box<Dyn>),
}

/// An earlier variant reads every map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Swallowed {
    Defaults {
        #[serde(default)]
        none: u8,
    },
    Fields(Fields),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    inner: Fields,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatOption {
    id: u8,
    #[serde(flatten)]
    inner: Option<Fields>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatMap {
    id: u8,
    #[serde(flatten)]
    map: BTreeMap<String, Dyn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatKeys {
    id: u8,
    #[serde(flatten)]
    map: BTreeMap<Key, Dyn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatExternal {
    id: u8,
    #[serde(flatten)]
    inner: External,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlatTagged {
    #[serde(flatten)]
    inner: Tagged,
    id: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
struct Converted {
    fields: Box<Fields>,
}

impl From<Fields> for Converted {
    fn from(fields: Fields) -> Self {
        Self { fields: fields.into() }
    }
}

impl From<Converted> for Fields {
    fn from(converted: Converted) -> Self {
        *converted.fields
    }
}

/// Is written without its value. That is on purpose, and nothing to be found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SkipsValue {
    #[serde(skip_serializing)]
    value: Option<Box<Dyn>>,
}

/// Lacks a `default`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NoDefault {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<Dyn>,
}

/// Is read from another field than it was written to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Renamed {
    #[serde(rename(serialize = "written"))]
    value: Option<Box<Dyn>>,
}

/// Refuses what it has written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Refuses(u8);

impl TryFrom<u8> for Refuses {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number < 5 { Ok(Self(number)) } else { Err("it is too large") }
    }
}

impl From<Refuses> for u8 {
    fn from(refuses: Refuses) -> Self {
        refuses.0
    }
}

/// Announces another length than it writes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct WrongLength(Vec<Dyn>);

impl Serialize for WrongLength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len() + 1))?;
        for value in &self.0 {
            list.serialize_element(value)?;
        }
        list.end()
    }
}

fn leaves() -> Vec<Rc<Spec>> {
    let first = KINDS.iter().position(|kind| *kind == Kind::Optional).unwrap();
    KINDS[..first].iter().map(|kind| Spec::new(*kind, None)).collect()
}

/// Returns every shape around each of `inner`.
fn around(inner: &[Rc<Spec>]) -> Vec<Rc<Spec>> {
    let first = leaves().len();
    let kinds = &KINDS[first..];
    inner.iter().flat_map(|spec| kinds.iter().map(|kind| Spec::new(*kind, Some(spec)))).collect()
}

/// Chooses the shape of the values that are decoded next. Keys have one of the shapes of leaves.
fn choose(spec: &Rc<Spec>, nth: usize) {
    let leaves = leaves();
    let key = leaves[nth % leaves.len()].clone();
    SHAPE.set((Some(spec.clone()), Some(key)));
}

/// Shapes that serde reads through its buffer.
const BUFFERED: &[Kind] = &[
    Kind::Tagged,
    Kind::Untagged,
    Kind::Shadowed,
    Kind::Swallowed,
    Kind::Flat,
    Kind::FlatOption,
    Kind::FlatMap,
    Kind::FlatKeys,
    Kind::FlatExternal,
    Kind::FlatTagged,
];

/// Shapes with a mistake, and shapes that are ambiguous with some inner shapes.
const WITH_MISTAKE: &[Kind] = &[
    Kind::Shadowed,
    Kind::Swallowed,
    Kind::NoDefault,
    Kind::Renamed,
    Kind::Refuses,
    Kind::WrongLength,
    // A key that is a list, an option or bytes cannot be the name of a field.
    Kind::FlatKeys,
    Kind::Untagged,
    Kind::FlatOption,
];

/// Returns true if serde cannot read each value of the shape.
fn may_be_refused(spec: &Spec) -> bool {
    let has_large_key = SHAPE.with_borrow(|shape| {
        shape.1.as_ref().is_some_and(|key| key.contains(LARGE)) && spec.contains(&[Kind::Map])
    });
    let is_large = spec.contains(LARGE) || has_large_key;
    spec.contains(WITH_MISTAKE) || is_large && spec.contains(BUFFERED)
}

/// Integers that serde's buffer does not know.
const LARGE: &[Kind] = &[Kind::U128, Kind::I128];

#[test]
fn a_value_is_read_back_as_it_was_or_is_refused() {
    let leaves = leaves();
    let one = around(&leaves);
    let two = around(&one);
    let (mut equal, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for (nth, spec) in leaves.iter().chain(&one).chain(&two).enumerate() {
        choose(spec, nth);
        for value in values(spec) {
            let mut bytes = Vec::new();
            if encode(&value, &mut bytes).is_err() {
                refused += 1;
                if !may_be_refused(spec) {
                    wrong.push(format!("not encoded: {value:?}"));
                }
                continue;
            }
            let checked = check(&bytes, decode::<Dyn>, encode::<Dyn>);
            let read = decode::<Dyn>(&bytes);
            match (checked, read) {
                (Ok(()), Ok(read)) if read == value => equal += 1,
                (Ok(()), Ok(read)) => {
                    // Nothing tells such values apart.
                    let mut again = Vec::new();
                    encode(&read, &mut again).unwrap();
                    if again != bytes {
                        wrong.push(format!("not found: {value:?}, read as {read:?}"));
                    }
                }
                (Ok(()), Err(error)) => wrong.push(format!("not found: {value:?}, {error}")),
                (Err(error), Ok(read)) if read == value => {
                    wrong.push(format!("a false alarm: {value:?}: {error}"));
                }
                (Err(error), _) => {
                    refused += 1;
                    if !may_be_refused(spec) {
                        wrong.push(format!("refused: {value:?}: {error}"));
                    }
                }
            }
        }
    }
    let count = wrong.len();
    wrong.truncate(40);
    assert_eq!(count, 0, "{}", wrong.join("\n"));
    assert!(equal > 10_000 && refused > 1000, "{equal} {refused}");
}

/// Stores values in its state.
#[derive(Default, Serialize, Deserialize)]
struct Zoo {
    value: Option<Dyn>,
}

#[persistent_server(name = "zoo")]
impl Zoo {
    pub fn set(&mut self, value: Dyn) {
        self.value = Some(value);
    }

    /// Sets the value by a reminder.
    pub fn set_later(&mut self, value: Dyn, context: &Context<Self>) {
        context.remind("set", Duration::ZERO, ZooMessage::SetNow { value });
    }

    pub fn get(&self) -> Option<Dyn> {
        self.value.clone()
    }

    pub fn is_waiting(&self, context: &Context<Self>) -> bool {
        !context.reminders().is_empty()
    }

    #[info]
    fn set_now(&mut self, value: Dyn) {
        self.value = Some(value);
    }
}

/// Stores values in its journaled messages.
#[derive(Default, Serialize, Deserialize)]
struct Diary {
    value: Option<Dyn>,
}

#[persistent_server(name = "diary", journal = messages)]
impl Diary {
    pub fn set(&mut self, value: Dyn) {
        self.value = Some(value);
    }

    pub fn get(&self) -> Option<Dyn> {
        self.value.clone()
    }
}

/// Compares what a server returns after a kill with the outcome of the call that set `value`.
fn compare(set: Result<(), CallError>, stored: Option<Dyn>, value: &Dyn) -> bool {
    let bytes = |value: &Dyn| {
        let mut bytes = Vec::new();
        encode(value, &mut bytes).map(|()| bytes)
    };
    match (set, stored) {
        // Nothing tells values of one stored form apart.
        (Ok(()), Some(stored)) => {
            assert!(stored == *value || bytes(&stored).unwrap() == bytes(value).unwrap());
            true
        }
        (Err(CallError::Encode { .. }), None) => false,
        (set, stored) => panic!("{value:?}: {set:?}, {stored:?}"),
    }
}

#[tokio::test]
async fn a_server_returns_what_it_has_acknowledged_or_has_refused_it() {
    let runtime = Runtime::builder().check_states(true).in_memory().await.unwrap();
    let leaves = leaves();
    let (mut equal, mut refused) = (0, 0);
    for (nth, spec) in leaves.iter().chain(&around(&leaves)).enumerate() {
        choose(spec, nth);
        let values = values(spec);
        let value = &values[nth % values.len()];
        let key = nth.to_string();

        let zoo = runtime.at::<Zoo>(&*key, ());
        let set = zoo.set(value.clone()).await;
        zoo.kill().await.unwrap();
        let stored = compare(set, zoo.get().await.unwrap(), value);

        let diary = runtime.at::<Diary>(&*key, ());
        assert_eq!(diary.get().await.unwrap(), None, "from here on messages are stored");
        let set = diary.set(value.clone()).await;
        diary.kill().await.unwrap();
        assert_eq!(compare(set, diary.get().await.unwrap(), value), stored);

        let zoo = runtime.at::<Zoo>(format!("{nth} by a reminder"), ());
        let set = zoo.set_later(value.clone()).await;
        let handled = async {
            while zoo.is_waiting().await.unwrap() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), handled).await.unwrap();
        zoo.kill().await.unwrap();
        assert_eq!(compare(set, zoo.get().await.unwrap(), value), stored);
        if stored {
            equal += 1;
        } else {
            refused += 1;
        }
    }
    assert!(equal > 500 && refused > 50, "{equal} {refused}");
}
