//! Tells the second knock at a door from the first: what is looked up once is not worth remembering, and a walk through everything must
//! not wash out what is used all the time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bits, a power of two of them.
const BITS: usize = 1 << 17;
/// After so many first knocks all are forgotten.
const FIRST_MAX: usize = BITS / 2;

/// Remembers, about, which hashes were seen lately.
#[derive(Debug)]
pub struct Doorkeeper {
    bits: Box<[AtomicU64]>,
    first: AtomicUsize,
}

impl Default for Doorkeeper {
    fn default() -> Self {
        Self { bits: (0..BITS / 64).map(|_| AtomicU64::new(0)).collect(), first: AtomicUsize::new(0) }
    }
}

impl Doorkeeper {
    /// Takes note of a hash. Returns whether it was seen before, lately. It may be mistaken: nothing but speed may depend on it.
    pub fn knows(&self, hash: u64) -> bool {
        // The high half: the low half is what the delta places keys by.
        let at = (hash >> 32) as usize & (BITS - 1);
        let (word, bit) = (&self.bits[at / 64], 1 << (at % 64));
        if word.fetch_or(bit, Relaxed) & bit != 0 {
            return true;
        }
        if self.first.fetch_add(1, Relaxed) + 1 == FIRST_MAX {
            self.bits.iter().for_each(|word| word.store(0, Relaxed));
            self.first.store(0, Relaxed);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_knock_is_known_and_a_long_walk_is_forgotten() {
        let door = Doorkeeper::default();
        let hash = |n: u64| crate::format::wire::checksum(&n.to_le_bytes(), 0);
        assert!(!door.knows(hash(1)) && door.knows(hash(1)));
        let mistakes = (2..40_000).filter(|n| door.knows(hash(*n))).count();
        assert!(mistakes < 10_000, "{mistakes} of 40,000 taken for others");
        for n in 40_000..400_000 {
            door.knows(hash(n));
        }
        let kept = (1000..1100).filter(|n| door.knows(hash(*n))).count();
        assert!(kept < 60, "{kept} of 100 are still known");
    }
}
