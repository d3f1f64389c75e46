//! Where the bytes of a run file come from.

use crate::format::wire::Malformed;
use crate::index::pager::{Page, Pager};
use crate::vfs::Map;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

/// Why bytes could not be had.
#[derive(Debug)]
pub enum Fault {
    /// They are not what was written, or not there at all.
    Damaged(Malformed),
    /// The file is not there (any more).
    Gone(io::Error),
    /// The drive did not answer; they may be well.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let stale = error.raw_os_error() == Some(libc::ESTALE);
        if stale || error.kind() == io::ErrorKind::NotFound { Self::Gone(error) } else { Self::Io(error) }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed)
    }
}

/// The bytes of a run file.
#[derive(Debug)]
pub enum Source {
    /// A mapping of a local file.
    Mapped(Arc<Map>),
    /// Memory.
    Memory(Arc<[u8]>),
    /// Pages of a file on a network drive, through the pager's cache.
    Paged {
        /// Reads and keeps pages.
        pager: Arc<Pager>,
        /// The file's id.
        file: u64,
    },
}

/// Some bytes of a source.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A part of the source.
    Slice(&'a [u8]),
    /// A part of a cached page.
    Page {
        /// The page.
        page: Arc<Page>,
        /// Where the part starts.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// Put together from several pages.
    Owned(Vec<u8>),
}

impl Deref for Piece<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Slice(bytes) => bytes,
            Self::Page { page, start, end } => page.bytes().get(*start..*end).unwrap_or(&[]),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Source {
    /// Returns `len` bytes at `offset`.
    ///
    /// # Errors
    /// [`Fault`]: damaged if the file ends before.
    #[inline]
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Piece<'_>, Fault> {
        match self {
            Self::Paged { pager, file } => pager.bytes(*file, offset, len),
            _ => self.slice(offset, len).map(Piece::Slice),
        }
    }

    /// Returns all bytes, if they lie in memory.
    #[inline]
    pub(super) fn memory(&self) -> Option<&[u8]> {
        match self {
            Self::Mapped(map) => map.bytes(0, map.len()),
            Self::Memory(bytes) => Some(bytes),
            Self::Paged { .. } => None,
        }
    }

    /// Returns `len` bytes at `offset` of a source that lies in memory.
    #[inline]
    fn slice(&self, offset: u64, len: usize) -> Result<&[u8], Fault> {
        let offset = usize::try_from(offset).map_err(|_| Malformed::Short)?;
        let end = offset.checked_add(len).ok_or(Malformed::Short)?;
        let found = match self {
            Self::Mapped(map) => map.bytes(offset, len),
            Self::Memory(bytes) => bytes.get(offset..end),
            Self::Paged { .. } => None,
        };
        found.ok_or(Fault::Damaged(Malformed::Short))
    }

    /// Returns as many bytes at `offset` as one entry takes, or a few more, but none from `end` on. `len_of` tells an entry's
    /// length from its first `fixed` bytes.
    #[inline]
    pub(super) fn entry(&self, offset: u64, end: u64, fixed: usize, len_of: impl FnOnce(&[u8]) -> usize) -> Result<Piece<'_>, Fault> {
        let room = usize::try_from(end.checked_sub(offset).ok_or(Malformed::Short)?).map_err(|_| Malformed::Short)?;
        if room < fixed {
            return Err(Malformed::Short.into());
        }
        if matches!(self, Self::Paged { .. }) {
            let len = len_of(&self.bytes(offset, fixed)?);
            return if len <= room { self.bytes(offset, len) } else { Err(Malformed::Short.into()) };
        }
        let len = len_of(self.slice(offset, fixed)?);
        if len <= room { self.slice(offset, len).map(Piece::Slice) } else { Err(Malformed::Short.into()) }
    }
}
