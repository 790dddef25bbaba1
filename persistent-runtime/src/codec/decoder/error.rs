//! The errors of the decoder.

use std::{error, fmt, str};

use serde::de::{Error as _, Expected, Unexpected};

use super::token::Token;
use crate::codec::TooDeep;

/// The reason why bytes are rejected. One pointer, since each generic function returns it.
#[derive(Debug)]
pub(in crate::codec) struct Error(Box<Reason>);

#[derive(Debug)]
pub(super) enum Reason {
    /// The bytes end within the value.
    Ended,
    /// The type takes fewer elements than are present.
    Length {
        present: u32,
        taken: u32,
    },
    /// The type takes fewer elements than there are bytes.
    Bytes {
        present: u32,
        taken: u32,
    },
    /// The map of an enum does not have one entry.
    Variants {
        entries: u32,
    },
    /// A number that the type can only hold changed.
    Inexact {
        number: String,
        expected: String,
    },
    /// A text is not UTF-8.
    Text(str::Utf8Error),
    TooDeep,
    /// The error of a visitor.
    Custom(String),
}

impl Error {
    #[cold]
    pub(super) fn new(reason: Reason) -> Self {
        Self(Box::new(reason))
    }

    /// Returns the error of a visitor that takes no value of this type.
    #[cold]
    pub(super) fn mismatch(token: Token<'_>, expected: &dyn Expected) -> Self {
        let unexpected = match token {
            Token::Unit => Unexpected::Unit,
            Token::Some => Unexpected::Option,
            Token::Bool(value) => Unexpected::Bool(value),
            Token::U8(number) => Unexpected::Unsigned(number.into()),
            Token::U16(number) => Unexpected::Unsigned(number.into()),
            Token::U32(number) => Unexpected::Unsigned(number.into()),
            Token::U64(number) => Unexpected::Unsigned(number),
            Token::I8(number) => Unexpected::Signed(number.into()),
            Token::I16(number) => Unexpected::Signed(number.into()),
            Token::I32(number) => Unexpected::Signed(number.into()),
            Token::I64(number) => Unexpected::Signed(number),
            Token::F32(number) => Unexpected::Float(number.into()),
            Token::F64(number) => Unexpected::Float(number),
            Token::Text(text) => Unexpected::Str(text),
            Token::NotText(bytes) => return Self::not_text(bytes),
            Token::Bytes(bytes) => Unexpected::Bytes(bytes),
            Token::List(_) | Token::Parts(..) => Unexpected::Seq,
            Token::Map(_) => Unexpected::Map,
            Token::Extension(..) => Unexpected::NewtypeStruct,
        };
        Self::invalid_type(unexpected, expected)
    }

    /// Returns the error of a text that is not UTF-8.
    #[cold]
    pub(super) fn not_text(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Err(error) => Self::new(Reason::Text(error)),
            Ok(text) => Self::custom(text),
        }
    }

    /// Returns the error of a number that does not fit the type.
    #[cold]
    pub(super) fn inexact(number: impl fmt::Display, expected: &dyn Expected) -> Self {
        let (number, expected) = (number.to_string(), expected.to_string());
        Self::new(Reason::Inexact { number, expected })
    }

    pub(super) fn is_too_deep(&self) -> bool {
        matches!(*self.0, Reason::TooDeep)
    }
}

impl serde::de::Error for Error {
    #[cold]
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(Reason::Custom(reason.to_string()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Reason::Ended => f.write_str("the bytes end within the value"),
            Reason::Length { present, taken } => {
                write!(f, "invalid length {present}, expected {taken}")
            }
            Reason::Bytes { present, taken } => {
                write!(f, "invalid length {present} of bytes, expected {taken}")
            }
            Reason::Variants { entries } => {
                write!(f, "invalid length {entries}, expected a map with one entry for an enum")
            }
            Reason::Inexact { number, expected } => {
                write!(f, "invalid value: {number} is not exactly any {expected}")
            }
            Reason::Text(error) => write!(f, "invalid text: {error}"),
            Reason::TooDeep => TooDeep.fmt(f),
            Reason::Custom(text) => f.write_str(text),
        }
    }
}

impl error::Error for Error {}
