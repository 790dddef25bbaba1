//! Bars on logarithmic scales, one panel per workload.

use super::svg::{Anchor, BOUND, OTHER, Svg, THIS};
use crate::report::Plots;

const WIDTH: f64 = 760.0;
const COLUMNS: usize = 2;
const COLUMN_GAP: f64 = 28.0;
const COLUMN: f64 = (WIDTH - COLUMN_GAP) / 2.0;
/// The space of a bar's name, left of the bar.
const NAMES: f64 = 122.0;
/// The space of a bar's value, right of the longest bar.
const VALUES: f64 = 48.0;
const BAR: f64 = 11.0;
const PITCH: f64 = 16.0;
const TITLE: f64 = 20.0;
const PANEL_GAP: f64 = 14.0;

/// A group of bars that share a scale with all other panels of its section.
struct Panel {
    title: String,
    bars: Vec<Bar>,
}

struct Bar {
    name: &'static str,
    color: &'static str,
    value: f64,
}

/// Draws the cost of messages and the throughput of durable calls.
pub fn performance(plots: &Plots) -> String {
    let mut svg = Svg::new(WIDTH);
    let mut top = 0.0;
    let calls: Vec<_> = plots
        .calls
        .iter()
        .filter(|row| SHOWN_CALLS.contains(&row.title.as_str()))
        .map(|row| Panel { title: row.title.clone(), bars: bars(&row.nanoseconds) })
        .collect();
    if !calls.is_empty() {
        let title =
            "Nanoseconds per message in memory: shorter bars are better, scale is logarithmic";
        top = section(&mut svg, top, title, &calls);
    }
    let durable: Vec<_> = plots
        .durable
        .iter()
        .filter(|row| SHOWN_CALLERS.contains(&row.callers))
        .map(|row| {
            let plural = if row.callers == 1 { "" } else { "s" };
            let title = format!("{} caller{plural}, as many servers", row.callers);
            Panel { title, bars: bars(&row.rates) }
        })
        .collect();
    if !durable.is_empty() {
        let title = "Durable calls per second: longer bars are better, scale is logarithmic";
        top = section(&mut svg, top, title, &durable);
    }
    svg.finish(top)
}

/// The rows that are plotted: as many as a README has room for.
const SHOWN_CALLS: [&str; 6] = [
    "call",
    "call, one thread",
    "64 callers, 1 server",
    "64 callers, 1000 servers",
    "cast",
    "start, call, stop",
];
const SHOWN_CALLERS: [u64; 4] = [1, 64, 1024, 4096];

fn bars(figures: &[(String, f64)]) -> Vec<Bar> {
    let bar = |(name, value): &(String, f64)| {
        let (name, color) = match name.as_str() {
            "this" => ("persistent-runtime", THIS),
            "channel" => ("tokio channel", BOUND),
            "mutex" => ("tokio mutex", BOUND),
            "kameo" => ("kameo", OTHER),
            "ractor" => ("ractor", OTHER),
            "actix" => ("actix", OTHER),
            "raw" => ("SQLite, batched", BOUND),
            "naive" => ("SQLite, unbatched", OTHER),
            _ => return None,
        };
        Some(Bar { name, color, value: *value })
    };
    figures.iter().filter_map(bar).collect()
}

/// Draws panels under a heading. Returns where the next section begins.
fn section(svg: &mut Svg, top: f64, title: &str, panels: &[Panel]) -> f64 {
    svg.heading(0.0, top + 14.0, title);
    let values = || panels.iter().flat_map(|panel| &panel.bars).map(|bar| bar.value);
    // Bars begin at a power of ten, so that the shortest bar is visible.
    let least = (values().fold(f64::INFINITY, f64::min) * 0.8).log10().floor();
    let most = values().fold(0.0, f64::max).log10();
    let length = |value: f64| (value.log10() - least) / (most - least) * (COLUMN - NAMES - VALUES);
    let mut top = top + 26.0;
    for row in panels.chunks(COLUMNS) {
        let mut bottom = top;
        for (left, panel) in [0.0, COLUMN + COLUMN_GAP].into_iter().zip(row) {
            bottom = bottom.max(draw(svg, left, top, panel, length));
        }
        top = bottom + PANEL_GAP;
    }
    top + 6.0
}

/// Draws a panel. Returns its lower edge.
fn draw(svg: &mut Svg, left: f64, top: f64, panel: &Panel, length: impl Fn(f64) -> f64) -> f64 {
    svg.text(left + NAMES, top + 13.0, Anchor::Start, &panel.title);
    let mut y = top + TITLE;
    for bar in &panel.bars {
        let (middle, end) = (y + BAR - 1.5, left + NAMES + length(bar.value));
        svg.text(left + NAMES - 6.0, middle, Anchor::End, bar.name);
        svg.bar(left + NAMES, y, end - left - NAMES, BAR, bar.color);
        svg.text(end + 5.0, middle, Anchor::Start, &label(bar.value));
        y += PITCH;
    }
    svg.grid([left + NAMES, top + TITLE - 3.0], [left + NAMES, y - PITCH + BAR + 3.0]);
    y
}

/// Returns a value with two or three significant digits.
fn label(value: f64) -> String {
    match value {
        999_500.0.. => format!("{:.1}M", value / 1e6),
        9950.0.. => format!("{:.0}k", value / 1e3),
        999.5.. => format!("{:.1}k", value / 1e3),
        9.95.. => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}
