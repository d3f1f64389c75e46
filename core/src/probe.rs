//! Doors for fuzzing to parsers that are nobody else's business. No part of the interface: it may change at any time.

use crate::cache::manifest::{FoldNote, FoldRef, Manifest};
use crate::compaction::FoldFiles;
use crate::format::wire::Reader;
use crate::vfs::mem::MemVfs;
use crate::vfs::{OpenMode, Vfs};
use std::path::Path;
use std::sync::Arc;

/// Parses a manifest; returns what it encodes to again.
#[must_use]
pub fn manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    Manifest::parse(bytes).ok().map(|manifest| manifest.encode())
}

/// Parses a fold note; returns what it encodes to again.
#[must_use]
pub fn fold_note(bytes: &[u8]) -> Option<Vec<u8>> {
    FoldNote::parse(bytes).ok().map(|note| note.encode())
}

/// Reads a fold file as if the log named it by what it says of itself; returns how many items it gave.
#[must_use]
pub fn fold_file(bytes: &[u8], seed: u64) -> Option<u64> {
    let mut r = Reader::new(bytes);
    r.take(16).ok()?;
    let (from, to, len) = (r.u64().ok()?, r.u64().ok()?, r.u64().ok()?);
    r.u64().ok()?;
    let fold = FoldRef { id: 1, from, to, len, live: 0, sum: r.u64().ok()? };
    let vfs = Arc::new(MemVfs::new());
    vfs.create_dir(Path::new("/fold")).ok()?;
    let mut items = 0;
    for mapped in [true, false] {
        let files = FoldFiles::new(Arc::clone(&vfs) as _, Path::new("/"), seed, mapped);
        if mapped {
            vfs.open(&files.path(fold.id), OpenMode::CreateNew).ok()?.write_all_at(bytes, 0).ok()?;
        }
        let Ok(file) = files.file(&fold) else { continue };
        let mut addresses = Vec::new();
        file.items(|entry, value| {
            items += 1;
            addresses.push((entry.entry.addr, entry.key.bytes.len() as u64, value.len() as u64));
        });
        for (addr, key_len, len) in addresses {
            drop(files.value(&fold, addr, key_len, len));
        }
    }
    Some(items)
}
