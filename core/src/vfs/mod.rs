//! The only door to files: [`Vfs`] and [`VfsFile`], with `OsVfs` for real drives, `BoundedVfs` for those that may not answer, and `MemVfs` for tests.
//!
//! Every method is one I/O step, and every step is a failpoint. Nothing here retries, hides an error or guesses: what the drive
//! said is what the caller gets, `close` included.

pub mod afresh;
pub mod bounded;
pub mod in_turns;
pub mod map;
pub mod mem;
pub mod os;

pub use afresh::{afresh, is_afresh};
pub use bounded::BoundedVfs;
pub use in_turns::InTurns;
pub use map::{Map, MapOwner};
pub use mem::MemVfs;
pub use os::OsVfs;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// A new file, to read and write; an error if the name exists.
    CreateNew,
    /// An existing or a new file, to read and write.
    Create,
    /// An existing file, to write only. An NFS server gives no delegation with it, which others would have to wait for, and its client
    /// never reads a page first.
    Write,
    /// An existing or a new file, to write only. Where the name is unique anyhow, this saves what an exclusive creation costs more.
    CreateWrite,
}

/// What a drive says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Length in bytes.
    pub len: u64,
    /// Number of names.
    pub links: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Inode number.
    pub inode: u64,
}

/// Free and total bytes of a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A file system.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;
    /// Gives the file at `from` the further name `to`; refuses a name that exists.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, replacing what `to` named. Never used where two writers may meet.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes one directory; an error if the name exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes one empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Lists the names in a directory, in no order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Looks at a name (may be answered from a cache).
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Makes the names in a directory durable (a no-op where the drive needs none).
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns the drive's free and total bytes.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// An open file. Positional, shareable between threads.
pub trait VfsFile: Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; short at the end of the file, 0 past it. Within [`afresh`] past the host's caches.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns the length, perhaps from a cache.
    fn len(&self) -> io::Result<u64>;
    /// Returns the length, asked of the server (`AT_STATX_FORCE_SYNC`).
    fn len_fresh(&self) -> io::Result<u64>;
    /// Sets the length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves blocks for the first `len` bytes and sets at least that length, so that a mapped write cannot meet a full disk.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Gives the blocks from `from` on back to the drive; the length stays, and what was there reads as zeros, or as it was where the drive
    /// cannot do that.
    fn give_back(&self, from: u64) -> io::Result<()> {
        let _ = from;
        Ok(())
    }
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Closes and reports what the drive says to it. Later calls fail with EBADF. Dropping closes in silence.
    /// Calls that other threads have under way end first. A held lock is given back.
    fn close(&self) -> io::Result<()>;
    /// Takes the whole-file exclusive lock of this host's kernel without waiting; `false` if another open file has it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Takes that lock, waiting without limit (or until a signal: EINTR).
    fn lock(&self) -> io::Result<()>;
    /// Gives the lock back.
    fn unlock(&self) -> io::Result<()>;
    /// Asks this host's client to hand the file back to the server as soon as it is closed, by everybody who has it open here. A CIFS client
    /// else keeps it open for a second more, with a lease that others who open the file must wait for, and opening the same file by
    /// another name fails meanwhile. A hint: it cannot fail, and does nothing on other drives.
    fn close_promptly(&self) {}
    /// Maps the first `len` bytes, shared. The file must be at least that long (checked), and local.
    fn map(&self, len: usize, writable: bool) -> io::Result<Arc<Map>>;
    /// Returns the open descriptor's number, for [`crate::fork::close_in_child`], or `None` if there is none.
    fn raw_fd(&self) -> Option<i32>;

    /// Reads exactly `buf.len()` bytes at `offset`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let n = self.read_at(&mut buf[done..], offset + done as u64)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += n;
        }
        Ok(())
    }

    /// Returns whether the file is empty, perhaps from a cache.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}
