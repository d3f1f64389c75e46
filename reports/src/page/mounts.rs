//! The page of real mounts: what each did to each engine, what `doctor` says of it, and how far the simulated drive is like it.

use maud::{Markup, html};

use super::{Link, command, environment, figure, made, mood_class, scroll, shell, slug, tag};
use crate::mounts::{Difference, Likeness, MountInfo, MountReport, MountRun, MountSpeed, MountTrips, Severity};
use crate::wording::{Mood, grouped, listed, plural};
use crate::{EngineInfo, Verdict};

/// The whole page. `links` lead to other reports of the same run.
#[must_use]
pub(crate) fn page(report: &MountReport, links: &[Link]) -> String {
    let title = "Caches on real network mounts";
    let versions: Vec<_> = report.engines.iter().map(|engine| (engine.title.clone(), engine.version.clone())).collect();
    let files = [
        Link::new("results.json", &format!("results.json (version {})", report.version)),
        Link::new("results.schema.json", "its schema"),
        Link::new("junit.xml", "junit.xml"),
    ];
    let content = html! {
        header { h1 { (title) } (made(&report.created, &report.command)) }
        main id="content" {
            (verdict(report))
            (overview(report))
            (runs(report))
            (doctor(report))
            (trips(report))
            (speeds(report))
            (differences(report))
            (environment(&report.environment, &versions, &files))
        }
    };
    shell(title, links, &content)
}

/// Whether nothing was run there because our engine refuses the drive, as it must: neither a pass nor a failure.
fn is_refused(report: &MountReport, mount: &MountInfo, engine: &EngineInfo) -> bool {
    let mut runs = report.runs.iter().filter(|run| run.mount == mount.name && run.engine == engine.name);
    engine.ours && mount.refuses.is_some() && runs.all(|run| report.is_refusal(run))
}

/// On which mounts an engine was sound, damaged, or neither.
fn tally<'r>(report: &'r MountReport, engine: &EngineInfo) -> [Vec<&'r str>; 3] {
    let mut tally: [Vec<&str>; 3] = Default::default();
    for mount in report.mounts.iter().filter(|mount| !is_refused(report, mount, engine)) {
        match report.verdict(&mount.name, &engine.name) {
            Some(Verdict::Sound) => tally[0].push(&mount.name),
            Some(Verdict::Damaged) => tally[1].push(&mount.name),
            Some(Verdict::Unknown | Verdict::NotRun) => tally[2].push(&mount.name),
            None => {}
        }
    }
    tally
}

/// What is said first about an engine.
pub(crate) fn sentence(report: &MountReport, engine: &EngineInfo) -> (Mood, String) {
    let [sound, damaged, open] = tally(report, engine);
    let all = sound.len() + damaged.len() + open.len();
    let names = |names: &[&str]| listed(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    let title = &engine.title;
    if all == 0 {
        (Mood::Odd, format!("{title} was not run."))
    } else if !damaged.is_empty() {
        (Mood::Bad, format!("{title} broke a promise on {} of {}: {}.", damaged.len(), plural(all as u64, "mount"), names(&damaged)))
    } else if !open.is_empty() {
        let kept = if sound.is_empty() { String::new() } else { format!("; it kept every promise on {}", names(&sound)) };
        (Mood::Odd, format!("No full verdict on {title}: {} could not be run or judged{kept}.", names(&open)))
    } else {
        (Mood::Good, format!("{title} kept every promise on all {}: {}.", plural(all as u64, "mount"), names(&sound)))
    }
}

fn verdict(report: &MountReport) -> Markup {
    let (ours, others): (Vec<&EngineInfo>, Vec<&EngineInfo>) = report.engines.iter().partition(|engine| engine.ours);
    let told: Vec<(Mood, String)> = ours.iter().map(|engine| sentence(report, engine)).collect();
    let weight = |mood: Mood| [Mood::Good, Mood::Odd, Mood::Bad].iter().position(|it| *it == mood);
    let mood = told.iter().map(|(mood, _)| *mood).max_by_key(|mood| weight(*mood)).unwrap_or(Mood::Odd);
    let refused: Vec<String> = report.mounts.iter().filter(|mount| mount.refuses.is_some()).map(|mount| mount.name.clone()).collect();
    let left_out: Vec<&MountInfo> = report.mounts.iter().filter(|mount| mount.left_out.is_some()).collect();
    html! {
        section aria-label="Verdict" {
            div class=(mood_class(mood)) data-box="hero" {
                @for (_, text) in &told { p { (text) } }
                @if told.is_empty() { p { "No engine of ours was run." } }
                @for engine in &others { p { (sentence(report, engine).1) } }
                @if !refused.is_empty() { p { "Refused, with the reason, because the drive cannot be shared safely: " (listed(&refused)) "." } }
            }
            @if !left_out.is_empty() {
                p { b { "Left out on this machine: " } @for (at, mount) in left_out.iter().enumerate() {
                    @if at > 0 { "; " } (mount.name) " (" (mount.left_out.as_deref().unwrap_or_default()) ")"
                } "." }
            }
        }
    }
}

fn overview(report: &MountReport) -> Markup {
    let table = html! {
        table.keep {
            thead { tr {
                th scope="col" { "Mount" } th scope="col" { "Doctor says" } @for engine in &report.engines { th scope="col" { (engine.title) } }
            } }
            tbody { @for mount in &report.mounts { tr {
                th scope="row" { a href={ "#" (slug(&mount.name)) } { (mount.title) } small { (mount.name) @if mount.hosts > 0 { ", " (plural(mount.hosts.into(), "host")) } } }
                td { @if mount.left_out.is_some() { span.tag.notrun { "– left out" } } @else { (doctor_tag(mount)) small { (mount.doctor) } } }
                @for engine in &report.engines { td { (overview_cell(report, mount, engine)) } }
            } } }
        }
    };
    html! {
        section aria-labelledby="overview" data-box="matrix" { h2 id="overview" { "Mount by engine" } (scroll("Mount by engine", &table)) }
    }
}

fn overview_cell(report: &MountReport, mount: &MountInfo, engine: &EngineInfo) -> Markup {
    let mut broken: Vec<&str> = Vec::new();
    let runs: Vec<&MountRun> = report.runs.iter().filter(|run| run.mount == mount.name && run.engine == engine.name).collect();
    for promise in runs.iter().flat_map(|run| &run.promises).filter(|promise| promise.broken > 0) {
        if !broken.contains(&promise.promise.as_str()) {
            broken.push(&promise.promise);
        }
    }
    html! {
        @match report.verdict(&mount.name, &engine.name) {
            _ if is_refused(report, mount, engine) => { span.tag.notrun { "refused" } small { (mount.refuses.as_deref().unwrap_or_default()) } }
            Some(verdict) => { (tag(verdict)) small {
                @if broken.is_empty() { (plural(runs.len() as u64, "run")) } @else { "broken: " (broken.join("; ")) }
            } }
            None => span.soft { "not asked" },
        }
    }
}

fn worst(mount: &MountInfo) -> Severity {
    mount.findings.iter().map(|finding| finding.severity).max().unwrap_or_default()
}

fn severity(severity: Severity) -> Markup {
    let (class, words) = match severity {
        Severity::Good => ("tag sound", "✓ good"),
        Severity::Note => ("tag notrun", "i note"),
        Severity::Warning => ("tag unknown", "! warning"),
        Severity::Unsound => ("tag damaged", "✗ unsound"),
    };
    html! { span class=(class) { (words) } }
}

fn doctor_tag(mount: &MountInfo) -> Markup {
    if mount.findings.is_empty() {
        html! { span.soft { "not asked" } }
    } else {
        severity(worst(mount))
    }
}

fn runs(report: &MountReport) -> Markup {
    let mut kinds: Vec<(&str, &str, &str)> = Vec::new();
    for run in &report.runs {
        let kind = (run.mount.as_str(), run.workload.as_str(), run.fault.as_str());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let find = |kind: (&str, &str, &str), engine: &EngineInfo| {
        report.runs.iter().find(|run| (run.mount.as_str(), run.workload.as_str(), run.fault.as_str()) == kind && run.engine == engine.name)
    };
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Mount" } th scope="col" { "Workload" } th scope="col" { "Fault" }
                @for engine in &report.engines { th scope="col" { (engine.title) } }
            } }
            tbody { @for kind in &kinds { tr {
                th scope="row" { (kind.0) } td { (kind.1) } td { @if kind.2.is_empty() { "none but kills" } @else { (kind.2) } }
                @for engine in &report.engines { td { (run_cell(find(*kind, engine))) } }
            } } }
        }
    };
    html! {
        section aria-labelledby="runs" {
            h2 id="runs" { "Mount, workload and fault" }
            @if kinds.is_empty() { p { "Nothing was run." } } @else { (scroll("Mount, workload and fault", &table)) }
            @for run in report.runs.iter().filter(|run| run.verdict != Verdict::Sound) { (run_details(report, run)) }
        }
    }
}

fn run_cell(run: Option<&MountRun>) -> Markup {
    let Some(run) = run else { return html! { span.soft { "–" } } };
    html! {
        (tag(run.verdict))
        small {
            (plural(run.answered, "call")) " answered"
            @if run.failed > 0 { ", " (grouped(run.failed)) " refused" }
            @if run.open > 0 { ", " (grouped(run.open)) " never ended" }
        }
        @if let Some(longest) = run.longest_s { small {
            "longest call " (format!("{longest:.1} s")) @if let Some(deadline) = run.deadline_s { ", deadline " (format!("{deadline:.1} s")) }
        } }
        @if let Some(after) = run.recovered_s { small { "well again after " (format!("{after:.1} s")) } }
    }
}

fn run_details(report: &MountReport, run: &MountRun) -> Markup {
    let title = report.engines.iter().find(|engine| engine.name == run.engine).map_or(run.engine.as_str(), |engine| &engine.title);
    html! {
        article.card {
            h3 { (tag(run.verdict)) " " (title) " on " (run.mount) ", " (run.workload) @if !run.fault.is_empty() { ", " (run.fault) } }
            @if let Some(error) = &run.error { p { (error) } }
            ul { @for promise in run.promises.iter().filter(|promise| promise.broken > 0) {
                li { b { (promise.promise) } ": broken " (crate::wording::times(promise.broken))
                    @if !promise.examples.is_empty() { ul { @for example in &promise.examples { li { code { (example) } } } } }
                }
            } }
            @if let Some(evidence) = &run.evidence { p { "Logs: " a href=(evidence) { (evidence) } } }
            (command(&run.replay))
        }
    }
}

fn doctor(report: &MountReport) -> Markup {
    html! {
        section aria-labelledby="doctor" {
            h2 id="doctor" { "What doctor says of each mount" }
            @for mount in &report.mounts {
                article.card id=(slug(&mount.name)) {
                    h3 { (mount.title) " " (doctor_tag(mount)) }
                    p.soft { code { (mount.options) } }
                    @if let Some(why) = &mount.left_out { p { "Left out on this machine: " (why) } }
                    @if let Some(why) = &mount.refuses { p { "Sharing a cache is refused here: " (why) } }
                    @if !mount.findings.is_empty() { (findings(mount)) }
                }
            }
        }
    }
}

fn findings(mount: &MountInfo) -> Markup {
    let good = mount.findings.iter().filter(|finding| finding.severity == Severity::Good).count();
    let row = |finding: &crate::mounts::DoctorFinding| {
        html! { li { (severity(finding.severity)) " " b { (finding.what) } ": " (finding.found) @if !finding.advice.is_empty() { " " span.soft { "→ " (finding.advice) } } } }
    };
    html! {
        ul { @for finding in mount.findings.iter().filter(|finding| finding.severity != Severity::Good) { (row(finding)) } }
        @if good > 0 {
            details {
                summary { (plural(good as u64, "finding")) " as it should be" }
                ul { @for finding in mount.findings.iter().filter(|finding| finding.severity == Severity::Good) { (row(finding)) } }
            }
        }
    }
}

fn trips(report: &MountReport) -> Markup {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for row in &report.trips {
        if !keys.contains(&(&row.mount, &row.operation)) {
            keys.push((&row.mount, &row.operation));
        }
    }
    let find = |key: (&str, &str), engine: &EngineInfo| {
        report.trips.iter().find(|row| (row.mount.as_str(), row.operation.as_str()) == key && row.engine == engine.name)
    };
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Mount" } th scope="col" { "Operation" }
                @for engine in &report.engines { th.n scope="col" { (engine.title) } } th.n scope="col" { "Limit" }
            } }
            tbody { @for key in &keys {
                @let rows: Vec<Option<&MountTrips>> = report.engines.iter().map(|engine| find(*key, engine)).collect();
                tr {
                    th scope="row" { (key.0) } td { (key.1) }
                    @for row in &rows { td.n data-value=[row.map(|row| row.trips)] { (trip(*row)) } }
                    td.n { @if let Some(limit) = rows.iter().flatten().find_map(|row| row.limit) { (limit) } }
                }
            } }
        }
    };
    html! {
        @if !keys.is_empty() {
            section aria-labelledby="trips" {
                h2 id="trips" { "Requests to the server for one operation" }
                p.soft { "Counted by the kernel's own statistics of the mount, on a quiet drive." }
                (scroll("Requests for one operation", &table))
            }
        }
    }
}

fn trip(row: Option<&MountTrips>) -> Markup {
    let Some(row) = row else { return html! { "–" } };
    let kinds: Vec<String> = row.kinds.iter().map(|(kind, count)| format!("{kind} {count:.1}")).collect();
    let over = row.limit.is_some_and(|limit| row.trips > limit + 0.05);
    html! {
        @if over { span.tag.damaged { (format!("{:.1}", row.trips)) " too many" } } @else { (format!("{:.1}", row.trips)) }
        @if !kinds.is_empty() { small { (kinds.join(", ")) } }
    }
}

fn speeds(report: &MountReport) -> Markup {
    let reached = |row: &MountSpeed| row.target.map(|target| if row.unit == "1/s" { row.value >= target } else { row.value <= target });
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "What" } th scope="col" { "Mount" } th scope="col" { "Engine" } th.n scope="col" { "Median" } th.n scope="col" { "Rounds" }
                th.n scope="col" { "Target" }
            } }
            tbody { @for row in &report.speeds { tr {
                th scope="row" { (row.what) } td { (row.mount) }
                td { (report.engines.iter().find(|engine| engine.name == row.engine).map_or(row.engine.as_str(), |engine| &engine.title)) }
                td.n data-value=(row.value) { (figure(row.value)) " " (row.unit) }
                td.n { (figure(row.low)) " to " (figure(row.high)) }
                td.n { @if let Some(target) = row.target { (figure(target)) " " @if reached(row) == Some(true) { span.tag.sound { "✓ reached" } }
                    @else { span.tag.damaged { "✗ missed" } } } }
            } } }
        }
    };
    html! {
        @if !report.speeds.is_empty() {
            section aria-labelledby="speeds" { h2 id="speeds" { "Speed" } (scroll("Speed on mounts", &table)) }
        }
    }
}

fn likeness(row: &Difference) -> Markup {
    let (class, words) = match row.likeness {
        Likeness::Same => ("tag sound", "✓ the same"),
        Likeness::Simplified => ("tag notrun", "simplified"),
        Likeness::Bug => ("tag damaged", "✗ bug of the profile"),
        Likeness::NotAsked => ("tag unknown", "? not asked"),
    };
    html! { span class=(class) { (words) } @if !row.reason.is_empty() { small { (row.reason) } } }
}

fn differences(report: &MountReport) -> Markup {
    let count = |wanted: Likeness| report.differences.iter().filter(|row| row.likeness == wanted).count();
    let mut rows: Vec<&Difference> = report.differences.iter().collect();
    // What is wrong comes first.
    rows.sort_by_key(|row| {
        [Likeness::Bug, Likeness::NotAsked, Likeness::Simplified, Likeness::Same].iter().position(|it| *it == row.likeness)
    });
    let table = html! {
        table.keep data-sort {
            thead { tr {
                th scope="col" { "Asked" } th scope="col" { "Mount" } th scope="col" { "Real" } th scope="col" { "Simulated" } th scope="col" { "So" }
            } }
            tbody { @for row in &rows { tr {
                th scope="row" { (row.probe) } td { (row.mount) small { "as " (row.profile) } } td { (row.real) } td { (row.simulated) } td { (likeness(row)) }
            } } }
        }
    };
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="differences" {
                h2 id="differences" { "The simulator against reality" }
                p { "The same script asked each real mount and the simulated profile of its name: "
                    b { (count(Likeness::Same)) " answers the same, " (count(Likeness::Simplified)) " simplified as documented, " (count(Likeness::Bug)) " wrong" }
                    @if count(Likeness::NotAsked) > 0 { ", " (count(Likeness::NotAsked)) " could not be asked" } "." }
                (scroll("The simulator against reality", &table))
            }
        }
    }
}
