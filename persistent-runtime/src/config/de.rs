//! Deserialization of configuration: durations as text, and errors with the path of the key.
//!
//! A duration is written as `"500ms"` or `"1m 30s"`. The functions are for `#[serde(with)]`.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, Unexpected, Visitor},
};

pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text { or_never: false })
}

/// The same, with [`Duration::MAX`] written as `"never"`.
pub(crate) mod or_never {
    use super::{Deserializer, Duration, NEVER, Serializer, Text};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if *duration == Duration::MAX {
            serializer.serialize_str(NEVER)
        } else {
            super::serialize(duration, serializer)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(Text { or_never: true })
    }
}

const NEVER: &str = "never";

struct Text {
    or_never: bool,
}

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"500ms\" or \"1m 30s\"")?;
        if self.or_never { write!(f, ", or \"{NEVER}\"") } else { Ok(()) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        if self.or_never && text == NEVER {
            return Ok(Duration::MAX);
        }
        humantime::parse_duration(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Deserializes a value. Errors begin with the path of the key that caused them.
pub(crate) fn with_path<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    serde_path_to_error::deserialize(deserializer).map_err(D::Error::custom)
}
