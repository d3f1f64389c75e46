//! Repairing the index: rebuilt exactly from the log where the log still has everything since a state whose files are whole, and else with
//! what is gone marked as lost, so that no older value is ever taken for the newest.
//!
//! A repair is published as a checkpoint. So every process adopts it in the same place of the history, and whoever is killed before that
//! leaves nothing but files that nobody names.

use crate::cache::apply::{ENTRY_OVERHEAD, cost, log_bytes};
use crate::cache::engine::Engine;
use crate::cache::maintain::named;
use crate::cache::manifest::{Counters, FoldNote, FoldRef, Manifest, Usage, in_use};
use crate::cache::state::{State, encoded};
use crate::clock::{Clock, Deadline};
use crate::error::{Error, Result};
use crate::format::wire::Reader;
use crate::format::{Place, Record};
use crate::index::{Access, Direction, Layers, Levels, Order, RunFiles, Slice, Span, VfsRunDir, Wrong, flush};
use crate::log::{Commit, Cursor, Progress, Replay};
use crate::sync::read;
use std::collections::HashSet;
use std::sync::Arc;

/// A rebuilt index is written as runs of about so many entries.
const RUN_ENTRIES: usize = 64 << 10;

/// What the log still has.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// From here to the end every commit can be read.
    pub(crate) whole_from: u64,
    /// Commits that cannot be read, and why.
    pub(crate) damaged: Vec<(u64, Error)>,
    /// Runs and folds that some commit names or named.
    pub(crate) named: HashSet<u64>,
    checkpoints: Vec<Manifest>,
}

impl Survey {
    fn note_levels(&mut self, bytes: &[u8], folds: &[FoldRef]) {
        let levels = Levels::parse(&mut Reader::new(bytes)).unwrap_or_default();
        self.named.extend(named(&levels, folds).map(|(id, _)| id));
    }
}

impl Replay for Survey {
    fn commit(&mut self, commit: &Commit<'_>) {
        for (record, _) in commit.body.records().filter(|_| commit.counts()) {
            match record {
                Record::Checkpoint(payload) => {
                    let Ok(manifest) = Manifest::parse(payload) else { continue };
                    self.note_levels(&manifest.levels, &manifest.folds);
                    self.checkpoints.push(manifest);
                }
                Record::Levels(note) => self.note_levels(note.get(8..).unwrap_or(&[]), &[]),
                Record::Fold(note) => self.named.extend(FoldNote::parse(note).map(|note| note.fold.id)),
                _ => {}
            }
        }
    }

    fn damaged(&mut self, position: u64, next: u64, why: &Error) {
        self.damaged.push((position, why.clone()));
        self.whole_from = next;
    }
}

/// Replays without what was derived, and writes runs as it goes.
struct Rebuilding<'a> {
    engine: &'a Engine,
    clock: &'a dyn Clock,
    state: State,
    failed: Option<Error>,
}

impl Replay for Rebuilding<'_> {
    fn commit(&mut self, commit: &Commit<'_>) {
        if self.failed.is_none() {
            self.state.replay(commit, self.clock);
            if self.state.delta.weight() >= RUN_ENTRIES {
                self.failed = self.engine.flush_into(&mut self.state).err();
            }
        }
    }

    fn damaged(&mut self, _position: u64, _next: u64, why: &Error) {
        self.failed = Some(why.clone());
    }
}

/// What the entries of a state add up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) counters: Counters,
    pub(crate) usage: Usage,
}

impl Engine {
    /// Returns the state's list of runs as if nothing of it was opened yet, and files to open it with: what is on the drive counts.
    fn unopened(&self, levels: &[u8]) -> Result<(Levels, RunFiles)> {
        let dir = Arc::new(VfsRunDir::new(Arc::clone(&self.vfs), self.dir.join("run")));
        let files = RunFiles::new(dir, if self.is_local() { Access::Mapped } else { Access::PAGED }, self.marker.seed());
        let parsed = Levels::parse(&mut Reader::new(levels));
        let levels = parsed.map_err(|why| Error::new(crate::ErrorKind::Damaged, format!("{why}: a list of runs in")).at(&self.dir))?;
        Ok((levels, files))
    }

    /// Reads the index. With `fix`, repairs it if it is damaged. Returns what was found.
    pub(crate) fn repair_index(&self, fix: bool, deadline: Deadline) -> Result<Vec<Wrong>> {
        let (levels, files) = self.unopened(&encoded(&read(&self.state).levels))?;
        let wrong = levels.verify(&files)?;
        if wrong.is_empty() || !fix {
            return Ok(wrong);
        }
        let survey = self.survey(deadline)?;
        if !self.rebuild(&survey, deadline)? {
            self.mend(deadline)?;
        }
        Ok(wrong)
    }

    /// Reads what is left of the log as it was published.
    pub(crate) fn survey(&self, deadline: Deadline) -> Result<Survey> {
        self.log.forget();
        let mut from = self.log.raw_from(0, deadline)?;
        let mut survey = Survey { whole_from: from.unwrap_or(u64::MAX), ..Survey::default() };
        while let Some(position) = from {
            let mut cursor = Cursor { position, chain: 0 };
            if self.log.catch_up(&mut cursor, &mut survey, deadline)? == Progress::UpToDate {
                break;
            }
            from = self.log.raw_from(cursor.position + 1, deadline)?;
            survey.whole_from = from.unwrap_or(u64::MAX);
        }
        Ok(survey)
    }

    /// Rebuilds the index from the newest state that is whole with all that follows, and publishes it. Returns whether there is one.
    fn rebuild(&self, survey: &Survey, deadline: Deadline) -> Result<bool> {
        let usable = survey.checkpoints.iter().rev().filter(|m| m.cursor.position >= survey.whole_from);
        let beginning = (survey.whole_from == self.log.first_position()).then_some(None);
        for base in usable.map(Some).chain(beginning) {
            let (state, from) = match base {
                Some(manifest) => {
                    let (levels, files) = self.unopened(&manifest.levels)?;
                    if levels.has_lost() || !levels.verify(&files)?.is_empty() {
                        continue;
                    }
                    (State::of(manifest.clone(), 0, Arc::clone(&self.files))?, manifest.cursor)
                }
                None => {
                    let from = Cursor { position: survey.whole_from, chain: 0 };
                    (State::empty(Arc::clone(&self.files), from.position), from)
                }
            };
            if self.rebuild_from(state, from, deadline)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rebuild_from(&self, mut state: State, mut cursor: Cursor, deadline: Deadline) -> Result<bool> {
        state.plain = true;
        let guard = self.lock_cursor(deadline)?;
        let mut rebuilding = Rebuilding { engine: self, clock: &*self.clock, state, failed: None };
        let progress = self.log.catch_up(&mut cursor, &mut rebuilding, deadline)?;
        drop(guard);
        if progress == Progress::Gone || rebuilding.failed.is_some() || rebuilding.state.damaged_lookups > 0 {
            return Ok(false);
        }
        self.flush_into(&mut rebuilding.state)?;
        let state = &rebuilding.state;
        let manifest = state.manifest(cursor, &state.levels);
        self.publish_checkpoint(&manifest, deadline)?;
        Ok(true)
    }

    /// Writes a state's delta as a run of its own.
    fn flush_into(&self, state: &mut State) -> Result<()> {
        let deltas = [&state.delta];
        let layers = state.layers(&deltas);
        let built = flush(&state.delta, self.marker.seed(), |hash| layers.runs_may_hold(hash));
        let mut slices = Vec::with_capacity(built.len());
        for built in built {
            let id = self.new_id()?;
            self.write_run(id, &built.bytes)?;
            slices.push(Slice::of(id, &built));
        }
        state.levels = state.levels.push(slices);
        state.delta.clear();
        Ok(())
    }

    /// Puts what can be read of damaged runs in their place, marks the rest as lost, and publishes that.
    fn mend(&self, deadline: Deadline) -> Result<()> {
        let manifest = {
            let cursor = self.lock_cursor(deadline)?;
            let state = read(&self.state);
            let (levels, files) = self.unopened(&encoded(&state.levels))?;
            let mended = levels.mend(&files, &levels.verify(&files)?, || self.new_id())?;
            for (id, bytes) in &mended.files {
                self.write_run(*id, bytes)?;
            }
            self.rewritten(&state, *cursor, &mended.levels)?
        };
        self.publish_checkpoint(&manifest, deadline)
    }

    /// Publishes a checkpoint of the state with its totals counted anew.
    pub(crate) fn recount(&self, deadline: Deadline) -> Result<()> {
        let manifest = {
            let cursor = self.lock_cursor(deadline)?;
            let state = read(&self.state);
            self.rewritten(&state, *cursor, &state.levels)?
        };
        self.publish_checkpoint(&manifest, deadline)
    }

    /// Returns a checkpoint of a state over other runs, with totals counted anew; its files are written.
    fn rewritten(&self, state: &State, cursor: Cursor, levels: &Levels) -> Result<Manifest> {
        let deltas = [&state.delta];
        let layers = Layers { deltas: &deltas, levels, files: &self.files };
        let totals = count(&layers, state)?;
        let mut manifest = state.manifest(cursor, &self.write_delta(&state.delta, levels)?);
        manifest.counters = totals.counters;
        manifest.usage = totals.usage;
        Ok(manifest)
    }

    /// Counts what the state's entries add up to, and returns it with what the state says.
    pub(crate) fn totals(&self) -> Result<(Totals, Totals)> {
        let state = read(&self.state);
        let deltas = [&state.delta];
        let counted = count(&state.layers(&deltas), &state)?;
        Ok((counted, Totals { counters: state.counters, usage: in_use(&state.usage) }))
    }
}

/// Counts the entries of layers; what is not counted from entries is taken from `state`.
fn count(layers: &Layers<'_>, state: &State) -> Result<Totals> {
    let kept = state.counters;
    let mut usage = Usage::new();
    let mut counters =
        Counters { next_rowid: kept.next_rowid, hits: kept.hits, misses: kept.misses, damaged: kept.damaged, ..Counters::default() };
    for found in layers.walk(Span::all(Order::Insertion), Direction::Forward) {
        let found = found?;
        let found = found.as_ref();
        let entry = found.entry;
        counters.count += 1;
        counters.next_rowid = counters.next_rowid.max(entry.rowid);
        counters.live_bytes += cost(&found);
        counters.expiring += u64::from(entry.expire_time < f64::INFINITY);
        if let Place::Blob(_) = entry.value.place {
            counters.blobs += 1;
            counters.blob_bytes += entry.value.len;
        }
        *usage.entry(state.part_of(entry.addr)).or_insert(0) += log_bytes(&found).unsigned_abs();
    }
    debug_assert!(counters.live_bytes >= counters.count * ENTRY_OVERHEAD, "every entry costs");
    Ok(Totals { counters, usage })
}
