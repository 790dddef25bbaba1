//! Tokens, and the functions that read them.

use std::str;

use serde::de::Expected;

use super::{
    Decoder,
    error::{Error, Reason},
};
use crate::codec::encoder::SOME;

/// The meaning of a marker and of the bytes that belong to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::codec) enum Token<'de> {
    Unit,
    /// The mark before the value of a `Some`.
    Some,
    Bool(bool),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
    Text(&'de str),
    /// A text that is not UTF-8.
    NotText(&'de [u8]),
    Bytes(&'de [u8]),
    /// The head of a list of this many elements.
    List(u32),
    /// The head of a map of this many entries.
    Map(u32),
    /// An extension, with its type.
    Extension(i8, &'de [u8]),
    /// The content of an extension: a list of its type and its bytes.
    Parts(i8, &'de [u8]),
}

impl Token<'_> {
    /// Returns the number if the token is an integer.
    pub(super) fn integer(self) -> Option<i128> {
        Some(match self {
            Self::U8(number) => number.into(),
            Self::U16(number) => number.into(),
            Self::U32(number) => number.into(),
            Self::U64(number) => number.into(),
            Self::I8(number) => number.into(),
            Self::I16(number) => number.into(),
            Self::I32(number) => number.into(),
            Self::I64(number) => number.into(),
            _ => return None,
        })
    }
}

/// The name of a field or variant, or its index. Has as few forms as lose no information, since
/// each form costs a call per struct and enum.
pub(super) enum Name<'de> {
    Text(&'de str),
    Bytes(&'de [u8]),
    Unit,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl<'de> Decoder<'de> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        match self.rest.split_first_chunk() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(Error::new(Reason::Ended)),
        }
    }

    #[inline]
    fn slice(&mut self, length: u32) -> Result<&'de [u8], Error> {
        match usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)) {
            Some((slice, rest)) => {
                self.rest = rest;
                Ok(slice)
            }
            None => Err(Error::new(Reason::Ended)),
        }
    }

    #[inline]
    fn length_8(&mut self) -> Result<u32, Error> {
        Ok(u8::from_be_bytes(self.array()?).into())
    }

    #[inline]
    fn length_16(&mut self) -> Result<u32, Error> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    #[inline]
    fn length_32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    fn text(&mut self, length: u32) -> Result<Token<'de>, Error> {
        let bytes = self.slice(length)?;
        Ok(match str::from_utf8(bytes) {
            Ok(text) => Token::Text(text),
            Err(_) => Token::NotText(bytes),
        })
    }

    fn extension(&mut self, length: u32) -> Result<Token<'de>, Error> {
        let kind = i8::from_be_bytes(self.array()?);
        Ok(Token::Extension(kind, self.slice(length)?))
    }

    /// Reads the next token.
    #[inline(never)]
    pub(in crate::codec) fn token(&mut self) -> Result<Token<'de>, Error> {
        if let Some(token) = self.take_pending() {
            return Ok(token);
        }
        let [marker] = self.array()?;
        Ok(match marker {
            0x80..=0x8f => Token::Map((marker & 0x0f).into()),
            0x90..=0x9f => Token::List((marker & 0x0f).into()),
            0xa0..=0xbf => self.text((marker & 0x1f).into())?,
            0xc4 => {
                let length = self.length_8()?;
                Token::Bytes(self.slice(length)?)
            }
            0xc5 => {
                let length = self.length_16()?;
                Token::Bytes(self.slice(length)?)
            }
            0xc6 => {
                let length = self.length_32()?;
                Token::Bytes(self.slice(length)?)
            }
            0xc7 => {
                let length = self.length_8()?;
                self.extension(length)?
            }
            0xc8 => {
                let length = self.length_16()?;
                self.extension(length)?
            }
            0xc9 => {
                let length = self.length_32()?;
                self.extension(length)?
            }
            0xd4..=0xd8 => self.extension(1 << (marker - 0xd4))?,
            0xd9 => {
                let length = self.length_8()?;
                self.text(length)?
            }
            0xda => {
                let length = self.length_16()?;
                self.text(length)?
            }
            0xdb => {
                let length = self.length_32()?;
                self.text(length)?
            }
            0xdc => Token::List(self.length_16()?),
            0xdd => Token::List(self.length_32()?),
            0xde => Token::Map(self.length_16()?),
            0xdf => Token::Map(self.length_32()?),
            0x00..=0x7f => Token::U8(marker),
            0xc0 => Token::Unit,
            SOME => Token::Some,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xca => Token::F32(f32::from_be_bytes(self.array()?)),
            0xcb => Token::F64(f64::from_be_bytes(self.array()?)),
            0xcc => Token::U8(u8::from_be_bytes(self.array()?)),
            0xcd => Token::U16(u16::from_be_bytes(self.array()?)),
            0xce => Token::U32(u32::from_be_bytes(self.array()?)),
            0xcf => Token::U64(u64::from_be_bytes(self.array()?)),
            0xd0 => Token::I8(i8::from_be_bytes(self.array()?)),
            0xd1 => Token::I16(i16::from_be_bytes(self.array()?)),
            0xd2 => Token::I32(i32::from_be_bytes(self.array()?)),
            0xd3 => Token::I64(i64::from_be_bytes(self.array()?)),
            0xe0..=0xff => Token::I8(marker.cast_signed()),
        })
    }

    /// Returns the token that is an element of bytes or of an extension, if the next value is one.
    #[inline]
    pub(super) fn take_pending(&mut self) -> Option<Token<'de>> {
        // `take()` alone loads the whole token. Mostly only its tag was stored, which stalls.
        if self.pending.is_some() { self.pending.take() } else { None }
    }

    /// Reads what is not a number with a marker of its own.
    #[cold]
    pub(super) fn element(&mut self, expected: &dyn Expected) -> Result<i16, Error> {
        let pending = self.pending.is_some();
        match self.token()? {
            Token::U8(number) if pending => Ok(number.into()),
            Token::I8(number) if pending => Ok(number.into()),
            token => Err(Error::mismatch(token, expected)),
        }
    }

    /// Reads an integer of up to 128 bits: a number, or 16 bytes.
    pub(super) fn number_128(&mut self, expected: &dyn Expected) -> Result<i128, Error> {
        if self.pending.is_none()
            && let [0xc4, 16, rest @ ..] = self.rest
        {
            self.rest = rest;
            return self.array().map(i128::from_be_bytes);
        }
        let token = self.token()?;
        token.integer().ok_or_else(|| Error::mismatch(token, expected))
    }

    /// Reads an unsigned integer of up to 128 bits. 16 bytes do not show a sign.
    pub(super) fn unsigned_128(&mut self, expected: &dyn Expected) -> Result<u128, Error> {
        let is_number = self.pending.is_some() || !matches!(self.rest, [0xc4, ..]);
        let number = self.number_128(expected)?;
        if is_number && number < 0 {
            return Err(Error::inexact(number, expected));
        }
        Ok(number.cast_unsigned())
    }

    /// Returns an error if the next value is a number that a float of `digits` binary digits cannot
    /// hold. The visitor of a float would round it.
    pub(super) fn check_float(&self, digits: u32, expected: &dyn Expected) -> Option<Error> {
        match (self.rest, self.pending) {
            ([0xca, ..], _) | (_, Some(_)) => None,
            ([0xcb, ..], _) if digits == f64::MANTISSA_DIGITS => None,
            (rest, _) => match Decoder::new(rest).token() {
                Ok(Token::F64(number)) if !is_single(number) => {
                    Some(Error::inexact(number, expected))
                }
                Ok(token) => {
                    let number = token.integer()?;
                    let unsigned = number.unsigned_abs();
                    let needed = u128::BITS
                        - unsigned.leading_zeros()
                        - unsigned.trailing_zeros() % u128::BITS;
                    (needed > digits).then(|| Error::inexact(number, expected))
                }
                Err(_) => None,
            },
        }
    }

    /// Reads the name of a field or variant, or its index.
    pub(super) fn name(&mut self, expected: &dyn Expected) -> Result<Name<'de>, Error> {
        if self.pending.is_none()
            && let [marker @ 0xa0..=0xbf, rest @ ..] = self.rest
            && let Some((text, rest)) = rest.split_at_checked((marker & 0x1f).into())
            && let Ok(text) = str::from_utf8(text)
        {
            self.rest = rest;
            return Ok(Name::Text(text));
        }
        Ok(match self.token()? {
            Token::Text(text) => Name::Text(text),
            Token::NotText(bytes) | Token::Bytes(bytes) => Name::Bytes(bytes),
            Token::Unit => Name::Unit,
            Token::Bool(value) => Name::Bool(value),
            Token::U8(number) => Name::Unsigned(number.into()),
            Token::U16(number) => Name::Unsigned(number.into()),
            Token::U32(number) => Name::Unsigned(number.into()),
            Token::U64(number) => Name::Unsigned(number),
            Token::I8(number) => Name::Signed(number.into()),
            Token::I16(number) => Name::Signed(number.into()),
            Token::I32(number) => Name::Signed(number.into()),
            Token::I64(number) => Name::Signed(number),
            Token::F32(number) => Name::Float(number.into()),
            Token::F64(number) => Name::Float(number),
            token @ (Token::Some
            | Token::List(_)
            | Token::Map(_)
            | Token::Extension(..)
            | Token::Parts(..)) => return Err(Error::mismatch(token, expected)),
        })
    }
}

/// Returns true if an `f32` can hold the number.
fn is_single(number: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "it is compared with the number")]
    let single = number as f32;
    f64::from(single).to_bits() == number.to_bits() || number.is_nan()
}
