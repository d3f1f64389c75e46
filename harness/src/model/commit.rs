//! What a commit is to the model: an identity of one byte, and sequences of them.
//!
//! The state of a cache is the log replayed, so two caches are in the same state if they replayed the same sequence.
//! The model therefore keeps no state machine: what a process knows, what a checkpoint holds and what a segment holds
//! are sequences of commits, and "equal to a replay from the beginning" is equality of sequences.

use std::fmt;

/// Names in `log/` that the model tells apart; slot 0 is the marker before the first commit.
pub const SLOTS: usize = 8;
/// Operations of one writer at most.
pub const OPS: usize = 4;

const IDENTITY: u8 = 0x3f;
const OP_FIRST: u8 = 2;
const HOLD_FIRST: u8 = 26;
const FOLD_FIRST: u8 = 38;
const CHECKPOINT_FIRST: u8 = 40;
const VERDICT_FIRST: u8 = 42;

/// A commit as somebody read it: its identity (the nonce), and whether all of it was there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Commit(u8);

/// What a commit says. `op` numbers the operation among those of all writers (`writer * OPS + operation`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The name before the first commit.
    Marker,
    /// The records of operation `op`; `restaged` if its first staged file was lost and it was written again.
    Op {
        /// Number of the operation.
        op: usize,
        /// Whether this is the second file with these records.
        restaged: bool,
    },
    /// The hold that precedes transaction `op`.
    Hold {
        /// Number of the operation.
        op: usize,
    },
    /// Names the segment that this folder wrote.
    Fold {
        /// Which folder.
        folder: usize,
    },
    /// Names the checkpoint that this folder wrote.
    Checkpoint {
        /// Which folder.
        folder: usize,
    },
    /// Says that the commit at this slot cannot be read and replays as nothing: a checkpoint of a state without it.
    Verdict {
        /// Which slot.
        slot: usize,
    },
}

impl Commit {
    /// No commit: the name is free.
    pub(super) const NONE: Self = Self(0);
    /// The marker before the first commit.
    pub(super) const MARKER: Self = Self(1);
    /// Set on a commit of which only a part was seen.
    const HALF: u8 = 0x40;
    /// Set on a commit whose place was taken for replayed, but which was not.
    const SKIPPED: u8 = 0x80;

    /// Returns the commit of what `kind` says.
    pub(super) fn of(kind: Kind) -> Self {
        let byte = |number: usize| u8::try_from(number).expect("numbers of operations and folders are small");
        Self(match kind {
            Kind::Marker => 1,
            Kind::Op { op, restaged } => OP_FIRST + 2 * byte(op) + u8::from(restaged),
            Kind::Hold { op } => HOLD_FIRST + byte(op),
            Kind::Fold { folder } => FOLD_FIRST + byte(folder),
            Kind::Checkpoint { folder } => CHECKPOINT_FIRST + byte(folder),
            Kind::Verdict { slot } => VERDICT_FIRST + byte(slot),
        })
    }

    /// Returns what the commit says; `None` for no commit.
    pub(super) fn kind(self) -> Option<Kind> {
        let id = self.0 & IDENTITY;
        Some(match id {
            0 => return None,
            1 => Kind::Marker,
            OP_FIRST..HOLD_FIRST => Kind::Op { op: usize::from((id - OP_FIRST) / 2), restaged: (id - OP_FIRST) % 2 == 1 },
            HOLD_FIRST..FOLD_FIRST => Kind::Hold { op: usize::from(id - HOLD_FIRST) },
            FOLD_FIRST..CHECKPOINT_FIRST => Kind::Fold { folder: usize::from(id - FOLD_FIRST) },
            CHECKPOINT_FIRST..VERDICT_FIRST => Kind::Checkpoint { folder: usize::from(id - CHECKPOINT_FIRST) },
            _ => Kind::Verdict { slot: usize::from(id - VERDICT_FIRST) },
        })
    }

    /// Returns the operation whose records the commit carries.
    pub(super) fn op(self) -> Option<usize> {
        match self.kind() {
            Some(Kind::Op { op, .. }) => Some(op),
            _ => None,
        }
    }

    /// Says whether there is a commit at all.
    pub(super) fn is_some(self) -> bool {
        self.0 & IDENTITY != 0
    }

    /// Says whether the two carry the same nonce.
    pub(super) fn same(self, other: Self) -> bool {
        self.0 & IDENTITY == other.0 & IDENTITY
    }

    /// Returns the commit as seen by one who read only a part of it.
    pub(super) fn half(self) -> Self {
        Self(self.0 | Self::HALF)
    }

    /// Returns the commit as held by one who took it for replayed without having replayed it.
    pub(super) fn skipped(self) -> Self {
        Self(self.0 | Self::SKIPPED)
    }

    /// Says whether its place was taken for replayed, but it was not.
    pub(super) fn is_skipped(self) -> bool {
        self.0 & Self::SKIPPED != 0
    }

    /// Says whether only a part was seen.
    pub(super) fn is_half(self) -> bool {
        self.0 & Self::HALF != 0
    }

    /// Returns the commit as a byte.
    pub(super) fn byte(self) -> u8 {
        self.0
    }

    /// Returns the bit of the commit in a set of commits.
    pub(super) fn bit(self) -> u64 {
        1 << (self.0 & IDENTITY)
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            None => write!(f, "-")?,
            Some(Kind::Marker) => write!(f, "marker")?,
            Some(Kind::Op { op, restaged }) => {
                write!(f, "{}{}", OpName(op), if restaged { "'" } else { "" })?;
            }
            Some(Kind::Hold { op }) => write!(f, "hold:{}", OpName(op))?,
            Some(Kind::Fold { folder }) => write!(f, "fold{folder}")?,
            Some(Kind::Checkpoint { folder }) => write!(f, "checkpoint{folder}")?,
            Some(Kind::Verdict { slot }) => write!(f, "void:{slot}")?,
        }
        if self.is_half() {
            write!(f, "(half)")?;
        }
        if self.0 & Self::SKIPPED != 0 {
            write!(f, "(skipped)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An operation as a trace calls it: `a1` is the first of writer a.
pub(super) struct OpName(pub usize);

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writer = ["a", "b", "c"][self.0 / OPS];
        write!(f, "{writer}{}", self.0 % OPS + 1)
    }
}

/// Commits by slot, eight bytes. As a history or a view it has no gaps; as the names of `log/` it may.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Seq(u64);

impl Seq {
    /// Returns the sequence of only the marker: an empty log.
    pub(super) fn empty_log() -> Self {
        let mut seq = Self::default();
        seq.set(0, Commit::MARKER);
        seq
    }

    /// Returns the sequence as a word.
    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// Returns the commit at `slot`.
    pub(super) fn at(self, slot: usize) -> Commit {
        if slot < SLOTS { Commit(self.0.to_le_bytes()[slot]) } else { Commit::NONE }
    }

    /// Puts `commit` at `slot`.
    pub(super) fn set(&mut self, slot: usize, commit: Commit) {
        let mut bytes = self.0.to_le_bytes();
        bytes[slot] = commit.0;
        self.0 = u64::from_le_bytes(bytes);
    }

    /// Returns one past the last slot that is taken.
    pub(super) fn len(self) -> usize {
        SLOTS - (self.0.leading_zeros() / 8) as usize
    }

    /// Appends `commit`.
    pub(super) fn push(&mut self, commit: Commit) {
        self.set(self.len(), commit);
    }

    /// Returns the first `count` commits.
    pub(super) fn prefix(self, count: usize) -> Self {
        if count >= SLOTS { self } else { Self(self.0 & ((1 << (8 * count)) - 1)) }
    }

    /// Appends a commit that was read, or (`unread`) whose place was passed; a verdict takes back what it speaks of.
    pub(super) fn replay(&mut self, commit: Commit, unread: bool) {
        self.push(if unread { commit.skipped() } else { commit });
        if let Some(Kind::Verdict { slot }) = commit.kind() {
            self.set(slot, self.at(slot).skipped());
        }
    }

    /// Returns what a replay of all of it comes to.
    pub(super) fn replayed(self) -> Self {
        let mut seq = self;
        for (_, commit) in self.iter() {
            if let Some(Kind::Verdict { slot }) = commit.kind() {
                seq.set(slot, seq.at(slot).skipped());
            }
        }
        seq
    }

    /// Returns the slot of a commit that was passed and of which no verdict speaks.
    pub(super) fn doubt(self) -> Option<usize> {
        let judged = |slot| self.iter().any(|(_, commit)| commit.kind() == Some(Kind::Verdict { slot }));
        self.iter().find(|&(slot, commit)| commit.is_skipped() && !judged(slot)).map(|(slot, _)| slot)
    }

    /// Returns the commits in order; free slots are left out.
    pub(super) fn iter(self) -> impl Iterator<Item = (usize, Commit)> {
        (0..self.len()).map(move |slot| (slot, self.at(slot))).filter(|(_, commit)| commit.is_some())
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for slot in 0..self.len() {
            write!(f, "{}{}", if slot == 0 { "" } else { " " }, self.at(slot))?;
        }
        write!(f, "]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_its_byte() {
        let ops = (0..3 * OPS).flat_map(|op| [Kind::Op { op, restaged: false }, Kind::Op { op, restaged: true }, Kind::Hold { op }]);
        let folders = (0..2).flat_map(|folder| [Kind::Fold { folder }, Kind::Checkpoint { folder }]);
        let verdicts = (0..SLOTS).map(|slot| Kind::Verdict { slot });
        for kind in ops.chain(folders).chain(verdicts).chain([Kind::Marker]) {
            assert_eq!(Commit::of(kind).kind(), Some(kind));
            assert_eq!(Commit::of(kind).half().skipped().kind(), Some(kind));
        }
        assert_eq!(Commit::NONE.kind(), None);
    }

    #[test]
    fn a_sequence_grows_to_all_slots_and_has_prefixes() {
        let mut seq = Seq::empty_log();
        for op in 0..SLOTS - 1 {
            seq.push(Commit::of(Kind::Op { op, restaged: false }));
        }
        assert_eq!(seq.len(), SLOTS);
        assert_eq!(seq.prefix(SLOTS), seq);
        assert_eq!(seq.prefix(1), Seq::empty_log());
        assert_eq!(seq.prefix(3).len(), 3);
        assert!(!seq.at(SLOTS).is_some());
    }
}
