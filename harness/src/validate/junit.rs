//! JUnit XML, which every CI service shows: a suite a drive, a case a cell of ours. Others' damage is a finding, and no failure.

use std::fmt::Write as _;

use reports::{Report, RunInfo, Verdict};

/// The report as JUnit XML.
#[must_use]
pub fn junit(report: &Report) -> String {
    let ours = |run: &&RunInfo| report.engines.iter().any(|engine| engine.ours && engine.name == run.engine);
    let runs: Vec<&RunInfo> = report.runs.iter().filter(ours).collect();
    let count = |verdict: Verdict| runs.iter().filter(|run| run.verdict == verdict).count();
    let time: f64 = runs.iter().map(|run| run.seconds).sum();
    let (failures, skipped, errors) = (count(Verdict::Damaged), count(Verdict::NotRun), count(Verdict::Unknown));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<testsuite name=\"diskcache-rs on a real mount\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" \
         time=\"{time:.1}\" timestamp=\"{}\">",
        runs.len(),
        escape(&report.created)
    );
    for run in runs {
        let (drive, fault) = run.scenario.split_once('/').unwrap_or(("", &run.scenario));
        let _ = write!(out, "<testcase classname=\"{}\" name=\"{}\" time=\"{:.1}\">", escape(drive), escape(fault), run.seconds);
        let error = run.error.clone().unwrap_or_default();
        let _ = match run.verdict {
            Verdict::Sound => Ok(()),
            Verdict::NotRun => write!(out, "<skipped message=\"{}\"/>", escape(&error)),
            Verdict::Unknown => write!(out, "<error message=\"{}\"/>", escape(&error)),
            Verdict::Damaged => {
                let kinds: Vec<String> = run.damage.iter().map(|it| format!("{} {}x", it.what, it.count)).collect();
                let details: Vec<&str> = run.damage.iter().flat_map(|it| it.examples.iter().map(String::as_str)).collect();
                let (message, text) = (escape(&kinds.join(", ")), escape(&details.join("\n")));
                write!(out, "<failure message=\"{message}\">{text}\nagain: {}</failure>", escape(&run.replay))
            }
        };
        out.push_str("</testcase>\n");
    }
    out.push_str("</testsuite>\n</testsuites>\n");
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No other control characters may stand in XML, not even escaped.
            '\n' | '\t' => out.push(char),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use reports::{Damage, EngineInfo};

    use super::*;

    #[test]
    fn damage_of_ours_is_a_failure_and_of_others_is_not() {
        let engine = |name: &str, ours| EngineInfo { name: name.to_owned(), ours, ..EngineInfo::default() };
        let run = |engine: &str, verdict| RunInfo {
            scenario: "nfs4/kill".to_owned(),
            engine: engine.to_owned(),
            verdict,
            damage: vec![Damage { what: "lost <1>".to_owned(), count: 2, examples: vec!["a & b\u{1}".to_owned()] }],
            ..RunInfo::default()
        };
        let runs = vec![run("ours", Verdict::Damaged), run("ours", Verdict::Sound), run("theirs", Verdict::Damaged)];
        let text = junit(&Report { engines: vec![engine("ours", true), engine("theirs", false)], runs, ..Report::default() });
        assert!(text.contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{text}");
        assert!(text.contains("classname=\"nfs4\" name=\"kill\""), "{text}");
        assert!(text.contains("<failure message=\"lost &lt;1&gt; 2x\">a &amp; b\u{fffd}"), "{text}");
    }
}
