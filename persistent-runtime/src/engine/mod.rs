//! The engine: addresses, their mailboxes, and the tasks that run servers.
//!
//! Nothing here is generic over the server type. A type is reached through the
//! [seam](erased), so that the engine is compiled once and not per type.
//!
//! A call travels like this:
//!
//! 1. [`handle`]: the client's core offers the message to [`inline`], which runs it in the
//!    caller's poll if the server is idle and nothing has to be committed.
//! 2. [`send`]: otherwise the message goes into the [`mailbox`] of its [`cell`]. An idle server gets a [`task`],
//!    which begins inline, too; a busy server's task takes the message from the queue.
//! 3. [`task`]: activates the server if need be, and runs the handler. What the handler asked its
//!    context for are its [`effects`].
//! 4. The task stages the changed state in the output gate, which submits it to the storage.
//! 5. The storage's completion resumes the task, and the output gate releases the reply.
//!
//! The modules of this folder know each other; the state machine that they share is documented in
//! [`mailbox`]. Lower layers know nothing of them.

pub(crate) mod agenda;
pub(crate) mod capacity;
pub(crate) mod cell;
pub(crate) mod clock;
pub(crate) mod command;
pub(crate) mod context;
pub(crate) mod crash_budget;
pub(crate) mod effects;
pub(crate) mod erased;
pub(crate) mod followers;
pub(crate) mod handle;
pub(crate) mod inline;
pub(crate) mod instance;
pub(crate) mod mailbox;
pub(crate) mod message_journal;
pub(crate) mod read_back;
pub(crate) mod recorded;
pub(crate) mod registry;
pub(crate) mod reminders;
pub(crate) mod replay;
pub(crate) mod resources;
pub(crate) mod send;
pub(crate) mod services;
pub(crate) mod sources;
pub(crate) mod task;
