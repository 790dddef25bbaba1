//! The context of a handler: what it can ask of its own server.

use std::{
    any::Any,
    fmt,
    future::poll_fn,
    hash::{BuildHasher, Hasher, RandomState},
    marker::PhantomData,
    pin::pin,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use futures_core::Stream;

use crate::{
    api::{
        address::Address,
        client::{Client, Handle},
        server::Server,
    },
    call::reply::DeferredReplies,
    codec,
    engine::{
        context::ContextCore,
        erased::AnyMessage,
        recorded::Input,
        reminders::{Reminders, When},
        sources::Source,
    },
    error::CallError,
    observe::event::Event,
    stop_reason::StopReason,
    support::sync::{
        task::coop::consume_budget,
        time::{Instant, MissedTickBehavior, interval_at, sleep},
    },
};

/// A server's view of itself, for handlers and hooks that take
/// `&Context<Self>`. It is no field of the message.
///
/// What a handler asks for here happens only if it returns: a panic takes it
/// back with the rest of its message.
///
/// ```
/// # use persistent_runtime::{persistent_server, Context, Runtime, StopReason};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Basket { items: Vec<String> }
/// #[persistent_server]
/// impl Basket {
///     /// Empties the basket and ends its server behind this message.
///     pub fn check_out(&mut self, context: &Context<Self>) -> String {
///         context.stop(StopReason::Normal);
///         format!("{}: {} items", context.key(), std::mem::take(&mut self.items).len())
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = Runtime::in_memory().await?;
/// let basket = runtime.at::<Basket>("ada", ());
/// assert_eq!(basket.check_out().await?, "ada: 0 items");
/// # Ok(()) }
/// ```
pub struct Context<S: Server> {
    core: ContextCore,
    server: PhantomData<fn(S)>,
}

impl<S: Server> Context<S> {
    pub(crate) fn new(core: ContextCore) -> Self {
        Self { core, server: PhantomData }
    }

    pub(crate) fn core(&self) -> &ContextCore {
        &self.core
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.core.address().key
    }

    /// The server's own address, with the init arguments of the client that
    /// activated it.
    #[must_use]
    pub fn address(&self) -> Address<S> {
        Address::from_any(self.core.address())
    }

    /// A client of the server itself, to hand to others. A handler that waits
    /// for an answer of its own server waits until the call's deadline.
    #[must_use]
    pub fn client(&self) -> S::Client {
        self.client_of(&self.address())
    }

    /// A client of another server of the same runtime.
    #[must_use]
    pub fn client_of<T: Server>(&self, address: &Address<T>) -> T::Client {
        T::Client::from_handle(Handle::new(&self.core.services(), address))
    }

    /// The time, by the clock that the runtime's timers go by, in
    /// microseconds: tests that pause tokio's time pause this one as well.
    ///
    /// A server that journals its messages takes the time from here and from
    /// nowhere else: it is recorded with the message, and a replay sees it again.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::time::SystemTime;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Diary(Vec<(SystemTime, String)>);
    /// #[persistent_server(journal = messages)]
    /// impl Diary {
    ///     pub fn write(&mut self, text: String, context: &Context<Self>) {
    ///         self.0.push((context.now(), text));
    ///     }
    /// #   pub fn pages(&self) -> usize { self.0.len() }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let diary = runtime.at::<Diary>("ada", ());
    /// diary.write("It works.".to_owned()).await?;
    /// # assert_eq!(diary.pages().await?, 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let clock = self.core.registry().services().clock();
        let micros = self.core.input(|| Input::Time(clock.micros()));
        let since_epoch = Duration::from_micros(micros);
        SystemTime::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// A random number; each of the `2^64` is as likely as any other. Not for
    /// secrets.
    ///
    /// A server that journals its messages takes chance from here and from
    /// nowhere else: the number is recorded with the message, and a replay
    /// sees it again. A message that needs many, or of another kind, seeds a
    /// generator with one, such as `StdRng::seed_from_u64(context.random())` of
    /// the crate `rand`.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Dice { sum: u64 }
    /// #[persistent_server(journal = messages)]
    /// impl Dice {
    ///     pub fn roll(&mut self, context: &Context<Self>) -> u64 {
    ///         let eyes = context.random() % 6 + 1;
    ///         self.sum += eyes;
    ///         eyes
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let eyes = runtime.at::<Dice>("green", ()).roll().await?;
    /// assert!((1..=6).contains(&eyes));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn random(&self) -> u64 {
        self.core.input(|| Input::Random(RandomState::new().build_hasher().finish()))
    }

    /// Ends the server behind the message in progress, whose answer is
    /// released with the final commit. Messages queued meanwhile start it
    /// again. In `#[init]` and `#[started]` it waits for the first message.
    pub fn stop(&self, reason: impl Into<StopReason>) {
        self.core.effects.stop(reason.into());
    }

    /// Handles `message` next, before anything that is queued; several in the
    /// order in which they were asked for. A server that stops or crashes
    /// first does not handle them.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Import { lines: Vec<String>, done: usize }
    /// #[persistent_server]
    /// impl Import {
    ///     /// Returns at once; the work goes on, and each step is stored.
    ///     pub fn start(&mut self, lines: Vec<String>, context: &Context<Self>) {
    ///         self.lines = lines;
    ///         context.continue_with(ImportMessage::Step);
    ///     }
    ///
    ///     #[info]
    ///     fn step(&mut self, context: &Context<Self>) {
    ///         if self.lines.pop().is_some() {
    ///             self.done += 1;
    ///             context.continue_with(ImportMessage::Step);
    ///         }
    ///     }
    ///
    ///     pub fn done(&self) -> usize { self.done }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let import = runtime.at::<Import>("a", ());
    /// import.start(vec!["x".into(), "y".into()]).await?;
    /// assert_eq!(import.done().await?, 2);
    /// # Ok(()) }
    /// ```
    pub fn continue_with(&self, message: S::Message) {
        self.core.effects.continue_with(boxed::<S>(message));
    }

    /// Sends `message` to this server after `wait`, if it is in memory all the
    /// while. For a timer that outlives that, see [`remind`](Self::remind).
    ///
    /// The message queues like any other, behind a full mailbox if need be. A
    /// timer that waits does not keep an idle server in memory.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Door { open: bool }
    /// #[persistent_server]
    /// impl Door {
    ///     pub fn open(&mut self, context: &Context<Self>) {
    ///         self.open = true;
    ///         context.send_after(Duration::from_millis(1), DoorMessage::Close);
    ///     }
    ///
    ///     #[info]
    ///     fn close(&mut self) { self.open = false; }
    ///
    ///     pub fn is_open(&self) -> bool { self.open }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let door = runtime.at::<Door>("front", ());
    /// door.open().await?;
    /// tokio::time::sleep(Duration::from_millis(100)).await;
    /// assert!(!door.is_open().await?);
    /// # Ok(()) }
    /// ```
    pub fn send_after(&self, wait: Duration, message: S::Message) -> Source {
        let message = boxed::<S>(message);
        self.core.start_source(|sender| async move {
            sleep(wait).await;
            sender.send(message).await;
        })
    }

    /// Sends a message every `period`, the first after one, until the server
    /// leaves memory. Ticks that a busy server misses are skipped; each one
    /// counts as a message for the idle timeout.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Pulse { beats: u64 }
    /// #[persistent_server]
    /// impl Pulse {
    ///     #[started]
    ///     fn started(&self, context: &Context<Self>) {
    ///         context.interval(Duration::from_millis(1), || PulseMessage::Beat);
    ///     }
    ///
    ///     #[info]
    ///     fn beat(&mut self) { self.beats += 1; }
    ///
    ///     pub fn beats(&self) -> u64 { self.beats }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let pulse = runtime.at::<Pulse>("a", ());
    /// pulse.beats().await?;
    /// tokio::time::sleep(Duration::from_millis(100)).await;
    /// assert!(pulse.beats().await? > 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// If `period` is zero: it costs the message in progress, like any panic.
    pub fn interval(
        &self,
        period: Duration,
        message: impl Fn() -> S::Message + Send + 'static,
    ) -> Source {
        assert!(!period.is_zero(), "an interval's period must be longer than zero");
        self.core.start_source(move |sender| async move {
            let first = Instant::now().checked_add(period);
            let Some(first) = first else { return };
            let mut ticks = interval_at(first, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if !sender.send(boxed::<S>(message())).await {
                    return;
                }
            }
        })
    }

    /// Sends each item of `stream` to this server, until the stream ends or the
    /// server leaves memory. A full mailbox holds the stream back.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Sum { total: u64 }
    /// #[persistent_server]
    /// impl Sum {
    ///     pub fn read(&mut self, numbers: Vec<u64>, context: &Context<Self>) {
    ///         let messages = numbers.into_iter().map(|n| SumMessage::Add { n });
    ///         context.attach_stream(futures::stream::iter(messages));
    ///     }
    ///
    ///     #[info]
    ///     fn add(&mut self, n: u64) { self.total += n; }
    ///
    ///     pub fn total(&self) -> u64 { self.total }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let sum = runtime.at::<Sum>("a", ());
    /// sum.read(vec![1, 2, 3]).await?;
    /// # tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    /// assert_eq!(sum.total().await?, 6);
    /// # Ok(()) }
    /// ```
    pub fn attach_stream(&self, stream: impl Stream<Item = S::Message> + Send + 'static) -> Source {
        self.core.start_source(|sender| async move {
            let mut stream = pin!(stream);
            while let Some(message) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
                if !sender.send(boxed::<S>(message)).await {
                    return;
                }
                // A stream that is always ready must not keep a thread to itself.
                consume_budget().await;
            }
        })
    }

    /// Watches another server: sends this server the message that `message` returns for each later
    /// [`Event`] of `other`.
    ///
    /// The watch ends with this server's activation. It neither starts `other` nor keeps it in
    /// memory.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Address, Context, Event, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Worker;
    /// # #[persistent_server] impl Worker { pub fn work(&self) { panic!("out of coffee") } }
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Foreman { crashes: u32 }
    /// #[persistent_server]
    /// impl Foreman {
    ///     pub fn hire(&mut self, worker: Address<Worker>, context: &Context<Self>) {
    ///         context.watch(&worker, |event| ForemanMessage::Hear {
    ///             crashed: matches!(event, Event::Crashed { .. }),
    ///         });
    ///     }
    ///
    ///     #[info]
    ///     fn hear(&mut self, crashed: bool) { self.crashes += u32::from(crashed); }
    ///
    ///     pub fn crashes(&self) -> u32 { self.crashes }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let foreman = runtime.at::<Foreman>("a", ());
    /// foreman.hire(Address::new("w", ())).await?;
    /// runtime.at::<Worker>("w", ()).work().await.unwrap_err();
    /// # tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    /// assert_eq!(foreman.crashes().await?, 1);
    /// # Ok(()) }
    /// ```
    pub fn watch<T: Server>(
        &self,
        other: &Address<T>,
        message: impl Fn(Event) -> S::Message + Send + 'static,
    ) -> Source {
        let client = self.client_of(other);
        let cell = client.handle().core().cell();
        let mut events = cell.watch(Box::new(cell.clone()));
        self.core.start_source(|sender| async move {
            while let Some(event) = events.next().await {
                if !sender.send(boxed::<S>(message(event))).await {
                    return;
                }
            }
        })
    }

    /// Has `message` handled when it is due, whatever happens until then: the
    /// timer is stored in the commit of the message in progress, survives the
    /// process, and wakes a server that is not in memory. A timer of the same
    /// name is replaced.
    ///
    /// It fires once: it is deleted in the commit of what it caused. A process
    /// that dies in between fires it again when the runtime opens; one that is
    /// overdue then fires at once. As with every message, a panic costs it. It
    /// is precise to the millisecond at best, and never early.
    ///
    /// After a restart a type's timers begin to fire when its first client is
    /// made, or when the runtime opens if the type is
    /// [registered](crate::Builder::register).
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Trial { over: bool }
    /// #[persistent_server]
    /// impl Trial {
    ///     pub fn begin(&mut self, days: u64, context: &Context<Self>) {
    ///         context.remind("end", Duration::from_secs(days * 86_400), TrialMessage::End);
    ///     }
    ///
    ///     #[info]
    ///     fn end(&mut self) { self.over = true; }
    ///
    ///     pub fn is_over(&self) -> bool { self.over }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let trial = runtime.at::<Trial>("ada", ());
    /// trial.begin(30).await?;
    /// assert!(!trial.is_over().await?);
    /// # Ok(()) }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "like every message that is sent")]
    pub fn remind(&self, name: &str, when: impl Into<When>, message: S::Message) {
        let due = self.core.registry().services().clock().millis(when.into());
        let mut bytes = Vec::new();
        match codec::encode(&message, &mut bytes) {
            Ok(()) => self.core.effects.set_reminder(name, due, bytes),
            Err(error) => {
                let (server, source) = (self.core.server(), error.into());
                self.core.fail(CallError::Encode { server, source });
            }
        }
    }

    /// Deletes a durable timer; whether there was one.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Offer { expired: bool }
    /// #[persistent_server]
    /// impl Offer {
    ///     pub fn make(&mut self, context: &Context<Self>) {
    ///         context.remind("expiry", Duration::from_secs(3600), OfferMessage::Expire);
    ///     }
    ///
    ///     /// Whether it came in time.
    ///     pub fn accept(&mut self, context: &Context<Self>) -> bool {
    ///         context.cancel_reminder("expiry")
    ///     }
    ///
    ///     pub fn is_open(&self, context: &Context<Self>) -> bool {
    ///         context.reminders().iter().any(|(name, _)| name == "expiry")
    ///     }
    ///
    ///     #[info]
    ///     fn expire(&mut self) { self.expired = true; }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let offer = runtime.at::<Offer>("a", ());
    /// offer.make().await?;
    /// assert!(offer.is_open().await?);
    /// assert!(offer.accept().await?);
    /// assert!(!offer.is_open().await?);
    /// # Ok(()) }
    /// ```
    pub fn cancel_reminder(&self, name: &str) -> bool {
        self.core.effects.cancel_reminder(name)
    }

    /// The durable timers and when each is due, the earliest first.
    #[must_use]
    pub fn reminders(&self) -> Vec<(String, SystemTime)> {
        self.core.effects.with_reminders(Reminders::list)
    }

    /// Keeps a value that is not stored and yet outlives a panic: a connection,
    /// a cache, an index. It goes when the server is unloaded, stopped, killed
    /// or deleted. A value of the same name and type is replaced.
    ///
    /// Unlike all else here, a panic does not take it back.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Page;
    /// #[persistent_server]
    /// impl Page {
    ///     /// Counts its visits, in memory only.
    ///     pub fn visit(&self, context: &Context<Self>) -> u64 {
    ///         let visits = context
    ///             .resource::<AtomicU64>("visits")
    ///             .unwrap_or_else(|| context.insert_resource("visits", AtomicU64::new(0)));
    ///         visits.fetch_add(1, Relaxed) + 1
    ///     }
    ///
    ///     pub fn crash(&self) { panic!("on purpose") }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let page = runtime.at::<Page>("index", ());
    /// assert_eq!(page.visit().await?, 1);
    /// page.crash().await.unwrap_err();
    /// assert_eq!(page.visit().await?, 2);
    /// # Ok(()) }
    /// ```
    pub fn insert_resource<T: Any + Send + Sync>(&self, name: &str, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let replaced = self.core.with_resources(|resources| resources.insert(name, value.clone()));
        drop(replaced);
        value
    }

    /// The value of that name and type, if one was [inserted](Self::insert_resource).
    #[must_use]
    pub fn resource<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.core.with_resources(|resources| resources.get(name)).flatten()
    }

    /// Takes a kept value out.
    pub fn remove_resource<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.core.with_resources(|resources| resources.remove(name)).flatten()
    }

    pub(crate) fn deferred_replies(&self) -> Weak<dyn DeferredReplies> {
        self.core.cell().clone()
    }
}

/// Boxes a message for its way outside of a queue.
fn boxed<S: Server>(message: S::Message) -> AnyMessage {
    Box::new(Some(message))
}

impl<S: Server> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.core.server()).finish()
    }
}
