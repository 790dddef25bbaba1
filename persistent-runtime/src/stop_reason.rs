//! The reason of a stop.

use std::fmt;

/// The reason of an orderly stop. The `terminate` hook, listeners and events receive it.
///
/// ```
/// use persistent_runtime::StopReason;
///
/// assert_eq!(StopReason::from("audit"), StopReason::Other("audit".to_owned()));
/// assert_eq!(StopReason::Idle.to_string(), "idle");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The work of the server is done: its stored state is deleted, unless the restart policy is
    /// [`Permanent`](crate::Restart::Permanent).
    Finished,
    /// The server is deleted, with its stored state, under any restart policy.
    Deleted,
    /// No message arrived within the idle timeout.
    Idle,
    /// The runtime is shutting down.
    Shutdown,
    /// The server is being [transferred](crate::Runtime::transfer) to another runtime.
    Transfer,
    /// Any other reason, in the words of the code that stopped the server.
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
            Self::Finished => "finished",
            Self::Deleted => "deleted",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
            Self::Transfer => "transfer",
            Self::Other(reason) => reason,
        })
    }
}
