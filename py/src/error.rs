//! Errors of the engine as Python exceptions: one table, for every verb.
//!
//! The exceptions are defined in Python (`diskcache_rs/_exceptions.py`), so that they can have builtin bases: what Python programs
//! catch today (`OSError`, `TimeoutError`, `PermissionError`, ...) goes on catching them.

use diskcache_core::{Error, ErrorKind};
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::import_exception;
use pyo3::prelude::*;
use std::ffi::OsString;

import_exception!(diskcache_rs._exceptions, Timeout);
import_exception!(diskcache_rs._exceptions, OutcomeUnknown);
import_exception!(diskcache_rs._exceptions, TransactionConflict);
import_exception!(diskcache_rs._exceptions, CacheError);
import_exception!(diskcache_rs._exceptions, IncompatibleError);
import_exception!(diskcache_rs._exceptions, RefusedError);
import_exception!(diskcache_rs._exceptions, DamagedError);
import_exception!(diskcache_rs._exceptions, ClosedError);

const EIO: i32 = 5;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EBADF: i32 = 9;

/// Returns the exception that stands for `error`.
pub(crate) fn raised(error: &Error) -> PyErr {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Timeout => Timeout::new_err(text),
        ErrorKind::OutcomeUnknown => OutcomeUnknown::new_err(text),
        ErrorKind::Conflict => TransactionConflict::new_err(text),
        ErrorKind::WrongType => PyTypeError::new_err(text),
        ErrorKind::Invalid => PyValueError::new_err(text),
        // Python picks the subclass by the number: FileNotFoundError, PermissionError, ...
        ErrorKind::Io => PyOSError::new_err(arguments(error, text, EIO)),
        ErrorKind::Incompatible => IncompatibleError::new_err(arguments(error, text, EINVAL)),
        ErrorKind::Refused => RefusedError::new_err(arguments(error, text, EACCES)),
        ErrorKind::Damaged => DamagedError::new_err(arguments(error, text, EIO)),
        ErrorKind::Closed => ClosedError::new_err(arguments(error, text, EBADF)),
        _ => CacheError::new_err(arguments(error, text, EIO)),
    }
}

/// Returns the exception for a failed count; `is_beyond`: there is a number, and the sum is out of range.
pub(crate) fn raised_by_count(error: &Error, is_beyond: bool) -> PyErr {
    if is_beyond { PyOverflowError::new_err(error.to_string()) } else { raised(error) }
}

/// The arguments that `OSError` understands: number, message and, where there is one, the path.
fn arguments(error: &Error, text: String, fallback: i32) -> (i32, String, Option<OsString>) {
    let path = error.path().map(|path| path.as_os_str().to_owned());
    (error.raw_os_error().unwrap_or(fallback), text, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyo3::types::PyModule;
    use std::path::Path;

    /// Makes `diskcache_rs._exceptions` importable without the native module, which a test binary is not.
    fn with_package(test: impl FnOnce(Python<'_>)) {
        Python::initialize();
        Python::attach(|py| {
            let package = PyModule::new(py, "diskcache_rs").unwrap();
            package.setattr("__path__", vec![concat!(env!("CARGO_MANIFEST_DIR"), "/python/diskcache_rs")]).unwrap();
            py.import("sys").unwrap().getattr("modules").unwrap().set_item("diskcache_rs", package).unwrap();
            test(py);
        });
    }

    #[test]
    fn every_kind_arrives_as_the_exceptions_that_python_programs_catch() {
        let table: &[(ErrorKind, &str, &str)] = &[
            (ErrorKind::Timeout, "Timeout", "TimeoutError"),
            (ErrorKind::OutcomeUnknown, "OutcomeUnknown", "TimeoutError"),
            (ErrorKind::Conflict, "TransactionConflict", "TimeoutError"),
            (ErrorKind::Io, "OSError", "OSError"),
            (ErrorKind::Incompatible, "IncompatibleError", "OSError"),
            (ErrorKind::Refused, "RefusedError", "PermissionError"),
            (ErrorKind::WrongType, "TypeError", "TypeError"),
            (ErrorKind::Invalid, "ValueError", "ValueError"),
            (ErrorKind::Damaged, "DamagedError", "OSError"),
            (ErrorKind::Closed, "ClosedError", "OSError"),
        ];
        with_package(|py| {
            for (kind, name, base) in table {
                let error = raised(&Error::new(*kind, "failed to do it").at(Path::new("/some/where")));
                let value = error.value(py);
                assert_eq!(value.get_type().name().unwrap().to_string(), *name, "{kind:?}");
                let base = py.import("builtins").unwrap().getattr(*base).unwrap();
                assert!(value.is_instance(&base).unwrap(), "{kind:?}");
                assert!(value.str().unwrap().to_string().contains("failed to do it"), "{kind:?}: {value}");
                assert!(value.str().unwrap().to_string().contains("/some/where"), "{kind:?}: {value}");
            }
        });
    }

    #[test]
    fn errors_of_the_drive_are_the_builtin_subclasses_of_their_number_and_name_the_path() {
        with_package(|py| {
            for (errno, name) in [(2, "FileNotFoundError"), (13, "PermissionError"), (28, "OSError"), (110, "TimeoutError")] {
                let cause = std::io::Error::from_raw_os_error(errno);
                let error = raised(&Error::io("open", Path::new("/some/where"), cause));
                let value = error.value(py);
                assert_eq!(value.get_type().name().unwrap().to_string(), name);
                assert_eq!(value.getattr("errno").unwrap().extract::<i32>().unwrap(), errno);
                assert_eq!(value.getattr("filename").unwrap().extract::<String>().unwrap(), "/some/where");
            }
            let beyond = raised_by_count(&Error::new(ErrorKind::WrongType, "too large"), true);
            assert!(beyond.is_instance_of::<PyOverflowError>(py));
            assert!(raised_by_count(&Error::new(ErrorKind::WrongType, "text"), false).is_instance_of::<PyTypeError>(py));
            assert!(raised_by_count(&Error::new(ErrorKind::Invalid, "long key"), false).is_instance_of::<PyValueError>(py));
        });
    }
}
