//! Concurrent callers, their throughput and their latencies.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{runtime, task::JoinSet};

/// Throughput and latency as the callers measured them.
pub struct Load {
    /// Calls per second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50: f64,
    /// The 99th percentile of the latency in microseconds.
    pub p99: f64,
    /// The longest latency in microseconds.
    pub max: f64,
}

/// When callers stop: at the first limit that is reached.
#[derive(Clone, Copy)]
pub struct Limit {
    pub time: Duration,
    pub calls: u64,
}

impl Limit {
    pub fn time(time: Duration) -> Self {
        Self { time, calls: u64::MAX }
    }

    pub fn calls(calls: u64) -> Self {
        Self { time: Duration::MAX, calls }
    }
}

impl Load {
    /// Summarizes latencies in microseconds, of which there is at least one.
    pub fn new(mut latencies: Vec<f32>, calls: u64, elapsed: Duration) -> Self {
        latencies.sort_unstable_by(f32::total_cmp);
        let percentile = |percent: usize| {
            let nth = (latencies.len() * percent / 100).min(latencies.len() - 1);
            f64::from(latencies[nth])
        };
        let [p50, p99, max] = [50, 99, 100].map(percentile);
        Self { rate: per_second(calls, elapsed), p50, p99, max }
    }

    /// Measures one caller without a runtime. Each call counts as `weight` calls.
    pub fn blocking(limit: Limit, weight: u64, mut call: impl FnMut(u64)) -> Self {
        let (begin, mut latencies) = (Instant::now(), Vec::new());
        let mut calls = 0;
        while calls < limit.calls && begin.elapsed() < limit.time {
            let sent = Instant::now();
            call(calls);
            latencies.push(microseconds(sent.elapsed()));
            calls += 1;
        }
        Self::new(latencies, calls * weight, begin.elapsed())
    }

    /// Measures `callers` callers, one task per caller. Passes to `call` the number of the
    /// caller and the number of the call among those of all callers.
    pub async fn concurrent<F: Future + Send>(
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
                    let sent = Instant::now();
                    call(caller, nth).await;
                    latencies.push(microseconds(sent.elapsed()));
                }
                latencies
            });
        }
        let latencies = tasks.join_all().await.concat();
        let calls = latencies.len() as u64;
        Self::new(latencies, calls, begin.elapsed())
    }
}

/// Returns a runtime with two worker threads, however many cores the machine has: figures
/// of different machines stay comparable.
pub fn two_workers() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()
}

#[expect(clippy::cast_precision_loss, reason = "no count of a benchmark comes near 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    float(count) / elapsed.as_secs_f64()
}

/// Returns a latency for [`Load::new`]. A run holds many of them, so they are stored in 4 bytes.
pub fn microseconds(latency: Duration) -> f32 {
    latency.as_secs_f32() * 1e6
}

/// Returns a pseudorandom number that depends on `nth` alone (`SplitMix64`).
pub fn random(nth: u64) -> u64 {
    let mut mixed = nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns a number below `of` that differs for each `nth` below `of`. Neighbours are far apart.
/// The factor is a prime, of which no number of servers is a multiple.
pub fn scattered(nth: u64, of: u64) -> u64 {
    nth * 15_485_863 % of
}
