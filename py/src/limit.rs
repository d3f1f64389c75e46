//! Notices that entries are evicted because of a size limit that nobody chose, so that somebody is told.
//!
//! A store costs one count more. Now and then, by number and size of what was stored, one looks: rarely while the cache is far from
//! the limit, often when it is near, never again once it was said or a limit was set.

use crate::base::CacheBase;
use crate::cache::{Cache, Setting, Tuning};
use diskcache_core::Result;
use diskcache_core::format::KeyRef;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// Stores (a large value counts for several) between looks, far from the limit and near it.
const FAR: i64 = 1024;
const NEAR: i64 = 64;
const NEVER: i64 = i64::MAX;
/// Of the limit, in tenths: no cache evicts below it, since what it counts is no more than half as much again as its files.
const NEAR_TENTHS: u64 = 6;
/// A value counts once more for so many bytes (as a shift).
const SIZE_BITS: u32 = 16;

/// Counts down to the next look. Counts that threads lose against each other only delay it.
pub(crate) struct LimitWatch {
    left: AtomicI64,
    whole: OnceLock<Whole>,
}

/// A cache of several, whose default limit was divided among them.
pub(crate) struct Whole {
    pub(crate) directory: PathBuf,
    /// Of all together, and of each.
    pub(crate) limits: (u64, u64),
}

impl Default for LimitWatch {
    fn default() -> Self {
        Self { left: AtomicI64::new(FAR), whole: OnceLock::new() }
    }
}

impl LimitWatch {
    /// Counts one value of `len` bytes.
    #[inline]
    pub(crate) fn is_time_to_look(&self, len: usize) -> bool {
        let left = self.left.load(Ordering::Relaxed).saturating_sub(1 + i64::try_from(len >> SIZE_BITS).unwrap_or(FAR));
        self.left.store(left, Ordering::Relaxed);
        left <= 0
    }

    /// Says that the limit is a part of the default one of `whole`, though it is stored as if it had been chosen.
    pub(crate) fn is_part_of(&self, whole: Whole) {
        let _first_wins = self.whole.set(whole);
    }

    /// Returns the limit that nobody chose, if that is the one in force.
    fn default_limit(&self, stored: Option<&Setting>) -> Option<u64> {
        match (stored, self.whole.get()) {
            (None, _) => Some(Tuning::default().size_limit),
            (Some(Setting::Int(limit)), Some(whole)) => u64::try_from(*limit).ok().filter(|limit| *limit == whole.limits.1),
            _ => None,
        }
    }

    fn look_again_after(&self, stores: i64) {
        self.left.store(stores, Ordering::Relaxed);
    }
}

/// What there was to see before a store.
enum Seen {
    /// The next look is due after so many stores.
    Nothing(i64),
    /// How many entries there will be, unless some are evicted.
    Expects(u64),
}

/// Stores, and warns if that evicted something because of the default limit.
#[cold]
pub(crate) fn look(cache: &CacheBase, py: Python<'_>, key: KeyRef<'_>, store: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    // What fails here fails in the store too, which says so.
    let seen = cache.call(py, false, |engine| before(&cache.limit, engine, key)).unwrap_or(Seen::Nothing(FAR));
    cache.limit.look_again_after(if let Seen::Nothing(stores) = seen { stores } else { NEAR });
    store()?;
    if let Seen::Expects(expected) = seen
        && cache.call(py, false, Cache::len).is_ok_and(|count| count < expected)
    {
        cache.limit.look_again_after(NEVER);
        let (directory, limit) = match cache.limit.whole.get() {
            Some(whole) => (Some(whole.directory.as_path()), whole.limits.0),
            None => (cache.directory(), Tuning::default().size_limit),
        };
        py.import("diskcache_rs._limit")?.call_method1("warn", (directory, limit))?;
    }
    Ok(())
}

fn before(watch: &LimitWatch, engine: &Cache, key: KeyRef<'_>) -> Result<Seen> {
    if engine.in_transaction() {
        return Ok(Seen::Nothing(NEAR));
    }
    let Some(limit) = watch.default_limit(engine.setting("size_limit")?.as_ref()) else { return Ok(Seen::Nothing(FAR * FAR)) };
    if engine.volume()? < limit / 10 * NEAR_TENTHS {
        return Ok(Seen::Nothing(FAR));
    }
    // What goes with the store is then not what expired.
    engine.expire(None)?;
    Ok(Seen::Expects(engine.len()? + u64::from(!engine.contains(key)?)))
}
