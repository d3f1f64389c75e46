//! A run in words: what was wrong, which call showed it on which host, what else was called and what happened around it, what a sound cache
//! may answer instead, what to read about the faults, and how to see it again.

use std::collections::BTreeSet;

use reports::{CallEnd, Finding, RunInfo, Timeline, TimelineCall, TimelineEvent};

use crate::check::Violation;
use crate::describe;
use crate::drive::catalogue;
use crate::engine::Engine;
use crate::replay::Replay;
use crate::runner::Run;

/// Lines of a timeline, of which the last are the most telling.
const LINES_MAX: usize = 40;

/// The explanation of a run. `again` is the command that plays it again.
#[must_use]
pub fn explain(plan: &Replay, engine: &Engine, run: &Run, again: &str) -> String {
    let (scenario, found) = (&plan.scenario, Ok(run.clone()));
    let info = describe::describe(scenario, engine, plan.seed, plan.front, &found);
    let mut text = String::new();
    text += &format!("{} with {}, seed {}: {}\n", scenario.title, engine.title, plan.seed, verdict(&info));
    text += &format!("{}\n", wrap(&scenario.story, ""));
    let size = describe::size(scenario, &run.calls);
    text += &format!(
        "{} hosts with {} processes each on {}; {} calls; {} faults and events planned.\n",
        scenario.hosts, scenario.procs, scenario.profile, size.operations, size.faults
    );
    let mut kinds = BTreeSet::new();
    let first: Vec<&Violation> =
        describe::gravest_first(&run.violations).into_iter().filter(|violation| kinds.insert(violation.wrong)).collect();
    for (number, violation) in first.into_iter().enumerate() {
        let finding = describe::finding(violation, &run.calls);
        text += &format!("\n{}. {}", number + 1, said(&finding));
        let timeline = describe::timeline(scenario, run, violation, plan.front);
        text += &around(&timeline);
    }
    text += &to_read(&info, run);
    text += &format!("\nSee it again:\n   {again}\n");
    text
}

fn verdict(info: &RunInfo) -> String {
    if info.damage.is_empty() {
        return info.error.clone().unwrap_or_else(|| "nothing is wrong".to_owned());
    }
    let kinds: Vec<String> = info.damage.iter().map(|damage| format!("{} {}x", damage.what, damage.count)).collect();
    kinds.join(", ")
}

fn said(finding: &Finding) -> String {
    let mut text = finding.what.clone();
    if !finding.subject.is_empty() {
        text += &format!(": {}", finding.subject);
    }
    text.push('\n');
    if !finding.expected.is_empty() {
        text += &format!("   expected  {}\n", wrap(&finding.expected, "             "));
    }
    text += &format!("   observed  {}\n", wrap(&finding.observed, "             "));
    let who = [&finding.process, &finding.host].into_iter().find(|name| !name.is_empty());
    if let (Some(who), Some(at)) = (who, finding.at_us.filter(|at| *at != u64::MAX)) {
        text += &format!("   by        {who}, {}\n", moment(at));
    }
    text
}

fn moment(at_us: u64) -> String {
    format!("{:.3} s", at_us as f64 / 1e6)
}

/// Calls and events in one order of time. Of too many lines the last are shown, and before them those that say most.
fn around(timeline: &Timeline) -> String {
    let about = if timeline.subject.is_empty() { "everything".to_owned() } else { timeline.subject.clone() };
    let says_much = |call: &TimelineCall| call.wrong || call.end != CallEnd::Ok || !call.faults.is_empty();
    let mut lines: Vec<(u64, bool, String)> = timeline.calls.iter().map(|call| (call.start_us, says_much(call), call_line(call))).collect();
    lines.extend(timeline.events.iter().map(|event| (event.at_us, true, event_line(event))));
    lines.sort_by_key(|line| line.0);
    let mut text = format!("   What was asked and what happened ({about}; time in seconds, > marks what cannot be explained):\n");
    let last = lines.len().saturating_sub(LINES_MAX / 2);
    let mut room = LINES_MAX / 2;
    let mut shown: Vec<bool> = vec![true; lines.len()];
    for at in (0..last).rev() {
        shown[at] = (lines[at].1 || lines.len() <= LINES_MAX || at < 3) && room > 0;
        room -= usize::from(shown[at]);
    }
    let mut skipped = 0;
    for ((_, _, line), shown) in lines.iter().zip(shown) {
        if !shown {
            skipped += 1;
            continue;
        }
        if skipped > 0 {
            text += &format!("     ... {skipped} more\n");
            skipped = 0;
        }
        text += line;
    }
    text
}

fn call_line(call: &TimelineCall) -> String {
    let took = call.end_us.map_or_else(String::new, |end| format!(" after {:.1} ms", (end.saturating_sub(call.start_us)) as f64 / 1e3));
    let mark = if call.wrong { '>' } else { ' ' };
    let faults = if call.faults.is_empty() { String::new() } else { format!(" [met {}]", call.faults.join(" ")) };
    let took = if call.end == CallEnd::Hung { String::new() } else { took };
    let at = call.start_us as f64 / 1e6;
    format!("   {mark} {at:>9.4}  {:<14} {:<34} -> {}{took}{faults}\n", call.process, call.call, call.answer)
}

fn event_line(event: &TimelineEvent) -> String {
    let whose = event.process.as_ref().or(event.host.as_ref()).map_or("the server", String::as_str);
    format!("   ! {:>9.4}  {whose:<14} {}\n", event.at_us as f64 / 1e6, event.text)
}

/// What is known about the faults that could be seen in the run.
fn to_read(info: &RunInfo, run: &Run) -> String {
    let met: BTreeSet<&str> = run.calls.iter().flat_map(|call| call.faults.iter().map(String::as_str)).collect();
    let seen = info.faults.iter().filter(|row| row.operation.is_empty() && row.observable > 0).map(|row| row.name.as_str());
    let names: BTreeSet<&str> = met.into_iter().chain(seen).collect();
    let entries: Vec<_> = catalogue::CATALOGUE.iter().filter(|entry| names.contains(entry.id)).collect();
    let mut text = String::new();
    if !entries.is_empty() {
        text += "\nWhat the drive did meanwhile (`harness faults NAME` says more):\n";
    }
    for entry in entries {
        let row = info.faults.iter().find(|row| row.name == entry.id && row.operation.is_empty());
        let count = row.map_or(0, |row| row.observable);
        let keeps = if entry.keeps.is_empty() { "nothing".to_owned() } else { keeps(entry.keeps) };
        text += &format!("   {:<4} {}, seen {count} times: {}\n", entry.id, entry.name, wrap(&entry.meaning.replace('`', ""), "        "));
        text += &format!("        A program may still rely on: {keeps}\n");
    }
    text
}

/// The letters of guarantees in words.
fn keeps(letters: &str) -> String {
    let word = |letter: char| match letter {
        'D' => "what was synced and closed survives",
        'O' => "another host sees it after its next open",
        'A' => "a rename replaces at once",
        'L' => "a lock excludes other hosts",
        'X' => "an answer tells the truth",
        _ => "calls end in bounded time",
    };
    letters.chars().map(word).collect::<Vec<_>>().join("; ")
}

/// Breaks long text into lines that begin with `indent`.
fn wrap(text: &str, indent: &str) -> String {
    const WIDTH: usize = 110;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.len() - 1;
        if !lines[line].is_empty() && indent.len() + lines[line].len() + 1 + word.len() > WIDTH {
            lines.push(word.to_owned());
        } else {
            let space = if lines[line].is_empty() { "" } else { " " };
            lines[line] += &format!("{space}{word}");
        }
    }
    lines.join(&format!("\n{indent}"))
}
