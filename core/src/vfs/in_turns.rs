//! Real files on an SMB drive whose client takes leases: the processes of one host take turns in opening files, and really close them.
//!
//! A Linux client asks for a lease with every open, and whoever opens a file alone gets one for writing, also for reading it. Who opens that
//! file on another host must wait until the first host's client has given the lease back. Two things make that slow:
//!
//! - A closed file stays open, with its lease, for a second (`closetimeo`). Here it is handed back at once ([`VfsFile::close_promptly`]):
//!   hosts read the same commits at about the same time, and open what another made under its other name.
//! - Where two processes of one host wait for the same lease, Samba (seen with 4.17) loses a wake-up between them: the server process of that
//!   host, and so every call of the host, stands still for 5 to 9 seconds. So they do not open at once: they take turns, by the lock (`flock`)
//!   of the directory. A client never sends that one to the server; it excludes within one mount of one host, which is who shares a
//!   server process, and goes with the process that holds it.
//!
//! The turns are manners: nothing rests on them, and who does not get one in time goes on without.

use super::{OpenMode, Space, Stat, Vfs, VfsFile};
use crate::clock::{Clock, Deadline};
use crate::sync::{Arc, Mutex, lock};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a turn is waited for: longer than an open takes that breaks a lease, also where the other host is busy.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);
/// How long threads may join the turn of their process: they open different files, and each alone would cost a round trip more.
const JOINABLE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub struct InTurns {
    inner: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    turn: Mutex<Turn>,
}

/// The turn of this process.
#[derive(Debug, Default)]
struct Turn {
    /// The directory, whose lock is held while there are guests.
    dir: Option<Arc<dyn VfsFile>>,
    guests: usize,
    since: Duration,
}

impl InTurns {
    /// Takes turns in the directory `dir`, which need not exist yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Vfs>, clock: Arc<dyn Clock>, dir: &Path) -> Self {
        Self { inner, clock, dir: dir.to_owned(), turn: Mutex::default() }
    }

    /// Waits for a turn; `false` if none was to be had.
    fn begin(&self) -> bool {
        let patience = Deadline::after(&*self.clock, PATIENCE);
        loop {
            if let Some(begun) = self.try_begin() {
                return begun;
            }
            if patience.passed(&*self.clock) {
                return false;
            }
            self.clock.sleep(PAUSE);
        }
    }

    /// `None`: somebody else's turn.
    fn try_begin(&self) -> Option<bool> {
        let mut turn = lock(&self.turn);
        if turn.guests > 0 {
            let joins = self.clock.boot().saturating_sub(turn.since) < JOINABLE;
            turn.guests += usize::from(joins);
            return joins.then_some(true);
        }
        let dir = match &turn.dir {
            Some(dir) => Arc::clone(dir),
            None => {
                let Ok(dir) = self.inner.open(&self.dir, OpenMode::Read) else { return Some(false) };
                Arc::clone(turn.dir.insert(dir))
            }
        };
        match dir.try_lock() {
            Ok(true) => {
                (turn.guests, turn.since) = (1, self.clock.boot());
                Some(true)
            }
            Ok(false) => None,
            Err(_) => {
                turn.dir = None;
                Some(false)
            }
        }
    }

    fn end(&self) {
        let mut turn = lock(&self.turn);
        turn.guests -= 1;
        if turn.guests == 0
            && let Some(dir) = &turn.dir
            && dir.unlock().is_err()
        {
            turn.dir = None; // Closing it gives the lock back.
        }
    }
}

impl Vfs for InTurns {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let is_new = matches!(mode, OpenMode::CreateNew | OpenMode::Create | OpenMode::CreateWrite);
        let begun = !is_new && self.begin();
        let file = self.inner.open(path, mode);
        if begun {
            self.end();
        }
        let file = file?;
        file.close_promptly();
        Ok(file)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.read_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.inner.stat(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::OsClock;
    use crate::vfs::OsVfs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn process(dir: &Path) -> InTurns {
        InTurns::new(Arc::new(OsVfs), Arc::new(OsClock), dir)
    }

    /// Two processes of one host that wait for another host's lease on the same file stop that host's server process for seconds.
    #[test]
    fn two_processes_of_a_host_never_open_at_once_unless_one_of_them_takes_long() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let process = process(dir.path());
                    for _ in 0..25 {
                        assert!(process.begin());
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        OsClock.sleep(Duration::from_micros(200));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        process.end();
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
        let (one, two) = (process(dir.path()), process(dir.path()));
        assert!(one.begin() && !two.begin(), "it must not wait for ever");
        one.end();
        assert!(two.begin());
    }

    #[test]
    fn threads_of_a_process_share_its_turn_for_a_moment_and_the_lock_goes_with_the_last_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (process(dir.path()), process(dir.path()));
        assert_eq!((one.try_begin(), one.try_begin()), (Some(true), Some(true)));
        OsClock.sleep(JOINABLE);
        assert_eq!((one.try_begin(), two.try_begin()), (None, None), "others would never get a turn");
        one.end();
        assert_eq!(two.try_begin(), None);
        one.end();
        assert_eq!(two.try_begin(), Some(true));
    }

    #[test]
    fn a_directory_that_is_not_there_yet_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let new = process(&dir.path().join("new"));
        assert!(!new.begin());
        assert_eq!(new.open(&dir.path().join("new/x"), OpenMode::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
