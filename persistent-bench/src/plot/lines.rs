//! Curves over time: the sustained load.

use super::svg::{Anchor, BOUND, Svg, THIS};
use crate::report::{LoadSample, SustainedFigures};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 130.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TITLE: f64 = 28.0;
const TIMES: f64 = 34.0;

type Value = fn(&LoadSample) -> f64;

/// Draws throughput and file sizes over time, of this library and of upserts.
pub fn sustained(figures: &SustainedFigures) -> String {
    let mut svg = Svg::new(LEFT + WIDTH + RIGHT);
    let samples = || figures.this.iter().chain(&figures.upserts);
    let seconds = samples().map(|sample| sample.seconds).fold(f64::MIN_POSITIVE, f64::max);
    let panels: [(&str, Value); 3] = [
        ("Calls per second", |sample| sample.rate),
        ("Write-ahead log, megabytes", |sample| sample.wal),
        ("Commit log, megabytes", |sample| sample.commit_log),
    ];
    let right = LEFT + WIDTH;
    let mut top = TITLE;
    for (title, value) in panels {
        let most = round_up(samples().map(value).fold(f64::MIN_POSITIVE, f64::max));
        let bottom = top + HEIGHT;
        svg.heading(LEFT, top - 9.0, title);
        svg.colored_text(right - 64.0, top - 9.0, THIS, "persistent-runtime");
        svg.colored_text(right, top - 9.0, BOUND, "upserts");
        for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let (x, y) = (LEFT + part * WIDTH, bottom - part * HEIGHT);
            svg.grid([LEFT, y], [right, y]);
            svg.text(LEFT - 6.0, y + 4.0, Anchor::End, &label(part * most));
            svg.text(x, bottom + 17.0, Anchor::Middle, &format!("{} s", label(part * seconds)));
        }
        for (samples, color) in [(&figures.upserts, BOUND), (&figures.this, THIS)] {
            let points = samples.iter().map(|sample| {
                let x = LEFT + sample.seconds / seconds * WIDTH;
                [x, bottom - value(sample) / most * HEIGHT]
            });
            svg.curve(points, color);
        }
        top = bottom + TITLE + TIMES;
    }
    svg.finish(top - TITLE)
}

/// Returns the next larger number whose quarters have few digits.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0];
    power * factors.into_iter().find(|factor| factor * power >= value).unwrap_or(10.0)
}

fn label(value: f64) -> String {
    match value {
        1e4.. => format!("{:.0}k", value / 1e3),
        10.0.. => format!("{value:.0}"),
        _ => format!("{value:.1}").trim_end_matches(".0").to_owned(),
    }
}
