//! The reason for which an instance ends.

use std::fmt;

/// Why an activation of a server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The server's work is done.
    Normal,
    /// Nobody sent a message for the idle timeout.
    Idle,
    /// The runtime shuts down.
    Shutdown,
    /// The server moves to another runtime.
    Transfer,
    /// Anything else; the text is the caller's.
    Other(String),
}

impl From<&str> for StopReason {
    fn from(reason: &str) -> Self {
        Self::Other(reason.to_owned())
    }
}

impl From<String> for StopReason {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
            Self::Transfer => "transfer",
            Self::Other(reason) => reason,
        })
    }
}
