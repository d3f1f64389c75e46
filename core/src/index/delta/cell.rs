//! A cell of the delta: an entry with its key, its tag and, if it is short, the very bytes of its value.
//!
//! What a look-up touches lies together at the front, in the order in which it is needed: a hit on a short key and a short value reads
//! three or four neighbouring cache lines, and follows no pointer.

use crate::format::entry::{Entry, EntryRef};
use crate::format::{Codec, KeyClass, KeyRef, KeyShape, Place, ValueKind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of key, tag and value that a cell has room for.
pub(super) const ROOM: usize = 176;
/// Says that the bytes of the value are not here.
const ELSEWHERE: u16 = u16::MAX;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Hold {
    /// Nothing.
    Free,
    /// What changed since the newest run.
    Changed,
    /// A copy of what the runs say.
    Copied,
}

/// The cell.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Cell {
    pub(super) hash: u64,
    expire_time: f64,
    key_len: u32,
    tag_len: u16,
    /// Or [`ELSEWHERE`].
    value_len: u16,
    class: KeyClass,
    shape: KeyShape,
    tag: Option<(KeyClass, KeyShape)>,
    kind: ValueKind,
    pub(super) hold: Hold,
    /// A copy that was used since the hand last came by.
    used: AtomicBool,
    /// Key and tag are `far` (which lies too far behind to be asked).
    is_far: bool,
    /// Key, tag and value, one after the other; the value alone if key and tag are `far`.
    near: [u8; ROOM],
    entry: Entry,
    /// Key and tag, if they have no room here.
    far: Option<Box<[u8]>>,
}

impl Clone for Cell {
    fn clone(&self) -> Self {
        Self { used: AtomicBool::new(false), far: self.far.clone(), ..*self }
    }
}

impl Cell {
    /// Makes a free one.
    pub(super) const fn free_one() -> Self {
        Self {
            hash: 0,
            expire_time: f64::INFINITY,
            key_len: 0,
            tag_len: 0,
            value_len: ELSEWHERE,
            class: KeyClass::Bytes,
            shape: KeyShape::Plain,
            tag: None,
            kind: ValueKind::Null,
            hold: Hold::Free,
            used: AtomicBool::new(false),
            is_far: false,
            near: [0; ROOM],
            entry: Entry::tombstone(0),
            far: None,
        }
    }

    /// Lets a free one hold an entry. (In its place: a cell is too large to be handed around.)
    pub(super) fn fill(&mut self, hash: u64, hold: Hold, new: &EntryRef<'_>, value: Option<&[u8]>) {
        self.hash = hash;
        self.hold = hold;
        *self.used.get_mut() = false;
        self.class = new.key.class;
        self.shape = new.key.shape;
        self.entry = new.entry;
        self.name(new);
        self.keep(value);
        self.sum_up();
    }

    /// Takes key and tag.
    fn name(&mut self, new: &EntryRef<'_>) {
        let (key, tag) = (new.key.bytes, new.tag.map_or(&[][..], |tag| tag.bytes));
        self.key_len = u32::try_from(key.len()).expect("key length was checked");
        self.tag_len = u16::try_from(tag.len()).expect("tag length was checked");
        self.tag = new.tag.map(|tag| (tag.class, tag.shape));
        self.is_far = key.len() + tag.len() > ROOM;
        if !self.is_far {
            self.near[..key.len()].copy_from_slice(key);
            self.near[key.len()..key.len() + tag.len()].copy_from_slice(tag);
            self.far = None;
        } else {
            self.far = Some([key, tag].concat().into_boxed_slice());
        }
    }

    /// Takes the bytes of the value, if there are any and they have room.
    fn keep(&mut self, value: Option<&[u8]>) {
        let start = self.value_start();
        self.value_len = ELSEWHERE;
        if let Some(value) = value.filter(|value| value.len() <= ROOM - start)
            && is_kept(&self.entry)
        {
            self.near[start..start + value.len()].copy_from_slice(value);
            self.value_len = u16::try_from(value.len()).unwrap_or(ELSEWHERE);
        }
    }

    fn value_start(&self) -> usize {
        if self.is_far { 0 } else { self.key_len as usize + self.tag_len as usize }
    }

    /// Puts another entry of the same key in the place of this one. The value's bytes stay if it is the same value.
    pub(super) fn replace(&mut self, new: &EntryRef<'_>, value: Option<&[u8]>) -> Entry {
        let old = std::mem::replace(&mut self.entry, new.entry);
        if old.tombstone {
            // The key that was there is gone; this is another one, which comes in its own shape.
            self.shape = new.key.shape;
        }
        let same_tag = match (self.as_ref().tag, &new.tag) {
            (None, None) => true,
            (Some(had), Some(has)) => had.shape == has.shape && had.same(has),
            _ => false,
        };
        let same_value = !old.tombstone && is_kept(&new.entry) && (old.value, old.addr) == (new.entry.value, new.entry.addr);
        if !same_tag {
            self.name(new);
        }
        if value.is_some() || !same_tag || !same_value {
            self.keep(value);
        }
        self.sum_up();
        old
    }

    /// Changes what is stored beside the key.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut Entry)) {
        let old = self.entry;
        change(&mut self.entry);
        if !is_kept(&self.entry) || (old.value, old.addr) != (self.entry.value, self.entry.addr) {
            self.value_len = ELSEWHERE;
        }
        self.sum_up();
    }

    /// Keeps at the front what a look-up wants to know.
    fn sum_up(&mut self) {
        self.expire_time = self.entry.expire_time;
        self.kind = self.entry.value.kind;
    }

    /// Lets go of what it holds.
    pub(super) fn free(&mut self) {
        self.hold = Hold::Free;
        self.is_far = false;
        self.far = None;
        self.value_len = ELSEWHERE;
    }

    #[inline]
    fn names(&self) -> &[u8] {
        if self.is_far { self.far.as_deref().unwrap_or(&[]) } else { &self.near }
    }

    #[inline]
    pub(super) fn is(&self, hash: u64, key: &KeyRef<'_>) -> bool {
        self.hash == hash && self.hold != Hold::Free && self.key().same(key)
    }

    #[inline]
    pub(super) fn key(&self) -> KeyRef<'_> {
        KeyRef { class: self.class, shape: self.shape, bytes: &self.names()[..self.key_len as usize] }
    }

    /// Returns the entry.
    #[inline]
    pub(super) fn as_ref(&self) -> EntryRef<'_> {
        let tag = self.tag.map(|(class, shape)| {
            let start = self.key_len as usize;
            KeyRef { class, shape, bytes: &self.names()[start..start + self.tag_len as usize] }
        });
        EntryRef { key: self.key(), tag, entry: self.entry }
    }

    pub(super) const fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) const fn is_tombstone(&self) -> bool {
        self.entry.tombstone
    }

    /// Returns how many bytes it has elsewhere.
    pub(super) fn far_len(&self) -> usize {
        self.far.as_ref().map_or(0, |far| far.len())
    }

    /// Takes note that a copy is used.
    #[inline]
    pub(super) fn note_use(&self) {
        if self.hold == Hold::Copied && !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }

    /// Returns whether it was used since this was last asked.
    pub(super) fn take_use(&mut self) -> bool {
        std::mem::take(self.used.get_mut())
    }
}

/// Returns whether the bytes of such a value may be kept: they are those that the caller gave.
const fn is_kept(entry: &Entry) -> bool {
    !entry.tombstone && matches!(entry.value.place, Place::Log) && matches!(entry.value.codec, Codec::None)
}

/// An entry of the delta, as a look-up sees it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a>(pub(super) &'a Cell);

impl<'a> Row<'a> {
    /// Returns the whole entry.
    #[must_use]
    #[inline]
    pub fn as_ref(self) -> EntryRef<'a> {
        self.0.as_ref()
    }

    /// Returns its key.
    #[must_use]
    #[inline]
    pub fn key(self) -> KeyRef<'a> {
        self.0.key()
    }

    /// Returns whether it says that the key is gone.
    #[must_use]
    #[inline]
    pub const fn is_tombstone(self) -> bool {
        // A tombstone never has a value's bytes: most look-ups need not read further.
        self.0.value_len == ELSEWHERE && self.0.is_tombstone()
    }

    /// Returns when it expires.
    #[must_use]
    #[inline]
    pub const fn expire_time(self) -> f64 {
        self.0.expire_time
    }

    /// Returns the bytes of the value and what they mean, if they are kept here. They were checked when they came here.
    #[must_use]
    #[inline]
    pub fn value(self) -> Option<(ValueKind, &'a [u8])> {
        let cell = self.0;
        if cell.value_len == ELSEWHERE {
            return None;
        }
        let start = cell.value_start();
        Some((cell.kind, &cell.near[start..start + cell.value_len as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_five_cache_lines() {
        assert_eq!(size_of::<Cell>(), 320);
    }
}
