//! The file server: what is on the drive, and what of it would survive a power cut.
//!
//! As on a Linux NFS server with a `sync` export: names and attributes are durable when the answer leaves; file content
//! is durable when it was written `stable` or committed since. A restart may drop any of the content that was not, and then
//! has a new write verifier, by which a client that is still alive sees that it must send it again. Locks die with a restart.

mod content;
mod names;
mod views;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use views::{Image, Veil};

use super::errno::Errno;
use super::locks::{LockTable, Owner};
use super::rng::Rng;
use super::rpc::{Attr, DirChange, Ino, ROOT, Reply, Rpc, Space};
use content::put;
use views::Shadow;

/// Nanoseconds since the epoch at which the drive's own time is zero (2026-01-01).
const EPOCH: u64 = 1_767_225_600_000_000_000;
const LONGEST_NAME: usize = 255;
const BLOCK: u64 = 4096;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::drive) struct Node {
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
    /// Grows with every change, whatever the change attribute says: by it the drive itself knows what is stale.
    version: u64,
    /// The content before the last change since the file was last closed or committed, where that is kept.
    previous: Option<Vec<u8>>,
    changing: bool,
    /// Closed once, with something in it.
    sealed: bool,
    /// Faults by which stability was acknowledged and is not there.
    lies: Vec<usize>,
    /// What other hosts see instead.
    shadow: Option<Shadow>,
    /// The fault by which the change attribute stayed.
    kept_validator: Option<usize>,
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

/// What a restart did, and the faults by which it lost what had been acknowledged as stable.
#[derive(Clone, Debug, Default)]
pub(super) struct RestartLog {
    pub(super) done: Restarted,
    pub(super) lies: Vec<usize>,
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
    /// Times of files are rounded down to this many nanoseconds.
    time_step: u64,
    /// Open files live on without a name, as on a local disk.
    keep_unlinked: bool,
    /// Content before the last change is kept.
    keep_previous: bool,
    /// Which host has which file open.
    open: BTreeSet<(usize, Ino)>,
    /// Who asks, and what others must not see yet.
    viewer: usize,
    veils: BTreeMap<(Ino, String), Veil>,
    /// Removed names that stay until the file is closed everywhere, and by which fault.
    pending: BTreeMap<(Ino, String), usize>,
    /// Faults whose trace somebody was shown since this was last asked.
    shown: Vec<usize>,
}

fn blocks(len: usize) -> u64 {
    (len as u64).div_ceil(BLOCK) * BLOCK
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
            time_step: 1,
            keep_unlinked: false,
            keep_previous: false,
            open: BTreeSet::new(),
            viewer: 0,
            veils: BTreeMap::new(),
            pending: BTreeMap::new(),
            shown: Vec::new(),
        };
        let root = server.new_node(true, 0o755, ROOT, String::new());
        debug_assert_eq!(root, ROOT);
        server
    }

    /// Sets the server's clock (nanoseconds since the drive began).
    pub fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// How the kind of drive keeps time, and whether open files live on without a name.
    pub(super) fn set_nature(&mut self, time_step: u64, keep_unlinked: bool) {
        self.time_step = time_step.max(1);
        self.keep_unlinked = keep_unlinked;
    }

    /// From now on the content before a change is kept.
    pub(super) fn keep_previous(&mut self) {
        self.keep_previous = true;
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
            Rpc::Close { ino } => {
                self.seal(ino);
                Ok(Reply::Done)
            }
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
                let ino = self.find(dir, name)?;
                let attr = self.attr(ino)?;
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
    pub(super) fn restart(&mut self, loss: Loss, rng: &mut Rng) -> RestartLog {
        let mut log = RestartLog::default();
        log.done.locks_lost = self.locks.forget(None);
        self.verifier += 1;
        for node in self.nodes.values_mut() {
            let pending = std::mem::take(&mut node.pending);
            let lies = std::mem::take(&mut node.lies);
            let Some(mut base) = node.base.take() else { continue };
            if loss == Loss::Nothing {
                continue;
            }
            let mut lost = 0;
            for (offset, bytes) in pending {
                if loss == Loss::Some && rng.chance(0.5) {
                    // It was within bounds when it was written, so it still is.
                    let _ = put(&mut base, offset, &bytes);
                } else {
                    lost += 1;
                }
            }
            if lost > 0 {
                log.lies.extend(lies);
            }
            log.done.writes_lost += lost;
            self.used = self.used + blocks(base.len()) - blocks(node.data.len());
            node.data = base;
            node.change = self.next_change;
            node.version = self.next_change;
            self.next_change += 1;
        }
        log
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
        (EPOCH + self.now) / self.time_step * self.time_step
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
            version: change,
            previous: None,
            changing: false,
            sealed: false,
            lies: Vec::new(),
            shadow: None,
            kept_validator: None,
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

    /// What a name in a folder stands for, for whoever asks.
    fn find(&mut self, dir: Ino, name: &str) -> Result<Ino, Errno> {
        let folder = self.folder(dir)?;
        match name {
            "." => return Ok(dir),
            ".." => return Ok(folder.parent),
            _ => {}
        }
        let found = folder.names.get(name).copied().ok_or(Errno::ENOENT)?;
        if self.is_veiled(dir, name) {
            return Err(Errno::ENOENT);
        }
        if let Some(&fault) = self.pending.get(&(dir, name.to_owned())) {
            self.shown.push(fault);
            return Err(Errno::EBUSY);
        }
        Ok(found)
    }

    fn attr(&self, ino: Ino) -> Result<Attr, Errno> {
        let node = self.node(ino)?;
        let seen = node.shadow.as_ref().filter(|shadow| shadow.hides_from(self.viewer, self.now));
        let size = seen.map_or(node.data.len(), |shadow| shadow.data.len());
        Ok(Attr {
            ino,
            dir: node.dir,
            size: if node.dir { BLOCK } else { size as u64 },
            mode: node.mode,
            nlink: node.nlink,
            // A host that is shown something else is not told the validator of what it is not shown.
            change: if seen.is_some() { node.change.wrapping_sub(1) } else { node.change },
            version: node.version,
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
        node.version = after;
        node.kept_validator = None;
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
}
