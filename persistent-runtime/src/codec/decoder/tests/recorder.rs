//! A visitor that writes down how it is called.

use std::{fmt, fmt::Debug, fmt::Write as _, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
};

/// Every method of a deserializer, with a visitor that accepts all values and writes down which of
/// its methods was called. `HINT` is the number of the method.
pub(super) struct Asked<const HINT: usize>(String);

pub(super) const HINTS: [&str; 30] = [
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

pub(super) type Any = Asked<0>;

pub(super) struct Recorder;

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
pub(super) struct Elements;

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
