//! Very many stored servers: changed at random for long, and activated.

use std::{
    cell::RefCell,
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use persistent_runtime::{Runtime, SqliteStorage};
use rusqlite::{Connection, OpenFlags};

use crate::{
    Fallible,
    bench::{Contender, Report, interleave},
    calls::two_workers,
    load::{Limit, Load, float, per_second, random},
    plot,
    raw::{Raw, State},
    servers::{Meter, MeterClient},
    storage::{BATCH, Scale},
};

/// How often throughput and files are looked at while a load lasts; the look
/// at its end is left out.
const LOOKS: u32 = 20;
const MEGABYTE: f64 = 1e6;

/// What was seen at one look.
pub struct Look {
    pub seconds: f64,
    /// Calls a second since the look before.
    pub rate: f64,
    /// Of the files, in megabytes.
    pub wal: f64,
    pub database: f64,
    /// Of the rows of the journal.
    pub journal: f64,
}

pub fn run(scale: Scale, plot: Option<&Path>, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let (this, other) = (folder.path().join("this.db"), folder.path().join("raw.db"));
    let raw = Raw::upserts(&other)?;
    let mut state = State::new(&Meter::default())?;
    let every: Vec<u64> = (0..scale.servers).collect();
    for keys in every.chunks(10_000) {
        raw.commit(keys.iter().copied(), &mut state)?;
    }

    let runtime = tokio.block_on(Runtime::open(&this))?;
    let servers: Arc<[MeterClient]> =
        every.iter().map(|key| runtime.at::<Meter>(key.to_string(), ())).collect();
    let call = {
        let servers = servers.clone();
        move |_, nth| {
            let server = usize::try_from(nth).ok().and_then(|nth| servers.get(nth)).cloned();
            async move { server.expect("a server").count().await.expect("a commit") }
        }
    };
    let all = Limit { time: Duration::MAX, calls: scale.servers };
    tokio.block_on(Load::from(4096, all, call));

    let mut upsert = |time| {
        sustain(&other, time, LOOKS / 2, |calls, time| {
            let begin = Instant::now();
            while begin.elapsed() < time {
                let first = calls.load(Relaxed);
                let keys = (first..first + BATCH).map(|nth| random(nth) % scale.servers);
                raw.commit(keys, &mut state).expect("a commit");
                calls.fetch_add(BATCH, Relaxed);
            }
        })
    };
    // Before and after, half as long each.
    let mut upserts = upsert(scale.sustained / 2)?;
    let engine = sustain(&this, scale.sustained, LOOKS, |calls, time| {
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
        tokio.block_on(Load::from(BATCH, Limit::time(time), call));
    })?;
    upserts.append(upsert(scale.sustained / 2)?);
    sustained(scale, &engine, &upserts, report);
    if let Some(plot) = plot {
        fs::write(plot, plot::svg(&engine.looks, &upserts.looks))?;
    }

    drop(servers);
    tokio.block_on(runtime.shutdown(Duration::from_mins(2)))?;
    open_after_kill(scale, &this, report)?;
    cold(scale, &tokio, &this, &raw, report)
}

/// A process changes stored servers at random until it is killed: `servers` of
/// them, by as many callers as in the sustained load. It says when the load has
/// lasted for `seconds`.
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
    tokio.block_on(Load::from(BATCH, Limit::time(Duration::MAX), call));
    Ok(())
}

/// How long it takes to open what a process left behind that was killed under
/// full load: the longest of some times.
fn open_after_kill(scale: Scale, path: &Path, report: &mut Report) -> Fallible<()> {
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let seconds = scale.sustained.as_secs().min(10) / 2;
        let mut child = Command::new(env::current_exe()?)
            .arg("load")
            .arg(path)
            .args([scale.servers, seconds].map(|number| number.to_string()))
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let line = BufReader::new(output).lines().next();
        child.kill()?;
        child.wait()?;
        line.ok_or("the child has ended")??;
        let (wal, journal) = (megabytes(path, "-wal"), journal(path));
        let begin = Instant::now();
        let storage = SqliteStorage::open(path)?;
        let elapsed = begin.elapsed();
        println!(
            "\nopened in {elapsed:.0?} after SIGKILL under full load: {wal:.0} MB of WAL, \
             {journal:.0} MB of journal"
        );
        longest = longest.max(elapsed);
        drop(storage);
    }
    report.set("open_after_kill_s", longest.as_secs_f64());
    Ok(())
}

/// A load that lasted.
struct Sustained {
    looks: Vec<Look>,
    calls: u64,
    elapsed: Duration,
    /// What this process wrote.
    bytes: u64,
}

impl Sustained {
    fn rate(&self) -> f64 {
        per_second(self.calls, self.elapsed)
    }

    fn bytes_per_call(&self) -> f64 {
        float(self.bytes) / float(self.calls)
    }

    fn peak(&self, figure: impl Fn(&Look) -> f64) -> f64 {
        self.looks.iter().map(figure).fold(0.0, f64::max)
    }

    fn append(&mut self, later: Self) {
        let shift = self.elapsed.as_secs_f64();
        let shifted = |look: Look| Look { seconds: look.seconds + shift, ..look };
        self.looks.extend(later.looks.into_iter().map(shifted));
        self.calls += later.calls;
        self.elapsed += later.elapsed;
        self.bytes += later.bytes;
    }
}

/// Runs a load that counts its calls, and looks at it meanwhile.
fn sustain(
    path: &Path,
    time: Duration,
    looks: u32,
    load: impl FnOnce(&Arc<AtomicU64>, Duration),
) -> Fallible<Sustained> {
    let calls = Arc::new(AtomicU64::new(0));
    let written = written()?;
    let begin = Instant::now();
    let (looks, elapsed) = thread::scope(|scope| {
        let looks = scope.spawn(|| watch(path, &calls, time / looks, looks - 1));
        load(&calls, time);
        let elapsed = begin.elapsed();
        (looks.join().expect("no panic in a look"), elapsed)
    });
    let calls = calls.load(Relaxed);
    Ok(Sustained { looks, calls, elapsed, bytes: self::written()? - written })
}

fn watch(path: &Path, calls: &AtomicU64, pause: Duration, looks: u32) -> Vec<Look> {
    let begin = Instant::now();
    let (mut seen, mut at) = (0, begin);
    let look = |_| {
        thread::sleep(pause);
        let (now, count) = (Instant::now(), calls.load(Relaxed));
        let rate = per_second(count - seen, now - at);
        (seen, at) = (count, now);
        Look {
            seconds: (now - begin).as_secs_f64(),
            rate,
            wal: megabytes(path, "-wal"),
            database: megabytes(path, ""),
            journal: journal(path),
        }
    };
    (0..looks).map(look).collect()
}

/// What the journal's rows take; nothing where there is no journal.
fn journal(path: &Path) -> f64 {
    let sum = || {
        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let sum = "SELECT coalesce(sum(length(changes)), 0) FROM commit_log";
        reader.query_row(sum, [], |row| row.get::<_, i64>(0))
    };
    float(sum().unwrap_or(0).unsigned_abs()) / MEGABYTE
}

fn megabytes(path: &Path, suffix: &str) -> f64 {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    let bytes = fs::metadata(name).map_or(0, |file| file.len());
    float(bytes) / MEGABYTE
}

/// Bytes that this process has handed to the system.
fn written() -> Fallible<u64> {
    let counters = fs::read_to_string("/proc/self/io")?;
    let line = counters.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.ok_or("no count of written bytes")?.parse()?)
}

fn sustained(scale: Scale, engine: &Sustained, upserts: &Sustained, report: &mut Report) {
    println!(
        "\n{:?} of changes at random over {} servers in memory, {BATCH} callers; `upserts` has \
         {BATCH} a commit",
        scale.sustained, scale.servers
    );
    for title in
        ["seconds", "calls/s", "WAL MB", "journal MB", "db MB", "upserts/s", "WAL MB", "db MB"]
    {
        print!("{title:>12}");
    }
    println!();
    for (this, other) in engine.looks.iter().zip(&upserts.looks) {
        print!(
            "{:>12.1}{:>12.0}{:>12.1}{:>12.1}{:>12.1}",
            this.seconds, this.rate, this.wal, this.journal, this.database
        );
        println!("{:>12.0}{:>12.1}{:>12.1}", other.rate, other.wal, other.database);
    }
    let ratio = engine.rate() / upserts.rate();
    let (bytes, other) = (engine.bytes_per_call(), upserts.bytes_per_call());
    println!(
        "{ratio:.2} of the upserts' throughput; {bytes:.0} and {other:.0} bytes written a call"
    );
    let third = engine.looks.len() / 3;
    let mean = |looks: &[Look]| looks.iter().map(|look| look.rate).sum::<f64>();
    let first = mean(&engine.looks[..third]);
    let last = mean(&engine.looks[engine.looks.len() - third..]);
    report.set("sustained_vs_upsert", ratio);
    report.set("sustained_bytes_per_call", bytes);
    report.set("sustained_bytes_vs_upsert", bytes / other);
    report.set("sustained_last_vs_first_third", last / first);
    report.set("sustained_wal_peak_mb", engine.peak(|look| look.wal));
    report.set("sustained_journal_peak_mb", engine.peak(|look| look.journal));
}

/// Activations, against `SELECT` and decoding. No key comes twice.
fn cold(
    scale: Scale,
    tokio: &tokio::runtime::Runtime,
    path: &Path,
    raw: &Raw,
    report: &mut Report,
) -> Fallible<()> {
    let begin = Instant::now();
    let runtime = tokio.block_on(Runtime::open(path))?;
    let opened = begin.elapsed();
    let rounds = u64::try_from(scale.rounds)?;
    let calls = (scale.servers / rounds / 4).min(20_000);
    // A prime that divides no power of ten.
    let key = move |nth: u64| nth * 15_485_863 % scale.servers;
    let mut used = 0;
    let mut this = |callers| {
        let (before, runtime) = (used, runtime.clone());
        used += calls;
        let call = move |_, nth| {
            let server = runtime.at::<Meter>(key(before + nth).to_string(), ());
            async move { server.count().await.expect("an answer") }
        };
        tokio.block_on(Load::from(callers, Limit { time: Duration::MAX, calls }, call))
    };
    let mut selected = 0;
    let mut select = || {
        let before = selected;
        selected += calls;
        Load::alone(Limit { time: Duration::MAX, calls }, 1, |nth| {
            let meter = raw.load(key(before + nth), |state| rmp_serde::from_slice::<Meter>(state));
            meter.expect("a row").expect("a state");
        })
    };
    let this = RefCell::new(&mut this);
    let samples = interleave(
        scale.rounds,
        vec![
            Contender::new("one by one", || (this.borrow_mut())(1)),
            Contender::new("64 at once", || (this.borrow_mut())(64)),
            Contender::new("select", &mut select),
        ],
    );
    println!("\ncold activations among {} stored servers, opened in {opened:.1?}", scale.servers);
    println!("{:>14}{:>12}{:>10}{:>10}", "", "calls/s", "p50 us", "p99 us");
    for name in ["one by one", "64 at once", "select"] {
        println!(
            "{name:>14}{:>12.0}{:>10.1}{:>10.1}",
            samples.median(name, |load| load.rate),
            samples.median(name, |load| load.p50),
            samples.median(name, |load| load.p99),
        );
    }
    report.set("cold_vs_select", samples.ratio("one by one", "select", |load| load.p50));
    report.set("cold_64_vs_select", samples.ratio("64 at once", "select", |load| 1.0 / load.rate));
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(2)))?)
}
