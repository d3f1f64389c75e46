//! What is in files: reading, writing, committing, lengths.

use super::{Server, blocks};
use crate::drive::errno::Errno;
use crate::drive::rpc::{Ino, Reply};

pub(super) fn put(data: &mut Vec<u8>, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
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
    pub(super) fn read(&mut self, ino: Ino, offset: u64, len: usize) -> Result<Reply, Errno> {
        let (viewer, now) = (self.viewer, self.now);
        let node = self.file(ino)?;
        let shadow = node.shadow.as_ref().filter(|shadow| shadow.hides_from(viewer, now));
        let data = shadow.map_or(&node.data, |shadow| &shadow.data);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let end = start.saturating_add(len).min(data.len());
        let bytes = data[start..end].to_vec();
        let fault = shadow.filter(|shadow| shadow.data != node.data).map(|shadow| shadow.fault);
        self.shown.extend(fault);
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

    /// Keeps what a file was before it is changed, where that is wanted.
    fn remember(&mut self, ino: Ino) {
        if !self.keep_previous {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&ino)
            && !node.changing
        {
            node.previous = Some(node.data.clone());
            node.changing = true;
        }
    }

    /// The file is closed, or synced: what was changed is one version now.
    pub(super) fn seal(&mut self, ino: Ino) {
        self.unveil(ino);
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.changing = false;
            node.sealed |= !node.data.is_empty();
        }
    }

    pub(super) fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8], stable: bool) -> Result<Reply, Errno> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        self.grow_to(ino, end)?;
        self.remember(ino);
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
        if stable {
            self.unveil(ino);
        }
        Ok(Reply::Written { attr: self.attr(ino)?, verifier: self.verifier })
    }

    pub(super) fn commit(&mut self, ino: Ino) -> Result<Reply, Errno> {
        let verifier = self.verifier;
        let node = self.file(ino)?;
        node.base = None;
        node.pending.clear();
        node.lies.clear();
        node.changing = false;
        self.unveil(ino);
        Ok(Reply::Committed { verifier })
    }

    pub(super) fn allocate(&mut self, ino: Ino, end: u64) -> Result<Reply, Errno> {
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

    pub(super) fn setattr(&mut self, ino: Ino, size: Option<u64>, mode: Option<u32>, mtime: Option<u64>) -> Result<Reply, Errno> {
        if let Some(size) = size {
            self.grow_to(ino, size)?;
            self.remember(ino);
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
}
