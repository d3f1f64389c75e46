//! Ordered walks: keys, queue ends, what expired, what a tag names, what the eviction policy gives up.

use crate::cache::apply::{Queue, cost, excluded};
use crate::cache::engine::Engine;
use crate::cache::state::State;
use crate::cache::value::Hit;
use crate::cache::{Attempt, Cache};
use crate::clock::Deadline;
use crate::compaction::FoldFiles;
use crate::error::Result;
use crate::eviction::{self, Verdict};
use crate::format::body::{AccessesBuilder, Cause, VersionsBuilder};
use crate::format::entry::EntryRef;
use crate::format::{BodyBuilder, Key, KeyRef, Place, Record};
use crate::index::{Direction, Order, Span, Walker};
use crate::sync::{lock, read};
use std::ops::RangeInclusive;

/// Entries removed by one commit of a bulk removal, and the bytes of their keys from which on it takes no more.
const BATCH: usize = 512;
const BATCH_LEN: usize = 4 << 20;
/// The same for what a write removes along the way.
pub(crate) const VICTIMS_LEN: usize = 1 << 20;
/// Entries that it removes at most, `cull_limit` aside.
pub(crate) const VICTIMS_MAX: u64 = 16 << 10;
/// Entries that a walk takes before it lets writers have the state.
const SLICE: usize = 256;
/// Entries that an eviction looks at for each one that it may take.
const LOOKS_PER_VICTIM: u64 = 16;

/// The orders in which keys can be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// As they were first stored.
    Insertion,
    /// Numbers, text, bytes, each in their own order.
    Key,
}

/// A walk over keys that may be interrupted; it goes on where it was, whatever changed meanwhile.
#[derive(Debug, Clone)]
pub struct Keys {
    walker: Walker,
}

impl Cache {
    /// Starts a walk over all keys, expired ones included.
    #[must_use]
    pub fn keys(&self, order: KeyOrder, reverse: bool) -> Keys {
        let order = match order {
            KeyOrder::Insertion => Order::Insertion,
            KeyOrder::Key => Order::Key,
        };
        let direction = if reverse { Direction::Backward } else { Direction::Forward };
        Keys { walker: Walker::new(Span::all(order), direction) }
    }

    /// Returns up to `limit` further keys of a walk (fewer if they are long); none at its end.
    ///
    /// # Errors
    /// `Io`, `Timeout`, `Closed`.
    pub fn next_keys(&self, keys: &mut Keys, limit: usize) -> Result<Vec<Key>> {
        let engine = self.engine()?;
        engine.check_open()?;
        let deadline = engine.deadline();
        engine.freshen(deadline)?;
        let (mut found, mut len) = (Vec::new(), 0);
        engine.walk(&mut keys.walker, deadline, |entry| {
            found.push(entry.key.to_owned());
            len += entry.key.bytes.len();
            found.len() < limit && len < BATCH_LEN
        })?;
        Ok(found)
    }

    /// Returns the first (or last) item of a queue that has not expired, and leaves it there; those that expired before it are removed.
    ///
    /// # Errors
    /// As [`Cache::set`].
    pub fn peek(&self, prefix: Option<&str>, front: bool) -> Result<Option<Hit>> {
        let (lower, upper) = Queue::named(prefix).bounds();
        let (lower, upper) = excluded(lower.as_ref(), upper.as_ref());
        self.peek_span(&Span::keys(lower, upper), if front { Direction::Forward } else { Direction::Backward })
    }

    /// As [`Self::peek`], but never waits: for callers that hold an interpreter's lock.
    ///
    /// # Errors
    /// `Io`, `Closed`.
    pub fn try_peek(&self, prefix: Option<&str>, front: bool) -> Result<Attempt<Option<Hit>>> {
        let engine = self.engine()?;
        engine.check_open()?;
        if !engine.is_local() || engine.transaction.is_mine() || !engine.try_freshen()? {
            return Ok(Attempt::WouldBlock);
        }
        let (lower, upper) = Queue::named(prefix).bounds();
        let (lower, upper) = excluded(lower.as_ref(), upper.as_ref());
        let mut walker = Walker::new(Span::keys(lower, upper), if front { Direction::Forward } else { Direction::Backward });
        let state = read(&engine.state);
        let found = match state.layers(&[&state.delta]).next(&mut walker) {
            Ok(Some(found)) => found.to_owned(),
            Ok(None) => return Ok(Attempt::Done(None)),
            Err(_) => return Ok(Attempt::WouldBlock),
        };
        // What has expired is to be removed, and a file to be read: both may wait.
        if found.entry.is_expired(engine.clock.wall()) || matches!(found.entry.value.place, Place::Blob(_)) {
            return Ok(Attempt::WouldBlock);
        }
        let fold = FoldFiles::covering(&state.folds, found.entry.addr);
        drop(state);
        let key_and_tag = (found.key.bytes.len() + found.tag.as_ref().map_or(0, |tag| tag.bytes.len())) as u64;
        match engine.value_of(&found.entry, key_and_tag, fold.as_ref(), Deadline::NEVER) {
            Ok(value) => {
                let expire = Some(found.entry.expire_time).filter(|time| *time < f64::INFINITY);
                Ok(Attempt::Done(Some(Hit { key: found.key, value, expire, tag: found.tag.map(|tag| *tag) })))
            }
            Err(_) => Ok(Attempt::WouldBlock),
        }
    }

    /// Returns the entry stored first (or last) that has not expired; those that expired before it are removed.
    ///
    /// # Errors
    /// As [`Cache::set`].
    pub fn peekitem(&self, last: bool) -> Result<Option<Hit>> {
        self.peek_span(&Span::all(Order::Insertion), if last { Direction::Backward } else { Direction::Forward })
    }

    fn peek_span(&self, span: &Span, direction: Direction) -> Result<Option<Hit>> {
        let engine = self.engine()?;
        engine.check_open()?;
        let deadline = engine.deadline();
        engine.freshen(deadline)?;
        let now = engine.clock.wall();
        engine.hit(deadline, || {
            let mut walker = Walker::new(span.clone(), direction);
            loop {
                let (mut expired, mut live, mut is_full) = (VersionsBuilder::default(), None, false);
                engine.walk(&mut walker, deadline, |entry| {
                    if !entry.entry.is_expired(now) {
                        live = Some(entry.to_owned());
                        return false;
                    }
                    if !engine.options.read_only {
                        expired.push(entry.key, entry.entry.version);
                        is_full = expired.bytes_len() >= BATCH_LEN;
                    }
                    !is_full
                })?;
                if !expired.list().is_empty() {
                    engine.remove(Cause::Expire, &expired, deadline)?;
                }
                if !is_full {
                    return Ok(live);
                }
            }
        })
    }

    /// Removes what has expired by `now` (seconds since 1970; default: the clock's). Returns how many entries that were.
    ///
    /// # Errors
    /// As [`Cache::set`].
    pub fn expire(&self, now: Option<f64>) -> Result<u64> {
        let engine = self.engine()?;
        engine.check_writable()?;
        let now = now.unwrap_or_else(|| engine.clock.wall());
        engine.remove_span(&Span::expired(now), Cause::Expire)
    }

    /// Removes every entry with a tag. Returns how many that were.
    ///
    /// # Errors
    /// As [`Cache::set`].
    pub fn evict(&self, tag: KeyRef<'_>) -> Result<u64> {
        let engine = self.engine()?;
        engine.check_writable()?;
        engine.remove_span(&Span::tagged(tag), Cause::Evict)
    }

    /// Removes what has expired, and then by the eviction policy until the cache is within its size limit. Returns how many entries.
    ///
    /// # Errors
    /// As [`Cache::set`].
    pub fn cull(&self) -> Result<u64> {
        let engine = self.engine()?;
        engine.check_writable()?;
        let count = engine.cull()?;
        engine.compact();
        Ok(count)
    }

    /// Returns about how many bytes the cache takes on disk.
    ///
    /// # Errors
    /// `Io`, `Timeout`, `Closed`.
    pub fn volume(&self) -> Result<u64> {
        let engine = self.engine()?;
        engine.check_open()?;
        engine.freshen(engine.deadline())?;
        Ok(engine.volume(&read(&engine.state)))
    }
}

impl Engine {
    fn cull(&self) -> Result<u64> {
        let mut count = self.remove_span(&Span::expired(self.clock.wall()), Cause::Expire)?;
        loop {
            let deadline = self.deadline();
            let accesses = self.accesses.take();
            if let Some(list) = accesses {
                let mut body = BodyBuilder::default();
                body.push(&Record::Accessed(list.list()));
                self.submit(&body, deadline, self.unlocked())?;
            }
            let need = {
                let state = read(&self.state);
                self.to_evict(&state).max(self.over_by_large_values(&state))
            };
            if need == 0 {
                return Ok(count);
            }
            let victims = self.policy_victims(0..=BATCH as u64, BATCH_LEN, need);
            if victims.list().is_empty() {
                return Ok(count);
            }
            let removed = self.remove(Cause::Cull, &victims, deadline)?;
            if removed == 0 {
                return Ok(count);
            }
            count += removed;
        }
    }

    /// Walks on until `take` says no. Waits for nobody while it looks at the state; the walk may be gone on with later.
    pub(crate) fn walk(&self, walker: &mut Walker, deadline: Deadline, mut take: impl FnMut(&EntryRef<'_>) -> bool) -> Result<()> {
        loop {
            {
                let state = read(&self.state);
                let overlay = self.transaction.overlay();
                let with_overlay;
                let without = [&state.delta];
                let mut layers = match &overlay {
                    Some(overlay) => {
                        with_overlay = [&overlay.delta, &state.delta];
                        state.layers(if overlay.cleared { &with_overlay[..1] } else { &with_overlay })
                    }
                    None => state.layers(&without),
                };
                let empty = crate::index::Levels::default();
                if overlay.as_ref().is_some_and(|o| o.cleared) {
                    layers.levels = &empty;
                }
                // A walk holds the state for a slice only, so that writers get their turn.
                for _ in 0..SLICE {
                    match layers.next(walker)? {
                        Some(found) if take(&found.as_ref()) => {}
                        _ => return Ok(()),
                    }
                }
            }
            if deadline.passed(&*self.clock) {
                return Err(crate::Error::new(crate::ErrorKind::Timeout, "the walk took the whole timeout:").at(&self.dir));
            }
        }
    }

    fn remove_span(&self, span: &Span, cause: Cause) -> Result<u64> {
        let mut count = 0;
        self.freshen(self.deadline())?;
        let mut walker = Walker::new(span.clone(), Direction::Forward);
        loop {
            let deadline = self.deadline();
            let mut victims = VersionsBuilder::default();
            let mut chosen = 0;
            self.walk(&mut walker, deadline, |entry| {
                victims.push(entry.key, entry.entry.version);
                chosen += 1;
                chosen < BATCH && victims.bytes_len() < BATCH_LEN
            })?;
            if chosen == 0 {
                return Ok(count);
            }
            count += self.remove(cause, &victims, deadline)?;
        }
    }

    /// Returns the ids of all blobs that entries name.
    pub(crate) fn all_blobs(&self, deadline: Deadline) -> Result<Vec<u64>> {
        let mut ids = Vec::new();
        let counters = self.transaction.counters().unwrap_or_else(|| read(&self.state).counters);
        if counters.blobs == 0 {
            return Ok(ids);
        }
        let mut walker = Walker::new(Span::all(Order::Insertion), Direction::Forward);
        self.walk(&mut walker, deadline, |entry| {
            if let Place::Blob(id) = entry.entry.value.place {
                ids.push(id);
            }
            true
        })?;
        Ok(ids)
    }

    /// Chooses what a write removes along the way: first what expired, then, over the limit, what the policy gives up.
    pub(crate) fn victims(&self, now: f64, more: u64) -> Vec<(Cause, VersionsBuilder)> {
        let mut all = Vec::new();
        let state = read(&self.state);
        let mut room = state.tuning.cull_limit;
        if state.counters.expiring > 0 && now > state.expire_floor {
            let (expired, count, next) = expired(&state, now, room);
            drop(state);
            crate::sync::write(&self.state).expire_floor = next;
            room -= count;
            if count > 0 {
                all.push((Cause::Expire, expired));
            }
        } else {
            drop(state);
        }
        let (excess, freely) = {
            let state = read(&self.state);
            (if room > 0 { self.excess(&state, more) } else { 0 }, state.tuning.evicts_freely())
        };
        if excess > 0 {
            // A large value among small ones takes the place of many: of as many as it needs.
            let most = if freely { room.max(VICTIMS_MAX) } else { room };
            let victims = self.policy_victims(room..=most, VICTIMS_LEN, excess.min(more));
            if !victims.list().is_empty() {
                all.push((Cause::Cull, victims));
            }
        }
        all
    }

    /// Chooses entries by the policy: the least `count` of them, and more until they free `need` bytes, up to the greatest. All but the last
    /// have less than `len_max` bytes of keys.
    pub(crate) fn policy_victims(&self, count: RangeInclusive<u64>, len_max: usize, need: u64) -> VersionsBuilder {
        let now = self.clock.wall();
        let state = read(&self.state);
        let mut victims = VersionsBuilder::default();
        let Some(policy) = eviction::policy(state.tuning.policy) else { return victims };
        let mut hand = lock(&self.maintenance.hand);
        let mut walker = match hand.take() {
            Some((epoch, walker)) if epoch == state.epoch => walker,
            _ => Walker::new(Span::all(policy.order()), Direction::Forward),
        };
        let deltas = [&state.delta];
        let layers = state.layers(&deltas);
        let mut spared = AccessesBuilder::default();
        let (mut chosen, mut looked, mut freed, mut wrapped) = (0, 0, 0_u64, false);
        let is_full = |victims: &VersionsBuilder, spared: &AccessesBuilder| victims.bytes_len().max(spared.bytes_len()) >= len_max;
        let (least, most) = count.into_inner();
        let expected = if least > 0 { least } else { most };
        while (chosen < least || (freed < need && chosen < most))
            && looked < expected.max(chosen).saturating_mul(LOOKS_PER_VICTIM)
            && !is_full(&victims, &spared)
        {
            let Ok(found) = layers.next(&mut walker) else { break };
            let Some(found) = found else {
                if wrapped {
                    break;
                }
                wrapped = true;
                walker = Walker::new(Span::all(policy.order()), Direction::Forward);
                continue;
            };
            looked += 1;
            let found = found.as_ref();
            match policy.judge(&found.entry, now) {
                // It was read since the order was last written: it stands further behind than it looks.
                Verdict::Evict if self.accesses.holds(found.key) => {}
                Verdict::Evict => {
                    victims.push(found.key, found.entry.version);
                    chosen += 1;
                    freed = freed.saturating_add(cost(&found));
                }
                Verdict::Spare => spared.push(found.key, 0, found.entry.access_time),
                Verdict::Keep => {}
            }
        }
        *hand = policy.keeps_hand().then_some((state.epoch, walker));
        if !spared.list().is_empty() {
            self.maintenance.spare(spared);
        }
        victims
    }
}

/// Returns up to `limit` entries that expired (fewer if their keys are long), how many, and a time before which no other one expires.
fn expired(state: &State, now: f64, limit: u64) -> (VersionsBuilder, u64, f64) {
    let mut victims = VersionsBuilder::default();
    let mut count = 0;
    let deltas = [&state.delta];
    let layers = state.layers(&deltas);
    let mut walker = Walker::new(Span::all(Order::Expire), Direction::Forward);
    loop {
        match layers.next(&mut walker) {
            Ok(Some(found)) => {
                let found = found.as_ref();
                if !found.entry.is_expired(now) || count == limit || victims.bytes_len() >= VICTIMS_LEN {
                    return (victims, count, found.entry.expire_time);
                }
                victims.push(found.key, found.entry.version);
                count += 1;
            }
            Ok(None) => return (victims, count, f64::INFINITY),
            Err(_) => return (victims, count, now + 1.0),
        }
    }
}
