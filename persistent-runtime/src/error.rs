//! One error type an operation.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::{codec::DecodeError, codec::EncodeError, id::ServerId, storage::StorageError};

/// Why a call, cast, start or stop has no result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallError {
    /// Nothing is stored under the key, and the client has no init arguments
    /// to create it from.
    NotFound {
        /// The server.
        server: ServerId,
    },
    /// The deadline passed. The message may still run; see the cancel safety
    /// section of the crate's documentation.
    Timeout {
        /// The server.
        server: ServerId,
        /// The time that the call had.
        after: Duration,
    },
    /// The handler panicked. What this message changed is dropped; the next
    /// message runs on the last state that a handler returned.
    Crashed {
        /// The server.
        server: ServerId,
        /// The panic's text.
        panic: String,
        /// Whether the server had handled no message well since it was
        /// activated: then this message, or the stored state, is to blame, and
        /// sending it again is likely to crash it again.
        poison: bool,
    },
    /// The server crashed more often than its limit allows and takes no
    /// messages until it is [reset](crate::Client::reset).
    RestartLimit {
        /// The server.
        server: ServerId,
        /// The text of the last panic.
        panic: String,
    },
    /// The first life could not begin: `#[init]` failed or panicked. Nothing
    /// is stored; the next message tries again.
    Init {
        /// The server.
        server: ServerId,
        /// The error's or panic's text.
        reason: String,
    },
    /// The store refused to read or write. Nothing that this call changed is
    /// in memory any more.
    Storage {
        /// The server.
        server: ServerId,
        /// What the store said.
        source: StorageError,
    },
    /// The stored state is none of the server's type. It stays untouched.
    Decode {
        /// The server.
        server: ServerId,
        /// The version that it was stored with.
        version: u32,
        /// Where and why.
        source: Arc<DecodeError>,
    },
    /// The new state has no stored form; the server is back at the one before.
    Encode {
        /// The server.
        server: ServerId,
        /// Why.
        source: Arc<EncodeError>,
    },
    /// The stored state, with the journaled messages behind it handled again,
    /// leads to no state. All of it stays untouched.
    Replay {
        /// The server.
        server: ServerId,
        /// The version that it was stored with.
        version: u32,
        /// Which message is to blame; the first is 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// Why.
        source: Arc<ReplayError>,
    },
    /// The handler came to something else when it was run again, as
    /// [`check_replay`](crate::Builder::check_replay) asks for; the server is
    /// back at the state before.
    Diverged {
        /// The server.
        server: ServerId,
        /// The method's message.
        method: String,
        /// How.
        source: Arc<ReplayError>,
    },
    /// The server was [killed](crate::Client::kill) while it handled the call.
    Killed {
        /// The server.
        server: ServerId,
    },
    /// A server can't be [transferred](crate::Runtime::transfer) to where
    /// another one is stored under its address.
    AlreadyExists {
        /// The server.
        server: ServerId,
    },
    /// The server dropped the call without an answer.
    NoReply {
        /// The server.
        server: ServerId,
    },
    /// Another Rust type uses the same stored name in this runtime.
    NameTaken {
        /// The server.
        server: ServerId,
        /// The path of the type that came first.
        by: &'static str,
    },
    /// The runtime is shut down, or was dropped.
    RuntimeStopped {
        /// The server.
        server: ServerId,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { server } => write!(f, "{server} does not exist"),
            Self::Timeout { server, after } => {
                write!(f, "{server} did not answer within {after:?}; the message may still run")
            }
            Self::Crashed { server, panic, poison: false } => {
                write!(f, "{server} panicked: {panic}")
            }
            Self::Crashed { server, panic, poison: true } => {
                write!(f, "{server} panicked at its first message: {panic}")
            }
            Self::RestartLimit { server, panic } => write!(
                f,
                "{server} crashed too often and waits for a `reset`; it last panicked: {panic}"
            ),
            Self::Init { server, reason } => write!(f, "{server} could not be created: {reason}"),
            Self::Storage { server, source } => write!(f, "{server}: the store failed: {source}"),
            Self::Decode { server, version, source } => write!(
                f,
                "the stored state of {server} (version {version}) can't be read and was left \
                 as it is: {source}"
            ),
            Self::Encode { server, source } => {
                write!(f, "the new state of {server} can't be stored and was dropped: {source}")
            }
            Self::Replay { server, version, number, of, source } => write!(
                f,
                "number {number} of the {of} journaled messages of {server} (version {version}) \
                 can't be replayed, and all was left as it is: {source}"
            ),
            Self::Diverged { server, method, source } => write!(
                f,
                "the handler of `{method}` in {server} is not deterministic, and what it changed \
                 was dropped: replayed, {source}"
            ),
            Self::Killed { server } => write!(f, "{server} was killed while it handled the call"),
            Self::AlreadyExists { server } => write!(f, "there is a {server} already"),
            Self::NoReply { server } => write!(f, "{server} gave no answer"),
            Self::NameTaken { server, by } => write!(
                f,
                "{server}: the stored name is in use by `{by}`; give one of the two types a \
                 `name = \"…\"` of its own"
            ),
            Self::RuntimeStopped { server } => {
                write!(f, "{server} can't be reached: its runtime has stopped")
            }
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Storage { source, .. } => Some(source),
            Self::Decode { source, .. } => Some(&**source),
            Self::Encode { source, .. } => Some(&**source),
            Self::Replay { source, .. } | Self::Diverged { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

/// Why a journaled message could not be handled again.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// Its bytes are no message of the server's.
    Decode(DecodeError),
    /// It is of another version than the program's.
    Version {
        /// The version that it was stored with.
        stored: u32,
        /// The version that this program writes.
        current: u32,
    },
    /// Its handler panicked, which it had not done: it is not deterministic, or
    /// its code has changed.
    Panicked {
        /// The panic's text.
        panic: String,
    },
    /// Its handler did something else: it is not deterministic, or its code has
    /// changed.
    Diverged {
        /// What.
        reason: String,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(source) => write!(f, "it is no message of this program: {source}"),
            Self::Version { stored, current } => write!(
                f,
                "this program writes version {current}; add `#[migrate_message(from = {stored})]`, \
                 or run the program that wrote it once more and stop that in order, which stores \
                 the state"
            ),
            Self::Panicked { panic } => write!(f, "its handler panicked: {panic}"),
            Self::Diverged { reason } => f.write_str(reason),
        }
    }
}

impl Error for ReplayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Decode(source) => Some(source),
            _ => None,
        }
    }
}

/// Why a runtime did not open.
///
/// ```
/// # use persistent_runtime::{OpenError, Runtime, StorageErrorKind};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// match Runtime::open("no/such/folder/game.db").await {
///     Err(OpenError::Storage(error)) if error.kind() == StorageErrorKind::Locked => {
///         eprintln!("is the game running already? {error}");
///     }
///     Err(error) => eprintln!("{error}"),
///     Ok(runtime) => drop(runtime),
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The runtime cannot honour an option.
    Options(OptionsError),
    /// The storage did not open. The text names the database.
    Storage(StorageError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The text is that of the inner error already.
        match self {
            Self::Options(error) => error.source(),
            Self::Storage(error) => error.source(),
        }
    }
}

impl From<OptionsError> for OpenError {
    fn from(error: OptionsError) -> Self {
        Self::Options(error)
    }
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// An option that the runtime cannot honour.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionsError {
    /// Where the option is set: `defaults`, `servers.` and a type's stored name, an environment
    /// variable, or the server of a client.
    pub layer: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl OptionsError {
    pub(crate) fn new(layer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { layer: layer.into(), reason: reason.into() }
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "options of {}: {}", self.layer, self.reason)
    }
}

impl Error for OptionsError {}

/// Not every server ended within the shutdown's deadline.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShutdownError {
    /// How many were still at work. What they had acknowledged is stored.
    pub unfinished: usize,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} servers were still at work at the shutdown's deadline", self.unfinished)
    }
}

impl Error for ShutdownError {}
