//! The way of a call back to its caller: reply, deadline, the output gate and the busy wait for a
//! commit.

pub(crate) mod commit_wait;
pub(crate) mod deadline;
pub(crate) mod output_gate;
pub(crate) mod reply;
