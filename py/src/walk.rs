//! Walks and sweeps: queues from either end, iteration of the keys, eviction by tag, `check`.

use crate::base::CacheBase;
use crate::cache::{Hit, KeyOrder, Keys};
use crate::{disk, key, read, value};
use diskcache_core::format::Key;
use diskcache_core::format::key::NumberValue;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many keys are fetched at once: few at first, since many walks end soon.
const BATCH_FIRST: usize = 16;
const BATCH_MAX: usize = 256;

/// `((key, value), expire_time, tag)`.
pub(crate) type Item<'py> = ((Bound<'py, PyAny>, Bound<'py, PyAny>), Option<f64>, Option<Bound<'py, PyAny>>);
/// `(path, what, fixed)`.
pub(crate) type Finding = (PathBuf, String, bool);

/// Takes from an end of a queue.
pub(crate) fn pull<'py>(cache: &CacheBase, py: Python<'py>, prefix: Option<&str>, front: bool, retry: bool) -> PyResult<Option<Item<'py>>> {
    // An item whose value is gone counts as taken: the next one follows.
    while let Some(hit) = cache.call(py, retry, |engine| engine.pull(prefix, front))? {
        let value = cache.tidied(py, read::hide_io(cache, py, value::decode(cache, py, &hit.value, false)))?;
        if let Some(value) = value {
            let key = key::decode_plain(py, hit.key.as_ref())?;
            return item(py, key, value, &hit).map(Some);
        }
    }
    Ok(None)
}

/// Looks at an end of a queue.
pub(crate) fn peek<'py>(cache: &CacheBase, py: Python<'py>, prefix: Option<&str>, front: bool, retry: bool) -> PyResult<Option<Item<'py>>> {
    looked(
        cache,
        py,
        || peeked(cache, py, prefix, front, retry),
        |hit, value| item(py, key::decode_plain(py, hit.key.as_ref())?, value, hit),
    )
}

/// Looks at the value at an end of the queue None.
pub(crate) fn peek_value<'py>(cache: &CacheBase, py: Python<'py>, front: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    looked(cache, py, || peeked(cache, py, None, front, true), |_, value| Ok(value))
}

fn peeked(cache: &CacheBase, py: Python<'_>, prefix: Option<&str>, front: bool, retry: bool) -> PyResult<Option<Hit>> {
    cache.attempt(py, retry, |engine| engine.try_peek(prefix, front), |engine| engine.peek(prefix, front))
}

/// Returns the key at `index` of a cache whose keys are integers without a gap, as those of the queue None are unless something was
/// removed within; `None` if they are not, or there is no such index: then the keys have to be walked.
pub(crate) fn queue_key(cache: &CacheBase, py: Python<'_>, index: i64) -> PyResult<Option<i64>> {
    cache.call(py, true, |engine| {
        let end = |reverse| {
            let mut keys = engine.keys(KeyOrder::Key, reverse);
            let key = engine.next_keys(&mut keys, 1)?.pop();
            Ok(key.and_then(|key| match key.as_ref().number() {
                Some(NumberValue::Int(number)) => Some(number),
                _ => None,
            }))
        };
        let (Some(first), Some(last), len) = (end(false)?, end(true)?, engine.len()?) else { return Ok(None) };
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let is_whole = last.checked_sub(first).is_some_and(|distance| distance == len - 1);
        let place = if index < 0 { index.saturating_add(len) } else { index };
        Ok((is_whole && (0..len).contains(&place)).then(|| first + place))
    })
}

/// Looks at the item that was inserted last or first.
pub(crate) fn peekitem<'py>(cache: &CacheBase, py: Python<'py>, last: bool, retry: bool) -> PyResult<Option<Item<'py>>> {
    looked(
        cache,
        py,
        || cache.call(py, retry, |engine| engine.peekitem(last)),
        |hit, value| item(py, key::decode(cache, py, hit.key.as_ref())?, value, hit),
    )
}

/// Takes the item that was inserted last or first.
pub(crate) fn popitem<'py>(cache: &CacheBase, py: Python<'py>, last: bool, retry: bool) -> PyResult<Option<Item<'py>>> {
    loop {
        let hit = cache.transacted(py, retry, |engine| match engine.peekitem(last)? {
            // An item whose value is gone counts as taken: the next one follows.
            Some(hit) => engine.pop(hit.key.as_ref()).map(|popped| Some(popped.unwrap_or(hit))),
            None => Ok(None),
        })?;
        let Some(hit) = hit else { return Ok(None) };
        let value = cache.tidied(py, read::hide_io(cache, py, value::decode(cache, py, &hit.value, false)))?;
        if let Some(value) = value {
            let key = key::decode(cache, py, hit.key.as_ref())?;
            return item(py, key, value, &hit).map(Some);
        }
    }
}

/// Makes something of what `look` finds, and of its value; looks again if that is gone when it is read.
fn looked<'py, T>(
    cache: &CacheBase,
    py: Python<'py>,
    look: impl Fn() -> PyResult<Option<Hit>>,
    make: impl Fn(&Hit, Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    const LOOKS_MAX: u32 = 16;
    for _ in 0..LOOKS_MAX {
        // What expired before it was removed.
        let Some(hit) = cache.tidied(py, look())? else { return Ok(None) };
        if let Some(value) = read::hide_io(cache, py, value::decode(cache, py, &hit.value, false))? {
            return make(&hit, value).map(Some);
        }
    }
    Ok(None)
}

fn item<'py>(py: Python<'py>, key: Bound<'py, PyAny>, value: Bound<'py, PyAny>, hit: &Hit) -> PyResult<Item<'py>> {
    let tag = hit.tag.as_ref().map(|tag| key::decode_plain(py, tag.as_ref())).transpose()?;
    Ok(((key, value), hit.expire, tag))
}

/// Removes what is tagged with `tag`; nothing is tagged with None.
pub(crate) fn evict(cache: &CacheBase, py: Python<'_>, tag: Option<&Bound<'_, PyAny>>, retry: bool) -> PyResult<u64> {
    match key::tag(tag)? {
        Some(tag) => {
            let tag = tag.as_ref();
            cache.tidied(py, cache.call(py, retry, |engine| engine.evict(tag)))
        }
        None => Ok(0),
    }
}

/// Returns the keys whose values lie in files of the disk object, each with the name of its file.
pub(crate) fn own_files<'py>(cache: &CacheBase, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, String)>> {
    let mut found = Vec::new();
    if !cache.beside.has_files() {
        return Ok(found);
    }
    let mut walk = cache.call(py, true, |engine| Ok(engine.keys(KeyOrder::Insertion, false)))?;
    loop {
        let (keys, next) = cache.call(py, true, |engine| {
            let mut next = walk.clone();
            engine.next_keys(&mut next, BATCH_MAX).map(|keys| (keys, next))
        })?;
        if keys.is_empty() {
            return Ok(found);
        }
        walk = next;
        for key in keys {
            let name = key.as_ref();
            let Some(hit) = cache.call(py, true, |engine| engine.get_full(name))? else { continue };
            if let Some(row) = value::row(py, &hit.value)?
                && let Some(file) = disk::filename(&row)
            {
                found.push((key::decode(cache, py, name)?, file.to_owned()));
            }
        }
    }
}

/// Checks the directory.
pub(crate) fn check(cache: &CacheBase, py: Python<'_>, fix: bool, retry: bool) -> PyResult<Vec<Finding>> {
    let report = cache.call(py, retry, |engine| engine.check(fix))?;
    Ok(report.problems.into_iter().map(|problem| (problem.path, problem.what, problem.fixed)).collect())
}

/// Iterates keys in batches. In the order of insertion it ends where the last key was when it began, whatever is added meanwhile.
#[pyclass(module = "diskcache_rs._native", frozen)]
pub(crate) struct KeyIterator {
    cache: Py<CacheBase>,
    state: Mutex<Walk>,
}

struct Walk {
    /// How many keys the next batch has.
    room: usize,
    batch: std::vec::IntoIter<Key>,
    keys: Keys,
    /// The key that was last when the walk began, and how many there were: it ends at the one, and after the other at the latest.
    last: Option<Key>,
    left: u64,
}

impl KeyIterator {
    /// Starts a walk.
    pub(crate) fn new(cache: &Bound<'_, CacheBase>, py: Python<'_>, sorted: bool, reverse: bool) -> PyResult<Self> {
        let order = if sorted { KeyOrder::Key } else { KeyOrder::Insertion };
        let native = cache.get();
        let (keys, last, left) = native.call(py, true, |engine| {
            let mut backward = engine.keys(order, true);
            let follows_additions = !sorted && !reverse;
            let last = if follows_additions { engine.next_keys(&mut backward, 1)?.pop() } else { None };
            let left = if follows_additions { engine.len()? } else { u64::MAX };
            Ok((engine.keys(order, reverse), last, left))
        })?;
        let walk = Walk { room: BATCH_FIRST, batch: Vec::new().into_iter(), keys, last, left };
        Ok(Self { cache: cache.clone().unbind(), state: Mutex::new(walk) })
    }

    fn next_key(&self, py: Python<'_>) -> PyResult<Option<Key>> {
        let (keys, room) = {
            let mut walk = self.lock();
            if walk.left == 0 {
                return Ok(None);
            }
            if let Some(key) = walk.take() {
                return Ok(Some(key));
            }
            let room = walk.room;
            walk.room = (room * 4).min(BATCH_MAX);
            (walk.keys.clone(), room)
        };
        // The engine is asked without the lock, since another thread may wait for that with the interpreter.
        let (batch, keys) = self.cache.get().call(py, true, |engine| {
            let mut keys = keys.clone();
            engine.next_keys(&mut keys, room).map(|batch| (batch, keys))
        })?;
        let mut walk = self.lock();
        walk.batch = batch.into_iter();
        walk.keys = keys;
        Ok(walk.take())
    }

    fn lock(&self) -> MutexGuard<'_, Walk> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Walk {
    fn take(&mut self) -> Option<Key> {
        let key = self.batch.next()?;
        self.left = if self.last.as_ref() == Some(&key) { 0 } else { self.left - 1 };
        Some(key)
    }
}

#[pymethods]
impl KeyIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next_key(py)? {
            Some(key) => key::decode(self.cache.get(), py, key.as_ref()).map(Some),
            None => Ok(None),
        }
    }
}
