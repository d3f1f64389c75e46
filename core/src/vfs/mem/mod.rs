//! A file system in memory, for tests: what a host sees, what its disk would still have after a crash, and faults at every step.
//!
//! * [`MemVfs`] is one process' view; [`MemVfs::process`] makes another process on the same host: same files, same page cache,
//!   same lock table. [`MemVfs::kill`] ends a process as `kill -9` does: its files are closed, its locks free, what it wrote
//!   stays.
//! * [`MemVfs::crash`] is a power failure: it returns the host after its next start, with what a disk may have kept of unsynced
//!   bytes and names, chosen by a seed. The old host goes on, so that many seeds may be tried on one state.
//! * [`MemVfs::fail`] plans faults, [`MemVfs::set_free`] makes the disk end, and [`MemVfs::freeze_at`] sets a crash point: that
//!   step is not made, and every later call of any process fails with EIO and changes nothing. A sweep over 1..=[`MemVfs::steps`]
//!   crashes at every I/O.
//!
//! Every call is one step. Mappings are real ones (of anonymous memory), so that any number of any length see each other's
//! stores; a store is no step, and cannot fail. After a crash point stores still reach the memory, but not what `crash` returns.
//! Locks that wait do so for real, so a test that lets two threads of its own deadlock hangs.

mod content;
mod crash;
mod file;
mod plan;
mod state;
mod tree;

pub use plan::{Effect, Fault, Step};

use super::{OpenMode, Space, Stat, Vfs, VfsFile};
use content::Content;
use file::MemFile;
use plan::{Strike, errno};
use state::State;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tree::{File, Node, Tree};

/// Properties of the simulated disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemOptions {
    /// Syncing a file makes its own name durable, too, as ext4 happens to do. POSIX does not promise it.
    pub sync_keeps_name: bool,
}

#[derive(Debug)]
struct Host {
    state: Mutex<State>,
    /// Told of every lock that was given back and of every death.
    changed: Condvar,
}

/// A process on a simulated host. Clones are the same process.
#[derive(Debug, Clone)]
pub struct MemVfs {
    host: Arc<Host>,
    process: u64,
}

impl Default for MemVfs {
    fn default() -> Self {
        Self::new()
    }
}

/// How a step that may lose data ended.
enum Attempt {
    Done(io::Result<()>),
    /// A fault struck it before it did anything.
    Struck(io::Error),
}

impl Attempt {
    /// Lets a fault lose data.
    fn or_lost(self, vfs: &MemVfs, lose: impl FnOnce(&mut State)) -> io::Result<()> {
        match self {
            Self::Done(result) => result,
            Self::Struck(error) => {
                lose(&mut vfs.state());
                Err(error)
            }
        }
    }
}

impl MemVfs {
    /// Makes a host with an empty root directory, and a first process on it.
    #[must_use]
    pub fn new() -> Self {
        Self::with(MemOptions::default())
    }

    /// As [`MemVfs::new`], with a disk of other properties.
    #[must_use]
    pub fn with(options: MemOptions) -> Self {
        Self::of(Tree::new(), options)
    }

    fn of(tree: Tree, options: MemOptions) -> Self {
        Self { host: Arc::new(Host { state: Mutex::new(State::new(tree, options)), changed: Condvar::new() }), process: 0 }
    }

    /// Starts another process on this host.
    #[must_use]
    pub fn process(&self) -> Self {
        Self { host: Arc::clone(&self.host), process: self.state().new_process() }
    }

    /// Ends this process: its files are closed and its locks free; each later call of it fails with EIO.
    pub fn kill(&self) {
        self.state().kill(self.process);
        self.wake();
    }

    /// Plans a fault.
    pub fn fail(&self, fault: Fault) {
        self.state().plan.add(fault);
    }

    /// Forgets all planned faults.
    pub fn heal(&self) {
        self.state().plan.clear();
    }

    /// Lets the disk have `free` more bytes, or no end. What is removed is free again.
    pub fn set_free(&self, free: Option<u64>) {
        let mut state = self.state();
        state.capacity = free.map(|free| state.tree.used() + free);
    }

    /// Sets the crash point: the step with this number (counted from 1 since the host started) is not made.
    pub fn freeze_at(&self, step: u64) {
        self.state().plan.freeze_at = Some(step);
    }

    /// Sets a step (as for [`MemVfs::freeze_at`]) that is not made; the process that comes to it dies there, as by [`MemVfs::kill`].
    pub fn kill_at(&self, step: u64) {
        self.state().plan.kill_at = Some(step);
    }

    /// Returns whether the crash point was reached.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.state().frozen.is_some()
    }

    /// Returns how many steps were made since the host started.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state().plan.steps()
    }

    /// Returns how many steps of each kind were made since the host started.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Step, u64> {
        self.state().plan.counts().clone()
    }

    /// Returns the host after a power failure now (or at its crash point), with one process on it.
    ///
    /// # Panics
    /// When the machine that runs the test is out of memory for it.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.state();
        let tree = crash::crash(state.frozen.as_ref().unwrap_or(&state.tree), seed).expect("memory of our own can be read");
        Self::of(tree, state.options)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.host.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.host.changed.notify_all();
    }

    /// Makes one step, or what the plan has for it.
    fn step<T>(&self, step: Step, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        match state.begin(self.process, step).inspect_err(|_| self.wake())? {
            Strike::Fault(code, Effect::None) => Err(errno(code)),
            Strike::Fault(code, Effect::Done) => act(&mut state).and(Err(errno(code))),
            Strike::Nothing | Strike::Freeze | Strike::Kill => act(&mut state),
        }
    }

    /// As [`MemVfs::step`], telling a fault that did nothing from other errors.
    fn attempt(&self, step: Step, act: impl FnOnce(&mut State) -> io::Result<()>) -> Attempt {
        let mut state = self.state();
        match state.begin(self.process, step) {
            Err(error) => {
                self.wake();
                Attempt::Done(Err(error))
            }
            Ok(Strike::Fault(code, Effect::None)) => Attempt::Struck(errno(code)),
            Ok(Strike::Fault(code, Effect::Done)) => Attempt::Done(act(&mut state).and(Err(errno(code)))),
            Ok(Strike::Nothing | Strike::Freeze | Strike::Kill) => Attempt::Done(act(&mut state)),
        }
    }

    /// Waits until `is_done`, or until this process or host is no more.
    fn wait(&self, mut is_done: impl FnMut(&mut State) -> io::Result<bool>) -> io::Result<()> {
        let mut state = self.state();
        loop {
            state.alive(self.process)?;
            if is_done(&mut state)? {
                return Ok(());
            }
            state = self.host.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Vfs for MemVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let id = self.step(Step::Open, |state| {
            let found = match (state.tree.find(path), mode) {
                (Ok(_), OpenMode::CreateNew) => Err(errno(libc::EEXIST)),
                (Err(error), OpenMode::CreateNew | OpenMode::Create | OpenMode::CreateWrite)
                    if error.raw_os_error() == Some(libc::ENOENT) =>
                {
                    state.tree.create(path, Node::File(File::new(Content::empty())))
                }
                (found, _) => found,
            }?;
            state.open(found, self.process, mode != OpenMode::Read)
        })?;
        Ok(Arc::new(MemFile { vfs: self.clone(), id }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Link, |state| state.tree.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Rename, |state| state.tree.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Unlink, |state| state.tree.unlink(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::CreateDir, |state| state.tree.create(path, Node::Dir(tree::Dir::default())).map(drop))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::RemoveDir, |state| state.tree.remove_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.step(Step::ReadDir, |state| {
            let inode = state.tree.find(path)?;
            Ok(state.tree.dir(inode)?.names.keys().cloned().collect())
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.step(Step::Stat, |state| state.tree.stat(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::SyncDir, |state| {
            let inode = state.tree.find(path)?;
            state.tree.dir(inode)?;
            state.tree.sync_names(|edit| edit.dir == inode);
            Ok(())
        })
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.step(Step::Space, |state| {
            state.tree.find(path)?;
            let used = state.tree.used();
            let total = state.capacity.unwrap_or(1 << 40);
            Ok(Space { free: total.saturating_sub(used), total })
        })
    }
}

#[cfg(test)]
mod tests;
