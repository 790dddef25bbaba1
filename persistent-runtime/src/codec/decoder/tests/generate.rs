//! Random values and random damage.

/// A deterministic source of randomness.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() >> 33).unwrap() % limit
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.number().to_be_bytes()[0]
    }
}

pub(super) fn head(
    random: &mut Random,
    bytes: &mut Vec<u8>,
    markers: [u8; 4],
    few: usize,
    length: usize,
) {
    let [fixed, markers @ ..] = markers;
    match random.below(8) {
        0 if length < 256 && markers[0] != 0 => {
            bytes.extend([markers[0], u8::try_from(length).unwrap()]);
        }
        1 => {
            bytes.push(markers[1]);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        2 => {
            bytes.push(markers[2]);
            bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        }
        _ if length < few => bytes.push(fixed | u8::try_from(length).unwrap()),
        _ => {
            bytes.push(markers[1]);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
}

/// Appends a random value of any form, also of those that no encoder writes.
pub(super) fn value(random: &mut Random, bytes: &mut Vec<u8>, depth: usize) {
    const WORDS: [&str; 28] = [
        "a", "b", "c", "t", "id", "n", "type", "value", "number", "text", "pair", "shapes", "map",
        "more", "Unit", "Newtype", "Tuple", "Struct", "Empty", "Nothing", "Inner", "OfUnit", "A",
        "B", "C", "ü", "U", "T",
    ];
    match random.below(if depth == 0 { 7 } else { 12 }) {
        0 => bytes.push(random.byte() & 0x7f),
        1 => bytes.push([0xc0, 0xc2, 0xc3, 0xe0, 0xff, 0xc1][random.below(6)]),
        2 => {
            let marker = 0xca + u8::try_from(random.below(10)).unwrap();
            let length = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8][usize::from(marker - 0xca)];
            bytes.push(marker);
            bytes.extend((0..length).map(|_| random.byte()));
        }
        3 | 4 => {
            let word = WORDS[random.below(WORDS.len())];
            head(random, bytes, [0xa0, 0xd9, 0xda, 0xdb], 32, word.len());
            bytes.extend(word.as_bytes());
        }
        5 => {
            let length = [0, 1, 2, 3, 16, 40][random.below(6)];
            let markers = [[0xa0, 0xd9, 0xda, 0xdb], [0xc4, 0xc4, 0xc5, 0xc6]];
            let text = random.below(2);
            head(random, bytes, markers[text], if text == 0 { 32 } else { 0 }, length);
            bytes.extend((0..length).map(|_| random.byte()));
        }
        6 => {
            let length = [1, 2, 4, 8, 16][random.below(5)];
            match random.below(2) {
                0 => bytes.push(0xd4 + u8::try_from(usize::ilog2(length)).unwrap()),
                _ => head(random, bytes, [0xc7, 0xc7, 0xc8, 0xc9], 0, length),
            }
            bytes.extend((0..=length).map(|_| random.byte()));
        }
        7 | 8 => {
            let length = random.below(5);
            head(random, bytes, [0x90, 0, 0xdc, 0xdd], 16, length);
            for _ in 0..length {
                value(random, bytes, depth - 1);
            }
        }
        _ => {
            let length = [1, 1, 2, 3, 0][random.below(5)];
            head(random, bytes, [0x80, 0, 0xde, 0xdf], 16, length);
            for _ in 0..2 * length {
                value(random, bytes, depth - 1);
            }
        }
    }
}

pub(super) fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = random.byte(),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.byte()),
            5 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => {
                let mut piece = Vec::new();
                value(random, &mut piece, 2);
                let end = bytes.len().min(at + random.below(4));
                bytes.splice(at..end, piece);
            }
        }
    }
}
