#![doc = include_str!("../../README.md")]

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

pub use api::{
    address::Address,
    agent::{Agent, AgentClient, AgentMessage, AgentState},
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
pub use engine::{reminders::When, sources::Source};
pub use error::{CallError, OpenError, OptionsError, ReplayError, ShutdownError};
pub use id::ServerId;
pub use observe::{
    event::{Event, EventStream},
    observer::Observer,
};
pub use payload::Payload;
pub use persistent_macros::persistent_server;
pub use runtime::{
    builder::Builder,
    keys::Keys,
    runtime::{Count, Runtime},
};
pub use stop_reason::StopReason;
pub use storage::{
    Commit, Completion, MemoryStorage, Record, SqliteStorage, Storage, StorageError, StorageFuture,
    Update, encoded::Encoded,
};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(shuttle)]
#[doc(hidden)]
pub use support::sync::shuttle as __shuttle;
