//! Collecting: removing commit files that a published fold made needless, and staged names that nobody removed.
//!
//! Commits go oldest first, the empty commit 0 first of all, each no sooner than the grace after this process first saw that it
//! may go (by this host's boot time): so no host that looked within the grace misses one, and a name that is still there vouches
//! for all after it. Where one cannot be removed the rest waits. The last one before the position stays: it vouches for the first
//! that a newcomer reads, who starts at that position.

use super::SharedLog;
use super::retry::is_gone;
use crate::mutants::{self, Mutant};
use crate::sync::lock;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Names removed by one call.
const NAMES_MAX: usize = 64;
/// Commit files removed by one commit, once some may go: as each commit adds one, the log cannot outgrow that.
const NAMES_A_COMMIT: usize = 2;
/// Names in a row that others had removed, before looking again which are left.
const MISSES_MAX: u32 = 4;
/// Staged names whose age is watched. A process that is killed leaves one for each of its commits since it last tidied.
const WATCHED_MAX: usize = 1 << 16;

/// What may go, and since when that is known.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    /// Positions, ascending, with when each was first named.
    named: VecDeque<(u64, Duration)>,
    /// Everything before this position may go now.
    ripe: u64,
    /// What a listing showed before `listed`, ascending.
    names: VecDeque<u64>,
    listed: u64,
    misses: u32,
    /// Staged names with when each was first seen, and those of them that are old enough to go.
    staged: HashMap<u128, Duration>,
    abandoned: Vec<u128>,
    staged_at: Option<Duration>,
}

impl Collecting {
    /// Notes that everything before `position` may go.
    fn note(&mut self, position: u64, now: Duration) {
        if self.named.back().map_or(self.ripe, |&(last, _)| last) < position {
            self.named.push_back((position, now));
        }
    }

    /// Returns before which position the grace is over.
    fn ripe(&mut self, now: Duration, grace: Duration) -> u64 {
        while let Some(&(position, since)) = self.named.front()
            && now.saturating_sub(since) >= grace
        {
            self.ripe = position;
            self.named.pop_front();
        }
        self.ripe
    }
}

impl SharedLog {
    /// See [`crate::log::Log::collect`].
    pub(super) fn collect_before(&self, position: u64) -> usize {
        let now = self.clock.boot();
        let mut state = lock(&self.collecting);
        self.find_abandoned(&mut state, now);
        self.remove_abandoned(&mut state, NAMES_MAX);
        state.note(position, now);
        self.collect_ripe(&mut state, now, NAMES_MAX)
    }

    /// Collects a little of what was noted before, beside a commit.
    pub(super) fn collect_a_little(&self) {
        if let Ok(mut state) = self.collecting.try_lock() {
            self.collect_ripe(&mut state, self.clock.boot(), NAMES_A_COMMIT);
            self.remove_abandoned(&mut state, NAMES_A_COMMIT);
        }
    }

    fn collect_ripe(&self, state: &mut Collecting, now: Duration, names_max: usize) -> usize {
        let grace = if mutants::is(Mutant::CollectWithoutGrace) { Duration::ZERO } else { self.options.grace };
        let ripe = state.ripe(now, grace);
        if state.names.is_empty() && state.listed < ripe {
            let Ok(names) = self.vfs.read_dir(&self.log_dir()) else { return 0 };
            let mut names: Vec<u64> = names.iter().filter_map(|name| super::number_of(name)).filter(|&n| n + 1 < ripe).collect();
            names.sort_unstable();
            state.names = names.into();
            state.listed = ripe;
            state.misses = 0;
        }
        let mut removed = 0;
        for _ in 0..names_max {
            let Some(&n) = state.names.front() else { break };
            match self.vfs.unlink(&self.commit_path(n)) {
                Ok(()) => {
                    removed += 1;
                    state.misses = 0;
                }
                Err(e) if is_gone(&e) => state.misses += 1,
                Err(_) => break,
            }
            state.names.pop_front();
            if state.misses >= MISSES_MAX {
                state.names.clear();
                state.listed = 0;
                break;
            }
        }
        if removed > 0 && self.options.sync_names {
            self.vfs.sync_dir(&self.log_dir()).ok(); // If it fails, names come back after a crash and are collected again.
        }
        removed
    }

    /// Finds staged names that were there a grace ago. Removing them is safe at any age (see `stage`); the grace only spares a slow
    /// writer from staging again.
    fn find_abandoned(&self, state: &mut Collecting, now: Duration) {
        if state.staged_at.is_some_and(|last| now.saturating_sub(last) < self.options.grace / 2) {
            return;
        }
        let Ok(names) = self.vfs.read_dir(&self.stage_dir()) else { return };
        state.staged_at = Some(now);
        let before = std::mem::take(&mut state.staged);
        state.abandoned.clear();
        for nonce in names.iter().filter_map(|name| nonce_of(name)).take(WATCHED_MAX) {
            let since = before.get(&nonce).copied().unwrap_or(now);
            state.staged.insert(nonce, since);
            if now.saturating_sub(since) >= self.options.grace {
                state.abandoned.push(nonce);
            }
        }
        state.abandoned.sort_unstable();
    }

    /// Removes some of them: one after the other, and a few beside each commit, since killed processes leave many.
    fn remove_abandoned(&self, state: &mut Collecting, names_max: usize) {
        for _ in 0..names_max {
            let Some(&nonce) = state.abandoned.last() else { return };
            match self.vfs.unlink(&self.stage_path(nonce)) {
                Err(e) if !is_gone(&e) => return,
                _ => state.abandoned.pop(),
            };
        }
    }
}

/// Returns the nonce that a name in `stage/` stands for; what is none of ours stays.
fn nonce_of(name: &str) -> Option<u128> {
    let is_ours = name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| u128::from_str_radix(name, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_waits_for_its_own_grace() {
        let s = Duration::from_secs;
        let mut state = Collecting::default();
        let mut at = |position, now| {
            state.note(position, s(now));
            state.ripe(s(now), s(10))
        };
        assert_eq!(at(5, 0), 0);
        assert_eq!(at(9, 6), 0);
        assert_eq!(at(9, 10), 5);
        assert_eq!(at(3, 15), 5);
        assert_eq!(at(3, 16), 9);
        assert_eq!(at(9, 99), 9);
        assert!(state.named.is_empty());
    }
}
