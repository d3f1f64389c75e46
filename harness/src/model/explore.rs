//! Breadth-first search of every state that a model can reach.
//!
//! Promise: the search visits each reachable state once, in an order that depends on nothing but the model, and what
//! it reports first is a shortest way to a violation. A state is remembered by a 128-bit fingerprint (of ten million
//! states, two share one with a chance below 10^-24), its parent and the number of the step that led to it: 22 bytes
//! and the table's slack. The trace of a violation is not stored; it is walked again from the start.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A system of states and steps, and what must hold in every state.
pub trait Model {
    /// One state of the whole system.
    type State: Clone + Hash;
    /// What happened between two states, in words.
    type Step: Display;

    /// Returns the state in which everything begins.
    fn start(&self) -> Self::State;
    /// Appends each step that is possible in `state`, with the state that it leads to.
    fn steps(&self, state: &Self::State, out: &mut Vec<(Self::Step, Self::State)>);
    /// Returns a short name of the kind of `step`, for counting.
    fn kind(&self, step: &Self::Step) -> &'static str;
    /// Returns what `state` violates, if anything.
    fn violation(&self, state: &Self::State) -> Option<String>;
    /// Draws what a reader of a trace wants to see of `state`, in one line.
    fn draw(&self, state: &Self::State) -> String;
}

/// What a search found.
#[derive(Debug)]
pub struct Report {
    /// Distinct states that were reached.
    pub states: usize,
    /// Steps that were tried, those to known states among them.
    pub steps: u64,
    /// The length of the longest shortest way to a state.
    pub depth: usize,
    /// How often each kind of step was possible: a kind that is missing was never explored.
    pub kinds: BTreeMap<&'static str, u64>,
    /// The first violation, by a shortest way, if there was one.
    pub counterexample: Option<Counterexample>,
}

/// A shortest way from the start to a state that violates the model's promises.
#[derive(Debug)]
pub struct Counterexample {
    /// What is violated.
    pub violation: String,
    /// The steps, each with the state after it.
    pub trace: Vec<(String, String)>,
}

impl Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "violation: {}", self.violation)?;
        let width = self.trace.iter().map(|(step, _)| step.len()).max().unwrap_or(0);
        for (number, (step, state)) in self.trace.iter().enumerate() {
            writeln!(f, "{:>4}. {step:<width$}   {state}", number + 1)?;
        }
        Ok(())
    }
}

/// The search outgrew the number of states that it was allowed.
#[derive(Debug)]
pub struct TooLarge {
    /// The bound that was passed.
    pub bound: usize,
}

impl Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} states: make the configuration smaller", self.bound)
    }
}

impl std::error::Error for TooLarge {}

/// Searches until a violation is found or no state is new; at most `bound` states.
pub fn explore<M: Model>(model: &M, bound: usize) -> Result<Report, TooLarge> {
    let mut search = Search::new(model);
    let mut level = search.root();
    let mut out = Vec::new();
    while !level.is_empty() && search.report.counterexample.is_none() {
        let mut next = Vec::new();
        for (number, state) in level {
            search.expand(number, &state, &mut out, &mut next);
            if search.report.counterexample.is_some() {
                break;
            }
        }
        if search.parents.len() > bound {
            return Err(TooLarge { bound });
        }
        search.report.depth += usize::from(!next.is_empty());
        level = next;
    }
    search.report.states = search.parents.len();
    Ok(search.report)
}

/// How a state was first reached: from which, by its how-manieth step.
#[derive(Clone, Copy)]
struct Parent {
    state: u32,
    choice: u16,
}

struct Search<'m, M: Model> {
    model: &'m M,
    seen: HashSet<u128, BuildHasherDefault<Truncated>>,
    parents: Vec<Parent>,
    report: Report,
}

impl<'m, M: Model> Search<'m, M> {
    fn new(model: &'m M) -> Self {
        let report = Report { states: 0, steps: 0, depth: 0, kinds: BTreeMap::new(), counterexample: None };
        Self { model, seen: HashSet::default(), parents: Vec::new(), report }
    }

    fn root(&mut self) -> Vec<(u32, M::State)> {
        let start = self.model.start();
        self.seen.insert(fingerprint(&start));
        self.parents.push(Parent { state: 0, choice: 0 });
        vec![(0, start)]
    }

    fn expand(&mut self, number: u32, state: &M::State, out: &mut Vec<(M::Step, M::State)>, next: &mut Vec<(u32, M::State)>) {
        out.clear();
        self.model.steps(state, out);
        for (choice, (step, after)) in out.drain(..).enumerate() {
            self.report.steps += 1;
            *self.report.kinds.entry(self.model.kind(&step)).or_default() += 1;
            if !self.seen.insert(fingerprint(&after)) {
                continue;
            }
            let child = u32::try_from(self.parents.len()).expect("the bound is far below 2^32 states");
            let choice = u16::try_from(choice).expect("a state has far fewer than 2^16 steps");
            self.parents.push(Parent { state: number, choice });
            if let Some(violation) = self.model.violation(&after) {
                self.report.counterexample = Some(Counterexample { violation, trace: self.trace(child) });
                return;
            }
            next.push((child, after));
        }
    }

    fn trace(&self, mut state: u32) -> Vec<(String, String)> {
        let mut choices = Vec::new();
        while state != 0 {
            let parent = self.parents[state as usize];
            choices.push(usize::from(parent.choice));
            state = parent.state;
        }
        let mut here = self.model.start();
        let mut out = Vec::new();
        let mut trace = Vec::new();
        for choice in choices.into_iter().rev() {
            out.clear();
            self.model.steps(&here, &mut out);
            let (step, after) = out.swap_remove(choice);
            trace.push((step.to_string(), self.model.draw(&after)));
            here = after;
        }
        trace
    }
}

fn fingerprint(state: &impl Hash) -> u128 {
    let mut hasher = Fingerprint { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344 };
    state.hash(&mut hasher);
    (u128::from(hasher.high) << 64) | u128::from(hasher.finish())
}

/// Two lanes of folded multiplication with unlike constants. Every write is taken a word at a time.
struct Fingerprint {
    low: u64,
    high: u64,
}

impl Fingerprint {
    fn mix(lane: u64, word: u64, factor: u64) -> u64 {
        let product = u128::from(lane ^ word) * u128::from(factor);
        #[expect(clippy::cast_possible_truncation, reason = "folding the two halves of the product is the mix")]
        let folded = (product as u64) ^ ((product >> 64) as u64);
        folded.rotate_left(23).wrapping_add(word.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, word: u64) {
        self.low = Self::mix(self.low, word, 0xa076_1d64_78bd_642f);
        self.high = Self::mix(self.high, word, 0xe703_7ed1_a0b4_28db);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.low
    }
}

/// A fingerprint is as good as random: its low half is its place in the table.
#[derive(Default)]
struct Truncated(u64);

impl Hasher for Truncated {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 << 8) | u64::from(byte);
        }
    }

    fn write_u128(&mut self, value: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let low = value as u64;
        self.0 = low;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters modulo four that step one at a time; they must not meet at three.
    struct Counters {
        forbidden: bool,
    }

    impl Model for Counters {
        type State = (u8, u8);
        type Step = &'static str;

        fn start(&self) -> (u8, u8) {
            (0, 0)
        }

        fn steps(&self, state: &(u8, u8), out: &mut Vec<(&'static str, (u8, u8))>) {
            out.push(("left", ((state.0 + 1) % 4, state.1)));
            out.push(("right", (state.0, (state.1 + 1) % 4)));
        }

        fn kind(&self, step: &&'static str) -> &'static str {
            step
        }

        fn violation(&self, state: &(u8, u8)) -> Option<String> {
            (self.forbidden && *state == (3, 3)).then(|| "they met".to_owned())
        }

        fn draw(&self, state: &(u8, u8)) -> String {
            format!("{state:?}")
        }
    }

    #[test]
    fn every_state_is_reached_once() {
        let report = explore(&Counters { forbidden: false }, 100).unwrap();
        assert_eq!(report.states, 16);
        assert_eq!(report.steps, 32);
        assert_eq!(report.depth, 6);
        assert!(report.counterexample.is_none());
    }

    #[test]
    fn a_counterexample_is_a_shortest_way() {
        let report = explore(&Counters { forbidden: true }, 100).unwrap();
        let found = report.counterexample.unwrap();
        assert_eq!(found.trace.len(), 6);
        assert_eq!(found.trace.last().unwrap().1, "(3, 3)");
        assert!(found.to_string().contains("they met"));
    }

    #[test]
    fn a_search_that_outgrows_its_bound_says_so() {
        assert_eq!(explore(&Counters { forbidden: false }, 3).unwrap_err().bound, 3);
    }

    #[test]
    fn words_of_all_sizes_change_both_halves_of_a_fingerprint() {
        let (one, two) = (fingerprint(&(1_u8, 2_u8)), fingerprint(&(2_u8, 1_u8)));
        assert_ne!(one >> 64, two >> 64);
        assert_ne!(one & u128::from(u64::MAX), two & u128::from(u64::MAX));
        assert_ne!(fingerprint(&[1_u8, 0]), fingerprint(&[1_u8, 0, 0]));
    }
}
