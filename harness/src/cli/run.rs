//! `harness run`: engines through scenarios, a table and a report.

use std::process::ExitCode;

use clap::Args;
use reports::Verdict;

use super::{BenchArgs, engines, scenarios, temp, versions};
use crate::matrix::{self, Matrix};
use crate::trips;

/// Run engines through scenarios, print a table, write OUT/index.html and OUT/results.json
///
/// Ends with 1 when our engine is damaged anywhere, and with 2 when something could not be run.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
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

impl RunArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
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
        let unknown = runs.iter().filter(|info| matches!(info.verdict, Verdict::Unknown | Verdict::NotRun)).count();
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
