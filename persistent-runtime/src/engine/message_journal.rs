//! The message journal of one server: what it has handled since its state was last stored.
//!
//! The stored record, followed by the pending messages, leads to the state in memory, unless the
//! state itself has to be stored next.

use std::{mem, sync::Arc};

use crate::{
    call::reply::ReplySlot,
    codec::{self, EncodeError},
    config::options::Journal,
    engine::{
        erased::{LiveServer, Method, ServerType},
        instance::Instance,
        recorded::RecordedInputs,
        replay::replay,
    },
    error::{CallError, ReplayError},
    storage::Record,
    support::catch::{Guarded, catch_unwind},
};

/// Messages that take no more bytes than this need no snapshot.
const MIN_BYTES: usize = 1 << 20;

pub(crate) struct MessageJournal {
    /// The number of messages stored behind the last snapshot.
    stored: usize,
    /// The messages that are not staged yet.
    pending: Vec<Arc<[u8]>>,
    /// The bytes of the stored and pending messages.
    bytes: usize,
    /// The limit of `bytes`: the snapshot's size, so that an activation reads no more than twice
    /// the state.
    max_bytes: usize,
    /// The limit of the number of messages.
    snapshot_every: usize,
    /// True if the state itself has to be stored next.
    needs_snapshot: bool,
    checker: Option<Box<ReplayChecker>>,
}

/// A second instance, which replays each message at once.
pub(crate) struct ReplayChecker(Guarded<Box<Instance>>);

impl MessageJournal {
    /// Creates the journal of a server that begins with `record`. Returns `None` if its type does
    /// not journal messages.
    pub(crate) fn new(
        of: &dyn ServerType,
        record: Option<&Record>,
        needs_snapshot: bool,
    ) -> Option<Self> {
        let Journal::Messages { snapshot_every } = of.journal() else { return None };
        let messages = record.map_or(&[][..], |record| &record.messages);
        Some(Self {
            stored: messages.len(),
            pending: Vec::new(),
            bytes: messages.iter().map(|message| message.len()).sum(),
            max_bytes: record.map_or(0, |record| record.state.len()).max(MIN_BYTES),
            snapshot_every: usize::try_from(snapshot_every).unwrap_or(usize::MAX),
            needs_snapshot,
            checker: None,
        })
    }

    /// Runs a message, and journals it if its handler returns. Other failures are reported to the
    /// context.
    pub(crate) fn record(
        &mut self,
        server: &mut dyn LiveServer,
        message: &mut dyn std::any::Any,
        method: &'static Method,
        reply: ReplySlot<'_>,
    ) -> Result<(), String> {
        if self.needs_snapshot {
            return server.handle(message, reply);
        }
        codec::with_buffer(|buffer| {
            // Encoded first: the handler consumes the message.
            let encoded = catch_unwind(|| server.encode_message(message, buffer))?;
            let registry = server.context().registry();
            if let Err(error) = encoded.and_then(|()| registry.check_message(buffer)) {
                fail_encode(server, error);
                return Ok(());
            }
            server.context().set_inputs(RecordedInputs::Recording(Vec::new()));
            let outcome = server.handle(message, reply);
            let inputs = server.context().take_inputs();
            outcome?;
            if !inputs.is_empty()
                && let Err(error) = codec::encode(&inputs, buffer)
            {
                fail_encode(server, error);
            } else if server.context().effects.reminders_changed() {
                // Reminders are stored with the state only.
                self.require_snapshot();
            } else if let Some(checker) = &mut self.checker
                && let Err(source) = checker.check(server, buffer)
            {
                let (server_id, source) = (server.context().server(), source.into());
                server.context().fail(CallError::Diverged {
                    server: server_id,
                    method: method.name.to_owned(),
                    source,
                });
            } else {
                self.push(buffer);
            }
            Ok(())
        })
    }

    fn push(&mut self, entry: &[u8]) {
        self.bytes += entry.len();
        if self.stored + self.pending.len() + 1 < self.snapshot_every
            && self.bytes <= self.max_bytes
        {
            self.pending.push(entry.into());
        } else {
            self.require_snapshot();
        }
    }

    /// Lets the state itself be stored next.
    pub(crate) fn require_snapshot(&mut self) {
        self.needs_snapshot = true;
        self.pending.clear();
    }

    /// Returns true if there are messages after the last snapshot.
    pub(crate) fn has_messages(&self) -> bool {
        self.stored > 0
    }

    /// Returns true if messages are to be stored next, and not the state.
    pub(crate) fn has_pending(&self) -> bool {
        !self.needs_snapshot && !self.pending.is_empty()
    }

    /// Returns the messages to be stored next, or `None` if the state has to be stored.
    pub(crate) fn take(&mut self) -> Option<Vec<Arc<[u8]>>> {
        if self.needs_snapshot {
            return None;
        }
        self.stored += self.pending.len();
        Some(mem::take(&mut self.pending))
    }

    /// Begins anew behind a staged snapshot.
    pub(crate) fn restart(
        &mut self,
        of: &dyn ServerType,
        snapshot: &Record,
        checker: Option<ReplayChecker>,
    ) {
        if let Some(journal) = Self::new(of, Some(snapshot), false) {
            *self = Self { checker: checker.map(Box::new), ..journal };
        }
    }

    /// Lets each message be replayed at once by `checker`.
    pub(crate) fn check(&mut self, checker: ReplayChecker) {
        self.checker = Some(Box::new(checker));
    }
}

impl ReplayChecker {
    pub(crate) fn new(instance: Box<Instance>) -> Self {
        Self(Guarded::new(instance))
    }

    /// Replays a message that `live` has handled, and compares the states.
    fn check(&mut self, live: &dyn LiveServer, entry: &[u8]) -> Result<(), ReplayError> {
        let Some(instance) = self.0.get_mut() else { return Ok(()) };
        let version = instance.server.context().registry().server_type().version();
        replay(&mut instance.server, version, entry)?;
        let compared = codec::with_buffer(|one| {
            codec::with_buffer(|other| {
                catch_unwind(|| {
                    live.encode(one)?;
                    instance.server.encode(other)?;
                    Ok::<_, EncodeError>(one == other)
                })
            })
        });
        match compared {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(ReplayError::Diverged {
                reason: "it led to another state, or to a state with a part that is stored in any \
                         order, such as a `HashMap`"
                    .to_owned(),
            }),
            Ok(Err(error)) => Err(ReplayError::Diverged { reason: error.to_string() }),
            Err(panic) => Err(ReplayError::Panicked { panic }),
        }
    }
}

fn fail_encode(server: &dyn LiveServer, error: EncodeError) {
    let context = server.context();
    context.fail(CallError::Encode { server: context.server(), source: error.into() });
}
