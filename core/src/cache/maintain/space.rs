//! Keeping the files within the size limit.

use crate::cache::engine::Engine;
use crate::error::Result;
use crate::sync::{Ordering, read};

impl Engine {
    /// Lets go of garbage while the files take more than the size limit (local mode; on a network drive files stay for a grace). What
    /// fails is left to later writes.
    pub(crate) fn compact(&self) {
        let is_over = || {
            let state = read(&self.state);
            self.volume(&state) > state.tuning.size_limit
        };
        if self.transaction.is_mine() || !self.is_local() || !is_over() {
            return;
        }
        let Some(turn) = self.wait_for_turn() else { return };
        drop(self.compact_in_turn(usize::MAX, is_over));
        self.plan_next_step();
        self.remove_retired(false);
        drop(turn);
    }

    /// Returns whether most rows of the index are shadowed or tombstones.
    pub(super) fn is_mostly_dead(&self) -> bool {
        let state = read(&self.state);
        state.levels.rows() > 2 * state.counters.count
    }

    pub(super) fn compact_in_turn(&self, folds_max: usize, is_over: impl Fn() -> bool) -> Result<()> {
        // Only what a checkpoint covers is folded, and what was folded goes when the second checkpoint from then names the fold.
        self.checkpoint(self.deadline())?;
        while self.merge_step(self.deadline())? {}
        if is_over() && self.is_mostly_dead() {
            let levels = read(&self.state).levels.clone();
            self.merge(&levels, levels.plan_whole(), self.deadline())?;
            while self.merge_step(self.deadline())? {}
        }
        // Each part once: a fold of what is all garbage is itself a part that is.
        let parts = self.local.as_ref().map_or(0, |local| local.sealed().len()) + read(&self.state).folds.len();
        for _ in 0..parts.min(folds_max) {
            if !self.fold_step(true, self.deadline())? {
                break;
            }
        }
        for _ in 0..2 {
            if is_over() {
                self.checkpoint(self.deadline())?;
            }
        }
        self.maintenance.compacted_to.store(self.volume(&read(&self.state)), Ordering::Relaxed);
        Ok(())
    }
}
