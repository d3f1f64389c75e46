//! Keeping what the files of a local cache take within the size limit, and garbage within its fraction of what lives.
//!
//! Writes evict what the policy gives up, so that what lives leaves room for garbage. Garbage goes in rounds: the index is merged and parts
//! of the log are folded, so far as that is worth it, and a checkpoint names the result: what it was made of goes at once. Writers wait for a
//! round only while the files take about as much as the limit allows, and never for garbage alone.

use super::fold::parts_of;
use super::{ROUND_SHARE, STEP_ROWS, named};
use crate::cache::engine::Engine;
use crate::cache::options::EvictionPolicy;
use crate::cache::state::State;
use crate::cache::walk::VICTIMS_LEN;
use crate::clock::Deadline;
use crate::error::Result;
use crate::format::body::Cause;
use crate::format::{BodyBuilder, Record};
use crate::index::MergeStep;
use crate::log::local::LocalLog;
use crate::sync::{Ordering, read};
use std::collections::BTreeMap;

/// Files take whole blocks.
const BLOCK_LEN: u64 = 4096;
/// What directories and the small files of a cache take.
const FIXED_LEN: u64 = 48 << 10;
/// Between looks at what the files take at least so much is written.
const LOOK_LEN_MIN: u64 = 32 << 10;
/// Bytes that a round copies at most, and at least where the limit allows no more than a 32nd of it.
const ROUND_LEN_MAX: u64 = 8 << 20;
const ROUND_LEN_MIN: u64 = 128 << 10;
/// A merge step counts for so much less than what it copies: what is dead in the index goes only once it has come to the end of a file.
const MERGE_SHARE: u64 = 3;
/// Rows that a merge step is worth making for.
const MERGE_ROWS_MIN: u64 = 512;
/// A row of the index takes about so much.
const ROW_LEN: u64 = 150;
/// One eviction beyond what must go frees at least this part of the limit.
const EVICTED_SHARE: u64 = 64;
/// Entries that one commit of a round evicts.
const BATCH: u64 = 512;
/// Commits that evict in one round.
const EVICTIONS_MAX: usize = 16;
/// Rounds that a call makes at most to bring the files within the limit.
const ROUNDS_MAX: usize = 64;
/// Garbage for each hundred live bytes that the size limit leaves room for at most.
const GARBAGE_PERCENT_MAX: u64 = 33;

/// How well a round keeps the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// A 32nd over it does no harm.
    Roughly,
    /// As `cull` promises.
    Exactly,
}

/// What the files of a local cache take.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Space {
    /// All of them, in bytes on disk.
    pub(super) files: u64,
    /// Of these, what goes with the next checkpoint.
    pub(super) waiting: u64,
    /// Of the rest, what lives in the log and what does not.
    live: u64,
    garbage: u64,
    /// Of the rest, the index and what is dead in it.
    index: u64,
    dead_index: u64,
}

impl Space {
    /// Returns what the files take once a checkpoint names what there is now.
    const fn after(&self) -> u64 {
        self.files.saturating_sub(self.waiting)
    }
}

const fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(BLOCK_LEN)
}

impl Engine {
    /// Looks at what the files take, now and then. Called for each commit, with the state locked.
    #[inline]
    pub(crate) fn look_at_space(&self, state: &State) {
        let spent = state.position.saturating_add(state.counters.blob_bytes);
        if spent >= self.maintenance.next_look.load(Ordering::Relaxed)
            && let Some(local) = &self.local
        {
            self.look(local, state, spent);
        }
    }

    #[cold]
    fn look(&self, local: &LocalLog, state: &State, spent: u64) {
        let space = self.space(local, state);
        self.note_excess(state, &space);
        if self.wants_room(state, &space) {
            self.maintenance.due.store(true, Ordering::Relaxed);
        }
        let step = state.tuning.size_limit / 256;
        self.maintenance.next_look.store(spent + step.clamp(LOOK_LEN_MIN, 1 << 20), Ordering::Relaxed);
    }

    /// Returns what the size limit is for the files, if it is kept by evicting. (A few files are needed however little lives.)
    fn file_limit(state: &State) -> Option<u64> {
        let evicts = state.tuning.cull_limit > 0 && state.tuning.policy != EvictionPolicy::None;
        evicts.then(|| state.tuning.size_limit.max(8 * FIXED_LEN))
    }

    /// Returns whether a round is due.
    fn wants_room(&self, state: &State, space: &Space) -> bool {
        let is_large = Self::file_limit(state).is_some_and(|limit| {
            let settled = self.maintenance.settled.load(Ordering::Relaxed);
            space.files > limit - limit / 16 && space.files > settled.saturating_add(limit / 64)
        });
        is_large || self.garbage_is_over(state, space)
    }

    /// Returns whether garbage is more than the set fraction of what lives in the log. What no fold can take away yet is not counted in.
    fn garbage_is_over(&self, state: &State, space: &Space) -> bool {
        space.garbage > state.tuning.garbage_max(space.live, self.options.garbage_len_min)
    }

    /// Takes note of by how much the files are over what writers wait for: the size limit, less what a round copies before its sources go.
    fn note_excess(&self, state: &State, space: &Space) {
        let over = Self::file_limit(state).map_or(0, |limit| space.files.saturating_sub(limit - limit / ROUND_SHARE));
        self.maintenance.over.store(over, Ordering::Relaxed);
    }

    /// Returns about how many bytes the files take on disk.
    pub(crate) fn volume(&self, state: &State) -> u64 {
        match &self.local {
            Some(local) => self.space(local, state).files,
            None => {
                let folds: u64 = state.folds.iter().map(|fold| fold.len).sum();
                state.levels.bytes() + folds + state.usage.values().sum::<u64>() + state.counters.blob_bytes
            }
        }
    }

    /// Returns what the files take. Lets go of segments that the newest checkpoint made needless.
    fn space(&self, local: &LocalLog, state: &State) -> Space {
        let mut space = Space { files: FIXED_LEN + state.counters.blob_bytes + state.counters.blobs * (BLOCK_LEN / 2), ..Space::default() };
        let mut sealed = Vec::new();
        for extent in local.extents() {
            if extent.is_full && state.is_needless(extent.start, extent.to) {
                local.forget_segment(extent.start);
                continue;
            }
            space.files += on_disk(extent.len);
            if extent.is_full {
                space.waiting += on_disk(extent.len);
                sealed.push((extent.start, extent.to));
            }
        }
        let files: u64 = state.era.values().map(|len| on_disk(*len)).sum();
        space.files += files;
        space.waiting += files;
        for part in parts_of(state, &sealed) {
            space.waiting -= on_disk(part.len).min(space.waiting);
            space.live += part.live;
            space.garbage += part.len - part.live;
        }
        // (A file that is being merged is named more than once.)
        let index: BTreeMap<u64, u64> = named(&state.levels, &[]).collect();
        space.index = index.values().map(|len| on_disk(*len)).sum();
        space.waiting -= space.index.min(space.waiting);
        let (rows, count) = (state.levels.rows(), state.counters.count);
        let dead = u128::from(space.index) * u128::from(rows.saturating_sub(count)) / u128::from(rows.max(1));
        space.dead_index = u64::try_from(dead).unwrap_or(space.index);
        space
    }

    /// Returns whether what lives, with the garbage that must find room beside it, is over the size limit once `more` bytes are stored.
    pub(crate) fn is_over_limit(&self, state: &State, more: u64) -> bool {
        self.excess(state, more) > 0
    }

    /// Returns whether most of the limit goes to values in files of their own.
    fn holds_large_values(state: &State) -> bool {
        state.counters.blob_bytes > state.tuning.size_limit / 2
    }

    /// Returns by how much the files of a local cache are over the limit that mostly goes to values in files of their own.
    pub(crate) fn over_by_large_values(&self, state: &State) -> u64 {
        if self.is_local() && Self::holds_large_values(state) { self.volume(state).saturating_sub(state.tuning.size_limit) } else { 0 }
    }

    /// Returns how many bytes eviction is to free: nothing while what lives is within the limit, and else, where that is mostly small values, some
    /// more, since none of it is free before it is folded away.
    pub(crate) fn to_evict(&self, state: &State) -> u64 {
        match self.excess(state, 0) {
            0 => 0,
            excess if Self::holds_large_values(state) => excess,
            excess => excess.max(state.tuning.size_limit / EVICTED_SHARE),
        }
    }

    /// Returns by how much it is over the size limit.
    pub(crate) fn excess(&self, state: &State, more: u64) -> u64 {
        let limit = state.tuning.size_limit;
        let in_log = state.counters.live_bytes.saturating_sub(state.counters.blob_bytes);
        let garbage = in_log.saturating_mul(state.tuning.garbage_percent.min(GARBAGE_PERCENT_MAX)) / 100;
        // Values in files of their own leave few others to be large.
        let fixed = if Self::holds_large_values(state) { FIXED_LEN } else { 2 * FIXED_LEN };
        let fixed = if self.is_local() { fixed.min(limit / 16) } else { 0 };
        let all = in_log.saturating_add(garbage).saturating_add(fixed).saturating_add(state.counters.blob_bytes).saturating_add(more);
        all.saturating_sub(limit)
    }

    /// Makes a round if one is due, in this process's turn. A checkpoint is `full`: it comes anyhow. Returns whether there was a round.
    pub(super) fn make_room(&self, full: bool, deadline: Deadline) -> Result<bool> {
        let Some(local) = &self.local else { return Ok(false) };
        let goal = {
            let state = read(&self.state);
            let space = self.space(local, &state);
            // Before a checkpoint that comes anyhow a little more is done, so that fewer come.
            if !(self.wants_room(&state, &space) || (full && space.garbage > space.live)) {
                return Ok(false);
            }
            Self::file_limit(&state).map(|limit| limit - limit / 8)
        };
        self.round(local, goal, Strictness::Roughly, deadline)?;
        Ok(true)
    }

    /// Evicts, merges and folds until the files will be within `goal` and garbage within its fraction, so far as one round goes. Then makes a
    /// checkpoint.
    fn round(&self, local: &LocalLog, goal: Option<u64>, strictness: Strictness, deadline: Deadline) -> Result<()> {
        let limit = read(&self.state).tuning.size_limit;
        let look = || {
            let state = read(&self.state);
            let space = self.space(local, &state);
            self.note_excess(&state, &space);
            let is_large = goal.is_some_and(|goal| space.after() > goal);
            (space, is_large, self.garbage_is_over(&state, &space))
        };
        if goal.is_some() {
            self.evict_more(EVICTIONS_MAX, deadline)?;
        }
        // What goes without any copying goes first: copies take room themselves.
        if look().0.waiting > limit / 32 {
            self.checkpoint(deadline)?;
        }
        let (mut left, mut wins) = ((limit / 32).clamp(ROUND_LEN_MIN, ROUND_LEN_MAX), false);
        while left > 0 {
            let (space, is_large, garbage_is_over) = look();
            if !(is_large || garbage_is_over) {
                break;
            }
            let copied = match self.shrink(local, &space, is_large, left, deadline)? {
                Some(copied) => copied,
                // All that can be won is won: less must live.
                None if is_large && self.evict_for(&space, strictness, deadline)? => left / 16,
                None => break,
            };
            left = left.saturating_sub(copied.max(1));
            wins = true;
        }
        if look().0.waiting > 0 {
            self.checkpoint(deadline)?;
        }
        // Where nothing was to be won the next round waits until more was written.
        let settled = if wins { 0 } else { look().0.files };
        self.maintenance.settled.store(settled, Ordering::Relaxed);
        Ok(())
    }

    /// Makes one step that wins space, of which a fold copies `most` bytes about. Returns how many bytes it copied, or `None` if there is none to make.
    fn shrink(&self, local: &LocalLog, space: &Space, is_large: bool, most: u64, deadline: Deadline) -> Result<Option<u64>> {
        let rows = (most.saturating_mul(MERGE_SHARE) / ROW_LEN).clamp(MERGE_ROWS_MIN, STEP_ROWS);
        // Dead rows are read, and not copied.
        let live = space.index.saturating_sub(space.dead_index).max(space.index / 16);
        let merged =
            u64::try_from(u128::from(rows * ROW_LEN / MERGE_SHARE) * u128::from(live) / u128::from(space.index.max(1))).unwrap_or(most);
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let short = |step: Option<MergeStep>| step.map(|step| step.limited_to(rows));
        let index_is_worse = is_large && space.dead_index > space.garbage && space.dead_index > space.index / 4;
        if index_is_worse {
            let levels = read(&self.state).levels.clone();
            if self.merge(&levels, short(levels.plan().or_else(|| levels.plan_whole())), deadline)? {
                return Ok(Some(merged));
            }
        }
        if let Some(copied) = self.fold_worst(local, most, deadline)? {
            return Ok(Some(copied));
        }
        if !is_large {
            return Ok(None);
        }
        let levels = read(&self.state).levels.clone();
        let step = levels.plan().or_else(|| if space.dead_index > space.index / 8 { levels.plan_whole() } else { None });
        let merges = self.merge(&levels, short(step), deadline)?;
        Ok(merges.then_some(merged))
    }

    /// Evicts if the files will take too much though no garbage can go any more. Returns whether it did.
    fn evict_for(&self, space: &Space, strictness: Strictness, deadline: Deadline) -> Result<bool> {
        let need = {
            let state = read(&self.state);
            let limit = state.tuning.size_limit;
            if Self::holds_large_values(&state) {
                // They leave no garbage, so that nothing need be kept free for it.
                let over = space.after().saturating_sub(if strictness == Strictness::Exactly { limit } else { limit + limit / 32 });
                if over > 0 { over + limit / EVICTED_SHARE } else { 0 }
            } else if space.after() > limit - limit / 32 && state.counters.live_bytes > limit / 4 {
                limit / EVICTED_SHARE
            } else {
                0
            }
        };
        Ok(need > 0 && self.evict(need, deadline)?)
    }

    /// Evicts while what lives is over the size limit: writes evict no more than `cull_limit` each.
    fn evict_more(&self, commits_max: usize, deadline: Deadline) -> Result<()> {
        for _ in 0..commits_max {
            let need = self.to_evict(&read(&self.state));
            if need == 0 || !self.evict(need, deadline)? {
                break;
            }
        }
        Ok(())
    }

    /// Evicts some entries, which free `need` bytes about. Returns whether it did.
    fn evict(&self, need: u64, deadline: Deadline) -> Result<bool> {
        // Who keeps something beside values is told of each that is gone on the threads of its own calls only.
        if self.companion().is_some() || !read(&self.state).tuning.evicts_freely() {
            return Ok(false);
        }
        let victims = self.policy_victims(0..=BATCH, VICTIMS_LEN, need);
        if victims.list().is_empty() {
            return Ok(false);
        }
        let mut body = BodyBuilder::default();
        body.push(&Record::Remove(Cause::Cull, victims.list()));
        let committed = self.commit(&body, deadline)?;
        self.tidy(&committed.outcomes);
        Ok(true)
    }

    /// Brings the files within the size limit, whatever else is at it (local mode; on a network drive files stay for a grace). What fails is
    /// left to later writes.
    pub(crate) fn compact(&self) {
        let Some(local) = self.local.as_ref().filter(|_| !self.transaction.is_mine()) else { return };
        let limit_and_files = || {
            let state = read(&self.state);
            (state.tuning.size_limit, self.space(local, &state).files)
        };
        let (mut last, mut misses) = (u64::MAX, 0);
        for _ in 0..ROUNDS_MAX {
            let (limit, files) = limit_and_files();
            // Once more where nothing came of it: another may have been at it, whose checkpoint was not there yet.
            misses = if files < last { 0 } else { misses + 1 };
            if files <= limit || misses > 1 {
                return;
            }
            last = files;
            let Some(turn) = self.wait_for_turn() else { continue };
            drop(self.round(local, Some(limit - limit / 16), Strictness::Exactly, self.deadline()));
            self.plan_next_step();
            self.remove_retired(false);
            drop(turn);
        }
    }
}
