//! The same calls with the same chance and the same clock ask the drive for the same things in the same order.
//!
//! A simulated drive decides by the order of requests which of them meets a fault. When the order came from a hash map (what a checkpoint
//! dropped was removed in the order of a set; folded segments were closed in that of a map), a seed that failed did not fail again.
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diskcache_core::chance::SeededChance;
use diskcache_core::clock::ManualClock;
use diskcache_core::vfs::{Map, MemVfs, OpenMode, Space, Stat, Vfs, VfsFile};
use diskcache_core::{Cache, KeyRef, Options, ProfileOverride, Put};

type Trace = Arc<Mutex<Vec<String>>>;

/// A drive that writes down what it is asked for.
#[derive(Debug)]
struct Traced {
    inner: MemVfs,
    trace: Trace,
}

#[derive(Debug)]
struct TracedFile {
    inner: Arc<dyn VfsFile>,
    path: PathBuf,
    trace: Trace,
}

fn note(trace: &Trace, what: &str, path: &Path) {
    trace.lock().unwrap().push(format!("{what} {}", path.display()));
}

impl Vfs for Traced {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        note(&self.trace, "open", path);
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(TracedFile { inner, path: path.to_owned(), trace: Arc::clone(&self.trace) }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        note(&self.trace, "link", to);
        self.inner.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        note(&self.trace, "rename", to);
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        note(&self.trace, "unlink", path);
        self.inner.unlink(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        note(&self.trace, "create_dir", path);
        self.inner.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        note(&self.trace, "remove_dir", path);
        self.inner.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        note(&self.trace, "read_dir", path);
        self.inner.read_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        note(&self.trace, "stat", path);
        self.inner.stat(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        note(&self.trace, "sync_dir", path);
        self.inner.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        note(&self.trace, "space", path);
        self.inner.space(path)
    }
}

impl TracedFile {
    fn note(&self, what: &str) {
        note(&self.trace, what, &self.path);
    }
}

impl Drop for TracedFile {
    fn drop(&mut self) {
        self.note("drop");
    }
}

impl VfsFile for TracedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.note("read");
        self.inner.read_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note("write");
        self.inner.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.note("len");
        self.inner.len()
    }

    fn len_fresh(&self) -> io::Result<u64> {
        self.note("len_fresh");
        self.inner.len_fresh()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note("set_len");
        self.inner.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.note("allocate");
        self.inner.allocate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.note("sync");
        self.inner.sync()
    }

    fn close(&self) -> io::Result<()> {
        self.note("close");
        self.inner.close()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.note("try_lock");
        self.inner.try_lock()
    }

    fn lock(&self) -> io::Result<()> {
        self.note("lock");
        self.inner.lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.note("unlock");
        self.inner.unlock()
    }

    fn map(&self, len: usize, writable: bool) -> io::Result<Arc<Map>> {
        self.note("map");
        self.inner.map(len, writable)
    }

    fn raw_fd(&self) -> Option<i32> {
        None
    }
}

fn options(seed: u64) -> Options {
    Options {
        profile: Some(ProfileOverride::Shared),
        delta_entries_max: 32,
        checkpoint_commits: 12,
        fold_commits: 20,
        readers: 1,
        chance: Arc::new(SeededChance::new(seed)),
        ..Options::default()
    }
}

/// Two processes write, read and delete for hours, with folds, checkpoints and collections; what they ask the drive for.
fn trace_of(seed: u64) -> Vec<String> {
    let trace = Trace::default();
    let (drive, clock) = (MemVfs::new(), ManualClock::default());
    let open = |seed: u64| {
        let vfs = Traced { inner: drive.process(), trace: Arc::clone(&trace) };
        Cache::open_on(Arc::new(vfs), Arc::new(clock.clone()), Path::new("/cache"), options(seed), 1).unwrap()
    };
    let caches = [open(seed), open(seed + 1)];
    for step in 0..500_u32 {
        let (cache, other) = (&caches[step as usize % 2], &caches[(step as usize + 1) % 2]);
        let key = format!("key {}", step.wrapping_mul(2_654_435_761) % 60);
        if step % 7 == 3 {
            cache.delete(KeyRef::text(&key)).unwrap();
        } else {
            cache.set(KeyRef::text(&key), Put::bytes(&vec![step as u8; 700])).unwrap();
        }
        let read = format!("key {}", step.wrapping_mul(40_503) % 60);
        if let Some(value) = other.get(KeyRef::text(&read)).unwrap() {
            value.bytes().unwrap();
        }
        clock.advance(Duration::from_secs(30));
    }
    drop(caches);
    Arc::into_inner(trace).unwrap().into_inner().unwrap()
}

#[test]
fn the_same_calls_ask_the_drive_for_the_same_things_in_the_same_order() {
    for seed in 1..=3 {
        let (one, two) = (trace_of(seed), trace_of(seed));
        let first = one.iter().zip(&two).position(|(one, two)| one != two);
        let near = |trace: &[String]| first.map(|at| trace[at.saturating_sub(3)..trace.len().min(at + 4)].join("\n  "));
        assert!(first.is_none(), "seed {seed}, step {first:?}:\n  {}\nagainst\n  {}", near(&one).unwrap(), near(&two).unwrap());
        assert_eq!(one.len(), two.len(), "seed {seed}");
        let removed = one.iter().filter(|line| line.starts_with("unlink") && (line.contains("/run/") || line.contains("/fold/"))).count();
        assert!(removed > 20, "runs and folds were dropped on the way: {removed}");
    }
}
