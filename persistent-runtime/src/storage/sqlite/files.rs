//! The files of an open database: the file itself, its write-ahead log and its lock file.
//!
//! # The mark
//!
//! A copy of the database file without its write-ahead log is an older database, and nothing in it
//! says so. So a mark of 32 bytes follows the last page of the file for as long as the log has
//! something that the file does not have:
//!
//! 1. The writer adds the mark after the first transaction that follows a checkpoint.
//! 2. A checkpoint that moves the whole log into the file cuts the file to its pages, and so
//!    removes the mark. This is true for checkpoints of other programs too.
//! 3. SQLite ignores bytes after the last page. `VACUUM INTO` and the backup API copy pages, and so
//!    copy no mark. A plain copy of the file has the mark.
//!
//! The mark needs no sync: after a power cut the log is where it was.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    error::Result,
    location::{self, Identity, identity},
    lock::{LockFile, MainFile, explain},
};
use crate::storage::{StorageError, StorageErrorKind};

/// Follows the last page of a database that is incomplete without its write-ahead log.
const MARK: &[u8; 32] = b"incomplete without its -wal file";
/// The smallest page of SQLite. The size of every page is a multiple.
const PAGE_UNIT: u64 = 512;
/// The position of the header's byte that is 1 until the database switches to a write-ahead log.
const WRITE_VERSION: usize = 18;
const HEADER: usize = WRITE_VERSION + 1;

/// The files of a database that this runtime has locked.
///
/// Dropping this unlocks the database: all connections must be closed before.
pub struct Files {
    place: Place,
    /// False while the database is being opened: then a drop removes empty files that were created.
    is_open: bool,
    // Dropped in this order.
    main: MainFile,
    lock: LockFile,
}

/// The path of a database, and the files that it led to when the database was opened.
#[derive(Clone, Debug)]
pub struct Place {
    pub path: PathBuf,
    main: Option<Identity>,
    log: Option<Identity>,
}

impl Place {
    /// Returns an error if a file or its write-ahead log is another one or missing, or if the file
    /// is empty.
    pub fn check(&self) -> Result<(), StorageError> {
        self.check_main()?;
        check_identity(&self.log_path(), self.log)
    }

    /// Does the same, and returns an error if the log was emptied. `log_has_pages` returns whether
    /// SQLite expects pages in the log.
    pub fn check_content(&self, log_has_pages: impl FnOnce() -> bool) -> Result<(), StorageError> {
        self.check()?;
        if self.log_is_emptied(log_has_pages) {
            return Err(changed(&self.log_path(), "emptied"));
        }
        Ok(())
    }

    /// Returns true if SQLite expects pages in the log and the log was emptied.
    pub fn log_is_emptied(&self, log_has_pages: impl FnOnce() -> bool) -> bool {
        // Another program may empty the log in order: then SQLite expects nothing in it. So the
        // log is read first.
        is_emptied(&self.log_path()) && log_has_pages()
    }

    /// Does the same as [`check`](Self::check) without the log.
    pub fn check_main(&self) -> Result<(), StorageError> {
        check_identity(&self.path, self.main)?;
        if fs::metadata(&self.path).is_ok_and(|file| file.len() == 0) {
            return Err(changed(&self.path, "emptied"));
        }
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }
}

impl Files {
    /// Locks and opens the file that `path` leads to, or creates it.
    pub fn open(path: &Path) -> Result<Self> {
        let path = location::resolve(path)?;
        let lock = LockFile::take(beside(&path, ".lock"))?;
        let main = check_lost_main(&path).and_then(|()| MainFile::open(&path));
        let main = main.inspect_err(|_| lock.remove_if_new())?;
        let place = Place { path, main: main.identity, log: None };
        let files = Self { place, is_open: false, main, lock };
        files.check_log()?;
        Ok(files)
    }

    pub fn path(&self) -> &Path {
        &self.place.path
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns true if the write-ahead log has content.
    pub fn has_log(&self) -> bool {
        size(&self.place.log_path()) > 0
    }

    /// Takes note of the write-ahead log, which SQLite has created.
    pub fn note_log(&mut self) {
        let log = fs::metadata(self.place.log_path());
        self.place.log = log.ok().and_then(|file| identity(&file));
    }

    /// Takes note that the database is open.
    pub fn opened(&mut self) {
        self.is_open = true;
    }

    /// Adds to an error of opening what SQLite does not say.
    pub fn explain(&self, error: StorageError) -> StorageError {
        // SQLite has one error for all reasons why a file cannot be opened.
        if error.kind() == StorageErrorKind::Io
            && let Err(error) = self.lock.probe_descriptors()
        {
            return explain(error, self.path());
        }
        let folder = self.path().parent().unwrap_or(self.path()).display();
        let advice = match error.kind() {
            StorageErrorKind::Io => format!("this user must be able to create files in {folder}"),
            StorageErrorKind::ReadOnly => {
                format!("this user must be able to write the file and to create files in {folder}")
            }
            StorageErrorKind::Full => format!("free some space for {folder}"),
            StorageErrorKind::Locked => {
                "another program has locked the file; wait for it, or end it".to_owned()
            }
            StorageErrorKind::NotADatabase => "open another file".to_owned(),
            StorageErrorKind::Corrupt => "restore a backup".to_owned(),
            _ => return error,
        };
        StorageError::new(error.kind(), format!("{error}; {advice}"))
    }

    /// Refuses a file without the log that it needs, and a log beside a file that it does not
    /// belong to.
    fn check_log(&self) -> Result<()> {
        let (header, is_marked) = read_header(&self.main.file)?;
        let log = self.place.log_path();
        let lacks_log = !self.has_log() || is_emptied(&log);
        let log = log.display();
        let text = if is_marked && lacks_log {
            let path = self.path().display();
            format!(
                "the file is incomplete without its write-ahead log {log}, which is missing or \
                 empty; put the log back, or restore a backup; copy a database in use with \
                 `VACUUM INTO`; to extract the older state that this file has, run \
                 `sqlite3 '{path}' \"VACUUM INTO 'older.db'\"`"
            )
        } else if header.get(WRITE_VERSION) == Some(&1) && self.has_log() {
            format!(
                "the write-ahead log {log} belongs to another file, e.g. to the one that this \
                 backup has replaced; move the log and the `-shm` file away"
            )
        } else {
            return Ok(());
        };
        Err(StorageError::new(StorageErrorKind::Corrupt, text).into())
    }

    /// Adds the mark. The log must have content, and no checkpoint of this process may be running.
    ///
    /// An error is ignored: the mark protects copies, not this file.
    pub fn mark(&self) {
        let mut file = &self.main.file;
        if let Ok(end) = file.seek(SeekFrom::End(0))
            && end > 0
            && end.is_multiple_of(PAGE_UNIT)
        {
            let _ = file.write_all(MARK);
        }
    }

    /// Removes the mark, if the log has been moved into the file by another program just before
    /// the mark was added. The log must be empty.
    pub fn unmark(&self) {
        let file = &self.main.file;
        if let Ok((_, true)) = read_header(file)
            && let Ok(metadata) = file.metadata()
        {
            let _ = file.set_len(metadata.len() - MARK.len() as u64);
        }
    }

    /// Returns an error if a file was removed, replaced or emptied since the database was opened;
    /// see [`Place::check_content`].
    pub fn check(&self, log_has_pages: impl FnOnce() -> bool) -> Result<(), StorageError> {
        check_identity(&self.lock.path, self.lock.identity)?;
        self.place.check_content(log_has_pages)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.is_open {
            return;
        }
        // Once SQLite has written, a power cut could keep the log and lose the file.
        if self.main.is_new && size(self.path()) == 0 {
            let _ = fs::remove_file(self.path());
        }
        self.lock.remove_if_new();
    }
}

/// Refuses a write-ahead log without its database: SQLite would take the missing file for a new
/// database, and delete the log with everything in it.
fn check_lost_main(path: &Path) -> Result<()> {
    let log = beside(path, "-wal");
    if size(path) == 0 && size(&log) > 0 {
        let text = format!(
            "the file is empty or missing, but its log {} is not; restore the file, or move the \
             log away",
            log.display()
        );
        return Err(StorageError::new(StorageErrorKind::Corrupt, text).into());
    }
    Ok(())
}

fn check_identity(path: &Path, expected: Option<Identity>) -> Result<(), StorageError> {
    if expected.is_none() {
        return Ok(());
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(changed(path, "removed")),
        Ok(file) if identity(&file) != expected => Err(changed(path, "replaced")),
        // An error that may pass, e.g. for want of a descriptor.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn changed(path: &Path, event: &str) -> StorageError {
    let text = format!(
        "{} was {event} while the database was open; nothing more is stored; restart the program \
         once the file is restored",
        path.display()
    );
    StorageError::new(StorageErrorKind::FileChanged, text)
}

/// Returns true if the first bytes of the log are not those of a log.
fn is_emptied(log: &Path) -> bool {
    let mut magic = [0; 2];
    // Closing the log releases no lock: SQLite locks the `-shm` file.
    let read = File::open(log).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) => magic == [0; 2],
        Err(error) => error.kind() == ErrorKind::UnexpectedEof,
    }
}

/// Reads the first bytes, as far as they exist, and whether the mark is there.
fn read_header(mut file: &File) -> io::Result<(Vec<u8>, bool)> {
    let mut header = Vec::new();
    file.rewind()?;
    file.take(HEADER as u64).read_to_end(&mut header)?;
    let mut end = Vec::new();
    let file_size = file.seek(SeekFrom::End(0))?;
    let mark_size = MARK.len() as u64;
    if file_size % PAGE_UNIT == mark_size {
        file.seek(SeekFrom::Start(file_size - mark_size))?;
        file.read_to_end(&mut end)?;
    }
    Ok((header, end == MARK))
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
