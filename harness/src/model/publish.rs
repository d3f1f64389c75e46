//! The steps of one who publishes: writers, and tidiers once they have something to name.
//!
//! stage -> publish -> (settle) -> confirm -> ring -> answer. To lose a name is to replay what has it and to try the
//! next with the same file. What comes of an error is decided by opening the name, never by the error.

use super::commit::{Commit, Kind, Seq};
use super::config::{Mutation, Op, Role};
use super::moves::{Look, Moves};
use super::state::{Answer, Broken, Pc, State, op_number, small};
use super::step::What;

impl Moves<'_> {
    /// Tries to publish, or stops trying.
    pub(super) fn publish(&mut self, process: usize) {
        let me = self.state.processes[process];
        let slot = me.next();
        if slot >= self.config.max_log || self.waits_for_hold(process) {
            return;
        }
        if self.is_in_doubt(process) {
            if self.state.names.at(slot).is_some() {
                self.open_next(process);
            } else {
                self.give_verdict(process);
            }
            return;
        }
        self.try_link(process);
        let mut timed_out = *self.state;
        if timed_out.staged & me.commit.bit() != 0 && timed_out.fly(self.config, slot, me.commit) {
            timed_out.processes[process].pc = Pc::Settle;
            self.push(process, What::TimedOut { slot: small(slot), commit: me.commit }, timed_out);
        }
        if self.config.deadlines {
            self.deadline(process);
        }
    }

    fn waits_for_hold(&self, process: usize) -> bool {
        let me = self.state.processes[process];
        let held = match me.seq.at(me.next() - 1).kind() {
            Some(Kind::Hold { op }) => me.commit.op() != Some(op),
            _ => false,
        };
        self.config.holds_honoured && held && !self.state.names.at(me.next()).is_some()
    }

    fn try_link(&mut self, process: usize) {
        let me = self.state.processes[process];
        let slot = me.next();
        let mut after = *self.state;
        let there = after.open(slot);
        match after.link(self.config, slot, me.commit) {
            Answer::Won => {
                let (slot, commit) = (small(slot), me.commit);
                let what = if there.is_some() {
                    What::Replaced { slot, commit }
                } else if after.history == self.state.history {
                    What::FalselyWon { slot, commit }
                } else {
                    What::Won { slot, commit }
                };
                let partly = after.half & (1 << slot) != 0;
                after.processes[process].pc = if partly { Pc::Fill } else { Pc::Confirm };
                self.push(process, what, after);
            }
            Answer::Exists => self.settle(process, there),
            Answer::NoStage if self.config.breaks(Mutation::RestageUnsettled) => self.restage(process),
            Answer::NoStage if there.is_some() => self.settle(process, there),
            Answer::NoStage => {
                after.processes[process].pc = Pc::ConfirmFree;
                self.push(process, What::StageGone { slot: small(slot), commit: me.commit }, after);
            }
        }
    }

    /// Goes on from what has the name that was tried for.
    fn settle(&mut self, process: usize, there: Commit) {
        let me = self.state.processes[process];
        let (slot, commit) = (small(me.next()), me.commit);
        let damaged = self.state.is_damaged(me.next());
        if damaged {
            // If not even the nonce can be read, nobody can tell whose it is.
            self.unknown(process, What::Unknown { commit });
        }
        let mut after = *self.state;
        if there.same(commit) && !self.config.breaks(Mutation::BlindRetry) {
            after.processes[process].pc = Pc::Confirm;
            self.push(process, What::FoundOwn { slot, commit }, after);
        } else {
            self.replay(&mut after, process, there, damaged);
            after.processes[process].pc = Pc::ConfirmLoss;
            self.push(process, What::Lost { slot, commit, other: there }, after);
        }
    }

    /// Asks for the anchor after another's commit was found at the name. If it is in place, that commit is the log's
    /// and no try at this name ever took effect; if not, it may be a stranger on a name that was mine and collected.
    pub(super) fn confirm_loss(&mut self, process: usize) {
        let me = self.state.processes[process];
        if !self.anchor_in_place(process, Look::Loss) {
            self.unknown(process, What::AnchorGone { slot: me.anchor });
            return;
        }
        let mut after = *self.state;
        let next = &mut after.processes[process];
        next.confirm_all();
        next.pc = Pc::Publish;
        match me.commit.kind() {
            Some(Kind::Fold { folder }) if after.segment_after(me.seq) != after.made[folder].replaces => {
                after.retire(process);
                self.push(process, What::Moot { commit: me.commit }, after);
                return;
            }
            Some(Kind::Checkpoint { folder }) => {
                let newest = after.checkpoint_after(me.seq).map(|other| after.made[other].as_of);
                if newest.is_some_and(|as_of| as_of >= after.made[folder].as_of) {
                    after.retire(process);
                    self.push(process, What::Moot { commit: me.commit }, after);
                    return;
                }
            }
            Some(Kind::Op { op, .. }) if matches!(self.config.op(op), Op::Transact { .. }) => {
                // It was decided on the commit before this name and can count nowhere else: the caller may be told
                // so now, or after it was published for nothing.
                let mut beaten = after;
                self.report_undone(&mut beaten, op);
                self.finish(&mut beaten, process, false);
                self.push(process, What::Beaten { op: small(op) }, beaten);
            }
            _ => {}
        }
        self.push(process, What::AnchorThere { slot: me.anchor }, after);
    }

    /// Asks for the anchor after the staged file was gone and the name free. If it is in place, the name was never
    /// given, and without a staged file it never will be by an old try: the records may be staged again.
    pub(super) fn confirm_free(&mut self, process: usize) {
        if self.anchor_in_place(process, Look::Loss) {
            self.restage(process);
        } else {
            self.unknown(process, What::AnchorGone { slot: self.state.processes[process].anchor });
        }
    }

    /// Writes the same records to another staged file.
    fn restage(&mut self, process: usize) {
        let me = self.state.processes[process];
        let Some(Kind::Op { op, restaged: false }) = me.commit.kind() else {
            // The model's files are lost once; a hold or a tidier's commit that is lost is given up.
            self.unknown(process, What::Unknown { commit: me.commit });
            return;
        };
        let mut after = *self.state;
        let commit = Commit::of(Kind::Op { op, restaged: true });
        after.stage(process, commit);
        self.push(process, What::Restaged { slot: small(me.next()), commit }, after);
    }

    fn deadline(&mut self, process: usize) {
        let me = self.state.processes[process];
        if matches!(self.config.role(process), Role::Tidier(_)) {
            return;
        }
        if me.pc == Pc::Settle {
            let mut after = *self.state;
            self.finish(&mut after, process, false);
            self.push(process, What::Unknown { commit: me.commit }, after);
            return;
        }
        let op = self.current_op(process);
        let mut after = *self.state;
        self.report_undone(&mut after, op);
        self.finish(&mut after, process, false);
        self.push(process, What::NotDone { op: small(op) }, after);
    }

    fn report_undone(&self, after: &mut State, op: usize) {
        after.undone |= 1 << op;
        if after.history.iter().any(|(slot, other)| other.op() == Some(op) && after.takes_effect(self.config, slot, other)) {
            after.broken = Some(Broken::UndoneTookEffect);
        }
    }

    /// Ends an operation whose outcome cannot be known, and the view with it.
    fn unknown(&mut self, process: usize, what: What) {
        let mut after = *self.state;
        self.finish(&mut after, process, true);
        self.push(process, what, after);
    }

    /// Makes the rest of a commit visible: a mutation's step.
    pub(super) fn fill(&mut self, process: usize) {
        let slot = self.state.processes[process].next();
        let mut after = *self.state;
        after.half &= !(1 << slot);
        after.processes[process].pc = Pc::Confirm;
        self.push(process, What::Filled { slot: small(slot) }, after);
    }

    /// Asks the server for the anchor, after a name was won.
    pub(super) fn confirm(&mut self, process: usize) {
        let me = self.state.processes[process];
        if !self.anchor_in_place(process, Look::Win) {
            if self.config.breaks(Mutation::UnlinkInDoubt) && self.state.names.at(me.next()).same(me.commit) {
                let mut after = *self.state;
                after.names.set(me.next(), Commit::NONE);
                self.finish(&mut after, process, true);
                self.push(process, What::TookBack { slot: small(me.next()) }, after);
            } else {
                self.unknown(process, What::AnchorGone { slot: me.anchor });
            }
            return;
        }
        let mut after = *self.state;
        let next = &mut after.processes[process];
        next.seq.push(me.commit);
        next.confirm_all();
        match me.commit.kind() {
            Some(Kind::Op { .. }) if self.config.breaks(Mutation::LateRing) => next.pc = Pc::Ack,
            Some(Kind::Op { .. }) => next.pc = Pc::Ring,
            Some(Kind::Hold { op }) => self.decide(&mut after, process, op),
            Some(Kind::Fold { folder }) if self.config.tidiers[folder].checkpoint => {
                next.commit = Commit::NONE;
                next.op = 1;
                next.pc = Pc::Decide;
            }
            Some(Kind::Marker | Kind::Fold { .. } | Kind::Checkpoint { .. } | Kind::Verdict { .. }) | None => after.retire(process),
        }
        self.push(process, What::AnchorThere { slot: me.anchor }, after);
    }

    /// Says whether the commit that was confirmed last still has its name: then no name after it was ever collected,
    /// so each that was opened is the log's and each that was won was won truly.
    pub(super) fn anchor_in_place(&self, process: usize, look: Look) -> bool {
        let me = self.state.processes[process];
        let believed = match look {
            Look::Win => Mutation::NoPred,
            Look::Loss => Mutation::LossUnconfirmed,
            Look::Read => Mutation::ReadUnconfirmed,
        };
        if self.config.breaks(believed) || self.config.breaks(Mutation::SkipChecks) {
            return true;
        }
        if look == Look::Win && self.config.breaks(Mutation::PredByPresence) {
            return self.state.names.at(me.next() - 1).is_some();
        }
        self.state.names.at(me.anchor.into()).same(me.seq.at(me.anchor.into()))
    }

    /// Makes the bell longer than the commit.
    pub(super) fn ring(&mut self, process: usize) {
        let length = small(self.state.processes[process].next());
        let mut after = *self.state;
        after.bell = after.bell.max(length);
        if self.config.breaks(Mutation::LateRing) {
            self.finish(&mut after, process, false);
        } else {
            after.processes[process].pc = Pc::Ack;
        }
        self.push(process, What::Rang { length }, after);
    }

    /// Tells the caller what replay says.
    pub(super) fn acknowledge(&mut self, process: usize) {
        let me = self.state.processes[process];
        let slot = me.next() - 1;
        let op = self.current_op(process);
        let mut after = *self.state;
        let done = after.takes_effect(self.config, slot, me.commit);
        if done {
            after.acked |= 1 << op;
            if !after.history.at(slot).same(me.commit) {
                after.broken = Some(Broken::AcknowledgedNotInLog);
            } else if me.seq.iter().any(|(_, commit)| commit.is_half()) {
                after.broken = Some(Broken::ReadShowsHalf);
            } else if me.seq != after.history.prefix(slot + 1).replayed() {
                after.broken = Some(Broken::AnswerFromOtherState);
            }
        } else {
            self.report_undone(&mut after, op);
        }
        if self.config.breaks(Mutation::LateRing) {
            after.processes[process].pc = Pc::Ring;
        } else {
            self.finish(&mut after, process, false);
        }
        let op = small(op);
        self.push(process, if done { What::Acknowledged { op } } else { What::Beaten { op } }, after);
    }

    /// Decides a transaction on what was replayed and confirmed, and stages its commit.
    pub(super) fn decide(&self, after: &mut State, process: usize, op: usize) {
        let me = after.processes[process];
        if me.seq != after.history.prefix(me.next()).replayed() {
            after.broken = Some(Broken::DecidedOnOtherState);
        }
        after.decide(op, me.next() - 1);
        after.stage(process, Commit::of(Kind::Op { op, restaged: false }));
    }

    /// Goes on to the next operation; from a checkpoint if `afresh`.
    fn finish(&self, after: &mut State, process: usize, afresh: bool) {
        let Role::Writer(writer) = self.config.role(process) else {
            after.retire(process);
            return;
        };
        let me = &mut after.processes[process];
        me.op += 1;
        me.commit = Commit::NONE;
        if usize::from(me.op) >= self.config.writers[writer].len() {
            after.retire(process);
        } else if afresh {
            me.pc = Pc::Restart;
            me.seq = Seq::default();
            me.anchor = 0;
        } else {
            self.begin_op(after, process);
        }
    }

    /// Begins the operation that is next.
    pub(super) fn begin_op(&self, after: &mut State, process: usize) {
        let Role::Writer(writer) = self.config.role(process) else {
            return;
        };
        let op = op_number(writer, after.processes[process].op);
        match self.config.op(op) {
            Op::Plain { .. } => {
                if self.config.breaks(Mutation::ResultsNotOperations) {
                    after.decide(op, after.processes[process].next() - 1);
                }
                after.stage(process, Commit::of(Kind::Op { op, restaged: false }));
            }
            Op::Transact { hold: true } => after.stage(process, Commit::of(Kind::Hold { op })),
            Op::Transact { hold: false } => after.processes[process].pc = Pc::Decide,
        }
    }

    pub(super) fn current_op(&self, process: usize) -> usize {
        let Role::Writer(writer) = self.config.role(process) else { unreachable!("only writers have operations") };
        op_number(writer, self.state.processes[process].op)
    }
}
