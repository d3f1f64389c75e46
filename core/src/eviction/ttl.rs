//! Time to live first: what would expire soonest anyway. Entries that never expire are not evicted. (As `volatile-ttl` in the Redis
//! manual's chapter on key eviction.)

use super::Policy;
use crate::index::Order;

pub(super) struct TimeToLive;

impl Policy for TimeToLive {
    fn order(&self) -> Order {
        Order::Expire
    }
}
