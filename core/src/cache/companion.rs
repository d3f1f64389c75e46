//! Who keeps something beside the values of a cache: told of each that is gone, whatever removed it.
//!
//! A binding may store rows of its own ([`ValueKind::Custom1`]) that name files which it made. Entries are removed by many: a set replaces
//! one, an eviction takes others along. The process that made the removal take effect tells its companion of each, on the thread of the
//! call; if it is killed before, the files stay, as they would beside any database.

use crate::cache::engine::Engine;
use crate::cache::transact::PENDING;
use crate::clock::Deadline;
use crate::error::Result;
use crate::format::ValueKind;
use crate::format::entry::OwnedEntry;
use crate::index::{Direction, Order, Span, Walker};
use crate::sync::{lock, read};
use std::fmt::Debug;

/// Keeps something beside values of the kind [`ValueKind::Custom1`].
pub trait Companion: Debug + Send + Sync + 'static {
    /// Whether it has to be told at all: to tell it, values that are gone are read.
    fn listens(&self) -> bool;
    /// A value is gone: replaced, removed, expired or evicted by a call of this thread that took effect.
    fn removed(&self, value: &[u8]);
}

impl Engine {
    /// Returns who is to be told, if anybody is.
    pub(crate) fn companion(&self) -> Option<&dyn Companion> {
        self.options.companion.as_deref().filter(|companion| companion.listens())
    }

    /// Tells of an entry that is gone. Bytes that cannot be read any more are told of by nobody.
    pub(crate) fn tell_companion(&self, old: &OwnedEntry) {
        // What only the transaction had was told of when it was removed there.
        if old.entry.value.kind == ValueKind::Custom1 && old.entry.addr & PENDING == 0 && self.companion().is_some() {
            self.tell_companion_of(self.stored(old, self.deadline()).as_slice());
        }
    }

    /// Tells of values that are gone; those that are gone only in this thread's transaction, once that is committed.
    pub(crate) fn tell_companion_of(&self, values: &[Vec<u8>]) {
        if self.transaction.is_mine() {
            if let Some(open) = lock(&self.transaction.open).as_mut() {
                open.beside.extend_from_slice(values);
            }
        } else if let Some(companion) = self.companion() {
            values.iter().for_each(|value| companion.removed(value));
        }
    }

    /// Returns the values that have to be told of if everything is removed.
    pub(crate) fn all_beside(&self, deadline: Deadline) -> Result<Vec<Vec<u8>>> {
        if self.companion().is_none() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut walker = Walker::new(Span::all(Order::Insertion), Direction::Forward);
        self.walk(&mut walker, deadline, |entry| {
            if entry.entry.value.kind == ValueKind::Custom1 {
                found.push(entry.to_owned());
            }
            true
        })?;
        Ok(found.iter().filter_map(|entry| self.stored(entry, deadline)).collect())
    }

    fn stored(&self, entry: &OwnedEntry, deadline: Deadline) -> Option<Vec<u8>> {
        let hit = match self.hit_in_transaction(entry) {
            Some(hit) => hit.ok()??,
            None => {
                let folds = read(&self.state).folds.clone();
                self.hit_by(&folds, &entry.as_ref(), deadline).ok()?
            }
        };
        hit.value.bytes().ok().map(std::borrow::Cow::into_owned)
    }
}
