//! `harness shrink` and `harness explain`: a failing run made small, and told in words.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reports::{PlanInfo, PlanSize, RunInfo};

use super::BenchArgs;
use super::play::{RunArg, engine_of, on_stage};
use crate::check::Wrong;
use crate::describe;
use crate::engine::Engine;
use crate::evidence;
use crate::explain::explain;
use crate::matrix::Stage;
use crate::replay::Replay;
use crate::runner::{self, Run};
use crate::scenario::{Front, Scenario};
use crate::shrink::{self, Goal, Shrunk};

/// Make a failing run smaller while it stays as wrong: fewer hosts, processes, operations and faults
///
/// FILE is the plan of a run (OUT/SCENARIO.ENGINE.SEED/plan.toml) or its folder; what the run showed there is used and not played again.
/// The smallest plan that still fails goes to a file that `harness replay` plays and `harness explain` tells about. Delta debugging
/// (Zeller and Hildebrandt, 2002); in process it is exact, on mounts a candidate counts as sound after --tries sound runs.
#[derive(Debug, Args)]
pub(super) struct ShrinkArgs {
    #[command(flatten)]
    bench: BenchArgs,
    #[command(flatten)]
    run: RunArg,
    /// The kind of wrong that must stay: lost, torn, stale, counter, twice, half, order, hung, crashed, unreadable, malformed ...
    /// [default: the gravest that there is]
    #[arg(long, value_name = "KIND", value_parser = wrong_named)]
    kind: Option<Wrong>,
    /// Runs of a candidate before it counts as sound [default: 1 in process, 3 on mounts]
    #[arg(long)]
    tries: Option<u32>,
    /// Try nothing more after so many minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The file for the smallest plan [default: OUT/small/SCENARIO.ENGINE.SEED/plan.toml]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Say in words what happened in a run: which call on which host, which faults met it, expected against observed
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// The run's folder, or its history or plan; a plan without a history beside it is played first
    file: PathBuf,
}

fn wrong_named(name: &str) -> Result<Wrong, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|err| err.to_string())
}

/// How often a candidate is run.
pub(crate) fn tries(front: Front) -> u32 {
    match front {
        Front::Sim => 1,
        Front::Fuse => 3,
    }
}

impl ShrinkArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let (plan, seen) = match self.run.folder() {
            Some(folder) => evidence::load(&folder).map(|(plan, run)| (plan, Some(run)))?,
            None => (self.run.plan()?, None),
        };
        on_stage(&self.bench, &plan, |stage, engine| self.shrink(stage, &plan, engine, seen))
    }

    fn shrink(&self, stage: Stage<'_>, plan: &Replay, engine: &Engine, seen: Option<Run>) -> Result<ExitCode, String> {
        let goal = Goal {
            wrong: self.kind,
            tries: self.tries.unwrap_or_else(|| tries(plan.front)),
            until: Instant::now() + Duration::from_secs_f64((self.minutes * 60.0).clamp(0.0, 1e6)),
        };
        let small = smallest(stage, plan, engine, seen, goal)?;
        let name = format!("{}.{}.{}", plan.scenario.name, plan.engine, plan.seed);
        let file = self.output.clone().unwrap_or_else(|| self.bench.out.join("small").join(name).join(evidence::PLAN));
        save(&file, plan, &small)?;
        let unfinished = if small.unfinished { "; the time was over before there was nothing left to try" } else { "" };
        println!("{}: {} with {}", small.wrong.title(), plan.scenario.title, plan.engine);
        println!("made smaller from {} to {}, {} candidates{unfinished}", words(small.before), words(small.after), small.candidates);
        println!("again: {}", again(&file));
        println!("in words: harness explain {}", file.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes a run as small as it gets, with a bar.
pub(super) fn smallest(stage: Stage<'_>, plan: &Replay, engine: &Engine, seen: Option<Run>, goal: Goal) -> Result<Shrunk, String> {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(500));
    let tell = |candidate: u64, what: &str, size: PlanSize| {
        let left = goal.until.saturating_duration_since(Instant::now()).as_secs();
        bar.set_message(format!("of {left} s left: candidate {candidate} ({what}); the smallest has {}", words(size)));
    };
    // A run's folder is for the run that is explained there, and each candidate would write into it.
    let temp = super::temp()?;
    let bench = match stage {
        Stage::Sim => None,
        Stage::Fuse(bench) => Some(crate::runner::Bench { out: temp.path().to_owned(), ..bench.clone() }),
    };
    let stage = bench.as_ref().map_or(Stage::Sim, Stage::Fuse);
    let mut play = |scenario: &Scenario| Replay { scenario: scenario.clone(), ..plan.clone() }.play(stage, engine);
    let small = shrink::shrink(&plan.scenario, seen, goal, &mut play, &tell);
    bar.finish_and_clear();
    small
}

/// Makes the plan of a run in a report smaller: what is shown of it is then that of the smallest.
pub(super) fn in_report(stage: Stage<'_>, out: &Path, engine: &Engine, info: &mut RunInfo, seconds: f64) -> Result<(), String> {
    let folder = runner::run_dir(out, &info.scenario, &info.engine, info.seed);
    let (plan, seen) = evidence::load(&folder)?;
    let until = Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 1e6));
    let goal = Goal { wrong: None, tries: tries(plan.front), until };
    let small = smallest(stage, &plan, engine, Some(seen), goal)?;
    let file = folder.join("small").join(evidence::PLAN);
    save(&file, &plan, &small)?;
    let shown = describe::describe(&small.scenario, engine, plan.seed, plan.front, &Ok(small.run));
    let file = file.strip_prefix(out).ok().map(|file| file.display().to_string());
    info.plan = shown.plan.map(|plan| PlanInfo { file, before: Some(small.before), size: small.after, ..plan });
    info.findings = shown.findings;
    info.timeline = shown.timeline;
    Ok(())
}

/// Writes the smallest plan and what its run showed; the file is the plan.
pub(super) fn save(file: &Path, plan: &Replay, small: &Shrunk) -> Result<(), String> {
    // A name of its own: its runs must not take the place of those that it was made of.
    let name = format!("{}-small", plan.scenario.name.trim_end_matches("-small"));
    let scenario = Scenario { name, ..small.scenario.clone() };
    let found = Replay { scenario, before: Some(small.before), ..plan.clone() };
    let mut found = found.seen(&small.run);
    if plan.front == Front::Fuse {
        // The others need not show again.
        found.verdict = vec![small.wrong];
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    evidence::save(folder, &found, &small.run)?;
    if file.file_name().is_some_and(|name| name != evidence::PLAN) {
        found.save(file)?;
    }
    Ok(())
}

fn words(size: PlanSize) -> String {
    let count = |count: u64, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!("{}, {} and {}", count(size.hosts, "host"), count(size.operations, "operation"), count(size.faults, "fault"))
}

/// The command that plays a plan again.
pub(super) fn again(file: &Path) -> String {
    format!("harness replay {}", file.display())
}

impl ExplainArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let run = RunArg::of_file(&self.file);
        if let Some(folder) = run.folder() {
            let (plan, run) = evidence::load(&folder)?;
            print!("{}", explain(&plan, &engine_of(&plan)?, &run, &again(&folder.join(evidence::PLAN))));
            return Ok(ExitCode::SUCCESS);
        }
        let plan = run.plan()?;
        on_stage(&self.bench, &plan, |stage, engine| {
            let mut run = plan.play(stage, engine)?;
            for _ in 1..tries(plan.front) {
                if !run.violations.is_empty() {
                    break;
                }
                run = plan.play(stage, engine)?;
            }
            print!("{}", explain(&plan, engine, &run, &again(&self.file)));
            Ok(ExitCode::SUCCESS)
        })
    }
}
