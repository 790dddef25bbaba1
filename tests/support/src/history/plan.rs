//! The plan of a history.

use std::fmt;

use persistent_runtime::Restart;

use crate::{Fault, Request};

/// All inputs of a history. The same plan gives the same history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed from which the plan was generated.
    pub seed: u64,
    /// The persist level.
    pub level: Level,
    /// The restart policy.
    pub restart: Restart,
    /// The restart limit within 5 s, if any.
    pub max_restarts: Option<u32>,
    /// The mailbox capacity.
    pub mailbox: usize,
    /// The latency of the storage in milliseconds.
    pub latency: u64,
    /// The steps of each client, in order.
    pub clients: Vec<Vec<Step>>,
    /// The faults of the storage.
    pub faults: Vec<PlannedFault>,
    /// The end of the history.
    pub ending: Ending,
}

/// A persist level, with its period in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No acknowledged change is lost.
    EveryMessage,
    /// At most the changes of the last period are lost.
    Every(u64),
    /// The changes since the last orderly end may be lost.
    OnStop,
}

/// The end of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// True if each server is read once more before its runtime ends.
    pub reads: bool,
    /// True if the runtime is shut down, false if it is dropped.
    pub orderly: bool,
}

/// One step of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The number of the server.
    pub server: usize,
    /// The action.
    pub act: Act,
    /// The number of the write, unique within the history.
    pub id: u16,
    /// The time for which the client waits.
    pub wait_limit: WaitLimit,
    /// True if the client asks for a commit under any persist level.
    pub durable: bool,
}

/// An action of a client. Waits are in milliseconds: `None` calls a synchronous method, 0
/// an asynchronous one that only yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A call that changes the state.
    Write(Option<u64>),
    /// A call of a `&self` method.
    Read(Option<u64>),
    /// A call of a `&mut self` method that changes nothing.
    Touch,
    /// A write as a cast.
    Cast,
    /// A write by a reminder that is due after this time.
    Remind(u64),
    /// A call that panics.
    Panic {
        /// True if the handler changes the state before it panics.
        changed: bool,
        /// The time for which the handler waits before it panics.
        wait: Option<u64>,
    },
    /// A stop with a reason.
    Stop {
        /// True if the reason is `StopReason::Finished`.
        finished: bool,
    },
    /// A stop that deletes the state.
    Delete,
    /// A kill.
    Kill,
    /// A reset of the crash budget.
    Reset,
    /// A transfer between the two runtimes.
    Transfer {
        /// True for a transfer back to the first runtime.
        back: bool,
    },
    /// The end of the runtime and the start of a new one on the same storage.
    Restart {
        /// True if the runtime is shut down, false if it is dropped.
        orderly: bool,
    },
    /// A pause of the client in milliseconds.
    Sleep(u64),
}

/// The time for which a client waits for a reply, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitLimit {
    /// The deadline of the runtime's options.
    Default,
    /// A deadline of this call only.
    Within(u64),
    /// The client drops the call after this time.
    Dropped(u64),
}

/// A fault of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// The number of the server.
    pub server: usize,
    /// The kind of request that fails.
    pub request: Request,
    /// The position of the request among those of its kind and server, from 1.
    pub nth: usize,
    /// The way in which the request fails.
    pub fault: Fault,
    /// True if later requests of the same kind fail too, until the clients are done.
    pub lasts: bool,
}

impl Plan {
    /// Returns true if acknowledged changes can be lost.
    pub(super) fn is_weak(&self) -> bool {
        self.level != Level::EveryMessage
    }

    /// Returns true if the history has a second runtime.
    pub(super) fn transfers(&self) -> bool {
        self.any(|act| matches!(act, Act::Transfer { .. }))
    }

    /// Returns true if any client performs an action that satisfies `wanted`.
    pub(super) fn any(&self, mut wanted: impl FnMut(&Act) -> bool) -> bool {
        self.clients.iter().flatten().any(|step| wanted(&step.act))
    }

    /// Returns the number of servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.clients.iter().flatten().map(|step| step.server + 1).max().unwrap_or(0)
    }
}

/// Returns the key of a server.
pub(super) fn key(server: usize) -> String {
    char::from(b'a' + u8::try_from(server).unwrap_or(0)).to_string()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, level, restart, max_restarts, mailbox, latency, faults, ending, .. } =
            self;
        writeln!(
            f,
            "seed {seed}: persist {level:?}, {restart:?}, at most {max_restarts:?} restarts, \
             mailbox {mailbox}, storage takes {latency} ms, {ending:?}"
        )?;
        for PlannedFault { server, request, nth, fault, lasts } in faults {
            let from = if *lasts { "from " } else { "" };
            writeln!(f, "  {from}{request:?} {nth} of {}: {fault:?}", key(*server))?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, act, id, wait_limit, durable } = self;
        match act {
            Act::Restart { .. } | Act::Sleep(_) => return write!(f, "{act:?}"),
            Act::Write(_) | Act::Cast | Act::Remind(_) | Act::Panic { .. } => {
                write!(f, "{}.{act:?} {id}", key(*server))?;
            }
            _ => write!(f, "{}.{act:?}", key(*server))?,
        }
        if *durable {
            f.write_str(", durable")?;
        }
        match wait_limit {
            WaitLimit::Default => Ok(()),
            WaitLimit::Within(ms) => write!(f, ", within {ms} ms"),
            WaitLimit::Dropped(ms) => write!(f, ", dropped after {ms} ms"),
        }
    }
}
