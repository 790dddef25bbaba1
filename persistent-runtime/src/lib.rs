#![doc = include_str!("../../README.md")]

extern crate self as persistent_runtime;

mod address;
mod cell;
mod client;
mod codec;
mod context;
mod core;
mod error;
mod gate;
mod kind;
mod mailbox;
mod options;
mod panic;
mod reply;
mod restart;
mod runtime;
mod server;
mod storage;
mod sweeper;
mod task;

pub use address::{Address, ServerId};
pub use client::Client;
pub use codec::{DecodeError, EncodeError};
pub use context::Context;
pub use error::{CallError, OpenError, ShutdownError, StorageError};
pub use options::{Backoff, Options, Restart, StopReason};
pub use persistent_macros::persistent_server;
pub use runtime::{Builder, Count, Runtime};
pub use server::{InitOutput, ReplySlot, Server, Value};
pub use storage::{Change, MemoryStorage, Record, SqliteStorage, Storage, StorageFuture};

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
