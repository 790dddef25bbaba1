//! Actors in the style of Erlang's GenServer, whose state survives panics, process death and power
//! loss.
//!
//! A *server type* is a plain struct with an impl block under
//! [`#[persistent_server]`](persistent_server). A *server* is one value of it, found by its type and
//! a key. It handles one message at a time, and its state is stored through a [`Storage`]: a SQLite
//! file by default. An idle server is unloaded from memory, and the next call loads it again.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use persistent_runtime::{Runtime, persistent_server};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Player {
//!     name: String,
//!     score: u64,
//! }
//!
//! #[persistent_server(idle_timeout = "60s")]
//! impl Player {
//!     #[init]
//!     fn new(name: String) -> Self {
//!         Self { name, score: 0 }
//!     }
//!
//!     pub fn add(&mut self, points: u64) -> u64 {
//!         self.score += points;
//!         self.score
//!     }
//!
//!     pub fn greeting(&self) -> String {
//!         format!("{} has {} points", self.name, self.score)
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let runtime = Runtime::open("players.db").await?;
//!     let vorpal = runtime.at::<Player>("vorpal", "Vorpal".to_owned());
//!     vorpal.add(5).await?; // on disk when this returns
//!     println!("{}", vorpal.greeting().await?);
//!     runtime.shutdown(Duration::from_secs(5)).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Writing a server
//!
//! The documentation of [`#[persistent_server]`](persistent_server) lists everything that an impl
//! block can contain. In short:
//!
//! | in the impl block | meaning |
//! | --- | --- |
//! | `pub` or `pub(crate)` `fn` with `&self` or `&mut self`, sync or async | a call: an async method of the client |
//! | `#[cast]` on such a method | fire and forget: the client waits only until the message is queued |
//! | `#[info]` on a method | a message from the server's own timers and streams; not part of the client |
//! | `#[init]`, `#[started]`, `#[terminate]` | hooks for the first life, each activation and each orderly end |
//! | `#[save]`, `#[restore]` | a stored form other than the state itself |
//! | `#[migrate]`, `#[migrate_message]` | readers of states and messages that an older version stored |
//! | a parameter [`Reply<T>`](Reply) | the handler answers later, with [`Reply::send`] |
//! | a parameter [`&Context<Self>`](Context) | stops, timers, streams, reminders, resources, time and randomness |
//!
//! Arguments and results are [`Payload`]s: owned types with `Serialize` and `Deserialize`. For
//! `impl Player` the attribute adds `PlayerClient` and the enum `PlayerMessage` to your namespace,
//! and nothing else.
//!
//! # Reaching a server
//!
//! | function | first message | I/O |
//! | --- | --- | --- |
//! | [`Runtime::at`] | creates the server if nothing is stored | none |
//! | [`Runtime::start`] | creates the server if nothing is stored, before it returns | loads or creates |
//! | [`Runtime::find`] | never creates; [`CallError::NotFound`] | loads |
//! | [`Runtime::client`] | as the [`Address`] says | none |
//!
//! The controls of a client (`stop`, `kill`, `reset`, `watch`, `with_timeout`, …) are methods of the
//! trait [`Client`], so that your own methods can have any name. [`Runtime::keys`] lists the keys of
//! a type, [`Runtime::count`] counts them, and [`Runtime::transfer`] moves a server to another
//! runtime. A [`Listener`] receives the changes and ends of one type, an [`Observer`] those of all
//! types, and an [`EventStream`] the events of one server. An [`Agent`] is a ready-made server: a
//! persistent value with `get`, `set` and closures.
//!
//! # When a change is durable
//!
//! The persist level ([`Persist`]) decides. Each level also saves at every orderly end: an unload, a
//! shutdown, and a stop that does not delete the state. A message
//! that sets or cancels a reminder is committed before its reply, under each level.
//!
//! | level | a change is committed | a panic or a kill loses at most |
//! | --- | --- | --- |
//! | `every_message` (default) | before its reply leaves | nothing that was acknowledged |
//! | `every("500ms")` | within 500 ms | the changes of the last 500 ms |
//! | `on_stop` | at an orderly end | all changes since the last commit |
//!
//! A call that an `async` handler makes to another server does not wait for the commits of earlier
//! changes, unless [`Options::await_commits`] is set.
//!
//! After a panic the next message runs on the last state that was saved. Under `every_message` that
//! is the state that the last handler returned.
//!
//! A reply to a read depends on the same commits: it leaves only when the state that it saw is as
//! durable as the level asks. [`Client::with_persist`] sets the level of a client's own messages.
//!
//! # Restart policies
//!
//! [`Restart`] decides what happens to the stored state:
//!
//! | policy | `stop(Finished)` | any other `stop` | crash of a handler | process killed | unload | runtime opens |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | temporary | deleted | deleted | deleted | kept | kept | – |
//! | transient (default) | deleted | kept | kept; continues at the next message | kept | kept | – |
//! | permanent | kept | kept | kept; continues at once | kept | kept | activated, if its type is [registered](Builder::register) |
//!
//! [`Client::delete`] deletes it under every policy.
//!
//! A server that crashes more often than `max_restarts` allows fails: callers receive
//! [`CallError::RestartLimit`] until [`Client::reset`] or the end of [`Options::retry_after`].
//! [`Backoff`] delays each restart.
//!
//! # Options
//!
//! [`Options`] come in layers. The nearest layer wins, option by option: the default, the attribute,
//! [`Builder::defaults`] or a [`Config`]'s `defaults`, [`Builder::configure`] or a `Config`'s
//! `servers`, [environment variables](Builder::environment), [`Client::with_options`]. A [`Config`]
//! is read with serde from any format:
//!
//! ```toml
//! [defaults]
//! idle_timeout = "10m"
//!
//! [servers.Player]
//! max_restarts = { count = 3, within = "5s" }
//! persist = { every = "500ms" }
//! ```
//!
//! # Large states
//!
//! By default a change stores the state, so it costs time in proportion to the state. A server with
//! `journal = messages` stores the message instead, and a snapshot of the state with every 1000th
//! message and at each orderly end:
//!
//! ```
//! use std::time::SystemTime;
//!
//! use persistent_runtime::{Context, persistent_server};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Ledger {
//!     entries: Vec<(SystemTime, i64)>,
//! }
//!
//! #[persistent_server(journal = messages(snapshot_every = 1000))]
//! impl Ledger {
//!     pub fn book(&mut self, amount: i64, context: &Context<Self>) {
//!         self.entries.push((context.now(), amount));
//!     }
//! }
//! ```
//!
//! After a kill the runtime replays the messages since the last snapshot. So a `&mut self` method
//! of such a server is not `async`, must be deterministic, and takes time and randomness from
//! [`Context::now`] and [`Context::random`], which are recorded. [`Builder::check_replay`] finds
//! handlers that are not deterministic, in tests.
//!
//! # Cancel safety
//!
//! Dropping the future of a call before its message is queued sends nothing. After that, as after a
//! [`CallError::Timeout`], the message still runs to its end; only its reply is lost.
//!
//! # Feature flags
//!
//! - `macros` (default): the [`#[persistent_server]`](persistent_server) attribute, and [`Agent`].
//! - `sqlite` (default): [`SqliteStorage`] and [`Runtime::open`]. Compiles SQLite, so it needs a C
//!   compiler.
//! - `testing`: tools for tests, e.g. a storage that fails as asked, and the test suite for your own
//!   implementation of [`Storage`].
//!
//! # How it works
//!
#![doc = include_str!("../architecture.svg")]
//!
//! If its server is idle, a call runs at once in its caller's poll; otherwise it queues in the
//! server's mailbox. So a sync handler that blocks its thread can block its caller's. A changed state
//! is staged at the server's output gate, which holds the reply and submits one commit at a time. One
//! writer thread writes the submitted commits of all servers in one transaction with one sync. Then
//! each gate releases its reply. [`Builder::busy_wait`] turns off the busy waiting that shortens the calls of a single
//! caller.
//!
//! The repository explains the design in `docs/design.md` and maps each promise to its tests in
//! `docs/reliability.md`.

extern crate self as persistent_runtime;

mod api;
mod call;
mod codec;
mod config;
mod engine;
mod error;
mod id;
mod observe;
mod payload;
mod runtime;
mod stop_reason;
mod storage;
mod support;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "macros")]
pub use api::agent::{Agent, AgentClient, AgentMessage, AgentState};
pub use api::{
    address::Address,
    changes::{Change, Changes},
    client::Client,
    context::Context,
    listener::Listener,
    server::Server,
};
pub use call::reply::Reply;
pub use codec::{DecodeError, EncodeError};
pub use config::{
    file::Config,
    options::{Backoff, Journal, Options, Persist, Restart},
};
pub use engine::{
    reminders::{Reminder, When},
    sources::Source,
};
pub use error::{
    CallError, OpenError, OptionsError, Outcome, ReplayError, ShutdownError, UnsavedServer,
};
pub use id::{
    ServerId,
    key::{IntoKey, Key, KeyType},
};
pub use observe::{
    event::{Event, EventStream},
    observer::Observer,
};
pub use payload::Payload;
#[cfg(feature = "macros")]
pub use persistent_macros::persistent_server;
pub use runtime::{
    builder::Builder,
    keys::Keys,
    runtime::{Count, FailedServer, Runtime},
};
pub use stop_reason::StopReason;
pub use storage::{
    Commit, Completion, MemoryStorage, Record, Storage, StorageError, StorageErrorKind,
    StorageEvent, StorageFuture, StorageObserver, StorageWork, Update, encoded::Encoded,
};
#[cfg(feature = "sqlite")]
pub use storage::{SqliteOptions, SqliteStorage};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(all(test, shuttle))]
mod shuttle_tests;

/// Compiles the programs in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
