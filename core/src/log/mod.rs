//! One log, two ways to commit: `local` appends to shared segments under a host-local lock, `shared` gives complete files their
//! place by `link(2)`. Replay is the same for both.
//!
//! Positions count up. In local mode a position is a byte offset in the log; in shared mode it is a commit's number. An *address*
//! names a byte of a commit for ever, also after the commit was folded (see [`BodyAt`]).

mod address;
pub mod bytes;
pub mod local;
pub mod shared;

pub use address::{ADDR_OFFSET_BITS, BodyAt};
pub use bytes::Bytes;
pub use shared::{Look, SharedLog, SharedOptions};

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BODY_LEN_MAX, Body, BodyBuilder};
use std::fmt::Debug;

/// How far a process has replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The position of the next commit.
    pub position: u64,
    /// The checksum chain up to there (local mode), or what tells the commit before it apart from others (shared mode; 0 if unknown).
    pub chain: u64,
}

/// A commit as replay sees it: whole and checked (its head; each value is checked when it is read).
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// Its position.
    pub position: u64,
    /// The position after it.
    pub next: u64,
    /// Its records.
    pub body: Body<'a>,
    /// Where the body is: what the addresses of its values are told by.
    pub at: BodyAt,
    /// The address where the part of the log begins that the commit lies in: what goes as a whole once nothing of it lives. In local mode its
    /// segment; in shared mode 64 commits.
    pub part: u64,
    /// If set, the commit counts only if its position is this (it was decided on the state just before); else it replays as
    /// nothing.
    pub decided_on: Option<u64>,
}

impl Commit<'_> {
    /// Returns whether its records take effect.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.decided_on.is_none_or(|position| position == self.position)
    }
}

/// Takes commits in order.
pub trait Replay {
    /// Takes the next commit. (Also those that do not count: check [`Commit::counts`].)
    fn commit(&mut self, commit: &Commit<'_>);
    /// Takes note that the commit at `position` is damaged or missing and replays as nothing; the next one is at `next`.
    fn damaged(&mut self, position: u64, next: u64, why: &Error);
    /// Returns whether replay may go on past a commit that is damaged or missing. In shared mode nobody answers from a state that passed one alone: it
    /// is said in the log first, by a checkpoint of that state.
    fn may_pass_damage(&self) -> bool {
        true
    }
    /// Returns whether the proposer may still publish after what was just replayed; asked in shared mode before each race for a number.
    fn may_publish(&self) -> bool {
        true
    }
    /// Returns whether everything replayed so far could be. If not (files that an old state names are gone), nothing is published on it:
    /// [`Published::Behind`] makes the caller start again from the newest checkpoint.
    fn is_sound(&self) -> bool {
        true
    }
}

/// Where a newcomer starts.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The payload of the newest usable `Record::Checkpoint`, or `None` to replay from the beginning.
    pub checkpoint: Option<Vec<u8>>,
    /// The position of the commit that carries it.
    pub at: u64,
}

/// How catching up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything known to be published was replayed.
    UpToDate,
    /// What comes next was collected, or is damaged and may not be passed: start again from [`Log::start`].
    Gone,
}

/// How publishing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// At this position; everything before it was replayed, and then it.
    At(u64),
    /// Certainly not: what was replayed forbids it for now (see [`Replay::may_publish`]).
    Held,
    /// Certainly not: the view was too old. Start again from [`Log::start`], then publish again.
    Behind,
}

/// What is published together with its terms.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// The records.
    pub body: &'a BodyBuilder,
    /// Counts only at this position (see [`Commit::decided_on`]).
    pub decided_on: Option<u64>,
    /// Make it durable before it is acknowledged (shared mode always does).
    pub durable: bool,
    /// Nobody is told that it is done, so nobody needs to see it at a look: a shared log does not ring for it. (Whoever publishes next finds it
    /// by its name, and rings for both.)
    pub quiet: bool,
    /// The position of the newest checkpoint commit that the proposer has replayed (0 if none): newcomers are led there.
    pub checkpoint: u64,
}

impl Proposal<'_> {
    /// Refuses what is longer than a commit can be.
    pub(crate) fn check_len(&self) -> Result<()> {
        let len = self.body.len();
        if len <= BODY_LEN_MAX {
            return Ok(());
        }
        let what = format!("one commit has at most {BODY_LEN_MAX} bytes, and this change takes {len}: make several of it");
        Err(Error::new(ErrorKind::Invalid, what))
    }
}

/// How recent an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As recent as the drive can tell: look at the drive.
    Exact,
    /// What was replayed before is enough; do not look.
    Cached,
}

/// An ordered log of commits.
pub trait Log: Debug + Send + Sync {
    /// Returns where a newcomer starts.
    ///
    /// # Errors
    /// When the drive fails until the deadline.
    fn start(&self, deadline: Deadline) -> Result<Start>;

    /// Returns whether something is published at or after `cursor`, as far as a look can tell. In local mode one atomic load.
    ///
    /// # Errors
    /// When the drive fails until the deadline.
    fn is_behind(&self, cursor: Cursor, deadline: Deadline) -> Result<bool>;

    /// Replays what was published from `cursor` on, as far as a look can tell, and moves the cursor.
    ///
    /// # Errors
    /// When the drive fails until the deadline. What was replayed stays replayed.
    fn catch_up(&self, cursor: &mut Cursor, replay: &mut dyn Replay, deadline: Deadline) -> Result<Progress>;

    /// Publishes a commit at the first free position; replays every commit before it, then it, and moves the cursor past it.
    ///
    /// # Errors
    /// `Timeout` or `Io` if it certainly did not take effect, `OutcomeUnknown` if it may have (then the cursor has not passed it).
    fn publish(&self, cursor: &mut Cursor, proposal: Proposal<'_>, replay: &mut dyn Replay, deadline: Deadline) -> Result<Published>;

    /// Returns `len` bytes at an address that no fold covers.
    ///
    /// # Errors
    /// `Damaged` if they are not there any more.
    fn read(&self, addr: u64, len: u64, deadline: Deadline) -> Result<Bytes>;

    /// Keeps other processes from publishing until [`Log::end_exclusive`]. Local mode only; in shared mode it does nothing. As long as it has to
    /// wait it calls `meanwhile`, which returns whether it found something to do.
    ///
    /// # Errors
    /// `Timeout`.
    fn begin_exclusive(&self, deadline: Deadline, meanwhile: &dyn Fn() -> bool) -> Result<()>;

    /// Ends what [`Log::begin_exclusive`] began.
    fn end_exclusive(&self);

    /// Makes everything that was published up to now durable (local mode; in shared mode it is).
    ///
    /// # Errors
    /// `Io`.
    fn sync(&self) -> Result<()>;

    /// Collects what lies wholly within `from..to` (folded, and its fold published), oldest first. Shared mode collects from the
    /// beginning of the log only (`from` is ignored there), and as far as the grace allows; local mode the segment that starts at `from`. Failure is "later", never an error.
    /// Returns how many files went.
    fn collect(&self, from: u64, to: u64) -> usize;

    /// Takes note that the checkpoint published at `at` was adopted: newcomers are led there (local mode; in shared mode
    /// [`Proposal::checkpoint`] does it).
    fn adopted(&self, at: u64);

    /// Returns the first position from `position` on at which commits still are as they were published: not folded and collected.
    ///
    /// # Errors
    /// When the drive fails until the deadline.
    fn raw_from(&self, position: u64, deadline: Deadline) -> Result<Option<u64>>;

    /// Forgets what is kept in memory of the commits, so that what is on the drive is read next.
    fn forget(&self) {}

    /// Returns what is wrong with the files that say where the log's parts are and where it ends, each with whether it was put right.
    ///
    /// # Errors
    /// When the drive fails until the deadline.
    fn check(&self, fix: bool, deadline: Deadline) -> Result<Vec<(Error, bool)>>;

    /// Returns the position of the very first commit.
    fn first_position(&self) -> u64;
}
