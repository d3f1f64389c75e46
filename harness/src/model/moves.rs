//! Which steps are possible in a state: those of each process, of the network, and of the tidying that belongs to none.

use super::commit::{Commit, Kind, Seq};
use super::config::{Collecting, Config, Mutation, Role};
use super::state::{Pc, Process, State, small};
use super::step::{Step, What, Who};

/// Collects the steps out of one state.
pub(super) struct Moves<'a> {
    pub(super) config: &'a Config,
    pub(super) state: &'a State,
    pub(super) out: &'a mut Vec<(Step, State)>,
}

/// Why somebody asks for the anchor: what they believe if it is in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// That the name they were told they won is theirs.
    Win,
    /// That the name they wanted is another's, or nobody's.
    Loss,
    /// That the commits which they opened are the log's.
    Read,
}

impl Moves<'_> {
    /// Adds a step of `process`.
    pub(super) fn push(&mut self, process: usize, what: What, after: State) {
        self.out.push((Step { who: Who::Process(self.config.role(process)), what }, after));
    }

    /// Adds every step.
    pub(super) fn all(&mut self) {
        for process in 0..self.config.processes() {
            self.of_process(process);
        }
        self.landings();
        self.damage();
        self.collect();
        self.sweep();
    }

    fn of_process(&mut self, process: usize) {
        let me = self.state.processes[process];
        match me.pc {
            Pc::Done | Pc::Dead => return,
            Pc::Publish | Pc::Settle => self.publish(process),
            Pc::Fill => self.fill(process),
            Pc::Confirm => self.confirm(process),
            Pc::ConfirmLoss => self.confirm_loss(process),
            Pc::ConfirmFree => self.confirm_free(process),
            Pc::Ring => self.ring(process),
            Pc::Ack => self.acknowledge(process),
            Pc::Decide => self.gather(process),
            Pc::Restart => self.restart(process),
            Pc::Look => self.look(process),
            Pc::CatchUp => self.catch_up(process),
            Pc::Fetch => self.fetch(process),
        }
        if self.config.crashes {
            let mut after = *self.state;
            after.processes[process] = Process { pc: Pc::Dead, ..Process::default() };
            self.push(process, What::Crashed, after);
        }
    }

    /// A transaction without a hold, or a tidier, before it decides: opens what it finds, confirms, and decides.
    fn gather(&mut self, process: usize) {
        let me = self.state.processes[process];
        if me.next() < self.config.max_log && self.state.names.at(me.next()).is_some() {
            self.open_next(process);
        }
        if self.is_in_doubt(process) {
            self.give_verdict(process);
            return;
        }
        if !me.confirmed() {
            let mut after = *self.state;
            let there = self.anchor_in_place(process, Look::Read);
            if there {
                after.processes[process].confirm_all();
            } else {
                after.forget(process);
            }
            let slot = me.anchor;
            self.push(process, if there { What::AnchorThere { slot } } else { What::AnchorGone { slot } }, after);
            return;
        }
        match self.config.role(process) {
            Role::Writer(_) => {
                let mut after = *self.state;
                self.decide(&mut after, process, self.current_op(process));
                let commit = after.processes[process].commit;
                self.push(process, What::Decided { slot: me.anchor, commit }, after);
            }
            Role::Tidier(tidier) => self.tidy(process, tidier),
            Role::Reader(_) | Role::Newcomer(_) => {}
        }
    }

    /// Opens the commit at the next slot, which has its name, and replays or passes it.
    pub(super) fn open_next(&mut self, process: usize) {
        let slot = self.state.processes[process].next();
        let commit = self.state.open(slot);
        let damaged = self.state.is_damaged(slot);
        let believed = self.config.misreads && self.config.breaks(Mutation::BelieveOneRead);
        for unread in [false, true] {
            if (!unread && damaged) || (unread && !damaged && !believed) {
                continue;
            }
            let mut after = *self.state;
            self.replay(&mut after, process, commit, unread);
            let small = small(slot);
            self.push(process, if unread { What::Passed { slot: small } } else { What::Opened { slot: small, commit } }, after);
        }
        if self.config.misreads && !damaged {
            // Read again past all caches, before anything is made of it.
            self.push(process, What::Misread { slot: small(slot) }, *self.state);
        }
    }

    pub(super) fn replay(&self, after: &mut State, process: usize, commit: Commit, unread: bool) {
        let seq = &mut after.processes[process].seq;
        if self.config.breaks(Mutation::IgnoreVerdict) && commit.kind().is_some_and(|kind| matches!(kind, Kind::Verdict { .. })) {
            seq.push(commit);
        } else {
            seq.replay(commit, unread);
        }
    }

    /// Says whether `process` passed a commit, and nothing in the log says yet what everybody is to make of it.
    pub(super) fn is_in_doubt(&self, process: usize) -> bool {
        !self.config.breaks(Mutation::PassAlone) && self.state.processes[process].seq.doubt().is_some()
    }

    /// Publishes a checkpoint without the commit that cannot be read, once everything else was replayed, and rings for it.
    pub(super) fn give_verdict(&mut self, process: usize) {
        let me = self.state.processes[process];
        let (Some(doubt), slot) = (me.seq.doubt(), me.next()) else { return };
        if slot >= self.config.max_log || self.state.names.at(slot).is_some() {
            return;
        }
        let mut after = *self.state;
        let commit = Commit::of(Kind::Verdict { slot: doubt });
        after.staged |= commit.bit();
        if after.link(self.config, slot, commit) != super::state::Answer::Won {
            return;
        }
        after.bell = after.bell.max(small(slot) + 1);
        let next = &mut after.processes[process];
        next.seq.replay(commit, false);
        next.confirm_all();
        self.push(process, What::Judged { slot: small(doubt), at: small(slot) }, after);
    }

    /// The drive damages the file of a commit.
    fn damage(&mut self) {
        if !self.config.damage || self.state.damaged != 0 {
            return;
        }
        for (slot, commit) in self.state.names.iter().filter(|(_, commit)| commit.op().is_some()) {
            let mut after = *self.state;
            after.damaged |= 1 << slot;
            self.out.push((Step { who: Who::Drive, what: What::Damaged { slot: small(slot), commit } }, after));
        }
    }

    /// Requests that timed out at their host reach the server.
    fn landings(&mut self) {
        for place in 0..self.state.flights.len() {
            let mut after = *self.state;
            let flight = after.land(place);
            if !flight.commit.is_some() || (place > 0 && self.state.flights[place - 1] == flight) {
                continue;
            }
            let (slot, commit) = (flight.slot, flight.commit);
            let free = !after.names.at(slot.into()).is_some();
            let answer = after.link(self.config, slot.into(), commit);
            let what = if answer != super::state::Answer::Won {
                What::LandedRefused { slot, commit }
            } else if after.history != self.state.history {
                What::LandedFirst { slot, commit }
            } else if free {
                What::LandedLate { slot, commit }
            } else {
                What::Replaced { slot, commit }
            };
            self.out.push((Step { who: Who::Network, what }, after));
        }
    }

    /// Returns what one who starts again may load: the commits, the last of which is the anchor.
    pub(super) fn bases(&self) -> Vec<Seq> {
        let state = self.state;
        if self.config.tidies() {
            return state.loadable();
        }
        if self.config.collecting == Collecting::Never {
            return vec![state.history.prefix(1)];
        }
        let kept: Vec<usize> = (0..state.history.len()).filter(|&slot| !state.is_collected(slot)).collect();
        let mut ends: Vec<usize> = kept.first().into_iter().chain(kept.last()).copied().collect();
        ends.dedup();
        ends.into_iter().map(|slot| state.history.prefix(slot + 1)).collect()
    }

    fn restart(&mut self, process: usize) {
        for base in self.bases() {
            let mut after = *self.state;
            let bell = after.bell;
            let me = &mut after.processes[process];
            me.seq = base;
            me.confirm_all();
            let slot = me.anchor;
            match self.config.role(process) {
                Role::Writer(_) => self.begin_op(&mut after, process),
                Role::Tidier(_) => me.pc = Pc::Decide,
                Role::Reader(_) | Role::Newcomer(_) => {
                    me.pc = Pc::CatchUp;
                    me.target = bell;
                }
            }
            self.push(process, What::StartedAgain { slot }, after);
        }
    }
}

impl State {
    /// The state in which everything begins: a fresh log, and each process about to do its first thing.
    pub(super) fn start(config: &Config) -> Self {
        let mut state = Self {
            history: Seq::empty_log(),
            names: Seq::empty_log(),
            staged: 0,
            decided: 0,
            collected: 0,
            half: 0,
            damaged: 0,
            bell: 1,
            acked: 0,
            undone: 0,
            broken: None,
            flights: Default::default(),
            made: Default::default(),
            processes: Default::default(),
        };
        let none = state;
        let moves = Moves { config, state: &none, out: &mut Vec::new() };
        for process in 0..config.processes() {
            state.processes[process].seq = Seq::empty_log();
            match config.role(process) {
                Role::Writer(_) => moves.begin_op(&mut state, process),
                Role::Reader(_) => state.processes[process].pc = Pc::Look,
                Role::Newcomer(_) => {
                    state.processes[process].seq = Seq::default();
                    state.processes[process].pc = Pc::Look;
                }
                Role::Tidier(tidier) => {
                    state.processes[process].pc = Pc::Decide;
                    state.processes[process].op = u8::from(!config.tidiers[tidier].fold);
                }
            }
        }
        state
    }

    /// Gives `process` a complete staged file of `commit`.
    pub(super) fn stage(&mut self, process: usize, commit: Commit) {
        self.staged |= commit.bit();
        self.processes[process].commit = commit;
        self.processes[process].pc = Pc::Publish;
    }

    /// `process` is through; what it knew does not matter any more.
    pub(super) fn retire(&mut self, process: usize) {
        self.processes[process] = Process::default();
    }

    /// `process` found its view ancient.
    pub(super) fn forget(&mut self, process: usize) {
        let me = &mut self.processes[process];
        me.seq = Seq::default();
        me.anchor = 0;
        me.pc = Pc::Restart;
    }

    /// Returns the states that a newcomer can load now: nothing, while the marker is there, or any checkpoint that a
    /// commit in `log/` names and whose file is there.
    pub(super) fn loadable(&self) -> Vec<Seq> {
        let mut bases = Vec::new();
        if self.names.at(0).same(Commit::MARKER) {
            bases.push(Seq::empty_log());
        }
        for (_, commit) in self.names.iter() {
            let Some(super::commit::Kind::Checkpoint { folder }) = commit.kind() else {
                continue;
            };
            let made = self.made[folder];
            let mut seq = made.checkpoint;
            let claimed = usize::from(made.as_of);
            if claimed >= seq.len() {
                // It claims a commit that it does not hold (a mutation's doing).
                seq.push(self.names.at(claimed).skipped());
            }
            if made.checkpoint_exists && seq.at(claimed).is_some() {
                bases.push(seq);
            }
        }
        bases.dedup();
        bases
    }

    pub(super) fn alive(&self, process: usize) -> bool {
        !matches!(self.processes[process].pc, Pc::Done | Pc::Dead)
    }
}

impl Config {
    /// Says what a search of this must not contain; `Err` names the bound that is too small.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.writers.len() > 3 || self.writers.iter().any(|ops| ops.is_empty() || ops.len() > super::commit::OPS) {
            return Err("at most three writers of one to four operations");
        }
        if self.processes() > super::state::PROCESSES || self.tidiers.len() > super::state::TIDIERS {
            return Err("too many processes");
        }
        if self.late > super::state::FLIGHTS || self.max_log > super::commit::SLOTS {
            return Err("too many requests under way, or too long a log");
        }
        if self.collecting == Collecting::Folded && !self.tidies() {
            return Err("nothing can be collected without a tidier");
        }
        if (self.damage || self.misreads) && (self.tidies() || self.transacts() || self.collecting != Collecting::Never) {
            return Err("damage is searched by itself: verdicts are the checkpoints then");
        }
        if self.tidies() && self.breaks(Mutation::SkipChecks) {
            return Err("skipped checks are for thought checkpoints");
        }
        Ok(())
    }
}
