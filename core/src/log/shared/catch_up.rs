//! Catching up: reading what was published, in order, and what to do where a commit should be and is not.

use super::fetch::{Fetched, Unread};
use super::publish::{chain_of, skip};
use super::{Look, SharedLog, damaged};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{CommitHeader, parse_commit};
use crate::log::{ADDR_OFFSET_BITS, BodyAt, Commit, Cursor, Progress, Replay};
use crate::sync::Arc;
use std::time::Duration;

/// Commits that are read at once: at first, and as long as they are small.
const WINDOW_FIRST: u64 = 8;
const WINDOW_MAX: u64 = 64;
/// Bytes that one window of small commits has at most.
const WINDOW_BYTES: usize = 4 << 20;
/// Bits of a commit's number that tell it from others of its part.
const PART_BITS: u32 = 6;
/// How often a listing that shows a commit is believed more than an open that does not find it.
const CONTRADICTIONS_MAX: u32 = 2;

/// How replaying up to a position ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// The position.
    There,
    /// The end of the log, before the position.
    End,
    /// A commit that was collected.
    Gone,
}

/// What to do about a commit that cannot be had.
enum Instead {
    /// Look again.
    Again,
    Skip(u64),
    Stop(Reached),
}

impl SharedLog {
    /// See [`crate::log::Log::is_behind`]; also true if the bell is shorter than `position`, for it must be rung before an answer.
    pub(super) fn has_news(&self, position: u64, deadline: Deadline) -> Result<bool> {
        let began = self.clock.boot();
        let bell = self.look(deadline)?;
        if self.view().is_lost() || (bell != position && !self.view().is_lie(bell)) {
            return Ok(true);
        }
        if self.tries_by_name(bell) && !matches!(self.fetch_next(position, deadline)?, Fetched::Absent) {
            return Ok(true);
        }
        self.note_end(position, bell, began);
        Ok(false)
    }

    /// See [`crate::log::Log::catch_up`].
    pub(super) fn replay_news(&self, cursor: &mut Cursor, replay: &mut dyn Replay, deadline: Deadline) -> Result<Progress> {
        if self.view().is_lost() {
            return Ok(Progress::Gone);
        }
        cursor.position = cursor.position.max(1);
        let began = self.clock.boot();
        let mut bell = self.look(deadline)?;
        if bell < cursor.position {
            bell = self.restore_bell(cursor.position, deadline)?;
        }
        // What was published quietly nobody rang for, and it was replayed before: a state made anew comes as far.
        let target = bell.max(self.view().reached());
        if !self.view().is_lie(bell) {
            match self.replay_to(target, cursor, replay, deadline)? {
                Reached::There => {}
                Reached::End if target > bell => self.view().forget_reached(),
                Reached::End => self.view().note_lie(bell),
                Reached::Gone => return Ok(Progress::Gone),
            }
        }
        if self.tries_by_name(bell) && !self.replay_by_name(bell, cursor, replay, deadline)? {
            return Ok(Progress::Gone);
        }
        self.note_end(cursor.position, bell, began);
        Ok(Progress::UpToDate)
    }

    /// Notes that the log ended at `position` when the bell was looked at.
    fn note_end(&self, position: u64, bell: u64, began: Duration) {
        let mut view = self.view();
        view.note_contact(began);
        if self.options.look == Look::Statx && bell == position {
            view.note_unpublished(position, began);
        }
    }

    fn tries_by_name(&self, bell: u64) -> bool {
        self.options.look == Look::Reopen || self.view().is_lie(bell)
    }

    /// Replays commits that nobody may have rung for yet, and rings for them: whoever looks after our answer must see them too.
    /// Returns whether they were genuine.
    fn replay_by_name(&self, bell: u64, cursor: &mut Cursor, replay: &mut dyn Replay, deadline: Deadline) -> Result<bool> {
        let from = cursor.position;
        loop {
            let found = self.fetch_next(cursor.position, deadline)?;
            if matches!(found, Fetched::Absent) {
                break;
            }
            if !self.is_genuine(*cursor, deadline)? {
                return Ok(false);
            }
            match found {
                Fetched::Whole(bytes) => self.replay_one(cursor, &bytes, replay)?,
                Fetched::Damaged(why) if replay.may_pass_damage() => skip(cursor, cursor.position + 1, replay, &why),
                _ => return Ok(false),
            }
        }
        if cursor.position > from && cursor.position > bell {
            self.ring(cursor.position - 1, deadline)?;
        }
        Ok(true)
    }

    /// Looks for commit `n` by name; it may well not exist.
    fn fetch_next(&self, n: u64, deadline: Deadline) -> Result<Fetched> {
        match self.fetch_recent(n) {
            Ok(bytes) => {
                self.keep(n, &bytes); // Who only looks whether it is there will replay it next.
                Ok(Fetched::Whole(bytes))
            }
            Err(Unread::Missing) => Ok(Fetched::Absent),
            Err(Unread::Malformed(..) | Unread::Failed(_)) => self.fetch(n, deadline),
        }
    }

    /// Replays the commits below `target`, which the bell says exist.
    fn replay_to(&self, target: u64, cursor: &mut Cursor, replay: &mut dyn Replay, deadline: Deadline) -> Result<Reached> {
        let mut first = true;
        let (mut contradictions, mut window) = (0, WINDOW_FIRST);
        while cursor.position < target {
            if !first && deadline.passed(&*self.clock) {
                return Err(Error::new(ErrorKind::Timeout, "the deadline passed while catching up").at(&self.log_dir()));
            }
            first = false;
            let count = (target - cursor.position).min(window) as usize;
            let batch = self.fetch_many(cursor.position, count);
            let bytes: usize = batch.iter().flatten().map(|file| file.len()).sum();
            window = if bytes <= WINDOW_BYTES / 2 { (window * 2).min(WINDOW_MAX) } else { WINDOW_FIRST };
            if !self.is_genuine(*cursor, deadline)? {
                return Ok(Reached::Gone);
            }
            for looked in batch {
                let n = cursor.position;
                let found = match looked {
                    Ok(bytes) => Fetched::Whole(bytes),
                    Err(_) => {
                        let found = self.fetch(n, deadline)?;
                        if matches!(found, Fetched::Whole(_)) && !self.is_genuine(*cursor, deadline)? {
                            return Ok(Reached::Gone);
                        }
                        found
                    }
                };
                let why = match found {
                    Fetched::Whole(bytes) => {
                        self.replay_one(cursor, &bytes, replay)?;
                        continue;
                    }
                    Fetched::Damaged(why) => Some(why),
                    Fetched::Absent => None,
                };
                match self.instead_of(n, why.is_none(), &mut contradictions, deadline)? {
                    Instead::Again => break,
                    Instead::Stop(reached) => return Ok(reached),
                    Instead::Skip(_) if !replay.may_pass_damage() => return Ok(Reached::Gone),
                    Instead::Skip(next) => {
                        let why = why.unwrap_or_else(|| damaged("the commit is missing", &self.commit_path(n)));
                        skip(cursor, next, replay, &why);
                        break; // The others of this batch may lie before it.
                    }
                }
            }
        }
        Ok(Reached::There)
    }

    /// Decides what comes after a commit that cannot be had.
    ///
    /// Whoever can start from a checkpoint made after it does (once for each position, so that nobody goes round in circles): then
    /// those that had replayed it and those that could not agree again.
    fn instead_of(&self, n: u64, absent: bool, contradictions: &mut u32, deadline: Deadline) -> Result<Instead> {
        let names = self.list(deadline)?;
        if absent && names.binary_search(&n).is_ok() && *contradictions < CONTRADICTIONS_MAX {
            *contradictions += 1;
            return Ok(Instead::Again);
        }
        let later = names.iter().copied().find(|&name| name > n);
        let next = if absent {
            match later {
                Some(later) => later,
                None => return Ok(Instead::Stop(Reached::End)),
            }
        } else {
            n + 1
        };
        let collected = absent && names.first().is_some_and(|&lowest| lowest > n);
        if (collected || self.newest_hint(&names, n, deadline)? > n) && self.view().tell_gone(n) {
            return Ok(Instead::Stop(Reached::Gone));
        }
        Ok(Instead::Skip(next))
    }

    /// Returns the newest checkpoint's position, as far as the newest few of `names` after `n` know it; 0 if they know none. (One
    /// alone may have been written long before it was published.)
    fn newest_hint(&self, names: &[u64], n: u64, deadline: Deadline) -> Result<u64> {
        let mut hint = 0;
        for &newest in names.iter().rev().take(4).filter(|&&name| name > n) {
            if let Fetched::Whole(bytes) = self.fetch(newest, deadline)? {
                hint = hint.max(CommitHeader::parse(&bytes, &self.marker).map_or(0, |header| header.checkpoint));
            }
        }
        Ok(hint)
    }

    /// Replays one commit file and moves the cursor past it.
    pub(super) fn replay_one(&self, cursor: &mut Cursor, bytes: &Arc<[u8]>, replay: &mut dyn Replay) -> Result<()> {
        let n = cursor.position;
        let (header, body) = parse_commit(bytes, &self.marker).map_err(|why| damaged(why.to_string(), &self.commit_path(n)))?;
        self.keep(n, bytes);
        let part = (n >> PART_BITS << PART_BITS) << ADDR_OFFSET_BITS;
        replay.commit(&Commit { position: n, next: n + 1, body, at: BodyAt::Shared(n), part, decided_on: header.decided_on });
        *cursor = Cursor { position: n + 1, chain: chain_of(header.nonce) };
        self.view().note_reached(n + 1);
        Ok(())
    }
}
