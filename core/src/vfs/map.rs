//! Shared mappings: bytes of a local file that several processes see at once. One of the two modules with `unsafe`.
//!
//! What makes the borrowed slices sound: bytes are only ever written by the holder of the host's lock, past the published tail
//! (see `log/local`), and are never changed once published; files are never shortened by us while they are mapped. Memory that
//! two processes do change at once (the tail) is reached through atomics alone.
#![expect(unsafe_code, reason = "mapped memory has no safe interface; every block says why it is sound")]

use rustix::mm::Advice;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Keeps the memory behind a [`Map`] alive (a real mapping, or a test drive's heap).
pub trait MapOwner: Send + Sync + std::fmt::Debug {
    /// Returns the start and length of the memory. Both must stay the same for the owner's whole life, the start aligned to 8.
    fn region(&self) -> (NonNull<u8>, usize);
}

/// A shared mapping of a file's first bytes.
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    len: usize,
    writable: bool,
    _owner: Box<dyn MapOwner>,
}

// SAFETY: the region lives as long as `_owner` (which is Send + Sync); access follows the module's rules.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Wraps the memory of `owner`.
    #[must_use]
    pub fn new(owner: Box<dyn MapOwner>, writable: bool) -> Self {
        let (start, len) = owner.region();
        assert!(start.as_ptr().align_offset(8) == 0, "a mapping starts on a page");
        Self { start, len, writable, _owner: owner }
    }

    /// Maps the first `len` bytes of an open file descriptor.
    ///
    /// # Errors
    /// What `mmap` says; `InvalidInput` for a length of 0.
    pub fn of_file(file: &impl std::os::fd::AsFd, len: usize, writable: bool) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, file, 0)? };
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self::new(Box::new(OsRegion { start, len }), writable))
    }

    /// Returns the length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether nothing is mapped.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns `len` published bytes at `offset`, or `None` if they are not all mapped.
    #[must_use]
    #[inline]
    pub fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        // SAFETY: inside the region (checked); published bytes are never written again (module rules).
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) })
    }

    /// Writes unpublished bytes. The caller holds the host's lock.
    ///
    /// # Panics
    /// If the range is not all mapped, or the mapping is read-only.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(self.writable, "the mapping is read-only");
        let end = offset.checked_add(bytes.len()).expect("no overflow");
        assert!(end <= self.len, "write of {} bytes at {offset} past the mapping's {}", bytes.len(), self.len);
        // SAFETY: inside the region (checked) and unpublished, so nobody holds a slice of it; `bytes` cannot overlap it for the
        // same reason.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len()) };
    }

    /// Asks the kernel for the pages of a range at once, which costs less than a fault for each when it is written to. A hint: a kernel
    /// that cannot (before Linux 5.14) is not asked twice by its caller, and the pages come by their faults.
    pub fn populate(&self, offset: usize, len: usize) {
        let page = rustix::param::page_size();
        let end = offset.saturating_add(len).min(self.len);
        let start = offset - offset % page;
        if !self.writable || start >= end || self.start.as_ptr().align_offset(page) != 0 {
            return;
        }
        // SAFETY: whole pages from inside the region to its end at most (a mapping ends with its last page); populating changes no byte.
        let result = unsafe { rustix::mm::madvise(self.start.as_ptr().add(start).cast(), end - start, Advice::LinuxPopulateWrite) };
        // What could not be had now is had, or fails, when it is written to.
        debug_assert!(result != Err(rustix::io::Errno::FAULT), "the region is mapped");
    }

    /// Returns the shared word at `offset`.
    ///
    /// # Panics
    /// If the word is not aligned to 8 or not all mapped.
    #[must_use]
    #[inline]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len, "word at {offset} of {}", self.len);
        // SAFETY: aligned and inside the region (checked); words are only ever reached through atomics.
        unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

#[derive(Debug)]
struct OsRegion {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for OsRegion {}
// SAFETY: as above.
unsafe impl Sync for OsRegion {}

impl MapOwner for OsRegion {
    fn region(&self) -> (NonNull<u8>, usize) {
        (self.start, self.len)
    }
}

impl Drop for OsRegion {
    fn drop(&mut self) {
        // SAFETY: exactly what `mmap` returned, unmapped once; every slice of it borrowed the `Map` that owned this.
        let result = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(result.is_ok(), "munmap of our own mapping");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn two_mappings_of_one_file_see_each_other_and_bounds_hold() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let a = Map::of_file(&file, 4096, true).unwrap();
        let b = Map::of_file(&file, 4096, false).unwrap();
        a.write(100, b"hello");
        assert_eq!(b.bytes(100, 5), Some(&b"hello"[..]));
        a.word(8).store(7, Ordering::Release);
        assert_eq!(b.word(8).load(Ordering::Acquire), 7);
        assert_eq!(b.bytes(4095, 2), None);
        assert_eq!(b.bytes(usize::MAX, 2), None);
        assert!(Map::of_file(&file, 0, false).is_err());
    }
}
