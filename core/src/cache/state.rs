//! The state of a cache as one process knows it: a checkpoint's index and totals, and what was replayed since.

use crate::cache::apply::{At, Old, Outcome, Store, Tracks, apply};
use crate::cache::maintain::named;
use crate::cache::manifest::{Counters, FoldNote, FoldRef, Manifest, Usage, in_use, same_use};
use crate::cache::options::{EvictionPolicy, Setting, Tuning};
use crate::clock::Clock;
use crate::compaction::FoldFiles;
use crate::error::{Error, Result};
use crate::format::entry::{EntryRef, OwnedEntry};
use crate::format::wire::{Malformed, Reader, checksum, is_value};
use crate::format::{KeyRef, Record};
use crate::index::{Delta, Direction, Layers, Levels, Lookup, RunFiles, Span};
use crate::log::{Commit, Cursor, Replay};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Nobody waits longer than this for a transaction of another host, whatever it asked for.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// A transaction that others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) owner: u128,
    /// The position of the commit that asked for it. It is over with the next commit, whosever that is: the transaction counts right behind it
    /// or nowhere.
    pub(crate) at: u64,
    /// By this host's boot clock.
    pub(crate) until: Duration,
}

/// What was replayed.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) delta: Delta,
    pub(crate) levels: Levels,
    pub(crate) files: Arc<RunFiles>,
    pub(crate) counters: Counters,
    pub(crate) settings: BTreeMap<String, Setting>,
    pub(crate) tuning: Tuning,
    pub(crate) usage: Usage,
    pub(crate) folds: Vec<FoldRef>,
    pub(crate) hold: Option<Hold>,
    /// Everything before it was replayed.
    pub(crate) position: u64,
    /// Position of the commit that carried the newest checkpoint.
    pub(crate) checkpoint_at: u64,
    /// The same of one that was replayed and waits to be adopted (0: none does).
    awaited: u64,
    /// Where that checkpoint's replay goes on: what lies before is in runs.
    pub(crate) covered: u64,
    /// No entry expires before this.
    pub(crate) expire_floor: f64,
    /// Changes whenever eviction orders may have new first entries that a remembered place would miss.
    pub(crate) epoch: u64,
    /// Where the part of the log starts that the last commit lies in.
    part: u64,
    /// Files that any list of runs or folds has named since the newest checkpoint, with their lengths, and those between the one before and it.
    /// In order, because what is dropped is removed in the order of these sets, and the same calls shall ask the drive for the same
    /// things in the same order.
    pub(crate) era: BTreeMap<u64, u64>,
    pub(crate) last_era: BTreeSet<u64>,
    /// What the newest checkpoint says of the folds, and of where something lives.
    pub(crate) checkpoint_folds: Vec<FoldRef>,
    checkpoint_usage: Usage,
    /// Where replay goes on from the checkpoint before the newest.
    pub(crate) last_covered: u64,
    /// Replays without what was derived: neither checkpoints nor merges are taken over. For rebuilding the index from the log.
    pub(crate) plain: bool,
    /// Commits that were damaged or missing in replay.
    pub(crate) damaged_commits: u64,
    /// The last of them, if no checkpoint said since what everybody is to make of it (shared mode): others may have read it.
    pub(crate) doubt: Option<u64>,
    /// The drive failed while replay looked something up: what was replayed since is guesswork, and the state must be made anew.
    pub(crate) broken: Option<Error>,
    /// A file that the drive says is not there is taken for gone: it has been looked for long enough.
    pub(crate) believes_absence: bool,
    /// Look-ups that met damage in the index, during replay.
    pub(crate) damaged_lookups: u64,
}

impl State {
    /// The state of an empty cache.
    pub(crate) fn empty(files: Arc<RunFiles>, position: u64) -> Self {
        Self {
            delta: Delta::new(),
            levels: Levels::default(),
            files,
            counters: Counters::default(),
            settings: BTreeMap::new(),
            tuning: Tuning::default(),
            usage: Usage::new(),
            folds: Vec::new(),
            hold: None,
            position,
            checkpoint_at: 0,
            awaited: 0,
            covered: position,
            expire_floor: f64::NEG_INFINITY,
            epoch: 0,
            part: 0,
            era: BTreeMap::new(),
            last_era: BTreeSet::new(),
            checkpoint_folds: Vec::new(),
            checkpoint_usage: Usage::new(),
            last_covered: 0,
            plain: false,
            damaged_commits: 0,
            doubt: None,
            broken: None,
            believes_absence: false,
            damaged_lookups: 0,
        }
    }

    /// The state that a checkpoint published at `at` describes.
    pub(crate) fn of(manifest: Manifest, at: u64, files: Arc<RunFiles>) -> Result<Self> {
        let mut state = Self::empty(files, manifest.cursor.position);
        state.adopt(manifest, at)?;
        Ok(state)
    }

    fn adopt(&mut self, manifest: Manifest, at: u64) -> Result<()> {
        let levels = Levels::parse(&mut Reader::new(&manifest.levels)).map_err(|why| {
            Error::new(crate::ErrorKind::Damaged, format!("{why}: the index list of the checkpoint at log position {at}"))
        })?;
        self.levels = levels;
        self.counters = manifest.counters;
        self.tuning = Tuning::of(&manifest.settings);
        self.settings = manifest.settings;
        self.usage = manifest.usage;
        self.folds = manifest.folds;
        self.last_era = std::mem::replace(&mut self.era, named(&self.levels, &self.folds).collect()).into_keys().collect();
        self.checkpoint_folds.clone_from(&self.folds);
        self.checkpoint_usage.clone_from(&self.usage);
        self.last_covered = std::mem::replace(&mut self.covered, manifest.cursor.position);
        self.checkpoint_at = at;
        self.doubt = None;
        self.expire_floor = f64::NEG_INFINITY;
        self.epoch += 1;
        Ok(())
    }

    /// Returns the layers to look things up in, newest first.
    pub(crate) fn layers<'a>(&'a self, deltas: &'a [&'a Delta]) -> Layers<'a> {
        Layers { deltas, levels: &self.levels, files: &self.files }
    }

    /// Returns the live entry of a key.
    pub(crate) fn find(&self, hash: u64, key: KeyRef<'_>) -> Result<Option<OwnedEntry>> {
        match self.layers(&[&self.delta]).lookup(hash, key)? {
            Lookup::Found(found) => Ok(Some(found.to_owned())),
            Lookup::Missing => Ok(None),
            Lookup::Damaged(error) => Err(error),
        }
    }

    /// Returns whether nothing that was damaged ever kept this state from knowing what others know.
    fn is_undamaged(&self) -> bool {
        self.damaged_commits == 0 && self.damaged_lookups == 0 && self.broken.is_none()
    }

    /// Takes over what the state before this one has in memory of entries that did not change since the checkpoint that this one was
    /// made of, at `from`. Both have replayed the same commits; unless both agree, nothing is taken.
    pub(crate) fn take_over(&mut self, before: &mut Self, from: u64) {
        let agrees = before.position == self.position && before.counters == self.counters && same_use(&before.usage, &self.usage);
        let undamaged = before.is_undamaged() && self.is_undamaged();
        if agrees && undamaged && self.files.are_mapped() && self.levels.is_flush_of(&before.levels) {
            let older = std::mem::take(&mut before.delta);
            self.delta.rise_from(older, from);
        }
    }

    /// Takes note of a look-up that failed during replay. Damage is the same for everybody; a drive that does not answer is not, and must not
    /// be taken for an absent key.
    fn missed(&mut self, error: Error) {
        let absent = error.raw_os_error().is_some();
        if error.kind() == crate::ErrorKind::Damaged && (!absent || self.believes_absence) {
            self.damaged_lookups += 1;
        } else {
            self.broken.get_or_insert(error);
        }
    }

    /// Returns what a checkpoint of this very state says, with `levels` for its index.
    pub(crate) fn manifest(&self, cursor: Cursor, levels: &Levels) -> Manifest {
        Manifest {
            cursor,
            counters: self.counters,
            settings: self.settings.clone(),
            usage: in_use(&self.usage),
            folds: self.folds.iter().filter(|fold| !self.is_dead(fold.from)).copied().collect(),
            levels: encoded(levels),
        }
    }

    /// Returns whether nothing lives any more in the part of a local log that starts at an address.
    pub(crate) fn is_dead(&self, part: u64) -> bool {
        self.files.are_mapped() && self.usage.get(&part).is_none_or(|bytes| *bytes == 0)
    }

    /// Returns whether the newest checkpoint has made the segment of a local log needless that has the addresses `from..to`: no replay needs
    /// it, and nothing that lives is read from it.
    pub(crate) fn is_needless(&self, from: u64, to: u64) -> bool {
        let is_dead = self.checkpoint_usage.get(&from).is_none_or(|bytes| *bytes == 0);
        to <= self.covered
            && (is_dead || FoldFiles::meeting(&self.checkpoint_folds, from, to).is_some_and(|fold| fold.from <= from && to <= fold.to))
    }

    /// Returns where the part of the log starts that an address lies in.
    pub(crate) fn part_of(&self, addr: u64) -> u64 {
        if self.part != 0 && addr >= self.part {
            return self.part;
        }
        self.usage.range(..=addr).next_back().map_or(addr, |(part, _)| *part)
    }

    pub(crate) fn tracks(&self) -> Tracks {
        match self.tuning.policy {
            EvictionPolicy::LeastRecentlyUsed => Tracks { time: true, count: false },
            EvictionPolicy::LeastFrequentlyUsed | EvictionPolicy::Sieve => Tracks { time: false, count: true },
            EvictionPolicy::Combined => Tracks { time: true, count: true },
            _ => Tracks::default(),
        }
    }

    /// Returns how long a publisher other than `me` must wait, if at all.
    pub(crate) fn held_for(&self, me: u128, clock: &dyn Clock) -> Option<Duration> {
        self.hold.filter(|hold| hold.owner != me).and_then(|hold| hold.until.checked_sub(clock.boot())).filter(|left| !left.is_zero())
    }

    fn store(&mut self) -> MainStore<'_> {
        MainStore { state: self }
    }

    fn record(&mut self, record: &Record<'_>, commit: &Commit<'_>, offset: usize, clock: &dyn Clock) -> Outcome {
        match record {
            Record::Setting(name, bytes) => {
                if let Ok(value) = Setting::parse(bytes) {
                    self.settings.insert((*name).to_owned(), value);
                    self.tuning = Tuning::of(&self.settings);
                    self.epoch += 1;
                }
                Outcome::Done
            }
            Record::Statistics { hits, misses, reset } => {
                let counters = &mut self.counters;
                (counters.hits, counters.misses) =
                    if *reset { (*hits, *misses) } else { (counters.hits.saturating_add(*hits), counters.misses.saturating_add(*misses)) };
                Outcome::Done
            }
            Record::Hold { owner, ms } => {
                let span = Duration::from_millis(u64::from(*ms)).min(HOLD_MAX);
                self.hold = Some(Hold { owner: *owner, at: commit.position, until: clock.boot() + span });
                Outcome::Done
            }
            Record::Release { owner } => {
                if self.hold.is_some_and(|hold| hold.owner == *owner) {
                    self.hold = None;
                }
                Outcome::Done
            }
            Record::Fold(bytes) => {
                // A fold covers what lies before it in the log: one that says otherwise was made by nobody.
                if let Ok(note) = FoldNote::parse(bytes)
                    .and_then(|note| if note.fold.to <= commit.at.address(0) { Ok(note) } else { Err(Malformed::Field("fold range")) })
                {
                    self.fold(&note);
                }
                Outcome::Done
            }
            Record::Levels(bytes) => {
                if !self.plain {
                    self.merge(bytes);
                }
                Outcome::Done
            }
            Record::Checkpoint(_) => Outcome::Done, // see `State::checkpoint`: it concerns the whole state
            _ => {
                let at = At { version: commit.position, addr: commit.at.address(offset), tracks: self.tracks() };
                apply(&mut self.store(), record, at)
            }
        }
    }

    /// Puts merged runs in place of those that they were made of, unless others came first.
    fn merge(&mut self, bytes: &[u8]) {
        let Some((base, levels)) = bytes.split_first_chunk::<8>() else { return };
        if u64::from_le_bytes(*base) != levels_sum(&self.levels) {
            return; // made of other runs: it replays as nothing, and its files are nobody's
        }
        if let Ok(levels) = Levels::parse(&mut Reader::new(levels)) {
            levels.inherit(&self.levels, None);
            self.levels = levels;
            self.era.extend(named(&self.levels, &self.folds));
        }
    }

    /// Takes over what only the state before this one knows.
    pub(crate) fn inherit(&mut self, before: &Self) {
        self.inherit_hold(before);
        self.last_era = before.era.keys().copied().collect();
        self.last_covered = before.covered;
        self.epoch = before.epoch + 1;
        self.damaged_commits = before.damaged_commits;
        self.damaged_lookups = before.damaged_lookups;
    }

    /// Waits for a transaction no longer than the state before this one did: a commit that is replayed again asks for nothing anew.
    pub(crate) fn inherit_hold(&mut self, before: &Self) {
        if let (Some(hold), Some(known)) = (&mut self.hold, before.hold)
            && hold.at == known.at
        {
            hold.until = hold.until.min(known.until);
        }
    }

    /// Puts a fold in place of what it covers, unless another fold of the same part came first.
    fn fold(&mut self, note: &FoldNote) {
        let overlapping: Vec<u64> = self.folds.iter().filter(|f| f.from < note.fold.to && note.fold.from < f.to).map(|f| f.id).collect();
        if overlapping != note.replaces {
            return; // decided on another state: it replays as nothing, and its file is nobody's
        }
        self.folds.retain(|f| !note.replaces.contains(&f.id));
        let at = self.folds.partition_point(|f| f.from < note.fold.from);
        self.folds.insert(at, note.fold);
        self.era.insert(note.fold.id, note.fold.len);
        if self.files.are_mapped() {
            // From now on what it covers is one part.
            let parts: Vec<u64> = self.usage.range(note.fold.from..note.fold.to).map(|(part, _)| *part).collect();
            let live = parts.iter().filter_map(|part| self.usage.remove(part)).sum();
            self.usage.insert(note.fold.from, live);
        }
    }
}

/// What came of a commit.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// What came of each record; empty if the commit did not count.
    pub(crate) outcomes: Vec<Outcome>,
    /// It did not count: it was decided on another state.
    pub(crate) void: bool,
    /// It carried a checkpoint of an older position: to be adopted by replaying again from there.
    pub(crate) checkpoint: Option<(Manifest, u64)>,
}

impl State {
    /// Applies a commit.
    pub(crate) fn replay(&mut self, commit: &Commit<'_>, clock: &dyn Clock) -> Applied {
        let mut applied = Applied { void: !commit.counts(), ..Applied::default() };
        self.hold = None;
        self.part = commit.part;
        if !applied.void {
            applied.outcomes.reserve_exact(commit.body.count() as usize);
            for (record, offset) in commit.body.records() {
                if let Record::Checkpoint(bytes) = record
                    && !self.plain
                {
                    applied.checkpoint = self.checkpoint(bytes, commit.position).or(applied.checkpoint);
                }
                applied.outcomes.push(self.record(&record, commit, offset, clock));
            }
        }
        self.position = commit.next;
        applied
    }

    /// Takes note of a commit that is damaged or missing.
    pub(crate) fn skip_damaged(&mut self, position: u64, next: u64) {
        if !self.files.are_mapped() {
            self.doubt = Some(position);
        }
        self.hold = None;
        self.damaged_commits += 1;
        self.counters.damaged += 1;
        self.position = next;
    }

    /// Adopts a checkpoint at once if it was made of exactly this state; returns it if it must be adopted by replaying again.
    fn checkpoint(&mut self, bytes: &[u8], at: u64) -> Option<(Manifest, u64)> {
        let manifest = Manifest::parse(bytes).ok()?;
        // The order of the log decides: one that was made without knowledge of the newest is none, also while that waits to be adopted. (Between
        // hosts it may hold a commit that the newest had to leave out; and what it names may be gone.)
        let known = self.covered.max(self.checkpoint_at).max(self.awaited);
        if manifest.cursor.position <= known {
            return None; // somebody else's came first and covers as much
        }
        if manifest.cursor.position > at {
            return None; // a lie: it cannot hold what comes after it
        }
        if manifest.cursor.position == at {
            let (levels, agrees) = (self.levels.clone(), manifest.counters == self.counters);
            let knows_all = agrees && self.is_undamaged() && same_use(&manifest.usage, &self.usage);
            // One that cannot be read is no checkpoint: the state stays as it was replayed.
            if self.adopt(manifest, at).is_ok() {
                if agrees {
                    self.levels.inherit(&levels, Some(&self.delta));
                }
                if knows_all && self.files.are_mapped() && self.levels.is_flush_of(&levels) {
                    self.delta.settle();
                } else {
                    self.delta.clear();
                }
            }
            return None;
        }
        self.awaited = at;
        Some((manifest, at))
    }
}

/// Replays into a state that nobody else sees yet.
#[derive(Debug)]
pub(crate) struct Rebuild<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) checkpoint: Option<(Manifest, u64)>,
}

impl Replay for Rebuild<'_> {
    fn commit(&mut self, commit: &Commit<'_>) {
        let applied = self.state.replay(commit, self.clock);
        self.checkpoint = applied.checkpoint.or(self.checkpoint.take());
    }

    fn damaged(&mut self, position: u64, next: u64, _why: &Error) {
        self.state.skip_damaged(position, next);
    }

    fn is_sound(&self) -> bool {
        self.checkpoint.is_none()
    }
}

/// Returns what tells a list of runs from another.
pub(crate) fn levels_sum(levels: &Levels) -> u64 {
    checksum(&encoded(levels), 0)
}

/// Returns a list of runs as bytes.
pub(crate) fn encoded(levels: &Levels) -> Vec<u8> {
    let mut out = Vec::new();
    levels.encode(&mut out);
    out
}

struct MainStore<'a> {
    state: &'a mut State,
}

impl Store for MainStore<'_> {
    #[inline]
    fn find(&mut self, hash: u64, key: KeyRef<'_>) -> Option<OwnedEntry> {
        match self.state.find(hash, key) {
            Ok(found) => found,
            Err(error) => {
                self.state.missed(error);
                None
            }
        }
    }

    #[inline]
    fn look(&mut self, hash: u64, key: KeyRef<'_>) -> Option<Old> {
        let looked = match self.state.layers(&[&self.state.delta]).lookup(hash, key) {
            Ok(Lookup::Found(found)) => Ok(Some(Old::of(&found.as_ref()))),
            Ok(Lookup::Missing) => Ok(None),
            Ok(Lookup::Damaged(error)) | Err(error) => Err(error),
        };
        looked.unwrap_or_else(|error| {
            self.state.missed(error);
            None
        })
    }

    #[inline]
    fn put(&mut self, hash: u64, entry: EntryRef<'_>, value: Option<&[u8]>) {
        let state = &mut *self.state;
        if entry.entry.expire_time < state.expire_floor {
            state.expire_floor = entry.entry.expire_time;
        }
        if entry.entry.tombstone && !state.layers(&[]).runs_may_hold(hash) {
            // Nothing else says anything of the key, so nothing need say that it is gone.
            state.delta.remove(hash, entry.key);
            return;
        }
        let seed = state.files.seed();
        let is_right = |bytes: &&[u8]| bytes.len() <= Delta::VALUE_LEN_MAX && is_value(bytes, seed, entry.entry.value.sum);
        state.delta.put_with(hash, entry, value.filter(is_right));
    }

    fn edge(&mut self, lower: KeyRef<'_>, upper: KeyRef<'_>, direction: Direction) -> Option<OwnedEntry> {
        let (lower, upper) = super::apply::excluded(lower, upper);
        let found = self.state.layers(&[&self.state.delta]).walk(Span::keys(lower, upper), direction).next()?.map(|f| f.to_owned());
        found.map_err(|error| self.state.missed(error)).ok()
    }

    fn clear(&mut self) {
        let state = &mut *self.state;
        state.delta.clear();
        state.levels = Levels::default();
        state.usage.clear();
        let kept = state.counters;
        state.counters =
            Counters { next_rowid: kept.next_rowid, hits: kept.hits, misses: kept.misses, damaged: kept.damaged, ..Counters::default() };
        state.expire_floor = f64::INFINITY;
        state.epoch += 1;
    }

    #[inline]
    fn counters(&mut self) -> &mut Counters {
        &mut self.state.counters
    }

    #[inline]
    fn used(&mut self, addr: u64, bytes: i64) {
        let part = self.state.part_of(addr);
        let used = self.state.usage.entry(part).or_insert(0);
        *used = used.saturating_add_signed(bytes);
    }
}
