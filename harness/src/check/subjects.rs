//! Takes a history apart into keys, counters, queues and batches, and searches each.

use std::collections::{BTreeMap, BTreeSet};

use super::linear::{Event, Found, Model, search};
use super::models::{Counter, CounterStep, Key, KeyStep, Queue, QueueStep, Window};
use super::{Rules, Violation, Wrong};
use crate::history::{Answer, Call, Op, Read};

/// The class of open calls that take away whatever there is.
const TAKES: u64 = 0;

/// The class of an open call that does what no other does.
fn alone(call: usize) -> u64 {
    // Deltas are small numbers, calls are few: the upper half is free.
    (1 << 63) | call as u64
}

/// The calls on one subject, by their place in the history.
type Calls<'h> = Vec<(usize, &'h Call)>;

/// Searches every subject that no reason speaks of already.
pub(super) fn search_all(calls: &[Call], rules: &Rules, known: &BTreeSet<String>) -> Vec<Violation> {
    let mut subjects: BTreeMap<&str, Calls<'_>> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        if let Some(subject) = call.op.subject().filter(|subject| !known.contains(*subject)) {
            subjects.entry(subject).or_default().push((at, call));
        }
    }
    let mut found = Vec::new();
    for (subject, of) in subjects {
        // A batch's keys are damaged one by one, and the batch is called by its first.
        let torn = of.iter().any(|(_, call)| match &call.op {
            Op::GetBatch { keys } | Op::Batch { keys, .. } => keys.iter().any(|key| known.contains(key)),
            _ => false,
        });
        if !torn {
            found.extend(search_one(subject, &of, calls, rules));
        }
    }
    found
}

fn search_one(subject: &str, of: &Calls<'_>, calls: &[Call], rules: &Rules) -> Option<Violation> {
    let (_, first) = of.first()?;
    let answer = match &first.op {
        Op::Incr { .. } | Op::ReadCounter { .. } => decide(&Counter, &counter_events(of, rules), rules),
        Op::Push { .. } | Op::Pull { .. } => {
            let (queue, events) = queue_events(of);
            decide(&queue, &events, rules)
        }
        _ => decide(&Key, &key_events(of, rules), rules),
    };
    let name = |at: &usize| format!("{} by {}", calls[*at].op.name(), calls[*at].process);
    match answer {
        Found::Order => None,
        Found::None { reached, stuck } => {
            let at = stuck.iter().map(|&at| calls[at].end).max().unwrap_or(0);
            let stuck: Vec<String> = stuck.iter().take(4).map(name).collect();
            let detail =
                format!("{subject}: {reached} of {} calls have an order, and then none of these can come: {}", of.len(), stuck.join(", "));
            Some(Violation { wrong: Wrong::Order, detail, subject: subject.to_owned(), at })
        }
        Found::Unknown => {
            let detail = format!("{subject}: more than {} states for {} calls", rules.states_max, of.len());
            Some(Violation { wrong: Wrong::Unknown, detail, subject: subject.to_owned(), at: 0 })
        }
    }
}

fn decide<M: Model>(model: &M, events: &[Event<M::Step>], rules: &Rules) -> Found {
    search(model, events, rules.states_max)
}

/// When a read began as far as its answer is concerned: where reads may be old, earlier, but after what its own process did last.
fn read_start(call: &Call, of: &Calls<'_>, rules: &Rules) -> u64 {
    if rules.stale_us == 0 {
        return call.start;
    }
    let own = |other: &&Call| other.process == call.process && other.end <= call.start;
    let last_own = of.iter().map(|(_, other)| *other).filter(own).map(|other| other.end).max().unwrap_or(0);
    // What ends when another begins may have come after it.
    rules.read_start(call).max(last_own + 1)
}

fn key_events(of: &Calls<'_>, rules: &Rules) -> Vec<Event<KeyStep>> {
    // A value is named by the call that wrote it.
    let mut writes: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for (at, call) in of {
        if let Op::Set { seq, .. } | Op::Add { seq, .. } | Op::Batch { seq, .. } = &call.op {
            writes.insert((&call.process, *seq), *at as u64);
        }
    }
    // What nobody wrote is a finding of its own; here it is a value that never comes.
    let value = |read: &Read| match read {
        Read::Value { writer, seq } => Some(writes.get(&(writer.as_str(), *seq)).copied().unwrap_or(u64::MAX)),
        Read::Miss | Read::Damage(_) => None,
    };
    let event = |(at, call): &(usize, &Call)| {
        let window = |ttl_ms: Option<u64>| ttl_ms.map_or(Window::NEVER, |ms| rules.window(call, ms * 1000));
        let (own, open) = (*at as u64, call.is_ambiguous());
        let done = match call.answer() {
            Some(Answer::Done(done)) => Some(*done),
            _ => None,
        };
        let (step, class, reads) = match (&call.op, call.answer()) {
            (_, None) if !open => return None,
            (Op::Set { ttl_ms, .. }, _) => (KeyStep::Set(own, window(*ttl_ms)), alone(*at), false),
            (Op::Batch { .. }, _) => (KeyStep::Set(own, Window::NEVER), alone(*at), false),
            (Op::Add { ttl_ms, .. }, _) => (KeyStep::Add(own, window(*ttl_ms), done), alone(*at), false),
            (Op::Touch { ttl_ms, .. }, _) => (KeyStep::Touch(window(*ttl_ms), done), alone(*at), false),
            (Op::Delete { .. }, _) => (KeyStep::Delete(done), TAKES, false),
            (Op::Pop { .. }, Some(Answer::Read(read))) => (KeyStep::Pop(Some(value(read))), TAKES, false),
            (Op::Pop { .. }, None) => (KeyStep::Pop(None), TAKES, false),
            (Op::Get { .. }, Some(Answer::Read(read))) => (KeyStep::Get(value(read)), TAKES, true),
            (Op::GetBatch { .. }, Some(Answer::Reads(reads))) if !reads.is_empty() => (KeyStep::Get(value(&reads[0])), TAKES, true),
            _ => return None,
        };
        let start = if reads { read_start(call, of, rules) } else { call.start };
        Some(Event { start, end: call.effect_end(), step, class, rank: 0, call: *at })
    };
    of.iter().filter_map(event).collect()
}

fn counter_events(of: &Calls<'_>, rules: &Rules) -> Vec<Event<CounterStep>> {
    let event = |(at, call): &(usize, &Call)| {
        let (step, class, start) = match (&call.op, call.answer()) {
            (Op::Incr { delta, .. }, Some(Answer::Number(number))) => (CounterStep::Incr(*delta, *number), 0, call.start),
            (Op::Incr { delta, .. }, None) if call.is_ambiguous() => (CounterStep::Incr(*delta, None), delta.cast_unsigned(), call.start),
            (Op::ReadCounter { .. }, Some(Answer::Number(number))) => (CounterStep::Read(*number), 0, read_start(call, of, rules)),
            _ => return None,
        };
        Some(Event { start, end: call.effect_end(), step, class, rank: 0, call: *at })
    };
    of.iter().filter_map(event).collect()
}

/// An item of a queue: when the call that put it, and the one that took it, began and ended.
#[derive(Clone, Copy)]
struct Item {
    call: usize,
    push: (u64, u64),
    pull: (u64, u64),
}

impl Item {
    /// Whether this one was put, or taken, before the other was: first in, first out, so it stood before it.
    fn is_before(&self, other: &Item) -> bool {
        self.push.1 < other.push.0 || self.pull.1 < other.pull.0
    }
}

/// Returns for the call that put each item what place the item had in the queue, as far as beginnings and ends say: an order in which nothing
/// stands before what it must follow (Kahn's algorithm). Where there is none the search will find that out.
fn places(items: &[Item]) -> BTreeMap<usize, u64> {
    let mut left: Vec<usize> = (0..items.len()).collect();
    let mut waits: Vec<usize> =
        items.iter().map(|item| items.iter().filter(|other| other.call != item.call && other.is_before(item)).count()).collect();
    let mut places = BTreeMap::new();
    while let Some(best) = (0..left.len()).min_by_key(|&at| (waits[left[at]], items[left[at]].pull.1, items[left[at]].push.1)) {
        let item = items[left.swap_remove(best)];
        left.iter().filter(|&&other| item.is_before(&items[other])).for_each(|&other| waits[other] = waits[other].saturating_sub(1));
        places.insert(item.call, places.len() as u64);
    }
    places
}

fn queue_events(of: &Calls<'_>) -> (Queue, Vec<Event<QueueStep>>) {
    let mut pulled: BTreeMap<(&str, u64), (u64, u64)> = BTreeMap::new();
    for (_, call) in of {
        if let (Op::Pull { .. }, Some(Answer::Read(Read::Value { writer, seq }))) = (&call.op, call.answer()) {
            pulled.insert((writer, *seq), (call.start, call.end));
        }
    }
    let (mut items, mut unseen, mut pulls) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for (at, call) in of {
        if let Op::Push { seq, .. } = &call.op {
            items.insert((call.process.as_str(), *seq), *at as u64);
            match pulled.get(&(call.process.as_str(), *seq)) {
                Some(when) => drop(pulls.insert(*at as u64, *when)),
                None => unseen.push(*at as u64),
            }
        }
    }
    // Who was killed while it took something took items that nobody else did, likely in the order of both.
    let mut taken: Vec<u64> =
        of.iter().filter(|(_, call)| matches!(call.op, Op::Pull { .. }) && call.is_ambiguous()).map(|(_, call)| call.start).collect();
    taken.sort_unstable_by(|a, b| b.cmp(a));
    let mut stood: Vec<Item> = Vec::new();
    let mut pushes: Vec<(usize, &Call)> = of.iter().filter(|(_, call)| matches!(call.op, Op::Push { .. })).copied().collect();
    pushes.sort_by_key(|(_, call)| call.effect_end());
    for (at, call) in pushes {
        let pull = match pulls.get(&(at as u64)) {
            Some(when) => *when,
            None if call.is_ambiguous() => continue,
            None => (taken.pop().unwrap_or(u64::MAX), u64::MAX),
        };
        stood.push(Item { call: at, push: (call.start, call.effect_end().min(pull.1)), pull });
    }
    let places = places(&stood);
    let event = |(at, call): &(usize, &Call)| {
        let (step, class, rank) = match (&call.op, call.answer()) {
            (Op::Push { seq, .. }, answer) if answer.is_some() || call.is_ambiguous() => {
                // Of an open push whose item nobody saw it is enough that it may not have come.
                if answer.is_none() && !pulls.contains_key(&(*at as u64)) {
                    return None;
                }
                (QueueStep::Push(*at as u64), alone(*at), places.get(at).copied().unwrap_or(u64::MAX))
            }
            (Op::Pull { .. }, Some(Answer::Read(Read::Value { writer, seq }))) => {
                (QueueStep::Pull(Some(items.get(&(writer.as_str(), *seq)).copied().unwrap_or(u64::MAX))), TAKES, 0)
            }
            (Op::Pull { .. }, Some(Answer::Read(Read::Miss))) => (QueueStep::Pull(None), TAKES, 0),
            (Op::Pull { .. }, None) if call.is_ambiguous() => (QueueStep::PullUnseen, TAKES, 0),
            _ => return None,
        };
        // An item that somebody took was there by then, however its call ended.
        let end = pulls.get(&(*at as u64)).map_or(call.effect_end(), |(_, end)| call.effect_end().min(*end));
        Some(Event { start: call.start, end, step, class, rank, call: *at })
    };
    let events = of.iter().filter_map(event).collect();
    (Queue { unseen, pulls }, events)
}
