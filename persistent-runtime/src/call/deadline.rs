//! The timer behind the deadline of a client's calls.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    support::sync::Mutex, support::sync::runtime, support::sync::task, support::sync::time,
    support::sync::time::Instant, support::sync::time::Sleep,
};

/// A timer that is reused from call to call: registering a new timer takes a lock that all of
/// tokio's timers share, and moving a registered timer to a later time does not.
#[derive(Default)]
pub(crate) struct Deadline(Mutex<Option<Pin<Box<Sleep>>>>);

impl Deadline {
    /// Waits for `work`. Returns `None` after `timeout`, which is the same for all calls.
    ///
    /// The timer belongs to the tokio runtime `home`, whatever thread polls. It is set when `work`
    /// is first pending.
    pub(crate) async fn within<T>(
        &self,
        timeout: Duration,
        home: &runtime::Handle,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut timer = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let timer = timer.get_or_insert_with(|| self.begin(timeout, home));
            timer.poll(cx).map(|()| None)
        })
        .await
    }

    fn begin(&self, timeout: Duration, home: &runtime::Handle) -> Timer<'_> {
        let kept = self.0.lock().take();
        // A caller outside of a tokio task may have no tokio runtime.
        let foreign = kept.is_none() || task::try_id().is_none();
        let _entered = foreign.then(|| home.enter());
        let deadline = Instant::now().checked_add(timeout);
        let sleep = deadline.map(|deadline| match kept {
            Some(mut sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            None => Box::pin(time::sleep_until(deadline)),
        });
        Timer { sleep, deadline: self }
    }
}

/// A timer in use.
struct Timer<'a> {
    /// `None` if the deadline is later than the clock can represent.
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: &'a Deadline,
}

impl Timer<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }
}

/// Puts the timer back for the next call, also if the caller drops its future.
impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let mut kept = self.deadline.0.lock();
        if kept.is_none() {
            *kept = self.sleep.take();
        }
    }
}
