//! The bell: a file that is longer than the number of every acknowledged commit.
//!
//! Its length only grows. A kept descriptor that fails is replaced, and one that is old is, too: so a bell that was removed and
//! made again by others is found after a while.

use super::retry::{gave_up, is_refusal};
use super::{Look, SharedLog};
use crate::clock::Deadline;
use crate::error::Result;
use crate::sync::{Arc, lock};
use crate::vfs::{OpenMode, VfsFile};
use std::io;
use std::time::Duration;

/// The kept descriptor, and when it was opened.
#[derive(Debug, Default)]
pub(super) struct Bell(Option<(Arc<dyn VfsFile>, Duration)>);

impl SharedLog {
    /// Returns the length of the bell as the drive tells it now: commits below it are published.
    pub(super) fn look(&self, deadline: Deadline) -> Result<u64> {
        let again = self.options.look == Look::Reopen;
        self.until(deadline, "look at", &self.bell_path(), || {
            let len = self.bell_file(again).and_then(|file| file.len_fresh());
            if len.is_err() {
                self.forget_bell();
            }
            len
        })
    }

    /// Makes the bell longer than `n`, durably.
    pub(super) fn ring(&self, n: u64, deadline: Deadline) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let path = self.bell_path();
        let mut backoff = self.backoff(deadline);
        loop {
            // After an error the byte is written again, through a new descriptor: a second sync alone may succeed without having
            // done what the first could not.
            let rung = self.bell_file(false).and_then(|file| file.write_all_at(b"!", n).and_then(|()| file.sync()));
            match rung {
                Ok(()) => return Ok(()),
                Err(e) => {
                    self.forget_bell();
                    if !backoff.pause() {
                        return Err(gave_up("ring", &path, e));
                    }
                }
            }
        }
    }

    /// Makes the bell as long as the log again, after it was found shorter than what was replayed (somebody published and died
    /// before the ring, or the bell was lost). Returns its length then.
    pub(super) fn restore_bell(&self, position: u64, deadline: Deadline) -> Result<u64> {
        let newest = self.list(deadline)?.last().copied().unwrap_or(0).max(position.saturating_sub(1));
        self.ring(newest, deadline)?;
        Ok(newest + 1)
    }

    fn bell_file(&self, again: bool) -> io::Result<Arc<dyn VfsFile>> {
        let now = self.clock.boot();
        let mut kept = lock(&self.bell);
        if let Some((file, opened)) = &kept.0
            && !again
            && now.saturating_sub(*opened) < self.options.grace / 100
        {
            return Ok(Arc::clone(file));
        }
        if again {
            kept.0 = None;
        }
        // An old one is closed after: whoever opens the bell while nobody has it open gets an SMB lease that the next host has to wait for.
        let file = self.open_bell()?;
        kept.0 = Some((Arc::clone(&file), now));
        Ok(file)
    }

    fn open_bell(&self) -> io::Result<Arc<dyn VfsFile>> {
        let path = self.bell_path();
        match self.vfs.open(&path, OpenMode::Write) {
            // Neither an existing bell is harmed by this (absence may be a stale look) nor anybody misled by an empty one: it is
            // shorter than any log.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = self.vfs.open(&path, OpenMode::CreateWrite)?;
                if self.options.sync_names {
                    self.vfs.sync_dir(&self.dir)?;
                }
                Ok(file)
            }
            Err(e) if is_refusal(&e) => self.vfs.open(&path, OpenMode::Read).map_err(|_| e),
            other => other,
        }
    }

    fn forget_bell(&self) {
        lock(&self.bell).0 = None;
    }
}
