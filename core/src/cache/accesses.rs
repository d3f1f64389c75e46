//! Reads that an eviction policy wants to know of: gathered in memory and written along with the next commit.
//!
//! They are hints: a process that dies takes those of its last moments with it.

use crate::format::body::AccessesBuilder;
use crate::format::{Key, KeyRef};
use crate::sync::{Mutex, lock};
use std::collections::BTreeMap;

/// Keys that are gathered at most; a process that only reads writes them once they are so many.
pub(crate) const GATHERED_MAX: usize = 1024;
/// The same for the bytes of the keys; and what one record takes of them, about.
const GATHERED_LEN: usize = 1 << 20;

/// Reads that were not written yet.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    reads: BTreeMap<Key, (u32, f64)>,
    /// Bytes of the keys.
    len: usize,
}

impl Accesses {
    /// Notes a read at `now`. Returns whether it is time to write.
    pub(crate) fn note(&self, key: KeyRef<'_>, now: f64) -> bool {
        let mut gathered = lock(&self.gathered);
        let mut is_new = false;
        let (count, last) = gathered.reads.entry(key.to_owned()).or_insert_with(|| {
            is_new = true;
            (0, now)
        });
        *count = count.saturating_add(1);
        *last = now.max(*last);
        gathered.len += if is_new { key.bytes.len() } else { 0 };
        gathered.reads.len() >= GATHERED_MAX || gathered.len >= GATHERED_LEN
    }

    /// Returns whether a read of `key` was noted that is not written yet.
    pub(crate) fn holds(&self, key: KeyRef<'_>) -> bool {
        let gathered = lock(&self.gathered);
        !gathered.reads.is_empty() && gathered.reads.contains_key(&key.to_owned())
    }

    /// Takes out, as a record's list, everything, or as much as a record holds where keys are long.
    pub(crate) fn take(&self) -> Option<AccessesBuilder> {
        let mut gathered = lock(&self.gathered);
        let mut list = AccessesBuilder::default();
        while list.bytes_len() < GATHERED_LEN
            && let Some((key, (count, last))) = gathered.reads.pop_first()
        {
            gathered.len -= key.bytes.len();
            list.push(key.as_ref(), count, last);
        }
        if list.list().is_empty() { None } else { Some(list) }
    }
}
