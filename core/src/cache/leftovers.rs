//! Files that nobody names: what killed processes left. They are told from those that a live writer is about to name:
//!
//! - blobs on a local disk: their writer holds the file's lock until its commit ended, and a transaction holds the exclusive lock;
//! - runs and folds on a local disk: they are made by whoever has the turn to do maintenance;
//! - on a network drive, and for probing: by how long this process has seen the name unnamed, by its own boot clock.

use crate::cache::engine::Engine;
use crate::cache::maintain::named;
use crate::cache::manifest::Manifest;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::format::wire::Reader;
use crate::index::{Levels, file_name};
use crate::sync::{lock, read};
use crate::verify::{ProblemKind, Report};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The least time that a name is watched on a network drive.
const WATCH_MIN: Duration = Duration::from_secs(60);

impl Engine {
    /// Finds leftover files, and removes them with `fix`. Blobs only if it is known which ones entries name. Runs and folds that were `once_named`
    /// are no leftovers: the next checkpoint sweeps them.
    pub(crate) fn check_leftovers(&self, fix: bool, with_blobs: bool, once_named: &HashSet<u64>, report: &mut Report) -> Result<()> {
        if self.transaction.is_mine() {
            return Ok(()); // its own blobs have no entry yet
        }
        let deadline = self.deadline();
        self.check_top(fix, report)?;
        if self.is_local() {
            self.check_local_files(fix, once_named, report, deadline)?;
            return if with_blobs { self.check_local_blobs(fix, report, deadline) } else { Ok(()) };
        }
        let kept = self.kept(&[])?;
        let blobs: HashSet<u64> = self.all_blobs(deadline)?.into_iter().collect();
        for (dir, kept) in [("run", &kept), ("fold", &kept), ("blob", &blobs)].into_iter().take(if with_blobs { 3 } else { 2 }) {
            for (id, path) in self.ids_in(dir)? {
                if !kept.contains(&id) {
                    self.watch(path, fix, report);
                }
            }
        }
        let mut unnamed = lock(&self.maintenance.unnamed);
        unnamed.retain(|path, _| self.vfs.stat(path).is_ok());
        drop(unnamed);
        Ok(())
    }

    /// Returns the runs and folds that the state, or a recovery from one of `checkpoints`, may need.
    fn kept(&self, checkpoints: &[Vec<u8>]) -> Result<HashSet<u64>> {
        let state = read(&self.state);
        let mut kept: HashSet<u64> = state.era.keys().chain(&state.last_era).copied().collect();
        drop(state);
        for manifest in checkpoints.iter().filter_map(|payload| Manifest::parse(payload).ok()) {
            if let Ok(levels) = Levels::parse(&mut Reader::new(&manifest.levels)) {
                kept.extend(named(&levels, &manifest.folds).map(|(id, _)| id));
            }
        }
        Ok(kept)
    }

    /// Lists the files of a folder that have names of ours.
    fn ids_in(&self, dir: &str) -> Result<Vec<(u64, PathBuf)>> {
        let path = self.dir.join(dir);
        let names = match self.vfs.read_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io("list", &path, e))?,
        };
        let id_of = |name: &String| u64::from_str_radix(name, 16).ok().filter(|id| file_name(*id) == *name);
        Ok(names.iter().filter_map(|name| Some((id_of(name)?, path.join(name)))).collect())
    }

    fn check_local_files(&self, fix: bool, once_named: &HashSet<u64>, report: &mut Report, deadline: Deadline) -> Result<()> {
        // Whoever else has the turn may be about to name what it made; it sweeps by itself.
        let Some(turn) = self.take_turn() else { return Ok(()) };
        let files = [self.ids_in("run")?, self.ids_in("fold")?].concat();
        self.freshen(deadline)?;
        let checkpoints = self.local.as_ref().map_or(Ok(Vec::new()), |local| local.remembered_checkpoints())?;
        let kept = self.kept(&checkpoints)?;
        for (_, path) in files.into_iter().filter(|(id, _)| !kept.contains(id) && !once_named.contains(id)) {
            self.leftover(path, fix, report);
        }
        drop(turn);
        Ok(())
    }

    fn check_local_blobs(&self, fix: bool, report: &mut Report, deadline: Deadline) -> Result<()> {
        let listed = self.ids_in("blob")?;
        let unnamed = |named: Vec<u64>| {
            let named: HashSet<u64> = named.into_iter().collect();
            listed.iter().filter(|(id, _)| !named.contains(id)).cloned().collect::<Vec<_>>()
        };
        self.freshen(deadline)?;
        if unnamed(self.all_blobs(deadline)?).is_empty() {
            return Ok(());
        }
        // Again, while nobody can commit: so no transaction is open, and a writer that holds no lock has ended its commit.
        self.begin_exclusive(deadline)?;
        let result = self.freshen(deadline).and_then(|()| self.all_blobs(deadline)).map(|named| {
            for (id, path) in unnamed(named) {
                if let Some(held) = self.blobs.lock_unwritten(id) {
                    self.leftover(path, fix, report);
                    drop(held);
                }
            }
        });
        self.log.end_exclusive();
        result
    }

    /// Looks at the cache's own directory: the staged marker of a process killed while it made the cache, and folders of killed probes.
    fn check_top(&self, fix: bool, report: &mut Report) -> Result<()> {
        let names = self.vfs.read_dir(&self.dir).map_err(|e| Error::io("list", &self.dir, e))?;
        let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        for name in names {
            let path = self.dir.join(&name);
            if let Some(end) = name.strip_prefix("CACHE.").filter(|end| *end != "copy") {
                // The cache has its name, so nobody needs the staged one any more.
                if end.len() == 32 && is_hex(end) { self.leftover(path, fix, report) } else { report.unknown.push(path) }
            } else if name.strip_prefix("probe-").is_some_and(|end| end.len() == 24 && is_hex(end)) {
                self.watch(path, fix, report);
            }
        }
        Ok(())
    }

    fn leftover(&self, path: PathBuf, fix: bool, report: &mut Report) {
        let fixed = fix && self.remove_all(&path).is_ok();
        report.add(ProblemKind::Leftover, path, "a killed process left this behind", fixed);
    }

    /// Counts a name as left behind once this process has seen it unnamed for long enough.
    fn watch(&self, path: PathBuf, fix: bool, report: &mut Report) {
        let now = self.clock.boot();
        let since = *lock(&self.maintenance.unnamed).entry(path.clone()).or_insert(now);
        if now.saturating_sub(since) >= self.options.grace.max(WATCH_MIN) {
            self.leftover(path, fix, report);
        } else {
            report.unnamed += 1;
        }
    }

    /// Removes a file, or a folder with the files and folders of files in it.
    fn remove_all(&self, path: &Path) -> io::Result<()> {
        if !self.vfs.stat(path)?.is_dir {
            return self.vfs.unlink(path);
        }
        for name in self.vfs.read_dir(path)? {
            self.remove_all(&path.join(name))?;
        }
        self.vfs.remove_dir(path)
    }
}
