//! The log on a local disk: any number of threads and processes of one kernel append to mapped segments.
//!
//! A commit is one frame. A writer takes the host-local kernel lock, replays what others appended, writes its frame past the published
//! end, and publishes the new end with one atomic store: that store is the commit point. The kernel gives the lock back when its holder
//! dies, whatever it was doing; bytes past the end are nobody's. Readers take no lock: one atomic load says whether there is news.
//!
//! After a power loss `tail` is not believed. The log is then read from the newest durable checkpoint on, frame by frame, each bound to
//! the one before by its checksum, until the first that does not fit: a prefix of the history.

mod recover;
mod segments;
mod tail;

use super::{BodyAt, Bytes, Commit, Cursor, Log, Progress, Proposal, Published, Replay, Start};
use crate::clock::{Clock, Deadline};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{self, Frame};
use crate::format::{BODY_LEN_MAX, Marker, Record};
use crate::publish::Gate;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::vfs::{OpenMode, Vfs};
pub use segments::Extent;
use segments::{Segment, Segments};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tail::Tail;

/// The position of the first frame; 0 means "none".
pub const FIRST_POSITION: u64 = 64;
/// Room in a cache's first segment, in bytes. Each further one is twice as large, up to [`SEGMENT_LEN_MAX`] (less in a small cache).
const SEGMENT_LEN_MIN: u64 = 256 << 10;
/// No cache is so small that its segments have less room.
const SEGMENT_LEN_LEAST: u64 = 32 << 10;
const SEGMENT_LEN_MAX: u64 = 8 << 20;
/// No segment has more room than this: one that a single commit needs.
const SEGMENT_LEN_LIMIT: u64 = (BODY_LEN_MAX + (64 << 10)) as u64;
/// Bodies from this length on are written by `pwrite`: one call is cheaper than a page fault for every page.
const PWRITE_LEN: usize = 16 << 10;
/// Tries for the lock with a short spin after each: most are held for a few microseconds, and whoever gives up its processor then waits for a
/// time slice of others.
const SPINS: u32 = 8;
/// A spin is a microsecond or two.
const SPIN_LEN: u32 = 50;
/// Tries that only yield the processor, before the waiter sleeps.
const YIELDS: u32 = 4;

/// How a local log is opened.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Identifies the running kernel: what `tail` says is believed only under the same one.
    pub boot: u64,
    /// Neither writes nor recovers.
    pub read_only: bool,
}

/// The log of a cache on a local disk.
#[derive(Debug)]
pub struct LocalLog {
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    seed: u64,
    tail: Tail,
    segments: Segments,
    /// Threads of this process queue here; the kernel lock is per open file, not per thread.
    gate: Gate,
    /// Group commit: whoever holds it syncs for all who wait.
    syncing: Mutex<()>,
    /// Room in the largest segments that this process makes.
    segment_len_max: AtomicU64,
}

impl LocalLog {
    /// Makes the directories of a new cache.
    ///
    /// # Errors
    /// `Io`.
    pub fn prepare(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let seg = dir.join("seg");
        match vfs.create_dir(&seg) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("create", &seg, e)),
            _ => vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e)),
        }
    }

    /// Opens the log of the cache in `dir`, and recovers it first if the machine went down since.
    ///
    /// # Errors
    /// `Io`, or `Timeout` while another process recovers.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        marker: &Marker,
        options: &LocalOptions,
        deadline: Deadline,
    ) -> Result<Self> {
        let tail = Tail::open(&*vfs, dir, options.read_only)?;
        let seed = marker.seed();
        let segments = Segments::open(vfs, dir, seed, !options.read_only)?;
        let log = Self {
            clock,
            dir: dir.to_owned(),
            seed,
            tail,
            segments,
            gate: Gate::default(),
            syncing: Mutex::new(()),
            segment_len_max: AtomicU64::new(SEGMENT_LEN_MAX),
        };
        if !log.tail.is_valid(options.boot) {
            if options.read_only {
                return Err(
                    Error::new(ErrorKind::Refused, "the cache must be opened for writing once after a restart of the machine:").at(dir)
                );
            }
            log.begin_exclusive(deadline, &|| false)?;
            let recovered = if log.tail.is_valid(options.boot) { Ok(()) } else { log.recover(options.boot) };
            log.end_exclusive();
            recovered?;
        } else if !options.read_only && !log.tail_is_plausible()? {
            log.begin_exclusive(deadline, &|| false)?;
            let mended = log.mend_tail(options.boot);
            log.end_exclusive();
            mended?;
        }
        Ok(log)
    }

    /// Returns the position after the last published frame.
    #[must_use]
    #[inline]
    pub fn end(&self) -> u64 {
        self.tail.end()
    }

    /// Says how long segments may be: their space is reserved when they are made, so a small cache wants small ones.
    pub fn limit_segments(&self, len: u64) {
        self.segment_len_max.store(len.clamp(SEGMENT_LEN_LEAST, SEGMENT_LEN_MAX), Ordering::Relaxed);
    }

    /// Returns what the checkpoint commits say that `tail` remembers: a recovery may start from any of them.
    ///
    /// # Errors
    /// `Io`.
    pub fn remembered_checkpoints(&self) -> Result<Vec<Vec<u8>>> {
        let words = [self.tail.checkpoint(), self.tail.durable_checkpoint()];
        words.into_iter().filter(|at| *at != 0).filter_map(|at| self.checkpoint_at(at).transpose()).collect()
    }

    /// Returns what is known of every segment, in order.
    #[must_use]
    pub fn extents(&self) -> Vec<Extent> {
        self.segments.extents(self.end())
    }

    /// Returns the first address and the one after the last of each segment that is full.
    #[must_use]
    pub fn sealed(&self) -> Vec<(u64, u64)> {
        self.segments.sealed(self.end())
    }

    /// Looks again which segments there are: also those that [`Self::forget_segment`] let go of.
    ///
    /// # Errors
    /// `Io`.
    pub fn list_segments(&self) -> Result<()> {
        self.segments.list()
    }

    /// Returns the position of the newest checkpoint commit that its maker took over (0: none): what only older ones need may be gone.
    #[inline]
    #[must_use]
    pub fn latest_checkpoint(&self) -> u64 {
        self.tail.checkpoint()
    }

    /// Lets go of a segment that the newest checkpoint made needless. Whoever made that checkpoint removes its file.
    pub fn forget_segment(&self, start: u64) {
        self.segments.forget(start);
    }

    /// Makes the checkpoint at `at`, which was published, the one that a recovery starts from, also after a power failure: what only older ones
    /// need may then be removed.
    ///
    /// # Errors
    /// `Io`.
    pub fn settle(&self, at: u64) -> Result<()> {
        self.sync_to(self.tail.end())?;
        self.tail.set_durable(self.tail.durable(), at);
        self.tail.file.sync().map_err(|e| Error::io("sync", &self.tail.path, e))
    }

    fn try_lock_once(&self) -> Result<bool> {
        if !self.gate.try_enter() {
            return Ok(false);
        }
        match self.tail.file.try_lock() {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.gate.leave();
                Ok(false)
            }
            Err(e) => {
                self.gate.leave();
                Err(Error::io("lock", &self.tail.path, e))
            }
        }
    }

    /// Takes the lock only if it is free at once.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_begin_exclusive(&self) -> Result<bool> {
        self.try_lock_once()
    }

    /// Hands every frame from the cursor up to `end` to `replay`.
    fn replay_to(&self, cursor: &mut Cursor, end: u64, replay: &mut dyn Replay) -> Result<Progress> {
        let mut segment: Option<Arc<Segment>> = None;
        while cursor.position < end {
            let current = match segment.take().filter(|s| cursor.position < s.end() && !frame::is_sealed(cursor.chain)) {
                Some(segment) => segment,
                None => match self.segment_for(cursor, end, replay)? {
                    Some(segment) => segment,
                    None => return Ok(if cursor.position < end { Progress::Gone } else { Progress::UpToDate }),
                },
            };
            // Whoever passed damage does not know whether the segment had ended there.
            segment = self.replay_frame(&current, cursor, end, replay)?.then_some(current);
        }
        Ok(Progress::UpToDate)
    }

    /// Finds the segment for the cursor; skips to the next one that can be read if it is damaged. `None`: it was collected.
    fn segment_for(&self, cursor: &mut Cursor, end: u64, replay: &mut dyn Replay) -> Result<Option<Arc<Segment>>> {
        for listed in [false, true] {
            if let Some(segment) = self.current(*cursor) {
                return Ok(Some(segment));
            }
            if !listed {
                self.segments.list()?;
            }
        }
        if self.covered() > cursor.position {
            return Ok(None); // collected: a checkpoint covers it
        }
        let error = Error::new(ErrorKind::Damaged, format!("no segment holds log position {} in", cursor.position)).at(&self.dir);
        let starts = self.segments.starts();
        let next = starts.into_iter().find(|s| *s > cursor.position).unwrap_or(end).min(end);
        replay.damaged(cursor.position, next, &error);
        *cursor = Cursor { position: next, chain: 0 };
        if next == end { Ok(None) } else { self.segment_for(cursor, end, replay) }
    }

    /// Returns the position from which on the newest checkpoint needs the log: the first word of its payload.
    fn covered(&self) -> u64 {
        let payload = self.checkpoint_at(self.tail.checkpoint()).ok().flatten().unwrap_or_default();
        payload.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word))
    }

    /// Hands one frame to `replay`. Returns `false` where there is none in this segment.
    fn replay_frame(&self, segment: &Segment, cursor: &mut Cursor, end: u64, replay: &mut dyn Replay) -> Result<bool> {
        let position = cursor.position;
        let bytes = segment.bytes(position, end).unwrap_or(&[]);
        match Frame::parse(bytes, position, self.seed) {
            Ok(frame) => {
                let next = frame::after(position, frame.len);
                if let Some(body) = frame.body {
                    let at = BodyAt::Local(position + frame.body_offset as u64);
                    replay.commit(&Commit { position, next, body, at, part: segment.start, decided_on: frame.decided_on });
                }
                *cursor = Cursor { position: next, chain: frame.sum };
                Ok(true)
            }
            Err(why) => {
                // Whoever had passed damage right before begins another segment, which may not be known here yet.
                self.segments.list()?;
                if self.segments.holding(position).is_ok_and(|found| found.is_some_and(|found| found.start != segment.start)) {
                    return Ok(false);
                }
                let next = self.next_whole_frame(segment, position, end);
                let error = Error::new(ErrorKind::Damaged, format!("{why}: the log at position {position} in")).at(&segment.path);
                replay.damaged(position, next, &error);
                *cursor = Cursor { position: next, chain: 0 };
                Ok(false)
            }
        }
    }

    /// Looks for the next position in this segment where a whole frame says that it is; else the next segment's start, else `end`. The segments
    /// were just listed.
    fn next_whole_frame(&self, segment: &Segment, position: u64, end: u64) -> u64 {
        let next = self.segments.starts().into_iter().find(|s| *s > position).unwrap_or(end).min(end);
        let mut at = position + 8;
        while at + frame::FRAME_HEADER_LEN as u64 <= next.min(segment.end()) {
            if segment.bytes(at, next).is_some_and(|bytes| Frame::parse(bytes, at, self.seed).is_ok()) {
                return at;
            }
            at += 8;
        }
        next
    }

    /// Appends a frame at the cursor (which has replayed everything) and publishes it. Returns its position, where its body is, and where its
    /// segment starts. The caller holds the lock.
    fn append(&self, cursor: &mut Cursor, proposal: &Proposal<'_>) -> Result<(u64, BodyAt, u64)> {
        proposal.check_len()?;
        let len = frame::frame_len(proposal.body, proposal.decided_on.is_some());
        let segment = self.make_room(cursor, len)?;
        let position = cursor.position;
        let (header, sum) = frame::encode_header(proposal.body, position, cursor.chain, proposal.decided_on, self.seed);
        let mut offset = segment.offset(position);
        write_part(&segment, offset, &header)?;
        offset += header.len();
        proposal.body.each_part(|part| {
            write_part(&segment, offset, part)?;
            offset += part.len();
            Ok::<_, Error>(())
        })?;
        let next = frame::after(position, len);
        self.tail.publish(next); // Commit point: from here on, everybody sees the frame.
        *cursor = Cursor { position: next, chain: sum };
        Ok((position, BodyAt::Local(position + header.len() as u64), segment.start))
    }

    /// Returns the segment with room for a frame of `len` bytes and a seal at the cursor, sealing the current one if need be.
    fn make_room(&self, cursor: &mut Cursor, len: usize) -> Result<Arc<Segment>> {
        let need = frame::after(0, len) + frame::FRAME_HEADER_LEN as u64;
        // Whoever passed damage right before does not know whether the segment had ended there: it begins another one.
        let current = self.current(*cursor).filter(|segment| cursor.chain != 0 || cursor.position == segment.start);
        if let Some(segment) = current.as_ref().filter(|s| cursor.position + need <= s.end()) {
            if cursor.position == segment.start {
                self.segments.complete(segment, self.tail.durable_checkpoint())?;
            }
            return Ok(Arc::clone(segment));
        }
        let last = current.as_ref().map_or(0, |s| s.end() - s.start);
        if let Some(segment) = current.filter(|s| cursor.position + frame::FRAME_HEADER_LEN as u64 <= s.end()) {
            // The seal is published before the next segment is made: whoever dies in between leaves no file of a wrong name.
            let (seal, sum) = frame::encode_seal(cursor.position, cursor.chain, self.seed);
            write_part(&segment, segment.offset(cursor.position), &seal)?;
            let start = frame::after(cursor.position, seal.len());
            self.tail.publish(start);
            *cursor = Cursor { position: start, chain: sum };
            // What it reserved and did not need; a drive that cannot give that back keeps it.
            drop(segment.file.give_back((segment.offset(start) as u64).next_multiple_of(4096)));
        }
        let most = self.segment_len_max.load(Ordering::Relaxed);
        let capacity = (last * 2).max(SEGMENT_LEN_MIN).min(most).max(need).next_multiple_of(4096);
        self.segments.create(cursor.position, capacity, self.tail.durable_checkpoint())
    }

    /// Returns the segment that the cursor is in, if it can be read: after a seal only the one that starts there.
    fn current(&self, cursor: Cursor) -> Option<Arc<Segment>> {
        let found = if frame::is_sealed(cursor.chain) {
            self.segments.starting(cursor.position).map(Some)
        } else {
            self.segments.holding(cursor.position)
        };
        found.ok().flatten().filter(|s| cursor.position < s.end())
    }

    fn publish_locked(&self, cursor: &mut Cursor, proposal: &Proposal<'_>, replay: &mut dyn Replay) -> Result<Published> {
        let end = self.tail.end();
        if cursor.position != end && (self.replay_to(cursor, end, replay)? == Progress::Gone || !replay.is_sound()) {
            return Ok(Published::Behind);
        }
        let before = *cursor;
        let (position, at, part) = match self.append(cursor, proposal) {
            Ok(done) => done,
            Err(error) => {
                *cursor = before;
                return Err(error);
            }
        };
        // What others read out of the frame is what it was made of.
        let body = proposal.body.as_body();
        replay.commit(&Commit { position, next: cursor.position, body, at, part, decided_on: proposal.decided_on });
        Ok(Published::At(position))
    }

    fn sync_to(&self, end: u64) -> Result<()> {
        if self.tail.durable() >= end {
            return Ok(());
        }
        let _leader = lock(&self.syncing);
        let from = self.tail.durable();
        if from >= end {
            return Ok(()); // somebody else's sync covered this one
        }
        let (to, checkpoint) = (self.tail.end(), self.tail.checkpoint());
        // Others may have made segments meanwhile, and what is called durable here nobody syncs again.
        self.segments.list()?;
        self.segments.sync(from, to)?;
        self.tail.set_durable(to, checkpoint);
        Ok(())
    }

    fn checkpoint_at(&self, position: u64) -> Result<Option<Vec<u8>>> {
        let segment = match self.segments.holding(position) {
            Ok(Some(segment)) => segment,
            Err(error) if error.kind() != ErrorKind::Damaged => return Err(error),
            _ => return Ok(None),
        };
        let bytes = segment.bytes(position, segment.end()).unwrap_or(&[]);
        let Ok(frame) = Frame::parse(bytes, position, self.seed) else { return Ok(None) };
        let first = frame.body.and_then(|body| body.records().next());
        Ok(match first {
            Some((Record::Checkpoint(payload), _)) => Some(payload.to_vec()),
            _ => None,
        })
    }
}

fn write_part(segment: &Segment, offset: usize, bytes: &[u8]) -> Result<()> {
    if bytes.len() >= PWRITE_LEN {
        return segment.file.write_all_at(bytes, offset as u64).map_err(|e| Error::io("write to", &segment.path, e));
    }
    if offset + bytes.len() > segment.map.len() {
        return Err(Error::new(ErrorKind::Damaged, "the file was cut short:").at(&segment.path));
    }
    segment.write(offset, bytes);
    Ok(())
}

impl Log for LocalLog {
    fn start(&self, _deadline: Deadline) -> Result<Start> {
        for at in [self.tail.checkpoint(), self.tail.durable_checkpoint()].into_iter().filter(|at| *at != 0) {
            if let Some(payload) = self.checkpoint_at(at)? {
                return Ok(Start { checkpoint: Some(payload), at });
            }
        }
        Ok(Start { checkpoint: None, at: self.segments.starts().first().copied().unwrap_or(FIRST_POSITION) })
    }

    #[inline]
    fn is_behind(&self, cursor: Cursor, _deadline: Deadline) -> Result<bool> {
        Ok(self.tail.end() != cursor.position)
    }

    fn catch_up(&self, cursor: &mut Cursor, replay: &mut dyn Replay, _deadline: Deadline) -> Result<Progress> {
        self.replay_to(cursor, self.tail.end(), replay)
    }

    fn publish(&self, cursor: &mut Cursor, proposal: Proposal<'_>, replay: &mut dyn Replay, _deadline: Deadline) -> Result<Published> {
        assert!(self.gate.is_taken(), "a local commit is made under the lock");
        self.publish_locked(cursor, &proposal, replay)
    }

    #[inline]
    fn read(&self, addr: u64, len: u64, _deadline: Deadline) -> Result<Bytes> {
        self.segments.read(addr, len)
    }

    fn begin_exclusive(&self, deadline: Deadline, meanwhile: &dyn Fn() -> bool) -> Result<()> {
        let mut tries = 0;
        while !self.try_lock_once()? {
            tries += 1;
            if tries <= SPINS + YIELDS {
                match meanwhile() {
                    true => {}
                    false if tries <= SPINS => (0..SPIN_LEN).for_each(|_| std::hint::spin_loop()),
                    false => std::thread::yield_now(),
                }
                continue;
            }
            let Some(left) = deadline.left(&*self.clock) else {
                let what = "another process or thread kept the lock for the whole timeout (is it stopped?):";
                return Err(Error::new(ErrorKind::Timeout, what).at(&self.tail.path));
            };
            if meanwhile() {
                continue;
            }
            self.clock.sleep(Duration::from_micros(50 << (tries - SPINS - YIELDS).min(5)).min(left));
        }
        Ok(())
    }

    fn end_exclusive(&self) {
        // An error here means that the descriptor is gone, and with it the lock.
        drop(self.tail.file.unlock());
        self.gate.leave();
    }

    fn sync(&self) -> Result<()> {
        self.sync_to(self.tail.end())
    }

    fn collect(&self, from: u64, _to: u64) -> usize {
        usize::from(self.segments.remove(from))
    }

    fn adopted(&self, at: u64) {
        self.tail.set_checkpoint(at);
    }

    fn raw_from(&self, position: u64, _deadline: Deadline) -> Result<Option<u64>> {
        self.segments.list()?;
        let held = self.current(Cursor { position, chain: 0 }).is_some();
        Ok(if held { Some(position) } else { self.segments.starts().into_iter().find(|start| *start >= position) })
    }

    fn check(&self, fix: bool, deadline: Deadline) -> Result<Vec<(Error, bool)>> {
        self.begin_exclusive(deadline, &|| false)?;
        let found = self.segments.list().map(|()| self.segments.check(self.tail.end(), self.tail.durable_checkpoint(), fix));
        self.end_exclusive();
        found
    }

    fn first_position(&self) -> u64 {
        FIRST_POSITION
    }
}

/// Returns what identifies the running kernel, or 0 where that cannot be told (the log is then recovered at every open).
#[must_use]
pub fn boot_id(vfs: &dyn Vfs) -> u64 {
    let mut id = [0; 36];
    let read = vfs.open(Path::new("/proc/sys/kernel/random/boot_id"), OpenMode::Read).and_then(|f| f.read_exact_at(&mut id, 0));
    if read.is_ok() { crate::format::wire::checksum(&id, 0) } else { 0 }
}
