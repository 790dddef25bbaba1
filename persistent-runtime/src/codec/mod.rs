//! The stored form of states and messages: `MessagePack` with named fields, so that fields can be
//! added, removed and reordered.
//!
//! The bytes are those that `rmp_serde` writes in its human-readable form, but for two kinds of nil.
//! The encoder and the decoder are our own, and the tests compare both with `rmp_serde`.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use decoder::Decoder;
use depth::DEPTH;
use encoder::Encoder;

use crate::support::serde::text;

pub use message::decode_message;
pub use read_back::{check, check_decodes};
pub(crate) use {
    buffer::with_buffer,
    nested::{decode_nested, encode_nested},
};

mod buffer;
mod decoder;
mod depth;
mod encoder;
mod message;
mod nested;
mod read_back;

/// The number of the encoding that [`encode`] writes. Stored beside each state.
pub(crate) const FORMAT: u32 = 1;

/// The reason why a state or message has no stored form.
///
/// It could not be [read back](crate::Builder::check_states), its `Serialize` failed or announced a
/// wrong length, it nests lists and maps deeper than 256 levels, or it contains a list, map, text or
/// bytes with a length of more than 32 bits.
#[derive(Debug, Serialize, Deserialize)]
pub struct EncodeError(Box<str>);

impl EncodeError {
    #[cold]
    fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().into())
    }

    /// Returns the error of a value whose `Deserialize` panicked when it was read back.
    #[cold]
    pub(crate) fn panicked(panic: &str) -> Self {
        Self::new(format_args!("reading it back panicked: {panic}"))
    }

    #[cold]
    fn too_deep() -> Self {
        Self::new(TooDeep)
    }
}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for EncodeError {}

/// The reason why stored bytes do not decode as a state or message of the server.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not match the type.
    #[non_exhaustive]
    Malformed {
        /// The path of the field in the value, e.g. `inventory[3].name`, or `.` for the whole
        /// value.
        field: String,
        /// The mismatch.
        #[serde(with = "text")]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Bytes follow after the value.
    #[non_exhaustive]
    Trailing {
        /// The number of these bytes.
        bytes: usize,
    },
    /// The program cannot read the version of the state.
    Version {
        /// The version that the state was stored with.
        stored: u32,
        /// The version that this program writes.
        current: u32,
    },
    /// The `#[restore]` function returned an error; or it, a migration or a `Deserialize` panicked;
    /// or the server's key is not one of its type.
    #[non_exhaustive]
    Restore {
        /// The text of the error, or the panic message.
        reason: String,
    },
    /// This release cannot read the encoding of the state.
    #[non_exhaustive]
    Format {
        /// The number of the encoding that the state was stored with.
        stored: u32,
    },
}

impl DecodeError {
    pub(crate) fn panicked(panic: &str) -> Self {
        Self::Restore { reason: format!("panicked: {panic}") }
    }

    fn malformed(field: String, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Malformed { field, source: source.into() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { field, source } if field == WHOLE => source.fmt(f),
            Self::Malformed { field, source } => write!(f, "at field `{field}`: {source}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes follow after the value"),
            Self::Version { stored, current } if stored > current => write!(
                f,
                "the state has version {stored}, newer than version {current} of this program; \
                 run the newer program"
            ),
            Self::Version { stored, current } => write!(
                f,
                "the state has version {stored}, but this program writes version {current}; add \
                 `#[migrate(from = {stored})]`"
            ),
            Self::Restore { reason } => write!(f, "cannot restore the state: {reason}"),
            Self::Format { stored } => write!(
                f,
                "the state has encoding {stored}, but this release reads encoding {FORMAT}; run \
                 the release that wrote it"
            ),
        }
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Malformed { source, .. } => source.source(),
            _ => None,
        }
    }
}

/// The path of a whole value, as `serde_path_to_error` writes it.
const WHOLE: &str = ".";

/// The cause of both errors if lists and maps are nested deeper than [`DEPTH`].
#[derive(Debug)]
struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lists and maps are nested deeper than {DEPTH} levels")
    }
}

impl Error for TooDeep {}

/// Appends the stored form of `value` to `buffer`.
///
/// # Errors
/// If `value`'s own `Serialize` fails or announces a wrong length, lists and maps are nested so
/// deeply that [`decode`] would reject them, or a length takes more than 32 bits. `buffer` has a part of the value then.
pub fn encode<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    value.serialize(Encoder { bytes: buffer, levels: DEPTH })
}

/// Decodes a value that [`encode`] wrote.
///
/// # Errors
/// If `bytes` are not exactly one `T`. The error names the field.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut rest = bytes;
    match decode_next(&mut rest) {
        Ok(_) if !rest.is_empty() => Err(DecodeError::Trailing { bytes: rest.len() }),
        decoded => decoded,
    }
}

/// Decodes a value at the start of `bytes`, and advances `bytes` past it.
///
/// # Errors
/// If `bytes` don't start with a `T`. The error names the field.
pub fn decode_next<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    match T::deserialize(&mut decoder) {
        Ok(value) => {
            *bytes = decoder.rest();
            Ok(value)
        }
        Err(error) => Err(decoder.explain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, Serialize)]
    enum Chain {
        End,
        Link(Box<Chain>),
        Links { links: Vec<Chain> },
    }

    fn chain(links: usize, link: fn(Chain) -> Chain) -> Chain {
        (0..links).fold(Chain::End, |chain, _| link(chain))
    }

    /// A value of 1024 levels was stored and could not be decoded again, and nested enums
    /// overflowed the stack.
    #[test]
    fn an_encoded_value_decodes_again_and_deep_nesting_is_an_error_in_both_directions() {
        const TEXT: &str = "lists and maps are nested deeper than 256 levels";
        let link: fn(Chain) -> Chain = |chain| Chain::Link(Box::new(chain));
        let links: fn(Chain) -> Chain = |chain| Chain::Links { links: vec![Chain::End, chain] };
        for (link, levels) in [(link, 1), (links, 3)] {
            let most = DEPTH / levels;
            let mut buffer = Vec::new();
            encode(&chain(most - 1, link), &mut buffer).unwrap();
            decode::<Chain>(&buffer).unwrap();
            let refused = encode(&chain(most + 1, link), &mut Vec::new()).unwrap_err();
            assert_eq!(refused.to_string(), TEXT);
        }
        for deep in [&b"\x81\xa4Link"[..], b"\x81\xa5Links\x81\xa5links\x91"] {
            let error = decode::<Chain>(&deep.repeat(100_000)).unwrap_err();
            assert!(error.to_string().contains(TEXT), "{error}");
        }
        // A value that is skipped has the same limit.
        for deep in [&b"\x81\xa4Link"[..], b"\x91", b"\x81\xa0", b"\x81"] {
            let error = decode::<serde::de::IgnoredAny>(&deep.repeat(100_000)).unwrap_err();
            assert!(error.to_string().contains(TEXT), "{error}");
        }
    }

    #[test]
    fn a_decode_error_names_the_field_and_not_the_whole_value() {
        let mut bytes = Vec::new();
        encode(&[("a", 1)], &mut bytes).unwrap();
        let error = decode::<Vec<(String, String)>>(&bytes).unwrap_err();
        assert!(error.to_string().starts_with("at field `[0][1]`: "), "{error}");
        assert!(error.source().is_none(), "the text includes it");
        let error = decode::<u8>(&bytes).unwrap_err();
        assert!(!error.to_string().contains("at field"), "{error}");
    }
}
