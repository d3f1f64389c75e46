//! What was called and what happened, host by host, as a drawing and as a table that says the same.
//!
//! Time is not to scale: where nothing begins or ends it is pressed together, so that a call of a millisecond and a wait of a minute
//! can be seen beside each other. The order of things is exact.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::scroll;
use crate::wording::{moment, plural};
use crate::{CallEnd, EventKind, Timeline, TimelineCall, TimelineEvent};

const ROW: f64 = 34.0;
const HEAD: f64 = 28.0;
const AXIS: f64 = 26.0;
/// Where the first moment is.
const LEFT: f64 = 16.0;
/// After the last moment: room for what never ended.
const RIGHT: f64 = 46.0;

/// Moments to places.
struct Scale {
    places: BTreeMap<u64, f64>,
    width: f64,
}

impl Scale {
    fn new(timeline: &Timeline) -> Scale {
        let mut moments: Vec<u64> = Vec::new();
        for call in &timeline.calls {
            moments.push(call.start_us);
            moments.extend(call.end_us);
        }
        for event in &timeline.events {
            moments.push(event.at_us);
            moments.extend(event.until_us);
        }
        moments.sort_unstable();
        moments.dedup();
        let gaps: Vec<u64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let least = gaps.iter().copied().min().unwrap_or(1).max(1) as f64;
        // Many moments get less room each, but never so little that two cannot be told apart.
        let base = (1800.0 / (gaps.len().max(1) as f64)).clamp(7.0, 22.0);
        let mut at = LEFT;
        let mut places = BTreeMap::new();
        for (index, moment) in moments.iter().enumerate() {
            if index > 0 {
                at += base * (1.0 + (gaps[index - 1] as f64 / least).log10().min(5.0) * 0.6);
            }
            places.insert(*moment, at);
        }
        Scale { places, width: (at + RIGHT).max(320.0) }
    }

    fn at(&self, moment: u64) -> f64 {
        self.places.get(&moment).copied().unwrap_or(LEFT)
    }

    fn end(&self) -> f64 {
        self.width - 8.0
    }
}

/// A row of the drawing: a host (no process), or one of its processes; the same process has several when its calls overlap.
struct Row {
    host: String,
    process: Option<String>,
    y: f64,
    calls: Vec<usize>,
}

impl Row {
    fn height(&self) -> f64 {
        if self.process.is_some() { ROW } else { HEAD }
    }

    fn label(&self) -> &str {
        match &self.process {
            // `host-a.3` below `host-a` is process 3.
            Some(process) => process.strip_prefix(&format!("{}.", self.host)).unwrap_or(process),
            None if self.host.is_empty() => "server",
            None => &self.host,
        }
    }
}

/// Calls in the order of their beginning: their numbers in the drawing and in the table.
fn ordered(timeline: &Timeline) -> Vec<&TimelineCall> {
    let mut calls: Vec<&TimelineCall> = timeline.calls.iter().collect();
    calls.sort_by_key(|call| (call.start_us, call.end_us.unwrap_or(u64::MAX)));
    calls
}

fn rows(calls: &[&TimelineCall], events: &[TimelineEvent]) -> Vec<Row> {
    let mut hosts: Vec<&str> = calls.iter().map(|call| call.host.as_str()).collect();
    hosts.extend(events.iter().map(|event| event.host.as_deref().unwrap_or("")));
    hosts.sort_unstable();
    hosts.dedup();
    let mut rows: Vec<Row> = Vec::new();
    for host in hosts {
        rows.push(Row { host: host.to_owned(), process: None, y: 0.0, calls: Vec::new() });
        let mut processes: Vec<&str> = calls.iter().filter(|call| call.host == host).map(|call| call.process.as_str()).collect();
        processes.sort_unstable();
        processes.dedup();
        for process in processes {
            rows.extend(process_rows(calls, host, process));
        }
    }
    let mut y = AXIS;
    for row in &mut rows {
        row.y = y;
        y += row.height();
    }
    rows
}

fn process_rows(calls: &[&TimelineCall], host: &str, process: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut ends: Vec<u64> = Vec::new();
    for (index, call) in calls.iter().enumerate().filter(|(_, call)| call.host == host && call.process == process) {
        let free = ends.iter().position(|end| *end <= call.start_us);
        let at = free.unwrap_or_else(|| {
            rows.push(Row { host: host.to_owned(), process: Some(process.to_owned()), y: 0.0, calls: Vec::new() });
            ends.push(0);
            rows.len() - 1
        });
        ends[at] = call.end_us.unwrap_or(u64::MAX);
        rows[at].calls.push(index);
    }
    rows
}

fn call_class(call: &TimelineCall) -> &'static str {
    match call.end {
        _ if call.wrong => "call wrong",
        CallEnd::Ok => "call ok",
        CallEnd::Fail => "call fail",
        CallEnd::Info | CallEnd::Hung | CallEnd::Crashed => "call open",
    }
}

fn event_class(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Fault | EventKind::Partition => "fault",
        EventKind::Heal => "heal",
        EventKind::Other => "other",
        EventKind::Kill | EventKind::PowerCut | EventKind::Restart => "",
    }
}

fn end_words(call: &TimelineCall) -> &'static str {
    match call.end {
        CallEnd::Ok => "answered",
        CallEnd::Fail => "refused: nothing was done",
        CallEnd::Info => "uncertain: it may have taken effect",
        CallEnd::Hung => "no answer by its deadline",
        CallEnd::Crashed => "its process died",
    }
}

/// The drawing and the table.
pub(super) fn timeline(timeline: &Timeline) -> Markup {
    let calls = ordered(timeline);
    html! {
        ul.key aria-hidden="true" {
            (key("call ok", "answered")) (key("call fail", "refused")) (key("call open", "uncertain, or never answered"))
            (key("call wrong", "cannot be explained"))
            li { svg width="16" height="16" { path.mark.fault d="M1 2H15L8 15Z" {} } "fault" }
            li { svg width="16" height="16" { path.mark d="M1 2H15L8 15Z" {} } "kill, power cut, restart" }
        }
        (scroll("Timeline by host", &drawing(timeline, &calls)))
        p.soft {
            "Numbers are those of the table below. Time" @if timeline.virtual_time { " (of the simulation)" } " is pressed together where nothing begins or ends. "
            @if timeline.left_out > 0 { (plural(timeline.left_out, "call")) " of other keys left out." }
        }
        (scroll("The same as a table", &table(timeline, &calls)))
    }
}

fn key(class: &str, text: &str) -> Markup {
    html! { li { svg width="24" height="16" { rect class=(class) x="2" y="2" width="20" height="12" rx="3" {} } (text) } }
}

fn drawing(timeline: &Timeline, calls: &[&TimelineCall]) -> Markup {
    let scale = Scale::new(timeline);
    let rows = rows(calls, &timeline.events);
    let height = rows.last().map_or(AXIS, |row| row.y + row.height()) + 4.0;
    let about = format!(
        "Timeline of {}: {} and {} on {} rows",
        timeline.subject,
        plural(calls.len() as u64, "call"),
        plural(timeline.events.len() as u64, "event"),
        rows.len()
    );
    html! {
        div.timeline data-box="timeline" {
            div.lanes {
                div style={ "height:" (AXIS) "px" } {}
                @for row in &rows {
                    div.host[row.process.is_none()] style={ "height:" (row.height()) "px" } { (row.label()) }
                }
            }
            svg role="img" aria-label=(about) width=(round(scale.width)) height=(round(height)) viewBox={ "0 0 " (round(scale.width)) " " (round(height)) } {
                (axis(&scale, height))
                @for row in &rows { line.axis x1="0" x2=(round(scale.width)) y1=(round(row.y)) y2=(round(row.y)) {} }
                @for event in &timeline.events { (window(&scale, &rows, event)) }
                @for row in &rows { @for index in &row.calls { (bar(&scale, row, *index + 1, calls[*index])) } }
                @for event in &timeline.events { (event_mark(&scale, &rows, event)) }
            }
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Some moments, as far apart as their text needs.
fn axis(scale: &Scale, height: f64) -> Markup {
    let mut last = f64::NEG_INFINITY;
    let mut shown = Vec::new();
    for (moment, x) in &scale.places {
        if x - last >= 84.0 && *x < scale.width - 40.0 {
            shown.push((*moment, *x));
            last = *x;
        }
    }
    html! {
        @for (at, x) in shown {
            line.grid x1=(round(x)) x2=(round(x)) y1=(AXIS - 6.0) y2=(round(height)) {}
            text.soft x=(round(x)) y="13" { (moment(at)) }
        }
    }
}

/// The rows that an event is about: from which y to which.
fn span(rows: &[Row], event: &TimelineEvent) -> (f64, f64) {
    let about = |row: &&Row| {
        event.host.as_deref().is_none_or(|host| row.host == host)
            && event.process.as_deref().is_none_or(|process| row.process.as_deref() == Some(process))
    };
    let bottom = |row: &Row| row.y + row.height();
    let (first, last) = (rows.iter().find(about), rows.iter().rfind(about));
    // A process that made none of the calls shown has no row of its own.
    let host = || rows.iter().find(|row| event.host.as_deref() == Some(row.host.as_str()));
    match (first.or_else(host), last.or_else(host)) {
        (Some(first), Some(last)) => (first.y, bottom(last)),
        _ => (AXIS, rows.last().map_or(AXIS, bottom)),
    }
}

fn window(scale: &Scale, rows: &[Row], event: &TimelineEvent) -> Markup {
    let Some(until) = event.until_us else { return html! {} };
    let (top, bottom) = span(rows, event);
    let (from, to) = (scale.at(event.at_us), scale.at(until));
    html! { rect class={ "window " (event_class(event.kind)) } x=(round(from)) y=(round(top)) width=(round(to - from)) height=(round(bottom - top)) {} }
}

fn event_mark(scale: &Scale, rows: &[Row], event: &TimelineEvent) -> Markup {
    let (top, bottom) = span(rows, event);
    let x = round(scale.at(event.at_us));
    let class = event_class(event.kind);
    let words = format!("{} {} at {}", event.name, event.text, moment(event.at_us));
    html! {
        g {
            title { (words.trim()) }
            line class={ "event " (class) } x1=(x) x2=(x) y1=(round(top + 2.0)) y2=(round(bottom - 2.0)) {}
            path class={ "mark " (class) } d={ "M" (round(x - 6.0)) " " (round(top + 2.0)) "h12l-6 10z" } {}
            text x=(round(x + 8.0)) y=(round(top + 12.0)) { (event.name) }
        }
    }
}

fn bar(scale: &Scale, row: &Row, number: usize, call: &TimelineCall) -> Markup {
    let from = scale.at(call.start_us);
    let to = call.end_us.map_or(scale.end(), |end| scale.at(end)).max(from + 4.0);
    let width = to - from;
    // An estimate of the width of text at this size.
    let fits = |text: &str| text.chars().count() as f64 * 6.1 + 8.0 < width;
    let full = format!("{number} {}", call.call);
    let text = [full.clone(), number.to_string()].into_iter().find(|text| fits(text));
    html! {
        g {
            title { (full) ": " (call.answer) " (" (end_words(call)) ")" @for fault in &call.faults { ", met by " (fault) } }
            rect class=(call_class(call)) x=(round(from)) y=(round(row.y + 7.0)) width=(round(width)) height="20" rx="4" {}
            @if let Some(text) = text { text x=(round(from + 5.0)) y=(round(row.y + 21.0)) { (text) } }
        }
    }
}

/// One line of the table: a call or an event.
enum Line<'t> {
    Call(usize, &'t TimelineCall),
    Event(&'t TimelineEvent),
}

impl Line<'_> {
    fn at(&self) -> u64 {
        match self {
            Line::Call(_, call) => call.start_us,
            Line::Event(event) => event.at_us,
        }
    }
}

fn table(timeline: &Timeline, calls: &[&TimelineCall]) -> Markup {
    let mut lines: Vec<Line<'_>> = calls.iter().enumerate().map(|(at, call)| Line::Call(at + 1, call)).collect();
    lines.extend(timeline.events.iter().map(Line::Event));
    lines.sort_by_key(Line::at);
    html! {
        table {
            thead { tr {
                th.n scope="col" { "No." } th.n scope="col" { "From" } th.n scope="col" { "To" } th scope="col" { "Where" }
                th scope="col" { "What" } th scope="col" { "Answer" }
            } }
            tbody { @for line in &lines { @match line {
                Line::Call(number, call) => tr.wrong[call.wrong] {
                    td.n { (number) } td.n { (moment(call.start_us)) }
                    td.n { @if let Some(end) = call.end_us { (moment(end)) } @else { "never" } }
                    td { (call.process) }
                    td { code { (call.call) } @if !call.faults.is_empty() { small { "met by " (call.faults.join(", ")) } } }
                    td { (call.answer) small { (end_words(call)) @if call.wrong { "; " b { "cannot be explained" } } } }
                },
                Line::Event(event) => tr {
                    td.n { "" } td.n { (moment(event.at_us)) } td.n { @if let Some(until) = event.until_us { (moment(until)) } }
                    td { (event.process.as_deref().or(event.host.as_deref()).unwrap_or("server")) }
                    td colspan="2" { b { (event.name) } " " (event.text) }
                },
            } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(process: &str, start_us: u64, end_us: Option<u64>) -> TimelineCall {
        TimelineCall { host: "host-a".into(), process: process.into(), call: "get k".into(), start_us, end_us, ..TimelineCall::default() }
    }

    #[test]
    fn places_keep_the_order_of_moments_however_far_apart_they_are() {
        let calls = vec![call("p", 0, Some(1)), call("p", 2, Some(60_000_000)), call("p", 60_000_001, Some(60_000_090))];
        let timeline = Timeline { calls, ..Timeline::default() };
        let scale = Scale::new(&timeline);
        let places: Vec<f64> = scale.places.values().copied().collect();
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 7.0), "{places:?}");
        assert!(scale.width < 400.0, "a minute of waiting is pressed together: {}", scale.width);
    }

    #[test]
    fn calls_that_overlap_never_share_a_row() {
        let calls = [call("a.1", 0, Some(10)), call("a.1", 5, None), call("a.1", 12, Some(13)), call("a.2", 0, Some(1))];
        let calls: Vec<&TimelineCall> = calls.iter().collect();
        let rows = rows(&calls, &[]);
        let found: Vec<(&str, Vec<usize>)> = rows.iter().map(|row| (row.label(), row.calls.clone())).collect();
        assert_eq!(found, [("host-a", vec![]), ("a.1", vec![0, 2]), ("a.1", vec![1]), ("a.2", vec![3])]);
    }

    #[test]
    fn a_call_without_an_end_reaches_the_end_of_the_drawing() {
        let timeline = Timeline { calls: vec![call("p", 0, None), call("p", 0, Some(9))], ..Timeline::default() };
        let drawn = drawing(&timeline, &ordered(&timeline)).into_string();
        let scale = Scale::new(&timeline);
        assert!(drawn.contains(&format!("width=\"{}\"", round(scale.end() - LEFT))), "{drawn}");
    }

    #[test]
    fn an_event_of_a_process_without_calls_is_shown_at_its_host() {
        let event = TimelineEvent { host: Some("host-a".into()), process: Some("gone".into()), ..TimelineEvent::default() };
        let calls = [call("p", 0, Some(1))];
        let calls: Vec<&TimelineCall> = calls.iter().collect();
        let rows = rows(&calls, std::slice::from_ref(&event));
        assert_eq!(span(&rows, &event), (AXIS, AXIS + HEAD));
    }
}
