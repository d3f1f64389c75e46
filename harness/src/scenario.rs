//! Scenarios: a drive, its hosts, what they do, what goes wrong, and what must hold, as a TOML file each.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::check::Rules;
use crate::control::{Command, Stats};
use crate::drive::{Fault, Profile};
use crate::workload::Workload;

/// Something that happens to processes rather than to requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Blow {
    /// U5: SIGKILL to the workers of a host (of all, without one); they start again.
    Kill {
        /// Whose.
        host: Option<String>,
    },
    /// The same to one process, whichever the seed says.
    KillOne,
    /// U6: the processes of a host stop for a while, and know nothing of it.
    Pause {
        /// Whose.
        host: String,
        /// How long.
        ms: u64,
    },
    /// The same to one process, whichever the seed says.
    PauseOne {
        /// How long.
        ms: u64,
    },
    /// A host loses power: its unwritten data is gone, its workers with it; both come back.
    PowerCut {
        /// Which.
        host: String,
    },
    /// N12: a host and the server lose power together, and with it whatever was not stable.
    PowerCutAll {
        /// Which host.
        host: String,
        /// What the server loses: `some` or `all`.
        loss: String,
    },
}

/// What an event does: a blow to processes, or a command to the drive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Action {
    /// To processes.
    Blow(Blow),
    /// To the drive.
    Drive(Command),
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, after the workers began.
    pub at_ms: u64,
    /// And again every so often.
    #[serde(default)]
    pub every_ms: Option<u64>,
    /// What.
    pub action: Action,
}

/// How our engine is opened in process. Real processes take its defaults but for the timeout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// How long a call may wait.
    pub timeout_ms: u64,
    /// How long names stay that may still be read.
    pub grace_ms: u64,
    /// Commits between two checkpoints.
    pub checkpoint_commits: u64,
    /// Commits that are folded at a time.
    pub fold_commits: u64,
    /// What a round trip takes.
    pub rtt_us: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { timeout_ms: 10_000, grace_ms: 600_000, checkpoint_commits: 24, fold_commits: 40, rtt_us: 1_200 }
    }
}

/// Where a scenario can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Front {
    /// In process.
    Sim,
    /// By real processes on FUSE mounts.
    Fuse,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// In a report.
    pub title: String,
    /// The real report or manual that it reproduces.
    pub source: String,
    /// What happens in it, for somebody who never saw one.
    pub story: String,
    /// The drive: `nfs4` or `local`.
    #[serde(default = "nfs4")]
    pub profile: String,
    /// How many hosts.
    #[serde(default = "two")]
    pub hosts: usize,
    /// Processes on each.
    #[serde(default = "two")]
    pub procs: usize,
    /// How long the workers work.
    #[serde(default = "seconds")]
    pub seconds: f64,
    /// A call without an answer for so long hung.
    #[serde(default = "deadline")]
    pub deadline_s: f64,
    /// What the workers do.
    #[serde(default)]
    pub workload: Workload,
    /// How our engine is opened in process.
    #[serde(default)]
    pub tuning: Tuning,
    /// Where it makes sense.
    #[serde(default = "both")]
    pub fronts: Vec<Front>,
    /// Whether `./ci/validate` plays it with every engine unless told otherwise.
    #[serde(default)]
    pub main: bool,
    /// How far two hosts' clocks may be apart: values may expire so much too early or too late.
    #[serde(default)]
    pub skew_ms: u64,
    /// How old a read may be, where the drive does not show at once what others wrote (no O).
    #[serde(default)]
    pub stale_ms: u64,
    /// The drive keeps what it acknowledged (D). Where it does not, a loss must be noticed.
    #[serde(default = "yes")]
    pub keeps: bool,
    /// Faults that must have been observable, or the run is worth nothing.
    #[serde(default)]
    pub requires: Vec<String>,
    /// The same in process alone: where real processes, with the settings that they come with, do what would show it too seldom for the
    /// seconds of a run.
    #[serde(default)]
    pub requires_in_process: Vec<String>,
    /// Hosts whose locks are local (N21).
    #[serde(default)]
    pub local_locks: Vec<String>,
    /// What meets requests.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    /// What happens when.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
    /// Whether it has a fault at all; the others show that the engine and the harness are sound together.
    #[serde(default = "yes")]
    pub faulty: bool,
}

fn nfs4() -> String {
    "nfs4".to_owned()
}

fn two() -> usize {
    2
}

fn seconds() -> f64 {
    5.0
}

fn deadline() -> f64 {
    12.0
}

fn both() -> Vec<Front> {
    vec![Front::Sim, Front::Fuse]
}

fn yes() -> bool {
    true
}

macro_rules! built_in {
    ($($file:literal),* $(,)?) => {
        const BUILT_IN: &[(&str, &str)] = &[$(($file, include_str!(concat!("../scenarios/", $file, ".toml")))),*];
    };
}

built_in!(
    "one-host",
    "two-hosts",
    "two-hosts-local-locks",
    "kill",
    "power-cut",
    "server-restart",
    "lease-lost",
    "late-write-error",
    "drive-full",
    "stale-handles",
    "lost-replies",
    "flipped-reads",
    "soft-errors",
    "partition",
    "slow-drive",
    "mixed",
    "smb-server-power",
    "close-errors",
    "asleep-at-publish",
    "nap-at-publish",
    "late-links",
    "many-nodes",
    "same-start",
    "readers-and-a-writer",
    "three-hosts-leases",
    "power-cut-one",
    "churn",
    "queue-workers",
    "hot-counter",
    "expiring",
    "nfs-leftovers",
    "body-after-name",
    "absent-names",
    "link-eperm",
    "quota",
    "smb-open-files",
    "stale-attributes",
    "foreign-bytes",
    "containers",
    "read-only-midway",
    "one-way",
    "short-calls",
    "lost-packets",
    "late-duplicates",
    "brick-killed",
    "kill-at-requests",
    "nfs3-soft",
    "lying-server",
    "lost-uploads",
    "local-disk",
    "slow-link",
);

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = crate::drive::faults::plan::read(text)?;
        scenario.validate()?;
        Ok(scenario)
    }

    /// Says what is wrong with it, if something is.
    ///
    /// # Errors
    /// The same.
    pub fn validate(&self) -> Result<(), String> {
        self.workload.validate()?;
        self.drive_profile()?;
        for fault in &self.faults {
            fault.check()?;
        }
        if !(1..=8).contains(&self.hosts) || !(1..=32).contains(&self.procs) {
            return Err("a scenario has 1 to 8 hosts and 1 to 32 processes on each".to_owned());
        }
        Ok(())
    }

    /// Reads a scenario's file.
    ///
    /// # Errors
    /// It cannot be read, or is wrong.
    pub fn load(path: &Path) -> Result<Scenario, String> {
        let text = std::fs::read_to_string(path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
        Scenario::parse(&text).map_err(|err| format!("{}: {err}", path.display()))
    }

    /// All that come with the program.
    ///
    /// # Errors
    /// One of them is wrong.
    pub fn built_in() -> Result<Vec<Scenario>, String> {
        BUILT_IN.iter().map(|(file, text)| Scenario::parse(text).map_err(|err| format!("{file}.toml: {err}"))).collect()
    }

    /// Whether it is one that comes with the program, as it is.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        let own = BUILT_IN.iter().find(|(file, _)| *file == self.name);
        own.is_some_and(|(_, text)| Scenario::parse(text).as_ref() == Ok(self))
    }

    /// The drive that it is played on.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn drive_profile(&self) -> Result<Profile, String> {
        Profile::named(&self.profile).ok_or_else(|| format!("there is no profile {:?}", self.profile))
    }

    /// The same for a run in process, where a round trip takes time.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn sim_profile(&self) -> Result<Profile, String> {
        Ok(Profile { rtt_us: self.tuning.rtt_us, ..self.drive_profile()? })
    }

    /// What counts as wrong when it is played in process. A call may take as long as it is told to, and then one I/O step.
    #[must_use]
    pub fn rules(&self, hosts: &[String]) -> Rules {
        // A batch is two calls of the engine, and a process may be stopped or cut off in the middle.
        let away = self.longest_away_ms();
        let longest_us = (2 * self.tuning.timeout_ms + away + 2_000) * 1000;
        Rules { longest_us, healed_us: (2 * self.tuning.timeout_ms + 2_000) * 1000, may_time_out: false, ..self.real_rules(hosts) }
    }

    /// The same for real processes, whose deadline their runner sees to. What the drive's kind does not promise is not asked for.
    #[must_use]
    pub fn real_rules(&self, hosts: &[String]) -> Rules {
        let profile = self.drive_profile().unwrap_or_default();
        let believed_ms = profile.attr_max_ms.max(profile.dir_max_ms);
        let stale_ms = if profile.keeps.contains('O') { self.stale_ms } else { self.stale_ms.max(believed_ms) };
        Rules {
            hosts: hosts.iter().filter(|host| self.workload.employs(host)).cloned().collect(),
            skew_us: self.skew_ms * 1000,
            stale_us: stale_ms * 1000,
            keeps: self.keeps && profile.keeps.contains('D'),
            quiet: self.fault_names().is_empty(),
            ..Rules::default()
        }
    }

    /// How long something may keep a process from going on at all.
    fn longest_away_ms(&self) -> u64 {
        let away = |event: &Event| match &event.action {
            Action::Blow(Blow::Pause { ms, .. } | Blow::PauseOne { ms }) => *ms,
            Action::Drive(Command::Cut { ms, .. }) => ms.unwrap_or((self.seconds * 1e3) as u64),
            _ => 0,
        };
        let waits = self.faults.iter().map(|fault| fault.delay_ms + fault.jitter_ms);
        2 * self.events.iter().map(away).chain(waits).max().unwrap_or(0)
    }

    /// The required faults that nobody could notice, each once.
    #[must_use]
    pub fn unobserved(&self, stats: &Stats, front: Front) -> Vec<String> {
        let observed = |name: &&String| stats.faults.get(*name).is_some_and(|count| count.observable > 0);
        let mut unseen: Vec<String> = self.required_by_name(front).filter(|name| !observed(name)).cloned().collect();
        unseen.extend(stats.unobserved());
        unseen.sort();
        unseen.dedup();
        unseen
    }

    fn required_by_name(&self, front: Front) -> impl Iterator<Item = &String> {
        self.requires.iter().chain(self.requires_in_process.iter().filter(move |_| front == Front::Sim))
    }

    /// The faults that must have been observable.
    pub fn required(&self, front: Front) -> impl Iterator<Item = &String> {
        self.required_by_name(front).chain(self.faults.iter().filter(|fault| fault.required).map(|fault| &fault.name))
    }

    /// The scenario as its file would be.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// The names of its faults, in order and once each, for tables.
    #[must_use]
    pub fn fault_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.faults.iter().map(|fault| fault.name.clone()).collect();
        for event in &self.events {
            names.push(event_fault(&event.action).to_owned());
        }
        if !self.local_locks.is_empty() {
            names.push("N21".to_owned());
        }

        names.sort();
        names.dedup();
        names
    }
}

fn event_fault(action: &Action) -> &'static str {
    match action {
        Action::Blow(Blow::Kill { .. } | Blow::KillOne | Blow::PowerCut { .. }) => "U5",
        Action::Blow(Blow::Pause { .. } | Blow::PauseOne { .. }) => "U6",
        Action::Blow(Blow::PowerCutAll { .. }) => "N12",
        Action::Drive(command) => match command {
            Command::Restart { .. } => "N12",
            Command::Cut { .. } => "U7",
            Command::ExpireLease { .. } => "N20",
            Command::LocalLocks { .. } => "N21",
            Command::Space { .. } => "N15",
            _ => "drive",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_built_in_scenario_is_sound_and_named_by_its_file() {
        let all = Scenario::built_in().unwrap();
        let names: BTreeSet<_> = all.iter().map(|scenario| scenario.name.clone()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() >= 40, "{} scenarios", all.len());
        for (scenario, (file, _)) in all.iter().zip(BUILT_IN) {
            assert_eq!(scenario.name, *file);
            assert!(!scenario.source.is_empty() && !scenario.story.is_empty(), "{file} says where it comes from");
            assert_eq!(scenario.faulty, !scenario.fault_names().is_empty() || scenario.name == "two-hosts", "{file}");
        }
    }

    /// For a while no scenario said so, and `harness run` without names passed by playing nothing.
    #[test]
    fn what_is_played_without_names_is_not_nothing() {
        let main = Scenario::built_in().unwrap().into_iter().filter(|scenario| scenario.main).count();
        assert!((10..=20).contains(&main), "{main} scenarios are played with every engine by default");
    }

    /// For a while runs by real processes passed without the faults that their plan requires.
    #[test]
    fn a_required_fault_that_nobody_could_notice_is_named() {
        let scenario = Scenario::built_in().unwrap().into_iter().find(|scenario| scenario.name == "nfs-leftovers").unwrap();
        let mut stats = Stats::default();
        assert_eq!(scenario.unobserved(&stats, Front::Sim), ["N17"]);
        assert!(scenario.unobserved(&stats, Front::Fuse).is_empty());
        let fault = Fault { required: true, ..Fault::named("N7") };
        stats.planned.push(crate::control::PlannedCount { fault, count: crate::drive::FaultCount::default() });
        assert_eq!(scenario.unobserved(&stats, Front::Fuse), ["N7"]);
    }

    #[test]
    fn a_misspelt_scenario_is_refused() {
        let good = BUILT_IN[0].1;
        assert!(Scenario::parse(&good.replace("hosts =", "hots =")).is_err());
        assert!(Scenario::parse(&format!("{good}\n[[fault]]\nname = \"N99\"\n")).is_err());
    }
}
