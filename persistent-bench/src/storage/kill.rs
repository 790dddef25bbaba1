//! The time to open a database after its process was killed under full load.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use persistent_runtime::{Runtime, SqliteStorage};

use super::{
    files::{commit_log_megabytes, megabytes},
    scale::{BATCH, Scale},
    servers::Meter,
};
use crate::{
    Fallible,
    load::{Limit, Load, random, two_workers},
    report::Report,
};

/// The argument that makes this program a child process of this part.
pub const LOAD: &str = "load";

/// Changes random servers of `servers` stored ones until the process is killed, with as many
/// callers as in the sustained load. Prints a line once the load has lasted for `seconds`.
pub fn load_until_killed(path: &Path, servers: u64, seconds: u64) -> Fallible<()> {
    let tokio = two_workers()?;
    let runtime = tokio.block_on(Runtime::open(path))?;
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(seconds));
        println!("loaded");
    });
    let call = move |_, nth| {
        let server = runtime.at::<Meter>((random(nth) % servers).to_string(), ());
        async move { server.add().await.expect("a commit") }
    };
    tokio.block_on(Load::concurrent(BATCH, Limit::time(Duration::MAX), call));
    Ok(())
}

/// Kills a process under full load and opens its database, three times. Adds the longest time
/// to the report.
pub fn run(scale: Scale, path: &Path, report: &mut Report) -> Fallible<()> {
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let seconds = scale.sustained.as_secs().min(10) / 2;
        let mut child = Command::new(env::current_exe()?)
            .arg(LOAD)
            .arg(path)
            .args([scale.servers, seconds].map(|number| number.to_string()))
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let line = BufReader::new(output).lines().next();
        child.kill()?;
        child.wait()?;
        line.ok_or("the child has ended")??;
        let (wal, commit_log) = (megabytes(path, "-wal"), commit_log_megabytes(path));
        let begin = Instant::now();
        let storage = SqliteStorage::open(path)?;
        let elapsed = begin.elapsed();
        println!(
            "\nopened in {elapsed:.0?} after SIGKILL under full load: {wal:.0} MB of \
             write-ahead log, {commit_log:.0} MB of commit log"
        );
        longest = longest.max(elapsed);
        drop(storage);
    }
    report.set("open_after_kill_s", longest.as_secs_f64());
    Ok(())
}
