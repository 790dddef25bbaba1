//! Changes blocks in the database named by the first argument, and records each change
//! that it begins and each acknowledgement in the file `….receipts` next to the database.
//!
//! The other arguments are: a seed, the number of callers, the number of changes per
//! caller, the size of most changes in bytes, and `end` or `exit`, which says whether the
//! runtime is shut down at the end. The program prints `refused: …` if the runtime does
//! not open, `failed: …` for each call that fails, and `stuck: …` if a server keeps
//! failing.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    time::Duration,
};

use persistent_runtime::{CallError, Runtime, SqliteOptions, StopReason};
use persistent_tests::power::{AnyBlock, Random};
use tokio::task::JoinSet;

/// The number of keys that belong to one caller, and of keys that all callers share.
const OWN: usize = 6;
const SHARED: usize = 4;
/// Exceeds the longest run of consecutive faults.
const ATTEMPTS: u32 = 100;

struct Load {
    runtime: Runtime,
    receipts: File,
    changes: usize,
    bytes: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, seed, callers, changes, bytes, end] = &arguments[..] else {
        panic!("six arguments");
    };
    let seed: u64 = seed.parse().expect("a number");
    // With small limits the load reaches flushes, checkpoints and reclaims.
    let options = if seed.is_multiple_of(4) {
        SqliteOptions::new()
    } else {
        SqliteOptions::new().small_limits()
    };
    let runtime = match Runtime::builder().sqlite(options).open(path).await {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("refused: {error}");
            return;
        }
    };
    let load = Arc::new(Load {
        runtime,
        receipts: receipts(Path::new(path)),
        changes: changes.parse().expect("a number"),
        bytes: bytes.parse().expect("a number"),
    });
    let mut running = JoinSet::new();
    for caller in 0..callers.parse().expect("a number") {
        let random = Random::new(seed.wrapping_mul(1000).wrapping_add(caller));
        running.spawn(call(load.clone(), caller, random));
    }
    running.join_all().await;
    if end == "end" {
        load.runtime.shutdown(Duration::from_secs(30)).await.expect("all end");
    }
    println!("bye");
    std::process::exit(0);
}

fn receipts(path: &Path) -> File {
    let mut name = path.as_os_str().to_owned();
    name.push(".receipts");
    OpenOptions::new().append(true).create(true).open(name).expect("a file")
}

impl Load {
    /// Writes the line in one system call, so that it is one event of the recording.
    fn say(&self, line: String) {
        (&self.receipts).write_all(line.as_bytes()).expect("room");
    }

    fn done<T>(&self, result: Result<T, CallError>, line: impl FnOnce(T) -> String) {
        match result {
            Ok(value) => self.say(line(value)),
            Err(error) => println!("failed: {error}"),
        }
    }

    fn size(&self, random: &mut Random) -> usize {
        match random.within(0..100) {
            0..70 => random.within(0..self.bytes),
            70..97 => random.within(0..self.bytes * 16),
            _ => random.within(0..self.bytes * 300),
        }
    }
}

async fn call(load: Arc<Load>, caller: u64, mut random: Random) {
    let own = |index: usize| format!("own-{caller}-{index}");
    let mut turns = [0; OWN];
    for (index, turn) in turns.iter_mut().enumerate() {
        if let Ok(server) = AnyBlock::find(&load.runtime, &own(index)).await
            && let Ok(Ok(found)) = server.look(Duration::from_secs(5)).await
        {
            *turn = found;
        }
    }
    for _ in 0..load.changes {
        let bytes = load.size(&mut random);
        if random.chance(1, 3) {
            let key = format!("shared-{}", random.within(0..SHARED));
            load.say(format!("begin {key} 0"));
            let grown = AnyBlock::at(&load.runtime, &key).grow(bytes).await;
            load.done(grown, |turn| format!("done {key} {turn}"));
            continue;
        }
        let index = random.within(0..OWN);
        let (key, server) = (own(index), AnyBlock::at(&load.runtime, &own(index)));
        if random.chance(1, 12) {
            load.say(format!("begin {key} delete"));
            let is_deleted = random.chance(1, 2);
            let reason = if is_deleted { StopReason::Deleted } else { StopReason::Finished };
            let deleted = server.end(reason).await;
            load.done(deleted, |()| format!("done {key} delete"));
        } else {
            turns[index] += 1;
            load.say(format!("begin {key} {}", turns[index]));
            let set = server.set(turns[index], bytes).await;
            load.done(set, |turn| format!("done {key} {turn}"));
        }
    }
    // After any faults, every server works in the end.
    for (index, turn) in turns.iter_mut().enumerate() {
        let (key, server) = (own(index), AnyBlock::at(&load.runtime, &own(index)));
        for attempt in 1.. {
            *turn += 1;
            load.say(format!("begin {key} {turn}"));
            match server.set(*turn, 10).await {
                Ok(turn) => {
                    load.say(format!("done {key} {turn}"));
                    break;
                }
                Err(error) if attempt == ATTEMPTS => {
                    println!("stuck: {key}: {error}");
                    break;
                }
                Err(error) => println!("failed: {error}"),
            }
        }
    }
}
