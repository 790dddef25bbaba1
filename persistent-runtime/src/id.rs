//! The identity of a server: its kind and its key.

use std::{borrow::Cow, fmt, sync::Arc};

/// Names one server of any type: the stored name of its type, and its key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    /// Without a count that all servers of the kind would share.
    kind: Cow<'static, str>,
    key: Arc<str>,
}

impl ServerId {
    /// The server of the type stored as `kind` under `key`.
    pub fn new(kind: impl Into<Cow<'static, str>>, key: impl Into<Arc<str>>) -> Self {
        Self { kind: kind.into(), key: key.into() }
    }

    /// The stored name of the server's type, [`Server::NAME`].
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The server's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn shared_key(&self) -> &Arc<str> {
        &self.key
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.key)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
