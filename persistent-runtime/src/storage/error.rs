//! Why a storage refused.

use std::{error::Error, fmt, io, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The error of a [`Storage`](crate::Storage).
///
/// [`kind`](Self::kind) says how a program may react, the text is for people. The error that it
/// was made of is part of the text; [`source`](Error::source) returns what was behind that.
///
/// ```
/// # use persistent_runtime::{StorageError, StorageErrorKind};
/// let error = StorageError::new(StorageErrorKind::Full, "no space left in the table space");
/// assert_eq!(error.kind(), StorageErrorKind::Full);
/// assert_eq!(error.to_string(), "no space left in the table space");
/// ```
#[derive(Clone)]
pub struct StorageError(Arc<Inner>);

struct Inner {
    kind: StorageErrorKind,
    context: Option<String>,
    error: Box<dyn Error + Send + Sync>,
}

/// The class of an error of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The storage was closed, or shut down before the commit finished.
    Closed,
    /// Another runtime or another program holds the database.
    Locked,
    /// The file is no database, or a database of another program.
    NotADatabase,
    /// A newer release wrote the database.
    NewerFormat,
    /// The stored bytes are not those that were written, or a part of them is missing.
    Corrupt,
    /// A file of the database was removed, replaced or emptied by another program while the
    /// database was open. Nothing more is stored until the database is opened again.
    FileChanged,
    /// There is no space left.
    Full,
    /// The database cannot be written.
    ReadOnly,
    /// The record is larger than the storage can keep.
    TooLarge,
    /// Messages were appended to a record that does not exist.
    NoRecord,
    /// Reading or writing failed.
    Io,
    /// Another runtime has become the owner of the server.
    Fenced,
    /// Anything else, also a kind that only a newer release has.
    #[serde(other)]
    Other,
}

impl StorageError {
    /// Creates an error of a kind. `error` is a text or the error that caused it.
    pub fn new(kind: StorageErrorKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::new(Inner { kind, context: None, error: error.into() }))
    }

    /// Creates an error of the kind [`Other`](StorageErrorKind::Other).
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(StorageErrorKind::Other, error)
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> StorageErrorKind {
        self.0.kind
    }

    /// Returns the error that this one was made of, e.g. to downcast it.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0.error
    }

    /// Puts a text before that of the error, e.g. what was attempted.
    ///
    /// ```
    /// # use persistent_runtime::{StorageError, StorageErrorKind};
    /// let error = StorageError::new(StorageErrorKind::Io, "connection reset");
    /// let error = error.with_context("cannot connect to db.example:5432");
    /// assert_eq!(error.to_string(), "cannot connect to db.example:5432: connection reset");
    /// assert_eq!(error.kind(), StorageErrorKind::Io);
    /// ```
    #[must_use]
    pub fn with_context(self, context: impl fmt::Display) -> Self {
        let kind = self.kind();
        let inner = Inner { kind, context: Some(context.to_string()), error: Box::new(self) };
        Self(Arc::new(inner))
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(context) = &self.0.context {
            write!(f, "{context}: ")?;
        }
        self.0.error.fmt(f)
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, context, error } = &*self.0;
        let mut debug = f.debug_struct("StorageError");
        debug.field("kind", kind);
        if let Some(context) = context {
            debug.field("context", context);
        }
        debug.field("error", error).finish()
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The text has that of the error already.
        self.0.error.source()
    }
}

/// As the kind and the text: the error that this one was made of may have any type.
impl Serialize for StorageError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.kind(), self.to_string()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StorageError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, text) = <(StorageErrorKind, String)>::deserialize(deserializer)?;
        Ok(Self::new(kind, text))
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageErrorKind::Full,
            io::ErrorKind::ReadOnlyFilesystem => StorageErrorKind::ReadOnly,
            _ => StorageErrorKind::Io,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot write the page")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    /// Returns the texts that e.g. `anyhow` prints.
    fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
        let mut chain = vec![error.to_string()];
        let mut source = error.source();
        while let Some(error) = source {
            chain.push(error.to_string());
            source = error.source();
        }
        chain
    }

    #[test]
    fn a_chain_of_errors_has_each_text_once() {
        let cause = || Outer(io::Error::other("power failure"));
        let error = StorageError::new(StorageErrorKind::Io, cause());
        assert_eq!(chain(&error), ["cannot write the page", "power failure"]);
        assert!(error.get_ref().is::<Outer>());
        let error = error.with_context("commit").with_context("row 3");
        assert_eq!(chain(&error), ["row 3: commit: cannot write the page", "power failure"]);
        assert_eq!(error.kind(), StorageErrorKind::Io);
        assert_eq!(chain(&StorageError::other("alone")), ["alone"]);
    }

    #[test]
    fn errors_of_the_file_system_have_a_kind() {
        for (from, kind) in [
            (io::ErrorKind::StorageFull, StorageErrorKind::Full),
            (io::ErrorKind::ReadOnlyFilesystem, StorageErrorKind::ReadOnly),
            (io::ErrorKind::NotFound, StorageErrorKind::Io),
        ] {
            assert_eq!(StorageError::from(io::Error::from(from)).kind(), kind);
        }
    }
}
