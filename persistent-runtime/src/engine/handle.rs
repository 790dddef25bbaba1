//! The caller's side of the engine: a reference to a server, and how a call waits.

use std::{
    any::Any,
    cell::Cell as StdCell,
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use crate::{
    call::{
        deadline::Deadline,
        reply::{ReplyReceiver, ReplySender, ReplyTarget},
    },
    engine::{
        cell::CellRef,
        command::{CallOptions, Command, Envelope},
        erased::Method,
        inline::{self, Inline},
        send::{Outgoing, SendOutcome, Waiting},
    },
    error::CallError,
    id::ServerId,
    support::sync::task::yield_now,
};

/// Where a handle's server is. A server on another node becomes a second variant.
#[derive(Clone)]
enum Location {
    Local(CellRef),
}

/// The core of a client: its server, the options of its messages, and a deadline.
pub(crate) struct HandleCore {
    location: Location,
    options: Arc<CallOptions>,
    timeout: Duration,
    deadline: Deadline,
}

/// The state of a call after it was sent.
pub(crate) enum Sent {
    /// The result is in the caller's place.
    Done,
    /// The reply comes later. True if it may only wait for a commit.
    Pending(ReplyReceiver, bool),
    /// The mailbox is full. The message is still in its slot.
    Full(ReplySender, ReplyReceiver),
    Refused(Box<CallError>),
}

thread_local! {
    /// The number of messages of this thread that did not have to wait.
    static COMPLETED: StdCell<u32> = const { StdCell::new(0) };
}

/// The number of messages of a thread between two yields of callers that never have to wait. Tokio's
/// budget would allow twice as many, and counting each message for it would cost a fifth of the
/// message.
const MESSAGES_PER_YIELD: u32 = 64;

/// Yields now and then for a caller that never has to wait.
pub(crate) async fn coop_yield() {
    let completed = COMPLETED.with(|count| {
        count.set(count.get().wrapping_add(1));
        count.get()
    });
    if completed.is_multiple_of(MESSAGES_PER_YIELD) {
        yield_now().await;
    }
}

impl HandleCore {
    pub(crate) fn new(cell: CellRef, options: CallOptions) -> Self {
        let timeout = cell.settings().call_timeout;
        let options = Arc::new(options);
        Self { location: Location::Local(cell), options, timeout, deadline: Deadline::default() }
    }

    pub(crate) fn cell(&self) -> &CellRef {
        let Location::Local(cell) = &self.location;
        cell
    }

    pub(crate) fn server(&self) -> &ServerId {
        self.cell().id()
    }

    pub(crate) fn options(&self) -> &CallOptions {
        &self.options
    }

    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    pub(crate) fn with_options(&self, change: impl FnOnce(&mut CallOptions)) -> Self {
        let mut handle = self.clone();
        change(Arc::make_mut(&mut handle.options));
        handle
    }

    /// Sends the message in `slot`, and handles it inline if it qualifies.
    pub(crate) fn send(
        &self,
        slot: &mut (dyn Any + Send),
        method: &'static Method,
        target: &mut dyn ReplyTarget,
    ) -> Sent {
        let cell = self.cell();
        match inline::try_handle(cell, &self.options, slot, method, target) {
            Inline::Done => return Sent::Done,
            Inline::Pending(receiver) => return Sent::Pending(receiver, false),
            Inline::Declined => {}
        }
        let (sender, receiver) = target.channel();
        let mut sender = Some(sender);
        let outgoing = Outgoing::Message(slot, method);
        match (cell.try_send(outgoing, &mut sender, &self.options), sender) {
            (SendOutcome::Full, Some(sender)) => Sent::Full(sender, receiver),
            (SendOutcome::Handled, _) => Sent::Pending(receiver, true),
            (SendOutcome::Queued | SendOutcome::Full, _) => Sent::Pending(receiver, false),
            (SendOutcome::Refused(error), _) => Sent::Refused(error),
        }
    }

    /// Waits for the reply of a message that was sent.
    ///
    /// Cancel safe: a message that is queued runs to its end, a message that is not is dropped.
    pub(crate) async fn wait(
        &self,
        sent: Sent,
        slot: &mut (dyn Any + Send),
        method: &'static Method,
        target: &mut dyn ReplyTarget,
    ) -> Result<(), CallError> {
        let waiting = pin!(async {
            let receiver = match sent {
                Sent::Done => return Ok(()),
                Sent::Refused(error) => return Err(*error),
                Sent::Full(sender, receiver) => {
                    let waiting = Waiting::Message(slot, method);
                    // Boxed to keep the future of a call small.
                    Box::pin(self.cell().send_when_possible(waiting, Some(sender), &self.options))
                        .await?;
                    receiver
                }
                Sent::Pending(receiver, true) => {
                    let commit_wait = self.cell().registry().services().commit_wait();
                    if let Some(waiter) = commit_wait.register(&receiver) {
                        Box::pin(waiter.spin(&receiver)).await;
                        // The waiter counts until the reply is here.
                        return receiver.receive(self.server(), target).await;
                    }
                    receiver
                }
                Sent::Pending(receiver, false) => receiver,
            };
            receiver.receive(self.server(), target).await
        });
        self.within_deadline(waiting).await
    }

    /// Queues the message in `slot` without waiting for its handler.
    pub(crate) fn try_cast(
        &self,
        slot: &mut (dyn Any + Send),
        method: &'static Method,
    ) -> SendOutcome {
        self.cell().try_send(Outgoing::Message(slot, method), &mut None, &self.options)
    }

    /// Queues the message in `slot`, which found the mailbox full.
    pub(crate) async fn cast_when_possible(
        &self,
        slot: &mut (dyn Any + Send),
        method: &'static Method,
    ) -> Result<(), CallError> {
        let waiting = Waiting::Message(slot, method);
        let mut sending = Box::pin(self.cell().send_when_possible(waiting, None, &self.options));
        self.within_deadline(sending.as_mut()).await
    }

    /// Sends a command and waits until it is done.
    pub(crate) async fn command(
        &self,
        command: Command,
        target: &mut dyn ReplyTarget,
    ) -> Result<(), CallError> {
        let (sender, receiver) = target.channel();
        let mut envelope = Some(Envelope::command(command, Some(sender)));
        let outgoing = Outgoing::Envelope(&mut envelope);
        let outcome = self.cell().try_send(outgoing, &mut None, &self.options);
        self.within_deadline(pin!(async {
            if let SendOutcome::Refused(error) = outcome {
                return Err(*error);
            }
            if let SendOutcome::Full = outcome {
                let waiting = Waiting::Envelope(envelope);
                Box::pin(self.cell().send_when_possible(waiting, None, &self.options)).await?;
            }
            receiver.receive(self.server(), target).await
        }))
        .await
    }

    /// Ends a wait at the deadline. `work` is pinned: moving it in would store it in each
    /// enclosing future.
    async fn within_deadline(
        &self,
        work: Pin<&mut (dyn Future<Output = Result<(), CallError>> + Send)>,
    ) -> Result<(), CallError> {
        let home = self.cell().registry().services().home();
        match self.deadline.within(self.timeout, home, work).await {
            Some(result) => result,
            None => Err(CallError::Timeout { server: self.server().clone(), after: self.timeout }),
        }
    }
}

impl Clone for HandleCore {
    fn clone(&self) -> Self {
        let (location, options) = (self.location.clone(), self.options.clone());
        Self { location, options, timeout: self.timeout, deadline: Deadline::default() }
    }
}

impl fmt::Debug for HandleCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(self.server()).finish()
    }
}
