//! [`Cache`]: the handle, and how it survives `fork`.

use crate::cache::engine::Engine;
use crate::cache::open::{Patience, open};
use crate::cache::options::Options;
use crate::cache::worker::Worker;
use crate::clock::{Clock, Deadline, OsClock};
use crate::error::{Error, ErrorKind, Result};
use crate::fork;
use crate::sync::Ordering;
use crate::vfs::bounded::{self, Until};
use crate::vfs::{OsVfs, Vfs};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long the last handle of a cache that nobody closed takes at most to close it.
const DROP_TIME: Duration = Duration::from_secs(1);

/// A cache in a directory. Cloning gives another handle to the same one.
///
/// Dropping the last handle of a cache on a local disk closes it as [`Cache::close`] does, within a second and without saying what failed. On
/// a network drive, which may be away, it writes nothing more.
///
/// ```
/// use diskcache_core::{Cache, KeyRef, Options, Put};
/// let dir = tempfile::tempdir().unwrap();
/// let cache = Cache::open(dir.path(), Options::default()).unwrap();
/// cache.set(KeyRef::text("answer"), Put::bytes(b"42")).unwrap();
/// let value = cache.get(KeyRef::text("answer")).unwrap().expect("just stored");
/// assert_eq!(&*value.bytes().unwrap(), b"42");
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    first: Arc<Handle>,
}

/// What a process has open. A forked child finds its parent's (which it must not touch: other threads of the parent may have held its
/// locks) and hangs its own behind it.
#[derive(Debug)]
struct Handle {
    generation: u32,
    engine: ManuallyDrop<Arc<Engine>>,
    in_child: OnceLock<Arc<Handle>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            return; // the parent's: left alone
        }
        let engine = &self.engine;
        engine.worker.stop();
        // Simulations drop what stands for a killed process: those have no thread. A transaction that nobody ended is nobody's to commit.
        if engine.worker.is_enabled() && !engine.transaction.is_open() && !engine.closed.swap(true, Ordering::AcqRel) {
            // Hints and work that is saved to the next one who opens: nothing that was acknowledged.
            drop(engine.finish(Deadline::after(&*engine.clock, DROP_TIME.min(engine.options.timeout))));
        }
        drop_engine(&mut self.engine);
    }
}

#[expect(unsafe_code, reason = "the one way to leave a field undropped in a forked child")]
fn drop_engine(engine: &mut ManuallyDrop<Arc<Engine>>) {
    // SAFETY: called once, from `Handle::drop`, after which the field is never touched again.
    unsafe { ManuallyDrop::drop(engine) };
}

/// One call of a user's: while it lasts, what this thread asks of the drive has the call's deadline.
pub(crate) struct Call<'a> {
    engine: &'a Engine,
    _until: Option<Until>,
}

impl<'a> std::ops::Deref for Call<'a> {
    type Target = Engine;

    #[inline]
    fn deref(&self) -> &Engine {
        self.engine
    }
}

impl Handle {
    /// `beside`: a thread does the maintenance, if the cache is local.
    fn new(engine: Engine, beside: bool) -> Self {
        let engine = Arc::new(engine);
        if beside && engine.is_local() {
            Worker::enable(&engine);
        }
        Self { generation: fork::generation(), engine: ManuallyDrop::new(engine), in_child: OnceLock::new() }
    }
}

impl Cache {
    /// Opens the cache in `dir`, and makes it if there is none.
    ///
    /// # Errors
    /// `Incompatible` for another kind of folder or a newer format (nothing is touched), `Refused` where the drive cannot hold a shared
    /// cache, `Io`, `Timeout`.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let boot = crate::log::local::boot_id(&OsVfs);
        let engine = open(Arc::new(OsVfs), Arc::new(OsClock), dir, options, boot, Patience::Bounded)?;
        Ok(Self { first: Arc::new(Handle::new(engine, true)) })
    }

    /// Opens a cache on a given file system and clock; `boot` identifies the running kernel. For tests and simulations: maintenance is done
    /// inside the writes, not by a thread beside them.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(vfs: Arc<dyn Vfs>, clock: Arc<dyn Clock>, dir: &Path, options: Options, boot: u64) -> Result<Self> {
        Ok(Self { first: Arc::new(Handle::new(open(vfs, clock, dir, options, boot, Patience::AsGiven)?, false)) })
    }

    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.first.engine.dir
    }

    /// Returns how the cache was opened.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.first.engine.options
    }

    /// Writes what is still held back (noted reads, statistics) and releases the cache; later calls fail with `Closed`.
    ///
    /// # Errors
    /// `Io`, `Timeout`: the cache is closed all the same.
    pub fn close(&self) -> Result<()> {
        let Ok(engine) = self.engine() else { return Ok(()) };
        if engine.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        engine.worker.stop();
        engine.finish(engine.deadline())
    }

    /// Returns this process's engine; opens one if this is a forked child that has none yet.
    #[inline]
    pub(crate) fn engine(&self) -> Result<Call<'_>> {
        let handle = &*self.first;
        let engine = if handle.generation == fork::generation() { &handle.engine } else { Self::engine_in_child(handle)? };
        Ok(Call {
            engine,
            _until: engine.doors.is_bounded.then(|| bounded::until(Deadline::after(&*engine.clock, engine.options.timeout))),
        })
    }

    #[cold]
    fn engine_in_child(mut handle: &Handle) -> Result<&Engine> {
        let generation = fork::generation();
        loop {
            if handle.generation == generation {
                return Ok(&handle.engine);
            }
            if let Some(next) = handle.in_child.get() {
                handle = next;
                continue;
            }
            let parent = &handle.engine;
            if parent.closed.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Closed, "the cache was closed:").at(&parent.dir));
            }
            // Settings given at the first opening were stored then.
            let options = Options { settings: Vec::new(), ..parent.options.clone() };
            let (vfs, clock) = (Arc::clone(&parent.doors.unbounded), Arc::clone(&parent.clock));
            let engine = open(vfs, clock, &parent.dir, options, parent.boot, parent.doors.patience)?;
            let child = Arc::new(Handle::new(engine, parent.worker.is_enabled()));
            handle = handle.in_child.get_or_init(|| child);
        }
    }
}
