//! Listing stored servers, beside a `SELECT` of the keys.

use std::time::Duration;

use persistent_runtime::Runtime;

use super::{raw::Raw, scale::Scale, servers::Meter, stored};
use crate::{
    Fallible,
    load::{Limit, Load, two_workers},
    report::Report,
    samples::{Contender, Samples, interleave},
};

/// Prints the rates and adds their ratio to the report.
pub fn run(scale: Scale, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let (path, raw) = tokio.block_on(stored::twice(folder.path(), 100, scale.servers))?;
    let runtime = tokio.block_on(Runtime::open(path))?;
    let samples = measure(scale, &tokio, &runtime, &raw);
    report.set("list_vs_select", samples.ratio("this", "select", |load| 1.0 / load.rate));
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?)
}

/// Measures and prints how fast the keys of all servers are listed.
pub fn measure(
    scale: Scale,
    tokio: &tokio::runtime::Runtime,
    runtime: &Runtime,
    raw: &Raw,
) -> Samples<Load> {
    let once = Limit::calls(1);
    let this = || {
        Load::blocking(once, scale.servers, |_| {
            let listed = tokio.block_on(async {
                let (mut keys, mut listed) = (runtime.keys::<Meter>(), 0);
                while let Some(key) = keys.next().await {
                    key.expect("a key");
                    listed += 1;
                }
                listed
            });
            assert_eq!(listed, scale.servers);
        })
    };
    let select = || {
        Load::blocking(once, scale.servers, |_| {
            let mut listed = 0;
            raw.keys(|_| listed += 1).expect("the keys");
            assert_eq!(listed, scale.servers);
        })
    };
    let contenders = vec![Contender::new("this", this), Contender::new("select", select)];
    let samples = interleave(scale.rounds, contenders);
    let [this, select] = ["this", "select"].map(|name| samples.median(name, |load| load.rate));
    println!(
        "\n{} stored servers are listed at {this:.0} keys/s, by `SELECT` at {select:.0} keys/s",
        scale.servers
    );
    samples
}
