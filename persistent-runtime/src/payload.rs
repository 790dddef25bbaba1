//! What can travel in a message.

use serde::{Serialize, de::DeserializeOwned};

/// What can travel in a message: an argument or a result of a server's method.
///
/// Implemented for each owned type that serde can write and read. The bound
/// holds for results too, so that a server can move to another process
/// without a change to its callers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't travel to or from a persistent server",
    label = "arguments and results are owned, `Send`, and both `Serialize` and `Deserialize`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or convert it to a type \
            that has them; `#[skip]` on the method takes it out of the server's interface"
)]
pub trait Payload: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for T {}
