//! What generated code uses; no part of the public interface.

use std::{convert::Infallible, fmt, marker::PhantomData};

pub use std::{string::String, vec::Vec};

pub use serde;
use serde::{Deserializer, Serializer};

use crate::Value;
pub use crate::{
    client::Handle,
    codec::{decode, encode},
};

/// The serde code of a message's field (`#[serde(with = …)]`), so that a type
/// that can't travel is one error instead of serde's several.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't travel to a persistent server",
    label = "an argument is owned, `Send`, and both `Serialize` and `Deserialize`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or convert it to a type \
            that has them; `#[skip]` on the method takes it out of the server's interface"
)]
pub trait Argument: Value {
    fn serialize<S: Serializer>(argument: &Self, serializer: S) -> Result<S::Ok, S::Error>;
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Value> Argument for T {
    fn serialize<S: Serializer>(argument: &Self, serializer: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(argument, serializer)
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(deserializer)
    }
}

/// The state of a server without `#[init]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has neither an `#[init]` function nor `Default`",
    label = "a first life has no state to begin with",
    note = "derive `Default`, or mark an associated function that returns `Self` with `#[init]`"
)]
pub trait DefaultState {
    fn default_state() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> DefaultState for T {
    fn default_state() -> Self {
        T::default()
    }
}

#[must_use]
pub fn default_state<T: DefaultState>() -> T {
    T::default_state()
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
