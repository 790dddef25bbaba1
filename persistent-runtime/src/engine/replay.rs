//! Journaled messages handled again: only what they make of the state counts.

use crate::{
    call::reply::ReplySlot,
    codec::{self, DecodeError},
    engine::{erased::LiveServer, recorded::RecordedInputs},
    error::ReplayError,
    support::catch::catch_unwind,
};

/// Replays one journaled message. After an error the state must not be used.
pub(crate) fn replay(
    server: &mut dyn LiveServer,
    version: u32,
    entry: &[u8],
) -> Result<(), ReplayError> {
    let decoded = catch_unwind(|| {
        let mut rest = entry;
        let message = server.decode_message(version, &mut rest)?;
        let inputs = if rest.is_empty() { Vec::new() } else { codec::decode(rest)? };
        Ok((message, inputs))
    });
    let (message, inputs) = decoded.map_err(|panic| ReplayError::Panicked { panic })?.map_err(
        |source| match source {
            DecodeError::Version { stored, current } => ReplayError::Version { stored, current },
            source => ReplayError::Decode(source),
        },
    )?;
    // A migration may find that the message has no meaning any more.
    let Some(mut message) = message else { return Ok(()) };
    if let Some(method) = server.method(&*message).filter(|method| method.is_async) {
        let reason = format!("`{}` is `async` by now and cannot run again", method.name);
        return Err(ReplayError::Diverged { reason });
    }
    server.context().set_inputs(RecordedInputs::replay(inputs));
    let outcome = server.handle(&mut *message, ReplySlot::to_sender(&mut None));
    server.context().finish_replay(outcome)
}
