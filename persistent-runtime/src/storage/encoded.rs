//! The stored form of a state, in chunks that it shares with the state before it.
//!
//! To compare is much cheaper than to copy. So a state that has been encoded is
//! compared with its last stored form, and what is copied of it, compared again and
//! written is about the change, and not the state.

use std::{borrow::Cow, fmt, ops::Range, slice, sync::Arc};

/// How many bytes a chunk has, but for the last one.
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
    /// Of a state that has no more than one.
    One(Arc<[u8]>),
    Many(Arc<Vec<Arc<[u8]>>>),
}

impl Encoded {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        sum(self.chunks())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of the bytes in one piece; those of a large state are copied for it.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        join(self.chunks())
    }

    /// The bytes, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks().iter().map(|chunk| &**chunk)
    }

    fn chunks(&self) -> &[Arc<[u8]>] {
        match &self.0 {
            Chunks::One(chunk) => slice::from_ref(chunk),
            Chunks::Many(chunks) => chunks,
        }
    }

    /// The stored form that follows this one; this one itself, if it is `bytes`.
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

    /// Cuts `bytes` into chunks.
    fn of(bytes: &[u8], chunk: impl FnMut((usize, &[u8])) -> Arc<[u8]>) -> Self {
        let mut chunk = chunk;
        Self(if bytes.len() <= CHUNK {
            Chunks::One(chunk((0, bytes)))
        } else {
            Chunks::Many(Arc::new(bytes.chunks(CHUNK).enumerate().map(chunk).collect()))
        })
    }

    /// Whether this is `other` itself, and not one that is equal at most.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Chunks::One(one), Chunks::One(other)) => Arc::ptr_eq(one, other),
            (Chunks::Many(one), Chunks::Many(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Where this differs from `old`.
    pub(crate) fn difference(&self, old: &Self) -> Difference<'_> {
        let (old_chunks, chunks) = (old.chunks(), self.chunks());
        let same = |(one, other): &(&Arc<[u8]>, &Arc<[u8]>)| Arc::ptr_eq(one, other);
        let first = old_chunks.iter().zip(chunks).take_while(same).count();
        let (old_rest, rest) = (&old_chunks[first..], &chunks[first..]);
        // From behind, chunks are aligned only where nothing was put in or taken out.
        let last = if self.len() == old.len() {
            old_rest.iter().rev().zip(rest.iter().rev()).take_while(same).count()
        } else {
            0
        };
        let old_part = join(&old_rest[..old_rest.len() - last]);
        let part = join(&rest[..rest.len() - last]);
        let (start, end) = common(&old_part, &part);
        let (before, behind) = (sum(&chunks[..first]), sum(&rest[rest.len() - last..]));
        let changed = start..part.len() - end;
        Difference { start: before + start, end: behind + end, part, changed }
    }
}

/// What a state has in place of some bytes of an older one.
pub(crate) struct Difference<'a> {
    /// How many bytes at the start are as before.
    pub(crate) start: usize,
    /// How many at the end; none of both.
    pub(crate) end: usize,
    part: Cow<'a, [u8]>,
    changed: Range<usize>,
}

impl Difference<'_> {
    /// Those between.
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

/// How many bytes at the start and at the end are equal; they overlap in neither.
fn common(old: &[u8], new: &[u8]) -> (usize, usize) {
    /// Whole blocks are compared at once, which is many times faster.
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

/// States may hold secrets: their size is all that is shown.
impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(one: &Encoded, other: &Encoded) -> usize {
        let chunks = one.chunks().iter().zip(other.chunks());
        chunks.filter(|(one, other)| Arc::ptr_eq(one, other)).count()
    }

    /// States of every size that matters, and what may become of them.
    #[test]
    fn a_state_is_what_came_and_a_difference_leads_from_one_to_the_next() {
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
                assert!(new == Encoded::from(&new_bytes[..]), "it is cut at the same places");
                assert_eq!(new.is(&old), *new_bytes == old_bytes);
                let difference = new.difference(&old);
                let end = old_bytes.len() - difference.end;
                let led = [&old_bytes[..difference.start], difference.bytes(), &old_bytes[end..]];
                assert_eq!(led.concat(), *new_bytes);
            }
        }
    }

    #[test]
    fn a_small_change_of_a_large_state_is_one_chunk_and_a_small_difference() {
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
    fn a_difference_leaves_out_all_that_is_equal_at_both_ends() {
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
