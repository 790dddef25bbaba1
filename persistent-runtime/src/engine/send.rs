//! The way of a message into a mailbox: admission, capacity, and the start of a task.

use std::{any::Any, future::poll_fn, sync::Arc, task::Poll};

use crate::{
    call::reply::ReplySender,
    engine::{
        capacity::CapacityWaiter,
        cell::Cell,
        command::{CallOptions, Command, Content, Envelope, refuse},
        erased::Method,
        inline,
        mailbox::{Mailbox, Start},
        services::ShutdownGuard,
        task::{Step, Task},
    },
    error::CallError,
    support::catch::wake,
};

/// The outcome of offering a message to a mailbox.
pub(crate) enum SendOutcome {
    /// There is no capacity; the message and its reply sender are still with the caller.
    Full,
    /// The message is queued or with a task, or its caller was refused.
    Queued,
    /// The message was handled inline. Its reply may wait for a commit or for its handler.
    Handled,
    /// The message was refused, and no caller waits for a reply. Boxed: this enum is returned for
    /// each cast, and fits into registers.
    Refused(Box<CallError>),
}

/// A message or command on its way into a mailbox.
pub(crate) enum Outgoing<'a> {
    /// A slot with the message.
    Message(&'a mut (dyn Any + Send), &'static Method),
    /// An envelope without options. Always `Some`, until it is taken.
    Envelope(&'a mut Option<Envelope>),
}

/// A message or an envelope that waits for capacity.
pub(crate) enum Waiting<'a> {
    Message(&'a mut (dyn Any + Send), &'static Method),
    Envelope(Option<Envelope>),
}

impl Waiting<'_> {
    fn outgoing(&mut self) -> Outgoing<'_> {
        match self {
            Self::Message(slot, method) => Outgoing::Message(&mut **slot, method),
            Self::Envelope(envelope) => Outgoing::Envelope(envelope),
        }
    }
}

impl Outgoing<'_> {
    /// Returns true if this may run inline: its sender waits for it, and it needs no await of its
    /// own.
    fn runs_inline(&self, reply: Option<&ReplySender>) -> bool {
        match self {
            Self::Message(_, method) => reply.is_some() && !method.is_async,
            Self::Envelope(envelope) => envelope.as_ref().is_some_and(|envelope| {
                envelope.reply.is_some()
                    && matches!(
                        envelope.content,
                        Content::Command(Command::Start | Command::Create | Command::Stop(_))
                    )
            }),
        }
    }

    fn is_stop(&self) -> bool {
        matches!(self, Self::Envelope(Some(envelope))
            if matches!(envelope.content, Content::Command(Command::Stop(_))))
    }
}

impl Cell {
    /// Queues a message, and starts or wakes the task. Leaves the message in its slot if the mailbox
    /// is full.
    /// A refusal goes to the caller that waits for the reply, or else is returned.
    pub(crate) fn try_send(
        self: &Arc<Self>,
        outgoing: Outgoing<'_>,
        reply: &mut Option<ReplySender>,
        options: &Arc<CallOptions>,
    ) -> SendOutcome {
        self.push(outgoing, reply, options, |mailbox| {
            self.has_capacity(mailbox) && !mailbox.has_blocked_senders()
        })
    }

    /// Queues a command, whether there is capacity or not.
    pub(crate) fn send_past(self: &Arc<Self>, envelope: Envelope) {
        let options = Arc::new(CallOptions::default());
        // A refusal goes to the caller that waits for the reply.
        self.push(Outgoing::Envelope(&mut Some(envelope)), &mut None, &options, |_| true);
    }

    pub(crate) fn has_capacity(&self, mailbox: &Mailbox) -> bool {
        mailbox.len() < self.settings().mailbox
    }

    /// Queues a message if `may` allows it.
    fn push(
        self: &Arc<Self>,
        outgoing: Outgoing<'_>,
        reply: &mut Option<ReplySender>,
        options: &Arc<CallOptions>,
        may: impl FnOnce(&mut Mailbox) -> bool,
    ) -> SendOutcome {
        let mut mailbox = self.lock();
        if let Err(error) = self.admit(&outgoing, &mailbox) {
            drop(mailbox);
            let reply = match outgoing {
                Outgoing::Envelope(envelope) => envelope.take().and_then(|it| it.reply),
                Outgoing::Message(..) => reply.take(),
            };
            return match refuse(reply, error) {
                Ok(()) => SendOutcome::Queued,
                Err(error) => SendOutcome::Refused(Box::new(error)),
            };
        }
        if !may(&mut mailbox) {
            return SendOutcome::Full;
        }
        let active = || ShutdownGuard::new(self.registry().services().clone());
        let Some(start) = mailbox.start(active) else {
            let of = self.registry().server_type();
            let (removed, waker) = match outgoing {
                Outgoing::Message(slot, _) => {
                    mailbox.enqueue_message(of, slot, reply.take(), options)
                }
                Outgoing::Envelope(envelope) => match envelope.take() {
                    Some(envelope) => mailbox.enqueue(of, envelope, options),
                    None => return SendOutcome::Queued,
                },
            };
            drop(mailbox);
            drop(removed);
            if let Some(waker) = waker {
                waker.wake();
            }
            return SendOutcome::Queued;
        };
        // Nothing is queued before this message: it is the task's first.
        drop(mailbox);
        let Start { parked, instance, refuses_or_forwards, removed } = start;
        drop(removed);
        let mut task = parked.unwrap_or_else(|| Task::new(self.clone(), instance));
        task.begin(refuses_or_forwards, options.clone());
        let reply = reply.take();
        if outgoing.runs_inline(reply.as_ref()) {
            inline::run_task(task, outgoing, reply)
        } else {
            let is_cast = reply.is_none();
            task.push(outgoing, reply);
            self.registry().spawn(task.run(Some(Step::HandleFront)));
            // A task that cannot be spawned is dropped. A caller that waits for a reply learns it from
            // that.
            if is_cast && self.registry().services().home().has_dropped_task() {
                return SendOutcome::Refused(Box::new(self.runtime_stopped()));
            }
            SendOutcome::Queued
        }
    }

    /// Queues an envelope, waiting for capacity.
    ///
    /// Cancel safe: a dropped call has queued nothing.
    pub(crate) async fn send(
        self: &Arc<Self>,
        envelope: Envelope,
        options: &Arc<CallOptions>,
    ) -> Result<(), CallError> {
        let mut envelope = Some(envelope);
        match self.try_send(Outgoing::Envelope(&mut envelope), &mut None, options) {
            SendOutcome::Full => {
                self.send_when_possible(Waiting::Envelope(envelope), None, options).await
            }
            SendOutcome::Queued | SendOutcome::Handled => Ok(()),
            SendOutcome::Refused(error) => Err(*error),
        }
    }

    /// Queues a message that found the mailbox full, waiting for capacity.
    ///
    /// Cancel safe: a dropped call has queued nothing.
    pub(crate) async fn send_when_possible(
        self: &Arc<Self>,
        mut waiting: Waiting<'_>,
        mut reply: Option<ReplySender>,
        options: &Arc<CallOptions>,
    ) -> Result<(), CallError> {
        let mut waiter = CapacityWaiter::new(self);
        let sent = poll_fn(|cx| {
            let (waker, mut former, mut next) = (cx.waker().clone(), None, None);
            let may = |mailbox: &mut Mailbox| {
                let has_capacity = self.has_capacity(mailbox);
                let senders = mailbox.blocked_senders_mut();
                let may = has_capacity && senders.is_next(waiter.place());
                if !may {
                    former = senders.set_waker(waiter.place(), waker);
                    // It may have been woken in place of the one that is next by now.
                    next = if has_capacity { senders.take_next() } else { None };
                }
                may
            };
            let outcome = self.push(waiting.outgoing(), &mut reply, options, may);
            wake(next);
            match outcome {
                SendOutcome::Full => Poll::Pending,
                SendOutcome::Queued | SendOutcome::Handled => Poll::Ready(Ok(())),
                SendOutcome::Refused(error) => Poll::Ready(Err(*error)),
            }
        })
        .await;
        waiter.has_entered = true;
        sent
    }

    /// Returns an error if the server accepts no messages.
    fn admit(&self, outgoing: &Outgoing<'_>, mailbox: &Mailbox) -> Result<(), CallError> {
        if self.registry().is_stopping() {
            return Err(self.runtime_stopped());
        }
        if let Some(refusal) = self.registry().refusal() {
            return Err(refusal.error(self.id().clone()));
        }
        match mailbox.failed() {
            Some(failed) if !outgoing.is_stop() => Err(self.limit_exceeded(failed)),
            _ => Ok(()),
        }
    }
}
