use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Event, read_log};

/// A folder for one database, and a library that is put between a program and its
/// files: it logs what becomes of them, and has operations fail.
#[derive(Debug)]
pub struct Shim {
    folder: TempDir,
    library: PathBuf,
}

impl Shim {
    /// Builds the library, with the C compiler that SQLite was built with.
    #[must_use]
    pub fn build() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        fs::create_dir(root.join("data")).expect("a folder");
        let (source, library) = (root.join("shim.c"), root.join("shim.so"));
        fs::write(&source, include_str!("shim.c")).expect("room");
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

    /// Where the database is.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root().join("data").join("power.db")
    }

    /// `program`, followed from now on, its database's path the first argument.
    /// `faults` says which operations fail: "write 28 10 20" has ten writes,
    /// the one numbered 10 being the first, fail with the error 28; "" none.
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

    /// Other faults from now on.
    pub fn fail(&self, faults: &str) {
        fs::write(self.root().join("faults"), faults).expect("room");
    }

    /// What the last program did.
    #[must_use]
    pub fn log(&self) -> Vec<Event> {
        read_log(&self.root().join("log")).expect("the program ran")
    }

    /// Has copies of another database's files take the place of the database.
    pub fn replace(&self, database: &Path) {
        self.clear();
        for suffix in ["", "-wal", "-journal"] {
            let beside = |path: &Path| {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                PathBuf::from(name)
            };
            if beside(database).exists() {
                fs::copy(beside(database), beside(&self.database())).expect("room");
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

/// The seed of this run: `PERSISTENT_SEED`, or a number that is the same each
/// time, so that a test that has passed passes again. It is printed.
#[must_use]
pub fn seed_of(test: &str) -> u64 {
    let seed = std::env::var("PERSISTENT_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    eprintln!("{test}: PERSISTENT_SEED={seed}");
    seed
}

/// How many times to try something that is tried `count` times in a short run:
/// `PERSISTENT_EFFORT` times as often.
#[must_use]
pub fn times(count: usize) -> usize {
    let effort =
        std::env::var("PERSISTENT_EFFORT").map_or(1, |many| many.parse().expect("a number"));
    count * effort
}
