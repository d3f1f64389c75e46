//! Where a newcomer starts: bell, newest commit, the checkpoint commit that it names. Where one of them is damaged: the next best.
//!
//! A commit names the newest checkpoint that its writer had adopted when it was staged. That may be an old one (a slow writer), so
//! old that what follows it was collected: whoever found that out asks again, and is led to another, newer than what was gone.

use super::SharedLog;
use super::fetch::Fetched;
use crate::clock::Deadline;
use crate::error::Result;
use crate::format::{Record, parse_commit};
use crate::log::Start;

/// Commits that are tried one after the other where one is unreadable.
const STEPS_MAX: usize = 8;
/// Places in a listing where the search starts anew.
const PLACES_MAX: usize = 16;

/// Where a commit leads.
enum Lead {
    /// To a checkpoint.
    Found(Start),
    /// To the beginning: there was no checkpoint yet.
    Beginning,
    /// Nowhere: what it needs cannot be read.
    Nowhere,
}

/// What one commit says of checkpoints.
struct Signs {
    /// The payload of the one that it carries.
    carried: Option<Vec<u8>>,
    /// The position of the one that it names.
    named: u64,
}

impl SharedLog {
    /// See [`crate::log::Log::start`].
    pub(super) fn find_start(&self, deadline: Deadline) -> Result<Start> {
        let start = self.search_start(deadline)?;
        self.view().note_start(start.at);
        Ok(start)
    }

    fn search_start(&self, deadline: Deadline) -> Result<Start> {
        let gone = self.view().gone();
        let bell = self.look(deadline)?;
        if bell > 1 {
            match self.lead_from(bell - 1, None, deadline)? {
                Lead::Found(start) if self.is_good(&start, gone) => return Ok(start),
                Lead::Beginning if gone == 0 => return Ok(Start { checkpoint: None, at: 1 }),
                _ => {}
            }
        }
        // The bell was lost or lies, or nothing was published yet, or what the newest commit names is too old: the names say.
        let names = self.list(deadline)?;
        let newest = names.last().copied().unwrap_or(0);
        if newest >= bell {
            self.ring(newest, deadline)?;
        }
        if gone > 0
            && let Some(start) = self.search_after(gone, &names, deadline)?
        {
            return Ok(start);
        }
        let stride = (names.len() / PLACES_MAX).max(1);
        for &n in names.iter().rev().step_by(stride).filter(|&&n| n > 0) {
            match self.lead_from(n, Some(&names), deadline)? {
                Lead::Found(start) => return Ok(start),
                Lead::Beginning => break,
                Lead::Nowhere => {}
            }
        }
        Ok(Start { checkpoint: None, at: names.into_iter().find(|&n| n > 0).unwrap_or(1) })
    }

    /// Whether starting there can lead past what is gone.
    fn is_good(&self, start: &Start, gone: u64) -> bool {
        start.at > gone && !self.view().is_dead_end(start.at)
    }

    /// Searches the commits after `gone`, newest first. It was collected after a checkpoint that covers it, so that one is among
    /// them: named by a later commit, or at least there.
    fn search_after(&self, gone: u64, names: &[u64], deadline: Deadline) -> Result<Option<Start>> {
        let mut carried = None;
        for &n in names.iter().rev().take_while(|&&n| n > gone) {
            let Some(signs) = self.signs_of(n, deadline)? else { continue };
            let is_new = signs.named > gone && signs.named < n && names.binary_search(&signs.named).is_ok();
            if is_new && !self.view().is_dead_end(signs.named) {
                let named = self.signs_of(signs.named, deadline)?;
                if let Some(checkpoint) = named.and_then(|named| named.carried) {
                    return Ok(Some(Start { checkpoint: Some(checkpoint), at: signs.named }));
                }
            }
            if carried.is_none() && signs.carried.is_some() && !self.view().is_dead_end(n) {
                carried = Some(Start { checkpoint: signs.carried, at: n });
            }
        }
        Ok(carried)
    }

    /// Follows commit `n` to a checkpoint that can be read. With a listing, also past what cannot be read, to older ones; and what
    /// the listing does not show is not waited for.
    fn lead_from(&self, n: u64, names: Option<&[u64]>, deadline: Deadline) -> Result<Lead> {
        let (mut at, mut left, mut was_named) = (n, if names.is_some() { STEPS_MAX } else { 2 }, false);
        while at > 0 && left > 0 {
            left -= 1;
            let is_there = names.is_none_or(|names| names.binary_search(&at).is_ok());
            let Some(signs) = (if is_there { self.signs_of(at, deadline)? } else { None }) else {
                if names.is_none() {
                    break;
                }
                at -= 1;
                continue;
            };
            // One that nobody names may not have been adopted: another that covers more may have come first.
            if was_named && signs.carried.is_some() {
                return Ok(Lead::Found(Start { checkpoint: signs.carried, at }));
            }
            if signs.named == 0 {
                return Ok(Lead::Beginning);
            }
            // Only backwards, so that damage cannot lead in circles.
            was_named = signs.named < at;
            at = if was_named { signs.named } else { at - 1 };
            if names.is_some() {
                left = left.max(STEPS_MAX / 2);
            }
        }
        Ok(Lead::Nowhere)
    }

    fn signs_of(&self, n: u64, deadline: Deadline) -> Result<Option<Signs>> {
        let Fetched::Whole(bytes) = self.fetch(n, deadline)? else { return Ok(None) };
        let Ok((header, body)) = parse_commit(&bytes, &self.marker) else { return Ok(None) };
        self.keep(n, &bytes); // It is likely to be replayed next.
        let counts = header.decided_on.is_none_or(|position| position == n);
        let carried = body.records().find_map(|(record, _)| match record {
            Record::Checkpoint(payload) if counts => Some(payload.to_vec()),
            _ => None,
        });
        Ok(Some(Signs { carried, named: header.checkpoint }))
    }
}
