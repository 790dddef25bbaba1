//! How callers wait for a commit.
//!
//! To wake a thread that sleeps takes up to a third as long as a commit. A caller who
//! waits alone, and mostly not for long, looks again and again in place of going to
//! sleep: adaptive spinning, as locks have it, but by yields, so that other tasks have
//! their turns in between. With more callers about, threads have a better use for the
//! time, and one wake serves many.

use std::{
    num::NonZero,
    // These decide what a wait costs, and no order of events.
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{call::reply::Waiting, support::sync::task::yield_now};

/// For how long a caller looks again at most. Disks that sync in less are those where a
/// wake matters.
const PATIENCE: Duration = if cfg!(shuttle) { Duration::ZERO } else { Duration::from_micros(250) };

/// See the [module](self).
pub(crate) struct Lobby {
    callers: AtomicUsize,
    patience: Duration,
    /// Whether the last one who came alone had its answer within the patience.
    is_quick: AtomicBool,
}

impl Lobby {
    fn new(patience: Duration) -> Self {
        Self { callers: AtomicUsize::new(0), patience, is_quick: AtomicBool::new(false) }
    }

    /// A single core is the writer's.
    fn on(cores: usize) -> Self {
        Self::new(if cores == 1 { Duration::ZERO } else { PATIENCE })
    }

    /// A seat for who waits for `answer`, which a commit keeps, until that is there.
    pub(crate) fn seat<R>(&self, answer: &Waiting<R>) -> Option<Seat<'_>> {
        if answer.is_there() {
            return None;
        }
        let others = self.callers.fetch_add(1, Relaxed);
        Some(Seat { lobby: self, begin: (others == 0).then(Instant::now) })
    }
}

impl Default for Lobby {
    fn default() -> Self {
        Self::on(thread::available_parallelism().map_or(1, NonZero::get))
    }
}

/// A caller among others.
pub(crate) struct Seat<'a> {
    lobby: &'a Lobby,
    /// When it came, if it was alone then.
    begin: Option<Instant>,
}

impl Seat<'_> {
    /// Waits a moment for the answer, if that is worth it.
    pub(crate) async fn linger<R>(&self, answer: &Waiting<R>) {
        if self.lobby.is_quick.load(Relaxed) {
            while self.is_alone() && self.is_early() && !answer.is_there() {
                yield_now().await;
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.lobby.callers.load(Relaxed) == 1
    }

    fn is_early(&self) -> bool {
        self.begin.is_some_and(|begin| begin.elapsed() < self.lobby.patience)
    }
}

/// Also when the caller gives up.
impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if self.begin.is_some() {
            self.lobby.is_quick.store(self.is_early(), Relaxed);
        }
        self.lobby.callers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::Arc,
        task::{Context, Wake, Waker},
    };

    use super::*;
    use crate::{call::reply::Answer, call::reply::channel};

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn quick(patience: Duration) -> Lobby {
        let lobby = Lobby::new(patience);
        lobby.is_quick.store(true, Relaxed);
        lobby
    }

    /// An answer to come.
    fn answer() -> (Answer, Waiting<()>) {
        channel()
    }

    #[test]
    fn a_caller_alone_looks_again_until_its_answer_is_there() {
        let (lobby, (answer, waiting)) = (quick(Duration::MAX), answer());
        let seen = Arc::new(Wakes::default());
        let waker = seen.clone().into();
        let mut cx = Context::from_waker(&waker);
        let seat = lobby.seat(&waiting).unwrap();
        let mut lingering = pin!(seat.linger(&waiting));
        for looks in 1..=3 {
            assert!(lingering.as_mut().poll(&mut cx).is_pending());
            assert_eq!(seen.0.load(Relaxed), looks, "it has itself polled again");
        }
        answer.release();
        assert!(lingering.poll(&mut cx).is_ready());
        assert_eq!(seen.0.load(Relaxed), 3);
    }

    #[test]
    fn callers_who_are_not_alone_sleep() {
        let (lobby, (_first, waiting)) = (quick(Duration::MAX), answer());
        let (_second, also_waiting) = answer();
        let mut cx = Context::from_waker(Waker::noop());
        let first = lobby.seat(&waiting).unwrap();
        {
            let mut lingering = pin!(first.linger(&waiting));
            assert!(lingering.as_mut().poll(&mut cx).is_pending());
            let second = lobby.seat(&also_waiting).unwrap();
            assert!(pin!(second.linger(&also_waiting)).poll(&mut cx).is_ready());
            assert!(lingering.poll(&mut cx).is_ready(), "another has come");
        }
        assert!(first.is_alone());
        drop(first);
        assert_eq!(lobby.callers.load(Relaxed), 0);
    }

    #[test]
    fn where_commits_take_longer_nobody_looks_again_until_they_do_not() {
        let (_answer, waiting) = answer();
        let sleeps = |lobby: &Lobby| {
            let seat = lobby.seat(&waiting).unwrap();
            pin!(seat.linger(&waiting)).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        let slow = quick(Duration::ZERO);
        // None of its patience is used up, and there is none.
        let fresh = Instant::now() + Duration::from_hours(1);
        assert!(!Seat { lobby: &slow, begin: Some(fresh) }.is_early());
        assert!(sleeps(&slow));
        assert!(!slow.is_quick.load(Relaxed));
        let lobby = Lobby::new(Duration::MAX);
        assert!(sleeps(&lobby), "nothing is known yet");
        assert!(lobby.is_quick.load(Relaxed));
        assert!(!sleeps(&lobby));
    }

    #[test]
    fn a_single_core_is_left_to_the_writer() {
        assert_eq!([1, 2].map(|cores| Lobby::on(cores).patience.is_zero()), [true, false]);
    }

    #[test]
    fn who_has_an_answer_takes_no_seat() {
        let (lobby, (answer, waiting)) = (quick(Duration::MAX), answer());
        answer.release();
        assert!(lobby.seat(&waiting).is_none());
    }
}
