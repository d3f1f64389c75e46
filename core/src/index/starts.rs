//! Where walks over certain runs may start: how far nothing lives, and the first entry of each slice from there on.
//!
//! Whoever takes from an end of an order again and again (a queue, an eviction policy, what expires) would pass over all that
//! was taken before: it stays in the runs until they are merged to the bottom. What was found dead once under given runs stays
//! dead, as the main delta only ever hides more of them; merging changes nothing of it; and of what a flush brings on top, the
//! first live entry of the flushed delta is the first that could live. So this much can be kept and passed on.

use super::delta::Delta;
use super::lock;
use super::order::{Direction, Position, Span};
use super::walk::Head;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

/// So many different walks are remembered.
const STARTS_MAX: usize = 8;

/// The starts of some walks over one list of runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts(Arc<Mutex<Vec<Start>>>);

#[derive(Debug)]
struct Start {
    span: Span,
    direction: Direction,
    /// What of the span is left when the dead is passed over.
    rest: Span,
    /// The first entry of each slice in what is left.
    heads: Option<BinaryHeap<Head>>,
}

impl Starts {
    /// Returns what is left of a span when the dead is passed over, with the heads there if they are known.
    pub(super) fn get(&self, span: &Span, direction: Direction) -> Option<(Span, Option<BinaryHeap<Head>>)> {
        let mut starts = lock(&self.0);
        let at = starts.iter().position(|s| s.direction == direction && s.span == *span)?;
        starts[..=at].rotate_right(1);
        Some((starts[0].rest.clone(), starts[0].heads.clone()))
    }

    /// Notes that nothing of the runs lives in `span` up to `rest`, where the heads are these.
    pub(super) fn put(&self, span: &Span, direction: Direction, rest: Span, heads: BinaryHeap<Head>) {
        let mut starts = lock(&self.0);
        starts.retain(|s| s.direction != direction || s.span != *span);
        starts.truncate(STARTS_MAX - 1);
        starts.insert(0, Start { span: span.clone(), direction, rest, heads: Some(heads) });
    }

    /// Takes over what holds of the runs before, on top of which a delta was flushed, if one was.
    pub(super) fn inherit(&self, before: &Self, flushed: Option<&Delta>) {
        if Arc::ptr_eq(&self.0, &before.0) {
            return;
        }
        let kept = lock(&before.0).iter().filter_map(|start| start.under(flushed)).collect();
        *lock(&self.0) = kept;
    }
}

impl Start {
    fn under(&self, flushed: Option<&Delta>) -> Option<Self> {
        let mut rest = self.rest.clone();
        // What the delta has in the stretch that was dead may live in the new run.
        if let Some(first) = flushed.map_or(Some(None), |delta| delta.first_in_view(&self.span, self.direction))? {
            let dead_before = !starts_before(&rest, self.direction, first);
            if dead_before {
                match self.direction {
                    Direction::Forward => rest.lower = Bound::Included(first.clone()),
                    Direction::Backward => rest.upper = Bound::Included(first.clone()),
                }
            }
        }
        Some(Self { span: self.span.clone(), direction: self.direction, rest, heads: None })
    }
}

/// Returns whether a walk of `rest` meets `position`, or begins before it.
fn starts_before(rest: &Span, direction: Direction, position: &Position) -> bool {
    match (direction, &rest.lower, &rest.upper) {
        (Direction::Forward, Bound::Unbounded, _) | (Direction::Backward, _, Bound::Unbounded) => true,
        (Direction::Forward, Bound::Included(low), _) => position >= low,
        (Direction::Forward, Bound::Excluded(low), _) => position > low,
        (Direction::Backward, _, Bound::Included(high)) => position <= high,
        (Direction::Backward, _, Bound::Excluded(high)) => position < high,
    }
}
