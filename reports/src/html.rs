//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{EngineInfo, Report, RunInfo, ScenarioInfo, TripRow, Verdict};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6672; --page: #fbfbf9; --card: #fff; --line: #dcdfe3;
  --good: #0b6b3a; --good-bg: #e2f4e9; --bad: #a61b1b; --bad-bg: #fde8e6; --odd: #7a5200; --odd-bg: #fdf1d5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb8; --page: #14171a; --card: #1c2024; --line: #343a41;
  --good: #7fdba6; --good-bg: #143524; --bad: #ff9d94; --bad-bg: #43191a; --odd: #f2cd7c; --odd-bg: #3c2f10; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0; } p { margin: .4rem 0; max-width: 48rem; } .soft { color: var(--soft); font-size: .9rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; margin: .8rem 0; }
.verdict { border-left: .5rem solid var(--line); } .verdict.good { border-left-color: var(--good); } .verdict.bad { border-left-color: var(--bad); }
.tag { display: inline-block; border-radius: .4rem; padding: .05rem .5rem; font-weight: 600; font-size: .9rem; white-space: nowrap; }
.sound { background: var(--good-bg); color: var(--good); } .damaged { background: var(--bad-bg); color: var(--bad); }
.unknown { background: var(--odd-bg); color: var(--odd); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font: .85rem ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; margin: .3rem 0; } summary { cursor: pointer; padding: .2rem 0; } summary:focus-visible { outline: 2px solid; }
ul { margin: .3rem 0; padding-left: 1.2rem; } a { color: inherit; }
@media (max-width: 40rem) { table.matrix thead { position: absolute; left: -999rem; } table.matrix tr { display: block; padding: .5rem 0;
  border-bottom: 1px solid var(--line); } table.matrix th, table.matrix td { display: block; border: 0; padding: .15rem 0; }
  table.matrix td::before { content: attr(data-engine) ': '; color: var(--soft); } }
";

fn tag(verdict: Verdict) -> Markup {
    let (class, text) = match verdict {
        Verdict::Sound => ("tag sound", "sound"),
        Verdict::Damaged => ("tag damaged", "DAMAGED"),
        Verdict::Unknown => ("tag unknown", "no verdict"),
        Verdict::NotRun => ("tag unknown", "not run"),
    };
    html! { span class=(class) { (text) } }
}

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "What caches lose on a network drive" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "What caches lose on a network drive" }
                    p.soft { (report.created) " · " (report.runs.len()) " runs · made by " code { (report.command) } }
                }
                main {
                    (verdicts(report))
                    (matrix(report))
                    @if !report.trips.is_empty() { (trips(report)) }
                    (details(report))
                    (environment(report))
                }
            }
        }
    };
    markup.into_string()
}

fn verdicts(report: &Report) -> Markup {
    html! {
        section aria-label="Verdict" {
            @for engine in &report.engines {
                @let (damaged, played) = report.damaged(&engine.name);
                @let class = if played == 0 { "card verdict" } else if damaged == 0 { "card verdict good" } else { "card verdict bad" };
                div class=(class) {
                    h3 { (engine.title) " " span.soft { (engine.version) } }
                    p {
                        @if played == 0 { "It was not run." }
                        @else if damaged == 0 { "Nothing lost, torn, stale or hung in " b { (played) } " scenarios." }
                        @else { b { "Damaged in " (damaged) " of " (played) " scenarios." } " " (worst(report, engine)) }
                    }
                }
            }
        }
    }
}

fn worst(report: &Report, engine: &EngineInfo) -> String {
    let mut kinds: Vec<(&str, u64)> = Vec::new();
    for damage in report.runs.iter().filter(|run| run.engine == engine.name).flat_map(|run| &run.damage) {
        match kinds.iter_mut().find(|(what, _)| *what == damage.what) {
            Some((_, count)) => *count += damage.count,
            None => kinds.push((&damage.what, damage.count)),
        }
    }
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    kinds.iter().map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(" · ")
}

fn matrix(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Scenario by engine" }
            p.soft { "The same simulated drive, the same faults, the same operations for each engine. A name leads to the details." }
            table.matrix {
                thead { tr { th { "Scenario" } @for engine in &report.engines { th { (engine.title) } } } }
                tbody {
                    @for scenario in &report.scenarios {
                        tr {
                            th scope="row" {
                                a href={ "#" (scenario.name) } { (scenario.title) }
                                @if !scenario.faults.is_empty() { " " span.soft { (scenario.faults.join(" ")) } }
                            }
                            @for engine in &report.engines {
                                td data-engine=(engine.title) { (cell(report, scenario, engine)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(report: &Report, scenario: &ScenarioInfo, engine: &EngineInfo) -> Markup {
    let runs = report.runs.iter().filter(|run| run.scenario == scenario.name && run.engine == engine.name);
    let mut what: Vec<&str> = runs.flat_map(|run| &run.damage).map(|damage| damage.what.as_str()).collect();
    what.sort_unstable();
    what.dedup();
    html! {
        @match report.verdict(&scenario.name, &engine.name) {
            Some(verdict) => { (tag(verdict)) @if !what.is_empty() { " " span.soft { (what.join(", ")) } } }
            None => span.soft { "–" },
        }
    }
}

fn trips(report: &Report) -> Markup {
    let mut operations: Vec<&str> = Vec::new();
    for row in &report.trips {
        if !operations.contains(&row.operation.as_str()) {
            operations.push(&row.operation);
        }
    }
    let find = |engine: &str, operation: &str| report.trips.iter().find(|row| row.engine == engine && row.operation == operation);
    html! {
        section {
            h2 { "Round trips to the server" }
            p.soft {
                "Requests that a Linux NFSv4.2 client would make for one operation on one host, counted on the simulated drive. "
                "In brackets: with the LOOKUP before each LINK that Linux spares and FUSE makes."
            }
            div.wide { table {
                thead { tr {
                    th { "Operation" }
                    @for engine in &report.engines { th.n { (engine.title) } }
                    th.n { "Limit" }
                } }
                tbody {
                    @for operation in operations {
                        @let rows: Vec<Option<&TripRow>> = report.engines.iter().map(|engine| find(&engine.name, operation)).collect();
                        tr {
                            th scope="row" { (operation) }
                            @for row in &rows { td.n { (trip(*row)) } }
                            td.n { @if let Some(limit) = rows.iter().flatten().find_map(|row| row.limit) { (limit) } }
                        }
                    }
                }
            } }
        }
    }
}

fn trip(row: Option<&TripRow>) -> Markup {
    let Some(row) = row else { return html! { "–" } };
    let kinds: Vec<String> = row.kinds.iter().map(|(kind, count)| format!("{kind} {count:.1}")).collect();
    let over = row.limit.is_some_and(|limit| row.trips > limit + 0.05);
    html! {
        span title=(kinds.join(", ")) class=(if over { "tag damaged" } else { "" }) { (format!("{:.1}", row.trips)) }
        @if row.with_lookups > row.trips + 0.05 { " " span.soft { (format!("({:.1})", row.with_lookups)) } }
    }
}

fn details(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Every run" }
            @for scenario in &report.scenarios {
                article.card id=(scenario.name) {
                    h3 { (scenario.title) }
                    p { (scenario.story) }
                    p.soft { "Reproduces: " (scenario.source) }
                    @for run in report.runs.iter().filter(|run| run.scenario == scenario.name) {
                        (run_details(report, run))
                    }
                }
            }
        }
    }
}

fn run_details(report: &Report, run: &RunInfo) -> Markup {
    let title = report.engines.iter().find(|engine| engine.name == run.engine).map_or(run.engine.as_str(), |engine| &engine.title);
    let hosts: Vec<String> = run.by_host.iter().map(|(host, count)| format!("{host} {count}")).collect();
    html! {
        details {
            summary {
                (tag(run.verdict)) " " (title) " " span.soft { "seed " (run.seed) " · " (run.answered) " calls answered, " (run.unanswered) " not" }
            }
            @if let Some(error) = &run.error { p { (error) } }
            @if !run.damage.is_empty() {
                ul { @for damage in &run.damage {
                    li { b { (damage.what) } ", " (damage.count) " times" ul { @for example in &damage.examples { li { code { (example) } } } } }
                } }
            }
            p.soft { "Answered by host: " (hosts.join(", ")) " · " (format!("{:.1}", run.seconds)) " s" }
            @if !run.faults.is_empty() {
                p.soft { "Faults: " @for (at, fault) in run.faults.iter().enumerate() {
                    @if at > 0 { ", " } (fault.name) " fired " (fault.fired) ", noticed " (fault.observable)
                } }
            }
            pre { code { (run.replay) } }
        }
    }
}

fn environment(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Where it ran" }
            div.wide { table { tbody {
                @for (name, value) in &report.environment { tr { th scope="row" { (name) } td { (value) } } }
            } } }
            p.soft { "The data of this page: " a href="results.json" { "results.json" } " (version " (report.version) ")." }
        }
    }
}
