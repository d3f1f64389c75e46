//! Changing things: each call makes a record, publishes it, and returns what replay says of it.

use crate::cache::apply::Outcome;
use crate::cache::engine::{Committed, Engine};
use crate::cache::manifest::FoldRef;
use crate::cache::options::{Durability, Setting, Tuning};
use crate::cache::value::{Hit, Put, PutData};
use crate::cache::{Attempt, Cache};
use crate::clock::Deadline;
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{Cause, Item, RecordValue, VersionsBuilder};
use crate::format::entry::OwnedEntry;
use crate::format::wire::checksum;
use crate::format::{
    BODY_LEN_MAX, BodyBuilder, Codec, KEY_LEN_MAX, Key, KeyRef, Number, PREFIX_LEN_MAX, Place, Record, TAG_LEN_MAX, ValueMeta,
};
use crate::sync::{Arc, Ordering, read};
use crate::vfs::VfsFile;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::Read;

mod bulk;

pub use bulk::{Change, Changed};

/// Shorter values have no files of their own, however much a commit has to hold.
pub(crate) const SPILL_LEN_MIN: usize = 4 << 10;
/// A transaction that takes so many bytes of a commit gives further values files of their own.
const SPILL_FROM: usize = BODY_LEN_MAX / 4;
/// What a body keeps free for what goes along with a write: victims, noted reads.
const HEADROOM: usize = 64 << 20;

/// A body whose buffers grew beyond this is not kept for the next call.
const KEEP_LEN_MAX: usize = 1 << 20;

thread_local! {
    static BODY: RefCell<BodyBuilder> = RefCell::default();
}

/// Lends a body whose memory is used again.
fn with_body<T>(work: impl FnOnce(&mut BodyBuilder) -> T) -> T {
    let mut body = BODY.with(|cell| cell.try_borrow_mut().map(|mut b| std::mem::take(&mut *b)).unwrap_or_default());
    body.clear();
    let result = work(&mut body);
    if body.len() <= KEEP_LEN_MAX {
        BODY.with(|cell| cell.try_borrow_mut().map(|mut b| *b = body).ok());
    }
    result
}

/// Rest between tries to read a value that was taken out of the cache.
const TAKEN_RETRY: std::time::Duration = std::time::Duration::from_millis(20);

/// A value that is ready to be named by a record.
struct Staged<'a> {
    meta: ValueMeta,
    bytes: Cow<'a, [u8]>,
    /// Kept until the record is published: see `Written::hold`. (In a transaction the exclusive lock does as much.)
    hold: Option<Arc<dyn VfsFile>>,
}

impl Staged<'_> {
    fn blob(&self) -> Option<u64> {
        match self.meta.place {
            Place::Blob(id) => Some(id),
            _ => None,
        }
    }

    /// Returns whether it could have a file of its own instead of a place in the commit.
    fn can_spill(&self) -> bool {
        matches!(self.meta.place, Place::Log) && self.bytes.len() >= SPILL_LEN_MIN
    }
}

impl Engine {
    /// Puts a value where it belongs: inline, into the record, or into a blob.
    fn stage<'a>(&self, put: &mut Put<'a>) -> Result<Staged<'a>> {
        let (blob_len_min, codec) = {
            let state = read(&self.state);
            (state.tuning.blob_len_min, state.tuning.codec)
        };
        match &mut put.data {
            PutData::Bits(bits) => Ok(Staged { meta: ValueMeta::inline(put.kind, *bits), bytes: Cow::Borrowed(&[]), hold: None }),
            PutData::Bytes(bytes) => self.stage_bytes(put.kind, bytes, codec, blob_len_min),
            PutData::Reader(reader) => {
                let mut start = Vec::new();
                reader
                    .by_ref()
                    .take(blob_len_min)
                    .read_to_end(&mut start)
                    .map_err(|e| Error::new(ErrorKind::Io, "failed to read the value to be stored").caused_by(e))?;
                if (start.len() as u64) < blob_len_min {
                    let staged = self.stage_bytes(put.kind, &start, codec, blob_len_min)?;
                    return Ok(Staged { meta: staged.meta, bytes: Cow::Owned(staged.bytes.into_owned()), hold: staged.hold });
                }
                let written = self.blobs.write(&mut start.chain(reader))?;
                let meta =
                    ValueMeta { kind: put.kind, codec: Codec::None, place: Place::Blob(written.id), len: written.len, sum: written.sum };
                Ok(Staged { meta, bytes: Cow::Borrowed(&[]), hold: written.hold })
            }
        }
    }

    #[inline]
    fn stage_bytes<'a>(&self, kind: crate::format::ValueKind, bytes: &'a [u8], codec: Codec, blob_len_min: u64) -> Result<Staged<'a>> {
        let (codec, stored) = codec::encode(codec, bytes)?;
        let len = stored.len() as u64;
        if len >= blob_len_min.max(1) && len > 0 {
            let written = self.blobs.write(&mut &*stored)?;
            let meta = ValueMeta { kind, codec, place: Place::Blob(written.id), len, sum: written.sum };
            return Ok(Staged { meta, bytes: Cow::Borrowed(&[]), hold: written.hold });
        }
        let meta = ValueMeta { kind, codec, place: Place::Log, len, sum: checksum(&stored, self.marker.seed()) };
        Ok(Staged { meta, bytes: stored, hold: None })
    }

    /// Gives a value that was to go into the commit a file of its own.
    fn spill(&self, staged: &mut Staged<'_>) -> Result<()> {
        let written = self.blobs.write(&mut &*staged.bytes)?;
        let meta = ValueMeta { place: Place::Blob(written.id), len: written.len, sum: written.sum, ..staged.meta };
        *staged = Staged { meta, bytes: Cow::Borrowed(&[]), hold: written.hold };
        Ok(())
    }

    fn check_prefix(&self, prefix: Option<&str>) -> Result<()> {
        let len = prefix.map_or(0, str::len);
        if len > PREFIX_LEN_MAX {
            return Err(Error::new(ErrorKind::Invalid, format!("a queue's name has at most {PREFIX_LEN_MAX} bytes, this one {len}")));
        }
        Ok(())
    }

    fn check_key(&self, key: KeyRef<'_>, tag: Option<KeyRef<'_>>) -> Result<()> {
        if key.bytes.len() > KEY_LEN_MAX {
            return Err(Error::new(ErrorKind::Invalid, format!("a key has at most {KEY_LEN_MAX} bytes, this one {}", key.bytes.len())));
        }
        if let Some(tag) = tag.filter(|tag| tag.bytes.len() >= TAG_LEN_MAX) {
            return Err(Error::new(ErrorKind::Invalid, format!("a tag has less than {TAG_LEN_MAX} bytes, this one {}", tag.bytes.len())));
        }
        Ok(())
    }

    /// Stores a value by the record that `make` makes of it.
    fn put(
        &self,
        mut put: Put<'_>,
        deadline: Deadline,
        locked: Unlock<'_>,
        make: impl FnOnce(Item<'_>, &mut BodyBuilder),
    ) -> Result<Outcome> {
        let now = self.clock.wall();
        let expire = expiry(put.expire, now);
        let mut staged = self.stage(&mut put)?;
        if staged.can_spill() && self.pending_len() + staged.bytes.len() > SPILL_FROM {
            self.spill(&mut staged)?;
        }
        let result = with_body(|body| {
            let item = Item { value: RecordValue { meta: staged.meta, bytes: &staged.bytes }, tag: put.tag, expire, now };
            make(item, body);
            if !self.transaction.is_mine() {
                self.add_victims(body, now, staged.meta.len);
            }
            self.submit(body, deadline, locked)
        });
        let blob = staged.blob();
        drop(staged.hold);
        match (result, blob) {
            (Ok(mut outcomes), blob) => {
                let outcome = outcomes.swap_remove(0);
                if let (Outcome::Kept, Some(id)) = (&outcome, blob) {
                    self.blobs.remove(id);
                }
                Ok(outcome)
            }
            (Err(error), Some(id)) if error.kind().is_certain() => {
                self.blobs.remove(id);
                Err(error)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Publishes records (or adds them to this thread's transaction), removes the files of what they removed, and does the maintenance
    /// that is due. `locked` says whether the exclusive lock is held; it is given back.
    pub(crate) fn submit(&self, body: &BodyBuilder, deadline: Deadline, locked: Unlock<'_>) -> Result<Vec<Outcome>> {
        if let Some(result) = self.apply_in_transaction(body) {
            return result;
        }
        let tries = locked.take_over();
        let committed = if tries { self.commit_exclusive(body, deadline) } else { self.commit(body, deadline) };
        let Committed { outcomes, .. } = committed?;
        self.tidy(&outcomes);
        // Who only tries does not wait for the thread either: the next one to write does.
        if !(tries && self.maintenance.is_due() && self.worker.start()) {
            self.after_write(deadline);
        }
        Ok(outcomes)
    }

    /// Removes the blobs of entries that are gone.
    pub(crate) fn tidy(&self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome {
                Outcome::Stored(Some(old)) | Outcome::Pushed(_, Some(old)) | Outcome::Counted(_, Some(old)) => self.tidy_entry(old),
                Outcome::RemovedMany(many) => many.iter().for_each(|old| self.tidy_entry(old)),
                _ => {}
            }
        }
    }

    /// Removes the blob of an entry that is gone; of one that is gone only in a transaction, the transaction does it once committed.
    pub(crate) fn tidy_entry(&self, old: &OwnedEntry) {
        if self.transaction.is_mine() {
            return;
        }
        self.tell_companion(old);
        if let Place::Blob(id) = old.entry.value.place {
            self.maintenance.retire_blob(self, id);
        }
    }

    fn single(&self, record: &Record<'_>, deadline: Deadline, locked: Unlock<'_>) -> Result<Outcome> {
        with_body(|body| {
            body.push(record);
            Ok(self.submit(body, deadline, locked)?.swap_remove(0))
        })
    }

    /// Adds the removal of what expired and of what is over the size limit.
    fn add_victims(&self, body: &mut BodyBuilder, now: f64, more: u64) {
        let (due, notes_accesses) = {
            let state = read(&self.state);
            let expired = state.counters.expiring > 0 && now > state.expire_floor;
            let due = state.tuning.cull_limit > 0 && (expired || self.is_over_limit(&state, more));
            (due, state.tuning.policy.needs_accesses())
        };
        if due {
            for (cause, victims) in self.victims(now, more) {
                body.push(&Record::Remove(cause, victims.list()));
            }
        }
        if notes_accesses && let Some(accesses) = self.maintenance.take_accesses(self) {
            body.push(&Record::Accessed(accesses.list()));
        }
    }

    /// Takes the exclusive lock if it is free at once (local mode, outside of transactions).
    fn try_lock(&self) -> Result<bool> {
        match &self.local {
            Some(local) if !self.transaction.is_mine() && self.options.durability == crate::cache::Durability::Process => {
                // Making the state anew takes a while, and the caller wants none of that.
                if self.is_state_old() { Ok(false) } else { local.try_begin_exclusive() }
            }
            _ => Ok(false),
        }
    }
}

/// Turns seconds from now into a time; none is never.
fn expiry(seconds: Option<f64>, now: f64) -> f64 {
    seconds.map_or(f64::INFINITY, |s| now + s)
}

/// Makes a call's waiting and its trying form of the same steps.
macro_rules! both {
    ($(#[$doc:meta])* $name:ident, $try_name:ident, ($($arg:ident: $type:ty),*) -> $out:ty, |$engine:ident, $deadline:ident, $locked:ident| $steps:expr) => {
        $(#[$doc])*
        pub fn $name(&self, $($arg: $type),*) -> Result<$out> {
            let $engine = self.engine()?;
            $engine.check_writable()?;
            let ($deadline, $locked) = ($engine.deadline(), $engine.unlocked());
            $steps
        }

        #[doc = concat!("As [`Self::", stringify!($name), "`], but never waits for another thread, process or drive.")]
        ///
        /// # Errors
        /// The same.
        pub fn $try_name(&self, $($arg: $type),*) -> Result<Attempt<$out>> {
            let $engine = self.engine()?;
            $engine.check_writable()?;
            if $engine.wants_maintenance() || !$engine.try_lock()? {
                return Ok(Attempt::WouldBlock);
            }
            let ($deadline, $locked) = (Deadline::NEVER, Unlock { engine: &$engine, locked: Cell::new(true) });
            $steps.map(Attempt::Done)
        }
    };
}

impl Cache {
    both!(
        /// Stores a value under a key.
        ///
        /// # Errors
        /// `Invalid` for a key or tag that is too long, `Io`, `Timeout`, `OutcomeUnknown`.
        set, try_set, (key: KeyRef<'_>, put: Put<'_>) -> (), |engine, deadline, locked| {
            engine.check_key(key, put.tag)?;
            engine.put(put, deadline, locked, |item, body| body.push(&Record::Set(key, item))).map(drop)
        }
    );
    both!(
        /// Stores a value under a key that has none (or an expired one). Returns whether it did.
        ///
        /// # Errors
        /// As [`Self::set`].
        add, try_add, (key: KeyRef<'_>, put: Put<'_>) -> bool, |engine, deadline, locked| {
            engine.check_key(key, put.tag)?;
            let outcome = engine.put(put, deadline, locked, |item, body| body.push(&Record::Add(key, item)))?;
            Ok(matches!(outcome, Outcome::Stored(_)))
        }
    );
    both!(
        /// Adds `delta` to a number, or to `default` if the key has none. Returns the sum, or `None` if there is neither.
        ///
        /// # Errors
        /// `WrongType` if the value is no number or the sum leaves 64 bits; else as [`Self::set`].
        incr, try_incr, (key: KeyRef<'_>, delta: Number, default: Option<Number>) -> Option<Number>, |engine, deadline, locked| {
            engine.check_key(key, None)?;
            match engine.single(&Record::Incr { key, delta, default, now: engine.clock.wall() }, deadline, locked)? {
                Outcome::Counted(sum, _) => Ok(Some(sum)),
                Outcome::WrongType => {
                    Err(Error::new(ErrorKind::WrongType, "cannot add: the value is no number, or the sum leaves the range of 64 bits"))
                }
                _ => Ok(None),
            }
        }
    );
    both!(
        /// Removes a key. Returns whether it was there.
        ///
        /// # Errors
        /// As [`Self::set`].
        delete, try_delete, (key: KeyRef<'_>) -> bool, |engine, deadline, locked| {
            engine.check_key(key, None)?;
            match engine.single(&Record::Delete { key, now: engine.clock.wall() }, deadline, locked)? {
                Outcome::Removed(old) => {
                    engine.tidy_entry(&old);
                    Ok(true)
                }
                _ => Ok(false),
            }
        }
    );
    both!(
        /// Changes when a key expires: `expire` seconds from now, or never. Returns whether it was there.
        ///
        /// # Errors
        /// As [`Self::set`].
        touch, try_touch, (key: KeyRef<'_>, expire: Option<f64>) -> bool, |engine, deadline, locked| {
            engine.check_key(key, None)?;
            let now = engine.clock.wall();
            let record = Record::Touch { key, expire: expiry(expire, now), now };
            Ok(matches!(engine.single(&record, deadline, locked)?, Outcome::Touched))
        }
    );

    /// Removes a key and returns what it had, or `None`. Exactly one of several callers gets it.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn pop(&self, key: KeyRef<'_>) -> Result<Option<Hit>> {
        let engine = self.engine()?;
        engine.check_writable()?;
        engine.check_key(key, None)?;
        let deadline = engine.deadline();
        engine.take(&Record::Delete { key, now: engine.clock.wall() }, deadline)
    }

    /// Stores a value at the back (or front) of a queue and returns its key. Without a prefix the keys are integers, with one they are
    /// text: `prefix-500000000000000` and so on.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn push(&self, prefix: Option<&str>, front: bool, put: Put<'_>) -> Result<Key> {
        let engine = self.engine()?;
        engine.check_writable()?;
        engine.check_prefix(prefix)?;
        engine.check_key(KeyRef::text(""), put.tag)?;
        let deadline = engine.deadline();
        let outcome = engine.put(put, deadline, engine.unlocked(), |item, body| body.push(&Record::Push { prefix, front, item }))?;
        match outcome {
            Outcome::Pushed(key, _) => Ok(key),
            _ => Err(Error::new(ErrorKind::Damaged, "a push came to nothing in").at(&engine.dir)),
        }
    }

    /// Removes the first (or last) item of a queue that has not expired and returns it.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn pull(&self, prefix: Option<&str>, front: bool) -> Result<Option<Hit>> {
        let engine = self.engine()?;
        engine.check_writable()?;
        engine.check_prefix(prefix)?;
        let deadline = engine.deadline();
        engine.take(&Record::Pull { prefix, front, now: engine.clock.wall() }, deadline)
    }

    /// Removes everything. Returns how many entries there were.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn clear(&self) -> Result<u64> {
        let engine = self.engine()?;
        engine.check_writable()?;
        let deadline = engine.deadline();
        engine.freshen(deadline)?;
        let blobs = engine.all_blobs(deadline)?;
        let beside = engine.all_beside(deadline)?;
        match engine.single(&Record::Clear, deadline, engine.unlocked())? {
            Outcome::Cleared(count) => {
                engine.tidy_cleared(blobs);
                engine.tell_companion_of(&beside);
                Ok(count)
            }
            _ => Ok(0),
        }
    }

    /// Stores a setting with the cache.
    ///
    /// # Errors
    /// `Invalid` for a value that makes no sense; else as [`Self::set`].
    pub fn reset_setting(&self, name: &str, value: &Setting) -> Result<()> {
        let engine = self.engine()?;
        engine.check_writable()?;
        Tuning::check(name, value)?;
        engine.single(&Record::Setting(name, &value.encode()), engine.deadline(), engine.unlocked()).map(drop)
    }

    /// Returns hits and misses; `enable` says whether they are counted from now on, `reset` starts from zero after this.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn stats(&self, enable: bool, reset: bool) -> Result<(u64, u64)> {
        let engine = self.engine()?;
        engine.check_writable()?;
        let deadline = engine.deadline();
        engine.freshen(deadline)?;
        let (hits, misses) = (engine.hits.swap(0, Ordering::Relaxed), engine.misses.swap(0, Ordering::Relaxed));
        let (was, enabled) = {
            let state = read(&engine.state);
            ((state.counters.hits + hits, state.counters.misses + misses), state.tuning.statistics)
        };
        with_body(|body| {
            if reset {
                body.push(&Record::Statistics { hits: 0, misses: 0, reset: true });
            } else if hits + misses > 0 {
                body.push(&Record::Statistics { hits, misses, reset: false });
            }
            let setting = Setting::Int(i64::from(enable)).encode();
            if enabled != enable {
                body.push(&Record::Setting("statistics", &setting));
            }
            if body.is_empty() { Ok(Vec::new()) } else { engine.submit(body, deadline, engine.unlocked()) }
        })?;
        Ok(was)
    }
}

impl Engine {
    /// Removes by a record, and returns what it removed last, if that is a value that has not expired. The value is read before anything
    /// else can happen to its bytes, and only then tidied.
    fn take(&self, record: &Record<'_>, deadline: Deadline) -> Result<Option<Hit>> {
        let now = match record {
            Record::Delete { now, .. } | Record::Pull { now, .. } => *now,
            _ => f64::NEG_INFINITY,
        };
        with_body(|body| {
            body.push(record);
            self.taking(body, deadline, |committed| {
                let removed = match committed.outcomes.into_iter().next() {
                    Some(Outcome::Removed(old)) => vec![*old],
                    Some(Outcome::RemovedMany(removed)) => removed,
                    _ => Vec::new(),
                };
                let last = removed.last().filter(|old| !old.entry.is_expired(now));
                let hit = last.map_or(Ok(None), |old| self.read_taken(&committed.folds, old, deadline))?;
                Ok((hit, removed))
            })
        })
    }

    /// Publishes records that remove what `read` then reads, before anything else can happen to its bytes. `read` returns besides what was
    /// removed: it is tidied afterwards. Does the maintenance that is due.
    fn taking<T>(
        &self,
        body: &BodyBuilder,
        deadline: Deadline,
        read_all: impl FnOnce(Committed) -> Result<(T, Vec<OwnedEntry>)>,
    ) -> Result<T> {
        if let Some(outcomes) = self.apply_in_transaction(body) {
            let folds = read(&self.state).folds.clone();
            return read_all(Committed { outcomes: outcomes?, void: false, folds }).map(|(taken, _)| taken);
        }
        let taken = if self.is_local() {
            // Under the lock nobody can publish a fold or a checkpoint, and so nobody removes what it is in.
            self.begin_exclusive(deadline)?;
            let taken = self.publish(body, None, deadline).and_then(read_all);
            self.log.end_exclusive();
            if self.options.durability == Durability::Host && taken.is_ok() {
                self.log.sync().map_err(|e| e.with_kind(ErrorKind::OutcomeUnknown))?;
            }
            taken
        } else {
            self.commit(body, deadline).and_then(read_all)
        };
        // Only now: the removal is durable where it must be, and no file may go before the record that gives it up.
        if let Ok((_, removed)) = &taken {
            removed.iter().for_each(|old| self.tidy_entry(old));
        }
        self.after_write(deadline);
        taken.map(|(taken, _)| taken)
    }

    /// Reads the value of what was just removed. An error now must not say that nothing was done, and the value is nobody's but the caller's.
    fn read_taken(&self, folds: &[FoldRef], old: &OwnedEntry, deadline: Deadline) -> Result<Option<Hit>> {
        if let Some(hit) = self.hit_in_transaction(old) {
            return hit;
        }
        loop {
            match self.hit_by(folds, &old.as_ref(), deadline) {
                Ok(hit) => return Ok(Some(hit)),
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                    return Ok(None);
                }
                // On a local disk the host's lock is held: nobody waits for a disk that fails.
                Err(error) if error.kind() == ErrorKind::Io && !self.is_local() && !deadline.passed(&*self.clock) => {
                    self.clock.sleep(TAKEN_RETRY);
                }
                Err(error) => return Err(error.with_kind(ErrorKind::OutcomeUnknown)),
            }
        }
    }

    /// Says that the exclusive lock is not held.
    pub(crate) const fn unlocked(&self) -> Unlock<'_> {
        Unlock { engine: self, locked: Cell::new(false) }
    }

    /// Publishes the removal of victims alone. Returns what was removed.
    pub(crate) fn remove(&self, cause: Cause, victims: &VersionsBuilder, deadline: Deadline) -> Result<u64> {
        match self.single(&Record::Remove(cause, victims.list()), deadline, self.unlocked())? {
            Outcome::RemovedMany(removed) => Ok(removed.len() as u64),
            _ => Ok(0),
        }
    }

    /// Writes what is held back, at the end.
    pub(crate) fn finish(&self, deadline: Deadline) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let (hits, misses) = (self.hits.swap(0, Ordering::Relaxed), self.misses.swap(0, Ordering::Relaxed));
        let accesses = self.accesses.take();
        let result = with_body(|body| {
            if hits + misses > 0 {
                body.push(&Record::Statistics { hits, misses, reset: false });
            }
            if let Some(list) = &accesses {
                body.push(&Record::Accessed(list.list()));
            }
            if body.is_empty() { Ok(()) } else { self.commit(body, deadline).map(drop) }
        });
        self.checkpoint_at_close(deadline);
        self.maintenance.close(self);
        result
    }
}

/// Says whether the exclusive lock is held, and gives it back unless somebody takes it over.
pub(crate) struct Unlock<'a> {
    engine: &'a Engine,
    locked: Cell<bool>,
}

impl Unlock<'_> {
    /// Returns whether the lock is held; the caller gives it back from now on.
    fn take_over(&self) -> bool {
        self.locked.replace(false)
    }
}

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        if self.locked.get() {
            self.engine.log.end_exclusive();
        }
    }
}
