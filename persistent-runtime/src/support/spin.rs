//! All busy waiting: where the runtime spins or yields instead of going to sleep.
//!
//! Waking a sleeping thread takes 10 to 40 µs, which is up to a third of a commit. A wait that is
//! likely to be shorter than that is spent awake:
//!
//! | waiter | waits for | how | at most |
//! | --- | --- | --- | --- |
//! | the writer thread | the next commit, after a batch of few commits | spins | [`WRITER_SPIN`] |
//! | a caller alone | its reply, if the last such wait was short | yields | [`COMMIT_SPIN`] |
//! | a caller | a server that another caller has borrowed | spins | [`BORROW_ATTEMPTS`] times |
//! | a task | more messages, after a burst | yields | [`CAST_YIELDS`] times |
//!
//! Spinning threads do not yield to the operating system: on a busy core it reschedules a yielded
//! thread much later than a woken one. `Builder::busy_wait(false)` turns all of it off but the
//! last, which is no waiting: it lets senders run. On a machine with one core it is always off.

#[cfg(feature = "sqlite")]
use std::time::Instant;
use std::{hint, num::NonZero, thread, time::Duration};

/// The time for which the writer spins before it sleeps.
#[cfg(feature = "sqlite")]
pub(crate) const WRITER_SPIN: Duration = Duration::from_micros(50);
/// The time for which a lone caller yields before it sleeps. The wake-up is negligible beside a
/// longer commit.
pub(crate) const COMMIT_SPIN: Duration =
    if cfg!(shuttle) { Duration::ZERO } else { Duration::from_micros(250) };
/// The number of attempts of a caller to borrow a server that another caller has borrowed.
pub(crate) const BORROW_ATTEMPTS: u32 = 16;
/// The pause of a caller between two attempts, in spin-loop hints. Meanwhile the caller that has
/// the server can handle several messages without the cache lines changing cores.
pub(crate) const BORROW_PAUSE: u32 = 64;
/// The number of yields of a task after a burst of casts, before it looks for more.
pub(crate) const CAST_YIELDS: u32 = 4;
/// The number of messages at once that make a burst.
pub(crate) const BURST: usize = 8;

/// The permission of a runtime to busy-wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BusyWait(bool);

impl BusyWait {
    /// Allows busy waiting if `allowed` and the machine has a second core.
    pub(crate) fn new(allowed: bool) -> Self {
        Self::on(allowed, thread::available_parallelism().map_or(1, NonZero::get))
    }

    fn on(allowed: bool, cores: usize) -> Self {
        Self(allowed && cores > 1)
    }

    pub(crate) fn is_allowed(self) -> bool {
        self.0
    }

    /// Pauses for `hints` spin-loop hints. Returns false at once if busy waiting is not allowed.
    pub(crate) fn pause(self, hints: u32) -> bool {
        if self.0 {
            for _ in 0..hints {
                hint::spin_loop();
            }
        }
        self.0
    }

    /// Spins until `ready` returns true or `limit` has passed.
    #[cfg(feature = "sqlite")]
    pub(crate) fn spin_until(self, limit: Duration, ready: impl Fn() -> bool) {
        if self.0 {
            let start = Instant::now();
            while !ready() && start.elapsed() < limit {
                hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_left_to_the_thread_that_is_waited_for() {
        assert_eq!([1, 2].map(|cores| BusyWait::on(true, cores).is_allowed()), [false, true]);
        assert!(!BusyWait::on(false, 2).is_allowed());
    }
}
