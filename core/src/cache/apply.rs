//! What each record does to the state. Deterministic: the same commits give the same state and outcomes in every process.
//!
//! The same code runs on the state itself (replay) and on a transaction's overlay, through [`Store`].

use crate::cache::manifest::Counters;
use crate::format::body::{Cause, Item};
use crate::format::entry::{Entry, EntryRef, OwnedEntry};
use crate::format::key::{NumberKey, NumberValue};
use crate::format::{Key, KeyRef, KeyShape, Number, Place, Record, ValueKind, ValueMeta};
use crate::index::Direction;
use std::ops::Bound;

/// The first number of a queue; pushes at the back count up from here, at the front down.
pub(crate) const QUEUE_START: i64 = 500_000_000_000_000;
/// The number after a queue's last.
const QUEUE_END: i64 = 999_999_999_999_999;
/// Bytes that an entry takes in index and log besides key, tag and value: counted towards the size limit.
pub(crate) const ENTRY_OVERHEAD: u64 = 240;
/// The version of what a commit changes, until it has a position: in a transaction's overlay, and in its own removals of that.
pub(crate) const THIS_COMMIT: u64 = u64::MAX;

/// What came of a record.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It always takes effect, or its effect is not asked for.
    Done,
    /// Stored; what it replaced, if that [leaves something behind](remains).
    Stored(Option<Box<OwnedEntry>>),
    /// Not stored: the key was there.
    Kept,
    /// Stored under this key; what it replaced, if that leaves something behind.
    Pushed(Key, Option<Box<OwnedEntry>>),
    /// The number after adding; what it replaced, if that had expired and leaves something behind.
    Counted(Number, Option<Box<OwnedEntry>>),
    /// There was nothing to add to, to touch, to remove.
    Missing,
    /// The value is no number, or the result is out of range.
    WrongType,
    /// The expiry was changed.
    Touched,
    /// Removed; what was there.
    Removed(Box<OwnedEntry>),
    /// Removed, several.
    RemovedMany(Vec<OwnedEntry>),
    /// Everything was removed: so many.
    Cleared(u64),
}

/// What counts of the entry that a key has, without a copy of its names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Old {
    pub(crate) entry: Entry,
    pub(crate) shape: KeyShape,
    pub(crate) key_len: usize,
    pub(crate) tag_len: usize,
}

impl Old {
    #[inline]
    pub(crate) fn of(e: &EntryRef<'_>) -> Self {
        let (key_len, tag_len) = (e.key.bytes.len(), e.tag.map_or(0, |tag| tag.bytes.len()));
        Self { entry: e.entry, shape: e.key.shape, key_len, tag_len }
    }
}

/// Where entries are looked up and stored.
pub(crate) trait Store {
    /// Returns what counts of the live entry of a key.
    fn look(&mut self, hash: u64, key: KeyRef<'_>) -> Option<Old>;
    /// Returns the live entry of a key.
    fn find(&mut self, hash: u64, key: KeyRef<'_>) -> Option<OwnedEntry>;
    /// Stores an entry. `value`: the bytes that the record carries for it, if it does; they were not checked.
    fn put(&mut self, hash: u64, entry: EntryRef<'_>, value: Option<&[u8]>);
    /// Returns the first or last live entry between two keys, both excluded.
    fn edge(&mut self, lower: KeyRef<'_>, upper: KeyRef<'_>, direction: Direction) -> Option<OwnedEntry>;
    /// Forgets everything.
    fn clear(&mut self);
    /// The running totals.
    fn counters(&mut self) -> &mut Counters;
    /// Notes that `bytes` more (or fewer) live bytes lie at an address.
    fn used(&mut self, addr: u64, bytes: i64);
}

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Position of its commit: the version of what it changes.
    pub(crate) version: u64,
    /// Address of its value's first byte.
    pub(crate) addr: u64,
    /// The reads that the policy counts: by time, by number.
    pub(crate) tracks: Tracks,
}

/// Which accesses an update counts as.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tracks {
    pub(crate) time: bool,
    pub(crate) count: bool,
}

/// Returns what an entry costs on disk, for the size limit.
pub(crate) fn cost(entry: &EntryRef<'_>) -> u64 {
    cost_of(&Old::of(entry))
}

#[inline]
fn cost_of(old: &Old) -> u64 {
    (ENTRY_OVERHEAD + (old.key_len + old.tag_len) as u64).saturating_add(old.entry.value.len)
}

/// Applies one record that changes entries; the others belong to the state.
pub(crate) fn apply(store: &mut dyn Store, record: &Record<'_>, at: At) -> Outcome {
    match record {
        Record::Set(key, item) => {
            let hash = key.hash();
            let old = store.look(hash, *key);
            Outcome::Stored(put_item(store, hash, *key, item, at, old.as_ref()))
        }
        Record::Add(key, item) => {
            let hash = key.hash();
            let old = store.look(hash, *key);
            if old.as_ref().is_some_and(|old| !old.entry.is_expired(item.now)) {
                return Outcome::Kept;
            }
            Outcome::Stored(put_item(store, hash, *key, item, at, old.as_ref()))
        }
        Record::Push { prefix, front, item } => push(store, *prefix, *front, item, at),
        Record::Incr { key, delta, default, now } => incr(store, *key, (*delta, *default), *now, at),
        Record::Touch { key, expire, now } => touch(store, *key, *expire, *now, at),
        Record::Delete { key, now } => {
            let hash = key.hash();
            match store.find(hash, *key).filter(|old| !old.entry.is_expired(*now)) {
                Some(old) => {
                    remove(store, hash, &old, at);
                    Outcome::Removed(Box::new(old))
                }
                None => Outcome::Missing,
            }
        }
        Record::Pull { prefix, front, now } => pull(store, *prefix, *front, *now, at),
        Record::Remove(cause, versions) => {
            let mut removed = Vec::new();
            for (key, version) in versions.iter() {
                let hash = key.hash();
                let version = if version == THIS_COMMIT { at.version } else { version };
                let Some(old) = store.find(hash, key).filter(|old| old.entry.version == version || *cause == Cause::Clear) else {
                    continue;
                };
                remove(store, hash, &old, at);
                removed.push(old);
            }
            Outcome::RemovedMany(removed)
        }
        Record::Accessed(accesses) => {
            for (key, count, last) in accesses.iter() {
                access(store, key, count, last);
            }
            Outcome::Done
        }
        Record::Clear => {
            let count = store.counters().count;
            store.clear();
            Outcome::Cleared(count)
        }
        _ => Outcome::Done,
    }
}

/// Returns whether somebody has to tidy up after an entry that is gone: there is a file beside. Of most there is none, and nothing of them is
/// carried along.
#[inline]
const fn remains(entry: &Entry) -> bool {
    matches!(entry.value.place, Place::Blob(_)) || matches!(entry.value.kind, ValueKind::Custom1)
}

/// Stores an item. Returns what it replaced, if that leaves something behind.
fn put_item(store: &mut dyn Store, hash: u64, key: KeyRef<'_>, item: &Item<'_>, at: At, old: Option<&Old>) -> Option<Box<OwnedEntry>> {
    let gone = if old.is_some_and(|old| remains(&old.entry)) { store.find(hash, key).map(Box::new) } else { None };
    let rowid = match old {
        Some(old) => old.entry.rowid,
        None => next_rowid(store),
    };
    let entry = Entry {
        tombstone: false,
        value: item.value.meta,
        rowid,
        version: at.version,
        addr: at.addr,
        store_time: item.now,
        access_time: item.now,
        expire_time: item.expire,
        access_count: 0,
    };
    // A key keeps the shape that it first came in.
    let key = KeyRef { shape: old.map_or(key.shape, |old| old.shape), ..key };
    let value = if matches!(item.value.meta.place, Place::Log) { Some(item.value.bytes) } else { None };
    replace(store, hash, EntryRef { key, tag: item.tag, entry }, value, old);
    gone
}

fn next_rowid(store: &mut dyn Store) -> u64 {
    let counters = store.counters();
    counters.next_rowid = counters.next_rowid.saturating_add(1);
    counters.next_rowid
}

/// Stores an entry in place of `old` and keeps the totals right.
fn replace(store: &mut dyn Store, hash: u64, new: EntryRef<'_>, value: Option<&[u8]>, old: Option<&Old>) {
    if let Some(old) = old {
        discount(store, old);
    }
    count(store, &Old::of(&new));
    store.put(hash, new, value);
}

fn count(store: &mut dyn Store, new: &Old) {
    let cost = cost_of(new);
    let counters = store.counters();
    counters.count = counters.count.saturating_add(1);
    counters.live_bytes = counters.live_bytes.saturating_add(cost);
    if new.entry.expire_time < f64::INFINITY {
        counters.expiring = counters.expiring.saturating_add(1);
    }
    if let Place::Blob(_) = new.entry.value.place {
        counters.blobs = counters.blobs.saturating_add(1);
        counters.blob_bytes = counters.blob_bytes.saturating_add(new.entry.value.len);
    }
    store.used(new.entry.addr, log_bytes_of(new));
}

fn discount(store: &mut dyn Store, old: &Old) {
    let cost = cost_of(old);
    let counters = store.counters();
    counters.count = counters.count.saturating_sub(1);
    counters.live_bytes = counters.live_bytes.saturating_sub(cost);
    if old.entry.expire_time < f64::INFINITY {
        counters.expiring = counters.expiring.saturating_sub(1);
    }
    if let Place::Blob(_) = old.entry.value.place {
        counters.blobs = counters.blobs.saturating_sub(1);
        counters.blob_bytes = counters.blob_bytes.saturating_sub(old.entry.value.len);
    }
    store.used(old.entry.addr, -log_bytes_of(old));
}

/// Returns how many bytes of the log an entry keeps alive.
pub(crate) fn log_bytes(entry: &EntryRef<'_>) -> i64 {
    log_bytes_of(&Old::of(entry))
}

#[inline]
fn log_bytes_of(old: &Old) -> i64 {
    let value = if matches!(old.entry.value.place, Place::Log) { old.entry.value.len } else { 0 };
    i64::try_from(value.saturating_add(old.key_len as u64 + 96)).unwrap_or(i64::MAX)
}

fn remove(store: &mut dyn Store, hash: u64, old: &OwnedEntry, at: At) {
    discount(store, &Old::of(&old.as_ref()));
    store.put(hash, EntryRef { key: old.key.as_ref(), tag: None, entry: Entry::tombstone(at.version) }, None);
}

fn incr(store: &mut dyn Store, key: KeyRef<'_>, (delta, default): (Number, Option<Number>), now: f64, at: At) -> Outcome {
    let hash = key.hash();
    let old = store.find(hash, key);
    let live = old.as_ref().filter(|old| !old.entry.is_expired(now));
    let Some(base) = live.map_or(default, |old| old.entry.value.as_number()) else {
        return if live.is_some() { Outcome::WrongType } else { Outcome::Missing };
    };
    let Some(sum) = add(base, delta) else { return Outcome::WrongType };
    let entry = match live {
        Some(old) => Entry {
            value: ValueMeta::number(sum),
            version: at.version,
            addr: at.addr,
            store_time: now,
            access_time: if at.tracks.time { now } else { old.entry.access_time },
            access_count: old.entry.access_count.saturating_add(u32::from(at.tracks.count)),
            ..old.entry
        },
        None => Entry {
            tombstone: false,
            value: ValueMeta::number(sum),
            rowid: old.as_ref().map_or_else(|| next_rowid(store), |old| old.entry.rowid),
            version: at.version,
            addr: at.addr,
            store_time: now,
            access_time: now,
            expire_time: f64::INFINITY,
            access_count: 0,
        },
    };
    let (key, tag) = match (&old, live) {
        (Some(old), Some(_)) => (old.key.as_ref(), old.tag.as_deref().map(Key::as_ref)),
        (Some(old), None) => (old.key.as_ref(), None),
        (None, _) => (key, None),
    };
    let replaced = old.as_ref().map(|old| Old::of(&old.as_ref()));
    replace(store, hash, EntryRef { key, tag, entry }, None, replaced.as_ref());
    let expired = if live.is_none() { old.filter(|old| remains(&old.entry)).map(Box::new) } else { None };
    Outcome::Counted(sum, expired)
}

/// Adds; `None` if two integers leave the range of 64 bits.
#[expect(clippy::cast_precision_loss, reason = "an integer added to a float becomes one, as everywhere")]
fn add(a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a.checked_add(b).map(Number::Int),
        (Number::Int(a), Number::Float(b)) => Some(Number::Float(a as f64 + b)),
        (Number::Float(a), Number::Int(b)) => Some(Number::Float(a + b as f64)),
        (Number::Float(a), Number::Float(b)) => Some(Number::Float(a + b)),
    }
}

fn touch(store: &mut dyn Store, key: KeyRef<'_>, expire: f64, now: f64, at: At) -> Outcome {
    let hash = key.hash();
    let Some(old) = store.find(hash, key).filter(|old| !old.entry.is_expired(now)) else { return Outcome::Missing };
    let entry = Entry { expire_time: expire, version: at.version, ..old.entry };
    replace(store, hash, EntryRef { entry, ..old.as_ref() }, None, Some(&Old::of(&old.as_ref())));
    Outcome::Touched
}

/// Notes reads. The version stays: who chose the entry by it still means the same value.
fn access(store: &mut dyn Store, key: KeyRef<'_>, count: u32, last: f64) {
    let hash = key.hash();
    let Some(old) = store.find(hash, key) else { return };
    let access_count = if count == 0 { 0 } else { old.entry.access_count.saturating_add(count) };
    let entry = Entry { access_count, access_time: last.max(old.entry.access_time), ..old.entry };
    store.put(hash, EntryRef { entry, ..old.as_ref() }, None);
}

/// A queue's key for a number, and the keys around all of its own.
pub(crate) struct Queue<'a> {
    prefix: Option<&'a str>,
}

impl<'a> Queue<'a> {
    pub(crate) const fn named(prefix: Option<&'a str>) -> Self {
        Self { prefix }
    }

    pub(crate) fn key(&self, number: i64) -> Key {
        match self.prefix {
            None => NumberKey::int(number).as_ref().to_owned(),
            Some(prefix) => KeyRef::text(&format!("{prefix}-{number:015}")).to_owned(),
        }
    }

    pub(crate) fn bounds(&self) -> (Key, Key) {
        (self.key(0), self.key(QUEUE_END))
    }

    fn number(&self, key: &Key) -> Option<i64> {
        match self.prefix {
            None => match key.as_ref().number()? {
                NumberValue::Int(i) => Some(i),
                #[expect(clippy::cast_possible_truncation, reason = "between the bounds of a queue")]
                NumberValue::Float(f) => Some(f as i64),
            },
            Some(_) => std::str::from_utf8(&key.bytes).ok()?.rsplit('-').next()?.parse().ok(),
        }
    }
}

fn push(store: &mut dyn Store, prefix: Option<&str>, front: bool, item: &Item<'_>, at: At) -> Outcome {
    let queue = Queue::named(prefix);
    let (lower, upper) = queue.bounds();
    let direction = if front { Direction::Forward } else { Direction::Backward };
    let edge = store.edge(lower.as_ref(), upper.as_ref(), direction);
    let number = match edge.and_then(|e| queue.number(&e.key)) {
        Some(number) => number + if front { -1 } else { 1 },
        None => QUEUE_START,
    };
    let key = queue.key(number);
    let hash = key.as_ref().hash();
    let old = store.look(hash, key.as_ref());
    let gone = put_item(store, hash, key.as_ref(), item, at, old.as_ref());
    Outcome::Pushed(key, gone)
}

/// Removes from the end of a queue until something was there that had not expired.
fn pull(store: &mut dyn Store, prefix: Option<&str>, front: bool, now: f64, at: At) -> Outcome {
    let (lower, upper) = Queue::named(prefix).bounds();
    let direction = if front { Direction::Forward } else { Direction::Backward };
    let mut removed = Vec::new();
    while let Some(found) = store.edge(lower.as_ref(), upper.as_ref(), direction) {
        remove(store, found.key.as_ref().hash(), &found, at);
        let live = !found.entry.is_expired(now);
        removed.push(found);
        if live {
            break;
        }
    }
    Outcome::RemovedMany(removed)
}

/// Returns the bounds of a queue as spans take them.
pub(crate) fn excluded<'a>(lower: KeyRef<'a>, upper: KeyRef<'a>) -> (Bound<KeyRef<'a>>, Bound<KeyRef<'a>>) {
    (Bound::Excluded(lower), Bound::Excluded(upper))
}
