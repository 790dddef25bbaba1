//! The record of one server.

use std::{fmt, sync::Arc};

use super::encoded::Encoded;

/// The stored form of one server.
///
/// A storage keeps all fields and interprets none but `due`. Later releases may add fields; a
/// storage that keeps its rows by column must therefore refuse what it cannot keep, as described
/// at [`Commit`](crate::Commit).
///
/// ```
/// # use persistent_runtime::Record;
/// let record = Record::new(1, 1, &b"\x81\xa5count\x03"[..]).with_reminders(Vec::new(), None);
/// assert_eq!((record.version, record.state.len(), record.due), (1, 8, None));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The version of the state's shape: `version` of the attribute.
    pub version: u32,
    /// The encoding of `state`.
    pub format: u32,
    /// The encoded state.
    pub state: Encoded,
    /// The server's reminders, encoded; empty if there are none.
    pub reminders: Vec<u8>,
    /// When the earliest reminder is due, in milliseconds since 1970, at most `i64::MAX`.
    /// [`Storage::due`] lists servers by it.
    ///
    /// [`Storage::due`]: crate::Storage::due
    pub due: Option<u64>,
    /// The messages that the server has handled since `state` was taken, oldest first. Always
    /// empty for a server without a message journal.
    pub messages: Vec<Arc<[u8]>>,
}

impl Record {
    /// Creates a record without reminders and messages.
    #[must_use]
    pub fn new(version: u32, format: u32, state: impl Into<Encoded>) -> Self {
        let (reminders, messages) = (Vec::new(), Vec::new());
        Self { version, format, state: state.into(), reminders, due: None, messages }
    }

    /// Sets the encoded reminders and the time at which the earliest is due, in milliseconds
    /// since 1970.
    #[must_use]
    pub fn with_reminders(self, reminders: impl Into<Vec<u8>>, due: Option<u64>) -> Self {
        Self { reminders: reminders.into(), due, ..self }
    }

    /// Sets the messages that follow the state, oldest first.
    #[must_use]
    pub fn with_messages(self, messages: Vec<Arc<[u8]>>) -> Self {
        Self { messages, ..self }
    }
}

/// Shows sizes only: states may hold secrets.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("version", &self.version)
            .field("format", &self.format)
            .field("bytes", &self.state.len())
            .field("due", &self.due)
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}
