//! Values that are encoded on their own within another value. If one does not decode, the rest of
//! the other still does.

use std::cell::Cell;

use serde::{Serialize, de::DeserializeOwned};

use super::{DecodeError, EncodeError, TooDeep, WHOLE, decode, encode, read_back::check};

thread_local! {
    static NESTED: Cell<usize> = const { Cell::new(0) };
}

/// The number of values that may be nested in this way. Each has its own levels of lists and maps,
/// and the stack has to hold them all.
const MAX_NESTED: usize = 4;

/// Counts a nested value until it is dropped.
struct Nested;

impl Nested {
    fn enter() -> Option<Self> {
        let nested = NESTED.get();
        (nested < MAX_NESTED).then(|| {
            NESTED.set(nested + 1);
            Self
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        NESTED.set(NESTED.get() - 1);
    }
}

/// Encodes a value that is to be part of another one. A program with debug assertions checks that it
/// can be read back: a check of the other one would not find that.
///
/// # Errors
/// As for [`encode`], or if the check fails.
pub(crate) fn encode_nested<T: Serialize + DeserializeOwned>(
    value: &T,
) -> Result<Vec<u8>, EncodeError> {
    let _nested = Nested::enter().ok_or_else(EncodeError::too_deep)?;
    let mut bytes = Vec::new();
    encode(value, &mut bytes)?;
    if cfg!(debug_assertions) {
        check(&bytes, decode::<T>, encode::<T>)?;
    }
    Ok(bytes)
}

/// Decodes a value that [`encode_nested`] wrote.
///
/// # Errors
/// As for [`decode`].
pub(crate) fn decode_nested<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let nested = Nested::enter();
    let _nested = nested.ok_or_else(|| DecodeError::malformed(WHOLE.to_owned(), TooDeep))?;
    decode(bytes)
}
