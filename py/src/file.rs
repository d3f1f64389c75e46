//! A stored value as a binary file: what `get(read=True)` and `read` return.

use crate::cache::{Value, ValueReader};
use crate::error::raised;
use crate::released::released;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How much is read at once.
const CHUNK: usize = 1 << 18;

/// A value that is read piece by piece; `diskcache_rs` puts an `io.BufferedReader` in front.
#[pyclass(module = "diskcache_rs._native", frozen)]
pub(crate) struct ValueFile {
    reader: Mutex<ValueReader>,
    path: Option<PathBuf>,
}

/// Returns an `io.BufferedReader` of the value.
pub(crate) fn open<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    static OPEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    OPEN.import(py, "diskcache_rs._file", "open_value")?.call1((ValueFile::new(py, value)?,))
}

impl ValueFile {
    pub(crate) fn new(py: Python<'_>, value: &Value) -> PyResult<Self> {
        let reader = released(py, || value.reader()).map_err(|error| raised(&error))?;
        Ok(Self { reader: Mutex::new(reader), path: value.file().map(|(path, _)| path.to_owned()) })
    }

    fn with<T: Send>(&self, py: Python<'_>, f: impl FnOnce(&mut ValueReader) -> std::io::Result<T> + Send) -> PyResult<T> {
        // The lock is taken with the interpreter released, or two threads could wait for each other.
        Ok(released(py, || f(&mut self.reader.lock().unwrap_or_else(PoisonError::into_inner)))?)
    }
}

#[pymethods]
impl ValueFile {
    /// The file on the drive that holds just this value, if there is one.
    #[getter]
    fn path(&self) -> Option<&str> {
        self.path.as_deref().and_then(Path::to_str)
    }

    /// Reads at most `size` bytes, perhaps fewer; none at the end.
    fn read<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        let mut chunk = vec![0; size.min(CHUNK)];
        let len = self.with(py, |reader| reader.read(&mut chunk))?;
        Ok(PyBytes::new(py, &chunk[..len]))
    }

    /// Moves to `offset` from the start (0), from here (1) or from the end (2) and returns the position.
    fn seek(&self, py: Python<'_>, offset: i64, whence: u8) -> PyResult<u64> {
        let to = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| PyValueError::new_err("negative seek position"))?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(PyValueError::new_err("whence must be 0, 1 or 2")),
        };
        self.with(py, |reader| reader.seek(to))
    }
}
