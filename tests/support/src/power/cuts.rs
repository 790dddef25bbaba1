use std::{path::Path, time::Duration};

use persistent_runtime::Runtime;

use super::{Disk, Event, Ledger, Random, Shim};

/// The arguments of the program `load`.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of callers.
    pub callers: usize,
    /// The number of changes per caller.
    pub changes: usize,
    /// True if the program shuts the runtime down at its end.
    pub ends: bool,
}

/// Runs loads, cuts the power in them, and collects what is wrong after the cuts.
#[derive(Debug)]
pub struct Cuts {
    program: &'static str,
    shim: Shim,
    /// The records that may be stored in the files with which the next load begins.
    ledger: Ledger,
    random: Random,
    /// The number of cuts.
    pub cuts: usize,
    /// The number of changes that were acknowledged before the cuts.
    pub acknowledged: usize,
    /// The number of operations that the shim let fail.
    pub faults: usize,
    /// The number of failed calls.
    pub failed: usize,
    /// The number of times the runtime did not open.
    pub refused: usize,
    /// The number of servers that failed until the end.
    pub stuck: usize,
    /// The errors found, one line per cut.
    pub wrong: Vec<String>,
}

impl Cuts {
    /// Begins without a database. `program` is the path of `load`.
    #[must_use]
    pub fn new(program: &'static str, seed: u64) -> Self {
        Self {
            program,
            shim: Shim::build(),
            ledger: Ledger::default(),
            random: Random::new(seed),
            cuts: 0,
            acknowledged: 0,
            faults: 0,
            failed: 0,
            refused: 0,
            stuck: 0,
            wrong: Vec::new(),
        }
    }

    /// Deletes the database.
    pub fn clear(&mut self) {
        self.shim.clear();
        self.ledger = Ledger::default();
    }

    /// Runs a load with these faults and cuts it at `cuts` random points. The files that the last
    /// cut leaves become the database. Returns the number of operations that failed.
    pub fn round(&mut self, load: Load, faults: &str, cuts: usize) -> usize {
        let disk = Disk::new(&self.shim.database(), self.random.number()).expect("files");
        let numbers = [self.random.within(0..1_000_000), load.callers, load.changes, 500];
        let output = self
            .shim
            .command(self.program, faults)
            .args(numbers.map(|number| number.to_string()))
            .arg(if load.ends { "end" } else { "exit" })
            .output()
            .expect("the program runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{faults}: {output:?}");
        for line in printed.lines() {
            match line.split_once(": ") {
                Some(("failed", _)) => self.failed += 1,
                Some(("refused", _)) => self.refused += 1,
                Some(("stuck", _)) => self.stuck += 1,
                Some(_) => panic!("{faults}: {line}"),
                None => assert_eq!(line, "bye", "{faults}"),
            }
        }
        let events = self.shim.log();
        let failures = events.iter().filter(|event| matches!(event, Event::Fault)).count();
        self.faults += failures;
        self.cut(disk, &events, cuts);
        failures
    }

    fn cut(&mut self, mut disk: Disk, events: &[Event], cuts: usize) {
        let mut points: Vec<usize> =
            (0..cuts).map(|_| self.random.within(0..events.len() + 1)).collect();
        points.sort_unstable();
        let folder = tempfile::tempdir().expect("a folder");
        let (mut ledger, mut applied) = (self.ledger.clone(), 0);
        for (index, &point) in points.iter().enumerate() {
            for event in &events[applied..point] {
                disk.apply(event);
                if let Event::Mark(line) = event {
                    ledger.note(line);
                }
            }
            applied = point;
            let image = folder.path().join(format!("{index}.db"));
            disk.cut(&image, &mut self.random).expect("space");
            let last = index + 1 == cuts;
            if last {
                self.shim.replace(&image);
            }
            let mut found = ledger.clone();
            let wrong = check(&image, &mut found);
            self.cuts += 1;
            if !wrong.is_empty() {
                let wrong = wrong.join("; ");
                self.wrong.push(format!("cut at {point} of {}: {wrong}", events.len()));
            }
            if last {
                self.acknowledged += ledger.acknowledged - self.ledger.acknowledged;
                self.ledger = found;
            }
        }
    }

    /// Panics if anything was wrong.
    pub fn assert_right(&self) {
        eprintln!(
            "{} cuts, {} acknowledged changes, {} faults, {} failed calls, {} refused openings",
            self.cuts, self.acknowledged, self.faults, self.failed, self.refused
        );
        let some = self.wrong[..self.wrong.len().min(5)].join("\n");
        assert!(self.wrong.is_empty(), "{} of {}:\n{some}", self.wrong.len(), self.cuts);
    }
}

/// Returns what is wrong with the files that a cut has left.
#[tokio::main(flavor = "current_thread")]
async fn check(image: &Path, ledger: &mut Ledger) -> Vec<String> {
    let runtime = match Runtime::open(image).await {
        Ok(runtime) => runtime,
        Err(error) => return vec![format!("the database does not open: {error}")],
    };
    let mut wrong = ledger.settle(&runtime).await;
    runtime.shutdown(Duration::from_secs(10)).await.expect("all servers end");
    let connection = rusqlite::Connection::open(image).expect("the database opens");
    let intact: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap_or_else(|error| error.to_string());
    if intact != "ok" {
        wrong.push(format!("integrity: {intact}"));
    }
    wrong
}
