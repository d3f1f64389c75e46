//! What one search covers: who takes part, what they do, what the drive may do, and which rule is broken on purpose.

use std::fmt;

/// An operation of a writer: the records of one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// So many records that say what was asked; they change the cache wherever the commit lands.
    Plain {
        /// How many records.
        records: u8,
    },
    /// A commit that was decided on what the writer had replayed; it changes the cache only right after that.
    Transact {
        /// Whether a hold is published first and the decision made on it.
        hold: bool,
    },
}

impl Op {
    /// An operation of one record.
    pub const ONE: Self = Self::Plain { records: 1 };
    /// Two records that must be seen together.
    pub const TWO: Self = Self::Plain { records: 2 };
}

/// What a process that tidies does: the segment first, then the checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tidying {
    /// Folds: writes all live records into a segment and publishes a commit that names it.
    pub fold: bool,
    /// Writes a checkpoint of what it replayed and publishes a commit that names it.
    pub checkpoint: bool,
}

/// When names that are needless may be collected, and how one who finds them gone starts again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collecting {
    /// Nothing is collected.
    Never,
    /// Any name but the newest, at any moment, as if checkpoints and folds were always there. A restart finds one as
    /// of any commit that still has its name.
    Freely,
    /// What published folds and checkpoints made needless, at any moment: no grace at all.
    Folded,
    /// The same as `Freely`, but only after the grace: each process that is alive has confirmed a later commit since,
    /// and no request that is under way is older.
    AfterGrace,
}

/// A rule that is broken on purpose. The search must find what comes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Mutation {
    /// Acknowledges first, then rings the bell.
    LateRing,
    /// Believes that a name was won without asking for the anchor.
    NoPred,
    /// Asks only whether the name before it is there, not whether it is the commit that was replayed.
    PredByPresence,
    /// Goes on to the next name when another's commit has the one that was tried for, without asking for the anchor.
    LossUnconfirmed,
    /// Believes commits that were opened by name without asking for the anchor afterwards.
    ReadUnconfirmed,
    /// After a time-out, catches up and publishes at the next free name instead of settling the first try.
    BlindRetry,
    /// Publishes by a rename that replaces what has the name.
    Replace,
    /// A commit's records become visible one by one.
    HalfCommit,
    /// Collects what a fold covers as soon as its files are written, before they are published.
    FoldBeforePublishCollect,
    /// A checkpoint claims one commit more than it holds.
    CheckpointAhead,
    /// A commit that was decided on a state changes the cache wherever it lands.
    UnconditionalTransact,
    /// A commit carries the result that its writer computed when it was staged, not what was asked.
    ResultsNotOperations,
    /// Collects the newest of the needless names first.
    CollectNewestFirst,
    /// Collects from commit 1 on and leaves the marker before it.
    KeepMarker,
    /// Collects a name while the staged name of the same file is still there.
    StageOutlivesName,
    /// A staged file that is gone is written again without looking who has the name.
    RestageUnsettled,
    /// Segments that no commit names are swept at any age.
    SweepUnpublished,
    /// Sweeps a segment that is not in use as far as one knows, although it replaces one that one never heard of.
    SweepUnknown,
    /// Collects what a fold covers although the bell is too short for a reader to learn of the fold.
    CollectUnrung,
    /// Collects the last commit that a checkpoint holds, too: the anchor of those who start from it.
    CollectAnchor,
    /// Takes back the name that it was told it won if the anchor is gone.
    UnlinkInDoubt,
    /// Takes a value from the name that the index has, without asking whether it is the commit that the index means.
    FetchByName,
    /// Passes a commit that cannot be read and answers, without a word of it in the log.
    PassAlone,
    /// Takes a commit for damaged that one read gave wrongly.
    BelieveOneRead,
    /// Who has replayed a commit keeps it, whatever a verdict says.
    IgnoreVerdict,
    /// Checks nothing: neither after a win nor after a read. Sound only within the grace.
    SkipChecks,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Config {
    /// The operations of each writer, at most three writers of four.
    pub writers: Vec<Vec<Op>>,
    /// How often each reader reads.
    pub readers: Vec<u8>,
    /// Readers that know nothing yet and must start from a checkpoint or the beginning; each reads once.
    pub newcomers: usize,
    /// Those who fold and make checkpoints, at most two.
    pub tidiers: Vec<Tidying>,
    /// Commits in the log at most, the marker counted in.
    pub max_log: usize,
    /// Requests that timed out and may land at any later time, so many at once (at most two).
    pub late: usize,
    /// What may be collected.
    pub collecting: Collecting,
    /// Whether staged files may be swept at any age.
    pub sweep_stage: bool,
    /// Whether a writer may stop at its deadline.
    pub deadlines: bool,
    /// Whether crashes are steps. (Without them a crash is a process that takes no further step; only the grace asks
    /// who is alive.)
    pub crashes: bool,
    /// Whether the drive may damage the file of one commit.
    pub damage: bool,
    /// Whether a read may give wrong bytes of a file that is sound.
    pub misreads: bool,
    /// Whether every hold is honoured until it is used. (Otherwise each hold may have run out at any moment.)
    pub holds_honoured: bool,
    /// The rules that are broken on purpose.
    pub mutations: Vec<Mutation>,
}

impl Config {
    /// Returns a search of these writers and readers on a drive that does nothing strange.
    pub fn new(writers: &[&[Op]], readers: &[u8]) -> Self {
        let commits: usize = writers.iter().map(|ops| ops.len()).sum();
        Self {
            writers: writers.iter().map(|ops| ops.to_vec()).collect(),
            readers: readers.to_vec(),
            newcomers: 0,
            tidiers: Vec::new(),
            max_log: commits + 1,
            late: 0,
            collecting: Collecting::Never,
            sweep_stage: false,
            deadlines: false,
            crashes: false,
            damage: false,
            misreads: false,
            holds_honoured: false,
            mutations: Vec::new(),
        }
    }

    /// Returns the same search with `mutation` besides those that it has.
    #[must_use]
    pub fn with(&self, mutation: Mutation) -> Self {
        let mut broken = self.clone();
        broken.mutations.push(mutation);
        broken
    }

    pub(super) fn breaks(&self, mutation: Mutation) -> bool {
        self.mutations.contains(&mutation)
    }

    /// Which process is which: writers, then readers, then newcomers, then tidiers.
    pub(super) fn role(&self, process: usize) -> Role {
        let readers = self.writers.len();
        let newcomers = readers + self.readers.len();
        let tidiers = newcomers + self.newcomers;
        if process < readers {
            Role::Writer(process)
        } else if process < newcomers {
            Role::Reader(process - readers)
        } else if process < tidiers {
            Role::Newcomer(process - newcomers)
        } else {
            Role::Tidier(process - tidiers)
        }
    }

    pub(super) fn processes(&self) -> usize {
        self.writers.len() + self.readers.len() + self.newcomers + self.tidiers.len()
    }

    pub(super) fn op(&self, op: usize) -> Op {
        self.writers[op / super::commit::OPS][op % super::commit::OPS]
    }

    pub(super) fn transacts(&self) -> bool {
        self.writers.iter().flatten().any(|op| matches!(op, Op::Transact { .. }))
    }

    /// Whether there are real segments and checkpoints, as opposed to `Collecting::Freely`'s thought ones.
    pub(super) fn tidies(&self) -> bool {
        !self.tidiers.is_empty()
    }
}

/// What a process is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Writer(usize),
    Reader(usize),
    Newcomer(usize),
    Tidier(usize),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writer(number) => write!(f, "writer {}", ["a", "b", "c"][*number]),
            Self::Reader(number) => write!(f, "reader {}", number + 1),
            Self::Newcomer(number) => write!(f, "newcomer {}", number + 1),
            Self::Tidier(number) => write!(f, "tidier {number}"),
        }
    }
}
