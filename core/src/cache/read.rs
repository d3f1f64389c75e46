//! Looking things up.

use crate::cache::engine::Engine;
use crate::cache::manifest::FoldRef;
use crate::cache::options::Setting;
use crate::cache::state::State;
use crate::cache::value::{Hit, Value};
use crate::cache::{Attempt, Cache};
use crate::clock::Deadline;
use crate::compaction::FoldFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, EntryRef, OwnedEntry};
use crate::format::wire::is_value;
use crate::format::{Codec, KeyRef, Place, ValueKind};
use crate::index::{Delta, Layers, Lookup, Row};
use crate::log::Bytes;
use crate::sync::{Ordering, read};
use crate::vfs;
use std::time::Duration;

/// A file that cannot be found for this long is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// An entry as it was found, with what it takes to read its value.
struct FoundEntry {
    hash: u64,
    entry: Entry,
    /// Bytes of key and tag: a folded item's value lies behind them.
    key_and_tag: u64,
    fold: Option<FoldRef>,
    /// It was found in a run.
    in_run: bool,
}

/// So often a look-up is made before damage is believed: each time the files may have been replaced by others meanwhile. Whether it is the last.
const LOOKS: [bool; 4] = [false, false, false, true];

/// What a look-up found.
enum Looked<T> {
    Missing,
    /// What the caller made of a value in memory.
    Made(T),
    /// The value has to be read.
    Found(FoundEntry),
}

/// What the settings want to know of reads.
#[derive(Clone, Copy)]
struct Counted {
    statistics: bool,
    accesses: bool,
}

impl Engine {
    /// Looks a key up in what was replayed. `make` makes something of a value whose bytes are in memory, or nothing: then it is found like any
    /// other. It must not wait, for the state is locked meanwhile.
    #[inline]
    fn lookup<T>(&self, key: KeyRef<'_>, make: impl FnOnce(Row<'_>) -> Option<T>) -> Result<(Looked<T>, Counted)> {
        let hash = key.hash();
        let state = read(&self.state);
        let counted = Counted { statistics: state.tuning.statistics, accesses: state.tuning.policy.needs_accesses() };
        let looked = match state.delta.get(hash, key) {
            Some(row) if row.is_tombstone() || self.has_passed(row.expire_time()) => Looked::Missing,
            Some(row) => match make(row) {
                Some(made) => Looked::Made(made),
                None => Looked::Found(found_entry(&state, hash, &row.as_ref(), false)),
            },
            None => self.lookup_runs(&state, hash, key)?,
        };
        Ok((looked, counted))
    }

    fn lookup_runs<T>(&self, state: &State, hash: u64, key: KeyRef<'_>) -> Result<Looked<T>> {
        match state.layers(&[]).lookup_runs(hash, key)? {
            Lookup::Found(found) => {
                let found = found.as_ref();
                let passed = self.has_passed(found.entry.expire_time);
                Ok(if passed { Looked::Missing } else { Looked::Found(found_entry(state, hash, &found, true)) })
            }
            Lookup::Missing => Ok(Looked::Missing),
            Lookup::Damaged(error) => Err(error),
        }
    }

    /// Returns whether an expiry is over.
    #[inline]
    fn has_passed(&self, expire_time: f64) -> bool {
        expire_time < f64::INFINITY && expire_time <= self.clock.wall()
    }

    /// Keeps an entry of a run, with the checked bytes of its value, in memory if it is looked up often (local mode: a copy of what others may
    /// find damaged must not outlive the next checkpoint, and there it does not).
    fn remember(&self, key: KeyRef<'_>, found: &FoundEntry, value: &Value) {
        let bytes = value.in_memory().unwrap_or(&[]);
        let meta = found.entry.value;
        let is_short = bytes.len() <= Delta::VALUE_LEN_MAX && meta.codec == Codec::None && !matches!(meta.place, Place::Blob(_));
        if !is_short || !self.is_local() || !self.doorkeeper.knows(found.hash) {
            return;
        }
        let Ok(mut state) = self.state.try_write() else { return };
        let State { delta, levels, files, .. } = &mut *state;
        // The state may be another by now: what the runs say under this very lock counts.
        if let Ok(Lookup::Found(now)) = (Layers { deltas: &[], levels, files }).lookup_runs(found.hash, key) {
            let now = now.as_ref();
            if now.entry.value == meta && now.entry.addr == found.entry.addr {
                delta.copy(found.hash, now, Some(bytes));
            }
        }
    }

    /// Reads the value of an entry. On a network drive wrong bytes are believed only past all caches: a bit may have flipped on the way.
    #[inline]
    pub(crate) fn value_of(&self, entry: &Entry, key_and_tag: u64, fold: Option<&FoldRef>, deadline: Deadline) -> Result<Value> {
        match self.value_once(entry, key_and_tag, fold, deadline) {
            Err(error) if error.kind() == ErrorKind::Damaged && error.raw_os_error().is_none() && !self.is_local() => {
                let is_wrong = |error: &Error| error.kind() == ErrorKind::Damaged && error.raw_os_error().is_none();
                vfs::afresh::surely(|| self.value_once(entry, key_and_tag, fold, deadline), is_wrong)
            }
            other => other,
        }
    }

    #[inline]
    fn value_once(&self, entry: &Entry, key_and_tag: u64, fold: Option<&FoldRef>, deadline: Deadline) -> Result<Value> {
        let meta = entry.value;
        match meta.place {
            Place::Inline(_) => Ok(Value::inline(meta)),
            Place::Blob(id) => Value::blob(meta, &self.blobs, id),
            // Nothing lies at its address.
            Place::Log if meta.len == 0 => self.checked(meta, Bytes::from(Vec::new())),
            Place::Log => {
                let bytes = match fold {
                    Some(fold) => self.folds.value(fold, entry.addr, key_and_tag, meta.len)?,
                    None => self.log.read(entry.addr, meta.len, deadline)?,
                };
                self.checked(meta, bytes)
            }
        }
    }

    /// Reads the value of an entry, unless it takes a file of its own or is damaged: then the caller may wait.
    fn try_value_of(&self, key: KeyRef<'_>, found: &FoundEntry) -> Option<Value> {
        if matches!(found.entry.value.place, Place::Blob(_)) {
            return None;
        }
        // Mapped memory: nothing to wait for.
        let value = self.value_of(&found.entry, found.key_and_tag, found.fold.as_ref(), Deadline::NEVER).ok()?;
        if found.in_run {
            self.remember(key, found, &value);
        }
        Some(value)
    }

    #[inline]
    fn checked(&self, meta: crate::format::ValueMeta, bytes: Bytes) -> Result<Value> {
        if is_value(&bytes, self.marker.seed(), meta.sum) {
            Ok(Value::checked(meta, bytes))
        } else {
            Err(Error::new(ErrorKind::Damaged, "a value's bytes are damaged in").at(&self.dir))
        }
    }

    /// Looks up and reads. Damage may only mean that the state is older than the files (they were merged, folded, removed meanwhile): so
    /// it is believed on the last look.
    pub(super) fn get(&self, key: KeyRef<'_>, deadline: Deadline) -> Result<Option<Value>> {
        for last in LOOKS {
            let look = || self.lookup(key, Value::kept);
            let looked_up = if last { self.patiently(deadline, look) } else { look() };
            let result = match &looked_up {
                Ok((Looked::Found(found), _)) => {
                    let value = || self.value_of(&found.entry, found.key_and_tag, found.fold.as_ref(), deadline);
                    let value = if last { self.patiently(deadline, value) } else { value() };
                    value
                        .inspect(|value| {
                            if found.in_run {
                                self.remember(key, found, value);
                            }
                        })
                        .map(Some)
                }
                Ok((Looked::Made(value), _)) => Ok(Some(value.clone())),
                Ok((Looked::Missing, _)) => Ok(None),
                Err(error) => Err(error.clone()),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    if last {
                        self.damaged.fetch_add(1, Ordering::Relaxed);
                        if looked_up.is_err() {
                            self.maintenance.damage_seen();
                        }
                        return Ok(None);
                    }
                    let mut cursor = self.lock_cursor(deadline)?;
                    self.catch_up(&mut cursor, deadline)?;
                }
                Err(error) => return Err(error),
                Ok(value) => {
                    if let Ok((_, counted)) = looked_up {
                        self.count(key, value.is_some(), counted);
                    }
                    return Ok(value);
                }
            }
        }
        Ok(None)
    }

    #[inline]
    fn count(&self, key: KeyRef<'_>, hit: bool, counted: Counted) {
        if counted.statistics {
            let counter = if hit { &self.hits } else { &self.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if hit && counted.accesses && self.accesses.note(key, self.clock.wall()) {
            self.maintenance.accesses_wait();
        }
    }

    /// Tries again while the drive says that a file is not there that should be: on network drives a name may be remembered wrongly, or a
    /// handle may have gone stale.
    fn patiently<T>(&self, deadline: Deadline, mut look: impl FnMut() -> Result<T>) -> Result<T> {
        let begun = self.clock.boot();
        loop {
            match look() {
                Err(error)
                    if error.kind() == ErrorKind::Damaged
                        && error.raw_os_error().is_some()
                        && !self.is_local()
                        && self.clock.boot().saturating_sub(begun) < PATIENCE
                        && !deadline.passed(&*self.clock) =>
                {
                    self.clock.sleep(PATIENCE / 40);
                }
                other => return other,
            }
        }
    }

    /// Returns an entry with its value as a hit, by the folds of a state in which the entry lives: a later fold may have left it out.
    ///
    /// # Errors
    /// `Damaged` if its bytes are.
    pub(crate) fn hit_by(&self, folds: &[FoldRef], found: &EntryRef<'_>, deadline: Deadline) -> Result<Hit> {
        let fold = FoldFiles::covering(folds, found.entry.addr);
        let key_and_tag = (found.key.bytes.len() + found.tag.map_or(0, |t| t.bytes.len())) as u64;
        let value = self.patiently(deadline, || self.value_of(&found.entry, key_and_tag, fold.as_ref(), deadline))?;
        let expire = Some(found.entry.expire_time).filter(|t| *t < f64::INFINITY);
        Ok(Hit { key: found.key.to_owned(), value, expire, tag: found.tag.map(|t| t.to_owned()) })
    }

    /// Returns what `look` finds with its value as a hit; `None` also if its bytes are damaged (which is counted). Damage may only mean that
    /// the entry was replaced and its bytes left out of a fold between the look and the reading, so it is believed on the last look.
    pub(crate) fn hit(&self, deadline: Deadline, mut look: impl FnMut() -> Result<Option<OwnedEntry>>) -> Result<Option<Hit>> {
        for last in LOOKS {
            let Some(found) = look()? else { return Ok(None) };
            if let Some(hit) = self.hit_in_transaction(&found) {
                return hit;
            }
            let folds = read(&self.state).folds.clone();
            match self.hit_by(&folds, &found.as_ref(), deadline) {
                Err(error) if error.kind() == ErrorKind::Damaged && !last => {
                    let mut cursor = self.lock_cursor(deadline)?;
                    self.catch_up(&mut cursor, deadline)?;
                }
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                }
                other => return other.map(Some),
            }
        }
        Ok(None)
    }

    /// Returns the live entry of a key that has not expired.
    pub(crate) fn find_live(&self, key: KeyRef<'_>, deadline: Deadline) -> Result<Option<OwnedEntry>> {
        for last in LOOKS {
            let look = || read(&self.state).find(key.hash(), key);
            let found = if last { self.patiently(deadline, look) } else { look() };
            match found {
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    if last {
                        self.damaged.fetch_add(1, Ordering::Relaxed);
                        self.maintenance.damage_seen();
                        return Ok(None);
                    }
                    let mut cursor = self.lock_cursor(deadline)?;
                    self.catch_up(&mut cursor, deadline)?;
                }
                Err(error) => return Err(error),
                Ok(found) => {
                    return Ok(found.filter(|f| f.entry.expire_time == f64::INFINITY || !f.entry.is_expired(self.clock.wall())));
                }
            }
        }
        Ok(None)
    }
}

fn found_entry(state: &State, hash: u64, found: &EntryRef<'_>, in_run: bool) -> FoundEntry {
    let entry = found.entry;
    let fold = if matches!(entry.value.place, Place::Log) { FoldFiles::covering(&state.folds, entry.addr) } else { None };
    let key_and_tag = (found.key.bytes.len() + found.tag.map_or(0, |t| t.bytes.len())) as u64;
    FoundEntry { hash, entry, key_and_tag, fold, in_run }
}

/// What [`Cache::try_get_with`] got.
#[derive(Debug)]
pub enum Got<T> {
    /// What the caller made of it.
    Made(T),
    /// The value.
    Value(Value),
}

impl Cache {
    /// Returns the value of a key, or `None` if it has none, it has expired, or its bytes are damaged (which is counted).
    ///
    /// # Errors
    /// `Io`, `Timeout`, `Closed`.
    pub fn get(&self, key: KeyRef<'_>) -> Result<Option<Value>> {
        let engine = self.engine()?;
        engine.check_open()?;
        if engine.transaction.is_mine() {
            return Ok(self.get_full(key)?.map(|hit| hit.value));
        }
        let deadline = engine.deadline();
        engine.freshen(deadline)?;
        let value = engine.get(key, deadline)?;
        engine.after_read();
        Ok(value)
    }

    /// As [`Self::get`], but never waits: for callers that hold an interpreter's lock.
    ///
    /// # Errors
    /// `Io`, `Closed`.
    pub fn try_get(&self, key: KeyRef<'_>) -> Result<Attempt<Option<Value>>> {
        let never = |_, _: &[u8]| None::<()>;
        Ok(match self.try_get_with(key, never)? {
            Attempt::Done(Some(Got::Value(value))) => Attempt::Done(Some(value)),
            Attempt::Done(_) => Attempt::Done(None),
            Attempt::WouldBlock => Attempt::WouldBlock,
        })
    }

    /// As [`Self::try_get`], for callers that make something else of the value: `make` is called with what a short value that is in memory
    /// means, and its bytes, and may decline. It must not wait, nor use the cache.
    ///
    /// # Errors
    /// `Io`, `Closed`.
    #[inline]
    pub fn try_get_with<T>(&self, key: KeyRef<'_>, make: impl FnOnce(ValueKind, &[u8]) -> Option<T>) -> Result<Attempt<Option<Got<T>>>> {
        let engine = self.engine()?;
        engine.check_open()?;
        if !engine.is_local() || engine.transaction.is_mine() || !engine.try_freshen()? {
            return Ok(Attempt::WouldBlock);
        }
        let make = |row: Row<'_>| row.value().and_then(|(kind, bytes)| make(kind, bytes));
        let Ok((looked, counted)) = engine.lookup(key, make) else { return Ok(Attempt::WouldBlock) };
        let got = match looked {
            Looked::Made(made) => Some(Got::Made(made)),
            Looked::Missing => None,
            Looked::Found(found) => match engine.try_value_of(key, &found) {
                Some(value) => Some(Got::Value(value)),
                None => return Ok(Attempt::WouldBlock),
            },
        };
        engine.count(key, got.is_some(), counted);
        Ok(Attempt::Done(got))
    }

    /// Returns a key's value with its expiry and tag.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_full(&self, key: KeyRef<'_>) -> Result<Option<Hit>> {
        let engine = self.engine()?;
        engine.check_open()?;
        let deadline = engine.deadline();
        if let Some(result) = engine.get_in_transaction(key, deadline) {
            return result;
        }
        engine.freshen(deadline)?;
        let hit = engine.hit(deadline, || engine.find_live(key, deadline))?;
        let state = read(&engine.state);
        let (statistics, noted) = (state.tuning.statistics, state.tuning.policy.needs_accesses());
        drop(state);
        if statistics {
            (if hit.is_some() { &engine.hits } else { &engine.misses }).fetch_add(1, Ordering::Relaxed);
        }
        if noted && hit.is_some() && engine.accesses.note(key, engine.clock.wall()) {
            engine.maintenance.accesses_wait();
        }
        engine.after_read();
        Ok(hit)
    }

    /// Returns whether a key has a value that has not expired.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains(&self, key: KeyRef<'_>) -> Result<bool> {
        let engine = self.engine()?;
        engine.check_open()?;
        let deadline = engine.deadline();
        if let Some(found) = engine.find_in_transaction(key) {
            return found.map(|f| f.is_some());
        }
        engine.freshen(deadline)?;
        Ok(engine.find_live(key, deadline)?.is_some())
    }

    /// As [`Self::contains`], but never waits.
    ///
    /// # Errors
    /// `Io`, `Closed`.
    pub fn try_contains(&self, key: KeyRef<'_>) -> Result<Attempt<bool>> {
        let engine = self.engine()?;
        engine.check_open()?;
        if !engine.is_local() || engine.transaction.is_mine() || !engine.try_freshen()? {
            return Ok(Attempt::WouldBlock);
        }
        match engine.lookup(key, |_| Some(())) {
            Ok((looked, _)) => Ok(Attempt::Done(!matches!(looked, Looked::Missing))),
            Err(_) => Ok(Attempt::WouldBlock),
        }
    }

    /// Returns how many entries there are, expired ones that were not removed yet included.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn len(&self) -> Result<u64> {
        let engine = self.engine()?;
        engine.check_open()?;
        if let Some(counters) = engine.transaction.counters() {
            return Ok(counters.count);
        }
        engine.freshen(engine.deadline())?;
        Ok(read(&engine.state).counters.count)
    }

    /// Returns whether there are no entries.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Returns a stored setting.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn setting(&self, name: &str) -> Result<Option<Setting>> {
        let engine = self.engine()?;
        engine.check_open()?;
        engine.freshen(engine.deadline())?;
        Ok(read(&engine.state).settings.get(name).cloned())
    }

    /// Returns all stored settings, by name.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn settings(&self) -> Result<Vec<(String, Setting)>> {
        let engine = self.engine()?;
        engine.check_open()?;
        engine.freshen(engine.deadline())?;
        Ok(read(&engine.state).settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Returns how many reads of this process met damaged bytes and answered as a miss.
    ///
    /// # Errors
    /// `Closed`.
    pub fn damaged_reads(&self) -> Result<u64> {
        Ok(self.engine()?.damaged.load(Ordering::Relaxed))
    }
}
