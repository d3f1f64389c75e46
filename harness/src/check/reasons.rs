//! Reasons that anybody can follow: what is wrong with one read, one counter, one item of a queue.
//!
//! Each is a necessary condition on what a correct cache may answer, so that a finding is never a matter of opinion. They say more than
//! the search of [`super::linear`] can (which value was lost, and when it had been acknowledged), so they speak first; what they
//! do not see, the search does.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rules, Violation, Wrong};
use crate::history::{Answer, Call, Op, Outcome, Read};

/// The findings on a history so far.
pub(super) struct Verdict<'h> {
    pub(super) calls: &'h [Call],
    pub(super) rules: &'h Rules,
    pub(super) found: Vec<Violation>,
}

/// What a call may have left under a key, and between when and when it can have done so.
struct Effect<'h> {
    leaves: Option<(&'h str, u64)>,
    start: u64,
    end: u64,
    certain: bool,
    /// What it left must be gone by then.
    until: u64,
}

/// What a call read under a key.
struct Seen<'h> {
    read: &'h Read,
    call: &'h Call,
}

fn effect<'h>(call: &'h Call, leaves: Option<(&'h str, u64)>, certain: bool) -> Effect<'h> {
    Effect { leaves, start: call.start, end: call.effect_end(), certain, until: u64::MAX }
}

/// The time to live that a call gave to a key's value, in microseconds.
fn lifetime(call: &Call) -> Option<u64> {
    match &call.op {
        Op::Set { ttl_ms, .. } | Op::Add { ttl_ms, .. } | Op::Touch { ttl_ms, .. } => ttl_ms.map(|ms| ms * 1000),
        _ => None,
    }
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
    pub(super) fn wrong(&mut self, wrong: Wrong, call: &Call, detail: String) {
        let subject = call.op.subject().unwrap_or_default().to_owned();
        self.found.push(Violation { wrong, detail, subject, at: call.end });
    }

    /// Everything that these reasons see.
    pub(super) fn look(&mut self) {
        self.keys();
        self.counters();
        self.adds();
        self.queues();
        self.batches();
    }

    fn keys(&mut self) {
        let mut effects: BTreeMap<&str, Vec<Effect<'h>>> = BTreeMap::new();
        let mut seen: BTreeMap<&str, Vec<Seen<'h>>> = BTreeMap::new();
        let mut touched: BTreeSet<&str> = BTreeSet::new();
        for call in self.calls {
            let keys: Vec<&'h str> = match &call.op {
                Op::Set { key, .. }
                | Op::Add { key, .. }
                | Op::Get { key }
                | Op::Pop { key }
                | Op::Delete { key }
                | Op::Touch { key, .. } => {
                    vec![key]
                }
                Op::Batch { keys, .. } | Op::GetBatch { keys } => keys.iter().map(String::as_str).collect(),
                _ => continue,
            };
            for (at, key) in keys.into_iter().enumerate() {
                let of_key =
                    effects.entry(key).or_insert_with(|| vec![Effect { leaves: None, start: 0, end: 0, certain: true, until: u64::MAX }]);
                of_key.extend(effect_on(call, key));
                self.expires(call, of_key);
                if matches!(call.op, Op::Touch { .. }) {
                    touched.insert(key);
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
        for key in touched {
            effects.entry(key).or_default().iter_mut().for_each(|it| it.until = u64::MAX);
        }
        for (key, seen) in seen {
            for seen in seen {
                self.judge(key, &seen, &effects[key]);
            }
        }
    }

    /// What is given a time to live is followed by nothing, some time.
    fn expires(&self, call: &Call, effects: &mut Vec<Effect<'h>>) {
        let Some(lifetime) = lifetime(call) else { return };
        if matches!(call.outcome, Outcome::Fail(_)) {
            return;
        }
        let window = self.rules.window(call, lifetime);
        if let Some(own) = effects.last_mut().filter(|it| it.leaves.is_some() && it.start == call.start) {
            own.until = window.until;
        }
        effects.push(Effect { leaves: None, start: window.from, end: u64::MAX, certain: false, until: u64::MAX });
    }

    fn judge(&mut self, key: &str, seen: &Seen<'_>, effects: &[Effect<'_>]) {
        let who = format!("{key}: {} on {}", seen.call.process, seen.call.host);
        let wanted = match seen.read {
            Read::Damage(what) => return self.wrong(Wrong::Torn, seen.call, format!("{who} read {what}")),
            Read::Miss => None,
            Read::Value { writer, seq } => Some((writer.as_str(), *seq)),
        };
        let what = wanted.map_or_else(|| "nothing".to_owned(), |(writer, seq)| format!("value {seq} of {writer}"));
        let mut candidates = effects.iter().filter(|it| it.leaves == wanted && it.start < seen.call.end).peekable();
        if candidates.peek().is_none() {
            return self.wrong(Wrong::Torn, seen.call, format!("{who} read {what}, which nobody had written"));
        }
        // Something acknowledged before the read began, and begun after this was over, stands in its place.
        let began = self.rules.read_start(seen.call);
        let newer = |it: &Effect<'_>| effects.iter().find(|other| other.certain && other.start > it.end && other.end < began);
        let (mut over, mut expired) = (None, None);
        for candidate in candidates {
            if wanted.is_some() && candidate.until < began {
                expired = Some(candidate.until);
                continue;
            }
            match newer(candidate) {
                None => return,
                found => over = found,
            }
        }
        if let Some(until) = expired {
            let late = (began - until) / 1000;
            return self.wrong(Wrong::Expired, seen.call, format!("{who} read {what}, {late} ms after it had to be gone"));
        }
        let Some(over) = over else { return };
        let expected = over.leaves.map_or_else(|| "nothing".to_owned(), |(writer, seq)| format!("value {seq} of {writer}"));
        let wrong = if seen.call.last { Wrong::Lost } else { Wrong::Stale };
        let before = (seen.call.start - over.end) / 1000;
        self.wrong(wrong, seen.call, format!("{who} read {what}, but {expected} was acknowledged {before} ms before"));
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
                        twice.push((call, format!("{key}: {} and {} were both told {number}", other.process, call.process)));
                    }
                }
                None if call.is_ambiguous() => *ambiguous.entry(key).or_default() += delta,
                None => {}
            }
        }
        for (call, detail) in twice {
            self.wrong(Wrong::Counter, call, detail);
        }
        for call in self.calls.iter().filter(|call| call.last) {
            let Op::ReadCounter { key } = &call.op else { continue };
            let found = match call.answer() {
                Some(Answer::Number(number)) => number.unwrap_or(0),
                Some(Answer::Read(Read::Damage(what))) => {
                    self.wrong(Wrong::Torn, call, format!("{key}: {} read {what}", call.process));
                    continue;
                }
                _ => continue,
            };
            let least = acknowledged.get(key.as_str()).copied().unwrap_or(0);
            let most = least + ambiguous.get(key.as_str()).copied().unwrap_or(0);
            if found < least || found > most {
                let detail = format!("{key}: {} on {} read {found}; acknowledged {least}, at most {most}", call.process, call.host);
                self.wrong(Wrong::Counter, call, detail);
            }
        }
    }

    fn adds(&mut self) {
        let mut winners: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        // Where a key can become free again, several may win one after the other: the search tells.
        let mut freed: BTreeSet<&str> = BTreeSet::new();
        for call in self.calls {
            if matches!(call.op, Op::Delete { .. } | Op::Pop { .. } | Op::Set { .. }) || lifetime(call).is_some() {
                freed.extend(call.op.subject());
            }
            if let (Op::Add { key, .. }, Some(Answer::Done(true))) = (&call.op, call.answer()) {
                winners.entry(key).or_default().push(call);
            }
        }
        for (key, calls) in winners.into_iter().filter(|(key, calls)| calls.len() > 1 && !freed.contains(key)) {
            let names: Vec<&str> = calls.iter().map(|call| call.process.as_str()).collect();
            self.wrong(Wrong::Twice, calls[1], format!("{key}: added by {}", names.join(" and ")));
        }
    }

    fn queues(&mut self) {
        let mut pushed: BTreeMap<(&str, &str, u64), bool> = BTreeMap::new();
        let mut pulled: BTreeMap<(&str, &str, u64), Vec<&'h Call>> = BTreeMap::new();
        let mut taken_unseen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut drained: BTreeMap<&str, &'h Call> = BTreeMap::new();
        for call in self.calls {
            match (&call.op, call.answer()) {
                (Op::Push { queue, seq, .. }, answer) if answer.is_some() || call.is_ambiguous() => {
                    pushed.insert((queue, &call.process, *seq), answer.is_some());
                }
                (Op::Pull { queue }, Some(Answer::Read(Read::Value { writer, seq }))) => {
                    pulled.entry((queue, writer, *seq)).or_default().push(call);
                }
                (Op::Pull { queue }, Some(Answer::Read(Read::Damage(what)))) => {
                    // Something was taken, and nobody can say what.
                    *taken_unseen.entry(queue).or_default() += 1;
                    self.wrong(Wrong::Torn, call, format!("{queue}: {} pulled {what}", call.process));
                }
                (Op::Pull { queue }, Some(_)) if call.last => {
                    drained.insert(queue, call);
                }
                (Op::Pull { queue }, None) if call.is_ambiguous() => *taken_unseen.entry(queue).or_default() += 1,
                _ => {}
            }
        }
        for (item, by) in &pulled {
            let (queue, writer, seq) = item;
            if !pushed.contains_key(item) {
                self.wrong(Wrong::Torn, by[0], format!("{queue}: item {seq} of {writer} was pulled and never pushed"));
            } else if by.len() > 1 {
                self.wrong(Wrong::Twice, by[1], format!("{queue}: item {seq} of {writer} was pulled {} times", by.len()));
            }
        }
        for (queue, call) in drained {
            let missing: Vec<_> = pushed.iter().filter(|(item, sure)| item.0 == queue && **sure && !pulled.contains_key(*item)).collect();
            let excused = taken_unseen.get(queue).copied().unwrap_or(0);
            if missing.len() > excused {
                let ((_, writer, seq), _) = missing[0];
                let detail = format!(
                    "{queue}: {} acknowledged items are gone ({excused} may have been pulled), among them item {seq} of {writer}",
                    missing.len()
                );
                self.wrong(Wrong::Lost, call, detail);
            }
        }
    }

    fn batches(&mut self) {
        for call in self.calls {
            let (Op::GetBatch { keys }, Some(Answer::Reads(reads))) = (&call.op, call.answer()) else { continue };
            let whole = reads.iter().all(|read| matches!(read, Read::Miss | Read::Value { .. }));
            if whole && reads.windows(2).any(|pair| pair[0] != pair[1]) {
                self.wrong(Wrong::Half, call, format!("{}...: {} on {} read {reads:?}", keys[0], call.process, call.host));
            }
        }
    }
}
