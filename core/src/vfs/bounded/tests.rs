use super::*;
use crate::clock::OsClock;
use crate::vfs::MemVfs;
use std::sync::{Condvar, Mutex};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(30);

/// A gate that calls wait at.
#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }
}

/// A drive that answers only while its gate is open.
#[derive(Debug)]
struct Gated {
    mem: MemVfs,
    gate: Arc<Gate>,
}

impl Vfs for Gated {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.gate.pass();
        self.mem.open(path, mode)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate.pass();
        self.mem.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.mem.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.mem.unlink(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.mem.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.mem.remove_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.mem.read_dir(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.gate.pass();
        self.mem.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.mem.sync_dir(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.mem.space(path)
    }
}

fn rig(limit: Duration) -> (BoundedVfs, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let gated = Gated { mem: MemVfs::new(), gate: Arc::clone(&gate) };
    (BoundedVfs::new(Arc::new(gated), Arc::new(OsClock), limit), gate)
}

fn is_timeout<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::ETIMEDOUT))
}

/// Waits until what must come has come.
fn eventually(mut has_come: impl FnMut() -> bool) {
    let deadline = Deadline::after(&OsClock, LONG);
    while !has_come() {
        assert!(!deadline.passed(&OsClock), "it has not come");
        OsClock.sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_a_drive_that_answers_says_is_passed_on() {
    let (vfs, _gate) = rig(LONG);
    let path = Path::new("/file");
    let file = vfs.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(b"some bytes", 0).unwrap();
    file.sync().unwrap();
    let mut buf = [0; 16];
    assert_eq!(file.read_at(&mut buf, 5).unwrap(), 5);
    assert_eq!(&buf[..5], b"bytes");
    assert_eq!((file.len().unwrap(), file.len_fresh().unwrap()), (10, 10));
    file.close().unwrap();
    assert_eq!(file.len().unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(vfs.open(path, OpenMode::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(vfs.stat(path).unwrap().len, 10);
}

#[test]
fn a_call_that_the_drive_holds_ends_at_the_limit_and_takes_effect_later() {
    let (vfs, gate) = rig(SHORT);
    drop(vfs.open(Path::new("/a"), OpenMode::CreateNew).unwrap());
    gate.set(true);
    assert!(is_timeout(vfs.link(Path::new("/a"), Path::new("/b"))));
    assert_eq!(vfs.hands.held.load(Ordering::Relaxed), 1);
    gate.set(false);
    eventually(|| vfs.hands.held.load(Ordering::Relaxed) == 0);
    assert_eq!(vfs.stat(Path::new("/b")).unwrap().links, 2, "a lost reply is not a lost call");
}

#[test]
fn a_deadline_counts_while_its_guard_lives_and_can_be_moved() {
    let (vfs, gate) = rig(LONG);
    gate.set(true);
    {
        let _until = until(Deadline::after(&OsClock, SHORT));
        assert!(is_timeout(vfs.stat(Path::new("/a"))));
        assert!(is_timeout(vfs.stat(Path::new("/a"))), "after the deadline, too");
        renew(Deadline::after(&OsClock, LONG));
        let gate = Arc::clone(&gate);
        let opens = std::thread::spawn(move || {
            OsClock.sleep(2 * PATIENCE);
            gate.set(false);
        });
        assert_eq!(vfs.stat(Path::new("/a")).unwrap_err().kind(), io::ErrorKind::NotFound, "there is time again");
        opens.join().unwrap();
    }
    renew(Deadline::after(&OsClock, SHORT));
    assert_eq!(current(), None, "outside of a call there is none to be moved");
}

#[test]
fn a_drive_that_holds_very_many_calls_gets_no_more_until_it_answers() {
    let (vfs, gate) = rig(LONG);
    gate.set(true);
    let _passed = until(Deadline::after(&OsClock, Duration::ZERO));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let _passed = until(Deadline::after(&OsClock, Duration::ZERO));
                while vfs.hands.held.load(Ordering::Relaxed) < HELD_MAX {
                    assert!(is_timeout(vfs.stat(Path::new("/a"))));
                }
            });
        }
    });
    let held = vfs.hands.held.load(Ordering::Relaxed);
    assert!(is_timeout(vfs.stat(Path::new("/a"))));
    assert_eq!(vfs.hands.held.load(Ordering::Relaxed), held, "it was asked all the same");
    gate.set(false);
    eventually(|| vfs.hands.held.load(Ordering::Relaxed) == 0);
    assert_eq!(vfs.stat(Path::new("/a")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_thread_that_reads_past_caches_has_it_done_so() {
    let hands = Hands::new(Arc::new(OsClock), LONG);
    assert!(afresh::afresh(|| hands.call(|| Ok(afresh::is_afresh()))).unwrap());
    assert!(!hands.call(|| Ok(afresh::is_afresh())).unwrap());
}
