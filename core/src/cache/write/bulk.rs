//! Many keys in one call: changes that are one commit, and look-ups that look at the drive once.

use super::{Engine, HEADROOM, SPILL_LEN_MIN, Staged, expiry, with_body};
use crate::cache::Cache;
use crate::cache::apply::Outcome;
use crate::cache::engine::Committed;
use crate::cache::value::{Hit, Put, Value};
use crate::cache::walk::{VICTIMS_LEN, VICTIMS_MAX};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{Cause, Item, RecordValue};
use crate::format::entry::OwnedEntry;
use crate::format::{BODY_LEN_MAX, BodyBuilder, Key, KeyRef, Record, SLOT_LEN};
use crate::sync::read;

/// More than a record takes beside its key, its tag and its value.
const RECORD_LEN: usize = 256;

/// One change of a batch.
#[derive(Debug)]
pub enum Change<'a> {
    /// As [`Cache::set`].
    Set(KeyRef<'a>, Put<'a>),
    /// As [`Cache::push`].
    Push {
        /// The queue's name.
        prefix: Option<&'a str>,
        /// At the front, or at the back.
        front: bool,
        /// What is stored.
        put: Put<'a>,
    },
    /// As [`Cache::delete`].
    Delete(KeyRef<'a>),
    /// As [`Cache::pop`].
    Pop(KeyRef<'a>),
}

/// What came of a [`Change`].
#[derive(Debug)]
pub enum Changed {
    /// It was stored.
    Set,
    /// It was stored under this key.
    Pushed(Key),
    /// Whether the key was there.
    Deleted(bool),
    /// What the key had.
    Popped(Option<Hit>),
}

impl Change<'_> {
    /// Returns its key (of a push: the queue's name) and its tag.
    fn names(&self) -> (KeyRef<'_>, Option<KeyRef<'_>>) {
        match self {
            Self::Set(key, put) => (*key, put.tag),
            Self::Push { prefix, put, .. } => (KeyRef::text(prefix.unwrap_or("")), put.tag),
            Self::Delete(key) | Self::Pop(key) => (*key, None),
        }
    }

    /// Adds its record to `body`, with what was staged of its value.
    fn record(&self, staged: Option<&Staged<'_>>, now: f64, body: &mut BodyBuilder) {
        let (_, tag) = self.names();
        let item = |put: &Put<'_>| {
            let staged = staged?;
            Some((RecordValue { meta: staged.meta, bytes: &staged.bytes }, expiry(put.expire, now)))
        };
        match self {
            Self::Set(key, put) => {
                let Some((value, expire)) = item(put) else { return };
                body.push(&Record::Set(*key, Item { value, tag, expire, now }));
            }
            Self::Push { prefix, front, put } => {
                let Some((value, expire)) = item(put) else { return };
                body.push(&Record::Push { prefix: *prefix, front: *front, item: Item { value, tag, expire, now } });
            }
            Self::Delete(key) | Self::Pop(key) => body.push(&Record::Delete { key: *key, now }),
        }
    }
}

impl Engine {
    /// Puts the values of a batch where they belong. After an error nothing of them is left.
    fn stage_many<'a>(&self, changes: &mut [Change<'a>]) -> Result<Vec<Option<Staged<'a>>>> {
        let mut all = Vec::with_capacity(changes.len());
        for change in changes {
            let staged = match change {
                Change::Set(_, put) | Change::Push { put, .. } => self.stage(put).map(Some),
                Change::Delete(_) | Change::Pop(_) => Ok(None),
            };
            match staged {
                Ok(staged) => all.push(staged),
                Err(error) => {
                    self.give_up(&all);
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    /// Gives values files of their own, the longest first, until the batch fits into one commit.
    fn fit(&self, changes: &[Change<'_>], staged: &mut [Option<Staged<'_>>]) -> Result<()> {
        let slot = |staged: &Staged<'_>| staged.bytes.len().next_multiple_of(SLOT_LEN);
        let names = changes.iter().map(|change| {
            let (key, tag) = change.names();
            RECORD_LEN + key.bytes.len() + tag.map_or(0, |tag| tag.bytes.len())
        });
        let values = staged.iter().flatten().map(slot);
        let mut len = names.chain(values).fold(0, usize::saturating_add);
        let room = (BODY_LEN_MAX - HEADROOM).saturating_sub(self.pending_len());
        if len <= room {
            return Ok(());
        }
        let mut longest: Vec<&mut Staged<'_>> = staged.iter_mut().flatten().filter(|staged| staged.can_spill()).collect();
        let spilled: usize = longest.iter().map(|staged| slot(staged)).sum();
        if len - spilled > room {
            let what = format!(
                "a batch takes at most {room} bytes of keys and of values shorter than {SPILL_LEN_MIN} bytes, and this one {}: make several of it",
                len - spilled
            );
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        longest.sort_by_key(|staged| std::cmp::Reverse(staged.bytes.len()));
        for staged in longest {
            if len <= room {
                break;
            }
            len -= slot(staged);
            self.spill(staged)?;
        }
        Ok(())
    }

    /// Removes the blobs of values that were never named by a record.
    fn give_up(&self, staged: &[Option<Staged<'_>>]) {
        for id in staged.iter().flatten().filter_map(Staged::blob) {
            self.blobs.remove(id);
        }
    }

    fn write_many(&self, changes: &mut [Change<'_>], deadline: Deadline) -> Result<Vec<Changed>> {
        let mut staged = self.stage_many(changes)?;
        if let Err(error) = self.fit(changes, &mut staged) {
            self.give_up(&staged);
            return Err(error);
        }
        let now = self.clock.wall();
        let result = with_body(|body| {
            for (change, staged) in changes.iter().zip(&staged) {
                change.record(staged.as_ref(), now, body);
            }
            if !self.transaction.is_mine() {
                self.add_victims(body, now, staged.iter().flatten().map(|staged| staged.meta.len).sum());
            }
            self.taking(body, deadline, |committed| self.changed(changes, committed, deadline))
        });
        let changed = match result {
            Ok(changed) => changed,
            Err(error) => {
                if error.kind().is_certain() {
                    self.give_up(&staged);
                }
                return Err(error);
            }
        };
        drop(staged);
        self.cull_after(changes.len(), deadline);
        Ok(changed)
    }

    /// Says what came of each change, and returns what all of them removed.
    fn changed(&self, changes: &[Change<'_>], committed: Committed, deadline: Deadline) -> Result<(Vec<Changed>, Vec<OwnedEntry>)> {
        let Committed { outcomes, folds, .. } = committed;
        let mut outcomes = outcomes.into_iter();
        let (mut all, mut removed) = (Vec::with_capacity(changes.len()), Vec::new());
        for (change, outcome) in changes.iter().zip(outcomes.by_ref()) {
            all.push(match (change, outcome) {
                (Change::Set(..), Outcome::Stored(old)) => {
                    removed.extend(old.map(|old| *old));
                    Changed::Set
                }
                (Change::Set(..), _) => Changed::Set,
                (Change::Push { .. }, Outcome::Pushed(key, old)) => {
                    removed.extend(old.map(|old| *old));
                    Changed::Pushed(key)
                }
                (Change::Push { .. }, _) => return Err(Error::new(ErrorKind::Damaged, "a push came to nothing in").at(&self.dir)),
                (Change::Delete(_), Outcome::Removed(old)) => {
                    removed.push(*old);
                    Changed::Deleted(true)
                }
                (Change::Delete(_), _) => Changed::Deleted(false),
                (Change::Pop(_), Outcome::Removed(old)) => {
                    let hit = self.read_taken(&folds, &old, deadline)?;
                    removed.push(*old);
                    Changed::Popped(hit)
                }
                (Change::Pop(_), _) => Changed::Popped(None),
            });
        }
        for outcome in outcomes {
            if let Outcome::RemovedMany(many) = outcome {
                removed.extend(many);
            }
        }
        Ok((all, removed))
    }

    /// Lets as much go as that many single writes would have: what expired, and entries while the cache is over its limit. What was written stays
    /// written whatever comes of it.
    pub(in crate::cache) fn cull_after(&self, count: usize, deadline: Deadline) {
        let may = read(&self.state).tuning.cull_limit;
        if self.transaction.is_mine() || count == 0 || may == 0 {
            return;
        }
        let mut room = may.saturating_mul(count as u64);
        for (cause, victims) in self.victims(self.clock.wall(), 0) {
            room = room.saturating_sub(self.remove(cause, &victims, deadline).unwrap_or(0));
        }
        while room > 0 {
            let need = self.to_evict(&read(&self.state));
            if need == 0 {
                return;
            }
            let victims = self.policy_victims(0..=room.min(VICTIMS_MAX), VICTIMS_LEN, need);
            let removed = if victims.list().is_empty() { 0 } else { self.remove(Cause::Cull, &victims, deadline).unwrap_or(0) };
            if removed == 0 {
                return;
            }
            room = room.saturating_sub(removed);
        }
    }
}

impl Cache {
    /// Makes many changes in their order, as one commit: all of them or none, and at once for everybody.
    ///
    /// # Errors
    /// `Invalid` for a key or tag that is too long, and for more keys and short values than fit into one commit (192 MiB); else as [`Self::set`].
    pub fn write_many(&self, changes: &mut [Change<'_>]) -> Result<Vec<Changed>> {
        let engine = self.engine()?;
        engine.check_writable()?;
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        for change in &*changes {
            let (key, tag) = change.names();
            engine.check_key(key, tag)?;
            if let Change::Push { prefix, .. } = change {
                engine.check_prefix(*prefix)?;
            }
        }
        engine.write_many(changes, engine.deadline())
    }

    /// Returns the values of many keys, in their order; the drive is looked at once.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Value>>> {
        let engine = self.engine()?;
        engine.check_open()?;
        if engine.transaction.is_mine() {
            return keys.iter().map(|key| self.get(*key)).collect();
        }
        let deadline = engine.deadline();
        engine.freshen(deadline)?;
        let values = keys.iter().map(|key| engine.get(*key, deadline)).collect();
        engine.after_read();
        values
    }
}
