//! Removal of files that nothing needs any more: at once on a local disk, after a grace on a network drive, where others may still read them.

use crate::cache::engine::Engine;
use crate::index::file_name;
use crate::sync::{lock, read, write};
use std::time::Duration;

/// On network drives a file that others may still be reading stays this long.
const RETIRED_GRACE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(super) enum Retired {
    Blob(u64),
    Run(u64),
    Fold(u64),
}

impl Engine {
    pub(super) fn retire_if_unnamed(&self, retired: Retired) {
        lock(&self.maintenance.retired).push_back((self.clock.boot(), retired));
    }

    /// Removes files whose time has come.
    pub(super) fn remove_retired(&self, all: bool) {
        let grace = if self.is_local() { Duration::ZERO } else { RETIRED_GRACE };
        let now = self.clock.boot();
        let mut due = Vec::new();
        {
            let mut retired = lock(&self.maintenance.retired);
            while let Some((since, _)) = retired.front()
                && (now.saturating_sub(*since) >= grace || (all && self.is_local()))
            {
                due.extend(retired.pop_front());
            }
        }
        for (_, file) in due {
            match file {
                Retired::Blob(id) => drop(self.blobs.remove(id)),
                Retired::Run(id) => drop(self.vfs.unlink(&self.dir.join("run").join(file_name(id)))),
                Retired::Fold(id) => drop(self.vfs.unlink(&self.folds.path(id))),
            }
        }
    }

    /// Removes, right after a checkpoint, what neither the state nor a recovery from the checkpoint before can need.
    pub(super) fn sweep(&self) {
        let (keep, folds_before, folds_now, levels, covered) = {
            let state = read(&self.state);
            let keep: std::collections::HashSet<u64> = state.era.union(&state.last_era).copied().collect();
            (keep, state.last_folds.clone(), state.folds.clone(), state.levels.clone(), state.last_covered)
        };
        if !self.is_local() {
            self.retire_dropped();
            let folded = folds_now.last().map_or(0, |f| f.to >> crate::log::ADDR_OFFSET_BITS);
            self.log.collect(0, folded.min(covered));
            return;
        }
        self.files.retain(levels.files());
        for (dir, path) in [("run", self.dir.join("run")), ("fold", self.folds.dir().to_owned())] {
            let Ok(names) = self.vfs.read_dir(&path) else { continue };
            for name in names {
                let id = (name.len() == 16).then(|| u64::from_str_radix(&name, 16).ok()).flatten();
                if id.is_some_and(|id| !keep.contains(&id)) {
                    // Later, if not now: the next checkpoint tries again.
                    drop(self.vfs.unlink(&self.dir.join(dir).join(&name)));
                }
            }
        }
        for fold in &folds_now {
            for before in folds_before.iter().filter(|b| b.from < fold.to && fold.from < b.to) {
                self.log.collect(fold.from.max(before.from), fold.to.min(before.to).min(covered));
            }
        }
    }

    /// Puts what the last checkpoint made needless on the list of files that go later (network drives).
    fn retire_dropped(&self) {
        let mut state = write(&self.state);
        let dropped: Vec<u64> = state.last_era.difference(&state.era).copied().collect();
        state.last_era.clear();
        drop(state);
        let now = self.clock.boot();
        let mut retired = lock(&self.maintenance.retired);
        for id in dropped {
            retired.push_back((now, Retired::Run(id)));
            retired.push_back((now, Retired::Fold(id)));
        }
    }
}
