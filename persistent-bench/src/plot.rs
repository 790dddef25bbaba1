//! The sustained load as a picture.

use std::fmt::Write;

use crate::many::Look;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
/// Around each of the panels.
const MARGIN: f64 = 60.0;

type Value = fn(&Look) -> f64;

/// Throughput and the sizes of log and journal over time, of this engine and of upserts.
pub fn svg(engine: &[Look], upserts: &[Look]) -> String {
    let (width, height) = (WIDTH + 2.0 * MARGIN, 3.0 * HEIGHT + 4.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let looks = || engine.iter().chain(upserts);
    let seconds = looks().map(|look| look.seconds).fold(0.0, f64::max);
    let panels: [(&str, Value); 3] = [
        ("calls a second", |look| look.rate),
        ("WAL, megabytes", |look| look.wal),
        ("journal, megabytes", |look| look.journal),
    ];
    let mut top = MARGIN;
    for (title, value) in panels {
        let most = looks().map(value).fold(f64::MIN_POSITIVE, f64::max);
        let bottom = top + HEIGHT;
        axes(&mut svg, title, top, seconds, most);
        let lines = [("persistent-runtime", engine, "#1f77b4"), ("upserts", upserts, "#d62728")];
        for (nth, (name, looks, color)) in lines.into_iter().enumerate() {
            let points = looks.iter().map(|look| {
                let x = MARGIN + look.seconds / seconds * WIDTH;
                format!("{x:.1},{:.1}", bottom - value(look) / most * HEIGHT)
            });
            let points = points.collect::<Vec<_>>().join(" ");
            line(
                &mut svg,
                &format!(
                    "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
                ),
            );
            let x = if nth == 0 { MARGIN + WIDTH - 200.0 } else { MARGIN + WIDTH - 60.0 };
            line(
                &mut svg,
                &format!("<text x=\"{x}\" y=\"{}\" fill=\"{color}\">{name}</text>", top - 8.0),
            );
        }
        top = bottom + MARGIN;
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, title: &str, top: f64, seconds: f64, most: f64) {
    let bottom = top + HEIGHT;
    let right = MARGIN + WIDTH;
    line(svg, &format!("<text x=\"{MARGIN}\" y=\"{}\">{title}</text>", top - 8.0));
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let y = bottom - part * HEIGHT;
        let label = label(part * most);
        line(svg, &format!("<path d=\"M{MARGIN} {y}H{right}\" stroke=\"#ddd\"/>"));
        line(
            svg,
            &format!("<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{label}</text>", MARGIN - 6.0),
        );
        let x = MARGIN + part * WIDTH;
        let time = part * seconds;
        let y = bottom + 16.0;
        line(svg, &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{time:.0} s</text>"));
    }
}

fn label(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0}k", value / 1000.0) } else { format!("{value:.0}") }
}

fn line(svg: &mut String, text: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(svg, "{text}");
}
