//! Comparisons with other caches: the same operations on the engine itself ([`rust`]) and on what Python programs use ([`python`]).
//!
//! `python/bench` beside this crate holds the rivals, and measures by itself what criterion does not: many processes, tails, space.

pub mod python;
pub mod rust;

use std::fmt;
use std::time::Duration;

/// What is measured. The figures of `Iterate` are those of one key, of `Bulk` those of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A look-up that finds its key.
    GetHit,
    /// A look-up that does not.
    GetMiss,
    /// Storing under a key that is not there.
    SetNew,
    /// Storing under a key that is.
    Overwrite,
    /// Removing a key.
    Delete,
    /// Adding one to a number.
    Incr,
    /// Putting an item at the end of a queue.
    Push,
    /// Taking the first item of a queue.
    Pull,
    /// Walking over all keys.
    Iterate,
    /// Storing a thousand items by one call.
    Bulk,
    /// Opening, with one look-up.
    Open,
}

impl Operation {
    /// All that are measured at every size of value.
    pub const AT_EVERY_SIZE: [Self; 10] = [
        Self::GetHit,
        Self::GetMiss,
        Self::SetNew,
        Self::Overwrite,
        Self::Delete,
        Self::Incr,
        Self::Push,
        Self::Pull,
        Self::Iterate,
        Self::Bulk,
    ];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetHit => "get hit",
            Self::GetMiss => "get miss",
            Self::SetNew => "set new",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
            Self::Incr => "incr",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Iterate => "iterate",
            Self::Bulk => "bulk set",
            Self::Open => "open",
        }
    }

    /// Returns whether its figure depends on how large values are.
    #[must_use]
    pub const fn depends_on_size(self) -> bool {
        !matches!(self, Self::GetMiss | Self::Incr | Self::Iterate)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An operation did not do what it was asked for: what was measured means nothing.
#[derive(Debug)]
pub struct Failed(pub String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// An open cache, filled, and ready for every operation in any order.
pub trait Subject {
    /// Does it that often, and returns how long that took without what it needs beforehand.
    ///
    /// # Errors
    /// [`Failed`] if one of them did not succeed.
    fn time(&mut self, operation: Operation, times: u64) -> Result<Duration, Failed>;
}

/// Returns how many entries a store holds: ten thousand, or as many values as make 64 MiB.
#[must_use]
pub const fn entries_of(size: usize) -> u64 {
    let fit = (64 << 20) / size as u64;
    if fit > 10_000 { 10_000 } else { fit }
}
