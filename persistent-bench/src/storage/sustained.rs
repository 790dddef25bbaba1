//! A sustained load on very many stored servers, with the sizes of the files during it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use persistent_runtime::Runtime;

use super::{
    files::{commit_log_megabytes, megabytes},
    raw::{Raw, State},
    scale::{BATCH, Scale},
    servers::{Meter, MeterClient},
};
use crate::{
    Fallible,
    load::{Limit, Load, float, per_second, random, two_workers},
    report::{LoadSample, Report, SustainedFigures},
};

/// The number of samples of throughput and file sizes during a load. The sample at the end of
/// the load is counted but not reported.
const SAMPLES: u32 = 20;

/// Stores the servers at `this` and in plain tables at `other`, prints the table, and adds its
/// ratios and figures to the report. Returns the plain tables.
pub fn run(scale: Scale, this: &Path, other: &Path, report: &mut Report) -> Fallible<Raw> {
    let tokio = two_workers()?;
    let raw = Raw::upserts(other)?;
    let mut state = State::new(&Meter::default())?;
    let every: Vec<u64> = (0..scale.servers).collect();
    for keys in every.chunks(10_000) {
        raw.commit(keys.iter().copied(), &mut state)?;
    }

    let runtime = tokio.block_on(Runtime::open(this))?;
    let servers: Arc<[MeterClient]> =
        every.iter().map(|key| runtime.at::<Meter>(key.to_string(), ())).collect();
    let call = {
        let servers = servers.clone();
        move |_, nth| {
            let server = usize::try_from(nth).ok().and_then(|nth| servers.get(nth)).cloned();
            async move { server.expect("a server").count().await.expect("a commit") }
        }
    };
    let all = Limit::calls(scale.servers);
    tokio.block_on(Load::concurrent(4096, all, call));

    let mut upsert = |time| {
        sustain(other, time, SAMPLES / 2, |calls, time| {
            let begin = Instant::now();
            while begin.elapsed() < time {
                let first = calls.load(Relaxed);
                let keys = (first..first + BATCH).map(|nth| random(nth) % scale.servers);
                raw.commit(keys, &mut state).expect("a commit");
                calls.fetch_add(BATCH, Relaxed);
            }
        })
    };
    // Half of the upserts before this library and half after it.
    let mut upserts = upsert(scale.sustained / 2)?;
    let engine = sustain(this, scale.sustained, SAMPLES, |calls, time| {
        let servers = servers.clone();
        let calls = calls.clone();
        let call = move |_, nth| {
            let server = usize::try_from(random(nth) % scale.servers).map(|n| servers[n].clone());
            let calls = calls.clone();
            async move {
                server.expect("a server").add().await.expect("a commit");
                calls.fetch_add(1, Relaxed);
            }
        };
        tokio.block_on(Load::concurrent(BATCH, Limit::time(time), call));
    })?;
    upserts.append(upsert(scale.sustained / 2)?);
    compare(scale, &engine, &upserts, report);
    report.plots.sustained =
        Some(SustainedFigures { this: engine.samples, upserts: upserts.samples });

    drop(servers);
    tokio.block_on(runtime.shutdown(Duration::from_mins(2)))?;
    Ok(raw)
}

/// The result of a sustained load.
struct Sustained {
    samples: Vec<LoadSample>,
    calls: u64,
    elapsed: Duration,
    /// The number of bytes that this process wrote.
    bytes: u64,
}

impl Sustained {
    fn rate(&self) -> f64 {
        per_second(self.calls, self.elapsed)
    }

    fn bytes_per_call(&self) -> f64 {
        float(self.bytes) / float(self.calls)
    }

    fn peak(&self, figure: impl Fn(&LoadSample) -> f64) -> f64 {
        self.samples.iter().map(figure).fold(0.0, f64::max)
    }

    fn append(&mut self, later: Self) {
        let shift = self.elapsed.as_secs_f64();
        let shifted = |sample: LoadSample| LoadSample { seconds: sample.seconds + shift, ..sample };
        self.samples.extend(later.samples.into_iter().map(shifted));
        self.calls += later.calls;
        self.elapsed += later.elapsed;
        self.bytes += later.bytes;
    }
}

/// Runs a load that counts its calls. Samples throughput and file sizes during it.
fn sustain(
    path: &Path,
    time: Duration,
    samples: u32,
    load: impl FnOnce(&Arc<AtomicU64>, Duration),
) -> Fallible<Sustained> {
    let calls = Arc::new(AtomicU64::new(0));
    let written = written()?;
    let begin = Instant::now();
    let (samples, elapsed) = thread::scope(|scope| {
        let samples = scope.spawn(|| watch(path, &calls, time / samples, samples - 1));
        load(&calls, time);
        let elapsed = begin.elapsed();
        (samples.join().expect("no panic"), elapsed)
    });
    let calls = calls.load(Relaxed);
    Ok(Sustained { samples, calls, elapsed, bytes: self::written()? - written })
}

fn watch(path: &Path, calls: &AtomicU64, pause: Duration, samples: u32) -> Vec<LoadSample> {
    let begin = Instant::now();
    let (mut seen, mut at) = (0, begin);
    let sample = |_| {
        thread::sleep(pause);
        let (now, count) = (Instant::now(), calls.load(Relaxed));
        let rate = per_second(count - seen, now - at);
        (seen, at) = (count, now);
        LoadSample {
            seconds: (now - begin).as_secs_f64(),
            rate,
            wal: megabytes(path, "-wal"),
            database: megabytes(path, ""),
            commit_log: commit_log_megabytes(path),
        }
    };
    (0..samples).map(sample).collect()
}

/// Returns the number of bytes that this process has written.
fn written() -> Fallible<u64> {
    let counters = fs::read_to_string("/proc/self/io")?;
    let line = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.ok_or("no count of written bytes")?.parse()?)
}

/// Prints the table and adds the ratios to the report.
fn compare(scale: Scale, engine: &Sustained, upserts: &Sustained, report: &mut Report) {
    println!(
        "\n{:?} of random changes to {} servers in memory by {BATCH} callers; `upserts` makes \
         {BATCH} changes per commit",
        scale.sustained, scale.servers
    );
    for title in ["seconds", "calls/s", "WAL MB", "log MB", "db MB", "upserts/s", "WAL MB", "db MB"]
    {
        print!("{title:>12}");
    }
    println!();
    for (this, other) in engine.samples.iter().zip(&upserts.samples) {
        print!(
            "{:>12.1}{:>12.0}{:>12.1}{:>12.1}{:>12.1}",
            this.seconds, this.rate, this.wal, this.commit_log, this.database
        );
        println!("{:>12.0}{:>12.1}{:>12.1}", other.rate, other.wal, other.database);
    }
    let ratio = engine.rate() / upserts.rate();
    let (bytes, other) = (engine.bytes_per_call(), upserts.bytes_per_call());
    println!(
        "{ratio:.2} times the throughput of upserts; {bytes:.0} and {other:.0} bytes written per call"
    );
    let third = engine.samples.len() / 3;
    let mean = |samples: &[LoadSample]| samples.iter().map(|sample| sample.rate).sum::<f64>();
    let first = mean(&engine.samples[..third]);
    let last = mean(&engine.samples[engine.samples.len() - third..]);
    report.set("sustained_vs_upsert", ratio);
    report.set("sustained_bytes_per_call", bytes);
    report.set("sustained_bytes_vs_upsert", bytes / other);
    report.set("sustained_last_vs_first_third", last / first);
    report.set("sustained_wal_peak_mb", engine.peak(|sample| sample.wal));
    report.set("sustained_journal_peak_mb", engine.peak(|sample| sample.commit_log));
}
