//! Names in folders: opening, creating, linking, removing, renaming, listing.

use super::{Server, blocks};
use crate::drive::errno::Errno;
use crate::drive::rpc::{Create, DirChange, Entry, Ino, Reply};

impl Server {
    pub(super) fn open(&mut self, dir: Ino, name: &str, create: Option<Create>) -> Result<Reply, Errno> {
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

    pub(super) fn insert(&mut self, dir: Ino, name: &str, ino: Ino) {
        if let Some(folder) = self.nodes.get_mut(&dir) {
            folder.names.insert(name.to_owned(), ino);
        }
    }

    pub(super) fn mkdir(&mut self, dir: Ino, name: &str, mode: u32) -> Result<Reply, Errno> {
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

    pub(super) fn link(&mut self, ino: Ino, dir: Ino, name: &str) -> Result<Reply, Errno> {
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
        let lives_on = self.keep_unlinked && self.open.iter().any(|&(_, open)| open == ino);
        if node.nlink == 0 && !lives_on {
            self.used -= blocks(node.data.len());
            self.nodes.remove(&ino);
        } else {
            self.touch(ino, false);
        }
    }

    pub(super) fn remove(&mut self, dir: Ino, name: &str, folder: bool) -> Result<Reply, Errno> {
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
        self.veils.remove(&(dir, name.to_owned()));
        self.forget_name(ino);
        Ok(Reply::Removed { dir: self.touch(dir, true) })
    }

    pub(super) fn rename(&mut self, dir: Ino, name: &str, to_dir: Ino, to_name: &str) -> Result<Reply, Errno> {
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

    pub(super) fn readdir(&mut self, dir: Ino) -> Result<Reply, Errno> {
        let names: Vec<(String, Ino)> = self.folder(dir)?.names.iter().map(|(name, &ino)| (name.clone(), ino)).collect();
        let mut entries = Vec::with_capacity(names.len());
        for (name, ino) in names {
            if !self.is_veiled(dir, &name) {
                entries.push(Entry { name, ino, dir: self.nodes.get(&ino).is_some_and(|node| node.dir) });
            }
        }
        Ok(Reply::Listing { entries, attr: self.attr(dir)? })
    }
}
