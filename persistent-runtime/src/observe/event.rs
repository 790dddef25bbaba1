//! Events of servers, and the streams that deliver them.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::SystemTime,
};

use futures_core::Stream;

use crate::{
    stop_reason::StopReason,
    support::{
        catch::wake,
        sync::{Mutex, task::coop::poll_proceed},
    },
};

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
    /// [reset](crate::Client::reset), or until its
    /// [`retry_after`](crate::Options::retry_after) is over.
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
    /// The message of a reminder could not be handled: it crashed the server, or it cannot be
    /// decoded. The reminder stays stored.
    ReminderFailed {
        /// The name of the reminder.
        name: String,
        /// The panic message, or why the message cannot be decoded.
        reason: String,
        /// The time of the next attempt. `None` if the runtime has given up.
        retry: Option<SystemTime>,
    },
    /// The server could not be asked to handle its due reminders, e.g. because it exceeded its
    /// restart limit, its state cannot be decoded, or its handler did not return in time. It is
    /// asked again, with a delay of up to ten minutes.
    RemindersDelayed {
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
    backlog: Arc<Backlog>,
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
        poll_fn(|cx| self.backlog.poll(cx)).await
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffered = self.backlog.0.lock().events.len();
        f.debug_struct("EventStream").field("buffered", &buffered).finish_non_exhaustive()
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.backlog.poll(cx)
    }
}

/// The events that one stream has not received yet. Not a channel: the sender has to wake the
/// receiver outside of its own lock.
struct Backlog(Mutex<Content>);

#[derive(Default)]
struct Content {
    /// At most [`BACKLOG`] events and an [`Event::Missed`].
    events: VecDeque<Event>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Backlog {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let coop = ready!(poll_proceed(cx));
        // Wakers are code of the receiver: they are cloned and dropped outside of the lock.
        let waker = cx.waker().clone();
        let mut content = self.0.lock();
        let event = content.events.pop_front();
        if event.is_some() || content.is_closed {
            drop(content);
            coop.made_progress();
            return Poll::Ready(event);
        }
        let former = content.waker.replace(waker);
        drop(content);
        drop(former);
        Poll::Pending
    }
}

impl Content {
    fn push(&mut self, event: &Event) {
        if self.events.len() < BACKLOG {
            self.events.push_back(event.clone());
        } else if let Some(Event::Missed { events }) = self.events.back_mut() {
            *events += 1;
        } else {
            self.events.push_back(Event::Missed { events: 1 });
        }
    }
}

/// The sending ends of all [`EventStream`]s of one server. Dropping them ends the streams.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Arc<Backlog>>);

impl Watchers {
    /// Creates a stream that receives all later events. The stream owns `client`.
    pub(crate) fn add(&mut self, client: Box<dyn Any + Send + Sync>) -> EventStream {
        // Before the list grows: many watchers take a time that is proportional to their number.
        if self.0.len() == self.0.capacity() {
            self.remove_dropped();
        }
        let backlog = Arc::new(Backlog(Mutex::new(Content::default())));
        self.0.push(backlog.clone());
        EventStream { backlog, _client: client }
    }

    fn remove_dropped(&mut self) {
        self.0.retain(|backlog| Arc::strong_count(backlog) > 1);
    }

    /// Adds those of a server that was transferred.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Sends `event` to all streams without blocking. Returns what wakes their receivers, for use
    /// outside of locks.
    pub(crate) fn send(&mut self, event: &Event) -> Vec<Waker> {
        self.remove_dropped();
        let send = |backlog: &Arc<Backlog>| {
            let mut content = backlog.0.lock();
            content.push(event);
            content.waker.take()
        };
        self.0.iter().filter_map(send).collect()
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        for backlog in self.0.drain(..) {
            let mut content = backlog.0.lock();
            content.is_closed = true;
            let waker = content.waker.take();
            drop(content);
            wake(waker);
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
            drop(watchers.send(&Event::Started));
        }
        for _ in 0..2 {
            assert_eq!(stream.next().await, Some(Event::Started));
        }
        drop(watchers.send(&Event::Killed));
        for _ in 2..BACKLOG {
            assert_eq!(stream.next().await, Some(Event::Started));
        }
        assert_eq!(stream.next().await, Some(Event::Missed { events: 2 }));
        assert_eq!(stream.next().await, Some(Event::Killed));
        for _ in 0..=BACKLOG {
            drop(watchers.send(&Event::Started));
        }
        for _ in 0..BACKLOG {
            assert_eq!(stream.next().await, Some(Event::Started));
        }
        assert_eq!(stream.next().await, Some(Event::Missed { events: 1 }), "before a next event");
        drop(watchers);
        assert_eq!(stream.next().await, None);
    }

    #[test]
    fn streams_that_were_dropped_take_no_memory() {
        let mut watchers = Watchers::default();
        let kept: Vec<_> = (0..10).map(|_| watchers.add(Box::new(()))).collect();
        for _ in 0..1000 {
            drop(watchers.add(Box::new(())));
        }
        assert!(watchers.0.capacity() < 100);
        drop(watchers.send(&Event::Started));
        assert_eq!(watchers.0.len(), kept.len());
    }
}
