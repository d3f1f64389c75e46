//! The steps of a reader: look at the bell, open what it says there is, confirm, answer.

use super::config::{Mutation, Role};
use super::moves::{Look, Moves};
use super::state::{Broken, Pc, State, small};
use super::step::What;

impl Moves<'_> {
    /// Begins a read. What was acknowledged by now must be in its answer.
    pub(super) fn look(&mut self, process: usize) {
        let mut after = *self.state;
        let me = &mut after.processes[process];
        me.before = self.state.acked;
        me.target = self.state.bell;
        me.pc = if me.seq.at(0).is_some() { Pc::CatchUp } else { Pc::Restart };
        self.push(process, What::Looked { bell: self.state.bell }, after);
    }

    /// Opens the next commit; with as many as the bell said, goes on.
    pub(super) fn catch_up(&mut self, process: usize) {
        let me = self.state.processes[process];
        let slot = me.next();
        if self.is_in_doubt(process) {
            if slot < self.config.max_log && self.state.names.at(slot).is_some() {
                self.open_next(process);
            } else {
                self.give_verdict(process);
            }
            return;
        }
        if slot >= usize::from(me.target) {
            if me.confirmed() {
                self.have_all(process, *self.state, What::Fetched { slot: small(slot - 1) });
            } else {
                self.confirm_read(process);
            }
            return;
        }
        if self.state.names.at(slot).is_some() {
            self.open_next(process);
        } else {
            let mut after = *self.state;
            after.forget(process);
            self.push(process, What::Missing { slot: small(slot) }, after);
        }
    }

    /// Asks for the anchor after the last commit was opened.
    fn confirm_read(&mut self, process: usize) {
        let mut after = *self.state;
        let slot = after.processes[process].anchor;
        if self.anchor_in_place(process, Look::Read) {
            after.processes[process].confirm_all();
            self.have_all(process, after, What::AnchorThere { slot });
        } else {
            after.forget(process);
            self.push(process, What::AnchorGone { slot }, after);
        }
    }

    fn have_all(&mut self, process: usize, mut after: State, what: What) {
        if self.config.tidies() {
            after.processes[process].pc = Pc::Fetch;
            self.push(process, what, after);
        } else {
            self.answer(process, after);
        }
    }

    /// Fetches the two values most in danger: the oldest that is still in a commit, and one in the segment.
    pub(super) fn fetch(&mut self, process: usize) {
        let me = self.state.processes[process];
        let segment = self.state.segment_after(me.seq);
        let mut after = *self.state;
        let folded = segment == 0 || self.state.made[usize::from(segment) - 1].segment_exists;
        let oldest = me.seq.iter().find(|(slot, commit)| *slot >= self.state.covered(segment) && commit.op().is_some());
        let unfolded = oldest.map_or(Value::There, |(slot, commit)| {
            let there = self.state.names.at(slot);
            match there.is_some() {
                true if there.same(commit) => Value::There,
                true if self.config.breaks(Mutation::FetchByName) => Value::Foreign,
                _ => Value::Gone(small(slot)),
            }
        });
        match unfolded {
            Value::Gone(slot) => {
                after.forget(process);
                self.push(process, What::ValueGone { slot }, after);
            }
            _ if !folded => {
                after.forget(process);
                self.push(process, What::SegmentGone, after);
            }
            Value::Foreign => {
                after.broken = Some(Broken::ForeignValue);
                self.push(process, What::Answered, after);
            }
            Value::There => self.answer(process, after),
        }
    }

    fn answer(&mut self, process: usize, mut after: State) {
        let me = after.processes[process];
        after.broken = self.judge(process);
        let reads = match self.config.role(process) {
            Role::Reader(number) => self.config.readers[number],
            _ => 1,
        };
        if me.op + 1 < reads {
            let next = &mut after.processes[process];
            next.op += 1;
            next.before = 0;
            next.target = 0;
            next.pc = Pc::Look;
        } else {
            after.retire(process);
        }
        self.push(process, What::Answered, after);
    }

    fn judge(&self, process: usize) -> Option<Broken> {
        let me = self.state.processes[process];
        let state = self.state;
        let mut shown = 0_u16;
        for (slot, commit) in me.seq.iter() {
            if commit.is_half() {
                return Some(Broken::ReadShowsHalf);
            }
            // What the drive has lost is shown to nobody any more, once that is said.
            if let Some(op) = commit.op().filter(|_| !commit.is_skipped() || state.is_damaged(slot)) {
                shown |= u16::from(state.takes_effect(self.config, slot, commit)) << op;
            }
        }
        if me.before & !shown != 0 {
            Some(Broken::ReadMissesAcknowledged)
        } else if me.seq != state.history.prefix(me.next()).replayed() {
            Some(Broken::ReadShowsOtherState)
        } else {
            None
        }
    }
}

/// What is where the index says that a value is.
enum Value {
    There,
    Gone(u8),
    Foreign,
}
