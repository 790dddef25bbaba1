//! The wait of a caller for a commit.
//!
//! A caller that is the only one to wait yields and polls again instead of going to sleep, if the
//! last lone wait of the runtime was short; see [`spin`](crate::support::spin). With more callers waiting,
//! threads have a better use for the time, and one wake-up serves many.

use std::{
    // These decide the cost of a wait, not the order of events.
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{
    call::reply::ReplyReceiver,
    support::{
        spin::{BusyWait, COMMIT_SPIN},
        sync::task::yield_now,
    },
};

/// The callers of one runtime that wait for a commit.
pub(crate) struct CommitWait {
    waiters: AtomicUsize,
    limit: Duration,
    /// True if the last lone waiter was answered within the limit.
    last_wait_was_short: AtomicBool,
}

impl CommitWait {
    pub(crate) fn new(busy_wait: BusyWait) -> Self {
        Self::within(if busy_wait.is_allowed() { COMMIT_SPIN } else { Duration::ZERO })
    }

    fn within(limit: Duration) -> Self {
        Self { waiters: AtomicUsize::new(0), limit, last_wait_was_short: AtomicBool::new(false) }
    }

    /// Registers a caller that waits for `reply`. Returns `None` if the reply has already arrived.
    pub(crate) fn register(&self, reply: &ReplyReceiver) -> Option<Waiter<'_>> {
        if reply.is_ready() {
            return None;
        }
        let others = self.waiters.fetch_add(1, Relaxed);
        Some(Waiter { commit_wait: self, since: (others == 0).then(Instant::now) })
    }
}

/// One caller that waits for a commit. Dropping it ends the wait.
pub(crate) struct Waiter<'a> {
    commit_wait: &'a CommitWait,
    /// When it began to wait, if it was alone then.
    since: Option<Instant>,
}

impl Waiter<'_> {
    /// Yields until the reply arrives, while this is the only waiter and the limit is not reached.
    pub(crate) async fn spin(&self, reply: &ReplyReceiver) {
        if self.commit_wait.last_wait_was_short.load(Relaxed) {
            while self.is_alone() && self.is_within_limit() && !reply.is_ready() {
                yield_now().await;
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.commit_wait.waiters.load(Relaxed) == 1
    }

    fn is_within_limit(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() < self.commit_wait.limit)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.commit_wait.last_wait_was_short.store(self.is_within_limit(), Relaxed);
        }
        self.commit_wait.waiters.fetch_sub(1, Relaxed);
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
    use crate::call::reply::{ReplySender, channel};

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn after_a_short_wait(limit: Duration) -> CommitWait {
        let commit_wait = CommitWait::within(limit);
        commit_wait.last_wait_was_short.store(true, Relaxed);
        commit_wait
    }

    fn reply() -> (ReplySender, ReplyReceiver) {
        channel::<()>()
    }

    #[test]
    fn a_lone_caller_polls_again_until_its_reply_arrives() {
        let (commit_wait, (sender, receiver)) = (after_a_short_wait(Duration::MAX), reply());
        let counter = Arc::new(Wakes::default());
        let waker = counter.clone().into();
        let mut cx = Context::from_waker(&waker);
        let waiter = commit_wait.register(&receiver).unwrap();
        let mut spinning = pin!(waiter.spin(&receiver));
        for polls in 1..=3 {
            assert!(spinning.as_mut().poll(&mut cx).is_pending());
            assert_eq!(counter.0.load(Relaxed), polls, "it schedules its own next poll");
        }
        sender.release();
        assert!(spinning.poll(&mut cx).is_ready());
        assert_eq!(counter.0.load(Relaxed), 3);
    }

    #[test]
    fn callers_that_are_not_alone_sleep() {
        let (commit_wait, (_first, receiver)) = (after_a_short_wait(Duration::MAX), reply());
        let (_second, other_receiver) = reply();
        let mut cx = Context::from_waker(Waker::noop());
        let first = commit_wait.register(&receiver).unwrap();
        {
            let mut spinning = pin!(first.spin(&receiver));
            assert!(spinning.as_mut().poll(&mut cx).is_pending());
            let second = commit_wait.register(&other_receiver).unwrap();
            assert!(pin!(second.spin(&other_receiver)).poll(&mut cx).is_ready());
            assert!(spinning.poll(&mut cx).is_ready(), "another caller waits");
        }
        assert!(first.is_alone());
        drop(first);
        assert_eq!(commit_wait.waiters.load(Relaxed), 0);
    }

    #[test]
    fn after_a_long_wait_callers_sleep_until_a_wait_is_short_again() {
        let (_sender, receiver) = reply();
        let sleeps = |commit_wait: &CommitWait| {
            let waiter = commit_wait.register(&receiver).unwrap();
            pin!(waiter.spin(&receiver)).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        let slow = after_a_short_wait(Duration::ZERO);
        // No time has passed, and none is allowed.
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(!Waiter { commit_wait: &slow, since: Some(later) }.is_within_limit());
        assert!(sleeps(&slow));
        assert!(!slow.last_wait_was_short.load(Relaxed));
        let commit_wait = CommitWait::within(Duration::MAX);
        assert!(sleeps(&commit_wait), "no wait has ended yet");
        assert!(commit_wait.last_wait_was_short.load(Relaxed));
        assert!(!sleeps(&commit_wait));
    }

    #[test]
    fn without_busy_waiting_callers_sleep() {
        assert!(CommitWait::new(BusyWait::new(false)).limit.is_zero());
    }

    #[test]
    fn a_caller_whose_reply_has_arrived_is_not_registered() {
        let (commit_wait, (sender, receiver)) = (after_a_short_wait(Duration::MAX), reply());
        sender.release();
        assert!(commit_wait.register(&receiver).is_none());
    }
}
