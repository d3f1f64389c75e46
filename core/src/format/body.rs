//! The body of a commit: records that say what was asked, and the values that they carry.
//!
//! ```text
//! body   := head-len(u32) count(u32) record{count} values
//! record := op(u8) fields            -- see each variant; the records take exactly head-len bytes
//! values := the bytes of each Place::Log value, one after the other, in the order of their records
//! ```
//! In a body of more than 8 MiB each value begins at a multiple of 32 bytes from the body's start, and the body ends at one; the bytes
//! between are zero.
//!
//! A frame's checksum covers `head-len` through the last record ([`head_sum`]); each value has its own checksum in its record. So who
//! replays a commit reads its head alone, and who reads a value checks just that value.

mod builder;
mod fields;
mod lists;

use super::key::KeyRef;
use super::value::{Number, Place, ValueMeta};
use super::wire::{Malformed, Reader, checksum};
use super::{PLAIN_BODY_LEN_MAX, SLOT_LEN};
pub use builder::BodyBuilder;
pub(crate) use fields::take_key;
use fields::{take_bool, take_bytes, take_cause, take_number, take_optional_key, take_optional_number, take_prefix, take_text, take_u128};
pub use lists::{Accesses, AccessesBuilder, Versions, VersionsBuilder};

/// A value as a record carries it.
#[derive(Debug, Clone, Copy)]
pub struct RecordValue<'a> {
    /// What is known of it.
    pub meta: ValueMeta,
    /// Its stored bytes, if they are in the log.
    pub bytes: &'a [u8],
}

/// Why entries were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The size limit.
    Cull = 1,
    /// Their time was over.
    Expire = 2,
    /// Their tag was evicted.
    Evict = 3,
    /// The cache was cleared.
    Clear = 4,
    /// Their bytes are damaged.
    Damage = 5,
}

/// A value with what is stored beside it.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The value.
    pub value: RecordValue<'a>,
    /// Its tag.
    pub tag: Option<KeyRef<'a>>,
    /// When it expires; infinity for never.
    pub expire: f64,
    /// When it was asked, in seconds since 1970.
    pub now: f64,
}

/// What was asked. Replay decides what came of it.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// Stores an item.
    Set(KeyRef<'a>, Item<'a>),
    /// Stores an item unless the key has one that has not expired.
    Add(KeyRef<'a>, Item<'a>),
    /// Stores an item at the back or the front of a queue (of integer keys, or of keys with a prefix).
    Push {
        /// The queue's name.
        prefix: Option<&'a str>,
        /// At the front, or at the back.
        front: bool,
        /// What is stored.
        item: Item<'a>,
    },
    /// Adds to a number, or to `default` where there is none (nothing happens if there is no default either).
    Incr {
        /// The key.
        key: KeyRef<'a>,
        /// What is added.
        delta: Number,
        /// What it is added to if the key is missing or expired.
        default: Option<Number>,
        /// When it was asked.
        now: f64,
    },
    /// Changes when a key expires.
    Touch {
        /// The key.
        key: KeyRef<'a>,
        /// When it expires; infinity for never.
        expire: f64,
        /// When it was asked.
        now: f64,
    },
    /// Removes a key (and tells what it held: also `pop`).
    Delete {
        /// The key.
        key: KeyRef<'a>,
        /// When it was asked.
        now: f64,
    },
    /// Removes the first or the last item of a queue.
    Pull {
        /// The queue's name.
        prefix: Option<&'a str>,
        /// From the front, or from the back.
        front: bool,
        /// When it was asked.
        now: f64,
    },
    /// Removes entries that still have the version that they were chosen by.
    Remove(Cause, Versions<'a>),
    /// Removes everything.
    Clear,
    /// Changes a setting; the bytes belong to the façade.
    Setting(&'a str, &'a [u8]),
    /// Notes that entries were read (for policies that need it).
    Accessed(Accesses<'a>),
    /// Adds to the statistics.
    Statistics {
        /// Hits.
        hits: u64,
        /// Misses.
        misses: u64,
        /// Starts from zero first.
        reset: bool,
    },
    /// Asks others to wait for a transaction.
    Hold {
        /// Who asks.
        owner: u128,
        /// For how long, in milliseconds.
        ms: u32,
    },
    /// Ends a hold early.
    Release {
        /// Whose.
        owner: u128,
    },
    /// Publishes a checkpoint of the index; the bytes belong to `index` and `cache`.
    Checkpoint(&'a [u8]),
    /// Publishes a folded segment; the bytes belong to `compaction`.
    Fold(&'a [u8]),
    /// Publishes other runs for the same index (a merge); the bytes belong to `index` and `cache`.
    Levels(&'a [u8]),
}

impl<'a> Record<'a> {
    /// Returns the value that it carries, if it does.
    #[must_use]
    #[inline]
    pub const fn value(&self) -> Option<RecordValue<'a>> {
        match self {
            Self::Set(_, item) | Self::Add(_, item) | Self::Push { item, .. } => Some(item.value),
            _ => None,
        }
    }
}

/// Bytes of a body before its records.
const PREFIX_LEN: usize = 8;

/// How the values of a body lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// One right after the other.
    Plain,
    /// Each in slots.
    Slotted,
    /// In slots on disk, but one right after the other in memory.
    Packed,
}

impl Layout {
    /// Returns where the values start in a body with so many bytes before.
    #[inline]
    const fn start(self, head_len: usize) -> usize {
        if matches!(self, Self::Plain) { head_len } else { head_len.next_multiple_of(SLOT_LEN) }
    }

    /// Returns how far the next value is from the start of one of so many bytes: in memory, and on disk.
    #[inline]
    fn steps(self, len: usize) -> Option<(usize, usize)> {
        let slot = len.checked_next_multiple_of(SLOT_LEN)?;
        Some(match self {
            Self::Plain => (len, len),
            Self::Slotted => (slot, slot),
            Self::Packed => (len, slot),
        })
    }
}

/// A body whose head has been parsed. The values have not been looked at.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    head: &'a [u8],
    values: &'a [u8],
    count: u32,
    values_offset: usize,
    layout: Layout,
}

/// Returns the checksum of a body's head, or [`Malformed::Short`] if it has none.
///
/// # Errors
/// [`Malformed::Short`].
#[inline]
pub fn head_sum(body: &[u8], seed: u64) -> Result<u64, Malformed> {
    let head_len = Reader::new(body).u32()? as usize;
    let head = body.get(..8_usize.checked_add(head_len).ok_or(Malformed::Short)?).ok_or(Malformed::Short)?;
    Ok(checksum(head, seed))
}

impl<'a> Body<'a> {
    /// Parses a body whose head checksum was found right. Every record is checked, so that walking them cannot fail.
    ///
    /// # Errors
    /// [`Malformed`] if it is not exactly a body.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let (head_len, count) = (r.u32()? as usize, r.u32()?);
        let head = r.take(head_len)?;
        let layout = if bytes.len() <= PLAIN_BODY_LEN_MAX { Layout::Plain } else { Layout::Slotted };
        let values_offset = layout.start(r.position());
        let values = bytes.get(values_offset..).ok_or(Malformed::Short)?;
        let body = Self { head, values, count, values_offset, layout };
        let mut walk = body.walk();
        for _ in 0..count {
            walk.next_record()?;
        }
        if walk.reader.is_at_end() && walk.value_at == values.len() { Ok(body) } else { Err(Malformed::Field("body length")) }
    }

    /// Returns how many records it has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Walks the records, each with the offset of its value's first byte from the body's start.
    pub fn records(&self) -> impl Iterator<Item = (Record<'a>, usize)> + 'a {
        let mut walk = self.walk();
        (0..self.count).map_while(move |_| walk.next_record().ok())
    }

    /// Hands to `take` what lies behind the records, in slots.
    fn each_slot<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        const GAP: [u8; SLOT_LEN] = [0; SLOT_LEN];
        take(&GAP[..self.values_offset - PREFIX_LEN - self.head.len()])?;
        for (record, _) in self.records() {
            if let Some(value) = record.value().filter(|value| !value.bytes.is_empty()) {
                take(value.bytes)?;
                take(&GAP[..value.bytes.len().next_multiple_of(SLOT_LEN) - value.bytes.len()])?;
            }
        }
        Ok(())
    }

    fn walk(&self) -> Walk<'a> {
        let Self { head, values, values_offset, layout, .. } = *self;
        Walk { reader: Reader::new(head), values, value_at: 0, offset: values_offset, layout }
    }
}

struct Walk<'a> {
    reader: Reader<'a>,
    values: &'a [u8],
    /// Where the next value is, in `values` and in the body on disk.
    value_at: usize,
    offset: usize,
    layout: Layout,
}

impl<'a> Walk<'a> {
    #[inline]
    fn next_record(&mut self) -> Result<(Record<'a>, usize), Malformed> {
        let offset = self.offset;
        let record = self.parse_record()?;
        Ok((record, offset))
    }

    fn value(&mut self) -> Result<RecordValue<'a>, Malformed> {
        let meta = ValueMeta::parse(&mut self.reader)?;
        let bytes = if matches!(meta.place, Place::Log) {
            let len = usize::try_from(meta.len).map_err(|_| Malformed::Short)?;
            let bytes = self.values.get(self.value_at..).and_then(|rest| rest.get(..len)).ok_or(Malformed::Short)?;
            let (in_memory, on_disk) = self.layout.steps(len).ok_or(Malformed::Short)?;
            self.value_at += in_memory;
            self.offset += on_disk;
            bytes
        } else {
            &[]
        };
        Ok(RecordValue { meta, bytes })
    }

    fn item(&mut self) -> Result<Item<'a>, Malformed> {
        let (now, expire) = (self.reader.f64()?, self.reader.f64()?);
        let tag = take_optional_key(&mut self.reader)?;
        Ok(Item { value: self.value()?, tag, expire, now })
    }

    fn parse_record(&mut self) -> Result<Record<'a>, Malformed> {
        let op = self.reader.u8()?;
        let r = &mut self.reader;
        Ok(match op {
            1 => Record::Set(take_key(r)?, self.item()?),
            2 => Record::Add(take_key(r)?, self.item()?),
            3 => Record::Push { prefix: take_prefix(r)?, front: take_bool(r)?, item: self.item()? },
            4 => Record::Incr { key: take_key(r)?, delta: take_number(r)?, default: take_optional_number(r)?, now: r.f64()? },
            5 => Record::Touch { key: take_key(r)?, expire: r.f64()?, now: r.f64()? },
            6 => Record::Delete { key: take_key(r)?, now: r.f64()? },
            7 => Record::Pull { prefix: take_prefix(r)?, front: take_bool(r)?, now: r.f64()? },
            8 => Record::Remove(take_cause(r)?, Versions::parse(r)?),
            9 => Record::Clear,
            10 => Record::Setting(take_text(r)?, take_bytes(r)?),
            11 => Record::Accessed(Accesses::parse(r)?),
            12 => Record::Statistics { hits: r.u64()?, misses: r.u64()?, reset: take_bool(r)? },
            13 => Record::Hold { owner: take_u128(r)?, ms: r.u32()? },
            14 => Record::Release { owner: take_u128(r)? },
            15 => Record::Checkpoint(take_bytes(r)?),
            16 => Record::Fold(take_bytes(r)?),
            17 => Record::Levels(take_bytes(r)?),
            _ => return Err(Malformed::Field("op")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Codec, ValueKind};

    fn sample() -> BodyBuilder {
        let key = KeyRef::text("k");
        let bytes = b"some value";
        let meta = ValueMeta { kind: ValueKind::Bytes, codec: Codec::None, place: Place::Log, len: 10, sum: checksum(bytes, 1) };
        let item = Item { value: RecordValue { meta, bytes }, tag: Some(KeyRef::bytes(b"t")), expire: f64::INFINITY, now: 1.0 };
        let number = Item { value: RecordValue { meta: ValueMeta::number(Number::Int(5)), bytes: b"" }, tag: None, expire: 2.0, now: 1.0 };
        let mut versions = VersionsBuilder::default();
        versions.push(key, 3);
        let mut accesses = AccessesBuilder::default();
        accesses.push(key, 2, 4.0);
        let mut body = BodyBuilder::default();
        for record in [
            Record::Set(key, item),
            Record::Add(key, number),
            Record::Push { prefix: Some("q"), front: true, item },
            Record::Incr { key, delta: Number::Int(1), default: Some(Number::Float(0.5)), now: 1.0 },
            Record::Touch { key, expire: 9.0, now: 1.0 },
            Record::Delete { key, now: 1.0 },
            Record::Pull { prefix: None, front: false, now: 1.0 },
            Record::Remove(Cause::Cull, versions.list()),
            Record::Clear,
            Record::Setting("s", b"v"),
            Record::Accessed(accesses.list()),
            Record::Statistics { hits: 1, misses: 2, reset: true },
            Record::Hold { owner: 7, ms: 100 },
            Record::Release { owner: 7 },
            Record::Checkpoint(b"c"),
            Record::Fold(b"f"),
            Record::Levels(b"l"),
        ] {
            body.push(&record);
        }
        body
    }

    #[test]
    fn every_record_is_read_back_as_it_was_written() {
        let builder = sample();
        let mut bytes = Vec::new();
        builder.write_to(&mut bytes);
        assert_eq!(bytes.len(), builder.len());
        let body = Body::parse(&bytes).unwrap();
        let own = builder.as_body();
        assert_eq!((own.head, own.values, own.count, own.values_offset), (body.head, body.values, body.count, body.values_offset));
        let mut again = BodyBuilder::default();
        for (record, offset) in body.records() {
            if let Record::Set(_, item) | Record::Push { item, .. } = record {
                assert_eq!(&bytes[offset..offset + 10], item.value.bytes);
            }
            again.push(&record);
        }
        let mut second = Vec::new();
        again.write_to(&mut second);
        assert_eq!(bytes, second);
    }

    /// In a long body the values stand in slots; whoever made it knows their places before it is written.
    #[test]
    fn a_long_body_is_read_back_with_each_value_in_its_slots() {
        let values: Vec<Vec<u8>> = (0..12_u8).map(|n| vec![n; [1 << 20, 0, 33, (1 << 20) - 1][usize::from(n) % 4]]).collect();
        let long = |n: usize| {
            let mut body = BodyBuilder::default();
            for value in values.iter().cycle().take(n) {
                let meta = ValueMeta {
                    kind: ValueKind::Bytes,
                    codec: Codec::None,
                    place: Place::Log,
                    len: value.len() as u64,
                    sum: checksum(value, 3),
                };
                let value = RecordValue { meta, bytes: value };
                body.push(&Record::Set(KeyRef::text("k"), Item { value, tag: None, expire: f64::INFINITY, now: 1.0 }));
                body.push(&Record::Delete { key: KeyRef::text("k"), now: 1.0 });
            }
            body
        };
        let mut appended = long(12);
        appended.append(&long(12));
        assert!(long(12).len() < PLAIN_BODY_LEN_MAX && appended.len() > PLAIN_BODY_LEN_MAX);
        for builder in [long(24), appended] {
            let mut bytes = Vec::new();
            builder.write_to(&mut bytes);
            assert_eq!(bytes.len(), builder.len());
            assert_eq!(builder.head_sum(3), head_sum(&bytes, 3).unwrap());
            let (body, own) = (Body::parse(&bytes).unwrap(), builder.as_body());
            assert_eq!(body.records().count(), 48);
            for ((n, (record, offset)), (same, at)) in body.records().enumerate().zip(own.records()) {
                assert!(offset == at && offset % SLOT_LEN == 0);
                if let (Some(value), Some(same)) = (record.value(), same.value()) {
                    assert!(value.bytes == values[n / 2 % 12] && value.bytes == same.bytes);
                    assert_eq!(value.bytes, &bytes[offset..offset + value.bytes.len()]);
                }
            }
            for len in [bytes.len() - 1, bytes.len() - SLOT_LEN, PLAIN_BODY_LEN_MAX + 1, PLAIN_BODY_LEN_MAX, 100, 0] {
                assert!(Body::parse(&bytes[..len]).is_err(), "a prefix of {len} bytes passed");
            }
        }
    }

    #[test]
    fn no_flipped_bit_of_the_head_passes_its_checksum_and_no_prefix_parses() {
        let mut bytes = Vec::new();
        sample().write_to(&mut bytes);
        let sum = head_sum(&bytes, 3).unwrap();
        let head_len = 8 + u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        for bit in 0..head_len * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(head_sum(&bad, 3), Ok(sum), "bit {bit} slipped through");
            std::hint::black_box(Body::parse(&bad).is_ok()); // must not panic, whatever it says
        }
        for len in 0..bytes.len() {
            assert!(Body::parse(&bytes[..len]).is_err(), "a prefix of {len} bytes passed");
        }
    }
}
