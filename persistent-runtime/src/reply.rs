//! The way back from a handler to the caller who waits for it.

use std::{
    any::Any,
    fmt,
    marker::PhantomData,
    sync::{PoisonError, Weak},
};

use tokio::sync::oneshot;

use crate::{CallError, ServerId, sync::Mutex};

/// A place for one handler's result, and the caller who waits for it.
pub(crate) fn channel<R: Send + 'static>() -> (Answer, Waiting<R>) {
    let (sender, receiver) = oneshot::channel();
    (Answer(Box::new(Place { value: None, sender })), Waiting(receiver))
}

/// The server's end. Dropping it tells the caller that the runtime is gone.
pub(crate) struct Answer(Box<dyn ErasedPlace>);

impl Answer {
    /// Puts `value` in the caller's place, if that is of its type.
    pub(crate) fn set<R: Send + 'static>(&mut self, value: R) {
        if let Some(place) = self.0.value().downcast_mut::<Option<R>>() {
            *place = Some(value);
        }
    }

    /// Lets the caller have the result, or `outcome`'s error in its place.
    pub(crate) fn release(self, outcome: Result<(), CallError>) {
        self.0.release(outcome);
    }
}

trait ErasedPlace: Send {
    fn value(&mut self) -> &mut dyn Any;
    fn release(self: Box<Self>, outcome: Result<(), CallError>);
}

struct Place<R> {
    value: Option<R>,
    sender: oneshot::Sender<Result<Option<R>, CallError>>,
}

impl<R: Send + 'static> ErasedPlace for Place<R> {
    fn value(&mut self) -> &mut dyn Any {
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

/// Takes answers that are given outside of their own handler.
pub(crate) trait Outbox: Send + Sync {
    fn post(&self, answer: Answer);
}

/// A caller to be answered later: a method that takes a `Reply<T>` returns
/// nothing, and its call returns what the reply is sent.
///
/// Keep it where nothing is stored, in a `#[serde(skip)]` field say, or move it
/// to a task. Like every answer, this one leaves after the commits that it may
/// depend on: sent in a handler, it shares that handler's fate, its panic or
/// failed commit included. The call's deadline goes on all the while.
///
/// Dropping it unsent, as a crash or the end of the server does, answers the
/// caller with [`CallError::NoReply`].
///
/// ```
/// # use persistent_runtime::{persistent_server, Reply, Runtime};
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Gate {
///     opened: u32,
///     #[serde(skip)]
///     waiting: Vec<Reply<u32>>,
/// }
///
/// #[persistent_server]
/// impl Gate {
///     /// Waits until the gate opens.
///     pub fn pass(&mut self, reply: Reply<u32>) {
///         self.waiting.push(reply);
///     }
///
///     #[cast]
///     pub fn open(&mut self) {
///         self.opened += 1;
///         for reply in self.waiting.drain(..) {
///             reply.send(self.opened);
///         }
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::in_memory().await?;
/// let gate = runtime.at::<Gate>("north", ());
/// let traveller = tokio::spawn({
///     let gate = gate.clone();
///     async move { gate.pass().await }
/// });
/// # tokio::task::yield_now().await;
/// gate.open().await?;
/// assert_eq!(traveller.await??, 1);
/// # Ok(()) }
/// ```
#[must_use = "a caller waits for it"]
pub struct Reply<T> {
    /// Locked by nobody: it makes a state that keeps replies `Sync`, so that it
    /// can have `async` methods with `&self`.
    answer: Mutex<Option<Answer>>,
    outbox: Weak<dyn Outbox>,
    value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Reply<T> {
    pub(crate) fn new(answer: Option<Answer>, outbox: Weak<dyn Outbox>) -> Self {
        Self { answer: Mutex::new(answer), outbox, value: PhantomData }
    }

    /// Answers the caller. One who gave up, or did not wait in the first
    /// place, is no error.
    pub fn send(mut self, value: T) {
        let Some(mut answer) = self.take() else { return };
        answer.set(value);
        match self.outbox.upgrade() {
            Some(outbox) => outbox.post(answer),
            // A server that is gone has nothing left to commit.
            None => answer.release(Ok(())),
        }
    }
}

impl<T> Reply<T> {
    fn take(&mut self) -> Option<Answer> {
        self.answer.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(answer) = self.take() {
            answer.release(Ok(()));
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
