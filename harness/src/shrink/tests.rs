use std::time::Duration;

use super::*;
use crate::control::Stats;
use crate::history::{Answer, Call, Op, Outcome, Read};
use crate::scenario::{Action, Blow, Event};
use crate::script::Step;

/// A plan with much that has nothing to do with the failure.
fn scenario() -> Scenario {
    let text = "name = 's'\ntitle = 't'\nsource = 's'\nstory = 's'\nhosts = 3\nprocs = 2\nseconds = 9.0\n\
        [[fault]]\nname = 'N7'\ncount = 0\n[[fault]]\nname = 'N16'\ncount = 0\nprobability = 0.1\n\
        [[event]]\nat_ms = 500\nevery_ms = 1000\naction = { do = 'kill', host = 'host-b' }\n\
        [[event]]\nat_ms = 1100\naction = { do = 'expire_lease', host = 'host-c' }\n";
    Scenario::parse(text).unwrap()
}

fn call(step: &Step) -> Call {
    let at = 1_000_000 + step.at_ms * 1000;
    Call {
        host: step.host.clone(),
        process: format!("{}.{}.1", step.host, step.process),
        op: step.op.clone(),
        start: at,
        end: at + 500,
        wall: (0, 0),
        outcome: Outcome::Ok(Answer::Done(true)),
        faults: Vec::new(),
        last: false,
    }
}

fn run(calls: Vec<Call>, wrong: Option<Wrong>) -> Run {
    let at = calls.last().map_or(0, |call| call.end);
    let violation = |wrong| Violation { wrong, detail: String::new(), subject: "key/3".to_owned(), at };
    Run {
        violations: wrong.into_iter().map(violation).collect(),
        calls,
        unobserved: Vec::new(),
        stats: Stats::default(),
        marks: None,
        seconds: 0.0,
        leftovers: 0,
        began_us: 1_000_000,
        faults: Vec::new(),
    }
}

/// What the processes do where they are told nothing: each sets and gets ten keys.
fn usual(scenario: &Scenario) -> Vec<Step> {
    let mut steps = Vec::new();
    for number in 0..200u64 {
        let (host, process) = (format!("host-{}", ["a", "b", "c"][number as usize % scenario.hosts]), number as usize / 3 % scenario.procs);
        let key = format!("key/{}", number / 6 % 10);
        let op = if number % 2 == 0 { Op::Set { key, seq: number, size: 5000, ttl_ms: Some(9) } } else { Op::Get { key } };
        steps.push(Step { at_ms: number * 20, host, process, op });
    }
    steps
}

/// An engine that loses what host-a set on key/3 when host-b is killed after it, while N16 is planned.
fn fails(scenario: &Scenario) -> Run {
    let script = &scenario.workload.script;
    let steps = if script.is_empty() { usual(scenario) } else { script.clone() };
    let steps: Vec<Step> = steps.into_iter().filter(|step| (step.at_ms as f64) < scenario.seconds * 1e3).collect();
    let set = steps.iter().find(|it| it.host == "host-a" && matches!(&it.op, Op::Set { key, .. } if key == "key/3"));
    let killed = scenario.events.iter().filter(|it| it.action == Action::Blow(Blow::Kill { host: Some("host-b".into()) }));
    let killed = killed.map(|it| it.at_ms).chain(scenario.events.iter().filter_map(|it| it.every_ms)).max();
    let set_before = set.zip(killed).is_some_and(|(set, killed)| set.at_ms < killed && (killed as f64) < scenario.seconds * 1e3);
    let planned = scenario.faults.iter().any(|fault| fault.name == "N16");
    let mut calls: Vec<Call> = steps.iter().map(call).collect();
    let wrong = (set_before && planned).then_some(Wrong::Lost);
    if wrong.is_some() {
        let at = 1_000_000 + (scenario.seconds * 1e6) as u64;
        let (op, outcome) = (Op::Get { key: "key/3".into() }, Outcome::Ok(Answer::Read(Read::Miss)));
        calls.push(Call { op, outcome, start: at, end: at, last: true, ..calls[0].clone() });
    }
    run(calls, wrong)
}

fn goal(tries: u32) -> Goal {
    Goal { wrong: None, tries, until: Instant::now() + Duration::from_secs(60) }
}

#[test]
fn only_what_the_failure_needs_is_left() {
    let found = shrink(&scenario(), None, goal(1), &mut |it| Ok(fails(it)), &|_, _, _| {}).unwrap();
    let small = &found.scenario;
    assert_eq!(found.wrong, Wrong::Lost);
    assert_eq!(small.workload.script.len(), 1, "{:?}", small.workload.script);
    assert_eq!(small.workload.script[0].op.subject(), Some("key/3"));
    assert_eq!((small.hosts, small.procs, small.faults.len()), (2, 1, 1), "host-b is killed, so it stays");
    assert_eq!(small.faults[0].name, "N16");
    let kill = Action::Blow(Blow::Kill { host: Some("host-b".into()) });
    assert!(matches!(small.events.as_slice(), [Event { every_ms: None, action, .. }] if *action == kill), "{:?}", small.events);
    assert!(small.seconds < 2.0);
    assert_eq!((found.before.operations, found.after.operations), (200, 1));
    assert!(!fails(small).violations.is_empty(), "it fails as it stands");
    let again = shrink(small, None, goal(1), &mut |it| Ok(fails(it)), &|_, _, _| {}).unwrap();
    assert_eq!(again.after, found.after, "and gets no smaller");
}

#[test]
fn a_failure_that_shows_now_and_then_is_tried_several_times() {
    let mut number = 0;
    let mut flaky = |it: &Scenario| {
        number += 1;
        Ok(if number % 3 == 0 { fails(it) } else { run(fails(it).calls, None) })
    };
    let found = shrink(&scenario(), None, goal(3), &mut flaky, &|_, _, _| {}).unwrap();
    assert_eq!((found.after.operations, found.scenario.faults.len()), (1, 1));
}

#[test]
fn another_kind_of_wrong_is_not_taken_for_the_one_that_is_asked_for() {
    let mut other = |it: &Scenario| {
        let mut found = fails(it);
        if it.faults.len() < 2 {
            found.violations.iter_mut().for_each(|violation| violation.wrong = Wrong::Hung);
        }
        Ok(found)
    };
    let found = shrink(&scenario(), None, goal(1), &mut other, &|_, _, _| {}).unwrap();
    assert_eq!((found.wrong, found.scenario.faults.len()), (Wrong::Lost, 2));
    let asked = Goal { wrong: Some(Wrong::Torn), ..goal(2) };
    assert_eq!(shrink(&scenario(), None, asked, &mut other, &|_, _, _| {}).unwrap_err(), "not seen in 4 runs: torn or foreign value");
}

#[test]
fn nothing_is_begun_after_the_time_and_what_was_found_is_kept() {
    let mut begun = 0;
    let mut play = |it: &Scenario| {
        begun += 1;
        Ok(fails(it))
    };
    let late = Goal { until: Instant::now(), ..goal(1) };
    let found = shrink(&scenario(), Some(fails(&scenario())), late, &mut play, &|_, _, _| {}).unwrap();
    assert!(found.unfinished && begun == 0, "{begun}");
    assert_eq!(found.scenario, scenario());
}
