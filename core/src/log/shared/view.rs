//! What this process knows of the log beyond its cursor, and how long ago it knew it. Times are this host's boot time.

use super::SharedLog;
use crate::sync::{MutexGuard, lock};
use std::collections::BTreeSet;
use std::time::Duration;

/// Positions that were reported gone and are remembered, so that nobody is sent back to the start twice for the same one.
const TOLD_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct View {
    /// At this time commit `.0` (and so every later one) was certainly not published yet, so that none of them is collected before
    /// a whole grace after it.
    unpublished: Option<(u64, Duration)>,
    /// When this process last saw the log end at its cursor, as far as a look can tell.
    contact: Option<Duration>,
    /// The view was so old that a name was won falsely: only a new start leads back to the log.
    lost: bool,
    /// A length of the bell that turned out to promise commits that are not there.
    lie: Option<u64>,
    /// Every commit before it was there when it was replayed.
    reached: u64,
    /// Positions that were reported gone, before and since the last start from a checkpoint.
    gone_before: BTreeSet<u64>,
    gone_since: BTreeSet<u64>,
    /// The checkpoint that the caller was last told to start from, and those that led to a position that was gone.
    started_at: u64,
    dead_ends: BTreeSet<u64>,
}

impl View {
    /// Notes that `n` did not exist at `when`.
    pub(super) fn note_unpublished(&mut self, n: u64, when: Duration) {
        if self.unpublished.is_none_or(|(_, old)| old <= when) {
            self.unpublished = Some((n, when));
        }
    }

    /// Returns whether `n` was known not to exist less than `span` before `now`.
    pub(super) fn was_unpublished(&self, n: u64, span: Duration, now: Duration) -> bool {
        self.unpublished.is_some_and(|(position, when)| position <= n && now.saturating_sub(when) < span)
    }

    pub(super) fn note_reached(&mut self, position: u64) {
        self.reached = self.reached.max(position);
    }

    pub(super) const fn reached(&self) -> u64 {
        self.reached
    }

    pub(super) const fn forget_reached(&mut self) {
        self.reached = 0;
    }

    pub(super) fn note_contact(&mut self, now: Duration) {
        self.contact = Some(now);
    }

    /// Returns whether the last contact is `span` ago or longer.
    pub(super) fn is_older_than(&self, span: Duration, now: Duration) -> bool {
        self.contact.is_none_or(|when| now.saturating_sub(when) >= span)
    }

    /// Trusts nothing that was known of the log's end: the names after `n` may be another's, or nobody's.
    pub(super) fn lose(&mut self, n: u64) {
        self.mistrust();
        self.reached = 0;
        self.gone_since.insert(n);
        self.dead_ends.insert(self.started_at);
    }

    /// Makes the caller start again before anything else is done, from the same place as before if there is none better.
    pub(super) fn mistrust(&mut self) {
        self.unpublished = None;
        self.contact = None;
        self.lost = true;
    }

    pub(super) const fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn note_lie(&mut self, bell: u64) {
        self.lie = Some(bell);
    }

    pub(super) fn is_lie(&self, bell: u64) -> bool {
        self.lie == Some(bell)
    }

    /// Notes that the caller is told that `n` was collected; `false` if it was told so before and started again since.
    pub(super) fn tell_gone(&mut self, n: u64) -> bool {
        if self.gone_before.contains(&n) {
            return false;
        }
        self.gone_since.insert(n);
        self.dead_ends.insert(self.started_at);
        true
    }

    /// Returns whether the caller was told that `n` is gone, started again, and is there again: there is nothing better.
    pub(super) fn is_best(&self, n: u64) -> bool {
        self.gone_before.contains(&n)
    }

    /// Returns the highest position that was reported gone since the last start, or 0: starting at or before it leads nowhere.
    pub(super) fn gone(&self) -> u64 {
        self.gone_since.last().copied().unwrap_or(0)
    }

    /// Returns whether the checkpoint at `at` led to a position that was gone.
    pub(super) fn is_dead_end(&self, at: u64) -> bool {
        self.dead_ends.contains(&at)
    }

    /// Notes that the caller starts again from the checkpoint at `at`.
    pub(super) fn note_start(&mut self, at: u64) {
        self.started_at = at;
        self.lost = false;
        while self.dead_ends.len() > TOLD_MAX {
            self.dead_ends.pop_first();
        }
        self.gone_before.append(&mut self.gone_since);
        while self.gone_before.len() > TOLD_MAX {
            self.gone_before.pop_first();
        }
    }
}

impl SharedLog {
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_did_not_exist_at_a_time_vouches_for_later_positions_and_only_for_a_while() {
        let mut view = View::default();
        assert!(!view.was_unpublished(5, s(6), s(0)));
        view.note_unpublished(5, s(10));
        assert!(view.was_unpublished(5, s(6), s(15)) && view.was_unpublished(9, s(6), s(15)));
        assert!(!view.was_unpublished(4, s(6), s(15)));
        assert!(!view.was_unpublished(5, s(6), s(16)));
    }

    #[test]
    fn nobody_is_sent_back_to_the_start_twice_for_the_same_position() {
        let mut view = View::default();
        assert!(view.tell_gone(3) && view.tell_gone(3), "it did not start again yet");
        view.note_start(0);
        assert!(!view.tell_gone(3) && view.tell_gone(4));
        for n in 0..5000 {
            view.tell_gone(n);
        }
        view.note_start(0);
        assert!(view.gone_before.len() <= TOLD_MAX && !view.tell_gone(4999));
    }
}
