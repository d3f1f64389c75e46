//! The drive's only source of chance: a small seeded generator (SplitMix64), the same on every machine.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// A generator of its own for a part of a run, named by a number.
    #[must_use]
    pub fn fork(&self, part: u64) -> Rng {
        let mut child = Rng { state: self.state ^ part.wrapping_mul(0xd134_2543_de82_ef95) };
        child.next_u64();
        child
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit` (0 for a limit of 0).
    pub fn below(&mut self, limit: u64) -> u64 {
        // The high half of the product: no bias that matters at these sizes.
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// True with a probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64 <= probability && probability > 0.0
    }
}
