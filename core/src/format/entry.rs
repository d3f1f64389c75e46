//! One entry of the index: a key, everything that is known of it, and where its value lies. Also a tombstone.
//!
//! ```text
//! entry := sum(u32) key-len(u32) tag-len(u16) key-tag(u8) tag-tag(u8, 0 = none) flags(u8, bit 0 = tombstone)
//!          value(27 bytes, see `value`) rowid(u64) version(u64) addr(u64) store-time(f64) access-time(f64) expire-time(f64)
//!          access-count(u32) key(key-len) tag(tag-len)
//! ```
//! `sum` is the low half of the XXH3-64 of all that follows it, seeded with the cache's seed.

use super::key::{Key, KeyRef};
use super::value::{Codec, Place, ValueKind, ValueMeta};
use super::wire::{Malformed, Reader, Writer, checksum};

/// What an entry holds besides key and tag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Whether it says that the key is gone.
    pub tombstone: bool,
    /// The value.
    pub value: ValueMeta,
    /// Place in insertion order; kept when the value is overwritten.
    pub rowid: u64,
    /// Position of the commit that last changed it.
    pub version: u64,
    /// Log address of the record that its value came from; for [`Place::Log`] the address of the value's first byte.
    pub addr: u64,
    /// When the value was stored, in seconds since 1970.
    pub store_time: f64,
    /// When it was last read, in seconds since 1970 (kept only under a policy that needs it).
    pub access_time: f64,
    /// When it expires, in seconds since 1970; infinity for never.
    pub expire_time: f64,
    /// How often it was read (kept only under a policy that needs it).
    pub access_count: u32,
}

/// A borrowed entry with its key and tag.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// The key.
    pub key: KeyRef<'a>,
    /// The tag.
    pub tag: Option<KeyRef<'a>>,
    /// The rest.
    pub entry: Entry,
}

/// Bytes before key and tag.
pub const ENTRY_FIXED_LEN: usize = 13 + ValueMeta::ENCODED_LEN + 6 * 8 + 4;

impl Entry {
    /// The mark that a key is gone since `version`.
    #[must_use]
    pub const fn tombstone(version: u64) -> Self {
        Self {
            tombstone: true,
            value: ValueMeta { kind: ValueKind::Null, codec: Codec::None, place: Place::Inline(0), len: 0, sum: 0 },
            rowid: 0,
            version,
            addr: 0,
            store_time: 0.0,
            access_time: 0.0,
            expire_time: f64::INFINITY,
            access_count: 0,
        }
    }

    /// Returns whether it had expired by `now` (seconds since 1970).
    #[must_use]
    #[inline]
    pub fn is_expired(&self, now: f64) -> bool {
        self.expire_time <= now
    }
}

impl EntryRef<'_> {
    /// Appends the encoded entry.
    ///
    /// # Panics
    /// If key or tag are longer than the format allows: the façade has checked them.
    pub fn put(&self, out: &mut Vec<u8>, seed: u64) {
        let start = out.len();
        out.put_u32(0);
        out.put_u32(u32::try_from(self.key.bytes.len()).expect("key length was checked"));
        out.put_u16(self.tag.map_or(0, |t| u16::try_from(t.bytes.len()).expect("tag length was checked")));
        out.put_u8(self.key.tag_byte());
        out.put_u8(self.tag.map_or(0, |t| t.tag_byte()));
        out.put_u8(u8::from(self.entry.tombstone));
        self.entry.value.put(out);
        for word in [self.entry.rowid, self.entry.version, self.entry.addr] {
            out.put_u64(word);
        }
        for time in [self.entry.store_time, self.entry.access_time, self.entry.expire_time] {
            out.put_f64(time);
        }
        out.put_u32(self.entry.access_count);
        out.extend_from_slice(self.key.bytes);
        if let Some(tag) = self.tag {
            out.extend_from_slice(tag.bytes);
        }
        let sum = short_sum(&out[start + 4..], seed).to_le_bytes();
        out[start..start + 4].copy_from_slice(&sum);
    }

    /// Returns how many bytes [`Self::put`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        ENTRY_FIXED_LEN + self.key.bytes.len() + self.tag.map_or(0, |t| t.bytes.len())
    }
}

impl<'a> EntryRef<'a> {
    /// Checks lengths and checksum of the entry at the start of `bytes` and returns its encoded length.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not exactly what a writer with this seed wrote.
    #[inline]
    pub fn check(bytes: &[u8], seed: u64) -> Result<usize, Malformed> {
        let mut r = Reader::new(bytes);
        let sum = r.u32()?;
        let (key_len, tag_len) = (r.u32()? as usize, r.u16()? as usize);
        let len = ENTRY_FIXED_LEN.checked_add(key_len).and_then(|n| n.checked_add(tag_len)).ok_or(Malformed::Short)?;
        let whole = bytes.get(4..len).ok_or(Malformed::Short)?;
        if short_sum(whole, seed) == sum { Ok(len) } else { Err(Malformed::Checksum) }
    }

    /// Reads the entry at the start of `bytes` and returns it with its encoded length.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not exactly what a writer with this seed wrote.
    pub fn parse(bytes: &'a [u8], seed: u64) -> Result<(Self, usize), Malformed> {
        let len = Self::check(bytes, seed)?;
        Ok((Self::decode(&bytes[..len])?, len))
    }

    /// Returns the key of an entry that [`Self::check`] was content with.
    #[must_use]
    #[inline]
    pub fn key_of(bytes: &'a [u8]) -> Option<KeyRef<'a>> {
        let (fixed, rest) = bytes.split_first_chunk::<ENTRY_FIXED_LEN>()?;
        let key_len = Reader::new(&fixed[4..]).u32().ok()? as usize;
        KeyRef::from_tag_byte(fixed[10], rest.get(..key_len)?).ok()
    }

    /// Reads an entry that [`Self::check`] was content with, `bytes` being as long as it said.
    ///
    /// # Errors
    /// [`Malformed`] for fields that no writer writes.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, rest) = bytes.split_first_chunk::<ENTRY_FIXED_LEN>().ok_or(Malformed::Short)?;
        let mut r = Reader::new(&fixed[4..]);
        let (key_len, _) = (r.u32()? as usize, r.u16()?);
        let (key_tag, tag_tag, flags) = (r.u8()?, r.u8()?, r.u8()?);
        let value = ValueMeta::parse(&mut r)?;
        let entry = Entry {
            tombstone: flags & 1 == 1,
            value,
            rowid: r.u64()?,
            version: r.u64()?,
            addr: r.u64()?,
            store_time: r.f64()?,
            access_time: r.f64()?,
            expire_time: r.f64()?,
            access_count: r.u32()?,
        };
        let (key, tag) = rest.split_at_checked(key_len).ok_or(Malformed::Short)?;
        let key = KeyRef::from_tag_byte(key_tag, key)?;
        let tag = if tag_tag == 0 { None } else { Some(KeyRef::from_tag_byte(tag_tag, tag)?) };
        Ok(Self { key, tag, entry })
    }

    /// Copies key and tag.
    #[must_use]
    pub fn to_owned(&self) -> OwnedEntry {
        OwnedEntry { key: self.key.to_owned(), tag: self.tag.map(|t| Box::new(t.to_owned())), entry: self.entry }
    }
}

/// An entry that owns its key and tag.
#[derive(Debug, Clone)]
pub struct OwnedEntry {
    /// The key.
    pub key: Key,
    /// The tag.
    pub tag: Option<Box<Key>>,
    /// The rest.
    pub entry: Entry,
}

impl OwnedEntry {
    /// Borrows it.
    #[must_use]
    #[inline]
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef { key: self.key.as_ref(), tag: self.tag.as_deref().map(Key::as_ref), entry: self.entry }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn short_sum(bytes: &[u8], seed: u64) -> u32 {
    checksum(bytes, seed) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Number, key::NumberKey};

    fn sample() -> OwnedEntry {
        OwnedEntry {
            key: KeyRef::text("k1").to_owned(),
            tag: Some(Box::new(NumberKey::int(7).as_ref().to_owned())),
            entry: Entry {
                tombstone: false,
                value: ValueMeta::number(Number::Int(-3)),
                rowid: 11,
                version: 22,
                addr: 33,
                store_time: 1.5,
                access_time: 2.5,
                expire_time: f64::INFINITY,
                access_count: 4,
            },
        }
    }

    #[test]
    fn an_entry_is_read_back_as_it_was_written_and_no_flipped_bit_passes() {
        let mut bytes = Vec::new();
        sample().as_ref().put(&mut bytes, 99);
        assert_eq!(bytes.len(), sample().as_ref().encoded_len());
        let (back, len) = EntryRef::parse(&bytes, 99).unwrap();
        assert_eq!((back.entry, len), (sample().entry, bytes.len()));
        assert!(back.key.same(&KeyRef::text("k1")) && back.tag.unwrap().same(&NumberKey::int(7).as_ref()));
        assert!(matches!(EntryRef::parse(&bytes, 98), Err(Malformed::Checksum)), "another cache's entry");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(EntryRef::parse(&bad, 99).is_err(), "bit {bit} slipped through");
        }
    }
}
