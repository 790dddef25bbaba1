//! Backups of an open database.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{self, Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use rusqlite::Connection;

use super::{error::Result, lock::explain};

/// The number of backups that this process has begun.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Writes a copy of the database into a new file.
///
/// The copy is one snapshot of the tables and the commit log, so it has every commit that ended
/// before. It gets its name when it is complete and on disk.
pub fn write(connection: &Connection, path: &Path) -> Result<()> {
    // SQLite would take a relative path that begins with `file:` for a URI.
    let path = &path::absolute(path)?;
    let target = Target::create(path).map_err(|error| explain(error, path))?;
    let partial = target.partial.to_str().ok_or_else(|| {
        let text = "the path is not valid UTF-8; choose another one for the backup";
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    connection.execute("VACUUM INTO ?", [partial])?;
    target.complete().map_err(|error| explain(error, path))?;
    Ok(())
}

/// The file that a backup is written to. Dropping it removes what is incomplete.
struct Target {
    path: PathBuf,
    partial: PathBuf,
    is_complete: bool,
}

impl Target {
    fn create(path: &Path) -> io::Result<Self> {
        if path.try_exists()? {
            let text =
                "there is a file of this name, and a backup replaces none; choose another name";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        // Another backup to the same path may be in progress.
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}-{}.partial", process::id(), COUNT.fetch_add(1, Relaxed)));
        let partial = PathBuf::from(partial);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&partial)?;
        Ok(Self { path: path.to_owned(), partial, is_complete: false })
    }

    fn complete(mut self) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.partial)?.sync_all()?;
        // Unlike a renaming, a link replaces no file that was created meanwhile. Some file systems
        // have no links.
        match fs::hard_link(&self.partial, &self.path) {
            Ok(()) => fs::remove_file(&self.partial)?,
            Err(_) if !self.path.try_exists()? => fs::rename(&self.partial, &self.path)?,
            Err(error) => return Err(error),
        }
        self.is_complete = true;
        #[cfg(unix)]
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = fs::remove_file(&self.partial);
        }
    }
}
