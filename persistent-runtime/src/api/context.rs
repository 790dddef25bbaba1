//! The context of a handler: its access to its own server.

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
        clock::millis,
        context::ContextCore,
        erased::AnyMessage,
        recorded::Input,
        reminders::{Reminder, Reminders, When},
        sources::Source,
    },
    error::CallError,
    id::key::{IntoKey, KeyType, key_of},
    observe::event::Event,
    stop_reason::StopReason,
    support::{
        catch::Guarded,
        sync::{
            task::coop::consume_budget,
            time::{Instant, MissedTickBehavior, interval_at, sleep},
        },
    },
};

/// The access of a handler or hook to its own server, as a parameter of type `&Context<Self>`.
///
/// The parameter is not part of the message, so callers do not pass it.
///
/// Stops, continuations and reminders take effect when the handler returns. A panic discards them,
/// together with the changes of the state, and ends all sources. Only resources outlive it.
///
/// During a [replay](crate::Journal) of messages, the context does nothing: sources send no
/// messages, resources are absent, and clients refuse to send.
///
/// ```
/// # use persistent_runtime::{persistent_server, Context, Runtime, StopReason};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Basket { items: Vec<String> }
/// #[persistent_server]
/// impl Basket {
///     /// Empties the basket and stops the server after this message.
///     pub fn check_out(&mut self, context: &Context<Self>) -> String {
///         context.stop(StopReason::Finished);
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

    /// Returns the server's key: a `&str`, or the type that the option `key` names.
    #[must_use]
    pub fn key(&self) -> <S::Key as KeyType>::Value<'_> {
        key_of::<S::Key>(&self.core.address().key)
    }

    /// Returns the server's own address, with the init arguments of the client that activated it.
    #[must_use]
    pub fn address(&self) -> Address<S> {
        Address::from_any(self.core.address())
    }

    /// Returns a client of this server, to be passed to other servers or tasks.
    ///
    /// A handler that awaits a call to its own server blocks itself until the call times out. To
    /// send the server a message from its own handler, use [`continue_with`](Self::continue_with).
    #[must_use]
    pub fn client(&self) -> S::Client {
        self.client_of(&self.address())
    }

    /// Returns a client of the server at `address`, in the same runtime. Does no I/O.
    #[must_use]
    pub fn client_of<T: Server>(&self, address: &Address<T>) -> T::Client {
        T::Client::from_handle(Handle::new(&self.core.services(), address))
    }

    /// Returns a client of the server under `key`, in the same runtime, as
    /// [`Runtime::at`](crate::Runtime::at) does. Does no I/O.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, CallError, Context, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Stock(u32);
    /// # #[persistent_server] impl Stock { pub fn take(&mut self, n: u32) -> bool { self.0 += n; true } }
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Order { items: u32 }
    /// #[persistent_server]
    /// impl Order {
    ///     pub async fn add(&mut self, item: String, context: &Context<Self>) -> Result<(), CallError> {
    ///         if context.at::<Stock>(item, ()).take(1).await? {
    ///             self.items += 1;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// runtime.at::<Order>("7", ()).add("ink".to_owned()).await??;
    /// assert!(runtime.find::<Stock>("ink").await.is_ok());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn at<T: Server>(&self, key: impl IntoKey<T::Key>, init: T::Init) -> T::Client {
        self.client_of::<T>(&Address::new(key, init))
    }

    /// Activates the server under `key`, in the same runtime, and returns its client, as
    /// [`Runtime::find`](crate::Runtime::find) does.
    ///
    /// # Errors
    /// [`CallError::NotFound`] if nothing is stored under `key`, or any other [`CallError`] of an
    /// activation.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be activated nevertheless.
    pub async fn find<T: Server>(&self, key: impl IntoKey<T::Key>) -> Result<T::Client, CallError> {
        let client = self.client_of::<T>(&Address::existing(key));
        client.handle().start().await?;
        Ok(client)
    }

    /// Returns the value of type `T` that the runtime was built with, by
    /// [`Builder::extension`](crate::Builder::extension); `None` if there is none.
    ///
    /// An extension is there in a replay, too. A handler of a server that journals its messages
    /// must not let its state depend on it, and must not use it for an effect that may not happen
    /// again.
    #[must_use]
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.core.registry().services().extension()
    }

    /// Returns the current time, with a resolution of one microsecond.
    ///
    /// It is the system time, so it may step forwards and backwards. While a test has paused tokio's
    /// clock, it is the system time at the opening of the runtime, advanced by tokio's clock.
    /// [`Builder::clock`](crate::Builder::clock) sets another clock.
    ///
    /// A server that journals its messages must take the time from here only. The time is recorded
    /// with the message, and a replay returns the recorded time.
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

    /// Returns a random number, uniformly distributed over all values of `u64`. Not for secrets.
    ///
    /// A server that journals its messages must take randomness from here only. The number is
    /// recorded with the message, and a replay returns the recorded number. A handler that needs
    /// many random numbers, or another distribution, seeds a generator with one of them, e.g.
    /// `StdRng::seed_from_u64(context.random())` of the crate `rand`.
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

    /// Stops the server after the message in progress, as [`Client::stop`] does.
    ///
    /// The reply to the message is sent when the final commit is durable. Messages that are already
    /// queued activate the server again. Called in `#[init]` or `#[started]`, it takes effect after
    /// the first message.
    pub fn stop(&self, reason: impl Into<StopReason>) {
        self.core.effects.stop(reason.into());
    }

    /// Stops the server after the message in progress and deletes its stored state, as
    /// [`Client::delete`] does.
    pub fn delete(&self) {
        self.stop(StopReason::Deleted);
    }

    /// Handles `message` next, before all queued messages.
    ///
    /// Several continuations are handled in the order of their calls. They are discarded if the
    /// server stops or crashes first.
    ///
    /// # Commits
    /// A continuation does not wait for the commit of the message that asked for it, so it may run
    /// on a change that is not stored yet. If that commit fails:
    ///
    /// - a continuation that has run, or is in progress, is undone together with the change;
    /// - one that has not started is discarded.
    ///
    /// With the option [`await_commits`](crate::Options::await_commits) a continuation whose method
    /// is `async` starts only once the change is committed, under each persist level. So a handler
    /// can change the state and continue with a call that tells others of the change.
    ///
    /// Continuations are in memory. If the process dies behind the commit, the change is stored and
    /// its continuation is lost. A [reminder](Self::remind) that is due at once is stored with the
    /// change instead.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Import { lines: Vec<String>, done: usize }
    /// #[persistent_server]
    /// impl Import {
    ///     /// Returns at once. The import continues step by step, and each step is stored.
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

    /// Sends `message` to this server after `wait`.
    ///
    /// The timer ends with the activation and does not keep an idle server in memory. For a durable
    /// timer, see [`remind`](Self::remind). If the mailbox is full, the message waits for a free
    /// place.
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

    /// Sends a message to this server once per `period`, beginning one period from now.
    ///
    /// The interval ends with the activation. While a message waits for a full mailbox, no ticks
    /// accumulate: the next one follows a whole period later. Each message restarts the idle
    /// timeout, so an interval with a shorter period keeps the server in memory.
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
    /// If `period` is zero. As with any panic of a handler, the changes of the message in progress
    /// are dropped.
    pub fn interval(
        &self,
        period: Duration,
        message: impl Fn() -> S::Message + Send + 'static,
    ) -> Source {
        assert!(!period.is_zero(), "the period of an interval must be longer than zero");
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

    /// Sends each item of `stream` to this server as a message.
    ///
    /// Ends with the stream or with the activation. The stream is polled on a task of its own, and
    /// not while the mailbox is full.
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
                // A stream that is always ready must yield too.
                consume_budget().await;
            }
        })
    }

    /// Runs `work` on a task of its own, and sends this server the message that `message` makes of
    /// its result.
    ///
    /// The server handles other messages meanwhile. The work begins at once, before the changes of
    /// the message in progress are stored (also under
    /// [`await_commits`](crate::Options::await_commits)), and it is dropped with the activation: also if this
    /// message panics. It does not keep an idle server in memory. Work that must not be forgotten
    /// needs a [reminder](Self::remind) that begins it again.
    ///
    /// A panic of `work` ends it without a message.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Page { size: Option<usize> }
    /// # async fn download(url: String) -> String { url }
    /// #[persistent_server]
    /// impl Page {
    ///     /// Returns at once.
    ///     pub fn load(&self, url: String, context: &Context<Self>) {
    ///         context.pipe(download(url), |text| PageMessage::Loaded { size: text.len() });
    ///     }
    ///
    ///     #[info]
    ///     fn loaded(&mut self, size: usize) { self.size = Some(size); }
    ///
    ///     pub fn size(&self) -> Option<usize> { self.size }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let page = runtime.at::<Page>("a", ());
    /// page.load("https://example.org".to_owned()).await?;
    /// # tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    /// assert_eq!(page.size().await?, Some(19));
    /// # Ok(()) }
    /// ```
    pub fn pipe<F: Future + Send + 'static>(
        &self,
        work: F,
        message: impl FnOnce(F::Output) -> S::Message + Send + 'static,
    ) -> Source {
        self.core.start_source(|sender| async move {
            let message = message(work.await);
            sender.send(boxed::<S>(message)).await;
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
        let mut events = cell.watch_server();
        self.core.start_source(|sender| async move {
            while let Some(event) = events.next().await {
                if !sender.send(boxed::<S>(message(event))).await {
                    return;
                }
            }
        })
    }

    /// Sets a reminder: a durable timer that sends `message` to this server at its due time.
    ///
    /// `when` is a [`Duration`] from now or a [`SystemTime`]. A reminder of the same name is
    /// replaced. The reminder is stored in the commit of the message in progress, outlives the
    /// process, and activates a server that is not in memory. `#[init]` can set reminders, and the
    /// handler of a reminder can set the same one again, e.g. to try again later.
    ///
    /// Each commit of a server writes all of its pending reminders. With 200 of them, a message that
    /// changes one number writes about ten times as many bytes as without reminders. Distribute
    /// thousands of reminders over several servers.
    ///
    /// In `#[restore]`, `#[migrate]` and `#[started]`, a pending reminder of the same name that is due
    /// no later keeps its due time, so that activations do not postpone it. It gets the new message.
    ///
    /// Reminders are stored with a resolution of one millisecond and are never early by the
    /// [wall clock](Self::now). After a step of the system time or a suspend of the machine, they are
    /// late by up to 10 s. The reminder is deleted in the same commit that stores the changes of its
    /// message, so these changes are stored exactly once. If the process dies before that commit, the
    /// message is handled again after the runtime opens, and at once if it is overdue.
    ///
    /// If the handler panics, the reminder stays. Its message is handled again after a second, and
    /// then after twice the previous delay, up to ten minutes. After
    /// [`reminder_attempts`](crate::Options::reminder_attempts) panics the runtime gives up: the
    /// reminder stays in the [list](Self::reminders) until it is [tried
    /// again](Self::retry_reminder), cancelled or replaced. Each panic is an
    /// [`Event::ReminderFailed`].
    ///
    /// The message is stored with the version of the server type, and `#[migrate_message]` functions
    /// convert a message of an earlier version. A message that cannot be decoded stays stored, is
    /// reported in the same way, and is tried again with the same delays, without a limit, as a later
    /// program may be able to decode it.
    ///
    /// In a new process, the reminders of a type are scheduled once its first client exists, or when
    /// the runtime opens if the type is [registered](crate::Builder::register).
    ///
    /// A message that does not encode, or that could not be
    /// [read back](crate::Builder::check_states), fails the call in progress with
    /// [`CallError::Encode`].
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
        self.set_reminder(name, when.into(), None, &message);
    }

    /// Sets a periodic reminder: sends `message` to this server once per `period`, beginning one
    /// period from now, until it is [cancelled](Self::cancel_reminder).
    ///
    /// It is a reminder as of [`remind`](Self::remind), with these differences:
    ///
    /// - It outlives panics of its handler, too. After
    ///   [`reminder_attempts`](crate::Options::reminder_attempts) panics in a row, and whenever the
    ///   next tick comes before the next attempt, it goes on with the next tick.
    /// - Ticks that were missed, e.g. while no process ran, become one. The following ticks keep
    ///   their times.
    /// - The next tick is stored in the commit of the message.
    ///
    /// Set it in `#[started]` to have it from the first activation on: later activations do not
    /// postpone it, unless the period differs.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::time::Duration;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Backup { done: u64 }
    /// #[persistent_server]
    /// impl Backup {
    ///     #[started]
    ///     fn started(&self, context: &Context<Self>) {
    ///         context.remind_every("run", Duration::from_millis(20), BackupMessage::Run);
    ///     }
    ///
    ///     #[info]
    ///     fn run(&mut self) { self.done += 1; }
    ///
    ///     pub fn done(&self) -> u64 { self.done }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::in_memory().await?;
    /// let backup = runtime.start::<Backup>("disk", ()).await?;
    /// while backup.done().await? < 2 {
    ///     tokio::time::sleep(Duration::from_millis(10)).await;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// If `period` is zero. As with any panic of a handler, the changes of the message in progress
    /// are dropped.
    #[expect(clippy::needless_pass_by_value, reason = "like every message that is sent")]
    pub fn remind_every(&self, name: &str, period: Duration, message: S::Message) {
        assert!(!period.is_zero(), "the period of a reminder must be longer than zero");
        self.set_reminder(name, period.into(), Some(period), &message);
    }

    fn set_reminder(&self, name: &str, when: When, period: Option<Duration>, message: &S::Message) {
        let due = self.core.registry().services().clock().due(when);
        let mut bytes = Vec::new();
        let encoded = codec::encode(message, &mut bytes)
            .and_then(|()| self.core.registry().check_message(&bytes));
        match encoded {
            Ok(()) => self.core.set_reminder(name, due, period.map(millis), bytes),
            Err(error) => {
                let (server, source) = (self.core.server(), error.into());
                self.core.fail(CallError::Encode { server, source });
            }
        }
    }

    /// Deletes a reminder. Returns true if there was a reminder of this name.
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
    ///     /// Returns true if the offer had not expired.
    ///     pub fn accept(&mut self, context: &Context<Self>) -> bool {
    ///         context.cancel_reminder("expiry")
    ///     }
    ///
    ///     pub fn is_open(&self, context: &Context<Self>) -> bool {
    ///         context.reminders().iter().any(|reminder| reminder.name == "expiry")
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
        self.core.effects.change_reminders(|reminders| reminders.cancel(name))
    }

    /// Lets the message of a reminder that has failed be handled again: its count of attempts
    /// starts anew, and it is due at its own time, which is usually past. Returns true if there was
    /// a reminder of this name that had failed.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Invoice;
    /// #[persistent_server]
    /// impl Invoice {
    ///     /// Tries all reminders again that the runtime has given up.
    ///     pub fn retry(&mut self, context: &Context<Self>) {
    ///         for reminder in context.reminders().iter().filter(|reminder| reminder.due.is_none()) {
    ///             context.retry_reminder(&reminder.name);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn retry_reminder(&self, name: &str) -> bool {
        self.core.effects.change_reminders(|reminders| reminders.retry(name))
    }

    /// Returns all reminders, in the order of their next attempts. Those that the runtime has given
    /// up are the last.
    #[must_use]
    pub fn reminders(&self) -> Vec<Reminder> {
        self.core.effects.with_reminders(Reminders::list)
    }

    /// Inserts a resource: a value in memory that outlives a panic, e.g. a connection, a cache or an
    /// index.
    ///
    /// The resource is dropped when the server is unloaded, stopped, killed or deleted. A
    /// [transfer](crate::Runtime::transfer) moves it along. A resource of the same name and type is
    /// replaced. A panic of the handler does not undo the insertion.
    ///
    /// Returns the value. In a replay the value is returned but not inserted.
    ///
    /// ```
    /// # use persistent_runtime::{persistent_server, Context, Runtime};
    /// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Page;
    /// #[persistent_server]
    /// impl Page {
    ///     /// Counts the visits in memory only.
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
        let replaced = self.core.insert_resource(|resources| resources.insert(name, value.clone()));
        drop(replaced);
        value
    }

    /// Returns the resource of this name and type, if one was [inserted](Self::insert_resource).
    #[must_use]
    pub fn resource<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.core.resources(|resources| resources.get(name))
    }

    /// Removes and returns the resource of this name and type, if there is one.
    pub fn remove_resource<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.core.resources(|resources| resources.remove(name))
    }

    pub(crate) fn deferred_replies(&self) -> Weak<dyn DeferredReplies> {
        self.core.cell().clone()
    }
}

/// Puts a message into a boxed slot.
fn boxed<S: Server>(message: S::Message) -> AnyMessage {
    Box::new(Guarded::new(message))
}

impl<S: Server> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.core.server()).finish()
    }
}
