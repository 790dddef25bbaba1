//! The registry of one server type: its cells by key.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

use crate::{
    Address, Server, ServerId, StopReason,
    cell::Cell,
    client::Handle,
    core::{Active, Core},
    options::Settings,
};

/// See the [module](self).
pub(crate) struct Kind<S: Server> {
    core: Arc<Core>,
    name: Arc<str>,
    settings: Settings,
    /// The type that uses the name already, if one does.
    taken_by: Option<&'static str>,
    cells: DashMap<Arc<str>, Arc<Cell<S>>>,
    live: AtomicUsize,
}

impl<S: Server> Kind<S> {
    pub(crate) fn new(core: Arc<Core>, settings: Settings, taken_by: Option<&'static str>) -> Self {
        Self {
            core,
            name: S::NAME.into(),
            settings,
            taken_by,
            cells: DashMap::new(),
            live: AtomicUsize::new(0),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.core.is_stopping()
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.core.spawn(work);
    }

    pub(crate) fn name_taken_by(&self) -> Option<&'static str> {
        self.taken_by
    }

    /// A client's core for `address`.
    pub(crate) fn handle(self: &Arc<Self>, address: &Address<S>) -> Handle<S> {
        let (key, init) = address.parts();
        // Under the lock of the key's shard, or a release could come between.
        let hold = |cell: &Arc<Cell<S>>| {
            cell.held();
            cell.clone()
        };
        let known = self.cells.get(key).map(|cell| hold(&cell));
        let cell = known.unwrap_or_else(|| {
            let id = ServerId::new(self.name.clone(), key.clone());
            hold(
                &self
                    .cells
                    .entry(key.clone())
                    .or_insert_with(|| Arc::new(Cell::new(self.clone(), id))),
            )
        });
        Handle::adopt(cell, init.clone())
    }

    /// Forgets the cell of `id` if nobody needs it.
    pub(crate) fn release(&self, id: &ServerId) {
        self.cells.remove_if(id.key(), |_, cell| cell.is_vacant());
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> usize {
        self.cells.iter().filter(|cell| cell.lock().failed.is_some()).count()
    }

    fn snapshot(&self) -> Vec<Arc<Cell<S>>> {
        self.cells.iter().map(|cell| cell.clone()).collect()
    }
}

/// A [`Kind`] whatever its type.
pub(crate) trait AnyKind: Any + Send + Sync {
    /// Has every server unloaded that is at rest.
    fn unload_all(&self);

    /// Drops every server and forgets it.
    fn halt(&self);
}

impl<S: Server> AnyKind for Kind<S> {
    fn unload_all(&self) {
        for cell in self.snapshot() {
            cell.unload(StopReason::Shutdown);
        }
    }

    fn halt(&self) {
        // What the cells drop may hold clients of this kind: not under its lock.
        let cells = self.snapshot();
        self.cells.clear();
        for cell in cells {
            cell.halt();
        }
    }
}

/// Counts a server as live for as long as it is in memory.
pub(crate) struct Live<S: Server> {
    kind: Arc<Kind<S>>,
    _active: Active,
}

impl<S: Server> Live<S> {
    pub(crate) fn new(kind: Arc<Kind<S>>) -> Self {
        kind.live.fetch_add(1, Ordering::Relaxed);
        Self { _active: Active::new(kind.core.clone()), kind }
    }
}

impl<S: Server> Drop for Live<S> {
    fn drop(&mut self) {
        self.kind.live.fetch_sub(1, Ordering::Relaxed);
    }
}
