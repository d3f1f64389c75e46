//! `harness mutants`: is every engine that was broken on purpose caught?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use reports::MutantRow;

use super::scenarios;
use crate::mutants::{self, Hunted};
use crate::scenario::Scenario;

/// Play scenarios in process with the engine broken on purpose, until one catches it
///
/// Each scenario is played with the sound engine first, with the same seed, which must be found sound. Ends with 1 when a broken
/// engine is not caught, and with 2 when the sound one is found unsound or this program was built without `--features mutants`.
#[derive(Debug, Args)]
pub(super) struct MutantsArgs {
    /// Only these broken engines, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these scenarios: names or files, separated by commas [default: all, those first in which the fault matters]
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Play each scenario with seeds from 1 to this
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Write what was found there, as the report's rows in JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

impl MutantsArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let played = if self.scenarios.is_empty() { Scenario::built_in()? } else { scenarios(&self.scenarios)? };
        let all = mutants::hunt(&self.only, &played, self.seeds, |hunted| println!("{}", line(hunted)))?;
        if let Some(path) = &self.json {
            let rows: Vec<MutantRow> = all.iter().map(MutantRow::from).collect();
            let text = serde_json::to_string_pretty(&rows).map_err(|err| err.to_string())?;
            std::fs::write(path, text).map_err(|err| format!("cannot write {}: {err}", path.display()))?;
        }
        let missed = all.iter().filter(|hunted| hunted.catch.is_none()).count();
        println!("\n{} of {} broken engines were caught; the sound one never was", all.len() - missed, all.len());
        println!("checks: {} passed, {missed} failed, 0 skipped", all.len() - missed);
        Ok(ExitCode::from(u8::from(missed > 0)))
    }
}

fn line(hunted: &Hunted) -> String {
    let runs = format!("{} run{}", hunted.runs, if hunted.runs == 1 { "" } else { "s" });
    match &hunted.catch {
        Some(catch) => format!(
            "caught  {:<22} by {} with seed {}, {} findings, after {runs}: {}: {}",
            hunted.name,
            catch.scenario,
            catch.seed,
            catch.findings,
            catch.finding.wrong.title(),
            catch.finding.detail
        ),
        None => format!("MISSED  {:<22} {}, in {runs}", hunted.name, hunted.title),
    }
}
