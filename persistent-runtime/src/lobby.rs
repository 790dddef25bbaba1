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

use crate::{reply::Waiting, sync::task::yield_now};

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

    /// Waits a moment for an answer that a commit keeps, if that is worth it. The seat
    /// is to be kept until the answer is there.
    pub(crate) async fn enter<R>(&self, answer: &Waiting<R>) -> Option<Seat<'_>> {
        if answer.is_there() {
            return None;
        }
        let others = self.callers.fetch_add(1, Relaxed);
        let seat = Seat { lobby: self, begin: (others == 0).then(Instant::now) };
        if self.is_quick.load(Relaxed) {
            while seat.is_alone() && seat.is_early() && !answer.is_there() {
                yield_now().await;
            }
        }
        Some(seat)
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
        task::{Context, Poll, Wake, Waker},
    };

    use super::*;
    use crate::reply::{Answer, channel};

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
        let mut entering = pin!(lobby.enter(&waiting));
        for looks in 1..=3 {
            assert!(entering.as_mut().poll(&mut cx).is_pending());
            assert_eq!(seen.0.load(Relaxed), looks, "it has itself polled again");
        }
        answer.release();
        assert!(matches!(entering.poll(&mut cx), Poll::Ready(Some(_))));
        assert_eq!(seen.0.load(Relaxed), 3);
    }

    #[test]
    fn callers_who_are_not_alone_sleep() {
        let (lobby, (_first, waiting)) = (quick(Duration::MAX), answer());
        let (_second, also_waiting) = answer();
        let mut cx = Context::from_waker(Waker::noop());
        let mut entering = pin!(lobby.enter(&waiting));
        assert!(entering.as_mut().poll(&mut cx).is_pending());
        let second = pin!(lobby.enter(&also_waiting)).poll(&mut cx);
        assert!(matches!(second, Poll::Ready(Some(_))));
        let Poll::Ready(Some(first)) = entering.poll(&mut cx) else { panic!("it looks on") };
        drop(second);
        assert!(first.is_alone());
        drop(first);
        assert_eq!(lobby.callers.load(Relaxed), 0);
    }

    #[test]
    fn where_commits_take_longer_nobody_looks_again_until_they_do_not() {
        let (_answer, waiting) = answer();
        let enter = |lobby: &Lobby| {
            let mut cx = Context::from_waker(Waker::noop());
            // Left again at once.
            pin!(lobby.enter(&waiting)).poll(&mut cx).is_ready()
        };
        let slow = quick(Duration::ZERO);
        // None of its patience is used up, and there is none.
        let fresh = Instant::now() + Duration::from_hours(1);
        assert!(!Seat { lobby: &slow, begin: Some(fresh) }.is_early());
        assert!(enter(&slow));
        assert!(!slow.is_quick.load(Relaxed));
        let lobby = Lobby::new(Duration::MAX);
        assert!(enter(&lobby), "nothing is known yet");
        assert!(lobby.is_quick.load(Relaxed));
        assert!(!enter(&lobby));
    }

    #[test]
    fn a_single_core_is_left_to_the_writer() {
        assert_eq!([1, 2].map(|cores| Lobby::on(cores).patience.is_zero()), [true, false]);
    }

    #[test]
    fn who_has_an_answer_takes_no_seat() {
        let (lobby, (answer, waiting)) = (quick(Duration::MAX), answer());
        answer.release();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(pin!(lobby.enter(&waiting)).poll(&mut cx), Poll::Ready(None)));
    }
}
