//! The client of a server: the handle that generated clients wrap, and their controls.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use crate::{
    api::{address::Address, server::Server, typed::registry},
    config::options::{Options, Persist},
    engine::{
        command::{CallOptions, Command, Job, Stop},
        context::AnyAddress,
        handle::{HandleCore, Sent, coop_yield},
        send::SendOutcome,
        services::Services,
        task::Transfer,
    },
    error::{CallError, OptionsError},
    observe::event::EventStream,
    stop_reason::StopReason,
};

/// The typed handle that each generated client wraps. It is thin: everything that does not need
/// the type is in the engine.
pub struct Handle<S: Server> {
    core: HandleCore,
    /// Sends no `S`, and owns none.
    server: std::marker::PhantomData<fn(S)>,
}

impl<S: Server> Handle<S> {
    pub(crate) fn new(services: &Arc<Services>, address: &Address<S>) -> Self {
        let AnyAddress { key, init } = address.to_any();
        let options = CallOptions { init, ..CallOptions::default() };
        Self::from_core(HandleCore::new(registry::<S>(services).cell(&key), options))
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
        let (mut message, mut result) = (Some(message), None::<R>);
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
        let mut message = Some(message);
        match self.core.try_cast(&mut message, method) {
            SendOutcome::Queued | SendOutcome::Handled => {
                coop_yield().await;
                Ok(())
            }
            SendOutcome::Full => self.core.cast_when_possible(&mut message, method).await,
            SendOutcome::Refused(error) => Err(*error),
        }
    }

    /// Runs `work` on the state as a message of its own.
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

/// The controls of a client, apart from the server's own methods so that no
/// name is taken from the user: a method of the server's that is named like a
/// control wins, and the control stays reachable as `Client::stop(&client, …)`.
///
/// The server's type `S` is a parameter, not an associated type, so that a
/// client may be more public than its server.
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
/// counter.kill().await?; // drops the handler that waits, and the memory
/// assert_eq!(counter.add(1).await?, 3);
///
/// counter.stop("moving house").await?; // keeps, under the default policy
/// let address = counter.address(); // a value: store it, send it
/// assert_eq!(runtime.client(&address).add(1).await?, 4);
/// counter.stop(StopReason::Normal).await?; // deletes, under the default policy
/// assert_eq!(counter.add(1).await?, 1);
/// counter.stop_and_delete().await?; // deletes in any case
/// # Ok(()) }
/// ```
pub trait Client<S: Server>: Clone + Send + Sync + 'static {
    /// Wraps a handle; called by generated code and the runtime.
    #[doc(hidden)]
    fn from_handle(handle: Handle<S>) -> Self;

    /// The wrapped handle.
    #[doc(hidden)]
    fn handle(&self) -> &Handle<S>;

    /// The server's address: serializable, and good for a client at any time.
    fn address(&self) -> Address<S> {
        let core = self.handle().core();
        Address::from_any(&AnyAddress {
            key: core.cell().key().clone(),
            init: core.options().init.clone(),
        })
    }

    /// This client with another deadline for each call, from the sending to
    /// the commit. A zero timeout still lets a call through that needs no
    /// waiting at all.
    #[must_use]
    fn with_timeout(&self, timeout: Duration) -> Self {
        Self::from_handle(Handle::from_core(self.handle().core().with_timeout(timeout)))
    }

    /// This client with a persist level for each message of its own, over the
    /// server's: `EveryMessage` asks a server under a weaker level for a commit
    /// of all that it has not saved yet, reads included; a weaker level than
    /// the server's lets a change wait for the next commit.
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
    /// score.with_persist(Persist::EveryMessage).add(1).await?; // both are on disk
    /// score.kill().await?;
    /// assert_eq!(score.add(0).await?, 2);
    /// # Ok(()) }
    /// ```
    #[must_use]
    fn with_persist(&self, level: Persist) -> Self {
        let core = self.handle().core().with_options(|options| options.persist = Some(level));
        Self::from_handle(Handle::from_core(core))
    }

    /// This client with options over all other layers. They count for
    /// activations that a message of this client causes; `mailbox` and
    /// `call_timeout` are settled before that and stay as they are.
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
    /// [`OptionsError`] if one can't be honoured.
    fn with_options(&self, options: Options) -> Result<Self, OptionsError> {
        let core = self.handle().core();
        options.check().map_err(|reason| OptionsError::new(core.server().to_string(), reason))?;
        let core = core.with_options(|call_options| call_options.options = Some(options.into()));
        Ok(Self::from_handle(Handle::from_core(core)))
    }

    /// The server's events, from now on.
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
        async {
            let cell = self.handle().core().cell();
            Ok(cell.watch(Box::new(cell.clone())))
        }
    }

    /// Queues any message of the server's, `&mut self` methods and reads
    /// alike, without waiting for its handler; a result is dropped.
    ///
    /// # Errors
    /// If it can't be queued: the mailbox is full until the deadline, the
    /// restart limit is exceeded, the runtime has stopped.
    fn cast(&self, message: S::Message) -> impl Future<Output = Result<(), CallError>> + Send {
        self.handle().cast(message)
    }

    /// Ends the server behind the messages sent before, and waits until that
    /// is on disk. What becomes of its state is the restart policy's matter.
    /// The next message starts it again.
    ///
    /// # Errors
    /// If the store refuses the final state; the stop has happened all the
    /// same, and the stored state is the one before. Or as for a call.
    fn stop(
        &self,
        reason: impl Into<StopReason>,
    ) -> impl Future<Output = Result<(), CallError>> + Send {
        let stop = Stop { reason: reason.into(), deletes: false };
        async { self.handle().core().command(Command::Stop(Box::new(stop)), &mut None::<()>).await }
    }

    /// Ends the server normally and deletes its state, whatever the policy. Also
    /// mends a server whose restart limit is exceeded or whose state can't be
    /// read, at the price of the state.
    ///
    /// # Errors
    /// As for [`stop`](Client::stop).
    fn stop_and_delete(&self) -> impl Future<Output = Result<(), CallError>> + Send {
        let stop = Stop { reason: StopReason::Normal, deletes: true };
        async { self.handle().core().command(Command::Stop(Box::new(stop)), &mut None::<()>).await }
    }

    /// Ends the server without its `terminate` hook, as a crash does: memory
    /// is dropped, stored state stays, the next message starts it again. The
    /// message in progress, if any, is dropped at its next `.await` with
    /// [`CallError::Killed`]; queued messages stay queued.
    fn kill(&self) -> impl Future<Output = Result<(), CallError>> + Send {
        async {
            self.handle().core().cell().kill();
            Ok(())
        }
    }

    /// Gives a server whose restart limit is exceeded a new budget.
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
            self.handle().core().cell().lock().reset();
            Ok(())
        }
    }
}
