//! Reads run files on network drives: whole pages of 16 KiB through a bounded cache, descriptors kept by a bounded table.
//!
//! A held descriptor may be lost at any time (ESTALE, EIO, EBADF): a failed read opens the file again, several times,
//! before it is believed.

use super::files::RunDir;
use super::lock;
use super::recent::Recent;
use super::run::{BLOCK_LEN, Fault, Piece};
use crate::format::wire::Malformed;
use crate::vfs::{VfsFile, is_afresh};
use std::io;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// How often a file is opened and read before an error is believed.
const TRIES: u32 = 12;

/// Bytes of a page.
pub const PAGE_LEN: usize = 4 * BLOCK_LEN;

/// A cached page of a file; short at the file's end.
#[derive(Debug)]
pub struct Page {
    bytes: Box<[u8]>,
    checked: AtomicU8,
}

impl Page {
    /// Returns its bytes.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether the checksum of its block `n` was compared.
    #[inline]
    pub(super) fn is_checked(&self, n: usize) -> bool {
        self.checked.load(Relaxed) >> n & 1 == 1
    }

    #[inline]
    pub(super) fn set_checked(&self, n: usize) {
        self.checked.fetch_or(1 << n, Relaxed);
    }
}

/// Reads pages and keeps some.
#[derive(Debug)]
pub struct Pager {
    dir: Arc<dyn RunDir>,
    pages: Mutex<Recent<(u64, u64), Arc<Page>>>,
    handles: Mutex<Recent<u64, Arc<dyn VfsFile>>>,
}

impl Pager {
    pub(super) fn new(dir: Arc<dyn RunDir>, cache_bytes: usize, handles: usize) -> Self {
        let pages = Mutex::new(Recent::new(cache_bytes / PAGE_LEN));
        Self { dir, pages, handles: Mutex::new(Recent::new(handles)) }
    }

    /// Returns `len` bytes at `offset` of a file.
    ///
    /// # Errors
    /// [`Fault`]: damaged if the file ends before.
    pub(super) fn bytes(&self, file: u64, offset: u64, len: usize) -> Result<Piece<'static>, Fault> {
        let (number, start) = (offset / PAGE_LEN as u64, (offset % PAGE_LEN as u64) as usize);
        let page = self.page(file, number)?;
        if let Some(end) = start.checked_add(len).filter(|end| *end <= PAGE_LEN) {
            return if end <= page.bytes.len() { Ok(Piece::Page { page, start, end }) } else { Err(Malformed::Short.into()) };
        }
        let mut out = Vec::new();
        let mut rest = page.bytes.get(start..).ok_or(Malformed::Short)?;
        let mut held;
        for next in number + 1.. {
            out.extend_from_slice(&rest[..rest.len().min(len - out.len())]);
            let end = offset + out.len() as u64;
            if out.len() == len {
                break;
            }
            if end != next * PAGE_LEN as u64 {
                return Err(Malformed::Short.into());
            }
            held = self.page(file, next)?;
            rest = held.bytes();
        }
        Ok(Piece::Owned(out))
    }

    fn page(&self, file: u64, number: u64) -> Result<Arc<Page>, Fault> {
        if let Some(page) = lock(&self.pages).get((file, number)).filter(|_| !is_afresh()) {
            return Ok(page);
        }
        let offset = number.checked_mul(PAGE_LEN as u64).ok_or(Malformed::Short)?;
        let mut bytes = vec![0; PAGE_LEN];
        let len = self.read(file, &mut bytes, offset)?;
        bytes.truncate(len);
        let page = Arc::new(Page { bytes: bytes.into(), checked: AtomicU8::new(0) });
        // What was read while another thread read the same is as good: the one that stays is the later one.
        lock(&self.pages).put((file, number), Arc::clone(&page));
        Ok(page)
    }

    fn read(&self, file: u64, buf: &mut [u8], offset: u64) -> Result<usize, Fault> {
        let held = lock(&self.handles).get(file);
        if let Some(handle) = held
            && let Ok(len) = read_full(&*handle, buf, offset)
        {
            return Ok(len);
        }
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.dir.open(file).and_then(|fresh| Ok((read_full(&*fresh, buf, offset)?, fresh))) {
                Ok((len, fresh)) => {
                    lock(&self.handles).put(file, fresh);
                    return Ok(len);
                }
                // A lookup of replay that is told "not there" for an error that passes would make this process disagree with all others.
                Err(error) if tries > 0 && error.kind() != io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Forgets files that `keep` says no to.
    pub(super) fn retain(&self, keep: impl Fn(u64) -> bool) {
        lock(&self.pages).retain(|(file, _)| keep(*file));
        lock(&self.handles).retain(|file| keep(*file));
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &dyn VfsFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}
