//! Very many stored servers: creating, opening, calling, listing and deleting them.

use std::{
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

use persistent_runtime::{Runtime, SqliteStorage, Storage, Update};

use super::{
    activation,
    files::megabytes,
    listing,
    raw::{Raw, State},
    scale::Scale,
    stored,
};
use crate::{
    Fallible,
    load::{Limit, Load, two_workers},
    report::{Goal, Report},
    samples::{Contender, Samples, interleave},
};

/// The number of parts in which the servers are created and deleted, in turn with plain SQLite,
/// which makes one transaction per part.
const PARTS: usize = 10;

/// Prints the tables and adds the figures to the report.
pub fn run(scale: Scale, report: &mut Report) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let both = Both {
        scale,
        tokio: two_workers()?,
        path: folder.path().join("this.db"),
        raw: Raw::indexed(&folder.path().join("raw.db"))?,
    };
    both.create(report)?;
    both.list_and_call(report)?;
    both.delete_half(report)?;
    report.goal("many_open_s", Goal::AtMost(1.0));
    Ok(())
}

/// A database of this library, and plain SQLite.
struct Both {
    scale: Scale,
    tokio: tokio::runtime::Runtime,
    path: PathBuf,
    raw: Raw,
}

impl Both {
    fn create(&self, report: &mut Report) -> Fallible<()> {
        let record = self.tokio.block_on(stored::record(100))?;
        let mut state = State::of(&record);
        let put = Update::Put(record);
        let storage = SqliteStorage::open(&self.path)?;
        let created = in_turn(
            self.scale.servers,
            |keys| self.tokio.block_on(stored::commit(&storage, keys, &put)).expect("commits"),
            |keys| self.raw.commit(keys, &mut state).expect("a commit"),
        );
        rates("created", "create", &created, report);
        self.tokio.block_on(storage.close())?;
        self.sizes("all of them", "all", report)
    }

    fn list_and_call(&self, report: &mut Report) -> Fallible<()> {
        let begin = Instant::now();
        let runtime = self.tokio.block_on(Runtime::open(&self.path))?;
        let opened = begin.elapsed();
        println!("the database was opened in {opened:.1?}");
        report.set("many_open_s", opened.as_secs_f64());
        let listed = listing::measure(self.scale, &self.tokio, &runtime, &self.raw);
        report.set("many_list_per_s", listed.median("this", |load| load.rate));
        report.set("many_list_vs_select", listed.ratio("this", "select", |load| 1.0 / load.rate));
        let called = activation::measure(self.scale, &self.tokio, &runtime, &self.raw);
        report.set("many_cold_p50_us", called.median("one by one", |load| load.p50));
        report.set("many_cold_p99_us", called.median("one by one", |load| load.p99));
        report.set("many_cold_vs_select", called.ratio("one by one", "select", |load| load.p50));
        Ok(self.tokio.block_on(runtime.shutdown(Duration::from_mins(2)))?)
    }

    fn delete_half(&self, report: &mut Report) -> Fallible<()> {
        let storage = SqliteStorage::open(&self.path)?;
        let even = |nth| 2 * nth;
        let deleted = in_turn(
            self.scale.servers / 2,
            |keys| {
                let delete = stored::commit(&storage, keys.map(even), &Update::Delete);
                self.tokio.block_on(delete).expect("commits");
            },
            |keys| self.raw.delete(keys.map(even)).expect("a commit"),
        );
        rates("deleted", "delete", &deleted, report);
        self.tokio.block_on(storage.close())?;
        self.sizes("half of them", "half", report)
    }

    /// Prints and reports the sizes of the closed databases.
    fn sizes(&self, title: &str, name: &str, report: &mut Report) -> Fallible<()> {
        let (this, raw) = (megabytes(&self.path, ""), self.raw.megabytes()?);
        println!("{title}: {this:.1} MB, plain SQLite {raw:.1} MB");
        report.set(format!("many_{name}_mb"), this);
        report.set(format!("many_{name}_mb_vs_sqlite"), this / raw);
        Ok(())
    }
}

/// Passes the numbers `0..count` to both, part by part.
fn in_turn(count: u64, this: impl FnMut(Range<u64>), raw: impl FnMut(Range<u64>)) -> Samples<Load> {
    let contenders = vec![
        Contender::new("this", by_parts(count, this)),
        Contender::new("sqlite", by_parts(count, raw)),
    ];
    interleave(PARTS, contenders)
}

/// Returns a measurement that passes the next of the parts of `0..count` to `work`.
fn by_parts(count: u64, mut work: impl FnMut(Range<u64>)) -> impl FnMut() -> Load {
    let mut part = 0;
    move || {
        let [start, end] = [part, part + 1].map(|nth| nth * count / PARTS as u64);
        part += 1;
        Load::blocking(Limit::calls(1), end - start, |_| work(start..end))
    }
}

fn rates(title: &str, name: &str, samples: &Samples<Load>, report: &mut Report) {
    let [this, raw] = ["this", "sqlite"].map(|it| samples.median(it, |load| load.rate));
    println!("{title} at {this:.0} servers/s, by plain SQLite at {raw:.0} rows/s");
    report.set(format!("many_{name}_per_s"), this);
    report.set(format!("many_{name}_vs_sqlite"), samples.ratio("this", "sqlite", |it| it.rate));
}
