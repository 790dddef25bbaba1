//! The lock of a database: one runtime per file, whatever name it is opened by.
//!
//! 1. The lock file `<path>.lock` is locked with the operating system. The lock ends with its
//!    holder, however that ends. The file names the process.
//! 2. A set of the files that this process has open guards against what the file system hides,
//!    e.g. a lock file that was removed. Without it, a second open would also close the file and
//!    so release the POSIX locks that SQLite holds in this process.
//! 3. On Linux the database file itself is locked with `flock`, which SQLite's POSIX locks do not
//!    meet. Other systems have one kind of lock for both.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    error::Result,
    location::{Identity, identity},
};
use crate::storage::{StorageError, StorageErrorKind};

/// The lock file, locked.
pub struct LockFile {
    pub path: PathBuf,
    pub identity: Option<Identity>,
    file: File,
    is_new: bool,
}

impl LockFile {
    /// Locks the file and writes this process into it. Creates the file if there is none.
    pub fn take(path: PathBuf) -> Result<Self> {
        loop {
            let (file, is_new) = open_or_create(&path).map_err(|error| explain(error, &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held_elsewhere(&path, file).into()),
                Err(TryLockError::Error(error)) => return Err(explain(error, &path).into()),
            }
            let identity = identity(&file.metadata()?);
            // The previous holder may have removed the file since it was opened.
            if identity_at(&path)? == identity {
                let lock = Self { path, identity, file, is_new };
                return match lock.write_holder() {
                    Ok(()) => Ok(lock),
                    Err(error) => {
                        lock.remove_if_new();
                        Err(explain(error, &lock.path).into())
                    }
                };
            }
        }
    }

    fn write_holder(&self) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("process {}\n", process::id()).as_bytes())
    }

    /// Removes the file if it did not exist before.
    pub fn remove_if_new(&self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Returns an error if this process cannot open as many files as SQLite does for a database.
    pub fn probe_descriptors(&self) -> io::Result<()> {
        (0..8).map(|_| self.file.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
    }
}

/// Closing the file would not be enough: a child process that is being spawned inherits it until it
/// executes its program.
impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn held_elsewhere(path: &Path, mut file: File) -> StorageError {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    // This attempt must not be taken for a holder.
    drop(file);
    in_use(&holder(path, text.trim()))
}

/// Opens a file, or creates it for this user only. SQLite creates the log with the same permissions.
fn open_or_create(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return Ok((other?, false)),
    }
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((options.open(path)?, false))
        }
        other => Ok((other?, true)),
    }
}

fn identity_at(path: &Path) -> io::Result<Option<Identity>> {
    match fs::metadata(path) {
        Ok(file) => Ok(identity(&file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds to an error of the file system its file, and a way out.
pub fn explain(error: io::Error, path: &Path) -> StorageError {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give this user the permission to read and write the file and its folder"
        }
        io::ErrorKind::ReadOnlyFilesystem => "make its file system writable",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        // No kind has a name for an exhausted table of descriptors.
        _ if error.to_string().contains("open files") => "raise the limit of open files",
        _ => "check the file and its folder",
    };
    StorageError::from(error).with_context(format_args!("{}: {advice}", path.display()))
}

/// Says that `holder` has the database open.
fn in_use(holder: &str) -> StorageError {
    let text = format!("in use by {holder}; stop that runtime or open another file");
    StorageError::new(StorageErrorKind::Locked, text)
}

/// Names the holder of the lock file at `path`, whose text is `text`.
fn holder(path: &Path, text: &str) -> String {
    let Some(number) = text.strip_prefix("process ").and_then(|it| it.parse().ok()) else {
        return "another runtime".to_owned();
    };
    let living = processes_with(path);
    if living.is_empty() || living.contains(&number) {
        return process(number);
    }
    let living: Vec<_> = living.iter().map(u32::to_string).collect();
    format!("process {}, which inherited the lock of process {number}", living.join(" and "))
}

fn process(number: u32) -> String {
    let is_here = |name: &str| Path::new("/proc").join(name).exists();
    let place = if number == process::id() {
        " (this one)"
    } else if is_here("self") && !is_here(&number.to_string()) {
        " (not visible here, e.g. in another container)"
    } else {
        ""
    };
    format!("process {number}{place}")
}

/// Returns the processes that have the file open, as far as the operating system shows them.
fn processes_with(path: &Path) -> Vec<u32> {
    let has_open = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let leads = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|it| it == path);
        files.is_ok_and(|files| files.flatten().any(leads))
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    processes.flatten().filter_map(number).filter(has_open).collect()
}

/// A database file that no other runtime has open.
pub struct MainFile {
    pub file: File,
    pub identity: Option<Identity>,
    pub is_new: bool,
    // Dropped after the file is closed.
    _registration: Registration,
}

impl MainFile {
    /// Opens the file, or creates it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut open = open_here();
        // Before the file is opened: closing it again would release SQLite's locks.
        if identity_at(path).ok().flatten().is_some_and(|it| open.contains(&it)) {
            return Err(in_use(&process(process::id())).into());
        }
        let (file, is_new) = open_or_create(path).map_err(|error| explain(error, path))?;
        let identity = identity(&file.metadata()?);
        // Some file systems have no such lock.
        if cfg!(target_os = "linux") && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(in_use("another process, by another name of the file").into());
        }
        open.extend(identity);
        Ok(Self { file, identity, is_new, _registration: Registration(identity) })
    }
}

impl Drop for MainFile {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// The entry of a file in the set of those that this process has open.
struct Registration(Option<Identity>);

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(identity) = self.0 {
            open_here().remove(&identity);
        }
    }
}

/// Returns the database files that this process has open.
fn open_here() -> MutexGuard<'static, BTreeSet<Identity>> {
    static OPEN: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
