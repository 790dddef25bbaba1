//! Messages that a server gets from its own timers and streams.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{
    engine::{
        cell::Cell,
        command::{CallOptions, Command, Envelope},
        erased::AnyMessage,
    },
    support::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        runtime,
        task::{AbortHandle, JoinSet},
    },
};

/// A timer, interval, stream or watch that sends messages to its own server.
///
/// It ends with the activation of the server. Dropping it does not end it.
pub struct Source {
    cancelled: Arc<AtomicBool>,
    /// `None` in a replay, in which sources send nothing.
    task: Option<AbortHandle>,
}

impl Source {
    /// Creates a source that sends nothing.
    pub(crate) fn silent() -> Self {
        Self { cancelled: Arc::default(), task: None }
    }

    /// Ends the source. None of its messages is handled after this returns, not even one that is
    /// already queued.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Returns true if the source will send no more messages.
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

/// The activation that a source's message belongs to.
pub(crate) struct Origin {
    activation: Weak<()>,
    cancelled: Arc<AtomicBool>,
}

impl Origin {
    /// Returns true if the activation goes on and the source was not cancelled.
    pub(crate) fn is_current(&self) -> bool {
        self.activation.strong_count() > 0 && !self.cancelled.load(Ordering::Acquire)
    }
}

/// The sources of one activation. Dropping it ends them.
#[derive(Default)]
pub(crate) struct Sources(Mutex<Option<Box<Running>>>);

#[derive(Default)]
struct Running {
    /// Lives as long as the activation.
    activation: Arc<()>,
    tasks: JoinSet<()>,
}

impl Sources {
    /// Starts a source that runs `run` on `tokio`.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        &self,
        cell: Weak<Cell>,
        tokio: &runtime::Handle,
        run: impl FnOnce(SourceSender) -> F,
    ) -> Source {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut running = self.0.lock();
        let Running { activation, tasks } = &mut **running.get_or_insert_default();
        let sender = SourceSender {
            cell,
            activation: Arc::downgrade(activation),
            cancelled: cancelled.clone(),
        };
        // Finished sources take no memory.
        while tasks.try_join_next().is_some() {}
        Source { cancelled, task: Some(tasks.spawn_on(run(sender), tokio)) }
    }
}

/// A source's way to its server.
pub(crate) struct SourceSender {
    cell: Weak<Cell>,
    activation: Weak<()>,
    cancelled: Arc<AtomicBool>,
}

impl SourceSender {
    /// Sends a message, a `Guarded<S::Message>`. Returns false if there is no point in sending
    /// more.
    pub(crate) async fn send(&self, message: AnyMessage) -> bool {
        let Some(cell) = self.cell.upgrade() else { return false };
        let origin =
            Origin { activation: self.activation.clone(), cancelled: self.cancelled.clone() };
        let info = Command::Info(Box::new((message, origin)));
        // A refusal means that the server has failed or the runtime stops: there is no caller to
        // report it to.
        cell.send(Envelope::command(info, None), &Arc::new(CallOptions::default())).await.is_ok()
    }
}
