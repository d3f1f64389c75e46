//! Reads that an eviction policy wants to know of: gathered in memory and written along with the next commit.
//!
//! They are hints: a process that dies takes those of its last moments with it.

use crate::format::body::AccessesBuilder;
use crate::format::{Key, KeyRef};
use crate::sync::{Mutex, lock};
use std::collections::BTreeMap;

/// Keys that are gathered at most; a process that only reads writes them once they are so many.
pub(crate) const GATHERED_MAX: usize = 1024;

/// Reads that were not written yet.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    gathered: Mutex<BTreeMap<Key, (u32, f64)>>,
}

impl Accesses {
    /// Notes a read at `now`. Returns whether it is time to write.
    pub(crate) fn note(&self, key: KeyRef<'_>, now: f64) -> bool {
        let mut gathered = lock(&self.gathered);
        let (count, last) = gathered.entry(key.to_owned()).or_insert((0, now));
        *count = count.saturating_add(1);
        *last = now.max(*last);
        gathered.len() >= GATHERED_MAX
    }

    /// Returns whether a read of `key` was noted that is not written yet.
    pub(crate) fn holds(&self, key: KeyRef<'_>) -> bool {
        let gathered = lock(&self.gathered);
        !gathered.is_empty() && gathered.contains_key(&key.to_owned())
    }

    /// Takes everything out, as a record's list.
    pub(crate) fn take(&self) -> Option<AccessesBuilder> {
        let mut gathered = lock(&self.gathered);
        if gathered.is_empty() {
            return None;
        }
        let mut list = AccessesBuilder::default();
        for (key, (count, last)) in std::mem::take(&mut *gathered) {
            list.push(key.as_ref(), count, last);
        }
        Some(list)
    }
}
