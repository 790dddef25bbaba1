//! The tasks of a scenario, and its time.

use std::{future::poll_fn, mem, task::Poll, time::Duration};

use shuttle::future::{self, JoinHandle, yield_now};

use crate::support::sync::shuttle as simulation;

/// A task of the scenario. To the scheduler it is a thread.
pub(super) type Caller<T> = JoinHandle<T>;

/// Spawns a task.
pub(super) fn caller<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Caller<T> {
    future::spawn(work)
}

/// Awaits a task that no scenario aborts.
pub(super) async fn joined<T>(caller: Caller<T>) -> T {
    caller.await.expect("the scenario does not abort this caller")
}

/// Spawns a task that advances time once.
pub(super) fn advance(by: Duration) -> Caller<()> {
    caller(async move { simulation::advance(by) })
}

/// Advances time by `step` again and again until `work` is done.
pub(super) async fn advance_until_done<T>(step: Duration, work: Caller<T>) -> T {
    while !work.is_finished() {
        simulation::advance(step);
        yield_now().await;
    }
    joined(work).await
}

/// Returns `Pending` once. Unlike a yield it does not ask the scheduler to run another task:
/// a scheduler that prefers this task continues it.
pub(super) async fn pause() {
    let mut paused = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
