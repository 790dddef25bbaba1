//! A serializer that has another do the work, and refuses lists and maps that
//! are nested too deep: the recursion ends before the stack does, and no look at
//! what was written is needed.

use std::fmt::Display;

use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// `inner`, or what is being written by it, in which `levels` more lists and maps
/// may be nested. A list or map with nothing in it is none.
pub(super) struct Bounded<S> {
    pub(super) inner: S,
    pub(super) levels: usize,
}

/// A value within another.
struct Nested<'a, T: ?Sized> {
    value: &'a T,
    levels: usize,
}

impl<T: Serialize + ?Sized> Serialize for Nested<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Bounded { inner, levels: self.levels })
    }
}

/// How many levels are left in a list or map of so many entries.
#[inline]
fn enter<E: Error>(levels: usize, entries: usize) -> Result<usize, E> {
    let left = if entries == 0 { Some(levels) } else { levels.checked_sub(1) };
    left.ok_or_else(|| E::custom("depth limit exceeded"))
}

macro_rules! scalars {
    ($($method:ident: $scalar:ty,)*) => {
        $(
            #[inline]
            fn $method(self, value: $scalar) -> Result<S::Ok, S::Error> {
                self.inner.$method(value)
            }
        )*
    };
}

impl<S: Serializer> Serializer for Bounded<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Bounded<S::SerializeSeq>;
    type SerializeTuple = Bounded<S::SerializeTuple>;
    type SerializeTupleStruct = Bounded<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Bounded<S::SerializeTupleVariant>;
    type SerializeMap = Bounded<S::SerializeMap>;
    type SerializeStruct = Bounded<S::SerializeStruct>;
    type SerializeStructVariant = Bounded<S::SerializeStructVariant>;

    scalars! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Nested { value, levels: self.levels })
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Nested { value, levels: self.levels })
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let levels = enter(self.levels, 1)?;
        self.inner.serialize_newtype_variant(name, index, variant, &Nested { value, levels })
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let levels = enter(self.levels, len.unwrap_or(1))?;
        Ok(Bounded { inner: self.inner.serialize_seq(len)?, levels })
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let levels = enter(self.levels, len)?;
        Ok(Bounded { inner: self.inner.serialize_tuple(len)?, levels })
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let levels = enter(self.levels, len)?;
        Ok(Bounded { inner: self.inner.serialize_tuple_struct(name, len)?, levels })
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let levels = enter(enter(self.levels, 1)?, len)?;
        Ok(Bounded {
            inner: self.inner.serialize_tuple_variant(name, index, variant, len)?,
            levels,
        })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let levels = enter(self.levels, len.unwrap_or(1))?;
        Ok(Bounded { inner: self.inner.serialize_map(len)?, levels })
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let levels = enter(self.levels, len)?;
        Ok(Bounded { inner: self.inner.serialize_struct(name, len)?, levels })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let levels = enter(enter(self.levels, 1)?, len)?;
        Ok(Bounded {
            inner: self.inner.serialize_struct_variant(name, index, variant, len)?,
            levels,
        })
    }
}

macro_rules! compounds {
    ($($compound:ident: $put:ident($($name:ident)?),)*) => {
        $(
            impl<C: $compound> $compound for Bounded<C> {
                type Ok = C::Ok;
                type Error = C::Error;

                #[inline]
                fn $put<T: Serialize + ?Sized>(
                    &mut self,
                    $($name: &'static str,)?
                    value: &T,
                ) -> Result<(), C::Error> {
                    self.inner.$put($($name,)? &Nested { value, levels: self.levels })
                }

                #[inline]
                fn end(self) -> Result<C::Ok, C::Error> {
                    self.inner.end()
                }
            }
        )*
    };
}

compounds! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(name),
    SerializeStructVariant: serialize_field(name),
}

impl<C: SerializeMap> SerializeMap for Bounded<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(&Nested { value, levels: self.levels })
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&Nested { value, levels: self.levels })
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::codec::{DEPTH, encode, is_too_deep};

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
        Newtype(Unit),
        Tuple(f32, f64),
        Empty(),
        Struct { value: char },
        Nothing {},
    }

    struct Bytes(&'static [u8]);

    impl Serialize for Bytes {
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

    /// A list that does not know its length beforehand.
    struct Lengthless(u8);

    impl Serialize for Lengthless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(None)?;
            for number in 0..self.0 {
                list.serialize_element(&number)?;
            }
            list.end()
        }
    }

    /// A value in so many lists.
    struct Deep<'a, T>(usize, &'a T);

    impl<T: Serialize> Serialize for Deep<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                0 => self.1.serialize(serializer),
                lists => [Deep(lists - 1, self.1)].serialize(serializer),
            }
        }
    }

    /// It is written as `rmp_serde` writes it, or refused where it can't be read.
    fn check<T: Serialize>(value: &T) {
        let plain = rmp_serde::to_vec_named(value).unwrap();
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        assert_eq!(bytes, plain);
        for lists in DEPTH - 4..DEPTH + 4 {
            let deep = Deep(lists, value);
            let unreadable = is_too_deep(&rmp_serde::to_vec_named(&deep).unwrap());
            let refused = encode(&deep, &mut Vec::new()).is_err();
            assert_eq!(refused, unreadable, "{plain:x?} in {lists} lists");
        }
    }

    #[test]
    fn each_kind_of_value_is_written_as_without_a_limit_up_to_the_limit() {
        check(&(true, 1_i8, 300_i16, -70_000_i32, i64::MIN));
        check(&(1_u8, 300_u16, 70_000_u32, u64::MAX, 'ß', "text", ()));
        check(&(i128::MIN, u128::MAX));
        check(&(Unit, Newtype(1), Pair(1, Newtype(2)), Some(Newtype(3)), None::<u8>));
        let more = BTreeMap::from([("a".to_owned(), Some(1)), ("b".to_owned(), None)]);
        check(&Fields { text: "text".to_owned(), more });
        check(&Variant::Unit);
        check(&Variant::Newtype(Unit));
        check(&Variant::Tuple(0.5, 0.5));
        check(&Variant::Empty());
        check(&Variant::Struct { value: 'c' });
        check(&Variant::Nothing {});
        check(&vec![vec![1, 2], vec![]]);
        check(&BTreeMap::from([(1, vec![BTreeMap::from([(Newtype(1).0, 'c')])]), (2, vec![])]));
        check(&(Bytes(b"\x91\x91"), Shown(1), Lengthless(3)));
    }

    /// Without a limit on the way its stack ended.
    #[test]
    fn a_value_that_never_ends_is_refused() {
        struct Endless;

        impl Serialize for Endless {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_newtype_variant("Endless", 0, "More", self)
            }
        }

        let refused = encode(&Endless, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.to_string(), "depth limit exceeded");
    }
}
