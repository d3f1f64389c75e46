//! Transactions: calls of one thread that take effect together.
//!
//! The thread's calls go to an overlay over the state, by the same rules as replay, and into a body. In local mode the thread holds the
//! host's lock meanwhile, so nothing can come between; in shared mode others are asked to hold, and the commit counts only if it lands
//! right after the state that it was decided on.

use crate::cache::Cache;
use crate::cache::apply::{At, Old, Outcome, Store, THIS_COMMIT, apply, excluded};
use crate::cache::engine::Engine;
use crate::cache::manifest::Counters;
use crate::cache::state::State;
use crate::cache::value::{Hit, Value};
use crate::cache::write::SPILL_LEN_MIN;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, EntryRef, OwnedEntry};
use crate::format::{BODY_LEN_MAX, BodyBuilder, KeyRef, Place, Record, ValueKind};
use crate::index::{Delta, Direction, Layers, Levels, Lookup, Span};
use crate::log::Bytes;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock, read};
use std::cell::Cell;
use std::time::Duration;

/// Set in the addresses of values that only the overlay has: the rest is their offset in the transaction's values.
pub(super) const PENDING: u64 = 1 << 63;
/// How long others are asked to hold.
const HOLD: Duration = Duration::from_secs(5);

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

static NEXT_THREAD: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

/// Returns a number that no other thread of this process has.
fn me() -> u64 {
    THREAD.with(|cell| {
        if cell.get() == 0 {
            cell.set(NEXT_THREAD.fetch_add(1, Ordering::Relaxed));
        }
        cell.get()
    })
}

/// The transaction of a cache in this process, if one is open.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// The thread whose it is; 0: none is open.
    owner: AtomicU64,
    pub(super) open: Mutex<Option<Open>>,
}

/// What an open transaction has changed.
#[derive(Debug)]
pub(crate) struct Open {
    depth: u32,
    pub(crate) delta: Delta,
    pub(crate) cleared: bool,
    counters: Counters,
    body: BodyBuilder,
    decided_on: u64,
    /// Entries whose blobs go once it is committed.
    removed: Vec<OwnedEntry>,
    /// Further blobs that go then: those of everything that it cleared.
    cleared_blobs: Vec<u64>,
    /// Values that a companion is told of once it is committed.
    pub(super) beside: Vec<Vec<u8>>,
    /// Blobs that go if it is not.
    written: Vec<u64>,
}

/// The overlay of this thread's transaction.
pub(crate) struct Overlay<'a>(MutexGuard<'a, Option<Open>>);

impl std::ops::Deref for Overlay<'_> {
    type Target = Open;

    fn deref(&self) -> &Open {
        self.0.as_ref().expect("made only of an open one")
    }
}

impl Transactions {
    /// Returns whether one is open, whoever's it is.
    pub(crate) fn is_open(&self) -> bool {
        self.owner.load(Ordering::Acquire) != 0
    }

    /// Returns whether the calling thread has a transaction open.
    #[inline]
    pub(crate) fn is_mine(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner != 0 && owner == me()
    }

    /// Returns the overlay of this thread's transaction.
    pub(crate) fn overlay(&self) -> Option<Overlay<'_>> {
        if !self.is_mine() {
            return None;
        }
        let open = lock(&self.open);
        open.is_some().then_some(Overlay(open))
    }

    /// Returns the totals as this thread's transaction sees them.
    pub(crate) fn counters(&self) -> Option<Counters> {
        self.overlay().map(|open| open.counters)
    }
}

struct OverlayStore<'a> {
    open: &'a mut Open,
    base: &'a State,
    no_levels: &'a Levels,
}

impl OverlayStore<'_> {
    fn layers<'a>(&'a self, deltas: &'a [&'a Delta]) -> Layers<'a> {
        let levels = if self.open.cleared { self.no_levels } else { &self.base.levels };
        Layers { deltas, levels, files: &self.base.files }
    }
}

impl Store for OverlayStore<'_> {
    fn find(&mut self, hash: u64, key: KeyRef<'_>) -> Option<OwnedEntry> {
        find(self.open, self.base, hash, key).ok().flatten()
    }

    fn look(&mut self, hash: u64, key: KeyRef<'_>) -> Option<Old> {
        self.find(hash, key).map(|found| Old::of(&found.as_ref()))
    }

    fn put(&mut self, hash: u64, entry: EntryRef<'_>, _value: Option<&[u8]>) {
        // Its bytes lie with the records of the transaction until that is committed.
        self.open.delta.put(hash, entry);
    }

    fn edge(&mut self, lower: KeyRef<'_>, upper: KeyRef<'_>, direction: Direction) -> Option<OwnedEntry> {
        let (lower, upper) = excluded(lower, upper);
        let both = [&self.open.delta, &self.base.delta];
        let deltas = if self.open.cleared { &both[..1] } else { &both[..] };
        let found = self.layers(deltas).walk(Span::keys(lower, upper), direction).next()?;
        found.ok().map(|found| found.to_owned())
    }

    fn clear(&mut self) {
        self.open.delta.clear();
        self.open.cleared = true;
        let kept = self.open.counters;
        self.open.counters = Counters { next_rowid: kept.next_rowid, hits: kept.hits, misses: kept.misses, ..Counters::default() };
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.open.counters
    }

    fn used(&mut self, _addr: u64, _bytes: i64) {}
}

fn find(open: &Open, base: &State, hash: u64, key: KeyRef<'_>) -> Result<Option<OwnedEntry>> {
    if let Some(entry) = open.delta.get(hash, key) {
        return Ok((!entry.is_tombstone()).then(|| entry.as_ref().to_owned()));
    }
    if open.cleared {
        return Ok(None);
    }
    match base.layers(&[&base.delta]).lookup(hash, key)? {
        Lookup::Found(found) => Ok(Some(found.to_owned())),
        Lookup::Missing | Lookup::Damaged(_) => Ok(None),
    }
}

impl Engine {
    /// Applies records to this thread's transaction, if it has one.
    pub(crate) fn apply_in_transaction(&self, body: &BodyBuilder) -> Option<Result<Vec<Outcome>>> {
        if !self.transaction.is_mine() {
            return None;
        }
        let mut guard = lock(&self.transaction.open);
        let open = guard.as_mut()?;
        if !open.body.has_room_for(body.len()) {
            let taken = open.body.len() + body.len();
            let what = format!(
                "a transaction takes at most {BODY_LEN_MAX} bytes of keys and of values shorter than {SPILL_LEN_MIN} bytes (longer ones get files of \
                 their own where it becomes long), and this one about {taken}: make several of it"
            );
            return Some(Err(Error::new(ErrorKind::Invalid, what)));
        }
        let state = read(&self.state);
        let mut value_at = open.body.values().len() as u64;
        open.body.append(body);
        let no_levels = Levels::default();
        let mut outcomes = Vec::new();
        for (record, _) in body.as_body().records() {
            let at = At { version: THIS_COMMIT, addr: PENDING | value_at, tracks: state.tracks() };
            value_at += record.value().map_or(0, |value| value.bytes.len() as u64);
            let mut store = OverlayStore { open, base: &state, no_levels: &no_levels };
            let outcome = apply(&mut store, &record, at);
            note_blobs(open, &record, &outcome);
            outcomes.push(outcome);
        }
        Some(Ok(outcomes))
    }

    /// Returns how many bytes of a commit this thread's transaction takes so far; 0 without one.
    pub(crate) fn pending_len(&self) -> usize {
        self.transaction.overlay().map_or(0, |open| open.body.len())
    }

    /// Looks a key up in this thread's transaction, if it has one.
    pub(crate) fn find_in_transaction(&self, key: KeyRef<'_>) -> Option<Result<Option<OwnedEntry>>> {
        let overlay = self.transaction.overlay()?;
        let found = find(&overlay, &read(&self.state), key.hash(), key);
        Some(found.map(|found| found.filter(|f| !f.entry.is_expired(self.clock.wall()))))
    }

    pub(crate) fn get_in_transaction(&self, key: KeyRef<'_>, deadline: Deadline) -> Option<Result<Option<Hit>>> {
        let found = match self.find_in_transaction(key)? {
            Ok(Some(found)) => found,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        Some(self.hit(deadline, || Ok(Some(found.clone()))))
    }

    /// Returns an entry of this thread's transaction as a hit, if its value is nowhere else yet.
    pub(crate) fn hit_in_transaction(&self, found: &OwnedEntry) -> Option<Result<Option<Hit>>> {
        if found.entry.addr & PENDING == 0 || !self.transaction.is_mine() {
            return None;
        }
        let meta = found.entry.value;
        let value = match meta.place {
            Place::Inline(_) => Ok(Value::inline(meta)),
            Place::Blob(id) => Value::blob(meta, &self.blobs, id),
            Place::Log => {
                let overlay = self.transaction.overlay()?;
                let bytes = overlay.pending(&found.entry)?;
                Ok(Value::checked(meta, Bytes::from(bytes.to_vec())))
            }
        };
        Some(value.map(|value| {
            let expire = Some(found.entry.expire_time).filter(|t| *t < f64::INFINITY);
            Some(Hit { key: found.key.clone(), value, expire, tag: found.tag.as_deref().cloned() })
        }))
    }

    /// Removes blobs whose entries were cleared: now, or once this thread's transaction is committed.
    pub(crate) fn tidy_cleared(&self, blobs: Vec<u64>) {
        if self.transaction.is_mine() {
            if let Some(open) = lock(&self.transaction.open).as_mut() {
                open.cleared_blobs.extend(blobs);
            }
            return;
        }
        blobs.into_iter().for_each(|id| self.maintenance.retire_blob(self, id));
    }

    fn begin(&self, deadline: Deadline) -> Result<()> {
        self.begin_exclusive(deadline)?;
        let begun = self.begin_locked(deadline);
        if begun.is_err() {
            self.log.end_exclusive();
        }
        begun
    }

    fn begin_locked(&self, deadline: Deadline) -> Result<()> {
        let cursor = if self.is_local() {
            let mut cursor = self.lock_cursor(deadline)?;
            self.catch_up(&mut cursor, deadline)?;
            cursor
        } else {
            let mut body = BodyBuilder::default();
            let ms = u32::try_from(HOLD.as_millis()).unwrap_or(u32::MAX);
            body.push(&Record::Hold { owner: self.me, ms });
            self.honour_hold(deadline)?;
            // Whoever would write meets the hold where it would write, and whoever reads need not know of it. To publish it was to replay
            // everything before it: what is decided from here on is decided on the newest state.
            self.publish_quietly(&body, deadline)?;
            self.lock_cursor(deadline)?
        };
        let state = read(&self.state);
        let open = Open {
            depth: 1,
            delta: Delta::new(),
            cleared: false,
            counters: state.counters,
            body: BodyBuilder::default(),
            decided_on: cursor.position,
            removed: Vec::new(),
            cleared_blobs: Vec::new(),
            beside: Vec::new(),
            written: Vec::new(),
        };
        *lock(&self.transaction.open) = Some(open);
        self.transaction.owner.store(me(), Ordering::Relaxed);
        Ok(())
    }

    /// Ends the transaction and returns what it changed.
    fn end(&self) -> Option<Open> {
        let open = lock(&self.transaction.open).take();
        self.transaction.owner.store(0, Ordering::Relaxed);
        open
    }

    fn commit_transaction(&self, mut open: Open, deadline: Deadline) -> Result<()> {
        let committed = if self.is_local() {
            if open.body.is_empty() {
                self.log.end_exclusive();
                return Ok(());
            }
            self.commit_exclusive(&open.body, deadline)
        } else if open.body.is_empty() && self.lock_cursor(deadline)?.position == open.decided_on {
            // Nothing was written, and all that was read is of one state: it makes no difference whether others wrote meanwhile. Who waits for
            // the hold is told that it is over; else it runs out.
            let mut body = BodyBuilder::default();
            body.push(&Record::Release { owner: self.me });
            drop(self.publish(&body, None, deadline));
            return Ok(());
        } else {
            let mut body = std::mem::take(&mut open.body);
            body.push(&Record::Release { owner: self.me });
            self.publish(&body, Some(open.decided_on), deadline)
        };
        let lost = match committed {
            Ok(committed) if committed.void => Error::new(
                ErrorKind::Conflict,
                "another host wrote before the transaction was committed (it took longer than others can be asked to wait); nothing of it took \
                 effect, run it again:",
            )
            .at(&self.dir),
            Ok(_) => {
                open.removed.iter().for_each(|old| self.tidy_entry(old));
                open.cleared_blobs.iter().for_each(|id| self.maintenance.retire_blob(self, *id));
                self.tell_companion_of(&open.beside);
                self.cull_after(open.delta.len() - open.delta.tombstones(), deadline);
                self.after_write(deadline);
                return Ok(());
            }
            Err(error) => error,
        };
        if lost.kind().is_certain() {
            for id in &open.written {
                self.blobs.remove(*id);
            }
        }
        Err(lost)
    }
}

fn note_blobs(open: &mut Open, record: &Record<'_>, outcome: &Outcome) {
    if let Record::Set(_, item) | Record::Add(_, item) | Record::Push { item, .. } = record
        && let Place::Blob(id) = item.value.meta.place
        && !matches!(outcome, Outcome::Kept)
    {
        open.written.push(id);
    }
    match outcome {
        Outcome::Stored(Some(old)) | Outcome::Pushed(_, Some(old)) | Outcome::Counted(_, Some(old)) | Outcome::Removed(old) => {
            note_removed(open, old);
        }
        Outcome::RemovedMany(many) => many.iter().for_each(|old| note_removed(open, old)),
        _ => {}
    }
}

fn note_removed(open: &mut Open, old: &OwnedEntry) {
    if old.entry.value.kind == ValueKind::Custom1
        && let Some(bytes) = open.pending(&old.entry)
    {
        let bytes = bytes.to_vec();
        open.beside.push(bytes);
    }
    open.removed.push(old.clone());
}

impl Open {
    /// Returns the bytes of a value that only the overlay has.
    fn pending(&self, entry: &Entry) -> Option<&[u8]> {
        if entry.addr & PENDING == 0 || !matches!(entry.value.place, Place::Log) {
            return None;
        }
        let start = usize::try_from(entry.addr & !PENDING).ok()?;
        self.body.values().get(start..start + usize::try_from(entry.value.len).ok()?)
    }
}

impl Cache {
    /// Begins a transaction of the calling thread, or goes one level deeper into the one that it has open. Other threads and processes
    /// write after it; they read what was before it until it is committed.
    ///
    /// # Errors
    /// `Timeout`, `Io`.
    pub fn transact_begin(&self, timeout: Option<Duration>) -> Result<()> {
        let engine = self.engine()?;
        engine.check_writable()?;
        if engine.transaction.is_mine()
            && let Some(open) = lock(&engine.transaction.open).as_mut()
        {
            open.depth += 1;
            return Ok(());
        }
        engine.begin(timeout.map_or_else(|| engine.deadline(), |span| Deadline::after(&*engine.clock, span)))
    }

    /// Ends one level; the outermost takes effect, all or nothing.
    ///
    /// # Errors
    /// `Conflict` if nothing took effect and it should be run again; `Invalid` without a transaction; else as [`Cache::set`].
    pub fn transact_commit(&self) -> Result<()> {
        let engine = self.engine()?;
        if !engine.transaction.is_mine() {
            return Err(Error::new(ErrorKind::Invalid, "this thread has no transaction open"));
        }
        if let Some(open) = lock(&engine.transaction.open).as_mut()
            && open.depth > 1
        {
            open.depth -= 1;
            return Ok(());
        }
        match engine.end() {
            Some(open) => engine.commit_transaction(open, engine.deadline()),
            None => Ok(()),
        }
    }

    /// Ends the whole transaction of the calling thread; nothing of it takes effect.
    ///
    /// # Errors
    /// `Io`: nothing takes effect all the same.
    pub fn transact_rollback(&self) -> Result<()> {
        let engine = self.engine()?;
        if !engine.transaction.is_mine() {
            return Ok(());
        }
        if let Some(open) = engine.end() {
            for id in &open.written {
                engine.blobs.remove(*id);
            }
        }
        if engine.is_local() {
            engine.log.end_exclusive();
            return Ok(());
        }
        let mut body = BodyBuilder::default();
        body.push(&Record::Release { owner: engine.me });
        engine.publish(&body, None, engine.deadline()).map(drop)
    }

    /// Returns whether the calling thread has a transaction open.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.engine().is_ok_and(|engine| engine.transaction.is_mine())
    }
}
