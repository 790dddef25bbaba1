//! Inline runs: in the poll of the caller, without a task switch.
//!
//! This module alone decides it, in two steps.
//!
//! 1. [`try_handle`], before the mailbox. A caller that finds the server idle borrows the
//!    instance, runs the handler and puts the instance back: two locks, no queue, no allocation,
//!    no task. Only a message that ends at once qualifies: its method is not `async`, and it
//!    leaves nothing to be committed now. The phase is Borrowed meanwhile, so every other rule holds:
//!    messages queue in order, and the caller looks for them when it puts the instance back.
//! 2. [`run_task`], after the mailbox. A message that starts a task, and whose sender waits for
//!    it, begins in the sender's poll. If the task finishes or only awaits a commit without ever
//!    waiting for anything else, tokio never sees it; otherwise it continues as a task of tokio.
//!    The caller handles only its own message: behind it the task continues on tokio.
//!
//! Runs of the second kind do not nest: a hook that calls another server gets a task of its own for
//! that. A hook may still run one message of the first kind, whose handler cannot await, so the
//! stack stays bounded.

use std::{
    any::Any,
    cell::Cell as StdCell,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::{
    call::reply::{InlineCaller, ReplyReceiver, ReplySender, ReplySlot, ReplyTarget},
    engine::{
        cell::Cell,
        command::CallOptions,
        erased::Method,
        instance::Instance,
        mailbox::Lend,
        send::{Outgoing, SendOutcome},
        task::{Executed, Step, Task},
    },
    support::{
        catch::poll_catching,
        spin::{BORROW_ATTEMPTS, BORROW_PAUSE},
        sync::thread_local,
    },
};

/// The outcome of an attempt to handle a message inline.
pub(crate) enum Inline {
    /// The result is in the caller's place.
    Done,
    /// The handler has run, but its reply comes later.
    Pending(ReplyReceiver),
    /// The message has to go through the mailbox; it is still in its slot.
    Declined,
}

/// Handles the message in `slot` if it qualifies.
pub(crate) fn try_handle(
    cell: &Arc<Cell>,
    options: &Arc<CallOptions>,
    slot: &mut (dyn Any + Send),
    method: &'static Method,
    target: &mut dyn ReplyTarget,
) -> Inline {
    if method.is_async {
        return Inline::Declined;
    }
    let Some(mut instance) = borrow(cell, options, method.is_read) else {
        return Inline::Declined;
    };
    let mut caller = InlineCaller { target, deferred: None };
    let outcome = {
        let _entered = cell.registry().services().home().enter_for_caller();
        instance.run(slot, method, ReplySlot::to_caller(&mut caller))
    };
    let has_no_effects = instance.server.context().has_no_effects();
    if outcome.is_ok()
        && instance.parts.finish_without_commit(
            method.is_read,
            options.persist,
            has_no_effects,
            cell.registry().services().expiry(),
        )
    {
        cell.put_back(instance);
        return match caller.deferred {
            Some(receiver) => Inline::Pending(receiver),
            None => Inline::Done,
        };
    }
    let (reply, receiver) = match caller.deferred {
        Some(receiver) => (None, receiver),
        None => {
            let (sender, receiver) = caller.target.channel();
            (Some(sender), receiver)
        }
    };
    cell.end_borrow();
    let executed = Executed {
        is_read: method.is_read,
        persist: options.persist,
        outcome: outcome.into(),
        reply,
    };
    let mut task = Task::new(cell.clone(), None);
    task.begin(false, options.clone());
    if let Some((task, step)) = task.finish_first(instance, executed) {
        cell.registry().spawn(task.run(step));
    }
    Inline::Pending(receiver)
}

/// Takes the instance if it is idle and the message would leave it idle.
fn borrow(cell: &Cell, options: &CallOptions, is_read: bool) -> Option<Box<Instance>> {
    let is_free = |instance: &Instance| instance.parts.needs_no_commit(is_read, options.persist);
    let busy_wait = cell.registry().services().busy_wait();
    for _ in 0..BORROW_ATTEMPTS {
        if cell.registry().is_stopping() {
            return None;
        }
        // The lock is not taken from a caller that is about to put the instance back.
        if !cell.is_borrowed() {
            match cell.lend(is_free) {
                Lend::Lent(instance) => return Some(instance),
                Lend::Borrowed => {}
                Lend::Unavailable => return None,
            }
        }
        if !busy_wait.pause(BORROW_PAUSE) {
            return None;
        }
    }
    None
}

thread_local! {
    static IN_INLINE_RUN: StdCell<bool> = const { StdCell::new(false) };
}

/// Marks this thread as in an inline run, until it is dropped.
struct InlineRun;

impl InlineRun {
    fn begin() -> Option<Self> {
        IN_INLINE_RUN.with(|is_running| !is_running.replace(true)).then_some(Self)
    }
}

impl Drop for InlineRun {
    fn drop(&mut self) {
        IN_INLINE_RUN.with(|is_running| is_running.set(false));
    }
}

/// Runs a task with its first message as far as it goes without waiting, and then as a task of
/// tokio.
pub(crate) fn run_task(
    mut task: Box<Task>,
    outgoing: Outgoing<'_>,
    reply: Option<ReplySender>,
) -> SendOutcome {
    let cell = task.cell().clone();
    let registry = cell.registry();
    // Without a tokio runtime the task is dropped, which reports that to the caller.
    let inline_run = if registry.services().home().is_gone() { None } else { InlineRun::begin() };
    let Some(_inline_run) = inline_run else {
        task.push(outgoing, reply);
        registry.spawn(task.run(Some(Step::HandleFront)));
        return SendOutcome::Queued;
    };
    match outgoing {
        Outgoing::Message(slot, method) if task.has_instance() => {
            let _entered = registry.services().home().enter_for_caller();
            let Some((task, step)) = task.handle_first(slot, method, reply) else {
                return SendOutcome::Handled;
            };
            registry.spawn(task.run(step));
            return SendOutcome::Queued;
        }
        outgoing => task.push(outgoing, reply),
    }
    task.yield_before_next();
    let mut running = Box::pin(task.run(Some(Step::HandleFront)));
    let poll = {
        // The task's timers belong to the runtime, wherever the caller is.
        let _entered = registry.services().home().tokio().enter();
        poll_catching(running.as_mut(), &mut Context::from_waker(Waker::noop()))
    };
    if matches!(poll, Poll::Pending) {
        registry.spawn(running);
    }
    SendOutcome::Queued
}
