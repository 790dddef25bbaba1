//! The decoder accepts and rejects the same bytes as `rmp_serde`, with the same values, and names
//! the same paths as `serde_path_to_error`.

use std::{
    collections::BTreeMap,
    fmt,
    fmt::{Debug, Write},
    marker::PhantomData,
};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess},
};

use super::*;
use crate::codec::{decode, decode_next, depth::is_too_deep, encode};

/// A deterministic source of randomness.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() >> 33).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        self.number().to_be_bytes()[0]
    }
}

/// Every method of a deserializer, with a visitor that accepts all values and writes down which of
/// its methods was called. `HINT` is the number of the method.
struct Asked<const HINT: usize>(String);

const HINTS: [&str; 30] = [
    "any",
    "bool",
    "u8",
    "u16",
    "u32",
    "u64",
    "i8",
    "i16",
    "i32",
    "i64",
    "f32",
    "f64",
    "char",
    "str",
    "string",
    "bytes",
    "byte_buf",
    "unit",
    "ignored_any",
    "option",
    "newtype_struct",
    "extension",
    "enum",
    "identifier",
    "seq",
    "tuple",
    "tuple_struct",
    "map",
    "struct",
    "unit_struct",
];

impl<const HINT: usize> Debug for Asked<HINT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de, const HINT: usize> Deserialize<'de> for Asked<HINT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match HINTS[HINT] {
            "any" => deserializer.deserialize_any(Recorder),
            "bool" => deserializer.deserialize_bool(Recorder),
            "u8" => deserializer.deserialize_u8(Recorder),
            "u16" => deserializer.deserialize_u16(Recorder),
            "u32" => deserializer.deserialize_u32(Recorder),
            "u64" => deserializer.deserialize_u64(Recorder),
            "i8" => deserializer.deserialize_i8(Recorder),
            "i16" => deserializer.deserialize_i16(Recorder),
            "i32" => deserializer.deserialize_i32(Recorder),
            "i64" => deserializer.deserialize_i64(Recorder),
            "f32" => deserializer.deserialize_f32(Recorder),
            "f64" => deserializer.deserialize_f64(Recorder),
            "char" => deserializer.deserialize_char(Recorder),
            "str" => deserializer.deserialize_str(Recorder),
            "string" => deserializer.deserialize_string(Recorder),
            "bytes" => deserializer.deserialize_bytes(Recorder),
            "byte_buf" => deserializer.deserialize_byte_buf(Recorder),
            "unit" => deserializer.deserialize_unit(Recorder),
            "ignored_any" => deserializer.deserialize_ignored_any(Recorder),
            "option" => deserializer.deserialize_option(Recorder),
            "newtype_struct" => deserializer.deserialize_newtype_struct("Name", Recorder),
            "extension" => deserializer
                .deserialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, Recorder),
            "enum" => deserializer.deserialize_enum("Name", &["U"], Recorder),
            "identifier" => deserializer.deserialize_identifier(Recorder),
            "seq" => deserializer.deserialize_seq(Recorder),
            "tuple" => deserializer.deserialize_tuple(2, Recorder),
            "tuple_struct" => deserializer.deserialize_tuple_struct("Name", 2, Recorder),
            "map" => deserializer.deserialize_map(Recorder),
            "struct" => deserializer.deserialize_struct("Name", &["a"], Recorder),
            _ => deserializer.deserialize_unit_struct("Name", Recorder),
        }
        .map(Self)
    }
}

type Any = Asked<0>;

struct Recorder;

macro_rules! record {
    ($($method:ident: $type:ty,)*) => {
        $(
            fn $method<E>(self, value: $type) -> Result<String, E> {
                Ok(format!("{}({value:?})", stringify!($method)))
            }
        )*
    };
}

impl<'de> Visitor<'de> for Recorder {
    type Value = String;

    record! {
        visit_bool: bool,
        visit_u8: u8,
        visit_u16: u16,
        visit_u32: u32,
        visit_u64: u64,
        visit_u128: u128,
        visit_i8: i8,
        visit_i16: i16,
        visit_i32: i32,
        visit_i64: i64,
        visit_i128: i128,
        visit_f32: f32,
        visit_f64: f64,
        visit_str: &str,
        visit_bytes: &[u8],
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok("visit_unit".to_owned())
    }

    fn visit_none<E>(self) -> Result<String, E> {
        Ok("visit_none".to_owned())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        Any::deserialize(deserializer).map(|value| format!("visit_some({value:?})"))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<String, D::Error> {
        let readable = deserializer.is_human_readable();
        Any::deserialize(deserializer).map(|value| format!("newtype({readable}, {value:?})"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
        let mut text = "list".to_owned();
        while let Some(element) = list.next_element::<Any>()? {
            write!(text, " {element:?}").unwrap();
        }
        Ok(text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut text = "map".to_owned();
        while let Some(key) = map.next_key::<Any>()? {
            let value = map.next_value_seed(PhantomData::<Any>)?;
            write!(text, " {key:?}: {value:?}").unwrap();
        }
        Ok(text)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<String, A::Error> {
        let (name, variant) = data.variant::<String>()?;
        let content = match name.as_str() {
            "U" => variant.unit_variant().map(|()| String::new()),
            "T" => variant.tuple_variant(2, Elements),
            "S" => variant.struct_variant(&["a"], Elements),
            _ => variant.newtype_variant::<Any>().map(|value| value.0),
        };
        Ok(format!("{name}: {}", content?))
    }
}

/// The visitor of the content of a variant.
struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<String, A::Error> {
        Recorder.visit_seq(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<String, A::Error> {
        Recorder.visit_map(map)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(i16, Newtype);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(String),
    Tuple(u8, i64),
    Struct { a: Option<f32>, b: Vec<Shape> },
    Empty(),
    Nothing {},
    Inner(Box<Shape>),
    OfUnit(()),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fields {
    number: u64,
    #[serde(default)]
    text: String,
    pair: Option<Pair>,
    shapes: Vec<Shape>,
    map: BTreeMap<String, Newtype>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    a: u8,
    #[serde(alias = "c")]
    b: (bool, char),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Float(f64),
    Unit,
    Text(String),
    List(Vec<Untagged>),
    Map(BTreeMap<String, Untagged>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    A { value: u8 },
    B(Strict),
    C,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    A { value: u8 },
    B(Strict),
    C,
    D(u8, String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    more: BTreeMap<i32, Option<Shape>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FlatText {
    id: u8,
    #[serde(flatten)]
    strict: Option<Newtypes>,
    #[serde(flatten)]
    more: BTreeMap<String, Untagged>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newtypes {
    n: Newtype,
}

/// Bytes, which are stored as such.
#[derive(Debug, Clone, PartialEq)]
struct Binary(Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Binary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Binary, E> {
                Ok(Binary(bytes.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Binary, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Binary(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// An extension, in the form that `rmp_serde` recognizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "_ExtStruct")]
struct Extension((i8, Binary));

/// A visitor that recovers from errors: wrong, but it must not panic.
#[derive(Debug)]
struct Recovers;

impl<'de> Deserialize<'de> for Recovers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let _ = Fields::deserialize(deserializer);
        Ok(Self)
    }
}

#[derive(PartialEq, Debug)]
enum Outcome {
    Accepted,
    Rejected,
}

/// Returns true if the path is that of `serde_path_to_error`, in which `?` is a key that it does
/// not know.
fn is_path(ours: &str, theirs: &str) -> bool {
    match theirs.split_once('?') {
        None => ours == theirs,
        Some((start, end)) => ours.strip_prefix(start).is_some_and(|ours| {
            (0..=ours.len()).any(|key| ours.is_char_boundary(key) && is_path(&ours[key..], end))
        }),
    }
}

/// Decodes `bytes` here and with `rmp_serde`, and compares.
fn compare<T: DeserializeOwned + Debug>(bytes: &[u8]) -> Outcome {
    compare_but::<T>(bytes, |_| false)
}

/// As [`compare`], but this decoder may reject what `may_reject` says.
fn compare_but<T: DeserializeOwned + Debug>(
    bytes: &[u8],
    may_reject: fn(&[u8]) -> bool,
) -> Outcome {
    let mut rest = bytes;
    let ours = decode_next::<T>(&mut rest).map(|value| (format!("{value:?}"), rest.len()));
    let deep = is_too_deep(bytes);
    let theirs = if deep {
        None
    } else {
        let mut rest = bytes;
        let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).ok();
        value.map(|value| (format!("{value:?}"), rest.len()))
    };
    let name = std::any::type_name::<T>();
    match ours {
        Ok(ours) => {
            assert_eq!(Some(ours), theirs, "{name}: {bytes:x?}");
            Outcome::Accepted
        }
        Err(error) => {
            if !may_reject(bytes) {
                assert_eq!(theirs, None, "{name}: {error}: {bytes:x?}");
                check_path::<T>(bytes, &error, deep);
            }
            Outcome::Rejected
        }
    }
}

fn check_path<T: DeserializeOwned>(bytes: &[u8], error: &DecodeError, deep: bool) {
    let DecodeError::Malformed { field, .. } = error else { panic!("{error}") };
    if deep {
        return;
    }
    let mut again = rmp_serde::Deserializer::new(bytes);
    let Err(theirs) = serde_path_to_error::deserialize::<_, T>(&mut again) else {
        panic!("it was rejected: {bytes:x?}")
    };
    let path = theirs.path().to_string();
    // An extension that is cut off is an error of the extension, not of its elements.
    let cut_off = error.to_string().ends_with("the bytes end within the value")
        && ["[0]", "[1]"].iter().any(|part| match path.strip_suffix(part) {
            Some("") => field == ".",
            Some(extension) => is_path(field, extension),
            None => false,
        });
    assert!(is_path(field, &path) || cut_off, "{field} {path}: {error}, {theirs}: {bytes:x?}");
}

fn head(random: &mut Random, bytes: &mut Vec<u8>, markers: [u8; 4], few: usize, length: usize) {
    let [fixed, markers @ ..] = markers;
    match random.below(8) {
        0 if length < 256 && markers[0] != 0 => {
            bytes.extend([markers[0], u8::try_from(length).unwrap()]);
        }
        1 => {
            bytes.push(markers[1]);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        2 => {
            bytes.push(markers[2]);
            bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        }
        _ if length < few => bytes.push(fixed | u8::try_from(length).unwrap()),
        _ => {
            bytes.push(markers[1]);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
}

/// Appends a random value of any form, also of those that no encoder writes.
fn value(random: &mut Random, bytes: &mut Vec<u8>, depth: usize) {
    const WORDS: [&str; 28] = [
        "a", "b", "c", "t", "id", "n", "type", "value", "number", "text", "pair", "shapes", "map",
        "more", "Unit", "Newtype", "Tuple", "Struct", "Empty", "Nothing", "Inner", "OfUnit", "A",
        "B", "C", "ü", "U", "T",
    ];
    match random.below(if depth == 0 { 7 } else { 12 }) {
        0 => bytes.push(random.byte() & 0x7f),
        1 => bytes.push([0xc0, 0xc2, 0xc3, 0xe0, 0xff, 0xc1][random.below(6)]),
        2 => {
            let marker = 0xca + u8::try_from(random.below(10)).unwrap();
            let length = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8][usize::from(marker - 0xca)];
            bytes.push(marker);
            bytes.extend((0..length).map(|_| random.byte()));
        }
        3 | 4 => {
            let word = WORDS[random.below(WORDS.len())];
            head(random, bytes, [0xa0, 0xd9, 0xda, 0xdb], 32, word.len());
            bytes.extend(word.as_bytes());
        }
        5 => {
            let length = [0, 1, 2, 3, 16, 40][random.below(6)];
            let markers = [[0xa0, 0xd9, 0xda, 0xdb], [0xc4, 0xc4, 0xc5, 0xc6]];
            let text = random.below(2);
            head(random, bytes, markers[text], if text == 0 { 32 } else { 0 }, length);
            bytes.extend((0..length).map(|_| random.byte()));
        }
        6 => {
            let length = [1, 2, 4, 8, 16][random.below(5)];
            match random.below(2) {
                0 => bytes.push(0xd4 + u8::try_from(usize::ilog2(length)).unwrap()),
                _ => head(random, bytes, [0xc7, 0xc7, 0xc8, 0xc9], 0, length),
            }
            bytes.extend((0..=length).map(|_| random.byte()));
        }
        7 | 8 => {
            let length = random.below(5);
            head(random, bytes, [0x90, 0, 0xdc, 0xdd], 16, length);
            for _ in 0..length {
                value(random, bytes, depth - 1);
            }
        }
        _ => {
            let length = [1, 1, 2, 3, 0][random.below(5)];
            head(random, bytes, [0x80, 0, 0xde, 0xdf], 16, length);
            for _ in 0..2 * length {
                value(random, bytes, depth - 1);
            }
        }
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = random.byte(),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.byte()),
            5 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => {
                let mut piece = Vec::new();
                value(random, &mut piece, 2);
                let end = bytes.len().min(at + random.below(4));
                bytes.splice(at..end, piece);
            }
        }
    }
}

/// Compares random values, and the examples with random damage.
fn compare_all(examples: &[Vec<u8>], compare: fn(&[u8]) -> Outcome) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for example in examples {
        assert_eq!(compare(example), Outcome::Accepted, "{example:x?}");
        for end in 0..example.len() {
            assert_eq!(compare(&example[..end]), Outcome::Rejected, "{example:x?}");
        }
    }
    for round in 0..4000 {
        let mut bytes = Vec::new();
        match examples.get(round % (examples.len() + 1)) {
            Some(example) => {
                bytes.clone_from(example);
                mutate(&mut random, &mut bytes);
            }
            None => {
                value(&mut random, &mut bytes, 4);
                bytes.push(0xc0);
            }
        }
        compare(&bytes);
    }
}

fn check<T: Serialize + DeserializeOwned + Debug>(values: &[T]) {
    let mut examples = Vec::new();
    for value in values {
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        examples.push(bytes);
        // Structs as lists: the encoder does not write them, yet they have always been readable.
        examples.push(rmp_serde::to_vec(value).unwrap());
    }
    // Some kinds of enums and `flatten` need the names.
    examples
        .retain(|example| T::deserialize(&mut rmp_serde::Deserializer::new(&example[..])).is_ok());
    assert!(examples.len() >= values.len());
    compare_all(&examples, compare::<T>);
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape::Unit,
        Shape::Newtype("text".to_owned()),
        Shape::Tuple(200, -5_000_000_000),
        Shape::Struct { a: Some(0.5), b: vec![Shape::Unit, Shape::OfUnit(())] },
        Shape::Struct { a: None, b: vec![] },
        Shape::Empty(),
        Shape::Nothing {},
        Shape::Inner(Box::new(Shape::Inner(Box::new(Shape::Tuple(1, 2))))),
    ]
}

fn strict() -> Strict {
    Strict { a: 5, b: (true, 'ß') }
}

#[test]
fn scalars_decode_as_with_rmp_serde() {
    check(&[(true, 1_i8, -300_i16, 70_000_i32, i64::MIN)]);
    check(&[(200_u8, 300_u16, 70_000_u32, u64::MAX)]);
    check(&[(0.5_f32, -0.1_f64, 'ß', "text".to_owned(), ())]);
    check(&[i128::MIN, -1, 0, i128::MAX]);
    check(&[u128::MAX, 0, 1 << 64]);
    check(&[0_u8, 127, 128, 255]);
    check(&[0_i8, -32, -33, 127, -128]);
    check(&[0.0_f32, f32::NAN, f32::INFINITY]);
    check(&[true, false]);
    check(&["x".repeat(300), String::new()]);
    check(&[()]);
}

#[test]
#[expect(clippy::zero_sized_map_values, reason = "a unit as a map's value is one of the cases")]
fn compounds_decode_as_with_rmp_serde() {
    check(&[Unit]);
    check(&[Newtype(70_000)]);
    check(&[Pair(-1, Newtype(2))]);
    check(&[Some(Some(1_u8)), None]);
    check(&[vec![1_u8, 200], vec![]]);
    check(&[Binary(b"bytes".to_vec()), Binary(vec![7; 300])]);
    check(&[[1_u8, 2, 3]]);
    check(&[vec![(1_u64, "a".to_owned()), (2, "b".to_owned())]]);
    check(&[vec![Some(Newtype(1)), None]]);
    check(&[BTreeMap::from([(Newtype(1).0, vec![strict()])])]);
    check(&[BTreeMap::from([("a".to_owned(), 1.5), ("b".to_owned(), -1.5)])]);
    check(&[BTreeMap::from([((1_u8, 'c'), Unit)])]);
    check(&[Extension((5, Binary(b"1234".to_vec()))), Extension((-1, Binary(vec![1; 300])))]);
}

#[test]
fn structs_decode_as_with_rmp_serde() {
    let map = BTreeMap::from([("k".to_owned(), Newtype(1))]);
    let pair = Some(Pair(1, Newtype(2)));
    check(&[Fields { number: 300, text: "text".to_owned(), pair, shapes: shapes(), map }]);
    check(&[strict()]);
    check(&[Flat { id: 1, more: BTreeMap::from([(-5, Some(Shape::Unit)), (300, None)]) }]);
    let more = BTreeMap::from([("x".to_owned(), Untagged::Number(1))]);
    check(&[FlatText { id: 1, strict: Some(Newtypes { n: Newtype(7) }), more }]);
}

#[test]
fn enums_decode_as_with_rmp_serde() {
    check(&shapes());
    let map = BTreeMap::from([("k".to_owned(), Untagged::Text("v".to_owned()))]);
    let list = vec![Untagged::Number(1), Untagged::Unit, Untagged::Float(0.5), Untagged::Map(map)];
    check(&[Untagged::List(list)]);
    check(&[Tagged::A { value: 1 }, Tagged::B(strict()), Tagged::C]);
    check(&[
        Adjacent::A { value: 1 },
        Adjacent::B(strict()),
        Adjacent::C,
        Adjacent::D(1, "d".to_owned()),
    ]);
}

/// Each variant by its name and by its index.
#[test]
fn a_variant_may_be_an_index() {
    for bytes in
        [&b"\x00"[..], b"\xa4Unit", b"\x81\x00\xc0", b"\x81\x02\x92\x01\x02", b"\x81\x07\xc0"]
    {
        assert_eq!(compare::<Shape>(bytes), Outcome::Accepted);
    }
    for bytes in [&b"\x01"[..], b"\x08", b"\x81\x00\x01", b"\x82\x00\xc0\x00\xc0", b"\x80", b"\xde"]
    {
        assert_eq!(compare::<Shape>(bytes), Outcome::Rejected);
    }
}

macro_rules! hints {
    ($check:ident: $($hint:literal)*) => {
        $($check::<$hint>();)*
    };
}

#[test]
fn each_method_calls_the_same_method_of_the_visitor() {
    fn check<const HINT: usize>() {
        compare_all(&[], compare::<Asked<HINT>>);
        // Within bytes and extensions each element has no token of its own.
        compare_all(&[], compare::<(u8, Asked<HINT>)>);
    }

    fn check_whole<const HINT: usize>() {
        compare_all(&[], compare::<Asked<HINT>>);
    }

    hints!(check: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18);
    hints!(check_whole: 19 20 21 22);
}

#[test]
fn a_visitor_of_a_compound_is_offered_all_lists_maps_and_bytes() {
    fn check<const HINT: usize>() {
        compare_all(&[], |bytes| {
            compare_but::<Asked<HINT>>(bytes, |bytes| {
                let compound = matches!(bytes[0], 0x80..=0x9f | 0xdc..=0xdf);
                let binary = matches!(bytes[0], 0xc4..=0xc6);
                match HINTS[HINT] {
                    "unit_struct" => !matches!(bytes[0], 0xc0 | 0x90),
                    "map" => !compound,
                    _ => !compound && !binary,
                }
            })
        });
    }

    hints!(check: 24 25 26 27 28 29);
}

/// A name in as few forms as a visitor can distinguish if it accepts all names.
#[derive(Debug)]
#[expect(dead_code, reason = "shown for comparison")]
enum Named {
    Unit,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl Visitor<'_> for Names {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_unit<E>(self) -> Result<Named, E> {
                Ok(Named::Unit)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Named, E> {
                Ok(Named::Bool(value))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Named, E> {
                Ok(Named::Unsigned(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Named, E> {
                Ok(Named::Signed(number))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Named, E> {
                Ok(Named::Float(number.to_bits()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Named, E> {
                Ok(Named::Text(text.to_owned()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Named, E> {
                Ok(Named::Bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_identifier(Names)
    }
}

#[test]
fn a_name_has_all_forms_that_it_has_with_rmp_serde() {
    compare_all(&[b"\x01".to_vec(), b"\xa1a".to_vec()], compare::<Named>);
    compare_all(&[], compare::<(u8, Named)>);
}

#[test]
fn texts_and_bytes_are_borrowed() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Borrowed<'a> {
        text: &'a str,
        bytes: &'a [u8],
        list: Vec<&'a str>,
        map: BTreeMap<&'a str, Option<&'a str>>,
    }

    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Bytes<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    #[derive(Serialize)]
    struct Owned {
        text: &'static str,
        bytes: Bytes<'static>,
        list: Vec<&'static str>,
        map: BTreeMap<&'static str, Option<&'static str>>,
    }

    let map = BTreeMap::from([("k", Some("v")), ("l", None)]);
    let value = Owned { text: "text", bytes: Bytes(b"bytes"), list: vec!["a", "b"], map };
    let mut bytes = Vec::new();
    encode(&value, &mut bytes).unwrap();
    let ours = Borrowed::deserialize(&mut Decoder::new(&bytes)).unwrap();
    let theirs: Borrowed<'_> = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(ours, theirs);
    assert!(bytes.as_ptr_range().contains(&ours.text.as_ptr()));
}

/// A length of four billion was believed by visitors that allocate as much as they are told.
#[test]
fn a_hostile_length_reserves_no_more_than_there_are_bytes() {
    #[derive(Debug)]
    struct Hint(Option<usize>);

    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Hints;

            impl<'de> Visitor<'de> for Hints {
                type Value = Hint;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a list or map")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Hint, A::Error> {
                    let hint = list.size_hint();
                    while list.next_element::<IgnoredAny>()?.is_some() {}
                    Ok(Hint(hint))
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Hint, A::Error> {
                    let hint = map.size_hint();
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    Ok(Hint(hint))
                }
            }

            deserializer.deserialize_any(Hints)
        }
    }

    for (bytes, hint) in [(&b"\x93abc"[..], 3), (b"\x82aabb", 2), (b"\x90", 0)] {
        assert_eq!(decode::<Hint>(bytes).unwrap().0, Some(hint));
    }
    for marker in [0xdd, 0xdf] {
        let bytes = [marker, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let mut decoder = Decoder::new(&bytes);
        let mut items = Items::new(&mut decoder, None);
        let hint = SeqAccess::size_hint(&&mut items);
        assert_eq!(hint, Some(0), "the head is not read yet");
        assert!(decode::<Hint>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert!(decode::<BTreeMap<u8, u64>>(&bytes).is_err());
    }
}

/// Each kind of value in as many lists, maps and enums as are allowed, and in one more.
#[test]
fn the_limit_is_that_of_the_encoder_for_all_types() {
    #[derive(Debug, Deserialize)]
    enum Chain {
        End,
        #[expect(dead_code, reason = "decoded only")]
        Link(Box<Chain>),
        #[expect(dead_code, reason = "decoded only")]
        List(Vec<Chain>),
        #[expect(dead_code, reason = "decoded only")]
        Map {
            a: Box<Chain>,
        },
    }

    let mut random = Random(5);
    let levels: [(&[u8], usize); 3] =
        [(b"\x81\xa4Link", 1), (b"\x81\xa4List\x91", 2), (b"\x81\xa3Map\x81\xa1a", 2)];
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..300 {
        let (mut bytes, mut depth) = (Vec::new(), 0);
        let limit = DEPTH - 4 + random.below(8);
        while depth < limit {
            let (link, more) = levels[random.below(3)];
            bytes.extend(link);
            depth += more;
        }
        bytes.extend(b"\xa3End");
        assert_eq!(compare::<Chain>(&bytes) == Outcome::Accepted, depth <= DEPTH);
        compare::<IgnoredAny>(&bytes);
        compare::<Any>(&bytes);
        match compare::<Untagged>(&[b"\x91", &bytes[..]].concat()) {
            Outcome::Accepted => accepted += 1,
            Outcome::Rejected => rejected += 1,
        }
    }
    assert!(accepted > 20 && rejected > 20, "{accepted} {rejected}");
    // Values side by side are not nested.
    let wide = [vec![0xdc, 0x03, 0xe8], b"\x81\xa4List\x91\xa3End".repeat(1000)].concat();
    assert_eq!(compare::<Vec<Chain>>(&wide), Outcome::Accepted);
    assert_eq!(compare::<IgnoredAny>(&wide), Outcome::Accepted);
}

/// Such a type overflowed the stack on any value but nil.
#[test]
fn an_option_of_itself_is_rejected() {
    #[derive(Debug, Deserialize)]
    struct Endless(Option<Box<Endless>>);

    assert!(decode::<Endless>(b"\xc0").unwrap().0.is_none());
    let error = decode::<Endless>(b"\x01").unwrap_err();
    assert!(error.to_string().contains("deeper than 256 levels"), "{error}");
    let many = vec![Some(Some(1)); 1000];
    let mut bytes = Vec::new();
    encode(&many, &mut bytes).unwrap();
    assert_eq!(decode::<Vec<Option<Option<i32>>>>(&bytes).unwrap(), many);
}

#[test]
fn the_path_of_an_error_is_that_of_serde_path_to_error() {
    fn path<T: DeserializeOwned + Debug>(bytes: &[u8]) -> String {
        compare::<T>(bytes);
        match decode::<T>(bytes).unwrap_err() {
            DecodeError::Malformed { field, .. } => field,
            error => panic!("{error}"),
        }
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "decoded only")]
    struct State {
        inventory: Vec<Item>,
        owners: BTreeMap<u32, Shape>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "decoded only")]
    struct Item {
        name: String,
    }

    let with = |inventory: &[u8], owners: &[u8]| {
        [b"\x82\xa9inventory", inventory, b"\xa6owners", owners].concat()
    };
    let path_of = |inventory: &[u8], owners: &[u8]| path::<State>(&with(inventory, owners));
    assert_eq!(path::<State>(b""), ".");
    assert_eq!(path::<State>(b"\x05"), ".");
    assert_eq!(path::<State>(b"\x80"), ".");
    assert_eq!(path_of(b"\x05", b"\x80"), "inventory");
    assert_eq!(path_of(b"\x92\x81\xa4name\xa1a\x81\xa4name\x05", b"\x80"), "inventory[1].name");
    assert_eq!(path_of(b"\x92\x91\xa1a\x91\x05", b"\x80"), "inventory[1][0]");
    assert_eq!(path_of(b"\x92\x81\xa4name\xa1a\x80", b"\x80"), "inventory[1]", "missing");
    assert_eq!(path_of(b"\x91\x82\xa4name\xa1a\xa4name\xa1a", b"\x80"), "inventory[0]", "twice");
    assert_eq!(path_of(b"\x91\x82\xa4name\xa1a\xa4more\xc1", b"\x80"), "inventory[0].more");
    assert_eq!(path_of(b"\x91\x92\xa1a\xa1b", b"\x80"), "inventory[0]", "one too many");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa5Tuple\x92\x01\xa0"), "owners.7.Tuple[1]");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa6Struct\x81\xa1b\x05"), "owners.7.Struct.b");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa7Newtype\x05"), "owners.7.Newtype");
    assert_eq!(path_of(b"\x90", b"\x81\x07\xa7Newtype"), "owners.7.Newtype", "no content");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x81\xa4Unit\x05"), "owners.7.Unit");
    assert_eq!(path_of(b"\x90", b"\x81\x07\xa4None"), "owners.7", "no variant");
    assert_eq!(path_of(b"\x90", b"\x81\x07\x82\xa4Unit\xc0\xa4Unit\xc0"), "owners.7");
    assert_eq!(path_of(b"\x90", b"\x81\xff\xa4Unit"), "owners.-1", "the key itself");
    assert_eq!(path_of(b"\x90", b"\x81\xc0\xa4Unit"), "owners.?");
    // Where `serde_path_to_error` writes `?`.
    assert_eq!(path::<BTreeMap<Option<String>, u8>>(b"\x81\xa1a\xa1b"), "a");
}

/// The path of an error that a function has wrapped in its own one.
#[test]
fn a_wrapped_error_has_the_path_of_its_cause() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "decoded only")]
    struct Wrapping {
        #[serde(deserialize_with = "wrapped")]
        list: Vec<Strict>,
    }

    fn wrapped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Strict>, D::Error> {
        Vec::deserialize(deserializer)
            .map_err(|error| serde::de::Error::custom(format!("the list is bad: {error}")))
    }

    let bytes = b"\x81\xa4list\x91\x81\xa1a\xa0";
    compare::<Wrapping>(bytes);
    let error = decode::<Wrapping>(bytes).unwrap_err();
    assert!(error.to_string().starts_with("at field `list[0].a`: the list is bad: "), "{error}");
}

#[test]
fn a_visitor_that_recovers_from_errors_causes_no_panic_and_no_wrong_path() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        value(&mut random, &mut bytes, 4);
        mutate(&mut random, &mut bytes);
        let _ = decode::<[Recovers; 3]>(&bytes);
        let _ = decode::<(Recovers, Fields)>(&bytes);
    }
    let bytes = b"\x92\x81\xa6number\xa1a\x81\xa4text\x05";
    let Err(DecodeError::Malformed { field, .. }) = decode::<(Recovers, Fields)>(bytes) else {
        panic!("the text is a number")
    };
    assert_eq!(field, "[1].text");
}

/// The texts name what was found and what was expected.
#[test]
fn an_error_says_what_was_wrong() {
    fn error<T: DeserializeOwned>(bytes: &[u8]) -> String {
        decode::<T>(bytes).err().expect("it is malformed").to_string()
    }

    assert_eq!(error::<u64>(b"\xa1a"), "invalid type: string \"a\", expected u64");
    assert_eq!(error::<u8>(b"\xcd\x01\x00"), "invalid value: integer `256`, expected u8");
    assert_eq!(error::<String>(b"\xa1\xff").split(": ").next(), Some("invalid text"));
    assert_eq!(error::<String>(b"\xa2a"), "the bytes end within the value");
    assert_eq!(error::<Strict>(b"\xc0"), "invalid type: unit value, expected struct Strict");
    assert_eq!(error::<(u8,)>(b"\x92\x01\x02"), "invalid length 2, expected 1");
    assert_eq!(error::<bool>(b"\xc1"), "the byte 0xc1 is no MessagePack marker");
    assert!(error::<Shape>(b"\x82\xa4Unit\xc0\xa4Unit\xc0").contains("a map with one entry"));
    assert!(error::<Shape>(b"\xa5Tuple").ends_with("unit variant, expected tuple variant"));
}
