//! The bytes of one file: what the host reads (volatile), what the disk has (durable), and what lies between.

use super::plan::errno;
use crate::vfs::Map;
use crate::vfs::os::{fstat_len, map_checked, write_all};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A change that no sync has covered.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// What the host reads: on the heap, or, once the file was mapped, in memory that the kernel shares between mappings of any length.
#[derive(Debug)]
enum Volatile {
    Heap(Vec<u8>),
    Shared(OwnedFd),
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) struct Content {
    now: Volatile,
    /// The bytes that survive a crash whatever happens (but for what unsynced changes overwrite).
    pub(super) durable: Vec<u8>,
    /// What was done since, oldest first. Stores through a mapping are not here: they show as a difference.
    pub(super) unsynced: Vec<Change>,
    /// How many bytes count as taken from the disk's space.
    pub(super) allocated: u64,
    /// Whether it was ever mapped, so that `now` may hold what no change tells of.
    pub(super) is_mapped: bool,
}

impl Content {
    pub(super) const fn empty() -> Self {
        Self::of(Vec::new(), Vec::new())
    }

    const fn of(now: Vec<u8>, durable: Vec<u8>) -> Self {
        Self { now: Volatile::Heap(now), durable, unsynced: Vec::new(), allocated: 0, is_mapped: false }
    }

    /// Makes a file that was just read from a disk after a crash.
    pub(super) fn settled(bytes: Vec<u8>) -> Self {
        let allocated = bytes.len() as u64;
        Self { allocated, ..Self::of(bytes.clone(), bytes) }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        match &self.now {
            Volatile::Heap(bytes) => Ok(bytes.len() as u64),
            Volatile::Shared(fd) => fstat_len(fd),
        }
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.now {
            Volatile::Heap(bytes) => {
                let from = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or(&[]);
                let n = from.len().min(buf.len());
                buf[..n].copy_from_slice(&from[..n]);
                Ok(n)
            }
            Volatile::Shared(fd) => Ok(rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *buf, offset))?),
        }
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &mut self.now {
            Volatile::Heap(now) => overlay(now, bytes, to_index(offset)?),
            Volatile::Shared(fd) => write_all(fd, bytes, offset)?,
        }
        self.unsynced.push(Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        match &mut self.now {
            Volatile::Heap(now) => now.resize(to_index(len)?, 0),
            Volatile::Shared(fd) => rustix::fs::ftruncate(fd, len)?,
        }
        self.allocated = self.allocated.min(len);
        self.unsynced.push(Change::SetLen(len));
        Ok(())
    }

    pub(super) fn map(&mut self, len: usize, writable: bool) -> io::Result<Arc<Map>> {
        if let Volatile::Heap(now) = &self.now {
            let fd = rustix::fs::memfd_create(c"memvfs", rustix::fs::MemfdFlags::CLOEXEC)?;
            write_all(&fd, now, 0)?;
            self.now = Volatile::Shared(fd);
            self.is_mapped = true;
        }
        let Volatile::Shared(fd) = &self.now else { return Err(errno(libc::EIO)) };
        map_checked(fd, len, writable).map(Arc::new)
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Volatile::Shared(_) = self.now {
            self.durable = self.bytes()?;
            self.unsynced.clear();
            return Ok(());
        }
        for change in std::mem::take(&mut self.unsynced) {
            apply(&mut self.durable, &change);
        }
        Ok(())
    }

    /// Forgets that anything has to be written: what a failed write-back does. (Of a mapped file the next sync writes all again.)
    pub(super) fn lose_unsynced(&mut self) {
        self.unsynced.clear();
    }

    /// Returns what the host reads, whole.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        match &self.now {
            Volatile::Heap(bytes) => Ok(bytes.clone()),
            Volatile::Shared(fd) => read_whole(fd),
        }
    }

    /// Returns a copy that nothing changes any more.
    pub(super) fn snapshot(&self) -> io::Result<Self> {
        Ok(Self {
            now: Volatile::Heap(self.bytes()?),
            durable: self.durable.clone(),
            unsynced: self.unsynced.clone(),
            allocated: self.allocated,
            is_mapped: self.is_mapped,
        })
    }
}

/// Reads a file, leaving its holes out: they are most of a file whose space was reserved.
fn read_whole(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    use rustix::fs::{SeekFrom, seek};
    let mut bytes = vec![0; to_index(fstat_len(fd)?)?];
    let mut at = 0;
    loop {
        let from = match seek(fd, SeekFrom::Data(at)) {
            Ok(from) => from,
            // No data from there on.
            Err(rustix::io::Errno::NXIO) => return Ok(bytes),
            Err(error) => return Err(error.into()),
        };
        at = seek(fd, SeekFrom::Hole(from))?;
        let mut piece = &mut bytes[to_index(from)?..to_index(at)?];
        let mut offset = from;
        while !piece.is_empty() {
            let n = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *piece, offset))?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            piece = &mut piece[n..];
            offset += n as u64;
        }
    }
}

fn to_index(offset: u64) -> io::Result<usize> {
    // A terabyte in memory is a mistake of the test, and the error the one of a file system with that limit.
    usize::try_from(offset).ok().filter(|&n| n < 1 << 40).ok_or_else(|| errno(libc::EFBIG))
}

/// Applies a change to an image, whole.
pub(super) fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => overlay(image, bytes, *offset as usize),
        Change::SetLen(len) => image.resize(*len as usize, 0),
    }
}

fn overlay(image: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}
