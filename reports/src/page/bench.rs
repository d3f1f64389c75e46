//! The page of benchmarks: ratios first, then the figures that they are made of, and how they were had.

use maud::{Markup, html};

use super::plot::{PlotRow, Point, curves, legend, microseconds, percent, spreads};
use super::{Link, command, environment, figure, made, scroll, shell};
use crate::bench::{BenchEngine, BenchId, BenchReport, BenchRow, Change, NOISE, Resource, TailRow, Trend, bytes};
use crate::stats::Estimate;
use crate::wording::{grouped, listed, plural};

/// The whole page; beside a baseline, if there is one (its name and the report). `links` lead to other reports of the same run.
#[must_use]
pub(crate) fn page(report: &BenchReport, baseline: Option<(&str, &BenchReport)>, links: &[Link]) -> String {
    let title = "How fast, beside other caches";
    let versions: Vec<_> = report.engines.iter().map(|engine| (engine.title.clone(), engine.version.clone())).collect();
    let files =
        [Link::new("results.json", &format!("results.json (version {})", report.version)), Link::new("results.schema.json", "its schema")];
    let content = html! {
        header { h1 { (title) } (made(&report.created, &report.command)) }
        main id="content" {
            (verdict(report))
            @if let Some((name, old)) = baseline { (changes(report, name, old)) }
            (ratios(report))
            (plots(report))
            (figures(report))
            (tails(report))
            (resources(report))
            (hit_ratios(report))
            (method(report))
            (environment(&report.environment, &versions, &files))
        }
    };
    shell(title, links, &content)
}

fn ours(report: &BenchReport) -> Option<&BenchEngine> {
    report.engines.iter().find(|engine| engine.ours)
}

fn rivals(report: &BenchReport) -> impl Iterator<Item = &BenchEngine> {
    report.engines.iter().filter(|engine| !engine.ours)
}

/// `12.3×`, with its interval.
fn ratio_words(ratio: Estimate) -> String {
    format!("{}×", figure(ratio.value))
}

fn interval(ratio: Estimate) -> String {
    format!("{} to {}{}", figure(ratio.low), figure(ratio.high), if ratio.few { ", few rounds" } else { "" })
}

/// The targets with what was reached.
fn targets(report: &BenchReport) -> Vec<(&crate::bench::BenchTarget, Option<Estimate>)> {
    let Some(ours) = ours(report) else { return Vec::new() };
    report.targets.iter().map(|target| (target, report.ratio(&target.id, &ours.name, &target.against))).collect()
}

/// What is said first.
pub(crate) fn sentence(report: &BenchReport) -> (&'static str, String) {
    let targets = targets(report);
    let unknown = targets.iter().filter(|(_, ratio)| ratio.is_none()).count();
    let missed = targets.iter().filter(|(target, ratio)| ratio.is_some_and(|ratio| ratio.value < target.at_least)).count();
    let met = targets.len() - unknown - missed;
    let rest = if unknown > 0 { format!(" {} could not be judged.", plural(unknown as u64, "target")) } else { String::new() };
    if targets.is_empty() {
        ("hero", "No targets were set: the ratios below speak for themselves.".to_owned())
    } else if missed > 0 {
        ("hero bad", format!("{met} of {} speed targets reached, {missed} missed.{rest}", targets.len()))
    } else if unknown > 0 {
        ("hero odd", format!("{met} of {} speed targets reached.{rest}", targets.len()))
    } else {
        ("hero good", format!("All {} speed targets reached.", targets.len()))
    }
}

fn verdict(report: &BenchReport) -> Markup {
    let (class, text) = sentence(report);
    let void: Vec<&BenchRow> = report.rows.iter().filter(|row| !row.is_valid()).collect();
    html! {
        section aria-label="Verdict" {
            div class=(class) data-box="hero" {
                p { (text) }
                @if !void.is_empty() { p { b { (plural(void.len() as u64, "row")) " void" } ": an operation failed, so the time of the others means nothing." } }
            }
            (highlights(report))
            p { "Once more, with:" }
            (command(&report.command))
        }
    }
}

/// The first few ratios, large.
fn highlights(report: &BenchReport) -> Markup {
    let Some(ours) = ours(report) else { return html! {} };
    let Some(first) = rivals(report).next() else { return html! {} };
    let known = report.ids().into_iter().filter_map(|id| Some((id, report.ratio(id, &ours.name, &first.name)?))).take(6);
    html! {
        p.soft { "How many times as fast as " (first.title) " " (first.version) ":" }
        div.cards data-box="cards" { @for (id, ratio) in known {
            div.card { p.big { (ratio_words(ratio)) } p { (id.title()) } p.soft { (interval(ratio)) } }
        } }
    }
}

fn change_rows(changes: &[&Change], report: &BenchReport) -> Markup {
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Operation" } th scope="col" { "Engine" } th.n scope="col" { "Before" } th.n scope="col" { "Now" } th.n scope="col" { "Times as fast" }
            } }
            tbody { @for change in changes { tr.wrong[change.trend == Trend::Regression] {
                th scope="row" { (change.id.title()) small { (change.id.group) } } td { (engine_title(report, &change.engine)) }
                td.n data-value=(change.before.value) { (amount(change.before.value, &change.unit)) small { (range(change.before, &change.unit)) } }
                td.n data-value=(change.after.value) { (amount(change.after.value, &change.unit)) small { (range(change.after, &change.unit)) } }
                td.n data-value=(change.speed) { (format!("{:.2}×", change.speed)) }
            } } }
        }
    };
    scroll("Changes beyond noise", &table)
}

fn changes(report: &BenchReport, name: &str, old: &BenchReport) -> Markup {
    let all = report.against(old);
    let of = |trend: Trend| all.iter().filter(|change| change.trend == trend).count();
    let mut shown: Vec<&Change> = all.iter().filter(|change| change.trend != Trend::Noise).collect();
    shown.sort_by(|a, b| a.speed.total_cmp(&b.speed));
    html! {
        section aria-labelledby="changes" {
            h2 id="changes" { "Against the baseline " code { (name) } }
            p {
                b { (plural(of(Trend::Regression) as u64, "regression")) ", " (plural(of(Trend::Improvement) as u64, "improvement")) }
                ", " (of(Trend::Noise)) " within noise. The baseline is of " (old.created) "."
            }
            p.soft { "A change counts when the 95 % intervals of the medians do not overlap and the medians differ by more than " (percent(NOISE)) "." }
            @if !shown.is_empty() { (change_rows(&shown, report)) }
        }
    }
}

fn engine_title<'r>(report: &'r BenchReport, name: &'r str) -> &'r str {
    report.engines.iter().find(|engine| engine.name == name).map_or(name, |engine| &engine.title)
}

fn amount(value: f64, unit: &str) -> String {
    match unit {
        "us" => microseconds(value),
        "1/s" => format!("{} /s", figure(value)),
        "B" => bytes(value.max(0.0) as u64),
        "x" => format!("{}×", figure(value)),
        other => format!("{} {other}", figure(value)),
    }
}

fn range(estimate: Estimate, unit: &str) -> String {
    format!("{} to {}", amount(estimate.low, unit), amount(estimate.high, unit))
}

fn groups(report: &BenchReport) -> Vec<(&str, Vec<&BenchId>)> {
    let mut groups: Vec<(&str, Vec<&BenchId>)> = Vec::new();
    for id in report.ids() {
        match groups.iter_mut().find(|(group, _)| *group == id.group) {
            Some((_, ids)) => ids.push(id),
            None => groups.push((&id.group, vec![id])),
        }
    }
    groups
}

fn group_title(group: &str) -> String {
    match group {
        "python" => "Through Python, one process".to_owned(),
        "rust" => "The engine alone, in Rust".to_owned(),
        "processes" => "Several processes".to_owned(),
        "threads" => "Several threads".to_owned(),
        other => other.to_owned(),
    }
}

fn ratios(report: &BenchReport) -> Markup {
    let Some(ours) = ours(report) else { return html! {} };
    let wanted = |id: &BenchId, against: &str| report.targets.iter().find(|target| target.id == *id && target.against == against);
    let table = |group: &str, ids: &[&BenchId]| {
        let table = html! {
            table.keep data-sort {
                thead { tr { th scope="col" { "Operation" } @for rival in rivals(report) { th.n scope="col" { "against " (rival.title) } } } }
                tbody { @for id in ids { tr {
                    th scope="row" { (id.title()) }
                    @for rival in rivals(report) {
                        @let ratio = report.ratio(id, &ours.name, &rival.name);
                        td.n data-value=(ratio.map_or(String::new(), |ratio| ratio.value.to_string())) {
                            (ratio_cell(ratio, wanted(id, &rival.name).map(|target| target.at_least)))
                        }
                    }
                } } }
            }
        };
        scroll(&format!("Ratios: {}", group_title(group)), &table)
    };
    html! {
        section aria-labelledby="ratios" data-box="matrix" {
            h2 id="ratios" { "How many times as fast" }
            p.soft { "Medians of the ratios of each round with their 95 % interval. Above 1, " (ours.title) " is faster. Like is compared with like: "
                "each row has the same durability on both sides." }
            @for (group, ids) in groups(report) { h3 { (group_title(group)) } (table(group, &ids)) }
        }
    }
}

fn ratio_cell(ratio: Option<Estimate>, wanted: Option<f64>) -> Markup {
    html! {
        @match ratio {
            None => span.soft { "–" },
            Some(ratio) => { b { (ratio_words(ratio)) } small { (interval(ratio)) } }
        }
        @if let Some(wanted) = wanted {
            @match ratio {
                Some(ratio) if ratio.value >= wanted => span.tag.sound { "✓ wanted " (wanted) },
                Some(_) => span.tag.damaged { "✗ wanted " (wanted) },
                None => span.tag.unknown { "? wanted " (wanted) },
            }
        }
    }
}

fn plots(report: &BenchReport) -> Markup {
    let titles: Vec<String> = report.engines.iter().map(|engine| engine.title.clone()).collect();
    let point = |row: &BenchRow, series: usize| {
        let it = row.estimate()?;
        let about = format!("{}: {} ({})", titles[series], amount(it.value, &row.unit), range(it, &row.unit));
        Some(Point { series, value: it.value, low: it.low, high: it.high, about })
    };
    let rows = |ids: &[&BenchId], unit: &str| {
        let row = |id: &&BenchId| {
            let points: Vec<Point> = (0..report.engines.len())
                .filter_map(|series| {
                    report.row(id, &report.engines[series].name).filter(|row| row.unit == unit).and_then(|row| point(row, series))
                })
                .collect();
            (!points.is_empty()).then(|| PlotRow { title: id.title(), points })
        };
        ids.iter().filter_map(row).collect::<Vec<_>>()
    };
    html! {
        section aria-labelledby="plots" data-box="plots" {
            h2 id="plots" { "The same, drawn" }
            p.soft { "Logarithmic: one line further is ten times as much. The bar is the 95 % interval of the median." }
            (legend(&titles))
            @for (group, ids) in groups(report) { @for (unit, words) in [("us", "time of one operation (left is faster)"), ("1/s", "operations a second (right is faster)")] {
                @let rows = rows(&ids, unit);
                @if !rows.is_empty() {
                    h3 { (group_title(group)) ": " (words) }
                    (scroll(&format!("{}: {words}", group_title(group)), &spreads(&format!("{}: {words}", group_title(group)), &rows, |value| amount(value, unit))))
                }
            } }
        }
    }
}

fn figures(report: &BenchReport) -> Markup {
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Operation" } th scope="col" { "Engine" } th.n scope="col" { "Median" } th.n scope="col" { "95 % interval" }
                th.n scope="col" { "Rounds" } th.n scope="col" { "Operations" }
            } }
            tbody { @for row in &report.rows { tr.wrong[!row.is_valid()] {
                th scope="row" { (row.id.title()) small { (group_title(&row.id.group)) } }
                td { (engine_title(report, &row.engine)) @if let Some(href) = &row.criterion { small { a href=(href) aria-label={ "criterion's page of " (row.id.title()) ", " (row.engine) } { "criterion" } } } }
                @match row.estimate() {
                    Some(it) => { td.n data-value=(it.value) { (amount(it.value, &row.unit)) } td.n data-value=(it.high - it.low) { (range(it, &row.unit)) } }
                    None => { td.n data-value="" { "void" } td.n data-value="" { (grouped(row.failed)) " failed" } }
                }
                td.n { (row.rounds.len()) } td.n data-value=(row.succeeded) { (grouped(row.succeeded)) }
            } } }
        }
    };
    html! {
        @if !report.rows.is_empty() {
            section aria-labelledby="figures" {
                h2 id="figures" { "All figures" }
                @if let Some(href) = &report.criterion { p { a href=(href) { "Criterion's own pages" } } }
                (scroll("All figures", &table))
            }
        }
    }
}

fn tail_row(report: &BenchReport, row: &TailRow) -> Markup {
    html! { tr {
        th scope="row" { (row.operation) small { (row.mix) } } td { (engine_title(report, &row.engine)) }
        td.n data-value=(row.workers) { (row.workers) " " (row.workers_are) }
        td.n data-value=(row.count) { (grouped(row.count)) } td.n data-value=(row.miss) { (grouped(row.miss)) }
        @for value in [row.median_us, row.p90_us, row.p99_us, row.p999_us, row.max_us] { td.n data-value=(value) { (microseconds(value)) } }
        td.n data-value=(row.total_s) { (format!("{:.2} s", row.total_s)) }
    } }
}

fn tails(report: &BenchReport) -> Markup {
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Operation" } th scope="col" { "Engine" }
                @for head in ["Workers", "Count", "Miss", "Median", "P90", "P99", "P99.9", "Max", "Total"] { th.n scope="col" { (head) } }
            } }
            tbody { @for row in &report.tails { (tail_row(report, row)) } }
        }
    };
    html! {
        @if !report.tails.is_empty() {
            section aria-labelledby="tails" { h2 id="tails" { "Single operations under load" } (scroll("Single operations under load", &table)) }
        }
    }
}

fn resources(report: &BenchReport) -> Markup {
    let over = |row: &Resource| row.limit.is_some_and(|limit| row.value > limit);
    let table = html! {
        table.keep data-sort {
            thead { tr { th scope="col" { "What" } th scope="col" { "Engine" } th.n scope="col" { "How much" } th.n scope="col" { "At most" } } }
            tbody { @for row in &report.resources { tr {
                th scope="row" { (row.what) small { (row.group) } } td { (engine_title(report, &row.engine)) }
                td.n data-value=(row.value) { (amount(row.value, &row.unit)) }
                td.n { @if let Some(limit) = row.limit { (amount(limit, &row.unit)) " " @if over(row) { span.tag.damaged { "✗ more" } } @else { span.tag.sound { "✓" } } } }
            } } }
        }
    };
    html! {
        @if !report.resources.is_empty() {
            section aria-labelledby="resources" { h2 id="resources" { "Memory, disk and scale" } (scroll("Memory, disk and scale", &table)) }
        }
    }
}

fn hit_ratios(report: &BenchReport) -> Markup {
    let mut policies: Vec<String> = Vec::new();
    let mut traces: Vec<&str> = Vec::new();
    for curve in &report.curves {
        if !policies.contains(&curve.policy) {
            policies.push(curve.policy.clone());
        }
        if !traces.contains(&curve.trace.as_str()) {
            traces.push(&curve.trace);
        }
    }
    let of = |trace: &str| report.curves.iter().filter(|curve| curve.trace == trace).collect::<Vec<_>>();
    let series = |policy: &str| policies.iter().position(|its| its == policy).unwrap_or(0);
    html! {
        @if !traces.is_empty() {
            section aria-labelledby="curves" {
                h2 id="curves" { "Hit ratio of the eviction policies" }
                p.soft { "The share of requests that hit, by the size of the cache as a share of all keys (logarithmic). No policy can be better than the optimum, which knows the future." }
                (legend(&policies))
                div.pair { @for trace in &traces { div {
                    h3 { (trace) }
                    @let shown = of(trace);
                    @let lines: Vec<(usize, &[(f64, f64)])> = shown.iter().map(|curve| (series(&curve.policy), curve.points.as_slice())).collect();
                    (scroll(&format!("Hit ratio: {trace}"), &curves(&format!("Hit ratio by cache size: {trace}"), &lines)))
                    details { summary { "As a table" } (scroll(&format!("Hit ratio of {trace} as a table"), &curve_table(&shown))) }
                } } }
            }
        }
    }
}

fn curve_table(curves: &[&crate::bench::Curve]) -> Markup {
    let mut sizes: Vec<f64> = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0)).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let at =
        |curve: &crate::bench::Curve, size: f64| curve.points.iter().find(|point| point.0.total_cmp(&size).is_eq()).map(|point| point.1);
    html! { table.keep {
        thead { tr { th scope="col" { "Policy" } @for size in &sizes { th.n scope="col" { (percent(*size)) } } } }
        tbody { @for curve in curves { tr {
            th scope="row" { (curve.policy) }
            @for size in &sizes { td.n { @if let Some(share) = at(curve, *size) { (format!("{:.1}%", share * 100.0)) } } }
        } } }
    } }
}

fn method(report: &BenchReport) -> Markup {
    let setups: Vec<String> = report
        .engines
        .iter()
        .filter(|engine| !engine.setup.is_empty())
        .map(|engine| format!("{}: {}", engine.title, engine.setup))
        .collect();
    html! {
        section aria-labelledby="method" {
            h2 id="method" { "What was compared, and how" }
            ul {
                @for line in &report.method { li { (line) } }
                li { "Rounds of all engines were interleaved, so that what the machine did meanwhile met all of them; ratios are of the same round." }
                li { "Every operation was seen to succeed; a single failure voids its row." }
                li { "Intervals are those of order statistics (no distribution is assumed); with five rounds or fewer all rounds are shown, which is less than 95 %." }
            }
            @if !setups.is_empty() { p.soft { "Set up: " (listed(&setups)) "." } }
        }
    }
}
