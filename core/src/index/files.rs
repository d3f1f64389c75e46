//! Opens run files when they are first needed, and keeps them open: mapped on a local drive, paged on a network drive.
//!
//! A local file that is shorter than the log says is mapped only as far as it goes, so that touching it never raises a signal;
//! what lies past its end is damaged.

use super::levels::Slice;
use super::lock;
use super::pager::Pager;
use super::run::{Fault, RunFile, Source};
use crate::error::{Error, ErrorKind};
use crate::format::wire::Malformed;
use crate::vfs::{OpenMode, Vfs, VfsFile, afresh};
use hashbrown::{HashMap, HashSet};
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The directory of the run files.
pub trait RunDir: Debug + Send + Sync {
    /// Opens a file to read.
    ///
    /// # Errors
    /// What the drive says.
    fn open(&self, file: u64) -> io::Result<Arc<dyn VfsFile>>;
    /// Returns a file's path.
    fn path(&self, file: u64) -> PathBuf;
}

/// `run/` of a cache.
#[derive(Debug)]
pub struct VfsRunDir {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
}

impl VfsRunDir {
    /// Names the directory.
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>, dir: PathBuf) -> Self {
        Self { vfs, dir }
    }
}

impl RunDir for VfsRunDir {
    fn open(&self, file: u64) -> io::Result<Arc<dyn VfsFile>> {
        self.vfs.open(&self.path(file), OpenMode::Read)
    }

    fn path(&self, file: u64) -> PathBuf {
        self.dir.join(file_name(file))
    }
}

/// Returns the name of a run file: 16 hex digits.
#[must_use]
pub fn file_name(file: u64) -> String {
    format!("{file:016x}")
}

/// How run files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Mapped whole. Local drives only.
    Mapped,
    /// In pages, of which so many bytes are kept, through at most so many descriptors.
    Paged {
        /// Bytes of pages kept.
        cache: usize,
        /// Descriptors kept.
        handles: usize,
    },
}

impl Access {
    /// Paged, with the default bounds: 32 MiB, 512 descriptors.
    pub const PAGED: Self = Self::Paged { cache: 32 << 20, handles: 512 };
}

pub(super) type Opened = Result<Arc<RunFile>, Malformed>;

/// The open run files of a cache.
#[derive(Debug)]
pub struct RunFiles {
    dir: Arc<dyn RunDir>,
    seed: u64,
    pager: Option<Arc<Pager>>,
    open: Mutex<HashMap<u64, Opened>>,
}

impl RunFiles {
    /// Starts with none open. `seed` is the cache's.
    #[must_use]
    pub fn new(dir: Arc<dyn RunDir>, access: Access, seed: u64) -> Self {
        let pager = match access {
            Access::Mapped => None,
            Access::Paged { cache, handles } => Some(Arc::new(Pager::new(Arc::clone(&dir), cache, handles))),
        };
        Self { dir, seed, pager, open: Mutex::default() }
    }

    /// Returns the seed of the cache's checksums.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns whether they are mapped: on a local drive.
    #[must_use]
    pub const fn are_mapped(&self) -> bool {
        self.pager.is_none()
    }

    /// Returns the file of a slice.
    ///
    /// # Errors
    /// [`Fault`]; damage is remembered, a drive's failure is not.
    #[inline]
    pub fn file<'s>(&self, slice: &'s Slice) -> Result<&'s RunFile, Fault> {
        let opened = match slice.opened.get() {
            Some(opened) => opened,
            None => {
                let opened = self.open(slice)?;
                slice.opened.get_or_init(|| opened)
            }
        };
        match opened {
            Ok(file) => Ok(file),
            Err(malformed) => Err(Fault::Damaged(*malformed)),
        }
    }

    #[cold]
    fn open(&self, slice: &Slice) -> Result<Opened, Fault> {
        if slice.file == Slice::NO_FILE {
            return Ok(Err(Malformed::Short));
        }
        if let Some(opened) = lock(&self.open).get(&slice.file) {
            return Ok(opened.clone());
        }
        let open = || self.source(slice).and_then(|s| RunFile::open(s, slice.head_len as usize, slice.file_len, slice.sum, self.seed));
        let file = match open() {
            Err(Fault::Damaged(_)) if !self.are_mapped() => afresh(open),
            other => other,
        };
        let opened = match file {
            Ok(file) => Ok(Arc::new(file)),
            Err(Fault::Damaged(malformed)) => Err(malformed),
            Err(fault) => return Err(fault),
        };
        Ok(lock(&self.open).entry(slice.file).or_insert(opened).clone())
    }

    fn source(&self, slice: &Slice) -> Result<Source, Fault> {
        if let Some(pager) = &self.pager {
            return Ok(Source::Paged { pager: Arc::clone(pager), file: slice.file });
        }
        let file = self.dir.open(slice.file)?;
        let len = file.len()?.min(slice.file_len);
        let len = usize::try_from(len).map_err(|_| Malformed::Field("file length"))?;
        if len == 0 {
            return Err(Malformed::Short.into());
        }
        Ok(Source::Mapped(file.map(len, false)?))
    }

    /// Closes the files that are not among `ids`.
    pub fn retain(&self, ids: impl IntoIterator<Item = u64>) {
        let ids: HashSet<u64> = ids.into_iter().collect();
        lock(&self.open).retain(|file, _| ids.contains(file));
        if let Some(pager) = &self.pager {
            pager.retain(|file| ids.contains(&file));
        }
    }

    /// Turns a fault of a file into an error that names it.
    #[must_use]
    pub fn error(&self, file: u64, fault: Fault) -> Error {
        let path = self.dir.path(file);
        match fault {
            Fault::Damaged(malformed) => Error::new(ErrorKind::Damaged, format!("run file is damaged ({malformed})")).at(&path),
            Fault::Gone(error) => Error::new(ErrorKind::Damaged, "run file is gone").at(&path).caused_by(error),
            Fault::Io(error) => Error::io("read run file", &path, error),
        }
    }
}
