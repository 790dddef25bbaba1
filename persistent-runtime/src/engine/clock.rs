//! The wall clock of a runtime.

use std::time::{Duration, SystemTime};

use crate::{
    engine::reminders::{NEVER, When},
    support::sync::{is_time_simulated, time::Instant},
};

/// Returns the current time.
pub(crate) type ReadClock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// The wall clock of a runtime. Each reading asks the clock anew, so that a step of the system time
/// and a suspend of the machine are seen.
pub(crate) struct WallClock {
    read: ReadClock,
    /// True if it advances with tokio's clock in tests that pause that.
    is_system: bool,
}

impl WallClock {
    pub(crate) fn new(read: ReadClock) -> Self {
        Self { read, is_system: false }
    }

    /// Reads the system time; or, in tests that pause tokio's clock, the system time at this call,
    /// advanced by tokio's clock.
    pub(crate) fn system() -> Self {
        let (opened, since) = (SystemTime::now(), Instant::now());
        let read = move || {
            if is_time_simulated() { opened + since.elapsed() } else { SystemTime::now() }
        };
        Self { read: Box::new(read), is_system: true }
    }

    /// Returns true if the time can differ from what tokio's clock lets expect.
    pub(crate) fn may_step(&self) -> bool {
        !(self.is_system && is_time_simulated())
    }

    /// Returns the time in milliseconds since 1970, rounded down.
    pub(crate) fn now(&self) -> u64 {
        self.micros() / 1000
    }

    /// Returns the time in microseconds since 1970, rounded down.
    pub(crate) fn micros(&self) -> u64 {
        let since_epoch = (self.read)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns a due time in milliseconds since 1970. A later time than now is rounded up, so that no
    /// reminder is early.
    pub(crate) fn due(&self, when: When) -> u64 {
        let now = (self.read)();
        let time = match when {
            When::At(time) => time,
            When::In(wait) => match now.checked_add(wait) {
                Some(time) => time,
                None => return NEVER,
            },
        };
        // Before 1970 is 0.
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        millis(if time > now { since_epoch } else { since_epoch.saturating_sub(ALMOST_A_MILLI) })
    }
}

/// Less by this, a duration that is rounded up is rounded down.
const ALMOST_A_MILLI: Duration = Duration::from_nanos(999_999);

/// Returns a duration in milliseconds, rounded up.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER).min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_time_is_rounded_up_and_the_time_down() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_001);
        let clock = WallClock::new(Box::new(move || time));
        assert_eq!((clock.now(), clock.micros()), (1, 1000));
        assert_eq!(clock.due(When::At(time + Duration::from_nanos(1))), 2);
        assert_eq!(clock.due(When::In(Duration::ZERO)), 1, "at once");
        assert_eq!(clock.due(When::In(Duration::from_millis(5))), 7);
        assert_eq!(clock.due(When::In(Duration::MAX)), NEVER);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(clock.due(When::At(before)), 0);
    }
}
