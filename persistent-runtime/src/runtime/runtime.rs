//! The runtime: addressing, listing, shutting down.

use std::{
    fmt,
    sync::Arc,
    task::Wake,
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{
    api::{
        address::Address,
        client::{Client, Handle},
        server::Server,
        typed::registry,
    },
    engine::services::{Services, ServicesConfig},
    error::{CallError, OpenError, ShutdownError},
    runtime::{builder::Builder, keys::Keys},
    storage::{MemoryStorage, Storage, StorageError, StorageFuture},
    support::{
        catch::{await_catching, catch_unwind},
        sync::time,
    },
};

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
struct Owner(Arc<Services>);

impl Runtime {
    /// Opens the SQLite database at `path`, or creates it.
    ///
    /// The servers' tasks run on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// If the file is in use, not ours, or can't be opened.
    #[cfg(feature = "sqlite")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
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
        S::Client::from_handle(Handle::new(self.services(), address))
    }

    /// How many servers of a type there are.
    ///
    /// # Errors
    /// If the storage can't tell.
    pub async fn count<S: Server>(&self) -> Result<Count, StorageError> {
        let stored = self.services().storage().count(S::NAME).await?;
        let registry = registry::<S>(self.services());
        Ok(Count { live: registry.live(), stored, failed: registry.failed() })
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
        let live = registry::<S>(self.services()).live_keys();
        Keys::new(S::NAME, self.services().storage().clone(), live)
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
        Handle::new(self.services(), address).transfer(to.services()).await
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
        let services = self.services();
        let stopped = time::timeout(deadline, services.stop()).await;
        let unfinished = services.active();
        services.halt();
        let storage = services.storage().clone();
        // A panic of the storage must not keep the caller from going on.
        let _ = await_catching(async { storage.close().await }).await;
        stopped.map_err(|_| ShutdownError { unfinished })
    }

    pub(crate) fn open_on(storage: Arc<dyn Storage>, config: ServicesConfig) -> Self {
        Self(Arc::new(Owner(Arc::new(Services::new(storage, config)))))
    }

    pub(crate) fn services(&self) -> &Arc<Services> {
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
        f.debug_struct("Runtime").field("active", &self.services().active()).finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.halt();
        // A panic of the storage must not become a panic of the drop.
        let _ = catch_unwind(|| block_on(self.0.storage().close()));
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
