//! What the drive told one process: its errors, by which an error that the engine gives on is told from one that it made up.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use diskcache_core::vfs::{Map, OpenMode, Space, Stat, Vfs, VfsFile};

/// The errors that a process was given by the drive.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<BTreeSet<i32>>);

impl Watch {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && let Some(errno) = error.raw_os_error()
        {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(errno);
        }
        result
    }

    /// Whether an error's text names an errno that this process was never given.
    pub(super) fn invents(&self, error: &diskcache_core::Error) -> Option<i32> {
        let errno = error.raw_os_error()?;
        (!self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&errno)).then_some(errno)
    }
}

/// A file system that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) inner: Arc<dyn Vfs>,
    pub(super) watch: Arc<Watch>,
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn VfsFile>,
    watch: Arc<Watch>,
}

impl Vfs for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let inner = self.watch.note(self.inner.open(path, mode))?;
        Ok(Arc::new(WatchedFile { inner, watch: Arc::clone(&self.watch) }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.watch.note(self.inner.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.watch.note(self.inner.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.watch.note(self.inner.unlink(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.watch.note(self.inner.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.watch.note(self.inner.remove_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.watch.note(self.inner.read_dir(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.watch.note(self.inner.stat(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.watch.note(self.inner.sync_dir(path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.watch.note(self.inner.space(path))
    }
}

impl VfsFile for WatchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.watch.note(self.inner.read_at(buf, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.watch.note(self.inner.write_all_at(bytes, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.watch.note(self.inner.len())
    }

    fn len_fresh(&self) -> io::Result<u64> {
        self.watch.note(self.inner.len_fresh())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch.note(self.inner.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.watch.note(self.inner.allocate(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.watch.note(self.inner.sync())
    }

    fn close(&self) -> io::Result<()> {
        self.watch.note(self.inner.close())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.watch.note(self.inner.try_lock())
    }

    fn lock(&self) -> io::Result<()> {
        self.watch.note(self.inner.lock())
    }

    fn unlock(&self) -> io::Result<()> {
        self.watch.note(self.inner.unlock())
    }

    fn map(&self, len: usize, writable: bool) -> io::Result<Arc<Map>> {
        self.watch.note(self.inner.map(len, writable))
    }

    fn raw_fd(&self) -> Option<i32> {
        self.inner.raw_fd()
    }
}
