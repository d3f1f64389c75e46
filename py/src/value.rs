//! Values: Python objects to what the engine stores, and back.
//!
//! `bytes`, `str`, 64-bit `int`, `float`, `bool` and None have kinds of their own and keep their type without a pickle; anything
//! else is a pickle of the disk object's protocol. A disk class of its own decides itself (see `disk`).

use crate::base::CacheBase;
use crate::cache::{Put, PutData, Value};
use crate::disk::{self, Stored};
use crate::error::raised;
use crate::file;
use crate::released::{is_over, released};
use diskcache_core::format::{KeyRef, Number, ValueKind};
use diskcache_core::{Error, ErrorKind, Result};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};
use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

/// Values longer than this are read with the interpreter released.
const LONG: u64 = 1 << 16;
/// How much is asked of a Python file at once.
const CHUNK: usize = 1 << 22;

/// A value on its way to the engine.
pub(crate) enum Data<'a, 'py> {
    /// Borrowed from the Python object.
    Borrowed(ValueKind, &'a [u8]),
    /// A pickle.
    Pickle(Bound<'py, PyBytes>),
    /// Made by a disk object.
    Owned(ValueKind, Vec<u8>),
    /// A number, a truth value or nothing.
    Bits(ValueKind, u64),
    /// Whatever a Python file yields.
    Reader(PyReader),
}

/// Returns what is stored for `value`.
#[inline]
pub(crate) fn encode<'a, 'py>(
    cache: &CacheBase,
    value: &'a Bound<'py, PyAny>,
    read: bool,
    key: Option<&Bound<'py, PyAny>>,
) -> PyResult<Data<'a, 'py>> {
    if cache.values_in_python() {
        return disk::store(cache, value, read, key);
    }
    let data = plainly(cache, value, read)?;
    if data.may_be_file() && disk::has_open(value.py()) { disk::store(cache, value, read, key) } else { Ok(data) }
}

#[inline]
fn plainly<'a, 'py>(cache: &CacheBase, value: &'a Bound<'py, PyAny>, read: bool) -> PyResult<Data<'a, 'py>> {
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok(Data::Borrowed(ValueKind::Bytes, bytes.as_bytes()));
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok(Data::Borrowed(ValueKind::Text, text.to_str()?.as_bytes()));
    }
    if let Ok(number) = value.cast_exact::<PyInt>() {
        if let Ok(number) = number.extract::<i64>() {
            return Ok(Data::Bits(ValueKind::Int, number.cast_unsigned()));
        }
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        return Ok(Data::Bits(ValueKind::Float, number.value().to_bits()));
    }
    if read {
        return Ok(Data::Reader(PyReader::new(value)?));
    }
    if value.is_none() {
        return Ok(Data::Bits(ValueKind::Null, 0));
    }
    if let Ok(truth) = value.cast_exact::<PyBool>() {
        return Ok(Data::Bits(ValueKind::Bool, u64::from(truth.is_true())));
    }
    Ok(Data::Pickle(disk::dumps(cache, value)?.cast_into::<PyBytes>()?))
}

/// The same without the Python objects that must not be touched while the interpreter is released.
#[derive(Clone, Copy)]
pub(crate) enum Plain<'d> {
    Bytes(ValueKind, &'d [u8]),
    Bits(ValueKind, u64),
    Reader(&'d PyReader),
}

impl Data<'_, '_> {
    /// Borrows it.
    #[inline]
    pub(crate) fn plain(&self) -> Plain<'_> {
        match self {
            Self::Borrowed(kind, bytes) => Plain::Bytes(*kind, bytes),
            Self::Pickle(bytes) => Plain::Bytes(ValueKind::Opaque, bytes.as_bytes()),
            Self::Owned(kind, bytes) => Plain::Bytes(*kind, bytes),
            Self::Bits(kind, bits) => Plain::Bits(*kind, *bits),
            Self::Reader(reader) => Plain::Reader(reader),
        }
    }

    /// Returns whether python-diskcache might store it as a file.
    #[inline]
    fn may_be_file(&self) -> bool {
        const LEN_MIN: usize = 1024;
        match self {
            Self::Borrowed(_, bytes) => bytes.len() >= LEN_MIN,
            Self::Pickle(bytes) => bytes.as_bytes().len() >= LEN_MIN,
            Self::Reader(_) => true,
            Self::Owned(..) | Self::Bits(..) => false,
        }
    }

    /// Returns the exception that the file's `read` raised, if that is why the engine failed.
    pub(crate) fn raised(&self) -> Option<PyErr> {
        match self {
            Self::Reader(reader) => reader.raised.lock().ok()?.take(),
            _ => None,
        }
    }

    /// Returns the row that a disk object made.
    pub(crate) fn row(&self) -> Option<&[u8]> {
        match self {
            Self::Owned(ValueKind::Custom1, bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl<'d> Plain<'d> {
    /// Returns what the engine takes; of a file there is none.
    pub(crate) fn in_memory(self, expire: Option<f64>, tag: Option<KeyRef<'d>>) -> Option<Put<'d>> {
        match self {
            Self::Bytes(kind, bytes) => Some(Put { kind, data: PutData::Bytes(bytes), expire, tag }),
            Self::Bits(kind, bits) => Some(Put { kind, data: PutData::Bits(bits), expire, tag }),
            Self::Reader(_) => None,
        }
    }

    /// Returns about how many bytes it takes in a commit.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Bytes(_, bytes) => bytes.len(),
            Self::Bits(..) | Self::Reader(_) => 0,
        }
    }
}

impl Plain<'_> {
    /// Calls `verb` with what the engine takes.
    #[inline]
    pub(crate) fn put<T>(self, expire: Option<f64>, tag: Option<KeyRef<'_>>, verb: impl FnOnce(Put<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Bytes(kind, bytes) => verb(Put { kind, data: PutData::Bytes(bytes), expire, tag }),
            Self::Bits(kind, bits) => verb(Put { kind, data: PutData::Bits(bits), expire, tag }),
            Self::Reader(reader) => {
                let mut stream = Stream { reader, left: Vec::new(), at: 0 };
                verb(Put { kind: ValueKind::Bytes, data: PutData::Reader(&mut stream), expire, tag })
            }
        }
    }
}

/// A Python file to read from: anything with a `read` that returns bytes.
pub(crate) struct PyReader {
    read: Py<PyAny>,
    raised: Mutex<Option<PyErr>>,
}

impl PyReader {
    /// Takes the `read` of `object`.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let read = object.getattr(intern!(object.py(), "read"))?.unbind();
        Ok(Self { read, raised: Mutex::new(None) })
    }

    /// Reads it to its end.
    pub(crate) fn into_memory<'a, 'py>(self) -> PyResult<Data<'a, 'py>> {
        let mut bytes = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok(Data::Owned(ValueKind::Bytes, bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
    }

    fn chunk(&self) -> PyResult<Vec<u8>> {
        if is_over() {
            return Err(PyOSError::new_err("the program ends"));
        }
        Python::attach(|py| {
            let chunk = self.read.bind(py).call1((CHUNK,))?;
            match chunk.cast::<PyBytes>() {
                Ok(bytes) => Ok(bytes.as_bytes().to_vec()),
                Err(_) => Err(PyTypeError::new_err("a file that is stored with read=True must be open in binary mode")),
            }
        })
    }
}

/// Reads a Python file as the engine wants it.
struct Stream<'r> {
    reader: &'r PyReader,
    left: Vec<u8>,
    at: usize,
}

impl Read for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.left.len() {
            self.at = 0;
            self.left = self.reader.chunk().map_err(|error| {
                if let Ok(mut raised) = self.reader.raised.lock() {
                    *raised = Some(error);
                }
                io::Error::other("the file's read() raised an exception")
            })?;
        }
        let len = out.len().min(self.left.len() - self.at);
        out[..len].copy_from_slice(&self.left[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// Returns the Python object for a stored value, or `None` if its bytes are gone or damaged.
#[inline]
pub(crate) fn decode<'py>(cache: &CacheBase, py: Python<'py>, value: &Value, read: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    if cache.values_in_python() {
        return fetch(cache, py, value, read);
    }
    native(cache, py, value, read)
}

/// What was made of a short value while the cache's state was locked: nothing for which Python code could run.
pub(crate) enum Short<'py> {
    /// The value.
    Whole(PyResult<Bound<'py, PyAny>>),
    /// Its pickle.
    Pickle(Bound<'py, PyBytes>),
}

/// Makes the Python object for the bytes of a short value; declines what only a disk object knows.
#[inline]
pub(crate) fn short<'py>(py: Python<'py>, kind: ValueKind, bytes: &[u8]) -> Option<Short<'py>> {
    Some(match kind {
        ValueKind::Bytes => Short::Whole(Ok(PyBytes::new(py, bytes).into_any())),
        ValueKind::Text => Short::Whole(PyString::from_bytes(py, bytes).map(Bound::into_any)),
        ValueKind::Opaque => Short::Pickle(PyBytes::new(py, bytes)),
        _ => return None,
    })
}

/// Returns the value, once nothing is locked any more.
#[inline]
pub(crate) fn loaded<'py>(py: Python<'py>, short: Short<'py>) -> PyResult<Bound<'py, PyAny>> {
    match short {
        Short::Whole(value) => value,
        Short::Pickle(bytes) => disk::loads_bytes(py, bytes),
    }
}

#[inline]
fn native<'py>(cache: &CacheBase, py: Python<'py>, value: &Value, read: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some((path, _)) = value.file()
        && disk::has_open(py)
    {
        return by_open(cache, py, value.kind(), path, read);
    }
    match value.kind() {
        ValueKind::Bytes if read => file::open(py, value).map(Some),
        ValueKind::Bytes => match value.file() {
            Some((_, len)) => from_file(py, value, len),
            None => with_bytes(py, value, |bytes| Ok(PyBytes::new(py, bytes).into_any())),
        },
        ValueKind::Text => with_bytes(py, value, |bytes| Ok(PyString::from_bytes(py, bytes)?.into_any())),
        ValueKind::Opaque => with_bytes(py, value, |bytes| disk::loads(py, bytes)),
        ValueKind::Null => Ok(Some(py.None().into_bound(py))),
        ValueKind::Int | ValueKind::Float | ValueKind::Bool => number(py, value).map(Some),
        // Written by a disk class of its own; this cache's disk object may know what to do with it.
        ValueKind::Custom1 | ValueKind::Custom2 => fetch(cache, py, value, read),
    }
}

/// Has the disk object read the file of a value with the `open` that somebody replaced; returns `None` if that says it is not there.
#[cold]
fn by_open<'py>(cache: &CacheBase, py: Python<'py>, kind: ValueKind, path: &Path, read: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mode = match kind {
        ValueKind::Text => disk::MODE_TEXT,
        ValueKind::Opaque => disk::MODE_PICKLE,
        _ => disk::MODE_BINARY,
    };
    match disk::fetch(cache, py, Stored::File(mode, path), read) {
        Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
        fetched => fetched.map(Some),
    }
}

fn fetch<'py>(cache: &CacheBase, py: Python<'py>, value: &Value, read: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    let native = |mode, field: Option<Bound<'py, PyAny>>| match field {
        Some(field) => disk::fetch(cache, py, Stored::Native(mode, field), read).map(Some),
        None => Ok(None),
    };
    match value.kind() {
        ValueKind::Bytes if read => native(disk::MODE_BINARY, Some(file::open(py, value)?)),
        ValueKind::Bytes => native(disk::MODE_RAW, with_bytes(py, value, |bytes| Ok(PyBytes::new(py, bytes).into_any()))?),
        ValueKind::Text => native(disk::MODE_RAW, with_bytes(py, value, |bytes| Ok(PyString::from_bytes(py, bytes)?.into_any()))?),
        ValueKind::Opaque => native(disk::MODE_PICKLE, with_bytes(py, value, |bytes| Ok(PyBytes::new(py, bytes).into_any()))?),
        ValueKind::Null => native(disk::MODE_RAW, Some(py.None().into_bound(py))),
        ValueKind::Int | ValueKind::Float | ValueKind::Bool => native(disk::MODE_RAW, Some(number(py, value)?)),
        ValueKind::Custom1 | ValueKind::Custom2 => match row(py, value)? {
            Some(bytes) => disk::fetch(cache, py, Stored::Row(&bytes), read).map(Some),
            None => Ok(None),
        },
    }
}

/// Returns the row that a disk object made, if the value is one and can be read.
pub(crate) fn row(py: Python<'_>, value: &Value) -> PyResult<Option<Vec<u8>>> {
    if value.kind() != ValueKind::Custom1 {
        return Ok(None);
    }
    with_bytes(py, value, |bytes| Ok(bytes.to_vec()))
}

#[inline]
fn number<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match (value.kind(), value.as_number()) {
        (ValueKind::Bool, _) => Ok(PyBool::new(py, value.bits() != Some(0)).to_owned().into_any()),
        (_, Some(number)) => number_object(py, number),
        (_, None) => Err(PyValueError::new_err("a stored number is malformed")),
    }
}

/// Returns the Python number.
#[inline]
pub(crate) fn number_object(py: Python<'_>, number: Number) -> PyResult<Bound<'_, PyAny>> {
    Ok(match number {
        Number::Int(number) => number.into_pyobject(py)?.into_any(),
        Number::Float(number) => PyFloat::new(py, number).into_any(),
    })
}

/// Reads a large value straight into the memory of a bytes object; returns `None` if it is gone or damaged.
#[cold]
fn from_file<'py>(py: Python<'py>, value: &Value, len: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
    let len = usize::try_from(len).map_err(|_| PyValueError::new_err("the value does not fit into memory"))?;
    let mut failure = None;
    let bytes = PyBytes::new_with(py, len, |buffer| {
        failure = released(py, || value.read_blob_into(buffer)).err();
        Ok(())
    })?;
    match failure {
        None => Ok(Some(bytes.into_any())),
        Some(error) if is_gone(&error) => Ok(None),
        Some(error) => Err(raised(&error)),
    }
}

/// Calls `make` with the value's bytes; returns `None` if they are gone or damaged, which is a miss.
#[inline]
pub(crate) fn with_bytes<T>(py: Python<'_>, value: &Value, make: impl FnOnce(&[u8]) -> PyResult<T>) -> PyResult<Option<T>> {
    let is_short = value.is_in_memory() && value.len().is_ok_and(|len| len <= LONG);
    let bytes: Result<Cow<'_, [u8]>> = if is_short { value.bytes() } else { released(py, || value.bytes()) };
    match bytes {
        Ok(bytes) => make(&bytes).map(Some),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(raised(&error)),
    }
}

/// Returns whether the bytes are damaged, or were removed with the entry after it was found.
pub(crate) fn is_gone(error: &Error) -> bool {
    const ENOENT: i32 = 2;
    const ESTALE: i32 = 116;
    error.kind() == ErrorKind::Damaged || matches!(error.raw_os_error(), Some(ENOENT | ESTALE))
}
