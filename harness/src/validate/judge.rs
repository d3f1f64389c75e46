//! What a real mount adds to the checks of histories: deadlines to the second, errors of a type that callers can expect, and
//! processes that work again by themselves after a fault.

use std::time::Duration;

use crate::check::{Violation, Wrong};
use crate::history::{Call, Op, Outcome};

/// How much later than its deadline a call may end while the drive fails, on a machine that does other things as well: also where the kernel
/// waits for a server that does not answer.
const GRACE: Duration = Duration::from_secs(1);
/// The same where nothing is wrong with the drive, and only a machine that is busy makes calls late.
const GRACE_BUSY: Duration = Duration::from_secs(3);
/// What opening a cache may take, however short its timeout is.
const OPEN_TIME: Duration = Duration::from_secs(2);

/// What a caller of ours can catch when the drive fails. Anything else is a fault of the engine.
const TYPED: &[&str] = &[
    "Timeout",
    "OutcomeUnknown",
    "CacheError",
    "OSError",
    "BlockingIOError",
    "ConnectionError",
    "ConnectionAbortedError",
    "ConnectionResetError",
    "FileExistsError",
    "FileNotFoundError",
    "InterruptedError",
    "NotADirectoryError",
    "PermissionError",
    "BrokenPipeError",
    "TimeoutError",
];

/// Another host wrote while a transaction ran: nothing happened, and the caller runs it again. That is no failure of the drive.
const CONFLICT: &str = "TransactionConflict";

/// When what happened, in microseconds since the run began.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// When a host stood still.
    pub paused: Option<(String, u64, u64)>,
    /// When the fault was.
    pub fault: Option<(u64, u64)>,
    /// When everybody was at work, while nothing was wrong with the drive, and in how many parts of it each host must get on.
    pub work: Option<((u64, u64), u64)>,
}

fn name_of_error(text: &str) -> &str {
    text.split_once(':').map_or(text, |(name, _)| name)
}

fn at(call: &Call) -> String {
    format!("{} by {} on {} at {:.1} s", call.op.name(), call.process, call.host, call.start as f64 / 1e6)
}

impl Times {
    /// Whether the call's process stood still in it.
    fn excuses(&self, call: &Call) -> bool {
        self.paused.as_ref().is_some_and(|(host, from, to)| call.host == *host && call.start < *to && call.end > *from)
    }
}

/// Calls that ended too late. Those of a host that stood still meanwhile are excused.
pub(super) fn late(calls: &[Call], timeout: Duration, faulty: bool, times: &Times) -> Vec<Violation> {
    let grace = if faulty { GRACE } else { GRACE_BUSY };
    let limit = |call: &Call| if matches!(call.op, Op::Open) { timeout.max(OPEN_TIME) } else { timeout };
    let longest = |call: &Call| u64::try_from((limit(call) + grace).as_micros()).unwrap_or(u64::MAX);
    calls
        .iter()
        .filter(|call| !call.last && !matches!(call.outcome, Outcome::Hung | Outcome::Crashed(_)))
        .filter(|call| call.end - call.start > longest(call) && !times.excuses(call))
        .map(|call| {
            let (took, limit) = ((call.end - call.start) as f64 / 1e6, limit(call).as_secs_f64());
            Violation::of_run(Wrong::Hung, format!("{}: took {took:.1} s, with a timeout of {limit} s", at(call)))
        })
        .collect()
}

/// Errors that nobody can expect: where nothing is wrong with the drive, all but conflicts; else those of no known type.
pub(super) fn errors(calls: &[Call], faulty: bool, times: &Times) -> Vec<Violation> {
    let error = |call: &Call| match &call.outcome {
        Outcome::Fail(text) | Outcome::Info(text) if !call.last && text != "killed" => Some(text.clone()),
        _ => None,
    };
    let mut found = Vec::new();
    for (call, text) in calls.iter().filter_map(|call| Some((call, error(call)?))) {
        let excused = faulty || times.excuses(call);
        let name = name_of_error(&text);
        if name == CONFLICT || (excused && TYPED.contains(&name)) {
            continue;
        }
        let why = if excused { "an error that callers cannot expect" } else { "an error with nothing wrong" };
        found.push(Violation::of_run(Wrong::Unreadable, format!("{}: {why}: {text}", at(call))));
    }
    found
}

fn writes(call: &Call) -> bool {
    matches!(call.op, Op::Set { .. } | Op::Incr { .. } | Op::Add { .. } | Op::Push { .. } | Op::Batch { .. })
}

/// Hosts that had no write acknowledged in some of the equal parts of a time in which the drive works.
pub(super) fn starved(calls: &[Call], hosts: &[String], span: (u64, u64), parts: u64) -> Vec<Violation> {
    let length = (span.1 - span.0) / parts;
    let mut found = Vec::new();
    for host in hosts {
        for part in 0..parts {
            let from = span.0 + part * length;
            let mine = |call: &&Call| call.host == *host && !call.last && writes(call) && call.answer().is_some();
            if !calls.iter().filter(mine).any(|call| (from..=from + length).contains(&call.end)) {
                let (from, to) = (from as f64 / 1e6, (from + length) as f64 / 1e6);
                let detail = format!("{host}: no write was acknowledged from {from:.1} to {to:.1} s");
                found.push(Violation::of_run(Wrong::NoProgress, detail));
            }
        }
    }
    found
}

/// How long after the fault each process that had been there before it wrote again; nothing for those that did not.
pub(super) fn recoveries(calls: &[Call], processes: &[(String, String)], fault: (u64, u64)) -> Vec<(String, Option<f64>)> {
    let again = |host: &str, process: &str| {
        calls
            .iter()
            .filter(|call| call.host == host && call.process == process && writes(call))
            .filter(|call| call.start >= fault.1 && call.answer().is_some())
            .map(|call| (call.end - fault.1) as f64 / 1e6)
            .min_by(f64::total_cmp)
    };
    processes.iter().map(|(host, process)| (process.clone(), again(host, process))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Answer;

    fn call(start: u64, end: u64, outcome: Outcome) -> Call {
        let op = Op::Incr { key: "count/0".to_owned(), delta: 1 };
        let (host, process) = ("a".to_owned(), "a.1".to_owned());
        Call { host, process, op, start, end, wall: (start, end), outcome, faults: Vec::new(), last: false }
    }

    #[test]
    fn a_call_that_ends_after_its_deadline_is_wrong_unless_its_host_stood_still() {
        let ok = Outcome::Ok(Answer::Number(Some(1)));
        let calls = [call(0, 6_100_000, ok.clone()), call(0, 5_900_000, ok)];
        let timeout = Duration::from_secs(5);
        assert_eq!(late(&calls, timeout, true, &Times::default()).len(), 1);
        assert!(late(&calls, timeout, false, &Times::default()).is_empty(), "a busy machine");
        let open = |end: u64| [Call { op: Op::Open, ..call(0, end, Outcome::Ok(Answer::Done(true))) }];
        let short = Duration::from_millis(50);
        assert!(late(&open(2_900_000), short, true, &Times::default()).is_empty(), "opening has two seconds");
        assert_eq!(late(&open(3_100_000), short, true, &Times::default()).len(), 1);
        let paused = Some(("a".to_owned(), 1_000_000, 5_000_000));
        assert!(late(&calls, timeout, true, &Times { paused, ..Times::default() }).is_empty());
    }

    #[test]
    fn an_error_of_no_known_type_is_wrong_also_during_a_fault() {
        let calls = [call(0, 1, Outcome::Info("Timeout: x".to_owned())), call(0, 1, Outcome::Info("PanicException: x".to_owned()))];
        let none = Times::default();
        assert_eq!(errors(&calls, true, &none).len(), 1);
        assert_eq!(errors(&calls, false, &none).len(), 2);
        let paused = Some(("a".to_owned(), 0, 5));
        assert_eq!(errors(&calls, false, &Times { paused, ..Times::default() }).len(), 1, "a host that stood still may be too late");
        for fine in ["killed", "TransactionConflict: x"] {
            assert!(errors(&[call(0, 1, Outcome::Info(fine.to_owned()))], false, &none).is_empty(), "{fine}");
        }
    }

    #[test]
    fn a_host_without_a_write_in_a_third_of_the_time_starves() {
        let ok = Outcome::Ok(Answer::Number(Some(1)));
        let calls = [call(0, 5, ok.clone()), call(0, 35, ok.clone()), call(0, 65, ok)];
        let hosts = ["a".to_owned(), "b".to_owned()];
        assert!(starved(&calls, &hosts[..1], (0, 90), 3).is_empty());
        assert_eq!(starved(&calls, &hosts[1..], (0, 90), 3).len(), 3);
        assert_eq!(starved(&calls[..2], &hosts[..1], (0, 90), 3).len(), 1);
    }

    #[test]
    fn a_process_recovers_when_a_write_that_began_after_the_fault_is_acknowledged() {
        let ok = Outcome::Ok(Answer::Number(Some(1)));
        let mine = [("a".to_owned(), "a.1".to_owned())];
        // The first was under way when the fault ended.
        let calls = [call(1, 30, ok.clone()), call(40, 2_000_020, ok)];
        assert_eq!(recoveries(&calls[..1], &mine, (10, 20)), [("a.1".to_owned(), None)]);
        assert_eq!(recoveries(&calls, &mine, (10, 20)), [("a.1".to_owned(), Some(2.0))]);
    }
}
