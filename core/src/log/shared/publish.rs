//! Publishing: one staged file, one number after the other, each decided before the next is tried.

use super::SharedLog;
use super::fetch::{Fetched, Unread};
use super::retry::is_gone;
use super::stage::Staged;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::format::CommitHeader;
use crate::log::{Cursor, Progress, Proposal, Published, Replay};
use crate::mutants::{self, Mutant};
use crate::sync::Arc;
use crate::vfs::{self, OpenMode};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Races that are lost in a row before looking how far the log has got, and then between looks. Not at each: who is one commit
/// behind must be back at the next number sooner than the winner, and a look costs a round trip.
const LOSSES_BEFORE_LOOK: u32 = 2;
const LOSSES_BETWEEN_LOOKS: u32 = 16;
/// Tries at one number that say the staged file is not there before another one is staged.
const MISSING_BEFORE_RESTAGE: u32 = 2;

/// How the contest for one number ended.
enum Claim {
    /// Ours; the number was free at the given time.
    Won(Duration),
    /// Another's, whose bytes these are.
    Lost(Arc<[u8]>),
    /// Another's, and damaged.
    LostToDamage(Error),
}

/// Whose file has a number, as far as one look tells.
enum Owner {
    Ours,
    Others(Arc<[u8]>),
    /// Certainly not ours, and not whole.
    OthersDamaged(Error),
    /// Nobody's, or the drive does not tell.
    Unclear,
    /// Something that is not a commit at all.
    Unreadable(Error),
}

/// One operation on its way: the file that is tried now, and the nonces of those that may still land.
struct Attempt<'a> {
    proposal: Proposal<'a>,
    staged: Staged,
    nonces: Vec<u128>,
}

impl Attempt<'_> {
    /// Goes on with another file as if there had been none before.
    fn forget(&mut self, staged: Staged) {
        self.nonces = vec![staged.nonce];
        self.staged = staged;
    }
}

impl SharedLog {
    /// See [`crate::log::Log::publish`].
    pub(super) fn publish_commit(
        &self,
        cursor: &mut Cursor,
        proposal: Proposal<'_>,
        replay: &mut dyn Replay,
        deadline: Deadline,
    ) -> Result<Published> {
        proposal.check_len()?;
        cursor.position = cursor.position.max(1);
        // A view that is nearly as old as the grace could win a name that was collected; that would be found out, but only after.
        if self.is_view_old() && (self.replay_news(cursor, replay, deadline)? == Progress::Gone || !replay.is_sound()) {
            return Ok(Published::Behind);
        }
        let staged = self.stage(&proposal, deadline)?;
        let nonces = vec![staged.nonce];
        let mut attempt = Attempt { proposal, staged, nonces };
        let published = self.contend(cursor, &mut attempt, replay, deadline);
        self.discard(attempt.staged.nonce);
        if published.is_ok() {
            self.tidy_a_little();
            self.collect_a_little();
        }
        published
    }

    fn contend(&self, cursor: &mut Cursor, attempt: &mut Attempt<'_>, replay: &mut dyn Replay, deadline: Deadline) -> Result<Published> {
        let mut losses = 0;
        loop {
            // Also what was replayed before this call, or by a look in between, may ask others to hold.
            if !replay.may_publish() {
                return Ok(Published::Held);
            }
            let n = cursor.position;
            match self.claim(n, attempt, deadline)? {
                Claim::Won(free_at) => {
                    self.acknowledge(*cursor, free_at, attempt.proposal.quiet, deadline).map_err(|e| unknown(n, e))?;
                    self.replay_one(cursor, &attempt.staged.bytes, replay)?;
                    return Ok(Published::At(n));
                }
                Claim::Lost(bytes) => {
                    if !self.is_genuine(*cursor, deadline)? {
                        return Ok(Published::Behind);
                    }
                    self.replay_one(cursor, &bytes, replay)?;
                    if !replay.is_sound() {
                        return Ok(Published::Behind);
                    }
                }
                Claim::LostToDamage(why) if replay.may_pass_damage() => skip(cursor, n + 1, replay, &why),
                Claim::LostToDamage(_) => return Ok(Published::Behind),
            }
            losses += 1;
            if losses % LOSSES_BETWEEN_LOOKS == LOSSES_BEFORE_LOOK
                && (self.replay_news(cursor, replay, deadline)? == Progress::Gone || !replay.is_sound())
            {
                return Ok(Published::Behind);
            }
        }
    }

    /// Contends for number `n` until it is decided. An error is `OutcomeUnknown` as soon as the file may have got the number.
    fn claim(&self, n: u64, attempt: &mut Attempt<'_>, deadline: Deadline) -> Result<Claim> {
        let target = self.commit_path(n);
        let free_at = self.clock.boot();
        let mut backoff = self.backoff(deadline);
        let mut missing = 0;
        if deadline.passed(&*self.clock) {
            return Err(Error::new(ErrorKind::Timeout, "the deadline passed before the commit was published").at(&target));
        }
        loop {
            // The commit point: once this name is given, the commit is in the log, whatever the answer says.
            let Err(e) = self.name(&attempt.staged.path, &target) else { return Ok(Claim::Won(free_at)) };
            match self.owner(n, &attempt.nonces, deadline).map_err(|e| unknown(n, e))? {
                Owner::Ours => return Ok(Claim::Won(free_at)),
                Owner::Others(bytes) => return Ok(Claim::Lost(bytes)),
                Owner::OthersDamaged(why) => return Ok(Claim::LostToDamage(why)),
                Owner::Unclear if mutants::is(Mutant::RetryBeforeSettling) => attempt.forget(self.stage(&attempt.proposal, deadline)?),
                Owner::Unclear => {}
                Owner::Unreadable(why) => {
                    // Nobody's next write shall end here again: it is said in the log first that this commit cannot be read.
                    self.view().mistrust();
                    return Err(unknown(n, why));
                }
            }
            missing = if is_gone(&e) { missing + 1 } else { 0 };
            if !backoff.pause() {
                return Err(unknown(n, Error::io("publish", &target, e)));
            }
            if missing >= MISSING_BEFORE_RESTAGE {
                self.stage_again(attempt, deadline).map_err(|e| unknown(n, e))?;
                missing = 0;
            }
        }
    }

    fn name(&self, staged: &Path, target: &Path) -> io::Result<()> {
        if mutants::is(Mutant::PublishByRename) { self.vfs.rename(staged, target) } else { self.vfs.link(staged, target) }
    }

    /// Stages another file for the same number. At most one of the files can get it, and whichever does is ours.
    fn stage_again(&self, attempt: &mut Attempt<'_>, deadline: Deadline) -> Result<()> {
        let staged = self.stage(&attempt.proposal, deadline)?;
        attempt.nonces.push(staged.nonce);
        let before = std::mem::replace(&mut attempt.staged, staged);
        self.discard(before.nonce);
        Ok(())
    }

    fn owner(&self, n: u64, ours: &[u128], deadline: Deadline) -> Result<Owner> {
        let found = match self.fetch_once(n) {
            Ok(bytes) => Fetched::Whole(bytes),
            Err(Unread::Missing | Unread::Failed(_)) => return Ok(Owner::Unclear),
            // One read proves no damage.
            Err(Unread::Malformed(..)) => self.fetch(n, deadline)?,
        };
        Ok(match found {
            Fetched::Whole(bytes) => match CommitHeader::parse(&bytes, &self.marker) {
                Ok(header) if ours.contains(&header.nonce) => Owner::Ours,
                _ => Owner::Others(bytes),
            },
            Fetched::Absent => Owner::Unclear,
            Fetched::Damaged(why) => match vfs::afresh(|| self.fetch_nonce(n)) {
                Some(nonce) if ours.contains(&nonce) => Owner::Ours,
                Some(_) => Owner::OthersDamaged(why),
                None => Owner::Unreadable(why),
            },
        })
    }

    /// Reads the nonce of a commit whose body is damaged.
    fn fetch_nonce(&self, n: u64) -> Option<u128> {
        let mut bytes = [0; crate::format::COMMIT_HEADER_LEN];
        let file = self.vfs.open(&self.commit_path(n), OpenMode::Read).ok()?;
        file.read_exact_at(&mut bytes, 0).ok()?;
        CommitHeader::parse(&bytes, &self.marker).ok().map(|header| header.nonce)
    }

    /// What must be so before a number that was won is acknowledged: it was won truly, its name is durable, the bell is rung (unless nobody
    /// is told).
    fn acknowledge(&self, cursor: Cursor, free_at: Duration, quiet: bool, deadline: Deadline) -> Result<()> {
        let n = cursor.position;
        let fresh = self.view().was_unpublished(n, self.options.grace / 100, self.clock.boot());
        if !fresh && !mutants::is(Mutant::SkipPredecessor) && !self.follows(cursor, deadline)? {
            self.lose(n);
            return Err(Error::new(ErrorKind::OutcomeUnknown, "the view of the log was too old"));
        }
        self.sync_log_names(deadline)?;
        if !quiet && !mutants::is(Mutant::AckBeforeRing) {
            self.ring(n, deadline)?;
        }
        let mut view = self.view();
        view.note_unpublished(n + 1, free_at);
        view.note_contact(free_at);
        Ok(())
    }

    /// Whether the view is so old that what has a name now may have got it after the true commit of that number was collected.
    pub(super) fn is_view_old(&self) -> bool {
        self.view().is_older_than(self.options.grace / 2, self.clock.boot())
    }

    /// Whether what was just read at `cursor` is the commit of that number, and not one that won the name falsely after the true
    /// one was collected. If not, only a new start helps (unless that led here).
    pub(super) fn is_genuine(&self, cursor: Cursor, deadline: Deadline) -> Result<bool> {
        let n = cursor.position;
        let genuine = !self.is_view_old() || self.view().is_best(n) || self.follows(cursor, deadline)?;
        if !genuine {
            self.lose(n);
        }
        Ok(genuine)
    }

    fn lose(&self, n: u64) {
        self.forget_recent();
        self.view().lose(n);
    }

    /// Asks whether the commit just before `cursor`, the one that was replayed, still has its name. If so, the one at `cursor` was
    /// not collected when its name was won: names are collected oldest first.
    fn follows(&self, cursor: Cursor, deadline: Deadline) -> Result<bool> {
        let before = cursor.position - 1;
        if before == 0 {
            let path = self.commit_path(0);
            return self.until(deadline, "look at", &path, || match super::opens(&*self.vfs, &path) {
                Err(e) if is_gone(&e) => Ok(false),
                other => other.map(|()| true),
            });
        }
        Ok(match self.fetch(before, deadline)? {
            Fetched::Whole(bytes) => {
                let found = CommitHeader::parse(&bytes, &self.marker).map_or(0, |header| chain_of(header.nonce));
                cursor.chain == 0 || cursor.chain == found
            }
            Fetched::Damaged(_) => true,
            Fetched::Absent => false,
        })
    }
}

/// What a cursor keeps of the commit before it.
#[expect(clippy::cast_possible_truncation, reason = "half of a random number is enough to tell two commits apart")]
pub(super) const fn chain_of(nonce: u128) -> u64 {
    nonce as u64
}

/// Passes a damaged commit.
pub(super) fn skip(cursor: &mut Cursor, next: u64, replay: &mut dyn Replay, why: &Error) {
    replay.damaged(cursor.position, next, why);
    *cursor = Cursor { position: next, chain: 0 };
}

fn unknown(n: u64, cause: Error) -> Error {
    let cause_text = cause.to_string();
    let error = Error::new(ErrorKind::OutcomeUnknown, format!("commit {n} may or may not have been published ({cause_text})"));
    match cause.raw_os_error() {
        Some(errno) => error.caused_by(io::Error::from_raw_os_error(errno)),
        None => error,
    }
}
