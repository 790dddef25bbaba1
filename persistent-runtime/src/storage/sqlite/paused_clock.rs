//! Tokio's paused clock, in tests.
//!
//! A paused clock advances to the next timer as soon as no task can run. The writer is a thread and
//! no task, so the deadline of a call would pass while its commit is written. Tokio does not
//! advance the clock while a blocking task runs.

use std::sync::mpsc::{Sender, channel};

use tokio::{runtime::Handle, time::Instant};

/// A tokio runtime whose clock is paused.
pub struct PausedClock(Handle);

impl PausedClock {
    /// Returns the current runtime if its clock has stood still since `begin`, which must be some
    /// microseconds ago.
    pub fn since(begin: Instant) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        (Instant::now() == begin).then_some(Self(runtime))
    }

    /// Keeps the clock from advancing until the returned value is dropped.
    pub fn hold(&self) -> Hold {
        let (hold, dropped) = channel();
        self.0.spawn_blocking(move || dropped.recv().unwrap_or_default());
        Hold(hold)
    }
}

/// Keeps a clock from advancing.
#[expect(dead_code, reason = "its drop ends the blocking task")]
pub struct Hold(Sender<()>);
