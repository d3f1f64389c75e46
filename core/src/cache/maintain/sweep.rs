//! Removal of files that nothing needs any more: at once on a local disk, after a grace on a network drive, where others may still read them.

use crate::cache::engine::Engine;
use crate::error::Result;
use crate::index::file_name;
use crate::log::local::LocalLog;
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

    /// Removes, right after the checkpoint at `at`, what neither the state nor a recovery can need. What fails is done after the next one.
    pub(super) fn sweep(&self, at: u64) {
        if let Some(local) = &self.local {
            drop(self.sweep_local(local, at));
            return;
        }
        let (folded, covered) = {
            let state = read(&self.state);
            (state.folds.last().map_or(0, |f| f.to >> crate::log::ADDR_OFFSET_BITS), state.last_covered)
        };
        self.retire_dropped();
        self.log.collect(0, folded.min(covered));
    }

    fn sweep_local(&self, local: &LocalLog, at: u64) -> Result<()> {
        local.list_segments()?;
        let sealed = local.sealed();
        let (era, levels, folds, needless) = {
            let state = read(&self.state);
            let needless: Vec<(u64, u64)> = sealed.into_iter().filter(|(from, to)| state.is_needless(*from, *to)).collect();
            (state.era.clone(), state.levels.clone(), state.folds.clone(), needless)
        };
        self.files.retain(levels.files());
        self.folds.retain(&folds);
        let mut gone = Vec::new();
        for dir in [self.dir.join("run"), self.folds.dir().to_owned()] {
            let Ok(names) = self.vfs.read_dir(&dir) else { continue };
            let id_of = |name: &String| (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten();
            gone.extend(names.iter().filter(|name| id_of(name).is_some_and(|id| !era.contains_key(&id))).map(|name| dir.join(name)));
        }
        if gone.is_empty() && needless.is_empty() {
            return Ok(());
        }
        // A recovery that started at an older checkpoint would miss what goes now.
        local.settle(at)?;
        for path in gone {
            drop(self.vfs.unlink(&path));
        }
        for (from, to) in needless {
            self.log.collect(from, to);
        }
        Ok(())
    }

    /// Puts what the last checkpoint made needless on the list of files that go later (network drives).
    fn retire_dropped(&self) {
        let mut state = write(&self.state);
        let dropped: Vec<u64> = state.last_era.iter().filter(|id| !state.era.contains_key(id)).copied().collect();
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
