//! Fault plans: what goes wrong, for whom, on which request, at which phase, how often; and the log of what did.
//!
//! * [`plan`]: a fault as a plan's file gives it, checked as it is read.
//! * [`injector`]: the plan at work: which fault meets which request, the counts and the log.
//!
//! Three numbers are kept for each fault: how often it *matched*, how often it *fired*, and how often that was *observable*,
//! meaning that a client could see it: an error, a stale or changed answer, a delay, lost bytes.

mod glob;
pub mod injector;
pub mod plan;

pub use glob::glob;
pub use injector::{FaultCount, Happened, Stage};
pub(super) use injector::{Fired, Injector};
pub use plan::{Apply, Fault, Plan};
