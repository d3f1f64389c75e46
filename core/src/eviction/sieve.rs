//! SIEVE: Y. Zhang et al., "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024.
//!
//! A hand moves from the oldest entry to the newest and round again; what was read since it last passed is spared once (its mark is
//! cleared), what was not goes. New entries come in behind the hand's start, so one-hit wonders leave soon.

use super::{Policy, Verdict};
use crate::format::Entry;
use crate::index::Order;

pub(super) struct Sieve;

impl Policy for Sieve {
    fn order(&self) -> Order {
        Order::Insertion
    }

    fn judge(&self, entry: &Entry, _now: f64) -> Verdict {
        if entry.access_count > 0 { Verdict::Spare } else { Verdict::Evict }
    }

    fn keeps_hand(&self) -> bool {
        true
    }
}
