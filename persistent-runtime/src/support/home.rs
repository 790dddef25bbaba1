//! The tokio runtime that a runtime was opened on.

use std::cell::Cell;

use tokio::task::Id;

use crate::support::sync::{
    atomic::{AtomicBool, Ordering},
    runtime::{self, Handle},
    task::{AbortHandle, try_id},
};

/// The tokio runtime on which the tasks of all servers run.
pub(crate) struct Home {
    tokio: Handle,
    /// A task that ends with the tokio runtime.
    life: AbortHandle,
    /// True once it has dropped the task of a server.
    has_dropped_task: AtomicBool,
}

impl Home {
    pub(crate) fn new(tokio: Handle, life: AbortHandle) -> Self {
        Self { tokio, life, has_dropped_task: AtomicBool::new(false) }
    }

    pub(crate) fn tokio(&self) -> &Handle {
        &self.tokio
    }

    /// Returns true if the tokio runtime is gone, or the servers have ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.life.is_finished()
    }

    /// Returns true if the task of a server could not be spawned, or was dropped before its end.
    pub(crate) fn has_dropped_task(&self) -> bool {
        self.has_dropped_task.load(Ordering::Acquire)
    }

    pub(crate) fn note_dropped_task(&self) {
        self.has_dropped_task.store(true, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.life.abort();
    }

    /// Returns true if this thread is in the context of the tokio runtime, and that is alive. Its
    /// timers can be polled then.
    pub(crate) fn is_current(&self) -> bool {
        // Shuttle's one runtime never ends.
        is_current(&self.tokio) && (cfg!(shuttle) || !self.is_gone())
    }

    /// Enters the context of the tokio runtime for a handler that a caller runs inline, unless the
    /// caller is a task of it.
    ///
    /// Looking at the current runtime writes to memory that all threads share, so the answer is
    /// remembered for the task that asked last.
    pub(crate) fn enter_for_caller(&self) -> Option<impl Sized + '_> {
        thread_local! {
            static LAST: Cell<Option<(Id, runtime::Id)>> = const { Cell::new(None) };
        }
        let here = try_id().map(|task| (task, self.tokio.id()));
        if here.is_some() && LAST.get() == here {
            return None;
        }
        if is_current(&self.tokio) {
            LAST.set(here);
            return None;
        }
        Some(self.tokio.enter())
    }
}

fn is_current(tokio: &Handle) -> bool {
    Handle::try_current().is_ok_and(|current| current.id() == tokio.id())
}
