//! Reading past what this host has cached of a file: for bytes that turned out wrong.
//!
//! A bit that was flipped on the way from the server stays in the host's page cache, and reading again gives the same. Whoever checks
//! bytes and finds them wrong looks again within [`afresh`] before it believes them.

use std::cell::Cell;

thread_local! {
    static AFRESH: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`; what this thread reads meanwhile comes past the host's caches, as far as the drive allows. Slow.
pub fn afresh<T>(work: impl FnOnce() -> T) -> T {
    within(true, work)
}

/// The same if `wanted` says so, for jobs that another thread asked for.
pub fn within<T>(wanted: bool, work: impl FnOnce() -> T) -> T {
    let _restored = Restored(AFRESH.replace(wanted));
    work()
}

/// How often bytes are read past the caches before they are believed to be wrong: bits may flip on the way more than once.
const TRIES: u32 = 4;

/// Looks within [`afresh`], several times while `is_wrong` says so of what comes of it.
pub fn surely<T, E>(look: impl Fn() -> Result<T, E>, is_wrong: impl Fn(&E) -> bool) -> Result<T, E> {
    let mut found = afresh(&look);
    for _ in 1..TRIES {
        match &found {
            Err(error) if is_wrong(error) => found = afresh(&look),
            _ => break,
        }
    }
    found
}

/// Returns whether this thread reads past caches now.
#[must_use]
pub fn is_afresh() -> bool {
    AFRESH.get()
}

/// Puts the mark back, also when the work panics.
struct Restored(bool);

impl Drop for Restored {
    fn drop(&mut self) {
        AFRESH.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_ends_with_the_work_and_nests() {
        assert!(!is_afresh());
        afresh(|| {
            assert!(is_afresh());
            within(false, || assert!(!is_afresh()));
            assert!(is_afresh());
        });
        assert!(std::panic::catch_unwind(|| afresh(|| panic!("inside"))).is_err() && !is_afresh());
    }
}
