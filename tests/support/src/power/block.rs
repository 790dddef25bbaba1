use std::time::Duration;

use persistent_runtime::{Context, persistent_server};
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

const FAR: Duration = Duration::from_hours(24 * 365 * 10);

#[persistent_server(idle_timeout = "30ms", max_restarts(1_000_000, within = "1s"))]
impl Block {
    /// Sets the block of `turn` with this size.
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

    /// Sets the block of the next turn with this size, and returns the turn.
    pub fn grow(&mut self, bytes: usize, context: &Context<Self>) -> u64 {
        self.set(self.turn + 1, bytes, context)
    }

    /// Returns the turn.
    ///
    /// # Errors
    /// If parts of the state belong to different turns.
    pub fn look(&self, context: &Context<Self>) -> Result<u64, String> {
        let reminders: Vec<String> =
            context.reminders().into_iter().map(|reminder| reminder.name).collect();
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

/// Returns bytes of which no 16 in a row occur in another turn.
fn filler(turn: u64, bytes: usize) -> String {
    let mut filler = format!("{turn:015x}.").repeat(bytes / 16 + 1);
    filler.truncate(bytes);
    filler
}
