//! Events of servers, and the streams that deliver them.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::stop_reason::StopReason;

/// Something that happened to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The server was activated.
    Started,
    /// The server stopped in an orderly way, and its final commit is durable.
    Stopped {
        /// The reason of the stop.
        reason: StopReason,
    },
    /// A handler or hook panicked.
    Crashed {
        /// The panic message.
        panic: String,
        /// True if the server had handled no message successfully since its activation. The
        /// message or the stored state is the likely cause then, and the crash is likely to
        /// repeat.
        poison: bool,
    },
    /// The server exceeded its restart limit and refuses messages until it is
    /// [reset](crate::Client::reset).
    Failed {
        /// The message of the last panic.
        panic: String,
    },
    /// The server was [killed](crate::Client::kill).
    Killed,
    /// Changes under a persist level weaker than
    /// [`Persist::EveryMessage`](crate::Persist::EveryMessage) could not be committed. They stay
    /// in memory, and the commit is retried.
    Unsaved {
        /// The text of the error.
        reason: String,
    },
    /// The [`EventStream`] was full, and events were dropped.
    Missed {
        /// The number of dropped events.
        events: usize,
    },
}

/// The number of events that an [`EventStream`] buffers.
const BACKLOG: usize = 256;

/// The events of one server, in order, as a [`Stream`]. Returned by
/// [`Client::watch`](crate::Client::watch).
///
/// The stream begins with the first event after the call of `watch` and ends with the runtime. It
/// neither starts the server nor keeps it in memory. It buffers 256 events. If the buffer is full,
/// further events are dropped, and an [`Event::Missed`] in their place has their number.
pub struct EventStream {
    events: mpsc::Receiver<Event>,
    /// Keeps the server's cell alive, and with it the sending end.
    _client: Box<dyn Any + Send + Sync>,
}

impl EventStream {
    /// Receives the next event. Returns `None` after the runtime has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: if the future is dropped, no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("buffered", &self.events.len()).finish_non_exhaustive()
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }
}

/// The sending ends of all [`EventStream`]s of one server.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    events: mpsc::Sender<Event>,
    /// The events dropped since the last one that was sent.
    missed: usize,
}

impl Watchers {
    /// Creates a stream that receives all later events. The stream owns `client`.
    pub(crate) fn add(&mut self, client: Box<dyn Any + Send + Sync>) -> EventStream {
        self.0.retain(|watcher| !watcher.events.is_closed());
        let (sender, events) = mpsc::channel(BACKLOG);
        self.0.push(Watcher { events: sender, missed: 0 });
        EventStream { events, _client: client }
    }

    /// Sends `event` to all streams without blocking.
    pub(crate) fn send(&mut self, event: &Event) {
        self.0.retain(|watcher| !watcher.events.is_closed());
        self.0.iter_mut().for_each(|watcher| watcher.send(event));
    }
}

impl Watcher {
    fn send(&mut self, event: &Event) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_receiver_gets_the_number_of_dropped_events_in_their_place() {
        let mut watchers = Watchers::default();
        let mut stream = watchers.add(Box::new(()));
        for _ in 0..BACKLOG + 2 {
            watchers.send(&Event::Started);
        }
        for _ in 0..2 {
            assert_eq!(stream.next().await, Some(Event::Started));
        }
        watchers.send(&Event::Killed);
        drop(watchers);
        for _ in 2..BACKLOG {
            assert_eq!(stream.next().await, Some(Event::Started));
        }
        assert_eq!(stream.next().await, Some(Event::Missed { events: 2 }));
        assert_eq!(stream.next().await, Some(Event::Killed));
        assert_eq!(stream.next().await, None);
    }
}
