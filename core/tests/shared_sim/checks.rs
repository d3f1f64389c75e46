//! What the processes were told, and the verdict on it.

use super::server::Server;
use crate::shared_support::{MARKER, Names};
use diskcache_core::format::{Record, parse_commit};
use std::collections::{BTreeMap, BTreeSet};

/// How an operation ended for who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log at this position.
    Acknowledged(u64),
    /// It was published elsewhere than it was decided on, and counts for nothing.
    Void,
    /// It may be in the log.
    Unknown,
    /// It is not in the log.
    Failed,
}

/// A state that somebody had: replayed up to a position.
#[derive(Debug)]
struct Shown {
    who: usize,
    position: u64,
    names: Vec<String>,
}

/// What a read must show, taken when it begins.
#[derive(Debug, Clone, Default)]
pub struct Before {
    acknowledged: usize,
    shown: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    exact: bool,
    pending: BTreeMap<usize, Vec<String>>,
    outcomes: Vec<(Vec<String>, Outcome)>,
    acknowledged: Vec<String>,
    /// How far any answer went.
    shown: u64,
    states: Vec<Shown>,
    violations: Vec<String>,
    finished: BTreeSet<usize>,
    went_on: bool,
}

impl Ledger {
    pub fn new(exact: bool) -> Self {
        Self {
            exact,
            pending: BTreeMap::new(),
            outcomes: Vec::new(),
            acknowledged: Vec::new(),
            shown: 0,
            states: Vec::new(),
            violations: Vec::new(),
            finished: BTreeSet::new(),
            went_on: false,
        }
    }

    pub fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn began(&mut self, who: usize, names: &[String]) {
        self.pending.insert(who, names.to_vec());
    }

    /// A killed process is told nothing: what it had begun is unknown.
    pub fn killed(&mut self, who: usize) {
        if let Some(names) = self.pending.remove(&who) {
            self.outcomes.push((names, Outcome::Unknown));
        }
    }

    pub fn concluded(&mut self, who: usize, outcome: Outcome, position: u64, state: &Names) {
        let names = self.pending.remove(&who).unwrap_or_default();
        if let Outcome::Acknowledged(_) = outcome {
            self.acknowledged.extend(names.iter().cloned());
        }
        if matches!(outcome, Outcome::Acknowledged(_) | Outcome::Void) {
            self.answered(who, position, state);
        }
        self.outcomes.push((names, outcome));
    }

    pub fn read_begins(&self) -> Before {
        Before { acknowledged: self.acknowledged.len(), shown: self.shown }
    }

    pub fn read_ends(&mut self, who: usize, before: &Before, position: u64, state: &Names) {
        if self.exact {
            for name in &self.acknowledged[..before.acknowledged] {
                if !state.names.contains(name) {
                    self.violations.push(format!("process {who} read up to {position} and does not see {name}, acknowledged before"));
                }
            }
            if position < before.shown {
                self.violations.push(format!("process {who} read up to {position} after {} was shown", before.shown));
            }
        }
        self.answered(who, position, state);
    }

    fn answered(&mut self, who: usize, position: u64, state: &Names) {
        self.shown = self.shown.max(position);
        if !state.damaged.is_empty() {
            self.violations.push(format!("process {who} found damage at {:?}", state.damaged));
        }
        self.states.push(Shown { who, position, names: state.names.clone() });
    }

    /// Notes that `who` has done its work; returns whether all have.
    pub fn finishes(&mut self, who: usize, processes: usize) -> bool {
        self.finished.insert(who);
        self.finished.len() == processes
    }

    pub fn went_on(&mut self, who: usize) {
        self.went_on = true;
        if !self.acknowledged.iter().any(|name| name.starts_with(&format!("{who}.")) && name.contains(".1000001.")) {
            self.violations.push("in calm weather the last process could not go on".to_owned());
        }
    }

    /// Holds everything against the true log.
    pub fn verdict(&mut self, server: &Server) -> Result<(), String> {
        let log = true_log(server)?;
        self.check_outcomes(&log);
        self.check_states(&log);
        if !self.went_on && self.violations.is_empty() {
            self.violations.push("nobody had the last word".to_owned());
        }
        if self.violations.is_empty() { Ok(()) } else { Err(self.violations.join("\n  ")) }
    }

    fn check_outcomes(&mut self, log: &[Vec<String>]) {
        for (names, outcome) in &self.outcomes {
            let found: Vec<usize> = (0..log.len()).filter(|&i| log[i].iter().any(|name| names.contains(name))).collect();
            let whole = found.iter().all(|&i| log[i] == *names);
            let right = match outcome {
                Outcome::Acknowledged(n) => found == [*n as usize - 1],
                Outcome::Unknown => found.len() <= 1,
                Outcome::Failed | Outcome::Void => found.is_empty(),
            };
            if !right || !whole {
                let at: Vec<usize> = found.iter().map(|i| i + 1).collect();
                self.violations.push(format!("{names:?} ended as {outcome:?} and is in the log at {at:?}"));
            }
        }
    }

    fn check_states(&mut self, log: &[Vec<String>]) {
        for Shown { who, position, names } in &self.states {
            let upto = (*position as usize).saturating_sub(1);
            let expected: Option<Vec<&String>> = log.get(..upto).map(|part| part.iter().flatten().collect());
            if expected.as_ref().is_none_or(|expected| !expected.iter().copied().eq(names)) {
                self.violations.push(format!("process {who} had replayed up to {position} and had {names:?}, not {expected:?}"));
                return;
            }
        }
    }
}

/// Reads the log as it was first written, from what is durable: for each number the names that its commit counts for.
fn true_log(server: &Server) -> Result<Vec<Vec<String>>, String> {
    let mut log = Vec::new();
    let mut nonces = BTreeSet::new();
    for (at, (path, inode)) in server.history.iter().enumerate() {
        if at == 0 {
            continue; // The empty first commit.
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if u64::from_str_radix(name, 16) != Ok(at as u64) {
            return Err(format!("the log has a hole before {name}"));
        }
        let bytes = &server.inodes[inode].stable;
        let (header, body) = parse_commit(bytes, &MARKER).map_err(|why| format!("commit {at} was published and is not durable: {why}"))?;
        if !nonces.insert(header.nonce) {
            return Err(format!("the file of commit {at} is also another commit"));
        }
        let counts = header.decided_on.is_none_or(|position| position == at as u64);
        let names =
            body.records().filter_map(|(record, _)| if let Record::Setting(name, _) = record { Some(name.to_owned()) } else { None });
        log.push(if counts { names.collect() } else { Vec::new() });
    }
    Ok(log)
}
