//! The engine holds its promises in simulated runs, and a run is the same each time.

use super::*;

fn sound(sim: &Sim, seed: u64) -> Simulated {
    let done = simulate(sim, seed);
    let text: Vec<String> = done.violations.iter().take(5).map(|it| format!("{}: {}", it.wrong.title(), it.detail)).collect();
    assert!(done.violations.is_empty(), "seed {seed} (harness sim --seed {seed}): {}\n{}", done.violations.len(), text.join("\n"));
    done
}

#[test]
fn two_hosts_without_faults_lose_nothing() {
    let sim = Sim { faults: false, ops: 1500, ..Sim::default() };
    for seed in 1..=3 {
        let done = sound(&sim, seed);
        // Only those may fail that were interrupted by others for as long as they like, and they must say that nothing was done.
        assert!(done.calls.iter().all(|call| !call.is_ambiguous()), "seed {seed}: nothing is left in doubt");
    }
}

#[test]
fn two_hosts_under_all_faults_lose_nothing() {
    for seed in 1..=6 {
        let done = sound(&Sim { ops: 1500, ..Sim::default() }, seed);
        for fault in ["N7", "N9", "U8"] {
            assert!(done.stats.faults[fault].observable > 0, "{fault} was noticed with seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    // Any entropy or thread that is not an argument of the run shows in one of these, sooner or later.
    let marks = |faults, seed| {
        let done = simulate(&Sim { ops: 1200, faults, ..Sim::default() }, seed);
        (done.hash, done.next_random, done.clock)
    };
    for faults in [false, true] {
        for seed in 5..8 {
            assert_eq!(marks(faults, seed), marks(faults, seed), "faults: {faults}, seed {seed}");
        }
        assert_ne!(marks(faults, 5), marks(faults, 6));
    }
}
