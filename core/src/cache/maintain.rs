//! What is done along the way of writes, in small steps: checkpoints, merges of index runs, folds of the log, late removal of files.
//!
//! One thread of one process of a host does it at a time (a lock that only guards this, and that others do not wait for). Killed
//! anywhere, it leaves files that nobody names; the next one sweeps them.

use crate::cache::engine::Engine;
use crate::cache::manifest::{FoldNote, FoldRef, Manifest};
use crate::cache::options::Durability;
use crate::cache::state::{State, encoded, levels_sum};
use crate::chance;
use crate::clock::Deadline;
use crate::compaction::FoldFiles;
use crate::compaction::fold::{FoldBuilder, fold_order, write_new};
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::AccessesBuilder;
use crate::format::{BodyBuilder, Place, Record};
use crate::index::{Delta, Direction, Layers, Levels, MergeStep, Order, Slice, Span, Walker, file_name, flush};
use crate::log::local::LocalLog;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock, read, write};
use crate::vfs::{OpenMode, VfsFile};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Rows that one merge step reads, about.
const STEP_ROWS: u64 = 8192;
/// Bytes of a local log that are not worth a checkpoint, however small the cache must be.
const TAIL_LEN_MIN: u64 = 256 << 10;
/// How long a caller that asked for maintenance waits for its turn, and how it looks.
const TURN_WAIT: Duration = Duration::from_secs(2);
const TURN_PAUSE: Duration = Duration::from_micros(500);
/// How many times what is due maintenance may fall behind before writers wait for it a little.
const FAR: usize = 2;
/// Live bytes that a fold gathers, about: what one step may copy.
const FOLD_LEN: u64 = 4 << 20;
/// A fold is not worth its copying while at least so much of its part of the log lives, in hundredths.
const FOLD_LIVE_MAX: u64 = 90;
/// In shared mode a process that closes after this many commits leaves a checkpoint.
const CLOSE_CHECKPOINT_COMMITS: u64 = 4;
/// In local mode one that leaves so many changed entries, or so many bytes of the log, to be replayed: a millisecond's work, about.
const CLOSE_CHECKPOINT_ENTRIES: usize = 2048;
const CLOSE_CHECKPOINT_LEN: u64 = 4 << 20;
/// On network drives a file that others may still be reading stays this long.
const RETIRED_GRACE: Duration = Duration::from_secs(60);

/// Of writes that evict, one in so many looks whether the files are within the size limit.
const EVICTIONS_A_LOOK: usize = 64;
/// Folds that one write makes at most to bring them there, each of about [`FOLD_LEN`].
const COMPACTION_FOLDS: usize = 8;

/// A process reads the whole index for damage that it met at most this often.
const REPAIR_PAUSE: Duration = Duration::from_secs(300);

/// A file that goes later.
#[derive(Debug, Clone, Copy)]
enum Retired {
    Blob(u64),
    Run(u64),
    Fold(u64),
}

/// What is due, and who does it.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    busy: AtomicBool,
    due: AtomicBool,
    accesses_due: AtomicBool,
    damage: AtomicBool,
    /// The files take more than the size limit.
    bulky: AtomicBool,
    /// Writes that evicted, to look at the files now and then only.
    evicting: AtomicUsize,
    /// What the files took after that was last done something about.
    compacted_to: AtomicU64,
    /// When this process last repaired the index because of damage that it met.
    repaired: Mutex<Option<Duration>>,
    /// Files that nobody names, with when this process first saw them (network drives).
    pub(crate) unnamed: Mutex<BTreeMap<PathBuf, Duration>>,
    /// The length of the delta at which the next step is due, below the flush (0: none is).
    next_step: AtomicUsize,
    /// The same by the bytes of a local log behind the newest checkpoint: a delta that is only overwritten does not grow.
    next_step_tail: AtomicU64,
    /// Where the eviction policy goes on.
    pub(crate) hand: Mutex<Option<(u64, Walker)>>,
    spared: Mutex<Option<AccessesBuilder>>,
    retired: Mutex<VecDeque<(Duration, Retired)>>,
    lock_file: Mutex<Option<Arc<dyn VfsFile>>>,
}

impl Maintenance {
    /// Takes note of how long the delta is.
    #[inline]
    pub(crate) fn delta_is(&self, len: usize, max: usize) {
        let step = self.next_step.load(Ordering::Relaxed);
        if len >= max || (step != 0 && len >= step) {
            self.due.store(true, Ordering::Relaxed);
        }
    }

    /// Takes note of how many bytes of a local log no checkpoint covers: a newcomer replays them, and nothing of them can be folded.
    #[inline]
    pub(crate) fn tail_is(&self, bytes: u64, max: u64) {
        let step = self.next_step_tail.load(Ordering::Relaxed);
        if bytes >= max || (step != 0 && bytes >= step) {
            self.due.store(true, Ordering::Relaxed);
        }
    }

    /// Takes note of how many commits a newcomer would read one by one (shared mode). Processes differ in when they think it too many, so
    /// that not all of them make a checkpoint at once.
    pub(crate) fn commits_are(&self, commits: u64, max: u64, me: u128) {
        let patience = u64::try_from(me % u128::from(max.max(1))).unwrap_or(0);
        if commits >= max + patience {
            self.due.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    pub(crate) fn accesses_wait(&self) {
        self.accesses_due.store(true, Ordering::Relaxed);
    }

    /// Takes note of a write that evicts: what is evicted frees nothing before it is folded away.
    pub(crate) fn evicts(&self, engine: &Engine) {
        if !engine.is_local() || !self.evicting.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVICTIONS_A_LOOK) {
            return;
        }
        let state = read(&engine.state);
        let (limit, volume) = (state.tuning.size_limit, engine.volume(&state));
        // A little below: what is written until it is folded away comes on top. Not again before it was worth it.
        if volume > limit / 8 * 7 && volume > self.compacted_to.load(Ordering::Relaxed).saturating_add(limit / 16) {
            self.bulky.store(true, Ordering::Relaxed);
            self.due.store(true, Ordering::Relaxed);
        }
    }

    /// Takes note of damage in the index: the next step looks after it.
    pub(crate) fn damage_seen(&self) {
        self.damage.store(true, Ordering::Relaxed);
        self.due.store(true, Ordering::Relaxed);
    }

    /// Takes the noted reads, along with the marks that the policy cleared.
    pub(crate) fn take_accesses(&self, engine: &Engine) -> Option<AccessesBuilder> {
        if let Some(spared) = lock(&self.spared).take() {
            return Some(spared);
        }
        if !read(&engine.state).tuning.policy.needs_accesses() {
            return None;
        }
        self.accesses_due.store(false, Ordering::Relaxed);
        engine.accesses.take()
    }

    pub(crate) fn spare(&self, spared: AccessesBuilder) {
        *lock(&self.spared) = Some(spared);
    }

    /// Removes a blob that no entry names any more: at once on a local disk, later on a network drive.
    pub(crate) fn retire_blob(&self, engine: &Engine, id: u64) {
        if engine.is_local() {
            engine.blobs.remove(id);
            if read(&engine.state).counters.blobs == 0 {
                engine.blobs.remove_folder();
            }
        } else {
            lock(&self.retired).push_back((engine.clock.boot(), Retired::Blob(id)));
        }
    }

    /// Gives up what is held for maintenance.
    pub(crate) fn close(&self, engine: &Engine) {
        engine.remove_retired(true);
        *lock(&self.lock_file) = None;
    }
}

/// The right to do maintenance.
pub(crate) struct Turn<'a> {
    engine: &'a Engine,
    file: Option<Arc<dyn VfsFile>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // A lock that cannot be given back is gone with its descriptor.
            *lock(&self.engine.maintenance.lock_file) = file.unlock().ok().map(|()| Arc::clone(file));
        }
        self.engine.maintenance.busy.store(false, Ordering::Release);
    }
}

impl Engine {
    /// Does what is due after a read: writes the noted reads once they are many.
    #[inline]
    pub(crate) fn after_read(&self) {
        if self.maintenance.accesses_due.load(Ordering::Relaxed) && !self.options.read_only && !self.transaction.is_mine() {
            self.write_accesses();
        }
    }

    #[cold]
    fn write_accesses(&self) {
        self.maintenance.accesses_due.store(false, Ordering::Relaxed);
        let Some(list) = self.accesses.take() else { return };
        let mut body = BodyBuilder::default();
        body.push(&Record::Accessed(list.list()));
        // Hints: what cannot be written now is lost, and no read fails for it.
        drop(self.commit(&body, self.deadline()));
    }

    /// Does what is due after a write. Nothing of it can make the write fail: it is done already.
    #[inline]
    pub(crate) fn after_write(&self, deadline: Deadline) {
        if self.maintenance.is_due() && !self.transaction.is_mine() {
            self.maintain_somewhere(deadline);
        }
    }

    #[cold]
    fn maintain_somewhere(&self, deadline: Deadline) {
        if !self.maintain_beside(deadline) {
            self.maintain(deadline);
        }
    }

    /// Does one step of what is due. `false` if somebody else is at it.
    pub(crate) fn maintain(&self, deadline: Deadline) -> bool {
        let Some(turn) = self.take_turn() else { return false };
        let deadline = deadline.min(self.deadline());
        self.maintenance.due.store(false, Ordering::Relaxed);
        let (len, tail, tail_max) = {
            let state = read(&self.state);
            let tail_max = if self.is_local() { self.tail_max(&state) } else { self.options.checkpoint_commits };
            (state.delta.len(), state.position.saturating_sub(state.covered), tail_max)
        };
        let full = len >= self.options.delta_entries_max || tail >= tail_max;
        self.limit_segments();
        if self.maintenance.damage.swap(false, Ordering::Relaxed) {
            // What fails now fails again at the next damage that is seen, and is tried again then.
            drop(self.repair_seen(deadline));
        }
        let bulky = self.maintenance.bulky.swap(false, Ordering::Relaxed);
        let done = if bulky {
            self.compact_in_turn(COMPACTION_FOLDS, || true).map(|()| true)
        } else if full {
            self.checkpoint(deadline).map(|_| true)
        } else {
            self.step(deadline)
        };
        if done.is_err() {
            // It stays due; the drive is given a moment first.
            self.maintenance.next_step.store(len + self.options.delta_entries_max / 16 + 1, Ordering::Relaxed);
            self.maintenance.next_step_tail.store(tail + tail_max / 16 + 1, Ordering::Relaxed);
        } else {
            self.plan_next_step();
        }
        self.remove_retired(false);
        drop(turn);
        true
    }

    /// Returns whether a thread of this process is doing maintenance.
    pub(crate) fn is_maintaining(&self) -> bool {
        self.maintenance.busy.load(Ordering::Acquire)
    }

    /// Returns whether writers are far ahead of the thread that does maintenance beside them.
    pub(crate) fn is_far_behind(&self) -> bool {
        let state = read(&self.state);
        state.delta.len() >= self.options.delta_entries_max * FAR
            || state.position.saturating_sub(state.covered) >= self.tail_max(&state) * FAR as u64
    }

    /// Returns how many bytes of a local log may lie behind the newest checkpoint.
    #[inline]
    pub(crate) fn tail_max(&self, state: &State) -> u64 {
        self.options.tail_len_max.min((state.tuning.size_limit / 32).max(TAIL_LEN_MIN))
    }

    /// Keeps the segments of a local log small beside what may lie behind a checkpoint.
    pub(crate) fn limit_segments(&self) {
        if let Some(local) = &self.local {
            local.limit_segments(self.tail_max(&read(&self.state)) / 4);
        }
    }

    /// Leaves a checkpoint behind where much would else be replayed by whoever opens the cache next.
    pub(crate) fn checkpoint_at_close(&self) {
        let is_much = {
            let state = read(&self.state);
            let tail = state.position.saturating_sub(state.covered);
            if self.is_local() {
                state.delta.len() >= CLOSE_CHECKPOINT_ENTRIES || tail >= CLOSE_CHECKPOINT_LEN
            } else {
                tail >= CLOSE_CHECKPOINT_COMMITS
            }
        };
        let deadline = self.deadline();
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

    pub(crate) fn take_turn(&self) -> Option<Turn<'_>> {
        if self.maintenance.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        let mut turn = Turn { engine: self, file: None };
        if !self.is_local() {
            return Some(turn);
        }
        let kept = lock(&self.maintenance.lock_file).take();
        let file = match kept {
            Some(file) => file,
            None => self.open_turn_file()?,
        };
        match file.try_lock() {
            Ok(true) => {
                turn.file = Some(file);
                Some(turn)
            }
            Ok(false) => {
                *lock(&self.maintenance.lock_file) = Some(file);
                None
            }
            Err(_) => None,
        }
    }

    /// Opens the file whose lock says who does maintenance; a forked child loses it, and with it the lock.
    fn open_turn_file(&self) -> Option<Arc<dyn VfsFile>> {
        let hold = crate::fork::hold();
        let file = self.vfs.open(&self.dir.join("maintain"), OpenMode::Create).ok()?;
        if let Some(fd) = file.raw_fd() {
            crate::fork::close_in_child(fd).ok()?;
        }
        drop(hold);
        Some(file)
    }

    /// Spreads the steps that are due over the writes until the next checkpoint.
    fn plan_next_step(&self) {
        let (len, tail, tail_max, debt) = {
            let state = read(&self.state);
            let debt = state.levels.debt() + if self.garbage_is_over(&state) { STEP_ROWS } else { 0 };
            (state.delta.len(), state.position.saturating_sub(state.covered), self.tail_max(&state), debt)
        };
        let steps = debt.div_ceil(STEP_ROWS);
        let room = self.options.delta_entries_max.saturating_sub(len) as u64;
        let (next, next_tail) = if steps == 0 {
            (0, 0)
        } else {
            (len as u64 + (room / (steps + 1)).max(1), tail + (tail_max.saturating_sub(tail) / (steps + 1)).max(1))
        };
        self.maintenance.next_step.store(usize::try_from(next).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.maintenance.next_step_tail.store(next_tail, Ordering::Relaxed);
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

    fn sync_names(&self, dir: &str) -> Result<()> {
        let path = self.dir.join(dir);
        if self.sync_names && self.vfs.stat(&path).is_ok() {
            self.vfs.sync_dir(&path).map_err(|e| Error::io("sync", &path, e))
        } else {
            Ok(())
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

    /// Writes the delta as a run, and publishes a checkpoint that names it.
    pub(crate) fn checkpoint(&self, deadline: Deadline) -> Result<()> {
        // Most of what must be durable before the checkpoint is made so now: the commits that come in between are replayed once more.
        self.log.sync()?;
        // Writers wait for the copy alone, not for the run that is made of it.
        let (delta, levels, mut manifest) = {
            let cursor = self.lock_cursor(deadline)?;
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
        // What the checkpoint covers must not be lost when the machine goes down, or it would name bytes that are not there. The checkpoint
        // before this one is durable with it.
        self.log.sync()?;
        let mut body = BodyBuilder::default();
        body.push(&Record::Checkpoint(&manifest.encode()));
        self.commit(&body, deadline)?;
        let (adopted, at) = {
            let state = read(&self.state);
            (state.covered >= manifest.cursor.position, state.checkpoint_at)
        };
        if adopted {
            self.log.adopted(at);
        }
        self.sweep();
        Ok(())
    }

    /// Repairs the index; not often, for what was given up as lost is met again and again, and reading all of it takes time.
    fn repair_seen(&self, deadline: Deadline) -> Result<()> {
        let now = self.clock.boot();
        let last = lock(&self.maintenance.repaired).replace(now);
        if last.is_some_and(|last| now.saturating_sub(last) < REPAIR_PAUSE) {
            *lock(&self.maintenance.repaired) = last;
            return Ok(());
        }
        self.repair_index(true, deadline).map(drop)
    }

    /// Makes one step of merging or folding. Returns whether there was one to make.
    fn step(&self, deadline: Deadline) -> Result<bool> {
        Ok(self.merge_step(deadline)? || self.fold_step(false, deadline)?)
    }

    fn merge_step(&self, deadline: Deadline) -> Result<bool> {
        let levels = read(&self.state).levels.clone();
        let step = levels.plan();
        self.merge(&levels, step, deadline)
    }

    fn merge(&self, levels: &Levels, step: Option<MergeStep>, deadline: Deadline) -> Result<bool> {
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
    fn garbage_is_over(&self, state: &State) -> bool {
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
    fn fold_step(&self, any: bool, deadline: Deadline) -> Result<bool> {
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
    fn is_mostly_dead(&self) -> bool {
        let state = read(&self.state);
        state.levels.rows() > 2 * state.counters.count
    }

    /// Waits a little for the right to do maintenance: a thread of this process, or another process, may be at it.
    fn wait_for_turn(&self) -> Option<Turn<'_>> {
        let deadline = Deadline::after(&*self.clock, TURN_WAIT);
        loop {
            if let Some(turn) = self.take_turn() {
                return Some(turn);
            }
            if deadline.passed(&*self.clock) {
                return None;
            }
            self.clock.sleep(TURN_PAUSE);
        }
    }

    fn compact_in_turn(&self, folds_max: usize, is_over: impl Fn() -> bool) -> Result<()> {
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

    fn retire_if_unnamed(&self, retired: Retired) {
        lock(&self.maintenance.retired).push_back((self.clock.boot(), retired));
    }

    /// Removes files whose time has come.
    fn remove_retired(&self, all: bool) {
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
    fn sweep(&self) {
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
fn live_within(usage: &crate::cache::manifest::Usage, bits: u32, from: u64, to: u64) -> u64 {
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

/// Returns the ids of all files that a state names: runs and folds.
pub(crate) fn named(levels: &Levels, folds: &[FoldRef]) -> impl Iterator<Item = u64> {
    levels.files().chain(folds.iter().map(|f| f.id)).collect::<Vec<_>>().into_iter()
}
