//! The way back from a handler to the caller who waits for it.

use std::any::Any;

use tokio::sync::oneshot;

use crate::{CallError, ReplySlot, ServerId};

/// A place for one handler's result, and the caller who waits for it.
pub(crate) fn channel<R: Send + 'static>() -> (Answer, Waiting<R>) {
    let (sender, receiver) = oneshot::channel();
    (Answer(Box::new(Place { value: None, sender })), Waiting(receiver))
}

/// The server's end. Dropping it tells the caller that the runtime is gone.
pub(crate) struct Answer(Box<dyn ErasedPlace>);

impl Answer {
    pub(crate) fn slot(&mut self) -> ReplySlot<'_> {
        ReplySlot(Some(self.0.slot()))
    }

    /// Lets the caller have the result, or `outcome`'s error in its place.
    pub(crate) fn release(self, outcome: Result<(), CallError>) {
        self.0.release(outcome);
    }
}

trait ErasedPlace: Send {
    fn slot(&mut self) -> &mut (dyn Any + Send);
    fn release(self: Box<Self>, outcome: Result<(), CallError>);
}

struct Place<R> {
    value: Option<R>,
    sender: oneshot::Sender<Result<Option<R>, CallError>>,
}

impl<R: Send + 'static> ErasedPlace for Place<R> {
    fn slot(&mut self) -> &mut (dyn Any + Send) {
        &mut self.value
    }

    fn release(self: Box<Self>, outcome: Result<(), CallError>) {
        let Self { value, sender } = *self;
        // A caller who gave up is no error: the message has run all the same.
        let _ = sender.send(outcome.map(|()| value));
    }
}

/// The caller's end.
pub(crate) struct Waiting<R>(oneshot::Receiver<Result<Option<R>, CallError>>);

impl<R> Waiting<R> {
    pub(crate) async fn wait(self, server: &ServerId) -> Result<R, CallError> {
        match self.0.await {
            Ok(Ok(Some(value))) => Ok(value),
            Ok(Ok(None)) => Err(CallError::NoReply { server: server.clone() }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CallError::RuntimeStopped { server: server.clone() }),
        }
    }
}
