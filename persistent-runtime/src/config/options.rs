//! What can be chosen for a server.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{config::de as duration, config::de::with_path};

/// What becomes of a server when it ends; see the table in the crate's
/// documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// Each stop and each crash deletes the stored state.
    Temporary,
    /// A normal stop deletes; a crash or another stop keeps, and the next
    /// message goes on from what was kept.
    #[default]
    Transient,
    /// Nothing but `stop_and_delete` deletes. A crash revives the server at once,
    /// and so does opening a runtime that its type is registered with.
    Permanent,
}

/// How long a crashed server rests before it is activated again.
///
/// The first crash within [`Options::max_restarts`]'s window rests for `min`,
/// each further one `factor` times as long, up to `max`. Messages wait
/// meanwhile, each until its own deadline.
///
/// ```
/// # use persistent_runtime::Backoff;
/// # use std::time::Duration;
/// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10)).jitter(0.2);
/// assert_eq!(backoff.factor, 2.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[must_use]
pub struct Backoff {
    /// The first rest.
    #[serde(with = "duration")]
    pub min: Duration,
    /// The longest rest.
    #[serde(with = "duration", default = "Backoff::longest")]
    pub max: Duration,
    /// The growth from one crash to the next; at least 1.
    #[serde(default = "Backoff::growth")]
    pub factor: f64,
    /// The part of each rest that chance may take away, from 0 to 1, so that
    /// servers that crashed together don't come back together: a rest lasts
    /// between `1 - jitter` and 1 times as long as it would without.
    #[serde(default)]
    pub jitter: f64,
}

impl Backoff {
    /// No rest at all: the default.
    pub const NONE: Self = Self::new(Duration::ZERO, Duration::ZERO);

    const FACTOR: f64 = 2.0;

    /// Rests from `min` up to `max`, each twice as long as the one before, and
    /// without jitter.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, factor: Self::FACTOR, jitter: 0.0 }
    }

    /// With another growth from one crash to the next.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// With a part of each rest, from 0 to 1, left to chance.
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    fn longest() -> Duration {
        Duration::from_secs(30)
    }

    fn growth() -> f64 {
        Self::FACTOR
    }

    fn is_possible(&self) -> bool {
        self.min <= self.max
            && self.factor.is_finite()
            && self.factor >= 1.0
            && (0.0..=1.0).contains(&self.jitter)
    }
}

/// When a change is committed, and so what can be lost with the memory: by a
/// panic, a [kill](crate::Client::kill), the death of the process, a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Persist {
    /// Before its message is answered. Nothing that was acknowledged is lost.
    #[default]
    EveryMessage,
    /// At most this long after it was made, together with all others since the
    /// last commit. At most the changes of the last such time span are lost,
    /// acknowledged ones included.
    Every(#[serde(with = "duration")] Duration),
    /// At an orderly end: a stop, the idle unload, a shutdown; and when a
    /// client [asks for it](crate::Client::with_persist). All changes since the
    /// last of these are lost, acknowledged ones included.
    OnStop,
}

/// What is stored of a change: the attribute's `journal`. It is how a type
/// works, and can't be set from outside.
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
/// ledger.kill();
/// assert_eq!(ledger.sum().await?, 3); // reads the empty ledger, and books both again
/// ledger.stop("audit").await?; // stores the ledger
/// assert_eq!(storage.get(&ServerId::new("Ledger", "ada")).unwrap().messages.len(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Journal {
    /// The state that it has led to, if that is another one than before.
    #[default]
    State,
    /// The message that has made it, so that a change costs what its message
    /// does, however large the state. Activation is the last snapshot of the
    /// state and all messages since then, handled again.
    Messages {
        /// How many messages there are from one snapshot to the next, at most;
        /// fewer if they take more room than the snapshot, and more than 1 MiB.
        snapshot_every: u32,
    },
}

/// Choices for one server type, each of which may be left open.
///
/// A choice nearer to the running program wins, option by option. From the
/// farthest to the nearest:
///
/// 1. the default that each method below names,
/// 2. the attribute,
/// 3. [`Builder::defaults`](crate::Builder::defaults) and
///    [`Config::defaults`](crate::Config::defaults),
/// 4. [`Builder::configure`](crate::Builder::configure) and
///    [`Config::servers`](crate::Config::servers),
/// 5. [`Builder::environment`](crate::Builder::environment): a variable for
///    every type, then one for this type,
/// 6. [`Client::with_options`](crate::Client::with_options).
///
/// Options are not state: none is stored with a server.
///
/// # Written form
///
/// With serde, an option has the name of its method:
///
/// | option | value |
/// | --- | --- |
/// | `restart` | `"temporary"`, `"transient"`, `"permanent"` |
/// | `max_restarts` | a map of `count` and `within` |
/// | `backoff` | a map of `min`, `max` (`"30s"`), `factor` (`2.0`), `jitter` (`0.0`); all but `min` may be missing |
/// | `idle_timeout` | a duration or `"never"` |
/// | `mailbox` | a number |
/// | `call_timeout` | a duration |
/// | `persist` | `"every_message"`, `"on_stop"`, or a map of `every` |
///
/// Durations are text: `"500ms"`, `"60s"`, `"1m 30s"`. An option that is
/// missing is left open. Unknown options and values of a wrong type are errors
/// that name the key.
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
pub struct Options(Choices);

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_path(deserializer).map(Self)
    }
}

/// The fields of [`Options`]. Unlike theirs, the errors of its `Deserialize`
/// don't say where they are, so that whatever contains it can.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choices {
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<Restart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_restarts: Option<RestartLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<IdleTimeout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_timeout: Option<CallTimeout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persist: Option<Persist>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RestartLimit {
    count: u32,
    #[serde(with = "duration")]
    within: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct IdleTimeout(#[serde(with = "duration::or_never")] Duration);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct CallTimeout(#[serde(with = "duration")] Duration);

impl From<Choices> for Options {
    fn from(choices: Choices) -> Self {
        Self(choices)
    }
}

impl Options {
    /// Everything left open.
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of the server when it ends. Default: [`Restart::Transient`].
    pub fn restart(mut self, policy: Restart) -> Self {
        self.0.restart = Some(policy);
        self
    }

    /// How many crashes within a time span a server recovers from; one more
    /// and it fails until it is [reset](crate::Client::reset). Default: 3
    /// within 5 s.
    pub fn max_restarts(mut self, count: u32, within: Duration) -> Self {
        self.0.max_restarts = Some(RestartLimit { count, within });
        self
    }

    /// How long a crashed server rests. Default: [`Backoff::NONE`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.0.backoff = Some(backoff);
        self
    }

    /// How long a server stays in memory without a message; `None`, like the
    /// longest duration, is for ever. Default: 60 s.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.0.idle_timeout = Some(IdleTimeout(timeout.into().unwrap_or(Duration::MAX)));
        self
    }

    /// How many messages may queue at a server; further senders wait.
    /// Default: 1024.
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.0.mailbox = Some(messages);
        self
    }

    /// The deadline of a call that sets none: activation, queueing, handling
    /// and commit together. Default: 5 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.0.call_timeout = Some(CallTimeout(timeout));
        self
    }

    /// When changes are committed. Default: [`Persist::EveryMessage`].
    pub fn persist(mut self, level: Persist) -> Self {
        self.0.persist = Some(level);
        self
    }

    /// These choices, and `base`'s where they are open.
    pub(crate) fn over(self, base: &Self) -> Self {
        let (Self(own), Self(base)) = (self, base);
        Self(Choices {
            restart: own.restart.or(base.restart),
            max_restarts: own.max_restarts.or(base.max_restarts),
            backoff: own.backoff.or(base.backoff),
            idle_timeout: own.idle_timeout.or(base.idle_timeout),
            mailbox: own.mailbox.or(base.mailbox),
            call_timeout: own.call_timeout.or(base.call_timeout),
            persist: own.persist.or(base.persist),
        })
    }

    /// Every choice made.
    pub(crate) fn settle(self) -> Settings {
        let Self(own) = self;
        let RestartLimit { count, within } =
            own.max_restarts.unwrap_or(RestartLimit { count: 3, within: Duration::from_secs(5) });
        let IdleTimeout(idle_timeout) =
            own.idle_timeout.unwrap_or(IdleTimeout(Duration::from_mins(1)));
        let CallTimeout(call_timeout) =
            own.call_timeout.unwrap_or(CallTimeout(Duration::from_secs(5)));
        Settings {
            restart: own.restart.unwrap_or_default(),
            max_restarts: count,
            within,
            backoff: own.backoff.unwrap_or(Backoff::NONE),
            idle_timeout,
            mailbox: own.mailbox.unwrap_or(1024),
            call_timeout,
            persist: own.persist.unwrap_or_default(),
        }
    }

    /// What can't be honoured, as the reason of a refusal.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self(own) = self;
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        let rules = [
            (
                own.mailbox.is_none_or(|messages| (1..=most).contains(&messages)),
                "`mailbox` must hold at least 1 message and no absurd number",
            ),
            (
                own.max_restarts.is_none_or(|limit| !limit.within.is_zero()),
                "`max_restarts` needs a time span `within` that is longer than zero",
            ),
            (
                own.backoff.is_none_or(|backoff| backoff.is_possible()),
                "`backoff` needs `min` up to `max`, a `factor` of at least 1 and a `jitter` from \
                 0 to 1",
            ),
            (
                own.call_timeout != Some(CallTimeout(Duration::ZERO)),
                "`call_timeout` must be longer than zero",
            ),
            (
                own.persist != Some(Persist::Every(Duration::ZERO)),
                "`persist` needs a time span `every` that is longer than zero; `every_message` \
                 has none",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(reason.to_owned()),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn all() -> Options {
        Options::new()
            .restart(Restart::Permanent)
            .max_restarts(7, 90 * SECOND)
            .backoff(Backoff::new(SECOND / 2, 2 * SECOND).factor(1.5).jitter(0.25))
            .idle_timeout(None)
            .mailbox(8)
            .call_timeout(Duration::from_nanos(1_000_000_001))
            .persist(Persist::Every(SECOND))
    }

    fn read(json: &str) -> Result<Options, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn options_come_back_from_their_written_form() {
        let written = serde_json::to_value(all()).unwrap();
        let expected = serde_json::json!({
            "restart": "permanent",
            "max_restarts": { "count": 7, "within": "1m 30s" },
            "backoff": { "min": "500ms", "max": "2s", "factor": 1.5, "jitter": 0.25 },
            "idle_timeout": "never",
            "mailbox": 8,
            "call_timeout": "1s 1ns",
            "persist": { "every": "1s" },
        });
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<Options>(written).unwrap(), all());
        for options in [
            Options::new(),
            Options::new().persist(Persist::OnStop).idle_timeout(SECOND),
            Options::new().persist(Persist::EveryMessage).call_timeout(Duration::MAX),
        ] {
            let text = serde_json::to_string(&options).unwrap();
            assert_eq!(read(&text).unwrap(), options, "{text}");
        }
        assert_eq!(serde_json::to_string(&Options::new()).unwrap(), "{}");
    }

    #[test]
    fn a_backoff_needs_no_more_than_its_first_rest() {
        let backoff = Backoff::new(SECOND, 30 * SECOND);
        assert_eq!(
            read(r#"{ "backoff": { "min": "1s" } }"#).unwrap(),
            Options::new().backoff(backoff)
        );
    }

    #[test]
    fn what_is_wrong_in_the_written_form_is_named_by_its_key() {
        for (json, key, word) in [
            (r#"{ "idle_timout": "1s" }"#, "idle_timout", "expected one of `restart`"),
            (r#"{ "idle_timeout": "soon" }"#, "idle_timeout", r#"or "never""#),
            (r#"{ "idle_timeout": "60" }"#, "idle_timeout", "such as"),
            (r#"{ "call_timeout": "never" }"#, "call_timeout", "a duration such as"),
            (r#"{ "restart": "always" }"#, "restart", "`permanent`"),
            (r#"{ "mailbox": -1 }"#, "mailbox", "-1"),
            (r#"{ "persist": { "every": 5 } }"#, "persist.every", "a duration"),
            (r#"{ "persist": "sometimes" }"#, "persist", "`on_stop`"),
            (r#"{ "max_restarts": { "count": 3 } }"#, "max_restarts", "`within`"),
            (r#"{ "max_restarts": { "counts": 3 } }"#, "max_restarts.counts", "`count`"),
            (r#"{ "backoff": { "min": "1s", "jitter": "a" } }"#, "backoff.jitter", "f64"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.starts_with(&format!("{key}: ")) && error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_choice_left_open_is_the_one_below() {
        let base = Options::new().mailbox(1).call_timeout(SECOND);
        let merged = Options::new().mailbox(2).over(&base);
        assert_eq!(merged, Options::new().mailbox(2).call_timeout(SECOND));
        assert_eq!(Options::new().over(&all()), all());
        assert_eq!(all().over(&base), all());
    }

    #[test]
    fn what_cant_be_honoured_is_refused_by_its_name() {
        let backoff = Backoff::new(SECOND, SECOND);
        for (options, name) in [
            (Options::new().mailbox(0), "mailbox"),
            (Options::new().mailbox(usize::MAX), "mailbox"),
            (Options::new().max_restarts(3, Duration::ZERO), "max_restarts"),
            (Options::new().backoff(Backoff::new(2 * SECOND, SECOND)), "backoff"),
            (Options::new().backoff(backoff.factor(0.5)), "backoff"),
            (Options::new().backoff(backoff.factor(f64::NAN)), "backoff"),
            (Options::new().backoff(backoff.jitter(1.1)), "backoff"),
            (Options::new().backoff(backoff.jitter(-0.1)), "backoff"),
            (Options::new().backoff(backoff.jitter(f64::NAN)), "backoff"),
            (Options::new().call_timeout(Duration::ZERO), "call_timeout"),
            (Options::new().persist(Persist::Every(Duration::ZERO)), "persist"),
        ] {
            let reason = options.check().unwrap_err();
            assert!(reason.starts_with(&format!("`{name}`")), "{reason}");
        }
        assert_eq!(all().check(), Ok(()));
        assert_eq!(Options::new().backoff(Backoff::NONE).check(), Ok(()));
    }
}
