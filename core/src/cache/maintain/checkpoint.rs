//! Checkpoints: what changed since the newest run is written as a run, and a record in the log names it with everything else that replay needs.

use crate::cache::engine::Engine;
use crate::cache::manifest::Manifest;
use crate::cache::options::Durability;
use crate::cache::state::encoded;
use crate::chance;
use crate::clock::Deadline;
use crate::compaction::fold::write_new;
use crate::error::{Error, Result};
use crate::format::{BodyBuilder, Place, Record};
use crate::index::{Delta, Layers, Levels, Slice, file_name, flush};
use crate::sync::{Ordering, read};
use std::io;

/// In shared mode a process that closes after this many commits leaves a checkpoint.
const CLOSE_CHECKPOINT_COMMITS: u64 = 4;
/// In local mode one that leaves so many changed entries, or so many bytes of the log, to be replayed: a millisecond's work, about.
const CLOSE_CHECKPOINT_ENTRIES: usize = 2048;
const CLOSE_CHECKPOINT_LEN: u64 = 4 << 20;

impl Engine {
    /// Writes the delta as a run, and publishes a checkpoint that names it.
    pub(crate) fn checkpoint(&self, deadline: Deadline) -> Result<()> {
        // Most of what the sweep after the checkpoint makes durable is made so now: the commits that come in between are replayed once more.
        self.log.sync()?;
        // Writers wait for the copy alone, not for the run that is made of it.
        let (delta, levels, mut manifest) = {
            let mut cursor = self.lock_cursor(deadline)?;
            // Another process may have made a checkpoint in its turn: what the one before it names may be gone.
            self.catch_up(&mut cursor, deadline)?;
            let state = read(&self.state);
            (state.delta.snapshot(), state.levels.clone(), state.manifest(*cursor, &state.levels))
        };
        manifest.levels = encoded(&self.write_delta(&delta, &levels)?);
        self.publish_checkpoint(&manifest, deadline)
    }

    /// Writes a delta as a run. Returns the levels with the run on top.
    pub(crate) fn write_delta(&self, delta: &Delta, levels: &Levels) -> Result<Levels> {
        let deltas = [delta];
        let layers = Layers { deltas: &deltas, levels, files: &self.files };
        let built = flush(delta, self.marker.seed(), |hash| layers.runs_may_hold(hash));
        let mut slices = Vec::with_capacity(built.len());
        for built in &built {
            let id = self.new_id()?;
            self.write_run(id, &built.bytes)?;
            slices.push(Slice::of(id, built));
        }
        Ok(levels.push(slices))
    }

    /// Publishes a checkpoint whose files are written.
    pub(crate) fn publish_checkpoint(&self, manifest: &Manifest, deadline: Deadline) -> Result<()> {
        self.sync_names("run")?;
        self.sync_blobs()?;
        let mut body = BodyBuilder::default();
        body.push(&Record::Checkpoint(&manifest.encode()));
        self.commit(&body, deadline)?;
        let (adopted, at) = {
            let state = read(&self.state);
            (state.covered >= manifest.cursor.position, state.checkpoint_at)
        };
        if adopted {
            self.log.adopted(at);
            self.sweep(at);
        }
        Ok(())
    }

    /// Leaves a checkpoint behind where much would else be replayed by whoever opens the cache next.
    pub(crate) fn checkpoint_at_close(&self, deadline: Deadline) {
        let is_much = {
            let state = read(&self.state);
            let tail = state.position.saturating_sub(state.covered);
            if self.is_local() {
                state.delta.len() >= CLOSE_CHECKPOINT_ENTRIES || tail >= CLOSE_CHECKPOINT_LEN
            } else {
                tail >= CLOSE_CHECKPOINT_COMMITS
            }
        };
        let made = if is_much {
            let turn = self.take_turn();
            if turn.is_some() { self.checkpoint(deadline) } else { Ok(()) }
        } else {
            Ok(())
        };
        // It saves others time, no more: closing does not fail for it.
        if made.and_then(|()| self.name_checkpoint(deadline)).is_err() {
            self.maintenance.due.store(true, Ordering::Relaxed);
        }
    }

    /// Makes the newest commit name the newest checkpoint: who opens the cache is led there by the newest commit, and a checkpoint cannot name
    /// itself (another may have come first). Not where somebody wrote since, whose commit names it or will.
    fn name_checkpoint(&self, deadline: Deadline) -> Result<()> {
        if self.is_local() {
            return Ok(()); // the page of shared memory names it
        }
        let is_newest = {
            let state = read(&self.state);
            state.checkpoint_at > 0 && state.checkpoint_at + 1 == state.position
        };
        if is_newest { self.commit(&BodyBuilder::default(), deadline).map(drop) } else { Ok(()) }
    }

    pub(crate) fn new_id(&self) -> Result<u64> {
        loop {
            match chance::narrow(&*self.options.chance)? {
                Slice::NO_FILE => {}
                id => return Ok(id),
            }
        }
    }

    pub(crate) fn write_run(&self, id: u64, bytes: &[u8]) -> Result<()> {
        let dir = self.dir.join("run");
        write_new(&*self.vfs, &dir, &dir.join(file_name(id)), bytes)
    }

    pub(super) fn sync_names(&self, dir: &str) -> Result<()> {
        let path = self.dir.join(dir);
        if !self.sync_names {
            return Ok(());
        }
        match self.vfs.sync_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()), // nothing was ever in it
            other => other.map_err(|e| Error::io("sync", &path, e)),
        }
    }

    /// Makes the blobs durable that entries since the last checkpoint name, where writers did not wait for that.
    fn sync_blobs(&self) -> Result<()> {
        if !self.is_local() || self.options.durability == Durability::Host {
            return Ok(());
        }
        let ids: Vec<u64> = {
            let state = read(&self.state);
            let blob = |place| if let Place::Blob(id) = place { Some(id) } else { None };
            state.delta.iter().filter(|(_, e)| !e.entry.tombstone).filter_map(|(_, e)| blob(e.entry.value.place)).collect()
        };
        for id in ids {
            match self.blobs.sync(id) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {} // its entry went meanwhile
                other => other?,
            }
        }
        Ok(())
    }
}
