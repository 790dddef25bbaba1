//! What happens to a server, and those who watch it.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::stop_reason::StopReason;

/// Something in a server's life.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It is in memory.
    Started,
    /// An orderly end; the final commit is done.
    Stopped {
        /// Why.
        reason: StopReason,
    },
    /// A handler or hook panicked.
    Crashed {
        /// The panic's text.
        panic: String,
        /// Whether it had handled no message well since it was activated: then
        /// the message or the stored state is to blame, not bad luck.
        poison: bool,
    },
    /// It crashed more often than its restart limit allows.
    Failed {
        /// The last panic's text.
        panic: String,
    },
    /// It was [killed](crate::Client::kill).
    Killed,
    /// Changes that wait to be saved under a weaker persist level could not be.
    /// They are in memory, and it is tried again.
    Unsaved {
        /// Why.
        reason: String,
    },
    /// The watcher was too slow and has missed events.
    Missed {
        /// How many.
        events: usize,
    },
}

/// How many events wait for a slow watcher.
const BACKLOG: usize = 256;

/// The events of one server, in order, from the moment of watching on: a
/// [`Stream`] that ends with the runtime.
///
/// Watching neither starts a server nor keeps it in memory. A watcher that is
/// 256 events behind misses some, and is told so by [`Event::Missed`].
pub struct EventStream {
    events: mpsc::Receiver<Event>,
    /// Keeps the server's cell, and with it the sending end.
    _client: Box<dyn Any + Send + Sync>,
}

impl EventStream {
    /// The next event, or `None` once the runtime has ended.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }
}

/// Those who watch one server.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Watcher>);

struct Watcher {
    events: mpsc::Sender<Event>,
    missed: usize,
}

impl Watchers {
    /// A new watcher, who keeps `client`.
    pub(crate) fn add(&mut self, client: Box<dyn Any + Send + Sync>) -> EventStream {
        self.0.retain(|watcher| !watcher.events.is_closed());
        let (sender, events) = mpsc::channel(BACKLOG);
        self.0.push(Watcher { events: sender, missed: 0 });
        EventStream { events, _client: client }
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        self.0.retain(|watcher| !watcher.events.is_closed());
        self.0.iter_mut().for_each(|watcher| watcher.tell(event));
    }
}

impl Watcher {
    fn tell(&mut self, event: &Event) {
        if self.missed > 0 {
            if self.events.try_send(Event::Missed { events: self.missed }).is_err() {
                self.missed += 1;
                return;
            }
            self.missed = 0;
        }
        if self.events.try_send(event.clone()).is_err() {
            self.missed += 1;
        }
    }
}
