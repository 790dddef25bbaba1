//! The options of a server with every default filled in, and their validation.

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::{
    fields::{CallTimeout, RestartLimit, TimeOrNever},
    options::{Backoff, Options, Persist, Restart},
};

/// [`Options`] without unset ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) restart: Restart,
    /// The number of crashes that a server may have within [`within`](Self::within).
    pub(crate) max_restarts: u32,
    pub(crate) within: Duration,
    /// [`Duration::MAX`] if a failed server must be reset.
    pub(crate) retry_after: Duration,
    pub(crate) backoff: Backoff,
    /// [`Duration::MAX`] if idle servers are never unloaded.
    pub(crate) idle_timeout: Duration,
    pub(crate) mailbox: usize,
    pub(crate) call_timeout: Duration,
    pub(crate) persist: Persist,
    /// The number of panics after which a reminder is given up.
    pub(crate) reminder_attempts: u32,
    /// True if an `async` handler starts only once all earlier changes are committed.
    pub(crate) await_commits: bool,
}

impl Options {
    /// Fills in the defaults.
    pub(crate) fn resolve(self) -> Settings {
        let Self(own) = self;
        let RestartLimit { count, within } =
            own.max_restarts.unwrap_or(RestartLimit { count: 3, within: Duration::from_secs(5) });
        let TimeOrNever(idle_timeout) =
            own.idle_timeout.unwrap_or(TimeOrNever(Duration::from_secs(60)));
        let TimeOrNever(retry_after) = own.retry_after.unwrap_or(TimeOrNever(Duration::MAX));
        let CallTimeout(call_timeout) =
            own.call_timeout.unwrap_or(CallTimeout(Duration::from_secs(5)));
        Settings {
            restart: own.restart.unwrap_or_default(),
            max_restarts: count,
            within,
            retry_after,
            backoff: own.backoff.unwrap_or(Backoff::NONE),
            idle_timeout,
            mailbox: own.mailbox.unwrap_or(1024),
            call_timeout,
            persist: own.persist.unwrap_or_default(),
            reminder_attempts: own.reminder_attempts.unwrap_or(10),
            await_commits: own.await_commits.unwrap_or_default(),
        }
    }

    /// Validates the values.
    ///
    /// # Errors
    /// The text of the first invalid value, which begins with the name of the option.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self(own) = self;
        if own.mailbox.is_some_and(|messages| !(1..=Semaphore::MAX_PERMITS).contains(&messages)) {
            return Err(format!("`mailbox` must be between 1 and {}", Semaphore::MAX_PERMITS));
        }
        let rules = [
            (
                own.max_restarts.is_none_or(|limit| !limit.within.is_zero()),
                "`max_restarts` needs a `within` that is longer than zero",
            ),
            (
                own.retry_after != Some(TimeOrNever(Duration::ZERO)),
                "`retry_after` must be longer than zero",
            ),
            (
                own.backoff.is_none_or(|backoff| backoff.is_valid()),
                "`backoff` needs a `min` of at most `max`, a `factor` of at least 1 and a \
                 `jitter` from 0 to 1",
            ),
            (
                own.call_timeout != Some(CallTimeout(Duration::ZERO)),
                "`call_timeout` must be longer than zero",
            ),
            (own.reminder_attempts != Some(0), "`reminder_attempts` must be at least 1"),
            (
                own.persist != Some(Persist::Every(Duration::ZERO)),
                "`persist` needs an `every` that is longer than zero; use `every_message` to \
                 commit before each reply",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(reason.to_owned()),
            None => Ok(()),
        }
    }
}

impl Backoff {
    fn is_valid(&self) -> bool {
        self.min() <= self.max()
            && self.factor().is_finite()
            && self.factor() >= 1.0
            && (0.0..=1.0).contains(&self.jitter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::tests::all;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_option() {
        let backoff = Backoff::new(SECOND, SECOND);
        for (options, name) in [
            (Options::new().mailbox(0), "mailbox"),
            (Options::new().mailbox(usize::MAX), "mailbox"),
            (Options::new().max_restarts(3, Duration::ZERO), "max_restarts"),
            (Options::new().retry_after(Duration::ZERO), "retry_after"),
            (Options::new().backoff(Backoff::new(2 * SECOND, SECOND)), "backoff"),
            (Options::new().backoff(backoff.with_factor(0.5)), "backoff"),
            (Options::new().backoff(backoff.with_factor(f64::NAN)), "backoff"),
            (Options::new().backoff(backoff.with_jitter(1.1)), "backoff"),
            (Options::new().backoff(backoff.with_jitter(-0.1)), "backoff"),
            (Options::new().backoff(backoff.with_jitter(f64::NAN)), "backoff"),
            (Options::new().call_timeout(Duration::ZERO), "call_timeout"),
            (Options::new().persist(Persist::Every(Duration::ZERO)), "persist"),
            (Options::new().reminder_attempts(0), "reminder_attempts"),
        ] {
            let reason = options.check().unwrap_err();
            assert!(reason.starts_with(&format!("`{name}`")), "{reason}");
        }
        assert_eq!(all().check(), Ok(()));
        assert_eq!(Options::new().backoff(Backoff::NONE).check(), Ok(()));
    }
}
