//! How calls ended: in time, honestly, with every host getting on; and at the end, with nothing wrong any more, well.

use super::{Rules, Violation, Wrong};
use crate::history::{Answer, Call, KILLED, Op, Outcome};

/// All findings.
pub(super) fn look(calls: &[Call], rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    for call in calls {
        found.extend(end_of(call, rules).map(|(wrong, why)| violation(wrong, call, &why)));
        found.extend(duration_of(call, rules).map(|why| violation(Wrong::Hung, call, &why)));
        if let Outcome::Ok(Answer::Findings(findings)) = &call.outcome {
            for finding in findings.iter().filter(|finding| !is_untidy(finding)).take(3) {
                found.push(violation(Wrong::Malformed, call, &format!("{finding:.200}")));
            }
        }
    }
    found.extend(rules.hosts.iter().filter_map(|host| progress_of(host, calls)));
    found
}

fn violation(wrong: Wrong, call: &Call, why: &str) -> Violation {
    let detail = format!("{} by {} on {}: {why}", call.op.name(), call.process, call.host);
    Violation { wrong, detail, subject: call.op.subject().unwrap_or_default().to_owned(), at: call.end }
}

/// Files left behind and empty folders are untidy, not damage.
fn is_untidy(finding: &str) -> bool {
    finding.starts_with("unknown file") || finding.starts_with("empty directory") || finding.contains("leftover")
}

fn end_of(call: &Call, rules: &Rules) -> Option<(Wrong, String)> {
    match &call.outcome {
        Outcome::Hung => Some((Wrong::Hung, format!("no answer after {} s", (call.end - call.start) / 1_000_000))),
        Outcome::Crashed(how) => Some((Wrong::Crashed, how.clone())),
        Outcome::Info(error) if error == KILLED => None,
        Outcome::Info(error) | Outcome::Fail(error) => {
            if call.last {
                Some((Wrong::Unreadable, format!("with nothing wrong any more: {error}")))
            } else if rules.quiet && !(rules.may_time_out && is_timeout(error)) {
                Some((Wrong::Groundless, error.clone()))
            } else {
                None
            }
        }
        Outcome::Ok(_) => None,
    }
}

fn is_timeout(error: &str) -> bool {
    let error = error.to_lowercase();
    ["timeout", "timed out", "time-out", "deadline", "locked"].iter().any(|word| error.contains(word))
}

fn duration_of(call: &Call, rules: &Rules) -> Option<String> {
    let (took, limit) = (call.end - call.start, if call.last { rules.healed_us } else { rules.longest_us });
    // Whoever was killed while it waited did not wait too long.
    let killed = matches!(&call.outcome, Outcome::Info(error) if error == KILLED);
    let over = took > limit && !killed && !matches!(call.outcome, Outcome::Hung);
    over.then(|| format!("it took {:.1} s, and {:.1} s is the limit", took as f64 / 1e6, limit as f64 / 1e6))
}

fn progress_of(host: &str, calls: &[Call]) -> Option<Violation> {
    let working = |call: &&Call| call.host == host && !call.last;
    let done = calls.iter().filter(working).any(|call| call.answer().is_some() && !matches!(call.op, Op::Open | Op::Close));
    let at = calls.iter().filter(working).map(|call| call.end).max().unwrap_or(0);
    let detail = format!("{host} got nothing done");
    (!done).then(|| Violation { wrong: Wrong::NoProgress, detail, subject: String::new(), at })
}
