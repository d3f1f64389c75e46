//! The head of a run file: what lies where, and the checksums of the tables.

use super::{BLOCK_LEN, FILTER, HASHES, HEAD_FIXED_LEN, MAGIC, OFFSETS, SECTIONS, SLOTS, filter_word};
use crate::format::FORMAT_VERSION;
use crate::format::wire::{Malformed, Reader, Writer, checksum};

/// A part of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Section {
    /// From the start of the file.
    pub(super) offset: u32,
    /// How many items it has.
    pub(super) count: u32,
}

/// A checked head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) rows: u32,
    pub(super) home: u32,
    pub(super) tables_start: u32,
    pub(super) tables_end: u32,
    pub(super) entries_end: u32,
    pub(super) sections: [Section; SECTIONS],
    pub(super) block_sums: Box<[u32]>,
    pub(super) file_len: u64,
    pub(super) sum: u64,
    pub(super) slots: SlotMap,
}

/// How hashes are spread over the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotMap {
    low: u64,
    shift: u32,
    factor: u64,
}

impl SlotMap {
    pub(super) const fn new(low: u64, high: u64, home: u32) -> Self {
        let span = high.wrapping_sub(low);
        let shift = if span == 0 { 0 } else { span.leading_zeros() };
        let factor = ((home as u128) << 64) / (((span << shift) as u128) + 1);
        // With a span of 0 the factor would not fit; every hash then has slot 0.
        let factor = if span == 0 { 0 } else { factor as u64 };
        Self { low, shift, factor }
    }

    /// Returns the home slot of a hash within the file's range.
    #[inline]
    pub(super) const fn slot(&self, hash: u64) -> u32 {
        let scaled = hash.wrapping_sub(self.low) << self.shift;
        ((scaled as u128 * self.factor as u128) >> 64) as u32
    }
}

impl Head {
    /// Returns the head's length for so many bytes of tables.
    pub(super) const fn len_for(tables: usize) -> usize {
        HEAD_FIXED_LEN + tables.div_ceil(BLOCK_LEN) * 4 + 8
    }

    /// Returns its length in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEAD_FIXED_LEN + self.block_sums.len() * 4 + 8
    }

    /// Returns the lowest and the highest hash that the file may hold.
    #[must_use]
    pub const fn range(&self) -> (u64, u64) {
        (self.low, self.high)
    }

    /// Returns its checksum, by which the log knows the file.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns how many entries, tombstones and lost entries the file has.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// Returns the file's length.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Encodes it and returns the bytes; sets `sum`.
    pub(super) fn encode(&mut self, seed: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u32(u32::try_from(self.encoded_len()).expect("a few thousand bytes"));
        out.put_u64(self.file_len);
        out.put_u64(self.low);
        out.put_u64(self.high);
        for word in [self.rows, self.home, self.tables_start, self.tables_end, self.entries_end] {
            out.put_u32(word);
        }
        out.put_u32(u32::try_from(SECTIONS).expect("a dozen"));
        for section in self.sections {
            out.put_u32(section.offset);
            out.put_u32(section.count);
        }
        for sum in &self.block_sums {
            out.put_u32(*sum);
        }
        self.sum = checksum(&out, seed);
        out.put_u64(self.sum);
        out
    }

    /// Reads a head that is exactly `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] unless a writer with this seed wrote it.
    pub fn parse(bytes: &[u8], seed: u64) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(Malformed::Magic);
        }
        let body = bytes.len().checked_sub(8).ok_or(Malformed::Short)?;
        let sum = Reader::new(&bytes[body..]).u64()?;
        if checksum(&bytes[..body], seed) != sum {
            return Err(Malformed::Checksum);
        }
        let version = r.u32()?;
        if version != FORMAT_VERSION {
            return Err(Malformed::Version(version));
        }
        if r.u32()? as usize != bytes.len() {
            return Err(Malformed::Field("head length"));
        }
        let (file_len, low, high) = (r.u64()?, r.u64()?, r.u64()?);
        let (rows, home, tables_start, tables_end, entries_end) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?, r.u32()?);
        if r.u32()? as usize != SECTIONS {
            return Err(Malformed::Field("sections"));
        }
        let mut sections = [Section::default(); SECTIONS];
        for section in &mut sections {
            *section = Section { offset: r.u32()?, count: r.u32()? };
        }
        let blocks = (body.checked_sub(HEAD_FIXED_LEN).ok_or(Malformed::Short)?) / 4;
        let block_sums = (0..blocks).map(|_| r.u32()).collect::<Result<Box<[u32]>, _>>()?;
        let slots = SlotMap::new(low, high, home);
        let head = Self { low, high, rows, home, tables_start, tables_end, entries_end, sections, block_sums, file_len, sum, slots };
        head.check()?;
        Ok(head)
    }

    /// Checks that everything lies where it can: a head with the right sum was still made by someone.
    fn check(&self) -> Result<(), Malformed> {
        let tables = self.tables_end.checked_sub(self.tables_start).ok_or(Malformed::Field("tables"))? as usize;
        let last = self.slots.slot(self.high);
        if self.low > self.high || last >= self.sections[SLOTS].count || filter_word(last) >= self.sections[FILTER].count {
            return Err(Malformed::Field("hash range"));
        }
        if !(self.tables_start as usize).is_multiple_of(BLOCK_LEN)
            || (self.tables_start as usize) < self.encoded_len()
            || self.block_sums.len() != tables.div_ceil(BLOCK_LEN)
            || self.entries_end < self.tables_end
            || self.file_len != u64::from(self.entries_end) + self.encoded_len() as u64
        {
            return Err(Malformed::Field("layout"));
        }
        for (i, section) in self.sections.iter().enumerate() {
            let wide = if i < OFFSETS { 8 } else { 4 };
            let end = u64::from(section.offset) + u64::from(section.count) * wide;
            let fits = section.offset >= self.tables_start && section.offset.is_multiple_of(8) && end <= u64::from(self.tables_end);
            let counted = match i {
                FILTER | SLOTS => true,
                HASHES | OFFSETS => section.count == self.rows,
                _ => section.count <= self.rows,
            };
            if !fits || !counted {
                return Err(Malformed::Field("section"));
            }
        }
        Ok(())
    }
}

/// Returns the checksum of a block of the tables.
pub(super) fn block_sum(bytes: &[u8], number: usize, seed: u64) -> u32 {
    (checksum(bytes, seed.wrapping_add(number as u64)) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_slots_ascend_with_the_hash_and_stay_below_home() {
        for (low, high) in [(0, u64::MAX), (5, 5), (5, 6), (u64::MAX - 3, u64::MAX), (1 << 60, (1 << 61) + 12345), (0, 1 << 63)] {
            for home in [1, 8, 1000, 24576, u32::MAX] {
                let map = SlotMap::new(low, high, home);
                let mut last = 0;
                for i in 0..=1000_u64 {
                    let hash = low + ((u128::from(high - low) * u128::from(i)) / 1000) as u64;
                    let slot = map.slot(hash);
                    assert!(slot >= last && slot < home, "slot {slot} of {home} for {hash:x} in {low:x}..={high:x}");
                    last = slot;
                }
            }
        }
    }
}
