//! Large values in files of their own: `blob/<id, 16 hex digits>`, written whole before the record that names them.
//!
//! A blob never changes once it is named by a record. Its bytes are checked against the entry's checksum when they are read; who reads
//! a part of it checks what it can (the whole, once the whole was read in order).

use crate::chance::{self, Chance};
use crate::error::{Error, ErrorKind, Result};
use crate::vfs::{OpenMode, Vfs, VfsFile, afresh};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// Bytes moved at a time when streaming.
const CHUNK_LEN: usize = 256 << 10;

/// The blobs of one cache.
#[derive(Debug)]
pub struct Blobs {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    seed: u64,
    /// Names the files.
    chance: Arc<dyn Chance>,
    /// Sync and close with every result checked before the blob counts as written (network drives, `host` durability).
    durable: bool,
    /// Directories need a sync of their own for names to be durable.
    sync_names: bool,
    /// Writers hold their files' locks (one host, a local disk).
    locks: bool,
}

/// A blob that was written.
#[derive(Debug)]
pub struct Written {
    /// Its id.
    pub id: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Its checksum.
    pub sum: u64,
    /// Holds the file's lock (local disks): as long as it is kept, nobody takes the blob for a dead writer's.
    pub hold: Option<Arc<dyn VfsFile>>,
}

impl Blobs {
    /// The blobs under a cache's directory. Nothing is touched until one is written.
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>, cache_dir: &Path, seed: u64, chance: Arc<dyn Chance>, durable: bool, sync_names: bool) -> Self {
        Self { vfs, dir: cache_dir.join("blob"), seed, chance, durable, sync_names, locks: sync_names }
    }

    /// Returns the path of a blob.
    #[must_use]
    pub fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:016x}"))
    }

    /// Writes everything that `source` gives into a new blob. A file whose write failed is given up. The caller keeps what it gets until
    /// the record that names the blob is published.
    ///
    /// # Errors
    /// `Io` if the drive or the source fails.
    pub fn write(&self, source: &mut dyn Read) -> Result<Written> {
        let (id, path, file) = self.create()?;
        match self.fill(&path, &*file, source) {
            Ok((len, sum)) => Ok(Written { id, len, sum, hold: self.locks.then_some(file) }),
            Err(error) => {
                drop(file);
                self.remove(id);
                Err(error)
            }
        }
    }

    fn create(&self) -> Result<(u64, PathBuf, Arc<dyn VfsFile>)> {
        loop {
            let id = chance::narrow(&*self.chance)?;
            let path = self.path(id);
            match self.vfs.open(&path, OpenMode::CreateNew) {
                Ok(file) => match if self.locks { self.is_mine(&file, &path) } else { Ok(true) } {
                    Ok(true) => return Ok((id, path, file)),
                    Ok(false) => {}
                    Err(error) => {
                        drop(file);
                        self.remove(id);
                        return Err(error);
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => match self.vfs.create_dir(&self.dir) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", &self.dir, e)),
                    // What is synced in it must not vanish with its name; what is not synced now is synced later, by `sync`.
                    _ if self.durable => self.sync_own_name()?,
                    _ => {}
                },
                Err(e) => return Err(Error::io("create", &path, e)),
            }
        }
    }

    /// Locks a new file. `false` if somebody took it for a dead writer's just before.
    fn is_mine(&self, file: &Arc<dyn VfsFile>, path: &Path) -> Result<bool> {
        if !file.try_lock().map_err(|e| Error::io("lock", path, e))? {
            return Ok(false);
        }
        match self.vfs.stat(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("look at", path, e)),
        }
    }

    /// Returns the lock of a blob that nobody writes, or `None` if its writer lives (or it is gone). Local disks only.
    pub(crate) fn lock_unwritten(&self, id: u64) -> Option<Arc<dyn VfsFile>> {
        let file = self.vfs.open(&self.path(id), OpenMode::ReadWrite).ok()?;
        file.try_lock().is_ok_and(|locked| locked).then_some(file)
    }

    fn fill(&self, path: &Path, file: &dyn VfsFile, source: &mut dyn Read) -> Result<(u64, u64)> {
        let mut hasher = XxHash3_64::with_seed(self.seed);
        let mut chunk = vec![0; CHUNK_LEN];
        let mut len = 0;
        loop {
            let n = match source.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => {
                    other.map_err(|e| Error::new(ErrorKind::Io, "failed to read the value that is stored in").at(path).caused_by(e))?
                }
            };
            if n == 0 {
                break;
            }
            hasher.write(&chunk[..n]);
            file.write_all_at(&chunk[..n], len).map_err(|e| Error::io("write to", path, e))?;
            len += n as u64;
        }
        if self.durable {
            file.sync().map_err(|e| Error::io("sync", path, e))?;
        }
        if !self.locks {
            file.close().map_err(|e| Error::io("close", path, e))?;
        }
        if self.durable && self.sync_names {
            self.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        }
        Ok((len, hasher.finish()))
    }

    /// Makes a blob and its name durable.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync(&self, id: u64) -> Result<()> {
        let path = self.path(id);
        let file = self.vfs.open(&path, OpenMode::ReadWrite).map_err(|e| Error::io("open", &path, e))?;
        file.sync().map_err(|e| Error::io("sync", &path, e))?;
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        if self.durable { Ok(()) } else { self.sync_own_name() }
    }

    fn sync_own_name(&self) -> Result<()> {
        let synced = self.dir.parent().map_or(Ok(()), |parent| self.vfs.sync_dir(parent));
        synced.map_err(|e| Error::io("sync the directory of", &self.dir, e))
    }

    /// Removes the folder if it is empty, as it is once no entry has a blob. The next blob makes it again.
    pub(crate) fn remove_folder(&self) {
        drop(self.vfs.remove_dir(&self.dir));
    }

    /// Opens a blob to read it.
    ///
    /// # Errors
    /// `Damaged` if it is gone or has another length.
    pub fn open(&self, id: u64, len: u64, sum: u64) -> Result<BlobReader> {
        let path = self.path(id);
        let file = match self.vfs.open(&path, OpenMode::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::new(ErrorKind::Damaged, "a value's file is gone:").at(&path).caused_by(e));
            }
            other => other.map_err(|e| Error::io("open", &path, e))?,
        };
        if file.len().map_err(|e| Error::io("look at", &path, e))? != len {
            return Err(Error::new(ErrorKind::Damaged, "a value's file has another length:").at(&path));
        }
        Ok(BlobReader { file, path, len, at: 0, sum, check: Some(Box::new(XxHash3_64::with_seed(self.seed))), seed: self.seed })
    }

    /// Removes a blob; failure is "later" (a check finds what is left).
    pub fn remove(&self, id: u64) -> bool {
        matches!(self.vfs.unlink(&self.path(id)), Ok(()))
    }

    /// Lists the ids of all blobs.
    ///
    /// # Errors
    /// `Io`.
    pub fn list(&self) -> Result<Vec<u64>> {
        match self.vfs.read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::io("list", &self.dir, e)),
            Ok(names) => Ok(names.iter().filter(|n| n.len() == 16).filter_map(|n| u64::from_str_radix(n, 16).ok()).collect()),
        }
    }
}

/// A blob that is being read. It stays readable when the blob is removed meanwhile (on drives that allow it).
#[derive(Clone)]
pub struct BlobReader {
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    len: u64,
    at: u64,
    sum: u64,
    /// Hashes what is read in order from the start; dropped by the first jump.
    check: Option<Box<XxHash3_64>>,
    seed: u64,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("path", &self.path).field("len", &self.len).field("at", &self.at).finish_non_exhaustive()
    }
}

impl BlobReader {
    /// Returns its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads the whole blob into `buf`, which must have its length, and checks it.
    ///
    /// # Errors
    /// `Damaged` if the bytes are not those that were stored.
    pub fn read_whole(&self, buf: &mut [u8]) -> Result<()> {
        match self.read_once(buf) {
            // Past this host's caches: a bit may have flipped on the way.
            Err(error) if error.kind() == ErrorKind::Damaged => afresh(|| self.read_once(buf)),
            other => other,
        }
    }

    fn read_once(&self, buf: &mut [u8]) -> Result<()> {
        match self.file.read_exact_at(buf, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::new(ErrorKind::Damaged, "a value's file is too short:").at(&self.path));
            }
            other => other.map_err(|e| Error::io("read", &self.path, e))?,
        }
        if crate::format::wire::is_value(buf, self.seed, self.sum) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Damaged, "a value's bytes are damaged in").at(&self.path))
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len - self.at).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let n = self.file.read_at(&mut buf[..wanted], self.at)?;
        if n == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        if let Some(check) = &mut self.check {
            check.write(&buf[..n]);
            if self.at == self.len && n > 0 && check.finish() != self.sum {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("damaged value in `{}`", self.path.display())));
            }
        }
        Ok(n)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => i128::from(at),
            SeekFrom::End(by) => i128::from(self.len) + i128::from(by),
            SeekFrom::Current(by) => i128::from(self.at) + i128::from(by),
        };
        let target = u64::try_from(target).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let target = target.min(self.len);
        if target == 0 {
            self.check = Some(Box::new(XxHash3_64::with_seed(self.seed)));
        } else if target != self.at {
            self.check = None;
        }
        self.at = target;
        Ok(target)
    }
}
