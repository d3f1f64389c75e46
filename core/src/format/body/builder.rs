//! Gathers what a commit asks, and lays it out.

use super::fields::put_record;
use super::{Body, Layout, PREFIX_LEN, Record};
use crate::format::wire::checksum;
use crate::format::{BODY_LEN_MAX, PLAIN_BODY_LEN_MAX, SLOT_LEN};
use std::convert::Infallible;

/// Gathers records into a body. The buffers are kept between uses.
#[derive(Debug, Clone, Default)]
pub struct BodyBuilder {
    /// Empty, or the prefix (8 bytes, kept up to date) and the records.
    head: Vec<u8>,
    /// The values, one right after the other whatever the body's length.
    values: Vec<u8>,
    /// What they take in slots.
    slots: usize,
    count: u32,
}

const EMPTY: [u8; PREFIX_LEN] = [0; PREFIX_LEN];

impl BodyBuilder {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.head.clear();
        self.values.clear();
        self.slots = 0;
        self.count = 0;
    }

    /// Returns how many records it has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the length of the whole body.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        let plain = self.head().len() + self.values.len();
        if plain <= PLAIN_BODY_LEN_MAX { plain } else { self.head().len().next_multiple_of(SLOT_LEN) + self.slots }
    }

    /// Returns whether it has no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns whether records and values of `more` bytes still fit into one commit, whatever their number.
    #[must_use]
    pub fn has_room_for(&self, more: usize) -> bool {
        self.len().saturating_add(more.saturating_mul(2)) <= BODY_LEN_MAX
    }

    /// Appends the records of `other` after its own (a group commit).
    pub fn append(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.begin();
        self.head.extend_from_slice(&other.head[PREFIX_LEN..]);
        self.values.extend_from_slice(&other.values);
        self.slots += other.slots;
        self.count += other.count;
        self.update_prefix();
    }

    /// Adds a record.
    ///
    /// # Panics
    /// If a key, tag or the whole is longer than the format allows: the façade has checked them.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        self.begin();
        if let Some(bytes) = put_record(&mut self.head, record) {
            self.values.extend_from_slice(bytes);
            self.slots += bytes.len().next_multiple_of(SLOT_LEN);
        }
        self.count += 1;
        self.update_prefix();
    }

    #[inline]
    fn begin(&mut self) {
        if self.head.is_empty() {
            self.head.extend_from_slice(&EMPTY);
        }
    }

    #[inline]
    fn update_prefix(&mut self) {
        let len = u32::try_from(self.head.len() - PREFIX_LEN).expect("a body is far shorter than 4 GiB");
        self.head[..4].copy_from_slice(&len.to_le_bytes());
        self.head[4..PREFIX_LEN].copy_from_slice(&self.count.to_le_bytes());
    }

    /// Returns the body's first part: prefix and records.
    #[must_use]
    #[inline]
    pub fn head(&self) -> &[u8] {
        if self.head.is_empty() { &EMPTY } else { &self.head }
    }

    /// Returns the values, one right after the other whatever the body's length.
    #[must_use]
    #[inline]
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Hands the body to `take`, piece by piece in order.
    ///
    /// # Errors
    /// Those of `take`, at once.
    #[inline]
    pub fn each_part<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        take(self.head())?;
        let body = self.as_body();
        if body.layout == Layout::Plain { take(&self.values) } else { body.each_slot(take) }
    }

    /// Returns the checksum of the head: what [`head_sum`] returns for the whole body.
    #[must_use]
    #[inline]
    pub fn head_sum(&self, seed: u64) -> u64 {
        checksum(self.head(), seed)
    }

    /// Returns the body as whoever replays it reads it, with no byte looked at again.
    #[must_use]
    #[inline]
    pub fn as_body(&self) -> Body<'_> {
        let head = self.head();
        let layout = if head.len() + self.values.len() <= PLAIN_BODY_LEN_MAX { Layout::Plain } else { Layout::Packed };
        Body { head: &head[PREFIX_LEN..], values: &self.values, count: self.count, values_offset: layout.start(head.len()), layout }
    }

    /// Appends the whole body to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        let Ok(()) = self.each_part(|part| {
            out.extend_from_slice(part);
            Ok::<_, Infallible>(())
        });
    }
}
