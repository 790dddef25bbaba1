//! Callers, and what they see.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

/// What callers saw.
pub struct Load {
    /// Calls a second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50: f64,
    /// That of the slowest of a hundred.
    pub p99: f64,
}

/// When callers stop.
#[derive(Clone, Copy)]
pub struct Limit {
    pub time: Duration,
    pub calls: u64,
}

impl Limit {
    pub fn time(time: Duration) -> Self {
        Self { time, calls: u64::MAX }
    }
}

impl Load {
    fn new(mut latencies: Vec<u32>, calls: u64, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let nth = (latencies.len() * percent / 100).min(latencies.len() - 1);
            f64::from(latencies[nth]) / 1e3
        };
        Self { rate: per_second(calls, elapsed), p50: percentile(50), p99: percentile(99) }
    }

    /// One caller, without a runtime. Each call counts for `weight`.
    pub fn alone(limit: Limit, weight: u64, mut call: impl FnMut(u64)) -> Self {
        let (begin, mut latencies) = (Instant::now(), Vec::new());
        let mut calls = 0;
        while calls < limit.calls && begin.elapsed() < limit.time {
            let asked = Instant::now();
            call(calls);
            latencies.push(since(asked));
            calls += 1;
        }
        Self::new(latencies, calls * weight, begin.elapsed())
    }

    /// Several callers, each in a task. `call` is told the caller's number and
    /// that of the call, among all.
    pub async fn from<F: Future + Send>(
        callers: u64,
        limit: Limit,
        call: impl Fn(u64, u64) -> F + Clone + Send + 'static,
    ) -> Self {
        let (begin, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (call, next) = (call.clone(), next.clone());
            tasks.spawn(async move {
                let mut latencies = Vec::new();
                while begin.elapsed() < limit.time {
                    let nth = next.fetch_add(1, Relaxed);
                    if nth >= limit.calls {
                        break;
                    }
                    let asked = Instant::now();
                    call(caller, nth).await;
                    latencies.push(since(asked));
                }
                latencies
            });
        }
        let latencies = tasks.join_all().await.concat();
        let calls = latencies.len() as u64;
        Self::new(latencies, calls, begin.elapsed())
    }
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// How many a second that is.
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    float(count) / elapsed.as_secs_f64()
}

/// In nanoseconds. There are very many latencies, and none of more than 4 s
/// matters by how much.
fn since(asked: Instant) -> u32 {
    u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// A number that looks like chance: the same each time for the same `nth`.
pub fn random(nth: u64) -> u64 {
    let mut mixed = nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
