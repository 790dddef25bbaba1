//! The registry of one server type: its cells by key.

use std::{
    any::Any,
    borrow::Borrow,
    collections::BTreeSet,
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
};

use crate::{
    api::address::Address, api::client::Handle, api::server::Server, config::options::Options,
    config::settings::Settings, engine::cell::Cell, engine::mailbox::Phase, engine::reminders,
    engine::reminders::Bell, id::ServerId, observe::listener::Listener, services::Core,
    stop_reason::StopReason, support::catch::catch_unwind, support::expiry::ExpiryQueue,
    support::sync::DashMap, support::sync::atomic::AtomicUsize, support::sync::atomic::Ordering,
    support::sync::task::AbortHandle,
};

/// See the [module](self).
pub(crate) struct Kind<S: Server> {
    core: Arc<Core>,
    /// Of all layers but the client's.
    options: Options,
    settings: Arc<Settings>,
    /// The type that uses the name already, if one does.
    taken_by: Option<&'static str>,
    cells: DashMap<Entry<S>, ()>,
    live: AtomicUsize,
    listeners: Vec<Arc<dyn Listener<S>>>,
    bell: Bell,
    ringer: OnceLock<AbortHandle>,
}

/// A cell, found by its key: it holds the key itself, and a second one beside it
/// would be most of the registry.
struct Entry<S: Server>(Arc<Cell<S>>);

impl<S: Server> Clone for Entry<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Server> Borrow<str> for Entry<S> {
    fn borrow(&self) -> &str {
        self.0.key()
    }
}

impl<S: Server> Hash for Entry<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let key: &str = self.borrow();
        key.hash(state);
    }
}

impl<S: Server> PartialEq for Entry<S> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl<S: Server> Eq for Entry<S> {}

impl<S: Server> Kind<S> {
    pub(crate) fn new(
        core: Arc<Core>,
        options: Options,
        taken_by: Option<&'static str>,
        listeners: Vec<Arc<dyn Listener<S>>>,
    ) -> Self {
        Self {
            core,
            settings: options.clone().resolve().into(),
            options,
            taken_by,
            cells: DashMap::new(),
            live: AtomicUsize::new(0),
            listeners,
            bell: Bell::new(),
            ringer: OnceLock::new(),
        }
    }

    /// Begins to wake the servers whose durable timers are due.
    pub(crate) fn begin(self: &Arc<Self>) {
        if self.taken_by.is_none() {
            let ringer = self.core.tokio().spawn(reminders::ring(self.clone()));
            let _ = self.ringer.set(ringer.abort_handle());
        }
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(crate) fn listeners(&self) -> &[Arc<dyn Listener<S>>] {
        &self.listeners
    }

    /// Has each listener called; their panics end here.
    pub(crate) fn listen(&self, call: impl Fn(&dyn Listener<S>)) {
        for listener in &self.listeners {
            let _ = catch_unwind(|| call(&**listener));
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The settings of a server for which a client has set `options`.
    pub(crate) fn settings_with(&self, options: &Options) -> Arc<Settings> {
        options.clone().or(&self.options).resolve().into()
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
        loop {
            // Under the lock of the key's shard, or a release could come between.
            let known = self.cells.get(&**key).map(|entry| {
                let Entry(cell) = entry.key();
                cell.held();
                cell.clone()
            });
            if let Some(cell) = known {
                return Handle::adopt(cell, init.clone());
            }
            let id = ServerId::new(S::NAME, key.clone());
            self.cells.entry(Entry(Arc::new(Cell::new(self.clone(), id)))).or_insert(());
        }
    }

    /// Forgets the cell of `id` if nobody needs it.
    pub(crate) fn release(&self, id: &ServerId) {
        self.cells.remove_if(id.key(), |entry, ()| entry.0.is_vacant());
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> usize {
        self.cells.iter().filter(|entry| entry.key().0.lock().failed().is_some()).count()
    }

    /// The keys of the servers in memory.
    pub(crate) fn live_keys(&self) -> BTreeSet<Arc<str>> {
        let cells = self.snapshot().into_iter();
        let live = cells.filter(|cell| !matches!(cell.lock().phase, Phase::Absent));
        live.map(|cell| cell.key().clone()).collect()
    }

    fn snapshot(&self) -> Vec<Arc<Cell<S>>> {
        self.cells.iter().map(|entry| entry.key().clone().0).collect()
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
        if let Some(ringer) = self.ringer.get() {
            ringer.abort();
        }
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
}

impl<S: Server> Live<S> {
    pub(crate) fn new(kind: Arc<Kind<S>>) -> Self {
        kind.live.fetch_add(1, Ordering::Relaxed);
        Self { kind }
    }

    pub(crate) fn expiry(&self) -> &ExpiryQueue {
        self.kind.core.expiry()
    }
}

impl<S: Server> Drop for Live<S> {
    fn drop(&mut self) {
        self.kind.live.fetch_sub(1, Ordering::Relaxed);
    }
}
