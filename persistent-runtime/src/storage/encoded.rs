//! Encoded states in chunks that a state shares with its predecessor.
//!
//! Comparing is much cheaper than copying. So a newly encoded state is compared with its
//! predecessor, and only the chunks that differ are copied. Later comparisons and writes depend on
//! the size of the change, not on that of the state.

#[cfg(feature = "sqlite")]
use std::ops::Range;
use std::{borrow::Cow, fmt, slice, sync::Arc};

/// The size of a chunk in bytes. The last chunk may be shorter.
pub(crate) const CHUNK: usize = 16 << 10;

/// An encoded state. Cloning shares its bytes.
///
/// ```
/// # use persistent_runtime::Encoded;
/// let state = Encoded::from(&b"\x81\xa5count\x03"[..]);
/// assert_eq!(state.len(), 8);
/// assert_eq!(*state.bytes(), *b"\x81\xa5count\x03");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded(Chunks);

#[derive(Clone, PartialEq, Eq)]
enum Chunks {
    /// A state of one chunk.
    One(Arc<[u8]>),
    Many(Arc<Vec<Arc<[u8]>>>),
}

impl Encoded {
    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        sum(self.chunks())
    }

    /// Returns true if there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes in one piece. Copies them if the state has several chunks.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        join(self.chunks())
    }

    /// Returns the bytes in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks().iter().map(|chunk| &**chunk)
    }

    fn chunks(&self) -> &[Arc<[u8]>] {
        match &self.0 {
            Chunks::One(chunk) => slice::from_ref(chunk),
            Chunks::Many(chunks) => chunks,
        }
    }

    /// Returns the encoded state `bytes`, sharing the chunks that are equal. Returns a clone of
    /// `self` if all are.
    pub(crate) fn followed_by(&self, bytes: &[u8]) -> Self {
        let old = self.chunks();
        let mut shared = 0;
        let chunk = |(nth, bytes): (usize, &[u8])| match old.get(nth) {
            Some(old) if **old == *bytes => {
                shared += 1;
                old.clone()
            }
            _ => bytes.into(),
        };
        let new = Self::of(bytes, chunk);
        if shared == old.len() && shared == new.chunks().len() { self.clone() } else { new }
    }

    /// Splits `bytes` into chunks.
    fn of(bytes: &[u8], chunk: impl FnMut((usize, &[u8])) -> Arc<[u8]>) -> Self {
        let mut chunk = chunk;
        Self(if bytes.len() <= CHUNK {
            Chunks::One(chunk((0, bytes)))
        } else {
            Chunks::Many(Arc::new(bytes.chunks(CHUNK).enumerate().map(chunk).collect()))
        })
    }

    /// Pointer equality: returns true if both share one allocation.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Chunks::One(one), Chunks::One(other)) => Arc::ptr_eq(one, other),
            (Chunks::Many(one), Chunks::Many(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Returns the difference from `old`.
    #[cfg(feature = "sqlite")]
    pub(crate) fn difference(&self, old: &Self) -> Difference<'_> {
        let (old_chunks, chunks) = (old.chunks(), self.chunks());
        let same = |(one, other): &(&Arc<[u8]>, &Arc<[u8]>)| Arc::ptr_eq(one, other);
        let first = old_chunks.iter().zip(chunks).take_while(same).count();
        let (old_tail, tail) = (&old_chunks[first..], &chunks[first..]);
        // Chunks at the end are aligned only if the length is the same.
        let last = if self.len() == old.len() {
            old_tail.iter().rev().zip(tail.iter().rev()).take_while(same).count()
        } else {
            0
        };
        let old_part = join(&old_tail[..old_tail.len() - last]);
        let part = join(&tail[..tail.len() - last]);
        let (start, end) = common(&old_part, &part);
        let (before, behind) = (sum(&chunks[..first]), sum(&tail[tail.len() - last..]));
        let changed = start..part.len() - end;
        Difference { start: before + start, end: behind + end, part, changed }
    }
}

/// The bytes of a state that replace some bytes of an older state.
#[cfg(feature = "sqlite")]
pub(crate) struct Difference<'a> {
    /// Length of the common prefix.
    pub(crate) start: usize,
    /// Length of the common suffix. Prefix and suffix never overlap.
    pub(crate) end: usize,
    part: Cow<'a, [u8]>,
    changed: Range<usize>,
}

#[cfg(feature = "sqlite")]
impl Difference<'_> {
    /// Returns the bytes between the prefix and the suffix.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.part[self.changed.clone()]
    }
}

fn sum(chunks: &[Arc<[u8]>]) -> usize {
    chunks.iter().map(|chunk| chunk.len()).sum()
}

fn join(chunks: &[Arc<[u8]>]) -> Cow<'_, [u8]> {
    match chunks {
        [] => Cow::Borrowed(&[]),
        [chunk] => Cow::Borrowed(chunk),
        chunks => Cow::Owned(chunks.concat()),
    }
}

/// Returns the lengths of the common prefix and suffix, which do not overlap in either.
#[cfg(feature = "sqlite")]
fn common(old: &[u8], new: &[u8]) -> (usize, usize) {
    /// Comparing whole blocks is many times faster than comparing bytes.
    const BLOCK: usize = 1024;
    let blocks = old.chunks_exact(BLOCK).zip(new.chunks_exact(BLOCK));
    let start = blocks.take_while(|(old, new)| old == new).count() * BLOCK;
    let bytes = old[start..].iter().zip(&new[start..]);
    let start = start + bytes.take_while(|(old, new)| old == new).count();
    let blocks = old[start..].rchunks_exact(BLOCK).zip(new[start..].rchunks_exact(BLOCK));
    let end = blocks.take_while(|(old, new)| old == new).count() * BLOCK;
    let (old, new) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    let bytes = old.iter().rev().zip(new.iter().rev());
    (start, end + bytes.take_while(|(old, new)| old == new).count())
}

impl From<&[u8]> for Encoded {
    fn from(bytes: &[u8]) -> Self {
        Self::of(bytes, |(_, bytes)| bytes.into())
    }
}

impl From<Vec<u8>> for Encoded {
    fn from(bytes: Vec<u8>) -> Self {
        bytes[..].into()
    }
}

/// Shows the size only: states may hold secrets.
impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    fn shared(one: &Encoded, other: &Encoded) -> usize {
        let chunks = one.chunks().iter().zip(other.chunks());
        chunks.filter(|(one, other)| Arc::ptr_eq(one, other)).count()
    }

    /// Combines states of every relevant size with every kind of change.
    #[test]
    fn a_difference_leads_from_each_state_to_the_next() {
        let bytes =
            |size: usize| (0..size).map(|n| (n * n / 7).to_le_bytes()[0]).collect::<Vec<_>>();
        let sizes = [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 4 * CHUNK + 5];
        for size in sizes {
            let old_bytes = bytes(size);
            let old = Encoded::from(&old_bytes[..]);
            assert_eq!((old.len(), &old.bytes()[..]), (size, &old_bytes[..]));
            assert_eq!(old.pieces().collect::<Vec<_>>().concat(), old_bytes);
            let mut news: Vec<_> = sizes.into_iter().map(bytes).collect();
            for at in [0, size / 2, size.saturating_sub(1)] {
                let (head, tail) = old_bytes.split_at(at);
                news.push([head, b"put in", tail].concat());
                news.push([head, tail.get(1..).unwrap_or_default()].concat());
                news.push([head, b"!", tail.get(1..).unwrap_or_default()].concat());
            }
            for new_bytes in &news {
                let new = old.followed_by(new_bytes);
                assert_eq!(&new.bytes()[..], &new_bytes[..]);
                assert!(new == Encoded::from(&new_bytes[..]), "the chunks have the same bounds");
                assert_eq!(new.is(&old), *new_bytes == old_bytes);
                let difference = new.difference(&old);
                let end = old_bytes.len() - difference.end;
                let led = [&old_bytes[..difference.start], difference.bytes(), &old_bytes[end..]];
                assert_eq!(led.concat(), *new_bytes);
            }
        }
    }

    #[test]
    fn a_small_change_of_a_large_state_copies_one_chunk() {
        let mut bytes = vec![7; 10 * CHUNK + 5];
        let old = Encoded::from(&bytes[..]);
        bytes[3 * CHUNK + 9] = 8;
        let new = old.followed_by(&bytes);
        assert_eq!(shared(&old, &new), 10, "of 11");
        let difference = new.difference(&old);
        assert_eq!((difference.start, difference.bytes()), (3 * CHUNK + 9, &[8][..]));
        bytes.push(9);
        let longer = new.followed_by(&bytes);
        assert_eq!(shared(&new, &longer), 10, "of 11");
        assert_eq!(longer.difference(&new).bytes(), [9]);
    }

    #[test]
    fn a_difference_excludes_the_common_prefix_and_suffix() {
        let long = vec![1; 5000];
        let changed = |at: usize| {
            let mut changed = long.clone();
            changed[at] = 2;
            changed
        };
        for (old, new, expected) in [
            (&b""[..], &b""[..], (0, 0)),
            (b"abc", b"abc", (3, 0)),
            (b"abc", b"", (0, 0)),
            (b"", b"abc", (0, 0)),
            (b"abc", b"axc", (1, 1)),
            (b"aaa", b"aa", (2, 0)),
            (b"ab", b"aab", (1, 1)),
            (&long, &changed(0), (0, 4999)),
            (&long, &changed(2500), (2500, 2499)),
            (&long, &changed(4999), (4999, 0)),
            (&long, &long[..3000], (3000, 0)),
        ] {
            assert_eq!(common(old, new), expected);
        }
    }
}
