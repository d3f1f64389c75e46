//! What is done along the way of writes, in small steps: checkpoints, merges of index runs, folds of the log, late removal of files.
//!
//! One thread of one process of a host does it at a time (a lock that only guards this, and that others do not wait for). Killed
//! anywhere, it leaves files that nobody names; the next one sweeps them.

mod checkpoint;
mod fold;
mod space;
mod sweep;
mod turn;

use crate::cache::engine::Engine;
use crate::cache::manifest::FoldRef;
use crate::cache::options::Tuning;
use crate::cache::state::State;
use crate::clock::Deadline;
use crate::error::Result;
use crate::format::body::AccessesBuilder;
use crate::format::{BodyBuilder, Record};
use crate::index::{Levels, Slice, Walker};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock, read};
use crate::vfs::VfsFile;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use sweep::Retired;

/// Writers wait once the files take all of the size limit but this part of it, which is what a round copies before its sources go.
const ROUND_SHARE: u64 = 24;
/// Rows that one merge step reads, about.
const STEP_ROWS: u64 = 8192;
/// Bytes of a local log that are not worth a checkpoint, however small the cache must be.
const TAIL_LEN_MIN: u64 = 128 << 10;
/// How many times what is due maintenance may fall behind before writers wait for it a little.
const FAR: usize = 2;
/// Where little lives a checkpoint is due after so many bytes of a local log: the garbage that is not worth it. (Each process of a host replays
/// anew what came after it: with eight of them, checkpoints four times as often doubled the p99 of a set.)
const TAIL_DUE_MIN: u64 = 16 << 20;
/// How long a writer waits that is too far ahead; twice as long for each such part of what it may be ahead.
const PATIENCE_MIN: Duration = Duration::from_millis(10);
const PATIENCE_MAX: Duration = Duration::from_secs(1);
const PATIENCE_STEPS: u64 = 128;
/// How long it waits at most while the thread waits for another process, which may be stopped.
const PATIENCE_OTHERS_MAX: Duration = Duration::from_millis(80);
/// A process reads the whole index for damage that it met at most this often.
const REPAIR_PAUSE: Duration = Duration::from_secs(300);

/// What is due, and who does it.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    busy: AtomicBool,
    due: AtomicBool,
    accesses_due: AtomicBool,
    damage: AtomicBool,
    /// How much is to be written before the next look at what the files take.
    next_look: AtomicU64,
    /// What they took after that was last done something about.
    settled: AtomicU64,
    /// By how much they were over what writers wait for, when somebody last looked.
    over: AtomicU64,
    /// When this process last repaired the index because of damage that it met.
    repaired: Mutex<Option<Duration>>,
    /// Files that nobody names, with when this process first saw them (network drives).
    pub(crate) unnamed: Mutex<BTreeMap<PathBuf, Duration>>,
    /// The length of the delta at which the next step is due, below the flush (0: none is).
    next_step: AtomicUsize,
    /// The same by what lies behind the newest checkpoint, bytes of a local log or commits of a shared one: a delta that is only overwritten
    /// does not grow.
    next_step_tail: AtomicU64,
    /// Where the eviction policy goes on.
    pub(crate) hand: Mutex<Option<(u64, Walker)>>,
    spared: Mutex<Option<AccessesBuilder>>,
    retired: Mutex<VecDeque<(Duration, Retired)>>,
    lock_file: Mutex<Option<Arc<dyn VfsFile>>>,
}

/// How long a writer waits that is far ahead of maintenance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// While the thread of this process is at it.
    pub(crate) for_thread: Duration,
    /// While it waits for another process.
    pub(crate) for_others: Duration,
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
        let step = self.next_step_tail.load(Ordering::Relaxed);
        if commits >= max + patience || (step != 0 && commits >= step) {
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
        let deadline = deadline.min(Deadline::after(&*self.clock, self.options.timeout));
        self.maintenance.due.store(false, Ordering::Relaxed);
        let (len, tail, tail_due) = {
            let state = read(&self.state);
            (state.delta.weight(), state.position.saturating_sub(state.covered), self.checkpoint_tail(&state))
        };
        let full = len >= self.options.delta_entries_max || tail >= tail_due;
        self.limit_segments();
        if self.maintenance.damage.swap(false, Ordering::Relaxed) {
            // What fails now fails again at the next damage that is seen, and is tried again then.
            drop(self.repair_seen(deadline));
        }
        let done = match self.make_room(full, deadline) {
            Ok(false) if full => self.checkpoint(deadline),
            Ok(false) => self.step(deadline).map(drop),
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        if done.is_err() {
            // It stays due; the drive is given a moment first.
            self.maintenance.next_step.store(len + self.options.delta_entries_max / 16 + 1, Ordering::Relaxed);
            self.maintenance.next_step_tail.store(tail + tail_due / 16 + 1, Ordering::Relaxed);
        } else {
            self.plan_next_step();
        }
        self.remove_retired(false);
        drop(turn);
        true
    }

    /// Returns how long a writer waits for maintenance that is done beside it: the longer the further it is ahead. `None`: it is not far ahead.
    pub(crate) fn patience(&self) -> Option<Patience> {
        let state = read(&self.state);
        let ahead = |is: u64, may: u64| is.saturating_sub(may).saturating_mul(PATIENCE_STEPS) / may.max(1);
        let changed = (state.delta.weight() as u64, (self.options.delta_entries_max * FAR) as u64);
        let tail = (state.position.saturating_sub(state.covered), self.tail_due(&state) * FAR as u64);
        let is_far = changed.0 >= changed.1 || tail.0 >= tail.1;
        let over = self.maintenance.over.load(Ordering::Relaxed);
        if !is_far && over == 0 {
            return None;
        }
        let limit = state.tuning.size_limit;
        let files = (limit - limit / ROUND_SHARE).saturating_add(over);
        let over = ahead(files, limit);
        let time = |steps: u64, most: Duration| (PATIENCE_MIN * (1 << steps.min(16))).min(most);
        Some(Patience {
            for_thread: time(ahead(changed.0, changed.1).max(ahead(tail.0, tail.1)).max(over), PATIENCE_MAX),
            for_others: time(over, PATIENCE_OTHERS_MAX),
        })
    }

    /// Returns how many bytes of a local log may lie behind the newest checkpoint before writers wait.
    #[inline]
    pub(crate) fn tail_max(&self, tuning: &Tuning) -> u64 {
        self.options.tail_len_max.min((tuning.size_limit / 32).max(TAIL_LEN_MIN))
    }

    /// Returns how many bytes of a local log may lie behind the newest checkpoint before another is due: few where little lives, because what
    /// they replaced cannot go before.
    #[inline]
    pub(crate) fn tail_due(&self, state: &State) -> u64 {
        let max = self.tail_max(&state.tuning);
        (state.counters.live_bytes / 4).clamp(TAIL_DUE_MIN.min(max), max)
    }

    /// Returns how much may lie behind the newest checkpoint before another is made: bytes of a local log, commits of a shared one.
    fn checkpoint_tail(&self, state: &State) -> u64 {
        if self.is_local() { self.tail_due(state) } else { self.options.checkpoint_commits }
    }

    /// Keeps the segments of a local log small beside what may lie behind a checkpoint.
    pub(crate) fn limit_segments(&self) {
        if let Some(local) = &self.local {
            local.limit_segments(self.tail_due(&read(&self.state)) / 4);
        }
    }

    /// Does so for settings that are not stored yet, which the first segment already holds.
    pub(crate) fn limit_segments_for(&self, tuning: &Tuning) {
        if let Some(local) = &self.local {
            local.limit_segments(self.tail_max(tuning) / 4);
        }
    }

    /// Spreads the merges that are due over the writes until the next checkpoint.
    fn plan_next_step(&self) {
        let (len, tail, tail_due, debt) = {
            let state = read(&self.state);
            let debt = state.levels.debt() + if self.commits_wait(&state) { STEP_ROWS } else { 0 };
            (state.delta.weight(), state.position.saturating_sub(state.covered), self.checkpoint_tail(&state), debt)
        };
        let steps = debt.div_ceil(STEP_ROWS);
        let room = self.options.delta_entries_max.saturating_sub(len) as u64;
        let (next, next_tail) = if steps == 0 {
            (0, 0)
        } else {
            (len as u64 + (room / (steps + 1)).max(1), tail + (tail_due.saturating_sub(tail) / (steps + 1)).max(1))
        };
        self.maintenance.next_step.store(usize::try_from(next).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.maintenance.next_step_tail.store(next_tail, Ordering::Relaxed);
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
}

/// Returns the ids of all files that a state names, runs and folds, with their lengths.
pub(crate) fn named(levels: &Levels, folds: &[FoldRef]) -> impl Iterator<Item = (u64, u64)> {
    let slices = levels.runs().iter().flat_map(|run| run.slices()).filter(|slice| slice.file != Slice::NO_FILE);
    slices.map(|slice| (slice.file, slice.file_len)).chain(folds.iter().map(|fold| (fold.id, fold.len))).collect::<Vec<_>>().into_iter()
}
