//! A commit and the update that it makes.

use std::sync::Arc;

use super::{Record, StorageError, StorageErrorKind};
use crate::id::ServerId;

/// One atomic change of one server's record.
///
/// # Later fields
///
/// Later releases may add fields, e.g. the epoch of the server's owner, or messages to other
/// servers that become durable with the update. A storage that was written before such a field
/// existed must not lose it silently. Therefore each field that a storage has to act on comes with
/// a provided method of [`Storage`](crate::Storage), by which a storage declares that it supports
/// the field, and whose default says no. The runtime leaves the field at its default for a storage
/// that does not support it, and refuses at opening the options that would need it.
///
/// A decorator passes the whole commit on. It must not build a new commit from the fields that it
/// knows.
///
/// ```
/// # use persistent_runtime::{Commit, Record, ServerId, Update};
/// let update = Update::Put(Record::new(1, 1, &b"\x80"[..]));
/// let commit = Commit::new(ServerId::new("Player", "ada"), update).with_sequence(7);
/// assert_eq!((commit.server.key(), commit.sequence), ("ada", 7));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Commit {
    /// The server.
    pub server: ServerId,
    /// The commit sequence: numbers the commits of one server within one runtime, in the order
    /// in which they are submitted. A storage need not store it.
    pub sequence: u64,
    /// The change of the server's record.
    pub update: Update,
}

/// The change of one server's record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// Replaces the record, or creates it.
    Put(Record),
    /// Appends messages to those of the stored record.
    ///
    /// The runtime appends only to a record that it has loaded or put. A storage that notices a
    /// missing record fails with [`StorageErrorKind::NoRecord`]; it never creates one.
    Append(Vec<Arc<[u8]>>),
    /// Deletes the record. Succeeds if there is no record.
    Delete,
}

impl Commit {
    /// Creates a commit with the sequence 0.
    #[must_use]
    pub fn new(server: ServerId, update: Update) -> Self {
        Self { server, sequence: 0, update }
    }

    /// Sets the commit sequence.
    #[must_use]
    pub fn with_sequence(self, sequence: u64) -> Self {
        Self { sequence, ..self }
    }
}

impl Update {
    /// Adds `next`, so that both happen in one commit. A record or a delete in `next` replaces
    /// everything before it. Messages may follow a record or messages, never a delete.
    pub fn merge(&mut self, next: Self) {
        match (self, next) {
            (Self::Put(Record { messages, .. }) | Self::Append(messages), Self::Append(more)) => {
                messages.extend(more);
            }
            (update, next) => *update = next,
        }
    }

    /// Returns the record that is stored after this update, given the one stored before. A
    /// storage that keeps whole records needs nothing else to implement
    /// [`commit`](crate::Storage::commit).
    ///
    /// # Errors
    /// If messages are appended and there is no record.
    pub fn apply(self, record: Option<Record>) -> Result<Option<Record>, StorageError> {
        match (self, record) {
            (Self::Put(record), _) => Ok(Some(record)),
            (Self::Append(more), Some(mut record)) => {
                record.messages.extend(more);
                Ok(Some(record))
            }
            (Self::Append(_), None) => Err(no_record()),
            (Self::Delete, _) => Ok(None),
        }
    }

    /// Returns how many bytes there are to write.
    #[cfg(feature = "sqlite")]
    pub(super) fn bytes(&self) -> usize {
        let sum = |messages: &[Arc<[u8]>]| messages.iter().map(|message| message.len()).sum();
        match self {
            Self::Put(record) => {
                record.state.len() + record.reminders.len() + sum(&record.messages)
            }
            Self::Append(messages) => sum(messages),
            Self::Delete => 0,
        }
    }
}

pub(super) fn no_record() -> StorageError {
    StorageError::new(StorageErrorKind::NoRecord, "there is no record to append to")
}
