//! Keys and tags: Python objects to engine keys and back.
//!
//! `str`, `bytes`, 64-bit `int` and `float` keys are what they are, without a copy; every other key is its optimized pickle, as
//! in python-diskcache. A disk class of its own decides itself, in Python, what the key is in the "database".

use crate::base::CacheBase;
use crate::disk;
use diskcache_core::format::key::{NumberKey, NumberValue};
use diskcache_core::format::{KeyClass, KeyRef, Number};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString};
use pyo3::{intern, types::PyBool};

/// A key that borrows from the Python object, or owns what was made of it.
pub(crate) enum KeyBuf<'a, 'py> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Number(NumberKey),
    Pickle(Bound<'py, PyBytes>),
    OwnedText(String),
    OwnedBytes(Vec<u8>),
    OwnedOpaque(Vec<u8>),
}

impl KeyBuf<'_, '_> {
    #[inline]
    pub(crate) fn as_ref(&self) -> KeyRef<'_> {
        match self {
            Self::Text(text) => KeyRef::text(text),
            Self::Bytes(bytes) => KeyRef::bytes(bytes),
            Self::Number(number) => number.as_ref(),
            Self::Pickle(bytes) => KeyRef::opaque(bytes.as_bytes()),
            Self::OwnedText(text) => KeyRef::text(text),
            Self::OwnedBytes(bytes) => KeyRef::bytes(bytes),
            Self::OwnedOpaque(bytes) => KeyRef::opaque(bytes),
        }
    }
}

/// Returns the engine's key for `object`.
#[inline]
pub(crate) fn encode<'a, 'py>(cache: &CacheBase, object: &'a Bound<'py, PyAny>) -> PyResult<KeyBuf<'a, 'py>> {
    if cache.keys_in_python() {
        return disk::put(cache, object);
    }
    match plain(object)? {
        Some(key) => Ok(key),
        None => pickled(cache, object),
    }
}

/// Returns the key that needs no pickle, if `object` is of such a type.
#[inline]
pub(crate) fn plain<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<Option<KeyBuf<'a, 'py>>> {
    if let Ok(text) = object.cast_exact::<PyString>() {
        return Ok(Some(KeyBuf::Text(text.to_str()?)));
    }
    if let Ok(number) = object.cast_exact::<PyInt>() {
        return Ok(number.extract::<i64>().ok().map(|number| KeyBuf::Number(NumberKey::int(number))));
    }
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(Some(KeyBuf::Bytes(bytes.as_bytes())));
    }
    if let Ok(number) = object.cast_exact::<PyFloat>() {
        return Ok(Some(KeyBuf::Number(NumberKey::float(number.value()))));
    }
    Ok(None)
}

#[cold]
fn pickled<'a, 'py>(cache: &CacheBase, object: &'a Bound<'py, PyAny>) -> PyResult<KeyBuf<'a, 'py>> {
    static OPTIMIZE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let data = disk::dumps(cache, object)?;
    let data = OPTIMIZE.import(py, "pickletools", "optimize")?.call1((data,))?;
    Ok(KeyBuf::Pickle(data.cast_into::<PyBytes>()?))
}

/// Returns the Python object for a key of the engine.
pub(crate) fn decode<'py>(cache: &CacheBase, py: Python<'py>, key: KeyRef<'_>) -> PyResult<Bound<'py, PyAny>> {
    if cache.keys_in_python() {
        return disk::get(cache, py, key);
    }
    match key.class {
        KeyClass::Opaque => disk::loads(py, key.bytes),
        _ => decode_plain(py, key),
    }
}

/// Returns the Python object for a key or a tag that is no pickle.
pub(crate) fn decode_plain<'py>(py: Python<'py>, key: KeyRef<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match key.class {
        KeyClass::Text => PyString::from_bytes(py, key.bytes)?.into_any(),
        KeyClass::Number => match key.number() {
            Some(NumberValue::Int(number)) => number.into_pyobject(py)?.into_any(),
            Some(NumberValue::Float(number)) => PyFloat::new(py, number).into_any(),
            None => py.None().into_bound(py),
        },
        KeyClass::Bytes | KeyClass::Opaque => PyBytes::new(py, key.bytes).into_any(),
    })
}

/// Returns the engine's tag for `tag`: text, bytes or a number.
pub(crate) fn tag<'a, 'py>(tag: Option<&'a Bound<'py, PyAny>>) -> PyResult<Option<KeyBuf<'a, 'py>>> {
    let Some(tag) = tag else { return Ok(None) };
    if let Some(key) = plain(tag)? {
        return Ok(Some(key));
    }
    if let Ok(truth) = tag.cast_exact::<PyBool>() {
        return Ok(Some(KeyBuf::Number(NumberKey::int(i64::from(truth.is_true())))));
    }
    if let Ok(text) = tag.cast::<PyString>() {
        return Ok(Some(KeyBuf::OwnedText(text.to_str()?.to_owned())));
    }
    if tag.is_instance_of::<PyInt>() {
        return Ok(Some(KeyBuf::Number(NumberKey::int(tag.extract()?))));
    }
    let name = tag.get_type().getattr(intern!(tag.py(), "__name__"))?;
    Err(PyTypeError::new_err(format!("a tag must be str, bytes, int, float or None, not {name}")))
}

/// A number argument of `incr`.
#[derive(Clone, Copy)]
pub(crate) struct Count(pub(crate) Number);

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyInt>() {
            let beyond = |_| PyOverflowError::new_err("the number does not fit into 64 bits");
            return Ok(Self(Number::Int(object.extract::<i64>().map_err(beyond)?)));
        }
        if object.is_instance_of::<PyFloat>() {
            return Ok(Self(Number::Float(object.extract::<f64>()?)));
        }
        let name = object.get_type().name()?;
        Err(PyTypeError::new_err(format!("can only count with int and float, not {name}")))
    }
}

impl<'py> IntoPyObject<'py> for Count {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        crate::value::number_object(py, self.0)
    }
}
