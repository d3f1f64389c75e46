//! `FanoutBase`: the native base class of `diskcache_rs.FanoutCache`, which sends each key to one of its shards.
//!
//! A key's shard is its hash modulo the number of shards: the hash of `Disk.hash`, computed here as long as the disk class has not
//! one of its own. Where shards or hash are not the plain ones, the same goes through Python (`FanoutCache._shard`).

use crate::base::CacheBase;
use crate::error::Timeout;
use crate::key::{self, Count, KeyBuf};
use crate::{read, write};
use diskcache_core::format::Number;
use diskcache_core::format::key::NumberValue;
use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The native part of `FanoutCache`: the verbs of one key.
#[pyclass(module = "diskcache_rs._native", subclass, frozen)]
pub(crate) struct FanoutBase {
    shards: OnceLock<Vec<Py<CacheBase>>>,
    /// Whether keys go to `shards` by the hash that is computed here.
    is_native: AtomicBool,
}

type Object<'py> = Bound<'py, PyAny>;

impl FanoutBase {
    /// Returns the shard of `key` and the encoded key; `None` if Python has to say.
    #[inline]
    fn route<'a, 'py>(&'a self, key: &'a Object<'py>) -> PyResult<Option<(&'a CacheBase, KeyBuf<'a, 'py>)>> {
        let (true, Some(shards)) = (self.is_native.load(Ordering::Relaxed), self.shards.get()) else { return Ok(None) };
        let encoded = key::encode(shards[0].get(), key)?;
        let shard = usize::try_from(hash(&encoded)).unwrap_or(0) % shards.len();
        Ok(Some((shards[shard].get(), encoded)))
    }
}

/// Returns the hash of a key: that of python-diskcache.
#[inline]
fn hash(key: &KeyBuf<'_, '_>) -> u64 {
    let key = key.as_ref();
    match key.number() {
        Some(NumberValue::Int(number)) => number.rem_euclid(0xffff_ffff).unsigned_abs(),
        // As `struct.pack('!d', number)` has them.
        Some(NumberValue::Float(number)) => u64::from(adler32(&number.to_bits().swap_bytes().to_le_bytes())),
        None => u64::from(adler32(key.bytes)),
    }
}

/// Returns zlib's checksum of that name.
#[inline]
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    /// So many bytes cannot make the sums leave 32 bits.
    const CHUNK: usize = 5552;
    let (mut a, mut b) = (1, 0);
    for chunk in bytes.chunks(CHUNK) {
        for byte in chunk {
            a += u32::from(*byte);
            b += a;
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}

/// Calls a method of the shard that Python names.
#[cold]
fn foreign<'py>(slf: &Bound<'py, FanoutBase>, key: &Object<'py>, verb: &str, arguments: impl PyCallArgs<'py>) -> PyResult<Object<'py>> {
    slf.call_method1(intern!(slf.py(), "_shard"), (key,))?.getattr(verb)?.call1(arguments)
}

/// Returns `done`; after a time-out it is noted, and `lost` returned.
#[inline]
fn unless_late<'py, T>(slf: &Bound<'py, FanoutBase>, verb: &str, done: PyResult<T>, lost: impl FnOnce() -> T) -> PyResult<T> {
    match done {
        Err(error) if error.is_instance_of::<Timeout>(slf.py()) => {
            slf.call_method1(intern!(slf.py(), "_note_dropped"), (verb, error.value(slf.py())))?;
            Ok(lost())
        }
        done => done,
    }
}

#[pymethods]
impl FanoutBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    #[pyo3(text_signature = "(*args, **kwargs)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { shards: OnceLock::new(), is_native: AtomicBool::new(false) }
    }

    /// Takes the shards to send keys to; None: Python sends them.
    #[pyo3(signature = (shards))]
    fn _route(&self, py: Python<'_>, shards: Option<Vec<Py<CacheBase>>>) {
        let is_native = shards.is_some_and(|shards| {
            let first = self.shards.get_or_init(|| shards.iter().map(|shard| shard.clone_ref(py)).collect());
            !first.is_empty() && first.len() == shards.len() && first.iter().zip(&shards).all(|(a, b)| a.is(b))
        });
        self.is_native.store(is_native, Ordering::Relaxed);
    }

    /// Returns the value of `key`, or `default` if it is missing or expired, or if its shard did not answer in time (unless `retry`).
    ///
    /// With `expire_time` or `tag`, returns a tuple of the value and what was asked for. With `read`, a value of bytes comes as a
    /// binary file.
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache.get('a', 'nothing')
    /// 'nothing'
    /// >>> cache.set('a', 1, tag='numbers')
    /// True
    /// >>> cache.get('a', tag=True)
    /// (1, 'numbers')
    #[pyo3(signature = (key, default=None, read=false, expire_time=false, tag=false, retry=false))]
    #[expect(clippy::too_many_arguments, reason = "the signature of python-diskcache")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        key: &Object<'py>,
        default: Option<Object<'py>>,
        read: bool,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Object<'py>> {
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        let found = match slf.get().route(key)? {
            Some((shard, key)) if expire_time || tag => {
                read::get_full(shard, py, &key, Some(default.clone()), read, (expire_time, tag), retry)
            }
            Some((shard, key)) => match read::get_at(shard, py, &key, read, retry) {
                Ok(None) => return Ok(default),
                Ok(Some(value)) => return Ok(value),
                Err(error) => Err(error),
            },
            None => foreign(slf, key, "get", (key, &default, read, expire_time, tag, retry)),
        };
        unless_late(slf, "get", found, || default)
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, py: Python<'py>, key: &Object<'py>) -> PyResult<Object<'py>> {
        match slf.get().route(key)? {
            Some((shard, name)) => read::get_at(shard, py, &name, false, true)?.ok_or_else(|| read::missing(key)),
            None => foreign(slf, key, "__getitem__", (key,)),
        }
    }

    fn __contains__<'py>(slf: &Bound<'py, Self>, py: Python<'py>, key: &Object<'py>) -> PyResult<bool> {
        match slf.get().route(key)? {
            Some((shard, key)) => read::contains_at(shard, py, &key),
            None => foreign(slf, key, "__contains__", (key,))?.is_truthy(),
        }
    }

    /// Stores `value` under `key`, for `expire` seconds (for ever if None). Returns whether its shard did it in time; with `retry` it
    /// does.
    ///
    /// With `read`, `value` is a binary file, and what can be read from it is stored. `tag` is text, bytes or a number that `evict`
    /// finds it by.
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache.set('a', [1, 2], expire=60, tag='lists')
    /// True
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    #[expect(clippy::too_many_arguments, reason = "the signature of python-diskcache")]
    fn set<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        key: &Object<'py>,
        value: &Object<'py>,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Object<'py>>,
        retry: bool,
    ) -> PyResult<bool> {
        let done = match slf.get().route(key)? {
            Some((shard, name)) => write::set_at(shard, py, (key, &name), value, &write::Extra { expire, read, tag, retry }).map(|()| true),
            None => foreign(slf, key, "set", (key, value, expire, read, tag, retry)).and_then(|done| done.is_truthy()),
        };
        unless_late(slf, "set", done, || false)
    }

    fn __setitem__<'py>(slf: &Bound<'py, Self>, py: Python<'py>, key: &Object<'py>, value: &Object<'py>) -> PyResult<()> {
        match slf.get().route(key)? {
            Some((shard, name)) => {
                write::set_at(shard, py, (key, &name), value, &write::Extra { expire: None, read: false, tag: None, retry: true })
            }
            None => foreign(slf, key, "__setitem__", (key, value)).map(drop),
        }
    }

    /// Stores `value` under `key` unless the key has a value. Returns whether it was stored: of many that add at once, one does.
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache.add('a', 1), cache.add('a', 2)
    /// (True, False)
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    #[expect(clippy::too_many_arguments, reason = "the signature of python-diskcache")]
    fn add<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        key: &Object<'py>,
        value: &Object<'py>,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Object<'py>>,
        retry: bool,
    ) -> PyResult<bool> {
        let added = match slf.get().route(key)? {
            Some((shard, _)) => write::add(shard, py, key, value, &write::Extra { expire, read, tag, retry }),
            None => foreign(slf, key, "add", (key, value, expire, read, tag, retry)).and_then(|added| added.is_truthy()),
        };
        unless_late(slf, "add", added, || false)
    }

    /// Adds `delta` to the number under `key` and returns the sum; None if its shard did not do it in time (unless `retry`).
    ///
    /// A missing key counts from `default`; if that is None, `KeyError` is raised.
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache.incr('a'), cache.incr('a', 2)
    /// (1, 3)
    #[pyo3(signature = (key, delta=Count(Number::Int(1)), default=Some(Count(Number::Int(0))), retry=false))]
    #[pyo3(text_signature = "($self, key, delta=1, default=0, retry=False)")]
    fn incr<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        key: &Object<'py>,
        delta: Count,
        default: Option<Count>,
        retry: bool,
    ) -> PyResult<Object<'py>> {
        let sum = match slf.get().route(key)? {
            Some((shard, _)) => write::incr(shard, py, key, delta.0, default, retry),
            None => foreign(slf, key, "incr", (key, delta, default, retry)),
        };
        unless_late(slf, "incr", sum, || py.None().into_bound(py))
    }

    /// Subtracts `delta` from the number under `key` and returns the difference, as `incr` does with the opposite sign.
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache.decr('a', 2, default=10)
    /// 8
    #[pyo3(signature = (key, delta=Count(Number::Int(1)), default=Some(Count(Number::Int(0))), retry=false))]
    #[pyo3(text_signature = "($self, key, delta=1, default=0, retry=False)")]
    fn decr<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        key: &Object<'py>,
        delta: Count,
        default: Option<Count>,
        retry: bool,
    ) -> PyResult<Object<'py>> {
        let difference = match slf.get().route(key)? {
            Some((shard, _)) => write::incr(shard, py, key, write::negated(delta.0)?, default, retry),
            None => foreign(slf, key, "decr", (key, delta, default, retry)),
        };
        unless_late(slf, "decr", difference, || py.None().into_bound(py))
    }

    /// Lets `key` expire in `expire` seconds (never if None). Returns whether there was such a key, and its shard did it in time.
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache.touch('a', expire=60)
    /// False
    #[pyo3(signature = (key, expire=None, retry=false))]
    fn touch<'py>(slf: &Bound<'py, Self>, py: Python<'py>, key: &Object<'py>, expire: Option<f64>, retry: bool) -> PyResult<bool> {
        let touched = match slf.get().route(key)? {
            Some((shard, _)) => write::touch(shard, py, key, expire, retry),
            None => foreign(slf, key, "touch", (key, expire, retry)).and_then(|touched| touched.is_truthy()),
        };
        unless_late(slf, "touch", touched, || false)
    }

    /// Removes `key`. Returns whether there was such a key, and its shard did it in time.
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache['a'] = 1
    /// >>> cache.delete('a'), cache.delete('a')
    /// (True, False)
    #[pyo3(signature = (key, retry=false))]
    fn delete<'py>(slf: &Bound<'py, Self>, py: Python<'py>, key: &Object<'py>, retry: bool) -> PyResult<bool> {
        let deleted = match slf.get().route(key)? {
            Some((shard, _)) => write::delete(shard, py, key, retry),
            None => foreign(slf, key, "delete", (key, retry)).and_then(|deleted| deleted.is_truthy()),
        };
        unless_late(slf, "delete", deleted, || false)
    }

    fn __delitem__<'py>(slf: &Bound<'py, Self>, py: Python<'py>, key: &Object<'py>) -> PyResult<()> {
        match slf.get().route(key)? {
            Some((shard, _)) if write::delete(shard, py, key, true)? => Ok(()),
            Some(_) => Err(read::missing(key)),
            None => foreign(slf, key, "__delitem__", (key,)).map(drop),
        }
    }

    /// Removes `key` and returns its value, or `default` if it is missing or its shard did not do it in time (unless `retry`).
    ///
    /// >>> cache = FanoutCache()
    /// >>> cache.set('a', 1, tag='numbers')
    /// True
    /// >>> cache.pop('a', tag=True)
    /// (1, 'numbers')
    #[pyo3(signature = (key, default=None, expire_time=false, tag=false, retry=false))]
    fn pop<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        key: &Object<'py>,
        default: Option<Object<'py>>,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Object<'py>> {
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        let popped = match slf.get().route(key)? {
            Some((shard, _)) => write::pop(shard, py, key, Some(default.clone()), (expire_time, tag), retry),
            None => foreign(slf, key, "pop", (key, &default, expire_time, tag, retry)),
        };
        unless_late(slf, "pop", popped, || default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"text"), 73_859_526);
        assert_eq!(adler32(&[0xff; 100_000]), 0x149a_302c);
    }
}
