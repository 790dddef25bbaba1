//! The registry of one server type: its cells by key.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
};

use crate::{
    codec::EncodeError,
    config::{options::Options, settings::Settings},
    engine::{
        agenda::Agenda,
        cell::{Cell, CellRef},
        erased::ServerType,
        mailbox::Failed,
        read_back::ReadBack,
        services::Services,
    },
    error::CallError,
    id::ServerId,
    stop_reason::StopReason,
    support::sync::{
        DashMap,
        atomic::{AtomicUsize, Ordering},
        task::AbortHandle,
    },
};

/// The cells of one server type, and what they share.
pub(crate) struct Registry {
    services: Arc<Services>,
    server_type: Box<dyn ServerType>,
    /// The options of all layers but the client's.
    options: Options,
    settings: Arc<Settings>,
    refusal: Option<Refusal>,
    cells: DashMap<Entry, ()>,
    live: AtomicUsize,
    read_back: ReadBack,
    agenda: Agenda,
    reminder_scheduler: OnceLock<AbortHandle>,
}

/// The reason why the servers of a registry refuse all messages.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// Another type, with this path, has used the stored name first.
    NameTaken { by: &'static str },
    /// An address was stored with another kind than its type has now.
    OtherKind { current: &'static str },
}

impl Refusal {
    pub(crate) fn error(self, server: ServerId) -> CallError {
        match self {
            Self::NameTaken { by } => CallError::NameTaken { server, by: by.into() },
            Self::OtherKind { current } => CallError::OtherKind { server, current: current.into() },
        }
    }
}

/// A cell, found by its own key: a second copy of the key would be most of the registry.
#[derive(Clone)]
struct Entry(Arc<Cell>);

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        self.0.key()
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let key: &str = self.borrow();
        key.hash(state);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Entry {}

impl Registry {
    pub(crate) fn new(
        services: Arc<Services>,
        server_type: Box<dyn ServerType>,
        options: Options,
        refusal: Option<Refusal>,
    ) -> Self {
        Self {
            read_back: ReadBack::new(services.checks_states()),
            services,
            server_type,
            settings: options.clone().resolve().into(),
            options,
            refusal,
            cells: DashMap::new(),
            live: AtomicUsize::new(0),
            agenda: Agenda::new(),
            reminder_scheduler: OnceLock::new(),
        }
    }

    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(crate) fn server_type(&self) -> &dyn ServerType {
        &*self.server_type
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.server_type.kind()
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Returns the settings of a server for which a client has set `options`.
    pub(crate) fn settings_with(&self, options: &Options) -> Arc<Settings> {
        options.clone().or(&self.options).resolve().into()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.services.is_stopping()
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.services.spawn(work);
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    pub(crate) fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    /// Keeps the task that wakes servers for their reminders, to be ended with the runtime.
    pub(crate) fn set_reminder_scheduler(&self, task: AbortHandle) {
        let _ = self.reminder_scheduler.set(task);
    }

    /// Checks that an encoded state can be read back, if it is to be checked.
    pub(crate) fn check_state(&self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.read_back.check_state(|| self.server_type.check_state(bytes))
    }

    /// Checks that an encoded message can be read back, if it is to be checked.
    pub(crate) fn check_message(&self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.read_back.check_message(|| self.server_type.check_message(bytes))
    }

    /// Returns the cell of `key`, created if need be.
    pub(crate) fn cell(self: &Arc<Self>, key: &Arc<str>) -> CellRef {
        loop {
            // The reference is counted under the lock of the key's shard, so that no release can
            // come between.
            if let Some(entry) = self.cells.get(&**key) {
                return CellRef::new(entry.key().0.clone());
            }
            let id = ServerId::new(self.kind(), key.clone());
            self.cells.entry(Entry(Arc::new(Cell::new(self.clone(), id)))).or_insert(());
        }
    }

    /// Removes the cell of `id` if it is vacant.
    pub(crate) fn release(&self, id: &ServerId) {
        self.cells.remove_if(id.key(), |entry, ()| entry.0.is_vacant());
    }

    /// Counts a server that enters memory.
    pub(crate) fn add_live(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a server that leaves memory.
    pub(crate) fn remove_live(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the number of servers in memory.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Returns the number of servers over their restart limit.
    pub(crate) fn count_failed(&self) -> usize {
        self.cells.iter().filter(|entry| entry.key().0.lock().failed().is_some()).count()
    }

    /// Returns the first `limit` servers over their restart limit whose keys follow `after`.
    pub(crate) fn failed(&self, after: Option<&str>, limit: usize) -> Vec<(ServerId, Failed)> {
        let mut first = BTreeMap::new();
        for cell in self.snapshot() {
            if after.is_some_and(|after| cell.id().key() <= after) {
                continue;
            }
            if let Some(failed) = cell.lock().failed().cloned() {
                first.insert(cell.key().clone(), (cell.id().clone(), failed));
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        first.into_values().collect()
    }

    /// Returns the keys of the servers in memory.
    pub(crate) fn live_keys(&self) -> BTreeSet<Arc<str>> {
        let cells = self.snapshot().into_iter();
        cells.filter(|cell| !cell.lock().is_absent()).map(|cell| cell.key().clone()).collect()
    }

    fn snapshot(&self) -> Vec<Arc<Cell>> {
        self.cells.iter().map(|entry| entry.key().clone().0).collect()
    }

    /// Unloads every idle server.
    pub(crate) fn unload_all(&self) {
        for cell in self.snapshot() {
            cell.unload(StopReason::Shutdown);
        }
    }

    /// Drops every server and every cell.
    pub(crate) fn halt(&self) {
        if let Some(task) = self.reminder_scheduler.get() {
            task.abort();
        }
        // A cell may hold clients of this type: it is not dropped under the registry's lock.
        let cells = self.snapshot();
        self.cells.clear();
        for cell in cells {
            cell.halt();
        }
    }
}
