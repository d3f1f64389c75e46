//! The only reader of time: wall time for expiry, boot time for grace and deadlines.
//!
//! Wall time decides expiry alone, and only within the clocks' skew. Everything that protects data (grace, holds) is measured
//! on one host's `CLOCK_BOOTTIME`, which also counts while the machine sleeps.
#![expect(clippy::disallowed_methods, reason = "the door itself")]

use crate::sync::{Arc, AtomicU64, Ordering};
use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads time and waits.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns seconds since 1970 by this host's wall clock.
    fn wall(&self) -> f64;
    /// Returns the time since this machine started, sleep included.
    fn boot(&self) -> Duration;
    /// Waits.
    fn sleep(&self, span: Duration);
}

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsClock;

impl Clock for OsClock {
    fn wall(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
    }

    fn boot(&self) -> Duration {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
    }

    fn sleep(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

/// A clock that moves only when told to (or slept on); for tests and simulations. Clones share one time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    micros: Arc<AtomicU64>,
}

impl ManualClock {
    /// Moves time forward.
    pub fn advance(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> f64 {
        1.0e9 + Duration::from_micros(self.micros.load(Ordering::SeqCst)).as_secs_f64()
    }

    fn boot(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn sleep(&self, span: Duration) {
        self.advance(span);
    }
}

/// When a call must have ended, by boot time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// Never passes: for what cannot wait.
    pub const NEVER: Self = Self(Duration::MAX);

    /// Returns the deadline `span` from now.
    pub fn after(clock: &dyn Clock, span: Duration) -> Self {
        Self(clock.boot().saturating_add(span))
    }

    /// Returns the time that is left, or `None` once it has passed.
    pub fn left(self, clock: &dyn Clock) -> Option<Duration> {
        self.0.checked_sub(clock.boot()).filter(|left| !left.is_zero())
    }

    /// Returns whether it has passed.
    pub fn passed(self, clock: &dyn Clock) -> bool {
        self.left(clock).is_none()
    }
}
