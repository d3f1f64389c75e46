//! The same verdicts for machines that read JUnit's XML.
//!
//! What must be sound fails there when it is not. Damage of another engine is what the run was made to find: it is marked as skipped, with
//! what was found, as test runners mark failures that are expected. What could not be run is an error, whoever it was about.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use crate::mounts::{MountReport, MountRun};
use crate::wording::damage_sentence;
use crate::{EngineInfo, Report, RunInfo, Verdict};

/// A run's part of a case.
struct Told {
    verdict: Verdict,
    message: String,
    detail: String,
}

fn status(told: &Told, ours: bool) -> TestCaseStatus {
    let status = match (told.verdict, ours) {
        (Verdict::Sound, _) => return TestCaseStatus::success(),
        (Verdict::NotRun, _) => TestCaseStatus::non_success(NonSuccessKind::Error),
        (_, true) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        (_, false) => TestCaseStatus::skipped(),
    };
    let kind = match told.verdict {
        Verdict::Sound => "sound",
        Verdict::Damaged => "damaged",
        Verdict::Unknown => "no-verdict",
        Verdict::NotRun => "not-run",
    };
    let mut status = status;
    status.set_message(told.message.clone()).set_type(kind).set_description(told.detail.clone());
    status
}

fn case(name: String, class: String, seconds: f64, told: &Told, ours: bool) -> TestCase {
    let mut case = TestCase::new(name, status(told, ours));
    case.set_classname(class);
    // A time that is no number would be refused.
    case.set_time(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    case
}

fn is_ours(engines: &[EngineInfo], name: &str) -> bool {
    engines.iter().any(|engine| engine.name == name && engine.ours)
}

fn run_told(run: &RunInfo) -> Told {
    let mut lines: Vec<String> = run.damage.iter().flat_map(|damage| &damage.examples).cloned().collect();
    lines.extend(
        run.findings.iter().map(|finding| format!("{}: expected {}, observed {}", finding.subject, finding.expected, finding.observed)),
    );
    lines.push(format!("replay: {}", run.replay));
    Told { verdict: run.verdict, message: damage_sentence(run), detail: lines.join("\n") }
}

fn finish(name: &str, suites: Vec<TestSuite>) -> std::io::Result<String> {
    let mut junit = Junit::new(name);
    junit.add_test_suites(suites);
    junit.to_string().map_err(std::io::Error::other)
}

/// A suite for each engine, a case for each run.
pub(crate) fn results(report: &Report) -> std::io::Result<String> {
    let suite = |engine: &EngineInfo| {
        let mut suite = TestSuite::new(format!("{} {}", engine.title, engine.version).trim());
        for run in report.runs.iter().filter(|run| run.engine == engine.name) {
            let name = format!("{} seed {}", run.scenario, run.seed);
            suite.add_test_case(case(name, run.engine.clone(), run.seconds, &run_told(run), is_ours(&report.engines, &run.engine)));
        }
        suite
    };
    finish("harness", report.engines.iter().map(suite).collect())
}

fn mount_told(run: &MountRun) -> Told {
    let broken: Vec<&crate::mounts::Promise> = run.promises.iter().filter(|promise| promise.broken > 0).collect();
    let message = match (&run.error, broken.as_slice()) {
        (Some(error), _) => error.clone(),
        (None, []) => String::new(),
        (None, broken) => {
            let parts: Vec<String> =
                broken.iter().map(|it| format!("{} (broken {})", it.promise, crate::wording::times(it.broken))).collect();
            parts.join("; ")
        }
    };
    let mut lines: Vec<String> = broken.iter().flat_map(|promise| &promise.examples).cloned().collect();
    lines.push(format!("replay: {}", run.replay));
    Told { verdict: run.verdict, message, detail: lines.join("\n") }
}

/// A suite for each engine, a case for each mount, workload and fault.
pub(crate) fn mounts(report: &MountReport) -> std::io::Result<String> {
    let suite = |engine: &EngineInfo| {
        let mut suite = TestSuite::new(format!("{} {}", engine.title, engine.version).trim());
        for run in report.runs.iter().filter(|run| run.engine == engine.name) {
            let fault = if run.fault.is_empty() { "no fault" } else { &run.fault };
            let name = format!("{} {} {fault}", run.mount, run.workload);
            let mut case = case(name, run.engine.clone(), run.seconds, &mount_told(run), is_ours(&report.engines, &run.engine));
            if report.is_refusal(run) {
                case.status = TestCaseStatus::skipped();
                case.status.set_message("the drive is refused, as it must be").set_type("refused");
            }
            suite.add_test_case(case);
        }
        suite
    };
    finish("mounts", report.engines.iter().map(suite).collect())
}
