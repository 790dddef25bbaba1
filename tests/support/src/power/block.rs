use std::time::Duration;

use persistent_runtime::{
    CallError, Client, Context, Runtime, Server, StopReason, persistent_server,
};
use serde::{Deserialize, Serialize};

/// A state that can be checked for being whole: everything in it, and its reminder, follows from
/// its turn and its size.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    turn: u64,
    filler: String,
    reminded: Option<String>,
    last: u64,
}

/// A block whose messages are journaled.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournaledBlock(Block);

const FAR: Duration = Duration::from_hours(24 * 365 * 10);

#[persistent_server(idle_timeout = "30ms", max_restarts(1_000_000, within = "1s"))]
impl Block {
    /// Sets the block of `turn` with this size.
    pub fn set(&mut self, turn: u64, bytes: usize, context: &Context<Self>) -> u64 {
        let reminders = self.change(turn, bytes);
        reminders.apply(context, BlockMessage::Look);
        turn
    }

    /// Sets the block of the next turn with this size, and returns the turn.
    pub fn grow(&mut self, bytes: usize, context: &Context<Self>) -> u64 {
        self.set(self.turn + 1, bytes, context)
    }

    /// Returns the turn.
    ///
    /// # Errors
    /// If parts of the state belong to different turns.
    pub fn look(&self, context: &Context<Self>) -> Result<u64, String> {
        self.check(context.reminders().into_iter().map(|reminder| reminder.name).collect())
    }
}

#[persistent_server(
    journal = messages(snapshot_every = 9),
    idle_timeout = "30ms",
    max_restarts(1_000_000, within = "1s")
)]
impl JournaledBlock {
    /// Does the same as [`Block::set`].
    pub fn set(&mut self, turn: u64, bytes: usize, context: &Context<Self>) -> u64 {
        let reminders = self.0.change(turn, bytes);
        reminders.apply(context, JournaledBlockMessage::Look);
        turn
    }

    /// Does the same as [`Block::grow`].
    pub fn grow(&mut self, bytes: usize, context: &Context<Self>) -> u64 {
        self.set(self.0.turn + 1, bytes, context)
    }

    /// Does the same as [`Block::look`].
    ///
    /// # Errors
    /// If parts of the state belong to different turns.
    pub fn look(&self, context: &Context<Self>) -> Result<u64, String> {
        self.0.check(context.reminders().into_iter().map(|reminder| reminder.name).collect())
    }
}

/// The reminders that a change of a block cancels and sets.
struct Reminders {
    cancelled: Option<String>,
    set: Option<String>,
}

impl Reminders {
    fn apply<S: Server>(self, context: &Context<S>, message: S::Message) {
        if let Some(name) = self.cancelled {
            context.cancel_reminder(&name);
        }
        if let Some(name) = self.set {
            context.remind(&name, FAR, message);
        }
    }
}

impl Block {
    fn change(&mut self, turn: u64, bytes: usize) -> Reminders {
        let mut reminders = Reminders { cancelled: None, set: None };
        self.turn = turn;
        self.filler = filler(turn, bytes);
        if turn.is_multiple_of(3) {
            reminders.cancelled = self.reminded.take();
            self.reminded = (!turn.is_multiple_of(2)).then(|| turn.to_string());
            reminders.set.clone_from(&self.reminded);
        }
        self.last = turn;
        reminders
    }

    fn check(&self, reminders: Vec<String>) -> Result<u64, String> {
        let expected: Vec<String> = self.reminded.clone().into_iter().collect();
        if self.last != self.turn || self.filler != filler(self.turn, self.filler.len()) {
            return Err(format!(
                "turn {} ends with {}, or is torn in between",
                self.turn, self.last
            ));
        }
        if reminders != expected {
            return Err(format!(
                "turn {} has reminders {reminders:?}, not {expected:?}",
                self.turn
            ));
        }
        Ok(self.turn)
    }
}

/// The client of a block of either type, as the key decides.
#[derive(Clone, Debug)]
pub enum AnyBlock {
    /// A block whose states are stored.
    Plain(BlockClient),
    /// A block whose messages are stored.
    Journaled(JournaledBlockClient),
}

impl AnyBlock {
    /// Returns a client that creates the block.
    #[must_use]
    pub fn at(runtime: &Runtime, key: &str) -> Self {
        if is_journaled(key) {
            Self::Journaled(runtime.at::<JournaledBlock>(key, ()))
        } else {
            Self::Plain(runtime.at::<Block>(key, ()))
        }
    }

    /// Returns a client of a block that is stored.
    ///
    /// # Errors
    /// If there is none, or if it cannot be read.
    pub async fn find(runtime: &Runtime, key: &str) -> Result<Self, CallError> {
        Ok(if is_journaled(key) {
            Self::Journaled(runtime.find::<JournaledBlock>(key).await?)
        } else {
            Self::Plain(runtime.find::<Block>(key).await?)
        })
    }

    /// Calls [`Block::set`].
    ///
    /// # Errors
    /// If the call fails.
    pub async fn set(&self, turn: u64, bytes: usize) -> Result<u64, CallError> {
        match self {
            Self::Plain(block) => block.set(turn, bytes).await,
            Self::Journaled(block) => block.set(turn, bytes).await,
        }
    }

    /// Calls [`Block::grow`].
    ///
    /// # Errors
    /// If the call fails.
    pub async fn grow(&self, bytes: usize) -> Result<u64, CallError> {
        match self {
            Self::Plain(block) => block.grow(bytes).await,
            Self::Journaled(block) => block.grow(bytes).await,
        }
    }

    /// Calls [`Block::look`] with a deadline.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn look(&self, within: Duration) -> Result<Result<u64, String>, CallError> {
        match self {
            Self::Plain(block) => block.with_timeout(within).look().await,
            Self::Journaled(block) => block.with_timeout(within).look().await,
        }
    }

    /// Stops the block for a reason that deletes it.
    ///
    /// # Errors
    /// If the stop fails.
    pub async fn end(&self, reason: StopReason) -> Result<(), CallError> {
        match self {
            Self::Plain(block) => block.stop(reason).await,
            Self::Journaled(block) => block.stop(reason).await,
        }
    }
}

fn is_journaled(key: &str) -> bool {
    key.ends_with(['1', '3', '5', '7', '9'])
}

/// Returns bytes of which no 16 in a row occur in another turn.
fn filler(turn: u64, bytes: usize) -> String {
    let mut filler = format!("{turn:015x}.").repeat(bytes / 16 + 1);
    filler.truncate(bytes);
    filler
}
