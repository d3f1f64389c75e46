//! Combined: worth falls with the time since the last read and rises with the number of reads, and what is about to expire has none.
//!
//! The idea of LRFU (D. Lee et al., "LRFU: a spectrum of policies that subsumes the least recently used and least frequently used
//! policies", IEEE Transactions on Computers 50(12), 2001): each read counts the less the longer ago it was. Entries are looked at in the
//! order of their last read; one whose reads still weigh enough stays.

use super::{Policy, Verdict};
use crate::format::Entry;
use crate::index::Order;

/// Seconds in which the weight of reads halves.
const HALF_LIFE_S: f64 = 3600.0;
/// An entry whose reads weigh at least this much stays.
const WEIGHT_MIN: f64 = 1.0;
/// What expires within so many seconds is given up first.
const ABOUT_TO_EXPIRE_S: f64 = 1.0;

pub(super) struct Combined;

impl Policy for Combined {
    fn order(&self) -> Order {
        Order::AccessTime
    }

    fn judge(&self, entry: &Entry, now: f64) -> Verdict {
        if entry.expire_time - now < ABOUT_TO_EXPIRE_S {
            return Verdict::Evict;
        }
        let age = (now - entry.access_time).max(0.0);
        let weight = f64::from(entry.access_count) * (-age / HALF_LIFE_S).exp2();
        if weight >= WEIGHT_MIN { Verdict::Keep } else { Verdict::Evict }
    }
}
