//! The decoder: reads values from `MessagePack` as `rmp_serde` does, with an eighth of its
//! generic code.
//!
//! # Why not `rmp_serde`
//!
//! A generic method of a deserializer is compiled once per `serde` visitor, and every server type
//! brings about twenty visitors. `rmp_serde` compiles 1,300 lines of LLVM IR per visitor, and
//! `serde_path_to_error`, which finds the path of an error, compiles them a second time. Here a
//! visitor costs about 100 lines: functions that are not generic read the tokens, and each generic
//! method is one match with one call of the visitor per arm. 20 times two structs and two enums,
//! with lists, maps and options of them (`cargo llvm-lines`, without optimizations):
//!
//! | decoder | lines | functions |
//! | --- | --- | --- |
//! | `rmp_serde` with `serde_path_to_error` | 1,453,000 | 37,400 |
//! | this one | 178,000 | 6,000 |
//!
//! Of the latter 67,000 lines are those that `#[derive(Deserialize)]` generates. The program is
//! compiled in 3.7 seconds of CPU time instead of 14.4.
//!
//! # What differs from `rmp_serde`
//!
//! The tests compare the decoder with `rmp_serde` over values of all types and over corrupt bytes:
//! both accept the same bytes, with the same values, and call the same methods of visitors. The
//! exceptions are:
//!
//! 1. The limit on nesting is [`DEPTH`] levels, for enums as well. A type that is an option of
//!    itself is rejected and does not overflow the stack.
//! 2. Texts and bytes are borrowed, as by `rmp_serde::from_slice`.
//! 3. A visitor that is passed to `deserialize_seq`, `_tuple`, `_map` or `_struct` is offered lists
//!    and maps (and bytes, as a list of numbers), and one that is passed to
//!    `deserialize_unit_struct` units. As with `serde_json`, visitors of other values need
//!    `deserialize_any`. An arm for each kind of number would double the cost of each visitor.
//! 4. A visitor of a name gets integers with 64 bits, and no list or map.
//! 5. The bytes of an extension are read with its head, so that an extension that is cut off is
//!    an error even if its visitor does not read it.
//! 6. The marker [`SOME`] stands before the value of a `Some`, and counts as a level.
//! 7. The texts of errors.
//!
//! # The path of an error
//!
//! An error mostly starts in a visitor, which does not know the path. On the way out, each list,
//! map and enum adds its segment to [`Trail`], so that success costs nothing and failing bytes are
//! not decoded a second time. The text is that of `serde_path_to_error`, with two exceptions: a key
//! that is an option, a newtype or an enum is written and is not `?`, and a key of 128 bits is `?`.

use serde::{
    Deserializer,
    de::{Expected, Visitor},
};

use self::{
    error::{Error, Reason},
    items::Items,
    token::Name,
    variant::Variant,
};
pub(super) use self::{
    path::{Segment, Trail},
    token::Token,
};
use super::{DecodeError, WHOLE, depth::DEPTH, encoder::SOME};

mod error;
mod items;
mod path;
mod token;
mod variant;

#[cfg(test)]
mod tests;

/// The name of a newtype struct by which `rmp_serde` recognizes an extension.
pub(super) const EXTENSION: &str = "_ExtStruct";

/// A deserializer of the value at the start of the given bytes.
#[derive(Debug)]
pub(super) struct Decoder<'de> {
    /// The bytes that are not read yet.
    rest: &'de [u8],
    /// The next token, if it is not the one at the start of `rest`: an element that has no token
    /// of its own, or a token that was read already.
    pending: Option<Token<'de>>,
    /// The number of levels of lists and maps that may still be nested. An empty list or map is not a level.
    levels: usize,
    /// The length of `rest` at the last `Some`, and the number of those before it at this place.
    /// A type that is an option of itself would recurse without end.
    options: (usize, usize),
    trail: Trail<'de>,
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self {
            rest: bytes,
            pending: None,
            levels: DEPTH,
            options: (usize::MAX, 0),
            trail: Trail::default(),
        }
    }

    /// Returns the bytes behind the value.
    pub(super) fn rest(&self) -> &'de [u8] {
        self.rest
    }

    /// Adds the path to `error`, which a deserialization from this decoder returned.
    #[cold]
    pub(super) fn explain(&self, error: Error) -> DecodeError {
        // A path to the deepest level would be too long to read.
        let field =
            if error.is_too_deep() { WHOLE.to_owned() } else { self.trail.path(self.rest.len()) };
        DecodeError::malformed(field, error)
    }

    /// Adds a segment to the path of `error`, which is on its way out.
    #[cold]
    fn failed(&mut self, segment: Segment<'de>, error: Error) -> Error {
        self.trail.push(segment, self.rest.len());
        error
    }

    /// Reads a `None`, or returns true before the value of a `Some`.
    fn is_some(&mut self, expected: &dyn Expected) -> Result<bool, Error> {
        if let Some(token) = self.take_pending() {
            return Err(Error::mismatch(token, expected));
        }
        match self.rest.split_first() {
            None => Err(Error::new(Reason::Ended)),
            Some((0xc0, rest)) => {
                self.rest = rest;
                Ok(false)
            }
            Some((&SOME, rest)) => {
                self.rest = rest;
                self.descend(1)?;
                Ok(true)
            }
            Some(_) => {
                let (at, count) = self.options;
                let count = if at == self.rest.len() { count + 1 } else { 0 };
                if count > DEPTH {
                    return Err(Error::new(Reason::TooDeep));
                }
                self.options = (self.rest.len(), count);
                Ok(true)
            }
        }
    }

    fn unit_struct(&mut self, expected: &dyn Expected) -> Result<(), Error> {
        match (self.rest, self.pending) {
            ([0x90, rest @ ..], None) => {
                self.rest = rest;
                Ok(())
            }
            _ => match self.token()? {
                Token::Unit => Ok(()),
                token => Err(Error::mismatch(token, expected)),
            },
        }
    }

    fn newtype(&mut self, name: &str, expected: &dyn Expected) -> Result<(), Error> {
        if let Some(token) = self.take_pending() {
            return Err(Error::mismatch(token, expected));
        }
        if name == EXTENSION {
            match self.token()? {
                Token::Extension(kind, bytes) => {
                    self.pending = Some(Token::Parts(kind, bytes));
                }
                token => return Err(Error::mismatch(token, expected)),
            }
        }
        Ok(())
    }

    /// Enters a list, map or marked `Some` of `length`. The list or map around it restores the
    /// levels.
    #[inline]
    fn descend(&mut self, length: u32) -> Result<(), Error> {
        if length > 0 {
            match self.levels.checked_sub(1) {
                Some(levels) => self.levels = levels,
                None => return Err(Error::new(Reason::TooDeep)),
            }
        }
        Ok(())
    }

    /// Reads the head of an enum that is a map. Reads nothing of an enum that is only a name.
    fn variant(&mut self, expected: &dyn Expected) -> Result<Variant<'_, 'de>, Error> {
        if let Some(token) = self.take_pending() {
            return Err(Error::mismatch(token, expected));
        }
        let has_content = match self.rest {
            [0x81, rest @ ..] => {
                self.rest = rest;
                true
            }
            [0x80..=0x8f | 0xde | 0xdf, ..] => match self.token()? {
                Token::Map(1) => true,
                Token::Map(entries) => return Err(Error::new(Reason::Variants { entries })),
                token => return Err(Error::mismatch(token, expected)),
            },
            _ => false,
        };
        // The encoder writes names. A number was stored by another type.
        if let [0x00..=0x7f | 0xcc..=0xd3 | 0xe0.., ..] = self.rest {
            return Err(Error::mismatch(self.token()?, expected));
        }
        self.descend(has_content.into())?;
        Ok(Variant::new(self, has_content))
    }

    /// Reads a number, a bool or a unit. Generic as a whole: a program has few visitors of numbers,
    /// and a long list of numbers is read five times as fast as through [`Decoder::token`].
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        if self.pending.is_none()
            && let [marker, rest @ ..] = self.rest
        {
            macro_rules! visit {
                ($visit:ident, $number:ty) => {
                    match rest.split_first_chunk() {
                        Some((bytes, rest)) => {
                            self.rest = rest;
                            return visitor.$visit(<$number>::from_be_bytes(*bytes));
                        }
                        None => return Err(Error::new(Reason::Ended)),
                    }
                };
            }
            match marker {
                0x00..=0x7f => {
                    self.rest = rest;
                    return visitor.visit_u8(*marker);
                }
                0xc0 => {
                    self.rest = rest;
                    return visitor.visit_unit();
                }
                0xc2 | 0xc3 => {
                    self.rest = rest;
                    return visitor.visit_bool(*marker == 0xc3);
                }
                0xca => visit!(visit_f32, f32),
                0xcb => visit!(visit_f64, f64),
                0xcc => visit!(visit_u8, u8),
                0xcd => visit!(visit_u16, u16),
                0xce => visit!(visit_u32, u32),
                0xcf => visit!(visit_u64, u64),
                0xd0 => visit!(visit_i8, i8),
                0xd1 => visit!(visit_i16, i16),
                0xd2 => visit!(visit_i32, i32),
                0xd3 => visit!(visit_i64, i64),
                0xe0..=0xff => {
                    self.rest = rest;
                    return visitor.visit_i8(marker.cast_signed());
                }
                _ => {}
            }
        }
        match self.element(&visitor) {
            Ok(number) => match u8::try_from(number) {
                Ok(number) => visitor.visit_u8(number),
                Err(_) => visitor.visit_i16(number),
            },
            Err(error) => Err(error),
        }
    }

    /// Reads any value. Visitors of texts, bytes and units come here as well. A program has few of
    /// these, so that fewer arms for them would gain nothing.
    fn any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.token() {
            Ok(Token::Text(text)) => visitor.visit_borrowed_str(text),
            Ok(Token::NotText(bytes)) => match visitor.visit_borrowed_bytes::<Error>(bytes) {
                Ok(value) => Ok(value),
                Err(_) => Err(Error::not_text(bytes)),
            },
            Ok(Token::Bytes(bytes)) => visitor.visit_borrowed_bytes(bytes),
            Ok(token @ (Token::List(_) | Token::Map(_) | Token::Parts(..))) => {
                self.pending = Some(token);
                Items::new(self, None).visit(visitor)
            }
            Ok(Token::Extension(kind, bytes)) => {
                self.pending = Some(Token::Parts(kind, bytes));
                visitor.visit_newtype_struct(self)
            }
            Ok(Token::Some) => match self.descend(1) {
                Ok(()) => visitor.visit_some(self),
                Err(error) => Err(error),
            },
            Ok(Token::Unit) => visitor.visit_unit(),
            Ok(Token::Bool(value)) => visitor.visit_bool(value),
            Ok(Token::U8(number)) => visitor.visit_u8(number),
            Ok(Token::U16(number)) => visitor.visit_u16(number),
            Ok(Token::U32(number)) => visitor.visit_u32(number),
            Ok(Token::U64(number)) => visitor.visit_u64(number),
            Ok(Token::I8(number)) => visitor.visit_i8(number),
            Ok(Token::I16(number)) => visitor.visit_i16(number),
            Ok(Token::I32(number)) => visitor.visit_i32(number),
            Ok(Token::I64(number)) => visitor.visit_i64(number),
            Ok(Token::F32(number)) => visitor.visit_f32(number),
            Ok(Token::F64(number)) => visitor.visit_f64(number),
            Err(error) => Err(error),
        }
    }
}

/// Returns the type and the content of an extension, if `bytes` are exactly a pair of these.
pub(super) fn extension_parts(bytes: &[u8]) -> Option<(i8, &[u8])> {
    let mut decoder = Decoder::new(bytes);
    let head = decoder.token().ok()?;
    let kind = decoder.token().ok()?.integer()?;
    match (head, decoder.token(), decoder.rest) {
        (Token::List(2), Ok(Token::Bytes(content)), []) => Some((kind.try_into().ok()?, content)),
        _ => None,
    }
}

macro_rules! deserialize {
    ($($method:ident($($argument:ident: $type:ty),*) |$this:ident, $visitor:ident| $body:expr,)*) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(
                self,
                $($argument: $type,)*
                $visitor: V,
            ) -> Result<V::Value, Error> {
                let $this = self;
                $body
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Error;

    deserialize! {
        deserialize_bool() |this, visitor| this.number(visitor),
        deserialize_u8() |this, visitor| this.number(visitor),
        deserialize_u16() |this, visitor| this.number(visitor),
        deserialize_u32() |this, visitor| this.number(visitor),
        deserialize_u64() |this, visitor| this.number(visitor),
        deserialize_i8() |this, visitor| this.number(visitor),
        deserialize_i16() |this, visitor| this.number(visitor),
        deserialize_i32() |this, visitor| this.number(visitor),
        deserialize_i64() |this, visitor| this.number(visitor),
        deserialize_f32() |this, visitor| match this.check_float(f32::MANTISSA_DIGITS, &visitor) {
            None => this.number(visitor),
            Some(error) => Err(error),
        },
        deserialize_f64() |this, visitor| match this.check_float(f64::MANTISSA_DIGITS, &visitor) {
            None => this.number(visitor),
            Some(error) => Err(error),
        },
        deserialize_any() |this, visitor| this.any(visitor),
        deserialize_char() |this, visitor| this.any(visitor),
        deserialize_str() |this, visitor| this.any(visitor),
        deserialize_string() |this, visitor| this.any(visitor),
        deserialize_bytes() |this, visitor| this.any(visitor),
        deserialize_byte_buf() |this, visitor| this.any(visitor),
        deserialize_unit() |this, visitor| this.any(visitor),
        deserialize_ignored_any() |this, visitor| this.any(visitor),
        deserialize_seq() |this, visitor| Items::new(this, None).visit(visitor),
        deserialize_tuple(_length: usize) |this, visitor| Items::new(this, None).visit(visitor),
        deserialize_tuple_struct(_name: &'static str, _length: usize) |this, visitor| {
            Items::new(this, None).visit(visitor)
        },
        deserialize_map() |this, visitor| Items::map(this).visit(visitor),
        deserialize_struct(_name: &'static str, _fields: &'static [&'static str])
            |this, visitor| Items::new(this, None).visit(visitor),
        deserialize_i128() |this, visitor| match this.number_128(&visitor) {
            Ok(number) => visitor.visit_i128(number),
            Err(error) => Err(error),
        },
        deserialize_u128() |this, visitor| match this.unsigned_128(&visitor) {
            Ok(number) => visitor.visit_u128(number),
            Err(error) => Err(error),
        },
        deserialize_option() |this, visitor| match this.is_some(&visitor) {
            Ok(true) => visitor.visit_some(this),
            Ok(false) => visitor.visit_none(),
            Err(error) => Err(error),
        },
        deserialize_unit_struct(_name: &'static str) |this, visitor| {
            match this.unit_struct(&visitor) {
                Ok(()) => visitor.visit_unit(),
                Err(error) => Err(error),
            }
        },
        deserialize_newtype_struct(name: &'static str) |this, visitor| {
            match this.newtype(name, &visitor) {
                Ok(()) => visitor.visit_newtype_struct(this),
                Err(error) => Err(error),
            }
        },
        deserialize_enum(_name: &'static str, _variants: &'static [&'static str])
            |this, visitor| match this.variant(&visitor) {
                Ok(variant) => visitor.visit_enum(variant),
                Err(error) => Err(error),
            },
        deserialize_identifier() |this, visitor| match this.name(&visitor) {
            Ok(Name::Text(text)) => visitor.visit_borrowed_str(text),
            Ok(Name::Bytes(bytes)) => visitor.visit_borrowed_bytes(bytes),
            Ok(Name::Unit) => visitor.visit_unit(),
            Ok(Name::Bool(value)) => visitor.visit_bool(value),
            Ok(Name::Unsigned(number)) => visitor.visit_u64(number),
            Ok(Name::Signed(number)) => visitor.visit_i64(number),
            Ok(Name::Float(number)) => visitor.visit_f64(number),
            Err(error) => Err(error),
        },
    }
}
