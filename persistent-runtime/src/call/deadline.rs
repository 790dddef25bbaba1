//! The timer behind the deadline of a client's calls.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::support::{
    alarm::Alarm,
    catch::poll_catching,
    home::Home,
    sync::{
        Mutex,
        task::coop::unconstrained,
        time::{self, Instant, Sleep},
    },
};

/// A timer that is reused from call to call: registering a new timer takes a lock that all of
/// tokio's timers share, and moving a registered timer to a later time does not.
#[derive(Default)]
pub(crate) struct Deadline(Mutex<Option<Pin<Box<Sleep>>>>);

impl Deadline {
    /// Waits for `work`. Returns `None` after `timeout`, which is the same for all calls.
    ///
    /// The timer is set when `work` is first pending. In the context of the tokio runtime `home` it
    /// is a timer of that runtime, whose time tests can pause. Elsewhere it is an [`Alarm`]: the
    /// deadline passes although `home` is blocked, not driven or gone.
    pub(crate) async fn within<T>(
        &self,
        timeout: Duration,
        home: &Home,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut timer = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let timer = timer.get_or_insert_with(|| Timer {
                at: Instant::now().checked_add(timeout),
                sleep: None,
                alarm: None,
                home,
                deadline: self,
            });
            timer.poll(cx).map(|()| None)
        })
        .await
    }

    fn sleep_until(&self, at: Instant) -> Pin<Box<Sleep>> {
        let kept = self.0.lock().take();
        match kept {
            Some(mut sleep) => {
                sleep.as_mut().reset(at);
                sleep
            }
            None => Box::pin(time::sleep_until(at)),
        }
    }
}

/// A timer in use.
struct Timer<'a> {
    /// `None` if the deadline is later than the clock can represent.
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    alarm: Option<Alarm>,
    home: &'a Home,
    deadline: &'a Deadline,
}

impl Timer<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        if self.home.is_current() {
            let sleep = self.sleep.get_or_insert_with(|| self.deadline.sleep_until(at));
            // It panics if the runtime ends just now.
            match poll_catching(sleep.as_mut(), cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                Poll::Ready(Err(_)) => self.sleep = None,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.alarm.get_or_insert_with(|| Alarm::new(at.into_std())).poll(cx)
    }
}

/// Puts the timer back for the next call, also if the caller drops its future.
impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let Some(mut sleep) = self.sleep.take().filter(|_| !self.home.is_gone()) else { return };
        // The timer must not keep the waker of a caller that has its reply.
        let mut no_caller = Context::from_waker(Waker::noop());
        let _ = poll_catching(pin!(unconstrained(sleep.as_mut())), &mut no_caller);
        let mut kept = self.deadline.0.lock();
        if kept.is_none() {
            *kept = Some(sleep);
        }
    }
}
