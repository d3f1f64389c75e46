//! The segment files of a local log: `seg/<start, 16 hex digits>`, each mapped when it is first needed.

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::format::wire::{Malformed, advice_on};
use crate::log::Bytes;
use crate::sync::{AtomicU64, AtomicUsize, Ordering, RwLock, read, write};
use crate::vfs::{Map, OpenMode, Vfs, VfsFile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes whose pages a writer asks for at once.
const POPULATE_LEN: usize = 256 << 10;

/// Bytes that are cleared at once.
const CLEAR_LEN: usize = 16 << 10;

/// A mapped segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) start: u64,
    /// Bytes that it was made for; the file may have been cut.
    pub(super) capacity: u64,
    pub(super) path: PathBuf,
    pub(super) map: Arc<Map>,
    pub(super) file: Arc<dyn VfsFile>,
    /// The offset up to which this process has asked for the pages that it writes to.
    populated: AtomicUsize,
    /// Where it was sealed, once that is known (0: not yet).
    sealed_at: AtomicU64,
}

impl Segment {
    /// Returns the position where its space for frames ends.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.start + (self.map.len() - SEGMENT_HEADER_LEN) as u64
    }

    /// Returns where it was sealed, if another one starts at `next`: there, unless others between them were removed.
    fn sealed_end(&self, next: u64) -> u64 {
        if next <= self.end() {
            self.sealed_at.store(next, Ordering::Relaxed);
            return next;
        }
        let known = self.sealed_at.load(Ordering::Relaxed);
        if known == 0 { self.end() } else { known }
    }

    /// Returns the offset in the file of a position.
    #[inline]
    pub(super) fn offset(&self, position: u64) -> usize {
        usize::try_from(position - self.start).unwrap_or(usize::MAX / 2) + SEGMENT_HEADER_LEN
    }

    /// Writes unpublished bytes at an offset of the file, through the mapping. The caller holds the lock.
    #[inline]
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.populated.load(Ordering::Relaxed) {
            self.populate(offset, end);
        }
        self.map.write(offset, bytes);
    }

    #[cold]
    fn populate(&self, offset: usize, end: usize) {
        let from = offset.max(self.populated.load(Ordering::Relaxed));
        let to = (end + POPULATE_LEN).next_multiple_of(POPULATE_LEN);
        self.map.populate(from, to - from);
        self.populated.store(to, Ordering::Relaxed);
    }

    /// Returns everything from `position` to `end` (at most to the segment's end).
    pub(super) fn bytes(&self, position: u64, end: u64) -> Option<&[u8]> {
        let end = end.min(self.end());
        self.map.bytes(self.offset(position), usize::try_from(end.checked_sub(position)?).ok()?)
    }
}

/// What is known of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The address of its first frame.
    pub start: u64,
    /// The address after its last one, or, if it is not full, where its room ends.
    pub to: u64,
    /// Bytes of its file, what is reserved included.
    pub len: u64,
    /// Another one follows it.
    pub is_full: bool,
}

/// All segments that are known, opened or not.
#[derive(Debug)]
pub(super) struct Segments {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    seed: u64,
    writable: bool,
    known: RwLock<BTreeMap<u64, Option<Arc<Segment>>>>,
}

impl Segments {
    pub(super) fn open(vfs: Arc<dyn Vfs>, cache_dir: &Path, seed: u64, writable: bool) -> Result<Self> {
        let segments = Self { vfs, dir: cache_dir.join("seg"), seed, writable, known: RwLock::default() };
        segments.list()?;
        Ok(segments)
    }

    /// Reads the directory again.
    pub(super) fn list(&self) -> Result<()> {
        let names = match self.vfs.read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|e| Error::io("list", &self.dir, e))?,
        };
        let mut known = write(&self.known);
        let starts: Vec<u64> = names.iter().filter_map(|n| start_of(n)).collect();
        known.retain(|start, segment| segment.is_some() || starts.contains(start));
        for start in starts {
            known.entry(start).or_insert(None);
        }
        Ok(())
    }

    /// Returns the known starts, in order.
    pub(super) fn starts(&self) -> Vec<u64> {
        read(&self.known).keys().copied().collect()
    }

    /// Returns the segment that holds `position` (the last one that starts at or before it), or `None` if none does.
    pub(super) fn holding(&self, position: u64) -> Result<Option<Arc<Segment>>> {
        let found = read(&self.known).range(..=position).next_back().map(|(start, segment)| (*start, segment.clone()));
        match found {
            Some((_, Some(segment))) => Ok(Some(segment)),
            Some((start, None)) => self.map(start).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the segment that starts exactly at `start`, looking for its file if it is not known yet.
    pub(super) fn starting(&self, start: u64) -> Result<Arc<Segment>> {
        let known = read(&self.known).get(&start).cloned().flatten();
        known.map_or_else(|| self.map(start), Ok)
    }

    /// Returns `len` bytes at `position`.
    #[inline]
    pub(super) fn read(&self, position: u64, len: u64) -> Result<Bytes> {
        let damaged = || Error::new(ErrorKind::Damaged, format!("{len} bytes at log position {position} are gone from")).at(&self.dir);
        let segment = self.holding(position)?.ok_or_else(damaged)?;
        let len = usize::try_from(len).map_err(|_| damaged())?;
        Bytes::mapped(&segment.map, segment.offset(position), len).ok_or_else(damaged)
    }

    fn map(&self, start: u64) -> Result<Arc<Segment>> {
        let path = self.path(start);
        let file = self
            .vfs
            .open(&path, if self.writable { OpenMode::ReadWrite } else { OpenMode::Read })
            .map_err(|e| Error::io("open", &path, e).with_kind(ErrorKind::Damaged))?;
        let segment = self.mapped(start, path, file)?;
        write(&self.known).insert(start, Some(Arc::clone(&segment)));
        Ok(segment)
    }

    /// Maps a file. Its real length counts: a file that was cut is mapped as far as it goes. A damaged header costs nothing: the name says
    /// where the segment starts, and every frame says where it belongs.
    fn mapped(&self, start: u64, path: PathBuf, file: Arc<dyn VfsFile>) -> Result<Arc<Segment>> {
        let damaged = |what: &str| Error::new(ErrorKind::Damaged, what.to_owned()).at(&path);
        let mut header = [0; SEGMENT_HEADER_LEN];
        file.read_exact_at(&mut header, 0).map_err(|e| damaged("cannot read the header of").caused_by(e))?;
        let capacity = match SegmentHeader::parse(&header, self.seed) {
            Ok(header) if header.start != start => return Err(damaged("another segment's header in")),
            Ok(header) => header.capacity,
            Err(Malformed::Version(version)) => return Err(Error::new(ErrorKind::Incompatible, advice_on(version)).at(&path)),
            Err(_) => file.len().map_err(|e| Error::io("look at", &path, e))?.saturating_sub(SEGMENT_HEADER_LEN as u64),
        };
        let len = file.len().map_err(|e| Error::io("look at", &path, e))?.min(SEGMENT_HEADER_LEN as u64 + capacity);
        let len = usize::try_from(len).map_err(|_| damaged("too long a segment:"))?;
        let map = file.map(len, self.writable).map_err(|e| Error::io("map", &path, e))?;
        Ok(Arc::new(Segment { start, capacity, path, map, file, populated: AtomicUsize::new(0), sealed_at: AtomicU64::new(0) }))
    }

    /// Makes the segment that starts at `start` with room for `capacity` bytes of frames. The caller holds the lock.
    pub(super) fn create(&self, start: u64, capacity: u64, checkpoint: u64) -> Result<Arc<Segment>> {
        let path = self.path(start);
        let len = capacity + SEGMENT_HEADER_LEN as u64;
        let file = self.vfs.open(&path, OpenMode::Create).map_err(|e| Error::io("create", &path, e))?;
        // Reserved blocks: a mapped write can then never meet a full disk.
        file.allocate(len).map_err(|e| Error::io("reserve space for", &path, e))?;
        let header = SegmentHeader { start, capacity, checkpoint };
        file.write_all_at(&header.encode(self.seed), 0).map_err(|e| Error::io("write to", &path, e))?;
        let segment = self.mapped(start, path, file)?;
        write(&self.known).insert(start, Some(Arc::clone(&segment)));
        Ok(segment)
    }

    /// Makes the segments that hold `from..to` durable, and their names.
    pub(super) fn sync(&self, from: u64, to: u64) -> Result<()> {
        let starts = self.starts();
        let first = starts.partition_point(|start| *start <= from).saturating_sub(1);
        for start in starts.into_iter().skip(first).take_while(|start| *start < to) {
            match self.starting(start) {
                Ok(segment) => segment.file.sync().map_err(|e| Error::io("sync", &segment.path, e))?,
                Err(e) if e.kind() == ErrorKind::Damaged => {} // nothing of it can be made durable
                Err(e) => return Err(e),
            }
        }
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))
    }

    /// Removes what lies behind a recovered end, durably: what was lost with the records before it must not be taken for what follows the
    /// next ones, and segments must not start where the one before goes on. The caller holds the lock.
    pub(super) fn clear_after(&self, end: u64) -> Result<()> {
        for start in self.starts().into_iter().rev().take_while(|start| *start > end) {
            let path = self.path(start);
            match self.vfs.unlink(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
                _ => write(&self.known).remove(&start),
            };
        }
        if let Ok(Some(segment)) = self.holding(end)
            && let Some(len) = segment.bytes(end, u64::MAX).and_then(|rest| rest.iter().rposition(|byte| *byte != 0))
        {
            let io = |e| Error::io("write to", &segment.path, e);
            let (from, to) = (segment.offset(end), segment.offset(end) + len + 1);
            for at in (from..to).step_by(CLEAR_LEN) {
                segment.file.write_all_at(&[0; CLEAR_LEN][..CLEAR_LEN.min(to - at)], at as u64).map_err(io)?;
            }
            segment.file.sync().map_err(|e| Error::io("sync", &segment.path, e))?;
        }
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))
    }

    /// Writes the header of a segment in which nothing was published yet, if its maker was killed before. The caller holds the lock.
    pub(super) fn complete(&self, segment: &Segment, checkpoint: u64) -> Result<()> {
        if SegmentHeader::parse(segment.map.bytes(0, SEGMENT_HEADER_LEN).unwrap_or(&[]), self.seed).is_ok() {
            return Ok(());
        }
        let header = SegmentHeader { start: segment.start, capacity: segment.end() - segment.start, checkpoint };
        segment.file.write_all_at(&header.encode(self.seed), 0).map_err(|e| Error::io("write to", &segment.path, e))
    }

    /// Returns what is wrong with the segment files themselves; with `fix`, writes damaged headers anew. What starts where the log ends is
    /// no part of it yet: whoever made it may have been killed at any step, and the next writer completes it. The caller holds the lock.
    pub(super) fn check(&self, log_end: u64, durable_checkpoint: u64, fix: bool) -> Vec<(Error, bool)> {
        let mut found = Vec::new();
        for start in self.starts().into_iter().filter(|start| *start < log_end) {
            let segment = match self.starting(start) {
                Ok(segment) => segment,
                Err(error) => {
                    // Nothing of it can be read, and nobody can write to it.
                    let fixed = fix && self.writable && error.kind() == ErrorKind::Damaged && self.vfs.unlink(&self.path(start)).is_ok();
                    if fixed {
                        write(&self.known).remove(&start);
                    }
                    found.push((error, fixed));
                    continue;
                }
            };
            let header = segment.map.bytes(0, SEGMENT_HEADER_LEN).unwrap_or(&[]);
            if let Err(why) = SegmentHeader::parse(header, self.seed) {
                let error = Error::new(ErrorKind::Damaged, format!("{why}: the header of")).at(&segment.path);
                let header = SegmentHeader { start, capacity: segment.end() - start, checkpoint: durable_checkpoint };
                let fixed = fix && self.writable && segment.file.write_all_at(&header.encode(self.seed), 0).is_ok();
                found.push((error, fixed));
            }
        }
        found
    }

    /// Returns what is known of every segment, in order, without opening any. After a segment comes the next one, or a gap where others were
    /// removed: then an opened one knows where it ends.
    /// What starts behind `log_end` was left by a power failure.
    pub(super) fn extents(&self, log_end: u64) -> Vec<Extent> {
        let known = read(&self.known);
        let nexts = known.keys().skip(1).copied().chain([u64::MAX]);
        let extent = |((start, segment), next): ((&u64, &Option<Arc<Segment>>), u64)| {
            let is_full = next <= log_end;
            let header = SEGMENT_HEADER_LEN as u64;
            let (to, len) = match segment {
                Some(segment) if is_full => (segment.sealed_end(next), segment.sealed_end(next) - start + header),
                Some(segment) => (segment.end(), segment.map.len() as u64),
                None if is_full => (next, next - start + header),
                None => (*start, header),
            };
            Extent { start: *start, to, len, is_full }
        };
        known.iter().zip(nexts).map(extent).collect()
    }

    /// Returns where each segment starts and ends that is full: another one follows it in a log that ends at `log_end`.
    pub(super) fn sealed(&self, log_end: u64) -> Vec<(u64, u64)> {
        let starts = self.starts();
        let full = starts.windows(2).filter(|pair| pair[1] <= log_end);
        full.filter_map(|pair| Some((pair[0], self.starting(pair[0]).ok()?.sealed_end(pair[1])))).collect()
    }

    /// Removes the file of a segment. Those that map it keep it. Returns whether it is gone.
    pub(super) fn remove(&self, start: u64) -> bool {
        match self.vfs.unlink(&self.path(start)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => false,
            _ => {
                self.forget(start);
                true
            }
        }
    }

    /// Lets go of a segment that nothing is read from any more.
    pub(super) fn forget(&self, start: u64) {
        write(&self.known).remove(&start);
    }

    fn path(&self, start: u64) -> PathBuf {
        self.dir.join(format!("{start:016x}"))
    }
}

fn start_of(name: &str) -> Option<u64> {
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten()
}
