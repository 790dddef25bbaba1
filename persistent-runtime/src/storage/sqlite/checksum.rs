//! What tells that stored bytes are no longer those that were written.

/// A checksum of numbers and bytes, in an order that their reader knows.
///
/// Any change within eight bytes of them changes it, and whatever else happens to
/// them leaves it as it is once in 2^64 times. It is no protection against one who
/// knows it.
pub struct Checksum(u64);

impl Checksum {
    pub fn new() -> Self {
        // Not zero: a page of zeros must not be right.
        Self(1)
    }

    pub fn number(self, number: u64) -> Self {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        Self((self.0.rotate_left(23) ^ number).wrapping_mul(FACTOR))
    }

    /// The bytes behind their length, so that none can pass for its neighbour's.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let sum = words.iter().fold(self.number(bytes.len() as u64), |sum, word| {
            sum.number(u64::from_le_bytes(*word))
        });
        rest.iter().fold(sum, |sum, byte| sum.number((*byte).into()))
    }

    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_was_written_from_all_that_is_like_it() {
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
        ];
        for (at, sum) in sums.iter().enumerate() {
            assert!(!sums[..at].contains(sum), "{at}");
        }
    }
}
