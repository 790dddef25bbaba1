//! The encoder: writes values as named `MessagePack`, byte for byte as `rmp_serde` does in its
//! human-readable form, with two exceptions:
//!
//! 1. A unit struct is a nil, not an empty list. `serde` reads a value inside of `tag`, `untagged`
//!    and `flatten` through a buffer, in which it knows a unit struct only as a unit.
//! 2. A `Some` of a value that begins with a nil is preceded by [`SOME`]. `rmp_serde` writes
//!    `Some(None)` and `Some(())` as it writes `None`.
//!
//! The human-readable form is the only one that can be read back at each place: `serde`'s buffer
//! claims to be human readable, whatever the format says.
//!
//! `rmp_serde` writes to any `io::Write`, so that each piece of a value is a fallible call. This
//! encoder appends to a `Vec` and writes structs in three fifths of the time
//! (`persistent-bench storage`). Encoding is most of the cost of a change to a large state. The
//! encoder also limits the nesting of lists and maps, which ends the recursion before the stack
//! overflows, and rejects a list or map whose `Serialize` announced another length than it wrote.
//! The tests compare it with `rmp_serde`.

#![expect(clippy::inline_always, reason = "the name of a field becomes a store of constant bytes")]

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{EncodeError, decoder::EXTENSION, decoder::extension_parts};

/// The marker before the value of a `Some` that would be read as a `None` otherwise: the only marker
/// that `MessagePack` leaves unused.
pub(super) const SOME: u8 = 0xc1;

/// The marker of a unit.
const NIL: u8 = 0xc0;

/// A serializer of one value, which appends to `bytes`.
pub(super) struct Encoder<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// The number of levels of lists and maps that may still be nested in the value. An empty list or map
    /// is not a level.
    pub(super) levels: usize,
}

/// The markers before a length.
struct Head {
    /// The marker that includes the length, for lengths less than `few`.
    fixed: u8,
    few: u8,
    /// The markers before a length of 8, 16 and 32 bits.
    bits_8: Option<u8>,
    bits_16: u8,
    bits_32: u8,
}

const TEXT: Head = Head { fixed: 0xa0, few: 32, bits_8: Some(0xd9), bits_16: 0xda, bits_32: 0xdb };
const BYTES: Head = Head { fixed: 0, few: 0, bits_8: Some(0xc4), bits_16: 0xc5, bits_32: 0xc6 };
const LIST: Head = Head { fixed: 0x90, few: 16, bits_8: None, bits_16: 0xdc, bits_32: 0xdd };
const MAP: Head = Head { fixed: 0x80, few: 16, bits_8: None, bits_16: 0xde, bits_32: 0xdf };

impl<'a> Encoder<'a> {
    #[inline]
    fn put<const N: usize>(&mut self, marker: u8, number: [u8; N]) {
        self.bytes.push(marker);
        self.bytes.extend_from_slice(&number);
    }

    #[inline(always)]
    fn head(&mut self, head: &Head, length: usize) -> Result<(), EncodeError> {
        match u8::try_from(length) {
            Ok(length) if length < head.few => {
                self.bytes.push(head.fixed | length);
                Ok(())
            }
            _ => self.long_head(head, length),
        }
    }

    #[inline(never)]
    fn long_head(&mut self, head: &Head, length: usize) -> Result<(), EncodeError> {
        match (u8::try_from(length), head.bits_8) {
            (Ok(length), Some(marker)) => self.put(marker, [length]),
            _ => match (u16::try_from(length), u32::try_from(length)) {
                (Ok(length), _) => self.put(head.bits_16, length.to_be_bytes()),
                (_, Ok(length)) => self.put(head.bits_32, length.to_be_bytes()),
                _ => return Err(EncodeError::new("a length takes more than 32 bits")),
            },
        }
        Ok(())
    }

    #[inline(always)]
    fn bytes(&mut self, head: &Head, bytes: &[u8]) -> Result<(), EncodeError> {
        self.head(head, bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn unsigned(&mut self, number: u64) {
        if let Ok(number) = u8::try_from(number) {
            match number {
                0..0x80 => self.bytes.push(number),
                _ => self.put(0xcc, [number]),
            }
        } else if let Ok(number) = u16::try_from(number) {
            self.put(0xcd, number.to_be_bytes());
        } else if let Ok(number) = u32::try_from(number) {
            self.put(0xce, number.to_be_bytes());
        } else {
            self.put(0xcf, number.to_be_bytes());
        }
    }

    #[inline]
    fn signed(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            self.unsigned(number);
        } else if let Ok(number) = i8::try_from(number) {
            match number {
                -32.. => self.bytes.push(number.cast_unsigned()),
                _ => self.put(0xd0, number.to_be_bytes()),
            }
        } else if let Ok(number) = i16::try_from(number) {
            self.put(0xd1, number.to_be_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.put(0xd2, number.to_be_bytes());
        } else {
            self.put(0xd3, number.to_be_bytes());
        }
    }

    /// Enters a list or map.
    #[inline]
    fn descend(&mut self) -> Result<(), EncodeError> {
        match self.levels.checked_sub(1) {
            Some(levels) => self.levels = levels,
            None => return Err(EncodeError::too_deep()),
        }
        Ok(())
    }

    /// Returns the encoder of the entries of a list or map.
    #[inline]
    fn entries(mut self, head: &Head, length: usize) -> Result<Self, EncodeError> {
        self.head(head, length)?;
        if length > 0 {
            self.descend()?;
        }
        Ok(self)
    }

    /// Writes the name of a variant. Returns the encoder of its content.
    #[inline]
    fn variant(self, name: &str) -> Result<Self, EncodeError> {
        let mut this = self.entries(&MAP, 1)?;
        this.bytes(&TEXT, name.as_bytes())?;
        Ok(this)
    }

    /// Returns the encoder of the elements or fields of a value with a fixed number of them.
    #[inline]
    fn fields(self, head: &Head, length: usize) -> Result<Fields<'a>, EncodeError> {
        Ok(Fields { encoder: self.entries(head, length)?, announced: length, written: 0 })
    }

    #[inline]
    fn compound(
        self,
        head: &'static Head,
        announced: Option<usize>,
    ) -> Result<Compound<'a>, EncodeError> {
        let start = self.bytes.len();
        let encoder = match announced {
            Some(length) => self.entries(head, length)?,
            None => self,
        };
        Ok(Compound { encoder, head, start, announced, length: 0 })
    }

    /// Returns the encoder of one of several values.
    #[inline]
    fn next(&mut self) -> Encoder<'_> {
        Encoder { bytes: self.bytes, levels: self.levels }
    }

    /// Marks the value that `bytes` has from `start` on, and that begins with a nil, as a `Some`.
    #[cold]
    fn mark_some(&mut self, start: usize) -> Result<(), EncodeError> {
        self.bytes.insert(start, SOME);
        // The decoder counts each mark as a level.
        let marks = self.bytes[start..].iter().take_while(|byte| **byte == SOME).count();
        if marks > self.levels { Err(EncodeError::too_deep()) } else { Ok(()) }
    }
}

/// Turns a pair of a type and bytes, which `bytes` has from `start` on, into an extension.
fn extension(bytes: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
    let Some((kind, content)) = extension_parts(&bytes[start..]) else {
        return Err(EncodeError::new("invalid extension, expected tuple of an `i8` and bytes"));
    };
    let length = content.len();
    let head = match (length, u8::try_from(length), u16::try_from(length)) {
        (1 | 2 | 4 | 8 | 16, ..) => vec![[0xd4, 0xd5, 0xd6, 0xd7, 0xd8][length.ilog2() as usize]],
        (_, Ok(length), _) => vec![0xc7, length],
        (_, _, Ok(length)) => [&[0xc8][..], &length.to_be_bytes()].concat(),
        // The length of bytes was written in 32 bits.
        _ => [&[0xc9][..], &length.to_be_bytes()[size_of::<usize>() - 4..]].concat(),
    };
    let content = bytes.len() - length;
    bytes.splice(start..content, head.into_iter().chain([kind.cast_unsigned()]));
    Ok(())
}

macro_rules! scalars {
    ($($method:ident: $scalar:ty => |$this:ident, $value:ident| $put:expr,)*) => {
        $(
            #[inline]
            fn $method(self, $value: $scalar) -> Result<(), EncodeError> {
                let mut $this = self;
                $put;
                Ok(())
            }
        )*
    };
}

impl<'a> Serializer for Encoder<'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Fields<'a>;
    type SerializeTupleStruct = Fields<'a>;
    type SerializeTupleVariant = Fields<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    scalars! {
        serialize_bool: bool => |this, value| this.put(if value { 0xc3 } else { 0xc2 }, []),
        serialize_i8: i8 => |this, number| this.signed(number.into()),
        serialize_i16: i16 => |this, number| this.signed(number.into()),
        serialize_i32: i32 => |this, number| this.signed(number.into()),
        serialize_i64: i64 => |this, number| this.signed(number),
        serialize_i128: i128 => |this, number| this.bytes(&BYTES, &number.to_be_bytes())?,
        serialize_u8: u8 => |this, number| this.unsigned(number.into()),
        serialize_u16: u16 => |this, number| this.unsigned(number.into()),
        serialize_u32: u32 => |this, number| this.unsigned(number.into()),
        serialize_u64: u64 => |this, number| this.unsigned(number),
        serialize_u128: u128 => |this, number| this.bytes(&BYTES, &number.to_be_bytes())?,
        serialize_f32: f32 => |this, number| this.put(0xca, number.to_be_bytes()),
        serialize_f64: f64 => |this, number| this.put(0xcb, number.to_be_bytes()),
        serialize_char: char => |this, c| this.bytes(&TEXT, c.encode_utf8(&mut [0; 4]).as_bytes())?,
        serialize_str: &str => |this, text| this.bytes(&TEXT, text.as_bytes())?,
        serialize_bytes: &[u8] => |this, bytes| this.bytes(&BYTES, bytes)?,
        serialize_unit_struct: &'static str => |this, _name| this.put(NIL, []),
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.bytes.push(NIL);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), EncodeError> {
        let start = self.bytes.len();
        value.serialize(self.next())?;
        match self.bytes.get(start) {
            Some(&(NIL | SOME)) => self.mark_some(start),
            _ => Ok(()),
        }
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if name == EXTENSION {
            let start = self.bytes.len();
            // An extension is not a level, unlike the pair that it is written as here.
            value.serialize(Encoder { bytes: self.bytes, levels: self.levels + 1 })?;
            return extension(self.bytes, start);
        }
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self.variant(variant)?)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Compound<'a>, EncodeError> {
        self.compound(&LIST, length)
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Fields<'a>, EncodeError> {
        self.fields(&LIST, length)
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Fields<'a>, EncodeError> {
        self.fields(&LIST, length)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Fields<'a>, EncodeError> {
        self.variant(variant)?.fields(&LIST, length)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Compound<'a>, EncodeError> {
        self.compound(&MAP, length)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Fields<'a>, EncodeError> {
        self.fields(&MAP, length)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Fields<'a>, EncodeError> {
        self.variant(variant)?.fields(&MAP, length)
    }
}

/// Returns an error if the `Serialize` of a list or map wrote another number of entries than it
/// announced: the bytes would be read as another value.
#[inline]
fn check_length(announced: usize, written: usize) -> Result<(), EncodeError> {
    if announced == written { Ok(()) } else { Err(wrong_length(announced, written)) }
}

#[cold]
fn wrong_length(announced: usize, written: usize) -> EncodeError {
    EncodeError::new(format_args!(
        "a `Serialize` announced a list or map of length {announced} and wrote {written} entries; \
         correct the length that it passes to the serializer"
    ))
}

/// The elements or fields of a value with a fixed number of them.
pub(super) struct Fields<'a> {
    encoder: Encoder<'a>,
    announced: usize,
    written: usize,
}

macro_rules! compounds {
    ($($compound:ident: $put:ident($($name:ident)?),)*) => {
        $(
            impl $compound for Fields<'_> {
                type Ok = ();
                type Error = EncodeError;

                #[inline(always)]
                fn $put<T: Serialize + ?Sized>(
                    &mut self,
                    $($name: &'static str,)?
                    value: &T,
                ) -> Result<(), EncodeError> {
                    self.written += 1;
                    $(self.encoder.bytes(&TEXT, $name.as_bytes())?;)?
                    value.serialize(self.encoder.next())
                }

                #[inline]
                fn end(self) -> Result<(), EncodeError> {
                    check_length(self.announced, self.written)
                }
            }
        )*
    };
}

compounds! {
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(name),
    SerializeStructVariant: serialize_field(name),
}

/// A list or map. Its length may be unknown until its end.
pub(super) struct Compound<'a> {
    encoder: Encoder<'a>,
    head: &'static Head,
    /// The position of the head. If no length was announced, the head is inserted at the end.
    start: usize,
    announced: Option<usize>,
    length: usize,
}

impl Compound<'_> {
    /// Returns the encoder of the next entry.
    #[inline]
    fn entry(&mut self) -> Result<Encoder<'_>, EncodeError> {
        if self.length == 0 && self.announced.is_none() {
            self.encoder.descend()?;
        }
        self.length += 1;
        Ok(self.encoder.next())
    }

    #[inline]
    fn finish(mut self) -> Result<(), EncodeError> {
        if let Some(announced) = self.announced {
            return check_length(announced, self.length);
        }
        let end = self.encoder.bytes.len();
        self.encoder.head(self.head, self.length)?;
        let taken = self.encoder.bytes.len() - end;
        self.encoder.bytes[self.start..].rotate_right(taken);
        Ok(())
    }
}

impl SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self.entry()?)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        key.serialize(self.entry()?)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self.encoder.next())
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        net::{Ipv4Addr, Ipv6Addr},
    };

    use super::*;
    use crate::{codec::depth::DEPTH, codec::depth::is_too_deep, codec::encode};

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Newtype(u8);

    #[derive(Serialize)]
    struct Pair(u8, Newtype);

    #[derive(Serialize)]
    struct Fields {
        text: String,
        #[serde(flatten)]
        more: BTreeMap<String, Option<i64>>,
    }

    #[derive(Serialize)]
    enum Variant {
        Unit,
        Newtype(Newtype),
        Tuple(f32, f64),
        Empty(),
        Struct { value: char },
        Nothing {},
        OfALongNameThatTakesMoreThan31Bytes { and_its_only_field_has_one_as_well: u8 },
    }

    #[derive(Default, Serialize)]
    struct Many {
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
        m: u8,
        n: u8,
        o: u8,
        p: u8,
    }

    struct Bytes<'a>(&'a [u8]);

    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }

    struct Shown(u8);

    impl Serialize for Shown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&format_args!("<{}>", self.0))
        }
    }

    /// A list whose length is not known in advance.
    struct Lengthless(usize);

    impl Serialize for Lengthless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(None)?;
            for number in 0..self.0 {
                list.serialize_element(&number)?;
            }
            list.end()
        }
    }

    /// A `MessagePack` extension type, in the form that `rmp_serde` recognizes.
    struct Extension(i8, usize);

    impl Serialize for Extension {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let extension = (self.0, Bytes(&vec![7; self.1]));
            serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &extension)
        }
    }

    /// A value within the given number of nested lists.
    struct Deep<'a, T>(usize, &'a T);

    impl<T: Serialize> Serialize for Deep<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                0 => self.1.serialize(serializer),
                lists => [Deep(lists - 1, self.1)].serialize(serializer),
            }
        }
    }

    /// Returns what `rmp_serde` writes.
    fn reference<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        let reference = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
        value.serialize(&mut reference.with_human_readable()).unwrap();
        bytes
    }

    /// Asserts that `value` is written as `rmp_serde` writes it, and that it is rejected within as
    /// many lists as the decoder rejects it.
    fn check<T: Serialize>(value: &T) {
        let plain = reference(value);
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        assert_eq!(bytes, plain);
        for lists in DEPTH - 4..DEPTH + 4 {
            let deep = Deep(lists, value);
            let unreadable = is_too_deep(&reference(&deep));
            let rejected = encode(&deep, &mut Vec::new()).is_err();
            assert_eq!(rejected, unreadable, "{plain:x?} in {lists} lists");
        }
    }

    #[test]
    fn each_kind_of_value_is_written_as_rmp_serde_does_up_to_the_limit() {
        check(&(true, 1_i8, 300_i16, -70_000_i32, i64::MIN));
        check(&(1_u8, 300_u16, 70_000_u32, u64::MAX, 'ß', "text", ()));
        check(&(i128::MIN, u128::MAX));
        check(&(Newtype(1), Pair(1, Newtype(2)), Some(Newtype(3)), None::<u8>));
        let more = BTreeMap::from([("a".to_owned(), Some(1)), ("b".to_owned(), None)]);
        check(&Fields { text: "text".to_owned(), more });
        check(&Variant::Unit);
        check(&Variant::Newtype(Newtype(1)));
        check(&(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST));
        check(&Variant::Tuple(0.5, 0.5));
        check(&Variant::Empty());
        check(&Variant::Struct { value: 'c' });
        check(&Variant::Nothing {});
        check(&vec![vec![1, 2], vec![]]);
        check(&BTreeMap::from([(1, vec![BTreeMap::from([(Newtype(1).0, 'c')])]), (2, vec![])]));
        check(&(Bytes(b"\x91\x91"), Shown(1), Lengthless(3), Extension(5, 1)));
        check(&Extension(-5, 3));
        check(&Lengthless(0));
        check(&[Variant::OfALongNameThatTakesMoreThan31Bytes {
            and_its_only_field_has_one_as_well: 1,
        }]);
        check(&Many::default());
    }

    /// Each number and length has its shortest form.
    #[test]
    fn every_size_is_written_as_rmp_serde_does() {
        fn check<T: Serialize>(value: &T) {
            let mut bytes = b"before".to_vec();
            encode(value, &mut bytes).unwrap();
            assert_eq!(bytes[6..], reference(value));
        }
        for bits in 0..64 {
            for number in [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                check(&(number, number.cast_signed(), number.cast_signed().wrapping_neg()));
            }
        }
        for number in -200..200_i16 {
            check(&(number, i8::try_from(number).ok(), u8::try_from(number).ok()));
        }
        let most = i128::from(u64::MAX);
        check(&(most, -most, u128::MAX, i8::MIN, i16::MIN, i32::MIN, u8::MAX, u16::MAX, u32::MAX));
        for length in [0, 1, 15, 16, 31, 32, 127, 128, 255, 256, 65_535, 65_536, 70_000] {
            check(&"x".repeat(length));
            check(&Bytes(&vec![7; length]));
            check(&(Extension(-128, length), Extension(127, 1 << (length % 5))));
            check(&vec![true; length]);
            check(&(0..length).map(|n| (n, 'c')).collect::<BTreeMap<_, _>>());
            check(&Lengthless(length));
            check(&[Lengthless(length), Lengthless(1)]);
            check(&BTreeMap::from([(
                length,
                Fields { text: "x".repeat(length), more: BTreeMap::new() },
            )]));
        }
    }

    /// Asserts that `value` is written as `bytes`, in as many lists as the decoder reads.
    fn check_own<T: Serialize>(value: &T, bytes: &[u8]) {
        let mut written = Vec::new();
        encode(value, &mut written).unwrap();
        assert_eq!(written, bytes);
        for lists in DEPTH - 4..DEPTH + 4 {
            let unreadable = is_too_deep(&[&vec![0x91; lists][..], bytes].concat());
            let rejected = encode(&Deep(lists, value), &mut Vec::new()).is_err();
            assert_eq!(rejected, unreadable, "{bytes:x?} in {lists} lists");
        }
    }

    #[test]
    fn what_rmp_serde_cannot_tell_from_none_has_a_form_of_its_own() {
        check_own(&Unit, b"\xc0");
        check_own(&Some(Unit), b"\xc1\xc0");
        check_own(&Some(()), b"\xc1\xc0");
        check_own(&None::<Option<u8>>, b"\xc0");
        check_own(&Some(None::<u8>), b"\xc1\xc0");
        check_own(&Some(Some(None::<u8>)), b"\xc1\xc1\xc0");
        check_own(&Some(Some(1)), b"\x01");
        check_own(&Some([None::<u8>]), b"\x91\xc0");
    }

    /// Such a value was written and could not be read, or was read as another one.
    #[test]
    fn a_wrong_length_is_an_error() {
        struct Wrong(usize, bool);

        impl Serialize for Wrong {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.1 {
                    let mut fields = serializer.serialize_struct("Wrong", self.0)?;
                    fields.serialize_field("a", &1)?;
                    fields.serialize_field("b", &2)?;
                    fields.end()
                } else {
                    let mut list = serializer.serialize_seq(Some(self.0))?;
                    list.serialize_element(&1)?;
                    list.serialize_element(&2)?;
                    list.end()
                }
            }
        }

        for is_struct in [true, false] {
            for announced in [0, 1, 3, 20] {
                let error = encode(&[Wrong(announced, is_struct)], &mut Vec::new()).unwrap_err();
                let text = format!("length {announced} and wrote 2 entries");
                assert!(error.to_string().contains(&text), "{error}");
            }
            encode(&[Wrong(2, is_struct)], &mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn a_length_of_more_than_32_bits_is_an_error() {
        struct Long;

        impl Serialize for Long {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_seq(Some(1 << 32))?.end()
            }
        }

        let error = encode(&Long, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "a length takes more than 32 bits");
    }

    #[test]
    fn a_malformed_extension_is_an_error() {
        #[derive(Serialize)]
        #[serde(rename = "_ExtStruct")]
        struct Extension(u8);

        let error = encode(&Extension(1), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("expected tuple"), "{error}");
    }

    /// Encoding overflowed the stack before there was a limit.
    #[test]
    fn an_endless_value_is_an_error() {
        struct Endless;

        impl Serialize for Endless {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_newtype_variant("Endless", 0, "More", self)
            }
        }

        let error = encode(&Endless, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "lists and maps are nested deeper than 256 levels");
    }
}
