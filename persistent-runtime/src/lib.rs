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
mod runtime;
mod services;
mod stop_reason;
mod storage;
mod support;

pub use api::{
    address::Address,
    agent::{Agent, AgentClient, AgentMessage, AgentState},
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
pub use error::{CallError, OpenError, ReplayError, ShutdownError, StorageError};
pub use id::ServerId;
pub use observe::{
    event::{Event, EventStream},
    listener::{Listener, Observer},
};
pub use persistent_macros::persistent_server;
pub use runtime::{Builder, Count, Runtime, keys::Keys};
pub use stop_reason::StopReason;
pub use storage::{
    Commit, Completion, MemoryStorage, Record, SqliteStorage, Storage, StorageFuture, Update,
    encoded::Encoded,
};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(all(test, shuttle))]
mod shuttle_tests;
