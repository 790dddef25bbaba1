//! When a crashed server may go on.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{Backoff, Restart, options::Settings};

/// How an activation ended, as far as the stored state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    NormalStop,
    OtherStop,
    Crash,
}

impl Restart {
    /// Whether a server's stored state goes with it.
    pub(crate) fn wipes(self, end: End) -> bool {
        match self {
            Self::Temporary => true,
            Self::Transient => end == End::NormalStop,
            Self::Permanent => false,
        }
    }
}

/// What a server does after a crash.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Go on after a rest.
    Rest(Duration),
    /// The restart limit is exceeded.
    Fail,
}

/// A server's recent crashes. They outlive its activations.
#[derive(Debug, Default)]
pub(crate) struct Crashes(VecDeque<Instant>);

impl Crashes {
    /// Counts a crash.
    pub(crate) fn record(&mut self, now: Instant, settings: &Settings) -> Verdict {
        self.forget_old(now, settings.within);
        self.0.push_back(now);
        // At most one more than the limit is ever kept.
        let crashes = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if crashes > settings.max_restarts {
            self.0.clear();
            Verdict::Fail
        } else {
            Verdict::Rest(settings.backoff.rest(crashes))
        }
    }

    /// Drops the crashes that count no more; when the last of the others will.
    pub(crate) fn forget_old(&mut self, now: Instant, within: Duration) -> Option<Instant> {
        while self.0.front().is_some_and(|crash| now.duration_since(*crash) > within) {
            self.0.pop_front();
        }
        self.0.back().and_then(|crash| crash.checked_add(within))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Backoff {
    /// The rest after the `crash`th crash in a row.
    fn rest(&self, crash: u32) -> Duration {
        let growth = self.factor.powi(i32::try_from(crash.saturating_sub(1)).unwrap_or(i32::MAX));
        let rest = self.min.as_secs_f64() * growth;
        if rest < self.max.as_secs_f64() { Duration::from_secs_f64(rest) } else { self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn a_rest_grows_from_min_by_the_factor_and_stops_at_max() {
        let second = Duration::from_secs(1);
        let backoff = Backoff { min: second, max: 5 * second, factor: 2.0 };
        let rests: Vec<_> = [1, 2, 3, 4, u32::MAX].map(|crash| backoff.rest(crash)).into();
        assert_eq!(rests, [second, 2 * second, 4 * second, 5 * second, 5 * second]);
        assert_eq!(Backoff::NONE.rest(9), Duration::ZERO);
    }

    #[test]
    fn the_limit_counts_only_crashes_within_the_window() {
        let settings = Options::new().max_restarts(2, Duration::from_secs(5)).settle();
        let start = Instant::now();
        let mut crashes = Crashes::default();
        let mut at = |seconds| crashes.record(start + Duration::from_secs(seconds), &settings);
        let go_on = || Verdict::Rest(Duration::ZERO);
        assert_eq!([at(0), at(5), at(6), at(20)], [go_on(), go_on(), go_on(), go_on()]);
        assert_eq!([at(21), at(22)], [go_on(), Verdict::Fail]);
        assert_eq!(at(23), go_on(), "a failure starts a new count");
    }

    #[test]
    fn no_restart_at_all_fails_at_the_first_crash() {
        let settings = Options::new().max_restarts(0, Duration::from_secs(5)).settle();
        assert_eq!(Crashes::default().record(Instant::now(), &settings), Verdict::Fail);
    }
}
