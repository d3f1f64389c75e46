//! Calls to a drive that may never answer, each with an end.
//!
//! A server that stopped holds whoever asks it inside the kernel, for minutes or for ever, and no signal short of SIGKILL ends that. So
//! each call is made by a thread that can be left behind: whoever asked goes on with `ETIMEDOUT` when its time is over, and the thread
//! ends when the drive answers. To the caller that is one more lost reply: the call may take effect later, or never.
//!
//! How long a call may take is said by [`until`], which is kept a thread; where nothing was said, by the limit of [`BoundedVfs::new`].

use super::{Map, OpenMode, Space, Stat, Vfs, VfsFile, afresh};
use crate::clock::{Clock, Deadline};
use crate::fork;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rustix::io::Errno;
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

/// What tidying up after the time is over may still wait for one answer.
const PATIENCE: Duration = Duration::from_millis(50);
/// What was begun in time may end so much late: one round trip to a server that is far away must not be cut off by a timeout that is shorter.
const LATE_MAX: Duration = Duration::from_secs(1);
/// How long a thread waits for its next call before it ends.
const IDLE: Duration = Duration::from_secs(5);
/// So many threads of one cache may be held by the drive at once; what is asked then gets no thread, and fails.
const HELD_MAX: usize = 256;

thread_local! {
    static UNTIL: Cell<Option<Deadline>> = const { Cell::new(None) };
}

/// What [`until`] said holds as long as this lives.
#[derive(Debug)]
#[must_use = "the deadline holds while it lives"]
pub struct Until {
    before: Option<Deadline>,
    /// It belongs to its thread.
    here: PhantomData<*const ()>,
}

/// Gives what this thread asks of bounded drives a deadline.
pub fn until(deadline: Deadline) -> Until {
    Until { before: UNTIL.replace(Some(deadline)), here: PhantomData }
}

/// Moves the deadline that [`until`] gave: the next step of a long work begins. Nothing where there is none.
pub fn renew(deadline: Deadline) {
    if UNTIL.get().is_some() {
        UNTIL.set(Some(deadline));
    }
}

/// Returns the deadline of this thread, for a thread that works for it.
#[must_use]
pub fn current() -> Option<Deadline> {
    UNTIL.get()
}

impl Drop for Until {
    fn drop(&mut self) {
        UNTIL.set(self.before);
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Under way, or given up by who asked, or answered.
const ASKED: u8 = 0;
const LEFT: u8 = 1;
const ANSWERED: u8 = 2;

/// The threads that make the calls.
#[derive(Debug)]
struct Hands {
    /// Has room for nothing: a job is taken by a thread that waits for one, or not at all.
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    /// Calls that somebody gave up and the drive still has.
    held: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
    limit: Duration,
    generation: u32,
}

impl Hands {
    fn new(clock: Arc<dyn Clock>, limit: Duration) -> Self {
        let (jobs, waiting) = bounded(0);
        Self { jobs, waiting, held: Arc::default(), clock, limit, generation: fork::generation() }
    }

    /// Has `work` done by one of the threads, and waits for it until the deadline.
    fn call<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        if self.generation != fork::generation() {
            return work(); // a forked child has none of the threads; what it opens itself is bounded by its own
        }
        if self.held.load(Ordering::Relaxed) >= HELD_MAX {
            return Err(Errno::TIMEDOUT.into());
        }
        let left = match UNTIL.get().map(|deadline| deadline.left(&*self.clock)) {
            None => self.limit,
            Some(Some(left)) => left.max(LATE_MAX).min(self.limit),
            Some(None) => PATIENCE,
        };
        let (answer, answered) = bounded(1);
        let state = Arc::new(AtomicU8::new(ASKED));
        self.hand_over(Box::new({
            let (state, held, past_caches) = (Arc::clone(&state), Arc::clone(&self.held), afresh::is_afresh());
            move || {
                let result = afresh::within(past_caches, work);
                // There is room for it, whether or not somebody waits.
                drop(answer.send(result));
                if state.swap(ANSWERED, Ordering::AcqRel) == LEFT {
                    held.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }))?;
        match answered.recv_timeout(left) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("a call to the drive panicked")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        if state.swap(LEFT, Ordering::AcqRel) == ANSWERED {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return answered.recv().unwrap_or_else(|_| Err(Errno::TIMEDOUT.into()));
        }
        Err(Errno::TIMEDOUT.into())
    }

    /// Gives a job to a thread that waits for one, or to a new one.
    fn hand_over(&self, job: Job) -> io::Result<()> {
        let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = match self.jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let waiting = self.waiting.clone();
        std::thread::Builder::new().name("diskcache-io".to_owned()).spawn(move || serve(job, &waiting)).map(drop)
    }
}

fn serve(first: Job, waiting: &Receiver<Job>) {
    first();
    while let Ok(job) = waiting.recv_timeout(IDLE) {
        job();
    }
}

/// Does `work`, which may block in the system, in a thread that is left behind with `ETIMEDOUT` when its time is over.
///
/// # Errors
/// What `work` says, or `ETIMEDOUT`.
pub fn call<T: Send + 'static>(
    clock: Arc<dyn Clock>,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    Hands::new(clock, limit).call(work)
}

/// A file system of which no call lasts longer than its deadline says.
#[derive(Debug)]
pub struct BoundedVfs {
    inner: Arc<dyn Vfs>,
    hands: Arc<Hands>,
}

impl BoundedVfs {
    /// Bounds `inner`, whose calls may block in the system; `clock` is the system's, and no call waits longer than `limit`.
    #[must_use]
    pub fn new(inner: Arc<dyn Vfs>, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self { inner, hands: Arc::new(Hands::new(clock, limit)) }
    }

    fn call<T: Send + 'static>(&self, path: &Path, work: impl FnOnce(&dyn Vfs, &Path) -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let (inner, path) = (Arc::clone(&self.inner), path.to_owned());
        self.hands.call(move || work(&*inner, &path))
    }
}

impl Vfs for BoundedVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let inner = self.call(path, move |vfs, path| vfs.open(path, mode))?;
        Ok(Arc::new(BoundedFile { inner: Some(inner), hands: Arc::clone(&self.hands) }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.call(from, move |vfs, from| vfs.link(from, &to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.call(from, move |vfs, from| vfs.rename(from, &to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call(path, |vfs, path| vfs.unlink(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(path, |vfs, path| vfs.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call(path, |vfs, path| vfs.remove_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call(path, |vfs, path| vfs.read_dir(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.call(path, |vfs, path| vfs.stat(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(path, |vfs, path| vfs.sync_dir(path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.call(path, |vfs, path| vfs.space(path))
    }
}

/// An open file of a [`BoundedVfs`].
#[derive(Debug)]
struct BoundedFile {
    /// There until it is dropped.
    inner: Option<Arc<dyn VfsFile>>,
    hands: Arc<Hands>,
}

impl BoundedFile {
    fn inner(&self) -> &Arc<dyn VfsFile> {
        self.inner.as_ref().expect("there until it is dropped")
    }

    fn call<T: Send + 'static>(&self, work: impl FnOnce(&dyn VfsFile) -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let inner = Arc::clone(self.inner());
        self.hands.call(move || {
            let result = work(&*inner);
            // The last one closes, which may block as well: it is this thread that may be left behind.
            drop(inner);
            result
        })
    }
}

impl Drop for BoundedFile {
    fn drop(&mut self) {
        let inner = self.inner.take();
        // What a close in silence says is nobody's concern.
        drop(self.hands.call(move || {
            drop(inner);
            Ok(())
        }));
    }
}

impl VfsFile for BoundedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = buf.len();
        let bytes = self.call(move |file| {
            let mut bytes = vec![0; len];
            let n = file.read_at(&mut bytes, offset)?;
            bytes.truncate(n);
            Ok(bytes)
        })?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let bytes = bytes.to_vec();
        self.call(move |file| file.write_all_at(&bytes, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.call(|file| file.len())
    }

    fn len_fresh(&self) -> io::Result<u64> {
        self.call(|file| file.len_fresh())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(move |file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.call(move |file| file.allocate(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.call(|file| file.sync())
    }

    fn close(&self) -> io::Result<()> {
        self.call(|file| file.close())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.call(|file| file.try_lock())
    }

    /// Not bounded: it waits without limit by its meaning.
    fn lock(&self) -> io::Result<()> {
        self.inner().lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.call(|file| file.unlock())
    }

    fn close_promptly(&self) {
        // A hint.
        drop(self.call(|file| {
            file.close_promptly();
            Ok(())
        }));
    }

    fn map(&self, len: usize, writable: bool) -> io::Result<Arc<Map>> {
        self.call(move |file| file.map(len, writable))
    }

    fn raw_fd(&self) -> Option<i32> {
        self.inner().raw_fd()
    }
}

#[cfg(test)]
mod tests;
