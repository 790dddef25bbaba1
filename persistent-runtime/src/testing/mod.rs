//! Tools for tests of servers and of storages. Available with the feature `testing`.
//!
//! A handler is a plain method: without `Context` and `Reply` among its parameters, a unit test
//! calls it like any other. [`context`] and [`reply`] make the two. A test of a whole server opens
//! [`Runtime::in_memory`], or a runtime on a [`FaultyStorage`].

use std::{fmt, ops::Deref, sync::Weak};

use crate::{
    api::{context::Context, server::Server, typed::registry},
    call::reply::{Reply, channel},
    engine::{
        cell::{Cell, CellRef},
        context::ContextCore,
        reminders::Reminders,
    },
    id::{ServerId, key::IntoKey},
    runtime::runtime::Runtime,
};

pub use faulty::{Fault, FaultyStorage, Request};

pub mod conformance;
mod faulty;

/// Creates the context of a server of `runtime` for a unit test that calls a handler itself.
///
/// What the handler asks of the context does not happen: there is no message in progress whose end
/// would start it. [`Context::reminders`] returns the reminders that the handler has set, and
/// clients of other servers work.
///
/// ```
/// # use persistent_runtime::{persistent_server, Context, Runtime, testing};
/// # use std::time::Duration;
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Trial { over: bool }
/// #[persistent_server]
/// impl Trial {
///     pub fn begin(&mut self, context: &Context<Self>) {
///         context.remind("end", Duration::from_secs(86_400), TrialMessage::End);
///     }
///
///     #[info]
///     fn end(&mut self) { self.over = true; }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::in_memory().await?;
/// let context = testing::context::<Trial>(&runtime, "ada");
/// Trial::default().begin(&context);
/// assert_eq!(context.reminders()[0].name, "end");
/// # Ok(()) }
/// ```
#[must_use]
pub fn context<S: Server>(runtime: &Runtime, key: impl IntoKey<S::Key>) -> TestContext<S> {
    let cell = registry::<S>(runtime.services()).cell(&key.into_key());
    let core = ContextCore::new(&cell, None, Reminders::default());
    TestContext { context: Context::new(core), _cell: cell }
}

/// A [`Context`] outside of a server. Returned by [`context`].
pub struct TestContext<S: Server> {
    context: Context<S>,
    /// Keeps the cell that the context refers to weakly.
    _cell: CellRef,
}

impl<S: Server> Deref for TestContext<S> {
    type Target = Context<S>;

    fn deref(&self) -> &Context<S> {
        &self.context
    }
}

impl<S: Server> fmt::Debug for TestContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)
    }
}

/// Creates a [`Reply`] for a unit test that calls a handler itself, and the future of what is sent:
/// `None` if the reply is dropped unsent.
///
/// ```
/// # use persistent_runtime::{Reply, testing};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// fn pass(reply: Reply<u32>) { reply.send(7) }
///
/// let (reply, sent) = testing::reply();
/// pass(reply);
/// assert_eq!(sent.await, Some(7));
/// # }
/// ```
pub fn reply<T: Send + 'static>() -> (Reply<T>, impl Future<Output = Option<T>> + Send) {
    let (sender, receiver) = channel::<T>();
    let sent = async move {
        let mut value = None::<T>;
        receiver.receive(&ServerId::new("", ""), &mut value).await.ok()?;
        value
    };
    (Reply::new(Some(sender), Weak::<Cell>::new()), sent)
}
