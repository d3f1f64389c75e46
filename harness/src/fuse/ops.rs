//! One host's file system: FUSE requests in, calls on the drive out.
//!
//! Each request becomes a call that is made again while the drive stalls, and answered after the delay that the drive asks
//! for. A LOOKUP that went to the server is remembered for the thread that made it: when that thread's next request shows
//! that the real client would have spared it (it opens, creates, links, ...), it is taken out of the count, and the open is made by
//! name as NFSv4 does. A GETATTR that does not follow a lookup of the same file by the same thread comes from a descriptor
//! (fstat, or statx with `AT_STATX_FORCE_SYNC`; FUSE does not tell them apart) and is asked of the server, one round trip: on
//! NFSv4 both were found fresh.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, Errno as FuseErrno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, Notifier, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyLock, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use rustix::process::{Pid, Signal, kill_process};

use super::pump::{Pump, Step};
use crate::drive::locks::{LockKind, Owner, Range};
use crate::drive::rpc::Create;
use crate::drive::{Attr, Blow, Drive, Errno, Fail, HostId, Ino, OpenMode, Opened, Outcome, Purpose};

const NO_TTL: Duration = Duration::ZERO;
/// How often a request that the drive withholds is tried again.
const STALLED: Duration = Duration::from_millis(20);
/// How often a waiting lock is asked for.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// The last name that a thread resolved.
#[derive(Clone)]
struct Looked {
    dir: Ino,
    name: String,
    ino: Option<Ino>,
    asked: bool,
}

/// What the jobs of a mount share.
pub(super) struct Shared {
    drive: Arc<Mutex<Drive>>,
    host: HostId,
    pump: Arc<Pump>,
    notifier: OnceLock<Notifier>,
    looked: Mutex<HashMap<u32, Looked>>,
    /// Requests not answered yet, with when they came.
    open: Mutex<BTreeMap<u64, Instant>>,
    count: AtomicU64,
}

/// A request that is being worked on.
struct Pending {
    shared: Arc<Shared>,
    number: u64,
}

impl Pending {
    fn new(shared: &Arc<Shared>) -> Pending {
        let number = shared.count.fetch_add(1, Ordering::Relaxed);
        shared.open().insert(number, Instant::now());
        Pending { shared: Arc::clone(shared), number }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shared.open().remove(&self.number);
    }
}

/// Who makes a call: the same number while the call is made again, and the thread to strike.
#[derive(Clone, Copy)]
struct Caller {
    number: u64,
    pid: u32,
}

/// The file system of one host.
pub(super) struct HostFs {
    shared: Arc<Shared>,
}

impl HostFs {
    pub(super) fn new(drive: Arc<Mutex<Drive>>, host: HostId, pump: Arc<Pump>) -> HostFs {
        let looked = Mutex::new(HashMap::new());
        let open = Mutex::new(BTreeMap::new());
        let count = AtomicU64::new(0);
        HostFs { shared: Arc::new(Shared { drive, host, pump, notifier: OnceLock::new(), looked, open, count }) }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Makes a call until it is answered, then answers the request.
    fn answer<T: Send + 'static>(
        &self,
        req: &Request,
        mut call: impl FnMut(&mut Drive, HostId) -> Outcome<T> + Send + 'static,
        reply: impl FnOnce(Result<T, FuseErrno>) + Send + 'static,
    ) {
        let pending = Pending::new(&self.shared);
        let by = Caller { number: pending.number + 1, pid: req.pid() };
        let (first, delay) = self.shared.step(by, &mut call);
        match first {
            Err(Fail::Stall) => {}
            answer if delay.is_zero() => return reply(answer.map_err(fuse_errno)),
            answer => {
                let mut rest = Some((answer, reply));
                let job = move || {
                    let _until_answered = &pending;
                    if let Some((answer, reply)) = rest.take() {
                        reply(answer.map_err(fuse_errno));
                    }
                    Step::Done
                };
                return self.shared.pump.add(delay, Box::new(job));
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut reply = Some(reply);
        let mut answered = None;
        let job = move || {
            let _until_answered = &pending;
            if answered.is_none() {
                let (answer, delay) = shared.step(by, &mut call);
                if matches!(answer, Err(Fail::Stall)) {
                    return Step::Again(STALLED);
                }
                answered = Some(answer);
                if !delay.is_zero() {
                    return Step::Again(delay);
                }
            }
            if let (Some(answer), Some(reply)) = (answered.take(), reply.take()) {
                reply(answer.map_err(fuse_errno));
            }
            Step::Done
        };
        self.shared.pump.add(STALLED, Box::new(job));
    }

    fn owner(&self, owner: LockOwner, pid: u32) -> Owner {
        Owner { host: self.shared.host, id: owner.0, pid }
    }
}

impl Shared {
    pub(super) fn set_notifier(&self, notifier: Notifier) {
        // Set once, right after the session began.
        let _ = self.notifier.set(notifier);
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the oldest request has been waiting.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.open().first_key_value().map(|(_, since)| since.elapsed())
    }

    fn drive(&self) -> MutexGuard<'_, Drive> {
        self.drive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step<T>(&self, by: Caller, call: &mut impl FnMut(&mut Drive, HostId) -> Outcome<T>) -> (Outcome<T>, Duration) {
        let (answer, delay, blow) = {
            let mut drive = self.drive();
            drive.begin(by.number);
            let answer = call(&mut drive, self.host);
            (answer, Duration::from_nanos(drive.take_delay()), drive.take_blow())
        };
        if let Some(blow) = blow {
            self.strike(by.pid, blow);
        }
        (answer, delay)
    }

    /// What a fault does to the process that called: it is killed, or stopped for a time.
    fn strike(&self, pid: u32, blow: Blow) {
        let Some(pid) = i32::try_from(pid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw) else { return };
        if pid == rustix::process::getpid() {
            return;
        }
        // It may have died meanwhile.
        match blow {
            Blow::Kill => {
                let _ = kill_process(pid, Signal::KILL);
            }
            Blow::Pause(ns) => {
                let _ = kill_process(pid, Signal::STOP);
                let go_on = move || {
                    let _ = kill_process(pid, Signal::CONT);
                    Step::Done
                };
                self.pump.add(Duration::from_nanos(ns), Box::new(go_on));
            }
        }
    }

    fn remember(&self, thread: u32, looked: Looked) {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).insert(thread, looked);
    }

    fn recall(&self, thread: u32) -> Option<Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).remove(&thread)
    }

    /// The thread's last lookup was for this name: takes it out of the count.
    fn spare(&self, thread: u32, dir: Ino, name: &str, purpose: Purpose) {
        if let Some(looked) = self.recall(thread)
            && looked.asked
            && looked.dir == dir
            && looked.name == name
        {
            self.drive().spare_lookup(self.host, purpose);
        }
    }

    /// Has the kernel write back and forget what is mapped of a file on this host.
    fn forget_mapped(&self, ino: Ino) {
        if let Some(notifier) = self.notifier.get() {
            // ENOENT: the kernel has nothing of it.
            let _ = notifier.inval_inode(INodeNo(ino), 0, 0);
        }
    }
}

fn fuse_errno(fail: Fail) -> FuseErrno {
    match fail {
        Fail::Errno(Errno(errno)) => FuseErrno::from_i32(errno),
        Fail::Stall => FuseErrno::EIO,
    }
}

fn text(name: &OsStr) -> Result<String, FuseErrno> {
    name.to_str().map(str::to_owned).ok_or(FuseErrno::EINVAL)
}

/// A file's times are the server's. A program here reads the real clock: where its host's is off, the times are, the other way.
fn as_seen(drive: &mut Drive, host: HostId, attr: Attr) -> Attr {
    let ahead = drive.clock_offset(host);
    let shifted = |time: u64| time.saturating_add_signed(ahead.saturating_neg());
    Attr { mtime: shifted(attr.mtime), ctime: shifted(attr.ctime), ..attr }
}

fn file_attr(attr: &Attr) -> FileAttr {
    let time = |ns: u64| UNIX_EPOCH + Duration::from_nanos(ns);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: time(attr.mtime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        crtime: time(attr.ctime),
        kind: if attr.dir { FileType::Directory } else { FileType::RegularFile },
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn open_mode(flags: i32) -> OpenMode {
    let mode = OpenFlags(flags).acc_mode();
    OpenMode { read: mode != OpenAccMode::O_WRONLY, write: mode != OpenAccMode::O_RDONLY, append: flags & libc::O_APPEND != 0 }
}

fn fopen_flags(opened: &Opened) -> FopenFlags {
    let flags = FopenFlags::FOPEN_DIRECT_IO;
    if opened.unchanged { flags | FopenFlags::FOPEN_KEEP_CACHE } else { flags }
}

fn lock_kind(typ: i32) -> LockKind {
    if typ == libc::F_WRLCK { LockKind::Exclusive } else { LockKind::Shared }
}

fn lock_typ(kind: LockKind) -> i32 {
    match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    }
}

fn entry(reply: ReplyEntry) -> impl FnOnce(Result<Attr, FuseErrno>) + Send + 'static {
    move |answer| match answer {
        Ok(attr) => reply.entry(&NO_TTL, &file_attr(&attr), Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty) -> impl FnOnce(Result<(), FuseErrno>) + Send + 'static {
    move |answer| match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// The names that several requests begin with; answers the request when one is not text.
macro_rules! names {
    ($reply:ident, $($name:ident),+) => {
        $(let $name = match text($name) {
            Ok(name) => name,
            Err(errno) => return $reply.error(errno),
        };)+
    };
}

impl Filesystem for HostFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = InitFlags::FUSE_POSIX_LOCKS
            | InitFlags::FUSE_FLOCK_LOCKS
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP
            | InitFlags::FUSE_PARALLEL_DIROPS;
        config.add_capabilities(wanted).map_err(|missing| std::io::Error::other(format!("this kernel's FUSE cannot {missing:?}")))?;
        // Requests of the length that an NFS client sends.
        config.set_max_write(1 << 20).map(drop).or(Ok(()))
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        names!(reply, name);
        let (shared, thread) = (self.shared(), req.pid());
        let call = move |drive: &mut Drive, host| {
            let known_absent = drive.knows_absent(host, parent.0, &name);
            let answer = drive.lookup(host, parent.0, &name);
            let looked = |ino, asked| Looked { dir: parent.0, name: name.clone(), ino, asked };
            match &answer {
                Ok((attr, asked)) => shared.remember(thread, looked(Some(attr.ino), *asked)),
                Err(Fail::Errno(Errno::ENOENT)) => shared.remember(thread, looked(None, !known_absent)),
                Err(_) => {}
            }
            answer.map(|(attr, _)| as_seen(drive, host, attr))
        };
        self.answer(req, call, entry(reply));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let by_name = self.shared.recall(req.pid()).is_some_and(|looked| looked.ino == Some(ino.0));
        self.answer(
            req,
            move |drive, host| drive.getattr(host, ino.0, !by_name).map(|attr| as_seen(drive, host, attr)),
            move |answer| match answer {
                Ok(attr) => reply.attr(&NO_TTL, &file_attr(&attr)),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mtime = match mtime {
            Some(TimeOrNow::SpecificTime(time)) => {
                time.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_nanos()).ok())
            }
            _ => None,
        };
        self.answer(
            req,
            move |drive, host| drive.setattr(host, ino.0, size, mode, mtime).map(|attr| as_seen(drive, host, attr)),
            move |answer| match answer {
                Ok(attr) => reply.attr(&NO_TTL, &file_attr(&attr)),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        names!(reply, name);
        self.shared.spare(req.pid(), parent.0, &name, Purpose::Other);
        self.answer(req, move |drive, host| drive.mkdir(host, parent.0, &name, mode & !umask), entry(reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        names!(reply, name);
        self.answer(req, move |drive, host| drive.unlink(host, parent.0, &name), empty(reply));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        names!(reply, name);
        self.answer(req, move |drive, host| drive.rmdir(host, parent.0, &name), empty(reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        names!(reply, name, newname);
        if !flags.is_empty() {
            // As NFS: no RENAME_NOREPLACE, no RENAME_EXCHANGE.
            return reply.error(FuseErrno::EINVAL);
        }
        self.shared.spare(req.pid(), newparent.0, &newname, Purpose::Other);
        self.answer(req, move |drive, host| drive.rename(host, (parent.0, &name), (newparent.0, &newname)), empty(reply));
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        names!(reply, newname);
        self.shared.spare(req.pid(), newparent.0, &newname, Purpose::Link);
        self.answer(req, move |drive, host| drive.link(host, ino.0, newparent.0, &newname), entry(reply));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = open_mode(flags.0);
        let direct = flags.0 & libc::O_DIRECT != 0;
        let looked = self.shared.recall(req.pid()).filter(|looked| looked.ino == Some(ino.0));
        if looked.as_ref().is_some_and(|looked| looked.asked) {
            self.shared.drive().spare_lookup(self.shared.host, Purpose::Open);
        }
        let call = move |drive: &mut Drive, host| {
            let Some(looked) = &looked else {
                let opened = drive.open_handle(host, ino.0, mode)?;
                if direct {
                    drive.forget_pages(host, opened.handle)?;
                }
                return Ok(opened);
            };
            let opened = drive.open_name(host, looked.dir, &looked.name, None, mode)?.0;
            if opened.attr.ino == ino.0 {
                if direct {
                    drive.forget_pages(host, opened.handle)?;
                }
                return Ok(opened);
            }
            // The name has another file now than the kernel was told: it asks once more after ESTALE.
            drive.release(host, opened.handle, None)?;
            Err(Errno::ESTALE.into())
        };
        self.answer(req, call, move |answer| match answer {
            Ok(opened) => reply.opened(FileHandle(opened.handle), fopen_flags(&opened)),
            Err(errno) => reply.error(errno),
        });
    }

    fn create(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32, reply: ReplyCreate) {
        names!(reply, name);
        self.shared.spare(req.pid(), parent.0, &name, Purpose::Open);
        let create = Create { exclusive: flags & libc::O_EXCL != 0, mode: mode & !umask };
        let how = open_mode(flags);
        let call = move |drive: &mut Drive, host| Ok(drive.open_name(host, parent.0, &name, Some(create), how)?.0);
        self.answer(req, call, move |answer| match answer {
            Ok(opened) => {
                let handle = FileHandle(opened.handle);
                reply.created(&NO_TTL, &file_attr(&opened.attr), Generation(0), handle, fopen_flags(&opened));
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.answer(
            req,
            move |drive, host| drive.read(host, fh.0, offset, size as usize),
            move |answer| match answer {
                Ok(bytes) => reply.data(&bytes),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        self.answer(
            req,
            move |drive, host| drive.write(host, fh.0, offset, &data),
            move |answer| match answer {
                Ok(done) => reply.written(done as u32),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn flush(&self, req: &Request, _ino: INodeNo, fh: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty) {
        let owner = self.owner(lock_owner, req.pid());
        self.answer(req, move |drive, host| drive.close_flush(host, fh.0, Some(owner)), empty(reply));
    }

    fn release(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let flock = lock_owner.map(|owner| self.owner(owner, req.pid()));
        self.answer(req, move |drive, host| drive.release(host, fh.0, flock), empty(reply));
    }

    fn fsync(&self, req: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.answer(req, move |drive, host| drive.fsync(host, fh.0), empty(reply));
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        // Names are durable when the server answers.
        reply.ok();
    }

    fn readdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let call = move |drive: &mut Drive, host| drive.readdir(host, ino.0);
        self.answer(req, call, move |answer| match answer {
            Ok(entries) => {
                let dots = [(ino.0, true, "."), (ino.0, true, "..")].into_iter();
                let all = dots.chain(entries.iter().map(|entry| (entry.ino, entry.dir, entry.name.as_str())));
                for (at, (child, dir, name)) in all.enumerate().skip(offset as usize) {
                    let kind = if dir { FileType::Directory } else { FileType::RegularFile };
                    if reply.add(INodeNo(child), at as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let call = move |drive: &mut Drive, host| drive.statfs(host);
        self.answer(req, call, move |answer| match answer {
            Ok(space) => reply.statfs(space.total >> 12, space.free >> 12, space.free >> 12, 1 << 20, 1 << 20, 4096, 255, 4096),
            Err(errno) => reply.error(errno),
        });
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fallocate(&self, req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty) {
        if mode != 0 {
            return reply.error(FuseErrno::EOPNOTSUPP);
        }
        self.answer(req, move |drive, host| drive.allocate(host, fh.0, offset + length), empty(reply));
    }

    fn getlk(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let owner = self.owner(lock_owner, pid);
        let call = move |drive: &mut Drive, host| drive.test_lock(host, fh.0, owner, Range { start, end }, lock_kind(typ));
        self.answer(req, call, move |answer| match answer {
            Ok(None) => reply.locked(start, end, libc::F_UNLCK, 0),
            Ok(Some((holder, range, kind))) => reply.locked(range.start, range.end, lock_typ(kind), holder.pid),
            Err(errno) => reply.error(errno),
        });
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let owner = self.owner(lock_owner, pid);
        let range = Range { start, end };
        let shared = self.shared();
        let mut reply = Some(reply);
        let mut answered: Option<Outcome<()>> = None;
        // A lock may be waited for as long as its holder likes.
        let pending = (!sleep).then(|| Pending::new(&shared));
        let by = Caller { number: shared.count.fetch_add(1, Ordering::Relaxed) + 1, pid: req.pid() };
        // In the pump from the start: telling the kernel to forget pages may make it write them back first.
        let job = move || {
            let _until_answered = &pending;
            if answered.is_none() {
                shared.forget_mapped(ino.0);
                let mut call = |drive: &mut Drive, host| match typ {
                    libc::F_UNLCK => drive.unlock(host, fh.0, owner, range),
                    _ => drive.lock(host, fh.0, owner, range, lock_kind(typ)),
                };
                let (answer, delay) = shared.step(by, &mut call);
                match answer {
                    Err(Fail::Stall) => return Step::Again(STALLED),
                    Err(Fail::Errno(Errno::EAGAIN)) if sleep => return Step::Again(LOCK_POLL),
                    Ok(()) if typ != libc::F_UNLCK => shared.forget_mapped(ino.0),
                    _ => {}
                }
                answered = Some(answer);
                if !delay.is_zero() {
                    return Step::Again(delay);
                }
            }
            if let (Some(answer), Some(reply)) = (answered.take(), reply.take()) {
                match answer {
                    Ok(()) => reply.ok(),
                    Err(fail) => reply.error(fuse_errno(fail)),
                }
            }
            Step::Done
        };
        self.shared.pump.add(Duration::ZERO, Box::new(job));
    }
}
