//! The reminder scheduler: one task per server type, which wakes servers whose reminders are due.

use std::{
    collections::HashSet,
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use crate::{
    engine::{
        command::{CallOptions, Command},
        handle::HandleCore,
        registry::Registry,
        reminders::NEVER,
    },
    error::CallError,
    storage::StorageError,
    support::{
        catch::await_catching,
        sync::{task::JoinSet, time},
    },
};

/// The number of servers that are woken at the same time.
const CONCURRENCY: usize = 64;
/// The delay before a failed server or storage is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Starts the scheduler of a server type.
pub(crate) fn start(registry: &Arc<Registry>) {
    let scheduler = registry.services().home().tokio().spawn(run(registry.clone()));
    registry.set_reminder_scheduler(scheduler.abort_handle());
}

async fn run(registry: Arc<Registry>) {
    let mut scheduler = Scheduler { registry, calls: JoinSet::new(), in_progress: HashSet::new() };
    let registry = scheduler.registry.clone();
    let (clock, wakeup) = (registry.services().clock(), registry.reminder_wakeup());
    while !registry.services().is_halted() {
        // Any reminder that is stored while the storage is read wakes the scheduler again.
        wakeup.wait_until(None);
        let now = clock.now();
        let next = scheduler.wake_due(now).await.unwrap_or(Some(now + millis(RETRY)));
        wakeup.wait_until(next);
        let now = clock.now();
        let wait = next.map(|next| Duration::from_millis(next.saturating_sub(now)));
        scheduler.wait(wait).await;
    }
}

/// The state of a scheduler. Each server is woken by its own task, so that a slow server does not
/// delay others.
struct Scheduler {
    registry: Arc<Registry>,
    calls: JoinSet<(Arc<str>, Result<(), CallError>)>,
    /// The servers whose reminders are being handled.
    in_progress: HashSet<Arc<str>>,
}

impl Scheduler {
    /// Wakes the servers whose reminders are due. Returns the due time of the next reminder.
    async fn wake_due(&mut self, now: u64) -> Result<Option<u64>, StorageError> {
        let mut after: Option<(u64, Arc<str>)> = None;
        loop {
            let from = after.as_ref().map(|(due, key)| (*due, &**key));
            let (storage, kind) = (self.registry.services().storage(), self.registry.kind());
            let page = async { storage.due(kind, from, CONCURRENCY).await };
            let page = await_catching(page)
                .await
                .unwrap_or_else(|panic| Err(StorageError::other(panic)))?;
            for (due, key) in &page {
                if *due > now {
                    return Ok(Some(*due));
                }
                if self.calls.len() == CONCURRENCY {
                    // The end of each call makes the scheduler read again.
                    return Ok(None);
                }
                if self.in_progress.insert(key.clone()) {
                    let handle = HandleCore::new(self.registry.cell(key), CallOptions::default());
                    let key = key.clone();
                    self.calls.spawn(async move {
                        (key, handle.command(Command::Remind, &mut None::<()>).await)
                    });
                }
            }
            if page.len() < CONCURRENCY {
                return Ok(None);
            }
            after = page.into_iter().next_back();
        }
    }

    /// Waits until an earlier reminder is stored, `time` has passed, or a call has ended.
    async fn wait(&mut self, time: Option<Duration>) {
        let registry = self.registry.clone();
        let mut woken = pin!(registry.reminder_wakeup().woken());
        let mut over = pin!(async {
            match time {
                Some(time) => time::sleep(time).await,
                None => pending().await,
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(Some(ended)) = self.calls.poll_join_next(cx) {
                if let Ok((key, outcome)) = ended {
                    self.finish(key, &outcome);
                }
                return Poll::Ready(());
            }
            if woken.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            over.as_mut().poll(cx)
        })
        .await;
    }

    fn finish(&mut self, key: Arc<str>, outcome: &Result<(), CallError>) {
        match outcome {
            // A reminder whose message panics is deleted.
            Ok(()) | Err(CallError::Crashed { .. }) => {
                self.in_progress.remove(&key);
            }
            Err(_) if self.registry.is_stopping() => {}
            // Stays in progress until it is tried again.
            Err(_) => {
                self.calls.spawn(async move {
                    time::sleep(RETRY).await;
                    (key, Ok(()))
                });
            }
        }
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(NEVER)
}
