//! Real mounts, given by path: our engine and others work on them from several hosts while clients and servers fail, and the same
//! checks judge the history as on the simulated drive.
//!
//! Nothing outside of one new folder on the drive is touched, and that folder is removed at the end, whatever happens.

mod fault;
mod judge;
mod junit;
mod place;
mod play;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::{EngineInfo, Finding, Report, RunInfo, ScenarioInfo, Verdict};

use crate::check::Violation;
use crate::engine::Engine;
use crate::history::{Call, Outcome};
use crate::matrix;

pub use fault::{CLIENT, Fault, Hook, fake_clock};
pub use junit::junit;
pub use place::{Folder, Place, same_share};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the drive is called in the report.
    pub name: String,
    /// The hosts that work: a mount of the share each.
    pub places: Vec<Place>,
    /// Hosts that only look at the end, with nothing in their caches.
    pub cold: Vec<Place>,
    /// Python that workers run with.
    pub python: PathBuf,
    /// Processes on each host.
    pub procs: usize,
    /// How long each cell works.
    pub seconds: f64,
    /// How often all processes are killed in the cell `kill`.
    pub kills: u32,
    /// How long a fault lasts.
    pub fault_seconds: f64,
    /// What a call may take (the caches' `timeout`).
    pub timeout: Duration,
    /// Seed of the operations.
    pub seed: u64,
    /// Causes the server's faults.
    pub hook: Option<Hook>,
    /// Folder for histories and the report.
    pub out: PathBuf,
    /// The command that runs this again, before its options.
    pub again: String,
}

/// What came of one cell.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// All calls.
    pub calls: Vec<Call>,
    /// What is wrong with them.
    pub violations: Vec<Violation>,
    /// How long it took.
    pub seconds: f64,
    /// How long after the fault's end the last process worked again.
    pub recovered_after: Option<f64>,
}

impl Plan {
    /// How long a cell takes, about.
    #[must_use]
    pub fn estimate(&self, fault: &Fault) -> f64 {
        let around = 4.0;
        match fault {
            Fault::Server(_) => self.seconds.max(6.0) + self.fault_seconds + around,
            _ => self.seconds + around,
        }
    }

    /// The command that plays one cell again.
    #[must_use]
    pub fn replay(&self, fault: &Fault, engine: &Engine) -> String {
        format!("{} --faults {} --engines {} --seconds {} --seed {}", self.again, fault.name(), engine.name, self.seconds, self.seed)
    }

    /// Plays one cell, in a new folder on the drive.
    ///
    /// # Errors
    /// Something that is not the engine's fault was in the way: nothing is known about it then.
    pub fn play(&self, fault: &Fault, engine: &Engine) -> Result<Outcomes, String> {
        let dir = self.out.join(format!("{}.{}", fault.name(), engine.name));
        std::fs::create_dir_all(&dir).map_err(|err| format!("cannot make {}: {err}", dir.display()))?;
        let outcomes = play::play(self, fault, engine, &dir)?;
        let mut text = Vec::new();
        let path = dir.join("history.ndjson");
        crate::history::write(&outcomes.calls, &mut text)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|err| format!("cannot write {}: {err}", path.display()))?;
        Ok(outcomes)
    }

    /// What a cell says in the report.
    #[must_use]
    pub fn describe(&self, fault: &Fault, engine: &Engine, outcomes: &Result<Outcomes, String>) -> RunInfo {
        let mut info = RunInfo {
            scenario: scenario_name(&self.name, fault),
            engine: engine.name.to_owned(),
            seed: self.seed,
            replay: self.replay(fault, engine),
            front: "mount".to_owned(),
            ..RunInfo::default()
        };
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(why) => {
                info.error = Some(why.clone());
                return info;
            }
        };
        info.verdict = if outcomes.violations.is_empty() { Verdict::Sound } else { Verdict::Damaged };
        info.damage = matrix::damage(&outcomes.violations);
        let finding = |it: &Violation| Finding { what: it.wrong.title().to_owned(), observed: it.detail.clone(), ..Finding::default() };
        info.findings = outcomes.violations.iter().take(20).map(finding).collect();
        for call in outcomes.calls.iter().filter(|call| !call.last) {
            let count = info.operations.entry(call.op.name().to_owned()).or_default();
            match call.outcome {
                Outcome::Ok(_) => {
                    count.answered += 1;
                    info.answered += 1;
                    *info.by_host.entry(call.host.clone()).or_default() += 1;
                }
                Outcome::Fail(_) => (count.failed, info.unanswered) = (count.failed + 1, info.unanswered + 1),
                _ => (count.open, info.unanswered) = (count.open + 1, info.unanswered + 1),
            }
        }
        info.seconds = outcomes.seconds;
        info
    }

    /// The report of all cells.
    #[must_use]
    pub fn report(&self, faults: &[Fault], engines: &[(Engine, String)], runs: Vec<RunInfo>, drive: &str) -> Report {
        let mut environment = reports::machine();
        environment.insert("drive".to_owned(), drive.to_owned());
        let scenario = |fault: &Fault| ScenarioInfo {
            name: scenario_name(&self.name, fault),
            title: format!("{}: {}", self.name, fault.title()),
            story: fault.story(),
            source: "a real mount".to_owned(),
            faults: Vec::new(),
            profile: self.name.clone(),
            hosts: u32::try_from(self.places.len()).unwrap_or(u32::MAX),
            procs: u32::try_from(self.procs).unwrap_or(u32::MAX),
        };
        let engine = |(engine, version): &(Engine, String)| EngineInfo {
            name: engine.name.to_owned(),
            title: engine.title.to_owned(),
            version: version.clone(),
            ours: engine.ours,
        };
        Report {
            version: reports::VERSION,
            created: matrix::now(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            environment,
            engines: engines.iter().map(engine).collect(),
            scenarios: faults.iter().map(scenario).collect(),
            runs,
            ..Report::default()
        }
    }
}

fn scenario_name(drive: &str, fault: &Fault) -> String {
    format!("{drive}/{}", fault.name())
}

/// Puts the reports of several drives together: rows of all, and the columns that any has.
#[must_use]
pub fn merge(reports: Vec<Report>) -> Report {
    let mut merged = Report { version: reports::VERSION, created: matrix::now(), ..Report::default() };
    let mut drives = BTreeMap::new();
    for report in reports {
        for engine in report.engines {
            if !merged.engines.iter().any(|its| its.name == engine.name) {
                merged.engines.push(engine);
            }
        }
        if let (Some(drive), Some(first)) = (report.environment.get("drive"), report.scenarios.first()) {
            drives.insert(format!("drive {}", first.profile), drive.clone());
        }
        merged.environment.extend(report.environment.into_iter().filter(|(name, _)| name != "drive"));
        merged.scenarios.extend(report.scenarios);
        merged.runs.extend(report.runs);
        merged.trips.extend(report.trips);
    }
    merged.environment.extend(drives);
    merged
}

/// Reads the report that an earlier run left in a folder.
///
/// # Errors
/// It cannot be read.
pub fn load(dir: &Path) -> Result<Report, String> {
    let path = dir.join("results.json");
    let text = std::fs::read_to_string(&path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
    serde_json::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))
}
