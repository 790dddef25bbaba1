//! The stored form of a state: named `MessagePack`, so that fields can be
//! added, removed and reordered.

use std::{cell::Cell, error::Error, fmt};

use serde::{Serialize, de::DeserializeOwned};

use encoder::Encoder;

mod encoder;

/// The encoding that [`encode`] writes, stored beside each state.
pub(crate) const FORMAT: u32 = 1;

/// Why a state has no stored form: its own `Serialize` failed, or what it has can't
/// be stored.
#[derive(Debug)]
pub struct EncodeError(Box<str>);

impl EncodeError {
    #[cold]
    fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }
}

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

impl Error for EncodeError {}

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
    static BUFFER: Cell<Buffer> = const { Cell::new(Buffer { bytes: Vec::new(), spared: 0 }) };
}

/// What a thread keeps for what it encodes.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many in a row needed far less of it than there is.
    spared: u32,
}

impl Buffer {
    /// What is left of it once what it has is of no use.
    fn kept(mut self) -> Self {
        let (used, capacity) = (self.bytes.len(), self.bytes.capacity());
        self.spared = if used < capacity / 4 { self.spared.saturating_add(1) } else { 0 };
        if capacity > MOST || capacity > FREE && self.spared >= PATIENCE {
            return Self::default();
        }
        self.bytes.clear();
        self
    }
}

/// A buffer that has grown larger than this is not kept.
const MOST: usize = 16 << 20;
/// One that has not is kept, whatever it is used for.
const FREE: usize = 64 << 10;
/// Any other is given up when it was so often far too large: an encoding that
/// finds none of its size pays for new memory, page by page.
const PATIENCE: u32 = 64;

/// Lends an empty buffer that the thread keeps for the next one: cheaper than
/// a fresh one each time. Code that `work` calls may ask for another.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFER.take();
    let result = work(&mut buffer.bytes);
    BUFFER.set(buffer.kept());
    result
}

/// Appends the stored form of `value` to `buffer`.
///
/// # Errors
/// If `value`'s own `Serialize` fails, lists and maps are nested so deep that
/// [`decode`] would refuse them, or a length takes more than 32 bits.
pub fn encode<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    value.serialize(Encoder { bytes: buffer, levels: DEPTH })
}

/// How deep lists and maps may be nested. Reading is recursive, and the stack of
/// a thread has an end: this many fit, also without optimizations.
const DEPTH: usize = 256;

/// Whether lists and maps are nested too deep in the value that `bytes` begin
/// with. Bytes that are no value are for the decoder to refuse.
fn is_too_deep(bytes: &[u8]) -> bool {
    // Each list and map takes a byte at least.
    if bytes.len() <= DEPTH {
        return false;
    }
    // How many values are still to come here, and in each list and map around.
    let (mut left, mut around) = (1_u64, Vec::new());
    let mut rest = bytes;
    while let Some((&marker, behind)) = rest.split_first() {
        let number = |bytes: usize| -> u64 {
            let digits = behind.iter().take(bytes);
            digits.fold(0, |number, digit| number << 8 | u64::from(*digit))
        };
        // What the marker has behind it: bytes, then values.
        let (bytes, values) = match marker {
            0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
            0x90..=0x9f => (0, u64::from(marker & 0x0f)),
            0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
            0xc4 | 0xd9 => (1 + number(1), 0),
            0xc5 | 0xda => (2 + number(2), 0),
            0xc6 | 0xdb => (4 + number(4), 0),
            0xc7 => (2 + number(1), 0),
            0xc8 => (3 + number(2), 0),
            0xc9 => (5 + number(4), 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 | 0xd4 => (2, 0),
            0xd5 => (3, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xd6 => (5, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd7 => (9, 0),
            0xd8 => (17, 0),
            0xdc => (2, number(2)),
            0xdd => (4, number(4)),
            0xde => (2, 2 * number(2)),
            0xdf => (4, 2 * number(4)),
            _ => (0, 0),
        };
        let Some(next) = usize::try_from(bytes).ok().and_then(|bytes| behind.get(bytes..)) else {
            return false;
        };
        rest = next;
        left -= 1;
        if values > 0 {
            if around.len() == DEPTH {
                return true;
            }
            around.push(left);
            left = values;
        }
        while left == 0 {
            let Some(outer) = around.pop() else {
                return false;
            };
            left = outer;
        }
    }
    false
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
    if is_too_deep(all) {
        let source = rmp_serde::decode::Error::DepthLimitExceeded;
        return Err(DecodeError::Malformed { field: ".".to_owned(), source });
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    /// What was stored could not be read again from 1024 lists and maps on, and
    /// enums had the stack overflow.
    #[test]
    fn what_is_encoded_can_be_decoded_and_what_is_too_deep_is_neither() {
        let link: fn(Chain) -> Chain = |chain| Chain::Link(Box::new(chain));
        let links: fn(Chain) -> Chain = |chain| Chain::Links { links: vec![Chain::End, chain] };
        for (link, levels) in [(link, 1), (links, 3)] {
            let most = DEPTH / levels;
            let mut buffer = Vec::new();
            encode(&chain(most - 1, link), &mut buffer).unwrap();
            decode::<Chain>(&buffer).unwrap();
            let refused = encode(&chain(most + 1, link), &mut Vec::new()).unwrap_err();
            assert_eq!(refused.to_string(), "depth limit exceeded");
        }
        for deep in [&b"\x81\xa4Link"[..], b"\x81\xa5Links\x81\xa5links\x91", b"\x91", b"\x81\xa0"]
        {
            let error = decode::<Chain>(&deep.repeat(100_000)).unwrap_err();
            assert!(error.to_string().contains("depth limit exceeded"), "{error}");
        }
    }

    #[test]
    fn a_large_buffer_is_kept_for_as_long_as_it_is_of_use() {
        let encode = |size: usize| {
            with_buffer(|buffer| {
                assert!(buffer.is_empty());
                let found = buffer.capacity();
                buffer.resize(size, 0);
                found
            })
        };
        encode(4 << 20);
        for _ in 1..PATIENCE {
            assert!(encode(100) >= 4 << 20);
        }
        assert!(encode(4 << 20) >= 4 << 20, "one that needed it has begun the count anew");
        for _ in 0..PATIENCE {
            assert!(encode(100) >= 4 << 20);
        }
        assert_eq!(encode(FREE), 0);
        for _ in 0..2 * PATIENCE {
            assert_eq!(encode(100), FREE);
        }
        encode(MOST + 1);
        assert_eq!(encode(100), 0);
    }

    /// The look at the depth skips each value exactly: what is behind it tells.
    #[test]
    fn every_value_is_known_by_its_length() {
        let text = |length: usize| rmp_serde::to_vec(&"x".repeat(length)).unwrap();
        let mut values = vec![text(3), text(31), text(32), text(255), text(256), text(70_000)];
        for number in [0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX] {
            values.push(rmp_serde::to_vec(&number).unwrap());
            values.push(rmp_serde::to_vec(&-(number.cast_signed() >> 1)).unwrap());
        }
        values.extend([rmp_serde::to_vec(&0.5_f32).unwrap(), rmp_serde::to_vec(&0.5_f64).unwrap()]);
        values.extend([vec![0xc0], vec![0xc2], vec![0xc3], vec![0x80], vec![0x90]]);
        for (marker, bytes) in [(0xc4, 1), (0xc5, 2), (0xc6, 4)] {
            let length = [vec![0; bytes - 1], vec![7]].concat();
            values.push([vec![marker], length.clone(), vec![0x91; 7]].concat());
            values.push([vec![marker + 3], length, vec![1], vec![0x91; 7]].concat());
        }
        for (marker, bytes) in (0xd4..=0xd8).zip([1, 2, 4, 8, 16]) {
            values.push([vec![marker, 1], vec![0x91; bytes]].concat());
        }
        for list in [0, 15, 16, 70_000_usize] {
            values.push(rmp_serde::to_vec(&vec![1; list]).unwrap());
            let map: BTreeMap<usize, bool> = (0..list).map(|n| (n, true)).collect();
            values.push(rmp_serde::to_vec(&map).unwrap());
        }
        for value in values {
            let deep = [vec![0x91; DEPTH - 1], vec![0x92], value.clone(), vec![0x91]].concat();
            let head = &value[..value.len().min(8)];
            assert!(is_too_deep(&deep), "{head:x?}");
            let flat = [vec![0x91; DEPTH - 2], vec![0x92], value.clone(), vec![0xc0]].concat();
            assert!(!is_too_deep(&flat), "{head:x?}");
        }
    }
}
