//! Changes of 8 bytes in states of up to a megabyte, by one caller.

use std::time::Duration;

use persistent_runtime::{Runtime, Server};
use serde::Serialize;

use super::{
    raw::{Raw, State},
    scale::Scale,
    servers::{Journaled, Ledger, Shop},
};
use crate::{
    Fallible,
    load::{Limit, Load, two_workers},
    report::Report,
    samples::{Contender, interleave},
};

/// The size of the largest state in bytes.
const LARGEST: u64 = 1_000_000;

fn p50(load: &Load) -> f64 {
    load.p50
}

/// Prints the table and adds its ratios to the report.
pub fn run(scale: Scale, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let runtime = tokio.block_on(Runtime::open(folder.path().join("this.db")))?;
    let limit = Limit { time: scale.slice / 2, calls: 1000 };
    let raw = Raw::upserts(&folder.path().join("raw.db"))?;
    let bench = OneCaller { rounds: scale.rounds, limit, tokio: &tokio, raw: &raw };
    println!(
        "\none caller changes 8 bytes of a state: p50 in us, median of the rounds. `encode` is one\n\
         encoding by rmp_serde, `own` is this library's encoder in proportion to it"
    );
    println!(
        "{:>22}{:>10}{:>10}{:>12}{:>10}{:>8}{:>14}",
        "", "bytes", "this", "encode once", "/ encode", "own", "raw one row"
    );
    for bytes in [100, 1000, 10_000, 100_000, LARGEST] {
        let server = runtime.at::<Shop>(bytes.to_string(), bytes);
        let call = move |nth| {
            let server = server.clone();
            async move { server.pay(nth).await.expect("a commit") }
        };
        let [to_encode, own] =
            bench.against_encoding("a shop", || Shop::new(bytes), Shop::pay, call)?;
        if bytes == LARGEST {
            report.set("big_state_vs_encode", to_encode);
            report.set("own_encoding_vs_encode", own);
        }
    }
    let server = runtime.at::<Ledger>("ledger", LARGEST);
    let call = move |nth| {
        let server = server.clone();
        async move { server.pay(nth).await.expect("a commit") }
    };
    let [to_encode, _] =
        bench.against_encoding("names and numbers", || Ledger::new(LARGEST), Ledger::pay, call)?;
    report.set("big_flat_vs_encode", to_encode);

    let [small, large] = [100, LARGEST].map(|bytes| {
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
    for (name, bytes) in [("small", 100), ("large", LARGEST)] {
        let size = State::new(&Shop::new(bytes))?.len();
        let p50 = samples.median(name, p50);
        println!("{:>22}{size:>10}{p50:>10.0}", "a shop, journaled");
    }
    let ratio = samples.ratio("large", "small", p50);
    println!("{ratio:>42.2} times the same call on the small state");
    report.set("big_messages_vs_small", ratio);
    Ok(tokio.block_on(runtime.shutdown(Duration::from_mins(1)))?)
}

/// The means to measure one caller's calls.
#[derive(Clone, Copy)]
struct OneCaller<'a> {
    rounds: usize,
    limit: Limit,
    tokio: &'a tokio::runtime::Runtime,
    raw: &'a Raw,
}

impl OneCaller<'_> {
    /// Measures calls with the numbers from `paid` on, and advances `paid`.
    fn calls<F: Future<Output = ()> + Send>(
        &self,
        paid: &mut u64,
        call: impl Fn(u64) -> F + Clone + Send + 'static,
    ) -> Load {
        let before = *paid;
        *paid += self.limit.calls;
        self.tokio.block_on(Load::concurrent(1, self.limit, move |_, nth| call(before + nth)))
    }

    /// Measures and prints one row. Returns two ratios to one encoding of the state by
    /// `rmp_serde`: that of a call, and that of this library's encoder.
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
                Load::blocking(self.limit, 1, |nth| {
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
                    Load::blocking(self.limit, 1, |_| {
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
