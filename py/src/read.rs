//! Lookups: `get`, `[]`, `in`, `read`.

use crate::base::CacheBase;
use crate::cache::{Attempt, Got, Hit, Value};
use crate::file::ValueFile;
use crate::key::KeyBuf;
use crate::{key, value};
use diskcache_core::format::KeyRef;
use pyo3::exceptions::{PyKeyError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// How often a value is looked up whose bytes are gone when they are read: it was replaced meanwhile, or it is damaged.
const LOOKUPS_MAX: u32 = 4;

/// Returns the value of `key`, or `None` if it is missing.
#[inline]
pub(crate) fn get<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    key: &Bound<'py, PyAny>,
    read: bool,
    retry: bool,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    get_at(cache, py, &key::encode(cache, key)?, read, retry)
}

/// As [`get`], of a key that is encoded already.
#[inline]
pub(crate) fn get_at<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    key: &KeyBuf<'_, 'py>,
    read: bool,
    retry: bool,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let name = key.as_ref();
    if !read && !cache.values_in_python() {
        match cache.with_engine(|engine| engine.try_get_with(name, |kind, bytes| value::short(py, kind, bytes))) {
            Some(Ok(Attempt::Done(None))) => return Ok(None),
            Some(Ok(Attempt::Done(Some(Got::Made(made))))) => return value::loaded(py, made).map(Some),
            Some(Ok(Attempt::Done(Some(Got::Value(found))))) => {
                if let Some(value) = value::decode(cache, py, &found, read)? {
                    return Ok(Some(value));
                }
            }
            // What fails now fails again for the call that may wait, and is said there.
            _ => {}
        }
    }
    get_slowly(cache, py, name, read, retry)
}

/// As [`get_at`], where the value may have to be waited for or may go while it is read.
fn get_slowly<'py>(cache: &CacheBase, py: Python<'py>, name: KeyRef<'_>, read: bool, retry: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    for _ in 0..LOOKUPS_MAX {
        let found: Option<Value> = cache.attempt(py, retry, |engine| engine.try_get(name), |engine| engine.get(name))?;
        let Some(found) = found else { return Ok(None) };
        if let Some(value) = hide_io(cache, py, value::decode(cache, py, &found, read))? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Returns what [`get`] would, if neither the engine nor a disk object has to wait for it.
pub(crate) fn try_get<'py>(cache: &CacheBase, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<Option<Bound<'py, PyAny>>>> {
    if cache.keys_in_python() || cache.values_in_python() {
        return Ok(None);
    }
    let encoded = key::encode(cache, key)?;
    match cache.with_engine(|engine| engine.try_get(encoded.as_ref())) {
        Some(Ok(Attempt::Done(Some(found)))) => Ok(value::decode(cache, py, &found, false)?.map(Some)),
        Some(Ok(Attempt::Done(None))) => Ok(Some(None)),
        // What fails now fails again for the caller that may wait, and is said there.
        _ => Ok(None),
    }
}

/// Returns the value with its expiry time, its tag or both, or `default` in their place.
pub(crate) fn get_full<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    key: &KeyBuf<'_, 'py>,
    default: Option<Bound<'py, PyAny>>,
    read: bool,
    wants: (bool, bool),
    retry: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let name = key.as_ref();
    for _ in 0..LOOKUPS_MAX {
        let found: Option<Hit> = cache.call(py, retry, |engine| engine.get_full(name))?;
        let Some(hit) = found else { break };
        if let Some(value) = hide_io(cache, py, value::decode(cache, py, &hit.value, read))? {
            return with_extras(py, value, Some(&hit), wants);
        }
    }
    with_extras(py, default.unwrap_or_else(|| py.None().into_bound(py)), None, wants)
}

/// Returns `value`, or a tuple of it with what `wants` says: (expiry time, tag).
pub(crate) fn with_extras<'py>(
    py: Python<'py>,
    value: Bound<'py, PyAny>,
    hit: Option<&Hit>,
    wants: (bool, bool),
) -> PyResult<Bound<'py, PyAny>> {
    if wants == (false, false) {
        return Ok(value);
    }
    let mut parts = vec![value];
    if wants.0 {
        parts.push(hit.and_then(|hit| hit.expire).into_pyobject(py)?);
    }
    if wants.1 {
        parts.push(match hit.and_then(|hit| hit.tag.as_ref()) {
            Some(tag) => key::decode_plain(py, tag.as_ref())?,
            None => py.None().into_bound(py),
        });
    }
    Ok(PyTuple::new(py, parts)?.into_any())
}

/// Takes an `OSError` of a disk object's `fetch` for a value that was removed after it was found, as python-diskcache does.
pub(crate) fn hide_io<'py>(
    cache: &CacheBase,
    py: Python<'py>,
    decoded: PyResult<Option<Bound<'py, PyAny>>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match decoded {
        Err(error) if (cache.values_in_python() || cache.beside.has_files()) && error.is_instance_of::<PyOSError>(py) => Ok(None),
        decoded => decoded,
    }
}

/// Returns whether `key` has a value.
#[inline]
pub(crate) fn contains(cache: &CacheBase, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    contains_at(cache, py, &key::encode(cache, key)?)
}

/// As [`contains`], of a key that is encoded already.
#[inline]
pub(crate) fn contains_at(cache: &CacheBase, py: Python<'_>, key: &KeyBuf<'_, '_>) -> PyResult<bool> {
    let name = key.as_ref();
    cache.attempt(py, true, |engine| engine.try_contains(name), |engine| engine.contains(name))
}

/// Opens the value of `key` as a file.
pub(crate) fn reader(cache: &CacheBase, py: Python<'_>, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<Option<ValueFile>> {
    let encoded = key::encode(cache, key)?;
    let name = encoded.as_ref();
    let found = cache.call(py, retry, |engine| engine.get(name))?;
    found.map(|value| ValueFile::new(py, &value)).transpose()
}

/// Returns the `KeyError` of a missing key.
#[cold]
pub(crate) fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}
