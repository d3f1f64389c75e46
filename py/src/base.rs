//! `CacheBase`: the native base class of `diskcache_rs.Cache`.
//!
//! It holds the engine (absent until opened, and again after `close`; the next call opens it), the disk object, and which of its
//! methods are Python's own. No method of it keeps the engine's guard while Python code can run.

use crate::beside::Beside;
use crate::cache::{Cache, Options};
use crate::error::raised;
use crate::key::{self, Count};
use crate::limit::{LimitWatch, Whole};
use crate::released::released;
use crate::settings::OpenArguments;
use crate::{bulk, file, read, settings, walk, write};
use diskcache_core::format::Number;
use diskcache_core::{ErrorKind, Result};
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

const KEYS_IN_PYTHON: u8 = 1;
const VALUES_IN_PYTHON: u8 = 2;
const FILES_IN_PYTHON: u8 = 4;

/// How to open the engine again.
struct Recipe {
    directory: PathBuf,
    options: Options,
}

/// The native part of `Cache`: the verbs that must be fast.
#[pyclass(module = "diskcache_rs._native", subclass, frozen)]
pub(crate) struct CacheBase {
    engine: RwLock<Option<Cache>>,
    recipe: OnceLock<Recipe>,
    disk: Mutex<Option<Py<PyAny>>>,
    /// How many threads have a transaction open, or wait for one: `close` leaves them the engine.
    transactions: AtomicU32,
    flags: AtomicU8,
    /// Files of the disk object whose entries are gone.
    pub(crate) beside: Arc<Beside>,
    /// When to look whether the size limit evicts.
    pub(crate) limit: LimitWatch,
}

impl CacheBase {
    /// Returns whether keys go through the disk object.
    #[inline]
    pub(crate) fn keys_in_python(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & KEYS_IN_PYTHON != 0
    }

    /// Returns whether values go through the disk object.
    #[inline]
    pub(crate) fn values_in_python(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & VALUES_IN_PYTHON != 0
    }

    /// Calls `verb` on the engine if it is open. The verb must neither wait nor run Python code.
    #[inline]
    pub(crate) fn with_engine<T>(&self, verb: impl FnOnce(&Cache) -> Result<T>) -> Option<Result<T>> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(verb)
    }

    /// Returns the engine, opened again if it was closed.
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<Cache> {
        if let Some(engine) = &*self.engine.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(engine.clone());
        }
        let recipe = self.recipe.get().ok_or_else(|| PyRuntimeError::new_err("Cache.__init__ was not called"))?;
        let opened = released(py, || Cache::open(&recipe.directory, recipe.options.clone())).map_err(|error| raised(&error))?;
        let mut guard = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        Ok(guard.get_or_insert(opened).clone())
    }

    /// Calls `verb` as one transaction of this thread (as a part of it, if the thread has one open).
    pub(crate) fn transacted<T: Send>(&self, py: Python<'_>, retry: bool, verb: impl Fn(&Cache) -> Result<T> + Sync) -> PyResult<T> {
        self.transactions.fetch_add(1, Ordering::SeqCst);
        let done = self.call(py, retry, |engine| {
            if engine.in_transaction() {
                return verb(engine);
            }
            loop {
                engine.transact_begin(None)?;
                let done = verb(engine).inspect_err(|_| drop(engine.transact_rollback()))?;
                match engine.transact_commit() {
                    // Another host came first, which cannot be for ever: each time one of them gets on.
                    Err(error) if error.kind() == ErrorKind::Conflict && retry => {}
                    ended => return ended.map(|()| done),
                }
            }
        });
        self.transactions.fetch_sub(1, Ordering::SeqCst);
        done
    }

    /// Returns the directory, once opened.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.recipe.get().map(|recipe| recipe.directory.as_path())
    }

    /// Returns the disk object.
    pub(crate) fn disk<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let disk = self.disk_slot().as_ref().map(|disk| disk.clone_ref(py));
        disk.map(|disk| disk.into_bound(py)).ok_or_else(|| PyAttributeError::new_err("_disk"))
    }

    fn disk_slot(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl CacheBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    #[pyo3(text_signature = "(*args, **kwargs)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            engine: RwLock::new(None),
            recipe: OnceLock::new(),
            disk: Mutex::new(None),
            transactions: AtomicU32::new(0),
            flags: AtomicU8::new(0),
            beside: Arc::default(),
            limit: LimitWatch::default(),
        }
    }

    /// Opens the directory. The settings are persisted; called once, by `Cache.__init__`.
    fn _open(&self, py: Python<'_>, directory: PathBuf, arguments: OpenArguments) -> PyResult<()> {
        let mut options = arguments.options()?;
        let beside: Arc<Beside> = Arc::clone(&self.beside);
        options.companion = Some(beside);
        let engine = released(py, || Cache::open(&directory, options.clone())).map_err(|error| raised(&error))?;
        // Settings given by the caller were persisted just now; whoever opens again takes what is there then.
        options.settings.clear();
        let again = || PyValueError::new_err("the cache is open already");
        self.recipe.set(Recipe { directory, options }).map_err(|_| again())?;
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine);
        Ok(())
    }

    /// Says that the size limit is a part of the default one of a cache of several, in `directory`: `limits` are that of all and of each.
    fn _watch_limit(&self, directory: PathBuf, limits: (u64, u64)) {
        self.limit.is_part_of(Whole { directory, limits });
    }

    /// Takes the disk object and which of its parts are Python's own: 1 keys, 2 values, 4 files.
    #[pyo3(signature = (disk, flags))]
    fn _set_disk(&self, disk: Option<Py<PyAny>>, flags: u8) {
        self.flags.store(flags, Ordering::Relaxed);
        if flags & FILES_IN_PYTHON != 0 {
            self.beside.listen();
        }
        // The old one is dropped outside the lock, since that may run Python code.
        let old = std::mem::replace(&mut *self.disk_slot(), disk);
        drop(old);
    }

    /// Returns the disk object.
    fn _get_disk<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.disk(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        match self.disk.try_lock() {
            Ok(disk) => visit.call(&*disk),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let old = self.disk_slot().take();
        drop(old);
    }

    /// Closes the cache. It may be used again: the next call opens it. A transaction of another thread goes on undisturbed.
    ///
    /// >>> cache = Cache()
    /// >>> cache['a'] = 1
    /// >>> cache.close()
    /// >>> cache['a']
    /// 1
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let engine = {
            let mut slot = self.engine.write().unwrap_or_else(PoisonError::into_inner);
            // Whoever begins counts itself before it takes the engine, so none is missed here.
            if self.transactions.load(Ordering::SeqCst) > 0 { None } else { slot.take() }
        };
        match engine {
            Some(engine) => released(py, move || engine.close()).map_err(|error| raised(&error)),
            None => Ok(()),
        }
    }

    /// Returns the value of `key`, or `default` if it is missing or expired.
    ///
    /// With `expire_time` or `tag`, returns a tuple of the value and what was asked for. With `read`, a value of bytes comes as a
    /// binary file that can be read and sought. Raises `Timeout` if the drive does not answer in time, unless `retry`.
    ///
    /// >>> cache = Cache()
    /// >>> cache.get('a', 'nothing')
    /// 'nothing'
    /// >>> cache.set('a', 1, tag='numbers')
    /// True
    /// >>> cache.get('a')
    /// 1
    /// >>> cache.get('a', expire_time=True, tag=True)
    /// (1, None, 'numbers')
    #[pyo3(signature = (key, default=None, read=false, expire_time=false, tag=false, retry=false))]
    #[expect(clippy::too_many_arguments, reason = "the signature of python-diskcache")]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        read: bool,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if expire_time || tag {
            return read::get_full(self, py, &key::encode(self, key)?, default, read, (expire_time, tag), retry);
        }
        match read::get(self, py, key, read, retry)? {
            Some(value) => Ok(value),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        read::get(self, py, key, false, true)?.ok_or_else(|| read::missing(key))
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        read::contains(self, py, key)
    }

    /// Stores `value` under `key`, for `expire` seconds (for ever if None). Returns True.
    ///
    /// With `read`, `value` is a binary file, and what can be read from it is stored. `tag` is text, bytes or a number that
    /// `evict` finds it by. Raises `Timeout` if the cache cannot be written in time, unless `retry`.
    ///
    /// >>> cache = Cache()
    /// >>> cache.set('a', [1, 2], expire=60, tag='lists')
    /// True
    /// >>> cache['a']
    /// [1, 2]
    /// >>> import io
    /// >>> cache.set('b', io.BytesIO(b'from a file'), read=True)
    /// True
    /// >>> cache['b']
    /// b'from a file'
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    #[expect(clippy::too_many_arguments, reason = "the signature of python-diskcache")]
    fn set(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        retry: bool,
    ) -> PyResult<bool> {
        write::set(self, py, key, value, &write::Extra { expire, read, tag, retry })?;
        Ok(true)
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        write::set(self, py, key, value, &write::Extra { expire: None, read: false, tag: None, retry: true })
    }

    /// Stores `value` under `key` unless the key has a value. Returns whether it was stored: of many that add at once, one does.
    ///
    /// >>> cache = Cache()
    /// >>> cache.add('a', 1)
    /// True
    /// >>> cache.add('a', 2)
    /// False
    /// >>> cache['a']
    /// 1
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    #[expect(clippy::too_many_arguments, reason = "the signature of python-diskcache")]
    fn add(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        retry: bool,
    ) -> PyResult<bool> {
        write::add(self, py, key, value, &write::Extra { expire, read, tag, retry })
    }

    /// Adds `delta` to the number under `key` and returns the sum. Every increment counts, whoever makes them at once.
    ///
    /// A missing key counts from `default`; if that is None, `KeyError` is raised.
    ///
    /// >>> cache = Cache()
    /// >>> cache.incr('a')
    /// 1
    /// >>> cache.incr('a', 2)
    /// 3
    /// >>> cache.incr('b', default=None)
    /// Traceback (most recent call last):
    ///     ...
    /// KeyError: 'b'
    #[pyo3(signature = (key, delta=Count(Number::Int(1)), default=Some(Count(Number::Int(0))), retry=false))]
    #[pyo3(text_signature = "($self, key, delta=1, default=0, retry=False)")]
    fn incr<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        delta: Count,
        default: Option<Count>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        write::incr(self, py, key, delta.0, default, retry)
    }

    /// Subtracts `delta` from the number under `key` and returns the difference, as `incr` does with the opposite sign.
    ///
    /// >>> cache = Cache()
    /// >>> cache.decr('a', 2, default=10)
    /// 8
    #[pyo3(signature = (key, delta=Count(Number::Int(1)), default=Some(Count(Number::Int(0))), retry=false))]
    #[pyo3(text_signature = "($self, key, delta=1, default=0, retry=False)")]
    fn decr<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        delta: Count,
        default: Option<Count>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        write::incr(self, py, key, write::negated(delta.0)?, default, retry)
    }

    /// Lets `key` expire in `expire` seconds (never if None). Returns whether there was such a key.
    ///
    /// >>> cache = Cache()
    /// >>> cache.touch('a', expire=60)
    /// False
    /// >>> cache['a'] = 1
    /// >>> cache.touch('a', expire=60)
    /// True
    #[pyo3(signature = (key, expire=None, retry=false))]
    fn touch(&self, py: Python<'_>, key: &Bound<'_, PyAny>, expire: Option<f64>, retry: bool) -> PyResult<bool> {
        write::touch(self, py, key, expire, retry)
    }

    /// Removes `key`. Returns whether there was such a key.
    ///
    /// >>> cache = Cache()
    /// >>> cache['a'] = 1
    /// >>> cache.delete('a')
    /// True
    /// >>> cache.delete('a')
    /// False
    #[pyo3(signature = (key, retry=false))]
    fn delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<bool> {
        write::delete(self, py, key, retry)
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if write::delete(self, py, key, true)? { Ok(()) } else { Err(read::missing(key)) }
    }

    /// Removes `key` and returns its value, or `default` if it is missing. Of many that pop at once, one gets it.
    ///
    /// >>> cache = Cache()
    /// >>> cache.set('a', 1, tag='numbers')
    /// True
    /// >>> cache.pop('a', tag=True)
    /// (1, 'numbers')
    /// >>> cache.pop('a', 'nothing')
    /// 'nothing'
    #[pyo3(signature = (key, default=None, expire_time=false, tag=false, retry=false))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        write::pop(self, py, key, default, (expire_time, tag), retry)
    }

    /// Adds to the back or the front of a queue.
    fn _push<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
        queue: (Option<String>, bool),
        extra: (Option<f64>, bool, Option<Bound<'py, PyAny>>, bool),
    ) -> PyResult<Bound<'py, PyAny>> {
        let (expire, read, tag, retry) = extra;
        write::push(self, py, value, (queue.0.as_deref(), queue.1), &write::Extra { expire, read, tag: tag.as_ref(), retry })
    }

    /// Takes from a queue: `((key, value), expire_time, tag)`, or None if it is empty.
    fn _pull<'py>(&self, py: Python<'py>, queue: (Option<String>, bool), retry: bool) -> PyResult<Option<walk::Item<'py>>> {
        walk::pull(self, py, queue.0.as_deref(), queue.1, retry)
    }

    /// Adds many to the back or the front of a queue, by as few commits as hold them.
    fn _push_many(
        &self,
        py: Python<'_>,
        values: Vec<Bound<'_, PyAny>>,
        queue: (Option<String>, bool),
        extra: bulk::Shared<'_>,
    ) -> PyResult<()> {
        bulk::push_many(self, py, &values, (queue.0.as_deref(), queue.1), &extra)
    }

    /// Adds to an end of the queue None and takes from the other end what is more than `maxlen` then.
    fn _append(&self, py: Python<'_>, value: &Bound<'_, PyAny>, front: bool, maxlen: u64) -> PyResult<()> {
        bulk::append(self, py, value, front, maxlen)
    }

    /// Stores the items of a dict, or pairs: as one commit if `whole`, else as few as hold them.
    fn _set_many<'py>(&self, py: Python<'py>, items: &Bound<'py, PyAny>, extra: bulk::Shared<'py>, whole: bool) -> PyResult<()> {
        bulk::set_many(self, py, items, &extra, whole)
    }

    /// Returns what there is of many keys.
    fn _get_many<'py>(&self, py: Python<'py>, keys: Vec<Bound<'py, PyAny>>, retry: bool) -> PyResult<Bound<'py, PyDict>> {
        bulk::get_many(self, py, &keys, retry)
    }

    /// Removes many keys as one commit and returns how many were there.
    fn _delete_many(&self, py: Python<'_>, keys: Vec<Bound<'_, PyAny>>, retry: bool) -> PyResult<usize> {
        bulk::delete_many(self, py, &keys, retry)
    }

    /// Removes many keys as one commit and returns what they had.
    fn _pop_many<'py>(&self, py: Python<'py>, keys: Vec<Bound<'py, PyAny>>, retry: bool) -> PyResult<Bound<'py, PyDict>> {
        bulk::pop_many(self, py, &keys, retry)
    }

    /// Returns the key at an index, if the keys are integers without a gap.
    fn _queue_key(&self, py: Python<'_>, index: i64) -> PyResult<Option<i64>> {
        walk::queue_key(self, py, index)
    }

    /// Takes the item that was inserted last or first, as `_pull`.
    fn _popitem<'py>(&self, py: Python<'py>, last: bool, retry: bool) -> PyResult<Option<walk::Item<'py>>> {
        walk::popitem(self, py, last, retry)
    }

    /// Looks at an end of a queue, as `_pull`.
    fn _peek<'py>(&self, py: Python<'py>, queue: (Option<String>, bool), retry: bool) -> PyResult<Option<walk::Item<'py>>> {
        walk::peek(self, py, queue.0.as_deref(), queue.1, retry)
    }

    /// Returns the value at an end of the queue None, or `default` if it is empty.
    fn _peek_value<'py>(&self, py: Python<'py>, front: bool, default: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Ok(walk::peek_value(self, py, front)?.unwrap_or(default))
    }

    /// Looks at the item that was inserted last or first, as `_pull`.
    fn _peekitem<'py>(&self, py: Python<'py>, last: bool, retry: bool) -> PyResult<Option<walk::Item<'py>>> {
        walk::peekitem(self, py, last, retry)
    }

    /// Iterates the keys in the order of insertion or in key order.
    fn _keys(slf: &Bound<'_, Self>, py: Python<'_>, sorted: bool, reverse: bool) -> PyResult<walk::KeyIterator> {
        walk::KeyIterator::new(slf, py, sorted, reverse)
    }

    /// Returns the value of `key`, or `default` if it is missing, or `blocked` if it takes waiting to find out: for event loops.
    fn _try_get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Bound<'py, PyAny>,
        blocked: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(read::try_get(self, py, key)?.map_or(blocked, |found| found.unwrap_or(default)))
    }

    /// Opens the value of `key` as a file, whatever its type; None if it is missing.
    fn _reader(&self, py: Python<'_>, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<Option<file::ValueFile>> {
        read::reader(self, py, key, retry)
    }

    /// Counts the items, expired ones included.
    fn _len(&self, py: Python<'_>) -> PyResult<u64> {
        self.call(py, true, Cache::len)
    }

    /// Returns what the cache takes on the drive, in bytes.
    fn _volume(&self, py: Python<'_>) -> PyResult<u64> {
        self.call(py, true, Cache::volume)
    }

    /// Removes everything.
    fn _clear(&self, py: Python<'_>, retry: bool) -> PyResult<u64> {
        self.tidied(py, self.call(py, retry, Cache::clear))
    }

    /// Removes what has expired at `now`.
    fn _expire(&self, py: Python<'_>, now: Option<f64>, retry: bool) -> PyResult<u64> {
        self.tidied(py, self.call(py, retry, |engine| engine.expire(now)))
    }

    /// Removes what is tagged with `tag`.
    fn _evict(&self, py: Python<'_>, tag: Option<&Bound<'_, PyAny>>, retry: bool) -> PyResult<u64> {
        walk::evict(self, py, tag, retry)
    }

    /// Removes until the size limit is kept.
    fn _cull(&self, py: Python<'_>, retry: bool) -> PyResult<u64> {
        self.tidied(py, self.call(py, retry, Cache::cull))
    }

    /// Returns hits and misses.
    fn _stats(&self, py: Python<'_>, enable: bool, reset: bool) -> PyResult<(u64, u64)> {
        self.call(py, true, |engine| engine.stats(enable, reset))
    }

    /// Returns one persisted setting; None stands for "not there" too.
    fn _setting<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        settings::one(self, py, name)
    }

    /// Returns all persisted settings.
    fn _settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        settings::all(self, py)
    }

    /// Persists one setting.
    fn _reset(&self, py: Python<'_>, name: &str, value: settings::SettingArgument) -> PyResult<()> {
        self.call(py, true, |engine| engine.reset_setting(name, &value.0))
    }

    /// Begins a transaction of this thread.
    fn _begin(&self, py: Python<'_>, retry: bool) -> PyResult<()> {
        self.transactions.fetch_add(1, Ordering::SeqCst);
        let begun = self.call(py, retry, |engine| engine.transact_begin(None));
        if begun.is_err() {
            self.transactions.fetch_sub(1, Ordering::SeqCst);
        }
        begun
    }

    /// Commits the transaction of this thread.
    fn _commit(&self, py: Python<'_>) -> PyResult<()> {
        let ended = self.call(py, false, Cache::transact_commit);
        self.transactions.fetch_sub(1, Ordering::SeqCst);
        self.tidied(py, ended)
    }

    /// Takes back the transaction of this thread.
    fn _rollback(&self, py: Python<'_>) -> PyResult<()> {
        let ended = self.call(py, false, Cache::transact_rollback);
        self.transactions.fetch_sub(1, Ordering::SeqCst);
        ended
    }

    /// Returns the keys whose values lie in files of the disk object, each with the name of its file.
    fn _own_files<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, String)>> {
        walk::own_files(self, py)
    }

    /// Checks the directory: `[(path, what, fixed)]`.
    fn _check(&self, py: Python<'_>, fix: bool, retry: bool) -> PyResult<Vec<walk::Finding>> {
        self.tidied(py, walk::check(self, py, fix, retry))
    }
}
