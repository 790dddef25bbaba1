//! Stored messages, whose methods may have other arguments by now.

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{DecodeError, decode, decode_next, encode};

/// A map with one entry: the name of a message, and its arguments.
const MAP_OF_ONE: u8 = 0x81;
/// No arguments.
const EMPTY_MAP: u8 = 0x80;

/// Decodes a message at the start of `bytes`, and advances `bytes` past it.
///
/// A message without arguments is stored as its name alone. So a method that got its first argument,
/// or lost its last one, takes another form than the stored one. This function reads both.
///
/// # Errors
/// If `bytes` do not start with an `M` in either form.
pub fn decode_message<M: DeserializeOwned>(bytes: &mut &[u8]) -> Result<M, DecodeError> {
    let stored = *bytes;
    decode_next(bytes).or_else(|error| match in_other_form(stored) {
        Ok((other, rest)) => {
            let message = decode(&other).map_err(|_| error)?;
            *bytes = rest;
            Ok(message)
        }
        Err(_) => Err(error),
    })
}

/// Returns the other form of the message at the start of `bytes`, and what follows it.
fn in_other_form(bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), DecodeError> {
    let (mut rest, mut other) = (bytes, Vec::new());
    if let Some((&MAP_OF_ONE, content)) = bytes.split_first() {
        rest = content;
        let name: String = decode_next(&mut rest)?;
        decode_next::<IgnoredAny>(&mut rest)?;
        // A text always encodes.
        let _ = encode(&name, &mut other);
    } else {
        let name: String = decode_next(&mut rest)?;
        other.push(MAP_OF_ONE);
        let _ = encode(&name, &mut other);
        other.push(EMPTY_MAP);
    }
    Ok((other, rest))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Before {
        Ring,
        Stop { now: bool },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum After {
        Ring {
            #[serde(default)]
            loud: Option<bool>,
        },
        Stop,
    }

    fn read<M: DeserializeOwned>(message: &impl Serialize) -> (Result<M, DecodeError>, usize) {
        let mut bytes = Vec::new();
        encode(message, &mut bytes).unwrap();
        bytes.push(EMPTY_MAP);
        let mut rest = &bytes[..];
        (decode_message(&mut rest), rest.len())
    }

    #[test]
    fn a_first_argument_may_be_added_and_a_last_one_removed() {
        let (ring, stop) = (After::Ring { loud: None }, Before::Stop { now: true });
        assert_eq!((read(&Before::Ring).0.unwrap(), read::<After>(&Before::Ring).1), (ring, 1));
        assert_eq!((read(&stop).0.unwrap(), read::<After>(&stop).1), (After::Stop, 1));
        let (refused, rest) = read::<Before>(&After::Stop);
        assert!(refused.unwrap_err().to_string().contains("struct variant"));
        assert_eq!(rest, 6, "nothing is consumed");
    }
}
