//! The drive as a program on one host sees it, in process: paths and descriptors in, errno out.
//!
//! This is the front for an engine that runs inside the harness. It walks paths as the kernel does and passes on what a
//! name is for, so it never makes a LOOKUP that the real client would spare. In virtual time a call that the
//! network withholds lets time pass until it is answered; in real time it waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::errno::Errno;
use super::locks::{LockKind, Owner, Range};
use super::rpc::{Attr, Create, Entry, Ino, ROOT, Space};
use super::{Blow, Drive, Fail, HostId, OpenMode, Outcome};

/// How long one call is tried while the server does not answer, before it is given up with `ETIMEDOUT`.
const PATIENCE_NS: u64 = 600_000_000_000;
const STEP_NS: u64 = 10_000_000;

/// How [`DriveHandle::open`] opens: the flags of open(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// `O_RDONLY` or `O_RDWR`.
    pub read: bool,
    /// `O_WRONLY` or `O_RDWR`.
    pub write: bool,
    /// `O_APPEND`.
    pub append: bool,
    /// `O_CREAT`.
    pub create: bool,
    /// `O_EXCL`.
    pub exclusive: bool,
    /// `O_TRUNC`.
    pub truncate: bool,
}

impl OpenFlags {
    /// `O_RDONLY`.
    #[must_use]
    pub fn reading() -> OpenFlags {
        OpenFlags { read: true, ..OpenFlags::default() }
    }

    /// `O_RDWR | O_CREAT | O_EXCL`: a new file.
    #[must_use]
    pub fn creating() -> OpenFlags {
        OpenFlags { read: true, write: true, create: true, exclusive: true, ..OpenFlags::default() }
    }
}

/// One host's view of a drive. Cheap to clone; all clones are processes of the same host.
#[derive(Clone)]
pub struct DriveHandle {
    drive: Arc<Mutex<Drive>>,
    host: HostId,
    waiter: Option<Waiter>,
    killer: Option<Killer>,
    witness: Option<Witness>,
}

/// What a call does in virtual time while the server does not answer: it lets others go on. `false`: the caller is dead, give up.
pub type Waiter = Arc<dyn Fn() -> bool + Send + Sync>;

/// What happens to the process when a fault kills it (U5): the call that it is in never returns to it.
pub type Killer = Arc<dyn Fn() + Send + Sync>;

/// Who is told of the faults that a call's requests met, by their numbers.
pub type Witness = Arc<dyn Fn(&'static str) + Send + Sync>;

impl std::fmt::Debug for DriveHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DriveHandle(host {})", self.host)
    }
}

impl DriveHandle {
    /// The view of a host.
    #[must_use]
    pub fn new(drive: Arc<Mutex<Drive>>, host: HostId) -> DriveHandle {
        DriveHandle { drive, host, waiter: None, killer: None, witness: None }
    }

    /// The same view for a process that shares virtual time with others.
    #[must_use]
    pub fn with_waiter(self, waiter: Waiter) -> DriveHandle {
        DriveHandle { waiter: Some(waiter), ..self }
    }

    /// The same view for a process that faults can kill.
    #[must_use]
    pub fn with_killer(self, killer: Killer) -> DriveHandle {
        DriveHandle { killer: Some(killer), ..self }
    }

    /// The same view for a process whose calls are told which faults they met.
    #[must_use]
    pub fn with_witness(self, witness: Witness) -> DriveHandle {
        DriveHandle { witness: Some(witness), ..self }
    }

    /// The drive itself, to inject faults or read counters.
    pub fn drive(&self) -> MutexGuard<'_, Drive> {
        self.drive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which host this is.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Makes a call until it is answered.
    fn run<T>(&self, mut step: impl FnMut(&mut Drive, HostId) -> Outcome<T>) -> Result<T, Errno> {
        let (began, caller) = {
            let mut drive = self.drive();
            (drive.now(), drive.new_caller())
        };
        loop {
            let (answer, wait, blow, met) = {
                let mut drive = self.drive();
                drive.begin(caller);
                let answer = step(&mut drive, self.host);
                (answer, drive.take_delay(), drive.take_blow(), drive.take_met())
            };
            if let Some(witness) = &self.witness {
                met.into_iter().for_each(|fault| witness(fault));
            }
            if wait > 0 {
                std::thread::sleep(Duration::from_nanos(wait));
            }
            match blow {
                Some(Blow::Kill) => {
                    if let Some(killer) = &self.killer {
                        killer();
                    }
                    return Err(Errno::EINTR);
                }
                // What was stopped before its request was made waits below.
                Some(Blow::Pause(ns)) if !matches!(answer, Err(Fail::Stall)) => self.wait(ns)?,
                _ => {}
            }
            match answer {
                Ok(value) => return Ok(value),
                Err(Fail::Errno(errno)) => return Err(errno),
                Err(Fail::Stall) => {
                    self.wait(STEP_NS)?;
                    if self.drive().now().saturating_sub(began) > PATIENCE_NS {
                        return Err(Errno::ETIMEDOUT);
                    }
                }
            }
        }
    }

    /// Lets time pass, and others go on meanwhile.
    fn wait(&self, ns: u64) -> Result<(), Errno> {
        let real = {
            let mut drive = self.drive();
            drive.advance(ns);
            matches!(drive.clock, super::Clock::Wall(_))
        };
        if self.waiter.as_ref().is_some_and(|wait| !wait()) {
            return Err(Errno::EIO);
        }
        if real {
            std::thread::sleep(Duration::from_nanos(ns));
        }
        Ok(())
    }

    /// The folder that a path's last name is in, and that name.
    fn parent<'p>(&self, path: &'p str) -> Result<(Ino, &'p str), Errno> {
        let path = path.trim_matches('/');
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut dir = ROOT;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            let attr = self.run(|drive, host| drive.lookup(host, dir, part))?.0;
            if !attr.dir {
                return Err(Errno::ENOTDIR);
            }
            dir = attr.ino;
        }
        Ok((dir, name))
    }

    /// Opens a file; the answer is its descriptor.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, path: &str, flags: OpenFlags, mode: u32) -> Result<u64, Errno> {
        let (dir, name) = self.parent(path)?;
        let create = flags.create.then_some(Create { exclusive: flags.exclusive, mode });
        let how = OpenMode { read: flags.read, write: flags.write, append: flags.append };
        let mut answer = self.run(|drive, host| drive.open_name(host, dir, name, create, how));
        if answer == Err(Errno::ESTALE) {
            // As the kernel: it asks once more.
            answer = self.run(|drive, host| drive.open_name(host, dir, name, create, how));
        }
        let (opened, created) = answer?;
        if flags.truncate && !created && opened.attr.size > 0 {
            self.run(|drive, host| drive.setattr(host, opened.attr.ino, Some(0), None, None))?;
        }
        Ok(opened.handle)
    }

    /// Forgets the clean pages of an open file, as a read with `O_DIRECT` passes by them.
    ///
    /// # Errors
    /// The descriptor is none.
    pub fn forget_pages(&self, fd: u64) -> Result<(), Errno> {
        self.run(|drive, host| drive.forget_pages(host, fd))
    }

    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// As pread(2).
    pub fn read_at(&self, fd: u64, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        self.run(|drive, host| drive.read(host, fd, offset, len))
    }

    /// Writes all of it at an offset.
    ///
    /// # Errors
    /// As pwrite(2).
    pub fn write_at(&self, fd: u64, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.run(|drive, host| drive.write(host, fd, offset, data))
    }

    /// Makes a file's content durable.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn fsync(&self, fd: u64) -> Result<(), Errno> {
        self.run(|drive, host| drive.fsync(host, fd))
    }

    /// Closes a descriptor; it is gone also when this fails.
    ///
    /// # Errors
    /// As close(2).
    pub fn close(&self, fd: u64) -> Result<(), Errno> {
        let flushed = self.run(|drive, host| drive.close_flush(host, fd, None));
        self.run(|drive, host| drive.release(host, fd, None))?;
        flushed
    }

    /// What happens to a descriptor when its process is killed: the host's kernel closes it.
    pub fn abandon(&self, fd: u64) {
        // Nobody is there to be told.
        let _ = self.close(fd);
    }

    /// Gives the file of one path another name.
    ///
    /// # Errors
    /// As link(2).
    pub fn link(&self, from: &str, to: &str) -> Result<(), Errno> {
        let (dir, name) = self.parent(from)?;
        let source = self.run(|drive, host| drive.lookup(host, dir, name))?.0;
        let (to_dir, to_name) = self.parent(to)?;
        self.run(|drive, host| drive.link(host, source.ino, to_dir, to_name)).map(drop)
    }

    /// Removes a file's name.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn unlink(&self, path: &str) -> Result<(), Errno> {
        let (dir, name) = self.parent(path)?;
        self.run(|drive, host| drive.unlink(host, dir, name))
    }

    /// Renames.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let (from, to) = (self.parent(from)?, self.parent(to)?);
        self.run(|drive, host| drive.rename(host, from, to))
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn mkdir(&self, path: &str, mode: u32) -> Result<(), Errno> {
        let (dir, name) = self.parent(path)?;
        self.run(|drive, host| drive.mkdir(host, dir, name, mode)).map(drop)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn rmdir(&self, path: &str) -> Result<(), Errno> {
        let (dir, name) = self.parent(path)?;
        self.run(|drive, host| drive.rmdir(host, dir, name))
    }

    /// A folder's entries.
    ///
    /// # Errors
    /// As readdir(3).
    pub fn readdir(&self, path: &str) -> Result<Vec<Entry>, Errno> {
        let (parent, name) = self.parent(path)?;
        let dir = if name.is_empty() { ROOT } else { self.run(|drive, host| drive.lookup(host, parent, name))?.0.ino };
        self.run(|drive, host| drive.readdir(host, dir))
    }

    /// What stat(2) says, from the cache where that is believed.
    ///
    /// # Errors
    /// As stat(2).
    pub fn stat(&self, path: &str) -> Result<Attr, Errno> {
        let (dir, name) = self.parent(path)?;
        if name.is_empty() {
            return self.run(|drive, host| drive.dir_attr(host, ROOT));
        }
        let (attr, asked) = self.run(|drive, host| drive.lookup(host, dir, name))?;
        if asked {
            return Ok(attr);
        }
        self.run(|drive, host| drive.getattr(host, attr.ino, false))
    }

    /// A descriptor's attributes; `fresh` as `statx` with `AT_STATX_FORCE_SYNC`.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn fstat(&self, fd: u64, fresh: bool) -> Result<Attr, Errno> {
        self.run(|drive, host| {
            let ino = drive.handle(host, fd)?.ino;
            drive.getattr(host, ino, fresh)
        })
    }

    /// Sets a file's length.
    ///
    /// # Errors
    /// As ftruncate(2).
    pub fn truncate(&self, fd: u64, size: u64) -> Result<(), Errno> {
        self.run(|drive, host| {
            let ino = drive.handle(host, fd)?.ino;
            drive.setattr(host, ino, Some(size), None, None)
        })
        .map(drop)
    }

    /// Reserves space.
    ///
    /// # Errors
    /// As fallocate(2).
    pub fn allocate(&self, fd: u64, end: u64) -> Result<(), Errno> {
        self.run(|drive, host| drive.allocate(host, fd, end))
    }

    /// Takes a lock without waiting.
    ///
    /// # Errors
    /// `EAGAIN` when somebody else has it; otherwise as fcntl(2).
    pub fn try_lock(&self, fd: u64, owner: u64, range: Range, kind: LockKind) -> Result<(), Errno> {
        self.run(|drive, host| drive.lock(host, fd, Owner { host, id: owner, pid: 0 }, range, kind))
    }

    /// Gives a lock up.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn unlock(&self, fd: u64, owner: u64, range: Range) -> Result<(), Errno> {
        self.run(|drive, host| drive.unlock(host, fd, Owner { host, id: owner, pid: 0 }, range))
    }

    /// Space on the drive.
    ///
    /// # Errors
    /// A fault.
    pub fn statfs(&self) -> Result<Space, Errno> {
        self.run(|drive, host| drive.statfs(host))
    }
}
