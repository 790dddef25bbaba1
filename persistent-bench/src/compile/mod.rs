//! The compile part: the cost of a server type in rustc, beside an actor of kameo.
//!
//! Generates one crate per [`Program`], builds it in cargo's unchanged dev profile with all
//! dependencies built beforehand, and measures the last build alone: the CPU time of cargo,
//! rustc and the linker, the memory of the largest of these processes, and the size of the
//! program. A build without any type shows which part of each figure is fixed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use crate::{
    Fallible,
    report::{Goal, Report},
};
use program::Program;

mod program;

/// The argument that makes this program a child process of this part.
pub const BUILD: &str = "build-cost";

type Figure = fn(&Cost) -> f64;

/// The resources that one build took.
#[derive(Clone, Copy)]
struct Cost {
    /// User and system time.
    cpu_seconds: f64,
    /// The peak resident memory of the largest process.
    megabytes: f64,
    /// The size of the program.
    binary_megabytes: f64,
}

/// Prints the table and sets the ratios of the report.
pub fn run(types: u32, report: &mut Report) -> Fallible<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let folder = workspace.join("target/compile-cost");
    println!("\na debug build of {types} server types of five methods each, in brackets of none");
    println!("{:<14}{:>18}{:>20}{:>18}", "", "CPU seconds", "memory, MB", "binary, MB");
    let mut costs = Vec::new();
    for program in Program::ALL {
        let package = Package::new(program, workspace, &folder)?;
        // Builds the dependencies, too.
        package.build(0)?;
        let fixed = package.build(0)?;
        let cost = package.build(types)?;
        println!(
            "{:<14}{:>10.1} ({:>5.1}){:>12.0} ({:>5.0}){:>10.1} ({:>5.1})",
            program.name(),
            cost.cpu_seconds,
            fixed.cpu_seconds,
            cost.megabytes,
            fixed.megabytes,
            cost.binary_megabytes,
            fixed.binary_megabytes
        );
        costs.push((program, cost));
    }
    let figures: [(&str, Figure); 3] = [
        ("cpu", |cost| cost.cpu_seconds),
        ("memory", |cost| cost.megabytes),
        ("binary", |cost| cost.binary_megabytes),
    ];
    let (_, this) = costs[0];
    for (figure, of) in figures {
        for (program, cost) in &costs[1..] {
            report.set(format!("compile_vs_{}_{figure}", program.name()), of(&this) / of(cost));
        }
        report.goal(&format!("compile_vs_kameo_{figure}"), Goal::AtMost(1.0));
    }
    Ok(())
}

/// A generated crate, a workspace of its own.
struct Package {
    program: Program,
    folder: PathBuf,
    /// Shared by all, so that a dependency of two is built once.
    target: PathBuf,
}

impl Package {
    fn new(program: Program, workspace: &Path, parent: &Path) -> Fallible<Self> {
        let folder = parent.join(program.name());
        fs::create_dir_all(folder.join("src"))?;
        let runtime = workspace.join("persistent-runtime");
        let dependencies = program.dependencies(runtime.to_str().ok_or("a path that is no text")?);
        let manifest = format!(
            "[package]\nname = \"{}\"\nedition = \"2024\"\n\n{dependencies}\n[workspace]\n",
            program.name()
        );
        fs::write(folder.join("Cargo.toml"), manifest)?;
        // The versions that the other parts measure.
        fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        Ok(Self { program, folder, target: parent.join("target") })
    }

    /// Builds the crate with `types` server types. Nothing of them is cached.
    fn build(&self, types: u32) -> Fallible<Cost> {
        fs::write(self.folder.join("src/main.rs"), self.program.source(types))?;
        let debug = self.target.join("debug");
        let ours = format!("{}-", self.program.name());
        if let Ok(crates) = fs::read_dir(debug.join("incremental")) {
            for entry in crates {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(&ours) {
                    fs::remove_dir_all(entry.path())?;
                }
            }
        }
        let output = Command::new(env::current_exe()?)
            .arg(BUILD)
            .arg(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let [cpu_seconds, megabytes] = serde_json::from_slice(&output.stdout)?;
        let binary = fs::metadata(debug.join(self.program.name()))?;
        #[expect(clippy::cast_precision_loss, reason = "no program has 2^53 bytes")]
        let binary_megabytes = binary.len() as f64 / 1e6;
        Ok(Cost { cpu_seconds, megabytes, binary_megabytes })
    }
}

/// Builds the crate in `folder` and prints the resources that the build took. Each build runs in
/// its own child process, because the system adds up all children of a process.
pub fn print_build_cost(folder: &Path) -> Fallible<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = cargo.args(["build", "--quiet"]).current_dir(folder).status()?;
    if !status.success() {
        return Err(format!("cargo cannot build {}", folder.display()).into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    #[expect(clippy::cast_precision_loss, reason = "neither comes near 2^53")]
    let (micros, kilobytes) = (cpu.num_microseconds() as f64, usage.max_rss() as f64);
    println!("{}", serde_json::json!([micros / 1e6, kilobytes / 1e3]));
    Ok(())
}
