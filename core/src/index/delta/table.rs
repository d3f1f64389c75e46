//! A hash table of small numbers: one word a slot, so that looking a key up touches one cache line before the entry itself.
//!
//! Open addressing with linear probing. A slot holds the low half of the hash, which also says where the slot belongs, and the number.

/// The table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// A power of two of them, or none; 0 is a free one, else `low half of the hash << 32 | number + 1`.
    slots: Vec<u64>,
    len: usize,
}

const FIRST_LEN: usize = 16;

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn tag(hash: u64) -> u32 {
    hash as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant; no slot in use has 0 there")]
const fn number(slot: u64) -> u32 {
    slot as u32 - 1
}

impl Table {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    const fn home(&self, tag: u32) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    /// Returns the first number under this hash that `is` says yes to.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(tag(hash));
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if slot >> 32 == u64::from(tag(hash)) && is(number(slot)) {
                return Some(number(slot));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds a number under a hash.
    ///
    /// # Panics
    /// For the number `u32::MAX`.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        // At most half full: most searches end in the line that they begin in.
        if self.len * 2 >= self.slots.len() {
            let len = (self.slots.len() * 2).max(FIRST_LEN);
            let old = std::mem::replace(&mut self.slots, vec![0; len]);
            old.into_iter().filter(|slot| *slot != 0).for_each(|slot| self.place(slot));
        }
        let number = number.checked_add(1).expect("a delta is flushed long before");
        self.place(u64::from(tag(hash)) << 32 | u64::from(number));
        self.len += 1;
    }

    fn place(&mut self, slot: u64) {
        let mut at = self.home(tag(slot >> 32));
        while self.slots[at] != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    /// Removes a number that is there under this hash.
    pub(super) fn remove(&mut self, hash: u64, gone: u32) {
        if self.slots.is_empty() {
            return;
        }
        let mask = self.slots.len() - 1;
        let mut at = self.home(tag(hash));
        while self.slots[at] == 0 || number(self.slots[at]) != gone {
            if self.slots[at] == 0 {
                return;
            }
            at = (at + 1) & mask;
        }
        // What follows without a gap moves up, unless it would come before its place.
        let mut next = (at + 1) & mask;
        while self.slots[next] != 0 {
            let home = self.home(tag(self.slots[next] >> 32));
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.slots[at] = self.slots[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[at] = 0;
        self.len -= 1;
    }

    /// Forgets all numbers and keeps the memory.
    pub(super) fn clear(&mut self) {
        if self.len > 0 {
            self.slots.fill(0);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Removal moves slots: whatever is removed, the others are found, also around the table's end and under equal hashes.
    #[test]
    fn whatever_is_removed_the_others_are_found() {
        let hashes: Vec<u64> = (0..400_u64).map(|n| if n % 3 == 0 { 0xffff_fff0 | (n % 7) } else { ((n % 50) << 32) | (n * n) }).collect();
        let mut table = Table::default();
        let mut there = BTreeSet::new();
        let mut dice = 1_u64;
        for step in 0..20_000_u32 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = (dice >> 33) as u32 % 400;
            let hash = hashes[n as usize];
            if there.remove(&n) {
                table.remove(hash, n);
                table.remove(hash, n);
            } else {
                there.insert(n);
                table.insert(hash, n);
            }
            assert_eq!(table.len(), there.len());
            if step % 64 == 0 {
                for n in 0..400 {
                    let found = table.find(hashes[n as usize], |m| m == n);
                    assert_eq!(found, there.contains(&n).then_some(n), "step {step}");
                }
            }
        }
        table.clear();
        assert!((0..400).all(|n| table.find(hashes[n as usize], |m| m == n).is_none()));
    }
}
