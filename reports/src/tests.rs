//! Pages are what they were, say the worst first, escape what they are given and need nothing from elsewhere; data survives being written
//! and read; schemas and samples are those that are kept as files.

use std::path::{Path, PathBuf};

use super::bench::{BenchReport, Trend};
use super::mounts::MountReport;
use super::*;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
}

/// Compares with a file that is kept; with UPDATE_REPORTS set, writes it.
#[track_caller]
fn kept(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_REPORTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == text, "{} is not what it should be; UPDATE_REPORTS=1 cargo test -p reports writes it anew", path.display());
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

/// All pages of all samples, by name.
fn pages() -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    sample::results::report().save(dir.path()).unwrap();
    sample::mounts::report().save(&dir.path().join("mounts")).unwrap();
    sample::bench::report().save(&dir.path().join("bench"), Some(("before", &sample::bench::baseline()))).unwrap();
    let mut pages = Vec::new();
    for folder in ["", "failures", "mounts", "bench"] {
        for entry in std::fs::read_dir(dir.path().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ext| ext == "html") {
                let name = path.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned();
                pages.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    pages.sort();
    pages
}

/// The part of a page between two marks, one element a line, for snapshots that people can read.
fn lines(page: &str, from: &str, to: &str) -> String {
    let start = page.find(from).unwrap_or_else(|| panic!("{from} is in the page"));
    let end = page[start..].find(to).map_or(page.len(), |at| start + at);
    page[start..end].replace("><", ">\n<")
}

#[test]
fn samples_are_those_that_are_kept() {
    kept(&samples().join("results.json"), &json(&sample::results::report()));
    kept(&samples().join("mounts.json"), &json(&sample::mounts::report()));
    kept(&samples().join("bench.json"), &json(&sample::bench::report()));
    kept(&samples().join("bench-before.json"), &json(&sample::bench::baseline()));
}

#[test]
fn schemas_are_those_that_are_kept() {
    for kind in Kind::ALL {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{}.schema.json", kind.name()));
        kept(&path, &schema(kind));
    }
}

#[test]
fn the_sample_has_every_state() {
    let report = sample::results::report();
    for verdict in [Verdict::Sound, Verdict::Damaged, Verdict::Unknown, Verdict::NotRun] {
        assert!(report.runs.iter().any(|run| run.verdict == verdict), "{verdict:?}");
    }
}

#[test]
fn the_data_survives_being_written_and_read() {
    let report = sample::results::report();
    assert_eq!(serde_json::from_str::<Report>(&json(&report)).unwrap(), report);
    let mounts = sample::mounts::report();
    assert_eq!(serde_json::from_str::<MountReport>(&json(&mounts)).unwrap(), mounts);
    let bench = sample::bench::report();
    assert_eq!(serde_json::from_str::<BenchReport>(&json(&bench)).unwrap(), bench);
}

#[test]
fn results_of_the_first_version_are_still_read() {
    let old = r#"{"version": 1, "created": "2026-01-01T00:00:00Z", "command": "harness run", "environment": {}, "scenarios": [], "trips": [],
      "engines": [{"name": "ours", "title": "Ours", "version": "1", "ours": true}],
      "runs": [{"scenario": "s", "engine": "ours", "seed": 1, "verdict": "damaged", "error": null, "answered": 1, "unanswered": 0, "by_host": {},
        "damage": [], "faults": [{"name": "N7", "fired": 5, "observable": 4}], "seconds": 1.0, "replay": "harness replay"}]}"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("old.json");
    std::fs::write(&file, old).unwrap();
    render_results(&file, &dir.path().join("out")).unwrap();
}

#[test]
fn results_of_a_newer_version_or_another_kind_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new.json");
    for (text, why) in
        [(r#"{"version": 99}"#, "version 99"), (r#"{"kind": "poem", "version": 1}"#, "kind"), ("{", "new.json"), ("{}", "version 0")]
    {
        std::fs::write(&file, text).unwrap();
        let told = render_results(&file, &dir.path().join("out")).unwrap_err().to_string();
        assert!(told.contains(why), "{text}: {told}");
        assert!(!dir.path().join("out").exists());
    }
}

#[test]
fn no_page_needs_anything_from_elsewhere() {
    for (name, page) in pages() {
        for outside in ["http://", "https://", "src=", "@import", "url(", "<iframe", "<object"] {
            assert!(!page.contains(outside), "{name}: {outside}");
        }
        assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"), "{name}");
        assert!(page.contains("name=\"viewport\"") && page.contains("prefers-color-scheme: dark"), "{name}");
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{name}");
    }
}

#[test]
fn pages_escape_what_they_are_given() {
    let pages = pages();
    let shown: Vec<&String> = pages.iter().filter(|(_, page)| page.contains("alert(1)")).map(|(name, _)| name).collect();
    assert!(!shown.is_empty(), "the sample's hostile text is shown somewhere");
    for (name, page) in &pages {
        assert!(!page.contains("<script>alert") && !page.contains("<page 14>"), "{name}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    for (name, page) in &pages {
        for href in page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let Some(target) = href.split('#').next().filter(|target| target.ends_with(".html") && !target.contains("criterion")) else {
                let id = href.strip_prefix('#');
                assert!(id.is_none_or(|id| page.contains(&format!("id=\"{id}\""))), "{name} links to {href}");
                continue;
            };
            let at = Path::new(name).parent().unwrap().join(target).to_string_lossy().replace("failures/../", "").replace("mounts/../", "");
            let at = at.replace("bench/../", "");
            assert!(pages.iter().any(|(other, _)| *other == at), "{name} links to {href}");
        }
    }
}

#[test]
fn each_run_that_is_not_sound_has_a_page_of_its_own() {
    let report = sample::results::report();
    let pages = pages();
    let open = report.runs.iter().filter(|run| run.verdict != Verdict::Sound).count();
    assert_eq!(pages.iter().filter(|(name, _)| name.starts_with("failures/")).count(), open);
}

#[test]
fn pages_of_failures_that_are_gone_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = sample::results::report();
    report.save(dir.path()).unwrap();
    assert!(std::fs::read_dir(dir.path().join("failures")).unwrap().count() > 0);
    report.runs.retain(|run| run.verdict == Verdict::Sound);
    report.save(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("failures")).unwrap().count(), 0);
}

#[test]
fn one_damaged_seed_damages_the_scenario() {
    let mut report = sample::results::report();
    assert_eq!(report.verdict("mixed", "ours"), Some(Verdict::Sound));
    let run = report.runs.iter_mut().find(|run| run.scenario == "mixed" && run.engine == "ours" && run.seed == 2).unwrap();
    run.verdict = Verdict::Damaged;
    assert_eq!(report.verdict("mixed", "ours"), Some(Verdict::Damaged));
    assert_eq!(report.damaged("ours"), (1, 5));
    assert_eq!(report.verdict("mixed", "nobody"), None);
}

#[test]
fn the_verdict_of_the_harness_is_as_it_was() {
    let pages = pages();
    let (_, page) = pages.iter().find(|(name, _)| name == "index.html").unwrap();
    insta::assert_snapshot!(lines(page, "<section aria-label=\"Verdict\"", "</section>"));
}

#[test]
fn the_matrix_and_the_faults_are_as_they_were() {
    let pages = pages();
    let (_, page) = pages.iter().find(|(name, _)| name == "index.html").unwrap();
    insta::assert_snapshot!("matrix", lines(page, "<section aria-labelledby=\"matrix\"", "</section>"));
    insta::assert_snapshot!("faults", lines(page, "<section aria-labelledby=\"faults\"", "</section>"));
    insta::assert_snapshot!("mutants", lines(page, "<section aria-labelledby=\"mutants\"", "</section>"));
}

#[test]
fn the_page_of_a_failure_is_as_it_was() {
    let pages = pages();
    let (_, page) = pages.iter().find(|(name, _)| name.contains("mixed.diskcache.1")).unwrap();
    insta::assert_snapshot!(lines(page, "<main", "</main>"));
}

#[test]
fn the_page_of_mounts_is_as_it_was() {
    let pages = pages();
    let (_, page) = pages.iter().find(|(name, _)| name == "mounts/index.html").unwrap();
    insta::assert_snapshot!(lines(page, "<main", "</main>"));
}

#[test]
fn the_page_of_speed_is_as_it_was() {
    let pages = pages();
    let (_, page) = pages.iter().find(|(name, _)| name == "bench/index.html").unwrap();
    insta::assert_snapshot!(lines(page, "<main", "</main>"));
}

#[test]
fn junit_is_as_it_was() {
    insta::assert_snapshot!("junit", junit::results(&sample::results::report()).unwrap());
    insta::assert_snapshot!("junit_mounts", junit::mounts(&sample::mounts::report()).unwrap());
}

#[test]
fn junit_fails_only_for_what_must_be_sound() {
    let mut report = sample::results::report();
    let xml = junit::results(&report).unwrap();
    assert!(xml.contains("failures=\"0\"") && !xml.contains("<failure"), "rivals' damage fails nothing: {xml}");
    assert!(xml.contains("<error"), "what could not be run is an error");
    for verdict in [Verdict::Damaged, Verdict::Unknown] {
        report.runs[0].verdict = verdict;
        assert!(junit::results(&report).unwrap().contains("<failure"), "{verdict:?} of ours");
    }
}

#[test]
fn mounts_that_report_one_by_one_are_merged() {
    let whole = sample::mounts::report();
    let part = |mount: &str| {
        let mut part = whole.clone();
        part.mounts.retain(|it| it.name == mount);
        part.runs.retain(|it| it.mount == mount);
        part.trips.retain(|it| it.mount == mount);
        part.speeds.retain(|it| it.mount == mount);
        part.differences.retain(|it| it.mount == mount);
        part
    };
    let mut merged = part("nfs4");
    for mount in ["nfs3-nolock", "smbnetfs", "glusterfs"] {
        merged.merge(part(mount));
    }
    assert_eq!(merged, whole);
}

/// A drive that is refused had counted as one that could not be run, and so as no full verdict.
#[test]
fn a_drive_that_is_rightly_refused_is_neither_passed_nor_failed() {
    let mut report = sample::mounts::report();
    let before = page::mounts::sentence(&report, &report.engines[0]);
    let mut run = report.runs[0].clone();
    (run.mount, run.verdict, run.answered) = ("smbnetfs".to_owned(), Verdict::NotRun, 0);
    report.runs.push(run);
    assert_eq!(page::mounts::sentence(&report, &report.engines[0]), before);
    let errors = |report: &MountReport| junit::mounts(report).unwrap().matches("<error").count();
    assert_eq!(errors(&report), errors(&sample::mounts::report()));
    let run = report.runs.last_mut().unwrap();
    (run.verdict, run.answered) = (Verdict::Damaged, 7);
    assert_eq!(page::mounts::sentence(&report, &report.engines[0]).0, Mood::Bad, "but what it damaged all the same counts");
}

#[test]
fn mounts_are_judged_in_words() {
    let report = sample::mounts::report();
    let told: Vec<String> = report.engines.iter().map(|engine| page::mounts::sentence(&report, engine).1).collect();
    assert_eq!(
        told,
        [
            "DiskCache RS kept every promise on all 2 mounts: nfs4 and nfs3-nolock.",
            "python-diskcache, WAL broke a promise on 2 of 2 mounts: nfs4 and nfs3-nolock.",
            "No full verdict on python-diskcache, rollback journal: nfs3-nolock could not be run or judged; it kept every promise on nfs4.",
        ]
    );
}

#[test]
fn speeds_are_judged_by_their_bars() {
    let mut report = sample::bench::report();
    assert_eq!(page::bench::sentence(&report), ("hero bad", "2 of 3 bars met, 1 missed.".to_owned()));
    report.facts[0].value = 15.0;
    assert_eq!(page::bench::sentence(&report), ("hero good", "All 3 bars met.".to_owned()));
    report.facts[2].value = 201.0;
    assert_eq!(page::bench::sentence(&report).0, "hero bad", "what is to be at most");
    report.facts.clear();
    assert_eq!(page::bench::sentence(&report).0, "hero");
}

#[test]
fn only_what_is_beyond_noise_and_the_machine_is_a_change() {
    let (new, old) = (sample::bench::report(), sample::bench::baseline());
    let changes = new.against(&old);
    let of = |trend| changes.changes.iter().filter(|it| it.trend == trend).map(|it| it.after.operation.as_str()).collect::<Vec<_>>();
    assert_eq!((of(Trend::Slower), of(Trend::Faster)), (vec!["delete"], vec!["get hit"]));
    assert!((changes.machine - 1.1).abs() < 0.01, "a machine that is a tenth faster is no progress: {}", changes.machine);
    assert_eq!(changes.count(Trend::Noise), 7, "figures without a direction are no speeds");
    assert_eq!(new.against(&new).count(Trend::Noise), 9);
}

#[test]
fn a_difference_within_the_ranges_of_the_rounds_is_noise() {
    let (mut new, old) = (sample::bench::report(), sample::bench::report());
    let row = &mut new.rows[0];
    (row.median, row.low, row.high) = (row.median * 1.3, old.rows[0].high, row.high * 1.3);
    assert_eq!(new.against(&old).count(Trend::Slower), 0, "they touch");
    new.rows[0].low *= 1.001;
    assert_eq!(new.against(&old).count(Trend::Slower), 1, "they are apart");
}

#[test]
fn a_baseline_without_anything_in_common_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("new.json"), dir.path().join("old.json"));
    std::fs::write(&file, json(&sample::bench::report())).unwrap();
    std::fs::write(&other, json(&BenchReport { rows: vec![], ..sample::bench::report() })).unwrap();
    let told = render_bench(&file, Some(&other), &dir.path().join("out")).unwrap_err().to_string();
    assert!(told.contains("in common"), "{told}");
    let (told, slower) = render_bench(&file, Some(&file), &dir.path().join("out")).unwrap();
    assert!(slower == 0 && told.starts_with("0 slower, 0 faster, 9 within noise"), "{told}");
}

/// The first drawings were empty: a shape of SVG that is not closed holds all that follow it, when a page is read as HTML.
#[test]
fn every_shape_of_a_drawing_is_closed() {
    for (name, page) in pages() {
        for shape in ["line", "rect", "path", "circle", "polyline"] {
            for rest in page.split(&format!("<{shape} ")).skip(1) {
                let after = rest.split_once('>').map_or("", |(_, after)| after);
                assert!(after.starts_with(&format!("</{shape}>")), "{name}: {shape} {rest:.80}");
            }
        }
    }
}
