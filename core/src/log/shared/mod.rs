//! The log of a network drive: every commit is one complete file that `link(2)` gives its number.
//!
//! ```text
//! log/<n>        commit n, as 12 or more hex digits; complete before it has that name, never changed after. 0 is empty.
//! stage/<nonce>  a commit file on its way, or one that has arrived and whose second name was not removed yet
//! bell           longer than n once commit n is published; nobody reads its bytes
//! ```
//! What makes it sound, on drives where locks lie, looks are stale and replies get lost:
//!
//! - Two writers only ever contend for a name, and `link` refuses one that exists. Its errors prove nothing: whose file has the
//!   name is read from the file (its nonce). Until that is decided, the operation is tried at no other number.
//! - Nothing is acknowledged before the bell is longer than its number, and nobody answers from a state that is longer than the
//!   bell: who replayed further rings it for the writer who did not.
//! - A name that was collected is free again. So a name counts as won only if the one before it is still there, or if the log was
//!   known to end there a moment ago: names are collected oldest first and long after.
//! - Absence is never believed at once, and no clock of another host is ever read.
//!
//! A call ends by its deadline as long as the file system's calls do: [`crate::vfs::BoundedVfs`] sees to that where a drive may not answer.

mod bell;
mod catch_up;
mod collect;
mod fetch;
mod publish;
mod retry;
mod stage;
mod start;
mod view;

use super::{Bytes, Cursor, Log, Progress, Proposal, Published, Replay, Start};
use crate::chance::{Chance, OsChance};
use crate::clock::{Clock, Deadline};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Marker;
use crate::sync::{Arc, Mutex};
use crate::vfs::{self, OpenMode, Vfs};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::mount::Look;

/// How often a bell that seems too short is looked at before that is believed, and the pause between.
const BELL_LOOKS: u32 = 5;
const BELL_PAUSE: Duration = Duration::from_millis(50);
/// So many commits in a row may be those of writers that were killed at once.
const UNRUNG_MAX: u64 = 8;
/// How long a drive that does not answer may hold the tidying of who leaves.
const TIDY_TIME: Duration = Duration::from_secs(2);

/// What differs between drives and uses.
#[derive(Debug, Clone)]
pub struct SharedOptions {
    /// How to look.
    pub look: Look,
    /// How long what is collectable stays, and how old a view may be at most: no view may be older than this by accident.
    pub grace: Duration,
    /// How long a name that should exist is looked for before it counts as missing; longer than the drive caches absent names
    /// that it was asked for.
    pub absence: Duration,
    /// How long a staged name stays after its commit was published. Long enough that no reader's client holds a delegation on the
    /// file any more: removing a name would have to wait for its return.
    pub linger: Duration,
    /// How many threads read commits when many are to be read (1: none but the caller's).
    pub readers: usize,
    /// How many bytes of recent commits are kept in memory.
    pub recent_bytes: usize,
    /// Whether a name needs its directory synced to be durable (local disks; on network drives the server sees to it).
    pub sync_names: bool,
    /// Writes nothing. What was published and not rung for is read, and another reader may not see it before a writer comes by.
    pub read_only: bool,
    /// Where the nonces come from; every staged file needs one that no other file has.
    pub chance: Arc<dyn Chance>,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self {
            look: Look::Statx,
            grace: Duration::from_secs(600),
            absence: Duration::from_secs(5),
            linger: Duration::from_secs(150),
            readers: 8,
            recent_bytes: 8 << 20,
            sync_names: false,
            read_only: false,
            chance: Arc::new(OsChance),
        }
    }
}

/// A process's handle on a shared log. Cheap to keep; holds one descriptor (the bell) and recent commits.
#[derive(Debug)]
pub struct SharedLog {
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    marker: Marker,
    options: SharedOptions,
    bell: Mutex<bell::Bell>,
    recent: Mutex<fetch::Recent>,
    suspects: Mutex<fetch::Suspects>,
    view: Mutex<view::View>,
    trash: Mutex<stage::Trash>,
    collecting: Mutex<collect::Collecting>,
}

impl SharedLog {
    /// Makes the folders, the empty commit 0 and the bell in `dir`, and opens the log. Several processes may do so at once.
    ///
    /// To be called before the directory is declared a cache, never on one in use: commit 0 is the first that is collected, and
    /// must not come back.
    ///
    /// # Errors
    /// When the drive fails until the deadline, or refuses.
    pub fn create(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        marker: Marker,
        options: SharedOptions,
        deadline: Deadline,
    ) -> Result<Self> {
        let log = Self::open(vfs, clock, dir, marker, options);
        log.lay_out(deadline)?;
        Ok(log)
    }

    /// Opens the log in `dir`. Asks nothing of the drive yet.
    #[must_use]
    pub fn open(vfs: Arc<dyn Vfs>, clock: Arc<dyn Clock>, dir: &Path, marker: Marker, options: SharedOptions) -> Self {
        let recent = Mutex::new(fetch::Recent::new(options.recent_bytes));
        Self {
            vfs,
            clock,
            dir: dir.to_owned(),
            marker,
            options,
            bell: Mutex::default(),
            recent,
            suspects: Mutex::default(),
            view: Mutex::default(),
            trash: Mutex::default(),
            collecting: Mutex::default(),
        }
    }

    fn lay_out(&self, deadline: Deadline) -> Result<()> {
        // Those too that are needed later: a host that saw a folder absent once may believe so for a minute, and everything in it gone.
        let needed_later = ["run", "fold", "blob"].map(|name| self.dir.join(name));
        for dir in [self.stage_dir(), self.log_dir()].into_iter().chain(needed_later) {
            self.until(deadline, "make the folder", &dir, || match self.vfs.create_dir(&dir) {
                Err(e) if self.vfs.stat(&dir).is_ok_and(|stat| stat.is_dir) || e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            })?;
        }
        self.place_first_commit(deadline)?;
        self.ring(0, deadline)?;
        if self.look(deadline)? > 1 {
            // Somebody was faster by far: commit 0 may have been collected before we placed it, and nobody needs it any more.
            self.vfs.unlink(&self.commit_path(0)).ok();
        }
        if self.options.sync_names {
            self.until(deadline, "sync the folder", &self.dir, || self.vfs.sync_dir(&self.dir))?;
        }
        Ok(())
    }

    fn stage_dir(&self) -> PathBuf {
        self.dir.join("stage")
    }

    fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn bell_path(&self) -> PathBuf {
        self.dir.join("bell")
    }

    fn commit_path(&self, n: u64) -> PathBuf {
        self.dir.join(format!("log/{n:012x}"))
    }

    fn stage_path(&self, nonce: u128) -> PathBuf {
        self.dir.join(format!("stage/{nonce:032x}"))
    }

    /// Compares the bell with the names; with `fix`, rings it for the newest. (One that was published this moment may not be rung for yet.)
    fn check_bell(&self, fix: bool, deadline: Deadline) -> Result<Vec<(Error, bool)>> {
        let newest = self.list(deadline)?.last().copied().unwrap_or(0);
        for _ in 0..BELL_LOOKS {
            if self.look(deadline)? == newest + 1 {
                return Ok(Vec::new());
            }
            self.clock.sleep(BELL_PAUSE);
        }
        let (bell, newest) = (self.look(deadline)?, self.list(deadline)?.last().copied().unwrap_or(0));
        if bell == newest + 1 {
            return Ok(Vec::new());
        }
        if bell > newest {
            // The bell stays as it is: a listing may be stale, and a bell that is too long costs looks only.
            let what = format!("commits {:x} to {:x} were published and are missing from", newest + 1, bell - 1);
            return Ok(vec![(damaged(what, &self.log_dir()), fix)]);
        }
        if newest - bell < UNRUNG_MAX {
            // Their writers died between publishing and ringing (a transaction's hold is not rung for at all): nobody was told of these commits,
            // and nothing is damaged.
            if fix {
                self.ring(newest, deadline)?;
            }
            return Ok(Vec::new());
        }
        let error = damaged(format!("the bell has {bell} bytes though commit {newest} is published:"), &self.bell_path());
        if fix {
            self.ring(newest, deadline)?;
        }
        Ok(vec![(error, fix)])
    }

    /// Returns the numbers that have names in `log/`, ascending. What is not a number is none of ours.
    fn list(&self, deadline: Deadline) -> Result<Vec<u64>> {
        let dir = self.log_dir();
        let names = self.until(deadline, "list", &dir, || self.vfs.read_dir(&dir))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

/// Returns the number that a name in `log/` stands for; one number has one name.
fn number_of(name: &str) -> Option<u64> {
    let n = u64::from_str_radix(name, 16).ok()?;
    (format!("{n:012x}") == name).then_some(n)
}

impl Log for SharedLog {
    fn start(&self, deadline: Deadline) -> Result<Start> {
        self.find_start(deadline)
    }

    fn is_behind(&self, cursor: Cursor, deadline: Deadline) -> Result<bool> {
        self.has_news(cursor.position.max(1), deadline)
    }

    fn catch_up(&self, cursor: &mut Cursor, replay: &mut dyn Replay, deadline: Deadline) -> Result<Progress> {
        self.replay_news(cursor, replay, deadline)
    }

    fn publish(&self, cursor: &mut Cursor, proposal: Proposal<'_>, replay: &mut dyn Replay, deadline: Deadline) -> Result<Published> {
        self.publish_commit(cursor, proposal, replay, deadline)
    }

    fn read(&self, addr: u64, len: u64, deadline: Deadline) -> Result<Bytes> {
        self.read_value(addr, len, deadline)
    }

    fn begin_exclusive(&self, _deadline: Deadline, _meanwhile: &dyn Fn() -> bool) -> Result<()> {
        Ok(())
    }

    fn end_exclusive(&self) {}

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn collect(&self, _from: u64, to: u64) -> usize {
        self.collect_before(to)
    }

    fn adopted(&self, _at: u64) {}

    fn raw_from(&self, position: u64, deadline: Deadline) -> Result<Option<u64>> {
        Ok(self.list(deadline)?.into_iter().find(|n| *n >= position.max(1)))
    }

    fn forget(&self) {
        self.forget_recent();
    }

    fn check(&self, fix: bool, deadline: Deadline) -> Result<Vec<(Error, bool)>> {
        self.check_bell(fix, deadline)
    }

    fn first_position(&self) -> u64 {
        1
    }
}

impl Drop for SharedLog {
    fn drop(&mut self) {
        let _until = vfs::bounded::until(Deadline::after(&*self.clock, TIDY_TIME));
        self.tidy(usize::MAX, stage::TIDY_AT_CLOSE);
    }
}

/// The path exists and can be opened, as far as the drive says now.
fn opens(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    vfs.open(path, OpenMode::Read).map(drop)
}

fn damaged(what: impl Into<String>, path: &Path) -> Error {
    Error::new(ErrorKind::Damaged, what).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_exactly_one_name() {
        assert_eq!(number_of("000000000000"), Some(0));
        assert_eq!(number_of("00000000abcd"), Some(0xabcd));
        assert_eq!(number_of("1000000000000"), Some(1 << 48));
        for other in ["", "abcd", "00000000ABCD", "+00000000001", "0000000000001", ".nfs00000001", "000000000000.tmp"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
