//! Journaled messages handled again: only what they make of the state counts.

use tokio::task::coop::consume_budget;

use super::{Driven, Task, Trouble};
use crate::{
    api::context::Context, api::server::ReplySlot, api::server::Server, codec, codec::DecodeError,
    engine::recorded::Tape, error::CallError, error::ReplayError, storage::Record,
    support::catch::caught,
};

/// Runs a message whose method is not `async`; a panic becomes its text.
pub(super) fn run<S: Server>(
    state: &mut S,
    message: S::Message,
    context: &Context<S>,
    reply: ReplySlot<'_>,
) -> Result<(), String> {
    caught(|| S::handle(state, message, context, reply))
}

/// Has `state` handle a journaled message again, as it did then. An error
/// leaves it in no state to go on with. `context` is one for replays.
pub(super) fn replay<S: Server>(
    state: &mut S,
    version: u32,
    entry: &[u8],
    context: &Context<S>,
) -> Result<(), ReplayError> {
    let panicked = |panic| ReplayError::Panicked { panic };
    let (message, given) = caught(|| {
        let mut rest = entry;
        let message = S::decode_message(version, &mut rest)?;
        let given = if rest.is_empty() { Vec::new() } else { codec::decode(rest)? };
        Ok((message, given))
    })
    .map_err(panicked)?
    .map_err(|source| match source {
        DecodeError::Version { stored, current } => ReplayError::Version { stored, current },
        source => ReplayError::Decode(source),
    })?;
    // A migration may find that it has no meaning any more.
    let Some(message) = message else { return Ok(()) };
    context.set_tape(Tape::play(given));
    let ran = run(state, message, context, ReplySlot::queued(&mut None));
    context.settle_replay(ran)
}

impl<S: Server> Task<S> {
    /// The state that `record` leads to.
    pub(super) async fn read(
        &mut self,
        record: &Record,
        context: &Context<S>,
    ) -> Result<S, Trouble> {
        let mut state = self.decode(record, context)?;
        if record.messages.is_empty() {
            return Ok(state);
        }
        let context = context.for_replay(&self.cell);
        for (number, entry) in (1..).zip(&record.messages) {
            replay(&mut state, record.version, entry, &context).map_err(|source| {
                Trouble::Error(CallError::Replay {
                    server: self.id(),
                    version: record.version,
                    number,
                    of: record.messages.len(),
                    source: source.into(),
                })
            })?;
            // A kill does not wait for the last one.
            if let Driven::Killed = self.drive(consume_budget()).await {
                return Err(self.kill_trouble());
            }
        }
        Ok(state)
    }
}
