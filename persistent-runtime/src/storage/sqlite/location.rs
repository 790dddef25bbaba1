//! The file that a name leads to.

use std::{
    fs::{self, Metadata},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::error::Result;
use crate::storage::{StorageError, StorageErrorKind};

/// The longest path that SQLite accepts on Unix, in bytes, including its own suffixes.
const PATH_LIMIT: usize = 512;
/// The longest suffix of a file beside the database.
const LONGEST_SUFFIX: usize = "-journal".len();

/// Returns the absolute path of the file that `path` leads to, without symbolic links. The file
/// may be missing, its folder must exist.
///
/// All files are opened by this path, so that a later change of the working directory or of a link
/// leads to no other file, and all names of one file lead to the same lock.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    check_name(path)?;
    let resolved = follow(path)?;
    if let Ok(file) = fs::metadata(&resolved) {
        check_file(&file)?;
    }
    if resolved.as_os_str().len() + LONGEST_SUFFIX > PATH_LIMIT {
        let text = format!(
            "the path {} is longer than the {} bytes that SQLite accepts; choose a shorter path",
            resolved.display(),
            PATH_LIMIT - LONGEST_SUFFIX
        );
        return Err(refused(text).into());
    }
    Ok(resolved)
}

/// Refuses names to which SQLite would give a meaning of its own.
fn check_name(path: &Path) -> Result<()> {
    let name = path.as_os_str().as_encoded_bytes();
    let text = if name.is_empty() {
        "the path is empty; name a file"
    } else if name == b":memory:" {
        "this opens a file only; use `Runtime::in_memory` to store nothing, or write `./:memory:` \
         for a file of this name"
    } else if name.starts_with(b"file:") || name.starts_with(b"sqlite:") {
        "this is a URI and not a path; write the path of the file, and `./` before a name that \
         begins like a URI"
    } else {
        return Ok(());
    };
    Err(refused(text).into())
}

fn check_file(file: &Metadata) -> Result<()> {
    let text = if file.is_dir() {
        "this is a folder; name a file in it".to_owned()
    } else if !file.is_file() {
        "this is not a regular file; name another one".to_owned()
    } else if links(file) > 1 {
        // Each name would have a lock and a write-ahead log of its own.
        format!(
            "the file has {} names (hard links), which would not share a lock and a log; remove \
             the other names, or open a copy of the file",
            links(file)
        )
    } else {
        return Ok(());
    };
    Err(refused(text).into())
}

fn follow(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return Ok(other.map_err(unreachable)?),
    }
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    };
    // A link to a file that is missing. Links in a circle are another error.
    if let Ok(target) = fs::read_link(path) {
        return follow(&folder.join(target));
    }
    let folder = folder.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            refused(format!("the folder {} does not exist; create it first", folder.display()))
        }
        _ => unreachable(error),
    })?;
    let name = path.file_name().ok_or_else(|| refused("the path does not end in a file name"))?;
    Ok(folder.join(name))
}

fn refused(text: impl Into<String>) -> StorageError {
    StorageError::new(StorageErrorKind::Io, text.into())
}

fn unreachable(error: io::Error) -> StorageError {
    let text = "cannot follow the path; correct it, or the permissions of its folders";
    StorageError::from(error).with_context(text)
}

/// The device and the number of a file, which tell it from any other that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(u64, u64);

#[cfg(unix)]
mod platform {
    use std::{fs::Metadata, os::unix::fs::MetadataExt};

    use super::Identity;

    #[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
    pub fn identity(file: &Metadata) -> Option<Identity> {
        Some(Identity(file.dev(), file.ino()))
    }

    pub fn links(file: &Metadata) -> u64 {
        file.nlink()
    }
}

/// Other systems do not let another program remove or replace an open file.
#[cfg(not(unix))]
mod platform {
    use std::fs::Metadata;

    use super::Identity;

    pub fn identity(_: &Metadata) -> Option<Identity> {
        None
    }

    pub fn links(_: &Metadata) -> u64 {
        1
    }
}

pub use platform::{identity, links};
