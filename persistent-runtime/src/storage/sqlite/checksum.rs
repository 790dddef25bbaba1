//! Checksums that detect damaged rows.

use std::array;

/// A checksum over numbers and byte strings, fed in a fixed order.
///
/// Detects every change that is confined to eight bytes, and misses any other with a probability
/// of 2^-64. It does not protect against deliberate changes.
#[derive(Clone, Copy)]
pub struct Checksum(u64);

/// The words of a block.
const LANES: usize = 4;

impl Checksum {
    pub fn new() -> Self {
        // Not zero: a page of zeros must not verify.
        Self(1)
    }

    pub fn number(self, number: u64) -> Self {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        Self((self.0.rotate_left(23) ^ number).wrapping_mul(FACTOR))
    }

    /// Adds bytes with their length, so that moving a byte to the neighbouring string changes the
    /// checksum.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let start = self.number(bytes.len() as u64);
        let (words, tail) = bytes.as_chunks::<8>();
        let (blocks, words) = words.as_chunks::<LANES>();
        let sum = if blocks.is_empty() { start } else { start.blocks(blocks) };
        let add = |sum: Self, word: &[u8; 8]| sum.number(u64::from_le_bytes(*word));
        let sum = words.iter().fold(sum, add);
        tail.iter().fold(sum, |sum, byte| sum.number((*byte).into()))
    }

    /// Adds each word of a block to a checksum of its own. They do not wait for each other.
    fn blocks(self, blocks: &[[[u8; 8]; LANES]]) -> Self {
        let mut lanes: [Self; LANES] = array::from_fn(|lane| self.number(lane as u64));
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block) {
                *lane = lane.number(u64::from_le_bytes(*word));
            }
        }
        lanes.into_iter().fold(self, |sum, lane| sum.number(lane.0))
    }

    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_inputs_have_different_checksums() {
        let of = |parts: &[&[u8]]| {
            parts.iter().fold(Checksum::new(), |sum, part| sum.bytes(part)).value()
        };
        let sums = [
            of(&[b"12345678", b"9"]),
            of(&[b"123456789"]),
            of(&[b"123456789", b""]),
            of(&[b"", b"123456789"]),
            of(&[b"1234567", b"89"]),
            of(&[b"9", b"12345678"]),
            of(&[b"12345678", b"\09"]),
            of(&[b"12345678", b"9\0"]),
            of(&[&[0; 31]]),
            of(&[&[0; 32]]),
            of(&[&[0; 33]]),
            of(&[&[0; 64]]),
            of(&[&[0; 32], &[0; 32]]),
        ];
        for (at, sum) in sums.iter().enumerate() {
            assert!(!sums[..at].contains(sum), "{at}");
        }
    }

    #[test]
    fn each_flipped_bit_and_each_swap_of_words_changes_the_checksum() {
        let mut bytes: Vec<u8> = (0..107).collect();
        let sum = |bytes: &[u8]| Checksum::new().bytes(bytes).value();
        let whole = sum(&bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(&bytes), whole, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for one in 0..13 {
            for other in 0..one {
                let mut swapped = bytes.clone();
                for byte in 0..8 {
                    swapped.swap(one * 8 + byte, other * 8 + byte);
                }
                assert_ne!(sum(&swapped), whole, "words {one} and {other}");
            }
        }
    }
}
