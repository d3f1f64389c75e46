//! The objects that a cache is made of, as [`linear::Model`]s: a key (also a group of keys that are only ever set together), a
//! counter, a queue.

use super::linear::{Event, Model};
use std::collections::BTreeMap;

/// When an entry leaves by itself, at the earliest and at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// From then on it may be gone.
    pub from: u64,
    /// After that it must be.
    pub until: u64,
}

impl Window {
    /// It stays.
    pub const NEVER: Window = Window { from: u64::MAX, until: u64::MAX };

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.until.to_le_bytes());
    }
}

/// What a call did to a key, with its answer; `None` is an answer that nobody got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// Stored a value.
    Set(u64, Window),
    /// Stored it if there was none; whether there was none.
    Add(u64, Window, Option<bool>),
    /// Gave the value another time to live; whether there was one.
    Touch(Window, Option<bool>),
    /// Removed it; whether there was one.
    Delete(Option<bool>),
    /// Read it, or found none.
    Get(Option<u64>),
    /// Took it, or found none. Without an answer: took whatever there was.
    Pop(Option<Option<u64>>),
}

/// A key. Values are numbers that are used once.
#[derive(Clone, Copy, Debug)]
pub struct Key;

type Entry = Option<(u64, Window)>;

/// Whether a call can have found an entry.
fn alive(entry: &Entry, event: &Event<KeyStep>) -> bool {
    entry.is_some_and(|(_, window)| event.start <= window.until)
}

/// Whether a call can have found none.
fn absent(entry: &Entry, event: &Event<KeyStep>) -> bool {
    entry.is_none_or(|(_, window)| event.end >= window.from)
}

impl Model for Key {
    type State = Entry;
    type Step = KeyStep;

    fn start(&self) -> Entry {
        None
    }

    fn step(&self, state: &Entry, event: &Event<KeyStep>) -> Option<Entry> {
        let is = |value: u64| alive(state, event) && state.is_some_and(|(found, _)| found == value);
        match event.step {
            KeyStep::Set(value, window) => Some(Some((value, window))),
            KeyStep::Add(value, window, Some(true) | None) => absent(state, event).then_some(Some((value, window))),
            // What was found gone by one clock may be there by another: it stays as it is.
            KeyStep::Add(_, _, Some(false)) => alive(state, event).then_some(*state),
            KeyStep::Touch(window, Some(true) | None) => alive(state, event).then(|| state.map(|(value, _)| (value, window))),
            KeyStep::Delete(Some(true) | None) => alive(state, event).then_some(None),
            KeyStep::Touch(_, Some(false)) | KeyStep::Delete(Some(false)) | KeyStep::Get(None) | KeyStep::Pop(Some(None)) => {
                absent(state, event).then_some(*state)
            }
            KeyStep::Get(Some(value)) => is(value).then_some(*state),
            KeyStep::Pop(Some(Some(value))) => is(value).then_some(None),
            KeyStep::Pop(None) => alive(state, event).then_some(None),
        }
    }

    fn encode(&self, state: &Entry, out: &mut Vec<u8>) {
        if let Some((value, window)) = state {
            out.extend_from_slice(&value.to_le_bytes());
            window.put(out);
        }
    }
}

/// What a call did to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterStep {
    /// Added so much; the sum that was answered, if one was.
    Incr(i64, Option<i64>),
    /// Read it.
    Read(Option<i64>),
}

/// A counter, absent at first and then counted from 0.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

impl Model for Counter {
    type State = Option<i64>;
    type Step = CounterStep;

    fn start(&self) -> Option<i64> {
        None
    }

    fn step(&self, state: &Option<i64>, event: &Event<CounterStep>) -> Option<Option<i64>> {
        match event.step {
            CounterStep::Incr(delta, answer) => {
                let sum = state.unwrap_or(0) + delta;
                answer.is_none_or(|answer| answer == sum).then_some(Some(sum))
            }
            CounterStep::Read(found) => (found == *state).then_some(*state),
        }
    }

    fn encode(&self, state: &Option<i64>, out: &mut Vec<u8>) {
        if let Some(sum) = state {
            out.extend_from_slice(&sum.to_le_bytes());
        }
    }
}

/// What a call did to a queue. Items are numbers that are used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueStep {
    /// Put an item at the back.
    Push(u64),
    /// Took the item at the front, or found none.
    Pull(Option<u64>),
    /// Took whatever was at the front, and nobody was told what. Only an item that no other call ever took can have been it.
    PullUnseen,
}

/// A queue, first in first out.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// The items that no call was told of, ascending.
    pub unseen: Vec<u64>,
    /// When the calls began and ended that were told of the others.
    pub pulls: BTreeMap<u64, (u64, u64)>,
}

impl Queue {
    /// Returns whether an item cannot come right after all of `before`: it was taken before the taking of one of them began. (It would be found
    /// out when that is to be taken, after everything in between was tried in every order.)
    fn is_too_late(&self, item: u64, before: &[u64]) -> bool {
        let Some((_, end)) = self.pulls.get(&item) else { return false };
        before.iter().any(|other| self.pulls.get(other).is_some_and(|(start, _)| end < start))
    }
}

impl Model for Queue {
    type State = Vec<u64>;
    type Step = QueueStep;

    fn start(&self) -> Vec<u64> {
        Vec::new()
    }

    fn step(&self, state: &Vec<u64>, event: &Event<QueueStep>) -> Option<Vec<u64>> {
        let front = state.first();
        match event.step {
            QueueStep::Push(item) if self.is_too_late(item, state) => None,
            QueueStep::Push(item) => {
                let mut longer = state.clone();
                longer.push(item);
                Some(longer)
            }
            QueueStep::Pull(None) => front.is_none().then(Vec::new),
            QueueStep::Pull(Some(item)) => (front == Some(&item)).then(|| state[1..].to_vec()),
            QueueStep::PullUnseen => front.filter(|item| self.unseen.binary_search(item).is_ok()).map(|_| state[1..].to_vec()),
        }
    }

    fn encode(&self, state: &Vec<u64>, out: &mut Vec<u8>) {
        state.iter().for_each(|item| out.extend_from_slice(&item.to_le_bytes()));
    }
}
