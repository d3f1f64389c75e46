use super::*;
use crate::clock::{Clock, OsClock};
use std::io::ErrorKind;
use std::time::Duration;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn create(path: &Path) -> Arc<dyn VfsFile> {
    OsVfs.open(path, OpenMode::CreateNew).unwrap()
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn bytes_come_back_where_they_were_written_and_reads_end_at_the_end() {
    let dir = dir();
    let file = create(&dir.path().join("a"));
    file.write_all_at(b"world", 5).unwrap();
    file.write_all_at(b"hello", 0).unwrap();
    let mut buf = [0; 16];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 10);
    assert_eq!(&buf[..10], b"helloworld");
    assert_eq!(file.read_at(&mut buf, 10).unwrap(), 0);
    assert_eq!(file.read_exact_at(&mut buf, 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!((file.len().unwrap(), file.len_fresh().unwrap()), (10, 10));
    file.set_len(3).unwrap();
    assert_eq!(file.len().unwrap(), 3);
    file.sync().unwrap();
    OsVfs.sync_dir(dir.path()).unwrap();
}

#[test]
fn a_closed_file_answers_ebadf_and_never_reads_the_file_that_got_its_number() {
    let dir = dir();
    let mut reused = 0;
    for _ in 0..1000 {
        let file = create(&dir.path().join("a"));
        let number = file.raw_fd().unwrap();
        file.close().unwrap();
        let other = create(&dir.path().join("b"));
        other.write_all_at(b"secret", 0).unwrap();
        // The kernel gives the lowest number that is free; another thread may have been faster.
        reused += u32::from(other.raw_fd() == Some(number));
        assert_eq!(errno(file.read_at(&mut [0; 4], 0)), libc::EBADF);
        assert_eq!(errno(file.write_all_at(b"x", 0)), libc::EBADF);
        assert_eq!(errno(file.try_lock()), libc::EBADF);
        assert_eq!(errno(file.close()), libc::EBADF);
        assert_eq!(file.raw_fd(), None);
        drop(file);
        let mut buf = [0; 6];
        other.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"secret");
        OsVfs.unlink(&dir.path().join("a")).unwrap();
        OsVfs.unlink(&dir.path().join("b")).unwrap();
    }
    assert!(reused > 0, "the kernel never gave a number again: nothing was tested");
}

#[test]
fn a_lock_excludes_another_open_file_until_unlocked_closed_or_dropped() {
    let dir = dir();
    let path = dir.path().join("lock");
    let a = create(&path);
    let b = OsVfs.open(&path, OpenMode::ReadWrite).unwrap();
    assert!(a.try_lock().unwrap());
    assert!(!b.try_lock().unwrap());
    a.unlock().unwrap();
    assert!(b.try_lock().unwrap());
    assert!(!a.try_lock().unwrap());
    b.close().unwrap();
    assert!(a.try_lock().unwrap());
    drop(a);
    let c = OsVfs.open(&path, OpenMode::Read).unwrap();
    assert!(c.try_lock().unwrap());
}

#[test]
fn waiting_for_a_lock_ends_when_it_is_given_back() {
    let dir = dir();
    let path = dir.path().join("lock");
    let a = create(&path);
    a.lock().unwrap();
    let given_back = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let b = OsVfs.open(&path, OpenMode::ReadWrite).unwrap();
            b.lock().unwrap();
            assert!(given_back.load(Ordering::SeqCst), "locked while another had it");
        });
        OsClock.sleep(Duration::from_millis(30));
        given_back.store(true, Ordering::SeqCst);
        a.unlock().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn a_close_lets_the_calls_under_way_end_first() {
    let dir = dir();
    let path = dir.path().join("lock");
    let holder = create(&path);
    holder.lock().unwrap();
    let file = OsVfs.open(&path, OpenMode::ReadWrite).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| file.lock());
        OsClock.sleep(Duration::from_millis(20));
        let closer = scope.spawn(|| file.close());
        OsClock.sleep(Duration::from_millis(20));
        assert!(!closer.is_finished(), "closed under a call");
        holder.unlock().unwrap();
        waiter.join().unwrap().unwrap();
        closer.join().unwrap().unwrap();
    });
    assert!(holder.try_lock().unwrap(), "the close gave the lock back");
}

#[test]
fn link_and_exclusive_create_refuse_a_name_that_exists() {
    let dir = dir();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    create(&a);
    assert_eq!(errno(OsVfs.open(&a, OpenMode::CreateNew)), libc::EEXIST);
    OsVfs.link(&a, &b).unwrap();
    assert_eq!(errno(OsVfs.link(&a, &b)), libc::EEXIST);
    assert_eq!(OsVfs.stat(&a).unwrap().links, 2);
    assert_eq!(OsVfs.stat(&a).unwrap().inode, OsVfs.stat(&b).unwrap().inode);
    OsVfs.unlink(&a).unwrap();
    assert_eq!(errno(OsVfs.stat(&a)), libc::ENOENT);
    OsVfs.rename(&b, &a).unwrap();
    assert_eq!(OsVfs.read_dir(dir.path()).unwrap(), ["a"]);
}

#[test]
fn directories_are_made_listed_and_removed() {
    let dir = dir();
    let sub = dir.path().join("sub");
    OsVfs.create_dir(&sub).unwrap();
    assert_eq!(errno(OsVfs.create_dir(&sub)), libc::EEXIST);
    assert!(OsVfs.stat(&sub).unwrap().is_dir);
    create(&sub.join("x"));
    assert_eq!(errno(OsVfs.remove_dir(&sub)), libc::ENOTEMPTY);
    OsVfs.unlink(&sub.join("x")).unwrap();
    OsVfs.remove_dir(&sub).unwrap();
    assert_eq!(errno(OsVfs.read_dir(&sub)), libc::ENOENT);
    let space = OsVfs.space(dir.path()).unwrap();
    assert!(space.free <= space.total && space.total > 0);
}

#[test]
fn allocate_lengthens_keeps_what_is_there_and_never_shortens() {
    let dir = dir();
    let file = create(&dir.path().join("a"));
    file.write_all_at(b"abc", 0).unwrap();
    file.allocate(100_000).unwrap();
    assert_eq!(file.len().unwrap(), 100_000);
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 100_000);
    let mut buf = [1; 5];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"abc\0\0");
}

#[test]
fn a_mapping_needs_the_whole_length_and_is_seen_by_reads_at_once() {
    let dir = dir();
    let file = create(&dir.path().join("a"));
    file.set_len(4096).unwrap();
    assert_eq!(file.map(4097, false).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let map = file.map(4096, true).unwrap();
    let other = file.map(4096, false).unwrap();
    map.write(1000, b"mapped");
    assert_eq!(other.bytes(1000, 6), Some(&b"mapped"[..]));
    let mut buf = [0; 6];
    file.read_exact_at(&mut buf, 1000).unwrap();
    assert_eq!(&buf, b"mapped");
    file.write_all_at(b"written", 2000).unwrap();
    assert_eq!(map.bytes(2000, 7), Some(&b"written"[..]));
}

#[test]
fn a_started_program_inherits_no_descriptor() {
    let dir = dir();
    let file = create(&dir.path().join("a"));
    let link = format!("/proc/self/fd/{}", file.raw_fd().unwrap());
    let status = std::process::Command::new("/bin/sh").arg("-c").arg(format!("test ! -e {link}")).status().unwrap();
    assert!(status.success(), "{link} is open in a child program");
}

#[test]
fn a_full_drive_says_so() {
    let full = OsVfs.open(Path::new("/dev/full"), OpenMode::ReadWrite).unwrap();
    assert_eq!(errno(full.write_all_at(b"x", 0)), libc::ENOSPC);
}

#[test]
fn many_threads_may_use_one_file_while_it_is_closed() {
    let dir = dir();
    for _ in 0..50 {
        let file = create(&dir.path().join("a"));
        file.write_all_at(&[7; 4096], 0).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut buf = [0; 64];
                    loop {
                        match file.read_at(&mut buf, 0) {
                            Ok(n) => assert_eq!((n, buf[0]), (64, 7)),
                            Err(error) => break assert_eq!(error.raw_os_error(), Some(libc::EBADF)),
                        }
                    }
                });
            }
            OsClock.sleep(Duration::from_micros(200));
            file.close().unwrap();
        });
        OsVfs.unlink(&dir.path().join("a")).unwrap();
    }
}
