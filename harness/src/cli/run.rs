//! `harness run`: engines through scenarios, a table and a report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use reports::{MutantRow, RunInfo, Verdict};

use super::{BenchArgs, engines, introduce, scenarios, temp};
use crate::engine::Engine;
use crate::matrix::{self, Matrix, Stage};
use crate::scenario::{self, Scenario};
use crate::trips;

/// How engines meet the drive
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Front {
    /// Our engine in this process, in virtual time: needs no mount and no Python, and repeats bit for bit
    Sim,
    /// Any engine in processes of its own, on FUSE mounts
    #[default]
    Fuse,
}

impl From<Front> for scenario::Front {
    fn from(front: Front) -> scenario::Front {
        match front {
            Front::Sim => scenario::Front::Sim,
            Front::Fuse => scenario::Front::Fuse,
        }
    }
}

/// Run engines through scenarios, print a table, write OUT/index.html and OUT/results.json
///
/// Ends with 1 when our engine is damaged anywhere, and with 2 when something could not be run or not be judged.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Scenarios: names (see `harness list`) or files [default: those that show the most, each once with every engine]
    names: Vec<String>,
    /// The same as an option
    #[arg(long, value_delimiter = ',', conflicts_with = "names")]
    scenarios: Vec<String>,
    /// Every scenario
    #[arg(long, conflicts_with_all = ["names", "scenarios"])]
    all: bool,
    /// How engines meet the drive
    #[arg(long, value_enum, default_value = "fuse")]
    front: Front,
    /// ours, diskcache, diskcache-delete, naive, or all [default: all; with --front sim ours; with --engine-command none]
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// An engine of yours, by the shell command that starts its worker (harness/WORKERS.md); several may be given
    #[arg(long, value_name = "CMD")]
    engine_command: Vec<String>,
    /// Play each so often, with seeds from 1 on
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Begin with this seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Play each run twice: their histories must be the same (only with --front sim)
    #[arg(long)]
    twice: bool,
    /// Runs at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Make the first failing plan of each engine in each scenario smaller, for so many seconds each, for the report
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    shrink: f64,
    /// End with 1 unless engines that are not ours were harmed in so many scenarios (data lost or wrong, a crash, a hang)
    #[arg(long, value_name = "SCENARIOS", default_value_t = 0)]
    expect_harm: usize,
    /// What `harness mutants --json` wrote, for the report [default: OUT/mutants.json, where it is]
    #[arg(long, value_name = "FILE")]
    mutants: Option<PathBuf>,
    /// Leave out the count of round trips
    #[arg(long)]
    no_roundtrips: bool,
    /// Print a line for each sound run too
    #[arg(long, short)]
    verbose: bool,
}

impl RunArgs {
    fn chosen(&self) -> Result<Vec<Scenario>, String> {
        let names = if self.names.is_empty() { &self.scenarios } else { &self.names };
        if self.all || names.iter().any(|name| name == "all") {
            return Scenario::built_in();
        }
        if names.is_empty() {
            return Ok(Scenario::built_in()?.into_iter().filter(|scenario| scenario.main).collect());
        }
        scenarios(names)
    }

    fn matrix(&self) -> Result<Matrix, String> {
        let ours = ["ours".to_owned()];
        let names: &[String] = match (self.engines.is_empty(), self.front) {
            (false, _) => &self.engines,
            (true, Front::Sim) => &ours,
            (true, Front::Fuse) if !self.engine_command.is_empty() => &[],
            (true, Front::Fuse) => &["all".to_owned()],
        };
        let mut engines = engines(names)?;
        engines.extend(self.engine_command.iter().map(|command| Engine::of_command(command)));
        let matrix = Matrix {
            scenarios: self.chosen()?,
            engines,
            seeds: (self.first_seed..self.first_seed + self.seeds).collect(),
            jobs: self.jobs,
            twice: self.twice,
            out: std::path::absolute(&self.bench.out).map_err(|err| format!("{}: {err}", self.bench.out.display()))?,
        };
        if self.twice && self.front == Front::Fuse {
            return Err("--twice needs --front sim: real processes never run the same way twice".to_owned());
        }
        Ok(matrix)
    }

    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let mut matrix = self.matrix()?;
        if matrix.scenarios.is_empty() {
            return Err("there is no scenario to play".to_owned());
        }
        match self.front {
            Front::Sim => {
                let versions = std::iter::once(("ours".to_owned(), env!("CARGO_PKG_VERSION").to_owned())).collect();
                self.play(Stage::Sim, &matrix, &versions)
            }
            Front::Fuse => {
                let temp = temp()?;
                let bench = self.bench.bench(temp.path())?;
                let versions = introduce(&bench, &mut matrix.engines)?;
                self.play(Stage::Fuse(&bench), &matrix, &versions)
            }
        }
    }

    fn play(&self, stage: Stage<'_>, matrix: &Matrix, versions: &BTreeMap<String, String>) -> Result<ExitCode, String> {
        let rows = match stage {
            Stage::Fuse(bench) if !self.no_roundtrips => trips::measure_all(bench, &matrix.engines)?,
            _ => Vec::new(),
        };
        let mut runs = matrix::run(stage, matrix, |info| {
            if self.verbose || self.front == Front::Fuse || info.verdict != Verdict::Sound {
                println!("{}", matrix::line(info));
            }
        });
        let calls: u64 = runs.iter().map(|info| info.answered + info.unanswered).sum();
        let sound = runs.iter().filter(|info| info.verdict == Verdict::Sound).count();
        print!("{}{}", if rows.is_empty() { "" } else { "\nRound trips for one operation:\n" }, trips::table(&rows));
        println!("\n{sound} of {} runs sound, {calls} calls{}", runs.len(), if self.twice { ", each run played twice" } else { "" });
        if self.shrink > 0.0 {
            self.shrink_first(stage, matrix, &mut runs);
        }
        let mut report = matrix::report(matrix, versions, runs, rows, stage.front());
        let out = &matrix.out;
        report.mutants = self.mutants(out)?;
        report.save(out).map_err(|err| format!("cannot write the report: {err}"))?;
        print!("{}", matrix::summary(&report));
        println!("Report: {}", out.join("index.html").display());
        let ours = report.engines.iter().filter(|engine| engine.ours).any(|engine| report.damaged(&engine.name).0 > 0);
        let (unjudged, others) = matrix::unjudged(&report);
        if others > 0 {
            println!("{others} runs of other engines came to no verdict: see their rows");
        }
        let harmed = matrix::harmed(&report);
        if harmed < self.expect_harm {
            println!("others were harmed in {harmed} scenarios only, and {} were expected", self.expect_harm);
        }
        Ok(ExitCode::from(if ours || harmed < self.expect_harm { 1 } else { u8::from(unjudged > 0) * 2 }))
    }

    /// What is known about engines that are broken on purpose.
    fn mutants(&self, out: &Path) -> Result<Vec<MutantRow>, String> {
        let file = self.mutants.clone().unwrap_or_else(|| out.join("mutants.json"));
        match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|err| format!("{}: {err}", file.display())),
            Err(_) if self.mutants.is_none() => Ok(Vec::new()),
            Err(err) => Err(format!("cannot read {}: {err}", file.display())),
        }
    }

    /// Puts the smallest plan in the place of the first failing one of each engine in each scenario.
    fn shrink_first(&self, stage: Stage<'_>, matrix: &Matrix, runs: &mut [RunInfo]) {
        let mut done = BTreeSet::new();
        for info in runs.iter_mut().filter(|info| info.verdict == Verdict::Damaged) {
            let engine = matrix.engines.iter().find(|engine| engine.name == info.engine);
            let Some(engine) = engine.filter(|_| done.insert((info.scenario.clone(), info.engine.clone()))) else { continue };
            println!("making smaller: {} with {}, seed {}", info.scenario, info.engine, info.seed);
            if let Err(why) = super::shrink::in_report(stage, &matrix.out, engine, info, self.shrink) {
                // The plan as it was played stays in the report.
                println!("  it stays as it is: {why}");
            }
        }
    }
}
