//! Options of servers: their types, their serde form, and the layers that they come from.

pub(crate) mod de;
pub(crate) mod env;
mod fields;
pub(crate) mod file;
pub(crate) mod options;
pub(crate) mod settings;
