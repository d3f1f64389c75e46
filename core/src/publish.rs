//! The steps by which threads and processes tell each other that something is there: the order of memory is decided here alone.
//!
//! Small on purpose: `tests/loom.rs` includes this very file and tries every interleaving of it.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Publishes every byte before `end`; all of them were written before.
#[inline]
pub(crate) fn publish(word: &AtomicU64, end: u64) {
    word.store(end, Ordering::Release);
}

/// Returns the published end; every byte before it may be read.
#[inline]
pub(crate) fn published(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

/// How far the state of this process has come in the log.
#[derive(Debug, Default)]
pub(crate) struct Replayed(AtomicU64);

impl Replayed {
    /// Says that the state has everything before `position`. It has by then: this comes after, or while the state is still locked.
    #[inline]
    pub(crate) fn reached(&self, position: u64) {
        self.0.store(position, Ordering::Release);
    }

    /// Returns the position; a state that is locked after this has everything before it.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Returns whether the state has everything that is published.
    #[inline]
    pub(crate) fn has_all(&self, end: impl FnOnce() -> u64) -> bool {
        end() == self.position()
    }
}

/// Lets one thread of this process at a time go on to the lock that processes share, and to what it guards.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    taken: AtomicBool,
}

impl Gate {
    /// Enters, unless another thread is inside.
    #[inline]
    pub(crate) fn try_enter(&self) -> bool {
        !self.taken.swap(true, Ordering::Acquire)
    }

    /// Leaves; the next one sees all that was done inside.
    #[inline]
    pub(crate) fn leave(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// Returns whether somebody is inside.
    #[inline]
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}
