//! Power cuts: what a program did to its files is recorded below SQLite, and cut
//! at random points; what no sync had covered is there, lost or torn.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::{path::Path, time::Duration};

use persistent_runtime::Runtime;
use persistent_tests::power::{Disk, Event, Ledger, Random, Shim, seed_of, times};

const LOAD: &str = env!("CARGO_BIN_EXE_load");

/// A load, and what was found wrong after cuts in its log.
struct Cuts {
    shim: Shim,
    /// What is known of the files that the next load begins with.
    ledger: Ledger,
    random: Random,
    cuts: usize,
    acknowledged: usize,
    wrong: Vec<String>,
}

impl Cuts {
    fn new(seed: u64) -> Self {
        Self {
            shim: Shim::build(),
            ledger: Ledger::default(),
            random: Random::new(seed),
            cuts: 0,
            acknowledged: 0,
            wrong: Vec::new(),
        }
    }

    /// Runs one load on what the last cut has left, and cuts its log so often.
    fn round(&mut self, callers: usize, changes: usize, end: &str, faults: &str, cuts: usize) {
        let mut disk = Disk::new(&self.shim.database(), self.random.number()).unwrap();
        let arguments = [self.random.number() as usize % 1_000_000, callers, changes, 500];
        let output = self
            .shim
            .command(LOAD, faults)
            .args(arguments.map(|number| number.to_string()))
            .arg(end)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said == "bye\n", "{output:?}");
        let events = self.shim.log();
        assert!(!events.is_empty());

        let mut points: Vec<usize> =
            (0..cuts).map(|_| self.random.within(0..events.len() + 1)).collect();
        points.sort_unstable();
        let mut ledger = self.ledger.clone();
        let (mut point, mut applied) = (points.into_iter().peekable(), 0);
        let folder = tempfile::tempdir().unwrap();
        while let Some(cut) = point.next() {
            for event in &events[applied..cut] {
                disk.apply(event);
                if let Event::Mark(line) = event {
                    ledger.note(line);
                }
            }
            applied = cut;
            self.cuts += 1;
            let image = folder.path().join(format!("{}.db", self.cuts));
            disk.cut(&image, &mut self.random).unwrap();
            if point.peek().is_none() {
                // The next load goes on from here.
                self.shim.replace(&image);
            }
            let mut after = ledger.clone();
            let wrong = check(&image, &mut after);
            let which = format!("cut {} at {cut} of {}", self.cuts, events.len());
            self.wrong.extend(wrong.into_iter().map(|wrong| format!("{which}: {wrong}")));
            if point.peek().is_none() {
                self.acknowledged += ledger.acknowledged - self.ledger.acknowledged;
                self.ledger = after;
            }
        }
    }
}

/// What is wrong with what a cut has left.
#[tokio::main(flavor = "current_thread")]
async fn check(image: &Path, ledger: &mut Ledger) -> Vec<String> {
    let runtime = match Runtime::open(image).await {
        Ok(runtime) => runtime,
        Err(error) => return vec![format!("it does not open: {error}")],
    };
    let mut wrong = ledger.settle(&runtime).await;
    runtime.shutdown(Duration::from_secs(10)).await.unwrap();
    let connection = rusqlite::Connection::open(image).unwrap();
    let intact: String =
        connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    if intact != "ok" {
        wrong.push(format!("integrity: {intact}"));
    }
    wrong
}

/// Loads of many callers, each on what a cut in the one before has left. After
/// every cut the database opens, what was acknowledged is there, nothing is there
/// by half, and nothing that nobody asked for.
#[test]
fn an_acknowledged_write_survives_a_power_cut() {
    let mut cuts = Cuts::new(seed_of("power"));
    for round in 0..times(6) {
        let end = if round % 2 == 0 { "exit" } else { "end" };
        cuts.round(8, 150, end, "", 60);
    }
    eprintln!("{} cuts, {} acknowledged changes", cuts.cuts, cuts.acknowledged);
    assert_eq!(cuts.wrong, [""; 0]);
    assert!(cuts.acknowledged > 1000, "the rounds were not empty: {}", cuts.acknowledged);
}

/// The simulation sees what it is there to see: a disk that says of each sync that
/// it was done, and does nothing.
#[test]
fn a_disk_that_only_claims_to_sync_is_found_out() {
    let mut cuts = Cuts::new(seed_of("claims"));
    cuts.round(8, 40, "exit", "sync 0 0 999999999", 20);
    assert!(!cuts.wrong.is_empty(), "{} cuts", cuts.cuts);
}
