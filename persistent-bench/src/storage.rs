//! What durability costs.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use persistent_runtime::Runtime;
use tokio::task::spawn_blocking;

use crate::{
    Fallible,
    bench::{Contender, Goal, Report, Samples, interleave},
    calls::two_workers,
    load::{Limit, Load},
    many,
    raw::{Raw, State},
    servers::{Ledger, Meter, MeterClient},
};

const CALLERS: [u64; 6] = [1, 16, 64, 256, 1024, 4096];
/// The most rows of one raw transaction.
pub const BATCH: u64 = 1024;

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Scale {
    pub rounds: usize,
    /// How long each contender has in each round.
    pub slice: Duration,
    /// How many servers are stored for the measurements that need many.
    pub servers: u64,
    /// How long the sustained load lasts.
    pub sustained: Duration,
}

const QUICK: Scale = Scale {
    rounds: 3,
    slice: Duration::from_millis(150),
    servers: 50_000,
    sustained: Duration::from_secs(5),
};

const FULL: Scale = Scale {
    rounds: 5,
    slice: Duration::from_secs(2),
    servers: 1_000_000,
    sustained: Duration::from_mins(1),
};

/// Prints the tables, and puts the ratios into the report.
pub fn run(quick: bool, plot: Option<&Path>, report: &mut Report) -> Fallible<()> {
    let scale = if quick { QUICK } else { FULL };
    durable(scale, report)?;
    big_states(scale, report)?;
    many::run(scale, plot, report)?;
    for (name, goal) in [
        ("durable_1_vs_raw", Goal::AtMost(1.3)),
        ("durable_1024_vs_raw", Goal::AtLeast(0.7)),
        ("durable_1024_vs_naive", Goal::AtLeast(20.0)),
        ("hot_64_vs_serial", Goal::AtLeast(20.0)),
        ("hot_64_vs_64", Goal::AtLeast(0.5)),
        ("big_state_vs_encode", Goal::AtMost(1.5)),
        ("sustained_vs_upsert", Goal::AtLeast(3.0)),
        ("cold_vs_select", Goal::AtMost(2.0)),
        ("open_after_kill_s", Goal::AtMost(1.0)),
    ] {
        report.goal(name, goal);
    }
    Ok(())
}

fn durable(scale: Scale, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let state = State::new(&Meter::default())?;
    let limit = Limit::time(scale.slice);

    let runtime = tokio.block_on(Runtime::open(folder.path().join("this.db")))?;
    let servers: Arc<[MeterClient]> =
        (0..4096).map(|key| runtime.at::<Meter>(key.to_string(), ())).collect();
    // All callers on the first `among` servers.
    let this = |callers, among| {
        let servers = servers.clone();
        let call = move |caller, _| {
            let server = servers[usize::try_from(caller % among).unwrap_or(0)].clone();
            async move { server.add().await.expect("a commit") }
        };
        tokio.block_on(Load::from(callers, limit, call))
    };
    this(4096, 4096);

    let journal = Raw::journal(&folder.path().join("journal.db"))?;
    let raw = |batch: u64| {
        let mut state = state.clone();
        Load::alone(limit, batch, |_| journal.commit(0..batch, &mut state).expect("a commit"))
    };
    let one_row = Raw::upserts(&folder.path().join("serial.db"))?;
    let serial = || {
        let mut state = state.clone();
        Load::alone(limit, 1, |_| one_row.commit([0], &mut state).expect("a commit"))
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
        tokio.block_on(Load::from(callers, limit, call))
    };

    println!(
        "\ndurable calls of {} bytes, median of {} rounds; `raw` appends to a table, as many rows\n\
         a commit as there are callers, {BATCH} at most; `naive` is a commit a call behind a mutex",
        state.len(),
        scale.rounds
    );
    println!(
        "{:>14}{:>12}{:>10}{:>10}{:>12}{:>10}{:>10}{:>8}{:>8}",
        "callers", "calls/s", "p50 us", "p99 us", "raw", "p50 us", "naive", "/ raw", "/ naive"
    );
    for callers in CALLERS {
        let samples = interleave(
            scale.rounds,
            vec![
                Contender::new("this", || this(callers, callers)),
                Contender::new("raw", || raw(callers.min(BATCH))),
                Contender::new("naive", || naive(callers)),
            ],
        );
        row(&callers.to_string(), &samples);
        let [to_raw, to_naive] = ["raw", "naive"].map(|it| samples.ratio("this", it, rate));
        println!(
            "{:>12.0}{:>10.0}{:>10.0}{to_raw:>8.2}{to_naive:>8.1}",
            samples.median("raw", rate),
            samples.median("raw", |load| load.p50),
            samples.median("naive", rate),
        );
        let latency = samples.ratio("this", "raw", |load| load.p50);
        let to_raw = if callers == 1 { latency } else { to_raw };
        report.set(format!("durable_{callers}_vs_raw"), to_raw);
        report.set(format!("durable_{callers}_vs_naive"), to_naive);
    }
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
    println!("   {to_64:.2} of 64 on 64, {to_serial:.1} times one row a commit in a loop");
    report.set("hot_64_vs_64", to_64);
    report.set("hot_64_vs_serial", to_serial);
    let samples = interleave(
        scale.rounds,
        vec![Contender::new("this", || this(1024, 1)), Contender::new("1024", || this(1024, 1024))],
    );
    row("1024 on one", &samples);
    let to_1024 = samples.ratio("this", "1024", rate);
    println!("   {to_1024:.2} of 1024 on 1024");
    report.set("hot_1024_vs_1024", to_1024);
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?)
}

fn rate(load: &Load) -> f64 {
    load.rate
}

/// The first columns of a row.
fn row(title: &str, samples: &Samples<Load>) {
    print!(
        "{title:>14}{:>12.0}{:>10.0}{:>10.0}",
        samples.median("this", rate),
        samples.median("this", |load| load.p50),
        samples.median("this", |load| load.p99),
    );
}

/// Changes of 8 bytes, by one caller.
fn big_states(scale: Scale, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let runtime = tokio.block_on(Runtime::open(folder.path().join("this.db")))?;
    let raw = Raw::upserts(&folder.path().join("raw.db"))?;
    let limit = Limit { time: scale.slice / 2, calls: 1000 };
    println!("\n8 bytes of a state changed by one caller: p50 in us, median of the rounds");
    println!(
        "{:>14}{:>10}{:>12}{:>10}{:>14}",
        "bytes", "this", "encode once", "/ encode", "raw one row"
    );
    for bytes in [100, 1000, 10_000, 100_000, 1_000_000] {
        let mut state = Ledger::new(bytes);
        let mut encoded = Vec::new();
        let mut row = State::new(&state)?;
        let size = row.len();
        let server = runtime.at::<Ledger>(bytes.to_string(), bytes);
        let mut paid = 0;
        let samples = interleave(
            scale.rounds,
            vec![
                Contender::new("this", || {
                    let before = paid;
                    let call = {
                        let server = server.clone();
                        move |_, nth| {
                            let server = server.clone();
                            async move { server.pay(before + nth).await.expect("a commit") }
                        }
                    };
                    paid += limit.calls;
                    tokio.block_on(Load::from(1, limit, call))
                }),
                Contender::new("encode", || {
                    Load::alone(limit, 1, |nth| {
                        state.pay(nth);
                        encoded.clear();
                        rmp_serde::encode::write_named(&mut encoded, &state).expect("bytes");
                    })
                }),
                Contender::new("raw", || {
                    Load::alone(limit, 1, |_| raw.commit([bytes], &mut row).expect("a commit"))
                }),
            ],
        );
        let p50 = |name| samples.median(name, |load| load.p50);
        let ratio = samples.ratio("this", "encode", |load| load.p50);
        let to_raw = samples.ratio("this", "raw", |load| load.p50);
        println!(
            "{:>14}{:>10.0}{:>12.1}{ratio:>10.2}{:>14.0}",
            size,
            p50("this"),
            p50("encode"),
            p50("raw")
        );
        if bytes == 1_000_000 {
            report.set("big_state_vs_encode", ratio);
            report.set("big_state_vs_raw", to_raw);
        }
    }
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?)
}
