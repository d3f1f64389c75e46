//! What a run says in a report: its verdict, what is wrong, the calls and events around it, and the line that plays it again.

use std::collections::{BTreeMap, BTreeSet};

use reports::{CallEnd, Damage, EventKind, FaultRow, Finding, PlanInfo, PlanSize, RunInfo, Timeline, TimelineCall, TimelineEvent, Verdict};

use crate::check::{Violation, Wrong};
use crate::control::Command;
use crate::drive::{FaultCount, Happened, Stage, catalogue};
use crate::engine::Engine;
use crate::history::{Answer, Call, KILLED, Op, Outcome, Read};
use crate::runner::Run;
use crate::scenario::{Action, Blow, Event, Front, Scenario};

/// Findings that are told one by one.
const FINDINGS_MAX: usize = 20;
/// Calls of a timeline.
const CALLS_MAX: usize = 60;
/// Events of a timeline.
const EVENTS_MAX: usize = 40;

/// The command that plays a run of an engine that this program knows again.
#[must_use]
pub fn replay_command(scenario: &str, engine: &str, seed: u64, front: Front) -> String {
    replay_line(scenario, &format!("--engine {engine}"), seed, front)
}

/// Shell words: a scenario's name has none that need quoting.
fn replay_line(scenario: &str, engine: &str, seed: u64, front: Front) -> String {
    let front = match front {
        Front::Sim => " --front sim",
        Front::Fuse => "",
    };
    format!("./ci/validate replay --scenario {scenario} {engine} --seed {seed}{front}")
}

/// The same of any engine.
fn replay_of(scenario: &str, engine: &Engine, seed: u64, front: Front) -> String {
    match &engine.command {
        Some(command) => replay_line(scenario, &format!("--engine-command {}", quoted(command)), seed, front),
        None => replay_command(scenario, &engine.name, seed, front),
    }
}

/// One word of a shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Violations by kind, with the first of each.
#[must_use]
pub fn damage(violations: &[Violation]) -> Vec<Damage> {
    let mut kinds: BTreeMap<Wrong, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        kinds.entry(violation.wrong).or_default().push(violation);
    }
    kinds
        .into_iter()
        .map(|(wrong, all)| Damage {
            what: wrong.title().to_owned(),
            count: all.len() as u64,
            examples: all.iter().take(3).map(|violation| violation.detail.clone()).collect(),
        })
        .collect()
}

/// The verdict of a run: what was not decided, or was played without its faults, is not known to be sound.
#[must_use]
pub fn verdict(violations: &[Violation], unobserved: &[String]) -> Verdict {
    if violations.iter().any(|violation| violation.wrong != Wrong::Unknown) {
        Verdict::Damaged
    } else if violations.is_empty() && unobserved.is_empty() {
        Verdict::Sound
    } else {
        Verdict::Unknown
    }
}

/// What a run says in a report.
#[must_use]
pub fn describe(scenario: &Scenario, engine: &Engine, seed: u64, front: Front, run: &Result<Run, String>) -> RunInfo {
    let mut info = RunInfo {
        scenario: scenario.name.clone(),
        engine: engine.name.clone(),
        seed,
        verdict: Verdict::NotRun,
        replay: replay_of(&scenario.name, engine, seed, front),
        front: match front {
            Front::Sim => "process",
            Front::Fuse => "fuse",
        }
        .to_owned(),
        ..RunInfo::default()
    };
    let run = match run {
        Ok(run) => run,
        Err(why) => {
            info.error = Some(why.clone());
            return info;
        }
    };
    info.verdict = verdict(&run.violations, &run.unobserved);
    if !run.unobserved.is_empty() {
        info.error = Some(format!("nobody could notice {}, which the scenario is about", run.unobserved.join(", ")));
    }
    info.damage = damage(&run.violations);
    count(&mut info, &run.calls);
    info.faults = run.stats.faults.iter().map(|(name, count)| fault_row(scenario, front, name, count)).collect();
    info.faults
        .extend(run.stats.faults_by_op.iter().flat_map(|(name, by_op)| by_op.iter().map(|(op, count)| fault_row_of(name, op, count))));
    info.faults.extend(kills(scenario, front, &run.calls));
    info.seconds = run.seconds;
    info.hash = run.marks.map(|(hash, ..)| format!("{hash:016x}"));
    let violations = gravest_first(&run.violations);
    if let Some(first) = violations.first() {
        info.findings = violations.iter().take(FINDINGS_MAX).map(|violation| finding(violation, &run.calls)).collect();
        info.timeline = Some(timeline(scenario, run, first, front));
        info.plan = Some(PlanInfo { text: scenario.to_toml(), size: size(scenario, &run.calls), ..PlanInfo::default() });
    }
    info
}

fn count(info: &mut RunInfo, calls: &[Call]) {
    for call in calls.iter().filter(|call| !call.last) {
        let of = info.operations.entry(call.op.name().to_owned()).or_default();
        match &call.outcome {
            Outcome::Ok(_) => {
                of.answered += 1;
                info.answered += 1;
                *info.by_host.entry(call.host.clone()).or_default() += 1;
            }
            Outcome::Fail(_) => {
                of.failed += 1;
                info.unanswered += 1;
            }
            _ => {
                of.open += 1;
                info.unanswered += 1;
            }
        }
    }
}

fn fault_row(scenario: &Scenario, front: Front, name: &str, count: &FaultCount) -> FaultRow {
    FaultRow {
        name: name.to_owned(),
        planned: count.planned,
        fired: count.fired,
        observable: count.observable,
        required: scenario.required(front).any(|required| required == name),
        ..FaultRow::default()
    }
}

/// U5 as the scenario's events cause it, where the drive does not count: it is seen by calls that it cuts off.
fn kills(scenario: &Scenario, front: Front, calls: &[Call]) -> Option<FaultRow> {
    let end_ms = (scenario.seconds * 1e3) as u64;
    let times = |event: &Event| match event.every_ms {
        Some(every) if every > 0 && event.at_ms < end_ms => (end_ms - event.at_ms).div_ceil(every),
        _ => u64::from(event.at_ms < end_ms),
    };
    let is_kill = |event: &&Event| matches!(event.action, Action::Blow(Blow::Kill { .. } | Blow::KillOne | Blow::PowerCut { .. }));
    let fired: u64 = scenario.events.iter().filter(is_kill).map(times).sum();
    let cut_off = calls.iter().filter(|call| !call.last && matches!(&call.outcome, Outcome::Info(why) if why == KILLED)).count() as u64;
    let required = scenario.required(front).any(|required| required == "U5");
    (fired > 0).then(|| FaultRow {
        name: "U5".to_owned(),
        planned: fired,
        fired,
        observable: cut_off.min(fired),
        required,
        ..FaultRow::default()
    })
}

/// The same on one kind of request.
fn fault_row_of(name: &str, op: &str, count: &FaultCount) -> FaultRow {
    FaultRow {
        name: name.to_owned(),
        operation: op.to_owned(),
        planned: count.planned,
        fired: count.fired,
        observable: count.observable,
        required: false,
    }
}

/// How big a plan is.
#[must_use]
pub fn size(scenario: &Scenario, calls: &[Call]) -> PlanSize {
    let faults = scenario.faults.len() + scenario.events.len() + scenario.local_locks.len();
    PlanSize { hosts: scenario.hosts as u64, operations: calls.iter().filter(|call| !call.last).count() as u64, faults: faults as u64 }
}

/// One of each kind of wrong, the gravest first; then all others as they showed.
#[must_use]
pub fn gravest_first(violations: &[Violation]) -> Vec<&Violation> {
    let mut kinds = BTreeSet::new();
    let (mut first, others): (Vec<&Violation>, Vec<&Violation>) = violations.iter().partition(|violation| kinds.insert(violation.wrong));
    first.sort_by_key(|violation| violation.wrong);
    first.extend(others);
    first
}

/// What is wrong, and who was told so.
#[must_use]
pub fn finding(violation: &Violation, calls: &[Call]) -> Finding {
    let call = calls.iter().find(|call| call.end == violation.at && call.op.subject().unwrap_or_default() == violation.subject);
    // The reasons say both in one sentence.
    let (observed, expected) = match violation.detail.split_once(", but ") {
        Some((observed, acknowledged)) => (observed, format!("{}: {acknowledged}", expected(violation.wrong))),
        None => (violation.detail.as_str(), expected(violation.wrong).to_owned()),
    };
    Finding {
        what: violation.wrong.title().to_owned(),
        subject: violation.subject.clone(),
        expected,
        observed: observed.to_owned(),
        host: call.map(|call| call.host.clone()).unwrap_or_default(),
        process: call.map(|call| call.process.clone()).unwrap_or_default(),
        at_us: Some(violation.at),
    }
}

/// What a sound cache may do where something is wrong.
fn expected(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Lost => "what was acknowledged last",
        Wrong::Stale => "what was acknowledged before the read began, or something newer",
        Wrong::Torn => "nothing, or a whole value that somebody wrote under this very key",
        Wrong::Expired => "nothing any more",
        Wrong::Counter => "each acknowledged addition counted once, and each number given to one caller only",
        Wrong::Twice => "only one caller is told so, and it takes effect once",
        Wrong::Half => "all keys of a batch as one writer set them, or none of them",
        Wrong::Order => "answers that at least one order of the calls explains",
        Wrong::Silent => "an error, or a finding of the cache's own check, that says that something is lost",
        Wrong::Hung => "an answer or an error by the deadline",
        Wrong::Crashed => "an answer or an error, and a process that lives",
        Wrong::Groundless => "an answer: nothing is wrong with the drive",
        Wrong::Unreadable => "a cache that opens and answers, since nothing is wrong any more",
        Wrong::Malformed => "a check that finds no damage",
        Wrong::NoProgress => "at least one answered operation on each host",
        Wrong::Leaked => "no files that nobody needs",
        Wrong::Size => "the size that the files have",
        Wrong::Wrote => "no change on the drive",
        Wrong::Unknown => "a history that can be decided",
    }
}

/// The calls on the subject of a violation, the last of them up to it, and what happened meanwhile.
#[must_use]
pub fn timeline(scenario: &Scenario, run: &Run, about: &Violation, front: Front) -> Timeline {
    let concerns = |call: &&Call| about.subject.is_empty() || call.op.subject() == Some(&about.subject) || matches!(call.op, Op::Open);
    let all: Vec<&Call> = run.calls.iter().filter(concerns).filter(|call| call.start <= about.at).collect();
    let calls = most_telling(all, about);
    let left_out = run.calls.len().saturating_sub(calls.len()) as u64;
    let from = calls.first().map_or(0, |call| call.start);
    let shown = |call: &&Call| TimelineCall {
        host: call.host.clone(),
        process: call.process.clone(),
        call: say_op(&call.op),
        answer: say_outcome(&call.outcome),
        end: match call.outcome {
            Outcome::Ok(_) => CallEnd::Ok,
            Outcome::Fail(_) => CallEnd::Fail,
            Outcome::Info(_) => CallEnd::Info,
            Outcome::Hung => CallEnd::Hung,
            Outcome::Crashed(_) => CallEnd::Crashed,
        },
        start_us: call.start,
        end_us: (!matches!(call.outcome, Outcome::Hung)).then_some(call.end),
        wrong: call.end == about.at,
        faults: call.faults.clone(),
    };
    Timeline {
        subject: about.subject.clone(),
        virtual_time: front == Front::Sim,
        calls: calls.iter().map(shown).collect(),
        events: events(scenario, run, from, about.at),
        left_out,
    }
}

/// Of too many calls those that the violation names, then those that did not end well or met faults, then the last.
fn most_telling<'c>(calls: Vec<&'c Call>, about: &Violation) -> Vec<&'c Call> {
    if calls.len() <= CALLS_MAX {
        return calls;
    }
    let rank = |call: &Call| {
        if call.end == about.at || names(about, call) {
            0
        } else if call.answer().is_none() {
            1
        } else {
            2 + u8::from(call.faults.is_empty())
        }
    };
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|&at| (rank(calls[at]), std::cmp::Reverse(at)));
    // The last ones say what the key was like when it showed.
    let last = calls.len() - CALLS_MAX / 3;
    let mut kept: Vec<usize> = order.into_iter().filter(|at| *at < last).take(CALLS_MAX - CALLS_MAX / 3).chain(last..calls.len()).collect();
    kept.sort_unstable();
    kept.into_iter().map(|at| calls[at]).collect()
}

/// Whether a violation speaks of what a call wrote.
fn names(about: &Violation, call: &Call) -> bool {
    let (Op::Set { seq, .. } | Op::Add { seq, .. } | Op::Push { seq, .. } | Op::Batch { seq, .. }) = &call.op else { return false };
    let name = format!("{seq} of {}", call.process);
    about.detail.match_indices(&name).any(|(at, _)| {
        let (before, after) = (&about.detail[..at], &about.detail[at + name.len()..]);
        !before.ends_with(|c: char| c.is_ascii_digit()) && !after.starts_with(|c: char| c.is_ascii_digit() || c == '.')
    })
}

/// What happened between two times, by the scenario's events and by the drive's log: of too much the last.
fn events(scenario: &Scenario, run: &Run, from: u64, to: u64) -> Vec<TimelineEvent> {
    let end = run.began_us + (scenario.seconds * 1e6) as u64;
    let mut all: Vec<TimelineEvent> = Vec::new();
    for event in &scenario.events {
        let (host, kind, text) = say_action(&event.action);
        let mut at = run.began_us + event.at_ms * 1000;
        while at <= to.min(end) {
            if at >= from {
                all.push(TimelineEvent { at_us: at, host: host.clone(), kind, text: text.clone(), ..TimelineEvent::default() });
            }
            match event.every_ms {
                Some(every) if every > 0 => at += every * 1000,
                _ => break,
            }
        }
    }
    let fired = run.faults.iter().filter(|it| it.stage == Stage::Fired && it.plan.is_some() && (from..=to).contains(&it.at_us));
    all.extend(fired.map(fault_event));
    if end > from && end < to {
        let text = "everything works again, and each host reads back".to_owned();
        all.push(TimelineEvent { at_us: end, kind: EventKind::Heal, text, ..TimelineEvent::default() });
    }
    all.sort_by_key(|event| event.at_us);
    all.drain(..all.len().saturating_sub(EVENTS_MAX));
    all
}

/// A fault that met a request.
fn fault_event(it: &Happened) -> TimelineEvent {
    let title = catalogue::find(&it.id).map_or("", |entry| entry.name).replace('-', " ");
    let request = it.op.map_or_else(String::new, |op| format!(" on {} {}", op.name(), it.path));
    TimelineEvent {
        at_us: it.at_us,
        host: Some(it.host.clone()).filter(|host| !host.is_empty()),
        kind: EventKind::Fault,
        name: it.id.clone(),
        text: format!("{} {title}{request}", it.id),
        ..TimelineEvent::default()
    }
}

fn say_action(action: &Action) -> (Option<String>, EventKind, String) {
    match action {
        Action::Blow(Blow::Kill { host }) => (host.clone(), EventKind::Kill, "its processes are killed".to_owned()),
        Action::Blow(Blow::KillOne) => (None, EventKind::Kill, "one process is killed".to_owned()),
        Action::Blow(Blow::Pause { host, ms }) => (Some(host.clone()), EventKind::Other, format!("its processes stop for {ms} ms")),
        Action::Blow(Blow::PauseOne { ms }) => (None, EventKind::Other, format!("one process stops for {ms} ms")),
        Action::Blow(Blow::PowerCut { host }) => (Some(host.clone()), EventKind::PowerCut, "it loses power".to_owned()),
        Action::Blow(Blow::PowerCutAll { host, .. }) => {
            (Some(host.clone()), EventKind::PowerCut, "it and the server lose power".to_owned())
        }
        Action::Drive(command) => {
            let text = say_command(command);
            let host = serde_json::to_value(command).ok().and_then(|it| it.get("host").and_then(|host| host.as_str().map(str::to_owned)));
            let kind = match command {
                Command::Restart { .. } => EventKind::Restart,
                Command::Cut { .. } => EventKind::Partition,
                _ => EventKind::Other,
            };
            (host, kind, text)
        }
    }
}

/// What the drive is told, in a few words.
fn say_command(command: &Command) -> String {
    match command {
        Command::Restart { loss } => format!("the server restarts; of what is not stable it loses {loss}"),
        Command::Cut { ms: Some(ms), .. } => format!("it is cut off from the server for {ms} ms"),
        Command::Cut { ms: None, .. } => "it is cut off from the server".to_owned(),
        Command::ExpireLease { .. } => "the server forgets its locks".to_owned(),
        Command::LocalLocks { .. } => "its locks exclude no other host from now on".to_owned(),
        Command::Space { free: Some(bytes) } => format!("{bytes} bytes are free on the drive"),
        Command::Space { free: None } => "there is room on the drive again".to_owned(),
        Command::Fault { fault } => format!("{} begins", fault.name),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// A call in a few words.
#[must_use]
pub fn say_op(op: &Op) -> String {
    let lives = |ttl_ms: &Option<u64>| ttl_ms.map_or_else(String::new, |ms| format!(" for {ms} ms"));
    match op {
        Op::Set { key, seq, ttl_ms, .. } => format!("set {key} = {seq}{}", lives(ttl_ms)),
        Op::Add { key, seq, ttl_ms, .. } => format!("add {key} = {seq}{}", lives(ttl_ms)),
        Op::Touch { key, ttl_ms } => format!("touch {key}{}", lives(ttl_ms)),
        Op::Get { key } | Op::ReadCounter { key } => format!("get {key}"),
        Op::Pop { key } => format!("pop {key}"),
        Op::Delete { key } => format!("delete {key}"),
        Op::Incr { key, delta } => format!("incr {key} by {delta}"),
        Op::Push { queue, seq, .. } => format!("push {queue} {seq}"),
        Op::Pull { queue } => format!("pull {queue}"),
        Op::Batch { keys, seq, .. } => format!("set {} keys from {} = {seq}", keys.len(), keys.first().map_or("", String::as_str)),
        Op::GetBatch { keys } => format!("get {} keys from {}", keys.len(), keys.first().map_or("", String::as_str)),
        Op::Open | Op::Check | Op::Count | Op::Close => op.name().to_owned(),
    }
}

fn say_read(read: &Read) -> String {
    match read {
        Read::Miss => "nothing".to_owned(),
        Read::Value { writer, seq } => format!("{seq} of {writer}"),
        Read::Damage(what) => format!("damage: {what}"),
    }
}

/// An outcome in a few words.
#[must_use]
pub fn say_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(Answer::Done(true)) => "ok".to_owned(),
        Outcome::Ok(Answer::Done(false)) => "no".to_owned(),
        Outcome::Ok(Answer::Read(read)) => say_read(read),
        Outcome::Ok(Answer::Reads(reads)) => reads.iter().map(say_read).collect::<Vec<_>>().join("; "),
        Outcome::Ok(Answer::Number(number)) => number.map_or_else(|| "nothing".to_owned(), |number| number.to_string()),
        Outcome::Ok(Answer::Findings(findings)) => format!("{} findings", findings.len()),
        Outcome::Fail(error) => format!("failed: {error:.80}"),
        Outcome::Info(error) if error == KILLED => "killed".to_owned(),
        Outcome::Info(error) => format!("unknown: {error:.80}"),
        Outcome::Crashed(how) => format!("crashed: {how:.80}"),
        Outcome::Hung => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(wrong: Wrong, at: u64, detail: &str) -> Violation {
        Violation { wrong, detail: detail.to_owned(), subject: "k".to_owned(), at }
    }

    #[test]
    fn the_gravest_is_told_first_and_no_kind_is_left_out() {
        let all =
            [violation(Wrong::Hung, 1, ""), violation(Wrong::Hung, 2, ""), violation(Wrong::Lost, 3, ""), violation(Wrong::Stale, 4, "")];
        let told: Vec<u64> = gravest_first(&all).iter().map(|violation| violation.at).collect();
        assert_eq!(told, [3, 4, 1, 2]);
    }

    #[test]
    fn kills_are_counted_as_often_as_they_happen() {
        let scenario = Scenario::built_in().unwrap().into_iter().find(|scenario| scenario.name == "kill").unwrap();
        let row = kills(&scenario, Front::Fuse, &[]).unwrap();
        assert_eq!((row.planned, row.fired, row.observable), (8, 8, 0), "at 0.7, 1.4 ... 5.6 s of 6");
    }

    #[test]
    fn what_was_expected_is_told_from_what_was_observed() {
        let found = finding(&violation(Wrong::Lost, 3, "k: b read nothing, but value 7 of a was acknowledged 9 ms before"), &[]);
        assert_eq!(found.observed, "k: b read nothing");
        assert_eq!(found.expected, "what was acknowledged last: value 7 of a was acknowledged 9 ms before");
        assert!(!finding(&violation(Wrong::Hung, 3, "no answer"), &[]).expected.is_empty());
    }

    #[test]
    fn of_too_many_calls_those_are_shown_that_the_violation_names() {
        let call = |seq: u64| Call {
            host: "a".to_owned(),
            process: "a.0.1".to_owned(),
            op: Op::Push { queue: "k".to_owned(), seq, size: 1 },
            start: seq * 10,
            end: seq * 10 + 5,
            wall: (0, 0),
            outcome: Outcome::Ok(Answer::Done(true)),
            faults: Vec::new(),
            last: false,
        };
        let calls: Vec<Call> = (0..500).map(call).collect();
        let about = violation(Wrong::Lost, 4995, "k: 1 acknowledged items are gone, among them item 17 of a.0.1");
        let shown: Vec<u64> = most_telling(calls.iter().collect(), &about).iter().map(|call| call.start / 10).collect();
        assert_eq!(shown.len(), CALLS_MAX);
        assert!(shown.contains(&17) && shown.contains(&499) && !shown.contains(&1), "{shown:?}");
    }
}
