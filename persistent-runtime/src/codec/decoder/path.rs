//! The path of an error.

use std::fmt::Write as _;

use super::{Decoder, token::Token};
use crate::codec::WHOLE;

/// One segment of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::codec) enum Segment<'de> {
    Index(u32),
    /// The bytes that start with the key of a map, the name of a field, or the name of a variant.
    Key(&'de [u8]),
}

/// The segments that an error has passed on its way out, from the innermost.
#[derive(Debug, Default)]
pub(in crate::codec) struct Trail<'de> {
    segments: Vec<Segment<'de>>,
    /// The number of bytes not read yet. An error at any other place is another one: a visitor
    /// has recovered from the first.
    unread: usize,
}

impl<'de> Trail<'de> {
    /// Adds a segment to the path of an error with `unread` bytes left.
    #[cold]
    pub(in crate::codec) fn push(&mut self, segment: Segment<'de>, unread: usize) {
        if self.unread != unread {
            self.segments.clear();
            self.unread = unread;
        }
        self.segments.push(segment);
    }

    /// Returns the path of an error with `unread` bytes left, as `serde_path_to_error` writes it.
    pub(in crate::codec) fn path(&self, unread: usize) -> String {
        if self.segments.is_empty() || self.unread != unread {
            return WHOLE.to_owned();
        }
        let mut path = String::new();
        for (nth, segment) in self.segments.iter().rev().enumerate() {
            let written = match segment {
                Segment::Index(index) => write!(path, "[{index}]"),
                Segment::Key(bytes) => {
                    let separator = if nth == 0 { "" } else { "." };
                    match Decoder::new(bytes).token() {
                        Ok(Token::Text(text)) => write!(path, "{separator}{text}"),
                        Ok(Token::Bool(value)) => write!(path, "{separator}{value}"),
                        Ok(token) => match token.integer() {
                            Some(number) => write!(path, "{separator}{number}"),
                            None => write!(path, "{separator}?"),
                        },
                        Err(_) => write!(path, "{separator}?"),
                    }
                }
            };
            debug_assert!(written.is_ok(), "a String takes all text");
        }
        path
    }
}
