//! The exhaustive model of the shared mode: every interleaving of a few processes on one drive, searched for a broken
//! promise.
//!
//! # What is searched
//!
//! Writers stage, publish, settle, confirm, ring and answer; readers look at the bell and catch up; newcomers start
//! from a checkpoint; tidiers fold and make checkpoints; what they made needless is collected. The drive answers late
//! or not at all (a link that timed out lands at any later time or never), names that were collected are free again,
//! and whoever is asleep may wake at any time with a view of any age. A crash is a process that takes no further step.
//! Nothing of this is sampled.
//!
//! # The rules that the model follows
//!
//! 1. *Name.* A complete staged file is linked as `log/<n>`; a name that exists refuses. An error proves nothing: what
//!    has the name decides.
//! 2. *Anchor.* A process remembers the newest commit that it has confirmed, by slot **and nonce**. After a win, after
//!    another's commit was found at the name, and after commits were opened by name, it asks whether the anchor still
//!    has its name. If so, nothing after it was ever collected, so each name was what it seemed. If not, a stranger
//!    may stand on a name that was collected: a read starts again from a checkpoint, a commit's outcome is unknown.
//!    Within the grace since the last confirmation the question may be spared (`Collecting::AfterGrace`).
//! 3. *Decisions.* A transaction is decided, a segment or checkpoint written, and anything collected, only on a
//!    confirmed view.
//! 4. *Staged files* may be swept at any age, by anybody. Who finds its own gone looks at the name: its own commit
//!    there, another's and the anchor in place, or nothing there and the anchor in place each decide it, and in the
//!    last two cases the records may be staged again under another name; else the outcome is unknown.
//! 5. *Collecting* goes oldest first from the marker before the first commit; unlinks a commit's staged name before
//!    its log name, lest a late duplicate put the same commit there again; keeps the last commit of the checkpoint in
//!    use, the anchor of those who start from it; makes the bell longer than the fold and the checkpoint first.
//! 6. *Folds* say which segment they replace and count only if that is the one in use: of two the first in the log
//!    counts. A segment may be deleted once the one that it replaces was in use and is no more, unless it is in use
//!    itself, published or not; a checkpoint, once another in use is as of the same or a later commit. No age is asked.
//! 7. *False names* (won on a collected name) are swept by the collector only: who won one can't tell it from a true
//!    one that others built on.
//! 8. *Values* are fetched from a commit only if it is the one that the index means.
//!
//! 9. *Damage.* Wrong bytes are read again past all caches before anything is made of them. Who still cannot read a commit passes
//!    it, and answers nothing before a checkpoint of the state without it is in the log and the bell rang; whoever replays that
//!    takes the commit back. So all go on from the same.
//!
//! # What must hold
//!
//! Acknowledged stays in the log; no operation takes effect twice, or after it was reported as not done; a read shows
//! a state that the log had, with all that was acknowledged before it began, and never a part of a commit; a
//! transaction counts only on the state that it was decided on; a start from a checkpoint equals a replay from the
//! beginning; live records stay within reach of whoever starts now.
//!
//! Each [`Mutation`] breaks one rule on purpose; that the search refutes it is the evidence that the search can see.

mod commit;
mod config;
mod explore;
mod moves;
mod promises;
mod protocol;
mod publish;
mod read;
mod state;
mod step;
mod tidy;

pub use commit::{OPS, SLOTS};
pub use config::{Collecting, Config, Mutation, Op, Tidying};
pub use explore::{Counterexample, Model, Report, TooLarge, explore};
pub use protocol::Protocol;
pub use state::State;
pub use step::Step;
