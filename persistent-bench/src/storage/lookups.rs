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
        "\nlook-ups in the storage, and first calls to stored servers, one by one, beside `SELECT` on \
         an ideal table\nwithout and with decoding: p50 in us, median of {} rounds",
        scale.rounds
    );
    println!(
        "{:>14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "bytes", "look-up", "select", "ratio", "call", "select", "ratio"
    );
    let mut worst = f64::MIN;
    for (bytes, calls) in SIZES {
        let [lookup, call] = compare(scale.rounds, bytes, calls)?;
        report.set(format!("lookup_{bytes}_vs_select"), lookup);
        report.set(format!("first_call_{bytes}_vs_select"), call);
        worst = worst.max(lookup);
    }
    report.set("large_lookup_vs_select", worst);
    Ok(())
}

/// Measures and prints one row. Returns its ratios. No server is called twice, so that none is in
/// memory when it is called. Both files are in the page cache, since they were just written.
fn compare(rounds: usize, bytes: usize, calls: u64) -> Fallible<[f64; 2]> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let servers = calls * u64::try_from(rounds)?;
    let (path, raw) = tokio.block_on(stored::twice(folder.path(), bytes, servers))?;
    let storage = Arc::new(SqliteStorage::open(path)?);
    let runtime = tokio.block_on(Runtime::builder().open_with(storage.clone()))?;
    let (mut called, mut loaded, mut selected, mut decoded) = (0, 0, 0, 0);
    let call = || {
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
            let state = raw.load(scattered(before + nth, servers), <[u8]>::to_vec);
            state.expect("a row");
        })
    };
    let decode = || {
        let before = decoded;
        decoded += calls;
        Load::blocking(Limit::calls(calls), 1, |nth| {
            let key = scattered(before + nth, servers);
            let meter = raw.load(key, |state| rmp_serde::from_slice::<Meter>(state));
            meter.expect("a row").expect("a state");
        })
    };
    let samples = interleave(
        rounds,
        vec![
            Contender::new("load", load),
            Contender::new("select", select),
            Contender::new("call", call),
            Contender::new("decode", decode),
        ],
    );
    let [load, select, call, decode] =
        ["load", "select", "call", "decode"].map(|name| samples.median(name, |load| load.p50));
    let ratios = [("load", "select"), ("call", "decode")]
        .map(|(this, other)| samples.ratio(this, other, |load| load.p50));
    let [of_load, of_call] = ratios;
    println!(
        "{bytes:>14}{load:>10.1}{select:>10.1}{of_load:>10.2}{call:>10.1}{decode:>10.1}{of_call:>10.2}"
    );
    tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?;
    Ok(ratios)
}
