//! Steps that make the cache smaller: merges of index runs, and folds of the parts of the log with the most garbage.
//!
//! A fold may take in any part that no more is written to. Its sources go with the next checkpoint, which names it.

use super::sweep::Retired;
use crate::cache::apply::log_bytes;
use crate::cache::engine::Engine;
use crate::cache::manifest::{FoldNote, FoldRef};
use crate::cache::state::{State, encoded, levels_sum};
use crate::clock::Deadline;
use crate::compaction::FoldFiles;
use crate::compaction::fold::{FoldBuilder, fold_order};
use crate::error::{ErrorKind, Result};
use crate::format::{BodyBuilder, Place, Record};
use crate::index::{Direction, Layers, Levels, MergeStep, Span, Walker};
use crate::log::ADDR_OFFSET_BITS;
use crate::log::local::LocalLog;
use crate::sync::read;

/// Live bytes that a fold gathers, about: what one step may copy.
const FOLD_LEN: u64 = 4 << 20;
/// A fold is not worth its copying while at least so much of its part of the log lives, in hundredths.
const FOLD_LIVE_MAX: u64 = 90;
/// A neighbour of what is folded comes along if it has no more live bytes than this, or if no more of it lives, in hundredths.
const SMALL_LEN: u64 = 256 << 10;
const NEIGHBOUR_LIVE_MAX: u64 = 75;

impl Engine {
    /// Makes one step of merging, or of folding in shared mode. Returns whether there was one to make.
    pub(super) fn step(&self, deadline: Deadline) -> Result<bool> {
        Ok(self.merge_step(deadline)? || (!self.is_local() && self.fold_commits(deadline)?))
    }

    pub(super) fn merge_step(&self, deadline: Deadline) -> Result<bool> {
        let levels = read(&self.state).levels.clone();
        let step = levels.plan();
        self.merge(&levels, step, deadline)
    }

    pub(super) fn merge(&self, levels: &Levels, step: Option<MergeStep>, deadline: Deadline) -> Result<bool> {
        let Some(step) = step else { return Ok(false) };
        let result = match step.execute(&self.files, self.new_id()?, false) {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                self.maintenance.damage_seen();
                return Err(error);
            }
            other => other?,
        };
        if let Some((id, bytes)) = &result.file {
            self.write_run(*id, bytes)?;
            self.sync_names("run")?;
        }
        let Ok(after) = levels.apply(&result) else { return Ok(false) };
        let mut note = levels_sum(levels).to_le_bytes().to_vec();
        note.extend_from_slice(&encoded(&after));
        let mut body = BodyBuilder::default();
        body.push(&Record::Levels(&note));
        self.commit(&body, deadline)?;
        if read(&self.state).levels != after
            && let Some((id, _)) = &result.file
        {
            self.retire_if_unnamed(Retired::Run(*id));
        }
        Ok(true)
    }

    /// Returns whether so many commits of a shared log are covered and not folded that they are to be folded, whatever lives of them.
    pub(super) fn commits_wait(&self, state: &State) -> bool {
        let folded = state.folds.last().map_or(0, |f| f.to >> ADDR_OFFSET_BITS);
        !self.is_local() && state.covered.saturating_sub(folded) >= self.options.fold_commits
    }

    /// Folds the commits of a shared log that are not folded yet, if there are many.
    fn fold_commits(&self, deadline: Deadline) -> Result<bool> {
        let (from, to) = {
            let state = read(&self.state);
            if !self.commits_wait(&state) {
                return Ok(false);
            }
            let from = state.folds.last().map_or(0, |f| f.to);
            let first = from >> ADDR_OFFSET_BITS;
            (from, state.covered.min(first + 4 * self.options.fold_commits) << ADDR_OFFSET_BITS)
        };
        self.fold_part(from, to, Vec::new(), deadline)?;
        Ok(true)
    }

    /// Folds the part of a local log with the most garbage in relation to what lives of it, along with neighbours as long as
    /// no more than `most` bytes are copied. Returns how many were, or `None` if no part is worth it.
    pub(super) fn fold_worst(&self, local: &LocalLog, most: u64, deadline: Deadline) -> Result<Option<u64>> {
        let sealed = local.sealed();
        let Some((from, to, replaces)) = choose(&parts_of(&read(&self.state), &sealed), most.min(FOLD_LEN)) else { return Ok(None) };
        self.fold_part(from, to, replaces, deadline).map(Some)
    }

    /// Folds what lies between two addresses, with the folds `replaces` in it. Returns how long the fold is.
    pub(crate) fn fold_part(&self, from: u64, to: u64, replaces: Vec<u64>, deadline: Deadline) -> Result<u64> {
        let (builder, live) = self.gather(from, to, deadline)?;
        let seed = self.marker.seed();
        let (bytes, sum) = builder.finish(from, to, seed);
        let fold = FoldRef { id: self.new_id()?, from, to, len: bytes.len() as u64, live, sum };
        self.folds.write(fold.id, &bytes)?;
        self.sync_names("fold")?;
        let mut body = BodyBuilder::default();
        body.push(&Record::Fold(&FoldNote { fold, replaces }.encode()));
        self.commit(&body, deadline)?;
        let folds = read(&self.state).folds.clone();
        if !folds.contains(&fold) {
            self.retire_if_unnamed(Retired::Fold(fold.id));
        }
        self.folds.retain(&folds);
        Ok(fold.len)
    }

    /// Collects the live entries whose addresses lie within `from..to`, of a copy of the state: nobody waits for it. What was removed since is
    /// garbage in the fold; nothing that is stored from now on has such an address.
    fn gather(&self, from: u64, to: u64, deadline: Deadline) -> Result<(FoldBuilder, u64)> {
        let (delta, levels, folds) = {
            let state = read(&self.state);
            (state.delta.snapshot(), state.levels.clone(), state.folds.clone())
        };
        let deltas = [&delta];
        let layers = Layers { deltas: &deltas, levels: &levels, files: &self.files };
        let mut walker = Walker::new(Span::addresses(from, to), Direction::Forward);
        let mut entries = Vec::new();
        while let Some(found) = layers.next(&mut walker)? {
            entries.push(found.to_owned());
        }
        entries.sort_by_key(|entry| fold_order(&entry.as_ref()));
        let seed = self.marker.seed();
        let (mut builder, mut live) = (FoldBuilder::default(), 0);
        for entry in &entries {
            let e = entry.as_ref();
            let value = if matches!(e.entry.value.place, Place::Log) {
                let key_and_tag = (e.key.bytes.len() + e.tag.map_or(0, |t| t.bytes.len())) as u64;
                let fold = FoldFiles::covering(&folds, e.entry.addr);
                match self.value_of(&e.entry, key_and_tag, fold.as_ref(), deadline) {
                    Ok(value) => value.stored(),
                    // Damaged bytes stay where they are: a look-up finds no address in the fold, and counts the damage.
                    Err(error) if error.kind() == ErrorKind::Damaged => continue,
                    Err(error) => return Err(error),
                }
            } else {
                None
            };
            live += log_bytes(&e).unsigned_abs();
            builder.push(&e, value.as_deref().unwrap_or(&[]), seed);
        }
        Ok((builder, live))
    }
}

/// A part of a local log that a fold can take in: a full segment, or a fold.
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) to: u64,
    /// What it takes on disk, and about how much of that lives.
    pub(super) len: u64,
    pub(super) live: u64,
    pub(super) fold: Option<u64>,
}

impl Part {
    /// Returns how much of it lives, in hundredths.
    fn percent(&self) -> u64 {
        self.live.saturating_mul(100) / self.len.max(1)
    }

    /// Returns whether it comes along where a neighbour is folded: there is little to copy, or much to win.
    fn comes_along(&self) -> bool {
        self.live <= SMALL_LEN || self.percent() <= NEIGHBOUR_LIVE_MAX
    }
}

/// Returns all parts in which something lives, in order.
pub(super) fn parts_of(state: &State, sealed: &[(u64, u64)]) -> Vec<Part> {
    let used = |from: u64| state.usage.get(&from).copied().unwrap_or(0);
    let of_fold = |f: &FoldRef| {
        let live = u128::from(f.len) * u128::from(used(f.from).min(f.live)) / u128::from(f.live.max(1));
        Part { from: f.from, to: f.to, len: f.len, live: u64::try_from(live).unwrap_or(f.len), fold: Some(f.id) }
    };
    let mut parts: Vec<Part> = state.folds.iter().map(of_fold).collect();
    let raw = sealed.iter().filter(|(from, to)| FoldFiles::meeting(&state.folds, *from, *to).is_none());
    parts.extend(raw.map(|(from, to)| Part { from: *from, to: *to, len: to - from, live: used(*from).min(to - from), fold: None }));
    parts.retain(|part| part.live > 0 && part.to <= state.position);
    parts.sort_unstable_by_key(|part| part.from);
    parts
}

/// Chooses the part that is most worth folding. Returns its addresses and the folds in it, or `None` if none is worth it.
fn choose(parts: &[Part], most: u64) -> Option<(u64, u64, Vec<u64>)> {
    let (at, worst) = parts.iter().enumerate().min_by_key(|(_, part)| part.percent())?;
    if worst.percent() > FOLD_LIVE_MAX {
        return None;
    }
    // Neighbours come along while the copying stays small, so that folds do not become many. (Nothing lives between neighbours.)
    let (mut low, mut high, mut bytes) = (at, at, worst.live);
    while let Some(next) = parts.get(high + 1).filter(|next| next.comes_along() && bytes + next.live <= most) {
        high += 1;
        bytes += next.live;
    }
    while let Some(next) = low.checked_sub(1).map(|i| &parts[i]).filter(|next| next.comes_along() && bytes + next.live <= most) {
        low -= 1;
        bytes += next.live;
    }
    let replaces = parts[low..=high].iter().filter_map(|part| part.fold).collect();
    Some((parts[low].from, parts[high].to, replaces))
}
