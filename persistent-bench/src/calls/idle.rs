//! The memory of idle servers, measured in a process that does nothing else.

use std::{fs, ops::Bound, sync::Arc, time::Duration};

use persistent_runtime::{Commit, Record, Runtime, ServerId, Storage, StorageFuture};

use super::{
    actors::{Actix, Kameo, Ractor},
    peers::{Channel, Lock, Peer, This},
};
use crate::{Fallible, load::two_workers};

/// The argument that makes this program a child process of this part.
pub const IDLE: &str = "idle";
pub const THIS: &str = "this";
/// All clients of the first contender are dropped. Those of all others are kept.
pub const CONTENDERS: [&str; 7] =
    [THIS, "with_client", "channel", "mutex", "kameo", "ractor", "actix"];

/// Prints the resident bytes per server, of `count` idle servers.
pub fn print_idle_bytes(contender: &str, count: u32) -> Fallible<()> {
    let runtime = two_workers()?;
    let bytes = runtime.block_on(async {
        // A storage in memory would count as the servers' memory.
        let discarding = Runtime::builder().open_with(Discard).await?;
        match contender {
            THIS => bytes_per_server::<This>(&discarding, false, count).await,
            "with_client" => bytes_per_server::<This>(&discarding, true, count).await,
            "channel" => bytes_per_server::<Channel>(&(), true, count).await,
            "mutex" => bytes_per_server::<Lock>(&(), true, count).await,
            "kameo" => bytes_per_server::<Kameo>(&(), true, count).await,
            "ractor" => bytes_per_server::<Ractor>(&(), true, count).await,
            "actix" => bytes_per_server::<Actix>(&Actix::host(false).await, true, count).await,
            _ => Err("there is no such contender".into()),
        }
    })?;
    println!("{bytes}");
    // The shutdown of a million servers is not measured.
    std::process::exit(0)
}

async fn bytes_per_server<P: Peer>(host: &P::Host, keep: bool, count: u32) -> Fallible<f64> {
    P::spawn(host, 0).await.ask().await;
    let mut kept = Vec::new();
    let before = resident()?;
    for key in 1..=count {
        let server = P::spawn(host, key).await;
        server.ask().await;
        if keep {
            kept.push(server);
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok((resident()? - before) / f64::from(count))
}

/// Returns the resident memory of this process in bytes.
fn resident() -> Fallible<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.ok_or("no VmRSS")?.parse::<f64>()? * 1024.0)
}

/// A storage that accepts each commit and stores nothing.
struct Discard;

impl Storage for Discard {
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
        _: Bound<&'a str>,
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
