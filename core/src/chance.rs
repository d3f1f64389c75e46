//! The only source of random numbers: names that no other process gives, and nonces.
//!
//! Chance is an argument, as time is ([`crate::clock`]): a simulation hands in a seeded one, and its runs repeat bit for bit.

use crate::error::{Error, ErrorKind, Result};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Draws random numbers.
pub trait Chance: Debug + Send + Sync + 'static {
    /// Returns a number that was never returned before, by any process.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    fn next(&self) -> io::Result<u128>;
}

/// The system's random numbers. They are asked for each time, so that a forked child does not repeat its parent's.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsChance;

impl Chance for OsChance {
    fn next(&self) -> io::Result<u128> {
        let mut bytes = [0; 16];
        #[expect(clippy::disallowed_methods, reason = "the door itself")]
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(u128::from_le_bytes(bytes))
    }
}

/// Numbers that follow from a seed, for tests and simulations: `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014). Two processes of
/// one simulation need seeds of their own, or they give the same names.
#[derive(Debug)]
pub struct SeededChance(AtomicU64);

impl SeededChance {
    /// Starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn half(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Chance for SeededChance {
    fn next(&self) -> io::Result<u128> {
        Ok((u128::from(self.half()) << 64) | u128::from(self.half()))
    }
}

/// Returns a random number of 128 bits.
pub(crate) fn wide(chance: &dyn Chance) -> Result<u128> {
    chance.next().map_err(|e| Error::new(ErrorKind::Io, format!("no random numbers: {e}")))
}

/// Returns a random number of 64 bits.
pub(crate) fn narrow(chance: &dyn Chance) -> Result<u64> {
    #[expect(clippy::cast_possible_truncation, reason = "half of the bits are as random as all of them")]
    wide(chance).map(|number| number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_numbers_again_and_another_seed_gives_others() {
        let draw = |seed| {
            let chance = SeededChance::new(seed);
            [chance.next().unwrap(), chance.next().unwrap()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[0], draw(1)[1]);
        assert_ne!(OsChance.next().unwrap(), OsChance.next().unwrap());
    }
}
