//! Staging: a commit file that is whole and durable before it gets its name in the log, and the removal of its first name after.
//!
//! A file whose write, sync or close failed is given up, and a new one of a new name staged: what a drive says of a file after it
//! failed to write it cannot be trusted.
//!
//! Any staged name may be removed by anybody at any time without harm to the log: a commit that has its number keeps its bytes
//! (that was a second name), and a writer that finds its staged file missing stages another one for the same number.

use super::SharedLog;
use super::retry::{gave_up, is_gone, is_refusal};
use crate::chance;
use crate::clock::Deadline;
use crate::error::Result;
use crate::format::{BodyBuilder, CommitTerms, encode_commit};
use crate::log::Proposal;
use crate::mutants::{self, Mutant};
use crate::sync::{Arc, lock};
use crate::vfs::OpenMode;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names removed by one commit, once some have waited long enough.
const TIDY_STEP: usize = 2;
/// How long closing may take for removing names; what is left is removed by age, by others.
pub(super) const TIDY_AT_CLOSE: Duration = Duration::from_secs(1);
/// Names that wait at most; beyond, the oldest go early.
const TRASH_MAX: usize = 1 << 16;
const REFUSALS_MAX: u32 = 2;

/// Staged names to be removed, by their nonces, with when each was put here.
#[derive(Debug, Default)]
pub(super) struct Trash(VecDeque<(u128, Duration)>);

/// A commit file that is whole and durable under its staged name.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
    pub(super) nonce: u128,
    pub(super) bytes: Arc<[u8]>,
}

impl SharedLog {
    /// Stages a commit. If it fails, nothing took effect.
    pub(super) fn stage(&self, proposal: &Proposal<'_>, deadline: Deadline) -> Result<Staged> {
        let mut backoff = self.backoff(deadline);
        loop {
            let terms = self.terms(proposal)?;
            let path = self.stage_path(terms.nonce);
            let bytes = encode_commit(&self.marker, &terms, proposal.body);
            let Err(e) = self.write_whole(&path, &bytes) else {
                return Ok(Staged { path, nonce: terms.nonce, bytes: bytes.into() });
            };
            self.discard(terms.nonce);
            if is_gone(&e) {
                self.vfs.create_dir(&self.stage_dir()).ok(); // If the folder is what was missing; else the next try says more.
            }
            if (is_refusal(&e) && backoff.tries() >= REFUSALS_MAX) || !backoff.pause() {
                return Err(gave_up("stage", &path, e));
            }
        }
    }

    fn terms(&self, proposal: &Proposal<'_>) -> Result<CommitTerms> {
        let nonce = chance::wide(&*self.options.chance)?;
        // Position 0 is the marker's: what was decided on an empty log was decided on position 1.
        Ok(CommitTerms { nonce, checkpoint: proposal.checkpoint, decided_on: proposal.decided_on.map(|position| position.max(1)) })
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Its name is like no other, so it need not be created exclusively.
        let file = self.vfs.open(path, OpenMode::CreateWrite)?;
        file.write_all_at(bytes, 0)?;
        if !mutants::is(Mutant::SkipFsync) {
            file.sync().or_else(|e| if mutants::is(Mutant::RetryFailedFsync) { file.sync() } else { Err(e) })?;
        }
        file.close().or_else(|e| if mutants::is(Mutant::IgnoreCloseError) { Ok(()) } else { Err(e) })
    }

    /// Gives the empty commit its name 0, unless it is there.
    pub(super) fn place_first_commit(&self, deadline: Deadline) -> Result<()> {
        let (body, target) = (BodyBuilder::default(), self.commit_path(0));
        if super::opens(&*self.vfs, &target).is_ok() {
            return Ok(());
        }
        let staged = self.stage(&Proposal { body: &body, decided_on: None, durable: true, quiet: true, checkpoint: 0 }, deadline)?;
        let placed = self.until(deadline, "publish", &target, || match self.vfs.link(&staged.path, &target) {
            Err(e) => super::opens(&*self.vfs, &target).map_err(|_| e),
            linked => linked,
        });
        self.discard(staged.nonce);
        placed?;
        self.sync_log_names(deadline)
    }

    /// Makes names in `log/` durable where that needs asking.
    pub(super) fn sync_log_names(&self, deadline: Deadline) -> Result<()> {
        if !self.options.sync_names {
            return Ok(());
        }
        let dir = self.log_dir();
        self.until(deadline, "sync the folder", &dir, || self.vfs.sync_dir(&dir))
    }

    /// Remembers a staged name to be removed later.
    pub(super) fn discard(&self, nonce: u128) {
        lock(&self.trash).0.push_back((nonce, self.clock.boot()));
    }

    /// Removes a few of the names that have waited long enough.
    pub(super) fn tidy_a_little(&self) {
        let now = self.clock.boot();
        for _ in 0..TIDY_STEP {
            let is_due = {
                let trash = lock(&self.trash);
                let waited = trash.0.front().map(|&(_, since)| now.saturating_sub(since));
                waited.is_some_and(|waited| waited >= self.options.linger) || trash.0.len() > TRASH_MAX
            };
            if !is_due || self.tidy(1, Duration::MAX) == 0 {
                return;
            }
        }
    }

    /// Removes up to `names_max` staged names that are needed no more, for about `span`: call it when there is nothing else to do.
    /// Returns how many went; what fails stays for later.
    pub fn tidy(&self, names_max: usize, span: Duration) -> usize {
        let began = self.clock.boot();
        for removed in 0..names_max {
            if self.clock.boot().saturating_sub(began) > span {
                return removed;
            }
            let Some((nonce, since)) = lock(&self.trash).0.pop_front() else { return removed };
            if let Err(e) = self.vfs.unlink(&self.stage_path(nonce))
                && !is_gone(&e)
            {
                lock(&self.trash).0.push_back((nonce, since));
                return removed;
            }
        }
        names_max
    }
}
