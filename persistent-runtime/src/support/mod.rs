//! Building blocks that import nothing of servers.

pub(crate) mod alarm;
pub(crate) mod block_on;
pub(crate) mod catch;
pub(crate) mod expiry;
pub(crate) mod home;
pub(crate) mod serde;
pub(crate) mod spin;
pub(crate) mod sync;
