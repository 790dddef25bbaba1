//! Checksums that detect damaged rows.

/// A checksum over numbers and byte strings, fed in a fixed order.
///
/// Detects every change that is confined to eight bytes, and misses any other with a probability
/// of 2^-64. It does not protect against deliberate changes.
pub struct Checksum(u64);

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
        let (words, tail) = bytes.as_chunks::<8>();
        let sum = words.iter().fold(self.number(bytes.len() as u64), |sum, word| {
            sum.number(u64::from_le_bytes(*word))
        });
        tail.iter().fold(sum, |sum, byte| sum.number((*byte).into()))
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
        ];
        for (at, sum) in sums.iter().enumerate() {
            assert!(!sums[..at].contains(sum), "{at}");
        }
    }
}
