//! What a message was given that it would not be given again, the time and
//! chance: recorded beside a journaled message, and played back to it when it
//! is replayed.

use std::{
    mem::{self, discriminant},
    vec,
};

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Given {
    /// Microseconds since 1970.
    Time(u64),
    Random(u64),
}

impl Given {
    pub(crate) fn value(self) -> u64 {
        match self {
            Self::Time(value) | Self::Random(value) => value,
        }
    }
}

/// See the [module](self).
pub(crate) enum Tape {
    /// What is handled is not journaled.
    Idle,
    Recording(Vec<Given>),
    Playing {
        given: vec::IntoIter<Given>,
        torn: bool,
    },
}

impl Tape {
    pub(crate) fn play(given: Vec<Given>) -> Self {
        Self::Playing { given: given.into_iter(), torn: false }
    }

    pub(crate) fn is_playing(&self) -> bool {
        matches!(self, Self::Playing { .. })
    }

    /// What a handler gets that asks for something like `fresh`; none if it
    /// asks for what it had not asked for when it was recorded.
    pub(crate) fn give(&mut self, fresh: Given) -> Option<Given> {
        match self {
            Self::Idle => Some(fresh),
            Self::Recording(given) => {
                given.push(fresh);
                Some(fresh)
            }
            Self::Playing { given, torn } => {
                let same = |given: &Given| discriminant(given) == discriminant(&fresh);
                let next = given.next().filter(same);
                *torn |= next.is_none();
                next
            }
        }
    }

    /// Ends a recording.
    pub(crate) fn take(&mut self) -> Vec<Given> {
        match mem::replace(self, Self::Idle) {
            Self::Recording(given) => given,
            other => {
                *self = other;
                Vec::new()
            }
        }
    }

    /// Whether something else was asked for than what was recorded.
    pub(crate) fn is_torn(&self) -> bool {
        matches!(self, Self::Playing { torn: true, .. })
    }

    /// Whether there is more to be played back.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self, Self::Playing { given, .. } if !given.as_slice().is_empty())
    }
}
