//! The runtime: opening, addressing, listing, transferring, and shutting down.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use crate::{
    api::{
        address::Address,
        client::{Client, Handle},
        server::Server,
        typed::registry,
    },
    call::deadline::Deadline,
    engine::{
        mailbox::Failed,
        reminders::{Reminder, Reminders},
        services::{CLOSE_GRACE, HALT_GRACE, SAVE_GRACE, Services, ServicesConfig, Unsaved},
    },
    error::{CallError, OpenError, Outcome, ShutdownError},
    id::{ServerId, key::IntoKey},
    runtime::{builder::Builder, keys::Keys},
    storage::{MemoryStorage, Storage, StorageError},
    support::{
        alarm,
        block_on::block_on,
        catch::{await_catching, catch_unwind},
        sync::time::{self, Instant},
    },
};

/// The runtime of the persistent servers on one storage.
///
/// Clones share one runtime. A process can have several runtimes, each with its own storage.
///
/// [`shutdown`](Self::shutdown) ends a runtime in an orderly way. Dropping the last clone ends it at
/// once, as a kill of the process does: acknowledged changes are stored as the
/// [persist level](crate::Persist) promises, `#[terminate]` hooks do not run, and clients receive
/// [`CallError::RuntimeStopped`]. The drop blocks its thread, for at most ten seconds, until the
/// commits in flight are finished and the storage is closed. The storage itself is dropped with the
/// last client.
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
/// runtime.start::<Counter>("a", ()).await?; // creates it before it returns
/// runtime.at::<Counter>("b", ()).add().await?; // the first message creates it
/// assert_eq!(runtime.count::<Counter>().await?.stored, 2);
/// runtime.shutdown(Duration::from_secs(5)).await?;
///
/// let runtime = Runtime::open(&path).await?;
/// assert_eq!(runtime.find::<Counter>("b").await?.add().await?, 2);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Runtime(Arc<Owner>);

/// Halts the runtime when the last clone is dropped.
struct Owner(Arc<Services>);

impl Runtime {
    /// Opens a runtime on the SQLite database at `path`. Creates the database if there is none.
    ///
    /// The tasks of all servers run on the tokio runtime on which this is called. It must have its
    /// time driver enabled. [`builder`](Self::builder) sets options.
    ///
    /// A relative path is resolved once: a later change of the working directory leads to no other
    /// file.
    ///
    /// # Errors
    /// [`OpenError::Storage`] if the file is in use by this or another name, is not a database of
    /// this library, was written by a newer version of it, lacks its write-ahead log, or cannot be
    /// opened. The error names the file and says what to do.
    ///
    /// # Panics
    /// If called outside of a tokio runtime, or on one without a time driver.
    #[cfg(feature = "sqlite")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self, OpenError> {
        Self::builder().open(path).await
    }

    /// Opens a runtime on a [`MemoryStorage`], which loses all servers with the runtime. For tests.
    ///
    /// # Errors
    /// None. It returns a `Result` as the other functions do that open a runtime.
    ///
    /// # Panics
    /// If called outside of a tokio runtime, or on one without a time driver.
    pub async fn in_memory() -> Result<Self, OpenError> {
        Self::builder().open_with(MemoryStorage::new()).await
    }

    /// Returns a builder, which opens a runtime with options, listeners or another storage.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Activates the server under `key` and returns its client. Creates the server from `init` if
    /// nothing is stored.
    ///
    /// A created server is stored before this returns, unless its persist level is weaker than
    /// [`EveryMessage`](crate::Persist::EveryMessage).
    ///
    /// # Errors
    /// Any [`CallError`] of an activation.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be activated nevertheless.
    pub async fn start<S: Server>(
        &self,
        key: impl IntoKey<S::Key>,
        init: S::Init,
    ) -> Result<S::Client, CallError> {
        self.started::<S>(&Address::new(key, init)).await
    }

    /// Creates the server under `key` from `init`, and returns its client.
    ///
    /// Of several concurrent calls for one key, one creates the server and all others fail. The
    /// server is stored as by [`start`](Self::start).
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, CallError, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Account;
    /// # #[persistent_server] impl Account {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// runtime.create::<Account>("ada", ()).await?;
    /// let again = runtime.create::<Account>("ada", ()).await;
    /// assert!(matches!(again, Err(CallError::AlreadyExists { .. })));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CallError::AlreadyExists`] if the server is in memory or stored, even if its state does
    /// not decode; or any other [`CallError`] of an activation.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be created nevertheless.
    pub async fn create<S: Server>(
        &self,
        key: impl IntoKey<S::Key>,
        init: S::Init,
    ) -> Result<S::Client, CallError> {
        let client = self.at::<S>(key, init);
        client.handle().create().await?;
        Ok(client)
    }

    /// Returns a client of the server under `key`. Does no I/O.
    ///
    /// The first message activates the server, and creates it from `init` if nothing is stored.
    #[must_use]
    pub fn at<S: Server>(&self, key: impl IntoKey<S::Key>, init: S::Init) -> S::Client {
        self.client::<S>(&Address::new(key, init))
    }

    /// Activates the server under `key` and returns its client, if the server exists.
    ///
    /// The returned client has no init arguments: if the server is deleted later, its messages fail
    /// with [`CallError::NotFound`]. For a client without I/O, pass [`Address::existing`] to
    /// [`client`](Self::client).
    ///
    /// # Errors
    /// [`CallError::NotFound`] if nothing is stored under `key`, or any other [`CallError`] of an
    /// activation.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be activated nevertheless.
    pub async fn find<S: Server>(&self, key: impl IntoKey<S::Key>) -> Result<S::Client, CallError> {
        self.started::<S>(&Address::existing(key)).await
    }

    /// Returns a client of the server at `address`. Does no I/O.
    #[must_use]
    pub fn client<S: Server>(&self, address: &Address<S>) -> S::Client {
        S::Client::from_handle(Handle::new(self.services(), address))
    }

    /// Counts the servers of a type. Can be awaited outside of tokio.
    ///
    /// # Errors
    /// If the storage cannot be read.
    ///
    /// # Example
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
    /// # #[persistent_server] impl Player {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// runtime.start::<Player>("ada", ()).await?;
    /// let players = runtime.count::<Player>().await?;
    /// assert_eq!((players.live, players.stored, players.failed), (1, 1, 0));
    /// # Ok(()) }
    /// ```
    pub async fn count<S: Server>(&self) -> Result<Count, StorageError> {
        let services = self.services();
        let stored = services.in_tokio(services.storage().count(S::NAME)).await?;
        let registry = registry::<S>(self.services());
        Ok(Count { live: registry.live(), stored, failed: registry.count_failed() })
    }

    /// Returns failed servers of a type, i.e. those over their restart limit, with their last panics:
    /// the first `limit` in the order of their keys' bytes, after the key `after` if there is one.
    ///
    /// Failures are not stored: a server of an earlier runtime is not failed.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Client, Options, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Vase;
    /// #[persistent_server(max_restarts(0, within = "5s"))]
    /// impl Vase {
    ///     pub fn touch(&self) { panic!("it broke") }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::in_memory().await?;
    /// let vase = runtime.at::<Vase>("ming", ());
    /// vase.touch().await.unwrap_err();
    /// for failed in runtime.failed::<Vase>(None, 100) {
    ///     assert_eq!((failed.server.key(), &*failed.panic), ("ming", "it broke"));
    ///     runtime.at::<Vase>(failed.server.key(), ()).reset().await?;
    /// }
    /// assert!(runtime.failed::<Vase>(None, 100).is_empty());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn failed<S: Server>(&self, after: Option<&str>, limit: usize) -> Vec<FailedServer> {
        let failed = registry::<S>(self.services()).failed(after, limit);
        let failed =
            failed.into_iter().map(|(server, Failed { panic, .. })| FailedServer { server, panic });
        failed.collect()
    }

    /// Returns the stored reminders of a server, in the order of their next attempts. Those that the
    /// runtime has given up are the last. Reads the storage and does not activate the server, so it
    /// works for a server whose state cannot be decoded, too. Returns an empty list for a server
    /// that is not stored.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Offer { expired: bool }
    /// # #[persistent_server] impl Offer {
    /// # pub fn make(&mut self, context: &Context<Self>) { context.remind("expiry", Duration::from_secs(60), OfferMessage::Expire); }
    /// # #[info] fn expire(&mut self) { self.expired = true; } }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// runtime.at::<Offer>("a", ()).make().await?;
    /// for reminder in runtime.reminders::<Offer>("a").await? {
    ///     println!("{}: due {:?}, failed {} times", reminder.name, reminder.due, reminder.attempts);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CallError::Storage`] if the storage cannot be read, [`CallError::Decode`] if the list itself
    /// cannot be decoded.
    pub async fn reminders<S: Server>(
        &self,
        key: impl IntoKey<S::Key>,
    ) -> Result<Vec<Reminder>, CallError> {
        let server = ServerId::new(S::NAME, key.into_key());
        let record = match self.services().storage().load(&server).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Vec::new()),
            Err(source) => {
                let outcome = Outcome::NotRun;
                return Err(CallError::Storage { server, source, outcome });
            }
        };
        match Reminders::read(&record.reminders, record.version) {
            Ok(reminders) => Ok(reminders.list()),
            Err(source) => {
                let (version, source) = (record.version, source.into());
                Err(CallError::Decode { server, version, source })
            }
        }
    }

    /// Returns the keys of all servers of a type, in memory and stored, as a stream of texts.
    /// [`Key::from_text`](crate::Key::from_text) returns the key of a text.
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
        Keys::new(S::NAME, self.services().clone(), live)
    }

    /// Writes a backup of everything that is stored into a new file, while the runtime goes on.
    ///
    /// The backup is a database of its own, at one point in time: it has every change that was
    /// committed before the call. To restore it, stop the program, remove the database with its
    /// `-wal` and `-shm` files, and copy the backup to its place.
    ///
    /// The write-ahead log cannot start over before the backup is written, so it grows meanwhile. At
    /// `SqliteOptions::wal_limit` commits are refused.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
    /// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, copy) = (folder.path().join("game.db"), folder.path().join("copy.db"));
    /// let runtime = Runtime::open(&path).await?;
    /// runtime.at::<Counter>("a", ()).add().await?;
    /// runtime.backup(&copy).await?;
    /// # runtime.shutdown(Duration::from_secs(1)).await?;
    ///
    /// let restored = Runtime::open(&copy).await?;
    /// assert_eq!(restored.at::<Counter>("a", ()).add().await?, 2);
    /// # restored.shutdown(Duration::from_secs(1)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If a file of this name exists, if it cannot be written, or if the storage has no backups, e.g. the one
    /// in memory. No incomplete backup is left under the name.
    ///
    /// # Cancel safety
    /// If the future is dropped, the backup goes on.
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<(), StorageError> {
        let services = self.services();
        services.in_tokio(services.storage().backup(path.as_ref())).await
    }

    /// Transfers a server to another runtime of this process.
    ///
    /// The server is unloaded in this runtime with its `#[terminate]` hook, stored and activated in
    /// the runtime `to`, and deleted from this runtime's storage. State, reminders, resources and
    /// the options of [`Client::with_options`] move along. Sources end with the activation.
    ///
    /// Clients of this runtime stay usable: their messages are forwarded in order for as long as
    /// both runtimes are open, and no accepted message is lost. Event streams and the controls of
    /// [`Client`] follow the server. The server can be transferred back.
    /// A transfer to the runtime that already has the server does nothing.
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
    /// The two storages do not share a transaction. If the process is killed after the commit in
    /// `to` and before the delete in this runtime, a copy remains in this runtime's storage. The
    /// same happens if this storage fails to delete: the server has moved then, although the
    /// transfer returns [`CallError::Storage`]. A later transfer back replaces the copy.
    ///
    /// # Errors
    /// - [`CallError::NotFound`] if nothing is stored under the address in this runtime.
    /// - [`CallError::AlreadyExists`] if another server is stored under the address in `to`.
    /// - [`CallError::Timeout`] if the transfer takes too long. The server may still move.
    /// - Any other error of either runtime or storage. Except for the failed delete above, the
    ///   server stays in this runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped after its first poll, the server may still move.
    pub async fn transfer<S: Server>(
        &self,
        address: &Address<S>,
        to: &Runtime,
    ) -> Result<(), CallError> {
        Handle::new(self.services(), address).transfer(to.services()).await
    }

    /// Shuts the runtime down:
    ///
    /// 1. Refuses new messages with [`CallError::RuntimeStopped`].
    /// 2. Handles all messages that are already queued.
    /// 3. Unloads every server, with its `#[terminate]` hook and its final commit. A commit that
    ///    the storage refuses is retried.
    /// 4. After `deadline`, ends the handlers and hooks that are still waiting and drops the messages
    ///    that are still queued, and saves what these servers had acknowledged. That may take another
    ///    second.
    /// 5. Closes the storage. This includes work that can wait until the next opening, e.g. giving
    ///    free space back to the file system. Such work can take the rest of `deadline`. What is not
    ///    done by then, or within half a second if that is later, is left undone. After another half a
    ///    second the shutdown ends, and the storage goes on with closing.
    ///
    /// A handler or hook of this runtime cannot wait for the shutdown, which waits for it: in one that
    /// is `async`, this begins the shutdown and returns `Ok` at once. The same is not recognized in a
    /// task that the handler waits for, and not in a handler that is not `async`: one that blocks on
    /// the shutdown blocks its thread, on a current-thread tokio runtime for ever. Make it `async`.
    ///
    /// # Errors
    /// [`ShutdownError`] if servers were still busy after `deadline`, if changes could not be saved,
    /// or if the storage could not be closed in time. It names the servers whose changes were not
    /// saved. The runtime has ended nevertheless.
    ///
    /// # Cancel safety
    /// If the future is dropped after its first poll, the shutdown goes on. A second call waits for
    /// it, until its own deadline.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        let services = self.services();
        let tokio = services.home().tokio();
        let shutdown = tokio.spawn(shut_down(services.clone(), deadline));
        if services.is_in_handler() {
            return Ok(());
        }
        // Longer than the shutdown itself takes, if its tokio runtime is driven.
        let limit = deadline.saturating_add(SAVE_GRACE + HALT_GRACE);
        match Deadline::default().within(limit, services.home(), shutdown).await {
            Some(Ok(outcome)) => outcome,
            // The tokio runtime of the servers is gone, or nobody drives it.
            Some(Err(_)) | None => {
                let unfinished = services.active();
                end(services, (unfinished > 0).then_some(unfinished), Duration::ZERO).await
            }
        }
    }

    pub(crate) fn open_on(storage: Arc<dyn Storage>, config: ServicesConfig) -> Self {
        Self(Arc::new(Owner(Services::new(storage, config))))
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

async fn shut_down(services: Arc<Services>, deadline: Duration) -> Result<(), ShutdownError> {
    let begin = Instant::now();
    let is_stopped = time::timeout(deadline, services.stop()).await.is_ok();
    let unfinished = (!is_stopped).then(|| services.active());
    if unfinished.is_some() {
        services.cut().await;
    }
    end(&services, unfinished, deadline.saturating_sub(begin.elapsed())).await
}

/// Ends a runtime. `unfinished` is the number of servers that did not end in time, if that has
/// passed, and `time` is what is left of it.
async fn end(
    services: &Services,
    unfinished: Option<usize>,
    time: Duration,
) -> Result<(), ShutdownError> {
    services.report_live();
    services.halt();
    // The shutdown is complete even if the storage panics.
    let close = || await_catching(async { services.storage().close().await });
    let is_closed = alarm::within(time.max(CLOSE_GRACE), close()).await.is_some()
        // Now the storage leaves undone what can wait.
        || alarm::within(CLOSE_GRACE, close()).await.is_some();
    let Unsaved { servers: unsaved, count: unsaved_count } = services.take_unsaved();
    if unfinished.is_none() && unsaved_count == 0 && is_closed {
        return Ok(());
    }
    let unfinished = unfinished.unwrap_or(0);
    Err(ShutdownError { unfinished, unsaved, unsaved_count, is_storage_open: !is_closed })
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("active", &self.services().active()).finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.halt();
        // A panic in a drop can abort the process.
        let _ = catch_unwind(|| block_on(self.0.storage().close(), HALT_GRACE));
    }
}

/// The numbers of servers of one type, counted by [`Runtime::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// The number of servers in memory.
    pub live: usize,
    /// The number of servers in the storage.
    pub stored: u64,
    /// The number of failed servers, i.e. those over their restart limit.
    pub failed: usize,
}

/// A server over its restart limit, listed by [`Runtime::failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedServer {
    /// The server.
    pub server: ServerId,
    /// The message of the last panic.
    pub panic: Arc<str>,
}
