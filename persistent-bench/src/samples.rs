//! Interleaved rounds, medians and ratios.

use std::collections::BTreeMap;

/// A named measurement.
pub struct Contender<'a, T> {
    name: &'static str,
    measure: Box<dyn FnMut() -> T + 'a>,
}

impl<'a, T> Contender<'a, T> {
    pub fn new(name: &'static str, measure: impl FnMut() -> T + 'a) -> Self {
        Self { name, measure: Box::new(measure) }
    }
}

/// The results of each contender, one per round.
pub struct Samples<T>(BTreeMap<&'static str, Vec<T>>);

/// Measures every contender once per round, so that other load on the machine slows all
/// contenders alike.
pub fn interleave<T>(rounds: usize, mut contenders: Vec<Contender<'_, T>>) -> Samples<T> {
    let mut samples = BTreeMap::<_, Vec<T>>::new();
    for _ in 0..rounds {
        for contender in &mut contenders {
            samples.entry(contender.name).or_default().push((contender.measure)());
        }
    }
    Samples(samples)
}

impl<T> Samples<T> {
    /// Returns the median of a contender's figure.
    pub fn median(&self, name: &str, figure: impl Fn(&T) -> f64) -> f64 {
        median(self.0[name].iter().map(figure).collect())
    }

    /// Returns the median of the ratios of two contenders' figures. Each ratio is taken
    /// within one round.
    pub fn ratio(&self, of: &str, to: &str, figure: impl Fn(&T) -> f64) -> f64 {
        let rounds = self.0[of].iter().zip(&self.0[to]);
        median(rounds.map(|(of, to)| figure(of) / figure(to)).collect())
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
