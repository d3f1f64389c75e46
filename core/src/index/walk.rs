//! Walks the live entries of a span in order, over all layers.
//!
//! A [`Walker`] owns what it needs to go on and borrows nothing, so it may be kept while the state changes. As long as the levels
//! stay the same it goes on where it was; when they have changed it finds its place again. It gives each entry that stays in its
//! place exactly once; one that moves meanwhile is given where it is met.

use super::delta::Row;
use super::files::RunFiles;
use super::layers::{Found, Layers, Shadow};
use super::levels::{Levels, Slice};
use super::order::{Direction, Position, Span};
use super::run::{Fault, RunFile};
use crate::error::Result;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// A walk that can be interrupted.
#[derive(Debug, Clone)]
pub struct Walker {
    /// What is left to walk.
    rest: Span,
    direction: Direction,
    heads: Option<Heads>,
    /// Until an entry of a run was given.
    front: Option<Front>,
    damaged: u64,
}

/// The beginning of a walk.
#[derive(Debug, Clone)]
struct Front {
    /// The whole walk.
    span: Span,
    /// The last entry of a run that turned out to be dead, and how many did.
    passed: Option<Position>,
    count: u32,
}

/// The next entry of every slice, for certain levels.
#[derive(Debug, Clone)]
struct Heads {
    levels: Levels,
    heap: BinaryHeap<Head>,
}

#[derive(Debug, Clone)]
pub(super) struct Head {
    position: Position,
    direction: Direction,
    run: u32,
    slice: u32,
    index: u32,
    offset: u32,
}

/// So many dead entries at its beginning make a walk worth remembering.
const FRONT_MIN: u32 = 8;

impl Ord for Head {
    /// The greatest comes first: the next in the walk, of equal ones the newest.
    fn cmp(&self, other: &Self) -> Ordering {
        let places = self.position.cmp(&other.position);
        let walk = if self.direction == Direction::Forward { places.reverse() } else { places };
        walk.then(other.run.cmp(&self.run)).then(other.slice.cmp(&self.slice))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl Walker {
    /// Starts a walk.
    #[must_use]
    pub fn new(span: Span, direction: Direction) -> Self {
        let front = Some(Front { span: span.clone(), passed: None, count: 0 });
        Self { rest: span, direction, heads: None, front, damaged: 0 }
    }

    /// Returns what is left to walk: a new walk of that goes on where this one is.
    #[must_use]
    pub const fn rest(&self) -> &Span {
        &self.rest
    }

    /// Returns how many entries were passed over since their bytes, or those that say whether they still hold, are damaged.
    #[must_use]
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Finds the first entry of every slice in what is left.
    fn seek(&mut self, layers: &Layers<'_>) -> Result<()> {
        let starts = &layers.levels.starts;
        // Only from the beginning is anything known. (What the deltas gave does not matter: the heads are those of the runs.)
        let untouched = self.front.as_ref().filter(|front| front.count == 0 && front.span == self.rest).map(|front| front.span.clone());
        let mut start = self.rest.clone();
        let mut heads = None;
        if let Some((rest, known)) = untouched.as_ref().and_then(|span| starts.get(span, self.direction)) {
            (start, heads) = (rest, known);
        } else if untouched.is_none() {
            self.front = None;
        }
        let heap = match heads {
            Some(heap) => heap,
            None => {
                let rest = std::mem::replace(&mut self.rest, start.clone());
                let heap = self.heads(layers);
                self.rest = rest;
                let heap = heap?;
                if let Some(span) = &untouched {
                    starts.put(span, self.direction, start, heap.clone());
                }
                heap
            }
        };
        self.heads = Some(Heads { levels: layers.levels.clone(), heap });
        Ok(())
    }

    fn heads(&mut self, layers: &Layers<'_>) -> Result<BinaryHeap<Head>> {
        let mut heap = BinaryHeap::new();
        if self.rest.is_void() {
            return Ok(heap);
        }
        for (run, r) in (0..).zip(layers.levels.runs()) {
            for (n, slice) in (0..).zip(r.slices()) {
                let head = self.enter(layers.files, slice, (run, n)).map_err(|fault| layers.files.error(slice.file, fault))?;
                heap.extend(head);
            }
        }
        Ok(heap)
    }

    /// Takes note of what was dead at the beginning of the walk, now that `live` is met, or the end.
    fn end_front(&mut self, live: Option<&Head>) {
        let Some(front) = self.front.take() else { return };
        if let (Some(passed), Some(heads)) = (front.passed, &self.heads)
            && front.count >= FRONT_MIN
        {
            let mut rest = front.span.clone();
            rest.cut(self.direction, passed);
            let mut heap = heads.heap.clone();
            heap.extend(live.cloned());
            heads.levels.starts.put(&front.span, self.direction, rest, heap);
        }
    }

    /// Returns the first entry of a slice in what is left.
    fn enter(&mut self, files: &RunFiles, slice: &Slice, at: (u32, u32)) -> std::result::Result<Option<Head>, Fault> {
        if slice.file == Slice::NO_FILE {
            return Ok(None);
        }
        let file = match files.file(slice) {
            Err(fault @ Fault::Io(_)) => return Err(fault),
            Err(_) => {
                self.damaged += u64::from(slice.rows);
                return Ok(None);
            }
            Ok(file) => file,
        };
        let order = self.rest.order;
        let seek = |walker: &Self| walker.edge(file);
        let first = match seek(self) {
            Err(Fault::Damaged(_)) => {
                self.rebuild(file, slice)?;
                seek(self)
            }
            other => other,
        };
        self.damaged += file.missing(order);
        match first {
            Ok(index) => self.from(file, slice, at, index),
            Err(fault @ Fault::Io(_)) => Err(fault),
            Err(_) => Ok(None),
        }
    }

    /// Returns the number in the file's order that the walk starts from (forward) or before (backward). In doubt more is walked:
    /// what can't be read is then counted.
    fn edge(&self, file: &RunFile) -> std::result::Result<u32, Fault> {
        let edge = file.seek(self.rest.order, |e| self.rest.starts_at(self.direction, e))?;
        Ok(if self.direction == Direction::Forward { *edge.start() } else { *edge.end() })
    }

    /// Makes a damaged order anew, and counts what could not be read.
    fn rebuild(&mut self, file: &RunFile, slice: &Slice) -> std::result::Result<bool, Fault> {
        match file.rebuild(self.rest.order) {
            Err(fault @ Fault::Io(_)) => Err(fault),
            Err(_) => {
                self.damaged += u64::from(slice.rows);
                Ok(false)
            }
            Ok(fresh) => Ok(fresh),
        }
    }

    /// Returns the first entry of a slice in what is left, from number `edge` of its file's order on (forward), or before it
    /// (backward).
    fn from(&mut self, file: &RunFile, slice: &Slice, (run, n): (u32, u32), edge: u32) -> std::result::Result<Option<Head>, Fault> {
        let order = self.rest.order;
        let whole = slice.is_whole(file);
        let mut edge = edge;
        loop {
            let index = match self.direction {
                Direction::Forward if edge < file.order_len(order) => edge,
                Direction::Backward if edge > 0 => edge - 1,
                _ => return Ok(None),
            };
            let place = file.ordered(order, index).and_then(|offset| {
                let position = file.with_entry(offset, |e, _| {
                    let inside = whole || slice.covers(e.key.hash());
                    order.position(e).map(|position| (position, inside))
                })?;
                Ok(position.map(|(position, inside)| (position, inside, offset)))
            });
            match place {
                Ok(Some((position, inside, offset))) => {
                    if !self.rest.ends_before(self.direction, &position) {
                        if inside {
                            let direction = self.direction;
                            return Ok(Some(Head { position, direction, run, slice: n, index, offset }));
                        }
                    } else {
                        return Ok(None);
                    }
                }
                Ok(None) => {}
                Err(Fault::Io(error)) => return Err(Fault::Io(error)),
                Err(_) if file.ordered(order, index).is_err() => {
                    return if self.rebuild(file, slice)? {
                        self.damaged += file.missing(order);
                        let first = self.edge(file)?;
                        self.from(file, slice, (run, n), first)
                    } else {
                        Ok(None)
                    };
                }
                Err(_) => self.damaged += 1,
            }
            edge = if self.direction == Direction::Forward { index + 1 } else { index };
        }
    }
}

impl<'a> Layers<'a> {
    /// Takes the next live entry of a walk.
    ///
    /// # Errors
    /// If the drive fails; the walk may be gone on with.
    pub fn next(&self, walker: &mut Walker) -> Result<Option<Found<'a>>> {
        let result = self.advance(walker);
        if result.is_err() {
            walker.heads = None;
        }
        result
    }

    /// Walks a span.
    #[must_use]
    pub fn walk(&self, span: Span, direction: Direction) -> Walk<'a> {
        Walk { layers: *self, walker: Walker::new(span, direction) }
    }

    fn advance(&self, walker: &mut Walker) -> Result<Option<Found<'a>>> {
        if !walker.heads.as_ref().is_some_and(|h| Arc::ptr_eq(&h.levels.runs, &self.levels.runs)) {
            walker.seek(self)?;
        }
        loop {
            let in_delta = self.first_in_deltas(walker);
            let head = walker.heads.as_ref().and_then(|h| h.heap.peek());
            let delta_first = match (&in_delta, head) {
                (None, None) => {
                    walker.end_front(None);
                    return Ok(None);
                }
                (Some((_, position, _)), Some(head)) => match walker.direction {
                    Direction::Forward => **position <= head.position,
                    Direction::Backward => **position >= head.position,
                },
                (delta, _) => delta.is_some(),
            };
            if let Some((depth, position, e)) = in_delta
                && delta_first
            {
                walker.rest.cut(walker.direction, position.clone());
                let key = e.key();
                let hash = if depth == 0 { 0 } else { key.hash() };
                if depth == 0 || self.shadow(depth, 0, hash, key)? == Shadow::None {
                    return Ok(Some(Found::Delta(e)));
                }
            } else if let Some(found) = self.take_head(walker)? {
                return Ok(Some(found));
            }
        }
    }

    /// Returns the next entry of the deltas, of equal ones the newest.
    fn first_in_deltas(&self, walker: &Walker) -> Option<(usize, &'a Position, Row<'a>)> {
        let mut best: Option<(usize, &Position, _)> = None;
        for (depth, delta) in self.deltas.iter().enumerate() {
            if let Some((position, e)) = delta.first(&walker.rest, walker.direction) {
                let nearer = best.as_ref().is_none_or(|(_, other, _)| match walker.direction {
                    Direction::Forward => position < *other,
                    Direction::Backward => position > *other,
                });
                if nearer {
                    best = Some((depth, position, e));
                }
            }
        }
        best
    }

    /// Takes the first head off the heap; `None` if its entry is not live.
    fn take_head(&self, walker: &mut Walker) -> Result<Option<Found<'a>>> {
        let Some(head) = walker.heads.as_mut().and_then(|h| h.heap.pop()) else { return Ok(None) };
        let slice: &'a Slice = &self.levels.runs[head.run as usize].slices[head.slice as usize];
        let fail = |fault| self.files.error(slice.file, fault);
        let file = self.files.file(slice).map_err(fail)?;
        let edge = if walker.direction == Direction::Forward { head.index + 1 } else { head.index };
        let after = walker.from(file, slice, (head.run, head.slice), edge).map_err(fail)?;
        let entry = match file.entry(head.offset) {
            Err(fault @ Fault::Io(_)) => return Err(fail(fault)),
            Err(_) => None,
            Ok(hit) => Some(hit),
        };
        // What stands where the walk has been is an older version of what was there.
        let fresh = walker.rest.contains(&head.position);
        let shadow = match &entry {
            Some(hit) if fresh => {
                let key = hit.as_ref().key;
                self.shadow(self.deltas.len(), head.run as usize, key.hash(), key)?
            }
            Some(_) => Shadow::Shadowed,
            None => Shadow::Unknown,
        };
        match shadow {
            Shadow::None => walker.end_front(Some(&head)),
            Shadow::Unknown => walker.front = None,
            // What a transaction hides may come back.
            Shadow::Shadowed if self.deltas.len() > 1 => walker.front = None,
            Shadow::Shadowed => {
                if let Some(front) = &mut walker.front {
                    front.passed = Some(head.position.clone());
                    front.count += 1;
                }
            }
        }
        if let Some(heads) = &mut walker.heads {
            heads.heap.extend(after);
        }
        match shadow {
            Shadow::Shadowed => return Ok(None),
            Shadow::Unknown => {
                walker.damaged += 1;
                return Ok(None);
            }
            Shadow::None => walker.rest.cut(walker.direction, head.position),
        }
        Ok(entry.map(Found::Run))
    }
}

/// A walk as an iterator.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    layers: Layers<'a>,
    walker: Walker,
}

impl Walk<'_> {
    /// Returns the walk, to be gone on with later.
    #[must_use]
    pub fn into_walker(self) -> Walker {
        self.walker
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Found<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.layers.next(&mut self.walker).transpose()
    }
}
