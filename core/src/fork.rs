//! Descriptors that stay true across `fork`. One of the two modules with `unsafe`.
//!
//! A child inherits every descriptor of its parent, and with it the parent's `flock`: held by both, it would outlive the parent's
//! death. So the lock files are registered here, and a handler that runs in the child before anything else takes them away: each
//! number then names a tombstone that answers EBADF to reading, writing, mapping and locking. The number stays taken, so that
//! whoever inherited it can never reach a foreign file by it.
//!
//! The handler does only what is allowed between `fork` and `exec`: atomics, open, fstat, dup3, close. It replaces a number only
//! while it still names the file that was registered, so a program that closed "all descriptors" behind our back loses nothing.
#![expect(unsafe_code, reason = "fork handlers and raw descriptors have no safe interface; every block says why it is sound")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// How many lock files a process can have registered at once.
pub const CAPACITY: usize = 1024;

const FREE: i32 = -1;
const CLAIMED: i32 = -2;

/// A registered descriptor, and which file it named.
struct Slot {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl Slot {
    const fn free() -> Self {
        Self { fd: AtomicI32::new(FREE), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }
}

static GENERATION: AtomicU32 = AtomicU32::new(0);
static SLOTS: [Slot; CAPACITY] = [const { Slot::free() }; CAPACITY];
/// How many threads put forks off, or [`FORKING`].
static HOLDS: AtomicU32 = AtomicU32::new(0);
const FORKING: u32 = 1 << 31;
static REGISTER: Once = Once::new();

/// Returns a number that differs from the parent's in every forked child: what was opened under another one is inherited.
#[inline]
pub fn generation() -> u32 {
    REGISTER.call_once(|| {
        // SAFETY: `in_child` does only what is async-signal-safe, and all three live as long as the program.
        let result = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        assert!(result == 0, "pthread_atfork failed with {result}: out of memory");
    });
    GENERATION.load(Ordering::Relaxed)
}

/// Puts off the forks of other threads. See [`hold`].
#[derive(Debug)]
#[must_use = "forks are put off while it lives"]
pub struct Hold(());

/// Puts off the forks of other threads until the guard is dropped: from before a lock file is opened until it is registered, since
/// a child that is forked in between would keep it. The holder must not fork, nor wait for what a
/// forking thread may have (a lock of the program, an interpreter's).
pub fn hold() -> Hold {
    generation();
    let enter = |state| if state & FORKING == 0 { Some(state + 1) } else { None };
    while HOLDS.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).is_err() {
        std::thread::yield_now();
    }
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        HOLDS.fetch_sub(1, Ordering::Release);
    }
}

/// Runs in the parent before `fork`: waits for the holders.
extern "C" fn before() {
    while HOLDS.compare_exchange(0, FORKING, Ordering::Acquire, Ordering::Relaxed).is_err() {
        std::thread::yield_now();
    }
}

/// Runs in the parent after `fork`.
extern "C" fn in_parent() {
    HOLDS.store(0, Ordering::Release);
}

/// Registers an open descriptor: forked children lose it. Ends with [`forget`], which must come before its close
/// (an `OsVfs` file sees to that). Open it under [`hold`], and lock it afterwards.
///
/// # Errors
/// What fstat says of a descriptor that is not open; `OutOfMemory` when [`CAPACITY`] descriptors are registered.
pub fn close_in_child(fd: RawFd) -> io::Result<()> {
    generation();
    let (device, inode) = identity(fd).ok_or_else(io::Error::last_os_error)?;
    if claim(&SLOTS, fd, device, inode) { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
}

/// Takes a free slot. Returns whether there was one.
fn claim(slots: &[Slot], fd: RawFd, device: u64, inode: u64) -> bool {
    for slot in slots {
        if slot.fd.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            slot.device.store(device, Ordering::Relaxed);
            slot.inode.store(inode, Ordering::Relaxed);
            slot.fd.store(fd, Ordering::Release);
            return true;
        }
    }
    false
}

/// Takes a descriptor off the list. Does nothing if it is not there.
pub fn forget(fd: RawFd) {
    if fd < 0 {
        return;
    }
    for slot in &SLOTS {
        if slot.fd.compare_exchange(fd, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Returns device and inode of an open descriptor. Async-signal-safe.
fn identity(fd: RawFd) -> Option<(u64, u64)> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the whole struct when it returns 0, and only then is it read.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }.map(|stat| (stat.st_dev, stat.st_ino))
}

/// Runs in the child, before `fork` returns there. Its other threads do not exist: nothing here waits or allocates.
extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    HOLDS.store(0, Ordering::Release);
    // What the parent's errno was is what the child's `fork` caller must find.
    // SAFETY: errno is this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    let mut tombstone = open_tombstone();
    for slot in &SLOTS {
        let fd = slot.fd.swap(FREE, Ordering::Acquire);
        if fd < 0 || identity(fd) != Some((slot.device.load(Ordering::Relaxed), slot.inode.load(Ordering::Relaxed))) {
            continue;
        }
        if tombstone < 0 {
            // No number was free: this one is in a moment. The open below takes the lowest free number, which then is this one.
            // SAFETY: the number names the registered file (just checked), whose owner gets it back below.
            unsafe { libc::close(fd) };
            tombstone = open_tombstone();
            if tombstone == fd {
                tombstone = -1;
                continue;
            }
        }
        if tombstone >= 0 {
            // SAFETY: both are open; the registered file's number is replaced in one step.
            unsafe { libc::dup3(tombstone, fd, libc::O_CLOEXEC) };
        }
    }
    if tombstone >= 0 {
        // SAFETY: opened above and owned by nobody else.
        unsafe { libc::close(tombstone) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn open_tombstone() -> RawFd {
    // SAFETY: a literal, NUL-terminated path.
    unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) }
}

const CLOSING: u32 = 1 << 31;
const CLOSED: u32 = 1 << 30;
const CALLS: u32 = CLOSED - 1;

/// An open descriptor that many threads use and one may close, hearing what the drive says to it.
///
/// A call after [`Descriptor::close`] gets EBADF and never another file that was given the same number: a close first turns new
/// calls away, then waits for those under way.
#[derive(Debug)]
pub struct Descriptor {
    fd: ManuallyDrop<OwnedFd>,
    /// Calls under way, and [`CLOSING`] and [`CLOSED`].
    state: AtomicU32,
    /// The process that opened it.
    born: u32,
}

impl Descriptor {
    /// Takes an open descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd: ManuallyDrop::new(fd), state: AtomicU32::new(0), born: generation() }
    }

    /// Makes a call on the descriptor.
    ///
    /// # Errors
    /// EBADF once it is closed, else what `call` says.
    #[inline]
    pub fn with<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        let under_way = UnderWay::enter(&self.state)?;
        let result = call(self.fd.as_fd());
        drop(under_way);
        result
    }

    /// Returns the number, or `None` once it is closed.
    #[must_use]
    pub fn raw(&self) -> Option<RawFd> {
        (self.state.load(Ordering::Relaxed) & CLOSING == 0).then(|| self.fd.as_raw_fd())
    }

    /// Returns whether it was inherited: opened by a process of which this one is a forked child.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.born != generation()
    }

    /// Closes and returns what close(2) said. Waits for the calls that other threads have under way.
    ///
    /// # Errors
    /// EBADF if it was closed before, else close(2)'s error; the descriptor is closed all the same.
    pub fn close(&self) -> io::Result<()> {
        let before = self.state.fetch_or(CLOSING, Ordering::Acquire);
        if before & CLOSING != 0 {
            return Err(closed());
        }
        forget(self.fd.as_raw_fd());
        let mut state = before | CLOSING;
        while state & CALLS != 0 {
            if self.is_inherited() {
                // Inherited through fork while the parent's threads had calls under way: those never end here. Dropping closes.
                return Ok(());
            }
            // An interrupted or needless wake-up only looks again.
            let _ = rustix::thread::futex::wait(&self.state, rustix::thread::futex::Flags::PRIVATE, state, None);
            state = self.state.load(Ordering::Acquire);
        }
        self.state.fetch_or(CLOSED, Ordering::Relaxed);
        // SAFETY: no call is under way and none will enter; CLOSED keeps `drop` from closing the number again.
        let result = unsafe { libc::close(self.fd.as_raw_fd()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if *self.state.get_mut() & CLOSED != 0 {
            return;
        }
        forget(self.fd.as_raw_fd());
        // SAFETY: taken once, here, where nobody else can reach it any more.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        // SAFETY: owned until this moment; close(2) frees the number whatever it returns. (Dropping the `OwnedFd` would do, but
        // aborts in debug builds when a program closed our descriptor behind our back.)
        unsafe { libc::close(fd.into_raw_fd()) };
    }
}

/// One call under way; ends also when the call panics.
struct UnderWay<'a>(&'a AtomicU32);

impl<'a> UnderWay<'a> {
    fn enter(state: &'a AtomicU32) -> io::Result<Self> {
        let before = state.fetch_add(1, Ordering::Acquire);
        let entered = Self(state);
        if before & CLOSING != 0 {
            return Err(closed());
        }
        Ok(entered)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::Release);
        if before & (CLOSING | CLOSED | CALLS) == CLOSING | 1 {
            let _ = rustix::thread::futex::wake(self.0, rustix::thread::futex::Flags::PRIVATE, u32::MAX >> 1);
        }
    }
}

fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

#[cfg(test)]
mod tests;
