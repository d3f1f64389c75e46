//! The command line: what the commands share, and one file for each group of them.

mod doctor;
mod drive;
mod likeness;
mod mount;
mod mutants;
mod play;
mod run;
mod shrink;
mod trips;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::engine::{self, Engine, Python};
use crate::runner::Bench;
use crate::scenario::Scenario;

/// A simulated network drive, and what caches lose on it.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Run(run::RunArgs),
    Replay(play::ReplayArgs),
    Shrink(shrink::ShrinkArgs),
    Explain(shrink::ExplainArgs),
    Roundtrips(trips::TripsArgs),
    Soak(play::SoakArgs),
    Mutants(mutants::MutantsArgs),
    /// Show scenarios and engines
    List,
    Mount(mount::MountArgs),
    Unmount(mount::UnmountArgs),
    Inject(drive::InjectArgs),
    Stats(drive::StatsArgs),
    Faults(drive::FaultsArgs),
    Validate(validate::ValidateArgs),
    Doctor(doctor::DoctorArgs),
    Likeness(likeness::LikenessArgs),
}

/// What every command that runs engines needs
#[derive(Debug, Args)]
struct BenchArgs {
    /// Python with the engines installed
    #[arg(long, default_value = ".venv/bin/python")]
    python: PathBuf,
    /// Folder for histories, logs and the report
    #[arg(long, default_value = "target/reports")]
    out: PathBuf,
}

impl BenchArgs {
    fn bench(&self, temp: &Path) -> Result<Bench, String> {
        crate::fuse::mount::can_mount().map_err(|err| format!("the drive cannot be mounted: {err}"))?;
        let worker = engine::write_worker(temp)?;
        let program = std::env::current_exe().map_err(|err| format!("where is this program? {err}"))?;
        let absolute = |path: &Path| std::path::absolute(path).map_err(|err| format!("{}: {err}", path.display()));
        let python = Python { interpreter: absolute(&self.python)?, worker };
        Ok(Bench { program, python, out: absolute(&self.out)? })
    }
}

fn scenarios(names: &[String]) -> Result<Vec<Scenario>, String> {
    let built_in = Scenario::built_in()?;
    if names == ["all"] {
        return Ok(built_in);
    }
    names
        .iter()
        .map(|name| match built_in.iter().find(|scenario| scenario.name == *name) {
            Some(scenario) => Ok(scenario.clone()),
            None if Path::new(name).extension().is_some_and(|ext| ext == "toml") => Scenario::load(name.as_ref()),
            None => Err(format!("there is no scenario {name:?}; `harness list` shows them")),
        })
        .collect()
}

fn engines(names: &[String]) -> Result<Vec<Engine>, String> {
    if names == ["all"] {
        return Ok(engine::engines());
    }
    names.iter().map(|name| engine::named(name).ok_or_else(|| format!("there is no engine {name:?}"))).collect()
}

fn temp() -> Result<tempfile::TempDir, String> {
    tempfile::Builder::new().prefix("harness-").tempdir().map_err(|err| format!("no temporary folder: {err}"))
}

/// Lets each engine say its version and what it can do; one that is not there is refused.
fn introduce(bench: &Bench, engines: &mut [Engine]) -> Result<BTreeMap<String, String>, String> {
    std::fs::create_dir_all(&bench.out).map_err(|err| format!("cannot make {}: {err}", bench.out.display()))?;
    let log = bench.out.join("workers.log");
    let mut versions = BTreeMap::new();
    for engine in engines {
        let version = engine.introduce(&bench.python, &log)?;
        if versions.insert(engine.name.clone(), version).is_some() {
            return Err(format!("two engines call themselves {}", engine.name));
        }
    }
    Ok(versions)
}

fn list() -> Result<ExitCode, String> {
    println!("Scenarios:");
    for scenario in Scenario::built_in()? {
        println!("  {:<22} {} [{}]", scenario.name, scenario.title, scenario.fault_names().join(" "));
        println!("  {:<22} {}", "", scenario.source);
    }
    println!("Engines:");
    for engine in engine::engines() {
        println!("  {:<22} {}", engine.name, engine.title);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let answer = match Cli::parse().command {
        Task::Run(args) => args.run(),
        Task::Replay(args) => args.run(),
        Task::Shrink(args) => args.run(),
        Task::Explain(args) => args.run(),
        Task::Roundtrips(args) => args.run(),
        Task::Soak(args) => args.run(),
        Task::Mutants(args) => args.run(),
        Task::List => list(),
        Task::Mount(args) => args.run(),
        Task::Unmount(args) => args.run(),
        Task::Inject(args) => args.run(),
        Task::Stats(args) => args.run(),
        Task::Faults(args) => args.run(),
        Task::Validate(args) => args.run(),
        Task::Doctor(args) => args.run(),
        Task::Likeness(args) => args.run(),
    };
    match answer {
        Ok(code) => code,
        Err(why) => {
            eprintln!("harness: {why}");
            ExitCode::from(2)
        }
    }
}
