//! Makes a run file of entries that come in hash order.

use super::head::{Head, Section, SlotMap, block_sum};
use super::{BLOCK_LEN, ENTRIES_LEN_MAX, FILTER, FREE, HASHES, LOST, OFFSETS, ORDERS, ROWS_MAX, SECTIONS, SLOTS, filter_bits, filter_word};
use crate::format::KeyRef;
use crate::format::entry::{Entry, EntryRef};
use crate::index::order::{Order, expires, sortable};
use std::cmp::Ordering;
use std::ops::Range;

/// A finished file.
#[derive(Debug)]
pub struct Built {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its head.
    pub head: Head,
}

/// Collects entries in ascending order of hash.
#[derive(Debug)]
pub struct RunBuilder {
    seed: u64,
    hashes: Vec<u64>,
    rows: Vec<Row>,
    entries: Vec<u8>,
}

/// What the orders need to know of a row. Offsets are from the start of the entries.
#[derive(Debug)]
struct Row {
    start: u32,
    /// Nothing of a lost entry is known.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    entry: Entry,
    key: (u8, Range<u32>),
    tag: Option<(u8, Range<u32>)>,
}

impl RunBuilder {
    /// Starts an empty file.
    #[must_use]
    pub fn new(seed: u64, capacity: usize) -> Self {
        let entries = Vec::with_capacity(capacity.min(ROWS_MAX) * 112);
        Self { seed, hashes: Vec::with_capacity(capacity), rows: Vec::with_capacity(capacity), entries }
    }

    /// Returns how many rows it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether it has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns whether another entry of `len` bytes should go into another file.
    #[must_use]
    pub fn is_full(&self, len: usize) -> bool {
        self.rows.len() >= ROWS_MAX || (!self.rows.is_empty() && self.entries.len() + len > ENTRIES_LEN_MAX)
    }

    /// Adds an entry. Its hash is not below the last one's.
    pub fn push(&mut self, hash: u64, e: &EntryRef<'_>) {
        let start = self.entries.len();
        e.put(&mut self.entries, self.seed);
        self.note(hash, start, e);
    }

    /// Adds an entry that is there in encoded form.
    pub fn push_encoded(&mut self, hash: u64, e: &EntryRef<'_>, encoded: &[u8]) {
        let start = self.entries.len();
        self.entries.extend_from_slice(encoded);
        self.note(hash, start, e);
    }

    /// Adds the mark that what became of a key with this hash is not known.
    pub fn push_lost(&mut self, hash: u64) {
        self.hashes.push(hash);
        self.rows.push(Row { start: 0, known: None });
    }

    fn note(&mut self, hash: u64, start: usize, e: &EntryRef<'_>) {
        debug_assert!(self.hashes.last().is_none_or(|last| *last <= hash), "rows come in hash order");
        let small = |at: usize| u32::try_from(at).expect("files are cut at a few MiB");
        let tag_len = e.tag.map_or(0, |t| t.bytes.len());
        let key_end = self.entries.len() - tag_len;
        let key = small(key_end - e.key.bytes.len())..small(key_end);
        let tag = e.tag.map(|t| (t.tag_byte(), small(key_end)..small(self.entries.len())));
        self.hashes.push(hash);
        self.rows.push(Row { start: small(start), known: Some(Known { entry: e.entry, key: (e.key.tag_byte(), key), tag }) });
    }

    /// Makes the file, for the hashes from `low` to `high`.
    ///
    /// # Panics
    /// If a hash lies outside of that.
    #[must_use]
    pub fn finish(self, low: u64, high: u64) -> Built {
        assert!(self.hashes.first().is_none_or(|h| *h >= low) && self.hashes.last().is_none_or(|h| *h <= high), "rows within range");
        let orders = self.orders();
        let slots = self.slots(low, high);
        let (sections, tables_len, len) = layout(&slots, self.rows.len(), &orders);
        let tables_start = len.next_multiple_of(BLOCK_LEN);
        let entries_start = tables_start + tables_len;
        let small = |at: usize| u32::try_from(at).expect("files are cut at a few MiB");
        let offset = |row: &Row| if row.known.is_some() { small(entries_start) + row.start } else { LOST };

        let mut bytes = vec![0; entries_start];
        let mut file_sections = [Section::default(); SECTIONS];
        for (to, from) in file_sections.iter_mut().zip(&sections) {
            *to = Section { offset: small(tables_start + from.0), count: small(from.1) };
        }
        let mut fill = |section: usize, at: usize, word: &[u8]| {
            let at = file_sections[section].offset as usize + at * word.len();
            bytes[at..at + word.len()].copy_from_slice(word);
        };
        for (i, word) in slots.filter.iter().enumerate() {
            fill(FILTER, i, &word.to_le_bytes());
        }
        for (i, (tag, row)) in slots.slots.iter().enumerate() {
            let place = row.map_or(FREE, |row| offset(&self.rows[row as usize]));
            fill(SLOTS, i, &(u64::from(place) << 32 | u64::from(*tag)).to_le_bytes());
        }
        for (i, (hash, row)) in self.hashes.iter().zip(&self.rows).enumerate() {
            fill(HASHES, i, &hash.to_le_bytes());
            fill(OFFSETS, i, &offset(row).to_le_bytes());
        }
        for (n, order) in orders.iter().enumerate() {
            if let OrderRows::Own(rows) = order {
                for (i, row) in rows.iter().enumerate() {
                    fill(ORDERS + n, i, &offset(&self.rows[*row as usize]).to_le_bytes());
                }
            }
        }
        let sum = |(n, block): (usize, &[u8])| block_sum(block, n, self.seed);
        let block_sums: Box<[u32]> = bytes[tables_start..].chunks(BLOCK_LEN).enumerate().map(sum).collect();
        bytes.extend_from_slice(&self.entries);
        let entries_end = bytes.len();
        let mut head = Head {
            low,
            high,
            rows: small(self.rows.len()),
            home: slots.home,
            tables_start: small(tables_start),
            tables_end: small(entries_start),
            entries_end: small(entries_end),
            sections: file_sections,
            block_sums,
            file_len: (entries_end + len) as u64,
            sum: 0,
            slots: SlotMap::new(low, high, slots.home),
        };
        let encoded = head.encode(self.seed);
        bytes[..len].copy_from_slice(&encoded);
        bytes.extend_from_slice(&encoded);
        Built { bytes, head }
    }

    fn slots(&self, low: u64, high: u64) -> Slots {
        let rows = self.rows.len();
        let home = u32::try_from(rows + rows / 2 + 1).expect("files have few rows");
        let map = SlotMap::new(low, high, home);
        let mut slots: Vec<(u32, Option<u32>)> = Vec::with_capacity(home as usize + 16);
        let mut filter = vec![0; filter_word(home) as usize + 1];
        for (row, hash) in (0..).zip(&self.hashes) {
            filter[filter_word(map.slot(*hash)) as usize] |= filter_bits(*hash);
            let place = (map.slot(*hash) as usize).max(slots.len());
            slots.resize(place, (0, None));
            slots.push(((hash & 0xffff_ffff) as u32, Some(row)));
        }
        // A free slot ends every search.
        slots.resize((home as usize).max(slots.len() + 1), (0, None));
        Slots { filter, slots, home }
    }

    fn orders(&self) -> Vec<OrderRows> {
        let live = |order: Order| {
            (0..).zip(&self.rows).filter(move |(_, row)| row.known.as_ref().is_some_and(|k| k.stands_in(order))).map(|(i, _)| i)
        };
        let known = |row: &u32| self.rows[*row as usize].known.as_ref().expect("only known rows stand in an order");
        let mut by_insertion: Vec<u32> = live(Order::Insertion).collect();
        by_insertion.sort_unstable_by_key(|row| (known(row).entry.rowid, *row));
        let mut done: Vec<OrderRows> = vec![OrderRows::Own(by_insertion.clone())];
        for order in Order::ALL.into_iter().skip(1) {
            // Ties are broken by rowid: the sort is stable and starts from insertion order.
            let mut rows: Vec<u32> = by_insertion.iter().copied().filter(|row| known(row).stands_in(order)).collect();
            match order {
                Order::Insertion => {}
                Order::Key => rows.sort_by(|a, b| self.compare_keys(known(a), known(b))),
                Order::StoreTime => rows.sort_by_key(|row| sortable(known(row).entry.store_time)),
                Order::AccessTime => rows.sort_by_key(|row| sortable(known(row).entry.access_time)),
                Order::AccessCount => rows.sort_by_key(|row| known(row).entry.access_count),
                Order::Expire => rows.sort_by_key(|row| sortable(known(row).entry.expire_time)),
                Order::Tag => rows.sort_by(|a, b| self.compare_tags(known(a), known(b))),
                Order::Address => rows.sort_by_key(|row| known(row).entry.addr),
            }
            let same = done.iter().position(|other| matches!(other, OrderRows::Own(own) if *own == rows));
            done.push(same.map_or(OrderRows::Own(rows), OrderRows::As));
        }
        done
    }

    fn compare_keys(&self, a: &Known, b: &Known) -> Ordering {
        self.key(&a.key).order(&self.key(&b.key))
    }

    fn compare_tags(&self, a: &Known, b: &Known) -> Ordering {
        match (&a.tag, &b.tag) {
            (Some(a), Some(b)) => self.key(a).order(&self.key(b)),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }

    fn key(&self, (tag_byte, range): &(u8, Range<u32>)) -> KeyRef<'_> {
        let bytes = &self.entries[range.start as usize..range.end as usize];
        KeyRef::from_tag_byte(*tag_byte, bytes).expect("made from a key")
    }
}

impl Known {
    fn stands_in(&self, order: Order) -> bool {
        !self.entry.tombstone
            && match order {
                Order::Expire => expires(self.entry.expire_time),
                Order::Tag => self.tag.is_some(),
                _ => true,
            }
    }
}

struct Slots {
    filter: Vec<u64>,
    slots: Vec<(u32, Option<u32>)>,
    home: u32,
}

/// The rows of an order: its own list, or the number of the order that has the same.
#[derive(Debug)]
enum OrderRows {
    Own(Vec<u32>),
    As(usize),
}

/// Returns each section's offset in the tables and its count, the tables' length, and the head's.
fn layout(slots: &Slots, rows: usize, orders: &[OrderRows]) -> ([(usize, usize); SECTIONS], usize, usize) {
    let mut sections = [(0, 0); SECTIONS];
    let mut end = 0_usize;
    let mut add = |count: usize, wide: usize| {
        let section = (end, count);
        end = (end + count * wide).next_multiple_of(8);
        section
    };
    sections[FILTER] = add(slots.filter.len(), 8);
    sections[SLOTS] = add(slots.slots.len(), 8);
    sections[HASHES] = add(rows, 8);
    sections[OFFSETS] = add(rows, 4);
    for (n, order) in orders.iter().enumerate() {
        sections[ORDERS + n] = match order {
            OrderRows::Own(rows) => add(rows.len(), 4),
            OrderRows::As(other) => sections[ORDERS + other],
        };
    }
    (sections, end, Head::len_for(end))
}
