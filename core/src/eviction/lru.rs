//! Least recently used: P. J. Denning, "The working set model for program behavior", CACM 11(5), 1968, describes why it works.

use super::Policy;
use crate::index::Order;

pub(super) struct LeastRecentlyUsed;

impl Policy for LeastRecentlyUsed {
    fn order(&self) -> Order {
        Order::AccessTime
    }
}
