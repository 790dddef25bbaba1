//! Activations of stored servers, beside `SELECT` and decoding.

use std::{
    cell::RefCell,
    path::Path,
    time::{Duration, Instant},
};

use persistent_runtime::Runtime;

use super::{raw::Raw, scale::Scale, servers::Meter};
use crate::{
    Fallible,
    load::{Limit, Load, scattered, two_workers},
    report::Report,
    samples::{Contender, Samples, interleave},
};

/// Prints the table and adds its ratios to the report.
pub fn run(scale: Scale, path: &Path, raw: &Raw, report: &mut Report) -> Fallible<()> {
    let tokio = two_workers()?;
    let begin = Instant::now();
    let runtime = tokio.block_on(Runtime::open(path))?;
    println!("\nthe database of {} servers was opened in {:.1?}", scale.servers, begin.elapsed());
    let samples = measure(scale, &tokio, &runtime, raw);
    report.set("cold_vs_select", samples.ratio("one by one", "select", |load| load.p50));
    report.set("cold_64_vs_select", samples.ratio("64 at once", "select", |load| 1.0 / load.rate));
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(2)))?)
}

/// Measures and prints activations one by one and 64 at once, beside `SELECT`. No server is
/// activated twice.
pub fn measure(
    scale: Scale,
    tokio: &tokio::runtime::Runtime,
    runtime: &Runtime,
    raw: &Raw,
) -> Samples<Load> {
    let calls = (scale.servers / scale.rounds as u64 / 4).min(20_000);
    let key = move |nth| scattered(nth, scale.servers);
    let mut used = 0;
    let mut this = |callers| {
        let (before, runtime) = (used, runtime.clone());
        used += calls;
        let call = move |_, nth| {
            let server = runtime.at::<Meter>(key(before + nth).to_string(), ());
            async move { server.count().await.expect("an answer") }
        };
        tokio.block_on(Load::concurrent(callers, Limit::calls(calls), call))
    };
    let mut selected = 0;
    let mut select = || {
        let before = selected;
        selected += calls;
        Load::blocking(Limit::calls(calls), 1, |nth| {
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
    println!("\nactivations among {} stored servers", scale.servers);
    println!("{:>14}{:>12}{:>10}{:>10}", "", "calls/s", "p50 us", "p99 us");
    for name in ["one by one", "64 at once", "select"] {
        println!(
            "{name:>14}{:>12.0}{:>10.1}{:>10.1}",
            samples.median(name, |load| load.rate),
            samples.median(name, |load| load.p50),
            samples.median(name, |load| load.p99),
        );
    }
    samples
}
