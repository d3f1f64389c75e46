//! Is there an order? The search that decides whether calls on one subject can have taken effect one at a time, each at a
//! moment between its beginning and its end.
//!
//! Depth first, as Wing and Gong and then Lowe do it: what can come next is every call that began before the first of the
//! others ended. States that were tried are remembered, and the number of them is bounded: beyond the bound the answer is
//! [`Found::Unknown`], which is no pass.
//!
//! A call whose end is not known (*open*) may take effect at any time after its beginning, or never. Nothing waits for it, so it is
//! tried only where no other call can come next: delaying it changes nothing but what it makes possible. Open calls that do
//! the same are of one *class*, of which the one that began first stands for all.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use xxhash_rust::xxh3::xxh3_128;

/// What an object does.
pub trait Model {
    /// All that it remembers.
    type State: Clone + Eq + Hash;
    /// One call on it with its answer, or without one if it is open.
    type Step;

    /// How it begins.
    fn start(&self) -> Self::State;

    /// The state after a call; `None` if the call cannot come here with this answer.
    fn step(&self, state: &Self::State, event: &Event<Self::Step>) -> Option<Self::State>;

    /// The state as bytes, for remembering.
    fn encode(&self, state: &Self::State, out: &mut Vec<u8>);
}

/// A call in time.
#[derive(Clone, Debug)]
pub struct Event<S> {
    /// When it began.
    pub start: u64,
    /// When it ended; `u64::MAX` for an open one.
    pub end: u64,
    /// What it did.
    pub step: S,
    /// Which open calls do the same as this one.
    pub class: u64,
    /// What is tried first where several can come next.
    pub rank: u64,
    /// Which call of the history it is.
    pub call: usize,
}

impl<S> Event<S> {
    fn is_open(&self) -> bool {
        self.end == u64::MAX
    }
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is an order.
    Order,
    /// There is none. The longest beginning of one that was found, and the calls (of the history) of which none can come next.
    None {
        /// Calls that were ordered.
        reached: usize,
        /// Of the others those that were due.
        stuck: Vec<usize>,
    },
    /// Too many states.
    Unknown,
}

/// One place in the search.
struct Frame<T> {
    done: Vec<u64>,
    first: usize,
    count: usize,
    used: Vec<u32>,
    state: T,
    /// What can come next, the best last. Open calls by their class, after the closed ones.
    next: Vec<Choice>,
}

#[derive(Clone, Copy)]
enum Choice {
    Closed(usize),
    Open(usize),
}

/// The events, sorted for the search.
struct Board<'e, S> {
    closed: Vec<&'e Event<S>>,
    /// By class, by beginning.
    open: Vec<Vec<&'e Event<S>>>,
}

impl<S> Board<'_, S> {
    fn is_done(done: &[u64], at: usize) -> bool {
        done[at / 64] >> (at % 64) & 1 == 1
    }

    /// What may come next, by time alone.
    fn due(&self, done: &[u64], first: usize, used: &[u32]) -> (Vec<usize>, Vec<usize>) {
        let mut soonest = u64::MAX;
        let mut window = Vec::new();
        for at in first..self.closed.len() {
            if Self::is_done(done, at) {
                continue;
            }
            if self.closed[at].start > soonest {
                break;
            }
            soonest = soonest.min(self.closed[at].end);
            window.push(at);
        }
        window.retain(|&at| self.closed[at].start <= soonest);
        let begun = |class: &usize| self.open[*class].get(used[*class] as usize).is_some_and(|event| event.start <= soonest);
        let open = if soonest == u64::MAX { Vec::new() } else { (0..self.open.len()).filter(begun).collect() };
        (window, open)
    }

    fn choices(&self, done: &[u64], first: usize, used: &[u32]) -> Vec<Choice> {
        let (mut window, open) = self.due(done, first, used);
        window.sort_by_key(|&at| std::cmp::Reverse((self.closed[at].rank, self.closed[at].end)));
        open.into_iter().rev().map(Choice::Open).chain(window.into_iter().map(Choice::Closed)).collect()
    }
}

/// Searches an order of the events; `limit` bounds the states that are tried.
pub fn search<M: Model>(model: &M, events: &[Event<M::Step>], limit: usize) -> Found {
    let mut closed: Vec<&Event<M::Step>> = events.iter().filter(|event| !event.is_open()).collect();
    closed.sort_by_key(|event| (event.start, event.end));
    let mut classes: BTreeMap<u64, Vec<&Event<M::Step>>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.is_open()) {
        classes.entry(event.class).or_default().push(event);
    }
    let mut open: Vec<Vec<&Event<M::Step>>> = classes.into_values().collect();
    open.iter_mut().for_each(|class| class.sort_by_key(|event| event.start));
    let board = Board { closed, open };
    let done = vec![0; board.closed.len().div_ceil(64)];
    let used = vec![0; board.open.len()];
    let next = board.choices(&done, 0, &used);
    let mut stack = vec![Frame { done, first: 0, count: 0, used, state: model.start(), next }];
    let mut seen: HashSet<u128> = HashSet::new();
    let mut best = (0, board.due(&stack[0].done, 0, &stack[0].used).0);
    let mut bytes = Vec::new();
    while let Some(frame) = stack.last_mut() {
        if frame.count == board.closed.len() {
            return Found::Order;
        }
        let Some(choice) = frame.next.pop() else {
            stack.pop();
            continue;
        };
        let event = match choice {
            Choice::Closed(at) => board.closed[at],
            Choice::Open(class) => board.open[class][frame.used[class] as usize],
        };
        let Some(state) = model.step(&frame.state, event) else { continue };
        let (mut done, mut used, mut count, mut first) = (frame.done.clone(), frame.used.clone(), frame.count, frame.first);
        match choice {
            Choice::Closed(at) => {
                done[at / 64] |= 1 << (at % 64);
                count += 1;
                while first < board.closed.len() && Board::<M::Step>::is_done(&done, first) {
                    first += 1;
                }
            }
            // An open call that changes nothing here helps nobody here.
            Choice::Open(_) if state == frame.state => continue,
            Choice::Open(class) => used[class] += 1,
        }
        bytes.clear();
        // Everything before the first that is not done is done.
        bytes.extend_from_slice(&(first as u64).to_le_bytes());
        done[(first / 64).min(done.len())..].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        used.iter().for_each(|count| bytes.extend_from_slice(&count.to_le_bytes()));
        model.encode(&state, &mut bytes);
        if !seen.insert(xxh3_128(&bytes)) {
            continue;
        }
        if seen.len() > limit {
            return Found::Unknown;
        }
        if count > best.0 {
            best = (count, board.due(&done, first, &used).0);
        }
        let next = board.choices(&done, first, &used);
        stack.push(Frame { done, first, count, used, state, next });
    }
    Found::None { reached: best.0, stuck: best.1.into_iter().map(|at| board.closed[at].call).collect() }
}
