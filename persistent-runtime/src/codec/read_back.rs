//! The check that an encoded value can be read back.
//!
//! The value is decoded, and encoded again. Both encodings must have the same *shape*: the same
//! kinds of values, the same keys of maps, and as many elements of lists. So the check finds a value
//! that does not decode, and one that is read as another variant or without a part of it. The order
//! of elements is not compared, since a `HashMap` has none, and neither are the values of numbers,
//! texts and bytes, which may depend on the time or be normalized when they are read.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{
    DecodeError, EncodeError,
    decoder::{Decoder, Segment, Token, Trail},
    with_buffer,
};

/// Checks that `bytes`, which `encode` wrote, can be read back.
///
/// # Errors
/// If `bytes` do not decode, or decode to a value that is encoded with another shape. The error
/// names the field.
pub fn check<T>(
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<T, DecodeError>,
    encode: fn(&T, &mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let value = decode(bytes).map_err(|error| unreadable(&error))?;
    with_buffer(|again| {
        encode(&value, again)?;
        compare(bytes, again)
    })
}

/// Checks that `bytes` decode: what they decode to need not be encodable.
///
/// # Errors
/// If they do not.
pub fn check_decodes<T>(
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<T, DecodeError>,
) -> Result<(), EncodeError> {
    decode(bytes).map(drop).map_err(|error| unreadable(&error))
}

const ADVICE: &str =
    "change its serde attributes, or store it in another form with `#[serde(with)]`";

#[cold]
fn unreadable(error: &DecodeError) -> EncodeError {
    EncodeError::new(format_args!("it could not be read back: {error}; {ADVICE}"))
}

/// Compares two encodings by their shape.
fn compare(written: &[u8], again: &[u8]) -> Result<(), EncodeError> {
    if written == again || shape(written) == shape(again) {
        return Ok(());
    }
    let mut trail = Trail::default();
    let (written, again) = difference(written, again, &mut trail);
    let field = trail.path(0);
    Err(EncodeError::new(format_args!(
        "it is read back as another value, in which {written} became {again} at field `{field}`; \
         {ADVICE}"
    )))
}

/// Returns the kind of a value, the number of its parts, and true if these are entries of a map.
fn head(decoder: &mut Decoder<'_>) -> (&'static str, u32, bool) {
    match decoder.token() {
        Ok(Token::Unit) => ("nil", 0, false),
        Ok(Token::Some) => ("an option", 1, false),
        Ok(Token::Bool(_)) => ("a boolean", 0, false),
        Ok(Token::F32(_)) => ("a 32-bit float", 0, false),
        Ok(Token::F64(_)) => ("a 64-bit float", 0, false),
        Ok(Token::Text(_) | Token::NotText(_)) => ("a text", 0, false),
        Ok(Token::Bytes(_)) => ("bytes", 0, false),
        Ok(Token::List(length)) => ("a list", length, false),
        Ok(Token::Map(length)) => ("a map", length, true),
        Ok(Token::Extension(..) | Token::Parts(..)) => ("an extension", 0, false),
        Ok(_) => ("an integer", 0, false),
        Err(_) => ("nothing", 0, false),
    }
}

/// Returns a hash of the shape of the value at the start of `bytes`.
fn shape(bytes: &[u8]) -> u64 {
    read_shape(&mut Decoder::new(bytes))
}

fn read_shape(decoder: &mut Decoder<'_>) -> u64 {
    let (kind, length, is_map) = head(decoder);
    let mut parts = 0_u64;
    for _ in 0..length {
        let key = is_map.then(|| skip(decoder));
        // A sum, which does not depend on the order.
        parts = parts.wrapping_add(hash(&(key, read_shape(decoder))));
    }
    hash(&(kind, length, parts))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Skips a value. Returns its bytes.
fn skip<'de>(decoder: &mut Decoder<'de>) -> &'de [u8] {
    let start = decoder.rest();
    read_shape(decoder);
    &start[..start.len() - decoder.rest().len()]
}

/// Returns the kinds of the first parts of two values that have different shapes, and adds the way
/// to them to `trail`.
fn difference<'de>(
    written: &'de [u8],
    again: &'de [u8],
    trail: &mut Trail<'de>,
) -> (&'static str, &'static str) {
    let kinds = (head(&mut Decoder::new(written)).0, head(&mut Decoder::new(again)).0);
    let (one, other) = (parts(written), parts(again));
    let part = |parts: &Parts<'de>, segment| parts.get(segment).copied().unwrap_or_default();
    let mut segments = one.keys().chain(other.keys());
    match segments.find(|segment| shape(part(&one, segment)) != shape(part(&other, segment))) {
        Some(segment) if kinds.0 == kinds.1 => {
            let kinds = difference(part(&one, segment), part(&other, segment), trail);
            trail.push(*segment, 0);
            kinds
        }
        _ => kinds,
    }
}

type Parts<'de> = BTreeMap<Segment<'de>, &'de [u8]>;

/// Returns the elements of a list or the entries of a map.
fn parts(bytes: &[u8]) -> Parts<'_> {
    let mut decoder = Decoder::new(bytes);
    let (_, length, is_map) = head(&mut decoder);
    let mut part = |index| {
        let segment = if is_map { Segment::Key(skip(&mut decoder)) } else { Segment::Index(index) };
        (segment, skip(&mut decoder))
    };
    (0..length).map(&mut part).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

    use super::*;
    use crate::codec::{decode, encode};

    fn checked<T: Serialize + DeserializeOwned>(value: &T) -> Result<(), String> {
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        check(&bytes, decode::<T>, encode::<T>).map_err(|error| error.to_string())
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Float(f64),
        Integer(i64),
    }

    #[derive(Default, Serialize, Deserialize)]
    struct Big {
        big: u128,
    }

    #[derive(Serialize, Deserialize)]
    struct Outer {
        list: Vec<Number>,
        #[serde(flatten)]
        big: Option<Big>,
    }

    fn lower<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer).map(|text| text.to_lowercase())
    }

    #[derive(Serialize, Deserialize)]
    struct Lenient {
        #[serde(deserialize_with = "lower")]
        name: String,
        #[serde(skip)]
        _cache: Option<u8>,
        numbers: HashSet<u32>,
        by_name: HashMap<String, HashMap<u8, Option<bool>>>,
    }

    #[test]
    fn a_value_that_is_not_read_back_is_refused_with_its_field() {
        let numbers = |list| Outer { list, big: None };
        checked(&numbers(vec![Number::Float(0.5), Number::Float(5.0)])).unwrap();
        assert_eq!(
            checked(&numbers(vec![Number::Float(0.5), Number::Integer(5)])).unwrap_err(),
            format!(
                "it is read back as another value, in which an integer became a 64-bit float at \
                 field `list[1]`; {ADVICE}"
            )
        );
        let lost = checked(&Outer { list: vec![], big: Some(Big::default()) }).unwrap_err();
        assert!(lost.contains("in which bytes became nothing at field `big`"), "{lost}");
        let unreadable =
            checked(&HashMap::from([("a".to_owned(), Skips { part: vec![] })])).unwrap_err();
        assert!(unreadable.starts_with("it could not be read back: at field `a`"), "{unreadable}");
    }

    #[derive(Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        part: Vec<u8>,
    }

    /// A difference in order, and a value that is normalized or left out on purpose, is no loss.
    #[test]
    fn a_value_that_differs_in_order_or_is_normalized_is_accepted() {
        let inner: HashMap<u8, Option<bool>> =
            (0..50).map(|n| (n, (n % 3 > 0).then_some(n % 2 == 0))).collect();
        for _ in 0..10 {
            let by_name = (0..50).map(|n| (n.to_string(), inner.clone())).collect();
            let value = Lenient {
                name: "Ada".to_owned(),
                _cache: Some(1),
                numbers: (0..70_000).step_by(999).collect(),
                by_name,
            };
            checked(&value).unwrap();
        }
    }
}
