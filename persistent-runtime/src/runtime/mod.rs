//! Opening, addressing, shutting down.

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::{
    any::TypeId,
    ffi::OsString,
    fmt,
    sync::Arc,
    task::Wake,
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{
    api::address::Address, api::client::Client, api::server::Server, config::env,
    config::file::Config, config::file::Layers, config::options::Options, config::options::Restart,
    engine::registry::Kind, error::CallError, error::OpenError, error::OptionsError,
    error::ShutdownError, observe::listener::Listener, observe::listener::Observer,
    runtime::keys::Keys, services::Active, services::Core, services::Listeners,
    storage::MemoryStorage, storage::Storage, storage::StorageError, storage::StorageFuture,
    support::catch::await_caught, support::catch::caught, support::sync::task::JoinSet,
    support::sync::time,
};

pub(crate) mod keys;

/// A set of persistent servers on one storage.
///
/// Clones are the same runtime. Several runtimes live side by side, each on a
/// database of its own.
///
/// [`shutdown`](Self::shutdown) ends it in order. Dropping the last clone ends
/// it at once, as a kill of the process would: what was acknowledged is
/// stored, `terminate` hooks don't run, and clients get
/// [`CallError::RuntimeStopped`]. The drop waits for the commits in flight, and
/// closes the storage; the storage itself is dropped with the last client.
///
/// ```
/// # use persistent_runtime::{persistent_server, CallError, Runtime};
/// # use std::time::Duration;
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
/// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("counters.db");
/// let runtime = Runtime::open(&path).await?;
/// assert!(matches!(runtime.find::<Counter>("a").await, Err(CallError::NotFound { .. })));
/// runtime.start::<Counter>("a", ()).await?; // is there now
/// runtime.at::<Counter>("b", ()).add().await?; // its first message creates it
/// assert_eq!(runtime.count::<Counter>().await?.stored, 2);
/// runtime.shutdown(Duration::from_secs(5)).await?;
///
/// let runtime = Runtime::open(&path).await?;
/// assert_eq!(runtime.find::<Counter>("b").await?.add().await?, 2);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Runtime(Arc<Owner>);

/// Ends the runtime with its last clone.
struct Owner(Arc<Core>);

impl Runtime {
    /// Opens the SQLite database at `path`, or creates it.
    ///
    /// The servers' tasks run on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// If the file is in use, not ours, or can't be opened.
    #[cfg(feature = "sqlite")]
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path).await
    }

    /// A runtime whose servers are forgotten with it: for tests.
    ///
    /// # Errors
    /// None; the result is that of every way to open a runtime.
    pub async fn in_memory() -> Result<Self, OpenError> {
        Self::builder().open_with(MemoryStorage::new()).await
    }

    /// A runtime with choices.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Makes sure that the server under `key` runs, created from `init` if
    /// nothing is stored, and stored by then, unless its persist level is weaker
    /// than `every_message`.
    ///
    /// # Errors
    /// Each of [`CallError`] but those of a handler.
    pub async fn start<S: Server>(
        &self,
        key: impl Into<Arc<str>>,
        init: S::Init,
    ) -> Result<S::Client, CallError> {
        self.started::<S>(&Address::new(key, init)).await
    }

    /// A client of the server under `key`, without looking whether it exists:
    /// the first message starts it, from `init` if nothing is stored.
    #[must_use]
    pub fn at<S: Server>(&self, key: impl Into<Arc<str>>, init: S::Init) -> S::Client {
        self.client::<S>(&Address::new(key, init))
    }

    /// Makes sure that the server under `key` runs, if it exists. Its client
    /// never creates it either.
    ///
    /// # Errors
    /// [`CallError::NotFound`] if nothing is stored under `key`; else as
    /// [`start`](Self::start).
    pub async fn find<S: Server>(&self, key: impl Into<Arc<str>>) -> Result<S::Client, CallError> {
        self.started::<S>(&Address::existing(key)).await
    }

    /// A client of the server that `address` leads to, without looking whether
    /// it exists.
    #[must_use]
    pub fn client<S: Server>(&self, address: &Address<S>) -> S::Client {
        S::Client::from_handle(self.core().handle(address))
    }

    /// How many servers of a type there are.
    ///
    /// # Errors
    /// If the storage can't tell.
    pub async fn count<S: Server>(&self) -> Result<Count, StorageError> {
        let stored = self.core().storage().count(S::NAME).await?;
        let kind = self.core().kind::<S>();
        Ok(Count { live: kind.live(), stored, failed: kind.failed() })
    }

    /// The keys of all servers of a type, live and stored.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
    /// # #[persistent_server] impl Player {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// runtime.start::<Player>("ada", ()).await?;
    /// let mut players = runtime.keys::<Player>();
    /// while let Some(key) = players.next().await {
    ///     assert_eq!(&*key?, "ada");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn keys<S: Server>(&self) -> Keys {
        let kind = self.core().kind::<S>();
        Keys::new::<S>(self.core().storage().clone(), kind.live_keys())
    }

    /// Hands a server to another runtime of this process, through the stores:
    /// it is unloaded here, with its `terminate` hook, stored and activated
    /// there, and deleted here.
    ///
    /// State, durable timers, kept values and the options of
    /// [`Client::with_options`] go along; in-memory timers and streams end, as
    /// with every activation. Clients of this runtime go on working: what they
    /// send is forwarded, in order, for as long as both runtimes are open, also
    /// when the server comes back. Nothing that was accepted is lost.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Client, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
    /// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (here, there) = (Runtime::in_memory().await?, Runtime::in_memory().await?);
    /// let counter = here.at::<Counter>("a", ());
    /// counter.add().await?;
    /// here.transfer(&counter.address(), &there).await?;
    /// assert_eq!(there.find::<Counter>("a").await?.add().await?, 2);
    /// assert_eq!(counter.add().await?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// A process that is killed between the commit there and the one here
    /// leaves a copy here, and so does a store here that refuses the delete: the
    /// server has moved then, though this returns [`CallError::Storage`]. It
    /// replaces that copy if it comes back. A transfer to where the server is
    /// does nothing.
    ///
    /// # Errors
    /// [`CallError::NotFound`] if nothing is stored under the address here,
    /// [`CallError::AlreadyExists`] if something is there, and those of either runtime
    /// and store: the server then still serves here, but for a refused delete. After
    /// a [`CallError::Timeout`] it may yet move, as if this had been dropped.
    pub async fn transfer<S: Server>(
        &self,
        address: &Address<S>,
        to: &Runtime,
    ) -> Result<(), CallError> {
        self.core().handle(address).transfer(to.core().clone()).await
    }

    /// Ends the runtime: takes no more messages, handles those that it has
    /// taken, unloads every server with its `terminate` hook and its final
    /// commit, and closes the storage.
    ///
    /// Dropping the future leaves a runtime that takes no more messages; call
    /// this again to go on.
    ///
    /// # Errors
    /// If servers are still at work at the `deadline`. They are ended then as
    /// by a kill, and the storage is closed all the same.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        let core = self.core();
        let stopped = time::timeout(deadline, core.stop()).await;
        let unfinished = core.active();
        core.halt();
        let storage = core.storage().clone();
        // A panic of a foreign storage must not keep the caller from going on.
        let _ = await_caught(async { storage.close().await }).await;
        stopped.map_err(|_| ShutdownError { unfinished })
    }

    fn core(&self) -> &Arc<Core> {
        &self.0.0
    }

    async fn started<S: Server>(&self, address: &Address<S>) -> Result<S::Client, CallError> {
        let client = self.client(address);
        client.handle().start().await?;
        Ok(client)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("active", &self.core().active()).finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.halt();
        // A foreign storage's panic must not become one of the drop.
        let _ = caught(|| block_on(self.0.storage().close()));
    }
}

/// Blocks until `close` is ready, ten seconds at most.
fn block_on(mut close: StorageFuture<'_, ()>) {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Arc::new(Unpark(thread::current())).into();
    let end = Instant::now() + Duration::from_secs(10);
    while close.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// How many servers of a type there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// In memory.
    pub live: usize,
    /// In the storage.
    pub stored: u64,
    /// Over their restart limit.
    pub failed: usize,
}

/// The choices of a [`Runtime`].
///
/// ```
/// # use persistent_runtime::{persistent_server, Options, Runtime};
/// # use std::time::Duration;
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
/// # #[persistent_server] impl Player {}
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::builder()
///     .defaults(Options::new().idle_timeout(Duration::from_secs(10)))
///     .configure::<Player>(Options::new().mailbox(64))
///     .in_memory()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Default)]
#[must_use]
pub struct Builder {
    config: Config,
    environment: Vec<Result<Config, OptionsError>>,
    listeners: Listeners,
    observers: Vec<Arc<dyn Observer>>,
    check_replay: bool,
    revivals: Vec<fn(&Arc<Core>)>,
}

impl Builder {
    /// Options for every type, over those of the attributes.
    ///
    /// Of `defaults`, [`configure`](Self::configure) and
    /// [`config`](Self::config), a later call wins over an earlier one where
    /// both set the same option at the same level.
    pub fn defaults(mut self, options: Options) -> Self {
        self.config.set_defaults(options);
        self
    }

    /// Options for one type, over the [`defaults`](Self::defaults) and those of
    /// its attribute.
    pub fn configure<S: Server>(mut self, options: Options) -> Self {
        self.config.set_server(S::NAME.to_owned(), options);
        self
    }

    /// Options from a file, say: its `defaults` as by
    /// [`defaults`](Self::defaults), each of its `servers` as by
    /// [`configure`](Self::configure).
    pub fn config(mut self, config: Config) -> Self {
        self.config.set(config);
        self
    }

    /// Options from the variables of this process's environment, over all those
    /// above. They are read now.
    ///
    /// With the prefix `GAME`, `GAME_IDLE_TIMEOUT` sets an option for every
    /// type, and `GAME__PLAYER__IDLE_TIMEOUT`, which wins over it, for the type
    /// with the stored name `Player`. An option has its name in capitals. A
    /// server has its stored name in capitals, with an underscore in place of
    /// each character but ASCII letters and digits; two names that differ in
    /// nothing else share their variables.
    ///
    /// Values are written as in [`Options`], without quotes, and maps as
    /// `key=value` with commas between:
    ///
    /// ```text
    /// GAME_RESTART=permanent
    /// GAME_MAX_RESTARTS=count=3,within=5s
    /// GAME_BACKOFF=min=100ms,max=10s,jitter=0.2
    /// GAME__PLAYER__IDLE_TIMEOUT=never
    /// GAME__PLAYER__PERSIST=every=500ms
    /// ```
    ///
    /// Every variable that begins with the prefix and an underscore must be such
    /// an option, or the runtime does not open: [`OpenError::Options`] names the
    /// variable. So take a prefix that nothing else in the environment has.
    pub fn environment(self, prefix: &str) -> Self {
        // `vars` would panic at a text that is no Unicode. No option is written
        // with the replacement character, so such a text is refused like others.
        let text = |text: OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        self.variables(prefix, variables)
    }

    /// As [`environment`](Self::environment), from other variables than the
    /// process's own.
    ///
    /// ```
    /// # use persistent_runtime::Runtime;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let variables = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    /// let builder = Runtime::builder().variables("GAME", variables("GAME_MAILBOX", "64"));
    /// let runtime = builder.in_memory().await?;
    ///
    /// let builder = Runtime::builder().variables("GAME", variables("GAME_MAILBOX", "big"));
    /// assert!(builder.in_memory().await.unwrap_err().to_string().contains("GAME_MAILBOX"));
    /// # Ok(()) }
    /// ```
    pub fn variables(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        self.environment.push(env::read(prefix, variables));
        self
    }

    /// Has `listener` hear of every server of one type.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Address, Listener, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Stock(u32);
    /// # #[persistent_server] impl Stock { pub fn take(&mut self) { self.0 -= 1; } pub fn put(&mut self, n: u32) { self.0 += n; } }
    /// struct Alarm;
    ///
    /// impl Listener<Stock> for Alarm {
    ///     fn on_state_changed(&self, address: &Address<Stock>, old: Option<&Stock>, new: &Stock) {
    ///         if new.0 == 0 && old.is_some() {
    ///             println!("{} has run out", address.key());
    ///         }
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::builder().listener(Alarm).in_memory().await?;
    /// runtime.at::<Stock>("ink", ()).put(1).await?;
    /// runtime.at::<Stock>("ink", ()).take().await?;
    /// # Ok(()) }
    /// ```
    pub fn listener<S: Server>(mut self, listener: impl Listener<S>) -> Self {
        let of = self.listeners.entry(TypeId::of::<S>());
        let listeners = of.or_insert_with(|| Box::new(Vec::<Arc<dyn Listener<S>>>::new()));
        if let Some(listeners) = listeners.downcast_mut::<Vec<Arc<dyn Listener<S>>>>() {
            listeners.push(Arc::new(listener));
        }
        self
    }

    /// Has `observer` hear of every server of the runtime.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Event, Observer, Runtime, ServerId};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
    /// # #[persistent_server] impl Player {}
    /// struct Log;
    ///
    /// impl Observer for Log {
    ///     fn on_event(&self, server: &ServerId, event: &Event) {
    ///         println!("{server}: {event:?}");
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::builder().observer(Log).in_memory().await?;
    /// runtime.start::<Player>("ada", ()).await?;
    /// # Ok(()) }
    /// ```
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Has every message of a server that journals its messages handled twice,
    /// once on the state and once as a replay would, on a second state, and
    /// both states' stored forms compared. For tests and staging: it costs time
    /// and memory in proportion to the state.
    ///
    /// Where they differ the handler is not deterministic. The caller gets
    /// [`CallError::Diverged`], which names the method, and what the message
    /// changed is dropped, as by a failed commit. A state with parts that are
    /// stored in any order, as a `HashMap` is, differs as well: take a `BTreeMap`.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, CallError, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Log(Vec<std::time::SystemTime>);
    /// #[persistent_server(journal = messages)]
    /// impl Log {
    ///     /// Takes the time from elsewhere than its context.
    ///     pub fn note(&mut self) { self.0.push(std::time::SystemTime::now()); }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::builder().check_replay(true).in_memory().await?;
    /// let error = runtime.at::<Log>("a", ()).note().await.unwrap_err();
    /// assert!(matches!(error, CallError::Diverged { method, .. } if method == "Note"));
    /// # Ok(()) }
    /// ```
    pub fn check_replay(mut self, check: bool) -> Self {
        self.check_replay = check;
        self
    }

    /// Makes a type known when the runtime opens, not at its first client: its
    /// durable timers fire from then on, and if its policy is
    /// [`Restart::Permanent`] its stored servers are revived, in the
    /// background. One that can't be revived says so at its next call.
    pub fn register<S: Server>(mut self) -> Self {
        self.revivals.push(revive::<S>);
        self
    }

    /// As [`Runtime::open`].
    ///
    /// # Errors
    /// As [`Runtime::open`], or if an option can't be honoured.
    #[cfg(feature = "sqlite")]
    pub async fn open(self, path: impl AsRef<Path>) -> Result<Runtime, OpenError> {
        let ready = self.ready()?;
        let path = path.as_ref().to_owned();
        let storage = crate::support::sync::task::spawn_blocking(|| {
            crate::storage::SqliteStorage::open(path)
        })
        .await
        .map_err(StorageError::other)??;
        Ok(ready.open(storage))
    }

    /// As [`Runtime::in_memory`].
    ///
    /// # Errors
    /// If an option can't be honoured.
    pub async fn in_memory(self) -> Result<Runtime, OpenError> {
        self.open_with(MemoryStorage::new()).await
    }

    /// Opens a runtime on any storage.
    ///
    /// # Errors
    /// If an option can't be honoured.
    #[expect(clippy::unused_async, reason = "opened as every runtime is, inside of tokio")]
    pub async fn open_with(self, storage: impl Storage) -> Result<Runtime, OpenError> {
        Ok(self.ready()?.open(storage))
    }

    /// Refuses what can't be honoured, before any storage is touched.
    fn ready(self) -> Result<Ready, OpenError> {
        let Self { config, environment, listeners, observers, check_replay, revivals } = self;
        let layers = Layers::new(config, environment)?;
        Ok(Ready { layers, listeners, observers, check_replay, revivals })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

/// A [`Builder`] whose choices can be honoured.
struct Ready {
    layers: Layers,
    listeners: Listeners,
    observers: Vec<Arc<dyn Observer>>,
    check_replay: bool,
    revivals: Vec<fn(&Arc<Core>)>,
}

impl Ready {
    fn open(self, storage: impl Storage) -> Runtime {
        let Self { layers, listeners, observers, check_replay, revivals } = self;
        let core = Core::new(Arc::new(storage), layers, listeners, observers, check_replay);
        let core = Arc::new(core);
        for revive in revivals {
            revive(&core);
        }
        Runtime(Arc::new(Owner(core)))
    }
}

/// How many servers are revived at once, and how many keys are listed at once.
const REVIVED_AT_ONCE: usize = 64;
/// When the keys are asked for again after the storage has failed.
const RETRY: Duration = Duration::from_secs(5);

/// Starts every stored server of a type, if its policy says so.
fn revive<S: Server>(core: &Arc<Core>) {
    let kind = core.kind::<S>();
    if kind.settings().restart == Restart::Permanent {
        core.spawn(revive_all(kind, Active::new(core.clone())));
    }
}

async fn revive_all<S: Server>(kind: Arc<Kind<S>>, _active: Active) {
    let mut after: Option<Arc<str>> = None;
    loop {
        let storage = kind.core().storage();
        let keys = async { storage.keys(S::NAME, after.as_deref(), REVIVED_AT_ONCE).await };
        let Ok(Ok(keys)) = await_caught(keys).await else {
            if kind.is_stopping() {
                return;
            }
            time::sleep(RETRY).await;
            continue;
        };
        after = keys.last().cloned();
        if after.is_none() || kind.is_stopping() {
            return;
        }
        let mut starts = JoinSet::new();
        for key in keys {
            let handle = kind.handle(&Address::existing(key));
            starts.spawn(async move { handle.start().await });
        }
        starts.join_all().await;
    }
}
