//! Looking things up.

use crate::cache::engine::Engine;
use crate::cache::manifest::FoldRef;
use crate::cache::options::Setting;
use crate::cache::value::{Hit, Value};
use crate::cache::{Attempt, Cache};
use crate::clock::Deadline;
use crate::compaction::FoldFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, EntryRef, OwnedEntry};
use crate::format::wire::checksum;
use crate::format::{KeyRef, Place};
use crate::index::Lookup;
use crate::log::Bytes;
use crate::sync::{Ordering, read};
use std::time::Duration;

/// A file that cannot be found for this long is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// An entry as it was found, with what it takes to read its value.
struct FoundEntry {
    entry: Entry,
    /// Bytes of key and tag: a folded item's value lies behind them.
    key_and_tag: u64,
    fold: Option<crate::cache::manifest::FoldRef>,
    noted: bool,
}

impl Engine {
    /// Looks a key up in what was replayed.
    #[inline]
    fn lookup(&self, key: KeyRef<'_>) -> Result<(Option<FoundEntry>, bool)> {
        let hash = key.hash();
        let state = read(&self.state);
        let statistics = state.tuning.statistics;
        let deltas = [&state.delta];
        match state.layers(&deltas).lookup(hash, key)? {
            Lookup::Found(found) => {
                let found = found.as_ref();
                let entry = found.entry;
                if entry.expire_time < f64::INFINITY && entry.is_expired(self.clock.wall()) {
                    return Ok((None, statistics));
                }
                let fold = if matches!(entry.value.place, Place::Log) { FoldFiles::covering(&state.folds, entry.addr) } else { None };
                let noted = state.tuning.policy.needs_accesses();
                let key_and_tag = (found.key.bytes.len() + found.tag.map_or(0, |t| t.bytes.len())) as u64;
                Ok((Some(FoundEntry { entry, key_and_tag, fold, noted }), statistics))
            }
            Lookup::Missing => Ok((None, statistics)),
            Lookup::Damaged(error) => Err(error),
        }
    }

    /// Reads the value of an entry.
    #[inline]
    pub(crate) fn value_of(
        &self,
        entry: &Entry,
        key_and_tag: u64,
        fold: Option<&crate::cache::manifest::FoldRef>,
        deadline: Deadline,
    ) -> Result<Value> {
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

    #[inline]
    fn checked(&self, meta: crate::format::ValueMeta, bytes: Bytes) -> Result<Value> {
        if checksum(&bytes, self.marker.seed()) == meta.sum {
            Ok(Value::checked(meta, bytes))
        } else {
            Err(Error::new(ErrorKind::Damaged, "a value's bytes are damaged in").at(&self.dir))
        }
    }

    /// Looks up and reads. Damage may only mean that the state is older than the files (they were merged, folded, removed meanwhile): so
    /// it is believed on the second look.
    pub(super) fn get(&self, key: KeyRef<'_>, deadline: Deadline) -> Result<Option<Value>> {
        for last in [false, true] {
            let looked_up = if last { self.patiently(deadline, || self.lookup(key)) } else { self.lookup(key) };
            let result = match &looked_up {
                Ok((Some(found), _)) => {
                    let value = || self.value_of(&found.entry, found.key_and_tag, found.fold.as_ref(), deadline);
                    if last { self.patiently(deadline, value) } else { value() }.map(Some)
                }
                Ok((None, _)) => Ok(None),
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
                    let found = looked_up.as_ref().ok().and_then(|(found, _)| found.as_ref());
                    self.count(key, found, looked_up.as_ref().is_ok_and(|(_, statistics)| *statistics));
                    return Ok(value);
                }
            }
        }
        Ok(None)
    }

    #[inline]
    fn count(&self, key: KeyRef<'_>, found: Option<&FoundEntry>, statistics: bool) {
        if statistics {
            let counter = if found.is_some() { &self.hits } else { &self.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if found.is_some_and(|f| f.noted) && self.accesses.note(key, self.clock.wall()) {
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
    /// the entry was replaced and its bytes left out of a fold between the look and the reading, so it is believed on the second look.
    pub(crate) fn hit(&self, deadline: Deadline, mut look: impl FnMut() -> Result<Option<OwnedEntry>>) -> Result<Option<Hit>> {
        for last in [false, true] {
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
        for last in [false, true] {
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
    #[inline]
    pub fn try_get(&self, key: KeyRef<'_>) -> Result<Attempt<Option<Value>>> {
        let engine = self.engine()?;
        engine.check_open()?;
        if !engine.is_local() || engine.transaction.is_mine() || !engine.try_freshen()? {
            return Ok(Attempt::WouldBlock);
        }
        let Ok((found, statistics)) = engine.lookup(key) else { return Ok(Attempt::WouldBlock) };
        let value = match &found {
            Some(found) if matches!(found.entry.value.place, Place::Blob(_)) => return Ok(Attempt::WouldBlock),
            Some(found) => {
                let deadline = Deadline::NEVER; // mapped memory: nothing to wait for
                match engine.value_of(&found.entry, found.key_and_tag, found.fold.as_ref(), deadline) {
                    Ok(value) => Some(value),
                    Err(_) => return Ok(Attempt::WouldBlock),
                }
            }
            None => None,
        };
        engine.count(key, found.as_ref(), statistics);
        Ok(Attempt::Done(value))
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
        match engine.lookup(key) {
            Ok((found, _)) => Ok(Attempt::Done(found.is_some())),
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
