//! The engine holds its promises in simulated runs, a run is the same each time, and the simulator does what it says.

use super::*;
use crate::history::Outcome;

fn built_in(name: &str) -> Scenario {
    Scenario::built_in().unwrap().into_iter().find(|scenario| scenario.name == name).unwrap()
}

fn sound(name: &str, seed: u64) -> Simulated {
    let done = play(&built_in(name), seed).unwrap();
    let text: Vec<String> = done.violations.iter().take(5).map(|it| format!("{}: {}", it.wrong.title(), it.detail)).collect();
    let again = crate::describe::replay_command(name, "ours", seed, crate::scenario::Front::Sim);
    assert!(done.violations.is_empty(), "{name}: {} are wrong; {again}\n{}", done.violations.len(), text.join("\n"));
    assert!(done.unobserved.is_empty(), "{name}: nobody could notice {}; {again}", done.unobserved.join(", "));
    done
}

#[test]
fn two_hosts_without_faults_lose_nothing_and_nothing_fails() {
    for seed in 1..=2 {
        let done = sound("two-hosts", seed);
        let killed = |call: &&Call| matches!(&call.outcome, Outcome::Info(why) if why == KILLED);
        let unanswered = done.calls.iter().filter(|call| call.answer().is_none()).count();
        assert_eq!(unanswered, done.calls.iter().filter(killed).count(), "seed {seed}: only killed recoveries have no answer");
    }
}

#[test]
fn two_hosts_under_all_faults_lose_nothing() {
    let done = [sound("mixed", 1), sound("mixed", 2)];
    for fault in ["N7", "N9", "N14", "N16"] {
        assert!(done.iter().any(|done| done.stats.faults[fault].observable > 0), "nobody could notice {fault}");
    }
}

/// A bit that flipped on the way of one read stayed in that host's page cache. The host took a sound commit for damaged after three reads of the
/// same page, passed it in silence, and went on with other counters and items than everybody else.
#[test]
fn bits_that_flip_on_the_way_to_a_host_cost_nothing() {
    for seed in 1..=3 {
        let done = sound("flipped-reads", seed);
        assert!(done.stats.faults["U1"].observable > 10, "seed {seed}: {}", done.stats.faults["U1"].observable);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    // Any entropy or thread that is not an argument of the run shows in one of these, sooner or later.
    for name in ["two-hosts", "mixed", "power-cut"] {
        let scenario = Scenario { seconds: 2.0, ..built_in(name) };
        let marks = |seed| {
            let done = play(&scenario, seed).unwrap();
            (done.hash, done.next_random, done.clock)
        };
        assert_eq!(marks(5), marks(5), "{name}");
        assert_ne!(marks(5), marks(6), "{name}");
    }
}

#[test]
fn calls_of_processes_overlap_and_time_never_runs_backwards_in_one() {
    let done = sound("two-hosts", 1);
    let overlaps = done.calls.windows(2).filter(|pair| pair[0].process != pair[1].process && pair[1].start < pair[0].end).count();
    assert!(overlaps > 100, "{overlaps} calls overlapped the one before");
    let mut ends = std::collections::BTreeMap::new();
    for call in &done.calls {
        let end = ends.insert(call.process.clone(), call.end).unwrap_or(0);
        assert!(end <= call.start && call.start <= call.end, "{call:?}");
    }
}

#[test]
fn a_host_that_is_cut_off_changes_nothing_meanwhile() {
    let mut scenario = built_in("two-hosts");
    scenario.events =
        vec![Event { at_ms: 1000, every_ms: None, action: Action::Drive(Command::Cut { host: "host-a".into(), ms: Some(2000) }) }];
    let done = play(&scenario, 1).unwrap();
    assert!(done.violations.is_empty(), "{:?}", done.violations);
    let busy = |call: &&Call| call.host == "host-a" && call.start > 1_100_000 && call.end < 2_900_000 && !matches!(call.op, Op::Open);
    let fast = done.calls.iter().filter(busy).find(|call| call.answer().is_some());
    assert_eq!(fast, None, "nothing on the host that is cut off gets an answer");
    assert!(done.calls.iter().any(|call| call.host == "host-b" && call.start > 1_100_000 && call.end < 2_900_000), "the other goes on");
}

/// A host had looked into the folder of runs before there was one; another host then made it and put the index there. For a minute the
/// first host found nothing of what had been acknowledged.
#[test]
fn a_host_that_looked_early_finds_what_others_publish_later() {
    let mut scenario = built_in("two-hosts");
    scenario.seconds = 0.3;
    scenario.workload.script = vec!["0 host-b.1 set key=key/19 seq=109 size=40".parse().unwrap()];
    let done = play(&scenario, 1).unwrap();
    assert!(done.calls.iter().any(|call| call.process == "host-a.reader"), "a reader that never writes is asked, too");
    assert_eq!(done.violations, []);
}

#[test]
fn a_call_says_which_faults_met_its_requests() {
    let scenario = Scenario { seconds: 2.0, ..built_in("lost-replies") };
    let done = play(&scenario, 1).unwrap();
    let met: usize = done.calls.iter().filter(|call| call.faults.iter().any(|fault| fault == "N7")).count();
    let fired = done.stats.faults["N7"].fired as usize;
    assert!(met > fired / 4 && met <= fired, "{met} calls met some of {fired} faults");
    assert!(done.calls.iter().filter(|call| call.last).all(|call| !call.faults.iter().any(|fault| fault == "N7")), "it was healed by then");
}
