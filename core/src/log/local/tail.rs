//! `tail`: the page of shared memory that says where the log ends. Its file also carries the host-local lock.
//!
//! ```text
//! tail := magic(u64) boot(u64) end(u64) zero(40) checkpoint(u64) durable(u64) durable-checkpoint(u64)
//! ```
//! `end` is stored with release order after the frame's bytes and loaded with acquire order before they are read. The page is only
//! believed while the machine that wrote it is up (`boot`); afterwards the log itself says where it ends.

use crate::error::{Error, Result};
use crate::publish::{publish, published};
use crate::sync::Ordering;
use crate::vfs::{Map, OpenMode, Vfs, VfsFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// "DCRStal1", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"DCRStal1");
const PAGE_LEN: usize = 4096;
const AT_MAGIC: usize = 0;
const AT_BOOT: usize = 8;
const AT_END: usize = 16;
const AT_CHECKPOINT: usize = 64;
const AT_DURABLE: usize = 72;
const AT_DURABLE_CHECKPOINT: usize = 80;

/// The mapped page and the lock file under it.
#[derive(Debug)]
pub(super) struct Tail {
    map: Arc<Map>,
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) path: PathBuf,
}

impl Tail {
    /// Opens or creates the page.
    pub(super) fn open(vfs: &dyn Vfs, dir: &Path, read_only: bool) -> Result<Self> {
        let path = dir.join("tail");
        let mode = if read_only { OpenMode::Read } else { OpenMode::Create };
        // A forked child must not keep its parent's lock alive: the descriptor is taken from it.
        let hold = crate::fork::hold();
        let file = vfs.open(&path, mode).map_err(|e| Error::io("open", &path, e))?;
        if let Some(fd) = file.raw_fd() {
            crate::fork::close_in_child(fd).map_err(|e| Error::io("register the lock", &path, e))?;
        }
        drop(hold);
        if !read_only && file.len().map_err(|e| Error::io("look at", &path, e))? < PAGE_LEN as u64 {
            file.allocate(PAGE_LEN as u64).map_err(|e| Error::io("reserve space for", &path, e))?;
        }
        let map = file.map(PAGE_LEN, !read_only).map_err(|e| Error::io("map", &path, e))?;
        Ok(Self { map, file, path })
    }

    /// Returns the position after the last published frame.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        published(self.map.word(AT_END))
    }

    /// Publishes everything before `end`. The caller holds the lock.
    #[inline]
    pub(super) fn publish(&self, end: u64) {
        publish(self.map.word(AT_END), end);
    }

    /// Returns whether the page was written since the machine of `boot` started.
    pub(super) fn is_valid(&self, boot: u64) -> bool {
        self.word(AT_MAGIC) == MAGIC && self.word(AT_BOOT) == boot
    }

    /// Returns the words that survive a restart, if the page is ours at all: durable end, durable checkpoint.
    pub(super) fn remembered(&self) -> (u64, u64) {
        if self.word(AT_MAGIC) == MAGIC { (self.durable(), self.durable_checkpoint()) } else { (0, 0) }
    }

    /// Makes the page valid, with the log ending at `end` and nothing newer than the durable checkpoint `checkpoint`.
    pub(super) fn reset(&self, boot: u64, end: u64, checkpoint: u64, durable: u64) {
        self.set(AT_MAGIC, 0);
        self.set(AT_CHECKPOINT, checkpoint);
        self.set(AT_DURABLE, durable);
        self.set(AT_DURABLE_CHECKPOINT, checkpoint);
        self.publish(end);
        self.set(AT_BOOT, boot);
        self.set(AT_MAGIC, MAGIC);
    }

    pub(super) fn checkpoint(&self) -> u64 {
        self.word(AT_CHECKPOINT)
    }

    pub(super) fn set_checkpoint(&self, position: u64) {
        self.map.word(AT_CHECKPOINT).fetch_max(position, Ordering::AcqRel);
    }

    pub(super) fn durable(&self) -> u64 {
        self.word(AT_DURABLE)
    }

    /// Notes that everything before `position` is durable, and with it the checkpoints before it.
    pub(super) fn set_durable(&self, position: u64, checkpoint: u64) {
        self.map.word(AT_DURABLE).fetch_max(position, Ordering::AcqRel);
        if checkpoint != 0 && checkpoint < position {
            self.map.word(AT_DURABLE_CHECKPOINT).fetch_max(checkpoint, Ordering::AcqRel);
        }
    }

    pub(super) fn durable_checkpoint(&self) -> u64 {
        self.word(AT_DURABLE_CHECKPOINT)
    }

    fn word(&self, at: usize) -> u64 {
        self.map.word(at).load(Ordering::Acquire)
    }

    fn set(&self, at: usize, value: u64) {
        self.map.word(at).store(value, Ordering::Release);
    }
}
