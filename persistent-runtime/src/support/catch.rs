//! Catching panics of handlers, hooks and other code of users, as values.
//!
//! All three functions assert unwind safety. The caller upholds it: after an error it must drop
//! what the panicking code could have left half-changed, e.g. the state of a server.

use std::{
    any::Any,
    future::poll_fn,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    task::{Context, Poll},
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
    let mut future = pin!(future);
    poll_fn(|cx| poll_catching(future.as_mut(), cx)).await
}

/// Returns the message of a panic: `panic!` has a `String` or `&str` as its payload.
fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => match payload.downcast_ref::<&str>() {
            Some(message) => (*message).to_owned(),
            None => "panic without a message".to_owned(),
        },
    }
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

    #[test]
    fn a_future_is_polled_until_it_is_ready_or_panics() {
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(poll_catching(pin!(future::pending::<()>()), &mut cx), Poll::Pending);
        let panics = pin!(await_catching(async { panic!("in a poll") }));
        assert_eq!(panics.poll(&mut cx), Poll::Ready(Err::<(), _>("in a poll".to_owned())));
    }
}
