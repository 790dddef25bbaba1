//! The crash budget of a server: how often it may crash within a window, and the backoff between
//! a crash and the next activation.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::{
    config::options::Backoff, config::options::Restart, config::settings::Settings,
    stop_reason::StopReason, support::sync::time::Instant,
};

/// The end of an activation, as far as the stored state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Deleted,
    Finished,
    Stopped,
    Crashed,
}

impl From<&StopReason> for End {
    fn from(reason: &StopReason) -> Self {
        match reason {
            StopReason::Deleted => Self::Deleted,
            StopReason::Finished => Self::Finished,
            _ => Self::Stopped,
        }
    }
}

impl Restart {
    /// Returns true if the stored state is deleted at this end.
    pub(crate) fn deletes(self, end: End) -> bool {
        match self {
            Self::Temporary => true,
            Self::Transient => matches!(end, End::Deleted | End::Finished),
            Self::Permanent => end == End::Deleted,
        }
    }
}

/// The consequence of a crash.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Activate again after this delay.
    Restart(Duration),
    /// The restart limit is exceeded.
    Fail,
}

/// The recent crashes of one server. They outlive its activations.
#[derive(Debug, Default)]
pub(crate) struct CrashBudget {
    times: VecDeque<Instant>,
    /// The time for which a crash counts, by the settings at the last crash.
    within: Duration,
}

impl CrashBudget {
    /// Records a crash.
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
            Verdict::Restart(settings.backoff.delay(crashes, random()))
        }
    }

    /// Drops the crashes outside the window. Returns when the newest remaining one expires.
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
    /// Returns the delay after crash number `crash` of the window. `random` is from 0 to 1.
    fn delay(&self, crash: u32, random: f64) -> Duration {
        let growth = self.factor().powi(i32::try_from(crash.saturating_sub(1)).unwrap_or(i32::MAX));
        // An infinite factor would make a `min` of zero NaN.
        let delay = self.min().as_secs_f64() * growth.min(f64::MAX);
        let delay = if delay < self.max().as_secs_f64() {
            Duration::from_secs_f64(delay)
        } else {
            self.max()
        };
        let jitter = Duration::try_from_secs_f64(delay.as_secs_f64() * self.jitter() * random);
        delay.saturating_sub(jitter.unwrap_or(delay))
    }
}

/// Returns a random number from 0 to 1. The standard library seeds each of its hash maps anew,
/// which is enough randomness for a jitter.
fn random() -> f64 {
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
            [End::Deleted, End::Finished, End::Stopped, End::Crashed].map(|end| policy.deletes(end))
        };
        assert_eq!(deletes(Restart::Temporary), [true, true, true, true]);
        assert_eq!(deletes(Restart::Transient), [true, true, false, false]);
        assert_eq!(deletes(Restart::Permanent), [true, false, false, false]);
    }

    #[test]
    fn a_crash_counts_until_it_leaves_the_window() {
        let (settings, now) = (Options::new().resolve(), Instant::now());
        let mut crashes = CrashBudget::default();
        assert!(crashes.is_empty());
        crashes.record(now, &settings);
        assert!(!crashes.is_empty());
        crashes.forget_old(now + settings.within);
        assert!(crashes.is_empty());
    }

    #[test]
    fn a_delay_grows_from_min_by_the_factor_up_to_max() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, 5 * second);
        let delays = [1, 2, 3, 4, u32::MAX].map(|crash| backoff.delay(crash, 1.0));
        assert_eq!(delays, [second, 2 * second, 4 * second, 5 * second, 5 * second]);
        let none = [Backoff::NONE, Backoff::new(Duration::ZERO, second)];
        assert_eq!(none.map(|backoff| backoff.delay(u32::MAX, 1.0)), [Duration::ZERO; 2]);
    }

    #[test]
    fn jitter_shortens_a_delay_by_at_most_its_part() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(4 * second, 6 * second).with_jitter(0.5);
        let delays = [0.0, 0.5, 1.0].map(|random| backoff.delay(1, random));
        assert_eq!(delays, [4 * second, 3 * second, 2 * second]);
        assert_eq!(backoff.delay(9, 1.0), 3 * second, "from `max` downwards");
        let for_ever = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!(for_ever.delay(1, 1.0), Duration::MAX);
        assert_eq!(for_ever.with_jitter(1.0).delay(1, 1.0), Duration::ZERO);

        let chances = [random(), random(), random()];
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert_ne!(chances[0].to_bits(), chances[1].to_bits());
    }

    #[test]
    fn the_limit_counts_only_crashes_within_the_window() {
        let settings = Options::new().max_restarts(2, Duration::from_secs(5)).resolve();
        let start = Instant::now();
        let mut crashes = CrashBudget::default();
        let mut at = |seconds| crashes.record(start + Duration::from_secs(seconds), &settings);
        let go_on = || Verdict::Restart(Duration::ZERO);
        assert_eq!([at(0), at(5), at(6), at(20)], [go_on(), go_on(), go_on(), go_on()]);
        assert_eq!([at(21), at(22)], [go_on(), Verdict::Fail]);
        assert_eq!(at(23), go_on(), "a failure starts a new count");
    }

    #[test]
    fn no_restart_at_all_fails_at_the_first_crash() {
        let settings = Options::new().max_restarts(0, Duration::from_secs(5)).resolve();
        assert_eq!(CrashBudget::default().record(Instant::now(), &settings), Verdict::Fail);
    }
}
