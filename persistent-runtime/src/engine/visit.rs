//! A task that begins in its caller's place: a server that activates, handles a
//! message and is at rest again without ever waiting needs no task of its own,
//! and one that waits moves to one there and then.
//!
//! The caller does no work for others: behind its own message the task moves as
//! well. Visits don't nest: a hook that calls another server begins no second
//! one on the same stack.

use std::{
    cell::Cell,
    task::{Context, Poll, Waker},
};

use crate::{
    api::server::Server, engine::mailbox::Envelope, engine::mailbox::Sent, engine::task::Step,
    engine::task::Task, support::catch::poll_catching, support::sync, support::sync::thread_local,
};

thread_local! {
    static VISITED: Cell<bool> = const { Cell::new(false) };
}

/// Ends the visit, also by a panic.
struct Visit;

impl Visit {
    fn begin() -> Option<Self> {
        VISITED.with(|visited| !visited.replace(true)).then_some(Self)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        VISITED.with(|visited| visited.set(false));
    }
}

/// Runs `task`, whose first message is `envelope`, here as far as it goes without
/// waiting, and then as a task of its own.
pub(crate) fn run<S: Server>(mut task: Box<Task<S>>, envelope: Envelope<S>) -> Sent<S> {
    let cell = task.cell().clone();
    let (kind, core) = (cell.kind(), cell.kind().core());
    // Without a tokio runtime the task is dropped, and tells the caller so.
    let visit = if core.is_homeless() { None } else { Visit::begin() };
    let Some(_visit) = visit else {
        kind.spawn(task.run(Some(Step::Handle(envelope))));
        return Sent::Queued;
    };
    if task.is_at_hand(&envelope) {
        // A handler finds tokio where it runs, also if its caller is no task.
        let _entered = sync::task::try_id().is_none().then(|| core.tokio().enter());
        let Some((task, next)) = task.handle_first(envelope) else { return Sent::Handled };
        kind.spawn(task.run(next));
        return Sent::Queued;
    }
    task.handle_no_more();
    let mut work = Box::pin(task.run(Some(Step::Handle(envelope))));
    let poll = {
        // Its timers are those of its own runtime, wherever the caller is.
        let _entered = core.tokio().enter();
        poll_catching(work.as_mut(), &mut Context::from_waker(Waker::noop()))
    };
    if matches!(poll, Poll::Pending) {
        kind.spawn(work);
    }
    Sent::Queued
}
