//! Least frequently used; of those read equally often, the oldest first. (A. V. Aho, P. J. Denning, J. D. Ullman, "Principles of optimal
//! page replacement", JACM 18(1), 1971: optimal where references are independent.)

use super::Policy;
use crate::index::Order;

pub(super) struct LeastFrequentlyUsed;

impl Policy for LeastFrequentlyUsed {
    fn order(&self) -> Order {
        Order::AccessCount
    }
}
