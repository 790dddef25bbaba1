//! Durable calls to a small server while another server stores a large state.

use std::{iter, sync::Barrier, thread, time::Duration};

use persistent_runtime::{Runtime, SqliteStorage};

use super::{
    raw::{Raw, State},
    scale::Scale,
    servers::Meter,
    stored,
};
use crate::{
    Fallible,
    load::{Limit, Load, two_workers},
    report::Report,
    samples::{Contender, interleave},
};

/// The size of the large state in bytes: the largest that is stored by default.
const LARGE: usize = 16_000_000;
/// The duration of one measurement, in which the large state is stored and flushed.
const TIME: Duration = Duration::from_secs(5);

/// Prints the table and adds its figures to the report.
pub fn run(scale: Scale, report: &mut Report) -> Fallible<()> {
    let large = two_workers()?.block_on(stored::record(LARGE))?;
    let large = State::of(&large);
    let samples = interleave(
        scale.rounds,
        vec![
            Contender::new("alone", || this(false).expect("commits")),
            Contender::new("beside", || this(true).expect("commits")),
            Contender::new("sqlite", || raw(large.clone()).expect("commits")),
        ],
    );
    println!(
        "\none caller's durable calls while another server stores {} MB once, median of {} rounds",
        LARGE / 1_000_000,
        scale.rounds
    );
    println!("{:>18}{:>10}{:>10}{:>10}{:>10}", "", "calls/s", "p50 us", "p99 us", "max ms");
    let names = ["alone", "beside", "sqlite"];
    for (name, title) in names.into_iter().zip(["without it", "with it", "plain SQLite"]) {
        println!(
            "{title:>18}{:>10.0}{:>10.0}{:>10.0}{:>10.1}",
            samples.median(name, |load| load.rate),
            samples.median(name, |load| load.p50),
            samples.median(name, |load| load.p99),
            samples.median(name, |load| load.max / 1e3),
        );
    }
    let [alone, beside] = ["alone", "beside"].map(|it| samples.median(it, |load| load.max / 1e3));
    report.set("bystander_delay_ms", beside - alone);
    report.set("bystander_p99_vs_alone", samples.ratio("beside", "alone", |load| load.p99));
    report.set("bystander_max_vs_sqlite", samples.ratio("beside", "sqlite", |load| load.max));
    Ok(())
}

/// Measures the calls in a database of their own, so that no later measurement shares its disk
/// with the flush of the large state.
fn this(large: bool) -> Fallible<Load> {
    let folder = tempfile::tempdir()?;
    let tokio = two_workers()?;
    let storage = SqliteStorage::open(folder.path().join("this.db"))?;
    let runtime = tokio.block_on(Runtime::builder().open_with(storage))?;
    let small = runtime.at::<Meter>("small", ());
    tokio.block_on(small.add())?;
    let other = runtime.at::<Meter>("large", ());
    let storing = large.then(|| tokio.spawn(async move { other.resize(LARGE).await }));
    let call = move |_, _| {
        let small = small.clone();
        async move { small.add().await.expect("a commit") }
    };
    let load = tokio.block_on(Load::concurrent(1, Limit::time(TIME), call));
    if let Some(storing) = storing {
        if !storing.is_finished() {
            return Err(format!("the large state was not stored within {TIME:?}").into());
        }
        tokio.block_on(storing)??;
    }
    tokio.block_on(runtime.shutdown(Duration::from_mins(2)))?;
    Ok(load)
}

/// Measures the same commits by one connection while another connection stores the large state.
fn raw(mut large: State) -> Fallible<Load> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("raw.db");
    let [small, other] = [Raw::indexed(&path)?, Raw::indexed(&path)?];
    let mut state = State::new(&Meter::default())?;
    // Connections obtain the write lock in no order: without the barrier the large state would be
    // stored after the last of the commits.
    let locked = &Barrier::new(2);
    Ok(thread::scope(|scope| {
        scope.spawn(move || {
            let key = iter::once_with(move || {
                locked.wait();
                1
            });
            other.commit(key, &mut large).expect("a commit");
        });
        locked.wait();
        let commit = |_| small.commit([0], &mut state).expect("a commit");
        Load::blocking(Limit::time(TIME), 1, commit)
    }))
}
