//! The reminder scheduler: one task per server type, which wakes servers whose reminders are due.

use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use crate::{
    engine::{
        agenda::{Next, PAGE},
        command::{CallOptions, Command},
        handle::HandleCore,
        registry::Registry,
    },
    error::CallError,
    observe::event::Event,
    storage::StorageError,
    support::{
        catch::await_catching,
        sync::{
            task::JoinSet,
            time::{self, Instant},
        },
    },
};

/// The number of servers that begin to handle their reminders at the same time.
const CONCURRENCY: usize = 64;
/// A server that takes longer no longer counts towards [`CONCURRENCY`].
const SLOW: Duration = Duration::from_secs(1);
/// The delay before a failed look-up is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The longest time between two readings of the wall clock while a reminder is pending. After a
/// step of the system time or a suspend of the machine, a reminder is late by at most this.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// Starts the scheduler of a server type.
pub(crate) fn start(registry: &Arc<Registry>) {
    let scheduler = registry.services().home().tokio().spawn(run(registry.clone()));
    registry.set_reminder_scheduler(scheduler.abort_handle());
}

async fn run(registry: Arc<Registry>) {
    let mut scheduler = Scheduler {
        registry: registry.clone(),
        calls: JoinSet::new(),
        slow_calls: JoinSet::new(),
        next_read: None,
    };
    while !registry.services().is_halted() {
        let wait = scheduler.advance().await;
        scheduler.wait(wait).await;
    }
}

/// A request to a server to handle its reminders, with its outcome.
type Call = Pin<Box<dyn Future<Output = Ended> + Send>>;
type Ended = (Arc<str>, Result<(), CallError>);

/// The state of a scheduler. Each server is woken by its own task, so that a slow server does not
/// delay others.
struct Scheduler {
    registry: Arc<Registry>,
    calls: JoinSet<Result<Ended, Call>>,
    /// The calls that have taken longer than [`SLOW`].
    slow_calls: JoinSet<Ended>,
    /// The time of the next look-up, after one that has failed.
    next_read: Option<Instant>,
}

impl Scheduler {
    /// Wakes the servers whose reminders are due. Returns how long to wait.
    async fn advance(&mut self) -> Option<Duration> {
        let registry = self.registry.clone();
        let (agenda, clock) = (registry.agenda(), registry.services().clock());
        while self.calls.len() < CONCURRENCY {
            let now = clock.now();
            self.next_read.take_if(|time| *time <= Instant::now());
            match agenda.next(now, self.next_read.is_none()) {
                Next::Wake(key) => self.wake(key),
                Next::Read(after) => {
                    let after = after.as_ref().map(|(due, key)| (*due, &**key));
                    let (storage, kind) = (registry.services().storage(), registry.kind());
                    let page = async { storage.due(kind, after, PAGE).await };
                    let page = await_catching(page).await;
                    let page = page.unwrap_or_else(|panic| Err(StorageError::other(panic))).ok();
                    if page.is_none() {
                        self.next_read = Instant::now().checked_add(RETRY);
                    }
                    agenda.add(page);
                }
                Next::Wait(due, parked) => {
                    let due = due.map(|due| Duration::from_millis(due.saturating_sub(now)));
                    let due =
                        due.map(|due| if clock.may_step() { due.min(CLOCK_CHECK) } else { due });
                    let times = parked.into_iter().chain(self.next_read);
                    let waits = times.map(|time| time.duration_since(Instant::now()));
                    return due.into_iter().chain(waits).min();
                }
            }
        }
        // The end of a call makes room.
        None
    }

    /// Sends a server the command to handle its reminders.
    fn wake(&mut self, key: Arc<str>) {
        let handle = HandleCore::new(self.registry.cell(&key), CallOptions::default());
        let server = handle.cell().id().clone();
        let mut call: Call = Box::pin(async move {
            let mut reply = None::<()>;
            let outcome = await_catching(handle.command(Command::Remind, &mut reply)).await;
            (key, outcome.unwrap_or(Err(CallError::NoReply { server })))
        });
        self.calls.spawn(async move { time::timeout(SLOW, &mut call).await.map_err(|_| call) });
    }

    /// Waits until the agenda has changed, `time` has passed, or a call has ended.
    async fn wait(&mut self, time: Option<Duration>) {
        let registry = self.registry.clone();
        let mut changed = pin!(registry.agenda().changed());
        let mut over = pin!(async {
            match time {
                Some(time) => time::sleep(time).await,
                None => pending().await,
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(Some(ended)) = self.calls.poll_join_next(cx) {
                match ended {
                    Ok(Ok(ended)) => self.finish(ended),
                    Ok(Err(call)) => drop(self.slow_calls.spawn(call)),
                    Err(_) => {}
                }
                return Poll::Ready(());
            }
            if let Poll::Ready(Some(ended)) = self.slow_calls.poll_join_next(cx) {
                if let Ok(ended) = ended {
                    self.finish(ended);
                }
                return Poll::Ready(());
            }
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            over.as_mut().poll(cx)
        })
        .await;
    }

    fn finish(&self, (key, outcome): Ended) {
        let agenda = self.registry.agenda();
        match outcome {
            Ok(()) => agenda.finish(key, false),
            Err(CallError::NotFound { .. }) => agenda.forget(&key),
            Err(_) if self.registry.is_stopping() => {}
            Err(error) => {
                let event = Event::RemindersDelayed { reason: error.to_string() };
                self.registry.cell(&key).notify(&event);
                agenda.finish(key, true);
            }
        }
    }
}
