//! When a crashed server may go on.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::{
    config::options::Backoff, config::options::Restart, config::settings::Settings,
    support::sync::time::Instant,
};

/// How an activation ended, as far as the stored state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    NormalStop,
    OtherStop,
    Crash,
}

impl Restart {
    /// Whether a server's stored state goes with it.
    pub(crate) fn deletes(self, end: End) -> bool {
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
pub(crate) struct Crashes {
    times: VecDeque<Instant>,
    /// How long each counts, by the settings of the last one.
    within: Duration,
}

impl Crashes {
    /// Counts a crash.
    pub(crate) fn record(&mut self, now: Instant, settings: &Settings) -> Verdict {
        self.within = settings.within;
        self.forget_old(now);
        self.times.push_back(now);
        // At most one more than the limit is ever kept.
        let crashes = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        if crashes > settings.max_restarts {
            self.times.clear();
            Verdict::Fail
        } else {
            Verdict::Rest(settings.backoff.rest(crashes, chance()))
        }
    }

    /// Drops the crashes that count no more; when the last of the others will.
    pub(crate) fn forget_old(&mut self, now: Instant) -> Option<Instant> {
        while self.times.front().is_some_and(|crash| now.duration_since(*crash) >= self.within) {
            self.times.pop_front();
        }
        self.times.back().and_then(|crash| crash.checked_add(self.within))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}

impl Backoff {
    /// The rest after the `crash`th crash in a row, with `chance` from 0 to 1.
    fn rest(&self, crash: u32, chance: f64) -> Duration {
        let growth = self.factor().powi(i32::try_from(crash.saturating_sub(1)).unwrap_or(i32::MAX));
        // Infinity would make a `min` of zero no number.
        let rest = self.min().as_secs_f64() * growth.min(f64::MAX);
        let rest = if rest < self.max().as_secs_f64() {
            Duration::from_secs_f64(rest)
        } else {
            self.max()
        };
        let less = Duration::try_from_secs_f64(rest.as_secs_f64() * self.jitter() * chance);
        rest.saturating_sub(less.unwrap_or(rest))
    }
}

/// A random number from 0 to 1. The standard library seeds each of its hash
/// maps anew, which is as much chance as a rest needs.
fn chance() -> f64 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    f64::from(u32::from_ne_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Options;

    #[test]
    fn each_policy_deletes_at_its_ends_and_at_no_other() {
        let deletes = |policy: Restart| {
            [End::NormalStop, End::OtherStop, End::Crash].map(|end| policy.deletes(end))
        };
        assert_eq!(deletes(Restart::Temporary), [true, true, true]);
        assert_eq!(deletes(Restart::Transient), [true, false, false]);
        assert_eq!(deletes(Restart::Permanent), [false, false, false]);
    }

    #[test]
    fn crashes_are_there_until_they_count_no_more() {
        let (settings, now) = (Options::new().resolve(), Instant::now());
        let mut crashes = Crashes::default();
        assert!(crashes.is_empty());
        crashes.record(now, &settings);
        assert!(!crashes.is_empty());
        crashes.forget_old(now + settings.within);
        assert!(crashes.is_empty());
    }

    #[test]
    fn a_rest_grows_from_min_by_the_factor_and_stops_at_max() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, 5 * second);
        let rests = [1, 2, 3, 4, u32::MAX].map(|crash| backoff.rest(crash, 1.0));
        assert_eq!(rests, [second, 2 * second, 4 * second, 5 * second, 5 * second]);
        let none = [Backoff::NONE, Backoff::new(Duration::ZERO, second)];
        assert_eq!(none.map(|backoff| backoff.rest(u32::MAX, 1.0)), [Duration::ZERO; 2]);
    }

    #[test]
    fn chance_shortens_a_rest_by_its_jitter_at_most() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(4 * second, 6 * second).with_jitter(0.5);
        let rests = [0.0, 0.5, 1.0].map(|chance| backoff.rest(1, chance));
        assert_eq!(rests, [4 * second, 3 * second, 2 * second]);
        assert_eq!(backoff.rest(9, 1.0), 3 * second, "from `max` downwards");
        let for_ever = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!(for_ever.rest(1, 1.0), Duration::MAX);
        assert_eq!(for_ever.with_jitter(1.0).rest(1, 1.0), Duration::ZERO);

        let chances = [chance(), chance(), chance()];
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert_ne!(chances[0].to_bits(), chances[1].to_bits());
    }

    #[test]
    fn the_limit_counts_only_crashes_within_the_window() {
        let settings = Options::new().max_restarts(2, Duration::from_secs(5)).resolve();
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
        let settings = Options::new().max_restarts(0, Duration::from_secs(5)).resolve();
        assert_eq!(Crashes::default().record(Instant::now(), &settings), Verdict::Fail);
    }
}
