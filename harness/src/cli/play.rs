//! `harness replay` and `harness soak`: one cell, and everything about it.

use std::process::ExitCode;

use clap::Args;
use reports::Verdict;

use super::{BenchArgs, engines, scenarios, temp, versions};
use crate::engine::Engine;
use crate::matrix;
use crate::runner::{self, Bench};
use crate::scenario::Scenario;

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

impl ReplayArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
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

impl SoakArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
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
