//! Which entries go when the cache is over its size limit. Pure: entries in, verdicts out; one policy per file.

mod combined;
mod lfu;
mod lrs;
mod lru;
mod sieve;
mod ttl;

use crate::cache::EvictionPolicy;
use crate::format::Entry;
use crate::index::Order;

/// What becomes of an entry that a policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes.
    Evict,
    /// It stays this time; its reads are forgotten.
    Spare,
    /// It stays.
    Keep,
}

/// An eviction policy.
pub(crate) trait Policy: Sync {
    /// The order in which entries are looked at.
    fn order(&self) -> Order;

    /// Says what becomes of the next one; `now` in seconds since 1970.
    fn judge(&self, _entry: &Entry, _now: f64) -> Verdict {
        Verdict::Evict
    }

    /// Returns whether the next eviction goes on where this one ended: right where an entry can never again come before that place.
    fn keeps_hand(&self) -> bool {
        false
    }
}

/// Returns the policy of that name, or `None` if nothing is ever evicted.
pub(crate) fn policy(policy: EvictionPolicy) -> Option<&'static dyn Policy> {
    match policy {
        EvictionPolicy::None => None,
        EvictionPolicy::LeastRecentlyStored => Some(&lrs::LeastRecentlyStored),
        EvictionPolicy::LeastRecentlyUsed => Some(&lru::LeastRecentlyUsed),
        EvictionPolicy::LeastFrequentlyUsed => Some(&lfu::LeastFrequentlyUsed),
        EvictionPolicy::TimeToLive => Some(&ttl::TimeToLive),
        EvictionPolicy::Combined => Some(&combined::Combined),
        EvictionPolicy::Sieve => Some(&sieve::Sieve),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(access_count: u32, access_time: f64, expire_time: f64) -> Entry {
        Entry { tombstone: false, access_count, access_time, expire_time, store_time: 0.0, ..Entry::tombstone(1) }
    }

    #[test]
    fn sieve_spares_what_was_read_since_the_hand_passed_and_evicts_the_rest() {
        assert_eq!(sieve::Sieve.judge(&entry(1, 0.0, f64::INFINITY), 1.0), Verdict::Spare);
        assert_eq!(sieve::Sieve.judge(&entry(0, 0.0, f64::INFINITY), 1.0), Verdict::Evict);
        assert!(sieve::Sieve.keeps_hand() && sieve::Sieve.order() == Order::Insertion);
    }

    #[test]
    fn combined_keeps_what_was_read_often_and_lately_and_evicts_what_was_not() {
        let now = 10_000.0;
        assert_eq!(combined::Combined.judge(&entry(50, now - 1.0, f64::INFINITY), now), Verdict::Keep);
        assert_eq!(combined::Combined.judge(&entry(0, 0.0, f64::INFINITY), now), Verdict::Evict);
        assert_eq!(combined::Combined.judge(&entry(50, now - 1.0, now + 0.5), now), Verdict::Evict, "as good as expired");
    }
}
