//! What is to happen in a history.

use std::fmt;

use persistent_runtime::Restart;

use crate::{Fault, Request};

/// All that a history is made from: the same plan makes the same history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was generated from.
    pub seed: u64,
    /// When changes are committed.
    pub level: Level,
    /// What becomes of a server that stops or crashes.
    pub restart: Restart,
    /// How many crashes are too many, if any are.
    pub max_restarts: Option<u32>,
    /// Room for messages.
    pub mailbox: usize,
    /// How long the storage takes, in milliseconds.
    pub latency: u64,
    /// What each client does, one step after the other.
    pub clients: Vec<Vec<Step>>,
    /// What the storage does wrong.
    pub faults: Vec<PlannedFault>,
    /// How it ends.
    pub ending: Ending,
}

/// A persist level, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing acknowledged is lost.
    EveryMessage,
    /// At most the changes of so many milliseconds are lost.
    Every(u64),
    /// Changes since the last orderly end may be lost.
    OnStop,
}

/// How a history ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether each server is read while the runtime still lives.
    pub reads: bool,
    /// Whether the runtime is shut down, not dropped.
    pub orderly: bool,
}

/// One thing that a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The server's number.
    pub server: usize,
    /// What is done.
    pub act: Act,
    /// The write's number, told from all others in the history.
    pub id: u16,
    /// How long the client waits for it.
    pub patience: Patience,
    /// Whether a commit is asked for, whatever the level.
    pub durable: bool,
}

/// What a client does. Waits are in milliseconds; none is a method that is not
/// `async`, 0 one that only yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A call that changes the state.
    Write(Option<u64>),
    /// A call that does not.
    Read(Option<u64>),
    /// A call that could, and does not.
    Touch,
    /// A write that is not waited for.
    Cast,
    /// A call that panics.
    Panic {
        /// Whether it has changed the state before.
        changed: bool,
        /// How long it waits in the middle.
        wait: Option<u64>,
    },
    /// Normally, or for another reason.
    Stop {
        /// Whether it is a normal stop.
        normal: bool,
    },
    /// The state is deleted.
    Delete,
    /// At once.
    Kill,
    /// A new crash budget.
    Reset,
    /// To the other runtime, or back.
    Transfer {
        /// Whether it is back.
        back: bool,
    },
    /// The runtime ends and another one opens on what is stored.
    Restart {
        /// Whether it is shut down, not dropped.
        orderly: bool,
    },
    /// Nothing for so long.
    Sleep(u64),
}

/// How long a client waits for an answer, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as every other one.
    Default,
    /// For a deadline of its own.
    Within(u64),
    /// Until it drops the call.
    Dropped(u64),
}

/// What the storage does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// The server's number.
    pub server: usize,
    /// At which request.
    pub request: Request,
    /// At how manieth for the server, from 1.
    pub nth: usize,
    /// How.
    pub fault: Fault,
    /// Whether each later such request goes the same way, until the clients are
    /// done.
    pub lasts: bool,
}

impl Plan {
    /// Whether changes can be lost that were answered.
    pub(super) fn is_weak(&self) -> bool {
        self.level != Level::EveryMessage
    }

    /// Whether there is a second runtime.
    pub(super) fn transfers(&self) -> bool {
        self.any(|act| matches!(act, Act::Transfer { .. }))
    }

    /// Whether a client does such a thing.
    pub(super) fn any(&self, mut wanted: impl FnMut(&Act) -> bool) -> bool {
        self.clients.iter().flatten().any(|step| wanted(&step.act))
    }

    /// How many servers there are.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.clients.iter().flatten().map(|step| step.server + 1).max().unwrap_or(0)
    }
}

/// The key of a server.
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
        let Self { server, act, id, patience, durable } = self;
        match act {
            Act::Restart { .. } | Act::Sleep(_) => return write!(f, "{act:?}"),
            Act::Write(_) | Act::Cast | Act::Panic { .. } => {
                write!(f, "{}.{act:?} {id}", key(*server))?;
            }
            _ => write!(f, "{}.{act:?}", key(*server))?,
        }
        if *durable {
            f.write_str(", durable")?;
        }
        match patience {
            Patience::Default => Ok(()),
            Patience::Within(ms) => write!(f, ", within {ms} ms"),
            Patience::Dropped(ms) => write!(f, ", dropped after {ms} ms"),
        }
    }
}
