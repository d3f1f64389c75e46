//! Scenarios: a drive, its hosts, what they do, what goes wrong, and what must hold, as a TOML file each.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::control::Command;
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
    "soft-errors",
    "partition",
    "slow-drive",
    "mixed",
);

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = crate::drive::faults::plan::read(text)?;
        scenario.workload.validate()?;
        scenario.drive_profile()?;
        for fault in &scenario.faults {
            fault.check()?;
        }
        if !(1..=8).contains(&scenario.hosts) || !(1..=32).contains(&scenario.procs) {
            return Err("a scenario has 1 to 8 hosts and 1 to 32 processes on each".to_owned());
        }
        Ok(scenario)
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

    /// The drive that it is played on.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn drive_profile(&self) -> Result<Profile, String> {
        Profile::named(&self.profile).ok_or_else(|| format!("there is no profile {:?}", self.profile))
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
        Action::Blow(Blow::Kill { .. } | Blow::PowerCut { .. }) => "U5",
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
        for (scenario, (file, _)) in all.iter().zip(BUILT_IN) {
            assert_eq!(scenario.name, *file);
            assert!(!scenario.source.is_empty() && !scenario.story.is_empty(), "{file} says where it comes from");
            assert_eq!(scenario.faulty, !scenario.fault_names().is_empty() || scenario.name == "two-hosts", "{file}");
        }
    }

    #[test]
    fn a_misspelt_scenario_is_refused() {
        let good = BUILT_IN[0].1;
        assert!(Scenario::parse(&good.replace("hosts =", "hots =")).is_err());
        assert!(Scenario::parse(&format!("{good}\n[[fault]]\nname = \"N99\"\n")).is_err());
    }
}
