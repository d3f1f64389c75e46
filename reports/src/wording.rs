//! Verdicts in words: what a stranger reads first.

use crate::{EngineInfo, Report, RunInfo, Tally, Verdict};

/// How good the news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// What must be sound is.
    Good,
    /// What must be sound is not.
    Bad,
    /// It is not known.
    Odd,
}

/// What comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headline {
    /// How good the news is.
    pub mood: Mood,
    /// About the engine that must be sound.
    pub ours: String,
    /// About the others; empty when there are none.
    pub others: String,
}

/// `1234567` as `1,234,567`.
#[must_use]
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 scenario`, `2 scenarios`.
#[must_use]
pub(crate) fn plural(count: u64, one: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {one}{ending}", grouped(count))
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub(crate) fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// `once`, `twice`, `17 times`.
#[must_use]
pub(crate) fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{} times", grouped(count)),
    }
}

/// Microseconds since the beginning, in the unit that suits.
#[must_use]
pub(crate) fn moment(us: u64) -> String {
    match us {
        0..=9_999 => format!("{:.2} ms", us as f64 / 1e3),
        10_000..=999_999 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.3} s", us as f64 / 1e6),
    }
}

/// An engine's version, where it is known and its name does not say it already.
pub(crate) fn version_beside(engine: &EngineInfo) -> Option<&str> {
    let known = !engine.version.is_empty() && engine.version != "unknown" && !engine.title.contains(&engine.version);
    known.then_some(&engine.version)
}

fn full_name(engine: &EngineInfo) -> String {
    version_beside(engine).map_or_else(|| engine.title.clone(), |version| format!("{} {version}", engine.title))
}

fn scenarios(count: usize) -> String {
    plural(count as u64, "scenario")
}

/// The verdict of the whole report.
#[must_use]
pub fn headline(report: &Report) -> Headline {
    let ours: Vec<(&EngineInfo, Tally)> = tallies(report, true);
    let others = tallies(report, false).into_iter().map(|(engine, tally)| other_sentence(engine, tally)).collect::<Vec<_>>().join(" ");
    let (mood, text) = ours_sentence(&ours);
    Headline { mood, ours: text, others }
}

fn tallies(report: &Report, ours: bool) -> Vec<(&EngineInfo, Tally)> {
    report.engines.iter().filter(|engine| engine.ours == ours).map(|engine| (engine, report.tally(&engine.name))).collect()
}

fn ours_sentence(ours: &[(&EngineInfo, Tally)]) -> (Mood, String) {
    let played: Vec<_> = ours.iter().filter(|(_, tally)| tally.scenarios() > 0).collect();
    if played.is_empty() {
        return (Mood::Odd, "DiskCache RS was not run: this report says nothing about it.".to_owned());
    }
    let damaged: Vec<String> = played
        .iter()
        .filter(|(_, tally)| tally.damaged > 0)
        .map(|(engine, tally)| format!("{} was damaged in {} of {}.", full_name(engine), tally.damaged, scenarios(tally.scenarios())))
        .collect();
    if !damaged.is_empty() {
        return (Mood::Bad, damaged.join(" "));
    }
    let open: Vec<String> = played.iter().filter(|(_, tally)| tally.sound < tally.scenarios()).map(|(e, t)| no_verdict(e, *t)).collect();
    if !open.is_empty() {
        return (Mood::Odd, open.join(" "));
    }
    let sound = |(engine, tally): &&(&EngineInfo, Tally)| {
        format!("{} lost nothing, tore nothing and never hung in {}.", full_name(engine), scenarios(tally.sound))
    };
    (Mood::Good, played.iter().map(sound).collect::<Vec<_>>().join(" "))
}

fn no_verdict(engine: &EngineInfo, tally: Tally) -> String {
    let mut why = Vec::new();
    if tally.not_run > 0 {
        why.push(format!("{} could not be run", scenarios(tally.not_run)));
    }
    if tally.unknown > 0 {
        why.push(format!("{} ended without a verdict", scenarios(tally.unknown)));
    }
    let rest = if tally.sound > 0 { format!("; nothing is wrong in the other {}", tally.sound) } else { String::new() };
    format!("No full verdict on {}: {}{rest}.", full_name(engine), listed(&why))
}

fn other_sentence(engine: &EngineInfo, tally: Tally) -> String {
    let name = full_name(engine);
    match tally {
        _ if tally.scenarios() == 0 => format!("{name} was not run."),
        _ if tally.damaged > 0 => format!("{name} was damaged in {} of {}.", tally.damaged, scenarios(tally.scenarios())),
        _ if tally.sound == tally.scenarios() => format!("{name} was sound in all {}.", scenarios(tally.sound)),
        _ => no_verdict(engine, tally),
    }
}

/// Damage of an engine over all its runs: in words, how often, and in how many scenarios; the most frequent first.
#[must_use]
pub(crate) fn damage_of<'r>(report: &'r Report, engine: &str) -> Vec<(&'r str, u64, usize)> {
    let mut kinds: Vec<(&str, u64, Vec<&str>)> = Vec::new();
    for run in report.runs.iter().filter(|run| run.engine == engine) {
        for damage in &run.damage {
            match kinds.iter_mut().find(|(what, ..)| *what == damage.what) {
                Some((_, count, scenarios)) => {
                    *count += damage.count;
                    if !scenarios.contains(&run.scenario.as_str()) {
                        scenarios.push(&run.scenario);
                    }
                }
                None => kinds.push((&damage.what, damage.count, vec![&run.scenario])),
            }
        }
    }
    kinds.sort_by_key(|(_, count, scenarios)| (std::cmp::Reverse(scenarios.len()), std::cmp::Reverse(*count)));
    kinds.into_iter().map(|(what, count, scenarios)| (what, count, scenarios.len())).collect()
}

/// For each kind of damage of an engine the run that shows it most; no run twice.
#[must_use]
pub(crate) fn worst_runs<'r>(report: &'r Report, engine: &str, most: usize) -> Vec<&'r RunInfo> {
    let count = |run: &RunInfo, what: &str| run.damage.iter().find(|it| it.what == what).map_or(0, |it| it.count);
    let mut runs: Vec<&RunInfo> = Vec::new();
    for (what, ..) in damage_of(report, engine) {
        let damaged = report.runs.iter().filter(|run| run.engine == engine && count(run, what) > 0);
        // Of equals the one with a timeline, then the first.
        let best = damaged.rev().max_by_key(|run| (run.timeline.is_some(), count(run, what)));
        if let Some(best) = best.filter(|best| !runs.iter().any(|run| std::ptr::eq(*run, *best))) {
            runs.push(best);
        }
    }
    runs.truncate(most);
    runs
}

/// What a run lost, in words: `acknowledged data lost 17 times and hung once`.
#[must_use]
pub(crate) fn damage_sentence(run: &RunInfo) -> String {
    let parts: Vec<String> = run.damage.iter().map(|damage| format!("{} {}", damage.what, times(damage.count))).collect();
    match run.verdict {
        Verdict::Damaged if parts.is_empty() => "damaged".to_owned(),
        Verdict::Damaged => listed(&parts),
        Verdict::Sound => "nothing wrong".to_owned(),
        Verdict::Unknown => run.error.clone().unwrap_or_else(|| "the checks came to no verdict".to_owned()),
        Verdict::NotRun => run.error.clone().unwrap_or_else(|| "it could not be run".to_owned()),
    }
}

/// A fault with its name for people, where that is known: `N7 repeated request`.
pub(crate) fn fault_title(report: &Report, name: &str) -> String {
    match report.faults.iter().find(|fault| fault.name == name) {
        Some(fault) if !fault.title.is_empty() => format!("{name} {}", fault.title),
        _ => name.to_owned(),
    }
}

/// A fault with what it is: `N7 repeated request: the reply is lost ...`.
pub(crate) fn fault_meaning(report: &Report, name: &str) -> String {
    let title = fault_title(report, name);
    match report.faults.iter().find(|fault| fault.name == name) {
        Some(fault) if !fault.meaning.is_empty() => format!("{title}: {}", fault.meaning),
        _ => title,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Damage, ScenarioInfo};

    /// A report with our engine and one other, whose scenarios ended like this.
    fn report(ours: &[Verdict], other: &[Verdict]) -> Report {
        let engine = |name: &str, title: &str, version: &str, ours| EngineInfo {
            name: name.to_owned(),
            title: title.to_owned(),
            version: version.to_owned(),
            ours,
        };
        let scenarios = (0..ours.len().max(other.len())).map(|at| ScenarioInfo { name: format!("s{at}"), ..ScenarioInfo::default() });
        let runs = |engine: &'static str, verdicts: &[Verdict]| {
            let run = |(at, verdict): (usize, &Verdict)| RunInfo {
                scenario: format!("s{at}"),
                engine: engine.to_owned(),
                verdict: *verdict,
                ..RunInfo::default()
            };
            verdicts.iter().enumerate().map(run).collect::<Vec<_>>()
        };
        Report {
            engines: vec![engine("ours", "DiskCache RS", "0.1.0", true), engine("other", "python-diskcache 5.6.3", "5.6.3", false)],
            scenarios: scenarios.collect(),
            runs: [runs("ours", ours), runs("other", other)].concat(),
            ..Report::default()
        }
    }

    #[test]
    fn the_headline_says_who_was_damaged_where() {
        use Verdict::{Damaged, NotRun, Sound, Unknown};
        let told = |ours: &[Verdict], other: &[Verdict]| {
            let told = headline(&report(ours, other));
            (told.mood, told.ours, told.others)
        };
        let (mood, ours, others) = told(&[Sound, Sound], &[Damaged, Sound]);
        assert_eq!((mood, ours.as_str()), (Mood::Good, "DiskCache RS 0.1.0 lost nothing, tore nothing and never hung in 2 scenarios."));
        assert_eq!(others, "python-diskcache 5.6.3 was damaged in 1 of 2 scenarios.");
        let (mood, ours, others) = told(&[Sound, Damaged, NotRun], &[Sound, Sound, Sound]);
        assert_eq!((mood, ours.as_str()), (Mood::Bad, "DiskCache RS 0.1.0 was damaged in 1 of 3 scenarios."));
        assert_eq!(others, "python-diskcache 5.6.3 was sound in all 3 scenarios.");
        let (mood, ours, others) = told(&[Sound, Unknown, NotRun], &[]);
        assert_eq!(mood, Mood::Odd);
        assert_eq!(
            ours,
            "No full verdict on DiskCache RS 0.1.0: 1 scenario could not be run and 1 scenario ended without a verdict; \
             nothing is wrong in the other 1."
        );
        assert_eq!(others, "python-diskcache 5.6.3 was not run.");
        let (mood, ours, _) = told(&[], &[Unknown]);
        assert_eq!((mood, ours.as_str()), (Mood::Odd, "DiskCache RS was not run: this report says nothing about it."));
    }

    #[test]
    fn a_version_that_is_not_known_is_not_said() {
        let mut report = report(&[Verdict::Sound], &[]);
        "unknown".clone_into(&mut report.engines[0].version);
        assert_eq!(headline(&report).ours, "DiskCache RS lost nothing, tore nothing and never hung in 1 scenario.");
    }

    #[test]
    fn what_was_not_judged_never_counts_as_sound() {
        use Verdict::{NotRun, Sound, Unknown};
        for open in [Unknown, NotRun] {
            assert_ne!(headline(&report(&[Sound, open], &[])).mood, Mood::Good);
            let others = headline(&report(&[Sound], &[Sound, open])).others;
            assert!(others.starts_with("No full verdict on python-diskcache"), "{others}");
        }
    }

    #[test]
    fn the_worst_runs_show_each_kind_of_damage_once() {
        let mut report = report(&[], &[Verdict::Damaged, Verdict::Damaged, Verdict::Damaged]);
        let damage = |what: &str, count| Damage { what: what.to_owned(), count, examples: vec![] };
        report.runs[0].damage = vec![damage("lost", 2), damage("hung", 1)];
        report.runs[1].damage = vec![damage("lost", 9)];
        report.runs[2].damage = vec![damage("lost", 1), damage("hung", 7)];
        assert_eq!(damage_of(&report, "other"), [("lost", 12, 3), ("hung", 8, 2)]);
        let worst: Vec<&str> = worst_runs(&report, "other", 3).iter().map(|run| run.scenario.as_str()).collect();
        assert_eq!(worst, ["s1", "s2"]);
        assert_eq!(damage_sentence(&report.runs[0]), "lost twice and hung once");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2, 17].map(times), ["once", "twice", "17 times"]);
        assert_eq!([90, 12_345, 61_000_000].map(moment), ["0.09 ms", "12.3 ms", "61.000 s"]);
        assert_eq!(plural(1, "call"), "1 call");
        assert_eq!(listed(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
