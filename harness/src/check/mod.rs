//! The verdict on a history.
//!
//! * [`linear`] searches, for each key, counter and queue by itself, an order of its calls that explains every answer; that a call
//!   without a certain answer stays possible for ever is part of it. [`models`] says what the objects do.
//! * [`reasons`] finds what can be told in a sentence: an acknowledged value lost, bytes that nobody wrote, a counter that does not add up.
//! * [`ends`] looks at how calls ended: by their deadline, with errors that the drive gave, each host getting on, and with nothing wrong any
//!   more everything working.
//!
//! What the drive does not promise is no fault of the engine, so a run has [`Rules`]: how far clocks may differ, how old a read may be, whether
//! the drive keeps what it acknowledged. Where it does not, data may be lost, but not in silence.

mod ends;
pub mod linear;
pub mod models;
mod reasons;
mod subjects;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::history::{Answer, Call, Op, Outcome};
use models::Window;

/// Time is rounded to milliseconds on the way to an engine and back.
const ROUNDING_US: u64 = 2_000;

/// What kind of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// An acknowledged write is gone.
    Lost,
    /// Bytes that nobody wrote.
    Torn,
    /// A read that is older than what was acknowledged before it began.
    Stale,
    /// A value that should have expired.
    Expired,
    /// A counter that does not add up.
    Counter,
    /// An operation that took effect twice, or for two callers.
    Twice,
    /// A batch seen in part.
    Half,
    /// Answers that no order of the calls explains.
    Order,
    /// Data lost on a drive that loses data, and nothing said so.
    Silent,
    /// No answer by the deadline.
    Hung,
    /// A process that died by itself.
    Crashed,
    /// An error that nothing caused.
    Groundless,
    /// A cache that does not open, or answers errors with nothing wrong any more.
    Unreadable,
    /// A cache whose own check says that it is damaged.
    Malformed,
    /// A host that got nothing done.
    NoProgress,
    /// Files that nobody needs and nobody removes.
    Leaked,
    /// An accounted size that is not that of the files.
    Size,
    /// A write by a cache that was opened read-only.
    Wrote,
    /// Too many orders to try: nothing is known.
    Unknown,
}

impl Wrong {
    /// All kinds.
    pub const ALL: [Wrong; 19] = [
        Wrong::Lost,
        Wrong::Torn,
        Wrong::Stale,
        Wrong::Expired,
        Wrong::Counter,
        Wrong::Twice,
        Wrong::Half,
        Wrong::Order,
        Wrong::Silent,
        Wrong::Hung,
        Wrong::Crashed,
        Wrong::Groundless,
        Wrong::Unreadable,
        Wrong::Malformed,
        Wrong::NoProgress,
        Wrong::Leaked,
        Wrong::Size,
        Wrong::Wrote,
        Wrong::Unknown,
    ];

    /// In words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Wrong::Lost => "acknowledged data lost",
            Wrong::Torn => "torn or foreign value",
            Wrong::Stale => "stale read",
            Wrong::Expired => "expired value read",
            Wrong::Counter => "counter wrong",
            Wrong::Twice => "took effect twice",
            Wrong::Half => "batch seen in part",
            Wrong::Order => "no order explains the answers",
            Wrong::Silent => "loss not detected",
            Wrong::Hung => "hung",
            Wrong::Crashed => "process crashed",
            Wrong::Groundless => "error without a cause",
            Wrong::Unreadable => "unreadable afterwards",
            Wrong::Malformed => "database malformed",
            Wrong::NoProgress => "host made no progress",
            Wrong::Leaked => "files left behind",
            Wrong::Size => "size accounted wrongly",
            Wrong::Wrote => "read-only cache wrote",
            Wrong::Unknown => "not decided",
        }
    }

    /// Whether it says that data is not what was acknowledged: what a drive that loses data may cause, if it is noticed.
    fn is_loss(self) -> bool {
        matches!(self, Wrong::Lost | Wrong::Stale | Wrong::Counter | Wrong::Twice | Wrong::Order | Wrong::Half | Wrong::Malformed)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// What kind.
    pub wrong: Wrong,
    /// What exactly: key, who read, what was expected.
    pub detail: String,
    /// The key, counter, queue or batch; empty where it is about none.
    pub subject: String,
    /// When it showed, in microseconds of the run.
    pub at: u64,
}

impl Violation {
    /// One that is about no key, and that showed when the run was over.
    #[must_use]
    pub fn of_run(wrong: Wrong, detail: String) -> Violation {
        Violation { wrong, detail, subject: String::new(), at: u64::MAX }
    }
}

/// What counts as wrong in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The hosts that work; each must get something done.
    pub hosts: Vec<String>,
    /// How far two hosts' clocks may be apart, in microseconds.
    pub skew_us: u64,
    /// How old a read may be, in microseconds: 0 where the drive shows what others wrote (O).
    pub stale_us: u64,
    /// Whether the drive keeps what it acknowledged (D). Otherwise losses must be noticed, not more.
    pub keeps: bool,
    /// Nothing goes wrong, so no call may fail.
    pub quiet: bool,
    /// A call that takes longer hung, in microseconds.
    pub longest_us: u64,
    /// The same with nothing wrong any more.
    pub healed_us: u64,
    /// Whether an engine may say that it could not in time, though nothing is wrong (many processes wait for each other).
    pub may_time_out: bool,
    /// States that the search tries for one subject.
    pub states_max: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            hosts: Vec::new(),
            skew_us: 0,
            stale_us: 0,
            keeps: true,
            quiet: false,
            longest_us: u64::MAX,
            healed_us: u64::MAX,
            may_time_out: true,
            states_max: 2_000_000,
        }
    }
}

impl Rules {
    /// When what a call stored leaves by itself.
    fn window(&self, call: &Call, lifetime_us: u64) -> Window {
        let slack = self.skew_us + ROUNDING_US;
        let from = (call.start + lifetime_us).saturating_sub(slack);
        Window { from, until: call.effect_end().saturating_add(lifetime_us).saturating_add(slack) }
    }

    /// From when on what was acknowledged need not show in a read.
    fn read_start(&self, call: &Call) -> u64 {
        call.start.saturating_sub(self.stale_us)
    }
}

/// Everything that is wrong with a history, sorted by time; of the same kind about the same subject only the first few.
#[must_use]
pub fn check(calls: &[Call], rules: &Rules) -> Vec<Violation> {
    let mut verdict = reasons::Verdict { calls, rules, found: Vec::new() };
    verdict.look();
    let known: BTreeSet<String> = verdict.found.iter().map(|violation| violation.subject.clone()).collect();
    let mut found = verdict.found;
    found.extend(subjects::search_all(calls, rules, &known));
    found.extend(ends::look(calls, rules));
    if !rules.keeps {
        found = excuse_losses(found, calls);
    }
    found.sort_by(|a, b| (a.at, a.wrong, &a.subject).cmp(&(b.at, b.wrong, &b.subject)));
    found
}

/// On a drive that loses data: losses are no violation if somebody said that something is damaged.
fn excuse_losses(found: Vec<Violation>, calls: &[Call]) -> Vec<Violation> {
    let (losses, mut others): (Vec<Violation>, Vec<Violation>) = found.into_iter().partition(|violation| violation.wrong.is_loss());
    let Some(first) = losses.into_iter().min_by_key(|violation| violation.at) else { return others };
    let says = |call: &Call| match &call.outcome {
        Outcome::Ok(Answer::Findings(findings)) => !findings.is_empty(),
        Outcome::Fail(error) | Outcome::Info(error) => error.to_lowercase().contains("damage") || error.contains("malformed"),
        _ => matches!(call.op, Op::Check) && matches!(call.outcome, Outcome::Crashed(_)),
    };
    if !calls.iter().any(says) {
        others.push(Violation { wrong: Wrong::Silent, ..first });
    }
    others
}

#[cfg(test)]
mod tests;
