//! The decoder accepts and rejects the same bytes as `rmp_serde`, with the same values, and names
//! the same paths as `serde_path_to_error`.

use std::{collections::BTreeMap, fmt, fmt::Debug};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess},
};

use super::*;
use crate::codec::{
    decode, decode_next,
    depth::{is_too_deep, scan},
    encode,
};
use generate::{Random, mutate, value};
use recorder::{Any, Asked, HINTS};

mod generate;
mod limits;
mod recorder;

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
    if scan(bytes, |marker, _| marker == SOME) {
        // `rmp_serde` does not know the mark.
        return if ours.is_ok() { Outcome::Accepted } else { Outcome::Rejected };
    }
    let deep = is_too_deep(bytes);
    let theirs = if deep {
        None
    } else {
        let mut rest = bytes;
        let mut reference = rmp_serde::Deserializer::new(&mut rest).with_human_readable();
        let value = T::deserialize(&mut reference).ok();
        value.map(|value| (format!("{value:?}"), rest.len()))
    };
    let name = std::any::type_name::<T>();
    match ours {
        Ok(ours) => {
            assert_eq!(Some(ours), theirs, "{name}: {bytes:x?}");
            Outcome::Accepted
        }
        Err(error) => {
            if !may_reject(bytes) && !is_stricter(&error) {
                assert_eq!(theirs, None, "{name}: {error}: {bytes:x?}");
                check_path::<T>(bytes, &error, deep);
            }
            Outcome::Rejected
        }
    }
}

/// Returns true for an error about a value that `rmp_serde` reads as another one: rounded, wrapped, as
/// the index of a variant, or without its last bytes.
fn is_stricter(error: &DecodeError) -> bool {
    let error = error.to_string();
    let is_index = error.contains("invalid type: integer")
        && [", expected enum ", ", expected variant of enum "]
            .iter()
            .any(|part| error.contains(part));
    is_index
        || ["is not exactly any", " of bytes, expected "].iter().any(|part| error.contains(part))
}

fn check_path<T: DeserializeOwned>(bytes: &[u8], error: &DecodeError, deep: bool) {
    let DecodeError::Malformed { field, .. } = error else { panic!("{error}") };
    if deep {
        return;
    }
    let mut again = rmp_serde::Deserializer::new(bytes).with_human_readable();
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
    examples.retain(|example| {
        T::deserialize(&mut rmp_serde::Deserializer::new(&example[..]).with_human_readable())
            .is_ok()
    });
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
    check(&[BTreeMap::from([((1_u8, 'c'), 0.5_f32)])]);
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

/// A number is a value of another type, and no index of a variant.
#[test]
fn a_variant_is_a_name() {
    assert_eq!(compare::<Shape>(b"\xa4Unit"), Outcome::Accepted);
    for bytes in [&b"\x00"[..], b"\x81\x00\xc0", b"\x81\x02\x92\x01\x02", b"\x81\x07\xc0"] {
        assert_eq!(compare::<Shape>(bytes), Outcome::Rejected);
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
