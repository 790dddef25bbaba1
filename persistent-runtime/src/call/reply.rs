//! The way of a result from a handler back to the caller that waits for it.
//!
//! A [`ReplySender`] and a [`ReplyReceiver`] share one slot. The handler sets the value; the
//! [output gate](super::output_gate) releases it to the caller once every commit that it depends
//! on is durable. Only the slot's value has the type of the result: the code here exists once.

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

use crate::{
    error::CallError,
    id::ServerId,
    support::{
        catch::{Guarded, wake},
        sync::Mutex,
    },
};

/// Creates a slot for one result of type `R`.
pub(crate) fn channel<R: Send + 'static>() -> (ReplySender, ReplyReceiver) {
    let slot: Arc<Slot> = Arc::new(Slot(Mutex::new(Content {
        stage: Stage::Held { waiter: None },
        error: None,
        value: Guarded::<R>::empty(),
    })));
    (ReplySender(Some(slot.clone())), ReplyReceiver(slot))
}

struct Slot<V: ?Sized = dyn Any + Send>(Mutex<Content<V>>);

/// Invariant: no value of the user is dropped while the slot is locked.
struct Content<V: ?Sized> {
    stage: Stage,
    error: Option<CallError>,
    /// A `Guarded<R>`.
    value: V,
}

enum Stage {
    /// The result is not released yet.
    Held { waiter: Option<Waker> },
    /// The caller may take the result.
    Released,
    /// The sender was dropped: the runtime is gone.
    Dropped,
}

/// The server's end of a call. Dropping it tells the caller that the runtime is gone.
pub(crate) struct ReplySender(Option<Arc<Slot>>);

impl ReplySender {
    /// Calls `set` with the slot's value, unless the call has failed.
    fn set(&self, set: impl FnOnce(&mut (dyn Any + Send))) {
        if let Some(slot) = &self.0 {
            let mut content = slot.0.lock();
            if content.error.is_none() {
                set(&mut content.value);
            }
        }
    }

    /// Sets the result. A result of another type than the caller's is ignored.
    pub(crate) fn set_result<R: Send + 'static>(&self, value: R) {
        self.set(|place| put(place, value));
    }

    /// Returns the caller that waits for this.
    fn waiting(&self) -> Option<Waiting> {
        self.0.as_ref().map(|slot| Waiting(Arc::downgrade(slot)))
    }

    /// Returns true if the caller has gone.
    fn is_closed(&self) -> bool {
        self.0.as_ref().is_none_or(|slot| Arc::strong_count(slot) < BOTH_ENDS)
    }

    /// Replaces the result by an error, unless there is an error already.
    pub(crate) fn fail(&mut self, error: CallError) {
        if let Some(slot) = &self.0 {
            slot.0.lock().error.get_or_insert(error);
        }
    }

    /// Releases the result to the caller and wakes it.
    pub(crate) fn release(mut self) {
        self.end(Stage::Released);
    }

    fn end(&mut self, stage: Stage) {
        if let Some(slot) = self.0.take() {
            let stage = mem::replace(&mut slot.0.lock().stage, stage);
            if let Stage::Held { waiter } = stage {
                wake(waiter);
            }
        }
    }
}

/// A caller that waits for a deferred reply.
pub(crate) struct Waiting(Weak<Slot>);

impl Waiting {
    /// Returns false once the reply was sent or dropped, or the caller has gone.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.strong_count() == BOTH_ENDS
    }
}

/// The references to a slot while both of its ends exist.
const BOTH_ENDS: usize = 2;

impl Drop for ReplySender {
    fn drop(&mut self) {
        self.end(Stage::Dropped);
    }
}

/// The caller's end of a call.
pub(crate) struct ReplyReceiver(Arc<Slot>);

impl ReplyReceiver {
    /// Waits for the release and moves the result into `target`, an `Option<R>`.
    ///
    /// Cancel safe: a dropped wait leaves the result in the slot.
    pub(crate) async fn receive(
        &self,
        server: &ServerId,
        target: &mut (dyn ReplyTarget + '_),
    ) -> Result<(), CallError> {
        // A caller whose replies are always ready must not keep its thread.
        consume_budget().await;
        poll_fn(|cx| self.poll_released(cx)).await;
        let mut content = self.0.0.lock();
        if let Stage::Dropped = content.stage {
            return Err(CallError::RuntimeStopped { server: server.clone() });
        }
        match content.error.take() {
            Some(error) => Err(error),
            None => {
                target.take_from(&mut content.value);
                Ok(())
            }
        }
    }

    /// Returns true if there is nothing left to wait for.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.0.0.lock().stage, Stage::Held { .. })
    }

    fn poll_released(&self, cx: &Context<'_>) -> Poll<()> {
        let content = self.0.0.lock();
        let Stage::Held { waiter } = &content.stage else { return Poll::Ready(()) };
        if waiter.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(content);
        // Wakers are code of the caller: they are cloned and dropped outside of the lock.
        let waker = cx.waker().clone();
        let mut content = self.0.0.lock();
        let Stage::Held { waiter } = &mut content.stage else { return Poll::Ready(()) };
        let former = waiter.replace(waker);
        drop(content);
        drop(former);
        Poll::Pending
    }
}

/// Drops the waker, so that the slot does not keep the caller's task alive.
impl Drop for ReplyReceiver {
    fn drop(&mut self) {
        let mut content = self.0.0.lock();
        if let Stage::Held { waiter } = &mut content.stage {
            let waker = waiter.take();
            drop(content);
            drop(waker);
        }
    }
}

/// A caller's place for one result, on its own stack: all that a call does with the type of its
/// result.
pub(crate) trait ReplyTarget: Send {
    /// Returns the place, an `Option<R>`.
    fn place(&mut self) -> &mut dyn Any;

    /// Moves a result out of a slot.
    fn take_from(&mut self, value: &mut dyn Any);

    /// Moves the result, if there is one, into a new slot.
    fn channel(&mut self) -> (ReplySender, ReplyReceiver);
}

impl<R: Send + 'static> ReplyTarget for Option<R> {
    fn place(&mut self) -> &mut dyn Any {
        self
    }

    fn take_from(&mut self, value: &mut dyn Any) {
        if let Some(value) = value.downcast_mut::<Guarded<R>>() {
            *self = value.take();
        }
    }

    fn channel(&mut self) -> (ReplySender, ReplyReceiver) {
        let (sender, receiver) = channel::<R>();
        if let Some(value) = self.take() {
            sender.set_result(value);
        }
        (sender, receiver)
    }
}

/// Puts `value` into a `Guarded<R>`.
fn put<R: 'static>(place: &mut (dyn Any + Send), value: R) {
    if let Some(place) = place.downcast_mut::<Guarded<R>>() {
        *place = Guarded::new(value);
    }
}

/// The caller of a message that runs inline.
pub(crate) struct InlineCaller<'a> {
    pub(crate) target: &'a mut dyn ReplyTarget,
    /// Set once the handler has deferred the reply.
    pub(crate) deferred: Option<ReplyReceiver>,
}

/// Where a handler puts its result: the place of the waiting caller, if there is one.
pub struct ReplySlot<'a>(To<'a>);

enum To<'a> {
    /// A caller that waits for a task, or none.
    Sender(&'a mut Option<ReplySender>),
    /// A caller that runs the handler itself.
    Caller(&'a mut (dyn Deferrable + 'a)),
}

/// An [`InlineCaller`], without its lifetime.
trait Deferrable: Send {
    fn place(&mut self) -> &mut dyn Any;
    fn defer(&mut self) -> ReplySender;
}

impl Deferrable for InlineCaller<'_> {
    fn place(&mut self) -> &mut dyn Any {
        self.target.place()
    }

    fn defer(&mut self) -> ReplySender {
        let (sender, receiver) = self.target.channel();
        self.deferred = Some(receiver);
        sender
    }
}

impl fmt::Debug for ReplySlot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplySlot").finish_non_exhaustive()
    }
}

impl<'a> ReplySlot<'a> {
    pub(crate) fn to_sender(sender: &'a mut Option<ReplySender>) -> Self {
        Self(To::Sender(sender))
    }

    pub(crate) fn to_caller(caller: &'a mut InlineCaller<'_>) -> Self {
        Self(To::Caller(caller))
    }

    /// Sets the result. A caller that waits for another type gets
    /// [`CallError::NoReply`](crate::CallError::NoReply); generated code never mixes them up.
    pub fn set<R: Send + 'static>(self, value: R) {
        match self.0 {
            To::Sender(Some(sender)) => sender.set_result(value),
            To::Sender(None) => {}
            To::Caller(caller) => {
                if let Some(place) = caller.place().downcast_mut::<Option<R>>() {
                    *place = Some(value);
                }
            }
        }
    }

    /// Takes the reply sender: the reply is sent later.
    pub(crate) fn take_sender(self) -> Option<ReplySender> {
        match self.0 {
            To::Sender(sender) => sender.take(),
            To::Caller(caller) => Some(caller.defer()),
        }
    }
}

/// Takes replies that are sent outside of their own handler.
pub(crate) trait DeferredReplies: Send + Sync {
    /// Notes that a caller waits.
    fn defer(&self, caller: Waiting);

    fn post(&self, reply: ReplySender);
}

/// A caller to be answered later.
///
/// A method that takes a `Reply<T>` returns nothing; its call returns what is
/// [sent](Self::send). Keep the reply where nothing is stored, e.g. in a `#[serde(skip)]` field,
/// or move it to a task.
///
/// Like every reply, this one leaves after the commits that it may depend on: sent inside a
/// handler, it shares that handler's fate, including its panic or failed commit. The deadline of
/// the call is not extended.
///
/// A server is not unloaded for idleness while a caller waits for a reply that was deferred.
///
/// Dropping a reply unsent, as a crash or the end of the server does, answers the caller with
/// [`CallError::NoReply`].
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
    /// Never contended: the mutex makes a state that keeps replies `Sync`, so that the state can
    /// have `async` methods with `&self`.
    sender: Mutex<Option<ReplySender>>,
    server: Weak<dyn DeferredReplies>,
    value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Reply<T> {
    pub(crate) fn new(sender: Option<ReplySender>, server: Weak<dyn DeferredReplies>) -> Self {
        if let Some(caller) = sender.as_ref().and_then(ReplySender::waiting)
            && let Some(server) = server.upgrade()
        {
            server.defer(caller);
        }
        Self { sender: Mutex::new(sender), server, value: PhantomData }
    }

    /// Returns true if nobody waits for this any more: the call has timed out, its future was
    /// dropped, or it was a cast. For a server that keeps replies, to drop those in vain.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Client, Reply, Runtime};
    /// # use std::time::Duration;
    /// #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// struct Gate {
    ///     #[serde(skip)]
    ///     waiting: Vec<Reply<()>>,
    /// }
    ///
    /// #[persistent_server]
    /// impl Gate {
    ///     pub fn pass(&mut self, reply: Reply<()>) {
    ///         self.waiting.retain(|reply| !reply.is_closed());
    ///         self.waiting.push(reply);
    ///     }
    ///
    ///     pub fn waiting(&self) -> usize {
    ///         self.waiting.len()
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let gate = runtime.at::<Gate>("north", ());
    /// for _ in 0..3 {
    ///     gate.with_timeout(Duration::from_millis(1)).pass().await.unwrap_err();
    /// }
    /// assert_eq!(gate.waiting().await?, 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.lock().as_ref().is_none_or(ReplySender::is_closed)
    }

    /// Answers the caller. A caller that gave up, or did not wait in the first place, is no
    /// error.
    pub fn send(mut self, value: T) {
        let Some(sender) = self.sender.get_mut().take() else { return };
        sender.set_result(value);
        match self.server.upgrade() {
            Some(server) => server.post(sender),
            // A server that is gone has nothing left to commit.
            None => sender.release(),
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.get_mut().take() {
            sender.release();
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
