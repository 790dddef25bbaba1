//! The limit on the nesting of lists and maps.
//!
//! Decoding is recursive, so deep nesting overflows the stack, which aborts the process.
//! `rmp_serde` has a limit of 1024 levels, which it does not apply to enums. The encoder enforces
//! [`DEPTH`] as it writes, and the decoder as it reads. The tests compare both with a scan of the
//! bytes.

#[cfg(test)]
use super::encoder::SOME;

/// The number of levels of lists and maps that may be nested. The stack of a thread holds the recursion of
/// this many levels, also without optimizations.
pub(super) const DEPTH: usize = 256;

/// Returns true if the value at the start of `bytes` has more than [`DEPTH`] levels of lists, maps
/// and marks of a `Some`. Returns false for malformed bytes, which the decoder rejects.
#[cfg(test)]
pub(super) fn is_too_deep(bytes: &[u8]) -> bool {
    // Each list and map takes at least one byte.
    bytes.len() > DEPTH && scan(bytes, |_, levels| levels > DEPTH)
}

/// Returns true if `found` does for a marker of the value at the start of `bytes`. It receives the
/// marker, and the levels around and of its value.
#[cfg(test)]
pub(super) fn scan(bytes: &[u8], found: impl Fn(u8, usize) -> bool) -> bool {
    // The number of values that remain in the innermost list or map, and in each one around it.
    let (mut left, mut around) = (1_u64, Vec::new());
    let mut rest = bytes;
    while let Some((&marker, behind)) = rest.split_first() {
        let number = |bytes: usize| -> u64 {
            let digits = behind.iter().take(bytes);
            digits.fold(0, |number, digit| number << 8 | u64::from(*digit))
        };
        // The number of bytes, and the number of values, that follow the marker.
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
            SOME => (0, 1),
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
        if found(marker, around.len() + usize::from(values > 0)) {
            return true;
        }
        if values > 0 {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A list is placed behind each value: the scan finds it only if it skips the value exactly.
    #[test]
    fn the_scan_skips_each_kind_of_value_exactly() {
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
