//! The page of the harness: which engine lost what, under which fault, and how to see it again.

use maud::{Markup, html};

use super::{Link, command, environment, failure, faults, made, mood_class, scroll, shell, slug, tag, tag_to};
use crate::wording::{
    damage_of, damage_sentence, fault_meaning, fault_title, grouped, headline, listed, plural, times, version_beside, worst_runs,
};
use crate::{EngineInfo, Report, RunInfo, ScenarioInfo, TripRow, Verdict};

/// The whole page. `links` lead to other reports of the same run.
#[must_use]
pub(crate) fn page(report: &Report, links: &[Link]) -> String {
    let title = "What caches lose on a network drive";
    let versions: Vec<_> = report.engines.iter().map(|engine| (engine.title.clone(), engine.version.clone())).collect();
    let files = [
        Link::new("results.json", &format!("results.json (version {})", report.version)),
        Link::new("results.schema.json", "its schema"),
        Link::new("junit.xml", "junit.xml"),
    ];
    let content = html! {
        header {
            h1 { (title) }
            (made(&report.created, &report.command))
        }
        main id="content" {
            (verdict(report))
            (matrix(report))
            (faults::table(report))
            (mutants(report))
            @if !report.trips.is_empty() { (trips(report)) }
            (details(report))
            (environment(&report.environment, &versions, &files))
        }
        footer { p.soft { "A verdict rests on the history of calls alone: what was asked, what was answered, and when. A call without a certain \
            answer may take effect at any later time, or never; no engine is blamed for what such a call explains." } }
    };
    shell(title, links, &content)
}

fn verdict(report: &Report) -> Markup {
    let told = headline(report);
    let calls: u64 = report.runs.iter().map(|run| run.answered + run.unanswered).sum();
    html! {
        section aria-label="Verdict" {
            div class=(mood_class(told.mood)) data-box="hero" {
                p { (told.ours) }
                @if !told.others.is_empty() { p { (told.others) } }
            }
            p.soft {
                "Each engine was given the same simulated network drive, the same faults and the same operations by several hosts: "
                (plural(report.runs.len() as u64, "run")) ", " (grouped(calls)) " calls. "
                "Damaged means that no correct cache may answer so; losing an entry that a cache may drop is not damage."
            }
            div.cards data-box="cards" { @for engine in &report.engines { (engine_card(report, engine)) } }
        }
    }
}

fn engine_card(report: &Report, engine: &EngineInfo) -> Markup {
    let tally = report.tally(&engine.name);
    let of = |count: usize| format!("width:{:.2}%", 100.0 * count as f64 / tally.scenarios().max(1) as f64);
    html! {
        div.card {
            h2.sub { (engine.title) @if let Some(version) = version_beside(engine) { " " small { (version) } } }
            @if tally.scenarios() == 0 { p { "It was not run." } }
            @else {
                div.bar aria-hidden="true" {
                    span.s style=(of(tally.sound)) {} span.d style=(of(tally.damaged)) {} span.u style=(of(tally.unknown)) {}
                }
                p {
                    b { "sound in " (tally.sound) } " of " (tally.scenarios()) " scenarios"
                    @if tally.damaged > 0 { ", " b { "damaged in " (tally.damaged) } }
                    @if tally.unknown > 0 { ", no verdict in " (tally.unknown) }
                    @if tally.not_run > 0 { ", not run in " (tally.not_run) }
                }
                (kinds(report, engine))
                @for run in worst_runs(report, &engine.name, 3) { (case(report, run)) }
            }
        }
    }
}

fn kinds(report: &Report, engine: &EngineInfo) -> Markup {
    let kinds = damage_of(report, &engine.name);
    html! {
        @if !kinds.is_empty() {
            ul { @for (what, count, scenarios) in kinds {
                li { b { (what) } " " (times(count)) ", in " (plural(scenarios as u64, "scenario")) }
            } }
        }
    }
}

/// One damaged run: what happened, what was lost, how to see it again.
fn case(report: &Report, run: &RunInfo) -> Markup {
    let scenario = report.scenarios.iter().find(|scenario| scenario.name == run.scenario);
    let faults = scenario.map(|scenario| fault_words(report, scenario)).unwrap_or_default();
    html! {
        div.case {
            p { b { (scenario.map_or(run.scenario.as_str(), |scenario| &scenario.title)) }
                @if !faults.is_empty() { " " span.soft { "(" (faults) ")" } } }
            p { (damage_sentence(run)) " · " a href=(failure::path(run)) { "what happened" } }
            (command(&run.replay))
        }
    }
}

/// The faults of a scenario; a long list is cut.
fn fault_words(report: &Report, scenario: &ScenarioInfo) -> String {
    let mut names: Vec<String> = scenario.faults.iter().map(|name| fault_title(report, name)).collect();
    if names.len() > 3 {
        let more = names.len() - 2;
        names.truncate(2);
        names.push(format!("{more} more"));
    }
    listed(&names)
}

fn matrix(report: &Report) -> Markup {
    let table = html! {
        table.keep {
            thead { tr { th scope="col" { "Scenario" } @for engine in &report.engines { th scope="col" { (engine.title) } } } }
            tbody {
                @for scenario in &report.scenarios {
                    tr {
                        th scope="row" {
                            a href={ "#" (slug(&scenario.name)) } { (scenario.title) }
                            small { (scenario.faults.join(" ")) }
                        }
                        @for engine in &report.engines { td { (cell(report, scenario, engine)) } }
                    }
                }
            }
        }
    };
    html! {
        section aria-labelledby="matrix" data-box="matrix" {
            h2 id="matrix" { "Scenario by engine" }
            p.soft { "A damaged cell leads to what happened there, a scenario's name to its story. The letters and numbers are its faults." }
            (scroll("Scenario by engine", &table))
        }
    }
}

fn cell(report: &Report, scenario: &ScenarioInfo, engine: &EngineInfo) -> Markup {
    let runs: Vec<&RunInfo> = report.runs_of(&scenario.name, &engine.name).collect();
    let Some(worst) = runs.iter().copied().rev().max_by_key(|run| run.verdict) else {
        return html! { span.soft { "not asked" } };
    };
    let alike = runs.iter().filter(|run| run.verdict == worst.verdict).count();
    let mut what: Vec<&str> = runs.iter().flat_map(|run| &run.damage).map(|damage| damage.what.as_str()).collect();
    what.sort_unstable();
    what.dedup();
    html! {
        @if worst.verdict == Verdict::Sound { (tag(Verdict::Sound)) }
        @else { (tag_to(worst.verdict, &failure::path(worst), &format!("{}, {}", engine.title, scenario.title))) }
        @if runs.len() > 1 { small { (alike) " of " (runs.len()) " seeds" } }
        @if !what.is_empty() { small { (what.join(", ")) } }
        @else if worst.verdict > Verdict::Sound { small { (damage_sentence(worst)) } }
    }
}

fn mutants(report: &Report) -> Markup {
    let missed = report.mutants.iter().filter(|mutant| mutant.caught_by.is_empty()).count();
    let table = html! {
        table.keep {
            thead { tr { th scope="col" { "Engine that" } th scope="col" { "Noticed" } th scope="col" { "By" } th scope="col" { "See it again" } } }
            tbody { @for mutant in &report.mutants {
                tr {
                    th scope="row" { (mutant.title) small { (mutant.name) } }
                    td { @if mutant.caught_by.is_empty() { span.tag.damaged { "✗ missed" } } @else { span.tag.sound { "✓ caught" } } }
                    td { (mutant.caught_by.join(", ")) }
                    td { code { (mutant.replay) } }
                }
            } }
        }
    };
    html! {
        @if !report.mutants.is_empty() {
            section aria-labelledby="mutants" {
                h2 id="mutants" { "Are the checks worth anything?" }
                p { "Engines that are broken on purpose must be noticed. " b {
                    @if missed == 0 { "All " (report.mutants.len()) " were caught." } @else { (missed) " of " (report.mutants.len()) " were missed." }
                } }
                (scroll("Engines broken on purpose", &table))
            }
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
    let table = html! {
        table.keep {
            thead { tr {
                th scope="col" { "Operation" }
                @for engine in &report.engines { th.n scope="col" { (engine.title) } }
                th.n scope="col" { "Limit" }
            } }
            tbody { @for operation in operations {
                @let rows: Vec<Option<&TripRow>> = report.engines.iter().map(|engine| find(&engine.name, operation)).collect();
                tr {
                    th scope="row" { (operation) }
                    @for row in &rows { td.n { (trip(*row)) } }
                    td.n { @if let Some(limit) = rows.iter().flatten().find_map(|row| row.limit) { (limit) } }
                }
            } }
        }
    };
    html! {
        section aria-labelledby="trips" {
            h2 id="trips" { "Round trips to the server" }
            p.soft {
                "Requests that a Linux NFSv4.2 client would make for one operation on one host, counted on the simulated drive. "
                "In brackets: with the LOOKUP before each LINK that Linux spares and FUSE makes."
            }
            (scroll("Round trips to the server", &table))
        }
    }
}

fn trip(row: Option<&TripRow>) -> Markup {
    let Some(row) = row else { return html! { "–" } };
    let kinds: Vec<String> = row.kinds.iter().map(|(kind, count)| format!("{kind} {count:.1}")).collect();
    let over = row.limit.is_some_and(|limit| row.trips > limit + 0.05);
    html! {
        span class=[over.then_some("tag damaged")] { (format!("{:.1}", row.trips)) @if over { " too many" } }
        @if row.with_lookups > row.trips + 0.05 { " " span.soft { (format!("({:.1})", row.with_lookups)) } }
        @if !kinds.is_empty() { small { (kinds.join(", ")) } }
    }
}

fn details(report: &Report) -> Markup {
    html! {
        section aria-labelledby="scenarios" {
            h2 id="scenarios" { "The scenarios" }
            @for scenario in &report.scenarios {
                article.card id=(slug(&scenario.name)) {
                    h3 { (scenario.title) }
                    p { (scenario.story) }
                    p.soft {
                        "Reproduces: " (scenario.source)
                        @if !scenario.profile.is_empty() { " · drive " (scenario.profile) ", " (plural(scenario.hosts.into(), "host")) " with "
                            (scenario.procs) " processes each" }
                    }
                    @if !scenario.faults.is_empty() {
                        ul { @for fault in &scenario.faults { li { (fault_meaning(report, fault)) } } }
                    }
                    @for engine in &report.engines { (engine_runs(report, scenario, engine)) }
                }
            }
        }
    }
}

/// All runs of one engine in one scenario. Those in which nothing is wrong share a line.
fn engine_runs(report: &Report, scenario: &ScenarioInfo, engine: &EngineInfo) -> Markup {
    let runs: Vec<&RunInfo> = report.runs_of(&scenario.name, &engine.name).collect();
    let sound: Vec<&&RunInfo> = runs.iter().filter(|run| run.verdict == Verdict::Sound).collect();
    let Some(worst) = runs.iter().map(|run| run.verdict).max() else { return html! {} };
    let calls: u64 = runs.iter().map(|run| run.answered).sum();
    html! {
        details {
            summary { (tag(worst)) " " (engine.title) " " span.soft { (plural(runs.len() as u64, "run")) ", " (plural(calls, "call")) " answered" } }
            @for run in runs.iter().filter(|run| run.verdict != Verdict::Sound) {
                p { (tag(run.verdict)) " seed " (run.seed) ": " (damage_sentence(run)) " · " a href=(failure::path(run)) { "what happened" } }
                (command(&run.replay))
            }
            @if let Some(first) = sound.first() {
                p { (tag(Verdict::Sound)) " " (seeds(&sound)) @if let Some(hash) = &first.hash { " " span.soft { "history " code { (hash) } } } }
                (command(&first.replay))
            }
        }
    }
}

fn seeds(runs: &[&&RunInfo]) -> String {
    let mut seeds: Vec<u64> = runs.iter().map(|run| run.seed).collect();
    seeds.sort_unstable();
    match seeds.as_slice() {
        [one] => format!("seed {one}"),
        [first, .., last] if last - first + 1 == seeds.len() as u64 => format!("seeds {first} to {last}"),
        _ => format!("seeds {}", listed(&seeds.iter().map(u64::to_string).collect::<Vec<_>>())),
    }
}
