//! What the server shows to whom, and what it can be made to do behind the hosts' backs: names and content that others do
//! not see yet, files that live without a name, earlier images, and everything else that faults ask for.

use std::collections::BTreeMap;

use super::{Node, Server, blocks};
use crate::drive::errno::Errno;
use crate::drive::faults::glob;
use crate::drive::rpc::{Ino, ROOT};

/// A name that only one host sees for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drive) struct Veil {
    /// The host that sees it.
    pub(in crate::drive) owner: usize,
    /// Until when the others do not.
    pub(in crate::drive) until: u64,
    /// It falls when the file is closed or synced.
    pub(in crate::drive) until_close: bool,
    /// The fault that made it.
    pub(in crate::drive) fault: usize,
}

/// Content that every host but one sees instead of a file's own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shadow {
    owner: usize,
    until: u64,
    pub(super) data: Vec<u8>,
    pub(super) fault: usize,
}

impl Shadow {
    pub(super) fn hides_from(&self, viewer: usize, now: u64) -> bool {
        self.owner != viewer && now < self.until
    }
}

/// What the drive was at a moment.
#[derive(Clone, Debug)]
pub(in crate::drive) struct Image {
    nodes: BTreeMap<Ino, Node>,
}

impl Server {
    /// Who asks next.
    pub(in crate::drive) fn set_viewer(&mut self, host: usize) {
        self.viewer = host;
    }

    /// The faults whose trace somebody was shown since this was last asked.
    pub(in crate::drive) fn take_shown(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.shown)
    }

    pub(super) fn is_veiled(&mut self, dir: Ino, name: &str) -> bool {
        if self.veils.is_empty() {
            return false;
        }
        let key = (dir, name.to_owned());
        let Some(&veil) = self.veils.get(&key) else { return false };
        if veil.until <= self.now {
            self.veils.remove(&key);
            return false;
        }
        if veil.owner == self.viewer {
            return false;
        }
        self.shown.push(veil.fault);
        true
    }

    /// Hides a name from every host but one.
    pub(in crate::drive) fn veil(&mut self, dir: Ino, name: &str, veil: Veil) {
        self.veils.insert((dir, name.to_owned()), veil);
    }

    /// Shows a file's names that were hidden until it is closed.
    pub(super) fn unveil(&mut self, ino: Ino) {
        if self.veils.is_empty() {
            return;
        }
        let nodes = &self.nodes;
        let is_of = |dir: &Ino, name: &String| nodes.get(dir).and_then(|folder| folder.names.get(name)) == Some(&ino);
        self.veils.retain(|(dir, name), veil| !(veil.until_close && is_of(dir, name)));
    }

    /// The others see this content instead of the file's until a time.
    pub(in crate::drive) fn shadow(&mut self, ino: Ino, owner: usize, until: u64, data: Vec<u8>, fault: usize) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.shadow = Some(Shadow { owner, until, data, fault });
        }
    }

    /// Whether somebody is shown something else than a file's content.
    pub(in crate::drive) fn is_shadowed(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|node| node.shadow.as_ref().is_some_and(|shadow| self.now < shadow.until))
    }

    /// A file's content, whoever asks.
    pub(in crate::drive) fn content(&self, ino: Ino) -> Option<&[u8]> {
        self.nodes.get(&ino).filter(|node| !node.dir).map(|node| node.data.as_slice())
    }

    /// A file's content before its last change, where that is kept.
    pub(in crate::drive) fn previous(&self, ino: Ino) -> Option<&[u8]> {
        self.nodes.get(&ino)?.previous.as_deref()
    }

    /// What a name stands for, whoever asks.
    pub(in crate::drive) fn target(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.nodes.get(&dir)?.names.get(name).copied()
    }

    /// Whether it is a folder; `None` where there is nothing.
    pub(in crate::drive) fn is_dir(&self, ino: Ino) -> Option<bool> {
        self.nodes.get(&ino).map(|node| node.dir)
    }

    /// The number of a file's present version; 0 when there is none.
    pub(in crate::drive) fn version(&self, ino: Ino) -> u64 {
        self.nodes.get(&ino).map_or(0, |node| node.version)
    }

    /// Whether a file was closed with something in it.
    pub(in crate::drive) fn is_sealed(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|node| node.sealed)
    }

    /// The names in a folder, whoever asks.
    pub(in crate::drive) fn names(&self, dir: Ino) -> Vec<String> {
        self.nodes.get(&dir).map(|node| node.names.keys().cloned().collect()).unwrap_or_default()
    }

    /// The folder and name under which a file was last known.
    pub(in crate::drive) fn place(&self, ino: Ino) -> Option<(Ino, String)> {
        let path = &self.nodes.get(&ino)?.path;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = folders.split('/').filter(|part| !part.is_empty()).try_fold(ROOT, |dir, part| self.target(dir, part))?;
        (self.target(dir, name) == Some(ino)).then(|| (dir, name.to_owned()))
    }

    /// The file beside this one in its folder, if there is another.
    pub(in crate::drive) fn neighbour(&self, ino: Ino) -> Option<Ino> {
        let (dir, _) = self.place(ino)?;
        let names = &self.nodes.get(&dir)?.names;
        names.values().copied().find(|&other| other != ino && self.is_dir(other) == Some(false))
    }

    /// Notes that a host has a file open, or not any more; a file without a name goes with the last of them.
    pub(in crate::drive) fn set_open(&mut self, host: usize, ino: Ino, open: bool) {
        if open {
            self.open.insert((host, ino));
            return;
        }
        self.open.remove(&(host, ino));
        if self.open.iter().any(|&(_, other)| other == ino) {
            return;
        }
        if self.nodes.get(&ino).is_some_and(|node| !node.dir && node.nlink == 0) {
            self.drop_node(ino);
        }
        let pending: Vec<(Ino, String)> = self.pending.keys().filter(|(dir, name)| self.target(*dir, name) == Some(ino)).cloned().collect();
        for (dir, name) in pending {
            self.pending.remove(&(dir, name.clone()));
            // It was a file when its removal was asked for, and it still has the name.
            let _ = self.remove(dir, &name, false);
        }
    }

    /// No descriptor of a host is open any more.
    pub(in crate::drive) fn close_all(&mut self, host: usize) {
        let open: Vec<Ino> = self.open.iter().filter(|(of, _)| *of == host).map(|&(_, ino)| ino).collect();
        open.into_iter().for_each(|ino| self.set_open(host, ino, false));
    }

    /// Whether any host but one has a file open.
    pub(in crate::drive) fn is_open_elsewhere(&self, host: usize, ino: Ino) -> bool {
        self.open.iter().any(|&(of, open)| open == ino && of != host)
    }

    /// Whether any host has a file open.
    pub(in crate::drive) fn is_open(&self, ino: Ino) -> bool {
        self.open.iter().any(|&(_, open)| open == ino)
    }

    /// The name goes when the file is closed everywhere, and nobody can use it until then.
    pub(in crate::drive) fn remove_at_close(&mut self, dir: Ino, name: &str, fault: usize) {
        self.pending.insert((dir, name.to_owned()), fault);
    }

    fn drop_node(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.remove(&ino) {
            self.used -= blocks(node.data.len());
        }
    }

    /// A file and all its names are gone, also where it is open.
    pub(in crate::drive) fn destroy(&mut self, ino: Ino) {
        let mut folders = Vec::new();
        for (&dir, node) in &mut self.nodes {
            let before = node.names.len();
            node.names.retain(|_, target| *target != ino);
            if node.names.len() != before {
                folders.push(dir);
            }
        }
        self.drop_node(ino);
        for dir in folders {
            self.touch(dir, true);
        }
    }

    /// Takes a name away and keeps the file, which has no name then.
    pub(in crate::drive) fn detach(&mut self, dir: Ino, name: &str) -> Option<Ino> {
        let ino = self.nodes.get_mut(&dir)?.names.remove(name)?;
        self.touch(dir, true);
        Some(ino)
    }

    /// Gives a file that lost its name a name, unless somebody has that name by now.
    pub(in crate::drive) fn attach(&mut self, dir: Ino, name: &str, ino: Ino) -> bool {
        let free = self.nodes.contains_key(&ino) && self.nodes.get(&dir).is_some_and(|folder| !folder.names.contains_key(name));
        if free {
            self.insert(dir, name, ino);
            let path = self.child_path(dir, name);
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.path = path;
            }
            self.touch(dir, true);
        }
        free
    }

    /// A file to be brought back later.
    pub(in crate::drive) fn copy(&self, ino: Ino) -> Option<Node> {
        self.nodes.get(&ino).filter(|node| !node.dir).cloned()
    }

    /// Brings a removed file back under its name, unless somebody has that name by now.
    pub(in crate::drive) fn bring_back(&mut self, dir: Ino, name: &str, node: Node) -> bool {
        let path = self.child_path(dir, name);
        let ino = self.new_node(false, node.mode, dir, path);
        if let Some(fresh) = self.nodes.get_mut(&ino) {
            fresh.data = node.data;
            self.used += blocks(fresh.data.len());
        }
        let attached = self.attach(dir, name, ino);
        if !attached {
            self.drop_node(ino);
        }
        attached
    }

    /// Space that is taken and belongs to no file.
    pub(in crate::drive) fn leak(&mut self, len: usize) {
        self.used += blocks(len.max(1));
    }

    /// What is in a file is stable now.
    pub(in crate::drive) fn stabilize(&mut self, ino: Ino) {
        // Nothing to do where it is no file.
        let _ = self.commit(ino);
    }

    /// One bit of a file at rest is flipped, in a range where there is one.
    pub(in crate::drive) fn flip(&mut self, ino: Ino, bit: u64) -> bool {
        let (byte, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
        let Ok(node) = self.file(ino) else { return false };
        let Some(there) = node.data.get_mut(byte) else { return false };
        *there ^= mask;
        if let Some(there) = node.base.as_mut().and_then(|base| base.get_mut(byte)) {
            *there ^= mask;
        }
        true
    }

    /// A change that was just made leaves the validator as it was.
    pub(in crate::drive) fn keep_validator(&mut self, ino: Ino, change: u64, mtime: u64, fault: usize) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            (node.change, node.mtime) = (change, mtime);
            node.kept_validator = Some(fault);
        }
    }

    /// The fault by which a file's validator stayed when its content changed last.
    pub(in crate::drive) fn kept_validator(&self, ino: Ino) -> Option<usize> {
        self.nodes.get(&ino)?.kept_validator
    }

    /// Stability of a file's writes is acknowledged by a fault and is not there.
    pub(in crate::drive) fn lie(&mut self, ino: Ino, fault: usize) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lies.push(fault);
        }
    }

    /// Sets the time of a file's last change.
    pub(in crate::drive) fn set_mtime(&mut self, ino: Ino, mtime: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.mtime = mtime;
        }
    }

    /// The server's present write verifier.
    pub(in crate::drive) fn verifier(&self) -> u64 {
        self.verifier
    }

    /// A file's attributes, for whoever asks.
    pub(in crate::drive) fn attributes(&self, ino: Ino) -> Result<crate::drive::Attr, Errno> {
        self.attr(ino)
    }

    /// What the drive is now.
    pub(in crate::drive) fn image(&self) -> Image {
        Image { nodes: self.nodes.clone() }
    }

    /// Files that match the pattern, or the whole tree, are what they were; says how many differ from before.
    pub(in crate::drive) fn roll_back(&mut self, image: &Image, pattern: Option<&str>) -> usize {
        let Some(pattern) = pattern else {
            let differing = image.nodes.iter().filter(|(ino, node)| self.nodes.get(ino) != Some(*node)).count();
            let newer = self.nodes.keys().filter(|ino| !image.nodes.contains_key(ino)).count();
            self.nodes = image.nodes.clone();
            self.after_roll_back();
            return differing + newer;
        };
        let matching = |nodes: &BTreeMap<Ino, Node>| -> Vec<Ino> {
            nodes.iter().filter(|(_, node)| !node.dir && glob(pattern, &node.path)).map(|(&ino, _)| ino).collect()
        };
        let mut differing = 0;
        for ino in matching(&self.nodes) {
            match image.nodes.get(&ino) {
                None => {
                    self.destroy(ino);
                    differing += 1;
                }
                Some(old) => {
                    let Some(node) = self.nodes.get_mut(&ino) else { continue };
                    differing += usize::from(node.data != old.data);
                    (node.data, node.change, node.mtime) = (old.data.clone(), old.change, old.mtime);
                    node.version = self.next_change;
                    self.next_change += 1;
                }
            }
        }
        for ino in matching(&image.nodes).into_iter().filter(|ino| !self.nodes.contains_key(ino)).collect::<Vec<_>>() {
            let Some(old) = image.nodes.get(&ino) else { continue };
            let name = old.path.rsplit('/').next().unwrap_or(&old.path).to_owned();
            if self.nodes.contains_key(&old.parent) {
                self.nodes.insert(ino, old.clone());
                differing += usize::from(self.attach(old.parent, &name, ino));
            }
        }
        self.after_roll_back();
        differing
    }

    fn after_roll_back(&mut self) {
        self.used = self.nodes.values().filter(|node| !node.dir).map(|node| blocks(node.data.len())).sum();
        for node in self.nodes.values_mut() {
            (node.base, node.shadow) = (None, None);
            node.pending.clear();
        }
    }
}
