//! The builder of a runtime.

use std::{any::TypeId, ffi::OsString, fmt, sync::Arc};

use crate::{
    api::{listener::Listener, server::Server, typed},
    config::{
        env,
        file::{Config, Layers},
        options::Options,
    },
    engine::services::{Listeners, Services, ServicesConfig},
    error::{OpenError, OptionsError},
    observe::observer::Observer,
    runtime::{reminder_scheduler, revive::revive, runtime::Runtime},
    storage::{MemoryStorage, Storage},
    support::spin::BusyWait,
};

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
    no_busy_wait: bool,
    revivals: Vec<Revive>,
}

/// Revives the stored servers of one registered type.
type Revive = fn(&Arc<Services>);

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
        let listeners = of.or_insert_with(|| Box::<typed::Listeners<S>>::default());
        if let Some(listeners) = listeners.downcast_mut::<typed::Listeners<S>>() {
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
    /// [`CallError::Diverged`](crate::CallError::Diverged), which names the method, and what the message
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
    /// assert!(matches!(error, CallError::Diverged { method, .. } if method == "note"));
    /// # Ok(()) }
    /// ```
    pub fn check_replay(mut self, check: bool) -> Self {
        self.check_replay = check;
        self
    }

    /// Allows or forbids busy waiting. Allowed by default.
    ///
    /// A thread that waits for something that usually takes a few microseconds spins or yields for
    /// a bounded time before it sleeps, because waking it would take longer. A program of nothing
    /// but lone durable calls then uses 1.3 cores instead of 0.6. Forbid it to save power, or where
    /// other processes need the cores. On a machine with one core it is always forbidden.
    pub fn busy_wait(mut self, allowed: bool) -> Self {
        self.no_busy_wait = !allowed;
        self
    }

    /// Makes a type known when the runtime opens, not at its first client: its
    /// durable timers fire from then on, and if its policy is
    /// [`Restart::Permanent`](crate::Restart::Permanent) its stored servers are revived, in the
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
    pub async fn open(self, path: impl AsRef<std::path::Path>) -> Result<Runtime, OpenError> {
        use crate::{
            storage::{SqliteOptions, SqliteStorage, StorageError},
            support::sync::task::spawn_blocking,
        };

        let options = SqliteOptions::new().busy_wait(!self.no_busy_wait);
        let (config, revivals) = self.resolve()?;
        let path = path.as_ref().to_owned();
        let storage = spawn_blocking(|| SqliteStorage::open_with(path, options))
            .await
            .map_err(StorageError::other)??;
        Ok(open(Arc::new(storage), config, revivals))
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
        let (config, revivals) = self.resolve()?;
        Ok(open(Arc::new(storage), config, revivals))
    }

    /// Refuses what can't be honoured, before any storage is touched.
    /// Resolves the options of every layer.
    fn resolve(self) -> Result<(ServicesConfig, Vec<Revive>), OpenError> {
        let Self { config, environment, listeners, observers, check_replay, .. } = self;
        let config = ServicesConfig {
            layers: Layers::new(config, environment)?,
            listeners,
            observers,
            checks_replay: check_replay,
            busy_wait: BusyWait::new(!self.no_busy_wait),
            start_reminder_scheduler: reminder_scheduler::start,
        };
        Ok((config, self.revivals))
    }
}

fn open(storage: Arc<dyn Storage>, config: ServicesConfig, revivals: Vec<Revive>) -> Runtime {
    let runtime = Runtime::open_on(storage, config);
    for revive in revivals {
        revive(runtime.services());
    }
    runtime
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}
