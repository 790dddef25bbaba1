//! 100,000 servers on disk, of which a few are in memory: idle servers leave memory and
//! come back at the next call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed as RELAXED},
    },
    time::{Duration, Instant},
};

use persistent_runtime::{CallError, Runtime, persistent_server};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

const SERVERS: u64 = 100_000;
const CALLERS: usize = 512;

#[derive(Default, Serialize, Deserialize)]
struct Meter {
    reading: u64,
}

#[persistent_server(idle_timeout = "100ms")]
impl Meter {
    /// Adds to the reading and returns it.
    pub fn count(&mut self, units: u64) -> u64 {
        self.reading += units;
        self.reading
    }

    /// Returns the reading.
    pub fn reading(&self) -> u64 {
        self.reading
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let runtime = Runtime::open(folder.path().join("many.db")).await?;

    let most_live = Arc::new(AtomicUsize::new(0));
    let watch = tokio::spawn({
        let (runtime, most_live) = (runtime.clone(), most_live.clone());
        async move {
            while let Ok(count) = runtime.count::<Meter>().await {
                most_live.fetch_max(count.live, RELAXED);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });

    let begin = Instant::now();
    each(&runtime, |meter, n| async move { meter.count(n).await.map(drop) }).await?;
    println!("{SERVERS} servers created and changed in {:.1?}", begin.elapsed());

    tokio::time::sleep(Duration::from_millis(500)).await;
    let count = runtime.count::<Meter>().await?;
    println!("half a second later: {} stored, {} in memory", count.stored, count.live);

    let begin = Instant::now();
    let sum = Arc::new(AtomicU64::new(0));
    each(&runtime, |meter, _| {
        let sum = sum.clone();
        async move {
            sum.fetch_add(meter.reading().await?, RELAXED);
            Ok(())
        }
    })
    .await?;
    println!("all of them loaded and read in {:.1?}", begin.elapsed());
    assert_eq!(sum.load(RELAXED), (0..SERVERS).sum(), "every reading is correct");

    watch.abort();
    println!("at most {} were in memory at once", most_live.load(RELAXED));
    runtime.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// Runs `work` on every server, a few at a time.
async fn each<F: Future<Output = Result<(), CallError>> + Send + 'static>(
    runtime: &Runtime,
    work: impl Fn(MeterClient, u64) -> F,
) -> Result<(), CallError> {
    let mut tasks = JoinSet::new();
    for n in 0..SERVERS {
        if tasks.len() == CALLERS
            && let Some(done) = tasks.join_next().await
        {
            done.expect("no task panics")?;
        }
        tasks.spawn(work(runtime.at::<Meter>(n.to_string(), ()), n));
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics")?;
    }
    Ok(())
}
