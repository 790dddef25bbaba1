//! Durable calls by more and more callers.

use std::{
    cell::Cell,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use persistent_runtime::Runtime;
use rusqlite::{Connection, OpenFlags};
use tokio::task::spawn_blocking;

use super::{
    raw::{Raw, State},
    scale::{BATCH, Scale},
    servers::{Meter, MeterClient},
};
use crate::{
    Fallible,
    load::{Limit, Load, two_workers},
    report::{DurableFigures, Report},
    samples::{Contender, Samples, interleave},
};

const CALLERS: [u64; 6] = [1, 16, 64, 256, 1024, 4096];

/// Prints the table and adds its ratios and figures to the report.
pub fn run(scale: Scale, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let state = State::new(&Meter::default())?;
    let limit = Limit::time(scale.slice);

    let path = folder.path().join("this.db");
    let runtime = tokio.block_on(Runtime::open(&path))?;
    let servers: Arc<[MeterClient]> =
        (0..4096).map(|key| runtime.at::<Meter>(key.to_string(), ())).collect();
    // The callers share the first `among` servers.
    let this = |callers, among| {
        let servers = servers.clone();
        let call = move |caller, _| {
            let server = servers[usize::try_from(caller % among).unwrap_or(0)].clone();
            async move { server.add().await.expect("a commit") }
        };
        tokio.block_on(Load::concurrent(callers, limit, call))
    };
    this(4096, 4096);

    let appends = Raw::appends(&folder.path().join("appends.db"))?;
    let raw = |batch: u64| {
        let mut state = state.clone();
        Load::blocking(limit, batch, |_| appends.commit(0..batch, &mut state).expect("a commit"))
    };
    let one_row = Raw::upserts(&folder.path().join("serial.db"))?;
    let serial = || {
        let mut state = state.clone();
        Load::blocking(limit, 1, |_| one_row.commit([0], &mut state).expect("a commit"))
    };
    let upserts = Raw::upserts(&folder.path().join("naive.db"))?;
    let upserts = Arc::new(Mutex::new((upserts, state.clone())));
    let naive = |callers| {
        let upserts = upserts.clone();
        let call = move |caller, _| {
            let upserts = upserts.clone();
            spawn_blocking(move || {
                let (upserts, state) = &mut *upserts.lock().expect("no panic under the lock");
                upserts.commit([caller], state).expect("a commit");
            })
        };
        tokio.block_on(Load::concurrent(callers, limit, call))
    };

    println!(
        "\ndurable calls on states of {} bytes, median of {} rounds; `raw` appends to a table, with\n\
         as many rows per commit as the commit log has changes per row, at most {BATCH}; `naive`\n\
         makes one commit per call behind a mutex",
        state.len(),
        scale.rounds
    );
    println!(
        "{:>14}{:>12}{:>10}{:>10}{:>8}{:>12}{:>10}{:>10}{:>8}{:>8}",
        "callers",
        "calls/s",
        "p50 us",
        "p99 us",
        "batch",
        "raw",
        "p50 us",
        "naive",
        "/ raw",
        "/ naive"
    );
    for callers in CALLERS {
        // The batch size that this library reached in the present round.
        let batch = Cell::new(callers);
        let samples = interleave(
            scale.rounds,
            vec![
                Contender::new("this", || {
                    let (last, _) = batches(&path, 0).expect("a commit log");
                    let load = this(callers, callers);
                    let (_, changes) = batches(&path, last).expect("a commit log");
                    batch.set(changes.unwrap_or(callers).clamp(1, BATCH));
                    load
                }),
                Contender::new("raw", || raw(batch.get())),
                Contender::new("naive", || naive(callers)),
            ],
        );
        row(&callers.to_string(), &samples);
        report.plots.durable.push(DurableFigures {
            callers,
            rates: ["this", "raw", "naive"]
                .map(|name| (name.to_owned(), samples.median(name, rate)))
                .into(),
        });
        let [to_raw, to_naive] = ["raw", "naive"].map(|it| samples.ratio("this", it, rate));
        println!(
            "{:>8}{:>12.0}{:>10.0}{:>10.0}{to_raw:>8.2}{to_naive:>8.1}",
            batch.get(),
            samples.median("raw", rate),
            samples.median("raw", p50),
            samples.median("naive", rate),
        );
        let latency = samples.ratio("this", "raw", p50);
        let to_raw = if callers == 1 { latency } else { to_raw };
        report.set(format!("durable_{callers}_vs_raw"), to_raw);
        report.set(format!("durable_{callers}_vs_naive"), to_naive);
    }
    hot(scale, &this, serial, report);
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?)
}

/// Measures many callers on one server. `this` takes the number of callers and the number
/// of servers. `serial` commits one row after another.
fn hot(
    scale: Scale,
    this: &impl Fn(u64, u64) -> Load,
    serial: impl Fn() -> Load,
    report: &mut Report,
) {
    let samples = interleave(
        scale.rounds,
        vec![
            Contender::new("this", || this(64, 1)),
            Contender::new("64", || this(64, 64)),
            Contender::new("serial", serial),
        ],
    );
    row("64 on one", &samples);
    let to_64 = samples.ratio("this", "64", rate);
    let to_serial = samples.ratio("this", "serial", rate);
    println!(
        "   {to_64:.2} of 64 on 64 servers, {to_serial:.1} times one row per commit in a loop"
    );
    report.set("hot_64_vs_64", to_64);
    report.set("hot_64_vs_serial", to_serial);
    let samples = interleave(
        scale.rounds,
        vec![Contender::new("this", || this(1024, 1)), Contender::new("1024", || this(1024, 1024))],
    );
    row("1024 on one", &samples);
    let to_1024 = samples.ratio("this", "1024", rate);
    println!("   {to_1024:.2} of 1024 on 1024 servers");
    report.set("hot_1024_vs_1024", to_1024);
}

fn rate(load: &Load) -> f64 {
    load.rate
}

fn p50(load: &Load) -> f64 {
    load.p50
}

/// Returns the number of the commit log's last row, and the mean number of changes per row
/// of the rows after `after`. A batch is one row unless it exceeds 256 KiB.
fn batches(path: &Path, after: i64) -> Fallible<(i64, Option<u64>)> {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT coalesce(max(number), 0),
        CAST(round((max(number) - min(number)) * 1.0 / (count(*) - 1)) AS INTEGER)
        FROM commit_log WHERE number > ?";
    let (last, changes) =
        reader.query_row(sql, [after], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
    Ok((last, changes.map(i64::unsigned_abs)))
}

/// Prints the first columns of a row.
fn row(title: &str, samples: &Samples<Load>) {
    print!(
        "{title:>14}{:>12.0}{:>10.0}{:>10.0}",
        samples.median("this", rate),
        samples.median("this", |load| load.p50),
        samples.median("this", |load| load.p99),
    );
}
