//! `harness replay` and `harness soak`: one cell, and everything about it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use reports::Verdict;

use super::run::Front;
use super::{BenchArgs, engines, introduce, scenarios, temp};
use crate::engine::Engine;
use crate::evidence;
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
///
/// Ends with 1 when something is wrong, with 2 when a file says what must be wrong and something else is. Real processes never run the same
/// way twice, so on mounts it is played until data or processes were harmed, or what the file says shows again, or --tries times.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    bench: BenchArgs,
    #[command(flatten)]
    run: RunArg,
    /// Play it up to so often [default: 1 in process, 3 on mounts]
    #[arg(long)]
    tries: Option<u32>,
}

/// Which run
#[derive(Debug, Default, Args)]
pub(super) struct RunArg {
    /// A file with scenario, engine, seed, and what came of it; or the folder of a run
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

impl RunArg {
    /// A run by its file or folder.
    pub(super) fn of_file(file: &Path) -> RunArg {
        RunArg { file: Some(file.to_owned()), ..RunArg::default() }
    }

    /// The folder of a run that was played, where it is one.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?;
        let folder = if file.is_dir() { file.clone() } else { std::path::absolute(file).ok()?.parent()?.to_owned() };
        let own = [evidence::PLAN, evidence::HISTORY].iter().any(|name| file.is_dir() || file.ends_with(name));
        (own && evidence::is_there(&folder)).then_some(folder)
    }

    /// What was played.
    pub(super) fn plan(&self) -> Result<Replay, String> {
        match (&self.file, &self.scenario) {
            (Some(file), _) if file.is_dir() => Replay::load(&file.join(evidence::PLAN)),
            (Some(file), _) => Replay::load(file),
            (None, Some(name)) => {
                let scenario = scenarios(std::slice::from_ref(name))?.remove(0);
                let engine_command = self.engine_command.clone();
                Ok(Replay { engine_command, ..Replay::new(&self.engine, self.seed, self.front.into(), scenario) })
            }
            (None, None) => Err("which run? Give a file, or --scenario and --seed".to_owned()),
        }
    }
}

/// The engine of a run.
pub(super) fn engine_of(plan: &Replay) -> Result<Engine, String> {
    match &plan.engine_command {
        Some(command) => Ok(Engine::of_command(command)),
        None => Ok(engines(std::slice::from_ref(&plan.engine))?.remove(0)),
    }
}

/// Does something where a run can be played.
pub(super) fn on_stage<T>(
    bench: &BenchArgs,
    plan: &Replay,
    act: impl FnOnce(Stage<'_>, &Engine) -> Result<T, String>,
) -> Result<T, String> {
    let mut engine = engine_of(plan)?;
    if plan.front == scenario::Front::Sim {
        return act(Stage::Sim, &engine);
    }
    let temp = temp()?;
    let bench = bench.bench(temp.path())?;
    introduce(&bench, std::slice::from_mut(&mut engine))?;
    act(Stage::Fuse(&bench), &engine)
}

impl ReplayArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let plan = self.run.plan()?;
        let tries = self.tries.unwrap_or_else(|| super::shrink::tries(plan.front));
        on_stage(&self.bench, &plan, |stage, engine| play_one(stage, &self.bench.out, &plan, engine, tries))
    }
}

/// Plays one cell until something is wrong, and what the file says if it does, and says everything about it.
fn play_one(stage: Stage<'_>, out: &Path, plan: &Replay, engine: &Engine, tries: u32) -> Result<ExitCode, String> {
    let (scenario, seed) = (&plan.scenario, plan.seed);
    let mut run = plan.play(stage, engine)?;
    for number in 1..tries {
        // Where no file says what must show, a host that waited is not what anybody looks for.
        let harm = run.violations.iter().any(|violation| matrix::is_harm(violation.wrong));
        if plan.differs(&run).is_none() && (harm || !plan.verdict.is_empty()) {
            break;
        }
        println!("run {number} of {tries}: {}", if run.violations.is_empty() { "nothing is wrong" } else { "something else is wrong" });
        run = plan.play(stage, engine)?;
    }
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
    let history = evidence::save(&dir, &plan.clone().seen(&run), &run)?;
    println!("History: {} (in words: harness explain {})", history.display(), dir.display());
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
        play_one(Stage::Fuse(&bench), &bench.out, &plan, &engine, 1)
    }
}
