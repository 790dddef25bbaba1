//! Options from environment variables, as documented at
//! [`Builder::environment`](crate::Builder::environment).

use std::iter;

use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, IntoDeserializer, Unexpected, Visitor,
        value::{Error, MapAccessDeserializer, MapDeserializer},
    },
    forward_to_deserialize_any,
};

use crate::{config::file::Config, config::options::Options, error::OptionsError};

/// Returns the form of a server type's stored name in the name of a variable.
pub(super) fn variable_name(server: &str) -> String {
    let in_variable =
        |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    server.chars().map(in_variable).collect()
}

/// Reads the options from all variables that begin with `prefix` and an underscore. The names of
/// servers have the form of [`variable_name`].
pub(crate) fn read(
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, OptionsError> {
    let mut config = Config::default();
    for (variable, value) in variables {
        let rest = variable.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
        let Some(rest) = rest else { continue };
        // No option begins with an underscore, so the last two separate server and option. The
        // stored name may contain underscores itself.
        let server = rest.strip_prefix('_').and_then(|rest| rest.rsplit_once("__"));
        let option = server.map_or(rest, |(_, option)| option);
        let invalid = |reason| OptionsError::new(variable.clone(), reason);
        if rest != variable_name(rest) {
            let reason = "write the name of the variable in capitals, digits and underscores";
            return Err(invalid(reason.to_owned()));
        }
        let options = options(option, &value).map_err(invalid)?;
        match server {
            Some((name, _)) => config.set_server(name.to_owned(), options),
            None => config.set_defaults(options),
        }
    }
    Ok(config)
}

/// Reads one option.
fn options(name: &str, value: &str) -> Result<Options, String> {
    let fields = iter::once((name.to_ascii_lowercase(), Text(value)));
    let options = Options::deserialize(MapDeserializer::<_, Error>::new(fields))
        .map_err(|error| error.to_string())?;
    options.check()?;
    Ok(options)
}

/// The deserializer of a variable's value: text, a number, `true` or `false`, or `key=value,key=value`.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn parse<'de, V: Visitor<'de>, T: std::str::FromStr>(
        self,
        visitor: V,
        visit: impl FnOnce(V, T) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        match self.0.parse() {
            Ok(value) => visit(visitor, value),
            Err(_) => Err(Error::invalid_value(Unexpected::Str(self.0), &visitor)),
        }
    }

    fn fields(self) -> Result<Vec<(&'a str, Self)>, Error> {
        let field = |field: &'a str| {
            let (key, value) = field.split_once('=').ok_or_else(|| {
                Error::custom(format_args!("`{field}` should have the form key=value"))
            })?;
            Ok((key.trim(), Self(value.trim())))
        };
        self.0.split(',').map(field).collect()
    }
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.parse(visitor, V::visit_bool)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.parse(visitor, V::visit_u32)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.parse(visitor, V::visit_u64)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.parse(visitor, V::visit_f64)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::new(self.fields()?.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.0.contains('=') {
            let fields = MapDeserializer::new(self.fields()?.into_iter());
            visitor.visit_enum(MapAccessDeserializer::new(fields))
        } else {
            visitor.visit_enum(self.0.into_deserializer())
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
