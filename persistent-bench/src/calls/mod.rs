//! The calls part: the cost of a message, and the memory of an idle server.

use std::{env, process::Command};

use crate::{
    report::{CallFigures, Goal, Report},
    samples::{Contender, interleave},
};
use actors::{Actix, Kameo, Ractor};
pub use idle::{IDLE, print_idle_bytes};
use peers::{Channel, Lock, This, WithoutDeadline};
use workload::{Place, Work, nanoseconds_per_message};

mod actors;
mod idle;
mod peers;
mod workload;

struct Row {
    title: &'static str,
    /// Its ratios are named `<name>_vs_<peer><suffix>`.
    name: &'static str,
    suffix: &'static str,
    work: Work,
    place: Place,
    /// The number of messages per batch, unless the run is quick.
    messages: u32,
}

type Measure = fn(Work, Place, u32) -> f64;

const THIS: &str = "this";
const PEERS: [(&str, Measure); 6] = [
    (THIS, nanoseconds_per_message::<This>),
    ("channel", nanoseconds_per_message::<Channel>),
    ("mutex", nanoseconds_per_message::<Lock>),
    ("kameo", nanoseconds_per_message::<Kameo>),
    ("ractor", nanoseconds_per_message::<Ractor>),
    ("actix", nanoseconds_per_message::<Actix>),
];

const ROWS: [Row; 8] = [
    row("call", "ask", "_2w", Work::Ask, Place::Workers, 20_000),
    row("call, outside the runtime", "ask_outside", "", Work::Ask, Place::Outside, 20_000),
    row("call, one thread", "ask", "_1t", Work::Ask, Place::OneThread, 20_000),
    row("call with a deadline", "ask_within", "", Work::AskWithin, Place::Workers, 20_000),
    row("64 callers, 1 server", "ask_64", "", Work::Ask64, Place::Workers, 64_000),
    row("64 callers, 1000 servers", "ask_1000", "", Work::Ask1000, Place::Workers, 64_000),
    row("cast", "cast", "", Work::Cast, Place::Workers, 1_000_000),
    row("start, call, stop", "spawn", "", Work::Spawn, Place::Workers, 100_000),
];

const fn row(
    title: &'static str,
    name: &'static str,
    suffix: &'static str,
    work: Work,
    place: Place,
    messages: u32,
) -> Row {
    Row { title, name, suffix, work, place, messages }
}

/// Prints the tables and adds the ratios and figures to the report.
pub fn run(quick: bool, report: &mut Report) {
    let (rounds, share) = if quick { (5, 20) } else { (7, 1) };
    println!("\nns per message, median of {rounds} rounds; below each: this library / the other");
    print!("{:<26}", "");
    for (peer, _) in PEERS {
        print!("{peer:>10}");
    }
    println!();
    let mut worst = f64::MIN;
    for row in &ROWS {
        worst = worst.max(compare(row, rounds, row.messages / share, report));
    }
    report.set("worst_vs_actors", worst);
    deadline(rounds, 20_000 / share, report);
    idle_bytes(if quick { 100_000 } else { 1_000_000 }, report);
    for (name, goal) in [
        ("ask_vs_channel_2w", Goal::AtMost(0.25)),
        ("ask_vs_channel_1t", Goal::AtMost(0.5)),
        ("ask_vs_mutex_2w", Goal::AtMost(3.0)),
        ("ask_64_vs_channel", Goal::AtMost(0.8)),
        ("cast_vs_channel", Goal::AtMost(0.5)),
        ("worst_vs_actors", Goal::AtMost(1.0)),
        ("idle_bytes", Goal::AtMost(512.0)),
    ] {
        report.goal(name, goal);
    }
}

/// Measures and prints one row. Returns its worst ratio to an actor library.
fn compare(row: &Row, rounds: usize, messages: u32, report: &mut Report) -> f64 {
    let contenders = PEERS.map(|(peer, measure)| {
        Contender::new(peer, move || measure(row.work, row.place, messages))
    });
    let samples = interleave(rounds, contenders.into());
    let nanoseconds = PEERS.map(|(peer, _)| (peer.to_owned(), samples.median(peer, |ns| *ns)));
    print!("{:<26}", row.title);
    for (_, nanoseconds) in &nanoseconds {
        print!("{nanoseconds:>10.0}");
    }
    report
        .plots
        .calls
        .push(CallFigures { title: row.title.to_owned(), nanoseconds: nanoseconds.into() });
    print!("\n{:<26}{:>10}", "", "");
    let mut worst = f64::MIN;
    for (peer, _) in PEERS.iter().skip(1) {
        let ratio = samples.ratio(THIS, peer, |ns| *ns);
        print!("{ratio:>10.2}");
        report.set(format!("{}_vs_{peer}{}", row.name, row.suffix), ratio);
        if row.suffix == "_2w" {
            report.set(format!("{}_vs_{peer}", row.name), ratio);
        }
        if !matches!(*peer, "channel" | "mutex") {
            worst = worst.max(ratio);
        }
    }
    println!();
    worst
}

/// Measures what a deadline adds to a call.
fn deadline(rounds: usize, messages: u32, report: &mut Report) {
    let ask = |measure: Measure, work| move || measure(work, Place::Workers, messages);
    let samples = interleave(
        rounds,
        vec![
            Contender::new("with", ask(nanoseconds_per_message::<This>, Work::Ask)),
            Contender::new("without", ask(nanoseconds_per_message::<WithoutDeadline>, Work::Ask)),
            Contender::new(
                "channel, with",
                ask(nanoseconds_per_message::<Channel>, Work::AskWithin),
            ),
            Contender::new("channel, without", ask(nanoseconds_per_message::<Channel>, Work::Ask)),
        ],
    );
    let own = samples.ratio("with", "without", |ns| *ns);
    let channel = samples.ratio("channel, with", "channel, without", |ns| *ns);
    println!("\na deadline multiplies the cost of a call by {own:.2}");
    println!("tokio's timeout multiplies the cost of a call over a channel by {channel:.2}");
    report.set("deadline_cost", own);
    report.set("deadline_cost_channel", channel);
}

/// Measures the memory of one idle server, each contender in its own process.
fn idle_bytes(count: u32, report: &mut Report) {
    println!("\nresident bytes per idle server, of {count} servers");
    for contender in idle::CONTENDERS {
        let exe = env::current_exe().expect("this program's path");
        let child = Command::new(exe).args([IDLE, contender, &count.to_string()]).output();
        let output = String::from_utf8(child.expect("a child process").stdout);
        let bytes = output.ok().and_then(|text| text.trim().parse::<f64>().ok());
        let bytes = bytes.expect("the child's result");
        println!("{contender:<26}{bytes:>10.0}");
        let name = match contender {
            idle::THIS => "idle_bytes".to_owned(),
            contender => format!("idle_bytes_{contender}"),
        };
        report.set(name, bytes);
    }
}
