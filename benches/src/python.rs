//! Caches as Python programs use them, in an interpreter inside this process: the loops, too, are Python's.

use crate::{Failed, Operation, Subject};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

static START: Once = Once::new();

/// Starts the interpreter with the packages of the project's environment: `.venv`, or what `BENCH_VENV` names.
///
/// # Errors
/// What is missing, and what installs it.
pub fn start() -> Result<(), Failed> {
    START.call_once(Python::initialize);
    Python::attach(|py| {
        let version = py.version_info();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let environment = std::env::var_os("BENCH_VENV").map_or_else(|| root.join("../.venv"), PathBuf::from);
        let packages = environment.join(format!("lib/python{}.{}/site-packages", version.major, version.minor));
        if !packages.is_dir() {
            return Err(Failed(format!("there is no {}: ./ci/setup makes it", packages.display())));
        }
        py.import("site").and_then(|site| site.call_method1("addsitedir", (packages,))).map_err(failed)?;
        let path = py.import("sys").and_then(|sys| sys.getattr("path")).map_err(failed)?;
        path.call_method1("insert", (0, root.join("python").to_string_lossy())).map_err(failed)?;
        py.import("bench.loops").map(drop).map_err(failed)
    })
}

/// Returns the names of the caches whose packages are installed, and of the floor: functions that do nothing.
///
/// # Errors
/// What Python says.
pub fn available() -> Result<Vec<String>, Failed> {
    Python::attach(|py| py.import("bench.engines")?.call_method0("available")?.extract()).map_err(failed)
}

/// A `bench.loops.Bench`.
#[derive(Debug)]
pub struct PythonCache {
    name: String,
    bench: Py<PyAny>,
}

impl PythonCache {
    /// Opens and fills a cache. With `synced` each write is synced before it is acknowledged.
    ///
    /// # Errors
    /// What Python says.
    pub fn open(name: &str, directory: &Path, size: usize, entries: u64, synced: bool) -> Result<Self, Failed> {
        let bench = Python::attach(|py| {
            let options = PyDict::new(py);
            options.set_item("entries", entries)?;
            options.set_item("durability", if synced { "host" } else { "process" })?;
            let class = py.import("bench.loops")?.getattr("Bench")?;
            Ok(class.call((name, directory, size), Some(&options))?.unbind())
        });
        Ok(Self { name: name.to_owned(), bench: bench.map_err(failed)? })
    }
}

impl Drop for PythonCache {
    fn drop(&mut self) {
        if let Err(error) = Python::attach(|py| self.bench.call_method0(py, "close")) {
            eprintln!("closing {}: {error}", self.name);
        }
    }
}

impl Subject for PythonCache {
    fn time(&mut self, operation: Operation, times: u64) -> Result<Duration, Failed> {
        let measured = Python::attach(|py| self.bench.call_method1(py, "measured", (operation.name(), times))?.extract(py));
        let (nanoseconds, done): (u64, u64) = measured.map_err(failed)?;
        Ok(share(Duration::from_nanos(nanoseconds), times, done))
    }
}

/// Returns what `times` would have taken, where `done` of them took so long.
#[must_use]
pub fn share(took: Duration, times: u64, done: u64) -> Duration {
    let nanoseconds = took.as_nanos() * u128::from(times) / u128::from(done.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: PyErr) -> Failed {
    Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_did_more_than_was_asked_is_counted_in_part() {
        assert_eq!(share(Duration::from_micros(300), 10, 30), Duration::from_micros(100));
        assert_eq!(share(Duration::from_micros(300), 10, 10), Duration::from_micros(300));
    }
}
