//! The parts of a check, in the order in which they depend on each other; see `verify`.

use crate::cache::engine::Engine;
use crate::cache::manifest::FoldRef;
use crate::cache::open::{MARKERS, read_marker_of, rewrite_marker};
use crate::clock::Deadline;
use crate::compaction::FoldFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{Cause, VersionsBuilder};
use crate::format::entry::OwnedEntry;
use crate::index::{Direction, Order, Span, Walker, file_name};
use crate::sync::read;
use crate::verify::{ProblemKind, Report};
use std::collections::HashSet;
use std::sync::Arc;

/// Damaged entries that one commit removes.
const BATCH: usize = 512;
const BATCH_LEN: usize = 4 << 20;
/// Commits that are made in place of the newest ones if these are missing.
const REPLACED_MAX: usize = 256;

impl Engine {
    /// See [`crate::Cache::check`].
    pub(crate) fn check(&self, fix: bool) -> Result<Report> {
        let mut report = Report::default();
        self.check_markers(fix, &mut report)?;
        let (log_is_damaged, once_named) = self.check_log(fix, &mut report)?;
        self.freshen(self.deadline())?;
        let index_is_damaged = self.check_index(fix, &mut report)?;
        let folds = self.damaged_folds(&mut report)?;
        self.check_values(fix, &mut report)?;
        if fix {
            for (fold, problem) in folds {
                self.fold_part(fold.from, fold.to, vec![fold.id], self.deadline())?;
                report.problems[problem].fixed = true;
            }
        }
        if fix || !index_is_damaged {
            self.check_totals(fix, &mut report)?;
        }
        if fix && log_is_damaged {
            // From here on nobody needs the damaged commits, and everybody agrees on what they came to. Where the newest are missing, others
            // take their numbers.
            self.checkpoint(self.deadline())?;
            for _ in 1..REPLACED_MAX {
                if self.log.check(false, self.deadline())?.is_empty() {
                    break;
                }
                self.recount(self.deadline())?;
            }
        }
        // Where entries cannot be read nobody knows which blobs they name.
        self.check_leftovers(fix, fix || !index_is_damaged, &once_named, &mut report)?;
        Ok(report)
    }

    fn check_markers(&self, fix: bool, report: &mut Report) -> Result<()> {
        for name in MARKERS {
            let path = self.dir.join(name);
            if read_marker_of(&*self.vfs, &*self.clock, &path) != Some(self.marker) {
                if fix {
                    rewrite_marker(&*self.vfs, &*self.clock, &*self.options.chance, &self.dir, name, &self.marker)?;
                }
                report.add(ProblemKind::Marker, path, "the file that says what the cache is was damaged or missing", fix);
            }
        }
        Ok(())
    }

    /// Checks the log's own files, and that every commit which the newest checkpoint does not cover can be read. Returns whether one
    /// cannot, and the runs and folds that any commit names.
    fn check_log(&self, fix: bool, report: &mut Report) -> Result<(bool, HashSet<u64>)> {
        for (error, fixed) in self.log.check(fix, self.deadline())? {
            let path = error.path().unwrap_or(&self.dir).to_owned();
            report.add(ProblemKind::Log, path, error.to_string(), fixed);
        }
        let others = report.count(ProblemKind::Log);
        self.freshen(self.deadline())?;
        let survey = self.survey(self.deadline())?;
        let covered = {
            let state = read(&self.state);
            report.commits_lost_ever = state.counters.damaged;
            state.covered
        };
        for (position, error) in survey.damaged.iter().filter(|(position, _)| *position >= covered) {
            report.commits_lost += 1;
            let path = error.path().unwrap_or(&self.dir).to_owned();
            report.add(ProblemKind::Log, path, format!("the commit at position {position} is lost: {error}"), fix);
        }
        Ok((others > 0 || report.commits_lost > 0, survey.named))
    }

    fn check_index(&self, fix: bool, report: &mut Report) -> Result<bool> {
        let wrong = self.repair_index(fix, self.deadline())?;
        for wrong in &wrong {
            report.add(ProblemKind::Index, self.dir.join("run").join(file_name(wrong.file)), wrong.error.to_string(), fix);
        }
        Ok(!wrong.is_empty())
    }

    /// Returns the folds that are damaged, with the numbers of their problems.
    fn damaged_folds(&self, report: &mut Report) -> Result<Vec<(FoldRef, usize)>> {
        let folds = read(&self.state).folds.clone();
        // What is on the drive counts, not what is open.
        let files = FoldFiles::new(Arc::clone(&self.vfs), &self.dir, self.marker.seed(), self.is_local());
        let mut damaged = Vec::new();
        for fold in folds {
            let what = match files.file(&fold) {
                Ok(file) if file.is_whole(&fold) => continue,
                Ok(_) => "items of the folded segment are damaged".to_owned(),
                Err(error) if error.kind() == ErrorKind::Damaged => error.to_string(),
                Err(error) => return Err(error),
            };
            damaged.push((fold, report.problems.len()));
            report.add(ProblemKind::Fold, files.path(fold.id), what, false);
        }
        Ok(damaged)
    }

    /// Reads every value; with `fix`, removes the entries of those that are damaged.
    fn check_values(&self, fix: bool, report: &mut Report) -> Result<()> {
        let mut walker = Walker::new(Span::all(Order::Insertion), Direction::Forward);
        loop {
            let deadline = self.deadline();
            let (mut batch, mut len) = (Vec::new(), 0);
            self.walk(&mut walker, deadline, |entry| {
                batch.push(entry.to_owned());
                len += entry.encoded_len();
                batch.len() < BATCH && len < BATCH_LEN
            })?;
            if batch.is_empty() {
                return Ok(());
            }
            let mut damaged = VersionsBuilder::default();
            for entry in &batch {
                report.entries += 1;
                if let Some(error) = self.damage_of(entry, deadline)? {
                    report.entries_lost += 1;
                    damaged.push(entry.key.as_ref(), entry.entry.version);
                    let path = error.path().unwrap_or(&self.dir).to_owned();
                    report.add(ProblemKind::Value, path, error.to_string(), fix);
                }
            }
            if fix && !damaged.list().is_empty() {
                self.remove(Cause::Damage, &damaged, deadline)?;
            }
        }
    }

    /// Returns what is wrong with an entry's value, if it still is the entry's when that was found.
    fn damage_of(&self, entry: &OwnedEntry, deadline: Deadline) -> Result<Option<Error>> {
        let error = match self.read_through(entry, deadline) {
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Damaged => error,
            Err(error) => return Err(error),
        };
        // It may have been removed, or folded, since it was walked over.
        self.freshen(deadline)?;
        let now = read(&self.state).find(entry.key.as_ref().hash(), entry.key.as_ref());
        if !now.is_ok_and(|now| now.is_some_and(|now| now.entry.version == entry.entry.version)) {
            return Ok(None);
        }
        match self.read_through(entry, deadline) {
            Ok(()) => Ok(None),
            Err(again) if again.kind() == ErrorKind::Damaged => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    fn read_through(&self, entry: &OwnedEntry, deadline: Deadline) -> Result<()> {
        let folds = read(&self.state).folds.clone();
        let fold = FoldFiles::covering(&folds, entry.entry.addr);
        let key_and_tag = (entry.key.bytes.len() + entry.tag.as_ref().map_or(0, |t| t.bytes.len())) as u64;
        self.value_of(&entry.entry, key_and_tag, fold.as_ref(), deadline)?.bytes().map(drop)
    }

    fn check_totals(&self, fix: bool, report: &mut Report) -> Result<()> {
        self.freshen(self.deadline())?;
        let (counted, stated) = self.totals()?;
        if counted != stated {
            let what = format!(
                "the totals say {} entries of {} bytes, there are {} of {}",
                stated.counters.count, stated.counters.live_bytes, counted.counters.count, counted.counters.live_bytes
            );
            if fix {
                self.recount(self.deadline())?;
            }
            report.add(ProblemKind::Totals, self.dir.clone(), what, fix);
        }
        Ok(())
    }
}
