//! Opens databases in a process of its own. The first argument says what to do:
//!
//! - `open PATH` opens the database, adds one to a counter, shuts down, and prints `value N`.
//! - `hold PATH` does the same, but shuts down only when its input ends.
//! - `lock PATH` locks a file until its input ends, and prints `locked`.
//! - `chdir FIRST SECOND` opens `state.db` in one folder and uses it from the other.
//! - `descriptors PATH` opens the database with ever more free descriptors until it opens.
//!
//! A database that does not open is printed as `refused: …`.

use std::{env, fs::File, io, path::Path, time::Duration};

use persistent_runtime::{Client, OpenError, Runtime};
use persistent_tests::Counter;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["open", path] => report(open(path.as_ref(), || {}).await),
        ["hold", path] => {
            let hold = || {
                println!("open");
                io::copy(&mut io::stdin(), &mut io::sink()).expect("an input");
            };
            report(open(path.as_ref(), hold).await);
        }
        ["lock", path] => {
            let file = File::open(path).expect("a file");
            file.lock().expect("no other lock");
            println!("locked");
            io::copy(&mut io::stdin(), &mut io::sink()).expect("an input");
        }
        ["chdir", first, second] => chdir(first.as_ref(), second.as_ref()).await,
        ["descriptors", path] => descriptors(path.as_ref()).await,
        _ => panic!("unknown arguments: {arguments:?}"),
    }
}

/// Adds one to a counter, waits for `hold`, and returns the value.
async fn open(path: &Path, hold: impl FnOnce()) -> Result<u64, OpenError> {
    let runtime = Runtime::open(path).await?;
    let value = runtime.at::<Counter>("a", ()).increment().await.expect("the storage works");
    hold();
    runtime.shutdown(SECOND).await.expect("no server is busy");
    Ok(value)
}

fn report(opened: Result<u64, OpenError>) {
    match opened {
        Ok(value) => println!("value {value}"),
        Err(error) => println!("refused: {error}"),
    }
}

async fn chdir(first: &Path, second: &Path) {
    env::set_current_dir(first).expect("a folder");
    let runtime = Runtime::open("state.db").await.expect("a database");
    // Before any reader is open.
    env::set_current_dir(second).expect("a folder");
    let counter = runtime.at::<Counter>("a", ());
    let before = counter.value().await.expect("the storage works");
    let count = runtime.count::<Counter>().await.expect("the storage works").stored;
    counter.increment().await.expect("the storage works");
    counter.kill().await.expect("a server");
    let after = counter.value().await.expect("the storage works");
    runtime.shutdown(SECOND).await.expect("no server is busy");
    println!("{count} stored, {before} and {after}");
}

async fn descriptors(path: &Path) {
    // The runtime's thread for blocking tasks.
    tokio::task::spawn_blocking(|| {}).await.expect("a thread");
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    loop {
        match Runtime::open(path).await {
            Ok(_) => return println!("opened"),
            Err(error) => println!("refused: {error}"),
        }
        files.pop().expect("fewer descriptors than the limit suffice");
    }
}
