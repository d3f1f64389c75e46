//! An open run file: finds entries, rows and orders in untrusted bytes.

use super::head::{Head, block_sum};
use super::source::Fault;
use super::{BLOCK_LEN, FILTER, FREE, HASHES, LOST, OFFSETS, ORDERS, Piece, SLOTS, Source, filter_bits, filter_word};
use crate::format::KeyRef;
use crate::format::entry::{ENTRY_FIXED_LEN, EntryRef, OwnedEntry};
use crate::format::wire::{Malformed, Reader};
use crate::index::order::Order;
use crate::vfs::afresh::{is_afresh, surely};
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A found entry.
#[derive(Debug, Clone)]
pub enum Hit<'a> {
    /// It lies in memory.
    Borrowed(EntryRef<'a>),
    /// It was copied out of a page.
    Owned(OwnedEntry),
}

impl<'a> Hit<'a> {
    /// Reads a checked encoded entry.
    ///
    /// # Errors
    /// [`Fault::Damaged`] for fields that no writer writes.
    #[inline]
    pub fn decode(encoded: Piece<'a>) -> Result<Self, Fault> {
        match encoded {
            Piece::Slice(bytes) => Ok(Self::Borrowed(EntryRef::decode(bytes)?)),
            copied => Ok(Self::Owned(EntryRef::decode(&copied)?.to_owned())),
        }
    }

    /// Borrows it.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> EntryRef<'_> {
        match self {
            Self::Borrowed(e) => *e,
            Self::Owned(e) => e.as_ref(),
        }
    }
}

/// What a glance at a file in memory tells.
enum Glance<'a> {
    /// The encoded entry.
    Hit(&'a [u8]),
    Miss,
    /// Something is damaged, or was not checked yet.
    Unsure,
}

/// An open run file.
#[derive(Debug)]
pub struct RunFile {
    head: Head,
    source: Source,
    seed: u64,
    /// Blocks of a source in memory that were checked: a bit each.
    checked: Box<[AtomicU64]>,
    /// Orders that had to be made anew because their section is damaged.
    rebuilt: [OnceLock<Rebuilt>; Order::COUNT],
}

#[derive(Debug)]
struct Rebuilt {
    offsets: Box<[u32]>,
    /// Rows that could not be read.
    missing: u64,
}

impl RunFile {
    /// Opens a file of `file_len` bytes by its head, or by the copy of it at the end.
    ///
    /// # Errors
    /// [`Fault::Damaged`] if neither is the one with checksum `sum`.
    pub fn open(source: Source, head_len: usize, file_len: u64, sum: u64, seed: u64) -> Result<Self, Fault> {
        let read = |offset: u64| -> Result<Head, Fault> {
            let head = Head::parse(&source.bytes(offset, head_len)?, seed)?;
            if head.sum() == sum && head.file_len() == file_len { Ok(head) } else { Err(Malformed::Checksum.into()) }
        };
        let head = match read(0) {
            Err(Fault::Damaged(first)) => {
                let copy = file_len.checked_sub(head_len as u64).ok_or(first)?;
                read(copy).map_err(|second| if let Fault::Damaged(_) = second { Fault::Damaged(first) } else { second })?
            }
            other => other?,
        };
        let words = head.block_sums.len().div_ceil(64);
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { head, source, seed, checked, rebuilt: Default::default() })
    }

    /// Returns the head.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Looks, and where what was read over a network is damaged, once more past all caches: a bit may have flipped on the way.
    #[inline]
    fn surely<T>(&self, look: impl Fn() -> Result<T, Fault>) -> Result<T, Fault> {
        match look() {
            Err(Fault::Damaged(_)) if matches!(self.source, Source::Paged { .. }) && !is_afresh() => {
                surely(look, |fault| matches!(fault, Fault::Damaged(_)))
            }
            other => other,
        }
    }

    /// Returns a checked block of the tables.
    #[inline]
    fn block(&self, number: usize) -> Result<Piece<'_>, Fault> {
        self.surely(|| self.block_once(number))
    }

    #[inline]
    fn block_once(&self, number: usize) -> Result<Piece<'_>, Fault> {
        let start = u64::from(self.head.tables_start) + (number * BLOCK_LEN) as u64;
        let len = BLOCK_LEN.min((u64::from(self.head.tables_end) - start) as usize);
        let piece = self.source.bytes(start, len)?;
        let known = match &piece {
            Piece::Page { page, start, .. } => page.is_checked(start / BLOCK_LEN),
            _ => self.checked[number / 64].load(Relaxed) >> (number % 64) & 1 == 1,
        };
        if !known {
            if block_sum(&piece, number, self.seed) != self.head.block_sums[number] {
                return Err(Malformed::Checksum.into());
            }
            match &piece {
                Piece::Page { page, start, .. } => page.set_checked(start / BLOCK_LEN),
                Piece::Slice(_) => _ = self.checked[number / 64].fetch_or(1 << (number % 64), Relaxed),
                Piece::Owned(_) => {}
            }
        }
        Ok(piece)
    }

    /// Checks both heads and every block of the tables.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn check_bytes(&self) -> Result<(), Fault> {
        let len = self.head.encoded_len();
        for offset in [0, self.head.file_len().saturating_sub(len as u64)] {
            if Head::parse(&self.source.bytes(offset, len)?, self.seed)?.sum() != self.head.sum() {
                return Err(Malformed::Checksum.into());
            }
        }
        (0..self.head.block_sums.len()).try_for_each(|number| self.block(number).map(drop))
    }

    /// Returns item `i` of a section: `W` bytes that lie in one block.
    #[inline]
    fn item<const W: usize>(&self, section: usize, i: u32) -> Result<[u8; W], Fault> {
        let section = &self.head.sections[section];
        if i >= section.count {
            return Err(Malformed::Field("index").into());
        }
        let at = (section.offset - self.head.tables_start) as usize + i as usize * W;
        let block = self.block(at / BLOCK_LEN)?;
        let item = block.get(at % BLOCK_LEN..).and_then(|rest| rest.first_chunk::<W>());
        Ok(*item.ok_or(Malformed::Short)?)
    }

    /// Returns the encoded entry at an offset, unchecked.
    #[inline]
    fn entry_bytes(&self, offset: u32) -> Result<Piece<'_>, Fault> {
        if offset < self.head.tables_end {
            return Err(Malformed::Field("offset").into());
        }
        let len_of = |fixed: &[u8]| {
            let mut r = Reader::new(fixed);
            let lens = (|| Ok::<_, Malformed>((r.u32()?, r.u32()?, r.u16()?)))();
            lens.map_or(usize::MAX, |(_, key, tag)| ENTRY_FIXED_LEN.saturating_add(key as usize).saturating_add(tag as usize))
        };
        self.source.entry(u64::from(offset), u64::from(self.head.entries_end), ENTRY_FIXED_LEN, len_of)
    }

    /// Returns the checked encoded entry at an offset.
    #[inline]
    fn encoded(&self, offset: u32) -> Result<Piece<'_>, Fault> {
        self.surely(|| {
            let bytes = self.entry_bytes(offset)?;
            EntryRef::check(&bytes, self.seed)?;
            Ok(bytes)
        })
    }

    /// Returns the entry at an offset.
    ///
    /// # Errors
    /// [`Fault::Damaged`] also for a lost entry.
    #[inline]
    pub fn entry(&self, offset: u32) -> Result<Hit<'_>, Fault> {
        self.encoded(offset).and_then(Hit::decode)
    }

    /// Gives `with` the entry at an offset and its encoded bytes.
    ///
    /// # Errors
    /// [`Fault::Damaged`] also for a lost entry.
    #[inline]
    pub fn with_entry<T>(&self, offset: u32, with: impl FnOnce(&EntryRef<'_>, &[u8]) -> T) -> Result<T, Fault> {
        let is_paged = matches!(self.source, Source::Paged { .. });
        let bytes = if is_paged { self.encoded(offset)? } else { self.entry_bytes(offset)? };
        let (entry, len) = EntryRef::parse(&bytes, self.seed)?;
        Ok(with(&entry, &bytes[..len]))
    }

    /// Looks a key up and returns its encoded entry, to be given to [`Hit::decode`]. `hash` lies in the file's range.
    ///
    /// # Errors
    /// [`Fault::Damaged`] if the bytes that would tell are.
    #[inline]
    pub fn find(&self, hash: u64, key: KeyRef<'_>) -> Result<Option<Piece<'_>>, Fault> {
        match self.source.memory().map_or(Glance::Unsure, |memory| self.glance(memory, hash, key)) {
            Glance::Hit(encoded) => Ok(Some(Piece::Slice(encoded))),
            Glance::Miss => Ok(None),
            Glance::Unsure => self.find_with_care(hash, key),
        }
    }

    /// Looks a key up in memory, as long as nothing is unusual.
    #[inline]
    fn glance<'a>(&self, memory: &'a [u8], hash: u64, key: KeyRef<'_>) -> Glance<'a> {
        let slot = self.head.slots.slot(hash);
        let word_at = |at: usize| memory.get(at..).and_then(|rest| rest.first_chunk::<8>()).map(|word| u64::from_le_bytes(*word));
        let bits = filter_bits(hash);
        let at = self.head.sections[FILTER].offset as usize + filter_word(slot) as usize * 8;
        match word_at(at).filter(|_| self.is_checked(at)) {
            None => return Glance::Unsure,
            Some(word) if word & bits != bits => return Glance::Miss,
            Some(_) => {}
        }
        let section = self.head.sections[SLOTS];
        let (first, count) = (section.offset as usize, section.count as usize);
        for n in slot as usize..count {
            let at = first + n * 8;
            let Some(word) = word_at(at).filter(|_| self.is_checked(at)) else { return Glance::Unsure };
            let offset = (word >> 32) as usize;
            if offset == FREE as usize {
                return Glance::Miss;
            }
            if (word ^ hash) & 0xffff_ffff == 0 {
                let Some(rest) = memory.get(offset..self.head.entries_end as usize) else { return Glance::Unsure };
                let Ok(len) = EntryRef::check(rest, self.seed) else { return Glance::Unsure };
                if EntryRef::key_of(&rest[..len]).is_some_and(|k| k.same(&key)) {
                    return Glance::Hit(&rest[..len]);
                }
            }
        }
        Glance::Miss
    }

    /// Returns whether the block at a place in the tables was checked.
    #[inline]
    fn is_checked(&self, at: usize) -> bool {
        let number = (at - self.head.tables_start as usize) / BLOCK_LEN;
        self.checked.get(number / 64).is_some_and(|word| word.load(Relaxed) >> (number % 64) & 1 == 1)
    }

    #[cold]
    fn find_with_care(&self, hash: u64, key: KeyRef<'_>) -> Result<Option<Piece<'_>>, Fault> {
        if !self.filter(hash)? {
            return Ok(None);
        }
        let mut found = None;
        let probed = self.probe(hash, |offset| {
            found = self.is_key(offset, key)?;
            Ok(found.is_some())
        });
        match probed {
            Ok(()) => Ok(found),
            Err(Fault::Damaged(_)) => self.find_by_hashes(hash, key),
            Err(fault) => Err(fault),
        }
    }

    /// Returns whether the file may say something of a key with this hash.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn may_hold(&self, hash: u64) -> Result<bool, Fault> {
        let mut any = false;
        if self.filter(hash)? {
            self.probe(hash, |_| {
                any = true;
                Ok(true)
            })?;
        }
        Ok(any)
    }

    /// Returns whether the filter lets a hash pass. A damaged one lets all pass.
    #[inline]
    fn filter(&self, hash: u64) -> Result<bool, Fault> {
        let bits = filter_bits(hash);
        match self.item(FILTER, filter_word(self.head.slots.slot(hash))) {
            Ok(word) => Ok(u64::from_le_bytes(word) & bits == bits),
            Err(Fault::Damaged(_)) => Ok(true),
            Err(fault) => Err(fault),
        }
    }

    #[inline]
    fn is_key(&self, offset: u32, key: KeyRef<'_>) -> Result<Option<Piece<'_>>, Fault> {
        let encoded = self.encoded(offset)?;
        Ok(if EntryRef::key_of(&encoded).is_some_and(|k| k.same(&key)) { Some(encoded) } else { None })
    }

    /// Visits the entries whose slot has the hash's tag, until the first free slot or until `visit` says that it is done.
    #[inline]
    fn probe<'a>(&'a self, hash: u64, mut visit: impl FnMut(u32) -> Result<bool, Fault>) -> Result<(), Fault> {
        let section = self.head.sections[SLOTS];
        let base = (section.offset - self.head.tables_start) as usize;
        let mut at = base + self.head.slots.slot(hash) as usize * 8;
        let end = base + section.count as usize * 8;
        while at < end {
            let block: Piece<'a> = self.block(at / BLOCK_LEN)?;
            let stop = (end - at).min(BLOCK_LEN - at % BLOCK_LEN);
            let slots = block.get(at % BLOCK_LEN..at % BLOCK_LEN + stop).ok_or(Malformed::Short)?;
            for slot in slots.chunks_exact(8) {
                let slot = Reader::new(slot).u64()?;
                let offset = (slot >> 32) as u32;
                if offset == FREE {
                    return Ok(());
                }
                if (slot ^ hash) & 0xffff_ffff == 0 && visit(offset)? {
                    return Ok(());
                }
            }
            at += stop;
        }
        Ok(())
    }

    /// Looks a key up without the slots, for when they are damaged.
    fn find_by_hashes(&self, hash: u64, key: KeyRef<'_>) -> Result<Option<Piece<'_>>, Fault> {
        let mut row = self.first_row(hash)?;
        while row < self.head.rows && self.hash_in_table(row)? == hash {
            if let Some(hit) = self.is_key(self.offset_in_table(row)?, key)? {
                return Ok(Some(hit));
            }
            row += 1;
        }
        Ok(None)
    }

    #[inline]
    fn hash_in_table(&self, row: u32) -> Result<u64, Fault> {
        self.item(HASHES, row).map(u64::from_le_bytes)
    }

    #[inline]
    fn offset_in_table(&self, row: u32) -> Result<u32, Fault> {
        self.item(OFFSETS, row).map(u32::from_le_bytes)
    }

    /// Returns the hash of a row, from its entry if the table is damaged there.
    ///
    /// # Errors
    /// [`Fault`].
    #[inline]
    pub fn hash(&self, row: u32) -> Result<u64, Fault> {
        match self.hash_in_table(row) {
            Err(Fault::Damaged(_)) => self.with_entry(self.offset_in_table(row)?, |e, _| e.key.hash()),
            other => other,
        }
    }

    /// Returns the offset of a row's entry, from the slots if the table is damaged there. `None`: the entry is lost.
    ///
    /// # Errors
    /// [`Fault`].
    #[inline]
    pub fn offset(&self, row: u32) -> Result<Option<u32>, Fault> {
        match self.offset_in_table(row) {
            Err(Fault::Damaged(_)) => self.offset_in_slots(row),
            other => other.map(|offset| if offset == LOST { None } else { Some(offset) }),
        }
    }

    /// Keys whose hashes collide are not told apart here: they count as lost.
    fn offset_in_slots(&self, row: u32) -> Result<Option<u32>, Fault> {
        let hash = self.hash_in_table(row)?;
        let (mut found, mut several) = (None, false);
        self.probe(hash, |offset| {
            if offset == LOST || self.with_entry(offset, |e, _| e.key.hash()).is_ok_and(|h| h == hash) {
                several |= found.is_some();
                found = Some(offset);
            }
            Ok(false)
        })?;
        Ok(found.filter(|offset| !several && *offset != LOST))
    }

    /// Returns the first row whose hash is not below `hash`.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn first_row(&self, hash: u64) -> Result<u32, Fault> {
        let (mut low, mut high) = (0, self.head.rows);
        while low < high {
            let mid = low + (high - low) / 2;
            if self.hash(mid)? < hash { low = mid + 1 } else { high = mid }
        }
        Ok(low)
    }

    /// Returns how many entries stand in an order.
    #[must_use]
    pub fn order_len(&self, order: Order) -> u32 {
        let rebuilt = self.rebuilt[order as usize].get();
        rebuilt.map_or(self.head.sections[ORDERS + order as usize].count, |r| r.offsets.len() as u32)
    }

    /// Returns the offset of the entry that is number `i` in an order.
    ///
    /// # Errors
    /// [`Fault::Damaged`] if the section is; [`Self::rebuild`] then makes it anew.
    #[inline]
    pub fn ordered(&self, order: Order, i: u32) -> Result<u32, Fault> {
        match self.rebuilt[order as usize].get() {
            Some(r) => r.offsets.get(i as usize).copied().ok_or(Malformed::Field("index").into()),
            None => self.item(ORDERS + order as usize, i).map(u32::from_le_bytes),
        }
    }

    /// Returns how many rows an order lacks since it had to be made anew without them.
    #[must_use]
    pub fn missing(&self, order: Order) -> u64 {
        self.rebuilt[order as usize].get().map_or(0, |r| r.missing)
    }

    /// Makes an order anew from the entries that can be read. Returns `false` if it was made anew before.
    ///
    /// # Errors
    /// [`Fault`] if the drive fails.
    pub fn rebuild(&self, order: Order) -> Result<bool, Fault> {
        if self.rebuilt[order as usize].get().is_some() {
            return Ok(false);
        }
        let (mut placed, mut missing) = (Vec::new(), 0);
        for row in 0..self.head.rows {
            let position = match self.offset(row) {
                Ok(Some(offset)) => self.with_entry(offset, |e, _| order.position(e).map(|position| (position, offset))),
                Ok(None) => Ok(None),
                Err(fault) => Err(fault),
            };
            match position {
                Ok(position) => placed.extend(position),
                Err(Fault::Damaged(_)) => missing += 1,
                Err(fault) => return Err(fault),
            }
        }
        placed.sort();
        let offsets = placed.into_iter().map(|(_, offset)| offset).collect();
        Ok(self.rebuilt[order as usize].set(Rebuilt { offsets, missing }).is_ok())
    }

    /// Returns the first number in an order whose entry `reached` says yes to; `reached` says no up to some entry, and yes from
    /// there on. Where entries can't be read, the range that this number lies in.
    ///
    /// # Errors
    /// [`Fault::Damaged`] if the order's section is.
    pub fn seek(&self, order: Order, mut reached: impl FnMut(&EntryRef<'_>) -> bool) -> Result<RangeInclusive<u32>, Fault> {
        let (mut low, mut high) = (0, self.order_len(order));
        // Mostly nothing or everything is reached: the ends tell.
        if high > 1 {
            if let Ok(true) = self.with_entry(self.ordered(order, 0)?, |e, _| reached(e)) {
                return Ok(0..=0);
            }
            if let Ok(false) = self.with_entry(self.ordered(order, high - 1)?, |e, _| reached(e)) {
                return Ok(high..=high);
            }
        }
        // From the first to the second number nothing could be read.
        let mut unread = (high, high);
        while low < high {
            let mid = low + (high - low) / 2;
            let mut probe = mid;
            let no = loop {
                match self.with_entry(self.ordered(order, probe)?, |e, _| reached(e)) {
                    Ok(verdict) => break !verdict,
                    Err(Fault::Damaged(_)) if probe + 1 < high => probe += 1,
                    Err(Fault::Damaged(_)) => {
                        probe = high;
                        break false;
                    }
                    Err(fault) => return Err(fault),
                }
            };
            if no {
                low = probe + 1;
            } else {
                unread = (mid, if probe == unread.0 { unread.1 } else { probe });
                high = mid;
            }
        }
        Ok(low..=if low == unread.0 { unread.1 } else { low })
    }
}
