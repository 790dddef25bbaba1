//! Enums.

use serde::{
    Deserialize,
    de::{DeserializeSeed, EnumAccess, Error as _, Unexpected, VariantAccess, Visitor},
};

use super::{Decoder, error::Error, items::Items, path::Segment, token::Token};

/// An enum: the name of its variant, with its content unless the variant is a unit.
pub(super) struct Variant<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    /// The bytes that start with the name.
    name: &'de [u8],
    /// True if the enum is a map of the name to the content.
    has_content: bool,
}

impl<'a, 'de> Variant<'a, 'de> {
    pub(super) fn new(decoder: &'a mut Decoder<'de>, has_content: bool) -> Self {
        Self { name: decoder.rest, decoder, has_content }
    }

    /// Adds the variant to the path of the error of its content.
    #[cold]
    fn failed(&mut self, error: Error) -> Error {
        self.decoder.failed(Segment::Key(self.name), error)
    }

    /// Returns an error if the variant has no content.
    #[inline]
    fn missing(&mut self, form: &str) -> Option<Error> {
        if self.has_content {
            None
        } else {
            Some(self.failed(Error::invalid_type(Unexpected::UnitVariant, &form)))
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        match seed.deserialize(&mut *self.decoder) {
            Ok(variant) => Ok((variant, self)),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn variant<T: Deserialize<'de>>(self) -> Result<(T, Self), Error> {
        match T::deserialize(&mut *self.decoder) {
            Ok(variant) => Ok((variant, self)),
            Err(error) => Err(error),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(mut self) -> Result<(), Error> {
        if !self.has_content {
            return Ok(());
        }
        match self.decoder.token() {
            Ok(Token::Unit) => Ok(()),
            Ok(token) => Err(self.failed(Error::mismatch(token, &"unit variant"))),
            Err(error) => Err(self.failed(error)),
        }
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, Error> {
        if let Some(error) = self.missing("newtype variant") {
            return Err(error);
        }
        match seed.deserialize(&mut *self.decoder) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(error)),
        }
    }

    #[inline]
    fn newtype_variant<T: Deserialize<'de>>(mut self) -> Result<T, Error> {
        if let Some(error) = self.missing("newtype variant") {
            return Err(error);
        }
        match T::deserialize(&mut *self.decoder) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(error)),
        }
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(mut self, _: usize, visitor: V) -> Result<V::Value, Error> {
        match self.missing("tuple variant") {
            None => Items::new(self.decoder, Some(self.name)).visit(visitor),
            Some(error) => Err(error),
        }
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        mut self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.missing("struct variant") {
            None => Items::new(self.decoder, Some(self.name)).visit(visitor),
            Some(error) => Err(error),
        }
    }
}
