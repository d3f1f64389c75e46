//! The search itself.

use std::collections::BTreeSet;

use harness::model::{Collecting, Config, Counterexample, Mutation, Protocol};

use crate::configs::{ONE, writers_and_reader};
use crate::{BOUND, search};

#[test]
fn the_same_search_twice_finds_the_same() {
    let broken = writers_and_reader().with(Mutation::StageOutlivesName);
    let (one, two) = (search(&broken, BOUND), search(&broken, BOUND));
    assert_eq!((one.states, one.steps, one.depth, one.kinds), (two.states, two.steps, two.depth, two.kinds));
    let trace = |report: Option<Counterexample>| report.map(|found| found.to_string());
    let traces: BTreeSet<_> = [trace(one.counterexample), trace(two.counterexample)].into();
    assert_eq!(traces.len(), 1);
    assert!(traces.into_iter().all(|trace| trace.is_some()));
}

#[test]
fn a_configuration_beyond_the_bounds_is_refused() {
    assert!(Protocol::new(Config::new(&[&[ONE; 5]], &[])).is_err());
    assert!(Protocol::new(Config::new(&[&[ONE], &[ONE], &[ONE], &[ONE]], &[])).is_err());
    assert!(Protocol::new(Config { late: 3, ..writers_and_reader() }).is_err());
    assert!(Protocol::new(Config { collecting: Collecting::Folded, ..writers_and_reader() }).is_err());
    assert!(Protocol::new(writers_and_reader()).is_ok());
}
