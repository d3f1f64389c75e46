//! `harness sim`: our engine in this process, in virtual time.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::matrix;
use crate::sim::{self, Sim};

/// Run our engine in this process on the simulated drive, in virtual time; needs no mount and no Python
///
/// Operations of several processes interleave at their I/O steps, with faults, kills, power cuts and restarts, all from the seed.
#[derive(Debug, Args)]
pub(super) struct SimArgs {
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

impl SimArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
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
