//! Rounds, medians, ratios.

use std::{collections::BTreeMap, fs::File, io, path::Path};

/// Something to measure, and the name of it.
pub struct Contender<'a, T> {
    name: &'static str,
    measure: Box<dyn FnMut() -> T + 'a>,
}

impl<'a, T> Contender<'a, T> {
    pub fn new(name: &'static str, measure: impl FnMut() -> T + 'a) -> Self {
        Self { name, measure: Box::new(measure) }
    }
}

/// What was measured, round by round.
pub struct Samples<T>(BTreeMap<&'static str, Vec<T>>);

/// Measures every contender in turn, round after round, so that whatever else
/// the machine does slows all of them alike.
pub fn interleave<T>(rounds: usize, contenders: Vec<Contender<'_, T>>) -> Samples<T> {
    let mut contenders = contenders;
    let mut samples = BTreeMap::<_, Vec<T>>::new();
    for _ in 0..rounds {
        for contender in &mut contenders {
            samples.entry(contender.name).or_default().push((contender.measure)());
        }
    }
    Samples(samples)
}

impl<T> Samples<T> {
    /// The median of a contender's figure.
    pub fn median(&self, name: &str, figure: impl Fn(&T) -> f64) -> f64 {
        median(self.0[name].iter().map(figure).collect())
    }

    /// The median of the ratios of two contenders' figures, each taken within
    /// a round.
    pub fn ratio(&self, of: &str, to: &str, figure: impl Fn(&T) -> f64) -> f64 {
        let rounds = self.0[of].iter().zip(&self.0[to]);
        median(rounds.map(|(of, to)| figure(of) / figure(to)).collect())
    }
}

/// The middle one of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What a ratio should be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// Every ratio by name, and the goals for some of them.
#[derive(Default)]
pub struct Report {
    ratios: BTreeMap<String, f64>,
    goals: Vec<(String, Goal)>,
}

impl Report {
    pub fn set(&mut self, name: impl Into<String>, ratio: f64) {
        self.ratios.insert(name.into(), ratio);
    }

    /// The goal of a ratio that is set already.
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

    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        serde_json::to_writer_pretty(File::create(path)?, &self.ratios)?;
        Ok(())
    }
}
