//! Steps that make the cache smaller: merges of index runs, and folds of the parts of the log with the most garbage.

use super::sweep::Retired;
use crate::cache::engine::Engine;
use crate::cache::manifest::{FoldNote, FoldRef, Usage};
use crate::cache::state::{State, encoded, levels_sum};
use crate::clock::Deadline;
use crate::compaction::FoldFiles;
use crate::compaction::fold::{FoldBuilder, fold_order};
use crate::error::{ErrorKind, Result};
use crate::format::{BodyBuilder, Place, Record};
use crate::index::{Direction, Levels, MergeStep, Order, Span, Walker};
use crate::log::local::LocalLog;
use crate::sync::{read, write};

/// Live bytes that a fold gathers, about: what one step may copy.
const FOLD_LEN: u64 = 4 << 20;
/// A fold is not worth its copying while at least so much of its part of the log lives, in hundredths.
const FOLD_LIVE_MAX: u64 = 90;

impl Engine {
    /// Makes one step of merging or folding. Returns whether there was one to make.
    pub(super) fn step(&self, deadline: Deadline) -> Result<bool> {
        Ok(self.merge_step(deadline)? || self.fold_step(false, deadline)?)
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

    /// Returns whether garbage is more than the set fraction of the live bytes of the log. What no fold can take away yet (the segment that
    /// is written to, and what no checkpoint covers) is not counted in: it will be.
    pub(super) fn garbage_is_over(&self, state: &State) -> bool {
        if let Some(local) = &self.local {
            let parts = parts_of(state, local);
            let total: u64 = parts.iter().map(|part| part.len).sum();
            let live: u64 = parts.iter().map(|part| part.live).sum();
            return total > live.saturating_add(state.tuning.garbage_max(live, self.options.garbage_len_min));
        }
        let live: u64 = state.usage.values().sum();
        let total = self.shared_log_bytes(state) + state.folds.iter().map(|f| f.len).sum::<u64>();
        total > live.saturating_add(state.tuning.garbage_max(live, self.options.garbage_len_min))
    }

    /// A shared log's commits are folded once they are many, whatever lives of them.
    fn shared_log_bytes(&self, state: &State) -> u64 {
        let folded = state.folds.last().map_or(0, |f| f.to >> crate::log::ADDR_OFFSET_BITS);
        let live: u64 = state.usage.values().sum();
        if state.covered.saturating_sub(folded) >= self.options.fold_commits { u64::MAX / 4 } else { live }
    }

    /// Folds the part of the log with the most garbage, if there is too much of it or in any case.
    pub(super) fn fold_step(&self, any: bool, deadline: Deadline) -> Result<bool> {
        let Some((from, to, replaces)) = self.choose_fold(any) else { return Ok(false) };
        self.fold_part(from, to, replaces, deadline)?;
        Ok(true)
    }

    /// Folds a part of the log that lies before the checkpoint, with the folds `replaces` in it.
    pub(crate) fn fold_part(&self, from: u64, to: u64, replaces: Vec<u64>, deadline: Deadline) -> Result<()> {
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
        Ok(())
    }

    /// Chooses a part of the log that lies before the checkpoint: in local mode a sealed segment or a fold, in shared mode the commits
    /// that are not folded yet. Returns its addresses and the folds in it.
    fn choose_fold(&self, any: bool) -> Option<(u64, u64, Vec<u64>)> {
        let state = read(&self.state);
        if !any && !self.garbage_is_over(&state) {
            return None;
        }
        let Some(local) = &self.local else {
            let from = state.folds.last().map_or(0, |f| f.to);
            let first = from >> crate::log::ADDR_OFFSET_BITS;
            let to = state.covered.min(first + 4 * self.options.fold_commits);
            return (to > first).then(|| (from, to << crate::log::ADDR_OFFSET_BITS, Vec::new()));
        };
        let parts = parts_of(&state, local);
        let worth = |part: &Part| part.live.saturating_mul(100) / part.len.max(1);
        let (at, worst) = parts.iter().enumerate().min_by_key(|(_, part)| worth(part))?;
        if worth(worst) > FOLD_LIVE_MAX {
            return None;
        }
        // Neighbours come along while the copying stays small, so that folds do not become many.
        let (mut low, mut high, mut bytes) = (at, at, worst.live);
        while high + 1 < parts.len() && parts[high + 1].from == parts[high].to && bytes + parts[high + 1].live <= FOLD_LEN {
            high += 1;
            bytes += parts[high].live;
        }
        while low > 0 && parts[low - 1].to == parts[low].from && bytes + parts[low - 1].live <= FOLD_LEN {
            low -= 1;
            bytes += parts[low].live;
        }
        let replaces = parts[low..=high].iter().filter_map(|part| part.fold).collect();
        Some((parts[low].from, parts[high].to, replaces))
    }

    /// Collects the live entries whose addresses lie within `from..to`.
    fn gather(&self, from: u64, to: u64, deadline: Deadline) -> Result<(FoldBuilder, u64)> {
        let mut entries = Vec::new();
        let mut walker = Walker::new(Span::addresses(from, to), Direction::Forward);
        self.walk(&mut walker, deadline, |entry| {
            entries.push(entry.to_owned());
            true
        })?;
        write(&self.state).delta.forget_view(Order::Address);
        entries.sort_by_key(|entry| fold_order(&entry.as_ref()));
        let folds = read(&self.state).folds.clone();
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
            let value = value.as_deref().unwrap_or(&[]);
            live += value.len() as u64;
            builder.push(&e, value, seed);
        }
        Ok((builder, live))
    }
}

/// A part of a local log that a fold can take in: a sealed segment that a checkpoint covers, or a fold.
struct Part {
    from: u64,
    to: u64,
    /// What it takes on disk, and about how much of that lives.
    len: u64,
    live: u64,
    fold: Option<u64>,
}

/// Returns all parts that can be folded, in order.
fn parts_of(state: &State, local: &LocalLog) -> Vec<Part> {
    let part = |from, to, len, fold| Part { from, to, len, live: live_within(&state.usage, state.bucket_bits, from, to), fold };
    let mut parts: Vec<Part> = state.folds.iter().map(|f| part(f.from, f.to, f.len, Some(f.id))).collect();
    let sealed = local.sealed().into_iter();
    let raw = sealed.filter(|(from, to)| *to <= state.covered && !state.folds.iter().any(|f| f.from < *to && *from < f.to));
    parts.extend(raw.map(|(from, to)| part(from, to, to - from, None)));
    parts.sort_unstable_by_key(|part| part.from);
    parts
}

/// Returns about how many live bytes lie within `from..to`; buckets at the edges count in part.
fn live_within(usage: &Usage, bits: u32, from: u64, to: u64) -> u64 {
    let width = 1_u64 << bits;
    usage
        .range(from >> bits..=(to - 1) >> bits)
        .map(|(bucket, bytes)| {
            let start = bucket << bits;
            let overlap = to.min(start + width) - from.max(start);
            u64::try_from(u128::from(*bytes) * u128::from(overlap) / u128::from(width)).unwrap_or(u64::MAX)
        })
        .sum()
}
