//! The services that all servers of one runtime share.

use std::{
    any::{Any, TypeId},
    cell::Cell,
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    ptr,
    sync::{Arc, OnceLock, Weak},
    task::Poll,
    time::Duration,
};

use crate::{
    call::commit_wait::CommitWait,
    config::{file::Layers, options::Options},
    engine::{
        clock::WallClock,
        erased::ServerType,
        read_back::CheckStates,
        registry::{Refusal, Registry},
    },
    error::UnsavedServer,
    id::ServerId,
    observe::observer::Observer,
    storage::{MemoryStorage, Storage, StorageObserver},
    support::{
        catch::catch_unwind,
        expiry::ExpiryQueue,
        home::Home,
        spin::BusyWait,
        sync::{
            Mutex, Notify, RwLock,
            atomic::{AtomicBool, AtomicUsize, Ordering},
            runtime, thread_local, time,
        },
    },
};

/// The time that commits in flight and the storage have to end after a halt.
pub(crate) const HALT_GRACE: Duration = Duration::from_secs(10);
/// The least time that the storage has for closing, in order and then in a hurry.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// The time that servers have to save after the deadline of a shutdown.
pub(crate) const SAVE_GRACE: Duration = Duration::from_secs(1);

thread_local! {
    /// The address of the services whose handler this thread polls.
    static IN_HANDLER_OF: Cell<usize> = const { Cell::new(0) };
}

/// The parts of a runtime that do not depend on a server type.
pub(crate) struct Services {
    storage: Arc<dyn Storage>,
    home: Home,
    expiry: Arc<ExpiryQueue>,
    clock: WallClock,
    busy_wait: BusyWait,
    commit_wait: CommitWait,
    layers: Layers,
    listeners: Listeners,
    observers: Vec<Arc<dyn Observer>>,
    extensions: Extensions,
    is_change_observed: bool,
    checks_replay: bool,
    checks_states: CheckStates,
    start_reminder_scheduler: StartScheduler,
    registries: RwLock<Registries>,
    /// Services that are halted, for clients made in a replay.
    stopped: OnceLock<Arc<Self>>,
    /// True once a shutdown has begun: no new messages are accepted.
    stopping: AtomicBool,
    /// True once the runtime has halted: no task may continue.
    halted: AtomicBool,
    /// Notified when `halted` is set.
    halt: Notify,
    /// Notified when `stopping` is set.
    stop: Notify,
    /// True once the deadline of a shutdown has passed: tasks end as soon as they have saved.
    overdue: AtomicBool,
    unsaved: Mutex<Unsaved>,
    active: AtomicUsize,
    quiet: Notify,
}

/// The listeners of each type, a `Vec<Arc<dyn Listener<S>>>`.
pub(crate) type Listeners = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

/// The extensions by their types.
pub(crate) type Extensions = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

/// Starts the task that wakes servers for their reminders.
pub(crate) type StartScheduler = fn(&Arc<Registry>);

/// The servers whose changes a shutdown could not save.
#[derive(Default)]
pub(crate) struct Unsaved {
    /// The first [`MAX_LISTED`] of them.
    pub(crate) servers: Vec<UnsavedServer>,
    pub(crate) count: usize,
}

/// The number of servers that the error of a shutdown lists.
const MAX_LISTED: usize = 100;

#[derive(Default)]
struct Registries {
    by_type: HashMap<TypeId, Arc<Registry>>,
    /// The type that came first with each stored name.
    names: HashMap<&'static str, (TypeId, &'static str)>,
}

/// A server type on its way into its registry.
pub(crate) struct Registration {
    /// The path of the Rust type.
    pub(crate) path: &'static str,
    pub(crate) server_type: Box<dyn ServerType>,
    /// The options that the attribute sets.
    pub(crate) options: Options,
}

/// The configuration of the services.
pub(crate) struct ServicesConfig {
    pub(crate) layers: Layers,
    pub(crate) listeners: Listeners,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) extensions: Extensions,
    pub(crate) checks_replay: bool,
    pub(crate) checks_states: CheckStates,
    pub(crate) busy_wait: BusyWait,
    pub(crate) clock: WallClock,
    pub(crate) start_reminder_scheduler: StartScheduler,
}

impl Services {
    /// Starts the services on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or in one without timers.
    pub(crate) fn new(storage: Arc<dyn Storage>, config: ServicesConfig) -> Arc<Self> {
        // Panics here, and not in the first call.
        drop(time::sleep(Duration::ZERO));
        Arc::new_cyclic(|services| Self::build(storage, config, services.clone()))
    }

    fn build(storage: Arc<dyn Storage>, config: ServicesConfig, services: Weak<Self>) -> Self {
        let ServicesConfig { layers, listeners, observers, checks_replay, busy_wait, .. } = config;
        if !observers.is_empty() {
            let observers = observers.clone();
            storage.observe(StorageObserver::new(move |event| {
                for observer in &observers {
                    let _ = catch_unwind(|| observer.on_storage_event(event));
                }
            }));
        }
        let tokio = runtime::Handle::current();
        let expiry = Arc::new(ExpiryQueue::new());
        let expiry_task = tokio.spawn({
            let (expiry, end) = (expiry.clone(), EndWithHome(services));
            async move {
                let _end = end;
                expiry.run().await;
            }
        });
        Self {
            storage,
            home: Home::new(tokio, expiry_task.abort_handle()),
            expiry,
            clock: config.clock,
            busy_wait,
            commit_wait: CommitWait::new(busy_wait),
            layers,
            listeners,
            is_change_observed: observers
                .iter()
                .any(|observer| catch_unwind(|| observer.wants_changes()).unwrap_or(true)),
            observers,
            extensions: config.extensions,
            checks_replay,
            checks_states: config.checks_states,
            start_reminder_scheduler: config.start_reminder_scheduler,
            registries: RwLock::default(),
            stopped: OnceLock::new(),
            stopping: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            halt: Notify::new(),
            stop: Notify::new(),
            overdue: AtomicBool::new(false),
            unsaved: Mutex::default(),
            active: AtomicUsize::new(0),
            quiet: Notify::new(),
        }
    }

    /// Returns services that have ended: what is sent to their servers is refused.
    pub(crate) fn stopped(&self) -> &Arc<Self> {
        self.stopped.get_or_init(|| {
            let config = ServicesConfig {
                layers: Layers::default(),
                listeners: Listeners::default(),
                observers: Vec::new(),
                extensions: Extensions::default(),
                checks_replay: false,
                checks_states: CheckStates::Never,
                busy_wait: self.busy_wait,
                clock: WallClock::system(),
                start_reminder_scheduler: self.start_reminder_scheduler,
            };
            // A replay may run on a thread that is not one of tokio's.
            let _entered = self.home.tokio().enter();
            let stopped = Self::new(Arc::new(MemoryStorage::new()), config);
            stopped.halt();
            stopped
        })
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn expiry(&self) -> &ExpiryQueue {
        &self.expiry
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn clock(&self) -> &WallClock {
        &self.clock
    }

    pub(crate) fn busy_wait(&self) -> BusyWait {
        self.busy_wait
    }

    pub(crate) fn commit_wait(&self) -> &CommitWait {
        &self.commit_wait
    }

    /// Returns the extension of a type, if the runtime was built with one.
    pub(crate) fn extension<T: Any>(&self) -> Option<&T> {
        self.extensions.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Returns true if each journaled message is replayed at once and compared.
    pub(crate) fn checks_replay(&self) -> bool {
        self.checks_replay
    }

    /// Returns which states and messages are read back before they are stored.
    pub(crate) fn checks_states(&self) -> CheckStates {
        self.checks_states
    }

    /// Returns true if an observer wants to receive changes.
    pub(crate) fn is_change_observed(&self) -> bool {
        self.is_change_observed
    }

    /// Calls each observer. Their panics end here.
    pub(crate) fn observe(&self, call: impl Fn(&dyn Observer)) {
        for observer in &self.observers {
            let _ = catch_unwind(|| call(&**observer));
        }
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.home.tokio().spawn(work);
    }

    /// Spawns a commit. One that has not ended [`HALT_GRACE`] after these services halt is dropped:
    /// it may never end, and would keep the storage.
    pub(crate) fn spawn_commit(self: &Arc<Self>, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let (services, mut work) = (self.clone(), work);
        self.home.tokio().spawn(async move {
            let mut halt = pin!(services.halt.notified());
            halt.as_mut().enable();
            let mut has_ended = false;
            poll_fn(|cx| {
                has_ended = work.as_mut().poll(cx).is_ready();
                if has_ended || services.is_halted() {
                    return Poll::Ready(());
                }
                halt.as_mut().poll(cx)
            })
            .await;
            if !has_ended {
                let _ = time::timeout(HALT_GRACE, work).await;
            }
        });
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Returns true once the deadline of a shutdown has passed.
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// Refuses new messages: the tokio runtime of these services is gone, so nothing would handle
    /// them.
    pub(crate) fn end_with_home(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.notify_waiters();
        self.halted.store(true, Ordering::SeqCst);
        self.halt.notify_waiters();
    }

    /// Returns the registry of a type. `register` is called with the type's listeners at the first
    /// use of the type.
    pub(crate) fn registry(
        self: &Arc<Self>,
        id: TypeId,
        register: fn(Option<&(dyn Any + Send + Sync)>) -> Registration,
    ) -> Arc<Registry> {
        let known = self.registries.read().by_type.get(&id).cloned();
        known.unwrap_or_else(|| {
            self.register(id, register(self.listeners.get(&id).map(|listeners| &**listeners)))
        })
    }

    fn register(self: &Arc<Self>, id: TypeId, registration: Registration) -> Arc<Registry> {
        let Registration { path, server_type, options } = registration;
        let mut registries = self.registries.write();
        if let Some(known) = registries.by_type.get(&id) {
            return known.clone();
        }
        let (owner, path) = *registries.names.entry(server_type.kind()).or_insert((id, path));
        let refusal = (owner != id).then_some(Refusal::NameTaken { by: path });
        let options = self.layers.options(server_type.kind(), &options);
        let registry = Arc::new(Registry::new(self.clone(), server_type, options, refusal));
        // After the end nothing would remove it again.
        if !self.is_halted() {
            if refusal.is_none() {
                (self.start_reminder_scheduler)(&registry);
            }
            registries.by_type.insert(id, registry.clone());
        }
        registry
    }

    /// Unloads every server, and waits until the last one is unloaded.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.notify_waiters();
        self.unload_all();
        self.quiet().await;
    }

    /// Lets every task save what was acknowledged and end, in the middle of a handler or hook that
    /// waits. Waits until they have ended, for at most [`SAVE_GRACE`].
    pub(crate) async fn cut(&self) {
        self.overdue.store(true, Ordering::SeqCst);
        self.unload_all();
        let _ = time::timeout(SAVE_GRACE, self.quiet()).await;
    }

    /// Lets the shutdown report the servers that have not ended.
    pub(crate) fn report_live(&self) {
        for registry in self.all_registries() {
            for key in registry.live_keys() {
                let server = ServerId::new(registry.kind(), key);
                self.report_unsaved(server, "it did not end before the runtime".to_owned());
            }
        }
    }

    fn unload_all(&self) {
        for registry in self.all_registries() {
            registry.unload_all();
        }
    }

    fn all_registries(&self) -> Vec<Arc<Registry>> {
        self.registries.read().by_type.values().cloned().collect()
    }

    /// Waits until no server is in memory and no background task is at work.
    async fn quiet(&self) {
        loop {
            let mut quiet = pin!(self.quiet.notified());
            quiet.as_mut().enable();
            if self.active() == 0 {
                return;
            }
            quiet.await;
        }
    }

    /// Runs `work` until a shutdown begins. Returns `None` then.
    pub(crate) async fn until_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut stop, mut work) = (pin!(self.stop.notified()), pin!(work));
        stop.as_mut().enable();
        poll_fn(|cx| {
            if self.is_stopping() || stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Runs `work` in the tokio runtime's context, wherever it is polled.
    pub(crate) async fn in_tokio<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _entered = self.home.tokio().enter();
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Polls a handler or hook of these services.
    pub(crate) fn poll_handler<T>(&self, poll: impl FnOnce() -> T) -> T {
        let outer = IN_HANDLER_OF.with(|services| services.replace(ptr::from_ref(self).addr()));
        let result = poll();
        IN_HANDLER_OF.with(|services| services.set(outer));
        result
    }

    /// Returns true in a handler or hook that is `async`.
    pub(crate) fn is_in_handler(&self) -> bool {
        IN_HANDLER_OF.with(Cell::get) == ptr::from_ref(self).addr()
    }

    /// Adds a server to those that the shutdown reports.
    pub(crate) fn report_unsaved(&self, server: ServerId, reason: String) {
        let mut unsaved = self.unsaved.lock();
        unsaved.count += 1;
        if unsaved.servers.len() < MAX_LISTED {
            unsaved.servers.push(UnsavedServer { server, reason });
        }
    }

    pub(crate) fn take_unsaved(&self) -> Unsaved {
        mem::take(&mut *self.unsaved.lock())
    }

    /// Ends everything as it is. Nothing acknowledged is lost.
    pub(crate) fn halt(&self) {
        self.end_with_home();
        self.home.end();
        let registries = mem::take(&mut *self.registries.write());
        for registry in registries.by_type.values() {
            registry.halt();
        }
    }

    /// Returns the number of servers and background tasks that a shutdown waits for.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("active", &self.active()).finish_non_exhaustive()
    }
}

/// Ends the services when it is dropped, with a task of their tokio runtime.
struct EndWithHome(Weak<Services>);

impl Drop for EndWithHome {
    fn drop(&mut self) {
        if let Some(services) = self.0.upgrade() {
            services.end_with_home();
        }
    }
}

/// Something that a shutdown waits for.
pub(crate) struct ShutdownGuard(Arc<Services>);

impl ShutdownGuard {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        services.active.fetch_add(1, Ordering::SeqCst);
        Self(services)
    }
}

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The waiter is a caller of `shutdown`, on any executor.
            let _ = catch_unwind(|| self.0.quiet.notify_waiters());
        }
    }
}
