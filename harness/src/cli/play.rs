//! `harness replay` and `harness soak`: one cell, and everything about it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use reports::Verdict;

use super::run::Front;
use super::{BenchArgs, engines, introduce, scenarios, temp};
use crate::engine::Engine;
use crate::matrix::{self, Stage};
use crate::replay::Replay;
use crate::{runner, scenario};

/// Play one scenario for long, with as many hosts and processes as wanted
#[derive(Debug, Args)]
pub(super) struct SoakArgs {
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
pub(super) struct ReplayArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// A file with scenario, engine, seed, and what came of it
    #[arg(conflicts_with_all = ["scenario", "engine", "seed", "front"])]
    file: Option<PathBuf>,
    /// Its scenario: a name or a file
    #[arg(long)]
    scenario: Option<String>,
    /// Its engine
    #[arg(long, default_value = "ours")]
    engine: String,
    /// Its engine, by the shell command that starts its worker
    #[arg(long, value_name = "CMD", conflicts_with = "engine")]
    engine_command: Option<String>,
    /// Its seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the engine meets the drive
    #[arg(long, value_enum, default_value = "fuse")]
    front: Front,
}

impl ReplayArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let plan = self.plan()?;
        let mut engine = engine_of(&plan)?;
        if plan.front == scenario::Front::Sim {
            return play_one(Stage::Sim, &self.bench.out, &plan, &engine);
        }
        let temp = temp()?;
        let bench = self.bench.bench(temp.path())?;
        introduce(&bench, std::slice::from_mut(&mut engine))?;
        play_one(Stage::Fuse(&bench), &bench.out, &plan, &engine)
    }

    fn plan(&self) -> Result<Replay, String> {
        match (&self.file, &self.scenario) {
            (Some(file), _) => Replay::load(file),
            (None, Some(name)) => {
                let scenario = scenarios(std::slice::from_ref(name))?.remove(0);
                let front = self.front.into();
                let engine_command = self.engine_command.clone();
                Ok(Replay { engine_command, ..Replay::new(&self.engine, self.seed, front, scenario) })
            }
            (None, None) => Err("which run? Give a file, or --scenario and --seed".to_owned()),
        }
    }
}

/// The engine of a run.
fn engine_of(plan: &Replay) -> Result<Engine, String> {
    match &plan.engine_command {
        Some(command) => Ok(Engine::of_command(command)),
        None => Ok(engines(std::slice::from_ref(&plan.engine))?.remove(0)),
    }
}

/// Plays one cell and says everything about it.
fn play_one(stage: Stage<'_>, out: &Path, plan: &Replay, engine: &Engine) -> Result<ExitCode, String> {
    let (scenario, seed) = (&plan.scenario, plan.seed);
    let run = plan.play(stage, engine)?;
    for violation in &run.violations {
        println!("{}: {}", violation.wrong.title(), violation.detail);
    }
    for (op, (answered, unanswered)) in runner::tally(&run.calls) {
        println!("{op:<13} {answered:>7} answered {unanswered:>5} not");
    }
    for (name, count) in &run.stats.faults {
        println!("fault {name:<7} matched {:>7} fired {:>5} observable {:>5}", count.matched, count.fired, count.observable);
    }
    let dir = runner::run_dir(out, &scenario.name, &engine.name, seed);
    let history = runner::save(&dir, &run.calls)?;
    println!("History: {}", history.display());
    if let Some((hash, ..)) = run.marks {
        println!("Hash of the history: {hash:016x}");
    }
    let changed = plan.differs(&run);
    let info = matrix::describe(scenario, engine, seed, stage.front(), &Ok(run));
    for (host, count) in &info.by_host {
        println!("{host}: {count} calls answered");
    }
    println!("{}", matrix::line(&info));
    if let Some(how) = changed {
        println!("This is not what the file says: {how}");
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::from(u8::from(info.verdict == Verdict::Damaged)))
}

impl SoakArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let temp = temp()?;
        let bench = self.bench.bench(temp.path())?;
        let mut scenario = scenarios(std::slice::from_ref(&self.faults))?.remove(0);
        scenario.name = format!("soak-{}", scenario.name);
        scenario.hosts = self.hosts;
        scenario.procs = self.procs;
        scenario.seconds = self.seconds;
        let mut engine = engines(std::slice::from_ref(&self.engine))?.remove(0);
        introduce(&bench, std::slice::from_mut(&mut engine))?;
        let plan = Replay::new(&self.engine, self.seed, scenario::Front::Fuse, scenario);
        play_one(Stage::Fuse(&bench), &bench.out, &plan, &engine)
    }
}
