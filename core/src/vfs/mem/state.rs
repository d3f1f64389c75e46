//! What one simulated host and its disk hold: the tree, the open files of all processes, the plan, and, after a crash point, the
//! image that the crash left to choose from.

use super::plan::{Plan, Strike, errno};
use super::tree::Tree;
use super::{MemOptions, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// An open file description.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) inode: u64,
    pub(super) process: u64,
    pub(super) writable: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) opens: BTreeMap<u64, Open>,
    pub(super) plan: Plan,
    pub(super) options: MemOptions,
    /// The disk's bytes, if it has an end.
    pub(super) capacity: Option<u64>,
    /// What was there at the crash point, after which nothing counts any more.
    pub(super) frozen: Option<Tree>,
    next_open: u64,
    next_process: u64,
    killed: BTreeSet<u64>,
}

impl State {
    pub(super) fn new(tree: Tree, options: MemOptions) -> Self {
        Self {
            tree,
            opens: BTreeMap::new(),
            plan: Plan::default(),
            options,
            capacity: None,
            frozen: None,
            next_open: 1,
            next_process: 1,
            killed: BTreeSet::new(),
        }
    }

    /// Fails if the host or the process is no more.
    pub(super) fn alive(&self, process: u64) -> io::Result<()> {
        if self.frozen.is_some() || self.killed.contains(&process) { Err(errno(libc::EIO)) } else { Ok(()) }
    }

    /// Counts a step and returns what befalls it.
    pub(super) fn begin(&mut self, process: u64, step: Step) -> io::Result<Strike> {
        self.alive(process)?;
        let strike = self.plan.advance(step);
        if let Strike::Freeze = strike {
            self.frozen = Some(self.tree.snapshot()?);
            return Err(errno(libc::EIO));
        }
        if let Strike::Kill = strike {
            self.kill(process);
            return Err(errno(libc::EIO));
        }
        Ok(strike)
    }

    pub(super) fn open(&mut self, inode: u64, process: u64, writable: bool) -> io::Result<u64> {
        self.tree.file(inode)?.opens += 1;
        let id = self.next_open;
        self.next_open += 1;
        self.opens.insert(id, Open { inode, process, writable });
        Ok(id)
    }

    /// Closes an open file and gives its lock back. Returns whether it was open.
    pub(super) fn close(&mut self, id: u64) -> bool {
        let Some(open) = self.opens.remove(&id) else { return false };
        if let Ok(file) = self.tree.file(open.inode) {
            file.opens -= 1;
            if file.locked_by == Some(id) {
                file.locked_by = None;
            }
        }
        true
    }

    pub(super) fn try_lock(&mut self, inode: u64, id: u64) -> io::Result<bool> {
        let file = self.tree.file(inode)?;
        let holder = *file.locked_by.get_or_insert(id);
        Ok(holder == id)
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.tree.file(inode)?.content.sync()?;
        if self.options.sync_keeps_name {
            self.tree.sync_names(|edit| edit.inode == Some(inode));
        }
        Ok(())
    }

    pub(super) fn lose_unsynced(&mut self, id: u64) {
        if let Some(open) = self.opens.get(&id)
            && let Ok(file) = self.tree.file(open.inode)
        {
            file.content.lose_unsynced();
        }
    }

    /// Takes space for a file's first `end` bytes, as far as there is some. Returns up to where there was.
    pub(super) fn take_space(&mut self, inode: u64, end: u64) -> io::Result<u64> {
        let free = self.capacity.map(|capacity| capacity.saturating_sub(self.tree.used()));
        let content = &mut self.tree.file(inode)?.content;
        let limit = free.map_or(u64::MAX, |free| content.allocated.saturating_add(free));
        content.allocated = content.allocated.max(end.min(limit));
        Ok(limit)
    }

    pub(super) fn new_process(&mut self) -> u64 {
        self.next_process += 1;
        self.next_process - 1
    }

    pub(super) fn kill(&mut self, process: u64) {
        self.killed.insert(process);
        let theirs: Vec<u64> = self.opens.iter().filter(|(_, open)| open.process == process).map(|(&id, _)| id).collect();
        for id in theirs {
            self.close(id);
        }
    }
}
