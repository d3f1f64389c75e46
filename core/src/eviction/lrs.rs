//! Least recently stored: first in, first out by the time of the last store. The default of python-diskcache.

use super::Policy;
use crate::index::Order;

pub(super) struct LeastRecentlyStored;

impl Policy for LeastRecentlyStored {
    fn order(&self) -> Order {
        Order::StoreTime
    }
}
