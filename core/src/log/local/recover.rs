//! Finding the end of a local log without believing `tail`: after a restart of the machine, or when the page was damaged.

use super::{FIRST_POSITION, LocalLog, SEGMENT_LEN_LIMIT, SEGMENT_LEN_MAX};
use crate::clock::Deadline;
use crate::error::Result;
use crate::format::frame::{self, Frame};
use crate::format::wire::checksum;
use crate::format::{Body, Place, Record};
use crate::log::{Cursor, Log};

impl LocalLog {
    /// Finds the end and makes `tail` valid. The caller holds the lock.
    pub(super) fn recover(&self, boot: u64) -> Result<()> {
        self.segments.list()?;
        let (durable, remembered) = self.tail.remembered();
        // A word that points past all segments is damaged itself.
        let durable = if durable <= self.end_max() { durable } else { 0 };
        let checkpoint = self.newest_checkpoint(remembered)?;
        let starts = self.segments.starts();
        let first = starts.first().copied().unwrap_or(FIRST_POSITION);
        let from = if checkpoint == 0 { first } else { checkpoint };
        let end = self.find_end(from, durable);
        self.segments.clear_after(end)?;
        self.tail.reset(boot, end, checkpoint, durable.min(end));
        Ok(())
    }

    /// Returns a position that the log's end cannot have passed, as far as the segments tell. The last one may have been cut, or be lost
    /// altogether: then the end stays where it was, so that no position is ever used twice.
    fn end_max(&self) -> u64 {
        let last = self.segments.starts().last().copied().unwrap_or(FIRST_POSITION);
        self.segments.starting(last).map_or(last, |segment| segment.start + segment.capacity) + SEGMENT_LEN_MAX + SEGMENT_LEN_LIMIT
    }

    /// Returns whether the words of `tail` can be what was written there, as far as a glance tells.
    pub(super) fn tail_is_plausible(&self) -> Result<bool> {
        let end = self.tail.end();
        let inside = end.is_multiple_of(8) && (FIRST_POSITION..=self.end_max()).contains(&end);
        let ordered = [self.tail.durable(), self.tail.checkpoint(), self.tail.durable_checkpoint()].into_iter().all(|word| word <= end);
        Ok(inside
            && ordered
            && self.is_checkpoint_or_none(self.tail.checkpoint())?
            && self.is_checkpoint_or_none(self.tail.durable_checkpoint())?)
    }

    fn is_checkpoint_or_none(&self, at: u64) -> Result<bool> {
        Ok(at == 0 || self.checkpoint_at(at)?.is_some())
    }

    /// Puts the words of `tail` right that cannot be what was written there. The caller holds the lock, so nobody publishes meanwhile.
    pub(super) fn mend_tail(&self, boot: u64) -> Result<()> {
        self.segments.list()?;
        if self.tail_is_plausible()? {
            return Ok(()); // another process made a segment, or mended it first
        }
        let (end, durable) = (self.tail.end(), self.tail.durable());
        let durable = if durable <= self.end_max() { durable } else { 0 };
        let checkpoint = self.newest_checkpoint(self.tail.checkpoint())?;
        let from = if checkpoint == 0 { self.segments.starts().first().copied().unwrap_or(FIRST_POSITION) } else { checkpoint };
        let inside = end.is_multiple_of(8) && (from..=self.end_max()).contains(&end);
        let found = self.find_end(from, durable);
        let end = if inside { end.max(found) } else { found };
        if !inside {
            self.segments.clear_after(end)?;
        }
        self.tail.reset(boot, end, checkpoint, durable.min(end));
        Ok(())
    }

    /// Looks, after everything was replayed up to `cursor`, whether whole commits follow that `tail` does not know of (the page was
    /// damaged, or their writer was killed just before it published them), and publishes them. Returns whether there were any.
    ///
    /// # Errors
    /// `Timeout`, `Io`.
    pub fn mend_end(&self, cursor: Cursor, broken: bool, deadline: Deadline) -> Result<bool> {
        let follows = |cursor: Cursor| {
            let segment = self.current(cursor)?;
            let frame = Frame::parse(segment.bytes(cursor.position, u64::MAX)?, cursor.position, self.seed).ok()?;
            (frame.previous == cursor.chain).then_some(())
        };
        if !broken && follows(cursor).is_none() {
            return Ok(false);
        }
        self.begin_exclusive(deadline, &|| false)?;
        let end = self.tail.end();
        let found = if cursor.position == end && follows(cursor).is_some() {
            self.find_end(cursor.position, 0)
        } else if broken {
            // The end may lie within a frame: what comes before it says so.
            let from = self.newest_checkpoint(self.tail.checkpoint()).unwrap_or(0);
            if from == 0 { end } else { self.find_end(from, 0) }
        } else {
            end
        };
        if found > end {
            self.tail.publish(found);
        }
        self.end_exclusive();
        Ok(found > end)
    }

    /// Returns the newest durable checkpoint that can be read: what the page remembers, else what a segment's header does, else what
    /// lies in the log itself.
    fn newest_checkpoint(&self, remembered: u64) -> Result<u64> {
        let mut candidates = vec![remembered];
        for start in self.segments.starts().into_iter().rev() {
            if let Ok(segment) = self.segments.starting(start) {
                let header = segment.map.bytes(0, frame::SEGMENT_HEADER_LEN).unwrap_or(&[]);
                candidates.extend(frame::SegmentHeader::parse(header, self.seed).map(|h| h.checkpoint));
            }
        }
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        for position in candidates.into_iter().filter(|p| *p != 0) {
            if self.checkpoint_at(position)?.is_some() {
                return Ok(position);
            }
        }
        Ok(0)
    }

    /// Follows the chain from `from` to the first frame that does not fit. What is damaged before `durable` is stepped over: it was on
    /// disk, so it is damage, and what follows it counts.
    fn find_end(&self, from: u64, durable: u64) -> u64 {
        let mut cursor = Cursor { position: from, chain: 0 };
        let mut strict = false;
        loop {
            let Some(segment) = self.current(cursor) else {
                match self.segments.starts().into_iter().find(|s| *s > cursor.position && *s < durable) {
                    Some(next) => cursor = Cursor { position: next, chain: 0 },
                    None => return cursor.position,
                }
                strict = false;
                continue;
            };
            let bytes = segment.bytes(cursor.position, u64::MAX).unwrap_or(&[]);
            let frame = Frame::parse(bytes, cursor.position, self.seed).ok();
            let whole = frame.filter(|f| !strict || f.previous == cursor.chain);
            match whole.filter(|f| cursor.position < durable || f.body.is_none_or(|b| self.values_are_whole(&b))) {
                Some(frame) => {
                    cursor = Cursor { position: frame::after(cursor.position, frame.len), chain: frame.sum };
                    strict = true;
                }
                None if cursor.position < durable => {
                    let next = self.next_whole_frame(&segment, cursor.position, durable);
                    cursor = Cursor { position: next, chain: 0 };
                    strict = false;
                }
                None => return cursor.position,
            }
        }
    }

    fn values_are_whole(&self, body: &Body<'_>) -> bool {
        body.records().all(|(record, _)| match record {
            Record::Set(_, item) | Record::Add(_, item) | Record::Push { item, .. } => {
                !matches!(item.value.meta.place, Place::Log) || checksum(item.value.bytes, self.seed) == item.value.meta.sum
            }
            _ => true,
        })
    }
}
