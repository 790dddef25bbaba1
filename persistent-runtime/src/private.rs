//! What generated code uses; no part of the public interface.

use std::{convert::Infallible, fmt, marker::PhantomData};

pub use std::{string::String, vec::Vec};

pub use serde;
use serde::{Deserializer, Serialize, Serializer, de::DeserializeOwned};

pub use crate::{api::client::Handle, codec::decode, codec::decode_next, codec::encode};
use crate::{
    api::server::InitOutput, api::server::Payload, api::server::Server, codec::DecodeError,
};

/// A type by another name: rustc blames the type that the caller wrote for an
/// unmet bound on `T`, not the argument, where a parameter is an alias of `T`.
pub trait Alias {
    type Of: ?Sized;
}

impl<T: ?Sized> Alias for T {
    type Of = T;
}

/// What serde writes a message's field with; the field's type is blamed for
/// what is missing, once.
///
/// # Errors
/// The serializer's.
pub fn serialize<T, S>(field: &<T as Alias>::Of, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Serialize + Alias<Of = T>,
    S: Serializer,
{
    field.serialize(serializer)
}

/// What serde reads a message's field with, as for [`serialize`].
///
/// # Errors
/// The deserializer's.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer)
}

/// Requires that a result can travel.
pub fn value<T: Payload>() {}

/// The state of a server without `#[init]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has neither an `#[init]` function nor `Default`",
    label = "a first life has no state to begin with",
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

#[must_use]
pub fn default_state<T: DefaultState>() -> T {
    T::default_state()
}

/// The state that a `#[restore]` function has made.
///
/// # Errors
/// The user's.
pub fn restored<S: Server, O: InitOutput<S>>(output: O) -> Result<S, DecodeError> {
    output.into_state().map_err(|reason| DecodeError::Restore { reason })
}

/// What a `#[migrate_message]` function may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message of this server",
    label = "this should be `{M}` or `Option<{M}>`"
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

/// The message that a `#[migrate_message]` function has made, if any.
#[must_use]
pub fn migrated<M, O: MessageOutput<M>>(output: O) -> Option<M> {
    output.into_message()
}

/// The one place that requires `Send` of a handler's future: what is returned
/// is `Send` whatever `future` is, so that the error is not repeated by all
/// that contains it.
pub fn sendable<F: Future + Send>(future: F) -> impl Future<Output = F::Output> + Send {
    future
}

/// The content of a variant that is never made; it uses the type parameters of
/// a message that may not use them otherwise.
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
