//! What changed since the newest run: entries and tombstones in memory. And, beside it, copies of what the runs say of keys that
//! are looked up often.
//!
//! A hash table of numbers into a slab of cells, so that growing moves small numbers only. The caller hashes each key once
//! ([`KeyRef::hash`]); keys whose 64-bit hashes collide are told apart by comparing them. The ordered views cost nothing until
//! one is asked for; from then on it is kept up to date until [`Delta::clear`].
//!
//! A *copy* answers look-ups, and that is all: it stands in no view, is not counted, not flushed and hides nothing in the runs, which say the
//! same. Whatever changes the key takes its cell, so a copy never outlives what it is a copy of. Copies are bounded in number; those
//! that were not used lately go first.

mod cell;
mod table;

use super::order::{Direction, Order, Position, Span};
use crate::format::KeyRef;
use crate::format::entry::{Entry, EntryRef};
pub use cell::Row;
use cell::{Cell, Hold};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::OnceLock;
use table::Table;

type View = BTreeSet<(Position, u32)>;

/// What an entry costs besides key and tag: the slab's cell, the table's slots.
const ENTRY_COST: usize = size_of::<Cell>() + 24;
/// Copies that are kept at most: about 10 MB of them, and as much again of their names, where these are long.
const COPIES_MAX: usize = 32 << 10;
const COPIES_FAR_MAX: usize = 8 << 20;
/// So many bytes of long names are as much as an entry, see [`Delta::weight`].
const FAR_ENTRY: usize = 4 << 10;

/// Entries in memory, newer than any run, and copies of some that are in runs.
#[derive(Debug, Default)]
pub struct Delta {
    table: Table,
    cells: Vec<Cell>,
    free: Vec<u32>,
    /// Bytes of names that have no room in their cells, and those of them that are of copies.
    far: usize,
    far_of_copies: usize,
    tombstones: usize,
    copies: usize,
    /// Where the search for a copy that can go is.
    hand: usize,
    views: [OnceLock<View>; Order::COUNT],
}

impl Delta {
    /// No longer value's bytes are kept.
    pub const VALUE_LEN_MAX: usize = cell::ROOM;

    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a copy of what changed, without the ordered views.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let cells: Vec<Cell> = self.cells.iter().filter(|cell| cell.hold == Hold::Changed).cloned().collect();
        let mut table = Table::default();
        for (number, cell) in (0..).zip(&cells) {
            table.insert(cell.hash, number);
        }
        let far = cells.iter().map(Cell::far_len).sum();
        Self { table, cells, far, tombstones: self.tombstones, ..Self::default() }
    }

    /// Returns how many entries changed, tombstones included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.len() - self.copies
    }

    /// Returns how many entries of usual names it is as large as: it is to be flushed by this.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.len() + (self.far - self.far_of_copies) / FAR_ENTRY
    }

    /// Returns whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many of its entries are tombstones.
    #[must_use]
    pub const fn tombstones(&self) -> usize {
        self.tombstones
    }

    /// Returns how many entries of runs it has copies of.
    #[must_use]
    pub const fn copies(&self) -> usize {
        self.copies
    }

    /// Returns about how much memory it takes, views apart.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.far + self.table.len() * ENTRY_COST
    }

    /// Returns what is known here of a key: an entry, a tombstone, or nothing. It may be a copy of what the runs say.
    #[must_use]
    #[inline]
    pub fn get(&self, hash: u64, key: KeyRef<'_>) -> Option<Row<'_>> {
        let cell = &self.cells[self.find(hash, key)? as usize];
        cell.note_use();
        Some(Row(cell))
    }

    /// Returns whether the key changed since the newest run: then what the runs say of it no longer holds.
    #[must_use]
    #[inline]
    pub fn hides(&self, hash: u64, key: KeyRef<'_>) -> bool {
        self.find(hash, key).is_some_and(|i| self.cells[i as usize].hold == Hold::Changed)
    }

    #[inline]
    fn find(&self, hash: u64, key: KeyRef<'_>) -> Option<u32> {
        self.table.find(hash, |i| self.cells[i as usize].is(hash, &key))
    }

    /// Stores an entry or a tombstone. Returns what it replaces of what changed since the newest run. A key that was there is kept in the
    /// shape that it first came in.
    ///
    /// # Panics
    /// With more than 2^32 entries; a delta is flushed long before.
    #[inline]
    pub fn put(&mut self, hash: u64, new: EntryRef<'_>) -> Option<Entry> {
        self.put_with(hash, new, None)
    }

    /// As [`Self::put`]; keeps the bytes of the value if they are short. They are known to be those that the entry's checksum is of.
    #[inline]
    pub fn put_with(&mut self, hash: u64, new: EntryRef<'_>, value: Option<&[u8]>) -> Option<Entry> {
        let Some(i) = self.find(hash, new.key) else {
            self.insert(hash, Hold::Changed, &new, value);
            return None;
        };
        self.unview(i);
        let cell = &mut self.cells[i as usize];
        let (was_copy, far) = (cell.hold == Hold::Copied, cell.far_len());
        cell.hold = Hold::Changed;
        let old = cell.replace(&new, value);
        self.far = self.far + cell.far_len() - far;
        if was_copy {
            self.copies -= 1;
            self.far_of_copies -= far;
        }
        self.tombstones = self.tombstones + usize::from(new.entry.tombstone) - usize::from(old.tombstone);
        self.view(i);
        (!was_copy).then_some(old)
    }

    /// Keeps a copy of the entry that the runs have for a key, and the checked bytes of its value if they are short. Not if the key is here.
    pub fn copy(&mut self, hash: u64, e: EntryRef<'_>, value: Option<&[u8]>) {
        if e.entry.tombstone || self.find(hash, e.key).is_some() {
            return;
        }
        self.insert(hash, Hold::Copied, &e, value);
        self.limit_copies();
    }

    /// Takes note that everything that changed is in the newest run now.
    pub fn settle(&mut self) {
        self.views = Default::default();
        for i in 0..self.cells.len() {
            let cell = &mut self.cells[i];
            if cell.hold == Hold::Changed {
                cell.hold = Hold::Copied;
                self.copies += 1;
                self.far_of_copies += cell.far_len();
                if cell.is_tombstone() {
                    self.give_up(u32::try_from(i).expect("checked when it was stored"));
                }
            }
        }
        self.limit_copies();
    }

    /// Takes in what an older delta has of entries that did not change since position `from`, as copies: what it had until then is in the
    /// newest run now, and this one has what changed since.
    pub fn rise_from(&mut self, older: Self, from: u64) {
        let newer = std::mem::replace(self, older);
        self.views = Default::default();
        for i in 0..self.cells.len() {
            let cell = &mut self.cells[i];
            let is_older = cell.entry().version < from;
            match cell.hold {
                Hold::Free => {}
                Hold::Copied if is_older => {}
                Hold::Changed if is_older && !cell.is_tombstone() => {
                    cell.hold = Hold::Copied;
                    self.copies += 1;
                    self.far_of_copies += cell.far_len();
                }
                _ => {
                    self.give_up(u32::try_from(i).expect("checked when it was stored"));
                }
            }
        }
        for cell in newer.cells.iter().filter(|cell| cell.hold == Hold::Changed) {
            if let Some(i) = self.find(cell.hash, cell.key()) {
                self.give_up(i);
            }
            let value = Row(cell).value().map(|(_, bytes)| bytes);
            self.insert(cell.hash, Hold::Changed, &cell.as_ref(), value);
        }
        self.limit_copies();
    }

    /// Lets go of copies while there are too many.
    fn limit_copies(&mut self) {
        while self.copies > COPIES_MAX || self.far_of_copies > COPIES_FAR_MAX {
            self.hand = if self.hand + 1 < self.cells.len() { self.hand + 1 } else { 0 };
            let cell = &mut self.cells[self.hand];
            if cell.hold == Hold::Copied && !cell.take_use() {
                self.give_up(u32::try_from(self.hand).expect("checked when it was stored"));
            }
        }
    }

    /// Lets go of a cell that stands in no view.
    fn give_up(&mut self, i: u32) -> Entry {
        let cell = &mut self.cells[i as usize];
        self.far -= cell.far_len();
        if cell.hold == Hold::Copied {
            self.copies -= 1;
            self.far_of_copies -= cell.far_len();
        }
        self.tombstones -= usize::from(cell.is_tombstone());
        let (hash, entry) = (cell.hash, *cell.entry());
        cell.free();
        self.table.remove(hash, i);
        self.free.push(i);
        entry
    }

    fn insert(&mut self, hash: u64, hold: Hold, new: &EntryRef<'_>, value: Option<&[u8]>) {
        let i = self.free.pop().unwrap_or_else(|| {
            self.cells.push(Cell::free_one());
            u32::try_from(self.cells.len() - 1).expect("a delta is flushed long before")
        });
        let cell = &mut self.cells[i as usize];
        cell.fill(hash, hold, new, value);
        self.far += cell.far_len();
        if hold == Hold::Copied {
            self.copies += 1;
            self.far_of_copies += cell.far_len();
        }
        self.tombstones += usize::from(cell.is_tombstone());
        self.table.insert(hash, i);
        self.view(i);
    }

    /// Changes what is stored beside a key. Returns whether the key was there (also as a tombstone).
    #[inline]
    pub fn update(&mut self, hash: u64, key: KeyRef<'_>, change: impl FnOnce(&mut Entry)) -> bool {
        let Some(i) = self.find(hash, key) else { return false };
        self.unview(i);
        let cell = &mut self.cells[i as usize];
        let was = cell.is_tombstone();
        if cell.hold == Hold::Copied {
            self.copies -= 1;
            self.far_of_copies -= cell.far_len();
        }
        cell.hold = Hold::Changed;
        cell.update(change);
        self.tombstones = self.tombstones + usize::from(cell.is_tombstone()) - usize::from(was);
        self.view(i);
        true
    }

    /// Forgets a key (where no run can hold it, so that no tombstone is needed). Returns what was stored.
    pub fn remove(&mut self, hash: u64, key: KeyRef<'_>) -> Option<Entry> {
        let i = self.find(hash, key)?;
        self.unview(i);
        Some(self.give_up(i))
    }

    /// Forgets a view: for orders that are asked for rarely, so that puts need not keep it up to date.
    pub fn forget_view(&mut self, order: Order) {
        self.views[order as usize] = OnceLock::new();
    }

    /// Forgets everything, views and copies included, and keeps the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.cells.clear();
        self.free.clear();
        self.far = 0;
        self.far_of_copies = 0;
        self.tombstones = 0;
        self.copies = 0;
        self.views = Default::default();
    }

    /// Walks everything that changed with its hash, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, EntryRef<'_>)> {
        self.cells.iter().filter(|cell| cell.hold == Hold::Changed).map(|cell| (cell.hash, cell.as_ref()))
    }

    /// Returns the first live entry of a span, in the direction of the walk, with its position.
    #[must_use]
    pub fn first(&self, span: &Span, direction: Direction) -> Option<(&Position, Row<'_>)> {
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

    fn first_of<'a>(&'a self, view: &'a View, span: &Span, direction: Direction) -> Option<(&'a Position, Row<'a>)> {
        if view.is_empty() {
            return None;
        }
        let (lower, upper) = (edge(&span.lower, 0, u32::MAX), edge(&span.upper, u32::MAX, 0));
        let mut range = view.range((lower, upper));
        let (position, i) = match direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        }?;
        Some((position, Row(&self.cells[*i as usize])))
    }

    fn build(&self, order: Order) -> View {
        let place = |(i, cell): (usize, &Cell)| {
            let position = order.position(&cell.as_ref())?;
            Some((position, u32::try_from(i).expect("checked when it was stored")))
        };
        self.cells.iter().enumerate().filter(|(_, cell)| cell.hold == Hold::Changed).filter_map(place).collect()
    }

    #[inline]
    fn view(&mut self, i: u32) {
        self.change_views(i, |view, place| {
            view.insert(place);
        });
    }

    #[inline]
    fn unview(&mut self, i: u32) {
        self.change_views(i, |view, place| {
            view.remove(&place);
        });
    }

    #[inline]
    fn change_views(&mut self, i: u32, change: impl Fn(&mut View, (Position, u32))) {
        let cell = &self.cells[i as usize];
        if cell.hold != Hold::Changed {
            return; // a copy stands in no view
        }
        for order in Order::ALL {
            if let Some(view) = self.views[order as usize].get_mut()
                && let Some(position) = order.position(&cell.as_ref())
            {
                change(view, (position, i));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::OwnedEntry;
    use crate::format::{Codec, Number, Place, ValueKind, ValueMeta};

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
            assert_eq!(delta.get(7, KeyRef::text(&n.to_string())).map(|e| e.as_ref().entry.rowid), Some(n));
        }
        assert!(delta.remove(7, KeyRef::text("13")).is_some() && delta.get(7, KeyRef::text("13")).is_none());
        assert!(delta.get(7, KeyRef::bytes(b"14")).is_none());
        assert_eq!(delta.len(), 49);
    }

    #[test]
    fn what_is_counted_comes_back_to_nothing_when_all_is_gone() {
        let mut delta = Delta::new();
        let key = KeyRef::text("key");
        let long = "long".repeat(60);
        for tag in [None, Some("a"), Some(long.as_str()), None, Some("b")] {
            let _ = delta.put(1, entry(key, tag, 1).as_ref());
            let far = tag.filter(|tag| *tag == long).map_or(0, |tag| 3 + tag.len());
            assert_eq!(delta.bytes(), ENTRY_COST + far);
            let row = delta.get(1, key).unwrap().as_ref();
            assert!(row.key.same(&key) && row.tag.map(|t| t.bytes) == tag.map(str::as_bytes));
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
        let first = |delta: &Delta| delta.first(&span, Direction::Forward).map(|(_, e)| e.as_ref().entry.rowid);
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

    fn short(rowid: u64, addr: u64, bytes: &[u8]) -> Entry {
        let value = ValueMeta { kind: ValueKind::Bytes, codec: Codec::None, place: Place::Log, len: bytes.len() as u64, sum: addr ^ 5 };
        Entry { tombstone: false, value, rowid, addr, ..Entry::tombstone(1) }
    }

    fn bytes_of<'a>(delta: &'a Delta, key: KeyRef<'_>) -> Option<&'a [u8]> {
        delta.get(key.hash(), key)?.value().map(|(_, bytes)| bytes)
    }

    /// The bytes are a second copy of what the log holds: whatever becomes of the entry, they must never be another value's.
    #[test]
    fn the_bytes_of_a_value_die_with_it() {
        let mut delta = Delta::new();
        let key = KeyRef::text("k");
        let put = |delta: &mut Delta, entry: Entry, tag: Option<&str>, bytes: Option<&[u8]>| {
            delta.put_with(key.hash(), EntryRef { key, tag: tag.map(KeyRef::text), entry }, bytes);
        };
        put(&mut delta, short(1, 10, b"one"), None, Some(b"one"));
        assert_eq!(bytes_of(&delta, key), Some(&b"one"[..]));
        put(&mut delta, Entry { expire_time: 9.0, ..short(1, 10, b"one") }, None, None);
        assert_eq!(bytes_of(&delta, key), Some(&b"one"[..]), "it is the same value");
        put(&mut delta, short(1, 20, b"two"), None, None);
        assert_eq!(bytes_of(&delta, key), None, "overwritten by a value whose bytes are not known here");
        put(&mut delta, short(1, 30, b"three"), Some("tag"), Some(b"three"));
        assert_eq!(bytes_of(&delta, key), Some(&b"three"[..]));
        put(&mut delta, short(1, 30, b"three"), Some("another tag"), None);
        assert_ne!(bytes_of(&delta, key), Some(&b"her t"[..]), "the bytes moved with the tag, or are gone");
        put(&mut delta, Entry::tombstone(2), None, None);
        assert_eq!(bytes_of(&delta, key), None);
        put(&mut delta, short(1, 30, b"three"), None, None);
        assert_eq!(bytes_of(&delta, key), None, "what comes after a tombstone is not what was before it");
        put(&mut delta, short(1, 40, b"four"), None, Some(b"four"));
        assert!(delta.update(key.hash(), key, |e| e.addr = 50));
        assert_eq!(bytes_of(&delta, key), None);
    }

    /// A copy of an entry of a run answers look-ups and nothing else; what changes the key takes its place.
    #[test]
    fn copies_answer_look_ups_and_stand_nowhere_else() {
        let mut delta = Delta::new();
        let (one, two, three) = (KeyRef::text("one"), KeyRef::text("two"), KeyRef::text("three"));
        let span = Span::all(Order::Insertion);
        delta.put_with(one.hash(), EntryRef { key: one, tag: None, entry: short(1, 1, b"1") }, Some(b"1"));
        delta.put(two.hash(), EntryRef { key: two, tag: None, entry: Entry::tombstone(3) });
        delta.settle();
        delta.copy(three.hash(), EntryRef { key: three, tag: None, entry: short(3, 3, b"3") }, Some(b"3"));
        assert_eq!((delta.len(), delta.copies(), delta.tombstones(), delta.iter().count()), (0, 2, 0, 0));
        assert_eq!((bytes_of(&delta, one), bytes_of(&delta, three)), (Some(&b"1"[..]), Some(&b"3"[..])));
        assert!(delta.get(two.hash(), two).is_none(), "the runs say nothing of it, so nothing does");
        assert!(!delta.hides(one.hash(), one) && delta.first(&span, Direction::Forward).is_none() && delta.snapshot().is_empty());

        delta.put(one.hash(), EntryRef { key: one, tag: None, entry: Entry::tombstone(4) });
        assert!(delta.hides(one.hash(), one) && delta.get(one.hash(), one).unwrap().is_tombstone());
        delta.copy(one.hash(), EntryRef { key: one, tag: None, entry: short(1, 1, b"1") }, Some(b"1"));
        assert!(delta.get(one.hash(), one).unwrap().is_tombstone(), "a copy takes nobody's place");
        assert!(delta.update(three.hash(), three, |e| e.access_count = 7));
        assert_eq!(
            delta.first(&span, Direction::Forward).map(|(_, e)| (e.as_ref().entry.rowid, e.as_ref().entry.access_count)),
            Some((3, 7))
        );
        assert_eq!((delta.len(), delta.copies(), delta.tombstones()), (2, 0, 1));
    }

    #[test]
    fn copies_are_bounded_and_those_in_use_stay() {
        let mut delta = Delta::new();
        let name = |n: usize| format!("key {n}");
        let copy = |delta: &mut Delta, n: usize| {
            let name = name(n);
            let key = KeyRef::text(&name);
            delta.copy(key.hash(), EntryRef { key, tag: None, entry: short(n as u64, n as u64, b"v") }, Some(b"v"));
        };
        copy(&mut delta, 0);
        for n in 1..COPIES_MAX * 3 {
            copy(&mut delta, n);
            assert!(bytes_of(&delta, KeyRef::text("key 0")).is_some(), "used all the time, gone after {n}");
            assert!(delta.copies() <= COPIES_MAX && delta.cells.len() <= COPIES_MAX + 2);
        }
        assert_eq!(delta.copies(), COPIES_MAX);
    }

    /// Keys may be millions of bytes long: a bound on the number of copies alone would bound no memory.
    #[test]
    fn copies_of_long_names_are_bounded_in_bytes_and_long_names_weigh_more() {
        let mut delta = Delta::new();
        for n in 0..20_u64 {
            let name = n.to_string().repeat(1 << 20);
            let key = KeyRef::text(&name);
            delta.put(key.hash(), EntryRef { key, tag: None, entry: short(n, n, b"v") });
        }
        assert_eq!((delta.len(), delta.weight()), (20, 20 + (30 << 20) / FAR_ENTRY));
        delta.settle();
        assert!(delta.copies() > 0 && delta.far_of_copies <= COPIES_FAR_MAX && delta.bytes() < COPIES_FAR_MAX + (1 << 20));
        assert_eq!(delta.weight(), 0);
        let name = "9".repeat(1 << 20);
        let key = KeyRef::text(&name);
        delta.put(key.hash(), EntryRef { key, tag: None, entry: short(9, 9, b"w") });
        delta.clear();
        assert_eq!((delta.bytes(), delta.far_of_copies), (0, 0));
    }
}
