//! The file server: what is on the drive, and what of it would survive a power cut.
//!
//! As on a Linux NFS server with a `sync` export: names and attributes are durable when the answer leaves; file content
//! is durable when it was written `stable` or committed since. A restart may drop any of the content that was not, and then
//! has a new write verifier, by which a client that is still alive sees that it must send it again. Locks die with a restart.

use std::collections::BTreeMap;

use super::errno::Errno;
use super::locks::{LockTable, Owner};
use super::rng::Rng;
use super::rpc::{Attr, Create, DirChange, Entry, Ino, ROOT, Reply, Rpc, Space};

/// Nanoseconds since the epoch at which the drive's own time is zero (2026-01-01).
const EPOCH: u64 = 1_767_225_600_000_000_000;
const LONGEST_NAME: usize = 255;
const BLOCK: u64 = 4096;

#[derive(Clone, Debug)]
struct Node {
    dir: bool,
    /// What everybody sees.
    data: Vec<u8>,
    /// What is durable, where that differs, and the writes since.
    base: Option<Vec<u8>>,
    pending: Vec<(u64, Vec<u8>)>,
    names: BTreeMap<String, Ino>,
    parent: Ino,
    mode: u32,
    nlink: u32,
    change: u64,
    mtime: u64,
    ctime: u64,
    /// Last path it was given, for fault plans and logs.
    path: String,
}

/// What a restart drops of the content that was never made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the server only forgot its locks.
    Nothing,
    /// Everything.
    All,
    /// Each write by the toss of a seeded coin.
    Some,
}

/// What a restart did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarted {
    /// Writes whose content is gone.
    pub writes_lost: usize,
    /// Locks that nobody holds any more.
    pub locks_lost: usize,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Server {
    nodes: BTreeMap<Ino, Node>,
    next_ino: Ino,
    next_change: u64,
    verifier: u64,
    /// Byte-range locks.
    pub locks: LockTable,
    capacity: u64,
    used: u64,
    now: u64,
}

fn blocks(len: usize) -> u64 {
    (len as u64).div_ceil(BLOCK) * BLOCK
}

fn put(data: &mut Vec<u8>, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let end = start.checked_add(bytes.len()).ok_or(Errno::EFBIG)?;
    if end > 1 << 34 {
        return Err(Errno::EFBIG);
    }
    if data.len() < end {
        data.resize(end, 0);
    }
    data[start..end].copy_from_slice(bytes);
    Ok(())
}

impl Server {
    /// An empty drive of a size in bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Server {
        let mut server = Server {
            nodes: BTreeMap::new(),
            next_ino: ROOT,
            next_change: 1,
            verifier: 1,
            locks: LockTable::default(),
            capacity,
            used: 0,
            now: 0,
        };
        let root = server.new_node(true, 0o755, ROOT, String::new());
        debug_assert_eq!(root, ROOT);
        server
    }

    /// Sets the server's clock (nanoseconds since the drive began).
    pub fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// How much fits in all. Less than what is used is allowed: the drive is then full.
    pub fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// Space.
    #[must_use]
    pub fn space(&self) -> Space {
        Space { total: self.capacity, free: self.capacity.saturating_sub(self.used) }
    }

    /// The last path that a file was given; empty when there is no such file.
    #[must_use]
    pub fn path(&self, ino: Ino) -> &str {
        self.nodes.get(&ino).map_or("", |node| node.path.as_str())
    }

    /// The path of a name in a folder.
    #[must_use]
    pub fn child_path(&self, dir: Ino, name: &str) -> String {
        match self.path(dir) {
            "" => name.to_owned(),
            parent => format!("{parent}/{name}"),
        }
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// As the file system calls that the request stands for.
    pub fn apply(&mut self, rpc: &Rpc) -> Result<Reply, Errno> {
        match *rpc {
            Rpc::Access { ino } => self.node(ino).map(|_| Reply::Done),
            Rpc::Close { .. } => Ok(Reply::Done),
            Rpc::Getattr { ino } | Rpc::OpenHandle { ino } => self.attr(ino).map(Reply::Attr),
            Rpc::Statfs => Ok(Reply::Space(self.space())),
            Rpc::Read { ino, offset, len } => self.read(ino, offset, len),
            Rpc::Write { ino, offset, ref data, stable } => self.write(ino, offset, data, stable),
            Rpc::Commit { ino } => self.commit(ino),
            Rpc::Allocate { ino, end } => self.allocate(ino, end),
            Rpc::Setattr { ino, size, mode, mtime } => self.setattr(ino, size, mode, mtime),
            Rpc::Lock { ino, owner, range, kind } => {
                self.node(ino)?;
                if self.locks.lock(ino, owner, range, kind) { Ok(Reply::Done) } else { Err(Errno::EAGAIN) }
            }
            Rpc::Lockt { ino, owner, range, kind } => {
                self.node(ino)?;
                Ok(Reply::Holder(self.locks.conflict(ino, owner, range, kind)))
            }
            Rpc::Locku { ino, owner, range } => {
                self.locks.unlock(ino, owner, range);
                Ok(Reply::Done)
            }
            _ => self.apply_name(rpc),
        }
    }

    fn apply_name(&mut self, rpc: &Rpc) -> Result<Reply, Errno> {
        match *rpc {
            Rpc::Lookup { dir, ref name } => {
                let attr = self.attr(self.find(dir, name)?)?;
                let change = self.node(dir)?.change;
                Ok(Reply::Named { attr, dir: DirChange { before: change, after: change } })
            }
            Rpc::Open { dir, ref name, create } => self.open(dir, name, create),
            Rpc::Mkdir { dir, ref name, mode } => self.mkdir(dir, name, mode),
            Rpc::Link { ino, dir, ref name } => self.link(ino, dir, name),
            Rpc::Remove { dir, ref name } => self.remove(dir, name, false),
            Rpc::Rmdir { dir, ref name } => self.remove(dir, name, true),
            Rpc::Rename { dir, ref name, to_dir, ref to_name } => self.rename(dir, name, to_dir, to_name),
            Rpc::Readdir { dir } => self.readdir(dir),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Power goes and comes back.
    pub fn restart(&mut self, loss: Loss, rng: &mut Rng) -> Restarted {
        let mut done = Restarted { locks_lost: self.locks.forget(None), ..Restarted::default() };
        self.verifier += 1;
        for node in self.nodes.values_mut() {
            let pending = std::mem::take(&mut node.pending);
            let Some(mut base) = node.base.take() else { continue };
            if loss == Loss::Nothing {
                continue;
            }
            for (offset, bytes) in pending {
                if loss == Loss::Some && rng.chance(0.5) {
                    // It was within bounds when it was written, so it still is.
                    let _ = put(&mut base, offset, &bytes);
                } else {
                    done.writes_lost += 1;
                }
            }
            self.used = self.used + blocks(base.len()) - blocks(node.data.len());
            node.data = base;
            node.change = self.next_change;
            self.next_change += 1;
        }
        done
    }

    /// Drops the locks of one host, as when its lease ran out; says how many.
    pub fn expire_lease(&mut self, host: usize) -> usize {
        self.locks.forget(Some(host))
    }

    /// Bytes written but not durable, over all files.
    #[must_use]
    pub fn unstable_bytes(&self) -> usize {
        self.nodes.values().flat_map(|node| &node.pending).map(|(_, bytes)| bytes.len()).sum()
    }

    /// The owner of a lock that would refuse this one, if any: used to tell whether a lock that was granted locally
    /// was granted falsely.
    #[must_use]
    pub fn would_refuse(&self, ino: Ino, owner: Owner, range: super::locks::Range, kind: super::locks::LockKind) -> bool {
        self.locks.conflict(ino, owner, range, kind).is_some()
    }

    fn stamp(&self) -> u64 {
        EPOCH + self.now
    }

    fn new_node(&mut self, dir: bool, mode: u32, parent: Ino, path: String) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        let stamp = self.stamp();
        let change = self.next_change;
        self.next_change += 1;
        let node = Node {
            dir,
            data: Vec::new(),
            base: None,
            pending: Vec::new(),
            names: BTreeMap::new(),
            parent,
            mode,
            nlink: if dir { 2 } else { 1 },
            change,
            mtime: stamp,
            ctime: stamp,
            path,
        };
        self.nodes.insert(ino, node);
        ino
    }

    fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ESTALE)
    }

    fn folder(&self, ino: Ino) -> Result<&Node, Errno> {
        let node = self.node(ino)?;
        if node.dir { Ok(node) } else { Err(Errno::ENOTDIR) }
    }

    fn file(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        let node = self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        if node.dir { Err(Errno::EISDIR) } else { Ok(node) }
    }

    fn find(&self, dir: Ino, name: &str) -> Result<Ino, Errno> {
        let folder = self.folder(dir)?;
        match name {
            "." => Ok(dir),
            ".." => Ok(folder.parent),
            _ => folder.names.get(name).copied().ok_or(Errno::ENOENT),
        }
    }

    fn attr(&self, ino: Ino) -> Result<Attr, Errno> {
        let node = self.node(ino)?;
        Ok(Attr {
            ino,
            dir: node.dir,
            size: if node.dir { BLOCK } else { node.data.len() as u64 },
            mode: node.mode,
            nlink: node.nlink,
            change: node.change,
            mtime: node.mtime,
            ctime: node.ctime,
        })
    }

    /// Marks a change and returns the change attribute before and after.
    fn touch(&mut self, ino: Ino, content: bool) -> DirChange {
        let stamp = self.stamp();
        let after = self.next_change;
        let Some(node) = self.nodes.get_mut(&ino) else { return DirChange { before: 0, after: 0 } };
        self.next_change += 1;
        let before = node.change;
        node.change = after;
        node.ctime = stamp;
        if content {
            node.mtime = stamp;
        }
        DirChange { before, after }
    }

    fn check_new_name(&self, dir: Ino, name: &str) -> Result<(), Errno> {
        let folder = self.folder(dir)?;
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(Errno::EINVAL);
        }
        if name.len() > LONGEST_NAME {
            return Err(Errno::ENAMETOOLONG);
        }
        if folder.names.contains_key(name) { Err(Errno::EEXIST) } else { Ok(()) }
    }

    fn read(&mut self, ino: Ino, offset: u64, len: usize) -> Result<Reply, Errno> {
        let node = self.file(ino)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(node.data.len());
        let end = start.saturating_add(len).min(node.data.len());
        let bytes = node.data[start..end].to_vec();
        Ok(Reply::Data { bytes, attr: self.attr(ino)? })
    }

    fn grow_to(&mut self, ino: Ino, end: u64) -> Result<(), Errno> {
        let len = self.file(ino)?.data.len();
        let wanted = usize::try_from(end).map_err(|_| Errno::EFBIG)?;
        if wanted <= len {
            return Ok(());
        }
        let more = blocks(wanted) - blocks(len);
        if more > 0 && self.used + more > self.capacity {
            return Err(Errno::ENOSPC);
        }
        self.used += more;
        Ok(())
    }

    fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8], stable: bool) -> Result<Reply, Errno> {
        self.grow_to(ino, offset + bytes.len() as u64)?;
        let node = self.file(ino)?;
        if !stable && node.base.is_none() {
            node.base = Some(node.data.clone());
        }
        put(&mut node.data, offset, bytes)?;
        if stable {
            if let Some(base) = &mut node.base {
                put(base, offset, bytes)?;
            }
        } else {
            node.pending.push((offset, bytes.to_vec()));
        }
        self.touch(ino, true);
        Ok(Reply::Written { attr: self.attr(ino)?, verifier: self.verifier })
    }

    fn commit(&mut self, ino: Ino) -> Result<Reply, Errno> {
        let verifier = self.verifier;
        let node = self.file(ino)?;
        node.base = None;
        node.pending.clear();
        Ok(Reply::Committed { verifier })
    }

    fn allocate(&mut self, ino: Ino, end: u64) -> Result<Reply, Errno> {
        self.grow_to(ino, end)?;
        let node = self.file(ino)?;
        let end = usize::try_from(end).map_err(|_| Errno::EFBIG)?;
        if node.data.len() < end {
            node.data.resize(end, 0);
            if let Some(base) = &mut node.base {
                base.resize(end, 0);
            }
            self.touch(ino, true);
        }
        self.attr(ino).map(Reply::Attr)
    }

    fn setattr(&mut self, ino: Ino, size: Option<u64>, mode: Option<u32>, mtime: Option<u64>) -> Result<Reply, Errno> {
        if let Some(size) = size {
            self.grow_to(ino, size)?;
            let node = self.file(ino)?;
            let size = usize::try_from(size).map_err(|_| Errno::EFBIG)?;
            let before = blocks(node.data.len());
            let grown = size > node.data.len();
            node.data.resize(size, 0);
            if let Some(base) = &mut node.base {
                base.resize(size, 0);
                for (offset, bytes) in &mut node.pending {
                    bytes.truncate(size.saturating_sub(usize::try_from(*offset).unwrap_or(usize::MAX)));
                }
            }
            if !grown {
                self.used = self.used - before + blocks(size);
            }
        }
        self.touch(ino, size.is_some());
        let node = self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        if let Some(mode) = mode {
            node.mode = mode & 0o7777;
        }
        if let Some(mtime) = mtime {
            node.mtime = mtime;
        }
        self.attr(ino).map(Reply::Attr)
    }

    fn open(&mut self, dir: Ino, name: &str, create: Option<Create>) -> Result<Reply, Errno> {
        match (self.find(dir, name), create) {
            (Ok(_), Some(Create { exclusive: true, .. })) => Err(Errno::EEXIST),
            (Ok(ino), _) => {
                let change = self.node(dir)?.change;
                let dir = DirChange { before: change, after: change };
                Ok(Reply::Opened { attr: self.attr(ino)?, created: false, dir })
            }
            (Err(Errno::ENOENT), Some(create)) => {
                self.check_new_name(dir, name)?;
                let path = self.child_path(dir, name);
                let ino = self.new_node(false, create.mode & 0o7777, dir, path);
                self.insert(dir, name, ino);
                let dir = self.touch(dir, true);
                Ok(Reply::Opened { attr: self.attr(ino)?, created: true, dir })
            }
            (Err(errno), _) => Err(errno),
        }
    }

    fn insert(&mut self, dir: Ino, name: &str, ino: Ino) {
        if let Some(folder) = self.nodes.get_mut(&dir) {
            folder.names.insert(name.to_owned(), ino);
        }
    }

    fn mkdir(&mut self, dir: Ino, name: &str, mode: u32) -> Result<Reply, Errno> {
        self.check_new_name(dir, name)?;
        let path = self.child_path(dir, name);
        let ino = self.new_node(true, mode & 0o7777, dir, path);
        self.insert(dir, name, ino);
        if let Some(folder) = self.nodes.get_mut(&dir) {
            folder.nlink += 1;
        }
        let dir = self.touch(dir, true);
        Ok(Reply::Named { attr: self.attr(ino)?, dir })
    }

    fn link(&mut self, ino: Ino, dir: Ino, name: &str) -> Result<Reply, Errno> {
        self.file(ino)?;
        self.check_new_name(dir, name)?;
        let path = self.child_path(dir, name);
        self.insert(dir, name, ino);
        let node = self.file(ino)?;
        node.nlink += 1;
        node.path = path;
        self.touch(ino, false);
        let dir = self.touch(dir, true);
        Ok(Reply::Named { attr: self.attr(ino)?, dir })
    }

    fn forget_name(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        node.nlink = if node.dir { 0 } else { node.nlink - 1 };
        if node.nlink == 0 {
            self.used -= blocks(node.data.len());
            self.nodes.remove(&ino);
        } else {
            self.touch(ino, false);
        }
    }

    fn remove(&mut self, dir: Ino, name: &str, folder: bool) -> Result<Reply, Errno> {
        let ino = self.find(dir, name)?;
        let node = self.node(ino)?;
        match (folder, node.dir) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) if !node.names.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        if let Some(parent) = self.nodes.get_mut(&dir) {
            parent.names.remove(name);
            parent.nlink -= u32::from(folder);
        }
        self.forget_name(ino);
        Ok(Reply::Removed { dir: self.touch(dir, true) })
    }

    fn rename(&mut self, dir: Ino, name: &str, to_dir: Ino, to_name: &str) -> Result<Reply, Errno> {
        let ino = self.find(dir, name)?;
        let moved_dir = self.node(ino)?.dir;
        if moved_dir && self.is_within(to_dir, ino) {
            return Err(Errno::EINVAL);
        }
        let to_before = self.folder(to_dir)?.change;
        match self.check_new_name(to_dir, to_name) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let old = self.find(to_dir, to_name)?;
                if old == ino {
                    let same = self.node(dir)?.change;
                    let same = DirChange { before: same, after: same };
                    return Ok(Reply::Renamed { from: same, to: same });
                }
                match (moved_dir, self.node(old)?.dir) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ => self.remove(to_dir, to_name, moved_dir)?,
                };
            }
            Err(errno) => return Err(errno),
        }
        if let Some(parent) = self.nodes.get_mut(&dir) {
            parent.names.remove(name);
            parent.nlink -= u32::from(moved_dir);
        }
        self.insert(to_dir, to_name, ino);
        let path = self.child_path(to_dir, to_name);
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.path = path;
            if moved_dir {
                node.parent = to_dir;
            }
        }
        if moved_dir && let Some(parent) = self.nodes.get_mut(&to_dir) {
            parent.nlink += 1;
        }
        self.touch(ino, false);
        let mut from = self.touch(dir, true);
        let to = DirChange { before: to_before, after: if dir == to_dir { from.after } else { self.touch(to_dir, true).after } };
        if dir == to_dir {
            from = to;
        }
        Ok(Reply::Renamed { from, to })
    }

    fn is_within(&self, mut dir: Ino, ancestor: Ino) -> bool {
        loop {
            if dir == ancestor {
                return true;
            }
            match self.nodes.get(&dir) {
                Some(node) if node.parent != dir => dir = node.parent,
                _ => return false,
            }
        }
    }

    fn readdir(&self, dir: Ino) -> Result<Reply, Errno> {
        let folder = self.folder(dir)?;
        let entries = folder
            .names
            .iter()
            .map(|(name, &ino)| Entry { name: name.clone(), ino, dir: self.nodes.get(&ino).is_some_and(|node| node.dir) })
            .collect();
        Ok(Reply::Listing { entries, attr: self.attr(dir)? })
    }
}
