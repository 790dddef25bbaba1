//! The part of a handler's context that does not depend on the server type.

use std::{
    panic::resume_unwind,
    sync::{Arc, Weak},
};

use crate::{
    config::options::Journal,
    engine::{
        cell::Cell,
        effects::Effects,
        erased::AnyInit,
        recorded::{Input, RecordedInputs},
        registry::Registry,
        reminders::{Reminders, StoredReminder},
        resources::Resources,
        services::Services,
        sources::{Source, SourceSender, Sources},
    },
    error::{CallError, ReplayError},
    id::ServerId,
    support::sync::{Mutex, MutexGuard},
};

/// A key with optional init arguments.
#[derive(Clone)]
pub(crate) struct AnyAddress {
    pub(crate) key: Arc<str>,
    pub(crate) init: Option<AnyInit>,
}

pub(crate) struct ContextCore {
    registry: Arc<Registry>,
    /// Weak: the cell holds the instance that holds this.
    cell: Weak<Cell>,
    address: AnyAddress,
    pub(crate) effects: Effects,
    sources: Sources,
    /// Present if the server journals its messages.
    inputs: Option<Box<Mutex<RecordedInputs>>>,
}

impl ContextCore {
    pub(crate) fn new(cell: &Arc<Cell>, init: Option<AnyInit>, reminders: Reminders) -> Self {
        let registry = cell.registry().clone();
        let has_inputs = matches!(registry.server_type().journal(), Journal::Messages { .. });
        Self {
            registry,
            cell: Arc::downgrade(cell),
            address: AnyAddress { key: cell.key().clone(), init },
            effects: Effects::new(reminders),
            sources: Sources::default(),
            inputs: has_inputs.then(|| Box::new(Mutex::new(RecordedInputs::Idle))),
        }
    }

    /// Lets messages be replayed, whatever the type journals now.
    pub(crate) fn with_inputs(mut self) -> Self {
        self.inputs.get_or_insert_with(|| Box::new(Mutex::new(RecordedInputs::Idle)));
        self
    }

    pub(crate) fn address(&self) -> &AnyAddress {
        &self.address
    }

    pub(crate) fn server(&self) -> ServerId {
        ServerId::new(self.registry.server_type().kind(), self.address.key.clone())
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn cell(&self) -> &Weak<Cell> {
        &self.cell
    }

    /// Returns the services that clients made by this context belong to. In a replay these are
    /// stopped: what is sent to their servers is refused.
    pub(crate) fn services(&self) -> Arc<Services> {
        let services = self.registry.services();
        if self.is_replaying() { services.stopped().clone() } else { services.clone() }
    }

    /// Returns the next input of a handler: `fresh`, or the recorded one in a replay.
    pub(crate) fn input(&self, fresh: impl FnOnce() -> Input) -> u64 {
        let Some(mut inputs) = self.inputs() else { return fresh().value() };
        let next = inputs.next(fresh());
        drop(inputs);
        match next {
            Some(input) => input.value(),
            // The handler took another path than when it was recorded. The panic hook is not
            // called: the replay ends here and reports why.
            None => resume_unwind(Box::new("not what was recorded")),
        }
    }

    pub(crate) fn start_source<F: Future<Output = ()> + Send + 'static>(
        &self,
        run: impl FnOnce(SourceSender) -> F,
    ) -> Source {
        if self.is_replaying() {
            return Source::silent();
        }
        self.sources.start(self.cell.clone(), self.registry.services().home().tokio(), run)
    }

    /// Calls `insert` with the server's resources. Returns `None` in a replay, and once the
    /// server is gone.
    pub(crate) fn insert_resource<T>(
        &self,
        insert: impl FnOnce(&mut Resources) -> Option<T>,
    ) -> Option<T> {
        insert(self.cell_of_resources()?.lock().resources_mut())
    }

    /// Calls `access` with the server's resources, if there are any. Returns `None` in a replay, and
    /// once the server is gone.
    pub(crate) fn resources<T>(
        &self,
        access: impl FnOnce(&mut Resources) -> Option<T>,
    ) -> Option<T> {
        self.cell_of_resources()?.lock().resources().and_then(access)
    }

    fn cell_of_resources(&self) -> Option<Arc<Cell>> {
        if self.is_replaying() { None } else { self.cell.upgrade() }
    }

    fn inputs(&self) -> Option<MutexGuard<'_, RecordedInputs>> {
        Some(self.inputs.as_ref()?.lock())
    }

    pub(crate) fn is_replaying(&self) -> bool {
        self.inputs().is_some_and(|inputs| inputs.is_replaying())
    }

    pub(crate) fn set_inputs(&self, inputs: RecordedInputs) {
        if let Some(mut current) = self.inputs() {
            *current = inputs;
        }
    }

    /// Begins a replay in which nothing that is asked for happens.
    pub(crate) fn begin_replay(&self) {
        self.set_inputs(RecordedInputs::replay(Vec::new()));
    }

    /// Ends a replay: from now on what is asked for happens.
    pub(crate) fn end_replay(&self) {
        self.set_inputs(RecordedInputs::Idle);
    }

    /// Returns the inputs recorded since [`set_inputs`](Self::set_inputs).
    pub(crate) fn take_inputs(&self) -> Vec<Input> {
        self.inputs().map(|mut inputs| inputs.take()).unwrap_or_default()
    }

    /// Sets a reminder to an encoded message. A hook of the activation does not postpone one that is
    /// pending, or each activation would.
    pub(crate) fn set_reminder(&self, name: &str, due: u64, period: Option<u64>, message: Vec<u8>) {
        let version = self.registry.server_type().version();
        let reminder = StoredReminder::new(name, due, period, version, message);
        let keeps_earlier = self.effects.is_activating() && !self.is_replaying();
        self.effects.change_reminders(|reminders| reminders.set(reminder, keeps_earlier));
    }

    /// Returns true if no effect is pending.
    pub(crate) fn has_no_effects(&self) -> bool {
        self.effects.is_empty()
    }

    /// Fails the message in progress.
    pub(crate) fn fail(&self, error: CallError) {
        self.effects.fail(error);
    }

    /// Judges a replayed message and drops everything that it asked for.
    pub(crate) fn finish_replay(&self, outcome: Result<(), String>) -> Result<(), ReplayError> {
        let reminders_changed = self.effects.discard();
        let (has_diverged, has_unread) = self
            .inputs()
            .map(|inputs| (inputs.has_diverged(), inputs.has_unread()))
            .unwrap_or_default();
        let diverged = |reason: &str| Err(ReplayError::Diverged { reason: reason.to_owned() });
        match outcome {
            _ if has_diverged => {
                diverged("it read a time or a random number that it had not read before")
            }
            Err(panic) => Err(ReplayError::Panicked { panic }),
            Ok(()) if has_unread => {
                diverged("it did not read each time and random number that it had read before")
            }
            Ok(()) if reminders_changed => {
                diverged("it changed a reminder, which it had not done before")
            }
            Ok(()) => Ok(()),
        }
    }
}
