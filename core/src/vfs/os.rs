//! Real files. Every call is one system call (`write_all_at` and `allocate` may need more), and a failpoint of its name.
//!
//! Descriptors are never inherited by programs that we start (`O_CLOEXEC`). A signal's EINTR is hidden for reading, writing and
//! allocating alone, where the call may be made again; a failed flush or close is never tried again. No directory is created and
//! no name is resolved other than as asked.
//!
//! With the feature `failpoints` every step looks up `vfs::<step>` (`vfs::open`, `vfs::write`, `vfs::sync`, ...) before it does
//! anything: `return` fails it with EIO, `return(28)` with that errno, `return(kill)` kills the process as `kill -9` does,
//! `return(exit 3)` ends it; `panic`, `sleep(ms)` and the rest are as the crate `fail` has them.

use super::{Map, OpenMode, Space, Stat, Vfs, VfsFile};
use crate::fork::Descriptor;
use rustix::fs::{AtFlags, Dir, FallocateFlags, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Zeros are written in pieces of this length where a drive cannot reserve blocks.
const ZEROS: usize = 64 << 10;

/// Names a step for tests to fail it; nothing when the feature `failpoints` is off.
macro_rules! step {
    ($name:literal) => {
        fail::fail_point!(concat!("vfs::", $name), |what: Option<String>| Err(injected(what.as_deref())));
    };
}

/// Turns a failpoint's argument into what it asks for.
#[cfg(feature = "failpoints")]
fn injected(what: Option<&str>) -> io::Error {
    let what = what.unwrap_or("5").trim();
    if what == "kill" {
        // As `kill -9`: no destructor, no buffer, no handler runs.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    if let Some(code) = what.strip_prefix("exit") {
        std::process::exit(code.trim().parse().unwrap_or(1));
    }
    io::Error::from_raw_os_error(what.parse().unwrap_or_else(|_| panic!("no errno in a failpoint's `return({what})`")))
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsVfs;

impl Vfs for OsVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        step!("open");
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
            OpenMode::Write => OFlags::WRONLY,
            OpenMode::CreateWrite => OFlags::WRONLY | OFlags::CREATE,
        };
        let fd = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))?;
        Ok(Arc::new(OsFile { descriptor: Descriptor::new(fd), locked: AtomicBool::new(false) }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        step!("link");
        Ok(rustix::fs::link(from, to)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step!("rename");
        Ok(rustix::fs::rename(from, to)?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        step!("unlink");
        Ok(rustix::fs::unlink(path)?)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        step!("create_dir");
        Ok(rustix::fs::mkdir(path, Mode::from_raw_mode(0o777))?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        step!("remove_dir");
        Ok(rustix::fs::rmdir(path)?)
    }

    /// Names that are not UTF-8 are not ours and are left out.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        step!("read_dir");
        let fd = open_dir(path)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        step!("stat");
        let stat = rustix::fs::stat(path)?;
        Ok(Stat {
            len: u64::try_from(stat.st_size).unwrap_or(0),
            links: stat.st_nlink,
            is_dir: rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir(),
            inode: stat.st_ino,
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        step!("sync_dir");
        match rustix::fs::fsync(open_dir(path)?) {
            // How a file system says that its directories need no flush.
            Err(Errno::INVAL) => Ok(()),
            result => Ok(result?),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        step!("space");
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space { free: stat.f_bavail.saturating_mul(stat.f_frsize), total: stat.f_blocks.saturating_mul(stat.f_frsize) })
    }
}

fn open_dir(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// An open file of the operating system.
#[derive(Debug)]
struct OsFile {
    descriptor: Descriptor,
    /// Whether it may have the lock.
    locked: AtomicBool,
}

impl OsFile {
    /// Gives the lock back before a close. The close would, but not while a program is being started: the child has the same open
    /// file until its `exec`. (A forked child that closes what it inherited must not: the lock is the parent's.)
    fn release(&self) -> io::Result<()> {
        if self.locked.swap(false, Ordering::Relaxed) && !self.descriptor.is_inherited() {
            self.descriptor.with(|fd| Ok(rustix::fs::flock(fd, FlockOperation::Unlock)?))?;
        }
        Ok(())
    }
}

impl Drop for OsFile {
    fn drop(&mut self) {
        // Closed already, or closed next: that gives the lock back at the latest.
        let _ = self.release();
    }
}

impl VfsFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        step!("read");
        self.descriptor.with(|fd| {
            if super::is_afresh()
                && let Some(n) = read_past_cache(fd, buf, offset)
            {
                return Ok(n);
            }
            Ok(rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *buf, offset))?)
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        step!("write");
        self.descriptor.with(|fd| write_all(fd, bytes, offset))
    }

    fn len(&self) -> io::Result<u64> {
        step!("len");
        self.descriptor.with(|fd| fstat_len(fd))
    }

    fn len_fresh(&self) -> io::Result<u64> {
        step!("len_fresh");
        self.descriptor.with(|fd| {
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
            match rustix::fs::statx(fd, c"", flags, StatxFlags::SIZE) {
                Ok(statx) => Ok(statx.stx_size),
                // Kernels and sandboxes without it.
                Err(Errno::NOSYS) => fstat_len(fd),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        step!("set_len");
        self.descriptor.with(|fd| Ok(rustix::fs::ftruncate(fd, len)?))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        step!("allocate");
        self.descriptor.with(|fd| match rustix::io::retry_on_intr(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = vec![0; ZEROS];
                let mut at = fstat_len(fd)?;
                while at < len {
                    let piece = (len - at).min(ZEROS as u64);
                    write_all(fd, &zeros[..usize::try_from(piece).expect("at most ZEROS")], at)?;
                    at += piece;
                }
                Ok(())
            }
            result => Ok(result?),
        })
    }

    fn give_back(&self, from: u64) -> io::Result<()> {
        step!("give_back");
        self.descriptor.with(|fd| {
            let len = fstat_len(fd)?.saturating_sub(from);
            if len == 0 {
                return Ok(());
            }
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::io::retry_on_intr(|| rustix::fs::fallocate(fd, flags, from, len)) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
                result => Ok(result?),
            }
        })
    }

    /// fsync, not fdatasync: the length and everything else that reading the bytes back needs, at the price of the times.
    fn sync(&self) -> io::Result<()> {
        step!("sync");
        self.descriptor.with(|fd| Ok(rustix::fs::fsync(fd)?))
    }

    fn close(&self) -> io::Result<()> {
        step!("close");
        let released = self.release();
        self.descriptor.close().and(released)
    }

    fn try_lock(&self) -> io::Result<bool> {
        step!("try_lock");
        self.descriptor.with(|fd| match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(false),
            result => {
                result?;
                self.locked.store(true, Ordering::Relaxed);
                Ok(true)
            }
        })
    }

    fn lock(&self) -> io::Result<()> {
        step!("lock");
        self.descriptor.with(|fd| {
            rustix::fs::flock(fd, FlockOperation::LockExclusive)?;
            self.locked.store(true, Ordering::Relaxed);
            Ok(())
        })
    }

    fn unlock(&self) -> io::Result<()> {
        step!("unlock");
        self.descriptor.with(|fd| {
            rustix::fs::flock(fd, FlockOperation::Unlock)?;
            self.locked.store(false, Ordering::Relaxed);
            Ok(())
        })
    }

    /// The Linux client no longer puts off closing a file once somebody asked for its byte-range locks (`CIFS_INO_CLOSE_ON_LOCK`). That is fcntl's
    /// doing alone, not flock's. For who alone has the file open the client answers by itself, and it costs no round trip.
    fn close_promptly(&self) {
        let mut beyond_all_bytes = rustix::process::Flock::from(rustix::process::FlockType::ReadLock);
        (beyond_all_bytes.start, beyond_all_bytes.length) = (1 << 62, 1);
        // A hint.
        let _ = self.descriptor.with(|fd| Ok(rustix::process::fcntl_getlk(fd, &beyond_all_bytes)?));
    }

    fn map(&self, len: usize, writable: bool) -> io::Result<Arc<Map>> {
        step!("map");
        self.descriptor.with(|fd| map_checked(&fd, len, writable).map(Arc::new))
    }

    fn raw_fd(&self) -> Option<i32> {
        self.descriptor.raw()
    }
}

/// What a direct read is aligned to: no drive asks for more.
const ALIGNED: usize = 4096;

/// Reads by a descriptor of its own that goes past the page cache. `None` where that cannot be done: then the cached pages were dropped, as far as
/// the kernel does so on request, and an ordinary read may ask the drive.
fn read_past_cache(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> Option<usize> {
    // A hint: pages that stay are passed by below.
    let _ = rustix::fs::fadvise(fd, 0, None, rustix::fs::Advice::DontNeed);
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let direct = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let skip = usize::try_from(offset % ALIGNED as u64).ok()?;
    let len = (skip + buf.len()).next_multiple_of(ALIGNED);
    let mut space = vec![0; len + ALIGNED];
    let start = space.as_ptr().align_offset(ALIGNED);
    let aligned = space.get_mut(start..start + len)?;
    let n = rustix::io::retry_on_intr(|| rustix::io::pread(&direct, &mut *aligned, offset - skip as u64)).ok()?;
    let found = aligned.get(skip..n).unwrap_or(&[]);
    let n = found.len().min(buf.len());
    buf[..n].copy_from_slice(&found[..n]);
    Some(n)
}

/// Maps the first `len` bytes of a file that has them: touching a page past a file's end would kill the process.
pub(super) fn map_checked(fd: &impl std::os::fd::AsFd, len: usize, writable: bool) -> io::Result<Map> {
    let has = fstat_len(fd)?;
    if has < len as u64 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{len} bytes to map of a file of {has}")));
    }
    Map::of_file(fd, len, writable)
}

pub(super) fn fstat_len(fd: impl std::os::fd::AsFd) -> io::Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0))
}

pub(super) fn write_all(fd: impl std::os::fd::AsFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = rustix::io::retry_on_intr(|| rustix::io::pwrite(&fd, bytes, offset))?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
