//! A run in a file: what was played and what came of it, so that anybody can see it again.

use std::path::Path;

use reports::PlanSize;
use serde::{Deserialize, Serialize};

use crate::check::Wrong;
use crate::engine::Engine;
use crate::matrix::Stage;
use crate::runner::Run;
use crate::scenario::{Front, Scenario};

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Its engine.
    pub engine: String,
    /// The shell command that starts the engine's own worker, where it is none of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_command: Option<String>,
    /// Its seed.
    pub seed: u64,
    /// How the engine met the drive.
    pub front: Front,
    /// What was wrong, each kind once.
    #[serde(default)]
    pub verdict: Vec<Wrong>,
    /// The hash of the history, where runs repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The way in which the engine was broken on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// How big it was before it was made smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<PlanSize>,
    /// Everything else.
    pub scenario: Scenario,
}

/// The kinds of what is wrong with a run, each once.
#[must_use]
pub fn kinds(run: &Run) -> Vec<Wrong> {
    let mut kinds: Vec<Wrong> = run.violations.iter().map(|violation| violation.wrong).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

impl Replay {
    /// A run of which nothing is known yet.
    #[must_use]
    pub fn new(engine: &str, seed: u64, front: Front, scenario: Scenario) -> Replay {
        let engine = engine.to_owned();
        Replay { engine, engine_command: None, seed, front, verdict: Vec::new(), hash: None, mutant: None, before: None, scenario }
    }

    /// The same with what a run of it showed: everything where runs repeat, and where they do not the kinds of wrong.
    #[must_use]
    pub fn seen(mut self, run: &Run) -> Replay {
        self.verdict = kinds(run);
        self.hash = run.marks.map(|(hash, ..)| format!("{hash:016x}"));
        self
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn load(path: &Path) -> Result<Replay, String> {
        let text = std::fs::read_to_string(path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
        let replay: Replay = toml::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))?;
        replay.scenario.validate().map_err(|err| format!("{}: {err}", path.display()))?;
        Ok(replay)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|err| err.to_string())?;
        let text = format!("# Play it again: harness replay {}\n{text}", path.display());
        std::fs::write(path, text).map_err(|err| format!("cannot write {}: {err}", path.display()))
    }

    /// Plays it.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn play(&self, stage: Stage<'_>, engine: &Engine) -> Result<Run, String> {
        crate::mutants::with(self.mutant.as_deref(), || stage.play(&self.scenario, engine, self.seed))?
    }

    /// In what a run differs from what the file says; nothing where the file does not say. On mounts no two runs are the same: there it is
    /// enough that one of the kinds of wrong shows again.
    #[must_use]
    pub fn differs(&self, run: &Run) -> Option<String> {
        let found = kinds(run);
        let same = match self.front {
            Front::Sim => self.verdict == found,
            Front::Fuse => self.verdict.iter().any(|wrong| found.contains(wrong)),
        };
        if !self.verdict.is_empty() && !same {
            return Some(format!("{:?} was wrong, and now it is {found:?}", self.verdict));
        }
        let hash = run.marks.map(|(hash, ..)| format!("{hash:016x}"));
        match (&self.hash, hash) {
            (Some(then), Some(now)) if *then != now => Some(format!("the history was {then}, and now it is {now}")),
            _ => None,
        }
    }
}
