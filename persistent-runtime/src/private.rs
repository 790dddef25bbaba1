//! The items that generated code uses. Not part of the public interface: both
//! crates are released together, and these items may change with every release.
//!
//! Each bound on a type of the user stands in exactly one of these functions.
//! Generated code passes the type in a turbofish, written with the user's own
//! tokens, so that rustc reports a missing bound once and underlines the type
//! where the user wrote it.

use std::{
    convert::Infallible,
    fmt::{self, Display},
    marker::PhantomData,
};

pub use std::{string::String, vec::Vec};

pub use serde;

use crate::{api::server::Server, codec::DecodeError, payload::Payload};
pub use crate::{
    api::{
        client::Handle,
        message::{Arguments, MessageEnum, Shape, read_message, unknown, write_argument},
    },
    call::reply::ReplySlot,
    codec::{check, check_decodes, decode, decode_message, decode_next, encode},
    engine::erased::{Hook, Method},
};

/// Requires [`Payload`] of the result of a method. Neither [`Handle::call`] nor
/// [`ReplySlot::set`] repeats the bound: each would be one more error for the
/// same mistake.
pub fn assert_payload<T: Payload>() {}

/// The state of a server without `#[init]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has neither an `#[init]` function nor `Default`",
    label = "a new server needs an initial state",
    note = "derive `Default`, or mark an associated function that returns `Self` with `#[init]`"
)]
pub trait DefaultState {
    fn default_state() -> Self;
}

impl<T: Default> DefaultState for T {
    fn default_state() -> Self {
        T::default()
    }
}

/// Returns the initial state of a server without `#[init]`.
#[must_use]
pub fn default_state<T: DefaultState>() -> T {
    T::default_state()
}

/// The return type of an `#[init]` or `#[restore]` function: the state, or a
/// `Result` with it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a state of this server",
    label = "this must be `Self` or `Result<Self, E>` where `E: Display`"
)]
pub trait InitOutput<S> {
    /// Returns the state.
    ///
    /// # Errors
    /// Returns the text of the user's error.
    fn into_state(self) -> Result<S, String>;
}

impl<S: Server> InitOutput<S> for S {
    fn into_state(self) -> Result<S, String> {
        Ok(self)
    }
}

impl<S: Server, E: Display> InitOutput<S> for Result<S, E> {
    fn into_state(self) -> Result<S, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Converts what a `#[restore]` function returned.
///
/// # Errors
/// Returns the user's error as a [`DecodeError::Restore`].
pub fn restored<S: Server, O: InitOutput<S>>(output: O) -> Result<S, DecodeError> {
    output.into_state().map_err(|reason| DecodeError::Restore { reason })
}

/// The return type of a `#[migrate_message]` function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message of this server",
    label = "this must be `{M}` or `Option<{M}>`"
)]
pub trait MessageOutput<M> {
    fn into_message(self) -> Option<M>;
}

impl<M> MessageOutput<M> for M {
    fn into_message(self) -> Option<M> {
        Some(self)
    }
}

impl<M> MessageOutput<M> for Option<M> {
    fn into_message(self) -> Option<M> {
        self
    }
}

/// Converts what a `#[migrate_message]` function returned.
#[must_use]
pub fn migrated<M, O: MessageOutput<M>>(output: O) -> Option<M> {
    output.into_message()
}

/// Requires `Send` of the future of an `async` method or hook. The returned
/// future is `Send` whatever `future` is, so the futures that contain it do not
/// repeat the error.
pub fn sendable<F: Future + Send>(future: F) -> impl Future<Output = F::Output> + Send {
    future
}

/// The content of a variant that is never constructed. It uses the type
/// parameters of a generic server, which its messages may not use otherwise.
pub struct Unused<T>(Infallible, PhantomData<fn() -> T>);

impl<T> Unused<T> {
    #[must_use]
    pub fn absurd<R>(&self) -> R {
        match self.0 {}
    }
}

impl<T> fmt::Debug for Unused<T> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.absurd()
    }
}
