//! One process's hold on a cache: the log, the state replayed from it, and how calls meet them.
//!
//! Locks, in the order in which they are taken: the log's exclusive lock (local mode), `cursor` (who replays), `state`. Nothing waits for
//! a drive or for another process while it holds `state`.

use crate::blob::Blobs;
use crate::cache::accesses::Accesses;
use crate::cache::apply::Outcome;
use crate::cache::group::Group;
use crate::cache::maintain::Maintenance;
use crate::cache::manifest::{FoldRef, Manifest};
use crate::cache::open::Doors;
use crate::cache::options::{Durability, Options};
use crate::cache::state::{Applied, Rebuild, State};
use crate::cache::transact::Transactions;
use crate::cache::worker::Worker;
use crate::clock::{Clock, Deadline};
use crate::compaction::FoldFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::format::marker::Mode;
use crate::format::{BodyBuilder, Marker, Record};
use crate::index::{Doorkeeper, RunFiles};
use crate::log::local::LocalLog;
use crate::log::{Commit, Cursor, Log, Progress, Proposal, Published, Replay};
use crate::publish::Replayed;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, RwLock, lock, read, write};
use crate::vfs::{Vfs, bounded};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a thread sleeps between looks at something that another thread of this process holds.
const NAP: Duration = Duration::from_micros(200);

/// A file of the index that cannot be found for this long is gone.
const ABSENCE: Duration = Duration::from_secs(3);
/// The same on a local disk.
const ABSENCE_LOCAL: Duration = Duration::from_millis(10);

/// A cache as one process has it open.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) doors: Doors,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) marker: Marker,
    pub(crate) options: Options,
    /// Identifies the running kernel.
    pub(crate) boot: u64,
    /// Names this process in holds.
    pub(crate) me: u128,
    pub(crate) log: Arc<dyn Log>,
    /// The same log, in local mode.
    pub(crate) local: Option<Arc<LocalLog>>,
    pub(crate) state: RwLock<State>,
    pub(crate) cursor: Mutex<Cursor>,
    /// The position that `state` has reached.
    pub(crate) replayed: Replayed,
    /// When the drive was last looked at, in microseconds of boot time plus one; 0: never.
    pub(crate) looked: AtomicU64,
    pub(crate) files: Arc<RunFiles>,
    pub(crate) folds: FoldFiles,
    pub(crate) blobs: Blobs,
    /// Directories need a sync of their own for names to be durable.
    pub(crate) sync_names: bool,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    /// Reads that met damaged bytes.
    pub(crate) damaged: AtomicU64,
    pub(crate) accesses: Accesses,
    /// Which keys of the runs are looked up again and again.
    pub(crate) doorkeeper: Doorkeeper,
    pub(crate) group: Group,
    pub(crate) maintenance: Maintenance,
    pub(crate) worker: Worker,
    pub(crate) transaction: Transactions,
    pub(crate) closed: AtomicBool,
}

/// What came of a commit.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) outcomes: Vec<Outcome>,
    /// It did not count: it was decided on another state.
    pub(crate) void: bool,
    /// The folds right after it, if it removed something: what it removed can be read by them. (A later fold leaves it out.)
    pub(crate) folds: Vec<FoldRef>,
}

/// Replays into the state that everybody sees, one commit at a time.
struct Live<'a> {
    engine: &'a Engine,
    applied: Applied,
    checkpoint: Option<(Manifest, u64)>,
}

impl Replay for Live<'_> {
    fn commit(&mut self, commit: &Commit<'_>) {
        let mut state = write(&self.engine.state);
        let damaged_lookups = state.damaged_lookups;
        self.applied = state.replay(commit, &*self.engine.clock);
        if state.damaged_lookups != damaged_lookups {
            self.engine.maintenance.damage_seen();
        }
        self.checkpoint = self.applied.checkpoint.take().or(self.checkpoint.take());
        let engine = self.engine;
        engine.maintenance.delta_is(state.delta.weight(), engine.options.delta_entries_max);
        let tail = state.position.saturating_sub(state.covered);
        if engine.is_local() {
            engine.maintenance.tail_is(tail, engine.tail_due(&state));
            engine.look_at_space(&state);
        } else {
            engine.maintenance.commits_are(tail, engine.options.checkpoint_commits, engine.me);
        }
        // A state that is guesswork has reached nothing: the next look makes it anew.
        let reached = if state.broken.is_some() { 0 } else { commit.next };
        engine.replayed.reached(reached);
    }

    fn damaged(&mut self, position: u64, next: u64, _why: &Error) {
        write(&self.engine.state).skip_damaged(position, next);
        self.engine.replayed.reached(next);
    }

    fn may_pass_damage(&self) -> bool {
        self.engine.is_local()
    }

    fn is_sound(&self) -> bool {
        // What comes after a checkpoint is to be answered from it: it may leave out what was replayed here (between hosts), and what only the
        // state before it needs may be gone.
        read(&self.engine.state).broken.is_none() && self.checkpoint.is_none()
    }

    fn may_publish(&self) -> bool {
        read(&self.engine.state).held_for(self.engine.me, &*self.engine.clock).is_none()
    }
}

/// The exclusive lock of a local log, which is held; it is given back with this.
struct Exclusive<'a>(&'a Engine);

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        self.0.log.end_exclusive();
    }
}

impl Engine {
    /// Returns the deadline of what begins now. What this thread asks of a drive that may not answer has it from here on, too.
    pub(crate) fn deadline(&self) -> Deadline {
        let deadline = Deadline::after(&*self.clock, self.options.timeout);
        if self.doors.is_bounded {
            bounded::renew(deadline);
        }
        deadline
    }

    pub(crate) const fn is_local(&self) -> bool {
        matches!(self.marker.mode, Mode::Local)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) { Err(Error::new(ErrorKind::Closed, "the cache was closed:").at(&self.dir)) } else { Ok(()) }
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.options.read_only {
            return Err(Error::new(ErrorKind::Refused, "the cache was opened read-only:").at(&self.dir));
        }
        Ok(())
    }

    /// Returns whether nothing is known to be published that the state does not have. Local mode: one atomic load.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.local.as_ref().is_some_and(|local| self.replayed.has_all(|| local.end()))
    }

    /// Makes the state as recent as the options ask.
    pub(crate) fn freshen(&self, deadline: Deadline) -> Result<()> {
        if self.is_fresh() || self.is_recent_enough() {
            return Ok(());
        }
        let position = self.replayed.position();
        if !self.is_local() && !self.log.is_behind(Cursor { position, chain: 0 }, deadline)? {
            self.note_look();
            return Ok(());
        }
        let mut cursor = self.lock_cursor(deadline)?;
        self.catch_up(&mut cursor, deadline)?;
        self.note_look();
        Ok(())
    }

    /// As [`Self::freshen`], unless that would wait: then `false`.
    #[inline]
    pub(crate) fn try_freshen(&self) -> Result<bool> {
        if self.is_fresh() || self.is_recent_enough() {
            return Ok(true);
        }
        match (&self.local, self.cursor.try_lock()) {
            (Some(_), Ok(mut cursor)) => self.catch_up(&mut cursor, self.deadline()).map(|()| true),
            _ => Ok(false),
        }
    }

    fn is_recent_enough(&self) -> bool {
        let (Some(limit), looked) = (self.options.max_staleness, self.looked.load(Ordering::Relaxed)) else { return false };
        // A state that is guesswork has reached nothing.
        !self.is_local()
            && looked != 0
            && self.replayed.position() != 0
            && self.clock.boot().saturating_sub(Duration::from_micros(looked - 1)) <= limit
    }

    pub(crate) fn note_look(&self) {
        if self.options.max_staleness.is_some() {
            let micros = u64::try_from(self.clock.boot().as_micros()).unwrap_or(u64::MAX - 1);
            self.looked.store(micros + 1, Ordering::Relaxed);
        }
    }

    /// Waits for the right to replay.
    pub(crate) fn lock_cursor(&self, deadline: Deadline) -> Result<MutexGuard<'_, Cursor>> {
        if self.is_local() {
            return Ok(lock(&self.cursor)); // held for moments only, never while waiting for another process
        }
        loop {
            match self.cursor.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(std::sync::TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) if deadline.passed(&*self.clock) => {
                    let what = "another thread waited for the drive for the whole timeout:";
                    return Err(Error::new(ErrorKind::Timeout, what).at(&self.dir));
                }
                Err(std::sync::TryLockError::WouldBlock) => self.clock.sleep(NAP),
            }
        }
    }

    /// Replays what was published.
    pub(crate) fn catch_up(&self, cursor: &mut Cursor, deadline: Deadline) -> Result<()> {
        loop {
            self.mend_state(cursor, deadline)?;
            let mut live = Live { engine: self, applied: Applied::default(), checkpoint: None };
            let progress = self.log.catch_up(cursor, &mut live, deadline);
            self.adopt(live.checkpoint.take(), cursor, deadline);
            match progress? {
                Progress::UpToDate if read(&self.state).broken.is_none() => return Ok(()),
                Progress::UpToDate => {}
                Progress::Gone => self.reload(cursor, deadline)?,
            }
            if deadline.passed(&*self.clock) {
                return Err(Error::new(ErrorKind::Timeout, "could not catch up with the log in time:").at(&self.dir));
            }
        }
    }

    /// Returns whether the state of a local cache is to be made anew, from a newer checkpoint or because it is broken: that takes a while.
    #[inline]
    pub(crate) fn is_state_old(&self) -> bool {
        self.local.as_ref().is_some_and(|local| {
            let state = read(&self.state);
            local.latest_checkpoint() > state.checkpoint_at || state.broken.is_some()
        })
    }

    /// Makes the state of a local cache anew if need be, before others wait for the lock that the caller is about to take.
    pub(crate) fn renew_state(&self, deadline: Deadline) -> Result<()> {
        if !self.is_state_old() {
            return Ok(());
        }
        let mut cursor = self.lock_cursor(deadline)?;
        self.catch_up(&mut cursor, deadline)
    }

    /// Makes the state anew if the drive failed while something was replayed into it, or refused what was to be said of damage.
    fn mend_state(&self, cursor: &mut Cursor, deadline: Deadline) -> Result<()> {
        let unsound = {
            let state = read(&self.state);
            state.broken.is_some() || (state.doubt.is_some() && !self.options.read_only)
        };
        if unsound { self.reload(cursor, deadline) } else { Ok(()) }
    }

    /// Adopts a checkpoint that was made of an older position: its state, and the commits since then replayed on it, as everybody does.
    /// So processes that disagreed (one read a commit before it was damaged, another after) agree again. If it cannot be done now, the
    /// state is made anew before it is used again (on a local disk it stays as it was replayed).
    fn adopt(&self, checkpoint: Option<(Manifest, u64)>, cursor: &mut Cursor, deadline: Deadline) {
        let Some((manifest, at)) = checkpoint else { return };
        let target = cursor.position;
        let from = manifest.cursor;
        let mut again = from;
        let Ok(mut state) = State::of(manifest, at, Arc::clone(&self.files)) else { return };
        let behind = || Error::new(ErrorKind::Damaged, "a part of the log could not be read again:").at(&self.dir);
        let done = self.replay_into(&mut state, &mut again, deadline);
        let done = done.and_then(|()| if again.position < target || state.doubt.is_some() { Err(behind()) } else { Ok(()) });
        if let Err(error) = done {
            // Everybody else goes on from the checkpoint: so must we, before the next answer. What only the state before it needs may be gone.
            write(&self.state).broken = Some(error);
            self.replayed.reached(0);
            return;
        }
        let mut current = write(&self.state);
        state.inherit(&current);
        state.take_over(&mut current, from.position);
        *current = state;
        self.replayed.reached(again.position);
        drop(current);
        *cursor = again;
    }

    /// Replays into a state that nobody sees yet.
    fn replay_into(&self, state: &mut State, cursor: &mut Cursor, deadline: Deadline) -> Result<()> {
        let mut rebuild = Rebuild { state, clock: &*self.clock, checkpoint: None };
        loop {
            let progress = self.log.catch_up(cursor, &mut rebuild, deadline)?;
            let Some((manifest, at)) = rebuild.checkpoint.take() else {
                return match (progress, rebuild.state.broken.take()) {
                    (_, Some(error)) => Err(error),
                    (Progress::UpToDate, None) => Ok(()),
                    (Progress::Gone, None) => {
                        Err(Error::new(ErrorKind::Damaged, "a part of the log went while it was replayed:").at(&self.dir))
                    }
                };
            };
            let from = manifest.cursor;
            if let Ok(newer) = State::of(manifest, at, Arc::clone(&self.files)) {
                let believes_absence = rebuild.state.believes_absence;
                *rebuild.state = newer;
                rebuild.state.believes_absence = believes_absence;
                *cursor = from;
            }
        }
    }

    pub(crate) fn install(&self, mut state: State, cursor: Cursor) {
        let mut current = write(&self.state);
        state.inherit_hold(&current);
        *current = state;
        self.replayed.reached(cursor.position);
    }

    /// Starts again from the newest checkpoint.
    pub(crate) fn reload(&self, cursor: &mut Cursor, deadline: Deadline) -> Result<()> {
        let (state, from) = self.load(deadline)?;
        self.install(state, from);
        *cursor = from;
        Ok(())
    }

    /// Returns the newest state that can be had, with everything replayed that is published.
    pub(crate) fn load(&self, deadline: Deadline) -> Result<(State, Cursor)> {
        let begun = self.clock.boot();
        let mut pause = NAP * 50;
        loop {
            let start = self.log.start(deadline)?;
            let manifest = start.checkpoint.as_deref().and_then(|bytes| Manifest::parse(bytes).ok());
            // One that says it holds what comes after it is a lie.
            let manifest = manifest.filter(|manifest| manifest.cursor.position <= start.at);
            let (mut state, mut cursor) = match manifest {
                Some(manifest) => {
                    let cursor = manifest.cursor;
                    (State::of(manifest, start.at, Arc::clone(&self.files))?, cursor)
                }
                None => {
                    let cursor = Cursor { position: start.at, chain: 0 };
                    (State::empty(Arc::clone(&self.files), cursor.position), cursor)
                }
            };
            // Absence is not believed at once: the drive may remember a name wrongly, or a handle may have gone stale; on a local disk, a
            // checkpoint that was just replaced may have led here.
            let patience = if self.is_local() { ABSENCE_LOCAL } else { ABSENCE };
            state.believes_absence = self.clock.boot().saturating_sub(begun) >= patience;
            match self.replay_into(&mut state, &mut cursor, deadline) {
                Ok(()) if state.doubt.is_some() && self.settle_doubt(&mut state, &mut cursor, deadline)? => {}
                Ok(()) => return Ok((state, cursor)),
                Err(error) if deadline.passed(&*self.clock) => return Err(error),
                Err(error) if error.kind() == ErrorKind::Damaged => self.clock.sleep(NAP),
                // A local disk that fails goes on failing; a network drive may be back in a moment.
                Err(error) if error.kind() == ErrorKind::Io && !self.is_local() => {
                    self.clock.sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says in the log what everybody is to make of a commit that cannot be read: publishes a checkpoint of the state without it. Others may have read
    /// it before it was damaged, and their answers since may rest on it; so nobody decides that alone, and nothing is answered from such a
    /// state before. Returns whether the log is to be read again; `false` where nothing can be published.
    fn settle_doubt(&self, state: &mut State, cursor: &mut Cursor, deadline: Deadline) -> Result<bool> {
        if self.options.read_only {
            return Ok(false);
        }
        match self.publish_state(state, cursor, deadline) {
            Ok(()) => Ok(true),
            // A full drive, or one that others alone may write to: nothing that depends on it will be published either.
            Err(error) if error.kind() == ErrorKind::Io => Ok(false),
            // The caller's own operation was not tried yet, and a checkpoint that comes later does no harm.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Err(error.with_kind(ErrorKind::Timeout)),
            Err(error) => Err(error),
        }
    }

    fn publish_state(&self, state: &mut State, cursor: &mut Cursor, deadline: Deadline) -> Result<()> {
        let manifest = state.manifest(*cursor, &self.write_delta(&state.delta, &state.levels)?);
        let mut body = BodyBuilder::default();
        body.push(&Record::Checkpoint(&manifest.encode()));
        let proposal = Proposal { body: &body, decided_on: None, durable: true, quiet: false, checkpoint: state.checkpoint_at };
        let mut rebuild = Rebuild { state, clock: &*self.clock, checkpoint: None };
        self.log.publish(cursor, proposal, &mut rebuild, deadline).map(drop)
    }

    /// Publishes a commit and returns what came of it. The caller holds the exclusive lock in local mode.
    pub(crate) fn publish(&self, body: &BodyBuilder, decided_on: Option<u64>, deadline: Deadline) -> Result<Committed> {
        self.publish_as(body, decided_on, false, None, deadline)
    }

    /// The same for what nobody is told of (see [`Proposal::quiet`]).
    pub(crate) fn publish_quietly(&self, body: &BodyBuilder, deadline: Deadline) -> Result<Committed> {
        self.publish_as(body, None, true, None, deadline)
    }

    /// Gives `lock` back as soon as the commit is made: taking over a checkpoint that it met takes a while.
    fn publish_as(
        &self,
        body: &BodyBuilder,
        decided_on: Option<u64>,
        quiet: bool,
        mut lock: Option<Exclusive<'_>>,
        deadline: Deadline,
    ) -> Result<Committed> {
        let durable = self.options.durability == Durability::Host;
        let mut cursor = self.lock_cursor(deadline)?;
        loop {
            let (broken, checkpoint) = {
                let state = read(&self.state);
                (state.broken.is_some(), state.checkpoint_at)
            };
            if broken {
                self.reload(&mut cursor, deadline)?;
                continue;
            }
            let proposal = Proposal { body, decided_on, durable, quiet, checkpoint };
            let mut live = Live { engine: self, applied: Applied::default(), checkpoint: None };
            let published = self.log.publish(&mut cursor, proposal, &mut live, deadline);
            if matches!(published, Ok(Published::At(_))) {
                drop(lock.take());
            }
            let applied = std::mem::take(&mut live.applied);
            let is_broken = read(&self.state).broken.is_some();
            let adopts = live.checkpoint.is_some();
            self.adopt(live.checkpoint.take(), &mut cursor, deadline);
            match published? {
                Published::At(_) if is_broken => {
                    let what = "the write is done, but the drive failed before it could be told what came of it:";
                    return Err(Error::new(ErrorKind::OutcomeUnknown, what).at(&self.dir));
                }
                Published::At(_) => {
                    self.note_look();
                    let removes = applied.outcomes.iter().any(|o| matches!(o, Outcome::Removed(_) | Outcome::RemovedMany(_)));
                    let folds = if removes { read(&self.state).folds.clone() } else { Vec::new() };
                    return Ok(Committed { outcomes: applied.outcomes, void: applied.void, folds });
                }
                Published::Behind if adopts && !is_broken => {}
                Published::Behind => self.reload(&mut cursor, deadline)?,
                Published::Held => {
                    drop(cursor);
                    self.honour_hold(deadline)?;
                    cursor = self.lock_cursor(deadline)?;
                }
            }
        }
    }

    /// Publishes a commit under the terms of the mode: local, under the host's lock; shared, together with other threads' commits.
    pub(crate) fn commit(&self, body: &BodyBuilder, deadline: Deadline) -> Result<Committed> {
        if !self.is_local() {
            return self.group.commit(self, body, deadline);
        }
        self.begin_exclusive(deadline)?;
        self.commit_exclusive(body, deadline)
    }

    /// Takes the exclusive lock of a local log. As long as others have it, what they publish is replayed: the less is left to be replayed under it.
    pub(crate) fn begin_exclusive(&self, deadline: Deadline) -> Result<()> {
        self.renew_state(deadline)?;
        self.log.begin_exclusive(deadline, &|| {
            // What cannot be done now is done, or fails, under the lock.
            !self.is_fresh() && self.cursor.try_lock().is_ok_and(|mut cursor| self.catch_up(&mut cursor, deadline).is_ok())
        })
    }

    /// The rest of a local commit; gives the lock back, and before it syncs.
    pub(crate) fn commit_exclusive(&self, body: &BodyBuilder, deadline: Deadline) -> Result<Committed> {
        let committed = self.publish_as(body, None, false, Some(Exclusive(self)), deadline)?;
        if self.options.durability == Durability::Host {
            self.log.sync().map_err(|e| e.with_kind(ErrorKind::OutcomeUnknown))?;
        }
        Ok(committed)
    }

    /// Waits (shared mode) until no other process's transaction asks others to hold.
    pub(crate) fn honour_hold(&self, deadline: Deadline) -> Result<()> {
        loop {
            // A statement of its own: the state must not stay locked while it is replayed into.
            let held = read(&self.state).held_for(self.me, &*self.clock);
            let Some(left) = held else { return Ok(()) };
            if deadline.passed(&*self.clock) {
                return Err(
                    Error::new(ErrorKind::Timeout, "another host's transaction held the cache for the whole timeout:").at(&self.dir)
                );
            }
            self.clock.sleep(left.min(Duration::from_millis(5)));
            let mut cursor = self.lock_cursor(deadline)?;
            self.catch_up(&mut cursor, deadline)?;
        }
    }
}
