//! The verdict on a history.
//!
//! Everything here is a *necessary* condition on what a correct cache may answer, so a violation is never a matter of
//! opinion. A call without a certain answer stays possible for ever: it may take effect at any later time, or never.
//!
//! * A value that is read was written, under that key, and is whole.
//! * A value that is read was not overwritten (by a call that began after its writing was acknowledged, and that was acknowledged
//!   before the read began). At the end that is an acknowledged write lost; before, a stale read.
//! * A counter ends between the sum of what was acknowledged and that plus what is ambiguous; no two acknowledged increments
//!   answer the same number.
//! * Of several `add`s of one key at most one wins; a queued item is pulled at most once and does not vanish; keys that are
//!   set together are seen together.
//! * Every call ends by its deadline, no process dies by itself, the cache opens at the end without repair, its own check
//!   finds nothing damaged, and every host got something done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::history::{Answer, Call, Op, Outcome, Read};

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
    /// A counter that does not add up.
    Counter,
    /// An operation that took effect twice, or for two callers.
    Twice,
    /// A batch seen in part.
    Half,
    /// No answer by the deadline.
    Hung,
    /// A process that died by itself.
    Crashed,
    /// A cache that does not open, or answers errors with nothing wrong any more.
    Unreadable,
    /// A cache whose own check says that it is damaged.
    Malformed,
    /// A host that got nothing done.
    NoProgress,
}

impl Wrong {
    /// In words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Wrong::Lost => "acknowledged data lost",
            Wrong::Torn => "torn or foreign value",
            Wrong::Stale => "stale read",
            Wrong::Counter => "counter wrong",
            Wrong::Twice => "took effect twice",
            Wrong::Half => "batch seen in part",
            Wrong::Hung => "hung",
            Wrong::Crashed => "process crashed",
            Wrong::Unreadable => "unreadable afterwards",
            Wrong::Malformed => "database malformed",
            Wrong::NoProgress => "host made no progress",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// What kind.
    pub wrong: Wrong,
    /// What exactly: key, who read, what was expected.
    pub detail: String,
}

struct Verdict<'h> {
    calls: &'h [Call],
    found: Vec<Violation>,
}

/// Everything that is wrong with a history.
#[must_use]
pub fn check(calls: &[Call], hosts: &[String]) -> Vec<Violation> {
    let mut verdict = Verdict { calls, found: Vec::new() };
    verdict.keys();
    verdict.counters();
    verdict.adds();
    verdict.queues();
    verdict.batches();
    verdict.ends();
    verdict.progress(hosts);
    verdict.found
}

/// What a call may have left under a key, and between when and when it can have done so.
struct Effect<'h> {
    leaves: Option<(&'h str, u64)>,
    start: u64,
    end: u64,
    certain: bool,
}

/// What a call read under a key.
struct Seen<'h> {
    read: &'h Read,
    call: &'h Call,
}

fn effect<'h>(call: &'h Call, leaves: Option<(&'h str, u64)>, certain: bool) -> Effect<'h> {
    Effect { leaves, start: call.start, end: call.effect_end(), certain }
}

/// What a call does to one key, if it may do something.
fn effect_on<'h>(call: &'h Call, key: &str) -> Option<Effect<'h>> {
    let wrote = |seq| Some((call.process.as_str(), seq));
    let ambiguous = call.is_ambiguous();
    match (&call.op, call.answer()) {
        (Op::Set { key: its, seq, .. } | Op::Add { key: its, seq, .. }, answer) if its == key => match answer {
            Some(Answer::Done(true)) => Some(effect(call, wrote(*seq), true)),
            Some(_) => None,
            None => ambiguous.then(|| effect(call, wrote(*seq), false)),
        },
        (Op::Batch { keys, seq, .. }, answer) if keys.iter().any(|its| its == key) => match answer {
            Some(_) => Some(effect(call, wrote(*seq), true)),
            None => ambiguous.then(|| effect(call, wrote(*seq), false)),
        },
        (Op::Delete { key: its }, answer) if its == key => match answer {
            Some(Answer::Done(true)) => Some(effect(call, None, true)),
            Some(_) => None,
            None => ambiguous.then(|| effect(call, None, false)),
        },
        (Op::Pop { key: its }, answer) if its == key => match answer {
            Some(Answer::Read(Read::Miss)) => None,
            Some(_) => Some(effect(call, None, true)),
            None => ambiguous.then(|| effect(call, None, false)),
        },
        _ => None,
    }
}

impl<'h> Verdict<'h> {
    fn wrong(&mut self, wrong: Wrong, detail: String) {
        self.found.push(Violation { wrong, detail });
    }

    fn all_keys(&self) -> BTreeSet<&'h str> {
        let mut keys = BTreeSet::new();
        for call in self.calls {
            match &call.op {
                Op::Set { key, .. } | Op::Add { key, .. } | Op::Get { key } | Op::Pop { key } | Op::Delete { key } => {
                    keys.insert(key.as_str());
                }
                Op::Batch { keys: all, .. } | Op::GetBatch { keys: all } => keys.extend(all.iter().map(String::as_str)),
                _ => {}
            }
        }
        keys
    }

    fn keys(&mut self) {
        let mut effects: BTreeMap<&str, Vec<Effect<'h>>> = BTreeMap::new();
        let mut seen: BTreeMap<&str, Vec<Seen<'h>>> = BTreeMap::new();
        for key in self.all_keys() {
            effects.insert(key, vec![Effect { leaves: None, start: 0, end: 0, certain: true }]);
        }
        for call in self.calls {
            let keys: Vec<&'h str> = match &call.op {
                Op::Set { key, .. } | Op::Add { key, .. } | Op::Get { key } | Op::Pop { key } | Op::Delete { key } => vec![key],
                Op::Batch { keys, .. } | Op::GetBatch { keys } => keys.iter().map(String::as_str).collect(),
                _ => continue,
            };
            for (at, key) in keys.into_iter().enumerate() {
                if let Some(effect) = effect_on(call, key) {
                    effects.entry(key).or_default().push(effect);
                }
                let read = match (&call.op, call.answer()) {
                    (Op::Get { .. } | Op::Pop { .. }, Some(Answer::Read(read))) => Some(read),
                    (Op::GetBatch { .. }, Some(Answer::Reads(reads))) => reads.get(at),
                    _ => None,
                };
                if let Some(read) = read {
                    seen.entry(key).or_default().push(Seen { read, call });
                }
            }
        }
        for (key, seen) in seen {
            for seen in seen {
                self.judge(key, &seen, &effects[key]);
            }
        }
    }

    fn judge(&mut self, key: &str, seen: &Seen<'_>, effects: &[Effect<'_>]) {
        let who = format!("{key}: {} on {}", seen.call.process, seen.call.host);
        let wanted = match seen.read {
            Read::Damage(what) => return self.wrong(Wrong::Torn, format!("{who} read {what}")),
            Read::Miss => None,
            Read::Value { writer, seq } => Some((writer.as_str(), *seq)),
        };
        let what = wanted.map_or_else(|| "nothing".to_owned(), |(writer, seq)| format!("value {seq} of {writer}"));
        let mut candidates = effects.iter().filter(|it| it.leaves == wanted && it.start < seen.call.end).peekable();
        if candidates.peek().is_none() {
            return self.wrong(Wrong::Torn, format!("{who} read {what}, which nobody had written"));
        }
        // Something acknowledged before the read began, and begun after this was over, stands in its place.
        let newer = |it: &Effect<'_>| effects.iter().find(|other| other.certain && other.start > it.end && other.end < seen.call.start);
        let mut over = None;
        for candidate in candidates {
            match newer(candidate) {
                None => return,
                found => over = found,
            }
        }
        let Some(over) = over else { return };
        let expected = over.leaves.map_or_else(|| "nothing".to_owned(), |(writer, seq)| format!("value {seq} of {writer}"));
        let wrong = if seen.call.last { Wrong::Lost } else { Wrong::Stale };
        self.wrong(wrong, format!("{who} read {what}, but {expected} was acknowledged {} ms before", (seen.call.start - over.end) / 1000));
    }

    fn counters(&mut self) {
        let mut acknowledged: BTreeMap<&str, i64> = BTreeMap::new();
        let mut ambiguous: BTreeMap<&str, i64> = BTreeMap::new();
        let mut answers: BTreeMap<(&str, i64), &Call> = BTreeMap::new();
        let mut twice = Vec::new();
        for call in self.calls {
            let Op::Incr { key, delta } = &call.op else { continue };
            match call.answer() {
                Some(answer) => {
                    *acknowledged.entry(key).or_default() += delta;
                    if let Answer::Number(Some(number)) = answer
                        && let Some(other) = answers.insert((key, *number), call)
                    {
                        twice.push(format!("{key}: {} and {} were both told {number}", other.process, call.process));
                    }
                }
                None if call.is_ambiguous() => *ambiguous.entry(key).or_default() += delta,
                None => {}
            }
        }
        for detail in twice {
            self.wrong(Wrong::Counter, detail);
        }
        for call in self.calls.iter().filter(|call| call.last) {
            let Op::ReadCounter { key } = &call.op else { continue };
            let found = match call.answer() {
                Some(Answer::Number(number)) => number.unwrap_or(0),
                Some(Answer::Read(Read::Damage(what))) => {
                    self.wrong(Wrong::Torn, format!("{key}: {} read {what}", call.process));
                    continue;
                }
                _ => continue,
            };
            let least = acknowledged.get(key.as_str()).copied().unwrap_or(0);
            let most = least + ambiguous.get(key.as_str()).copied().unwrap_or(0);
            if found < least || found > most {
                let detail = format!("{key}: {} on {} read {found}; acknowledged {least}, at most {most}", call.process, call.host);
                self.wrong(Wrong::Counter, detail);
            }
        }
    }

    fn adds(&mut self) {
        let mut winners: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in self.calls {
            if let (Op::Add { key, .. }, Some(Answer::Done(true))) = (&call.op, call.answer()) {
                winners.entry(key).or_default().push(call);
            }
        }
        for (key, calls) in winners.into_iter().filter(|(_, calls)| calls.len() > 1) {
            let names: Vec<&str> = calls.iter().map(|call| call.process.as_str()).collect();
            self.wrong(Wrong::Twice, format!("{key}: added by {}", names.join(" and ")));
        }
    }

    fn queues(&mut self) {
        let mut pushed: BTreeMap<(&str, &str, u64), bool> = BTreeMap::new();
        let mut pulled: BTreeMap<(&str, &str, u64), u64> = BTreeMap::new();
        let mut taken_unseen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut drained: BTreeSet<&str> = BTreeSet::new();
        for call in self.calls {
            match (&call.op, call.answer()) {
                (Op::Push { queue, seq, .. }, answer) if answer.is_some() || call.is_ambiguous() => {
                    pushed.insert((queue, &call.process, *seq), answer.is_some());
                }
                (Op::Pull { queue }, Some(Answer::Read(Read::Value { writer, seq }))) => {
                    *pulled.entry((queue, writer, *seq)).or_default() += 1;
                }
                (Op::Pull { queue }, Some(Answer::Read(Read::Damage(what)))) => {
                    self.wrong(Wrong::Torn, format!("{queue}: {} pulled {what}", call.process));
                }
                (Op::Pull { queue }, Some(_)) if call.last => {
                    drained.insert(queue);
                }
                (Op::Pull { queue }, None) if call.is_ambiguous() => *taken_unseen.entry(queue).or_default() += 1,
                _ => {}
            }
        }
        for (item, times) in &pulled {
            let (queue, writer, seq) = item;
            if !pushed.contains_key(item) {
                self.wrong(Wrong::Torn, format!("{queue}: item {seq} of {writer} was pulled and never pushed"));
            } else if *times > 1 {
                self.wrong(Wrong::Twice, format!("{queue}: item {seq} of {writer} was pulled {times} times"));
            }
        }
        for queue in drained {
            let missing: Vec<_> = pushed.iter().filter(|(item, sure)| item.0 == queue && **sure && !pulled.contains_key(*item)).collect();
            let excused = taken_unseen.get(queue).copied().unwrap_or(0);
            if missing.len() > excused {
                let ((_, writer, seq), _) = missing[0];
                let detail = format!(
                    "{queue}: {} acknowledged items are gone ({excused} may have been pulled), among them item {seq} of {writer}",
                    missing.len()
                );
                self.wrong(Wrong::Lost, detail);
            }
        }
    }

    fn batches(&mut self) {
        for call in self.calls {
            let (Op::GetBatch { keys }, Some(Answer::Reads(reads))) = (&call.op, call.answer()) else { continue };
            let whole = reads.iter().all(|read| matches!(read, Read::Miss | Read::Value { .. }));
            if whole && reads.windows(2).any(|pair| pair[0] != pair[1]) {
                self.wrong(Wrong::Half, format!("{}...: {} on {} read {reads:?}", keys[0], call.process, call.host));
            }
        }
    }

    fn ends(&mut self) {
        for call in self.calls {
            let what = format!("{} by {} on {}", call.op.name(), call.process, call.host);
            match &call.outcome {
                Outcome::Hung => self.wrong(Wrong::Hung, format!("{what}: no answer after {} s", (call.end - call.start) / 1_000_000)),
                Outcome::Crashed(how) => self.wrong(Wrong::Crashed, format!("{what}: {how}")),
                Outcome::Info(error) | Outcome::Fail(error) if call.last => {
                    self.wrong(Wrong::Unreadable, format!("{what}, with nothing wrong any more: {error}"));
                }
                Outcome::Ok(Answer::Findings(findings)) => {
                    // Files left behind and empty folders are untidy, not damage.
                    let untidy = |finding: &str| {
                        finding.starts_with("unknown file") || finding.starts_with("empty directory") || finding.contains("leftover")
                    };
                    for finding in findings.iter().filter(|finding| !untidy(finding)).take(3) {
                        self.wrong(Wrong::Malformed, format!("{what}: {finding:.200}"));
                    }
                }
                Outcome::Ok(_) | Outcome::Info(_) | Outcome::Fail(_) => {}
            }
        }
    }

    fn progress(&mut self, hosts: &[String]) {
        for host in hosts {
            let done = self
                .calls
                .iter()
                .any(|call| call.host == *host && !call.last && call.answer().is_some() && !matches!(call.op, Op::Open | Op::Close));
            if !done {
                self.wrong(Wrong::NoProgress, format!("{host} got nothing done"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
