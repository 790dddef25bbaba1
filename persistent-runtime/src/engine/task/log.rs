//! What a server that journals its messages has handled since its state was
//! last stored.

use std::{
    fmt::{self, Write},
    mem,
    sync::Arc,
};

use super::replay::{replay, run};
use crate::{
    api::context::Context, api::server::ReplySlot, api::server::Server, codec, codec::EncodeError,
    config::options::Journal, engine::recorded::Tape, error::CallError, error::ReplayError,
    storage::Record, support::catch::catch_unwind,
};

/// Messages that take no more room than this are never too large.
const LEAST: usize = 1 << 20;

/// See the [module](self). What is stored, with `pending` behind it, leads to
/// the state in memory, unless that is to be stored `whole`.
pub(crate) struct Log<S: Server> {
    /// How many messages are stored behind the last snapshot.
    stored: usize,
    /// Those that are not staged yet.
    pending: Vec<Arc<[u8]>>,
    /// The size of both, and what it may come to: the snapshot's, so that an
    /// activation reads no more than twice the state.
    bytes: usize,
    most: usize,
    /// Whether the state itself has to be stored next.
    whole: bool,
    /// Replays each message at once, if replays are checked.
    shadow: Option<Box<Shadow<S>>>,
}

/// A second state, which replays what the first has handled.
pub(super) struct Shadow<S: Server> {
    pub(super) state: S,
    pub(super) context: Context<S>,
}

impl<S: Server> Log<S> {
    /// For a server of a type that journals its messages, which begins with
    /// `record`.
    pub(super) fn new(record: Option<&Record>, whole: bool) -> Option<Self> {
        let Journal::Messages { .. } = S::JOURNAL else { return None };
        let messages = record.map_or(&[][..], |record| &record.messages);
        Some(Self {
            stored: messages.len(),
            pending: Vec::new(),
            bytes: messages.iter().map(|message| message.len()).sum(),
            most: record.map_or(0, |record| record.state.len()).max(LEAST),
            whole,
            shadow: None,
        })
    }

    /// Runs a message, and journals it if its handler returns. What else goes
    /// wrong the context is told.
    pub(super) fn record(
        &mut self,
        state: &mut S,
        message: S::Message,
        context: &Context<S>,
        reply: ReplySlot<'_>,
    ) -> Result<(), String> {
        if self.whole {
            return run(state, message, context, reply);
        }
        codec::with_buffer(|buffer| {
            // Now, for the handler takes it.
            if let Err(error) = catch_unwind(|| codec::encode(&message, buffer))? {
                context.fail(encode_error(context, error));
                return Ok(());
            }
            let method = self.shadow.is_some().then(|| method(&message));
            context.set_tape(Tape::Recording(Vec::new()));
            let ran = run(state, message, context, reply);
            let given = context.take_tape();
            ran?;
            if !given.is_empty()
                && let Err(error) = codec::encode(&given, buffer)
            {
                context.fail(encode_error(context, error));
            } else if context.is_reminded() {
                // Durable timers are stored with the state only.
                self.store_whole();
            } else {
                if let (Some(shadow), Some(method)) = (&mut self.shadow, method)
                    && let Err(source) = shadow.follow(state, buffer)
                {
                    let (server, source) = (context.address().id(), source.into());
                    context.fail(CallError::Diverged { server, method, source });
                }
                self.push(buffer);
            }
            Ok(())
        })
    }

    fn push(&mut self, entry: &[u8]) {
        let Journal::Messages { snapshot_every } = S::JOURNAL else { return };
        let every = usize::try_from(snapshot_every).unwrap_or(usize::MAX);
        self.bytes += entry.len();
        if self.stored + self.pending.len() + 1 < every && self.bytes <= self.most {
            self.pending.push(entry.into());
        } else {
            self.store_whole();
        }
    }

    /// Has the state itself stored next.
    pub(super) fn store_whole(&mut self) {
        self.whole = true;
        self.pending.clear();
    }

    /// Whether what is staged or stored is a state that needs messages to be this one.
    pub(super) fn is_behind(&self) -> bool {
        self.stored > 0
    }

    /// The messages to be stored next, or none if it is the state.
    pub(super) fn take(&mut self) -> Option<Vec<Arc<[u8]>>> {
        if self.whole {
            return None;
        }
        self.stored += self.pending.len();
        Some(mem::take(&mut self.pending))
    }

    /// The state has been staged as `snapshot`, and `shadow` made of it.
    pub(super) fn begin(&mut self, snapshot: &Record, shadow: Option<Shadow<S>>) {
        if let Some(log) = Self::new(Some(snapshot), false) {
            *self = Self { shadow: shadow.map(Box::new), ..log };
        }
    }

    /// Has replays checked from now on.
    pub(super) fn check(&mut self, shadow: Shadow<S>) {
        self.shadow = Some(Box::new(shadow));
    }
}

impl<S: Server> Shadow<S> {
    /// Replays a message that `live` has handled; both must come to the same.
    fn follow(&mut self, live: &S, entry: &[u8]) -> Result<(), ReplayError> {
        let Self { state, context } = self;
        replay(state, S::VERSION, entry, context)?;
        let compared = codec::with_buffer(|one| {
            codec::with_buffer(|other| {
                catch_unwind(|| {
                    live.encode(one)?;
                    state.encode(other)?;
                    Ok::<_, EncodeError>(one == other)
                })
            })
        });
        match compared {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(ReplayError::Diverged {
                reason: "it came to another state, or to one with a part that is stored in any \
                         order, as a `HashMap` is"
                    .to_owned(),
            }),
            Ok(Err(error)) => Err(ReplayError::Diverged { reason: error.to_string() }),
            Err(panic) => Err(ReplayError::Panicked { panic }),
        }
    }
}

fn encode_error<S: Server>(context: &Context<S>, error: EncodeError) -> CallError {
    CallError::Encode { server: context.address().id(), source: error.into() }
}

/// The name that a message begins with when it is shown.
fn method(message: &impl fmt::Debug) -> String {
    struct Name(String);

    impl Write for Name {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
            self.0.push_str(&text[..end.unwrap_or(text.len())]);
            // What follows is of no interest, and may be long.
            if end.is_some() { Err(fmt::Error) } else { Ok(()) }
        }
    }

    let mut name = Name(String::new());
    let _ = catch_unwind(|| write!(name, "{message:?}"));
    name.0
}
