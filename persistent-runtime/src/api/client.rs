//! The caller's side: the generated client's core, and the controls.

use std::{cell::Cell, fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use crate::{
    api::address::Address, api::server::ReplySlot, api::server::Server, call::deadline::Deadline,
    call::reply, call::reply::Answer, config::options::Options, config::options::Persist,
    engine::cell, engine::direct, engine::direct::Direct, engine::mailbox::Envelope,
    engine::mailbox::Job, engine::mailbox::Order, engine::mailbox::Sent, engine::mailbox::Stop,
    engine::mailbox::Terms, engine::task::Transfer, error::CallError, error::OptionsError,
    observe::event::EventStream, services::Core, stop_reason::StopReason,
    support::sync::task::coop::consume_budget,
};

thread_local! {
    /// How many messages have needed no waiting.
    static SENT: Cell<u32> = const { Cell::new(0) };
}

/// Has a caller that never has to wait let go of its thread now and then. One of four
/// messages counts for the budget of its task: to count each would cost a fifth of it.
async fn give_way() {
    let sent = SENT.with(|sent| sent.replace(sent.get().wrapping_add(1)));
    if sent.is_multiple_of(4) {
        consume_budget().await;
    }
}

/// The core that each generated client wraps: one server's cell, what the
/// client asks of each message, and a deadline.
pub struct Handle<S: Server> {
    cell: Arc<cell::Cell<S>>,
    terms: Arc<Terms<S>>,
    timeout: Duration,
    deadline: Deadline,
}

impl<S: Server> Handle<S> {
    /// A handle on `cell`, which the registry has counted already.
    pub(crate) fn adopt(cell: Arc<cell::Cell<S>>, init: Option<Arc<S::Init>>) -> Self {
        let timeout = cell.settings().call_timeout;
        let terms = Arc::new(Terms { init, ..Terms::default() });
        Self { cell, terms, timeout, deadline: Deadline::default() }
    }

    /// Sends `message` and waits for its handler's result.
    ///
    /// # Errors
    /// Each of [`CallError`].
    pub async fn call<R: Send + 'static>(&self, message: S::Message) -> Result<R, CallError> {
        match direct::handle(&self.cell, &self.terms, message) {
            Direct::Answered(result) => {
                give_way().await;
                result
            }
            Direct::Handed(waiting) => {
                self.within_deadline(pin!(waiting.wait(self.cell.id()))).await
            }
            Direct::Declined(message) => {
                let (answer, reply) = reply::channel::<R>();
                self.ask(Order::Message(message), answer, reply).await
            }
        }
    }

    /// Queues `message` and does not wait for its handler.
    ///
    /// # Errors
    /// If it can't be queued: the mailbox is full until the deadline, the
    /// restart limit is exceeded, the runtime has stopped.
    pub async fn cast(&self, message: S::Message) -> Result<(), CallError> {
        match self.cell.try_send(Envelope::new(Order::Message(message), None), &self.terms)? {
            Sent::Full(envelope) => {
                self.within_deadline(Box::pin(self.cell.send(envelope, &self.terms))).await
            }
            Sent::Queued | Sent::Handled => {
                give_way().await;
                Ok(())
            }
        }
    }

    /// Runs `work` on the state as a message of its own.
    #[cfg_attr(not(feature = "macros"), expect(dead_code, reason = "only `Agent` runs closures"))]
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        reads: bool,
        work: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        let (answer, reply) = reply::channel::<R>();
        let work = Box::new(|state: &mut S, answer: &mut Option<Answer>| {
            let result = work(state);
            ReplySlot::queued(answer).set(result);
        });
        self.ask(Order::Run(Box::new(Job { reads, work })), answer, reply).await
    }

    /// Makes sure that the server runs.
    pub(crate) async fn start(&self) -> Result<(), CallError> {
        self.control(Order::Start).await
    }

    /// Has the earliest durable timer handled, if it is due.
    pub(crate) async fn remind(&self) -> Result<(), CallError> {
        self.control(Order::Remind).await
    }

    /// An order that has no result but to be done.
    async fn control(&self, order: Order<S>) -> Result<(), CallError> {
        let (mut answer, reply) = reply::channel::<()>();
        answer.set(());
        self.ask(order, answer, reply).await
    }

    async fn ask<R>(
        &self,
        order: Order<S>,
        answer: Answer,
        reply: reply::Waiting<R>,
    ) -> Result<R, CallError> {
        let placed = self.cell.try_send(Envelope::new(order, Some(answer)), &self.terms)?;
        // What few calls come to is boxed: each call's future would be as large.
        let asking = pin!(async {
            let seat = match placed {
                Sent::Full(envelope) => {
                    Box::pin(self.cell.send(envelope, &self.terms)).await?;
                    None
                }
                Sent::Queued => None,
                Sent::Handled => self.cell.kind().core().lobby().seat(&reply),
            };
            if let Some(seat) = &seat {
                Box::pin(seat.linger(&reply)).await;
            }
            reply.wait(self.cell.id()).await
        });
        self.within_deadline(asking).await
    }

    pub(crate) fn cell(&self) -> &Arc<cell::Cell<S>> {
        &self.cell
    }

    /// Hands the server to another runtime.
    pub(crate) async fn transfer(&self, to: Arc<Core>) -> Result<(), CallError> {
        self.control(Order::Transfer(Box::new(Transfer::new(to)))).await
    }

    fn with_terms(&self, change: impl FnOnce(&mut Terms<S>)) -> Self {
        let mut handle = self.clone();
        change(Arc::make_mut(&mut handle.terms));
        handle
    }

    /// `work` had better be pinned already: what is moved from future to future is kept
    /// in each of them.
    async fn within_deadline<R>(
        &self,
        work: impl Future<Output = Result<R, CallError>>,
    ) -> Result<R, CallError> {
        let home = self.cell.kind().core().tokio();
        match self.deadline.within(self.timeout, home, work).await {
            Some(result) => result,
            None => Err(CallError::Timeout { server: self.cell.id().clone(), after: self.timeout }),
        }
    }
}

impl<S: Server> Clone for Handle<S> {
    fn clone(&self) -> Self {
        self.cell.held();
        let (cell, terms) = (self.cell.clone(), self.terms.clone());
        Self { cell, terms, timeout: self.timeout, deadline: Deadline::default() }
    }
}

impl<S: Server> Drop for Handle<S> {
    fn drop(&mut self) {
        self.cell.let_go();
    }
}

impl<S: Server> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(self.cell.id()).finish()
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
/// counter.kill(); // drops the handler that waits, and the memory
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
        let Handle { cell, terms, .. } = self.handle();
        Address::from_parts(cell.key().clone(), terms.init.clone())
    }

    /// This client with another deadline for each call, from the sending to
    /// the commit. A zero timeout still lets a call through that needs no
    /// waiting at all.
    #[must_use]
    fn with_timeout(&self, timeout: Duration) -> Self {
        let mut handle = self.handle().clone();
        handle.timeout = timeout;
        Self::from_handle(handle)
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
    /// score.kill();
    /// assert_eq!(score.add(0).await?, 2);
    /// # Ok(()) }
    /// ```
    #[must_use]
    fn with_persist(&self, level: Persist) -> Self {
        Self::from_handle(self.handle().with_terms(|terms| terms.persist = Some(level)))
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
    /// [`OptionsError`] if the runtime cannot honour an option.
    fn with_options(&self, options: Options) -> Result<Self, OptionsError> {
        options.check().map_err(|reason| {
            let layer = self.handle().cell.id().to_string();
            OptionsError::new(layer, reason)
        })?;
        let set = |terms: &mut Terms<S>| terms.options = Some(options.into());
        Ok(Self::from_handle(self.handle().with_terms(set)))
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
    /// let mut events = counter.watch();
    /// counter.add().await?;
    /// assert_eq!(events.next().await, Some(Event::Started));
    /// # Ok(()) }
    /// ```
    fn watch(&self) -> EventStream {
        let client = Box::new(self.handle().clone());
        self.handle().cell.watch(client)
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
        self.handle().control(Order::Stop(Box::new(Stop { reason: reason.into(), delete: false })))
    }

    /// Ends the server normally and deletes its state, whatever the policy. Also
    /// mends a server whose restart limit is exceeded or whose state can't be
    /// read, at the price of the state.
    ///
    /// # Errors
    /// As for [`stop`](Client::stop).
    fn stop_and_delete(&self) -> impl Future<Output = Result<(), CallError>> + Send {
        self.handle()
            .control(Order::Stop(Box::new(Stop { reason: StopReason::Normal, delete: true })))
    }

    /// Ends the server without its `terminate` hook, as a crash does: memory
    /// is dropped, stored state stays, the next message starts it again. The
    /// message in progress, if any, is dropped at its next `.await` with
    /// [`CallError::Killed`]; queued messages stay queued.
    fn kill(&self) {
        self.handle().cell.kill();
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
    /// vase.reset();
    /// vase.touch(false).await?;
    /// # Ok(()) }
    /// ```
    fn reset(&self) {
        self.handle().cell.reset();
    }
}
