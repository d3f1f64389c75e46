//! Checking a cache: every byte that counts is read, and every file is accounted for. With `fix`, what is damaged is repaired where the log
//! still tells how, what cannot be is removed, and leftover files of killed processes go.
//!
//! A check may run while others use the cache. Unknown files are left alone. On a network drive a file that nobody names may be one that
//! another host is about to name: it goes only after this process has seen it unnamed for the whole grace.

use crate::cache::Cache;
use crate::error::Result;
use std::path::PathBuf;

/// What a problem concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// `CACHE` or its copy.
    Marker,
    /// Commits, segments, or the page or bell that says where the log ends.
    Log,
    /// A file of the index.
    Index,
    /// A folded segment.
    Fold,
    /// An entry's value.
    Value,
    /// The running totals.
    Totals,
    /// A file that a killed process left.
    Leftover,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it concerns.
    pub kind: ProblemKind,
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// Whether it was put right.
    pub fixed: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Entries that were looked at.
    pub entries: u64,
    /// Entries whose bytes are gone.
    pub entries_lost: u64,
    /// Commits after the newest checkpoint that cannot be read: they count as never made.
    pub commits_lost: u64,
    /// Commits that could not be read since the cache was made, also those that a checkpoint has passed over since: no problem any more, but what
    /// they wrote is gone.
    pub commits_lost_ever: u64,
    /// Files that nobody names, too young to tell whether somebody is about to (network drives).
    pub unnamed: u64,
    /// Files with names like ours that are not ours; they are left alone.
    pub unknown: Vec<PathBuf>,
}

impl Report {
    /// Returns how many problems are of a kind.
    #[must_use]
    pub fn count(&self, kind: ProblemKind) -> usize {
        self.problems.iter().filter(|problem| problem.kind == kind).count()
    }

    pub(crate) fn add(&mut self, kind: ProblemKind, path: PathBuf, what: impl Into<String>, fixed: bool) {
        self.problems.push(Problem { kind, path, what: what.into(), fixed });
    }
}

impl Cache {
    /// Reads everything and says what is wrong; with `fix`, repairs it.
    ///
    /// # Errors
    /// `Io`, `Timeout`, `Closed`; `Refused` to fix a cache that was opened read-only.
    pub fn check(&self, fix: bool) -> Result<Report> {
        let engine = self.engine()?;
        engine.check_open()?;
        if fix {
            engine.check_writable()?;
        }
        engine.check(fix)
    }
}
