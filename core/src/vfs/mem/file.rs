//! An open file of [`MemVfs`].

use super::MemVfs;
use super::plan::{Step, errno};
use super::state::State;
use crate::vfs::{Map, VfsFile};
use std::io;
use std::sync::Arc;

/// An open file: an entry in its host's table, which its process' death empties.
#[derive(Debug)]
pub(super) struct MemFile {
    pub(super) vfs: MemVfs,
    /// The key in the table of open files.
    pub(super) id: u64,
}

impl MemFile {
    /// Makes one step on the file's inode; EBADF once it is closed.
    fn step<T>(&self, step: Step, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        self.vfs.step(step, |state| {
            let inode = state.opens.get(&self.id).ok_or_else(|| errno(libc::EBADF))?.inode;
            act(state, inode)
        })
    }

    /// As [`MemFile::step`], on a file that was opened for writing.
    fn write_step<T>(&self, step: Step, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        self.step(step, |state, inode| {
            if state.opens.get(&self.id).is_some_and(|open| open.writable) { act(state, inode) } else { Err(errno(libc::EBADF)) }
        })
    }
}

impl VfsFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step(Step::Read, |state, inode| state.tree.file(inode)?.content.read_at(buf, offset))
    }

    /// As much as fits is written before a full disk says so.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_step(Step::Write, |state, inode| {
            let end = offset.checked_add(bytes.len() as u64).ok_or_else(|| errno(libc::EFBIG))?;
            let limit = state.take_space(inode, end)?;
            let fits = bytes.len().min(usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX));
            if fits > 0 {
                state.tree.file(inode)?.content.write_at(&bytes[..fits], offset)?;
            }
            if fits < bytes.len() { Err(errno(libc::ENOSPC)) } else { Ok(()) }
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.step(Step::Len, |state, inode| state.tree.file(inode)?.content.len())
    }

    fn len_fresh(&self) -> io::Result<u64> {
        self.step(Step::LenFresh, |state, inode| state.tree.file(inode)?.content.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_step(Step::SetLen, |state, inode| state.tree.file(inode)?.content.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.write_step(Step::Allocate, |state, inode| {
            if len == 0 {
                return Err(errno(libc::EINVAL));
            }
            if state.take_space(inode, len)? < len {
                return Err(errno(libc::ENOSPC));
            }
            let content = &mut state.tree.file(inode)?.content;
            if content.len()? < len { content.set_len(len) } else { Ok(()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        let result = self.vfs.attempt(Step::Sync, |state| {
            let inode = state.opens.get(&self.id).ok_or_else(|| errno(libc::EBADF))?.inode;
            state.sync(inode)
        });
        result.or_lost(&self.vfs, |state| state.lose_unsynced(self.id))
    }

    fn close(&self) -> io::Result<()> {
        let close = |state: &mut State| if state.close(self.id) { Ok(()) } else { Err(errno(libc::EBADF)) };
        let result = self.vfs.attempt(Step::Close, close).or_lost(&self.vfs, |state| {
            state.lose_unsynced(self.id);
            state.close(self.id);
        });
        self.vfs.wake();
        result
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.step(Step::TryLock, |state, inode| state.try_lock(inode, self.id))
    }

    fn lock(&self) -> io::Result<()> {
        if self.step(Step::Lock, |state, inode| state.try_lock(inode, self.id))? {
            return Ok(());
        }
        self.vfs.wait(|state| {
            let inode = state.opens.get(&self.id).ok_or_else(|| errno(libc::EBADF))?.inode;
            state.try_lock(inode, self.id)
        })
    }

    fn unlock(&self) -> io::Result<()> {
        self.step(Step::Unlock, |state, inode| {
            let file = state.tree.file(inode)?;
            if file.locked_by == Some(self.id) {
                file.locked_by = None;
            }
            Ok(())
        })?;
        self.vfs.wake();
        Ok(())
    }

    fn map(&self, len: usize, writable: bool) -> io::Result<Arc<Map>> {
        self.step(Step::Map, |state, inode| {
            if writable && !state.opens.get(&self.id).is_some_and(|open| open.writable) {
                return Err(errno(libc::EACCES));
            }
            state.tree.file(inode)?.content.map(len, writable)
        })
    }

    /// There is no descriptor.
    fn raw_fd(&self) -> Option<i32> {
        None
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.vfs.state().close(self.id);
        self.vfs.wake();
    }
}
