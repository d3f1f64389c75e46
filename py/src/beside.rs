//! Files that a disk object of its own keeps beside the cache: removed once their entries are gone, whatever removed these.
//!
//! The engine tells of each entry that a call of this thread removed (`Companion`). It must not run Python then; the rows wait here until
//! the call is over, and its value was read: [`CacheBase::tidy_files`].

use crate::base::CacheBase;
use crate::disk;
use crate::error::OutcomeUnknown;
use crate::value::Data;
use diskcache_core::Companion;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The rows of entries that are gone, by the thread whose call removed them.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    listens: AtomicBool,
    /// How many there are, or soon will be.
    count: AtomicUsize,
    rows: Mutex<HashMap<ThreadId, Vec<Vec<u8>>>>,
}

impl Companion for Beside {
    fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }

    fn removed(&self, value: &[u8]) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.lock().entry(thread::current().id()).or_default().push(value.to_vec());
    }
}

impl Beside {
    /// Says that the disk object has files of its own.
    pub(crate) fn listen(&self) {
        self.listens.store(true, Ordering::Relaxed);
    }

    /// Returns whether there may be files whose entries are here.
    pub(crate) fn has_files(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }

    /// Returns whether there may be rows of this thread.
    #[inline]
    fn has_rows(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn take(&self) -> Vec<Vec<u8>> {
        let rows = self.lock().remove(&thread::current().id()).unwrap_or_default();
        self.count.fetch_sub(rows.len(), Ordering::Relaxed);
        rows
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Vec<u8>>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheBase {
    /// Tells the disk object to remove the files of what a call removed, but for those of `stored`: a name may be in use again.
    #[inline]
    pub(crate) fn tidy_files(&self, py: Python<'_>, stored: &[Data<'_, '_>]) -> PyResult<()> {
        if self.beside.has_rows() { self.remove_files(py, stored) } else { Ok(()) }
    }

    #[cold]
    fn remove_files(&self, py: Python<'_>, stored: &[Data<'_, '_>]) -> PyResult<()> {
        let mut failed = Ok(());
        for row in self.beside.take() {
            let Some(name) = disk::filename(&row) else { continue };
            if !stored.iter().filter_map(Data::row).any(|row| disk::filename(row) == Some(name)) {
                failed = failed.and(disk::remove(self, py, name));
            }
        }
        failed
    }

    /// Returns `done`, after the files of what the call removed are removed.
    #[inline]
    pub(crate) fn tidied<T>(&self, py: Python<'_>, done: PyResult<T>) -> PyResult<T> {
        let tidied = self.tidy_files(py, &[]);
        done.and_then(|done| tidied.map(|()| done))
    }

    /// Returns `done`, after the files are removed that are needed no more: of what the call removed, and if it certainly failed, of what it
    /// was to store.
    #[inline]
    pub(crate) fn stored<T>(&self, py: Python<'_>, data: &[Data<'_, '_>], done: PyResult<T>) -> PyResult<T> {
        match &done {
            Err(error) if !error.is_instance_of::<OutcomeUnknown>(py) => self.give_up(py, data)?,
            _ => {}
        }
        let tidied = self.tidy_files(py, data);
        done.and_then(|done| tidied.map(|()| done))
    }

    /// Removes the files that the disk object made of values that are not stored after all.
    pub(crate) fn give_up(&self, py: Python<'_>, data: &[Data<'_, '_>]) -> PyResult<()> {
        data.iter().filter_map(Data::row).filter_map(disk::filename).try_for_each(|name| disk::remove(self, py, name))
    }
}
