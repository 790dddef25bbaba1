//! The kinds of SQLite's errors.

use std::{io, result};

use rusqlite::ErrorCode;

use crate::storage::{StorageError, StorageErrorKind};

/// A [`StorageError`] that `?` converts from SQLite's errors. The public type has no such
/// conversion: the version of `rusqlite` is no part of the public interface.
#[derive(Debug)]
pub struct Error(StorageError);

pub type Result<T, E = Error> = result::Result<T, E>;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let kind = kind(&error);
        Self(match error.sqlite_error() {
            Some(failure) => {
                let code = failure.extended_code;
                StorageError::new(kind, format!("{error} (SQLite error {code})"))
            }
            None => StorageError::new(kind, error),
        })
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        Self(error)
    }
}

impl From<Error> for StorageError {
    fn from(Error(error): Error) -> Self {
        error
    }
}

fn kind(error: &rusqlite::Error) -> StorageErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StorageErrorKind::Locked,
        Some(ErrorCode::NotADatabase) => StorageErrorKind::NotADatabase,
        Some(ErrorCode::DatabaseCorrupt) => StorageErrorKind::Corrupt,
        Some(ErrorCode::DiskFull) => StorageErrorKind::Full,
        Some(ErrorCode::ReadOnly) => StorageErrorKind::ReadOnly,
        Some(ErrorCode::TooBig) => StorageErrorKind::TooLarge,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StorageErrorKind::Io
        }
        Some(_) => StorageErrorKind::Other,
        None => match error {
            // The schema has a type per column, so another type is damage.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => StorageErrorKind::Corrupt,
            _ => StorageErrorKind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn each_result_code_of_sqlite_has_a_kind() {
        for (code, kind) in [
            (ffi::SQLITE_BUSY, StorageErrorKind::Locked),
            (ffi::SQLITE_BUSY_SNAPSHOT, StorageErrorKind::Locked),
            (ffi::SQLITE_LOCKED, StorageErrorKind::Locked),
            (ffi::SQLITE_NOTADB, StorageErrorKind::NotADatabase),
            (ffi::SQLITE_CORRUPT, StorageErrorKind::Corrupt),
            (ffi::SQLITE_FULL, StorageErrorKind::Full),
            (ffi::SQLITE_READONLY, StorageErrorKind::ReadOnly),
            (ffi::SQLITE_TOOBIG, StorageErrorKind::TooLarge),
            (ffi::SQLITE_IOERR_FSYNC, StorageErrorKind::Io),
            (ffi::SQLITE_CANTOPEN, StorageErrorKind::Io),
            (ffi::SQLITE_CONSTRAINT, StorageErrorKind::Other),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let error = StorageError::from(Error::from(error));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(&code.to_string()), "{error}");
            assert!(std::error::Error::source(&error).is_none(), "the text would come twice");
        }
    }
}
