//! Options of servers: their types, their written forms, and the layers that they come from.

pub(crate) mod de;
pub(crate) mod env;
pub(crate) mod file;
pub(crate) mod options;
