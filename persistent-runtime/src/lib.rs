#![cfg_attr(all(feature = "macros", feature = "sqlite"), doc = include_str!("../../README.md"))]
#![cfg_attr(
    not(all(feature = "macros", feature = "sqlite")),
    doc = "Persistent servers. The documentation needs the features `macros` and `sqlite`."
)]

extern crate self as persistent_runtime;

mod api;
mod call;
mod codec;
mod config;
mod engine;
mod error;
mod id;
mod observe;
mod runtime;
mod services;
mod stop_reason;
mod storage;
mod support;

#[cfg(feature = "macros")]
pub use api::agent::{Agent, AgentClient, AgentMessage, AgentState};
pub use api::{
    address::Address,
    client::Client,
    context::Context,
    server::{InitOutput, Payload, ReplySlot, Server},
    source::Source,
};
pub use call::reply::Reply;
pub use codec::{DecodeError, EncodeError};
pub use config::{
    file::Config,
    options::{Backoff, Journal, Options, Persist, Restart},
};
pub use engine::reminders::When;
pub use error::{CallError, OpenError, OptionsError, ReplayError, ShutdownError};
pub use id::ServerId;
pub use observe::{
    event::{Event, EventStream},
    listener::{Listener, Observer},
};
#[cfg(feature = "macros")]
pub use persistent_macros::persistent_server;
pub use runtime::{Builder, Count, Runtime, keys::Keys};
pub use stop_reason::StopReason;
#[cfg(feature = "conformance")]
pub use storage::conformance;
pub use storage::{
    Commit, Completion, MemoryStorage, Record, Storage, StorageError, StorageErrorKind,
    StorageFuture, Update, encoded::Encoded,
};
#[cfg(feature = "sqlite")]
pub use storage::{SqliteOptions, SqliteStorage};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(shuttle)]
#[doc(hidden)]
pub use support::sync::shuttle as __shuttle;
