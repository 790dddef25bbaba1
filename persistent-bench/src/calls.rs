//! What a message costs, and a server that waits for one.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime, runtime::Runtime, task::JoinSet};

use crate::{
    actors::{Actix, Kameo, Ractor},
    bench::{Contender, Goal, Report, interleave},
    idle,
    peers::{Channel, Lock, Patient, Peer, This},
};

const CALLERS: u32 = 64;
const SERVERS: u32 = 1000;
/// How long each figure is measured at least.
const LEAST: Duration = Duration::from_millis(30);

/// Where the callers run.
#[derive(Clone, Copy)]
enum Place {
    /// In tasks of a runtime with two worker threads.
    Workers,
    /// In `block_on` on another thread than those two.
    Outside,
    /// On the only thread of a runtime.
    Alone,
}

#[derive(Clone, Copy)]
enum Work {
    Ask,
    AskWithin,
    /// 64 callers ask one server.
    Ask64,
    /// 64 callers ask 1000 servers in turn.
    Ask1000,
    Cast,
    /// A new server is asked once and ended.
    Spawn,
}

struct Row {
    title: &'static str,
    /// Of its ratios: `<name>_vs_<peer><suffix>`.
    name: &'static str,
    suffix: &'static str,
    work: Work,
    place: Place,
    /// How many messages at a time, if not quick.
    messages: u32,
}

type Measure = fn(Work, Place, u32) -> f64;

const THIS: &str = "this";
const PEERS: [(&str, Measure); 6] = [
    (THIS, measure::<This>),
    ("channel", measure::<Channel>),
    ("mutex", measure::<Lock>),
    ("kameo", measure::<Kameo>),
    ("ractor", measure::<Ractor>),
    ("actix", measure::<Actix>),
];

const ROWS: [Row; 8] = [
    row("ask", "ask", "_2w", Work::Ask, Place::Workers, 20_000),
    row("ask, from outside", "ask_outside", "", Work::Ask, Place::Outside, 20_000),
    row("ask, one thread", "ask", "_1t", Work::Ask, Place::Alone, 20_000),
    row("ask with a deadline", "ask_within", "", Work::AskWithin, Place::Workers, 20_000),
    row("64 callers, one server", "ask_64", "", Work::Ask64, Place::Workers, 64_000),
    row("64 callers, 1000 servers", "ask_1000", "", Work::Ask1000, Place::Workers, 64_000),
    row("cast", "cast", "", Work::Cast, Place::Workers, 1_000_000),
    row("spawn, ask, end", "spawn", "", Work::Spawn, Place::Workers, 100_000),
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

/// Prints the tables, and puts the ratios into the report.
pub fn run(quick: bool, report: &mut Report) {
    let (rounds, share) = if quick { (5, 20) } else { (7, 1) };
    println!("\nns a message, median of {rounds} rounds; below it: this / it");
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

/// Prints a row, and returns its worst ratio to one of the actor libraries.
fn compare(row: &Row, rounds: usize, messages: u32, report: &mut Report) -> f64 {
    let contenders = PEERS.map(|(peer, measure)| {
        Contender::new(peer, move || measure(row.work, row.place, messages))
    });
    let samples = interleave(rounds, contenders.into());
    print!("{:<26}", row.title);
    for (peer, _) in PEERS {
        print!("{:>10.0}", samples.median(peer, |ns| *ns));
    }
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

/// What the deadline adds to a call.
fn deadline(rounds: usize, messages: u32, report: &mut Report) {
    let ask = |measure: Measure, work| move || measure(work, Place::Workers, messages);
    let samples = interleave(
        rounds,
        vec![
            Contender::new("with", ask(measure::<This>, Work::Ask)),
            Contender::new("without", ask(measure::<Patient>, Work::Ask)),
            Contender::new("channel, with", ask(measure::<Channel>, Work::AskWithin)),
            Contender::new("channel, without", ask(measure::<Channel>, Work::Ask)),
        ],
    );
    let own = samples.ratio("with", "without", |ns| *ns);
    let channel = samples.ratio("channel, with", "channel, without", |ns| *ns);
    println!("\na deadline makes a call {own:.2} times as costly; one by tokio's timeout");
    println!("an ask by channel {channel:.2} times");
    report.set("deadline_cost", own);
    report.set("deadline_cost_channel", channel);
}

/// Memory of an idle one, each kind in a process of its own.
fn idle_bytes(count: u32, report: &mut Report) {
    println!("\nbytes (resident) of an idle one, among {count}");
    for kind in idle::KINDS {
        let exe = std::env::current_exe().expect("this program's path");
        let child = Command::new(exe).args(["idle", kind, &count.to_string()]).output();
        let output = String::from_utf8(child.expect("a child process").stdout);
        let bytes = output.ok().and_then(|text| text.trim().parse::<f64>().ok());
        let bytes = bytes.expect("the child's result");
        println!("{kind:<26}{bytes:>10.0}");
        let name = match kind {
            idle::THIS => "idle_bytes".to_owned(),
            kind => format!("idle_bytes_{kind}"),
        };
        report.set(name, bytes);
    }
}

impl Place {
    fn runtime(self) -> Runtime {
        let builder = match self {
            Self::Alone => runtime::Builder::new_current_thread().enable_time().build(),
            Self::Workers | Self::Outside => two_workers(),
        };
        builder.expect("a tokio runtime")
    }
}

/// A runtime with two worker threads.
pub fn two_workers() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()
}

/// Nanoseconds a message, in a runtime of its own.
fn measure<P: Peer>(work: Work, place: Place, messages: u32) -> f64 {
    let runtime = place.runtime();
    let job = async move {
        let home = P::home(matches!(place, Place::Alone)).await;
        time::<P>(&home, work, messages).await
    };
    let seconds = match place {
        Place::Workers => runtime.block_on(runtime.spawn(job)).expect("no panic"),
        Place::Outside => runtime.block_on(job),
        Place::Alone => P::block_on(&runtime, job),
    };
    seconds * 1e9
}

/// Seconds a message, after some to warm up. The messages are sent again and
/// again until that has taken long enough.
async fn time<P: Peer>(home: &P::Home, work: Work, messages: u32) -> f64 {
    let count = if let Work::Ask1000 = work { SERVERS } else { 1 };
    let mut servers = Vec::new();
    for key in 0..count {
        let server = P::spawn(home, key).await;
        server.ask().await;
        servers.push(server);
    }
    let servers = servers.into();
    let mut seconds = 0.0;
    for least in [LEAST / 5, LEAST] {
        let (mut sent, begin) = (0, Instant::now());
        while begin.elapsed() < least {
            send(home, &servers, work, messages).await;
            sent += messages;
        }
        seconds = begin.elapsed().as_secs_f64() / f64::from(sent);
    }
    seconds
}

async fn send<P: Peer>(home: &P::Home, servers: &Arc<[P]>, work: Work, messages: u32) {
    let server = &servers[0];
    match work {
        Work::Ask => {
            for _ in 0..messages {
                server.ask().await;
            }
        }
        Work::AskWithin => {
            for _ in 0..messages {
                server.ask_within().await;
            }
        }
        Work::Ask64 | Work::Ask1000 => from_many(servers, messages).await,
        Work::Cast => {
            let before = server.ask().await;
            for _ in 0..messages {
                server.cast().await;
            }
            // It is asked behind the casts.
            assert_eq!(server.ask().await, before + u64::from(messages));
        }
        Work::Spawn => {
            for key in 1..=messages {
                let server = P::spawn(home, key).await;
                server.ask().await;
                server.end().await;
            }
        }
    }
}

/// 64 callers go around the servers, each from a place of its own.
async fn from_many<P: Peer>(servers: &Arc<[P]>, messages: u32) {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let servers = servers.clone();
        callers.spawn(async move {
            let first = (caller * SERVERS / CALLERS) as usize;
            for nth in 0..(messages / CALLERS) as usize {
                servers[(first + nth) % servers.len()].ask().await;
            }
        });
    }
    callers.join_all().await;
}
