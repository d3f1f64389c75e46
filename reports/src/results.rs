//! What the harness found, as data with a version. The page, the JUnit file and the JSON are made of this and of nothing else.
//!
//! Fields are only ever added, each with a default, so that newer programs read older files. A change of meaning raises [`VERSION`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the data. 2 tells what could not be run ([`Verdict::NotRun`]) from what could not be judged ([`Verdict::Unknown`]).
pub const VERSION: u32 = 2;

/// How a run ended. In order of weight: of several runs the greatest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was run, it was judged, and nothing is wrong.
    Sound,
    /// It was run, and the checks came to no verdict within their bounds. That is not a pass.
    Unknown,
    /// It could not be run, so nothing is known.
    #[default]
    NotRun,
    /// Something is wrong.
    Damaged,
}

/// An engine under test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineInfo {
    /// Short name, as commands take it.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Version that was run.
    pub version: String,
    /// Whether it is the one that must be sound.
    pub ours: bool,
}

/// A scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ScenarioInfo {
    /// Short name, as commands take it.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// The report or the manual that it reproduces.
    pub source: String,
    /// What happens in it.
    pub story: String,
    /// The names of its faults.
    pub faults: Vec<String>,
    /// The drive it is played on: `nfs4`, `smb3`, ...
    pub profile: String,
    /// How many hosts.
    pub hosts: u32,
    /// Processes on each.
    pub procs: u32,
}

/// What a fault is, so that a reader need not know its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FaultInfo {
    /// Its name: `N7`.
    pub name: String,
    /// In a few words: "repeated request".
    pub title: String,
    /// In a sentence: "the reply is lost and the server carries the request out again".
    pub meaning: String,
}

/// One kind of damage in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Damage {
    /// In words: "acknowledged data lost".
    pub what: String,
    /// How often.
    pub count: u64,
    /// The first of them, in detail.
    pub examples: Vec<String>,
}

/// What became of a fault, on one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FaultRow {
    /// Its name.
    pub name: String,
    /// The kind of request that it meets: `LINK`, `WRITE`; empty for all together, events included.
    pub operation: String,
    /// How often it was planned.
    pub planned: u64,
    /// How often it met a request, or happened.
    pub fired: u64,
    /// How often somebody could tell.
    pub observable: u64,
    /// Whether the scenario is worth nothing unless it became observable.
    pub required: bool,
}

/// How the calls of one operation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CallCount {
    /// With an answer.
    pub answered: u64,
    /// With an error that says that nothing was done.
    pub failed: u64,
    /// With an error or without an answer: it may have taken effect.
    pub open: u64,
}

/// One thing that is wrong, as exactly as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Finding {
    /// Which kind, in the words of [`Damage::what`].
    pub what: String,
    /// Which key, queue, counter or file.
    pub subject: String,
    /// What a sound cache may answer here.
    pub expected: String,
    /// What it answered.
    pub observed: String,
    /// Who was answered: the host.
    pub host: String,
    /// And the process there.
    pub process: String,
    /// When, in microseconds since the run began.
    pub at_us: Option<u64>,
}

/// How big a plan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PlanSize {
    /// Hosts.
    pub hosts: u64,
    /// Calls.
    pub operations: u64,
    /// Faults and events.
    pub faults: u64,
}

/// What was played, so that it can be played again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PlanInfo {
    /// The plan itself (TOML).
    pub text: String,
    /// The file that holds it, relative to the report.
    pub file: Option<String>,
    /// How big it is.
    pub size: PlanSize,
    /// How big it was before it was made smaller; nothing when that was not tried.
    pub before: Option<PlanSize>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// With an answer.
    #[default]
    Ok,
    /// With an error that says that nothing was done.
    Fail,
    /// With an error, or its process was killed: it may have taken effect.
    Info,
    /// It did not end by its deadline.
    Hung,
    /// Its process died by itself.
    Crashed,
}

/// One call in a timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimelineCall {
    /// On which host.
    pub host: String,
    /// By which process there.
    pub process: String,
    /// What was called, with its arguments, short: `set k/3 = v17`.
    pub call: String,
    /// What came back, short: `ok`, `v12`, `Timeout`.
    pub answer: String,
    /// How it ended.
    pub end: CallEnd,
    /// When it began, in microseconds since the run began.
    pub start_us: u64,
    /// When it ended; nothing when it never did.
    pub end_us: Option<u64>,
    /// Whether it is one of those that cannot be explained.
    pub wrong: bool,
    /// The faults that met its requests.
    pub faults: Vec<String>,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A fault met a request.
    #[default]
    Fault,
    /// A process was killed or crashed.
    Kill,
    /// A host lost its power.
    PowerCut,
    /// The server restarted.
    Restart,
    /// Hosts and the server were cut off from each other.
    Partition,
    /// Everything works again.
    Heal,
    /// Something else.
    Other,
}

/// Something that happened beside the calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimelineEvent {
    /// When, in microseconds since the run began.
    pub at_us: u64,
    /// Until when, if it lasted.
    pub until_us: Option<u64>,
    /// On which host; nothing for the server, or for all.
    pub host: Option<String>,
    /// To which process there; nothing for all.
    pub process: Option<String>,
    /// What kind.
    pub kind: EventKind,
    /// The fault's name, where it is one.
    pub name: String,
    /// In words: "reply of LINK log/17 lost".
    pub text: String,
}

/// What was called and what happened around one failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timeline {
    /// Whose calls are shown: a key, a queue, or all.
    pub subject: String,
    /// Whether time is that of the simulation.
    pub virtual_time: bool,
    /// The calls, in any order.
    pub calls: Vec<TimelineCall>,
    /// What else happened, in any order.
    pub events: Vec<TimelineEvent>,
    /// How many calls are left out, because they have nothing to do with it.
    pub left_out: u64,
}

/// One run of an engine in a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunInfo {
    /// Scenario.
    pub scenario: String,
    /// Engine.
    pub engine: String,
    /// Seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it could not be run, or not be judged.
    pub error: Option<String>,
    /// What is wrong, by kind.
    pub damage: Vec<Damage>,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that ended in an error or without an answer.
    pub unanswered: u64,
    /// Answered calls by host.
    pub by_host: BTreeMap<String, u64>,
    /// What became of the faults.
    pub faults: Vec<FaultRow>,
    /// How long it took, in seconds of this machine.
    pub seconds: f64,
    /// The command that runs it again.
    pub replay: String,
    /// How the engine met the drive: `process` (virtual time), `fuse`.
    pub front: String,
    /// A hash of the whole history: the same for the same seed, in virtual time.
    pub hash: Option<String>,
    /// Calls by operation.
    pub operations: BTreeMap<String, CallCount>,
    /// What is wrong, one by one: the first few.
    pub findings: Vec<Finding>,
    /// What was played, made as small as it gets.
    pub plan: Option<PlanInfo>,
    /// The calls and events around the first finding.
    pub timeline: Option<Timeline>,
}

/// A broken engine that the checks must notice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MutantRow {
    /// Its name.
    pub name: String,
    /// What it does wrong.
    pub title: String,
    /// The scenarios that noticed. None: the checks are worth less than they seem.
    pub caught_by: Vec<String>,
    /// The command that shows it again.
    pub replay: String,
}

/// What one operation costs in round trips.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// When, RFC 3339.
    pub created: String,
    /// The command that made it.
    pub command: String,
    /// Machine, kernel, versions: see [`crate::machine`].
    pub environment: BTreeMap<String, String>,
    /// Engines, in the order of columns.
    pub engines: Vec<EngineInfo>,
    /// Scenarios, in the order of rows.
    pub scenarios: Vec<ScenarioInfo>,
    /// All runs.
    pub runs: Vec<RunInfo>,
    /// Round trips.
    pub trips: Vec<TripRow>,
    /// What the faults are.
    pub faults: Vec<FaultInfo>,
    /// The engines that are broken on purpose.
    pub mutants: Vec<MutantRow>,
}

impl Report {
    /// The worst verdict of an engine in a scenario, over all seeds; `None` when there is no run of it.
    #[must_use]
    pub fn verdict(&self, scenario: &str, engine: &str) -> Option<Verdict> {
        self.runs_of(scenario, engine).map(|run| run.verdict).max()
    }

    /// All runs of an engine in a scenario.
    pub fn runs_of(&self, scenario: &str, engine: &str) -> impl Iterator<Item = &RunInfo> {
        self.runs.iter().filter(move |run| run.scenario == scenario && run.engine == engine)
    }

    /// In how many scenarios an engine was damaged, of how many.
    #[must_use]
    pub fn damaged(&self, engine: &str) -> (usize, usize) {
        let tally = self.tally(engine);
        (tally.damaged, tally.scenarios())
    }

    /// How an engine's scenarios ended.
    #[must_use]
    pub fn tally(&self, engine: &str) -> Tally {
        let mut tally = Tally::default();
        for verdict in self.scenarios.iter().filter_map(|scenario| self.verdict(&scenario.name, engine)) {
            match verdict {
                Verdict::Sound => tally.sound += 1,
                Verdict::Unknown => tally.unknown += 1,
                Verdict::NotRun => tally.not_run += 1,
                Verdict::Damaged => tally.damaged += 1,
            }
        }
        tally
    }
}

/// Scenarios of one engine, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nothing wrong.
    pub sound: usize,
    /// Damaged.
    pub damaged: usize,
    /// Without a verdict.
    pub unknown: usize,
    /// Not run.
    pub not_run: usize,
}

impl Tally {
    /// All of them.
    #[must_use]
    pub fn scenarios(&self) -> usize {
        self.sound + self.damaged + self.unknown + self.not_run
    }
}
