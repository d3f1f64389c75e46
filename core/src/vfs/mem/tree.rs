//! Directories, names and inodes, each directory with the names that the host sees and those that the disk has.

use super::content::Content;
use super::plan::errno;
use crate::vfs::Stat;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

/// The root directory's inode.
pub(super) const ROOT: u64 = 1;

/// Inodes without a name are looked for when this many lost theirs.
const COLLECT_EVERY: usize = 256;

/// A file or a directory.
#[derive(Debug)]
pub(super) enum Node {
    File(File),
    Dir(Dir),
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) content: Content,
    pub(super) links: u64,
    pub(super) opens: u64,
    /// Which open file has the lock.
    pub(super) locked_by: Option<u64>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Dir {
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable: BTreeMap<String, u64>,
}

/// One directory entry set to an inode or to nothing.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) dir: u64,
    pub(super) name: String,
    pub(super) inode: Option<u64>,
}

/// Edits that reach the disk together or not at all.
pub(super) type NameChange = Vec<Edit>;

/// The whole file system.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) next_inode: u64,
    /// Name changes that no `sync_dir` has covered, oldest first.
    pub(super) pending: Vec<NameChange>,
    nameless: usize,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]), next_inode: ROOT + 1, pending: Vec::new(), nameless: 0 }
    }

    pub(super) fn dir(&self, inode: u64) -> io::Result<&Dir> {
        match self.nodes.get(&inode) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub(super) fn file(&mut self, inode: u64) -> io::Result<&mut File> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ESTALE)),
        }
    }

    /// Finds what a path names.
    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for name in parts(path)? {
            at = *self.dir(at)?.names.get(name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(at)
    }

    /// Finds the directory that holds a path's last name, whether or not that exists.
    pub(super) fn find_parent<'a>(&self, path: &'a Path) -> io::Result<(u64, &'a str)> {
        let mut names = parts(path)?;
        let last = names.pop().ok_or_else(|| errno(libc::EEXIST))?;
        let mut at = ROOT;
        for name in names {
            at = *self.dir(at)?.names.get(name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        self.dir(at)?;
        Ok((at, last))
    }

    pub(super) fn stat(&self, path: &Path) -> io::Result<Stat> {
        let inode = self.find(path)?;
        match &self.nodes[&inode] {
            Node::File(file) => Ok(Stat { len: file.content.len()?, links: file.links, is_dir: false, inode }),
            Node::Dir(dir) => {
                let below = dir.names.values().filter(|child| matches!(self.nodes.get(child), Some(Node::Dir(_)))).count();
                Ok(Stat { len: 4096, links: 2 + below as u64, is_dir: true, inode })
            }
        }
    }

    /// Makes a new file or directory under a name.
    pub(super) fn create(&mut self, path: &Path, mut node: Node) -> io::Result<u64> {
        let (dir, name) = self.find_parent(path)?;
        if self.dir(dir)?.names.contains_key(name) {
            return Err(errno(libc::EEXIST));
        }
        if let Node::File(file) = &mut node {
            file.links = 1;
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        self.change(vec![Edit { dir, name: name.to_owned(), inode: Some(inode) }]);
        Ok(inode)
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        let (dir, name) = self.find_parent(to)?;
        if self.dir(dir)?.names.contains_key(name) {
            return Err(errno(libc::EEXIST));
        }
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => file.links += 1,
            _ => return Err(errno(libc::EPERM)),
        }
        self.change(vec![Edit { dir, name: name.to_owned(), inode: Some(inode) }]);
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        let (dir, name) = self.find_parent(path)?;
        self.file(inode)?.links -= 1;
        self.change(vec![Edit { dir, name: name.to_owned(), inode: None }]);
        self.lost_a_name();
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        if !self.dir(inode)?.names.is_empty() {
            return Err(errno(libc::ENOTEMPTY));
        }
        let (dir, name) = self.find_parent(path)?;
        self.change(vec![Edit { dir, name: name.to_owned(), inode: None }]);
        self.lost_a_name();
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        let (from_dir, from_name) = self.find_parent(from)?;
        let (to_dir, to_name) = self.find_parent(to)?;
        let is_dir = matches!(self.nodes.get(&inode), Some(Node::Dir(_)));
        if is_dir && to != from && to.starts_with(from) {
            return Err(errno(libc::EINVAL));
        }
        let replaced = self.dir(to_dir)?.names.get(to_name).copied();
        if replaced == Some(inode) {
            return Ok(());
        }
        match replaced.and_then(|other| self.nodes.get_mut(&other)) {
            Some(Node::Dir(_)) if !is_dir => return Err(errno(libc::EISDIR)),
            Some(Node::Dir(dir)) if !dir.names.is_empty() => return Err(errno(libc::ENOTEMPTY)),
            Some(Node::File(_)) if is_dir => return Err(errno(libc::ENOTDIR)),
            Some(Node::File(file)) => file.links -= 1,
            Some(Node::Dir(_)) | None => {}
        }
        self.change(vec![
            Edit { dir: from_dir, name: from_name.to_owned(), inode: None },
            Edit { dir: to_dir, name: to_name.to_owned(), inode: Some(inode) },
        ]);
        self.lost_a_name();
        Ok(())
    }

    /// Makes a change that the host sees at once.
    fn change(&mut self, change: NameChange) {
        for edit in &change {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&edit.dir) {
                set(&mut dir.names, edit);
            }
        }
        self.pending.push(change);
    }

    /// Makes the changes that `is_synced` picks durable, and the older ones of the same names that they stand on.
    pub(super) fn sync_names(&mut self, is_synced: impl Fn(&Edit) -> bool) {
        let mut names = BTreeSet::new();
        let mut durable = Vec::new();
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if change.iter().any(|edit| is_synced(edit) || names.contains(&(edit.dir, edit.name.clone()))) {
                names.extend(change.iter().map(|edit| (edit.dir, edit.name.clone())));
                durable.push(change);
            } else {
                left.push(change);
            }
        }
        left.reverse();
        self.pending = left;
        for edit in durable.iter().rev().flatten() {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&edit.dir) {
                set(&mut dir.durable, edit);
            }
        }
    }

    fn lost_a_name(&mut self) {
        self.nameless += 1;
        if self.nameless < COLLECT_EVERY {
            return;
        }
        self.nameless = 0;
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Node::Dir(dir) = node {
                named.extend(dir.names.values().chain(dir.durable.values()));
            }
        }
        named.extend(self.pending.iter().flatten().filter_map(|edit| edit.inode));
        self.nodes.retain(|inode, node| named.contains(inode) || matches!(node, Node::File(file) if file.opens > 0));
    }

    /// Returns the bytes that the files take from the disk.
    pub(super) fn used(&self) -> u64 {
        let taken = |node: &Node| match node {
            Node::File(file) if file.links > 0 || file.opens > 0 => file.content.allocated,
            Node::File(_) | Node::Dir(_) => 0,
        };
        self.nodes.values().map(taken).sum()
    }

    /// Returns a copy that nothing changes any more.
    pub(super) fn snapshot(&self) -> io::Result<Self> {
        let mut nodes = BTreeMap::new();
        for (&inode, node) in &self.nodes {
            let node = match node {
                Node::Dir(dir) => Node::Dir(dir.clone()),
                Node::File(file) => Node::File(File { content: file.content.snapshot()?, links: file.links, opens: 0, locked_by: None }),
            };
            nodes.insert(inode, node);
        }
        Ok(Self { nodes, next_inode: self.next_inode, pending: self.pending.clone(), nameless: 0 })
    }
}

impl File {
    pub(super) const fn new(content: Content) -> Self {
        Self { content, links: 0, opens: 0, locked_by: None }
    }
}

/// Applies an edit to one view of a directory.
pub(super) fn set(names: &mut BTreeMap<String, u64>, edit: &Edit) {
    match edit.inode {
        Some(inode) => names.insert(edit.name.clone(), inode),
        None => names.remove(&edit.name),
    };
}

/// Splits a path into names. Relative paths start at the root; `..` is not for tests of a cache.
fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) if name.len() > 255 => return Err(errno(libc::ENAMETOOLONG)),
            Component::Normal(name) => parts.push(name.to_str().ok_or_else(|| errno(libc::EINVAL))?),
            Component::ParentDir | Component::Prefix(_) => return Err(errno(libc::EINVAL)),
        }
    }
    Ok(parts)
}
