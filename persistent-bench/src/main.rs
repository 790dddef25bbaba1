//! Measures this project beside its raw bounds and other means to the same end.

use std::path::PathBuf;

use bench::Report;

mod actors;
mod bench;
mod calls;
mod compile;
mod idle;
mod load;
mod many;
mod peers;
mod plot;
mod raw;
mod servers;
mod storage;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "persistent-bench [calls | storage | compile] [--types N] [--quick] [--json FILE] [--plot FILE]";

fn main() -> Fallible<()> {
    let mut types = 50;
    let (mut half, mut quick, mut json, mut plot) = (None, false, None, None::<PathBuf>);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "calls" | "storage" | "compile" => half = Some(arg),
            "--quick" => quick = true,
            "--json" => json = Some(PathBuf::from(args.next().ok_or(USAGE)?)),
            "--plot" => plot = Some(PathBuf::from(args.next().ok_or(USAGE)?)),
            "--types" => types = args.next().ok_or(USAGE)?.parse()?,
            // A child process of `compile`.
            "build-cost" => return compile::build_cost(args.next().ok_or(USAGE)?.as_ref()),
            // A child process of `calls`.
            "idle" => {
                let kind = args.next().ok_or(USAGE)?;
                return idle::run(&kind, args.next().ok_or(USAGE)?.parse()?);
            }
            // A child process of `storage`.
            "load" => {
                let path = PathBuf::from(args.next().ok_or(USAGE)?);
                let servers = args.next().ok_or(USAGE)?.parse()?;
                let seconds = args.next().ok_or(USAGE)?.parse()?;
                return many::load_until_killed(&path, servers, seconds);
            }
            _ => return Err(USAGE.into()),
        }
    }
    let mut report = Report::default();
    if half.as_deref() == Some("compile") {
        compile::run(types, &mut report)?;
        report.print_goals();
        return Ok(());
    }
    if half.as_deref() != Some("storage") {
        calls::run(quick, &mut report);
    }
    if half.as_deref() != Some("calls") {
        storage::run(quick, plot.as_deref(), &mut report)?;
    }
    report.print_goals();
    if let Some(json) = json {
        report.write_json(&json)?;
    }
    Ok(())
}
