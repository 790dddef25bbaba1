//! The options of servers, as public types.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{
    de as duration,
    fields::{CallTimeout, OptionFields, RestartLimit, TimeOrNever},
};

/// The restart policy: what happens to the stored state when an instance ends. The crate's
/// documentation has a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// Each stop and each crash deletes the stored state.
    Temporary,
    /// A stop with the reason [`Finished`](crate::StopReason::Finished) deletes the stored state.
    /// After any other stop and after a crash, the next message activates the server with the stored
    /// state.
    #[default]
    Transient,
    /// Only [`delete`](crate::Client::delete) deletes the stored state. The server is activated again
    /// at once after a crash, and when a runtime opens in which its type is registered.
    Permanent,
}

/// The delay between a crash of a server and its next activation.
///
/// The delay is `min` after the first crash within the window of [`Options::max_restarts`], and
/// `factor` times the previous delay after each further crash, up to `max`. Messages wait
/// meanwhile, each until its own deadline.
///
/// ```
/// # use persistent_runtime::Backoff;
/// # use std::time::Duration;
/// let backoff =
///     Backoff::new(Duration::from_millis(100), Duration::from_secs(10)).with_jitter(0.2);
/// assert_eq!(backoff.min(), Duration::from_millis(100));
/// assert_eq!(backoff.factor(), 2.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Backoff {
    #[serde(with = "duration")]
    min: Duration,
    #[serde(with = "duration", default = "Backoff::default_max")]
    max: Duration,
    #[serde(default = "Backoff::default_factor")]
    factor: f64,
    #[serde(default)]
    jitter: f64,
}

impl Backoff {
    /// No delay. The default.
    pub const NONE: Self = Self::new(Duration::ZERO, Duration::ZERO);

    const FACTOR: f64 = 2.0;

    /// Creates a backoff from `min` up to `max` with a factor of 2 and no jitter.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, factor: Self::FACTOR, jitter: 0.0 }
    }

    /// Sets the factor between two delays in a row, at least 1.
    pub const fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the jitter, from 0 to 1: each delay is reduced by a random part of at most `jitter`.
    ///
    /// Servers that crashed together are then not activated together.
    pub const fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns the first delay.
    #[must_use]
    pub const fn min(&self) -> Duration {
        self.min
    }

    /// Returns the longest delay.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// Returns the factor between two delays in a row.
    #[must_use]
    pub const fn factor(&self) -> f64 {
        self.factor
    }

    /// Returns the largest part of a delay by which it is randomly reduced.
    #[must_use]
    pub const fn jitter(&self) -> f64 {
        self.jitter
    }

    fn default_max() -> Duration {
        Duration::from_secs(30)
    }

    fn default_factor() -> f64 {
        Self::FACTOR
    }
}

/// The persist level: when changes are committed, and so which changes are lost with the memory,
/// i.e. by a panic, a [kill](crate::Client::kill), the death of the process or a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Persist {
    /// Before the reply to the message is sent. No acknowledged change is lost.
    #[default]
    EveryMessage,
    /// At most this long after the change, in one commit with all changes since the last commit.
    /// The changes of at most this time span are lost, acknowledged ones included.
    ///
    /// An `async` handler that waits does not delay the commit of earlier changes: they are encoded
    /// before it starts. A handler that blocks its thread does.
    Every(#[serde(with = "duration")] Duration),
    /// At an orderly end, i.e. a stop, an idle unload or a shutdown, and when a client
    /// [asks for it](crate::Client::with_persist). All changes since the last of these commits
    /// are lost, acknowledged ones included.
    OnStop,
}

/// The stored form of a change, as set by the attribute's `journal`. A property of the type, which
/// no option overrides.
///
/// ```
/// # use persistent_runtime::{persistent_server, Client, MemoryStorage, Runtime, ServerId};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Ledger(Vec<i64>);
/// #[persistent_server(journal = messages(snapshot_every = 1000))]
/// impl Ledger {
///     pub fn book(&mut self, amount: i64) { self.0.push(amount); }
///     pub fn sum(&self) -> i64 { self.0.iter().sum() }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = MemoryStorage::new();
/// let runtime = Runtime::builder().open_with(storage.clone()).await?;
/// let ledger = runtime.start::<Ledger>("ada", ()).await?; // stores the empty ledger
/// ledger.book(5).await?; // stores this message
/// ledger.book(-2).await?; // and this
/// assert_eq!(storage.get(&ServerId::new("Ledger", "ada")).unwrap().messages.len(), 2);
/// ledger.kill().await.unwrap();
/// assert_eq!(ledger.sum().await?, 3); // reads the empty ledger, and books both again
/// ledger.stop("audit").await?; // stores the ledger
/// assert_eq!(storage.get(&ServerId::new("Ledger", "ada")).unwrap().messages.len(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Journal {
    /// The state after the change. A message that leaves the state as it was stores nothing.
    #[default]
    State,
    /// The message that made the change. The cost of a change depends on the size of the message
    /// and not of the state. An activation loads the last snapshot and replays all messages after
    /// it.
    Messages {
        /// The largest number of messages between two snapshots. A snapshot is also stored when
        /// the messages are larger than the last snapshot and than 1 MiB.
        snapshot_every: u32,
    },
}

/// The options of a server type. Each may be unset.
///
/// Options come from several layers. Each option is taken from the last layer of this list that
/// sets it:
///
/// 1. the default, as named by each method below,
/// 2. the attribute,
/// 3. [`Builder::defaults`](crate::Builder::defaults) and
///    [`Config::defaults`](crate::Config::defaults),
/// 4. [`Builder::configure`](crate::Builder::configure) and
///    [`Config::servers`](crate::Config::servers),
/// 5. [`Builder::environment`](crate::Builder::environment): the variable for all types, then the
///    one for this type,
/// 6. [`Client::with_options`](crate::Client::with_options).
///
/// Options are not stored with a server.
///
/// # Written form
///
/// With serde, each option has the name of its method:
///
/// | option | value |
/// | --- | --- |
/// | `restart` | `"temporary"`, `"transient"`, `"permanent"` |
/// | `max_restarts` | a map of `count` and `within` |
/// | `retry_after` | a duration or `"never"` |
/// | `backoff` | a map of `min`, `max` (`"30s"`), `factor` (`2.0`), `jitter` (`0.0`); only `min` is required |
/// | `idle_timeout` | a duration or `"never"` |
/// | `mailbox` | a number |
/// | `call_timeout` | a duration |
/// | `persist` | `"every_message"`, `"on_stop"`, or a map of `every` |
/// | `reminder_attempts` | a number |
/// | `await_commits` | `true`, `false` |
///
/// Durations are text: `"500ms"`, `"60s"`, `"1m 30s"`. A missing option is unset. Unknown options
/// and values of a wrong type are errors that name the key.
///
/// ```
/// # use persistent_runtime::{Options, Persist};
/// # use std::time::Duration;
/// let options: Options = serde_json::from_str(
///     r#"{
///         "idle_timeout": "1m 30s",
///         "max_restarts": { "count": 3, "within": "5s" },
///         "persist": { "every": "500ms" }
///     }"#,
/// )?;
/// let same = Options::new()
///     .idle_timeout(Duration::from_secs(90))
///     .max_restarts(3, Duration::from_secs(5))
///     .persist(Persist::Every(Duration::from_millis(500)));
/// assert_eq!(options, same);
///
/// let error = serde_json::from_str::<Options>(r#"{ "idle_timeout": 90 }"#).unwrap_err();
/// assert!(error.to_string().starts_with("idle_timeout: invalid type: integer `90`"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
#[must_use]
pub struct Options(pub(super) OptionFields);

impl Options {
    /// Creates options that are all unset.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the restart policy. Default: [`Restart::Transient`].
    pub fn restart(mut self, policy: Restart) -> Self {
        self.0.restart = Some(policy);
        self
    }

    /// Sets the restart limit: a server that crashes more than `count` times within `within` fails
    /// and refuses messages until it is [reset](crate::Client::reset), or for the time of
    /// [`retry_after`](Self::retry_after). Default: 3 within 5 s.
    pub fn max_restarts(mut self, count: u32, within: Duration) -> Self {
        self.0.max_restarts = Some(RestartLimit { count, within });
        self
    }

    /// Sets how long a server over its restart limit refuses messages. After this time its next
    /// message activates it again, and its crashes are counted anew; under [`Restart::Permanent`] it
    /// is activated without a message. `None` and [`Duration::MAX`] mean until it is
    /// [reset](crate::Client::reset). Default: until it is reset.
    pub fn retry_after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.0.retry_after = Some(TimeOrNever(wait.into().unwrap_or(Duration::MAX)));
        self
    }

    /// Sets the delay between a crash and the next activation. Default: [`Backoff::NONE`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.0.backoff = Some(backoff);
        self
    }

    /// Sets how long a server without messages stays in memory. `None` and [`Duration::MAX`] mean
    /// for ever. Default: 60 s.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.0.idle_timeout = Some(TimeOrNever(timeout.into().unwrap_or(Duration::MAX)));
        self
    }

    /// Sets the capacity of the mailbox, in messages. Senders wait while the mailbox is full.
    /// Default: 1024.
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.0.mailbox = Some(messages);
        self
    }

    /// Sets the timeout of calls that set none themselves. It covers activation, queueing,
    /// handling and the commit. Default: 5 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.0.call_timeout = Some(CallTimeout(timeout));
        self
    }

    /// Sets the persist level. Default: [`Persist::EveryMessage`].
    pub fn persist(mut self, level: Persist) -> Self {
        self.0.persist = Some(level);
        self
    }

    /// Sets how often the message of a [reminder](crate::Context::remind) may panic. After a panic it
    /// is handled again with a growing delay. After this number of panics the runtime gives up: it
    /// keeps the reminder, reports [`Event::ReminderFailed`](crate::Event::ReminderFailed), and
    /// handles the message only if the server [asks for it](crate::Context::retry_reminder).
    /// Default: 10.
    pub fn reminder_attempts(mut self, attempts: u32) -> Self {
        self.0.reminder_attempts = Some(attempts);
        self
    }

    /// Sets whether an `async` handler starts only once all earlier changes of its server are
    /// committed. Default: false.
    ///
    /// Without this option the next handler starts while the commit of an earlier message is still
    /// in progress, or, under a weaker persist level, long before it. Replies wait for the commits
    /// that they depend on, but a call that a handler makes to another server, or to anything else
    /// outside, does not. If the commit then fails or the process dies, the callee has acted on a
    /// change that never happened.
    ///
    /// With this option the server first commits what earlier messages changed, under each persist
    /// level, and only then starts the handler. If the commit fails, the handler does not run. Its
    /// caller receives [`CallError::Storage`](crate::CallError::Storage) with the outcome
    /// [`NotRun`](crate::Outcome::NotRun), and a cast is dropped. A reminder stays stored and is
    /// handled later.
    ///
    /// Not held back are:
    ///
    /// - the changes that the handler itself makes before it calls. Make them in one handler, and
    ///   the call in another that the first one [continues with](crate::Context::continue_with);
    /// - handlers that are not `async`: they cannot await a call. What they spawn or
    ///   [`pipe`](crate::Context::pipe) starts at once;
    /// - hooks, e.g. `#[started]`.
    pub fn await_commits(mut self, awaits: bool) -> Self {
        self.0.await_commits = Some(awaits);
        self
    }

    /// Returns these options, with `base`'s in place of unset ones.
    pub(crate) fn or(self, base: &Self) -> Self {
        let (Self(own), Self(base)) = (self, base);
        Self(OptionFields {
            restart: own.restart.or(base.restart),
            max_restarts: own.max_restarts.or(base.max_restarts),
            retry_after: own.retry_after.or(base.retry_after),
            backoff: own.backoff.or(base.backoff),
            idle_timeout: own.idle_timeout.or(base.idle_timeout),
            mailbox: own.mailbox.or(base.mailbox),
            call_timeout: own.call_timeout.or(base.call_timeout),
            persist: own.persist.or(base.persist),
            reminder_attempts: own.reminder_attempts.or(base.reminder_attempts),
            await_commits: own.await_commits.or(base.await_commits),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns options of which none is unset.
    pub(in crate::config) fn all() -> Options {
        Options::new()
            .restart(Restart::Permanent)
            .max_restarts(7, 90 * SECOND)
            .retry_after(60 * SECOND)
            .backoff(Backoff::new(SECOND / 2, 2 * SECOND).with_factor(1.5).with_jitter(0.25))
            .idle_timeout(None)
            .mailbox(8)
            .call_timeout(Duration::from_nanos(1_000_000_001))
            .persist(Persist::Every(SECOND))
            .reminder_attempts(2)
            .await_commits(true)
    }

    #[test]
    fn an_unset_option_is_taken_from_the_base() {
        let base = Options::new().mailbox(1).call_timeout(SECOND);
        let merged = Options::new().mailbox(2).or(&base);
        assert_eq!(merged, Options::new().mailbox(2).call_timeout(SECOND));
        assert_eq!(Options::new().or(&all()), all());
        assert_eq!(all().or(&base), all());
    }
}
