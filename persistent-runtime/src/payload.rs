//! The bound of all arguments and results.

use serde::{Serialize, de::DeserializeOwned};

/// An argument or a result of a server's method.
///
/// Implemented for every owned type that is `Send`, `Serialize` and `Deserialize`. Results have the
/// same bound as arguments, so that a server can move to another process without a change to its
/// callers.
///
/// ```
/// use persistent_runtime::Payload;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Move {
///     from: String,
///     to: String,
/// }
///
/// fn assert_payload<T: Payload>() {}
/// assert_payload::<Move>();
/// assert_payload::<Option<Vec<u8>>>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't travel to or from a persistent server",
    label = "arguments and results are owned, `Send`, and both `Serialize` and `Deserialize`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or convert it to a type \
            that has them; `#[skip]` on the method takes it out of the server's interface"
)]
pub trait Payload: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for T {}
