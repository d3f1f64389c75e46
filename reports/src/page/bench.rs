//! The page of benchmarks: ratios first, then the figures that they are made of, and how they were had.

use maud::{Markup, html};

use super::plot::{PlotRow, Point, curves, legend, nanoseconds, percent, spreads};
use super::{Link, command, environment, figure, made, scroll, shell};
use crate::bench::{BenchReport, BenchRow, Changes, Curves, Fact, Latency, NOISE, Ratio, Trend};
use crate::wording::{grouped, plural};

/// The whole page; beside a baseline, if there is one (its name and what changed). `links` lead to other reports of the same run.
#[must_use]
pub(crate) fn page(report: &BenchReport, baseline: Option<(&str, &Changes)>, links: &[Link]) -> String {
    let title = "How fast, beside other caches";
    let (versions, facts) = surroundings(report);
    let files =
        [Link::new("results.json", &format!("results.json (version {})", report.version)), Link::new("results.schema.json", "its schema")];
    let content = html! {
        header { h1 { (title) } (made(&when(report), &by(report))) }
        main id="content" {
            (verdict(report))
            @if let Some((name, changed)) = baseline { (changes(name, changed)) }
            (ratios(report))
            (facts_table(report))
            (plots(report))
            (hit_ratios(report))
            (latencies(report))
            (figures(report))
            (method(report))
            (environment(&facts, &versions, &files))
        }
    };
    shell(title, links, &content)
}

fn when(report: &BenchReport) -> String {
    // Whole seconds are enough.
    let time = chrono::DateTime::from_timestamp(report.started as i64, 0).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn by(report: &BenchReport) -> String {
    report.environment.get("command").and_then(serde_json::Value::as_str).unwrap_or("./ci/bench").to_owned()
}

type Words = std::collections::BTreeMap<String, String>;

fn words(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The versions of the engines, and everything else that is known of the surroundings.
fn surroundings(report: &BenchReport) -> (Vec<(String, String)>, Words) {
    let versions = report.environment.get("versions").and_then(serde_json::Value::as_object);
    let versions = versions.into_iter().flatten().map(|(name, version)| (title(name), words(version))).collect();
    let rest = report.environment.iter().filter(|(name, _)| *name != "versions" && *name != "command");
    (versions, rest.map(|(name, value)| (name.replace('_', " "), words(value))).collect())
}

/// An engine for people.
fn title(engine: &str) -> String {
    let known = [("diskcache_rs", "DiskCache RS"), ("diskcache", "python-diskcache"), ("lmdb", "py-lmdb"), ("floor", "empty loop")];
    let (name, rest) = engine.split_once('.').map_or((engine, ""), |(name, rest)| (name, rest));
    let name = known.iter().find(|(its, _)| *its == name).map_or(name, |(_, title)| title);
    if rest.is_empty() { name.to_owned() } else { format!("{name} {rest}") }
}

fn amount(value: f64, unit: &str) -> String {
    match unit {
        "ns" => nanoseconds(value),
        "us" => nanoseconds(value * 1e3),
        "x" => format!("{}×", figure(value)),
        _ => format!("{} {unit}", figure(value)),
    }
}

fn range(row: &BenchRow) -> String {
    format!("{} to {}", amount(row.low, &row.unit), amount(row.high, &row.unit))
}

/// What is said first.
pub(crate) fn sentence(report: &BenchReport) -> (&'static str, String) {
    let set: Vec<bool> = report.facts.iter().filter_map(Fact::is_met).collect();
    let missed = set.iter().filter(|met| !**met).count();
    if set.is_empty() {
        ("hero", "No bars were set in this run: the figures below speak for themselves.".to_owned())
    } else if missed > 0 {
        ("hero bad", format!("{} of {} bars met, {missed} missed.", set.len() - missed, set.len()))
    } else {
        ("hero good", format!("All {} met.", plural(set.len() as u64, "bar")))
    }
}

fn verdict(report: &BenchReport) -> Markup {
    let (class, text) = sentence(report);
    html! {
        section aria-label="Verdict" {
            div class=(class) data-box="hero" {
                p { (text) }
                @for fact in report.facts.iter().filter(|fact| fact.is_met() == Some(false)) { p { "Missed: " (fact.name) ": " b { (amount(fact.value, &fact.unit)) } ", " (bar(fact)) } }
                @if !report.void.is_empty() { p { b { (plural(report.void.len() as u64, "row")) " void" } ": an operation failed, so the time of the others means nothing." } }
            }
            @if !report.void.is_empty() { ul { @for what in &report.void { li { code { (what) } } } } }
            (highlights(report))
            p { "Once more, with:" }
            (command(&by(report)))
        }
    }
}

/// The first few ratios, large.
fn highlights(report: &BenchReport) -> Markup {
    let first = report.engines().into_iter().find(|engine| report.rows.iter().any(|row| row.ratio_to.contains_key(*engine)));
    let Some(first) = first else { return html! {} };
    let known =
        report.rows.iter().filter(|row| row.engine == report.ours()).filter_map(|row| Some((row, row.ratio_to.get(first)?))).take(6);
    html! {
        p.soft { "How many times as fast as " (title(first)) ":" }
        div.cards data-box="cards" { @for (row, ratio) in known {
            div.card { p.big { (figure(ratio.ratio)) "×" } p { (row.title()) } p.soft { (interval(*ratio)) } }
        } }
    }
}

fn interval(ratio: Ratio) -> String {
    format!("{} to {}", figure(ratio.ci_low), figure(ratio.ci_high))
}

fn bar(fact: &Fact) -> String {
    let bar = fact.bar.map(|bar| amount(bar, &fact.unit)).unwrap_or_default();
    format!("to be at {} {bar}", if fact.at_most { "most" } else { "least" })
}

fn changes(name: &str, changed: &Changes) -> Markup {
    let shown: Vec<_> = changed.changes.iter().filter(|change| change.trend != Trend::Noise).collect();
    let table = html! {
        table.keep data-sort {
            thead { tr { th scope="col" { "Operation" } th.n scope="col" { "Before" } th.n scope="col" { "Now" } th.n scope="col" { "Times as fast" } } }
            tbody { @for change in &shown { tr.wrong[change.trend == Trend::Slower] {
                th scope="row" { (change.after.title()) small { (change.after.group) } }
                @for row in [&change.before, &change.after] { td.n data-value=(row.median) { (amount(row.median, &row.unit)) small { (range(row)) } } }
                td.n data-value=(change.speed) { (format!("{:.2}×", change.speed)) }
            } } }
        }
    };
    html! {
        section aria-labelledby="changes" {
            h2 id="changes" { "Against the baseline " code { (name) } }
            p { b { (changed.count(Trend::Slower)) " slower, " (changed.count(Trend::Faster)) " faster" } ", " (changed.count(Trend::Noise)) " within noise." }
            p.soft {
                "The other engines ran " (format!("{:.2}", changed.machine)) " times as fast as then: so much is the machine's, and is taken off. A change "
                "counts when the ranges of the rounds are apart and the medians differ by more than " (percent(NOISE)) "."
            }
            @if !shown.is_empty() { (scroll("Changes beyond noise", &table)) }
        }
    }
}

/// Rows by group; groups of one mix each become one.
fn groups(report: &BenchReport, wanted: impl Fn(&BenchRow) -> bool) -> Vec<(String, Vec<&BenchRow>)> {
    let mut groups: Vec<(String, Vec<&BenchRow>)> = Vec::new();
    for row in report.rows.iter().filter(|row| wanted(row)) {
        let name = if row.operation == "all" { "Several at once" } else { &row.group };
        match groups.iter_mut().find(|(its, _)| its == name) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((name.to_owned(), vec![row])),
        }
    }
    groups
}

fn ratios(report: &BenchReport) -> Markup {
    let rivals: Vec<&str> =
        report.engines().into_iter().filter(|engine| report.rows.iter().any(|row| row.ratio_to.contains_key(*engine))).collect();
    let table = |rows: &[&BenchRow]| {
        html! {
            table.keep data-sort {
                thead { tr { th scope="col" { "Operation" } @for rival in &rivals { th.n scope="col" { "against " (title(rival)) } } } }
                tbody { @for row in rows { tr {
                    th scope="row" { (row.title()) }
                    @for rival in &rivals { @match row.ratio_to.get(*rival) {
                        Some(ratio) => td.n data-value=(ratio.ratio) { b { (figure(ratio.ratio)) "×" } small { (interval(*ratio)) } },
                        None => td.n data-value="" { span.soft { "–" } },
                    } }
                } } }
            }
        }
    };
    html! {
        section aria-labelledby="ratios" data-box="matrix" {
            h2 id="ratios" { "How many times as fast" }
            p.soft { "Medians of the ratios of each round, with their 95 % interval. Above 1, " (title(report.ours())) " is faster." }
            @for (group, rows) in groups(report, |row| !row.ratio_to.is_empty()) {
                h3 { (group) } (scroll(&format!("How many times as fast: {group}"), &table(&rows)))
            }
        }
    }
}

fn facts_table(report: &BenchReport) -> Markup {
    let table = html! {
        table.keep data-sort {
            thead { tr { th scope="col" { "What" } th.n scope="col" { "Measured" } th.n scope="col" { "To be" } th scope="col" { "So" } } }
            tbody { @for fact in &report.facts { tr {
                th scope="row" { (fact.name) }
                td.n data-value=(fact.value) { (amount(fact.value, &fact.unit)) }
                td.n { @if fact.bar.is_some() { (bar(fact).trim_start_matches("to be ")) } }
                td { @match fact.is_met() { Some(true) => span.tag.sound { "✓ met" }, Some(false) => span.tag.damaged { "✗ missed" }, None => "" } }
            } } }
        }
    };
    html! {
        @if !report.facts.is_empty() {
            section aria-labelledby="facts" { h2 id="facts" { "Bars, and other single figures" } (scroll("Single figures", &table)) }
        }
    }
}

/// The rows of a drawing: what is the same but for the engine shares one.
fn plot_rows(rows: &[&BenchRow], engines: &[&str]) -> Vec<PlotRow> {
    let mut plot: Vec<PlotRow> = Vec::new();
    for row in rows {
        let series = engines.iter().position(|engine| *engine == row.engine).unwrap_or(0);
        let about = format!("{}: {} ({})", title(&row.engine), amount(row.median, &row.unit), range(row));
        let point = Point { series, value: row.median, low: row.low, high: row.high, about };
        match plot.iter_mut().find(|its| its.title == row.title()) {
            Some(its) => its.points.push(point),
            None => plot.push(PlotRow { title: row.title(), points: vec![point] }),
        }
    }
    plot
}

fn plots(report: &BenchReport) -> Markup {
    let engines = report.engines();
    let titles: Vec<String> = engines.iter().map(|engine| title(engine)).collect();
    let kinds = [("ns", "time of one operation, left is faster"), ("/s", "operations a second, right is faster")];
    html! {
        section aria-labelledby="plots" data-box="plots" {
            h2 id="plots" { "The same, drawn" }
            p.soft { "Logarithmic: one line further is ten times as much. The bar goes from the 10th to the 90th percentile of the rounds." }
            (legend(&titles))
            @for (unit, what) in kinds { @for (group, rows) in groups(report, |row| row.unit == unit) {
                @let label = format!("{group}: {what}");
                h3 { (label) }
                (scroll(&label, &spreads(&label, &plot_rows(&rows, &engines), |value| amount(value, unit))))
            } }
        }
    }
}

fn figures(report: &BenchReport) -> Markup {
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Operation" } th scope="col" { "Under" } th scope="col" { "Engine" } th.n scope="col" { "Median" }
                th.n scope="col" { "10th to 90th percentile" } th.n scope="col" { "Rounds" }
            } }
            tbody { @for row in &report.rows { tr {
                th scope="row" { (row.title()) }
                td { (row.group) }
                td { (title(&row.engine)) @if let Some(href) = &row.criterion {
                    small { a href=(href) aria-label={ "criterion's page of " (row.title()) ", " (title(&row.engine)) } { "criterion" } }
                } }
                td.n data-value=(row.median) { (amount(row.median, &row.unit)) }
                td.n data-value=(row.high - row.low) { (range(row)) }
                td.n { (row.samples) }
            } } }
        }
    };
    html! {
        @if !report.rows.is_empty() {
            section aria-labelledby="figures" {
                h2 id="figures" { "All figures" }
                @if let Some(href) = &report.criterion_index { p { a href=(href) { "Criterion's own pages" } } }
                (scroll("All figures", &table))
            }
        }
    }
}

fn latency_row(row: &Latency) -> Markup {
    let count = |value: f64| grouped(value.max(0.0) as u64);
    html! { tr {
        th scope="row" { (row.action) small { (row.group) } } td { (title(&row.engine)) }
        td.n data-value=(row.count) { (count(row.count)) } td.n data-value=(row.miss) { (count(row.miss)) }
        @for value in [Some(row.median), Some(row.p90), Some(row.p99), Some(row.p99_9), row.p99_99, Some(row.max)] {
            td.n data-value=(value.map_or(String::new(), |value| value.to_string())) { @if let Some(value) = value { (nanoseconds(value * 1e3)) } }
        }
        td.n data-value=(row.total) { (format!("{:.2} s", row.total)) }
    } }
}

fn latencies(report: &BenchReport) -> Markup {
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Operation" } th scope="col" { "Engine" }
                @for head in ["Count", "Miss", "Median", "P90", "P99", "P99.9", "P99.99", "Max", "Total"] { th.n scope="col" { (head) } }
            } }
            tbody { @for row in &report.latencies { (latency_row(row)) } }
        }
    };
    html! {
        @if !report.latencies.is_empty() {
            section aria-labelledby="latencies" {
                h2 id="latencies" { "Single operations" }
                (scroll("Single operations", &table))
            }
        }
    }
}

fn hit_ratios(report: &BenchReport) -> Markup {
    let mut names: Vec<String> = Vec::new();
    for name in report.curves.iter().flat_map(|curve| curve.series.keys()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let lines = |curve: &Curves| {
        let of = |(at, name): (usize, &String)| Some((at, curve.series.get(name)?.clone()));
        names.iter().enumerate().filter_map(of).collect::<Vec<_>>()
    };
    html! {
        @if !report.curves.is_empty() {
            section aria-labelledby="curves" {
                h2 id="curves" { "Hit ratios of the eviction policies, and other curves" }
                (legend(&names))
                div.pair { @for curve in &report.curves { div {
                    h3 { (curve.title) }
                    p.soft { (curve.y) ", by " (curve.x) " (logarithmic)" }
                    (scroll(&curve.title, &curves(&format!("{}: {} by {}", curve.title, curve.y, curve.x), &lines(curve))))
                    details { summary { "As a table" } (scroll(&format!("{} as a table", curve.title), &curve_table(curve))) }
                } } }
            }
        }
    }
}

fn curve_table(curve: &Curves) -> Markup {
    let mut places: Vec<f64> = curve.series.values().flatten().map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let at = |points: &[(f64, f64)], place: f64| points.iter().find(|point| point.0.total_cmp(&place).is_eq()).map(|point| point.1);
    html! { table.keep {
        thead { tr { th scope="col" { (curve.x) } @for place in &places { th.n scope="col" { (place) } } } }
        tbody { @for (name, points) in &curve.series { tr {
            th scope="row" { (name) }
            @for place in &places { td.n { @if let Some(value) = at(points, *place) { (format!("{value:.3}")) } } }
        } } }
    } }
}

fn method(report: &BenchReport) -> Markup {
    html! {
        section aria-labelledby="method" {
            h2 id="method" { "What was compared, and how" }
            ul {
                li { "Engines took turns in every round, so that what the machine did meanwhile met all of them; ratios are of the same round." }
                li { "Every operation was seen to succeed; a single failure voids its row." }
                li { "Like is compared with like: where one engine syncs a write before it acknowledges it, all of the row do." }
                li { "It took " (format!("{:.0} s", report.seconds)) " in all." }
            }
        }
    }
}
