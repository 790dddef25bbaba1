//! The inputs of a handler that differ each time it runs: times and random numbers.
//!
//! They are recorded beside a journaled message and returned again when the message is replayed.

use std::{
    mem::{self, discriminant},
    vec,
};

use serde::{Deserialize, Serialize};

/// One recorded input.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Input {
    /// Microseconds since 1970.
    Time(u64),
    Random(u64),
}

impl Input {
    pub(crate) fn value(self) -> u64 {
        match self {
            Self::Time(value) | Self::Random(value) => value,
        }
    }
}

/// The inputs of the message in progress.
pub(crate) enum RecordedInputs {
    Idle,
    Recording(Vec<Input>),
    Replaying {
        inputs: vec::IntoIter<Input>,
        /// True once the handler has asked for an input that was not recorded.
        diverged: bool,
    },
}

impl RecordedInputs {
    pub(crate) fn replay(inputs: Vec<Input>) -> Self {
        Self::Replaying { inputs: inputs.into_iter(), diverged: false }
    }

    pub(crate) fn is_replaying(&self) -> bool {
        matches!(self, Self::Replaying { .. })
    }

    /// Returns the next input: `fresh`, or the recorded one. Returns `None` if no input of this
    /// kind was recorded here.
    pub(crate) fn next(&mut self, fresh: Input) -> Option<Input> {
        match self {
            Self::Idle => Some(fresh),
            Self::Recording(inputs) => {
                inputs.push(fresh);
                Some(fresh)
            }
            Self::Replaying { inputs, diverged } => {
                let same = |input: &Input| discriminant(input) == discriminant(&fresh);
                let next = inputs.next().filter(same);
                *diverged |= next.is_none();
                next
            }
        }
    }

    /// Ends a recording and returns its inputs.
    pub(crate) fn take(&mut self) -> Vec<Input> {
        match mem::replace(self, Self::Idle) {
            Self::Recording(inputs) => inputs,
            other => {
                *self = other;
                Vec::new()
            }
        }
    }

    pub(crate) fn has_diverged(&self) -> bool {
        matches!(self, Self::Replaying { diverged: true, .. })
    }

    pub(crate) fn has_unread(&self) -> bool {
        matches!(self, Self::Replaying { inputs, .. } if !inputs.as_slice().is_empty())
    }
}
