//! The serde form of [`Options`].

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::{
    de as duration,
    de::with_path,
    options::{Backoff, Options, Persist, Restart},
};

/// The fields of [`Options`].
///
/// Its `Deserialize` does not add the path of the key to errors. The outermost type does that:
/// `Options` or [`Config`](crate::Config).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptionFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restart: Option<Restart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_restarts: Option<RestartLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<TimeOrNever>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_timeout: Option<TimeOrNever>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mailbox: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) call_timeout: Option<CallTimeout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) persist: Option<Persist>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reminder_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) await_commits: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestartLimit {
    pub(super) count: u32,
    #[serde(with = "duration")]
    pub(super) within: Duration,
}

/// [`Duration::MAX`] is written as `"never"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct TimeOrNever(#[serde(with = "duration::or_never")] pub(super) Duration);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct CallTimeout(#[serde(with = "duration")] pub(super) Duration);

impl From<OptionFields> for Options {
    fn from(fields: OptionFields) -> Self {
        Self(fields)
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_path(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::tests::all;

    const SECOND: Duration = Duration::from_secs(1);

    fn read(json: &str) -> Result<Options, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn options_survive_a_round_trip_through_serde() {
        let written = serde_json::to_value(all()).unwrap();
        let expected = serde_json::json!({
            "restart": "permanent",
            "max_restarts": { "count": 7, "within": "1m 30s" },
            "retry_after": "1m",
            "backoff": { "min": "500ms", "max": "2s", "factor": 1.5, "jitter": 0.25 },
            "idle_timeout": "never",
            "mailbox": 8,
            "call_timeout": "1s 1ns",
            "persist": { "every": "1s" },
            "reminder_attempts": 2,
            "await_commits": true,
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
    fn a_backoff_requires_only_its_min() {
        let backoff = Backoff::new(SECOND, 30 * SECOND);
        assert_eq!(
            read(r#"{ "backoff": { "min": "1s" } }"#).unwrap(),
            Options::new().backoff(backoff)
        );
    }

    #[test]
    fn an_error_in_the_written_form_names_the_key() {
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
            (r#"{ "await_commits": "yes" }"#, "await_commits", "a boolean"),
            (r#"{ "backoff": { "min": "1s", "jitter": "a" } }"#, "backoff.jitter", "f64"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.starts_with(&format!("{key}: ")) && error.contains(word), "{error}");
        }
    }
}
