//! What must hold in every state.
//!
//! Some promises are broken by a step and noted by it (`Broken`): a read that misses what was acknowledged, an
//! operation that takes effect twice, an answer from a state that never was. The others are asked of the state alone:
//! the log keeps what was acknowledged, a transaction overwrites nobody, and whoever starts now sees all of it.

use std::fmt::Write;

use super::commit::{Commit, OpName, Seq};
use super::config::{Collecting, Config, Mutation, Op};
use super::state::State;

/// Returns what `state` violates.
pub(super) fn violation(config: &Config, state: &State) -> Option<String> {
    if let Some(broken) = state.broken {
        return Some(broken.says().to_owned());
    }
    lost(state)
        .or_else(|| (config.transacts() || config.breaks(Mutation::ResultsNotOperations)).then(|| overwritten(config, state)).flatten())
        .or_else(|| config.tidies().then(|| unreachable_from_checkpoint(config, state)).flatten())
}

/// Acknowledged stays: its name holds it until it is collected.
fn lost(state: &State) -> Option<String> {
    state.history.iter().find_map(|(slot, commit)| {
        let op = commit.op()?;
        let there = state.names.at(slot);
        let acknowledged = state.acked & (1 << op) != 0;
        (acknowledged && !state.is_collected(slot) && !there.same(commit))
            .then(|| format!("acknowledged {} was log/{slot}, which is {there} now", OpName(op)))
    })
}

/// Each record adds one, a transaction adds one to what it read. If it was decided on the state that it landed on, the
/// sum comes out right.
fn overwritten(config: &Config, state: &State) -> Option<String> {
    let mut values: Vec<u32> = Vec::new();
    let mut asked = 0;
    for (slot, commit) in state.history.iter() {
        let before = values.last().copied().unwrap_or(0);
        let value = match commit.op().map(|op| (op, config.op(op))) {
            Some((op, Op::Plain { records })) => {
                asked += u32::from(records);
                let results = config.breaks(Mutation::ResultsNotOperations);
                u32::from(records) + if results { values[state.decided_on(op)] } else { before }
            }
            Some((op, Op::Transact { .. })) if state.takes_effect(config, slot, commit) => {
                asked += 1;
                values[state.decided_on(op)] + 1
            }
            _ => before,
        };
        values.push(value);
    }
    let value = values.last().copied().unwrap_or(0);
    (value != asked).then(|| format!("the counter is {value} after {asked} increments: others were overwritten"))
}

/// Whoever starts now from anything that can be loaded replays to the same state as one who was there from the
/// beginning, and at least one start reaches every live record: by the whole log, and by the bell alone.
fn unreachable_from_checkpoint(config: &Config, state: &State) -> Option<String> {
    let mut reached = false;
    let mut reached_by_bell = false;
    for base in state.loadable() {
        let anchor = base.len() - 1;
        if !state.names.at(anchor).same(base.at(anchor)) {
            continue;
        }
        let mut seq = base;
        for slot in base.len()..state.history.len() {
            if state.names.at(slot).is_some() {
                seq.push(state.names.at(slot));
            } else {
                break;
            }
        }
        if seq.len() < state.history.len() {
            continue;
        }
        if seq != state.history {
            return Some(format!("a start as of log/{anchor} comes to {seq}, the log is {}", state.history));
        }
        reached |= values_are_there(state, seq);
        reached_by_bell |= values_are_there(state, seq.prefix(base.len().max(state.bell.into())));
    }
    if !reached {
        return Some("live records are lost: no start that is possible reaches all of them".to_owned());
    }
    (config.collecting == Collecting::Folded && !reached_by_bell)
        .then(|| "live records are out of reach of a reader who goes by the bell".to_owned())
}

/// Every record of `seq` is in the segment in use or in a commit that still has its name.
fn values_are_there(state: &State, seq: Seq) -> bool {
    let segment = state.segment_after(seq);
    let covered = state.covered(segment);
    let folded = segment == 0 || {
        let made = state.made[usize::from(segment) - 1];
        made.segment_exists && made.segment == state.history.prefix(made.segment.len())
    };
    let kept = |(slot, commit): (usize, Commit)| slot < covered || commit.op().is_none() || state.names.at(slot).same(commit);
    folded && seq.iter().all(kept)
}

/// Draws the server's side of `state` in one line.
pub(super) fn draw(state: &State) -> String {
    // Writing to a string cannot fail.
    let mut line = format!("log/ {} bell {}", state.names, state.bell);
    if state.names != state.history {
        let _ = write!(line, ", truly {}", state.history);
    }
    for flight in state.flights.iter().filter(|flight| flight.commit.is_some()) {
        let _ = write!(line, ", under way: {} to log/{}", flight.commit, flight.slot);
    }
    line
}
