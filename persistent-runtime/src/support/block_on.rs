//! Waiting for a future on a thread that has no executor.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::{Duration, Instant},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks the thread until `work` is ready. Returns `None` after `limit`.
pub(crate) fn block_on<T>(work: impl Future<Output = T>, limit: Duration) -> Option<T> {
    let mut work = pin!(work);
    let waker = Arc::new(Unpark(thread::current())).into();
    let start = Instant::now();
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}
