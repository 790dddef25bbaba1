//! Catching panics of handlers, hooks and other code of users, as values.
//!
//! Destructors and wakers are code of users, too: a panic of one of them must not reach the engine,
//! which would lose its place. So a value of a user is kept in a [`Guarded`], or dropped by
//! [`drop_catching`], and a waker of a caller is woken by [`wake`].
//!
//! All functions assert unwind safety. The caller upholds it: after an error it must drop
//! what the panicking code could have left half-changed, e.g. the state of a server.

use std::{
    any::Any,
    future::poll_fn,
    mem,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

/// Runs `work`. Returns the panic message if `work` panics.
pub(crate) fn catch_unwind<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(message)
}

/// Polls `future`. Returns the panic message if it panics; the future must not be polled again
/// then.
pub(crate) fn poll_catching<F: Future + ?Sized>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, String>> {
    match catch_unwind(|| future.poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

/// Awaits `future`. Returns the panic message if it panics.
pub(crate) async fn await_catching<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(Some(future));
    let output = poll_fn(|cx| match future.as_mut().as_pin_mut() {
        Some(future) => poll_catching(future, cx),
        None => Poll::Pending,
    })
    .await;
    drop_pinned(future);
    output
}

/// Drops a value. A panic of its destructor ends here.
pub(crate) fn drop_catching<T>(value: T) {
    let _ = catch_unwind(|| drop(value));
}

/// Drops a pinned future in place. A panic of a destructor ends here.
pub(crate) fn drop_pinned<F>(mut future: Pin<&mut Option<F>>) {
    let _ = catch_unwind(|| future.set(None));
}

/// Wakes a caller. A panic of its executor ends here.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _ = catch_unwind(|| waker.wake());
    }
}

/// A place for a value of a user. A panic of the value's destructor ends here.
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Creates an empty place.
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }

    /// Moves the value out.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_catching(value);
        }
    }
}

/// Returns the message of a panic: `panic!` has a `String` or `&str` as its payload.
fn message(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<String>() {
        Ok(message) => return *message,
        Err(payload) => payload,
    };
    if let Some(message) = payload.downcast_ref::<&str>() {
        return (*message).to_owned();
    }
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // The destructor of a payload has panicked with a payload, and so on: it is leaked.
        mem::forget(payload);
    }
    "panic without a message".to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        future,
        task::{Poll, Waker},
    };

    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch_unwind(|| 1), Ok(1));
        assert_eq!(catch_unwind(|| panic!("static")), Err::<(), _>("static".to_owned()));
        assert_eq!(catch_unwind(|| panic!("number {}", 1)), Err::<(), _>("number 1".to_owned()));
        assert_eq!(
            catch_unwind(|| panic::panic_any(1)),
            Err::<(), _>("panic without a message".to_owned())
        );
    }

    /// Panics when it is dropped, with a payload that does the same.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic::panic_any(Self);
        }
    }

    #[test]
    fn a_panic_of_a_destructor_ends_where_the_value_is_dropped() {
        let message = Err::<(), _>("panic without a message".to_owned());
        assert_eq!(catch_unwind(|| panic::panic_any(Bomb)), message);
        drop_catching(Bomb);
        drop(Guarded::new(Bomb));
        drop((0..3).map(|_| Guarded::new(Bomb)).collect::<Vec<_>>());
        let mut holds = pin!(await_catching(async {
            let _bomb = Bomb;
            future::ready(()).await;
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(holds.as_mut().poll(&mut cx), Poll::Ready(message));
        let mut held = pin!(Some(async {
            let _bomb = Bomb;
            future::pending::<()>().await;
        }));
        assert!(held.as_mut().as_pin_mut().unwrap().poll(&mut cx).is_pending());
        drop_pinned(held);
    }

    #[test]
    fn a_future_is_polled_until_it_is_ready_or_panics() {
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(poll_catching(pin!(future::pending::<()>()), &mut cx), Poll::Pending);
        let panics = pin!(await_catching(async { panic!("in a poll") }));
        assert_eq!(panics.poll(&mut cx), Poll::Ready(Err::<(), _>("in a poll".to_owned())));
    }
}
