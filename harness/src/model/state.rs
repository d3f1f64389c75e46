//! The state of the whole system, small enough to have millions: the server, what is under way, and each process.

use std::hash::{Hash, Hasher};

use super::commit::{Commit, Kind, OPS, SLOTS, Seq};
use super::config::{Config, Mutation, Op};

/// Processes at most.
pub(super) const PROCESSES: usize = 5;
/// Requests under way at most.
pub(super) const FLIGHTS: usize = 2;
/// Tidiers at most.
pub(super) const TIDIERS: usize = 2;

/// Where a process stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Pc {
    /// Will take no further step.
    #[default]
    Done,
    /// Died.
    Dead,
    /// Has a complete staged file, never tried to publish it at this name.
    Publish,
    /// Tried, and does not know what came of it.
    Settle,
    /// `Mutation::HalfCommit` only: has the name, the rest of the records is not there yet.
    Fill,
    /// Was told that it won: asks for the anchor.
    Confirm,
    /// Found another's commit at the name: asks for the anchor.
    ConfirmLoss,
    /// Found neither a staged file nor the name: asks for the anchor.
    ConfirmFree,
    /// Won truly: makes the bell longer.
    Ring,
    /// Answers its caller.
    Ack,
    /// Catches up, confirms and decides (a transaction without a hold, or a tidier).
    Decide,
    /// Its view was ancient: starts again from a checkpoint.
    Restart,
    /// Begins a read.
    Look,
    /// Opens commits until it has as many as the bell said.
    CatchUp,
    /// Fetches a value from where its index says that it is.
    Fetch,
}

/// One process: where it stands, and what it has replayed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Process {
    /// What it has replayed.
    pub(super) seq: Seq,
    /// Operations known to be acknowledged when the current read began.
    pub(super) before: u16,
    pub(super) pc: Pc,
    /// Which of its operations (or reads) is next or under way.
    pub(super) op: u8,
    /// The newest commit that is confirmed: all up to it is the log's.
    pub(super) anchor: u8,
    /// How long the bell was when the current read began.
    pub(super) target: u8,
    /// The commit that it publishes.
    pub(super) commit: Commit,
}

impl Default for Commit {
    fn default() -> Self {
        Self::NONE
    }
}

impl Process {
    /// Returns the slot after those that were replayed.
    pub(super) fn next(&self) -> usize {
        self.seq.len()
    }

    /// Says whether all that was replayed is confirmed.
    pub(super) fn confirmed(&self) -> bool {
        usize::from(self.anchor) + 1 == self.seq.len()
    }

    pub(super) fn confirm_all(&mut self) {
        self.anchor = small(self.seq.len() - 1);
    }
}

/// A request to give `commit` the name of `slot` that timed out at its host.
#[derive(Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub(super) struct Flight {
    pub(super) slot: u8,
    pub(super) commit: Commit,
}

/// What one tidier made. What was written stays known after the file is deleted: commits name it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Made {
    /// The commits whose live records the segment holds.
    pub(super) segment: Seq,
    /// The commits that the checkpoint is made of.
    pub(super) checkpoint: Seq,
    /// The last commit that the checkpoint claims.
    pub(super) as_of: u8,
    /// The segment that this one replaces: one more than its tidier's number, 0 for none.
    pub(super) replaces: u8,
    pub(super) segment_exists: bool,
    pub(super) checkpoint_exists: bool,
}

/// The whole system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The log as it truly is: each commit at the slot that it was the first to get. Nobody can see it.
    pub(super) history: Seq,
    /// The names in `log/`.
    pub(super) names: Seq,
    /// Staged files, a bit each.
    pub(super) staged: u64,
    /// The slot that each transaction was decided on, four bits an operation.
    pub(super) decided: u64,
    /// Slots whose names were collected.
    pub(super) collected: u8,
    /// `Mutation::HalfCommit` only: slots with a part of their records.
    pub(super) half: u8,
    /// Slots whose files the drive has damaged.
    pub(super) damaged: u8,
    /// How long the bell is.
    pub(super) bell: u8,
    /// Operations whose callers were told that they are done.
    pub(super) acked: u16,
    /// Operations whose callers were told that they are not done and never will be.
    pub(super) undone: u16,
    pub(super) broken: Option<Broken>,
    pub(super) flights: [Flight; FLIGHTS],
    pub(super) made: [Made; TIDIERS],
    pub(super) processes: [Process; PROCESSES],
}

/// A promise that a step broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    Twice,
    UndoneTookEffect,
    AcknowledgedNotInLog,
    AnswerFromOtherState,
    ReadMissesAcknowledged,
    ReadShowsHalf,
    ReadShowsOtherState,
    ForeignValue,
    DecidedOnOtherState,
}

impl Broken {
    pub(super) fn says(self) -> &'static str {
        match self {
            Self::Twice => "an operation took effect twice",
            Self::UndoneTookEffect => "an operation that was reported as not done took effect",
            Self::AcknowledgedNotInLog => "an acknowledged commit is not in the log",
            Self::AnswerFromOtherState => "a writer's answer comes from a state that the log never had",
            Self::ReadMissesAcknowledged => "a read misses what was acknowledged before it began",
            Self::ReadShowsHalf => "a read shows a part of a commit",
            Self::ReadShowsOtherState => "a read shows a state that the log never had",
            Self::ForeignValue => "a read returned the value of another commit",
            Self::DecidedOnOtherState => "a transaction was decided on a state that the log did not have there",
        }
    }
}

/// The server's answer to "give this staged file the name of slot".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The name is given. Whether it was free because it is next or because it was collected, the server doesn't say.
    Won,
    /// The name is taken.
    Exists,
    /// There is no such staged file.
    NoStage,
}

impl State {
    /// Whether the name of `slot` was collected.
    pub(super) fn is_collected(&self, slot: usize) -> bool {
        self.collected & (1 << slot) != 0
    }

    /// Whether the file of `slot` is damaged.
    pub(super) fn is_damaged(&self, slot: usize) -> bool {
        slot < SLOTS && self.damaged & (1 << slot) != 0
    }

    /// Opens the name of `slot`.
    pub(super) fn open(&self, slot: usize) -> Commit {
        let commit = self.names.at(slot);
        if commit.is_some() && self.half & (1 << slot) != 0 { commit.half() } else { commit }
    }

    /// Gives `commit` the name of `slot`, or refuses. This is all that the protocol asks of a server.
    pub(super) fn link(&mut self, config: &Config, slot: usize, commit: Commit) -> Answer {
        if self.staged & commit.bit() == 0 {
            return Answer::NoStage;
        }
        let taken = self.names.at(slot).is_some();
        if taken && !config.breaks(Mutation::Replace) {
            return Answer::Exists;
        }
        self.names.set(slot, commit);
        if !taken && slot == self.history.len() {
            self.enter_history(config, commit);
            if config.breaks(Mutation::HalfCommit) && matches!(commit.op(), Some(op) if config.op(op) == Op::TWO) {
                self.half |= 1 << slot;
            }
        }
        Answer::Won
    }

    fn enter_history(&mut self, config: &Config, commit: Commit) {
        let slot = self.history.len();
        let earlier = self.history;
        self.history.push(commit);
        let Some(op) = commit.op() else { return };
        if !self.takes_effect(config, slot, commit) {
            return;
        }
        if earlier.iter().any(|(at, other)| other.op() == Some(op) && self.takes_effect(config, at, other)) {
            self.broken = Some(Broken::Twice);
        }
        if self.undone & (1 << op) != 0 {
            self.broken = Some(Broken::UndoneTookEffect);
        }
    }

    /// Says whether replay lets the records of `commit` count at `slot`.
    pub(super) fn takes_effect(&self, config: &Config, slot: usize, commit: Commit) -> bool {
        let Some(op) = commit.op() else { return true };
        match config.op(op) {
            Op::Plain { .. } => true,
            Op::Transact { .. } => config.breaks(Mutation::UnconditionalTransact) || self.decided_on(op) + 1 == slot,
        }
    }

    pub(super) fn decided_on(&self, op: usize) -> usize {
        usize::try_from((self.decided >> (4 * op)) & 0xf).expect("four bits")
    }

    pub(super) fn decide(&mut self, op: usize, slot: usize) {
        self.decided &= !(0xf << (4 * op));
        self.decided |= (slot as u64) << (4 * op);
    }

    /// Adds a request that is under way; refuses if there are as many as may be.
    pub(super) fn fly(&mut self, config: &Config, slot: usize, commit: Commit) -> bool {
        let free = self.flights.iter().take(config.late).position(|flight| !flight.commit.is_some());
        let Some(free) = free else { return false };
        self.flights[free] = Flight { slot: small(slot), commit };
        self.flights.sort_unstable_by(|one, two| two.cmp(one));
        true
    }

    /// Takes out the request under way at `place`.
    pub(super) fn land(&mut self, place: usize) -> Flight {
        let flight = std::mem::take(&mut self.flights[place]);
        self.flights.sort_unstable_by(|one, two| two.cmp(one));
        flight
    }

    /// Returns the segment that counts after replaying `seq` (one more than its tidier's number, 0 for none): a fold
    /// counts if the segment that it replaces is the one that counted so far, so of two that did the same the first.
    pub(super) fn segment_after(&self, seq: Seq) -> u8 {
        let mut current = 0;
        for (_, commit) in seq.iter() {
            if let Some(Kind::Fold { folder }) = commit.kind()
                && self.made[folder].replaces == current
            {
                current = small(folder + 1);
            }
        }
        current
    }

    /// Returns the checkpoint that counts after replaying `seq`: one counts if it is as of a later commit than the last.
    pub(super) fn checkpoint_after(&self, seq: Seq) -> Option<usize> {
        let mut newest: Option<usize> = None;
        for (_, commit) in seq.iter() {
            if let Some(Kind::Checkpoint { folder }) = commit.kind()
                && newest.is_none_or(|other| self.made[other].as_of < self.made[folder].as_of)
            {
                newest = Some(folder);
            }
        }
        newest
    }

    /// Returns one past the last commit whose live records are in `segment` (0 for none: only the marker).
    pub(super) fn covered(&self, segment: u8) -> usize {
        if segment == 0 { 1 } else { self.made[usize::from(segment) - 1].segment.len() }
    }
}

impl Hash for State {
    /// Writes the state as a few words; processes that are through and tidiers that made nothing take one bit.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for word in [self.history.word(), self.names.word(), self.staged, self.decided] {
            hasher.write_u64(word);
        }
        let [one, two] = self.flights.map(|flight| u16::from_le_bytes([flight.slot, flight.commit.byte()]));
        hasher.write_u64(u64::from_le_bytes([
            self.collected,
            self.half,
            self.bell,
            self.broken.map_or(0, |broken| broken as u8 + 1),
            one.to_le_bytes()[0],
            one.to_le_bytes()[1],
            two.to_le_bytes()[0],
            two.to_le_bytes()[1],
        ]));
        let mut present = 0_u8;
        for (place, process) in self.processes.iter().enumerate() {
            if process.pc != Pc::Done {
                present |= 1 << place;
                hasher.write_u64(process.seq.word());
                let [low, high] = process.before.to_le_bytes();
                let (pc, commit) = (process.pc as u8, process.commit.byte());
                let rest = [pc, process.op, process.anchor, process.target, commit, low, high, 0];
                hasher.write_u64(u64::from_le_bytes(rest));
            }
        }
        for (place, made) in self.made.iter().enumerate() {
            if made.segment != Seq::default() || made.checkpoint != Seq::default() {
                present |= 0x20 << place;
                hasher.write_u64(made.segment.word());
                hasher.write_u64(made.checkpoint.word());
                let exist = u8::from(made.segment_exists) | u8::from(made.checkpoint_exists) << 1;
                hasher.write_u64(u64::from_le_bytes([made.as_of, made.replaces, exist, 0, 0, 0, 0, 0]));
            }
        }
        let ([a0, a1], [u0, u1]) = (self.acked.to_le_bytes(), self.undone.to_le_bytes());
        hasher.write_u64(u64::from_le_bytes([a0, a1, u0, u1, present, self.damaged, 0, 0]));
    }
}

/// Narrows a count of the model, which are all small.
pub(super) fn small(number: usize) -> u8 {
    u8::try_from(number).expect("all numbers of the model are small")
}

/// The number of operation `op` of `writer` among those of all writers.
pub(super) fn op_number(writer: usize, op: u8) -> usize {
    writer * OPS + usize::from(op)
}

const _: () = assert!(SLOTS <= 8, "slots are bits of a byte, and bytes of a word");
const _: () = assert!(PROCESSES <= 5 && TIDIERS <= 3, "the processes and what was made are bits of one byte");
