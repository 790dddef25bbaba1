//! The files of a database: their names, their lock, and what happens to them from outside.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use persistent_runtime::{
    CallError, Client, OpenError, Runtime, StorageError, StorageErrorKind, persistent_server,
};
use persistent_tests::{Counter, CounterClient, finishes};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);
const OPENER: &str = env!("CARGO_BIN_EXE_opener");

/// A folder with the subfolder `data`.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        // Some systems have a link on the way to their temporary files.
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// Returns the paths of all files, and whether they are empty.
    fn files(&self) -> BTreeSet<(PathBuf, bool)> {
        let mut folders = vec![self.path("")];
        let mut files = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let file = path.symlink_metadata().unwrap();
                if file.is_dir() {
                    folders.push(path.clone());
                }
                files.insert((path, file.len() == 0));
            }
        }
        files
    }
}

/// Opens a database, adds one to a counter, shuts down, and returns the value.
async fn visit(path: &Path) -> Result<u64, StorageError> {
    let runtime = Runtime::open(path).await.map_err(storage)?;
    let value = runtime.at::<Counter>("a", ()).increment().await.unwrap();
    runtime.shutdown(SECOND).await.unwrap();
    Ok(value)
}

fn storage(error: OpenError) -> StorageError {
    match error {
        OpenError::Storage(error) => error,
        other => panic!("{other}"),
    }
}

/// Checks the kind and the text of the error of opening `path`, and that no file stays behind. The
/// text names the file that the path leads to.
async fn refuses(folder: &Folder, path: &Path, kind: StorageErrorKind, words: &str) {
    let before = folder.files();
    let error = visit(path).await.expect_err(&path.display().to_string());
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("cannot open database /"), "{text}");
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let names = [path, &file].map(|path| path.to_str().unwrap());
    assert!(names.iter().any(|name| text.contains(name)) && text.contains(words), "{text}");
    assert_eq!(folder.files(), before, "{text}");
}

/// The program `opener`, with its first line of output.
struct Opener {
    child: Child,
    output: BufReader<ChildStdout>,
    first: String,
}

impl Opener {
    fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        Self { child, output, first }
    }

    fn hold(path: &Path) -> Self {
        let opener = Self::spawn(Command::new(OPENER).arg("hold").arg(path));
        assert_eq!(opener.first, "open\n");
        opener
    }

    /// Ends the input, and returns the last line of output.
    fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let mut last = String::new();
        self.output.read_line(&mut last).unwrap();
        self.child.wait().unwrap();
        last
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Returns what a program prints, or `None` if it cannot run here, e.g. for want of a permission.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    if output.status.success() {
        return Some(String::from_utf8(output.stdout).unwrap());
    }
    eprintln!("skipped: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
    None
}

/// Runs `script` as root of a mount namespace, with the database as `$1` and `opener` as `$0`.
fn in_namespace(script: &str, path: &Path) -> Option<String> {
    let script = format!("set -e; {script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", &script, OPENER]);
    output(command.arg(path))
}

fn copy(from: &Path, to: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        fs::copy(beside(from, suffix), beside(to, suffix)).unwrap();
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

fn run_sql(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_open_is_refused_by_each_of_its_names() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    let real = folder.path("data/real.db");
    symlink("data", folder.path("folder")).unwrap();
    symlink("real.db", folder.path("data/link.db")).unwrap();
    symlink(folder.path("folder/link.db"), folder.path("link.db")).unwrap();
    let runtime = Runtime::open(folder.path("link.db")).await.expect("a link to a missing file");
    let counter = runtime.at::<Counter>("a", ());
    assert_eq!(counter.increment().await.unwrap(), 1);
    assert!(real.exists() && beside(&real, ".lock").exists(), "the file that the link leads to");

    let names = [
        "data/real.db",
        "data/../data/./real.db",
        "data/link.db",
        "folder/real.db",
        "folder/link.db",
        "link.db",
    ];
    let holder = format!("in use by process {}", std::process::id());
    for name in names {
        refuses(&folder, &folder.path(name), StorageErrorKind::Locked, &holder).await;
    }
    // Relative names, in another process.
    for (working, name) in [
        ("", "data/real.db"),
        ("data", "real.db"),
        ("data", "./link.db"),
        ("data", "../folder/real.db"),
        ("folder", "../link.db"),
    ] {
        let before = folder.files();
        let mut command = Command::new(OPENER);
        command.args(["open", name]).current_dir(folder.path(working));
        let printed = output(&mut command).unwrap();
        assert!(printed.starts_with("refused: ") && printed.contains(&holder), "{printed}");
        assert!(printed.contains(real.to_str().unwrap()), "{printed}");
        assert_eq!(folder.files(), before);
    }

    let hard = folder.path("hard.db");
    fs::hard_link(&real, &hard).unwrap();
    for name in [&real, &hard] {
        refuses(&folder, name, StorageErrorKind::Io, "2 names (hard links)").await;
    }
    assert_eq!(counter.increment().await.unwrap(), 2, "a link made meanwhile does no harm");
    runtime.shutdown(SECOND).await.unwrap();
    refuses(&folder, &hard, StorageErrorKind::Io, "remove the other names").await;
    fs::remove_file(hard).unwrap();
    for (name, value) in names.iter().zip(3..) {
        assert_eq!(visit(&folder.path(name)).await.unwrap(), value, "one state: {name}");
    }
}

#[tokio::test]
async fn a_name_in_other_letters_is_another_file_where_the_file_system_says_so() {
    let folder = Folder::new();
    let runtime = Runtime::open(folder.path("game.db")).await.unwrap();
    let other = folder.path("GAME.db");
    if other.exists() {
        refuses(&folder, &other, StorageErrorKind::Locked, "in use by process").await;
    } else {
        assert_eq!(visit(&other).await.unwrap(), 1);
    }
    runtime.shutdown(SECOND).await.unwrap();
}

#[tokio::test]
async fn names_that_sqlite_would_not_take_for_a_path_are_refused() {
    for (name, words) in [
        ("", "the path is empty; name a file"),
        (":memory:", "`Runtime::in_memory`"),
        ("file:game.db", "this is a URI"),
        ("file::memory:?cache=shared", "this is a URI"),
        ("sqlite://game.db", "this is a URI"),
    ] {
        let error = visit(Path::new(name)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert_eq!(error.kind(), StorageErrorKind::Io, "{text}");
        assert!(!Path::new("game.db").exists() && !Path::new(":memory:.lock").exists(), "{text}");
    }
    // In a folder, such a name is a name like any other.
    let folder = Folder::new();
    for name in [":memory:", "file:game.db", "a?mode=ro.db", "100%25 #1.db", "Müller's \"x\" 🥙"]
    {
        let path = folder.path(name);
        assert_eq!(visit(&path).await.unwrap(), 1, "{name}");
        assert_eq!(visit(&path).await.unwrap(), 2, "{name}");
        assert!(path.exists(), "{name}");
    }
}

#[test]
fn a_relative_path_does_not_follow_the_working_directory() {
    let folder = Folder::new();
    let other = Folder::new();
    for (folder, values) in [(&folder, 1), (&other, 9)] {
        let mut command = Command::new(OPENER);
        command.args(["open", "state.db"]).current_dir(folder.path(""));
        for value in 1..=values {
            assert_eq!(output(&mut command).unwrap(), format!("value {value}\n"));
        }
    }
    let before = other.files();
    let mut command = Command::new(OPENER);
    command.arg("chdir").arg(folder.path("")).arg(other.path(""));
    assert_eq!(output(&mut command).unwrap(), "1 stored, 1 and 2\n");
    // A folder without a database stays empty.
    command = Command::new(OPENER);
    command.arg("chdir").arg(folder.path("")).arg(other.path("data"));
    assert_eq!(output(&mut command).unwrap(), "1 stored, 2 and 3\n");
    assert_eq!(other.files(), before);
}

/// A child that was forked has the lock of a process that has ended.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_refusal_names_the_process_that_has_the_lock_and_not_one_that_has_ended() {
    let folder = Folder::new();
    let path = folder.path("held.db");
    assert_eq!(visit(&path).await.unwrap(), 1);
    let lock = beside(&path, ".lock");
    let ended = "4194305";
    fs::write(&lock, format!("process {ended}\n")).unwrap();
    let holder = Opener::spawn(Command::new(OPENER).arg("lock").arg(&lock));
    assert_eq!(holder.first, "locked\n");
    let words = format!(
        "in use by process {}, which inherited the lock of process {ended}",
        holder.child.id()
    );
    refuses(&folder, &path, StorageErrorKind::Locked, &words).await;
    holder.end();
    assert_eq!(visit(&path).await.unwrap(), 2);
}

/// Removing the lock file does not let a second runtime in: the lock is on the file itself too.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_removed_lock_file_lets_no_second_runtime_in() {
    let folder = Folder::new();
    let path = folder.path("held.db");
    let holder = Opener::hold(&path);
    fs::remove_file(beside(&path, ".lock")).unwrap();
    refuses(&folder, &path, StorageErrorKind::Locked, "another process").await;
    holder.end();

    let runtime = Runtime::open(&path).await.unwrap();
    fs::remove_file(beside(&path, ".lock")).unwrap();
    refuses(&folder, &path, StorageErrorKind::Locked, "(this one)").await;
    drop(runtime);
    assert_eq!(visit(&path).await.unwrap(), 2);
}

/// Calls until a call fails, which it must within some seconds. Returns the last value that was
/// acknowledged.
async fn until_refused(counter: &CounterClient) -> (u64, StorageError) {
    let (begin, mut last) = (Instant::now(), 0);
    loop {
        match counter.increment().await {
            Ok(value) => last = value,
            Err(CallError::Storage { source, .. }) => return (last, source),
            Err(other) => panic!("{other}"),
        }
        assert!(begin.elapsed() < 20 * SECOND, "nobody notices");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_removed_replaced_or_emptied_while_open_ends_commits() {
    async fn round(suffix: &'static str, event: &'static str) {
        let folder = Folder::new();
        let path = folder.path("open.db");
        visit(&path).await.unwrap();
        let runtime = Runtime::open(&path).await.unwrap();
        let counter = runtime.at::<Counter>("a", ());
        counter.increment().await.unwrap();
        let file = beside(&path, suffix);
        match event {
            "removed" => fs::remove_file(&file).unwrap(),
            "emptied" => File::options().write(true).open(&file).unwrap().set_len(0).unwrap(),
            _ => {
                let other = folder.path("other");
                fs::copy(&file, &other).unwrap();
                fs::rename(&other, &file).unwrap();
            }
        }
        let (last, error) = until_refused(&counter).await;
        assert_eq!(error.kind(), StorageErrorKind::FileChanged, "{error}");
        let words = format!("{} was {event}", file.display());
        assert!(error.to_string().contains(&words), "{suffix} {event}: {error}");
        // It stays so, and what was stored is still read.
        assert!(counter.increment().await.is_err(), "{suffix} {event}");
        assert_eq!(counter.value().await.unwrap(), last, "{suffix} {event}");
        runtime.shutdown(SECOND).await.unwrap();
        if event == "emptied" {
            assert_eq!(visit(&path).await.unwrap_err().kind(), StorageErrorKind::Corrupt);
        } else if !suffix.is_empty() {
            // The file has everything that the log had.
            let runtime = Runtime::open(&path).await.unwrap();
            let value = runtime.at::<Counter>("a", ()).value().await.unwrap();
            assert_eq!(value, last, "{suffix} {event}");
        }
    }

    let rounds = [
        ("", "removed"),
        ("", "replaced"),
        ("", "emptied"),
        ("-wal", "removed"),
        ("-wal", "replaced"),
        ("-wal", "emptied"),
        (".lock", "removed"),
        (".lock", "replaced"),
    ];
    let rounds = rounds.map(|(suffix, event)| tokio::spawn(round(suffix, event)));
    futures::future::join_all(rounds).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_log_that_another_program_empties_in_order_ends_no_commits() {
    let folder = Folder::new();
    let path = folder.path("open.db");
    let runtime = Runtime::open(&path).await.unwrap();
    let counter = runtime.at::<Counter>("a", ());
    let begin = Instant::now();
    let other = Connection::open(&path).unwrap();
    let mut last = 0;
    // Longer than it takes to notice a change.
    while begin.elapsed() < SECOND * 5 / 4 {
        last = counter.increment().await.unwrap();
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }
    drop(other);
    runtime.shutdown(SECOND).await.unwrap();
    assert_eq!(visit(&path).await.unwrap(), last + 1);
}

#[tokio::test]
async fn a_copy_without_its_log_does_not_open_and_whole_copies_do() {
    let folder = Folder::new();
    let path = folder.path("live.db");
    visit(&path).await.unwrap();
    let holder = Opener::hold(&path);
    let [alone, whole, vacuumed, older] =
        ["alone.db", "whole.db", "vacuumed.db", "older.db"].map(|name| folder.path(name));
    copy(&path, &alone, &[""]);
    copy(&path, &whole, &["", "-wal"]);
    run_sql(&path, &format!("VACUUM INTO '{}'", vacuumed.display()));
    assert_eq!(holder.end(), "value 2\n");

    refuses(&folder, &alone, StorageErrorKind::Corrupt, "incomplete without its write-ahead log")
        .await;
    // The advice of the error.
    run_sql(&alone, &format!("VACUUM INTO '{}'", older.display()));
    assert_eq!(visit(&older).await.unwrap(), 2);
    // The missing log, put back.
    copy(&whole, &alone, &["-wal"]);
    for copied in [&alone, &whole, &vacuumed] {
        assert_eq!(visit(copied).await.unwrap(), 3, "{}", copied.display());
    }
    // A closed database is one file.
    let closed = folder.path("closed.db");
    copy(&path, &closed, &[""]);
    assert_eq!(visit(&closed).await.unwrap(), 3);
}

#[tokio::test]
async fn a_killed_database_needs_its_log_unless_another_program_has_moved_it_into_the_file() {
    let folder = Folder::new();
    let path = folder.path("killed.db");
    let log = beside(&path, "-wal");
    Opener::hold(&path).kill();
    let kept = folder.path("kept");
    fs::rename(&log, &kept).unwrap();
    refuses(&folder, &path, StorageErrorKind::Corrupt, "which is missing or empty").await;
    File::create(&log).unwrap();
    refuses(&folder, &path, StorageErrorKind::Corrupt, "which is missing or empty").await;
    fs::rename(&kept, &log).unwrap();
    run_sql(&path, "SELECT count(*) FROM servers");
    assert!(!log.exists(), "the last program that closes a database removes its log");
    assert_eq!(visit(&path).await.unwrap(), 2);
}

#[tokio::test]
async fn a_backup_beside_an_old_log_is_refused() {
    let folder = Folder::new();
    let (path, backup) = (folder.path("game.db"), folder.path("backup.db"));
    visit(&path).await.unwrap();
    run_sql(&path, &format!("VACUUM INTO '{}'", backup.display()));
    Opener::hold(&path).kill();
    copy(&backup, &path, &[""]);
    let words = "belongs to another file";
    refuses(&folder, &path, StorageErrorKind::Corrupt, words).await;
    assert_eq!(fs::read(&path).unwrap(), fs::read(&backup).unwrap());
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(beside(&path, suffix)).unwrap();
    }
    assert_eq!(visit(&path).await.unwrap(), 2);
}

#[tokio::test]
async fn an_error_of_opening_names_the_path_says_what_to_do_and_leaves_no_file_behind() {
    let folder = Folder::new();
    fs::write(folder.path("text.db"), "no database at all, but some text ".repeat(99)).unwrap();
    run_sql(&folder.path("foreign.db"), "PRAGMA journal_mode = WAL; CREATE TABLE diary (day TEXT)");
    visit(&folder.path("newer.db")).await.unwrap();
    run_sql(&folder.path("newer.db"), "PRAGMA user_version = 99");
    fs::remove_file(folder.path("newer.db.lock")).unwrap();
    let long = format!("{}.db", "long".repeat(50));
    let deep = format!("{0}/{0}", "deep".repeat(40));
    fs::create_dir_all(folder.path(&deep)).unwrap();

    for (name, kind, words) in [
        ("no/such/folder/game.db", StorageErrorKind::Io, "does not exist; create it first"),
        ("data", StorageErrorKind::Io, "this is a folder; name a file in it"),
        ("data/..", StorageErrorKind::Io, "this is a folder; name a file in it"),
        ("text.db/game.db", StorageErrorKind::Io, "cannot follow the path; correct it"),
        (&*format!("{deep}/{long}"), StorageErrorKind::Io, "choose a shorter path"),
        ("text.db", StorageErrorKind::NotADatabase, "; open another file"),
        ("foreign.db", StorageErrorKind::NotADatabase, "another program; open another file"),
        ("newer.db", StorageErrorKind::NewerFormat, "upgrade the program"),
    ] {
        refuses(&folder, &folder.path(name), kind, words).await;
    }
    let longest = format!("{deep}/{}", "long".repeat(50));
    let longest = folder.path(&longest[..504 - folder.path("").as_os_str().len()]);
    assert_eq!(visit(&longest).await.expect("the longest path"), 1);
    if cfg!(unix) {
        let error = visit(Path::new("/dev/null")).await.unwrap_err().to_string();
        assert!(error.contains("database /dev/null: this is not a regular file"), "{error}");
        assert!(!Path::new("/dev/null.lock").exists());
    }
}

/// As root there is no permission that is missing, so the program runs as another user then.
#[cfg(unix)]
#[tokio::test]
async fn missing_permissions_are_named() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let folder = Folder::new();
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set(&folder.path(""), 0o777).unwrap();
    let program = folder.path("program");
    fs::copy(OPENER, &program).unwrap();
    let is_root = fs::metadata(&program).unwrap().uid() == 0;
    let open = |path: &Path| {
        let mut command = Command::new(if is_root { "setpriv" } else { "env" });
        if is_root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        }
        output(command.arg(&program).arg("open").arg(path))
    };
    let closed = folder.path("data");
    let file = folder.path("file.db");
    visit(&file).await.unwrap();
    visit(&folder.path("data/in.db")).await.unwrap();
    for (path, lock, main, parent) in [
        (&file, 0o666, 0o444, 0o777),
        (&file, 0o444, 0o666, 0o777),
        (&folder.path("data/new.db"), 0o666, 0o666, 0o555),
        (&folder.path("data/in.db"), 0o666, 0o666, 0o555),
        (&folder.path("data/in.db"), 0o666, 0o666, 0o000),
    ] {
        for database in [&file, &folder.path("data/in.db")] {
            set(&beside(database, ".lock"), lock).unwrap();
            set(database, main).unwrap();
        }
        set(&closed, parent).unwrap();
        let printed = open(path);
        set(&closed, 0o777).unwrap();
        let Some(printed) = printed else { return };
        let words = if parent == 0 { "permissions of its folders" } else { "this user" };
        assert!(printed.starts_with("refused: cannot open database /"), "{printed}");
        assert!(printed.contains(path.to_str().unwrap()), "{printed}");
        assert!(printed.contains(words), "{printed}");
        assert!(!folder.path("data/new.db").exists() && !folder.path("data/new.db.lock").exists());
    }
    assert_eq!(visit(&file).await.unwrap(), 2, "nothing has changed");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_read_only_file_system_and_a_full_one_are_named() {
    let folder = Folder::new();
    let path = folder.path("data/game.db");
    visit(&path).await.unwrap();
    let before = folder.files();
    let script =
        r#"cd "${1%/*}"; mount --bind -o ro . .; mount -o remount,ro,bind .; "$0" open "$1""#;
    if let Some(printed) = in_namespace(script, &path) {
        assert!(printed.contains("make its file system writable"), "{printed}");
        assert!(printed.contains(path.to_str().unwrap()), "{printed}");
    }
    // The first block is for the lock file.
    let script = r#"cd "${1%/*}"; mount -t tmpfs -o size=8k tmpfs .; "$0" open "$1"; ls "${1%/*}""#;
    if let Some(printed) = in_namespace(script, &path) {
        assert!(printed.contains("free some space"), "{printed}");
        assert!(printed.contains(path.to_str().unwrap()), "{printed}");
        assert!(!printed.contains(".lock"), "{printed}");
    }
    assert_eq!(folder.files(), before);
    assert_eq!(visit(&path).await.unwrap(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn exhausted_descriptors_are_named() {
    let folder = Folder::new();
    let path = folder.path("data/game.db");
    for is_new in [true, false] {
        let before = folder.files();
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -n 64; "$0" descriptors "$1""#, OPENER]);
        let printed = output(command.arg(&path)).unwrap();
        let mut lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines.pop(), Some("opened"), "{printed}");
        assert!(lines.len() > 5, "{printed}");
        for line in lines {
            assert!(line.contains("raise the limit of open files"), "{line}");
            assert!(line.contains(path.to_str().unwrap()), "{line}");
        }
        if !is_new {
            assert_eq!(folder.files(), before);
        }
    }
}

#[tokio::test]
async fn opening_waits_for_the_lock_as_long_as_it_may() {
    let folder = Folder::new();
    let path = folder.path("game.db");
    let old = Opener::hold(&path);
    let short = Runtime::builder().wait_for_lock(Duration::from_millis(50)).open(&path);
    let error = storage(short.await.unwrap_err());
    assert_eq!(error.kind(), StorageErrorKind::Locked, "{error}");
    assert!(error.to_string().contains(&format!("process {}", old.child.id())), "{error}");

    let new = Runtime::builder().wait_for_lock(60 * SECOND).open(&path);
    let mut new = std::pin::pin!(new);
    // One attempt at least has failed.
    assert!(tokio::time::timeout(SECOND / 10, &mut new).await.is_err());
    assert_eq!(old.end(), "value 1\n");
    let new = new.await.unwrap();
    assert_eq!(new.at::<Counter>("a", ()).increment().await.unwrap(), 2);
    // Within one process, on a runtime with one thread.
    let newer = Runtime::builder().wait_for_lock(60 * SECOND).open(&path);
    let (newer, stopped) = tokio::join!(newer, new.shutdown(SECOND));
    stopped.unwrap();
    assert_eq!(newer.unwrap().at::<Counter>("a", ()).increment().await.unwrap(), 3);
}

/// The clock advances whenever no task can run, but not while a commit is written.
#[tokio::test(start_paused = true)]
async fn calls_meet_their_deadlines_under_a_paused_clock() {
    let folder = Folder::new();
    let runtime = Runtime::open(folder.path("paused.db")).await.unwrap();
    let begin = tokio::time::Instant::now();
    for call in 0..100 {
        let counter = runtime.at::<Counter>(format!("{}", call % 20), ());
        counter.with_timeout(Duration::from_millis(1)).increment().await.unwrap();
        if call % 7 == 0 {
            counter.kill().await.unwrap();
        }
    }
    let calls = (0..64).map(|key| {
        let counter = runtime.at::<Counter>(format!("m{key}"), ());
        async move { counter.with_timeout(Duration::from_millis(1)).increment().await }
    });
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(begin.elapsed(), Duration::ZERO, "no time has passed");
    tokio::time::sleep(Duration::from_hours(24)).await;
    assert_eq!(runtime.count::<Counter>().await.unwrap().stored, 84);
    runtime.shutdown(Duration::from_millis(1)).await.unwrap();
    let runtime = Runtime::open(folder.path("paused.db")).await.unwrap();
    assert_eq!(runtime.at::<Counter>("0", ()).value().await.unwrap(), 5);
}

/// Shuts down its own runtime, whose shutdown waits for it.
#[derive(Default, Serialize, Deserialize)]
struct Halting;

#[persistent_server]
impl Halting {
    pub async fn halt(&mut self) {
        let runtime = RUNTIME.get().expect("a runtime");
        let _ = runtime.shutdown(Duration::from_millis(10)).await;
    }
}

static RUNTIME: std::sync::OnceLock<Runtime> = std::sync::OnceLock::new();

#[test]
fn a_shutdown_from_a_handler_releases_the_file() {
    let done = finishes(false, || async {
        let folder = Folder::new();
        let path = folder.path("halting.db");
        RUNTIME.set(Runtime::open(&path).await.unwrap()).unwrap();
        let halting = RUNTIME.get().unwrap().at::<Halting>("a", ());
        halting.halt().await.unwrap();
        let next = Runtime::builder().wait_for_lock(60 * SECOND).open(&path).await;
        next.expect("the runtime that was shut down has released the file");
    });
    assert!(done);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_database_can_be_read_by_its_user_only() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let path = folder.path("data/own.db");
    let modes = || {
        let mode = |(path, _): (PathBuf, bool)| {
            (path.is_file()).then(|| path.metadata().unwrap().permissions().mode() & 0o777)
        };
        folder.files().into_iter().filter_map(mode).collect::<Vec<_>>()
    };
    let runtime = Runtime::open(&path).await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    assert_eq!(modes(), [0o600; 4], "the file, its log, the log's index and the lock file");
    runtime.shutdown(SECOND).await.unwrap();
    // The permissions of a file that exists are its user's choice.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(visit(&path).await.unwrap(), 2);
    assert!(modes().contains(&0o640));
}

/// Every change that was acknowledged before a backup began is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_every_change_that_was_committed_before() {
    let folder = Folder::new();
    let runtime = Runtime::open(folder.path("busy.db")).await.unwrap();
    let counters: Vec<_> = (0..8).map(|n| runtime.at::<Counter>(n.to_string(), ())).collect();
    for counter in &counters {
        counter.increment().await.unwrap();
    }
    let load = async |counter: &CounterClient| loop {
        counter.increment().await.unwrap();
    };
    let backups = async {
        let mut before = Vec::new();
        for nth in 0..3 {
            let mut values = Vec::new();
            for counter in &counters {
                values.push(counter.value().await.unwrap());
            }
            runtime.backup(folder.path(&format!("copy {nth}.db"))).await.unwrap();
            before.push(values);
        }
        before
    };
    let before = tokio::select! {
        before = backups => before,
        () = async { tokio::join!(load(&counters[0]), load(&counters[5])); } => unreachable!(),
    };
    runtime.shutdown(SECOND).await.unwrap();
    for (nth, before) in before.iter().enumerate() {
        let copy = Runtime::open(folder.path(&format!("copy {nth}.db"))).await.unwrap();
        for (key, before) in before.iter().enumerate() {
            let value = copy.find::<Counter>(key.to_string()).await.unwrap().value().await.unwrap();
            assert!(value >= *before, "copy {nth}: {value} after {before}");
            assert!(value == 1 || [0, 5].contains(&key));
        }
        assert_eq!(copy.count::<Counter>().await.unwrap().stored, 8);
        copy.shutdown(SECOND).await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_that_fails_says_why_and_leaves_nothing() {
    let folder = Folder::new();
    let runtime = Runtime::open(folder.path("data/busy.db")).await.unwrap();
    runtime.at::<Counter>("a", ()).increment().await.unwrap();
    fs::write(folder.path("taken.db"), "something else").unwrap();
    let before = folder.files();
    for (name, words) in [
        ("taken.db", "a backup replaces none"),
        ("data/busy.db", "a backup replaces none"),
        ("no such folder/copy.db", "check the file and its folder"),
        ("data", "a backup replaces none"),
    ] {
        let error = runtime.backup(folder.path(name)).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
        assert_eq!(folder.files(), before, "{name}");
    }
    assert_eq!(fs::read(folder.path("taken.db")).unwrap(), b"something else");
    // Two at once to one path: the slower one replaces nothing.
    let copy = folder.path("copy.db");
    let (one, two) = tokio::join!(runtime.backup(&copy), runtime.backup(&copy));
    assert!(one.is_ok() != two.is_ok(), "{one:?}, {two:?}");
    assert_eq!(folder.files().len(), before.len() + 1);
    assert_eq!(visit(&copy).await.unwrap(), 2);
    runtime.shutdown(SECOND).await.unwrap();

    let runtime = Runtime::in_memory().await.unwrap();
    let error = runtime.backup(folder.path("copy.db")).await.unwrap_err();
    assert_eq!(error.to_string(), "this storage writes no backups");
}
