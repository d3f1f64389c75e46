//! The engine broken on purpose, each time in one way, for the checks of what engines lose: a check that does not notice is worth nothing.
//!
//! Only with the cargo feature `mutants` can a way be chosen; without it every hook is `false` at compile time. A way is the whole
//! program's, so one at a time.

/// A way to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A staged commit is closed without an fsync.
    SkipFsync,
    /// What close says of a staged commit is not looked at.
    IgnoreCloseError,
    /// The bytes of values are believed as they come.
    SkipChecksum,
    /// A commit is acknowledged when it has its name; the bell is rung with the next call.
    AckBeforeRing,
    /// Whether the commit before the one that was won is still there is not asked.
    SkipPredecessor,
    /// A `link` whose outcome is not known counts as one that failed: the operation is tried afresh, and what was tried before is forgotten.
    RetryBeforeSettling,
    /// A commit gets its name by a rename, which replaces.
    PublishByRename,
    /// What a published fold made needless is removed at once.
    CollectWithoutGrace,
    /// An fsync that failed is made again, and believed then.
    RetryFailedFsync,
}

/// Every way, in order.
pub const ALL: [Mutant; 9] = [
    Mutant::SkipFsync,
    Mutant::IgnoreCloseError,
    Mutant::SkipChecksum,
    Mutant::AckBeforeRing,
    Mutant::SkipPredecessor,
    Mutant::RetryBeforeSettling,
    Mutant::PublishByRename,
    Mutant::CollectWithoutGrace,
    Mutant::RetryFailedFsync,
];

impl Mutant {
    /// Returns its name for command lines and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipFsync => "skip-fsync",
            Self::IgnoreCloseError => "ignore-close-error",
            Self::SkipChecksum => "skip-checksum",
            Self::AckBeforeRing => "ack-before-ring",
            Self::SkipPredecessor => "skip-predecessor",
            Self::RetryBeforeSettling => "retry-before-settling",
            Self::PublishByRename => "publish-by-rename",
            Self::CollectWithoutGrace => "collect-without-grace",
            Self::RetryFailedFsync => "retry-failed-fsync",
        }
    }
}

#[cfg(feature = "mutants")]
mod chosen {
    use super::{ALL, Mutant};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// One more than the place in [`ALL`]; 0 is the sound engine.
    static CHOSEN: AtomicUsize = AtomicUsize::new(0);

    /// Breaks every engine of this program in one way, or none.
    pub fn choose(mutant: Option<Mutant>) {
        let place = mutant.and_then(|mutant| ALL.iter().position(|&it| it == mutant));
        CHOSEN.store(place.map_or(0, |place| place + 1), Ordering::SeqCst);
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        CHOSEN.load(Ordering::SeqCst).checked_sub(1).and_then(|place| ALL.get(place)) == Some(&mutant)
    }
}

#[cfg(feature = "mutants")]
pub use chosen::choose;
#[cfg(feature = "mutants")]
pub(crate) use chosen::is;

/// Whether the engine is broken in a way.
#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}
