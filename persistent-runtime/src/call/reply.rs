//! The way back from a handler to the caller who waits for it.

use std::{
    any::Any,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    mem,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use tokio::task::coop::consume_budget;

use crate::{error::CallError, id::ServerId, support::sync::Mutex, support::sync::MutexGuard};

/// A place for one handler's result, and the caller who waits for it.
pub(crate) fn channel<R: Send + 'static>() -> (Answer, Waiting<R>) {
    let place = Arc::new(Place(Mutex::new(Content {
        result: Ok(None),
        stage: Stage::Held { waiting: None },
    })));
    (Answer(Some(place.clone())), Waiting(place))
}

/// The server's end. Dropping it tells the caller that the runtime is gone.
pub(crate) struct Answer(Option<Arc<dyn ErasedPlace>>);

impl Answer {
    /// Puts `value` in the caller's place, if that is of its type.
    pub(crate) fn set<R: Send + 'static>(&mut self, value: R) {
        if let Some(place) = &self.0 {
            place.set(&mut Some(value));
        }
    }

    /// Puts an error in place of the result, unless there is one already.
    pub(crate) fn fail(&mut self, error: CallError) {
        if let Some(place) = &self.0 {
            place.fail(error);
        }
    }

    /// Lets the caller have the result.
    pub(crate) fn release(mut self) {
        if let Some(place) = self.0.take() {
            place.end(Stage::Released);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            place.end(Stage::Dropped);
        }
    }
}

/// A [`Place`] whatever its type.
trait ErasedPlace: Send + Sync {
    /// `value` is an `Option<R>`.
    fn set(&self, value: &mut dyn Any);
    fn fail(&self, error: CallError);
    fn end(&self, stage: Stage);
}

struct Place<R>(Mutex<Content<R>>);

struct Content<R> {
    result: Result<Option<R>, CallError>,
    stage: Stage,
}

enum Stage {
    Held { waiting: Option<Waker> },
    Released,
    Dropped,
}

impl<R> Place<R> {
    /// Nothing of the user's is dropped under this lock.
    fn lock(&self) -> MutexGuard<'_, Content<R>> {
        self.0.lock()
    }
}

impl<R: Send + 'static> ErasedPlace for Place<R> {
    fn set(&self, value: &mut dyn Any) {
        let mut content = self.lock();
        if let (Ok(None), Some(value)) = (&content.result, value.downcast_mut::<Option<R>>()) {
            content.result = Ok(value.take());
        }
    }

    fn fail(&self, error: CallError) {
        let mut content = self.lock();
        if content.result.is_ok() {
            let value = mem::replace(&mut content.result, Err(error));
            drop(content);
            drop(value);
        }
    }

    fn end(&self, stage: Stage) {
        let stage = mem::replace(&mut self.lock().stage, stage);
        if let Stage::Held { waiting: Some(waker) } = stage {
            waker.wake();
        }
    }
}

/// The caller's end.
pub(crate) struct Waiting<R>(Arc<Place<R>>);

impl<R> Waiting<R> {
    pub(crate) async fn wait(self, server: &ServerId) -> Result<R, CallError> {
        // A caller whose answers are always there must not keep its thread.
        consume_budget().await;
        match poll_fn(|cx| self.poll(cx)).await {
            Some(Ok(Some(value))) => Ok(value),
            Some(Ok(None)) => Err(CallError::NoReply { server: server.clone() }),
            Some(Err(error)) => Err(error),
            None => Err(CallError::RuntimeStopped { server: server.clone() }),
        }
    }

    /// Whether there is nothing left to wait for.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.0.lock().stage, Stage::Held { .. })
    }

    /// The result; none if it was dropped.
    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<Option<R>, CallError>>> {
        let mut content = self.0.lock();
        match &mut content.stage {
            Stage::Held { waiting } => {
                let same = waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
                let former = if same { None } else { waiting.replace(cx.waker().clone()) };
                drop(content);
                drop(former);
                Poll::Pending
            }
            Stage::Released => Poll::Ready(Some(mem::replace(&mut content.result, Ok(None)))),
            Stage::Dropped => Poll::Ready(None),
        }
    }
}

/// Whoever waited no longer does: it must not be kept by what it waited for.
impl<R> Drop for Waiting<R> {
    fn drop(&mut self) {
        let mut content = self.0.lock();
        if let Stage::Held { waiting } = &mut content.stage {
            let waker = waiting.take();
            drop(content);
            drop(waker);
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
            None => answer.release(),
        }
    }
}

impl<T> Reply<T> {
    fn take(&mut self) -> Option<Answer> {
        self.answer.get_mut().take()
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(answer) = self.take() {
            answer.release();
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
