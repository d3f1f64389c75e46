//! What changed since the newest run: entries and tombstones in memory.
//!
//! A hash table of numbers into a slab, so that growing moves small numbers only. The caller hashes each key once
//! ([`KeyRef::hash`]); keys whose 64-bit hashes collide are told apart by comparing them. The ordered views cost nothing until
//! one is asked for; from then on it is kept up to date until [`Delta::clear`].

use super::order::{Direction, Order, Position, Span};
use crate::format::entry::{Entry, EntryRef, OwnedEntry};
use crate::format::{Key, KeyRef};
use hashbrown::HashTable;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::OnceLock;

type View = BTreeSet<(Position, u32)>;

/// What an entry costs besides key and tag: the slab's cell, the table's number, the allocator's overhead.
const ENTRY_COST: usize = size_of::<Cell>() + 24;

/// Entries in memory, newer than any run.
#[derive(Debug, Default)]
pub struct Delta {
    table: HashTable<u32>,
    cells: Vec<Cell>,
    free: Vec<u32>,
    payload: usize,
    tombstones: usize,
    views: [OnceLock<View>; Order::COUNT],
}

#[derive(Debug, Clone)]
struct Cell {
    hash: u64,
    entry: Option<OwnedEntry>,
}

impl Delta {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a copy, without the ordered views.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let (table, cells, free) = (self.table.clone(), self.cells.clone(), self.free.clone());
        Self { table, cells, free, payload: self.payload, tombstones: self.tombstones, views: Default::default() }
    }

    /// Returns how many entries it has, tombstones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns how many of its entries are tombstones.
    #[must_use]
    pub const fn tombstones(&self) -> usize {
        self.tombstones
    }

    /// Returns about how much memory it takes, views apart.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload + self.table.len() * ENTRY_COST
    }

    /// Returns what it says of a key: an entry, a tombstone, or nothing.
    #[must_use]
    #[inline]
    pub fn get(&self, hash: u64, key: KeyRef<'_>) -> Option<&OwnedEntry> {
        self.find(hash, key).and_then(|i| self.cells[i as usize].entry.as_ref())
    }

    #[inline]
    fn find(&self, hash: u64, key: KeyRef<'_>) -> Option<u32> {
        self.table.find(hash, |&i| self.cells[i as usize].is(hash, key)).copied()
    }

    /// Stores an entry or a tombstone. Returns what it replaces. A key that was there is kept in the shape that it first came in.
    ///
    /// # Panics
    /// With more than 2^32 entries; a delta is flushed long before.
    #[inline]
    pub fn put(&mut self, hash: u64, new: EntryRef<'_>) -> Option<Entry> {
        let Some(i) = self.find(hash, new.key) else {
            self.insert(hash, new.to_owned());
            return None;
        };
        self.unview(i);
        let slot = self.cells[i as usize].entry.as_mut().expect("the table names live cells");
        let old = std::mem::replace(&mut slot.entry, new.entry);
        if old.tombstone {
            // The key that was there is gone; this is another one, which comes in its own shape.
            slot.key.shape = new.key.shape;
        }
        let same_tag = match (&slot.tag, &new.tag) {
            (None, None) => true,
            (Some(had), Some(has)) => had.shape == has.shape && had.as_ref().as_ref().same(has),
            _ => false,
        };
        if !same_tag {
            self.payload -= tag_weight(slot);
            slot.tag = new.tag.map(|t| Box::new(t.to_owned()));
            self.payload += tag_weight(slot);
        }
        self.tombstones = self.tombstones + usize::from(new.entry.tombstone) - usize::from(old.tombstone);
        self.view(i);
        Some(old)
    }

    fn insert(&mut self, hash: u64, new: OwnedEntry) {
        self.payload += weight(&new);
        self.tombstones += usize::from(new.entry.tombstone);
        let cell = Cell { hash, entry: Some(new) };
        let i = if let Some(i) = self.free.pop() {
            self.cells[i as usize] = cell;
            i
        } else {
            self.cells.push(cell);
            u32::try_from(self.cells.len() - 1).expect("a delta is flushed long before")
        };
        let cells = &self.cells;
        self.table.insert_unique(hash, i, |&i| cells[i as usize].hash);
        self.view(i);
    }

    /// Changes what is stored beside a key. Returns whether the key was there (also as a tombstone).
    #[inline]
    pub fn update(&mut self, hash: u64, key: KeyRef<'_>, change: impl FnOnce(&mut Entry)) -> bool {
        let Some(i) = self.find(hash, key) else { return false };
        self.unview(i);
        let entry = &mut self.cells[i as usize].entry.as_mut().expect("the table names live cells").entry;
        let was = entry.tombstone;
        change(entry);
        self.tombstones = self.tombstones + usize::from(entry.tombstone) - usize::from(was);
        self.view(i);
        true
    }

    /// Forgets a key (where no run can hold it, so that no tombstone is needed). Returns what was stored.
    pub fn remove(&mut self, hash: u64, key: KeyRef<'_>) -> Option<OwnedEntry> {
        let i = self.find(hash, key)?;
        self.unview(i);
        if let Ok(found) = self.table.find_entry(hash, |&j| j == i) {
            found.remove();
        }
        self.free.push(i);
        let old = self.cells[i as usize].entry.take()?;
        self.payload -= weight(&old);
        self.tombstones -= usize::from(old.entry.tombstone);
        Some(old)
    }

    /// Forgets a view: for orders that are asked for rarely, so that puts need not keep it up to date.
    pub fn forget_view(&mut self, order: Order) {
        self.views[order as usize] = OnceLock::new();
    }

    /// Forgets everything, views included, and keeps the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.cells.clear();
        self.free.clear();
        self.payload = 0;
        self.tombstones = 0;
        self.views = Default::default();
    }

    /// Walks everything with its hash, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &OwnedEntry)> {
        self.cells.iter().filter_map(|cell| cell.entry.as_ref().map(|entry| (cell.hash, entry)))
    }

    /// Returns the first live entry of a span, in the direction of the walk, with its position.
    #[must_use]
    pub fn first(&self, span: &Span, direction: Direction) -> Option<(&Position, &OwnedEntry)> {
        if span.is_void() {
            return None;
        }
        let view = self.views[span.order as usize].get_or_init(|| self.build(span.order));
        self.first_of(view, span, direction)
    }

    /// As [`Self::first`], if the view of the order is there; `None` if it is not.
    pub(super) fn first_in_view(&self, span: &Span, direction: Direction) -> Option<Option<&Position>> {
        let view = self.views[span.order as usize].get()?;
        Some(if span.is_void() { None } else { self.first_of(view, span, direction).map(|(position, _)| position) })
    }

    fn first_of<'a>(&'a self, view: &'a View, span: &Span, direction: Direction) -> Option<(&'a Position, &'a OwnedEntry)> {
        if view.is_empty() {
            return None;
        }
        let (lower, upper) = (edge(&span.lower, 0, u32::MAX), edge(&span.upper, u32::MAX, 0));
        let mut range = view.range((lower, upper));
        let (position, i) = match direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        }?;
        self.cells[*i as usize].entry.as_ref().map(|entry| (position, entry))
    }

    fn build(&self, order: Order) -> View {
        let place = |(i, cell): (usize, &Cell)| {
            let position = order.position(&cell.entry.as_ref()?.as_ref())?;
            Some((position, u32::try_from(i).expect("checked when it was stored")))
        };
        self.cells.iter().enumerate().filter_map(place).collect()
    }

    #[inline]
    fn view(&mut self, i: u32) {
        for order in Order::ALL {
            if let Some(view) = self.views[order as usize].get_mut() {
                let entry = self.cells[i as usize].entry.as_ref();
                if let Some(position) = entry.and_then(|e| order.position(&e.as_ref())) {
                    view.insert((position, i));
                }
            }
        }
    }

    #[inline]
    fn unview(&mut self, i: u32) {
        for order in Order::ALL {
            if let Some(view) = self.views[order as usize].get_mut() {
                let entry = self.cells[i as usize].entry.as_ref();
                if let Some(position) = entry.and_then(|e| order.position(&e.as_ref())) {
                    view.remove(&(position, i));
                }
            }
        }
    }
}

impl Cell {
    #[inline]
    fn is(&self, hash: u64, key: KeyRef<'_>) -> bool {
        self.hash == hash && self.entry.as_ref().is_some_and(|e| e.key.as_ref().same(&key))
    }
}

/// Turns a bound of positions into one of cells: `with` is the number that takes in all of a position's cells, `without` none.
fn edge(bound: &Bound<Position>, with: u32, without: u32) -> Bound<(Position, u32)> {
    match bound {
        Bound::Included(p) => Bound::Included((p.clone(), with)),
        Bound::Excluded(p) => Bound::Excluded((p.clone(), without)),
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn weight(e: &OwnedEntry) -> usize {
    e.key.bytes.len() + tag_weight(e)
}

fn tag_weight(e: &OwnedEntry) -> usize {
    e.tag.as_ref().map_or(0, |t| size_of::<Key>() + t.bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Number, ValueMeta};

    fn entry(key: KeyRef<'_>, tag: Option<&str>, rowid: u64) -> OwnedEntry {
        let value = ValueMeta::number(Number::Int(1));
        let entry = Entry { tombstone: false, value, rowid, ..Entry::tombstone(1) };
        OwnedEntry { key: key.to_owned(), tag: tag.map(|t| Box::new(KeyRef::text(t).to_owned())), entry }
    }

    #[test]
    fn keys_with_one_hash_are_told_apart() {
        let mut delta = Delta::new();
        for n in 0..50_u64 {
            let name = n.to_string();
            assert!(delta.put(7, entry(KeyRef::text(&name), None, n).as_ref()).is_none());
        }
        for n in 0..50_u64 {
            assert_eq!(delta.get(7, KeyRef::text(&n.to_string())).map(|e| e.entry.rowid), Some(n));
        }
        assert!(delta.remove(7, KeyRef::text("13")).is_some() && delta.get(7, KeyRef::text("13")).is_none());
        assert!(delta.get(7, KeyRef::bytes(b"14")).is_none());
        assert_eq!(delta.len(), 49);
    }

    #[test]
    fn what_is_counted_comes_back_to_nothing_when_all_is_gone() {
        let mut delta = Delta::new();
        let key = KeyRef::text("key");
        for tag in [None, Some("a"), Some("longer"), None, Some("b")] {
            let _ = delta.put(1, entry(key, tag, 1).as_ref());
            assert_eq!(delta.bytes(), ENTRY_COST + 3 + tag.map_or(0, |t| size_of::<Key>() + t.len()));
        }
        let mark = OwnedEntry { key: key.to_owned(), tag: None, entry: Entry::tombstone(2) };
        assert!(delta.put(1, mark.as_ref()).is_some_and(|old| !old.tombstone));
        assert_eq!((delta.tombstones(), delta.len()), (1, 1));
        assert!(delta.remove(1, key).is_some());
        assert_eq!((delta.tombstones(), delta.len(), delta.bytes()), (0, 0, 0));
    }

    #[test]
    fn a_view_follows_every_change_and_holds_no_tombstone() {
        let mut delta = Delta::new();
        let span = Span::all(Order::Insertion);
        let key = |n: u64| KeyRef::text(if n == 1 { "one" } else { "two" });
        let first = |delta: &Delta| delta.first(&span, Direction::Forward).map(|(_, e)| e.entry.rowid);
        assert_eq!(first(&delta), None);
        for n in [2, 1] {
            let _ = delta.put(n, entry(key(n), None, n).as_ref());
            assert_eq!(first(&delta), Some(n));
        }
        assert!(delta.update(1, key(1), |e| e.rowid = 9));
        assert_eq!(first(&delta), Some(2));
        assert!(delta.update(2, key(2), |e| *e = Entry::tombstone(3)));
        assert_eq!((first(&delta), delta.tombstones()), (Some(9), 1));
        assert!(delta.remove(1, key(1)).is_some());
        assert_eq!(first(&delta), None);
    }
}
