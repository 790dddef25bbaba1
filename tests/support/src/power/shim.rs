use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Event, read_log};

/// A folder for one database, and a library between a program and its files that logs the
/// program's operations and lets some of them fail.
#[derive(Debug)]
pub struct Shim {
    folder: TempDir,
    library: PathBuf,
}

impl Shim {
    /// Builds the library with the C compiler.
    #[must_use]
    pub fn build() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        fs::create_dir(root.join("data")).expect("a folder");
        let (source, library) = (root.join("shim.c"), root.join("shim.so"));
        fs::write(&source, include_str!("shim.c")).expect("space");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .status()
            .expect("a C compiler");
        assert!(built.success(), "the shim is valid C");
        Self { folder, library }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("a path")
    }

    /// Returns the path of the database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root().join("data").join("power.db")
    }

    /// Returns the command that runs `program` with the library. The first argument is the path of
    /// the database. `faults` says which operations fail: with "write 28 10 20" the writes 10 to
    /// 19 fail with the error 28, with "" none.
    #[must_use]
    pub fn command(&self, program: &str, faults: &str) -> Command {
        self.fail(faults);
        let root = self.root();
        let mut command = Command::new(program);
        command
            .arg(self.database())
            .env("LD_PRELOAD", &self.library)
            .env("SHIM_PATH", self.database())
            .env("SHIM_LOG", root.join("log"))
            .env("SHIM_FAULTS", root.join("faults"));
        command
    }

    /// Changes the faults, also while the program runs.
    pub fn fail(&self, faults: &str) {
        fs::write(self.root().join("faults"), faults).expect("space");
    }

    /// Returns the operations of the last program.
    #[must_use]
    pub fn log(&self) -> Vec<Event> {
        read_log(&self.root().join("log")).expect("the program ran")
    }

    /// Replaces the database by a copy of another one.
    pub fn replace(&self, database: &Path) {
        self.clear();
        for suffix in ["", "-wal", "-journal"] {
            let beside = |path: &Path| {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                PathBuf::from(name)
            };
            if beside(database).exists() {
                fs::copy(beside(database), beside(&self.database())).expect("space");
            }
        }
    }

    /// Deletes the database.
    pub fn clear(&self) {
        let folder = self.root().join("data");
        fs::remove_dir_all(&folder).expect("a folder");
        fs::create_dir(folder).expect("a folder");
    }
}

/// Returns and prints the seed of this run: `PERSISTENT_SEED`, or a fixed number, so that a test
/// that has passed passes again.
#[must_use]
pub fn seed_of(test: &str) -> u64 {
    let seed = std::env::var("PERSISTENT_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    eprintln!("{test}: PERSISTENT_SEED={seed}");
    seed
}

/// Returns how often to repeat what a short run repeats `count` times: `PERSISTENT_EFFORT` times as
/// often.
#[must_use]
pub fn times(count: usize) -> usize {
    let effort =
        std::env::var("PERSISTENT_EFFORT").map_or(1, |many| many.parse().expect("a number"));
    count * effort
}
