//! What a host does with files: its page cache, attribute cache, write-back, open and close, locks.
//!
//! Modelled on the Linux NFSv4.2 client without delegations:
//! * `open` asks the server (close-to-open) and drops cached pages when the change attribute is another than it knew;
//! * reads are answered from cached pages while the attributes are believed;
//! * writes stay in the cache until fsync, close, a lock or unlock, a look at the attributes, or the write-back timer.
//!   One request is written stable (not where a close makes nothing stable: there is no such write there); several are written unstable
//!   and committed, and sent again when the server's verifier shows that it restarted in between;
//! * the change attribute after a write of one's own is taken as one's own, so that another host's write in between goes
//!   unnoticed until the next open (N1);
//! * a write-back that fails is reported once by the next fsync or close of each descriptor, and the bytes stay
//!   readable on that host (N14, N15);
//! * taking a remote lock throws the cached pages away; giving one up writes dirty pages back first.

use super::catalogue::Act;
use super::errno::Errno;
use super::locks::{LockKind, Owner, Range};
use super::pages::{Obstacle, PAGE, Pages};
use super::play::Belief;
use super::rpc::{Attr, Ino, Kind, Reply, Rpc, Space};
use super::{Drive, Fail, HostId, Outcome};

const READ_AHEAD: u64 = 128 << 10;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Writes go to the end.
    pub append: bool,
}

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its descriptor on the drive.
    pub handle: u64,
    /// Its attributes at that moment.
    pub attr: Attr,
    /// Whether what the host's kernel has mapped of it is still what is on the server.
    pub unchanged: bool,
}

/// What a flush did, for tests and logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// WRITE requests.
    pub writes: usize,
    /// Whether they had to be committed.
    pub committed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) ino: Ino,
    pub(super) mode: OpenMode,
    /// Every use of it gives this error.
    pub(super) dead: Option<Errno>,
    /// Write-back errors of the file up to this one are known to the descriptor.
    errors_seen: u64,
}

/// A host's knowledge of one file.
#[derive(Clone, Debug)]
pub(super) struct CachedFile {
    attr: Attr,
    /// Until when the attributes are believed, and how long the next time.
    until: u64,
    ttl: u64,
    size: u64,
    pages: Pages,
    uncommitted: Vec<(u64, Vec<u8>)>,
    verifier: u64,
    error: Option<Errno>,
    errors: u64,
    error_told: bool,
    /// The change attribute that the kernel's mapped pages belong to.
    mapped_change: u64,
    /// Changes by this host's own writes, which do not make mapped pages stale.
    own_change: u64,
    /// What this host has of it is all that there is (O2): nothing that the server says about it is believed.
    pinned: bool,
}

impl CachedFile {
    fn new(attr: Attr) -> CachedFile {
        CachedFile {
            attr,
            until: 0,
            ttl: 0,
            size: attr.size,
            pages: Pages::default(),
            uncommitted: Vec::new(),
            verifier: 0,
            error: None,
            errors: 0,
            error_told: true,
            mapped_change: attr.change,
            own_change: attr.change,
            pinned: false,
        }
    }

    pub(super) fn pin(&mut self) {
        self.pinned = true;
    }

    /// Its attributes as the server last told them.
    pub(super) fn attr(&self) -> Attr {
        self.attr
    }

    /// Whether they are believed still.
    pub(super) fn is_believed(&self, now: u64) -> bool {
        now < self.until
    }

    /// The version that the host believes in.
    pub(super) fn version(&self) -> u64 {
        self.attr.version
    }

    pub(super) fn has_unsaved(&self) -> bool {
        self.pages.is_dirty() || !self.uncommitted.is_empty()
    }

    pub(super) fn forget(&mut self) {
        self.pages.clear();
        self.uncommitted.clear();
        self.until = 0;
    }

    /// The attributes as a process on this host sees them: with what it has not written back yet.
    pub(super) fn seen(&self) -> Attr {
        Attr { size: self.size, ..self.attr }
    }

    fn fail(&mut self, errno: Errno) {
        self.error = Some(errno);
        self.errors += 1;
        self.error_told = false;
    }
}

impl Drive {
    /// The descriptor's file, or why it is dead.
    pub(super) fn handle(&self, host: HostId, handle: u64) -> Result<Handle, Errno> {
        let handle = self.hosts[host].handles.get(&handle).ok_or(Errno::EBADF)?;
        handle.dead.map_or_else(|| Ok(handle.clone()), Err)
    }

    fn cached(&mut self, host: HostId, ino: Ino) -> Option<&mut CachedFile> {
        self.hosts[host].files.get_mut(&ino)
    }

    /// What the host knows of a file; after a fault threw it away there may be nothing.
    fn file(&mut self, host: HostId, ino: Ino) -> Result<&mut CachedFile, Errno> {
        self.hosts[host].files.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    /// Takes attributes that just came from the server. `own`: they are the answer to a change of the host's own.
    pub(super) fn learn(&mut self, host: HostId, attr: Attr, own: bool) {
        if attr.dir {
            return;
        }
        let now = self.now();
        let (min, max) = (self.profile.attr_min_ms * 1_000_000, self.profile.attr_max_ms * 1_000_000);
        if let Some(plan) = self.hosts[host].clock_fault.take() {
            self.injector.observed(plan);
        }
        let caches = self.hosts[host].rules.pages;
        let file = self.hosts[host].files.entry(attr.ino).or_insert_with(|| CachedFile::new(attr));
        if file.pinned {
            return;
        }
        let known = file.attr.change;
        if !own
            && known == attr.change
            && file.attr.version != attr.version
            && let Some(plan) = self.server.kept_validator(attr.ino)
        {
            self.injector.observed(plan);
        }
        if attr.change == known {
            file.ttl = (file.ttl * 2).clamp(min, max);
        } else {
            file.ttl = min;
            if own {
                file.own_change = attr.change;
            } else {
                file.pages.drop_clean();
            }
        }
        if !caches {
            file.pages.drop_clean();
        }
        file.attr = attr;
        file.size = if file.pages.is_dirty() { file.size.max(attr.size) } else { attr.size };
        file.until = if caches { now + file.ttl } else { 0 };
    }

    /// Attributes, from the cache where they are believed. `fresh` asks the server whatever is cached.
    ///
    /// # Errors
    /// The file is gone, or a fault.
    pub fn getattr(&mut self, host: HostId, ino: Ino, fresh: bool) -> Outcome<Attr> {
        if self.hosts[host].dirs.contains_key(&ino) || ino == super::ROOT {
            return self.dir_attr(host, ino);
        }
        // Linux writes dirty pages back before it tells a file's times.
        if self.cached(host, ino).is_some_and(|file| file.pages.is_dirty()) {
            self.write_back(host, ino, false)?;
        }
        let now = self.now();
        if !fresh && let Some(file) = self.cached(host, ino) {
            let (valid, seen) = (now < file.until || file.pinned, file.seen());
            if valid || self.rules_pages(host) && self.believes(host, Belief::Content, Kind::Getattr, ino) {
                let stale = seen.version != self.server.version(ino);
                self.answered_from_cache(host, Belief::Content, stale);
                return Ok(seen);
            }
        }
        match self.call(host, Rpc::Getattr { ino }) {
            Ok(Reply::Attr(attr)) if attr.dir => Ok(attr),
            Ok(Reply::Attr(attr)) => {
                self.learn(host, attr, false);
                Ok(self.file(host, ino)?.seen())
            }
            Ok(_) => Err(Errno::EIO.into()),
            Err(fail) => {
                if fail == Fail::Errno(Errno::ESTALE) {
                    self.forget_file(host, ino);
                }
                Err(fail)
            }
        }
    }

    /// The server does not know the file any more: neither do we, nor its names.
    pub(super) fn forget_file(&mut self, host: HostId, ino: Ino) {
        if let Some(file) = self.hosts[host].files.get_mut(&ino) {
            file.forget();
        }
        for dir in self.hosts[host].dirs.values_mut() {
            dir.forget_target(ino);
        }
    }

    /// A descriptor for a file whose attributes just came with an OPEN.
    pub(super) fn opened(&mut self, host: HostId, attr: Attr, mode: OpenMode) -> Outcome<Opened> {
        if attr.dir {
            return Err(Errno::EISDIR.into());
        }
        let before = self.cached(host, attr.ino).map(|file| (file.attr.change, file.own_change));
        if before.is_some_and(|(change, _)| change != attr.change) && self.cached(host, attr.ino).is_some_and(|file| file.pages.is_dirty())
        {
            self.write_back(host, attr.ino, false)?;
        }
        self.learn(host, attr, false);
        let file = self.file(host, attr.ino)?;
        let unchanged = before.is_some() && (file.mapped_change == attr.change || file.own_change == attr.change);
        file.mapped_change = attr.change;
        let errors_seen = if file.error_told { file.errors } else { file.errors.saturating_sub(1) };
        let attr = file.seen();
        let handle = self.next_handle;
        self.next_handle += 1;
        self.hosts[host].handles.insert(handle, Handle { ino: attr.ino, mode, dead: None, errors_seen });
        self.server.set_open(host, attr.ino, true);
        Ok(Opened { handle, attr, unchanged })
    }

    /// Reads.
    ///
    /// # Errors
    /// The descriptor is dead or not for reading, or a fault.
    pub fn read(&mut self, host: HostId, handle: u64, offset: u64, len: usize) -> Outcome<Vec<u8>> {
        let ino = self.handle(host, handle)?.ino;
        let path = if self.is_planned(&[Act::Interrupt]) { self.server.path(ino).to_owned() } else { String::new() };
        let len = self.interrupt(host, Kind::Read, &path, len)?;
        self.forbid(host, Kind::Read, ino, offset, len)?;
        self.read_file(host, ino, offset, len)
    }

    fn rules_pages(&self, host: HostId) -> bool {
        self.hosts[host].rules.pages
    }

    /// Forgets a file's clean pages: what is read next is asked of the server.
    ///
    /// # Errors
    /// The descriptor is dead.
    pub fn forget_pages(&mut self, host: HostId, handle: u64) -> Outcome<()> {
        let ino = self.handle(host, handle)?.ino;
        self.file(host, ino)?.pages.drop_clean();
        Ok(())
    }

    fn revalidate(&mut self, host: HostId, ino: Ino) -> Outcome<()> {
        let now = self.now();
        let file = self.file(host, ino)?;
        if now < file.until || file.pinned {
            return Ok(());
        }
        if self.rules_pages(host) && self.believes(host, Belief::Content, Kind::Read, ino) {
            return Ok(());
        }
        match self.call(host, Rpc::Getattr { ino })? {
            Reply::Attr(attr) => {
                self.learn(host, attr, false);
                Ok(())
            }
            _ => Err(Errno::EIO.into()),
        }
    }

    fn read_file(&mut self, host: HostId, ino: Ino, offset: u64, len: usize) -> Outcome<Vec<u8>> {
        self.revalidate(host, ino)?;
        loop {
            let largest = self.profile.io_bytes as u64;
            let file = self.file(host, ino)?;
            let end = offset.saturating_add(len as u64).min(file.size);
            if offset >= end {
                let stale = len > 0 && file.attr.version != self.server.version(ino);
                let more = self.server.content(ino).is_some_and(|now| now.len() as u64 > offset);
                self.answered_from_cache(host, Belief::Content, stale && more);
                return Ok(Vec::new());
            }
            match file.pages.first_missing(offset, end) {
                None => {
                    let bytes = file.pages.copy_out(offset, end);
                    let old = !file.pages.is_dirty() && file.attr.version != self.server.version(ino);
                    let stale = old && self.server.content(ino).and_then(|now| now.get(offset as usize..end as usize)) != Some(&bytes);
                    self.answered_from_cache(host, Belief::Content, stale);
                    if !self.rules_pages(host) {
                        self.file(host, ino)?.pages.drop_clean();
                    }
                    return Ok(bytes);
                }
                Some((_, true)) => {
                    self.write_back(host, ino, false)?;
                }
                Some((index, false)) => {
                    let start = index * PAGE;
                    let ahead = (end - start).max(READ_AHEAD).min(largest).min(file.size - start);
                    self.fetch(host, ino, start, ahead)?;
                }
            }
        }
    }

    fn fetch(&mut self, host: HostId, ino: Ino, start: u64, len: u64) -> Outcome<()> {
        let len = usize::try_from(len.next_multiple_of(PAGE)).map_err(|_| Errno::EFBIG)?;
        let Reply::Data { bytes, .. } = self.call(host, Rpc::Read { ino, offset: start, len })? else {
            return Err(Errno::EIO.into());
        };
        // What the server no longer has reads as zeros up to the size that this host believes in.
        self.file(host, ino)?.pages.fill(start, len, &bytes);
        Ok(())
    }

    /// Writes; in append mode at the end as this host knows it after asking.
    ///
    /// # Errors
    /// The descriptor is dead or not for writing, or a fault.
    pub fn write(&mut self, host: HostId, handle: u64, offset: u64, data: &[u8]) -> Outcome<usize> {
        let open = self.handle(host, handle)?;
        if !open.mode.write {
            return Err(Errno::EBADF.into());
        }
        let ino = open.ino;
        let path = if self.is_planned(&[Act::Interrupt]) { self.server.path(ino).to_owned() } else { String::new() };
        let data = &data[..self.interrupt(host, Kind::Write, &path, data.len())?];
        self.forbid(host, Kind::Write, ino, offset, data.len())?;
        let offset = if open.mode.append { self.end_of(host, ino)? } else { offset };
        let extend = self.profile.write_behind && self.rules_pages(host) && !self.lock_table(host).host_holds(ino, host);
        let now = self.now();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (index, from) = (at / PAGE, (at % PAGE) as usize);
            let part = &data[done..data.len().min(done + PAGE as usize - from)];
            let file = self.file(host, ino)?;
            match file.pages.obstacle(index, from, from + part.len(), file.size, open.mode.read) {
                Some(Obstacle::Flush) => {
                    self.write_back(host, ino, false)?;
                    continue;
                }
                Some(Obstacle::Read) => {
                    self.fetch(host, ino, index * PAGE, PAGE)?;
                    continue;
                }
                None => {}
            }
            let size = file.size;
            file.pages.write(index, from, part, size, extend, now);
            file.size = size.max(at + part.len() as u64);
            done += part.len();
        }
        if !self.profile.write_behind {
            // Through to the server, but not stable: that is what fsync is for.
            self.flush(host, ino, false)?;
        }
        Ok(data.len())
    }

    /// Where an append goes: to the end as the server knows it, or (N23) as this host remembers it.
    fn end_of(&mut self, host: HostId, ino: Ino) -> Outcome<u64> {
        if let Some(known) = self.cached(host, ino).map(|file| file.size)
            && let Some(fired) = self.meet_on_host(host, Kind::Write, ino, &[Act::AppendBlindly])
        {
            if self.server.content(ino).is_some_and(|now| now.len() as u64 > known) {
                self.injector.observed(fired.plan);
            }
            return Ok(known);
        }
        Ok(self.getattr(host, ino, true)?.size)
    }

    fn lock_table(&self, host: HostId) -> &super::locks::LockTable {
        if self.local_locks.contains(&host) { &self.hosts[host].locks } else { &self.server.locks }
    }

    /// Sends dirty pages. One request of a flush that must be stable is sent stable.
    fn write_back(&mut self, host: HostId, ino: Ino, stable: bool) -> Outcome<Flushed> {
        let largest = self.profile.io_bytes;
        let file = self.file(host, ino)?;
        let runs = file.pages.dirty_runs(largest);
        let stable = stable && runs.len() == 1 && file.uncommitted.is_empty() && self.profile.stable_close;
        let mut done = Flushed::default();
        for (offset, data) in runs {
            let end = offset + data.len() as u64;
            let answer = self.call(host, Rpc::Write { ino, offset, data: data.clone(), stable });
            done.writes += 1;
            match answer {
                Err(Fail::Stall) => return Err(Fail::Stall),
                Err(Fail::Errno(errno)) => {
                    if let Some(file) = self.cached(host, ino) {
                        file.pages.clean(offset, end);
                        file.fail(errno);
                    }
                }
                Ok(Reply::Written { attr, verifier }) => {
                    let file = self.file(host, ino)?;
                    file.pages.clean(offset, end);
                    if !stable {
                        if file.uncommitted.is_empty() {
                            file.verifier = verifier;
                        }
                        file.uncommitted.push((offset, data));
                    }
                    self.learn(host, attr, true);
                }
                Ok(_) => return Err(Errno::EIO.into()),
            }
        }
        Ok(done)
    }

    fn commit(&mut self, host: HostId, ino: Ino) -> Outcome<()> {
        let expected = self.file(host, ino)?.verifier;
        match self.call(host, Rpc::Commit { ino }) {
            Err(Fail::Stall) => Err(Fail::Stall),
            Err(Fail::Errno(errno)) => {
                let file = self.file(host, ino)?;
                file.uncommitted.clear();
                file.fail(errno);
                Ok(())
            }
            Ok(Reply::Committed { verifier }) if verifier == expected => {
                self.file(host, ino)?.uncommitted.clear();
                Ok(())
            }
            Ok(_) => self.send_again(host, ino),
        }
    }

    /// The server restarted since the writes (N11): they go out once more, stable.
    fn send_again(&mut self, host: HostId, ino: Ino) -> Outcome<()> {
        while let Some((offset, data)) = self.file(host, ino)?.uncommitted.first().cloned() {
            match self.call(host, Rpc::Write { ino, offset, data, stable: true }) {
                Err(Fail::Stall) => return Err(Fail::Stall),
                Err(Fail::Errno(errno)) => self.file(host, ino)?.fail(errno),
                Ok(Reply::Written { attr, .. }) => self.learn(host, attr, true),
                Ok(_) => {}
            }
            let left = &mut self.file(host, ino)?.uncommitted;
            // A fault of this very request may have thrown all of it away.
            if !left.is_empty() {
                left.remove(0);
            }
        }
        self.injector.note("N11", true);
        Ok(())
    }

    /// Writes everything back and makes it stable; errors wait for the descriptors to ask.
    pub(super) fn flush(&mut self, host: HostId, ino: Ino, stable: bool) -> Outcome<Flushed> {
        if self.cached(host, ino).is_none_or(|file| !file.has_unsaved()) {
            return Ok(Flushed::default());
        }
        let mut done = self.write_back(host, ino, stable)?;
        if stable && !self.file(host, ino)?.uncommitted.is_empty() {
            self.commit(host, ino)?;
            done.committed = true;
        }
        Ok(done)
    }

    /// Tells a descriptor of a write-back error that it has not been told of.
    fn tell_error(&mut self, host: HostId, handle: u64) -> Result<(), Errno> {
        let Some(open) = self.hosts[host].handles.get(&handle).cloned() else { return Err(Errno::EBADF) };
        let Some(file) = self.hosts[host].files.get_mut(&open.ino) else { return Ok(()) };
        if open.errors_seen >= file.errors {
            return Ok(());
        }
        let (errno, errors) = (file.error, file.errors);
        file.error_told = true;
        if let Some(open) = self.hosts[host].handles.get_mut(&handle) {
            open.errors_seen = errors;
        }
        errno.map_or(Ok(()), Err)
    }

    /// Makes a file's content durable.
    ///
    /// # Errors
    /// Write-back failed since this descriptor last asked, the descriptor is dead, or a fault.
    pub fn fsync(&mut self, host: HostId, handle: u64) -> Outcome<()> {
        let ino = self.handle(host, handle)?.ino;
        if !self.profile.syncs {
            return Ok(());
        }
        self.flush(host, ino, true)?;
        Ok(self.tell_error(host, handle)?)
    }

    /// What close(2) does before it gives the descriptor up: writes back, tells an error, drops an owner's locks.
    ///
    /// # Errors
    /// As [`Drive::fsync`].
    pub fn close_flush(&mut self, host: HostId, handle: u64, owner: Option<Owner>) -> Outcome<()> {
        let open = self.handle(host, handle)?;
        if let Some(owner) = owner
            && self.lock_table(host).holds(open.ino, owner)
        {
            self.unlock(host, handle, owner, Range { start: 0, end: u64::MAX })?;
        }
        if !open.mode.write {
            return Ok(());
        }
        self.flush(host, open.ino, self.profile.stable_close)?;
        Ok(self.tell_error(host, handle)?)
    }

    /// Gives a descriptor up. The server is told when it was the host's last on the file.
    ///
    /// # Errors
    /// Only [`Fail::Stall`].
    pub fn release(&mut self, host: HostId, handle: u64, flock: Option<Owner>) -> Outcome<()> {
        let Some(open) = self.hosts[host].handles.get(&handle).cloned() else { return Ok(()) };
        if let Some(owner) = flock
            && open.dead.is_none()
            && self.lock_table(host).holds(open.ino, owner)
        {
            // A lock that cannot be given up is lost with the descriptor.
            stall_only(self.unlock(host, handle, owner, Range { start: 0, end: u64::MAX }))?;
        }
        let others = self.hosts[host].handles.iter().any(|(&other, it)| other != handle && it.ino == open.ino && it.dead.is_none());
        if !others && open.dead.is_none() {
            stall_only(self.flush(host, open.ino, self.profile.stable_close))?;
            stall_only(self.call(host, Rpc::Close { ino: open.ino }))?;
            if let Some((dir, name)) = self.hosts[host].silly.get(&open.ino).cloned() {
                let answer = self.call(host, Rpc::Remove { dir, name: name.clone() });
                stall_only(self.took_name(host, dir, &name, answer))?;
                self.hosts[host].silly.remove(&open.ino);
            }
        }
        self.hosts[host].handles.remove(&handle);
        if !others {
            self.server.set_open(host, open.ino, false);
        }
        Ok(())
    }

    /// Whether the host has a live descriptor on a file.
    pub(super) fn is_open(&self, host: HostId, ino: Ino) -> bool {
        self.hosts[host].handles.values().any(|handle| handle.ino == ino && handle.dead.is_none())
    }

    /// Sets length, permissions or time.
    ///
    /// # Errors
    /// As truncate(2), chmod(2), utimensat(2), or a fault.
    pub fn setattr(&mut self, host: HostId, ino: Ino, size: Option<u64>, mode: Option<u32>, mtime: Option<u64>) -> Outcome<Attr> {
        self.flush(host, ino, false)?;
        let Reply::Attr(attr) = self.call(host, Rpc::Setattr { ino, size, mode, mtime })? else {
            return Err(Errno::EIO.into());
        };
        if let Some(size) = size
            && let Some(file) = self.cached(host, ino)
        {
            file.pages.truncate(size);
            file.size = size;
        }
        self.learn(host, attr, true);
        Ok(attr)
    }

    /// Reserves space up to `end`.
    ///
    /// # Errors
    /// As fallocate(2), or a fault.
    pub fn allocate(&mut self, host: HostId, handle: u64, end: u64) -> Outcome<()> {
        let ino = self.handle(host, handle)?.ino;
        self.flush(host, ino, true)?;
        match self.call(host, Rpc::Allocate { ino, end })? {
            Reply::Attr(attr) => {
                self.learn(host, attr, true);
                Ok(())
            }
            _ => Err(Errno::EIO.into()),
        }
    }

    /// Space on the drive.
    ///
    /// # Errors
    /// A fault.
    pub fn statfs(&mut self, host: HostId) -> Outcome<Space> {
        match self.call(host, Rpc::Statfs)? {
            Reply::Space(space) => Ok(space),
            _ => Err(Errno::EIO.into()),
        }
    }

    /// Takes a lock; `EAGAIN` when somebody else has it.
    ///
    /// # Errors
    /// As fcntl(2) with `F_SETLK`, or a fault.
    pub fn lock(&mut self, host: HostId, handle: u64, owner: Owner, range: Range, kind: LockKind) -> Outcome<()> {
        let ino = self.handle(host, handle)?.ino;
        if self.is_planned(&[Act::Interrupt]) {
            let path = self.server.path(ino).to_owned();
            self.interrupt(host, Kind::Lock, &path, 0)?;
        }
        self.flush(host, ino, self.profile.stable_close)?;
        let fault = self.meet_on_host(host, Kind::Lock, ino, &[Act::LocalLock]).map(|fired| fired.plan);
        if fault.is_some() || self.local_locks.contains(&host) {
            return self.lock_locally(host, ino, owner, range, kind, fault);
        }
        self.call(host, Rpc::Lock { ino, owner, range, kind })?;
        let file = self.file(host, ino)?;
        file.pages.drop_clean();
        file.until = 0;
        Ok(())
    }

    /// N21: the host grants the lock by itself, whoever has it elsewhere.
    fn lock_locally(&mut self, host: HostId, ino: Ino, owner: Owner, range: Range, kind: LockKind, fault: Option<usize>) -> Outcome<()> {
        if !self.hosts[host].locks.lock(ino, owner, range, kind) {
            return Err(Errno::EAGAIN.into());
        }
        let mut others = (0..self.hosts.len()).filter(|&other| other != host);
        let elsewhere = others.any(|other| self.hosts[other].locks.conflict(ino, owner, range, kind).is_some());
        if elsewhere || self.server.would_refuse(ino, owner, range, kind) {
            match fault {
                Some(plan) => self.injector.observed(plan),
                None => self.injector.note(self.profile.local_lock_fault(), true),
            }
        }
        Ok(())
    }

    /// Gives locks up.
    ///
    /// # Errors
    /// A dead descriptor, or a fault.
    pub fn unlock(&mut self, host: HostId, handle: u64, owner: Owner, range: Range) -> Outcome<()> {
        let ino = self.handle(host, handle)?.ino;
        self.flush(host, ino, self.profile.stable_close)?;
        self.hosts[host].locks.unlock(ino, owner, range);
        if self.local_locks.contains(&host) {
            return Ok(());
        }
        self.call(host, Rpc::Locku { ino, owner, range }).map(drop)
    }

    /// Who stands in the way of a lock.
    ///
    /// # Errors
    /// A dead descriptor, or a fault.
    pub fn test_lock(
        &mut self,
        host: HostId,
        handle: u64,
        owner: Owner,
        range: Range,
        kind: LockKind,
    ) -> Outcome<Option<(Owner, Range, LockKind)>> {
        let ino = self.handle(host, handle)?.ino;
        if self.local_locks.contains(&host) {
            return Ok(self.hosts[host].locks.conflict(ino, owner, range, kind));
        }
        match self.call(host, Rpc::Lockt { ino, owner, range, kind })? {
            Reply::Holder(holder) => Ok(holder),
            _ => Err(Errno::EIO.into()),
        }
    }

    /// Writes back what has been dirty for long. To be called now and then; errors wait for fsync or close.
    pub fn tick(&mut self) {
        self.happen_due();
        let now = self.now();
        let age = self.profile.writeback_ms * 1_000_000;
        for host in 0..self.hosts.len() {
            let old: Vec<Ino> = self.hosts[host]
                .files
                .iter()
                .filter(|(_, file)| file.pages.dirty_since.is_some_and(|since| since + age <= now))
                .map(|(&ino, _)| ino)
                .collect();
            for ino in old {
                // A stall leaves the pages dirty for the next round.
                let _ = self.write_back(host, ino, false);
            }
        }
    }
}

fn stall_only<T>(outcome: Outcome<T>) -> Outcome<()> {
    match outcome {
        Err(Fail::Stall) => Err(Fail::Stall),
        _ => Ok(()),
    }
}
