//! The elements of lists and the entries of maps.

use serde::{
    Deserialize,
    de::{DeserializeSeed, Expected, MapAccess, SeqAccess, Visitor},
};

use super::{
    Decoder,
    error::{Error, Reason},
    path::Segment,
    token::Token,
};

/// The source of the elements.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    List,
    Map,
    /// Each byte is an element.
    Bytes,
    /// The type and then the bytes are the elements.
    Extension(i8),
}

/// A list or map, of which a visitor takes the elements or entries.
pub(super) struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    kind: Kind,
    length: u32,
    left: u32,
    /// The levels of each element.
    levels: usize,
    /// Of a map the bytes that start with the last key, and otherwise the content of bytes and of
    /// extensions.
    bytes: &'de [u8],
    /// The bytes that start with the name of the variant whose content this is.
    variant: Option<&'de [u8]>,
}

impl<'a, 'de> Items<'a, 'de> {
    #[inline]
    pub(super) fn new(decoder: &'a mut Decoder<'de>, variant: Option<&'de [u8]>) -> Self {
        Self { decoder, kind: Kind::List, length: 0, left: 0, levels: 0, bytes: &[], variant }
    }

    /// The entries of a value that is not a list, so that bytes are not one either.
    #[inline]
    pub(super) fn map(decoder: &'a mut Decoder<'de>) -> Self {
        Self { kind: Kind::Map, ..Self::new(decoder, None) }
    }

    /// Calls the visitor of a list, tuple, map or struct.
    pub(super) fn visit<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        if let Some(error) = self.open(&visitor) {
            return Err(error);
        }
        let result = match self.kind {
            Kind::Map => visitor.visit_map(&mut *self),
            _ => visitor.visit_seq(&mut *self),
        };
        match result {
            Ok(value) => match self.excess() {
                None => Ok(value),
                Some(error) => Err(error),
            },
            Err(error) => Err(self.closed(error)),
        }
    }

    /// Reads the head. Returns an error if it is none.
    #[inline(never)]
    fn open(&mut self, expected: &dyn Expected) -> Option<Error> {
        if self.decoder.pending.is_none()
            && let [marker @ 0x80..=0x9f, rest @ ..] = self.decoder.rest
        {
            self.decoder.rest = rest;
            let kind = if *marker < 0x90 { Kind::Map } else { Kind::List };
            return self.descend(kind, (marker & 0x0f).into());
        }
        self.open_other(expected)
    }

    #[inline(never)]
    fn open_other(&mut self, expected: &dyn Expected) -> Option<Error> {
        match self.decoder.token() {
            Ok(Token::List(length)) => self.descend(Kind::List, length),
            Ok(Token::Map(length)) => self.descend(Kind::Map, length),
            Ok(Token::Bytes(bytes)) if self.kind != Kind::Map => {
                self.bytes = bytes;
                // No bytes are longer: their length has 32 bits.
                self.start(Kind::Bytes, u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            }
            Ok(Token::Parts(kind, bytes)) => {
                self.bytes = bytes;
                self.start(Kind::Extension(kind), 2)
            }
            Ok(token) => Some(self.closed(Error::mismatch(token, expected))),
            Err(error) => Some(self.closed(error)),
        }
    }

    #[inline]
    fn descend(&mut self, kind: Kind, length: u32) -> Option<Error> {
        match self.decoder.descend(length) {
            Ok(()) => self.start(kind, length),
            Err(error) => Some(self.closed(error)),
        }
    }

    #[inline]
    fn start(&mut self, kind: Kind, length: u32) -> Option<Error> {
        self.kind = kind;
        self.length = length;
        self.left = length;
        self.levels = self.decoder.levels;
        None
    }

    /// Returns an error if the visitor left elements.
    #[inline]
    fn excess(&mut self) -> Option<Error> {
        if self.left == 0 { None } else { self.left_over() }
    }

    #[cold]
    fn left_over(&mut self) -> Option<Error> {
        let (present, taken) = (self.length, self.length - self.left);
        let reason = match self.kind {
            Kind::Extension(_) => return None,
            Kind::Bytes => Reason::Bytes { present, taken },
            Kind::List | Kind::Map => Reason::Length { present, taken },
        };
        Some(self.closed(Error::new(reason)))
    }

    /// Adds the variant to the path of an error of its content.
    #[cold]
    fn closed(&mut self, error: Error) -> Error {
        match self.variant {
            Some(name) => self.decoder.failed(Segment::Key(name), error),
            None => error,
        }
    }

    /// Prepares the decoder for the next element or key. Returns false at the end.
    #[inline]
    fn advance(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.prepare();
        match self.kind {
            Kind::List => {}
            Kind::Map => self.bytes = self.decoder.rest,
            Kind::Bytes | Kind::Extension(_) => self.decoder.pending = self.element(),
        }
        true
    }

    /// Prepares the decoder for a value: undoes what the one before has left behind.
    #[inline]
    fn prepare(&mut self) {
        self.decoder.levels = self.levels;
        self.decoder.pending = None;
    }

    /// The index of the last element.
    fn index(&self) -> u32 {
        self.length - self.left - 1
    }

    /// Returns an element that has no token of its own.
    #[cold]
    fn element(&self) -> Option<Token<'de>> {
        let index = self.index();
        match self.kind {
            Kind::List | Kind::Map => None,
            Kind::Bytes => self.bytes.get(index as usize).map(|byte| Token::U8(*byte)),
            Kind::Extension(kind) if index == 0 => Some(Token::I8(kind)),
            Kind::Extension(_) => Some(Token::Bytes(self.bytes)),
        }
    }

    /// Adds the last element to the path of its error.
    #[cold]
    fn failed(&mut self, error: Error) -> Error {
        let segment = match self.kind {
            Kind::Map => Segment::Key(self.bytes),
            _ => Segment::Index(self.index()),
        };
        self.decoder.failed(segment, error)
    }

    /// Returns how many elements are left. A length is believed only as far as there are bytes,
    /// since visitors allocate this much.
    #[inline]
    fn hint(&self) -> usize {
        let bytes = match self.kind {
            Kind::List | Kind::Map => self.decoder.rest.len(),
            Kind::Bytes | Kind::Extension(_) => usize::MAX,
        };
        usize::try_from(self.left).map_or(bytes, |left| left.min(bytes))
    }
}

// The traits are implemented for the reference itself, and the provided methods are replaced, for
// fewer generic functions per type.

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if !self.advance() {
            return Ok(None);
        }
        match seed.deserialize(&mut *self.decoder) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.failed(error)),
        }
    }

    #[inline]
    fn next_element<T: Deserialize<'de>>(&mut self) -> Result<Option<T>, Error> {
        if !self.advance() {
            return Ok(None);
        }
        match T::deserialize(&mut *self.decoder) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.failed(error)),
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next_element_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.prepare();
        match seed.deserialize(&mut *self.decoder) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(error)),
        }
    }

    #[inline]
    fn next_key<K: Deserialize<'de>>(&mut self) -> Result<Option<K>, Error> {
        self.next_element()
    }

    #[inline]
    fn next_value<T: Deserialize<'de>>(&mut self) -> Result<T, Error> {
        self.prepare();
        match T::deserialize(&mut *self.decoder) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(error)),
        }
    }

    #[inline]
    fn next_entry<K: Deserialize<'de>, T: Deserialize<'de>>(
        &mut self,
    ) -> Result<Option<(K, T)>, Error> {
        match self.next_element() {
            Ok(Some(key)) => match self.next_value() {
                Ok(value) => Ok(Some((key, value))),
                Err(error) => Err(error),
            },
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}
