//! Timers that belong to no tokio runtime.
//!
//! A caller may be on another tokio runtime than its server, on none, or on one that is blocked or
//! gone. Its deadline passes all the same: one thread per process, started at the first need, wakes
//! such callers.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io, mem,
    pin::pin,
    sync::{Condvar, OnceLock},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    catch::wake,
    sync::os::{Mutex, ignore_poison},
};

/// The alarms that have not gone off.
static ALARMS: Alarms = Alarms { content: Mutex::new(Content::new()), earlier: Condvar::new() };

struct Alarms {
    content: Mutex<Content>,
    /// Notified if the thread has to wake up earlier.
    earlier: Condvar,
}

struct Content {
    /// By time, then by number.
    wakers: BTreeMap<(Instant, u64), Waker>,
    set: u64,
    /// When the thread looks next; `None` if it waits for the first alarm.
    next_look: Option<Instant>,
}

impl Content {
    const fn new() -> Self {
        Self { wakers: BTreeMap::new(), set: 0, next_look: None }
    }

    /// Removes the alarms that are due.
    fn take_due(&mut self) -> BTreeMap<(Instant, u64), Waker> {
        let later = self.wakers.split_off(&(Instant::now(), u64::MAX));
        mem::replace(&mut self.wakers, later)
    }
}

impl Alarms {
    fn run(&self) {
        let mut content = self.content.lock();
        loop {
            let due = content.take_due();
            if !due.is_empty() {
                drop(content);
                for waker in due.into_values() {
                    wake(Some(waker));
                }
                content = self.content.lock();
                continue;
            }
            content.next_look = content.wakers.keys().next().map(|(at, _)| *at);
            content = match content.next_look {
                None => ignore_poison(self.earlier.wait(content)),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    ignore_poison(self.earlier.wait_timeout(content, left)).0
                }
            };
        }
    }

    /// Starts the thread, once.
    fn start() -> &'static Self {
        static THREAD: OnceLock<()> = OnceLock::new();
        THREAD.get_or_init(|| {
            let thread = thread::Builder::new().name("persistent-alarms".to_owned());
            let _: io::Result<_> = thread.spawn(|| ALARMS.run());
        });
        &ALARMS
    }
}

/// A timer that goes off at one time, whatever polls it. Dropping it removes it.
pub(crate) struct Alarm {
    at: Instant,
    /// Its number, while it is set.
    number: Option<u64>,
}

impl Alarm {
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, number: None }
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.at <= Instant::now() {
            return Poll::Ready(());
        }
        let alarms = Alarms::start();
        let waker = cx.waker().clone();
        let mut content = alarms.content.lock();
        let number = *self.number.get_or_insert_with(|| {
            content.set += 1;
            content.set
        });
        let former = content.wakers.insert((self.at, number), waker);
        let is_earlier = content.next_look.is_none_or(|next| self.at < next);
        drop(content);
        drop(former);
        if is_earlier {
            alarms.earlier.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let removed = ALARMS.content.lock().wakers.remove(&(self.at, number));
            drop(removed);
        }
    }
}

/// Waits for `work`. Returns `None` after `limit` in real time, also while the clock of the tokio
/// runtime is paused.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut alarm = Instant::now().checked_add(limit).map(Alarm::new);
    let mut work = pin!(work);
    poll_fn(|cx| match (work.as_mut().poll(cx), &mut alarm) {
        (Poll::Ready(output), _) => Poll::Ready(Some(output)),
        (Poll::Pending, Some(alarm)) => alarm.poll(cx).map(|()| None),
        (Poll::Pending, None) => Poll::Pending,
    })
    .await
}
