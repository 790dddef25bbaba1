//! What can be chosen for a server.

use std::time::Duration;

/// What becomes of a server when it ends; see the table in the crate's
/// documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// Each stop and each crash wipes the stored state.
    Temporary,
    /// A normal stop wipes; a crash or another stop keeps, and the next
    /// message goes on from what was kept.
    #[default]
    Transient,
    /// Nothing but `stop_and_wipe` wipes. A crash revives the server at once,
    /// and so does opening a runtime that its type is registered with.
    Permanent,
}

/// How long a crashed server rests before it is activated again.
///
/// The first crash within [`Options::max_restarts`]'s window rests for `min`,
/// each further one `factor` times as long, up to `max`. Messages wait
/// meanwhile, each until its own deadline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first rest.
    pub min: Duration,
    /// The longest rest.
    pub max: Duration,
    /// The growth from one crash to the next; at least 1.
    pub factor: f64,
}

impl Backoff {
    /// No rest at all: the default.
    pub const NONE: Self = Self { min: Duration::ZERO, max: Duration::ZERO, factor: 1.0 };
}

/// When a change is committed, and so what a kill or a panic can lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persist {
    /// Each change is committed before its message is answered: nothing that
    /// was acknowledged is lost.
    #[default]
    EveryMessage,
    /// A change is committed within this time: at most that much is lost.
    Every(Duration),
    /// Changes are committed at an orderly end, the idle unload and the
    /// shutdown included: a kill or a panic loses all since the last one.
    OnStop,
}

/// Choices for one server type, each of which may be left open.
///
/// The attribute sets some, the runtime's builder may set others; a choice
/// nearer to the running program wins: library default < attribute <
/// [`Builder::defaults`](crate::Builder::defaults) <
/// [`Builder::configure`](crate::Builder::configure).
///
/// Options are not state: none is stored with a server.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Options {
    restart: Option<Restart>,
    max_restarts: Option<(u32, Duration)>,
    backoff: Option<Backoff>,
    /// The longest duration is never.
    idle_timeout: Option<Duration>,
    mailbox: Option<usize>,
    call_timeout: Option<Duration>,
    persist: Option<Persist>,
}

impl Options {
    /// Everything left open.
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of the server when it ends. Default: [`Restart::Transient`].
    pub fn restart(mut self, policy: Restart) -> Self {
        self.restart = Some(policy);
        self
    }

    /// How many crashes within a time span a server recovers from; one more
    /// and it fails until it is [reset](crate::Client::reset). Default: 3
    /// within 5 s.
    pub fn max_restarts(mut self, count: u32, within: Duration) -> Self {
        self.max_restarts = Some((count, within));
        self
    }

    /// How long a crashed server rests. Default: [`Backoff::NONE`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// How long a server stays in memory without a message; `None` is for
    /// ever. Default: 60 s.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = Some(timeout.into().unwrap_or(Duration::MAX));
        self
    }

    /// How many messages may queue at a server; further senders wait.
    /// Default: 1024.
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.mailbox = Some(messages);
        self
    }

    /// The deadline of a call that sets none: activation, queueing, handling
    /// and commit together. Default: 5 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }

    /// When changes are committed.
    pub fn persist(mut self, level: Persist) -> Self {
        self.persist = Some(level);
        self
    }

    /// These choices, and `base`'s where they are open.
    pub(crate) fn over(self, base: &Self) -> Self {
        Self {
            restart: self.restart.or(base.restart),
            max_restarts: self.max_restarts.or(base.max_restarts),
            backoff: self.backoff.or(base.backoff),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
            mailbox: self.mailbox.or(base.mailbox),
            call_timeout: self.call_timeout.or(base.call_timeout),
            persist: self.persist.or(base.persist),
        }
    }

    /// Every choice made.
    pub(crate) fn settle(self) -> Settings {
        let (max_restarts, within) = self.max_restarts.unwrap_or((3, Duration::from_secs(5)));
        Settings {
            restart: self.restart.unwrap_or_default(),
            max_restarts,
            within,
            backoff: self.backoff.unwrap_or(Backoff::NONE),
            idle_timeout: self.idle_timeout.unwrap_or(Duration::from_mins(1)),
            mailbox: self.mailbox.unwrap_or(1024),
            call_timeout: self.call_timeout.unwrap_or(Duration::from_secs(5)),
            persist: self.persist.unwrap_or_default(),
        }
    }

    /// What can't be honoured, as the reason of a refusal.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.mailbox.is_some_and(|size| size == 0 || size > tokio::sync::Semaphore::MAX_PERMITS)
        {
            return Err("`mailbox` must hold at least 1 message".to_owned());
        }
        if let Some(backoff) = self.backoff
            && !(backoff.factor.is_finite() && backoff.factor >= 1.0 && backoff.min <= backoff.max)
        {
            return Err("`backoff` needs `factor` of at least 1 and `min` up to `max`".to_owned());
        }
        if self.call_timeout == Some(Duration::ZERO) {
            return Err("`call_timeout` must be longer than zero".to_owned());
        }
        Ok(())
    }
}

/// [`Options`] with every choice made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) restart: Restart,
    pub(crate) max_restarts: u32,
    pub(crate) within: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) idle_timeout: Duration,
    pub(crate) mailbox: usize,
    pub(crate) call_timeout: Duration,
    pub(crate) persist: Persist,
}

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

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
            Self::Other(reason) => reason,
        })
    }
}
