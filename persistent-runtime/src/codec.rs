//! The stored form of a state: named `MessagePack`, so that fields can be
//! added, removed and reordered.

use std::{cell::RefCell, error::Error, fmt, mem};

use serde::{Serialize, de::DeserializeOwned};

/// The encoding that [`encode`] writes, stored beside each state.
pub(crate) const FORMAT: u32 = 1;

/// Why a state has no stored form: its own `Serialize` failed.
#[derive(Debug)]
pub struct EncodeError(rmp_serde::encode::Error);

/// Why stored bytes are no state of the server's type.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes don't fit the type.
    Malformed {
        /// Where in the state, `inventory[3].name` say; `.` for the state as a whole.
        field: String,
        /// What was wrong there.
        source: rmp_serde::decode::Error,
    },
    /// A whole state was read and bytes were left over.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The state has a version that this program can't read.
    Version {
        /// The version that the state was stored with.
        stored: u32,
        /// The version that this program writes.
        current: u32,
    },
    /// The `#[restore]` function refused what was stored.
    Restore {
        /// Its error's text.
        reason: String,
    },
    /// The state has an encoding that this release can't read.
    Format {
        /// The encoding that the state was stored with.
        stored: u32,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for EncodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { field, source } => write!(f, "at `{field}`: {source}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes are left over behind the state"),
            Self::Version { stored, current } if stored > current => write!(
                f,
                "the state has version {stored}, newer than this program's {current}; \
                 run the newer program"
            ),
            Self::Version { stored, current } => write!(
                f,
                "the state has version {stored}, this program writes {current}; \
                 add `#[migrate(from = {stored})]`"
            ),
            Self::Restore { reason } => write!(f, "it can't be restored: {reason}"),
            Self::Format { stored } => {
                write!(f, "the state has encoding {stored}, this release reads {FORMAT}")
            }
        }
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Malformed { source, .. } => Some(source),
            _ => None,
        }
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that grew larger than this is not kept.
const KEPT: usize = 1 << 20;

/// Lends an empty buffer that the thread keeps for the next one: cheaper than
/// a fresh one each time. Code that `work` calls may ask for another.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFER.with(|kept| mem::take(&mut *kept.borrow_mut()));
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT {
        BUFFER.with(|kept| *kept.borrow_mut() = buffer);
    }
    result
}

/// Appends the stored form of `value` to `buffer`.
///
/// # Errors
/// If `value`'s own `Serialize` fails.
pub fn encode<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    rmp_serde::encode::write_named(buffer, value).map_err(EncodeError)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// If `bytes` are not exactly one `T`; the error names the field.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut rest = bytes;
    let value = decode_next(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing { bytes: rest.len() }) }
}

/// Reads what [`encode`] wrote at the beginning of `bytes`, which are what
/// follows it then.
///
/// # Errors
/// If `bytes` don't begin with a `T`; the error names the field.
pub fn decode_next<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, DecodeError> {
    let all = *bytes;
    // Where it fails it is read again, keeping track of the path: only failures
    // pay for that.
    T::deserialize(&mut rmp_serde::Deserializer::new(bytes)).map_err(|source| {
        let mut again = rmp_serde::Deserializer::new(all);
        let field = match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Ok(_) => ".".to_owned(),
            Err(error) => error.path().to_string(),
        };
        DecodeError::Malformed { field, source }
    })
}
