//! The page of one failure: what happened, what was expected, how to see it again.

use maud::{Markup, html};

use super::{Link, command, environment, made, scroll, shell, slug, tag, timeline};
use crate::wording::{damage_sentence, fault_meaning, fault_title, grouped, moment, plural, times};
use crate::{Finding, PlanInfo, PlanSize, Report, RunInfo, Verdict};

/// Where the page of a run is, relative to the report.
#[must_use]
pub(crate) fn path(run: &RunInfo) -> String {
    let front = if run.front.is_empty() { String::new() } else { format!(".{}", slug(&run.front)) };
    format!("failures/{}.{}.{}{front}.html", slug(&run.scenario), slug(&run.engine), run.seed)
}

/// The whole page.
#[must_use]
pub(crate) fn page(report: &Report, run: &RunInfo) -> String {
    let engine = report.engines.iter().find(|engine| engine.name == run.engine);
    let scenario = report.scenarios.iter().find(|scenario| scenario.name == run.scenario);
    let engine_title = engine.map_or(run.engine.as_str(), |engine| &engine.title);
    let scenario_title = scenario.map_or(run.scenario.as_str(), |scenario| &scenario.title);
    let title = format!("{scenario_title}: {engine_title}");
    let versions: Vec<_> = engine.map(|engine| (engine.title.clone(), engine.version.clone())).into_iter().collect();
    let mood = match run.verdict {
        Verdict::Damaged => "hero bad",
        Verdict::Sound => "hero good",
        Verdict::Unknown | Verdict::NotRun => "hero odd",
    };
    let content = html! {
        header {
            h1 { (title) }
            (made(&report.created, &report.command))
        }
        main id="content" {
            section aria-label="Verdict" {
                div class=(mood) data-box="hero" {
                    p { (tag(run.verdict)) " " (engine_title) ": " (damage_sentence(run)) "." }
                    @if let Some(scenario) = scenario { p { (scenario.story) } }
                }
                @if let Some(scenario) = scenario {
                    @if !scenario.faults.is_empty() {
                        ul { @for fault in &scenario.faults { li { (fault_meaning(report, fault)) } } }
                    }
                    p.soft { "Reproduces: " (scenario.source) }
                }
                h2 { "See it again" }
                (command(&run.replay))
            }
            (findings(run))
            @if let Some(shown) = &run.timeline {
                section aria-labelledby="timeline" {
                    h2 id="timeline" { "What happened" @if !shown.subject.is_empty() { " to " code { (shown.subject) } } }
                    (timeline::timeline(shown))
                }
            }
            @if let Some(shown) = &run.plan { (plan(shown)) }
            (counts(report, run))
            (environment(&report.environment, &versions, &[]))
        }
    };
    shell(
        &title,
        &[Link::new("../index.html", "← All results"), Link::new(&format!("../index.html#{}", slug(&run.scenario)), "This scenario")],
        &content,
    )
}

/// The first finding of each kind is shown, the others are folded away: there may be many, and they mostly say the same.
fn findings(run: &RunInfo) -> Markup {
    let is_first = |at: usize| !run.findings[..at].iter().any(|earlier| earlier.what == run.findings[at].what);
    let (first, others): (Vec<usize>, Vec<usize>) = (0..run.findings.len()).partition(|at| is_first(*at));
    html! {
        @if !run.findings.is_empty() || !run.damage.is_empty() {
            section aria-labelledby="findings" {
                h2 id="findings" { "Expected and observed" }
                @for at in first { (finding_box(&run.findings[at])) }
                @if !others.is_empty() {
                    details {
                        summary { (plural(others.len() as u64, "more finding")) " of these kinds" }
                        @for at in others { (finding_box(&run.findings[at])) }
                    }
                }
                @for damage in run.damage.iter().filter(|damage| !run.findings.iter().any(|finding| finding.what == damage.what)) {
                    h3 { (damage.what) ", " (times(damage.count)) }
                    ul { @for example in &damage.examples { li { code { (example) } } } }
                }
            }
        }
    }
}

fn finding_box(finding: &Finding) -> Markup {
    let seen = [&finding.process, &finding.host];
    let who = seen.into_iter().find(|name| !name.is_empty());
    html! {
        h3 { (finding.what) @if !finding.subject.is_empty() { ": " code { (finding.subject) } } }
        p.soft {
            @if let Some(who) = who { "seen by " (who) }
            @if let Some(at) = finding.at_us { " at " (moment(at)) }
        }
        div.pair data-box="pair" {
            @if !finding.expected.is_empty() { div.want { b { "Expected" } p { (finding.expected) } } }
            div.got { b { "Observed" } p { (finding.observed) } }
        }
    }
}

fn size_words(size: PlanSize) -> String {
    let parts = [plural(size.hosts, "host"), plural(size.operations, "operation"), plural(size.faults, "fault")];
    crate::wording::listed(&parts)
}

fn plan(plan: &PlanInfo) -> Markup {
    html! {
        section aria-labelledby="plan" {
            h2 id="plan" { @if plan.before.is_some() { "The smallest plan that shows it" } @else { "The plan" } }
            p {
                @if let Some(before) = plan.before { "Made smaller from " (size_words(before)) " to " b { (size_words(plan.size)) } "; the verdict stays the same." }
                @else if plan.size != PlanSize::default() { (size_words(plan.size)) }
            }
            @if let Some(file) = &plan.file { p { "As a file: " a href={ "../" (file) } { (file) } } }
            @if !plan.text.is_empty() { pre tabindex="0" { code { (plan.text) } } }
        }
    }
}

fn counts(report: &Report, run: &RunInfo) -> Markup {
    let faults = html! {
        table {
            thead { tr {
                th scope="col" { "Fault" } th scope="col" { "Request" } th.n scope="col" { "Planned" } th.n scope="col" { "Fired" }
                th.n scope="col" { "Observable" }
            } }
            tbody { @for row in &run.faults { tr.wrong[row.required && row.observable == 0] {
                th scope="row" { (fault_title(report, &row.name)) }
                td { @if row.operation.is_empty() { "all" } @else { (row.operation) } }
                td.n { (grouped(row.planned)) } td.n { (grouped(row.fired)) }
                td.n { (grouped(row.observable)) @if row.required && row.observable == 0 { small { "but required" } } }
            } } }
        }
    };
    let calls = html! {
        table {
            thead { tr { th scope="col" { "Operation" } th.n scope="col" { "Answered" } th.n scope="col" { "Refused" } th.n scope="col" { "Uncertain" } } }
            tbody { @for (name, count) in &run.operations { tr {
                th scope="row" { (name) } td.n { (grouped(count.answered)) } td.n { (grouped(count.failed)) } td.n { (grouped(count.open)) }
            } } }
        }
    };
    let hosts: Vec<String> = run.by_host.iter().map(|(host, count)| format!("{host} {}", grouped(*count))).collect();
    html! {
        section aria-labelledby="run" {
            h2 id="run" { "The run" }
            dl.facts {
                dt { "seed" } dd { (run.seed) }
                @if !run.front.is_empty() { dt { "played" } dd { @match run.front.as_str() {
                    "process" => "in one process, in virtual time", "fuse" => "by whole processes on mounted drives", other => (other),
                } } }
                dt { "calls" } dd { (grouped(run.answered)) " answered, " (grouped(run.unanswered)) " not" }
                @if !hosts.is_empty() { dt { "answered by host" } dd { (hosts.join(", ")) } }
                dt { "took" } dd { (format!("{:.1} s", run.seconds)) }
                @if let Some(hash) = &run.hash { dt { "history" } dd { code { (hash) } } }
            }
            @if !run.faults.is_empty() { (scroll("Faults of this run", &faults)) }
            @if !run.operations.is_empty() { (scroll("Calls of this run", &calls)) }
        }
    }
}
