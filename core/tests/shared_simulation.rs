//! Thousands of seeded runs of the real shared log on a simulated drive (see `shared_sim`), and as many with a rule broken on
//! purpose, each of which must be found out.
//!
//! `SHARED_SEED=n cargo test -p diskcache-core --test shared_simulation replay` runs one seed again; `SHARED_SEEDS=count` sets how
//! many are run, `SHARED_FROM=n` the first.

mod shared_sim;
mod shared_support;

use shared_sim::{Mutation, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let from = number("SHARED_FROM").unwrap_or(0);
    from..from + number("SHARED_SEEDS").unwrap_or(default)
}

fn replay_command(seed: u64) -> String {
    format!("SHARED_SEED={seed} cargo test -p diskcache-core --test shared_simulation replay -- --nocapture")
}

#[test]
fn every_acknowledged_commit_is_in_the_log_once_and_all_agree() {
    for seed in seeds(1500) {
        if let Err(why) = run(seed, Mutation::Sound) {
            panic!("seed {seed}:\n  {why}\nreplay: {}", replay_command(seed));
        }
    }
}

#[test]
fn replay_of_one_seed() {
    let seed = number("SHARED_SEED").unwrap_or(1);
    if let Err(why) = run(seed, Mutation::Sound) {
        panic!("seed {seed}:\n  {why}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..30 {
        assert_eq!(run(seed, Mutation::Sound), run(seed, Mutation::Sound), "seed {seed}");
    }
}

fn is_refuted(mutation: Mutation, telling: &str) {
    let found = seeds(1500).find_map(|seed| run(seed, mutation).err().map(|why| (seed, why)));
    let (seed, why) = found.unwrap_or_else(|| panic!("{mutation:?} was not found out"));
    println!("{mutation:?} found out by seed {seed}: {why}");
    assert!(why.contains(telling), "{mutation:?} was found out for another reason, by seed {seed}: {why}");
}

#[test]
fn a_drive_that_does_not_sync_is_found_out() {
    is_refuted(Mutation::NoSync, "is not durable");
}

#[test]
fn publishing_that_replaces_a_name_is_found_out() {
    is_refuted(Mutation::Replace, "");
}

#[test]
fn a_ring_that_sometimes_reaches_nobody_is_found_out() {
    is_refuted(Mutation::NoRing, "acknowledged before");
}

#[test]
fn believing_a_name_that_was_collected_is_found_out() {
    is_refuted(Mutation::NoPredecessor, "ended as Acknowledged");
}

#[test]
fn a_link_that_lies_is_found_out() {
    is_refuted(Mutation::LyingLink, "");
}

#[test]
fn collecting_what_no_checkpoint_covers_is_found_out() {
    is_refuted(Mutation::CollectTooMuch, "");
}
