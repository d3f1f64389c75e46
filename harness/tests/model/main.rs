//! The protocol keeps its promises in every reachable state, and each rule is needed.
//!
//! A `holds_` search must find no violation, and must have explored what it is for: the kinds of steps that it names.
//! A rule that is `refuted` must be followed by a violation of the promise that is named; its trace is printed (run
//! with `--no-capture` under nextest). A failure prints the shortest way to it; the search is the same every time:
//! `cargo nextest run -p harness model`, or `cargo test -p harness --test model NAME`.

mod configs;
mod model_holds;
mod model_refutes;
mod model_search;

use harness::model::{Config, Mutation, Protocol, Report, explore};

/// States that one search may have before it counts as a mistake.
const BOUND: usize = 2_000_000;

fn search(config: &Config, bound: usize) -> Report {
    let model = Protocol::new(config.clone()).expect("the configuration is within the model's bounds");
    explore(&model, bound).unwrap_or_else(|too_large| panic!("{too_large}: {config:?}"))
}

fn holds_within(bound: usize, name: &str, config: &Config, explored: &[&str]) -> Report {
    let report = search(config, bound);
    println!("{name}: {} states, {} steps, {} deep: {:?}", report.states, report.steps, report.depth, report.kinds);
    if let Some(counterexample) = &report.counterexample {
        panic!("{name}: {config:?}\n{counterexample}");
    }
    let missing: Vec<_> = explored.iter().filter(|kind| !report.kinds.contains_key(**kind)).collect();
    assert!(missing.is_empty(), "{name} never came to {missing:?}");
    report
}

fn holds(name: &str, config: &Config, explored: &[&str]) -> Report {
    holds_within(BOUND, name, config, explored)
}

fn refuted(config: &Config, mutations: &[Mutation], violation: &str) {
    let mutated = mutations.iter().fold(config.clone(), |config, mutation| config.with(*mutation));
    let report = search(&mutated, BOUND);
    let Some(counterexample) = report.counterexample else {
        panic!("{mutations:?} went unnoticed in {} states of {mutated:?}", report.states)
    };
    println!("{mutations:?}, after {} states\n{counterexample}", report.states);
    assert!(counterexample.violation.contains(violation), "{mutations:?}: expected {violation:?}, found\n{counterexample}");
}
