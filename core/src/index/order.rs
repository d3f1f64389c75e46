//! The orders that entries can be walked in, and places in them.
//!
//! A [`Position`] is where an entry stands in an order: `(rank, key, rowid)`, compared from left to right. It is also the token
//! that a walk is resumed by: it stays meaningful when the entry is gone and when the state has changed.
//!
//! | order | rank | key | rowid | entries |
//! |---|---|---|---|---|
//! | insertion | rowid | - | 0 | all |
//! | key | 0 | the key | 0 | all |
//! | store, access time | the time | - | rowid | all |
//! | access count | the count | - | rowid | all |
//! | expire | the time | - | rowid | those that expire |
//! | tag | 0 | the tag | rowid | those with a tag |
//! | address | the address | - | rowid | all |
//!
//! Tombstones stand in no order.

use crate::format::entry::EntryRef;
use crate::format::{Key, KeyRef};
use std::cmp::Ordering;
use std::ops::Bound;

/// An order of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Order {
    /// By rowid.
    Insertion = 0,
    /// By key, as [`KeyRef::order`] compares.
    Key = 1,
    /// By store time.
    StoreTime = 2,
    /// By time of the last access.
    AccessTime = 3,
    /// By number of accesses.
    AccessCount = 4,
    /// By expiry; only entries that expire.
    Expire = 5,
    /// By tag; only entries with a tag.
    Tag = 6,
    /// By the address of the value.
    Address = 7,
}

impl Order {
    /// How many there are.
    pub const COUNT: usize = 8;
    /// All of them; each stands at the index that it is as a number.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Insertion, Self::Key, Self::StoreTime, Self::AccessTime, Self::AccessCount, Self::Expire, Self::Tag, Self::Address];

    /// Returns where an entry stands in this order, or `None` if it does not.
    #[must_use]
    #[inline]
    pub fn position(self, e: &EntryRef<'_>) -> Option<Position> {
        let entry = &e.entry;
        if entry.tombstone {
            return None;
        }
        Some(match self {
            Self::Insertion => Position::ranked(entry.rowid, 0),
            Self::Key => Position::keyed(e.key, 0),
            Self::StoreTime => Position::ranked(sortable(entry.store_time), entry.rowid),
            Self::AccessTime => Position::ranked(sortable(entry.access_time), entry.rowid),
            Self::AccessCount => Position::ranked(u64::from(entry.access_count), entry.rowid),
            Self::Expire if expires(entry.expire_time) => Position::ranked(sortable(entry.expire_time), entry.rowid),
            Self::Expire => return None,
            Self::Tag => Position::keyed(e.tag?, entry.rowid),
            Self::Address => Position::ranked(entry.addr, entry.rowid),
        })
    }
}

impl Order {
    /// Compares an entry that stands in this order with a place in it.
    #[must_use]
    pub fn compare(self, e: &EntryRef<'_>, place: &Position) -> Ordering {
        let entry = &e.entry;
        let (rank, key, rowid) = match self {
            Self::Insertion => (entry.rowid, None, 0),
            Self::Key => (0, Some(e.key), 0),
            Self::StoreTime => (sortable(entry.store_time), None, entry.rowid),
            Self::AccessTime => (sortable(entry.access_time), None, entry.rowid),
            Self::AccessCount => (u64::from(entry.access_count), None, entry.rowid),
            Self::Expire => (sortable(entry.expire_time), None, entry.rowid),
            Self::Tag => (0, e.tag, entry.rowid),
            Self::Address => (entry.addr, None, entry.rowid),
        };
        let keys = || match (&key, &place.key) {
            (Some(a), Some(b)) => a.order(&b.as_ref()),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        rank.cmp(&place.rank).then_with(keys).then(rowid.cmp(&place.rowid))
    }
}

/// Returns whether an entry with this expiry ever expires.
#[must_use]
#[inline]
pub fn expires(time: f64) -> bool {
    time < f64::INFINITY
}

/// Maps a float to an integer that compares as the float does.
#[must_use]
#[inline]
pub const fn sortable(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// Where an entry stands in an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    rank: u64,
    key: Option<Key>,
    rowid: u64,
}

impl Position {
    const fn ranked(rank: u64, rowid: u64) -> Self {
        Self { rank, key: None, rowid }
    }

    fn keyed(key: KeyRef<'_>, rowid: u64) -> Self {
        Self { rank: 0, key: Some(key.to_owned()), rowid }
    }
}

/// Which way to walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest up.
    Forward,
    /// From the highest down.
    Backward,
}

/// A part of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The order.
    pub order: Order,
    /// Its lower end.
    pub lower: Bound<Position>,
    /// Its upper end.
    pub upper: Bound<Position>,
}

impl Span {
    /// The whole of an order.
    #[must_use]
    pub const fn all(order: Order) -> Self {
        Self { order, lower: Bound::Unbounded, upper: Bound::Unbounded }
    }

    /// Insertion order, rows above or below `rowid`.
    #[must_use]
    pub const fn rows(above: Option<u64>, below: Option<u64>) -> Self {
        let lower = match above {
            Some(rowid) => Bound::Excluded(Position::ranked(rowid, 0)),
            None => Bound::Unbounded,
        };
        let upper = match below {
            Some(rowid) => Bound::Excluded(Position::ranked(rowid, 0)),
            None => Bound::Unbounded,
        };
        Self { order: Order::Insertion, lower, upper }
    }

    /// Key order, within bounds.
    #[must_use]
    pub fn keys(lower: Bound<KeyRef<'_>>, upper: Bound<KeyRef<'_>>) -> Self {
        let place = |bound: Bound<KeyRef<'_>>| bound.map(|key| Position::keyed(key, 0));
        Self { order: Order::Key, lower: place(lower), upper: place(upper) }
    }

    /// Expiry order, up to and with `now`.
    #[must_use]
    pub const fn expired(now: f64) -> Self {
        Self { order: Order::Expire, lower: Bound::Unbounded, upper: Bound::Included(Position::ranked(sortable(now), u64::MAX)) }
    }

    /// Store-time order, up to and with `time`.
    #[must_use]
    pub const fn stored_until(time: f64) -> Self {
        Self { order: Order::StoreTime, lower: Bound::Unbounded, upper: Bound::Included(Position::ranked(sortable(time), u64::MAX)) }
    }

    /// Address order, from one address up to another, that one excluded.
    #[must_use]
    pub const fn addresses(from: u64, to: u64) -> Self {
        Self { order: Order::Address, lower: Bound::Included(Position::ranked(from, 0)), upper: Bound::Excluded(Position::ranked(to, 0)) }
    }

    /// Tag order, the entries with this tag.
    #[must_use]
    pub fn tagged(tag: KeyRef<'_>) -> Self {
        Self { order: Order::Tag, lower: Bound::Included(Position::keyed(tag, 0)), upper: Bound::Included(Position::keyed(tag, u64::MAX)) }
    }

    /// Makes it what is left for a walk in `direction` that has come to `at`.
    pub fn cut(&mut self, direction: Direction, at: Position) {
        match direction {
            Direction::Forward => self.lower = Bound::Excluded(at),
            Direction::Backward => self.upper = Bound::Excluded(at),
        }
    }

    /// Returns whether `position` is in the span.
    #[must_use]
    #[inline]
    pub fn contains(&self, position: &Position) -> bool {
        (match &self.lower {
            Bound::Included(low) => position >= low,
            Bound::Excluded(low) => position > low,
            Bound::Unbounded => true,
        }) && (match &self.upper {
            Bound::Included(high) => position <= high,
            Bound::Excluded(high) => position < high,
            Bound::Unbounded => true,
        })
    }

    /// Returns whether an entry stands at or past the end that a walk in `direction` starts from: neither below the lower end
    /// (forward), nor in the span or below it (backward).
    pub(super) fn starts_at(&self, direction: Direction, e: &EntryRef<'_>) -> bool {
        match (direction, &self.lower, &self.upper) {
            (Direction::Forward, Bound::Unbounded, _) => true,
            (Direction::Forward, Bound::Included(low), _) => self.order.compare(e, low) != Ordering::Less,
            (Direction::Forward, Bound::Excluded(low), _) => self.order.compare(e, low) == Ordering::Greater,
            (Direction::Backward, _, Bound::Unbounded) => false,
            (Direction::Backward, _, Bound::Included(high)) => self.order.compare(e, high) == Ordering::Greater,
            (Direction::Backward, _, Bound::Excluded(high)) => self.order.compare(e, high) != Ordering::Less,
        }
    }

    /// Returns whether a walk in `direction` has come to its end before `position`.
    pub(super) fn ends_before(&self, direction: Direction, position: &Position) -> bool {
        let end = if direction == Direction::Forward { &self.upper } else { &self.lower };
        match (end, direction) {
            (Bound::Unbounded, _) => false,
            (Bound::Included(end), Direction::Forward) => position > end,
            (Bound::Excluded(end), Direction::Forward) => position >= end,
            (Bound::Included(end), Direction::Backward) => position < end,
            (Bound::Excluded(end), Direction::Backward) => position <= end,
        }
    }

    /// Returns whether nothing can lie in it.
    #[must_use]
    pub fn is_void(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_sort_as_their_numbers_do() {
        let times = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-300, 2.5, 1.7e9, f64::INFINITY];
        for pair in times.windows(2) {
            assert!(sortable(pair[0]) < sortable(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn a_span_that_was_walked_to_its_end_is_void() {
        let text = KeyRef::text("k");
        let at = Position::keyed(text, 0);
        let mut span = Span::keys(Bound::Included(text), Bound::Included(text));
        assert!(!span.is_void() && span.contains(&at));
        span.cut(Direction::Forward, at);
        assert!(span.is_void());
    }
}
