//! Messages that a server gets from its own timers and streams.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{
    support::sync::atomic::AtomicBool, support::sync::atomic::Ordering,
    support::sync::task::AbortHandle,
};

/// A timer or stream that sends messages to the server that made it, until it
/// ends, is cancelled, or the server leaves memory. Dropping this cancels
/// nothing.
pub struct Source {
    cancelled: Arc<AtomicBool>,
    /// None of one that a replay has asked for.
    task: Option<AbortHandle>,
}

impl Source {
    pub(crate) fn new(cancelled: Arc<AtomicBool>, task: AbortHandle) -> Self {
        Self { cancelled, task: Some(task) }
    }

    /// One that never sends anything.
    pub(crate) fn silent() -> Self {
        Self { cancelled: Arc::default(), task: None }
    }

    /// No message of this source is handled from now on, not even one that
    /// waits in the mailbox.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Whether it has sent its last message.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(AbortHandle::is_finished)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("finished", &self.is_finished()).finish()
    }
}

/// What a source's message has to show before it is handled.
pub(crate) struct Origin {
    /// Held by the activation that made the source, and by nobody else.
    pub(crate) life: Weak<()>,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Origin {
    pub(crate) fn is_current(&self) -> bool {
        self.life.strong_count() > 0 && !self.cancelled.load(Ordering::Acquire)
    }
}
