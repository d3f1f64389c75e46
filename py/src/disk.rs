//! What a disk object does in Python: pickles, and the verbs of a `Disk` subclass with the arguments that python-diskcache gives.
//!
//! A subclass sees keys as `(key, raw)` and values as `(size, mode, filename, value)`. Rows that the engine has a kind for are
//! stored as that kind, so they can be counted with and read by anybody; all others as one opaque row:
//!
//! ```text
//! row   := mode(i64) size(i64) has-filename(u8) [len(u32) filename] field
//! field := 0 | 1 i64 | 2 f64 | 3 utf-8 | 4 bytes
//! ```

use crate::base::CacheBase;
use crate::key::{self, KeyBuf};
use crate::value::{Data, PyReader};
use diskcache_core::format::key::NumberKey;
use diskcache_core::format::{KeyClass, KeyRef, ValueKind};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyString};
use std::path::Path;

/// Stored as a database field of its own type.
pub(crate) const MODE_RAW: i64 = 1;
/// Stored as a file of bytes.
pub(crate) const MODE_BINARY: i64 = 2;
/// Stored as a file of text.
pub(crate) const MODE_TEXT: i64 = 3;
/// Stored as a pickle.
pub(crate) const MODE_PICKLE: i64 = 4;

/// First byte of an opaque key that is no pickle (whose first byte is 0x80 or printable).
const ESCAPE: u8 = 0xff;

/// Returns whether somebody put an `open` of their own into `diskcache_rs.core`: `Disk` then opens the files of values with it, as that of
/// python-diskcache does, and so large values go through `Disk`.
pub(crate) fn has_open(py: Python<'_>) -> bool {
    static NAMES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let names = NAMES.get_or_try_init(py, || py.import("diskcache_rs.core").map(|core| core.dict().unbind()));
    names.is_ok_and(|names| names.bind(py).contains(intern!(py, "open")).unwrap_or(false))
}

/// Pickles `object` by the protocol of the disk object.
pub(crate) fn dumps<'py>(cache: &CacheBase, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let protocol = cache.disk(py)?.getattr(intern!(py, "pickle_protocol"))?;
    DUMPS.import(py, "pickle", "dumps")?.call1((object, protocol))
}

/// Loads a pickle.
pub(crate) fn loads<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    loads_bytes(py, PyBytes::new(py, bytes))
}

/// As [`loads`], of bytes that are Python's already.
pub(crate) fn loads_bytes<'py>(py: Python<'py>, bytes: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "pickle", "loads")?.call1((bytes,))
}

/// Asks the disk object for the database key of `object`.
pub(crate) fn put<'a, 'py>(cache: &CacheBase, object: &'a Bound<'py, PyAny>) -> PyResult<KeyBuf<'a, 'py>> {
    let py = object.py();
    let (field, raw): (Bound<'py, PyAny>, Bound<'py, PyAny>) = cache.disk(py)?.call_method1(intern!(py, "put"), (object,))?.extract()?;
    let raw = raw.is_truthy()?;
    if let Ok(text) = field.cast::<PyString>() {
        let text = text.to_str()?;
        return Ok(if raw { KeyBuf::OwnedText(text.to_owned()) } else { KeyBuf::OwnedOpaque(escaped(3, text.as_bytes())) });
    }
    if field.is_instance_of::<PyInt>() {
        let number = NumberKey::int(field.extract()?);
        return Ok(if raw { KeyBuf::Number(number) } else { KeyBuf::OwnedOpaque(escaped(1, number.as_ref().bytes)) });
    }
    if field.is_instance_of::<PyFloat>() {
        let number = NumberKey::float(field.extract()?);
        return Ok(if raw { KeyBuf::Number(number) } else { KeyBuf::OwnedOpaque(escaped(2, number.as_ref().bytes)) });
    }
    let bytes = bytes_of(&field, "the key that Disk.put returns")?;
    Ok(match (raw, bytes.first()) {
        (true, _) => KeyBuf::OwnedBytes(bytes),
        (false, Some(&ESCAPE)) => KeyBuf::OwnedOpaque(escaped(4, &bytes)),
        (false, _) => KeyBuf::OwnedOpaque(bytes),
    })
}

fn escaped(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![ESCAPE, kind];
    out.extend_from_slice(bytes);
    out
}

/// Asks the disk object for the key that a database key stands for.
pub(crate) fn get<'py>(cache: &CacheBase, py: Python<'py>, key: KeyRef<'_>) -> PyResult<Bound<'py, PyAny>> {
    let raw = key.class != KeyClass::Opaque;
    let field = match (raw, key.bytes) {
        (true, _) => key::decode_plain(py, key)?,
        (false, [ESCAPE, 3, text @ ..]) => PyString::from_bytes(py, text)?.into_any(),
        (false, [ESCAPE, kind @ (1 | 2), bytes @ ..]) => {
            let tag = KeyClass::Number as u8 | (*kind - 1) << 4;
            let number = KeyRef::from_tag_byte(tag, bytes).map_err(|_| PyValueError::new_err("a malformed key"))?;
            key::decode_plain(py, number)?
        }
        (false, [ESCAPE, 4, bytes @ ..]) => PyBytes::new(py, bytes).into_any(),
        (false, bytes) => PyBytes::new(py, bytes).into_any(),
    };
    cache.disk(py)?.call_method1(intern!(py, "get"), (field, raw))
}

/// Asks the disk object how `value` is stored.
pub(crate) fn store<'a, 'py>(
    cache: &CacheBase,
    value: &Bound<'py, PyAny>,
    read: bool,
    key: Option<&Bound<'py, PyAny>>,
) -> PyResult<Data<'a, 'py>> {
    type Row<'py> = (i64, i64, Option<String>, Bound<'py, PyAny>);
    let py = value.py();
    let kwargs = PyDict::new(py);
    if let Some(key) = key {
        kwargs.set_item(intern!(py, "key"), key)?;
    }
    let row = cache.disk(py)?.call_method(intern!(py, "store"), (value, read), Some(&kwargs))?;
    let (size, mode, filename, field): Row<'py> = row.extract()?;
    if filename.is_none() {
        if let Some(data) = native(mode, &field)? {
            return Ok(data);
        }
        if field.hasattr(intern!(py, "read"))? {
            return Ok(Data::Reader(PyReader::new(&field)?));
        }
    }
    let mut out = Vec::new();
    out.extend_from_slice(&mode.to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
    match filename {
        None => out.push(0),
        Some(name) => {
            cache.beside.listen();
            out.push(1);
            let len = u32::try_from(name.len()).map_err(|_| PyValueError::new_err("a file name of 4 GiB"))?;
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
    }
    put_field(&mut out, &field)?;
    Ok(Data::Owned(ValueKind::Custom1, out))
}

/// Returns the data of a row that the engine has a kind for.
fn native<'a, 'py>(mode: i64, field: &Bound<'py, PyAny>) -> PyResult<Option<Data<'a, 'py>>> {
    if mode == MODE_PICKLE {
        let bytes = bytes_of(field, "a pickle that Disk.store returns");
        return Ok(bytes.ok().map(|bytes| Data::Owned(ValueKind::Opaque, bytes)));
    }
    if mode != MODE_RAW && mode != MODE_BINARY {
        return Ok(None);
    }
    if field.cast_exact::<PyInt>().is_ok() {
        return Ok(Some(Data::Bits(ValueKind::Int, field.extract::<i64>()?.cast_unsigned())));
    }
    if field.cast_exact::<PyFloat>().is_ok() {
        return Ok(Some(Data::Bits(ValueKind::Float, field.extract::<f64>()?.to_bits())));
    }
    if let Ok(text) = field.cast_exact::<PyString>() {
        return Ok(Some(Data::Owned(ValueKind::Text, text.to_str()?.as_bytes().to_vec())));
    }
    if field.is_none() {
        return Ok((mode == MODE_RAW).then_some(Data::Bits(ValueKind::Null, 0)));
    }
    Ok(bytes_of(field, "").ok().map(|bytes| Data::Owned(ValueKind::Bytes, bytes)))
}

/// What of a stored value the disk object is asked to fetch.
pub(crate) enum Stored<'v, 'py> {
    /// A value of a kind of the engine: its mode and field.
    Native(i64, Bound<'py, PyAny>),
    /// A value of a kind of the engine: its mode, and the file that holds just it.
    File(i64, &'v Path),
    /// A row as `store` wrote it.
    Row(&'v [u8]),
}

/// Asks the disk object for the value of what is stored.
pub(crate) fn fetch<'py>(cache: &CacheBase, py: Python<'py>, stored: Stored<'_, 'py>, read: bool) -> PyResult<Bound<'py, PyAny>> {
    let (mode, filename, field) = match stored {
        Stored::Native(mode, field) => (mode, None, field),
        Stored::File(mode, path) => (mode, path.to_str(), py.None().into_bound(py)),
        Stored::Row(bytes) => {
            let row = Row::parse(bytes)?;
            (row.mode, row.filename, take_field(py, row.field)?)
        }
    };
    cache.disk(py)?.call_method1(intern!(py, "fetch"), (mode, filename, field, read))
}

/// Returns the name of the file of a row, if it has one.
pub(crate) fn filename(bytes: &[u8]) -> Option<&str> {
    Row::split(bytes)?.filename
}

/// Tells the disk object to remove a file of its own.
pub(crate) fn remove(cache: &CacheBase, py: Python<'_>, filename: &str) -> PyResult<()> {
    cache.disk(py)?.call_method1(intern!(py, "remove"), (filename,)).map(drop)
}

struct Row<'v> {
    mode: i64,
    filename: Option<&'v str>,
    field: &'v [u8],
}

impl<'v> Row<'v> {
    fn parse(bytes: &'v [u8]) -> PyResult<Self> {
        Self::split(bytes).ok_or_else(|| PyValueError::new_err("a stored row is malformed"))
    }

    fn split(bytes: &'v [u8]) -> Option<Self> {
        let (mode, rest) = bytes.split_first_chunk::<8>()?;
        let (_size, rest) = rest.split_first_chunk::<8>()?;
        let (&has_filename, rest) = rest.split_first()?;
        let (filename, field) = if has_filename == 0 {
            (None, rest)
        } else {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            (Some(std::str::from_utf8(name).ok()?), rest)
        };
        Some(Self { mode: i64::from_le_bytes(*mode), filename, field })
    }
}

fn put_field(out: &mut Vec<u8>, field: &Bound<'_, PyAny>) -> PyResult<()> {
    if field.is_none() {
        out.push(0);
    } else if field.is_instance_of::<PyInt>() {
        out.push(1);
        out.extend_from_slice(&field.extract::<i64>()?.to_le_bytes());
    } else if field.is_instance_of::<PyFloat>() {
        out.push(2);
        out.extend_from_slice(&field.extract::<f64>()?.to_le_bytes());
    } else if let Ok(text) = field.cast::<PyString>() {
        out.push(3);
        out.extend_from_slice(text.to_str()?.as_bytes());
    } else {
        out.push(4);
        out.extend_from_slice(&bytes_of(field, "the value that Disk.store returns")?);
    }
    Ok(())
}

fn take_field<'py>(py: Python<'py>, field: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let malformed = || PyValueError::new_err("a stored row is malformed");
    let (&kind, bytes) = field.split_first().ok_or_else(malformed)?;
    Ok(match kind {
        0 => py.None().into_bound(py),
        1 => i64::from_le_bytes(bytes.try_into().map_err(|_| malformed())?).into_pyobject(py)?.into_any(),
        2 => PyFloat::new(py, f64::from_le_bytes(bytes.try_into().map_err(|_| malformed())?)).into_any(),
        3 => PyString::from_bytes(py, bytes)?.into_any(),
        4 => PyBytes::new(py, bytes).into_any(),
        _ => return Err(malformed()),
    })
}

/// Copies what a bytes-like object holds (`bytes`, `memoryview`, ...).
fn bytes_of(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    match pyo3::buffer::PyBuffer::<u8>::get(object) {
        Ok(buffer) => buffer.to_vec(object.py()),
        Err(_) => Err(PyTypeError::new_err(format!("{what} must be str, bytes, int or float, not {}", object.get_type().name()?))),
    }
}
