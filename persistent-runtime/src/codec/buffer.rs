//! One reusable buffer per thread for encoding.
//!
//! An encoding into fresh memory of some size pays for page faults. The buffer is therefore kept
//! between encodings, within limits:
//!
//! 1. A buffer of up to [`FREE`] bytes is always kept.
//! 2. A larger one is kept until [`MAX_UNUSED`] encodings in a row needed less than a quarter.
//! 3. A buffer of more than [`MAX`] bytes is never kept.

use std::cell::Cell;

thread_local! {
    static BUFFER: Cell<Buffer> = const { Cell::new(Buffer { bytes: Vec::new(), unused: 0 }) };
}

/// The limit above which a buffer is not kept.
const MAX: usize = 16 << 20;
/// The limit up to which a buffer is kept unconditionally.
const FREE: usize = 64 << 10;
/// The number of encodings in a row that may need less than a quarter of a buffer larger than [`FREE`].
const MAX_UNUSED: u32 = 64;

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// The number of encodings in a row that needed less than a quarter of the capacity.
    unused: u32,
}

impl Buffer {
    /// Empties the buffer after use, and frees it according to the limits.
    fn recycle(mut self) -> Self {
        let (used, capacity) = (self.bytes.len(), self.bytes.capacity());
        self.unused = if used < capacity / 4 { self.unused.saturating_add(1) } else { 0 };
        if capacity > MAX || capacity > FREE && self.unused >= MAX_UNUSED {
            return Self::default();
        }
        self.bytes.clear();
        self
    }
}

/// Calls `work` with the thread's buffer, which is empty.
///
/// Reentrant: a nested call gets a buffer of its own.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFER.take();
    let result = work(&mut buffer.bytes);
    BUFFER.set(buffer.recycle());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_kept_while_encodings_need_it() {
        let encode = |size: usize| {
            with_buffer(|buffer| {
                assert!(buffer.is_empty());
                let found = buffer.capacity();
                buffer.resize(size, 0);
                found
            })
        };
        encode(4 << 20);
        for _ in 1..MAX_UNUSED {
            assert!(encode(100) >= 4 << 20);
        }
        assert!(encode(4 << 20) >= 4 << 20, "an encoding that needs the buffer resets the count");
        for _ in 0..MAX_UNUSED {
            assert!(encode(100) >= 4 << 20);
        }
        assert_eq!(encode(FREE), 0);
        for _ in 0..2 * MAX_UNUSED {
            assert_eq!(encode(100), FREE);
        }
        encode(MAX + 1);
        assert_eq!(encode(100), 0);
    }
}
