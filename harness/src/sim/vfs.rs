//! The drive as core's file system: the door of the engine inside this process.
//!
//! Each I/O step of a simulated process passes its [`Gate`] first. There the process may die (every later step fails and reaches
//! the drive no more), and there other processes may run, so that operations interleave at every I/O step.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use diskcache_core::vfs::{Map, OpenMode, Space, Stat, Vfs, VfsFile};

use crate::drive::handle::OpenFlags;
use crate::drive::locks::{LockKind, Range};
use crate::drive::{DriveHandle, Errno};

const ALL: Range = Range { start: 0, end: u64::MAX };
const LOCK_POLL: u64 = 1_000_000;

thread_local! {
    /// What runs between the I/O steps of the process that is at work on this thread.
    static BETWEEN: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

thread_local! {
    /// The faults that the requests of the process at work on this thread met since this was last asked.
    static MET: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes that a request of the process at work on this thread met a fault.
pub(super) fn meet(fault: &'static str) {
    MET.with(|met| met.borrow_mut().insert(fault));
}

/// The faults that were met on this thread since this was last asked, in order.
pub(super) fn take_met() -> Vec<String> {
    MET.with(|met| std::mem::take(&mut *met.borrow_mut())).into_iter().map(str::to_owned).collect()
}

/// Sets what runs between I/O steps; returns what did.
pub(super) fn between_steps(what: Option<Box<dyn FnMut()>>) -> Option<Box<dyn FnMut()>> {
    BETWEEN.with(|between| std::mem::replace(&mut *between.borrow_mut(), what))
}

/// What every I/O step of one life of a process passes.
#[derive(Debug)]
pub(super) struct Gate {
    dead: AtomicBool,
    /// Steps left to live; `u64::MAX` for ever.
    left: AtomicU64,
}

impl Gate {
    pub(super) fn new() -> Arc<Gate> {
        Arc::new(Gate { dead: AtomicBool::new(false), left: AtomicU64::new(u64::MAX) })
    }

    /// The process dies at its n-th I/O step from now.
    pub(super) fn die_after(&self, steps: u64) {
        self.left.store(steps, Ordering::SeqCst);
    }

    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn pass(&self) -> io::Result<()> {
        if let Some(mut run) = between_steps(None) {
            run();
            between_steps(Some(run));
        }
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            self.die();
        } else if left != u64::MAX {
            self.left.store(left - 1, Ordering::SeqCst);
        }
        if self.is_dead() { Err(error(Errno::EIO)) } else { Ok(()) }
    }
}

fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| error(Errno::EINVAL))
}

/// The drive as one process of a host sees it.
pub(super) struct SimVfs {
    pub(super) drive: DriveHandle,
    pub(super) gate: Arc<Gate>,
}

impl fmt::Debug for SimVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimVfs(host {})", self.drive.host())
    }
}

struct SimFile {
    drive: DriveHandle,
    gate: Arc<Gate>,
    fd: u64,
    closed: AtomicBool,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.fd)
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.gate.pass()?;
        let flags = OpenFlags {
            read: !matches!(mode, OpenMode::Write | OpenMode::CreateWrite),
            write: mode != OpenMode::Read,
            create: matches!(mode, OpenMode::CreateNew | OpenMode::Create | OpenMode::CreateWrite),
            exclusive: mode == OpenMode::CreateNew,
            ..OpenFlags::default()
        };
        let fd = self.drive.open(text(path)?, flags, 0o644).map_err(error)?;
        let gate = Arc::clone(&self.gate);
        Ok(Arc::new(SimFile { drive: self.drive.clone(), gate, fd, closed: AtomicBool::new(false) }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.drive.link(text(from)?, text(to)?).map_err(error)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.drive.rename(text(from)?, text(to)?).map_err(error)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.drive.unlink(text(path)?).map_err(error)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.drive.mkdir(text(path)?, 0o755).map_err(error)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.drive.rmdir(text(path)?).map_err(error)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.gate.pass()?;
        let entries = self.drive.readdir(text(path)?).map_err(error)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.gate.pass()?;
        let attr = self.drive.stat(text(path)?).map_err(error)?;
        Ok(Stat { len: attr.size, links: attr.nlink.into(), is_dir: attr.dir, inode: attr.ino })
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        // The server makes names durable before it answers.
        self.gate.pass()
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        self.gate.pass()?;
        let space = self.drive.statfs().map_err(error)?;
        Ok(Space { free: space.free, total: space.total })
    }
}

impl SimFile {
    fn pass(&self) -> io::Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(error(Errno::EBADF));
        }
        self.gate.pass()
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.pass()?;
        if diskcache_core::vfs::is_afresh() {
            self.drive.forget_pages(self.fd).map_err(error)?;
        }
        let bytes = self.drive.read_at(self.fd, offset, buf.len()).map_err(error)?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.pass()?;
        let mut done = 0;
        while done < bytes.len() {
            match self.drive.write_at(self.fd, offset + done as u64, &bytes[done..]) {
                // As `write_all` of the standard library: a call that was interrupted is made again.
                Err(Errno::EINTR) if !self.gate.is_dead() => {}
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => done += more,
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.pass()?;
        self.drive.fstat(self.fd, false).map(|attr| attr.size).map_err(error)
    }

    fn len_fresh(&self) -> io::Result<u64> {
        self.pass()?;
        self.drive.fstat(self.fd, true).map(|attr| attr.size).map_err(error)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pass()?;
        self.drive.truncate(self.fd, len).map_err(error)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.pass()?;
        self.drive.allocate(self.fd, len).map_err(error)
    }

    fn sync(&self) -> io::Result<()> {
        self.pass()?;
        self.drive.fsync(self.fd).map_err(error)
    }

    fn close(&self) -> io::Result<()> {
        self.pass()?;
        self.closed.store(true, Ordering::SeqCst);
        self.drive.close(self.fd).map_err(error)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.pass()?;
        match self.drive.try_lock(self.fd, self.fd, ALL, LockKind::Exclusive) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(error(errno)),
        }
    }

    fn lock(&self) -> io::Result<()> {
        while !self.try_lock()? {
            self.drive.drive().advance(LOCK_POLL);
        }
        Ok(())
    }

    fn unlock(&self) -> io::Result<()> {
        self.pass()?;
        self.drive.unlock(self.fd, self.fd, ALL).map_err(error)
    }

    fn map(&self, _len: usize, _writable: bool) -> io::Result<Arc<Map>> {
        Err(error(Errno::EOPNOTSUPP))
    }

    fn raw_fd(&self) -> Option<i32> {
        None
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::SeqCst) {
            self.drive.abandon(self.fd);
        }
    }
}
