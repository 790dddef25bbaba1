//! The builder of a runtime.

use std::{
    any::{Any, TypeId},
    ffi::OsString,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

#[cfg(feature = "sqlite")]
use crate::storage::SqliteOptions;
use crate::{
    api::{listener::Listener, server::Server, typed},
    config::{
        env,
        file::{Config, Layers},
        options::Options,
    },
    engine::{
        clock::{ReadClock, WallClock},
        read_back::CheckStates,
        services::{Extensions, Listeners, Services, ServicesConfig},
    },
    error::{OpenError, OptionsError},
    observe::observer::Observer,
    runtime::{reminder_scheduler, revive::revive, runtime::Runtime},
    storage::{MemoryStorage, Storage},
    support::spin::BusyWait,
};

/// A builder of a [`Runtime`]: sets options, listeners and observers, and opens the runtime on a
/// storage. Returned by [`Runtime::builder`].
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
    extensions: Extensions,
    check_replay: bool,
    check_states: Option<bool>,
    no_busy_wait: bool,
    #[cfg(feature = "sqlite")]
    sqlite: SqliteOptions,
    wait_for_lock: Duration,
    clock: Option<ReadClock>,
    revivals: Vec<Revive>,
}

/// Revives the stored servers of one registered type.
type Revive = fn(&Arc<Services>);

impl Builder {
    /// Sets options of all server types. They override those of the attributes.
    ///
    /// If several calls of `defaults`, [`configure`](Self::configure) and [`config`](Self::config)
    /// set the same option at the same level, the last one wins.
    pub fn defaults(mut self, options: Options) -> Self {
        self.config.set_defaults(options);
        self
    }

    /// Sets options of one server type. They override the [`defaults`](Self::defaults) and those of
    /// the type's attribute.
    pub fn configure<S: Server>(mut self, options: Options) -> Self {
        self.config.set_server(S::NAME.to_owned(), options);
        self
    }

    /// Sets all options of a [`Config`], e.g. of a file: its `defaults` as
    /// [`defaults`](Self::defaults) does, and its `servers` as [`configure`](Self::configure) does.
    pub fn config(mut self, config: Config) -> Self {
        self.config.set(config);
        self
    }

    /// Sets options from the environment variables of this process. They override those of
    /// [`defaults`](Self::defaults), [`configure`](Self::configure) and [`config`](Self::config).
    /// The variables are read by this call.
    ///
    /// With the prefix `GAME`, the variable `GAME_IDLE_TIMEOUT` sets an option of all server types,
    /// and `GAME__PLAYER__IDLE_TIMEOUT` overrides it for the type with the stored name `Player`. The
    /// names of options and types are in upper case. In the name of a type, each character other
    /// than an ASCII letter or digit is replaced by an underscore. Types whose names then are equal
    /// share their variables.
    ///
    /// Values are written as in [`Options`], without quotes. Maps are written as `key=value`,
    /// separated by commas:
    ///
    /// ```text
    /// GAME_RESTART=permanent
    /// GAME_MAX_RESTARTS=count=3,within=5s
    /// GAME_BACKOFF=min=100ms,max=10s,jitter=0.2
    /// GAME__PLAYER__IDLE_TIMEOUT=never
    /// GAME__PLAYER__PERSIST=every=500ms
    /// ```
    ///
    /// Every variable that begins with the prefix and an underscore must be such an option.
    /// Otherwise the runtime does not open, and [`OpenError::Options`] names the variable. Choose a
    /// prefix that no other program uses.
    pub fn environment(self, prefix: &str) -> Self {
        // `vars` panics at a text that is not Unicode. No option contains the replacement
        // character, so such a text is an invalid option.
        let text = |text: OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        self.variables(prefix, variables)
    }

    /// Sets options from `variables`, as [`environment`](Self::environment) does from those of the
    /// process.
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

    /// Adds a listener, which receives the changes and ends of all servers of one type.
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

    /// Adds an observer, which receives the changes and events of all servers of the runtime.
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

    /// Gives all handlers of the runtime a value that is not state: a pool of connections, a client
    /// of a web service, the configuration. Handlers and hooks read it by its type with
    /// [`Context::extension`](crate::Context::extension).
    ///
    /// There is one value per type; a second one replaces the first. Several values of one type
    /// need a type of their own each, e.g. `struct Sender(String)`. The value is dropped with the
    /// runtime's last client.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Invoice { net: u64 }
    /// struct Vat { percent: u64 }
    ///
    /// #[persistent_server]
    /// impl Invoice {
    ///     pub fn add(&mut self, net: u64, context: &Context<Self>) -> Option<u64> {
    ///         self.net += net;
    ///         let vat = context.extension::<Vat>()?;
    ///         Some(self.net * (100 + vat.percent) / 100)
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::builder().extension(Vat { percent: 19 }).in_memory().await?;
    /// assert_eq!(runtime.at::<Invoice>("7", ()).add(100).await?, Some(119));
    /// # Ok(()) }
    /// ```
    pub fn extension<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.extensions.insert(TypeId::of::<T>(), Box::new(value));
        self
    }

    /// Checks that handlers are deterministic, in servers that journal their messages. Off by
    /// default.
    ///
    /// Each message is handled a second time, as a replay does, on a second instance of the state,
    /// and the stored forms of both states are compared. This costs time and memory in proportion
    /// to the state: use it in tests and in staging.
    ///
    /// If they differ, the handler is not deterministic. Its caller receives
    /// [`CallError::Diverged`](crate::CallError::Diverged), which names the method, and the changes
    /// of the message are dropped, as by a failed commit. A state with parts that encode in any
    /// order, e.g. a `HashMap`, differs too: use a `BTreeMap`.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, CallError, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Log(Vec<std::time::SystemTime>);
    /// #[persistent_server(journal = messages)]
    /// impl Log {
    ///     /// Takes the time from the system and not from its context.
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

    /// Checks that states and messages can be read back, before they are stored. By default each of
    /// them is checked in a program with debug assertions, and only the first state and the first
    /// message of each server type in any other program. `false` turns the check off.
    ///
    /// serde allows types whose stored form cannot be read, e.g. a `u128` inside of
    /// `#[serde(tag)]`, `untagged` or `flatten`, or a `skip_serializing_if` without `default`. The
    /// check decodes each changed state, and each message of a reminder or of a message journal,
    /// and encodes it again. It finds
    ///
    /// - a form that does not decode, or whose decoding panics;
    /// - a value that has another shape after it was read: another kind of number, a list of
    ///   another length, or a map with other keys. Examples are a `#[serde(untagged)]` value that
    ///   is read as an earlier variant, and a `#[serde(flatten)] Option` that is read as `None`.
    ///
    /// The caller receives [`CallError::Encode`](crate::CallError::Encode), which names the field,
    /// and the changes of its message are dropped, as by a failed commit.
    ///
    /// Not compared are the order of elements, because a `HashMap` has none, and the values of
    /// numbers, texts and bytes. So the check does not find an `untagged` value that an earlier
    /// variant reads from the same form, or a `#[serde(skip)]` field. A `#[restore]` function is not
    /// called. The form that `#[save]` returns is only decoded if it borrows from the state. The init
    /// arguments of an [`Address`](crate::Address) are checked only with debug assertions.
    ///
    /// A check costs an additional decoding and encoding of the state, and drops the value that it
    /// has read. A type that is meant to change its shape when it is read, or whose `Drop` has an
    /// effect outside of the value, needs `false`.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, CallError, Runtime};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Cart(Vec<Price>);
    ///
    /// #[derive(Serialize, Deserialize)]
    /// #[serde(untagged)]
    /// enum Price {
    ///     Rounded(f64),
    ///     /// Is stored as a number without a fraction, which `Rounded` reads as well.
    ///     Cents(u64),
    /// }
    ///
    /// #[persistent_server]
    /// impl Cart {
    ///     pub fn add(&mut self, cents: u64) { self.0.push(Price::Cents(cents)); }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::builder().check_states(true).in_memory().await?;
    /// let error = runtime.at::<Cart>("a", ()).add(5).await.unwrap_err();
    /// assert!(matches!(error, CallError::Encode { .. }));
    /// assert!(error.to_string().contains("an integer became a 64-bit float at field `[0]`"));
    /// # Ok(()) }
    /// ```
    pub fn check_states(mut self, check: bool) -> Self {
        self.check_states = Some(check);
        self
    }

    /// Allows or forbids busy waiting. Allowed by default.
    ///
    /// A thread that waits for an event that usually takes a few microseconds spins or yields for a
    /// bounded time before it sleeps, because waking a sleeping thread takes longer. A program whose
    /// only caller makes one durable call after another then uses 1.3 cores instead of 0.6. Forbid
    /// busy waiting to save power, or if other processes need the cores. On a machine with one core
    /// it is always forbidden.
    ///
    /// ```
    /// # use persistent_runtime::Runtime;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::builder().busy_wait(false).in_memory().await?;
    /// # Ok(()) }
    /// ```
    pub fn busy_wait(mut self, allowed: bool) -> Self {
        self.no_busy_wait = !allowed;
        self
    }

    /// Sets the options of the database that [`open`](Self::open) opens.
    ///
    /// ```
    /// # use persistent_runtime::{Runtime, SqliteOptions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("secrets.db");
    /// let options = SqliteOptions::new().secure_delete(true);
    /// let runtime = Runtime::builder().sqlite(options).open(path).await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "sqlite")]
    pub fn sqlite(mut self, options: SqliteOptions) -> Self {
        self.sqlite = options;
        self
    }

    /// Sets how long [`open`](Self::open) waits while another runtime or program has the database
    /// locked. Zero by default: then `open` fails at once.
    ///
    /// For a deployment that starts the new process before it stops the old one. The new process
    /// opens the database within 20 ms after the old one has shut down. If the old one still holds
    /// the database after `limit`, `open` fails with
    /// [`StorageErrorKind::Locked`](crate::StorageErrorKind::Locked), and the error names the
    /// holder. The wait takes a thread for blocking tasks and no worker of tokio.
    ///
    /// ```
    /// # use persistent_runtime::Runtime;
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("game.db");
    /// let old = Runtime::open(&path).await?;
    /// let new = Runtime::builder().wait_for_lock(Duration::from_secs(30)).open(&path);
    /// let (new, stopped) = tokio::join!(new, old.shutdown(Duration::from_secs(10)));
    /// stopped?;
    /// let runtime = new?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "sqlite")]
    pub fn wait_for_lock(mut self, limit: Duration) -> Self {
        self.wait_for_lock = limit;
        self
    }

    /// Sets the wall clock, which decides when reminders are due and which
    /// [`Context::now`](crate::Context::now) returns.
    ///
    /// The default is the system time. While a test has paused tokio's clock, it is the system time
    /// at the opening of the runtime, advanced by tokio's clock.
    ///
    /// The clock may step forwards and backwards. It is read at least every 10 s while a reminder
    /// is pending. It is called often, by any thread, and must neither block nor panic.
    ///
    /// ```
    /// # use persistent_runtime::Runtime;
    /// # use std::time::{Duration, SystemTime};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // As a machine whose clock is an hour fast.
    /// let fast = || SystemTime::now() + Duration::from_secs(3600);
    /// let runtime = Runtime::builder().clock(fast).in_memory().await?;
    /// # Ok(()) }
    /// ```
    pub fn clock(mut self, read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Some(Box::new(read));
        self
    }

    /// Registers a server type when the runtime opens, instead of at its first client.
    ///
    /// From then on the reminders of the type are scheduled. If its restart policy is
    /// [`Restart::Permanent`](crate::Restart::Permanent), all its stored servers are activated in
    /// the background. A server that cannot be activated reports the error to its next caller.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Kettle;
    /// # #[persistent_server] impl Kettle {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::builder().register::<Kettle>().in_memory().await?;
    /// # Ok(()) }
    /// ```
    pub fn register<S: Server>(mut self) -> Self {
        self.revivals.push(revive::<S>);
        self
    }

    /// Opens the runtime on the SQLite database at `path`, as [`Runtime::open`] does.
    ///
    /// # Errors
    /// As for [`Runtime::open`], or [`OpenError::Options`] if an option is invalid. The database is
    /// not touched in that case.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped, an attempt that has begun ends in the background, and releases the
    /// database if it has opened it.
    #[cfg(feature = "sqlite")]
    pub async fn open(self, path: impl AsRef<std::path::Path>) -> Result<Runtime, OpenError> {
        use std::{thread, time::Instant};

        use crate::{
            storage::{SqliteStorage, StorageError, StorageErrorKind},
            support::sync::task::spawn_blocking,
        };

        /// The time between two attempts to lock the database.
        const RETRY_AFTER: Duration = Duration::from_millis(20);

        let mut options = self.sqlite.clone();
        if self.no_busy_wait {
            options = options.busy_wait(false);
        }
        let (begin, limit) = (Instant::now(), self.wait_for_lock);
        let (config, revivals) = self.resolve()?;
        let mut path = path.as_ref().to_owned();
        loop {
            let options = options.clone();
            let attempt = spawn_blocking(move || {
                // Once: a later attempt must not follow another working directory.
                let path = SqliteStorage::resolve(&path)?;
                match SqliteStorage::open_with(&path, options) {
                    Err(error)
                        if error.kind() == StorageErrorKind::Locked && begin.elapsed() < limit =>
                    {
                        thread::sleep(RETRY_AFTER);
                        Ok(Err(path))
                    }
                    outcome => outcome.map(Ok),
                }
            });
            match attempt.await.map_err(StorageError::other)?? {
                Ok(storage) => return Ok(open(Arc::new(storage), config, revivals)),
                Err(locked) => path = locked,
            }
        }
    }

    /// Opens the runtime on a [`MemoryStorage`], as [`Runtime::in_memory`] does.
    ///
    /// # Errors
    /// [`OpenError::Options`] if an option is invalid.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    pub async fn in_memory(self) -> Result<Runtime, OpenError> {
        self.open_with(MemoryStorage::new()).await
    }

    /// Opens the runtime on `storage`.
    ///
    /// ```
    /// # use persistent_runtime::{MemoryStorage, Runtime};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let storage = MemoryStorage::new();
    /// let runtime = Runtime::builder().open_with(storage.clone()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`OpenError::Options`] if an option is invalid.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    #[expect(
        clippy::unused_async,
        reason = "must run inside of tokio, as the other open functions"
    )]
    pub async fn open_with(self, storage: impl Storage) -> Result<Runtime, OpenError> {
        let (config, revivals) = self.resolve()?;
        Ok(open(Arc::new(storage), config, revivals))
    }

    /// Merges the options of all layers. Rejects invalid options before a storage is opened.
    fn resolve(self) -> Result<(ServicesConfig, Vec<Revive>), OpenError> {
        let Self { config, environment, listeners, observers, extensions, check_replay, .. } = self;
        let config = ServicesConfig {
            layers: Layers::new(config, environment)?,
            listeners,
            observers,
            extensions,
            checks_replay: check_replay,
            checks_states: match self.check_states {
                Some(true) => CheckStates::Always,
                Some(false) => CheckStates::Never,
                None if cfg!(debug_assertions) => CheckStates::Always,
                None => CheckStates::First,
            },
            busy_wait: BusyWait::new(!self.no_busy_wait),
            clock: self.clock.map_or_else(WallClock::system, WallClock::new),
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
