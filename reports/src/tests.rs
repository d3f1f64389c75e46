//! The page is what it was, says the worst first, and escapes what it is given.

use std::collections::BTreeMap;

use super::*;

fn report() -> Report {
    let engine = |name: &str, title: &str, ours| EngineInfo { name: name.into(), title: title.into(), version: "1.0".into(), ours };
    let run = |engine: &str, verdict, damage| RunInfo {
        scenario: "two-hosts".into(),
        engine: engine.into(),
        seed: 1,
        verdict,
        error: None,
        damage,
        answered: 1000,
        unanswered: 3,
        by_host: BTreeMap::from([("host-a".into(), 600), ("host-b".into(), 400)]),
        faults: vec![FaultRow { name: "N7".into(), fired: 5, observable: 4, ..FaultRow::default() }],
        seconds: 5.25,
        replay: format!("harness replay --scenario two-hosts --engine {engine} --seed 1"),
        ..RunInfo::default()
    };
    let lost = Damage { what: "acknowledged data lost".into(), count: 17, examples: vec!["key/1: <b>nothing</b>".into()] };
    Report {
        version: VERSION,
        created: "2026-01-01T00:00:00Z".into(),
        command: "harness run".into(),
        environment: BTreeMap::from([("kernel".into(), "6.1".into())]),
        engines: vec![engine("ours", "Ours", true), engine("other", "Other", false)],
        scenarios: vec![ScenarioInfo {
            name: "two-hosts".into(),
            title: "Two hosts".into(),
            source: "a report".into(),
            story: "It happens.".into(),
            faults: vec!["N1".into()],
            ..ScenarioInfo::default()
        }],
        runs: vec![run("ours", Verdict::Sound, vec![]), run("other", Verdict::Damaged, vec![lost])],
        trips: vec![TripRow {
            engine: "ours".into(),
            operation: "set".into(),
            trips: 6.0,
            with_lookups: 7.0,
            kinds: BTreeMap::from([("LINK".into(), 1.0)]),
            limit: Some(7.0),
        }],
        ..Report::default()
    }
}

#[test]
fn the_page_is_as_it_was() {
    insta::assert_snapshot!(page(&report()));
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows() {
    let page = page(&report());
    for outside in ["http://", "https://", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("&lt;b&gt;nothing&lt;/b&gt;") && !page.contains("<b>nothing"));
    assert!(page.contains("name=\"viewport\"") && page.contains("prefers-color-scheme: dark"));
}

#[test]
fn one_damaged_seed_damages_the_scenario() {
    let mut report = report();
    let mut again = report.runs[0].clone();
    again.seed = 2;
    again.verdict = Verdict::Damaged;
    report.runs.push(again);
    assert_eq!(report.verdict("two-hosts", "ours"), Some(Verdict::Damaged));
    assert_eq!(report.damaged("ours"), (1, 1));
    assert_eq!(report.verdict("two-hosts", "nobody"), None);
}

#[test]
fn the_data_survives_being_written_and_read() {
    let report = report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
