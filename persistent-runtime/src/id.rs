//! The identity of a server: its kind and its key.

pub(crate) mod key;

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use self::key::IntoKey;
use crate::support::serde::shared;

/// The identity of one server of any type: the stored name of its type, and its key.
///
/// Prints as `Player "ada"`.
///
/// ```
/// use persistent_runtime::ServerId;
///
/// let id = ServerId::new("Player", "ada");
/// assert_eq!((id.kind(), id.key()), ("Player", "ada"));
/// assert_eq!(id.to_string(), r#"Player "ada""#);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerId {
    /// Not an `Arc<str>`: all servers of a kind would contend for its reference count.
    kind: Cow<'static, str>,
    #[serde(with = "shared")]
    key: Arc<str>,
}

impl ServerId {
    /// Creates the identity of the server `key` of the type that is stored as `kind`.
    pub fn new(kind: impl Into<Cow<'static, str>>, key: impl IntoKey<str>) -> Self {
        Self { kind: kind.into(), key: key.into_key() }
    }

    /// Returns the stored name of the server's type, [`Server::NAME`](crate::Server::NAME).
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the server's key, as text.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Changes the key, and returns the identity.
    #[cfg(feature = "sqlite")]
    pub(crate) fn with_key(&mut self, key: &Arc<str>) -> &Self {
        self.key.clone_from(key);
        self
    }

    /// Returns the key in the allocation that all clones share.
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
