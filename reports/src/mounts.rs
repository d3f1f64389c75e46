//! What real network mounts do to caches, and how far the simulated drive is like them: the data of the report of mounts.
//!
//! Fields are only ever added, each with a default. A change of meaning raises [`MOUNTS_VERSION`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EngineInfo, Verdict};

/// The version of the data.
pub const MOUNTS_VERSION: u32 = 1;

/// How bad a finding of `doctor` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    #[default]
    Good,
    /// Worth knowing: slower, or less fresh.
    Note,
    /// Something will hurt.
    Warning,
    /// A shared cache is not safe here.
    Unsound,
}

/// One finding of `doctor` about a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DoctorFinding {
    /// How bad.
    pub severity: Severity,
    /// What was looked at: "link refuses a name that exists".
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when nothing.
    pub advice: String,
}

/// A mount: one or several hosts' view of one share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MountInfo {
    /// Short name, as commands take it: `nfs4`.
    pub name: String,
    /// Name for people: "NFSv4.2, kernel client, hard".
    pub title: String,
    /// File system type and the options that matter.
    pub options: String,
    /// How many hosts mounted it.
    pub hosts: u32,
    /// Why it could not be had on this machine; nothing when it was.
    pub left_out: Option<String>,
    /// What `doctor` says in a word: "sound", "one host only".
    pub doctor: String,
    /// Its findings.
    pub findings: Vec<DoctorFinding>,
    /// Whether this package refuses to share the cache there (or serves one host only): then no run is wanted.
    pub refuses: Option<String>,
}

/// One promise, as a run kept it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Promise {
    /// In words: "no acknowledged write is lost at the end".
    pub promise: String,
    /// How often it was broken.
    pub broken: u64,
    /// The first cases.
    pub examples: Vec<String>,
    /// What it rests on: "8,214 reads".
    pub note: String,
}

/// One run: an engine on a mount under a workload and a fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MountRun {
    /// Which mount, by its short name.
    pub mount: String,
    /// Which workload: "torture", "writers".
    pub workload: String,
    /// Which fault, in words: "server killed and restarted"; empty for none but the workload's own kills.
    pub fault: String,
    /// Which engine, by its short name.
    pub engine: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it could not be run, or not be judged.
    pub error: Option<String>,
    /// Every promise that was checked.
    pub promises: Vec<Promise>,
    /// Calls with an answer.
    pub answered: u64,
    /// Calls that ended in an error.
    pub failed: u64,
    /// Calls that never ended.
    pub open: u64,
    /// Writes acknowledged, by host.
    pub writes_by_host: BTreeMap<String, u64>,
    /// The longest call, in seconds.
    pub longest_s: Option<f64>,
    /// What no call may take longer than, in seconds.
    pub deadline_s: Option<f64>,
    /// From the end of the fault to the first success of each host, in seconds, without opening anew.
    pub recovered_s: Option<f64>,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// The command that runs it again.
    pub replay: String,
    /// Where its logs are, relative to the report.
    pub evidence: Option<String>,
}

/// What one operation costs on a real mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MountTrips {
    /// Which mount.
    pub mount: String,
    /// Which engine.
    pub engine: String,
    /// Operation, in words.
    pub operation: String,
    /// Requests to the server for one.
    pub trips: f64,
    /// By kind of request.
    pub kinds: BTreeMap<String, f64>,
    /// What it must not exceed.
    pub limit: Option<f64>,
}

/// How fast engines are on a mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MountSpeed {
    /// Which mount.
    pub mount: String,
    /// Which engine.
    pub engine: String,
    /// What was measured: "commits a second, two hosts writing".
    pub what: String,
    /// The median.
    pub value: f64,
    /// The least of the rounds.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// In which unit: `1/s`, `ms`.
    pub unit: String,
    /// What it must reach (or, for a time, not exceed).
    pub target: Option<f64>,
}

/// What is to be thought of a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// The simulation does as the real mount does.
    #[default]
    Same,
    /// It differs, and the documentation of the profile says so.
    Simplified,
    /// It differs, and should not.
    Bug,
    /// One of them could not be asked.
    NotAsked,
}

/// What a real mount and the simulated drive of that name did when they were asked the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Difference {
    /// Which mount.
    pub mount: String,
    /// The simulated profile that stands for it.
    pub profile: String,
    /// What was asked: "absent name, seen by the other host after".
    pub probe: String,
    /// What the real one did.
    pub real: String,
    /// What the simulated one did.
    pub simulated: String,
    /// What is to be thought of it.
    pub likeness: Likeness,
    /// Why, for a simplification.
    pub reason: String,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MountReport {
    /// What kind of report it is: `mounts`.
    pub kind: String,
    /// [`MOUNTS_VERSION`].
    pub version: u32,
    /// When, RFC 3339.
    pub created: String,
    /// The command that made it.
    pub command: String,
    /// Machine, kernel, versions: see [`crate::machine`].
    pub environment: BTreeMap<String, String>,
    /// Engines, in the order of columns.
    pub engines: Vec<EngineInfo>,
    /// Mounts, in the order of rows.
    pub mounts: Vec<MountInfo>,
    /// All runs.
    pub runs: Vec<MountRun>,
    /// Round trips.
    pub trips: Vec<MountTrips>,
    /// Speed.
    pub speeds: Vec<MountSpeed>,
    /// The simulator against reality.
    pub differences: Vec<Difference>,
}

impl MountReport {
    /// An empty report of this version.
    #[must_use]
    pub fn new(created: &str, command: &str) -> MountReport {
        MountReport {
            kind: "mounts".to_owned(),
            version: MOUNTS_VERSION,
            created: created.to_owned(),
            command: command.to_owned(),
            environment: crate::machine(),
            ..MountReport::default()
        }
    }

    /// Takes in another report, as each mount writes its own: mounts and engines of the same name are one, everything else is added.
    pub fn merge(&mut self, other: MountReport) {
        for engine in other.engines {
            if !self.engines.iter().any(|its| its.name == engine.name) {
                self.engines.push(engine);
            }
        }
        for mount in other.mounts {
            match self.mounts.iter_mut().find(|its| its.name == mount.name) {
                None => self.mounts.push(mount),
                // One run of the script may have asked the doctor, and another not.
                Some(its) if its.findings.is_empty() => *its = mount,
                Some(_) => {}
            }
        }
        for (name, value) in other.environment {
            self.environment.entry(name).or_insert(value);
        }
        self.runs.extend(other.runs);
        self.trips.extend(other.trips);
        self.speeds.extend(other.speeds);
        self.differences.extend(other.differences);
    }

    /// Whether nothing came of a run because our engine refuses the drive, as it must.
    #[must_use]
    pub fn is_refusal(&self, run: &MountRun) -> bool {
        let refuses = self.mounts.iter().any(|mount| mount.name == run.mount && mount.refuses.is_some());
        let ours = self.engines.iter().any(|engine| engine.name == run.engine && engine.ours);
        refuses && ours && run.answered == 0 && run.verdict != Verdict::Damaged
    }

    /// The worst verdict of an engine on a mount; nothing when there is no run of it.
    #[must_use]
    pub fn verdict(&self, mount: &str, engine: &str) -> Option<Verdict> {
        self.runs.iter().filter(|run| run.mount == mount && run.engine == engine).map(|run| run.verdict).max()
    }
}
