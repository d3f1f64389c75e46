//! The command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use reports::Verdict;

use crate::daemon::{self, MountOptions};
use crate::drive::{Plan, Profile};
use crate::engine::{self, Engine, Python, WORKER};
use crate::matrix::{self, Matrix};
use crate::runner::{self, Bench};
use crate::scenario::Scenario;
use crate::sim::{self, Sim};
use crate::trips;

/// A simulated network drive, and what caches lose on it.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Run(RunArgs),
    Replay(ReplayArgs),
    Roundtrips(TripsArgs),
    Soak(SoakArgs),
    Sim(SimArgs),
    /// Show scenarios and engines
    List,
    Mount(MountArgs),
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

/// Run engines through scenarios, print a table, write OUT/index.html and OUT/results.json
///
/// Ends with 1 when our engine is damaged anywhere, and with 2 when something could not be run.
#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// ours, diskcache, diskcache-delete, or all
    #[arg(long, value_delimiter = ',', default_value = "all")]
    engines: Vec<String>,
    /// Names (see `harness list`), files, or all
    #[arg(long, value_delimiter = ',', default_value = "all")]
    scenarios: Vec<String>,
    /// Play each so often, with seeds from 1 on
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Runs at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Leave out the count of round trips
    #[arg(long)]
    no_roundtrips: bool,
}

/// Count the round trips of each operation on the nfs4 drive
///
/// Ends with 1 when one of ours exceeds its limit.
#[derive(Debug, Args)]
struct TripsArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// ours, diskcache, diskcache-delete, or all
    #[arg(long, value_delimiter = ',', default_value = "all")]
    engines: Vec<String>,
}

/// Run our engine in this process on the simulated drive, in virtual time; needs no mount and no Python
///
/// Operations of several processes interleave at their I/O steps, with faults, kills, power cuts and restarts, all from the seed.
#[derive(Debug, Args)]
struct SimArgs {
    /// One seed only; says everything about it
    #[arg(long)]
    seed: Option<u64>,
    /// Seeds from 1 on
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Operations of each run
    #[arg(long, default_value_t = 3000)]
    ops: u64,
    /// Hosts
    #[arg(long, default_value_t = 2)]
    hosts: usize,
    /// Processes on each
    #[arg(long, default_value_t = 2)]
    procs: usize,
    /// Nothing goes wrong
    #[arg(long)]
    no_faults: bool,
    /// Write the histories into this folder
    #[arg(long)]
    histories: Option<PathBuf>,
}

/// Play one scenario for long, with as many hosts and processes as wanted
#[derive(Debug, Args)]
struct SoakArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// The scenario whose faults and operations are used: a name or a file
    #[arg(long, default_value = "mixed", value_name = "SCENARIO")]
    faults: String,
    /// Engine
    #[arg(long, default_value = "ours")]
    engine: String,
    /// Hosts
    #[arg(long, default_value_t = 2)]
    hosts: usize,
    /// Processes on each host
    #[arg(long, default_value_t = 4)]
    procs: usize,
    /// How long
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Run one cell again, and print what is wrong with it in detail
#[derive(Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Its scenario: a name or a file
    #[arg(long)]
    scenario: String,
    /// Its engine
    #[arg(long, default_value = "ours")]
    engine: String,
    /// Its seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl BenchArgs {
    fn bench(&self, temp: &Path) -> Result<Bench, String> {
        crate::fuse::mount::can_mount().map_err(|err| format!("the drive cannot be mounted: {err}"))?;
        let worker = temp.join("worker.py");
        std::fs::write(&worker, WORKER).map_err(|err| format!("cannot write {}: {err}", worker.display()))?;
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

/// The versions of engines; those that cannot be imported are refused.
fn versions(bench: &Bench, engines: &[Engine]) -> Result<BTreeMap<String, String>, String> {
    let version = |engine: &Engine| {
        let version = bench.python.has(engine.module).map_err(|err| format!("{} is not there: {err}", engine.name))?;
        Ok((engine.name.to_owned(), version))
    };
    engines.iter().map(version).collect()
}

impl RunArgs {
    fn run(&self) -> Result<ExitCode, String> {
        let temp = temp()?;
        let bench = self.bench.bench(temp.path())?;
        let matrix = Matrix {
            scenarios: scenarios(&self.scenarios)?,
            engines: engines(&self.engines)?,
            seeds: (1..=self.seeds).collect(),
            jobs: self.jobs,
        };
        let versions = versions(&bench, &matrix.engines)?;
        let runs = matrix::run(&bench, &matrix, |info| println!("{}", matrix::line(info)));
        let unknown = runs.iter().filter(|info| info.verdict == Verdict::Unknown).count();
        let rows = if self.no_roundtrips { Vec::new() } else { trips::measure_all(&bench, &matrix.engines)? };
        print!("{}{}", if rows.is_empty() { "" } else { "\nRound trips for one operation:\n" }, trips::table(&rows));
        let report = matrix::report(&matrix, &versions, runs, rows);
        report.save(&bench.out).map_err(|err| format!("cannot write the report: {err}"))?;
        println!();
        for engine in &report.engines {
            let (damaged, played) = report.damaged(&engine.name);
            println!("{:<42} damaged in {damaged} of {played} scenarios", engine.title);
        }
        println!("Report: {}", bench.out.join("index.html").display());
        let ours = report.engines.iter().filter(|engine| engine.ours).any(|engine| report.damaged(&engine.name).0 > 0);
        Ok(if ours {
            ExitCode::from(1)
        } else if unknown > 0 {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        })
    }
}

impl ReplayArgs {
    fn run(&self) -> Result<ExitCode, String> {
        let temp = temp()?;
        let bench = self.bench.bench(temp.path())?;
        let scenario = scenarios(std::slice::from_ref(&self.scenario))?.remove(0);
        let engine = engines(std::slice::from_ref(&self.engine))?.remove(0);
        play_one(&bench, &scenario, &engine, self.seed)
    }
}

/// Plays one cell and says everything about it.
fn play_one(bench: &Bench, scenario: &Scenario, engine: &Engine, seed: u64) -> Result<ExitCode, String> {
    versions(bench, std::slice::from_ref(engine))?;
    let run = runner::play(bench, scenario, engine, seed)?;
    for violation in &run.violations {
        println!("{}: {}", violation.wrong.title(), violation.detail);
    }
    for (op, (answered, unanswered)) in runner::tally(&run.calls) {
        println!("{op:<13} {answered:>7} answered {unanswered:>5} not");
    }
    for (name, count) in &run.stats.faults {
        println!("fault {name:<7} matched {:>7} fired {:>5} observable {:>5}", count.matched, count.fired, count.observable);
    }
    let dir = runner::run_dir(&bench.out, &scenario.name, engine.name, seed);
    println!("History: {}", dir.join("history.ndjson").display());
    let info = matrix::describe(&scenario.name, engine.name, seed, &Ok(run));
    for (host, count) in &info.by_host {
        println!("{host}: {count} calls answered");
    }
    println!("{}", matrix::line(&info));
    Ok(ExitCode::from(u8::from(info.verdict == Verdict::Damaged)))
}

impl TripsArgs {
    fn run(&self) -> Result<ExitCode, String> {
        let temp = temp()?;
        let bench = self.bench.bench(temp.path())?;
        let engines = engines(&self.engines)?;
        versions(&bench, &engines)?;
        let rows = trips::measure_all(&bench, &engines)?;
        print!("{}", trips::table(&rows));
        Ok(ExitCode::from(u8::from(trips::too_many(&rows))))
    }
}

impl SoakArgs {
    fn run(&self) -> Result<ExitCode, String> {
        let temp = temp()?;
        let bench = self.bench.bench(temp.path())?;
        let mut scenario = scenarios(std::slice::from_ref(&self.faults))?.remove(0);
        scenario.name = format!("soak-{}", scenario.name);
        scenario.hosts = self.hosts;
        scenario.procs = self.procs;
        scenario.seconds = self.seconds;
        let engine = engines(std::slice::from_ref(&self.engine))?.remove(0);
        play_one(&bench, &scenario, &engine, self.seed)
    }
}

impl SimArgs {
    fn run(&self) -> Result<ExitCode, String> {
        let sim = Sim { hosts: self.hosts, procs: self.procs, ops: self.ops, faults: !self.no_faults, ..Sim::default() };
        let seeds = self.seed.map_or(1..=self.seeds, |seed| seed..=seed);
        let (mut bad, mut calls) = (0, 0);
        for seed in seeds {
            let done = sim::simulate(&sim, seed);
            calls += done.calls.len();
            bad += usize::from(!done.violations.is_empty());
            let kinds: Vec<String> = matrix::damage(&done.violations).iter().map(|it| format!("{} {}x", it.what, it.count)).collect();
            let answered = done.calls.iter().filter(|call| call.answer().is_some()).count();
            println!(
                "seed {seed:<4} {answered:>6} of {:>6} calls answered  history {:016x}  {}",
                done.calls.len(),
                done.hash,
                kinds.join(", ")
            );
            let shown = if self.seed.is_some() { usize::MAX } else { 3 };
            done.violations.iter().take(shown).for_each(|it| println!("  {}: {}", it.wrong.title(), it.detail));
            if self.seed.is_some() {
                for (name, count) in &done.stats.faults {
                    println!("fault {name:<7} matched {:>7} fired {:>5} observable {:>5}", count.matched, count.fired, count.observable);
                }
            }
            if let Some(dir) = &self.histories {
                let mut text = Vec::new();
                std::fs::create_dir_all(dir)
                    .and_then(|()| crate::history::write(&done.calls, &mut text))
                    .and_then(|()| std::fs::write(dir.join(format!("sim.{seed}.ndjson")), text))
                    .map_err(|err| format!("cannot write a history: {err}"))?;
            }
        }
        println!("{bad} seeds with violations, {calls} calls in all");
        Ok(ExitCode::from(u8::from(bad > 0)))
    }
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

/// Mount a simulated network drive: DIR/host-a, DIR/host-b, ... are its client hosts, for any program at all
///
/// Stays in the foreground and prints READY with its control socket. Commands on the socket are JSON lines, for
/// example {"do":"restart","loss":"all"} or {"do":"stats"}.
#[derive(Debug, Args)]
struct MountArgs {
    /// Where to mount; the hosts' folders are made in it
    dir: PathBuf,
    /// nfs4, local, or a TOML file of a profile
    #[arg(long, default_value = "nfs4")]
    profile: String,
    /// How many hosts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=26))]
    hosts: u8,
    /// Their names instead, separated by commas
    #[arg(long, value_delimiter = ',')]
    host_names: Vec<String>,
    /// A TOML file of faults ([[fault]] name = "N9", host, op, path, count, ...)
    #[arg(long, value_name = "PLAN")]
    faults: Option<PathBuf>,
    /// Seed of everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Control socket [default: DIR.control]
    #[arg(long)]
    control: Option<PathBuf>,
    /// Unmount and end when standard input ends
    #[arg(long)]
    until_stdin_ends: bool,
    /// Cut a mount when one of its requests hangs for so many seconds
    #[arg(long, default_value_t = 120)]
    longest: u64,
}

impl MountArgs {
    fn run(self) -> Result<ExitCode, String> {
        let hosts = if self.host_names.is_empty() { daemon::host_names(self.hosts.into()) } else { self.host_names };
        let control = self.control.unwrap_or_else(|| self.dir.with_extension("control"));
        let plan = match &self.faults {
            None => Plan::default(),
            Some(path) => read_toml(path)?,
        };
        let profile = match Profile::named(&self.profile) {
            Some(profile) => profile,
            None => read_toml(self.profile.as_ref())?,
        };
        daemon::run(&MountOptions {
            dir: self.dir,
            profile,
            hosts,
            plan,
            seed: self.seed,
            control,
            until_stdin_ends: self.until_stdin_ends,
            longest: Duration::from_secs(self.longest),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
    toml::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let answer = match Cli::parse().command {
        Task::Run(args) => args.run(),
        Task::Replay(args) => args.run(),
        Task::Roundtrips(args) => args.run(),
        Task::Soak(args) => args.run(),
        Task::Sim(args) => args.run(),
        Task::List => list(),
        Task::Mount(args) => args.run(),
    };
    match answer {
        Ok(code) => code,
        Err(why) => {
            eprintln!("harness: {why}");
            ExitCode::from(2)
        }
    }
}
