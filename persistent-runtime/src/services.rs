//! What all servers of one runtime share.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    future::Future,
    mem,
    pin::pin,
    sync::Arc,
};

use crate::{
    api::address::Address, api::client::Handle, api::server::Server, call::commit_wait::Lobby,
    config::file::Layers, engine::registry::AnyKind, engine::registry::Kind,
    engine::reminders::Clock, observe::observer::Observer, storage::MemoryStorage,
    storage::Storage, support::catch::catch_unwind, support::expiry::ExpiryQueue,
    support::sync::Notify, support::sync::RwLock, support::sync::atomic::AtomicBool,
    support::sync::atomic::AtomicUsize, support::sync::atomic::Ordering, support::sync::runtime,
    support::sync::task::AbortHandle,
};

/// See the [module](self).
pub(crate) struct Core {
    storage: Arc<dyn Storage>,
    tokio: runtime::Handle,
    expiry: Arc<ExpiryQueue>,
    expiring: AbortHandle,
    clock: Clock,
    lobby: Lobby,
    layers: Layers,
    listeners: Listeners,
    observers: Vec<Arc<dyn Observer>>,
    checks_replay: bool,
    kinds: RwLock<Kinds>,
    /// No new messages are taken.
    stopping: AtomicBool,
    /// Nothing goes on at all.
    halted: AtomicBool,
    active: AtomicUsize,
    quiet: Notify,
}

/// `Vec<Arc<dyn Listener<S>>>` by the type `S`.
pub(crate) type Listeners = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

#[derive(Default)]
struct Kinds {
    by_type: HashMap<TypeId, Arc<dyn AnyKind>>,
    /// The type that came first with each stored name.
    names: HashMap<&'static str, (TypeId, &'static str)>,
}

impl Core {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        layers: Layers,
        listeners: Listeners,
        observers: Vec<Arc<dyn Observer>>,
        checks_replay: bool,
    ) -> Self {
        let tokio = runtime::Handle::current();
        let expiry = Arc::new(ExpiryQueue::new());
        let expiring = tokio.spawn({
            let expiry = expiry.clone();
            async move { expiry.run().await }
        });
        Self {
            storage,
            tokio,
            expiry,
            expiring: expiring.abort_handle(),
            clock: Clock::start(),
            lobby: Lobby::default(),
            layers,
            listeners,
            observers,
            checks_replay,
            kinds: RwLock::default(),
            stopping: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            quiet: Notify::new(),
        }
    }

    /// One that has ended already: what is sent to its servers is refused.
    pub(crate) fn nowhere() -> Arc<Self> {
        let storage = Arc::new(MemoryStorage::new());
        let core = Self::new(storage, Layers::default(), HashMap::new(), Vec::new(), false);
        core.halt();
        Arc::new(core)
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn expiry(&self) -> &ExpiryQueue {
        &self.expiry
    }

    pub(crate) fn tokio(&self) -> &runtime::Handle {
        &self.tokio
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn lobby(&self) -> &Lobby {
        &self.lobby
    }

    /// Whether each journaled message is handled twice.
    pub(crate) fn checks_replay(&self) -> bool {
        self.checks_replay
    }

    pub(crate) fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Has each observer called; their panics end here.
    pub(crate) fn observe(&self, call: impl Fn(&dyn Observer)) {
        for observer in &self.observers {
            let _ = catch_unwind(|| call(&**observer));
        }
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tokio.spawn(work);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Whether the tokio runtime that this one lives on is gone.
    pub(crate) fn is_homeless(&self) -> bool {
        self.expiring.is_finished()
    }

    /// A client's core for any address.
    pub(crate) fn handle<S: Server>(self: &Arc<Self>, address: &Address<S>) -> Handle<S> {
        self.kind::<S>().handle(address)
    }

    /// The registry of a type, made at its first use.
    pub(crate) fn kind<S: Server>(self: &Arc<Self>) -> Arc<Kind<S>> {
        let of = TypeId::of::<S>();
        let known = self.kinds.read().get(of);
        let kind: Arc<dyn Any + Send + Sync> = known.unwrap_or_else(|| {
            let mut kinds = self.kinds.write();
            kinds.get(of).unwrap_or_else(|| {
                let (owner, path) = *kinds.names.entry(S::NAME).or_insert((of, type_name::<S>()));
                let taken_by = (owner != of).then_some(path);
                let options = self.layers.options(S::NAME, &S::options());
                let listeners = self.listeners.get(&of).and_then(|of| of.downcast_ref());
                let listeners = listeners.cloned().unwrap_or_default();
                let kind = Arc::new(Kind::<S>::new(self.clone(), options, taken_by, listeners));
                // After the end nobody would take it out again.
                if !self.is_halted() {
                    kind.begin();
                    kinds.by_type.insert(of, kind.clone());
                }
                kind
            })
        });
        kind.downcast().expect("a kind is filed under its own type")
    }

    /// Has every server unloaded, and waits until the last one is.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for kind in self.kinds() {
            kind.unload_all();
        }
        loop {
            let mut quiet = pin!(self.quiet.notified());
            quiet.as_mut().enable();
            if self.active() == 0 {
                return;
            }
            quiet.await;
        }
    }

    /// Ends everything as it is. Nothing acknowledged is lost.
    pub(crate) fn halt(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.halted.store(true, Ordering::SeqCst);
        self.expiring.abort();
        let kinds = mem::take(&mut *self.kinds.write());
        for kind in kinds.by_type.values() {
            kind.halt();
        }
    }

    /// How many servers and tasks there are.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    fn kinds(&self) -> Vec<Arc<dyn AnyKind>> {
        let kinds = self.kinds.read();
        kinds.by_type.values().cloned().collect()
    }
}

impl Kinds {
    fn get(&self, of: TypeId) -> Option<Arc<dyn Any + Send + Sync>> {
        let kind: Arc<dyn AnyKind> = self.by_type.get(&of)?.clone();
        Some(kind)
    }
}

/// Something that a shutdown waits for.
pub(crate) struct Active(Arc<Core>);

impl Active {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        core.active.fetch_add(1, Ordering::SeqCst);
        Self(core)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}
