//! Benchmarks of this library beside its lower bounds and other libraries.
//!
//! Each part prints tables and adds its ratios to the [`Report`]:
//!
//! - `calls`: the cost of messages in memory, beside tokio's primitives and three actor
//!   libraries;
//! - `storage`: the cost of durability, beside plain rusqlite;
//! - `many`: ten million stored servers, beside plain rusqlite. Runs only when named.
//! - `compile`: the cost of a server type in rustc, beside actors of kameo. Runs only when
//!   named.

use std::path::PathBuf;

use report::Report;

mod calls;
mod compile;
mod load;
mod plot;
mod report;
mod samples;
mod storage;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: persistent-bench [calls | storage | many | compile] [--quick]
                        [--servers N] [--types N] [--json FILE] [--plot FOLDER]
                        [--redraw FILE]...

Runs `calls` and `storage` unless one part is named.
  --quick        measures for a shorter time and with fewer servers
  --servers N    the number of servers of `many` (default: 10000000; quick: 50000)
  --types N      the number of server types of `compile` (default: 50; quick: 10)
  --json FILE    writes all ratios and plotted figures
  --plot FOLDER  writes performance.svg and sustained.svg
  --redraw FILE  runs nothing; plots the figures of a file that --json wrote";

#[derive(Default)]
struct Args {
    part: Option<String>,
    quick: bool,
    servers: Option<u64>,
    types: Option<u32>,
    json: Option<PathBuf>,
    plot: Option<PathBuf>,
    redraw: Vec<PathBuf>,
}

fn main() -> Fallible<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or(USAGE);
    let mut parsed = Args::default();
    while let Ok(arg) = next() {
        match arg.as_str() {
            "calls" | "storage" | "many" | "compile" => parsed.part = Some(arg),
            "--quick" => parsed.quick = true,
            "--servers" => parsed.servers = Some(next()?.parse()?),
            "--types" => parsed.types = Some(next()?.parse()?),
            "--json" => parsed.json = Some(next()?.into()),
            "--plot" => parsed.plot = Some(next()?.into()),
            "--redraw" => parsed.redraw.push(next()?.into()),
            // The other commands are for child processes that the parts start.
            calls::IDLE => return calls::print_idle_bytes(&next()?, next()?.parse()?),
            storage::LOAD => {
                return storage::load_until_killed(
                    next()?.as_ref(),
                    next()?.parse()?,
                    next()?.parse()?,
                );
            }
            compile::BUILD => return compile::print_build_cost(next()?.as_ref()),
            _ => return Err(USAGE.into()),
        }
    }
    run(&parsed)
}

fn run(args: &Args) -> Fallible<()> {
    let mut report = Report::default();
    if args.redraw.is_empty() {
        let part = args.part.as_deref();
        if matches!(part, None | Some("calls")) {
            calls::run(args.quick, &mut report);
        }
        if matches!(part, None | Some("storage")) {
            storage::run(args.quick, &mut report)?;
        }
        if part == Some("many") {
            storage::many(args.quick, args.servers, &mut report)?;
        }
        if part == Some("compile") {
            compile::run(args.types.unwrap_or(if args.quick { 10 } else { 50 }), &mut report)?;
        }
        report.print_goals();
    }
    for earlier in &args.redraw {
        report.read(earlier)?;
    }
    if let Some(json) = &args.json {
        report.write(json)?;
    }
    if let Some(folder) = &args.plot {
        plot::write(folder, &report.plots)?;
    }
    Ok(())
}
