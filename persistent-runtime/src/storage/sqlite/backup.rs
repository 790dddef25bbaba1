//! Backups of an open database.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{error::Result, lock::explain};

/// Writes a copy of the database into a new file.
///
/// The copy is one snapshot of the tables and the commit log, so it has every commit that ended
/// before. It gets its name when it is complete and on disk.
pub fn write(connection: &Connection, path: &Path) -> Result<()> {
    // Keeps the name from others. SQLite writes into an empty file.
    let target = Target::create(path).map_err(|error| explain(error, path))?;
    let partial = target.partial.to_str().ok_or_else(|| {
        let text = "the path is not valid UTF-8; choose another name for the backup";
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
            let text = "there is a file of this name; a backup replaces none";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&partial)?;
        Ok(Self { path: path.to_owned(), partial, is_complete: false })
    }

    fn complete(mut self) -> io::Result<()> {
        File::open(&self.partial)?.sync_all()?;
        // Unlike a renaming, this replaces no file that was created meanwhile.
        fs::hard_link(&self.partial, &self.path)?;
        fs::remove_file(&self.partial)?;
        self.is_complete = true;
        #[cfg(unix)]
        File::open(self.path.parent().filter(|it| it != &Path::new("")).unwrap_or(Path::new(".")))?
            .sync_all()?;
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
