//! One error type per operation.
//!
//! # Texts and sources
//!
//! All error types of the crate follow one rule, so that a report that walks the chain of sources
//! says nothing twice: the text of an error includes the text of its cause, and
//! [`source`](Error::source) returns the first error of the chain that the text does *not*
//! include. The cause itself, with its type, is in the variant's field.
//!
//! A text says what happened, to which server, and what was kept or what to do.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    codec::{DecodeError, EncodeError},
    id::ServerId,
    storage::StorageError,
    support::serde::shared,
};

/// The error of a call, cast, start, stop or transfer.
///
/// ```
/// use persistent_runtime::{CallError, Runtime, persistent_server};
///
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Player;
/// #[persistent_server]
/// impl Player {
///     pub fn score(&self) -> u64 { 0 }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::in_memory().await?;
/// let error = runtime.find::<Player>("ada").await.unwrap_err();
/// assert!(matches!(error, CallError::NotFound { .. }));
/// assert_eq!(error.server().key(), "ada");
/// assert!(!error.is_timeout() && !error.is_retryable());
/// # Ok(()) }
/// ```
///
/// # As a value
///
/// A call error can be serialized, e.g. to pass it on to another program. What comes back has the
/// same variant, server and text; of errors of foreign types only the text is kept. A handler that
/// calls other servers has one conversion to write for all of its calls:
///
/// ```
/// # use persistent_runtime::{CallError, Context, persistent_server};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Serialize, Deserialize)] struct Stock(u32);
/// # #[persistent_server] impl Stock { pub fn take(&mut self) -> bool { self.0 > 0 } }
/// # #[derive(Default, Serialize, Deserialize)] struct Order;
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// enum OrderError {
///     SoldOut,
///     Call(CallError), // with the crate `thiserror`: `Call(#[from] CallError)`
/// }
///
/// impl From<CallError> for OrderError {
///     fn from(error: CallError) -> Self { Self::Call(error) }
/// }
///
/// #[persistent_server]
/// impl Order {
///     pub async fn add(&mut self, item: String, context: &Context<Self>) -> Result<(), OrderError> {
///         if context.at::<Stock>(item, ()).take().await? { Ok(()) } else { Err(OrderError::SoldOut) }
///     }
/// }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallError {
    /// The server is not stored, and the client has no init arguments to create it with.
    #[non_exhaustive]
    NotFound {
        /// The server.
        server: ServerId,
    },
    /// The deadline passed. The message may still be handled, or may have been handled already:
    /// see the cancel safety section of the crate's documentation.
    #[non_exhaustive]
    Timeout {
        /// The server.
        server: ServerId,
        /// The timeout of the call.
        after: Duration,
    },
    /// The handler panicked. The changes of this message are dropped. The next message runs on the
    /// last state that was saved: under [`Persist::EveryMessage`](crate::Persist::EveryMessage) the
    /// state that the last handler returned.
    #[non_exhaustive]
    Crashed {
        /// The server.
        server: ServerId,
        /// The panic message.
        panic: String,
        /// True if the server had handled no message successfully since its activation. The
        /// message or the stored state is the likely cause then, and sending the message again is
        /// likely to crash the server again.
        poison: bool,
    },
    /// The server crashed more often than its restart limit allows. It refuses messages until it
    /// is [reset](crate::Client::reset), or until the time of the option
    /// [`retry_after`](crate::Options::retry_after) is over.
    #[non_exhaustive]
    RestartLimit {
        /// The server.
        server: ServerId,
        /// The message of the last panic.
        panic: String,
        /// The time after which the server handles messages again. `None` if it must be reset.
        retry_in: Option<Duration>,
    },
    /// The server could not be created, because its `#[init]` function failed or panicked.
    /// Nothing is stored. The next message tries again.
    #[non_exhaustive]
    Init {
        /// The server.
        server: ServerId,
        /// The text of the error, or the panic message.
        reason: String,
    },
    /// The storage failed to load or to commit. The changes of this call are no longer in memory.
    /// After a failed commit, the next activation loads what the storage has: it may have stored
    /// the changes and failed afterwards. Changes that were acknowledged before under a weaker
    /// persist level stay in memory. With them stay those of this call, if it ran under such a level
    /// and set a reminder or stopped its server.
    #[non_exhaustive]
    Storage {
        /// The server.
        server: ServerId,
        /// The error of the storage.
        source: StorageError,
        /// [`NotRun`](Outcome::NotRun) if the server could not be loaded, or if a commit failed that
        /// the handler [had to await](crate::Options::await_commits) before it started.
        /// [`Unknown`](Outcome::Unknown) if any other commit failed.
        outcome: Outcome,
    },
    /// The stored state does not decode as the server's type. The stored bytes are not changed.
    #[non_exhaustive]
    Decode {
        /// The server.
        server: ServerId,
        /// The version that the state was stored with.
        version: u32,
        /// The cause, with the path of the field.
        #[serde(with = "shared")]
        source: Arc<DecodeError>,
    },
    /// The new state or a message does not encode, or could not be
    /// [read back](crate::Builder::check_states). The changes of this call are dropped.
    #[non_exhaustive]
    Encode {
        /// The server.
        server: ServerId,
        /// The cause.
        #[serde(with = "shared")]
        source: Arc<EncodeError>,
    },
    /// A journaled message could not be replayed at the activation. The stored data is not
    /// changed.
    #[non_exhaustive]
    Replay {
        /// The server.
        server: ServerId,
        /// The version that the message was stored with.
        version: u32,
        /// The number of the message that failed, from 1 on.
        number: usize,
        /// The number of journaled messages.
        of: usize,
        /// The cause.
        #[serde(with = "shared")]
        source: Arc<ReplayError>,
    },
    /// [`check_replay`](crate::Builder::check_replay) is on, and a replay of the message led to
    /// another result. The changes of this call are dropped.
    #[non_exhaustive]
    Diverged {
        /// The server.
        server: ServerId,
        /// The name of the method.
        method: String,
        /// The difference.
        #[serde(with = "shared")]
        source: Arc<ReplayError>,
    },
    /// The server was [killed](crate::Client::kill) while it handled the call.
    #[non_exhaustive]
    Killed {
        /// The server.
        server: ServerId,
    },
    /// The server exists already: it cannot be [created](crate::Runtime::create), or another
    /// server cannot be [transferred](crate::Runtime::transfer) to its address.
    #[non_exhaustive]
    AlreadyExists {
        /// The server.
        server: ServerId,
    },
    /// The message of an `#[info]` method was [cast](crate::Client::cast). Only the server's own
    /// timers, streams, reminders and continuations send such a message.
    #[non_exhaustive]
    Info {
        /// The server.
        server: ServerId,
        /// The name of the method.
        method: Cow<'static, str>,
    },
    /// The server dropped the call without a reply.
    #[non_exhaustive]
    NoReply {
        /// The server.
        server: ServerId,
    },
    /// Another Rust type already uses the same stored name in this runtime.
    #[non_exhaustive]
    NameTaken {
        /// The server.
        server: ServerId,
        /// The path of the type that already uses the name.
        by: Cow<'static, str>,
    },
    /// The [address](crate::Address) was stored for a server of another kind than its type has now.
    #[non_exhaustive]
    OtherKind {
        /// The server, with the kind that the address was stored with.
        server: ServerId,
        /// The kind of the type.
        current: Cow<'static, str>,
    },
    /// The runtime was shut down or dropped.
    #[non_exhaustive]
    RuntimeStopped {
        /// The server.
        server: ServerId,
    },
}

impl CallError {
    /// Returns the server that the call was for.
    #[must_use]
    pub fn server(&self) -> &ServerId {
        match self {
            Self::NotFound { server }
            | Self::Timeout { server, .. }
            | Self::Crashed { server, .. }
            | Self::RestartLimit { server, .. }
            | Self::Init { server, .. }
            | Self::Storage { server, .. }
            | Self::Decode { server, .. }
            | Self::Encode { server, .. }
            | Self::Replay { server, .. }
            | Self::Diverged { server, .. }
            | Self::Killed { server }
            | Self::AlreadyExists { server }
            | Self::Info { server, .. }
            | Self::NoReply { server }
            | Self::NameTaken { server, .. }
            | Self::OtherKind { server, .. }
            | Self::RuntimeStopped { server } => server,
        }
    }

    /// Returns true for [`Timeout`](Self::Timeout): the deadline passed, and the outcome of the
    /// call is unknown.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// Returns what became of the message.
    ///
    /// | outcome | variants |
    /// | --- | --- |
    /// | [`NotRun`](Outcome::NotRun) | [`NotFound`](Self::NotFound), [`RestartLimit`](Self::RestartLimit), [`Init`](Self::Init), [`Decode`](Self::Decode), [`Replay`](Self::Replay), [`AlreadyExists`](Self::AlreadyExists), [`Info`](Self::Info), [`NameTaken`](Self::NameTaken), [`OtherKind`](Self::OtherKind), and [`Storage`](Self::Storage) if the server could not be loaded or its earlier changes not be committed |
    /// | [`Undone`](Outcome::Undone) | [`Crashed`](Self::Crashed), [`Encode`](Self::Encode), [`Diverged`](Self::Diverged), and [`Storage`](Self::Storage) if the state is larger than the storage accepts |
    /// | [`Unknown`](Outcome::Unknown) | [`Timeout`](Self::Timeout), [`Killed`](Self::Killed), [`NoReply`](Self::NoReply), [`RuntimeStopped`](Self::RuntimeStopped), and any other [`Storage`](Self::Storage) |
    ///
    /// It covers the server's own state. What a handler did elsewhere before it failed, e.g. a call
    /// of another server, is not undone.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotFound { .. }
            | Self::RestartLimit { .. }
            | Self::Init { .. }
            | Self::Decode { .. }
            | Self::Replay { .. }
            | Self::AlreadyExists { .. }
            | Self::Info { .. }
            | Self::NameTaken { .. }
            | Self::OtherKind { .. } => Outcome::NotRun,
            Self::Crashed { .. } | Self::Encode { .. } | Self::Diverged { .. } => Outcome::Undone,
            Self::Storage { outcome, .. } => *outcome,
            Self::Timeout { .. }
            | Self::Killed { .. }
            | Self::NoReply { .. }
            | Self::RuntimeStopped { .. } => Outcome::Unknown,
        }
    }

    /// Returns true if the same message can be sent again without being applied twice, and may
    /// succeed without any change to the program, its configuration or the stored data.
    ///
    /// True for [`Init`](Self::Init), for [`Storage`](Self::Storage) if the handler was not
    /// called, and for a [`Crashed`](Self::Crashed) that is not `poison`; each retry that crashes
    /// counts towards the restart limit. The cause of the other errors that
    /// [changed nothing](Self::outcome) is permanent.
    ///
    /// A message that may be applied twice can be sent again after every error whose outcome is
    /// [`Unknown`](Outcome::Unknown), too.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Init { .. } | Self::Crashed { poison: false, .. } => true,
            Self::Storage { outcome, .. } => *outcome == Outcome::NotRun,
            _ => false,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { server } => {
                write!(f, "{server} does not exist; start it, or use a client with init arguments")
            }
            Self::Timeout { server, after } => write!(
                f,
                "{server} did not reply within {after:?}; the message may still be handled"
            ),
            Self::Crashed { server, panic, poison: false } => {
                write!(f, "{server} panicked, and the changes of the message were dropped: {panic}")
            }
            Self::Crashed { server, panic, poison: true } => write!(
                f,
                "{server} panicked at its first message since its activation; the message or the \
                 stored state is the likely cause: {panic}"
            ),
            Self::RestartLimit { server, panic, retry_in: None } => write!(
                f,
                "{server} exceeded its restart limit and refuses messages until it is reset; last \
                 panic: {panic}"
            ),
            Self::RestartLimit { server, panic, retry_in: Some(wait) } => write!(
                f,
                "{server} exceeded its restart limit and refuses messages for another {wait:?}, or \
                 until it is reset; last panic: {panic}"
            ),
            Self::Init { server, reason } => {
                write!(f, "cannot create {server}, and nothing was stored: {reason}")
            }
            Self::Storage { server, source, outcome: Outcome::NotRun } => {
                write!(f, "storage failed for {server}, and the message was not handled: {source}")
            }
            Self::Storage { server, source, .. } => write!(
                f,
                "storage failed for {server}, and the call was not acknowledged: {source}"
            ),
            Self::Decode { server, version, source } => write!(
                f,
                "cannot decode the state of {server} (version {version}): {source}; the stored \
                 bytes were not changed"
            ),
            Self::Encode { server, source } => write!(
                f,
                "cannot encode the new state of {server}, and the changes of the call were \
                 dropped: {source}"
            ),
            Self::Replay { server, version, number, of, source } => write!(
                f,
                "cannot replay journaled message {number} of {of} of {server} (version \
                 {version}): {source}; the stored data was not changed"
            ),
            Self::Diverged { server, method, source } => write!(
                f,
                "the handler of `{method}` in {server} is not deterministic, and the changes of \
                 the call were dropped: in a replay, {source}"
            ),
            Self::Killed { server } => write!(f, "{server} was killed while it handled the call"),
            Self::AlreadyExists { server } => {
                write!(f, "{server} exists already; use it, or delete it first")
            }
            Self::Info { server, method } => write!(
                f,
                "`{method}` of {server} is an `#[info]` method: only the server itself sends its message"
            ),
            Self::NoReply { server } => write!(f, "{server} dropped the call without a reply"),
            Self::NameTaken { server, by } => write!(
                f,
                "cannot use {server}: its stored name is already used by the type `{by}`; give \
                 one of the two types its own `name = \"…\"`"
            ),
            Self::OtherKind { server, current } => write!(
                f,
                "cannot reach {server} through its address, whose type is stored as {current}; \
                 give the type its former name with `name = \"{}\"`, or store a new address",
                server.kind()
            ),
            Self::RuntimeStopped { server } => {
                write!(f, "cannot reach {server}: its runtime has stopped")
            }
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Storage { source, .. } => source.source(),
            Self::Decode { source, .. } => source.source(),
            Self::Encode { source, .. } => source.source(),
            Self::Replay { source, .. } | Self::Diverged { source, .. } => source.source(),
            _ => None,
        }
    }
}

/// The fate of a message whose call failed; see [`CallError::outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler was not called.
    NotRun,
    /// The handler was called, and what it changed is dropped, in memory and in the storage.
    Undone,
    /// The changes of the message may be stored, or the message may still be handled.
    Unknown,
}

/// The reason why a journaled message could not be replayed.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReplayError {
    /// The stored bytes do not decode as a message of the server.
    Decode(DecodeError),
    /// The message has another version than the one that the program writes.
    #[non_exhaustive]
    Version {
        /// The version that the message was stored with.
        stored: u32,
        /// The version that this program writes.
        current: u32,
    },
    /// The handler panicked, which it had not done before: it is not deterministic, or its code
    /// has changed.
    #[non_exhaustive]
    Panicked {
        /// The panic message.
        panic: String,
    },
    /// The handler led to another result than before: it is not deterministic, or its code has
    /// changed.
    #[non_exhaustive]
    Diverged {
        /// The difference, as a clause.
        reason: String,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(source) => {
                write!(f, "the stored bytes are not a message of this program: {source}")
            }
            Self::Version { stored, current } if stored > current => write!(
                f,
                "the message has version {stored}, newer than version {current} of this program; \
                 run the newer program"
            ),
            Self::Version { stored, current } => write!(
                f,
                "the message has version {stored}, but this program writes version {current}; add \
                 `#[migrate_message(from = {stored})]`, or run the program that wrote it and stop \
                 the server in an orderly way, which stores its state"
            ),
            Self::Panicked { panic } => write!(f, "the handler panicked: {panic}"),
            Self::Diverged { reason } => f.write_str(reason),
        }
    }
}

impl Error for ReplayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Decode(source) => source.source(),
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
    /// The mistake, and the way to correct it.
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

/// The error of [`Runtime::shutdown`](crate::Runtime::shutdown): servers were still busy at the
/// deadline, or changes could not be saved.
///
/// ```
/// # use persistent_runtime::{MemoryStorage, Runtime};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let runtime = Runtime::in_memory().await.unwrap();
/// if let Err(error) = runtime.shutdown(Duration::from_secs(5)).await {
///     for unsaved in &error.unsaved {
///         eprintln!("changes of {} are lost: {}", unsaved.server, unsaved.reason);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShutdownError {
    /// The number of servers that were still busy at the deadline. Their handlers and hooks were
    /// ended, and the changes that they had acknowledged before were saved, except for servers in
    /// [`unsaved`](Self::unsaved).
    pub unfinished: usize,
    /// The servers of which changes could not be saved, at most 100 of them.
    ///
    /// These are changes under a persist level weaker than
    /// [`EveryMessage`](crate::Persist::EveryMessage), and those of a `#[terminate]` hook. A server
    /// that did not end within a second after the deadline is listed whether it had any or not.
    pub unsaved: Vec<UnsavedServer>,
    /// The number of servers of which changes could not be saved, listed or not.
    pub unsaved_count: usize,
    /// True if the storage could not be closed in time, e.g. because the disk hangs. It goes on
    /// with that, and the database is locked until then. Nothing is lost by it: what was committed
    /// is found when the database is opened again.
    pub is_storage_open: bool,
}

/// A server of which changes could not be saved, in a [`ShutdownError`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsavedServer {
    /// The server.
    pub server: ServerId,
    /// Why its changes could not be saved.
    pub reason: String,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers =
            |count| if count == 1 { "1 server".to_owned() } else { format!("{count} servers") };
        let Self { unfinished, unsaved, unsaved_count, is_storage_open } = self;
        if *unfinished > 0 {
            let were = if *unfinished == 1 { "was" } else { "were" };
            write!(
                f,
                "{} {were} still busy at the deadline of the shutdown; ",
                servers(*unfinished)
            )?;
        }
        if *is_storage_open {
            f.write_str("the storage could not be closed in time and is still locked; ")?;
        }
        match unsaved.first() {
            None => f.write_str("acknowledged changes are stored"),
            Some(UnsavedServer { server, reason }) => {
                write!(
                    f,
                    "changes of {} could not be saved: {server}: {reason}",
                    servers(*unsaved_count)
                )?;
                if *unsaved_count > 1 { f.write_str("; and others") } else { Ok(()) }
            }
        }
    }
}

impl Error for ShutdownError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec, storage::StorageErrorKind};

    /// Lists the texts of an error and of all its sources.
    fn chain(error: &dyn Error) -> Vec<String> {
        let mut texts = vec![error.to_string()];
        let mut source = error.source();
        while let Some(error) = source {
            texts.push(error.to_string());
            source = error.source();
        }
        texts
    }

    #[test]
    fn no_text_in_a_chain_of_sources_is_repeated() {
        let server = ServerId::new("Player", "ada");
        let decode = || codec::decode::<u8>(b"\xa1a").unwrap_err();
        for error in [
            CallError::Decode { server: server.clone(), version: 1, source: decode().into() },
            CallError::Replay {
                server: server.clone(),
                version: 1,
                number: 1,
                of: 2,
                source: Arc::new(ReplayError::Decode(decode())),
            },
            CallError::Storage {
                server,
                source: StorageError::other("disk is full"),
                outcome: Outcome::Unknown,
            },
        ] {
            let chain = chain(&error);
            for (place, text) in chain.iter().enumerate() {
                assert!(text.contains("ada") == (place == 0), "{chain:?}");
                assert!(chain[..place].iter().all(|outer| !outer.contains(text)), "{chain:?}");
            }
            assert_eq!(error.server().key(), "ada");
        }
    }

    #[test]
    fn only_a_call_that_changed_nothing_is_retryable() {
        let server = || ServerId::new("Player", "ada");
        let crash = |poison| CallError::Crashed { server: server(), panic: String::new(), poison };
        let timeout = CallError::Timeout { server: server(), after: Duration::ZERO };
        assert!(crash(false).is_retryable() && !crash(true).is_retryable());
        assert!(timeout.is_timeout() && !timeout.is_retryable());
        assert!(!crash(false).is_timeout());
        let storage = |outcome| {
            let source = StorageError::other("disk is full");
            CallError::Storage { server: server(), source, outcome }
        };
        assert!(storage(Outcome::NotRun).is_retryable());
        assert!(!storage(Outcome::Unknown).is_retryable());
        assert_eq!(crash(true).outcome(), Outcome::Undone);
        assert_eq!(timeout.outcome(), Outcome::Unknown);
    }

    #[test]
    fn an_error_has_the_same_text_and_outcome_after_a_round_trip() {
        let server = || ServerId::new("Player", "ada");
        let decode = || codec::decode::<u8>(b"\xa1a").unwrap_err();
        let version = |stored| ReplayError::Version { stored, current: 2 };
        let storage = || StorageError::new(StorageErrorKind::Full, std::io::Error::other("full"));
        for error in [
            CallError::NotFound { server: server() },
            CallError::Timeout { server: server(), after: Duration::from_millis(1500) },
            CallError::Crashed { server: server(), panic: "oh".to_owned(), poison: true },
            CallError::Init { server: server(), reason: "no".to_owned() },
            CallError::Storage {
                server: server(),
                source: storage().with_context("commit"),
                outcome: Outcome::Unknown,
            },
            CallError::Decode { server: server(), version: 3, source: decode().into() },
            CallError::Decode {
                server: server(),
                version: 3,
                source: DecodeError::Version { stored: 3, current: 2 }.into(),
            },
            CallError::Encode {
                server: server(),
                source: Arc::new(codec::encode(&Refuses, &mut Vec::new()).unwrap_err()),
            },
            CallError::Replay {
                server: server(),
                version: 1,
                number: 1,
                of: 2,
                source: Arc::new(ReplayError::Decode(decode())),
            },
            CallError::Diverged {
                server: server(),
                method: "add".to_owned(),
                source: version(1).into(),
            },
            CallError::NameTaken { server: server(), by: "game::Player".into() },
            CallError::Info { server: server(), method: "tick".into() },
            CallError::OtherKind { server: server(), current: "Member".into() },
        ] {
            let mut bytes = Vec::new();
            codec::encode(&error, &mut bytes).unwrap();
            let text = serde_json::to_string(&error).unwrap();
            let from_bytes: CallError = codec::decode(&bytes).unwrap();
            let from_text: CallError = serde_json::from_str(&text).unwrap();
            for copy in [from_bytes, from_text] {
                assert_eq!(copy.to_string(), error.to_string());
                assert_eq!(copy.server(), error.server());
                assert_eq!(copy.outcome(), error.outcome());
                if let CallError::Storage { source, .. } = copy {
                    assert_eq!(source.kind(), StorageErrorKind::Full);
                }
            }
        }
    }

    struct Refuses;

    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("refused"))
        }
    }
}
