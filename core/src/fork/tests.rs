//! Children are real. Between `fork` and `_exit` they do only what is async-signal-safe, and an alarm ends one that hangs.

use super::*;
use crate::clock::{Clock, Deadline, OsClock};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Forks, runs `child`, and returns its exit code (or 128 + the signal that ended it).
fn in_a_child(child: impl FnOnce() -> i32) -> i32 {
    wait_for(fork(child))
}

fn fork(child: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the child runs `child`, which is async-signal-safe in every test here, and exits without unwinding.
    unsafe {
        match libc::fork() {
            -1 => panic!("fork: {}", io::Error::last_os_error()),
            0 => {
                libc::alarm(10);
                libc::_exit(child())
            }
            pid => pid,
        }
    }
}

fn wait_for(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: a child of ours, and a place for its status.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid: {}", io::Error::last_os_error());
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

struct LockFile {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl LockFile {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(rustix::fs::open(&path, rustix::fs::OFlags::CREATE, 0o600.into()).unwrap());
        Self { _dir: dir, path }
    }

    fn open(&self) -> RawFd {
        let path = CString::new(self.path.as_os_str().as_bytes()).unwrap();
        open_raw(&path)
    }
}

fn open_raw(path: &CString) -> RawFd {
    // SAFETY: a NUL-terminated path.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    fd
}

fn flock(fd: RawFd) -> bool {
    // SAFETY: takes numbers alone.
    unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: takes numbers alone.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

fn close(fd: RawFd) {
    // SAFETY: opened by the test, which uses it no more.
    unsafe { libc::close(fd) };
}

fn last_errno() -> i32 {
    // SAFETY: this thread's own.
    unsafe { *libc::__errno_location() }
}

/// Holds a lock, forks a child that lives on, lets go of the lock by closing alone, and returns whether it is free then.
fn is_free_after_close(register: bool) -> bool {
    let file = LockFile::new();
    let holding = hold();
    let fd = file.open();
    if register {
        close_in_child(fd).unwrap();
    }
    drop(holding);
    assert!(flock(fd));
    let (wait, go) = io::pipe().unwrap();
    let child = fork(|| {
        let mut byte = 0_u8;
        // The other end, inherited, would keep the pipe open.
        close(go.as_raw_fd());
        // SAFETY: reads one byte into a place of our own. Ends when the parent closes its end.
        unsafe { libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) };
        0
    });
    forget(fd);
    close(fd);
    let again = file.open();
    // A program that another test starts right now may hold a copy for a moment: until its `exec`.
    let patience = Deadline::after(&OsClock, Duration::from_millis(if register { 5000 } else { 200 }));
    let mut free = flock(again);
    while !free && !patience.passed(&OsClock) {
        OsClock.sleep(Duration::from_millis(1));
        free = flock(again);
    }
    close(again);
    drop(go);
    assert_eq!(wait_for(child), 0);
    free
}

#[test]
fn a_registered_lock_does_not_live_on_in_a_child() {
    assert!(is_free_after_close(true));
    assert!(!is_free_after_close(false), "without registration it does: else this test shows nothing");
}

#[test]
fn a_fork_waits_until_a_new_lock_file_is_registered() {
    let file = LockFile::new();
    let holding = hold();
    let fd = file.open();
    std::thread::scope(|scope| {
        let forker = scope.spawn(|| in_a_child(|| i32::from(flock(fd))));
        OsClock.sleep(Duration::from_millis(50));
        assert!(!forker.is_finished(), "forked while a lock file was being opened");
        close_in_child(fd).unwrap();
        drop(holding);
        assert_eq!(forker.join().unwrap(), 0, "the child could use the lock file");
    });
    forget(fd);
    close(fd);
}

#[test]
fn each_child_has_another_generation_and_the_parent_keeps_its_own() {
    let mine = generation();
    let code = in_a_child(|| {
        let child = generation();
        let grandchild = in_a_child(|| i32::from(generation() == child || generation() == mine));
        i32::from(child == mine) + 2 * grandchild
    });
    assert_eq!(code, 0);
    assert_eq!(generation(), mine);
}

#[test]
fn in_the_child_the_number_stays_taken_and_answers_ebadf() {
    let file = LockFile::new();
    let fd = file.open();
    close_in_child(fd).unwrap();
    let path = CString::new(file.path.as_os_str().as_bytes()).unwrap();
    let code = in_a_child(|| {
        let mut byte = 0_u8;
        if !is_open(fd) {
            return 1;
        }
        if flock(fd) || last_errno() != libc::EBADF {
            return 2;
        }
        // SAFETY: reads one byte into a place of our own.
        if unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } != -1 || last_errno() != libc::EBADF {
            return 3;
        }
        if open_raw(&path) == fd { 4 } else { 0 }
    });
    assert_eq!(code, 0);
    forget(fd);
    assert!(flock(fd), "the parent's own is untouched");
    close(fd);
}

#[test]
fn a_forgotten_or_reused_number_is_left_alone() {
    let (file, other) = (LockFile::new(), LockFile::new());
    let (forgotten, reused, foreign) = (file.open(), file.open(), other.open());
    close_in_child(forgotten).unwrap();
    forget(forgotten);
    close_in_child(reused).unwrap();
    // SAFETY: takes numbers alone; what a program does that closes all descriptors and opens its own.
    unsafe { libc::dup2(foreign, reused) };
    assert_eq!(in_a_child(|| i32::from(!flock(forgotten)) + 2 * i32::from(!flock(reused))), 0);
    forget(reused);
    [forgotten, reused, foreign].into_iter().for_each(close);
}

#[test]
fn it_works_when_no_number_is_free() {
    let file = LockFile::new();
    let path = CString::new(file.path.as_os_str().as_bytes()).unwrap();
    let code = in_a_child(|| {
        let (a, b) = (open_raw(&path), open_raw(&path));
        if close_in_child(a).is_err() || close_in_child(b).is_err() {
            return 1;
        }
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a limit of this child's own; duplicates fill the numbers up.
        unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            limit.rlim_cur = libc::rlim_t::try_from(a.max(b)).unwrap_or(0) + 1;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
                return 2;
            }
            while libc::dup(a) >= 0 {}
        }
        let grandchild = in_a_child(|| {
            let ok = is_open(a) && is_open(b) && !flock(a) && last_errno() == libc::EBADF && !flock(b) && last_errno() == libc::EBADF;
            i32::from(!ok)
        });
        3 * grandchild
    });
    assert_eq!(code, 0);
}

#[test]
fn a_full_list_says_so_and_takes_again_what_was_freed() {
    let slots = [const { Slot::free() }; 3];
    assert!((10..13).all(|fd| claim(&slots, fd, 1, 1)));
    assert!(!claim(&slots, 13, 1, 1));
    slots[1].fd.store(FREE, Ordering::Relaxed);
    assert!(claim(&slots, 13, 1, 1));
    assert!(close_in_child(-1).is_err());
}

#[test]
fn a_child_can_close_what_the_parents_threads_were_using() {
    let (read, write) = io::pipe().unwrap();
    let descriptor = Descriptor::new(read.into());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut byte = [0_u8];
            descriptor.with(|fd| Ok(rustix::io::read(fd, &mut byte[..])?)).unwrap();
            byte[0]
        });
        while descriptor.state.load(Ordering::Relaxed) & CALLS == 0 {
            std::thread::yield_now();
        }
        let code = in_a_child(|| i32::from(descriptor.close().is_err()) + 2 * i32::from(descriptor.with(|_| Ok(())).is_ok()));
        assert_eq!(code, 0, "142 is a hang that the alarm ended");
        rustix::io::write(&write, b"x").unwrap();
        assert_eq!(reader.join().unwrap(), b'x');
    });
    descriptor.close().unwrap();
}
