//! The memory of idle servers, measured in a process that does nothing else.

use std::{fs, sync::Arc, time::Duration};

use persistent_runtime::{Commit, Record, Runtime, ServerId, Storage, StorageFuture};

use crate::{
    Fallible,
    actors::{Actix, Kameo, Ractor},
    calls::two_workers,
    peers::{Channel, Lock, Peer, This},
};

pub const THIS: &str = "this";
/// Of the first, all clients are dropped; of all others they are kept.
pub const KINDS: [&str; 7] = [THIS, "with_client", "channel", "mutex", "kameo", "ractor", "actix"];

/// Prints how many bytes one of `count` idle servers takes.
pub fn run(kind: &str, count: u32) -> Fallible<()> {
    let runtime = two_workers()?;
    let bytes = runtime.block_on(async {
        // Rows in memory are the storage's, not the servers'.
        let nowhere = Runtime::builder().open_with(Nowhere).await?;
        match kind {
            THIS => measure::<This>(&nowhere, false, count).await,
            "with_client" => measure::<This>(&nowhere, true, count).await,
            "channel" => measure::<Channel>(&(), true, count).await,
            "mutex" => measure::<Lock>(&(), true, count).await,
            "kameo" => measure::<Kameo>(&(), true, count).await,
            "ractor" => measure::<Ractor>(&(), true, count).await,
            "actix" => measure::<Actix>(&Actix::home(false).await, true, count).await,
            _ => Err("no such kind".into()),
        }
    })?;
    println!("{bytes}");
    // Taking all of it down again is of no interest.
    std::process::exit(0)
}

async fn measure<P: Peer>(home: &P::Home, keep: bool, count: u32) -> Fallible<f64> {
    P::spawn(home, 0).await.ask().await;
    let mut kept = Vec::new();
    let before = resident()?;
    for key in 1..=count {
        let server = P::spawn(home, key).await;
        server.ask().await;
        if keep {
            kept.push(server);
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok((resident()? - before) / f64::from(count))
}

/// Bytes of this process in memory.
fn resident() -> Fallible<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.ok_or("no VmRSS")?.parse::<f64>()? * 1024.0)
}

/// Accepts all commits and stores none.
struct Nowhere;

impl Storage for Nowhere {
    fn load<'a>(&'a self, _: &'a ServerId) -> StorageFuture<'a, Option<Record>> {
        Box::pin(async { Ok(None) })
    }

    fn commit(&self, _: Commit) -> StorageFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn kinds<'a>(&'a self, _: Option<&'a str>, _: usize) -> StorageFuture<'a, Vec<Arc<str>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn keys<'a>(
        &'a self,
        _: &'a str,
        _: Option<&'a str>,
        _: usize,
    ) -> StorageFuture<'a, Vec<Arc<str>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn due<'a>(
        &'a self,
        _: &'a str,
        _: Option<(u64, &'a str)>,
        _: usize,
    ) -> StorageFuture<'a, Vec<(u64, Arc<str>)>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn count<'a>(&'a self, _: &'a str) -> StorageFuture<'a, u64> {
        Box::pin(async { Ok(0) })
    }
}
