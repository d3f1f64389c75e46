//! Every fault of the catalogue is played at every one of its phases, until a client can see what it means.
//!
//! Each has a case: a few calls of two hosts, in process and in virtual time, with assertions of what they are told. A case that
//! never makes its fault observable fails, and so does a fault without a case.

#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

mod nfs;
mod others;
mod smb;
mod stage;
mod universal;
mod walk;

use harness::drive::catalogue::CATALOGUE;
use stage::Stage;

type Case = fn(&Stage);

fn case_of(id: &str) -> Option<Case> {
    universal::case(id).or_else(|| nfs::case(id)).or_else(|| smb::case(id)).or_else(|| others::case(id))
}

#[test]
fn every_fault_is_played_at_every_phase_until_it_is_observable() {
    let (mut played, mut wrong) = (0, Vec::new());
    for entry in CATALOGUE {
        let Some(case) = case_of(entry.id) else {
            wrong.push(format!("{} ({}) has no case", entry.id, entry.name));
            continue;
        };
        for &phase in entry.phases {
            played += 1;
            let answer = std::panic::catch_unwind(|| {
                let stage = Stage::new(entry, phase);
                case(&stage);
                let count = stage.a.drive().fault_counts()[entry.id].clone();
                assert!(count.fired > 0 && count.observable > 0, "not observable: {count:?}");
                assert!(count.observable <= count.fired && count.fired <= count.matched, "{count:?}");
                let unobserved = stage.a.drive().unobserved();
                assert!(unobserved.is_empty(), "one of its plans was not observable: {unobserved:?}");
            });
            if answer.is_err() {
                wrong.push(format!("{} ({}) at {phase:?}", entry.id, entry.name));
            }
        }
    }
    assert!(wrong.is_empty(), "what went wrong is said above: {wrong:#?}");
    assert!(played > 2 * CATALOGUE.len(), "several of them happen at six phases: {played}");
}

#[test]
fn a_required_fault_that_nobody_could_see_is_named() {
    let entry = CATALOGUE.iter().find(|entry| entry.id == "S1").unwrap();
    let stage = Stage::new(entry, entry.phases[0]);
    stage.plan(|fault| fault.path = Some("never".into()));
    stage::put(&stage.a, "f", b"x");
    let named: Vec<String> = stage.a.drive().unobserved().into_iter().map(|fault| fault.name).collect();
    assert_eq!(named, ["share-conflict"], "as it was planned");
}

#[test]
fn a_plan_names_hosts_that_are_there() {
    let entry = CATALOGUE.iter().find(|entry| entry.id == "N9").unwrap();
    let stage = Stage::new(entry, entry.phases[0]);
    let fault = harness::drive::Fault { host: Some("host-z".into()), ..harness::drive::Fault::named("N9") };
    let said = stage.a.drive().add_fault(fault).unwrap_err();
    assert!(said.contains("host-z") && said.contains("host-a"), "{said}");
}
