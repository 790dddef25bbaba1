//! Clients: the handle that each generated client wraps, and the controls of all clients.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use crate::{
    api::{
        address::Address,
        changes::Changes,
        server::Server,
        typed::{cell_of_other_kind, registry},
    },
    config::options::{Options, Persist},
    engine::{
        command::{CallOptions, Command, Job},
        context::AnyAddress,
        followers::Follower,
        handle::{HandleCore, Sent, coop_yield},
        send::SendOutcome,
        services::Services,
        task::Transfer,
    },
    error::{CallError, OptionsError},
    id::key::{KeyType, key_of},
    observe::event::EventStream,
    stop_reason::StopReason,
    support::catch::Guarded,
};

/// The typed handle that each generated client wraps. It is thin: everything that does not need
/// the type is in the engine.
pub struct Handle<S: Server> {
    core: HandleCore,
    /// A function pointer: a handle is `Send` and `Sync` even if `S` is not.
    server: std::marker::PhantomData<fn(S)>,
}

impl<S: Server> Handle<S> {
    pub(crate) fn new(services: &Arc<Services>, address: &Address<S>) -> Self {
        let AnyAddress { key, init } = address.to_any();
        let options = CallOptions { init, ..CallOptions::default() };
        let cell = match address.other_kind() {
            None => registry::<S>(services).cell(&key),
            Some(_) => cell_of_other_kind::<S>(services, address.id()),
        };
        Self::from_core(HandleCore::new(cell, options))
    }

    fn from_core(core: HandleCore) -> Self {
        Self { core, server: std::marker::PhantomData }
    }

    pub(crate) fn core(&self) -> &HandleCore {
        &self.core
    }

    /// Sends `message` and waits for its handler's result.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn call<R: Send + 'static>(&self, message: S::Message) -> Result<R, CallError> {
        let method = S::method(&message);
        let (mut message, mut result) = (Guarded::new(message), None::<R>);
        match self.core.send(&mut message, method, &mut result) {
            Sent::Done => coop_yield().await,
            sent => self.core.wait(sent, &mut message, method, &mut result).await?,
        }
        result.ok_or_else(|| CallError::NoReply { server: self.core.server().clone() })
    }

    /// Queues `message` without waiting for its handler.
    ///
    /// # Errors
    /// If the message cannot be queued: the mailbox is full until the deadline, the restart limit
    /// is exceeded, or the runtime has stopped.
    pub async fn cast(&self, message: S::Message) -> Result<(), CallError> {
        let method = S::method(&message);
        let mut message = Guarded::new(message);
        match self.core.try_cast(&mut message, method) {
            SendOutcome::Queued | SendOutcome::Handled => {
                coop_yield().await;
                Ok(())
            }
            SendOutcome::Full => self.core.cast_when_possible(&mut message, method).await,
            SendOutcome::Refused(error) => Err(*error),
        }
    }

    /// Runs `work` on the state, as one message.
    #[cfg_attr(not(feature = "macros"), expect(dead_code, reason = "only agents use it"))]
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        is_read: bool,
        work: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        let work = Job::new(is_read, work);
        let mut result = None::<R>;
        self.core.command(Command::Run(Box::new(work)), &mut result).await?;
        result.ok_or_else(|| CallError::NoReply { server: self.core.server().clone() })
    }

    /// Activates the server.
    pub(crate) async fn start(&self) -> Result<(), CallError> {
        self.core.command(Command::Start, &mut None::<()>).await
    }

    /// Activates the server, if it does not exist yet.
    pub(crate) async fn create(&self) -> Result<(), CallError> {
        self.core.command(Command::Create, &mut None::<()>).await
    }

    /// Moves the server to another runtime.
    pub(crate) async fn transfer(&self, to: &Arc<Services>) -> Result<(), CallError> {
        let target = registry::<S>(to).cell(self.core.cell().key());
        let transfer = Transfer::new(to.clone(), target);
        self.core.command(Command::Transfer(Box::new(transfer)), &mut None::<()>).await
    }
}

impl<S: Server> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self::from_core(self.core.clone())
    }
}

impl<S: Server> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// The controls that every client has, whatever the methods of its server.
///
/// They are methods of a trait so that a server's own methods can have any name. If a server has a
/// method with the name of a control, `client.stop()` calls the server's method, and
/// `Client::stop(&client, …)` calls the control.
///
/// The server type `S` is a parameter and not an associated type, so that a client can be more
/// public than its server.
///
/// # Cancel safety
///
/// Nothing happens before a returned future is polled. If the future is dropped before its command
/// is queued, nothing is sent. If it is dropped later, the command is still carried out.
///
/// ```
/// # use persistent_runtime::{persistent_server, CallError, Client, Runtime, StopReason};
/// # use std::time::Duration;
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
/// #[persistent_server]
/// impl Counter {
///     pub fn add(&mut self, n: u64) -> u64 { self.0 += n; self.0 }
///     pub async fn wait(&self, time: Duration) { tokio::time::sleep(time).await }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::in_memory().await?;
/// let counter = runtime.at::<Counter>("a", ());
/// counter.cast(CounterMessage::Add { n: 1 }).await?; // any message, as a cast
/// assert_eq!(counter.add(1).await?, 2);
///
/// let hasty = counter.with_timeout(Duration::from_millis(10));
/// let late = hasty.wait(Duration::from_secs(1)).await;
/// assert!(matches!(late, Err(CallError::Timeout { .. })));
/// counter.kill().await?; // drops the waiting handler and the instance
/// assert_eq!(counter.add(1).await?, 3);
///
/// counter.stop("maintenance").await?; // keeps the state, under the default restart policy
/// let address = counter.address(); // a value that can be stored and sent
/// assert_eq!(runtime.client(&address).add(1).await?, 4);
/// counter.stop(StopReason::Finished).await?; // deletes the state, under the default policy
/// assert_eq!(counter.add(1).await?, 1);
/// counter.delete().await?; // deletes the state under any policy
/// # Ok(()) }
/// ```
pub trait Client<S: Server>: Clone + Send + Sync + 'static {
    /// Wraps a handle. Called by generated code and by the runtime.
    #[doc(hidden)]
    fn from_handle(handle: Handle<S>) -> Self;

    /// Returns the wrapped handle.
    #[doc(hidden)]
    fn handle(&self) -> &Handle<S>;

    /// Returns the server's key.
    ///
    /// # Panics
    /// If the [`Key`](crate::Key) implementation does not read the text that it wrote.
    fn key(&self) -> <S::Key as KeyType>::Value<'_> {
        key_of::<S::Key>(self.handle().core().cell().key())
    }

    /// Returns the server's address, with the init arguments of this client. The address can be
    /// serialized, and turned into a client at any time.
    fn address(&self) -> Address<S> {
        let core = self.handle().core();
        Address::from_any(&AnyAddress {
            key: core.cell().key().clone(),
            init: core.options().init.clone(),
        })
    }

    /// Returns a client whose messages time out after `timeout` instead of the server type's
    /// [`call_timeout`](Options::call_timeout).
    ///
    /// The timeout covers activation, queueing, handling and the commit. A call that never has to
    /// wait succeeds even with a timeout of zero.
    #[must_use]
    fn with_timeout(&self, timeout: Duration) -> Self {
        Self::from_handle(Handle::from_core(self.handle().core().with_timeout(timeout)))
    }

    /// Returns a client whose messages have their own persist level, in place of the server's.
    ///
    /// With a stronger level than the server's, the reply waits for a commit of all unsaved
    /// changes, also if the message only reads. With a weaker level, the change waits for a later
    /// commit.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Client, Persist, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Score(u64);
    /// #[persistent_server(persist = on_stop)]
    /// impl Score {
    ///     pub fn add(&mut self, points: u64) -> u64 { self.0 += points; self.0 }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let score = runtime.at::<Score>("a", ());
    /// score.add(1).await?; // in memory
    /// score.with_persist(Persist::EveryMessage).add(1).await?; // both are stored
    /// score.kill().await?;
    /// assert_eq!(score.add(0).await?, 2);
    /// # Ok(()) }
    /// ```
    #[must_use]
    fn with_persist(&self, level: Persist) -> Self {
        let core = self.handle().core().with_options(|options| options.persist = Some(level));
        Self::from_handle(Handle::from_core(core))
    }

    /// Returns a client with options that override all other layers.
    ///
    /// They apply to each activation that a message of this client causes, and until that
    /// activation ends. `mailbox` and `call_timeout` have no effect here, because they are needed
    /// before an activation; see [`with_timeout`](Self::with_timeout).
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Client, Options, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
    /// # #[persistent_server] impl Player { pub fn wake(&self) {} }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let stays = Options::new().idle_timeout(None);
    /// runtime.at::<Player>("a", ()).with_options(stays)?.wake().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`OptionsError`] if an option is invalid.
    fn with_options(&self, options: Options) -> Result<Self, OptionsError> {
        let core = self.handle().core();
        options.check().map_err(|reason| OptionsError::new(core.server().to_string(), reason))?;
        let core = core.with_options(|call_options| call_options.options = Some(options.into()));
        Ok(Self::from_handle(Handle::from_core(core)))
    }

    /// Returns a stream of the server's events from now on.
    ///
    /// Neither starts the server nor keeps it in memory. The stream follows the server if it is
    /// [transferred](crate::Runtime::transfer).
    ///
    /// # Errors
    /// None for a server of this process.
    ///
    /// # Example
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Client, Event, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Counter(u64);
    /// # #[persistent_server] impl Counter { pub fn add(&mut self) -> u64 { self.0 += 1; self.0 } }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let counter = runtime.at::<Counter>("a", ());
    /// let mut events = counter.watch().await?;
    /// counter.add().await?;
    /// assert_eq!(events.next().await, Some(Event::Started));
    /// # Ok(()) }
    /// ```
    fn watch(&self) -> impl Future<Output = Result<EventStream, CallError>> + Send {
        async { Ok(self.handle().core().cell().watch_server()) }
    }

    /// Returns a stream of the server's committed states: first the current one, then each later
    /// one.
    ///
    /// Activates or creates the server as a message does, and commits its unsaved changes. After
    /// that the stream does not keep the server in memory. The states are those that are stored: a
    /// `#[serde(skip)]` field has the value that a restart would give it. A change that is not
    /// committed, e.g. of a message that panicked, is not reported. Changes that share a commit are
    /// reported one by one.
    ///
    /// Each change is decoded by the reader. A server that [journals its messages](crate::Journal)
    /// encodes its whole state at each change while a stream of it exists.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Change, Client, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Score(u64);
    /// # #[persistent_server] impl Score { pub fn add(&mut self, points: u64) { self.0 += points; } }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let score = runtime.at::<Score>("ada", ());
    /// let mut changes = score.changes().await?;
    /// score.add(5).await?;
    /// let mut seen = Vec::new();
    /// while seen.len() < 2
    ///     && let Some(change) = changes.next().await
    /// {
    ///     if let Change::Committed(Score(points)) = change? {
    ///         seen.push(points);
    ///     }
    /// }
    /// assert_eq!(seen, [0, 5]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Any [`CallError`].
    fn changes(&self) -> impl Future<Output = Result<Changes<S>, CallError>> + Send {
        async {
            let (follower, changes) = Follower::new();
            let handle = self.handle();
            let follow = Command::Follow(Box::new(follower));
            handle.core().command(follow, &mut None::<()>).await?;
            Ok(Changes::new(changes, handle.clone()))
        }
    }

    /// Queues a message of the server without waiting for its handler. The result of the handler is
    /// dropped. Any message can be cast but those of `#[info]` methods.
    ///
    /// Waits while the mailbox is full.
    ///
    /// # Errors
    /// - [`CallError::Info`] for the message of an `#[info]` method.
    /// - If the message cannot be queued: the mailbox is full until the deadline, the restart limit
    ///   is exceeded, or the runtime has stopped.
    ///
    /// Errors of the handler are not reported.
    fn cast(&self, message: S::Message) -> impl Future<Output = Result<(), CallError>> + Send {
        async {
            let method = S::method(&message);
            if method.is_info {
                let server = self.handle().core().server().clone();
                return Err(CallError::Info { server, method: method.name.into() });
            }
            self.handle().cast(message).await
        }
    }

    /// Stops the server after all messages that are already queued, and waits until the final
    /// commit is durable.
    ///
    /// A server in memory runs its `#[terminate]` hook. The stored state is kept, unless the reason is
    /// [`Finished`](StopReason::Finished) or the [restart policy](crate::Restart) is `temporary`. The
    /// next message activates the server again.
    ///
    /// # Errors
    /// Any [`CallError`]. After [`CallError::Storage`] the server has stopped, and the stored state
    /// is that of the last successful commit.
    fn stop(
        &self,
        reason: impl Into<StopReason>,
    ) -> impl Future<Output = Result<(), CallError>> + Send {
        let stop = Command::Stop(Box::new(reason.into()));
        async { self.handle().core().command(stop, &mut None::<()>).await }
    }

    /// Stops the server with [`StopReason::Deleted`] and deletes its stored state, whatever the
    /// restart policy. The next message creates the server anew.
    ///
    /// This also repairs a server that has failed or whose stored state cannot be decoded, at the
    /// cost of its state.
    ///
    /// # Errors
    /// As for [`stop`](Client::stop).
    fn delete(&self) -> impl Future<Output = Result<(), CallError>> + Send {
        self.stop(StopReason::Deleted)
    }

    /// Kills the server: drops the instance without its `#[terminate]` hook, as a crash does.
    ///
    /// The kill takes effect when the returned future is first polled, ahead of all queued messages.
    /// The stored state is kept, and changes that are not committed yet are lost. A message in
    /// progress is dropped at its next `.await` and fails with [`CallError::Killed`]. Queued messages
    /// stay queued and activate the server again. A kill follows a server that was
    /// [transferred](crate::Runtime::transfer), and so does a [`reset`](Self::reset).
    ///
    /// # Errors
    /// None for a server of this process.
    fn kill(&self) -> impl Future<Output = Result<(), CallError>> + Send {
        async {
            self.handle().core().cell().kill_server();
            Ok(())
        }
    }

    /// Resets the crash count of the server, so that a failed server handles messages again.
    ///
    /// The reset takes effect when the returned future is first polled.
    ///
    /// # Errors
    /// None for a server of this process.
    ///
    /// # Example
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, CallError, Client, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Fragile;
    /// #[persistent_server(max_restarts(0, within = "5s"))]
    /// impl Fragile {
    ///     pub fn touch(&self, hard: bool) { assert!(!hard, "broken"); }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let vase = runtime.at::<Fragile>("vase", ());
    /// vase.touch(true).await.unwrap_err();
    /// assert!(matches!(vase.touch(false).await, Err(CallError::RestartLimit { .. })));
    /// vase.reset().await?;
    /// vase.touch(false).await?;
    /// # Ok(()) }
    /// ```
    fn reset(&self) -> impl Future<Output = Result<(), CallError>> + Send {
        async {
            self.handle().core().cell().reset_server();
            Ok(())
        }
    }
}
