//! The engine against a reference that is a sorted map: whatever is done in whatever order, by two handles, with transactions,
//! expiry, reopening, checkpoints, merges, folds and blobs, every answer is that of the reference.

mod operations;

use operations::Word;
use proptest::prelude::*;

fn words(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Word>> {
    proptest::collection::vec(any::<Word>(), len)
}

/// `DISKCACHE_MODEL_FACTOR` multiplies the cases; `DISKCACHE_MODEL_SEED` draws others.
fn config(cases: u32) -> ProptestConfig {
    let factor = std::env::var("DISKCACHE_MODEL_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    let seed = std::env::var("DISKCACHE_MODEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let rng_seed = proptest::test_runner::RngSeed::Fixed(seed);
    ProptestConfig { cases: cases * factor, failure_persistence: None, max_shrink_iters: 2_000, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(150))]
    #[test]
    fn every_answer_is_that_of_a_sorted_map(seed in any::<u16>(), words in words(0..250)) {
        operations::run(seed, &words);
    }
}

proptest! {
    #![proptest_config(config(6))]
    #[test]
    fn a_long_life_on_a_local_disk_with_merges_and_folds_changes_no_answer(seed in any::<u16>(), words in words(1_500..2_500)) {
        operations::run(seed & !1 | 8, &words);
    }

    #[test]
    fn a_long_life_on_a_network_drive_with_merges_and_folds_changes_no_answer(seed in any::<u16>(), words in words(1_500..2_500)) {
        operations::run(seed | 1, &words);
    }
}
