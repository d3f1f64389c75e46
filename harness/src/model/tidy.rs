//! Folds, checkpoints, and the removal of what they made needless.
//!
//! A tidier writes a file of a unique name and publishes a commit that names it. A fold says which segment it replaces
//! and counts only if that is the one in use; a checkpoint counts only if it is as of a later commit than the one in
//! use. So the log decides which of two counts, and which files are needless for ever:
//!
//! - a name in `log/`: the checkpoint in use is as of a *later* commit (its own last commit stays, as the anchor of
//!   those who start from it) and the segment in use covers it; oldest first; its staged name before it; and the bell
//!   is made longer than both commits before, lest a reader never learn of them;
//! - a segment: the one that it replaces *was* in use and is no more, and it is not in use itself. That holds of those
//!   that were replaced, of those that came second, and of orphans, all without asking their age;
//! - a checkpoint: another one in use is as of the same or a later commit;
//! - a staged file: at any time. Its owner may still try to publish it, and settles what comes of that.
//!
//! Whoever removes may have replayed less than the whole log: each of these rules, once true, stays true. The model
//! lets the one who has replayed least act, so that the bell is made no longer than it must be.

use super::commit::{Commit, Kind, Seq};
use super::config::{Collecting, Mutation};
use super::moves::Moves;
use super::state::{Pc, State, small};
use super::step::{Step, What, Who};

impl Moves<'_> {
    /// Writes the segment or the checkpoint, and stages the commit that names it.
    pub(super) fn tidy(&mut self, process: usize, tidier: usize) {
        let me = self.state.processes[process];
        let mut after = *self.state;
        if me.op == 0 {
            let current = after.segment_after(me.seq);
            let unfolded = me.seq.iter().any(|(slot, commit)| slot >= after.covered(current) && commit.op().is_some());
            if !unfolded {
                return;
            }
            let made = &mut after.made[tidier];
            made.segment = me.seq;
            made.segment_exists = true;
            made.replaces = current;
            after.stage(process, Commit::of(Kind::Fold { folder: tidier }));
            self.push(process, What::WroteSegment { covers: small(me.next()) }, after);
            return;
        }
        let claims = if self.config.breaks(Mutation::CheckpointAhead) { me.next() } else { me.next() - 1 };
        let newest = after.checkpoint_after(me.seq).map_or(0, |other| after.made[other].as_of);
        if claims <= usize::from(newest) {
            return;
        }
        let made = &mut after.made[tidier];
        made.checkpoint = me.seq;
        made.checkpoint_exists = true;
        made.as_of = small(claims);
        after.stage(process, Commit::of(Kind::Checkpoint { folder: tidier }));
        self.push(process, What::WroteCheckpoint { slot: small(claims) }, after);
    }

    /// Unlinks one more name of the log, if one is needless.
    pub(super) fn collect(&mut self) {
        let state = self.state;
        let mut kept = (0..state.history.len()).filter(|&slot| !state.is_collected(slot));
        let next = if self.config.breaks(Mutation::CollectNewestFirst) {
            kept.rfind(|&slot| self.needless(slot, state.history))
        } else if self.config.breaks(Mutation::KeepMarker) {
            kept.find(|&slot| slot > 0)
        } else {
            kept.next()
        };
        let Some(slot) = next else {
            return;
        };
        let Some(view) = self.least_view(|view| self.needless(slot, view)) else {
            return;
        };
        let mut after = *state;
        let commit = state.history.at(slot);
        if !self.config.breaks(Mutation::StageOutlivesName) {
            after.staged &= !commit.bit();
        }
        self.ring_for_tidying(&mut after, view);
        if after.names.at(slot).same(commit) {
            after.names.set(slot, Commit::NONE);
        }
        after.collected |= 1 << slot;
        self.out.push((Step { who: Who::Collector, what: What::Collected { slot: small(slot) } }, after));
    }

    /// Returns the shortest part of the log after which `rule` holds.
    fn least_view(&self, rule: impl Fn(Seq) -> bool) -> Option<Seq> {
        (1..=self.state.history.len()).map(|count| self.state.history.prefix(count)).find(|&view| rule(view))
    }

    /// Says whether one who replayed `view` may collect the name of `slot`.
    fn needless(&self, slot: usize, view: Seq) -> bool {
        let state = self.state;
        match self.config.collecting {
            Collecting::Never => false,
            Collecting::Freely => slot + 1 < view.len(),
            Collecting::AfterGrace => slot + 1 < view.len() && self.all_confirmed_after(slot),
            Collecting::Folded if self.config.breaks(Mutation::FoldBeforePublishCollect) => {
                let written = state.made.iter().filter(|made| made.segment_exists && made.checkpoint_exists);
                written.map(|made| made.segment.len().min(made.as_of.into())).max().is_some_and(|end| slot < end)
            }
            Collecting::Folded => {
                let Some(tidier) = state.checkpoint_after(view) else {
                    return false;
                };
                let as_of = usize::from(state.made[tidier].as_of);
                let end = as_of + usize::from(self.config.breaks(Mutation::CollectAnchor));
                slot < end && slot < state.covered(state.segment_after(view))
            }
        }
    }

    /// The grace: everybody who is alive has confirmed a later commit since, and no request under way is older.
    fn all_confirmed_after(&self, slot: usize) -> bool {
        let state = self.state;
        let processes = (0..self.config.processes()).all(|process| {
            let me = state.processes[process];
            !state.alive(process) || !me.seq.at(0).is_some() || usize::from(me.anchor) > slot
        });
        let flights = state.flights.iter().all(|flight| !flight.commit.is_some() || usize::from(flight.slot) > slot + 1);
        processes && flights
    }

    /// Makes the bell long enough that a reader learns of the fold and the checkpoint that are in use after `view`.
    fn ring_for_tidying(&self, after: &mut State, view: Seq) {
        if self.config.breaks(Mutation::CollectUnrung) {
            return;
        }
        let segment = after.segment_after(view);
        let checkpoint = after.checkpoint_after(view);
        for (slot, commit) in view.iter() {
            let in_use = match commit.kind() {
                Some(Kind::Fold { folder }) => small(folder) + 1 == segment,
                Some(Kind::Checkpoint { folder }) => Some(folder) == checkpoint,
                _ => false,
            };
            if in_use {
                after.bell = after.bell.max(small(slot) + 1);
            }
        }
    }

    /// Unlinks needless files that are not the log's names.
    pub(super) fn sweep(&mut self) {
        let state = self.state;
        for (slot, _) in state.names.iter().filter(|&(slot, _)| state.is_collected(slot)) {
            let mut after = *state;
            after.names.set(slot, Commit::NONE);
            self.swept(What::SweptGhost { slot: small(slot) }, after);
        }
        if self.config.sweep_stage {
            self.sweep_stage();
        }
        for tidier in 0..self.config.tidiers.len() {
            self.sweep_made(tidier);
        }
    }

    fn sweep_stage(&mut self) {
        for process in 0..self.config.processes() {
            let commit = self.state.processes[process].commit;
            if self.state.staged & commit.bit() != 0 && self.state.processes[process].pc != Pc::Done {
                let mut after = *self.state;
                after.staged &= !commit.bit();
                self.swept(What::SweptStage { commit }, after);
            }
        }
        for flight in self.state.flights {
            let owned = self.state.processes.iter().any(|process| process.commit.same(flight.commit));
            if self.state.staged & flight.commit.bit() != 0 && !owned {
                let mut after = *self.state;
                after.staged &= !flight.commit.bit();
                self.swept(What::SweptStage { commit: flight.commit }, after);
            }
        }
    }

    fn sweep_made(&mut self, tidier: usize) {
        let state = self.state;
        let made = state.made[tidier];
        let segment = self.least_view(|view| self.segment_is_needless(tidier, view));
        if let Some(view) = segment.filter(|_| made.segment_exists) {
            let mut after = *state;
            after.made[tidier].segment_exists = false;
            self.ring_for_tidying(&mut after, view);
            self.swept(What::SweptSegment { tidier: small(tidier) }, after);
        }
        let checkpoint = self.least_view(|view| {
            let newest = state.checkpoint_after(view);
            newest.is_some_and(|other| other != tidier && state.made[other].as_of >= made.as_of)
        });
        if let Some(view) = checkpoint.filter(|_| made.checkpoint_exists) {
            let mut after = *state;
            after.made[tidier].checkpoint_exists = false;
            self.ring_for_tidying(&mut after, view);
            self.swept(What::SweptCheckpoint { tidier: small(tidier) }, after);
        }
    }

    /// Says whether one who replayed `view` may unlink the segment of `tidier`.
    fn segment_is_needless(&self, tidier: usize, view: Seq) -> bool {
        let state = self.state;
        let in_use = state.segment_after(view);
        let mine = small(tidier) + 1;
        let replaces = state.made[tidier].replaces;
        if self.config.breaks(Mutation::SweepUnpublished) {
            return !view.iter().any(|(_, commit)| commit.same(Commit::of(Kind::Fold { folder: tidier })));
        }
        if self.config.breaks(Mutation::SweepUnknown) {
            return in_use != mine && in_use != replaces;
        }
        let replaced_is_past = (1..=view.len()).any(|count| state.segment_after(view.prefix(count)) == replaces);
        in_use != mine && in_use != replaces && replaced_is_past
    }

    fn swept(&mut self, what: What, after: State) {
        self.out.push((Step { who: Who::Sweeper, what }, after));
    }
}
