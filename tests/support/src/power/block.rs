use std::time::Duration;

use persistent_runtime::{Context, persistent_server};
use serde::{Deserialize, Serialize};

/// A state that shows whether it is whole: all of it follows from its turn and
/// its size, and so does its durable timer.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    turn: u64,
    filler: String,
    reminded: Option<String>,
    last: u64,
}

const FAR: Duration = Duration::from_hours(24 * 365 * 10);

#[persistent_server(idle_timeout = "30ms", max_restarts(1_000_000, within = "1s"))]
impl Block {
    /// Becomes that of `turn`, so large.
    pub fn set(&mut self, turn: u64, bytes: usize, context: &Context<Self>) -> u64 {
        self.turn = turn;
        self.filler = filler(turn, bytes);
        if turn.is_multiple_of(3) {
            if let Some(name) = self.reminded.take() {
                context.cancel_reminder(&name);
            }
            if !turn.is_multiple_of(2) {
                let name = turn.to_string();
                context.remind(&name, FAR, BlockMessage::Look);
                self.reminded = Some(name);
            }
        }
        self.last = turn;
        turn
    }

    /// Becomes that of the next turn, so large; returns the turn.
    pub fn grow(&mut self, bytes: usize, context: &Context<Self>) -> u64 {
        self.set(self.turn + 1, bytes, context)
    }

    /// The turn, or what is wrong with the state.
    ///
    /// # Errors
    /// If the state is not all of one turn.
    pub fn look(&self, context: &Context<Self>) -> Result<u64, String> {
        let timers: Vec<String> = context.reminders().into_iter().map(|(name, _)| name).collect();
        let expected: Vec<String> = self.reminded.clone().into_iter().collect();
        if self.last != self.turn || self.filler != filler(self.turn, self.filler.len()) {
            return Err(format!("turn {} ends with {}, or between", self.turn, self.last));
        }
        if timers != expected {
            return Err(format!("turn {} has timers {timers:?}, not {expected:?}", self.turn));
        }
        Ok(self.turn)
    }
}

/// No 16 bytes of one turn are those of another.
fn filler(turn: u64, bytes: usize) -> String {
    let mut filler = format!("{turn:015x}.").repeat(bytes / 16 + 1);
    filler.truncate(bytes);
    filler
}
