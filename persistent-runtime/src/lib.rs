#![doc = include_str!("../../README.md")]

extern crate self as persistent_runtime;

mod address;
mod agent;
mod cell;
mod client;
mod codec;
mod config;
mod context;
mod core;
mod deadline;
mod direct;
mod duration;
mod encoded;
mod environment;
mod error;
mod event;
mod gate;
mod kept;
mod kind;
mod listener;
mod lobby;
mod mailbox;
mod options;
mod panic;
mod reminder;
mod reply;
mod restart;
mod runtime;
mod server;
mod servers;
mod source;
mod storage;
mod sweeper;
mod sync;
mod tape;
mod task;
mod visit;

pub use address::{Address, ServerId};
pub use agent::{Agent, AgentClient, AgentMessage, AgentState};
pub use client::Client;
pub use codec::{DecodeError, EncodeError};
pub use config::Config;
pub use context::Context;
pub use encoded::Encoded;
pub use error::{CallError, OpenError, ReplayError, ShutdownError, StorageError};
pub use event::{Event, Watch};
pub use listener::{Listener, Observer};
pub use options::{Backoff, Journal, Options, Persist, Restart, StopReason};
pub use persistent_macros::persistent_server;
pub use reminder::When;
pub use reply::Reply;
pub use runtime::{Builder, Count, Runtime};
pub use server::{InitOutput, ReplySlot, Server, Value};
pub use servers::Servers;
pub use source::Source;
pub use storage::{
    Change, MemoryStorage, Receipt, Record, SqliteStorage, Storage, StorageFuture, Update,
};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(shuttle)]
#[doc(hidden)]
pub use sync::model as __model;
