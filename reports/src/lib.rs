//! What the harness found, as data with a version ([`Report`]) and as one HTML page made of it ([`page`]).
//!
//! The page needs nothing but itself: no script, no font, no network. It can be read on a phone and in the dark, and it begins with the
//! verdict.

mod html;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use html::page;

/// The version of the data.
pub const VERSION: u32 = 1;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing wrong.
    Sound,
    /// Something is wrong.
    Damaged,
    /// It could not be run, so nothing is known.
    Unknown,
}

/// An engine under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// Short name.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Version that was run.
    pub version: String,
    /// Whether it is the one that must be sound.
    pub ours: bool,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioInfo {
    /// Short name.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// What it reproduces.
    pub source: String,
    /// What happens in it.
    pub story: String,
    /// The names of its faults.
    pub faults: Vec<String>,
}

/// One kind of damage in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// In words.
    pub what: String,
    /// How often.
    pub count: u64,
    /// The first of them, in detail.
    pub examples: Vec<String>,
}

/// What became of a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRow {
    /// Its name.
    pub name: String,
    /// How often it met a request, or happened.
    pub fired: u64,
    /// How often somebody could tell.
    pub observable: u64,
}

/// One run of an engine in a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Scenario.
    pub scenario: String,
    /// Engine.
    pub engine: String,
    /// Seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it is unknown.
    pub error: Option<String>,
    /// What is wrong.
    pub damage: Vec<Damage>,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that ended in an error or without an answer.
    pub unanswered: u64,
    /// Answered calls by host.
    pub by_host: BTreeMap<String, u64>,
    /// What became of the faults.
    pub faults: Vec<FaultRow>,
    /// How long it took.
    pub seconds: f64,
    /// The command that runs it again.
    pub replay: String,
}

/// What one operation costs in round trips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TripRow {
    /// Engine.
    pub engine: String,
    /// Operation, in words.
    pub operation: String,
    /// Round trips for one.
    pub trips: f64,
    /// The same with the LOOKUPs that a client without exclusive-create hints would add before a LINK.
    pub with_lookups: f64,
    /// By kind.
    pub kinds: BTreeMap<String, f64>,
    /// What it must not exceed.
    pub limit: Option<f64>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// When, RFC 3339.
    pub created: String,
    /// The command that made it.
    pub command: String,
    /// Machine, kernel, versions.
    pub environment: BTreeMap<String, String>,
    /// Engines, in the order of columns.
    pub engines: Vec<EngineInfo>,
    /// Scenarios, in the order of rows.
    pub scenarios: Vec<ScenarioInfo>,
    /// All runs.
    pub runs: Vec<RunInfo>,
    /// Round trips.
    pub trips: Vec<TripRow>,
}

impl Report {
    /// The worst verdict of an engine in a scenario, over all seeds; `None` when it was not run.
    #[must_use]
    pub fn verdict(&self, scenario: &str, engine: &str) -> Option<Verdict> {
        let mut verdicts: Vec<Verdict> =
            self.runs.iter().filter(|run| run.scenario == scenario && run.engine == engine).map(|run| run.verdict).collect();
        verdicts.sort();
        if verdicts.contains(&Verdict::Damaged) { Some(Verdict::Damaged) } else { verdicts.last().copied() }
    }

    /// In how many scenarios an engine was damaged, of how many.
    #[must_use]
    pub fn damaged(&self, engine: &str) -> (usize, usize) {
        let verdicts: Vec<Verdict> = self.scenarios.iter().filter_map(|it| self.verdict(&it.name, engine)).collect();
        (verdicts.iter().filter(|verdict| **verdict == Verdict::Damaged).count(), verdicts.len())
    }

    /// Writes `results.json` and `index.html` into a folder.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn save(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("results.json"), serde_json::to_string_pretty(self)?)?;
        std::fs::write(dir.join("index.html"), page(self))
    }
}

#[cfg(test)]
mod tests;
