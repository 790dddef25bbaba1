//! The result of a run: ratios with their goals, and the figures that are plotted.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::Fallible;

/// The target of a ratio.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// Every ratio by name, the goals of some of them, and the plotted figures.
///
/// In JSON the ratios are the numbers of the outermost object, and the figures are under
/// `plots`. Goals are not stored.
#[derive(Default, Serialize, Deserialize)]
pub struct Report {
    #[serde(default)]
    pub plots: Plots,
    #[serde(skip)]
    goals: Vec<(String, Goal)>,
    #[serde(flatten)]
    ratios: BTreeMap<String, f64>,
}

/// The figures that are plotted. A part that did not run leaves its own empty.
#[derive(Default, Serialize, Deserialize)]
pub struct Plots {
    /// Rows of the calls part.
    pub calls: Vec<CallFigures>,
    /// Rows of the durable calls.
    pub durable: Vec<DurableFigures>,
    pub sustained: Option<SustainedFigures>,
}

/// The cost of one kind of message.
#[derive(Serialize, Deserialize)]
pub struct CallFigures {
    pub title: String,
    /// Nanoseconds per message and contender.
    pub nanoseconds: Vec<(String, f64)>,
}

/// The throughput of durable calls.
#[derive(Serialize, Deserialize)]
pub struct DurableFigures {
    pub callers: u64,
    /// Calls per second and contender.
    pub rates: Vec<(String, f64)>,
}

/// The sustained load, of this library and of upserts.
#[derive(Serialize, Deserialize)]
pub struct SustainedFigures {
    pub this: Vec<LoadSample>,
    pub upserts: Vec<LoadSample>,
}

/// Throughput and file sizes at one moment of a load.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct LoadSample {
    /// Since the load began.
    pub seconds: f64,
    /// Calls per second since the previous sample.
    pub rate: f64,
    /// The size of the write-ahead log in megabytes.
    pub wal: f64,
    /// The size of the database file in megabytes.
    pub database: f64,
    /// The size of the commit log's rows in megabytes.
    pub commit_log: f64,
}

impl Report {
    pub fn set(&mut self, name: impl Into<String>, ratio: f64) {
        self.ratios.insert(name.into(), ratio);
    }

    /// Sets the goal of a ratio that is already set.
    pub fn goal(&mut self, name: &str, goal: Goal) {
        self.goals.push((name.to_owned(), goal));
    }

    pub fn print_goals(&self) {
        println!("\n{:<28} {:>10} {:>12}", "ratio", "measured", "goal");
        for (name, goal) in &self.goals {
            let ratio = self.ratios[name];
            let (met, goal) = match *goal {
                Goal::AtMost(most) => (ratio <= most, format!("<= {most}")),
                Goal::AtLeast(least) => (ratio >= least, format!(">= {least}")),
            };
            let remark = if met { "" } else { "  missed" };
            println!("{name:<28} {ratio:>10.2} {goal:>12}{remark}");
        }
    }

    pub fn write(&self, path: &Path) -> Fallible<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)?)?)
    }

    /// Adds what an earlier run wrote. The figures of that run replace those of the same
    /// part.
    pub fn read(&mut self, path: &Path) -> Fallible<()> {
        let earlier: Self = serde_json::from_slice(&fs::read(path)?)?;
        self.ratios.extend(earlier.ratios);
        if !earlier.plots.calls.is_empty() {
            self.plots.calls = earlier.plots.calls;
        }
        if !earlier.plots.durable.is_empty() {
            self.plots.durable = earlier.plots.durable;
        }
        self.plots.sustained = earlier.plots.sustained.or(self.plots.sustained.take());
        Ok(())
    }
}
