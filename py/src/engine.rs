//! Which engine the binding stands on, and how it is called: with the interpreter held where nothing can wait, released else.

use crate::base::CacheBase;
use crate::cache::{Attempt, Cache};
use crate::error::raised;
use crate::released::released;
use diskcache_core::{Error, ErrorKind, Result};
use pyo3::prelude::*;

/// How often other threads may close the engine under a call before it gives up.
const CLOSED_MAX: u32 = 1000;

impl CacheBase {
    /// Calls `fast` with the interpreter held and, if that would have to wait, `slow` with it released.
    #[inline]
    pub(crate) fn attempt<T: Send>(
        &self,
        py: Python<'_>,
        retry: bool,
        fast: impl FnOnce(&Cache) -> Result<Attempt<T>>,
        slow: impl Fn(&Cache) -> Result<T> + Sync,
    ) -> PyResult<T> {
        match self.with_engine(fast) {
            Some(Ok(Attempt::Done(done))) => Ok(done),
            Some(Err(error)) if !may_try_again(&error, retry) => Err(raised(&error)),
            _ => self.call(py, retry, slow),
        }
    }

    /// Calls `verb` with the interpreter released, again after a time-out if `retry`.
    #[cold]
    pub(crate) fn call<T: Send>(&self, py: Python<'_>, retry: bool, verb: impl Fn(&Cache) -> Result<T> + Sync) -> PyResult<T> {
        self.call_with(py, retry, verb, raised)
    }

    /// As [`Self::call`], with a table of exceptions of its own.
    pub(crate) fn call_with<T: Send>(
        &self,
        py: Python<'_>,
        retry: bool,
        verb: impl Fn(&Cache) -> Result<T> + Sync,
        raised: impl Fn(&Error) -> PyErr,
    ) -> PyResult<T> {
        let mut closed = 0;
        loop {
            let engine = self.engine(py)?;
            match released(py, || verb(&engine)) {
                Ok(done) => return Ok(done),
                Err(error) if may_try_again(&error, retry) && closed < CLOSED_MAX => {
                    py.check_signals()?;
                    closed += u32::from(error.kind() == ErrorKind::Closed);
                }
                Err(error) => return Err(raised(&error)),
            }
        }
    }
}

/// Another thread closed the cache meanwhile (it opens again by itself), or nothing took effect in time and the caller has time.
fn may_try_again(error: &Error, retry: bool) -> bool {
    match error.kind() {
        ErrorKind::Closed => true,
        ErrorKind::Timeout => retry,
        _ => false,
    }
}
