//! Threads of one host share commits: on a drive where every request takes its time, eight of them write several times as fast as one.
#![expect(clippy::disallowed_methods, reason = "a test: its drive takes real time, and its files are counted")]

use diskcache_core::clock::OsClock;
use diskcache_core::vfs::{Map, OpenMode, OsVfs, Space, Stat, Vfs, VfsFile};
use diskcache_core::{Cache, KeyRef, Options, ProfileOverride, Put};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const TRIP: Duration = Duration::from_millis(1);

/// A drive of which every request takes [`TRIP`].
#[derive(Debug)]
struct Slow;

#[derive(Debug)]
struct SlowFile(Arc<dyn VfsFile>);

fn trip() {
    std::thread::sleep(TRIP);
}

impl Vfs for Slow {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        trip();
        OsVfs.open(path, mode).map(|file| Arc::new(SlowFile(file)) as _)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        trip();
        OsVfs.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        trip();
        OsVfs.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        trip();
        OsVfs.unlink(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        trip();
        OsVfs.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        trip();
        OsVfs.remove_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        trip();
        OsVfs.read_dir(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        trip();
        OsVfs.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        trip();
        OsVfs.sync_dir(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        OsVfs.space(path)
    }
}

impl VfsFile for SlowFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        trip();
        self.0.read_at(buf, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn len_fresh(&self) -> io::Result<u64> {
        trip();
        self.0.len_fresh()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        trip();
        self.0.sync()
    }
    fn close(&self) -> io::Result<()> {
        trip();
        self.0.close()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
    fn lock(&self) -> io::Result<()> {
        self.0.lock()
    }
    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
    fn map(&self, len: usize, writable: bool) -> io::Result<Arc<Map>> {
        self.0.map(len, writable)
    }
    fn raw_fd(&self) -> Option<i32> {
        self.0.raw_fd()
    }
}

/// A new group formed only of who had waited when the last one ended: threads went with every other commit, and eight of them wrote three times as
/// fast as one. Counted in commits, not in seconds.
#[test]
fn eight_threads_need_a_commit_for_at_least_five_of_their_sets() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { profile: Some(ProfileOverride::Shared), ..Options::default() };
    let cache = Cache::open_on(Arc::new(Slow), Arc::new(OsClock), dir.path(), options, 7).unwrap();
    let commits = || std::fs::read_dir(dir.path().join("log")).unwrap().count();
    let before = commits();
    let (threads, sets) = (8, 25);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let cache = &cache;
            scope.spawn(move || {
                for i in 0..sets {
                    cache.set(KeyRef::text(&format!("{thread}-{i}")), Put::text("value")).unwrap();
                }
            });
        }
    });
    let made = commits() - before;
    println!("{} sets in {made} commits", threads * sets);
    assert!(made * 5 <= threads * sets, "{} sets took {made} commits", threads * sets);
    assert_eq!(cache.len().unwrap(), (threads * sets) as u64);
}
