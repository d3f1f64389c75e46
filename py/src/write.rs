//! Changes of one key: `set`, `add`, `incr`, `touch`, `delete`, `pop`, and `push`.

use crate::base::CacheBase;
use crate::cache::Cache;
use crate::error::raised_by_count;
use crate::key::{self, Count, KeyBuf};
use crate::value::{self, Data, Plain};
use crate::{limit, read};
use diskcache_core::format::{KeyRef, Number};
use diskcache_core::{ErrorKind, Result};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// What comes with a value.
pub(crate) struct Extra<'t, 'py> {
    pub(crate) expire: Option<f64>,
    pub(crate) read: bool,
    pub(crate) tag: Option<&'t Bound<'py, PyAny>>,
    pub(crate) retry: bool,
}

/// Stores `value` under `key`.
#[inline]
pub(crate) fn set(
    cache: &CacheBase,
    py: Python<'_>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    extra: &Extra<'_, '_>,
) -> PyResult<()> {
    set_at(cache, py, (key, &key::encode(cache, key)?), value, extra)
}

/// As [`set`], of a key that is encoded already.
#[inline]
pub(crate) fn set_at(
    cache: &CacheBase,
    py: Python<'_>,
    (key, encoded): (&Bound<'_, PyAny>, &KeyBuf<'_, '_>),
    value: &Bound<'_, PyAny>,
    extra: &Extra<'_, '_>,
) -> PyResult<()> {
    let tag = key::tag(extra.tag)?;
    let data = value::encode(cache, value, extra.read, Some(key))?;
    let (key, tag, expire) = (encoded.as_ref(), tag.as_ref().map(KeyBuf::as_ref), extra.expire);
    let plain = data.plain();
    if matches!(plain, Plain::Reader(_)) {
        return cache.tidied(py, from_reader(cache, py, &data, |engine| plain.put(expire, tag, |put| engine.set(key, put))));
    }
    let store = || {
        cache.attempt(
            py,
            extra.retry,
            |engine| plain.put(expire, tag, |put| engine.try_set(key, put)),
            |engine| plain.put(expire, tag, |put| engine.set(key, put)),
        )
    };
    let len = if let Plain::Bytes(_, bytes) = plain { bytes.len() } else { 0 };
    let stored = if cache.limit.is_time_to_look(len) { limit::look(cache, py, key, store) } else { store() };
    cache.stored(py, std::slice::from_ref(&data), stored)
}

/// Calls a verb, again after a time-out if `retry`, but for one that reads a Python file: that was read.
fn in_full<T: Send>(
    cache: &CacheBase,
    py: Python<'_>,
    retry: bool,
    data: &Data<'_, '_>,
    verb: impl Fn(&Cache) -> Result<T> + Sync,
) -> PyResult<T> {
    match data {
        Data::Reader(_) => from_reader(cache, py, data, verb),
        _ => cache.call(py, retry, verb),
    }
}

/// Calls a verb that may read a Python file; never again after a failure, since the file was read.
fn from_reader<T: Send>(cache: &CacheBase, py: Python<'_>, data: &Data<'_, '_>, verb: impl Fn(&Cache) -> Result<T> + Sync) -> PyResult<T> {
    let stored = cache.call(py, false, verb);
    match data.raised() {
        Some(error) => Err(error),
        None => stored,
    }
}

/// Stores `value` unless `key` has one.
pub(crate) fn add(
    cache: &CacheBase,
    py: Python<'_>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    extra: &Extra<'_, '_>,
) -> PyResult<bool> {
    let encoded = key::encode(cache, key)?;
    let tag = key::tag(extra.tag)?;
    let data = value::encode(cache, value, extra.read, Some(key))?;
    let (key, tag, plain, expire) = (encoded.as_ref(), tag.as_ref().map(KeyBuf::as_ref), data.plain(), extra.expire);
    let verb = |engine: &Cache| plain.put(expire, tag, |put| engine.add(key, put));
    if matches!(plain, Plain::Reader(_)) {
        return cache.tidied(py, from_reader(cache, py, &data, verb));
    }
    let added = cache.attempt(py, extra.retry, |engine| plain.put(expire, tag, |put| engine.try_add(key, put)), verb);
    if matches!(added, Ok(false)) {
        cache.give_up(py, std::slice::from_ref(&data))?;
    }
    cache.stored(py, std::slice::from_ref(&data), added)
}

/// Adds `delta` to the number under `key`.
#[inline]
pub(crate) fn incr<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    key: &Bound<'py, PyAny>,
    delta: Number,
    default: Option<Count>,
    retry: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let encoded = key::encode(cache, key)?;
    let (name, default) = (encoded.as_ref(), default.map(|count| count.0));
    let is_beyond = AtomicBool::new(false);
    let sum = match cache.with_engine(|engine| engine.try_incr(name, delta, default)) {
        Some(Ok(crate::cache::Attempt::Done(sum))) => sum,
        _ => cache.call_with(
            py,
            retry,
            |engine| {
                engine.incr(name, delta, default).inspect_err(|error| {
                    // Both come as one kind: which it was is seen by what is stored.
                    is_beyond.store(error.kind() == ErrorKind::WrongType && can_count(engine, name), Ordering::Relaxed);
                })
            },
            |error| raised_by_count(error, is_beyond.load(Ordering::Relaxed)),
        )?,
    };
    cache.tidy_files(py, &[])?;
    match sum {
        Some(sum) => value::number_object(py, sum),
        None => Err(read::missing(key)),
    }
}

/// Returns whether there is a number, or nothing: then it is the sum that was refused.
fn can_count(engine: &Cache, key: KeyRef<'_>) -> bool {
    engine.get(key).is_ok_and(|value| value.is_none_or(|value| value.as_number().is_some()))
}

/// Returns `-delta`.
pub(crate) fn negated(delta: Number) -> PyResult<Number> {
    match delta {
        Number::Int(delta) => {
            delta.checked_neg().map(Number::Int).ok_or_else(|| PyOverflowError::new_err("the number does not fit into 64 bits"))
        }
        Number::Float(delta) => Ok(Number::Float(-delta)),
    }
}

/// Changes when `key` expires.
pub(crate) fn touch(cache: &CacheBase, py: Python<'_>, key: &Bound<'_, PyAny>, expire: Option<f64>, retry: bool) -> PyResult<bool> {
    let encoded = key::encode(cache, key)?;
    let name = encoded.as_ref();
    cache.attempt(py, retry, |engine| engine.try_touch(name, expire), |engine| engine.touch(name, expire))
}

/// Removes `key`.
#[inline]
pub(crate) fn delete(cache: &CacheBase, py: Python<'_>, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<bool> {
    let encoded = key::encode(cache, key)?;
    let name = encoded.as_ref();
    cache.tidied(py, cache.attempt(py, retry, |engine| engine.try_delete(name), |engine| engine.delete(name)))
}

/// Removes `key` and returns what it held.
pub(crate) fn pop<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    key: &Bound<'py, PyAny>,
    default: Option<Bound<'py, PyAny>>,
    wants: (bool, bool),
    retry: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let encoded = key::encode(cache, key)?;
    let name = encoded.as_ref();
    if let Some(hit) = cache.call(py, retry, |engine| engine.pop(name))? {
        let value = cache.tidied(py, read::hide_io(cache, py, value::decode(cache, py, &hit.value, false)))?;
        if let Some(value) = value {
            return read::with_extras(py, value, Some(&hit), wants);
        }
    }
    read::with_extras(py, default.unwrap_or_else(|| py.None().into_bound(py)), None, wants)
}

/// Adds to an end of a queue and returns the key.
pub(crate) fn push<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    queue: (Option<&str>, bool),
    extra: &Extra<'_, '_>,
) -> PyResult<Bound<'py, PyAny>> {
    let tag = key::tag(extra.tag)?;
    let data = value::encode(cache, value, extra.read, None)?;
    let (tag, plain, expire) = (tag.as_ref().map(KeyBuf::as_ref), data.plain(), extra.expire);
    let verb = |engine: &Cache| plain.put(expire, tag, |put| engine.push(queue.0, queue.1, put));
    let key = cache.stored(py, std::slice::from_ref(&data), in_full(cache, py, extra.retry, &data, verb))?;
    // As in python-diskcache, the keys of queues are the database's own: no disk object is asked.
    key::decode_plain(py, key.as_ref())
}
