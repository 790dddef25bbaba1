//! Look-ups of stored servers with states of up to a megabyte, beside `SELECT`.

use std::{sync::Arc, time::Duration};

use persistent_runtime::{Runtime, Server, ServerId, SqliteStorage, Storage};

use super::{scale::Scale, servers::Meter, stored};
use crate::{
    Fallible,
    load::{Limit, Load, scattered, two_workers},
    report::Report,
    samples::{Contender, interleave},
};

/// The sizes of states in bytes, each with the number of look-ups per round.
const SIZES: [(usize, u64); 3] = [(100, 2000), (10_000, 500), (1_000_000, 50)];

/// Prints the table and adds its ratios to the report.
pub fn run(scale: Scale, report: &mut Report) -> Fallible<()> {
    println!(
        "\nfirst calls to stored servers, one by one, beside `SELECT` on an ideal table and \
         decoding: p50 in us, median of {} rounds;\n\
         `load` is the storage's share of a call",
        scale.rounds
    );
    println!("{:>14}{:>12}{:>12}{:>12}{:>10}", "bytes", "this", "load", "select", "/ select");
    let mut worst = f64::MIN;
    for (bytes, calls) in SIZES {
        let ratio = compare(scale.rounds, bytes, calls)?;
        report.set(format!("lookup_{bytes}_vs_select"), ratio);
        worst = worst.max(ratio);
    }
    report.set("large_lookup_vs_select", worst);
    Ok(())
}

/// Measures and prints one row. Returns its ratio. No server is called twice, so that none is in
/// memory when it is called. Both files are in the page cache, since they were just written.
fn compare(rounds: usize, bytes: usize, calls: u64) -> Fallible<f64> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let servers = calls * u64::try_from(rounds)?;
    let (path, raw) = tokio.block_on(stored::twice(folder.path(), bytes, servers))?;
    let storage = Arc::new(SqliteStorage::open(path)?);
    let runtime = tokio.block_on(Runtime::builder().open_with(storage.clone()))?;
    let (mut called, mut loaded, mut selected) = (0, 0, 0);
    let this = || {
        let (before, runtime) = (called, runtime.clone());
        called += calls;
        let call = move |_, nth| {
            let key = scattered(before + nth, servers).to_string();
            let server = runtime.at::<Meter>(key, ());
            async move { server.count().await.expect("an answer") }
        };
        tokio.block_on(Load::concurrent(1, Limit::calls(calls), call))
    };
    let load = || {
        let (before, storage) = (loaded, storage.clone());
        loaded += calls;
        let call = move |_, nth| {
            let server = ServerId::new(Meter::NAME, scattered(before + nth, servers).to_string());
            let storage = storage.clone();
            async move { storage.load(&server).await.expect("a look-up").expect("a record") }
        };
        tokio.block_on(Load::concurrent(1, Limit::calls(calls), call))
    };
    let select = || {
        let before = selected;
        selected += calls;
        Load::blocking(Limit::calls(calls), 1, |nth| {
            let key = scattered(before + nth, servers);
            let meter = raw.load(key, |state| rmp_serde::from_slice::<Meter>(state));
            meter.expect("a row").expect("a state");
        })
    };
    let samples = interleave(
        rounds,
        vec![
            Contender::new("this", this),
            Contender::new("load", load),
            Contender::new("select", select),
        ],
    );
    let [this, load, select] =
        ["this", "load", "select"].map(|name| samples.median(name, |load| load.p50));
    let ratio = samples.ratio("this", "select", |load| load.p50);
    println!("{bytes:>14}{this:>12.1}{load:>12.1}{select:>12.1}{ratio:>10.2}");
    tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?;
    Ok(ratio)
}
