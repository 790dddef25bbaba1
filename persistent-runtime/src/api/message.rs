//! The serde form of the generated message enums: that of serde's derive, i.e. externally tagged
//! variants whose arguments are named.
//!
//! Generated code is only what depends on the types of the arguments.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer, Serialize,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
    ser::SerializeStructVariant,
};

/// A generated message enum.
pub trait MessageEnum: Sized {
    /// The name of the enum.
    const NAME: &'static str;
    /// The names of the variants in source order, also of those that a `cfg` removes.
    const VARIANTS: &'static [&'static str];

    /// The earlier names of variants, with their present ones.
    const ALIASES: &'static [(&'static str, &'static str)] = &[];

    /// Returns the shape of the variant `name`, or `None` if there is no such variant.
    fn shape(name: &str) -> Option<Shape<Self>>;

    /// Reads the arguments of the variant `name`.
    ///
    /// # Errors
    /// The error of the format, also if an argument is missing.
    fn read<'de, A: Arguments<'de>>(name: &str, arguments: A) -> Result<Self, A::Error> {
        let _ = arguments;
        Err(unknown::<Self, _>(name))
    }
}

/// The content of a variant.
#[derive(Debug)]
pub enum Shape<M> {
    /// No arguments.
    Unit(M),
    /// The names of the arguments, and their earlier names with their indexes.
    Arguments(&'static [&'static str], &'static [(&'static str, usize)]),
}

/// The arguments of a stored message, which arrive in any order.
pub trait Arguments<'de> {
    /// The error of the format.
    type Error: Error;

    /// Returns the index of the next argument that the variant has.
    ///
    /// # Errors
    /// The error of the format.
    fn next(&mut self) -> Result<Option<usize>, Self::Error>;

    /// Reads the value of the argument that [`next`](Self::next) returned. Requires
    /// `DeserializeOwned` of its type.
    ///
    /// # Errors
    /// The error of the format, also if the argument occurs twice.
    fn read<T: DeserializeOwned>(&mut self, argument: &mut Option<T>) -> Result<(), Self::Error>;

    /// Returns the argument `name`. A missing `Option` is `None`.
    ///
    /// # Errors
    /// If another argument is missing.
    fn take<T: DeserializeOwned>(
        &self,
        name: &'static str,
        argument: Option<T>,
    ) -> Result<T, Self::Error> {
        argument.map_or_else(|| T::deserialize(Missing { name, error: PhantomData }), Ok)
    }
}

/// Writes one argument of a message. Requires `Serialize` of its type.
///
/// # Errors
/// Returns the serializer's error.
pub fn write_argument<T: Serialize, C: SerializeStructVariant>(
    content: &mut C,
    name: &'static str,
    argument: &T,
) -> Result<(), C::Error> {
    content.serialize_field(name, argument)
}

/// Reads a message.
///
/// # Errors
/// Returns the deserializer's error.
pub fn read_message<'de, M, D>(deserializer: D) -> Result<M, D::Error>
where
    M: MessageEnum,
    D: Deserializer<'de>,
{
    deserializer.deserialize_enum(M::NAME, M::VARIANTS, MessageVisitor(PhantomData))
}

/// Returns the error about a variant that the enum does not have.
#[must_use]
pub fn unknown<M: MessageEnum, E: Error>(name: &str) -> E {
    E::unknown_variant(name, M::VARIANTS)
}

struct MessageVisitor<M>(PhantomData<M>);

impl<'de, M: MessageEnum> Visitor<'de> for MessageVisitor<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enum {}", M::NAME)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, message: A) -> Result<M, A::Error> {
        let names = Names { expected: "variant identifier", names: M::VARIANTS };
        let (name, content) = message.variant_seed(names)?;
        let name = match name {
            Ok(index) => M::VARIANTS[index],
            Err(name) => {
                let alias = M::ALIASES.iter().find(|(alias, _)| *alias == name);
                alias.ok_or_else(|| unknown::<M, A::Error>(&name))?.1
            }
        };
        match M::shape(name).ok_or_else(|| unknown::<M, A::Error>(name))? {
            Shape::Unit(message) => content.unit_variant().map(|()| message),
            Shape::Arguments(names, aliases) => {
                let visitor = ArgumentsVisitor { name, names, aliases, message: PhantomData };
                content.struct_variant(names, visitor)
            }
        }
    }
}

struct ArgumentsVisitor<M> {
    name: &'static str,
    names: &'static [&'static str],
    aliases: &'static [(&'static str, usize)],
    message: PhantomData<M>,
}

impl<'de, M: MessageEnum> Visitor<'de> for ArgumentsVisitor<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "struct variant {}::{}", M::NAME, self.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<M, A::Error> {
        M::read(self.name, SeqArguments { seq, indexes: 0..self.names.len() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<M, A::Error> {
        M::read(self.name, MapArguments { map, names: self.names, aliases: self.aliases, name: "" })
    }
}

struct SeqArguments<A> {
    seq: A,
    indexes: std::ops::Range<usize>,
}

impl<'de, A: SeqAccess<'de>> Arguments<'de> for SeqArguments<A> {
    type Error = A::Error;

    fn next(&mut self) -> Result<Option<usize>, A::Error> {
        Ok(self.indexes.next())
    }

    fn read<T: DeserializeOwned>(&mut self, argument: &mut Option<T>) -> Result<(), A::Error> {
        *argument = self.seq.next_element()?;
        Ok(())
    }
}

struct MapArguments<A> {
    map: A,
    names: &'static [&'static str],
    aliases: &'static [(&'static str, usize)],
    /// The name of the argument that is read next.
    name: &'static str,
}

impl<'de, A: MapAccess<'de>> Arguments<'de> for MapArguments<A> {
    type Error = A::Error;

    fn next(&mut self) -> Result<Option<usize>, A::Error> {
        let names = Names { expected: "field identifier", names: self.names };
        while let Some(index) = self.map.next_key_seed(names)? {
            let aliased = |name: String| {
                let alias = self.aliases.iter().find(|(alias, _)| *alias == name);
                alias.map(|(_, index)| *index)
            };
            if let Some(index) = index.map_or_else(aliased, Some) {
                self.name = self.names[index];
                return Ok(Some(index));
            }
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn read<T: DeserializeOwned>(&mut self, argument: &mut Option<T>) -> Result<(), A::Error> {
        if argument.is_some() {
            return Err(A::Error::duplicate_field(self.name));
        }
        *argument = Some(self.map.next_value()?);
        Ok(())
    }
}

/// Reads a name, or in a format without names an index. Returns the index, or the name if it is not
/// one of `names`.
#[derive(Clone, Copy)]
struct Names {
    expected: &'static str,
    names: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Names {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: Error>(self, index: u64) -> Result<Self::Value, E> {
        let known = usize::try_from(index).ok().filter(|index| *index < self.names.len());
        known.map(Ok).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(index), &self))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let known = self.names.iter().position(|known| *known == name);
        Ok(known.ok_or_else(|| name.to_owned()))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        self.visit_str(&String::from_utf8_lossy(name))
    }
}

/// Deserializes an argument that is missing: `None`, or an error for any other type.
struct Missing<E> {
    name: &'static str,
    error: PhantomData<E>,
}

impl<'de, E: Error> Deserializer<'de> for Missing<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, E> {
        Err(E::missing_field(self.name))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
