//! What durability costs.

use std::{
    cell::Cell,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use persistent_runtime::{Runtime, Server};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{
    Fallible,
    bench::{Contender, Goal, Report, Samples, interleave},
    calls::two_workers,
    load::{Limit, Load},
    many,
    raw::{Raw, State},
    servers::{Journaled, Ledger, Meter, MeterClient, Shop},
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
        ("big_messages_vs_small", Goal::AtMost(1.5)),
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

    let path = folder.path().join("this.db");
    let runtime = tokio.block_on(Runtime::open(&path))?;
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
         a commit as the journal's have, {BATCH} at most; `naive` is a commit a call behind a mutex",
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
        // Of the round.
        let batch = Cell::new(callers);
        let samples = interleave(
            scale.rounds,
            vec![
                Contender::new("this", || {
                    let (last, _) = batches(&path, 0).expect("a journal");
                    let load = this(callers, callers);
                    let (_, changes) = batches(&path, last).expect("a journal");
                    batch.set(changes.unwrap_or(callers).clamp(1, BATCH));
                    load
                }),
                Contender::new("raw", || raw(batch.get())),
                Contender::new("naive", || naive(callers)),
            ],
        );
        row(&callers.to_string(), &samples);
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

/// Many callers on one server. `this` takes how many, and on how many servers;
/// `serial` commits one row after another.
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
}

fn rate(load: &Load) -> f64 {
    load.rate
}

fn p50(load: &Load) -> f64 {
    load.p50
}

/// Returns the number of the commit log's last row, and the average number of updates per row
/// after `after`: a batch is a row, until it takes more than 256 KiB.
fn batches(path: &Path, after: i64) -> Fallible<(i64, Option<u64>)> {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT coalesce(max(number), 0),
        CAST(round((max(number) - min(number)) * 1.0 / (count(*) - 1)) AS INTEGER)
        FROM commit_log WHERE number > ?";
    let (last, changes) =
        reader.query_row(sql, [after], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
    Ok((last, changes.map(i64::unsigned_abs)))
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
    let limit = Limit { time: scale.slice / 2, calls: 1000 };
    let raw = Raw::upserts(&folder.path().join("raw.db"))?;
    let bench = OneCaller { rounds: scale.rounds, limit, tokio: &tokio, raw: &raw };
    println!(
        "\n8 bytes of a state changed by one caller: p50 in us, median of the rounds; rmp_serde\n\
         encodes, beside it what the runtime's own encoding takes of that"
    );
    println!(
        "{:>22}{:>10}{:>10}{:>12}{:>10}{:>8}{:>14}",
        "", "bytes", "this", "encode once", "/ encode", "own", "raw one row"
    );
    for bytes in [100, 1000, 10_000, 100_000, BIG] {
        let server = runtime.at::<Shop>(bytes.to_string(), bytes);
        let call = move |nth| {
            let server = server.clone();
            async move { server.pay(nth).await.expect("a commit") }
        };
        let [to_encode, own] =
            bench.against_encoding("a shop", || Shop::new(bytes), Shop::pay, call)?;
        if bytes == BIG {
            report.set("big_state_vs_encode", to_encode);
            report.set("own_encoding_vs_encode", own);
        }
    }
    let server = runtime.at::<Ledger>("ledger", BIG);
    let call = move |nth| {
        let server = server.clone();
        async move { server.pay(nth).await.expect("a commit") }
    };
    let [to_encode, _] =
        bench.against_encoding("names and numbers", || Ledger::new(BIG), Ledger::pay, call)?;
    report.set("big_flat_vs_encode", to_encode);

    let [small, large] = [100, BIG].map(|bytes| {
        let server = runtime.at::<Journaled>(bytes.to_string(), bytes);
        let mut paid = 0;
        move || {
            let server = server.clone();
            bench.calls(&mut paid, move |nth| {
                let server = server.clone();
                async move { server.pay(nth).await.expect("a commit") }
            })
        }
    });
    let samples = interleave(
        scale.rounds,
        vec![Contender::new("small", small), Contender::new("large", large)],
    );
    for (name, bytes) in [("small", 100), ("large", BIG)] {
        let size = State::new(&Shop::new(bytes))?.len();
        let p50 = samples.median(name, p50);
        println!("{:>22}{size:>10}{p50:>10.0}", "a shop, its messages");
    }
    let ratio = samples.ratio("large", "small", p50);
    println!("{ratio:>42.2} of the same call on the small state");
    report.set("big_messages_vs_small", ratio);
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?)
}

/// The largest state, in bytes.
const BIG: u64 = 1_000_000;

/// What one caller's calls are measured with.
#[derive(Clone, Copy)]
struct OneCaller<'a> {
    rounds: usize,
    limit: Limit,
    tokio: &'a tokio::runtime::Runtime,
    raw: &'a Raw,
}

impl OneCaller<'_> {
    /// Calls that are numbered from `paid` on.
    fn calls<F: Future<Output = ()> + Send>(
        &self,
        paid: &mut u64,
        call: impl Fn(u64) -> F + Clone + Send + 'static,
    ) -> Load {
        let before = *paid;
        *paid += self.limit.calls;
        self.tokio.block_on(Load::from(1, self.limit, move |_, nth| call(before + nth)))
    }

    /// Prints a row, and returns the ratios to encoding the state once: those of a
    /// call, and of the runtime's own encoding.
    fn against_encoding<T: Server + Serialize, F: Future<Output = ()> + Send>(
        &self,
        title: &str,
        make: impl Fn() -> T,
        change: fn(&mut T, u64),
        call: impl Fn(u64) -> F + Clone + Send + 'static,
    ) -> Fallible<[f64; 2]> {
        let mut row = State::new(&make())?;
        let (size, mut paid) = (row.len(), 0);
        let encoding = |encode: fn(&T, &mut Vec<u8>)| {
            let (mut state, mut encoded) = (make(), Vec::new());
            move || {
                Load::alone(self.limit, 1, |nth| {
                    change(&mut state, nth);
                    encoded.clear();
                    encode(&state, &mut encoded);
                })
            }
        };
        let samples = interleave(
            self.rounds,
            vec![
                Contender::new("this", || self.calls(&mut paid, call.clone())),
                Contender::new(
                    "encode",
                    encoding(|state, buffer| {
                        rmp_serde::encode::write_named(buffer, state).expect("bytes");
                    }),
                ),
                Contender::new(
                    "own",
                    encoding(|state, buffer| state.encode(buffer).expect("bytes")),
                ),
                Contender::new("raw", || {
                    let key = [u64::try_from(size).unwrap_or(0)];
                    Load::alone(self.limit, 1, |_| {
                        self.raw.commit(key, &mut row).expect("a commit");
                    })
                }),
            ],
        );
        let [this, encode, raw] = ["this", "encode", "raw"].map(|name| samples.median(name, p50));
        let ratios = ["this", "own"].map(|it| samples.ratio(it, "encode", p50));
        let [call, own] = ratios;
        println!(
            "{title:>22}{size:>10}{this:>10.0}{encode:>12.1}{call:>10.2}{own:>8.2}{raw:>14.0}"
        );
        Ok(ratios)
    }
}
