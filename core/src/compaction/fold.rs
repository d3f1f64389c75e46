//! A fold file, `fold/<id, 16 hex digits>`: the live entries of a part of the log with their values, in the order of their addresses.
//!
//! ```text
//! fold := magic(8 "DCRSfld\n") version(u32) count(u32) from(u64) to(u64) len(u64) table-sum(u64) sum(u64) table items
//! table := (addr(u64) offset(u64)){count}          -- offset of the item from the file's start; addresses ascend, and of items of one
//!                                                  -- address (values of no length share that of what follows) the one with bytes is last
//! item  := entry value                              -- see `format::entry`; the value only if its place is the log
//! ```
//! `sum` covers the head before it; `table-sum` the table; entries and values have their own. A record that names the fold says `len` and
//! `sum`, so that another file in its place is found out.

use crate::cache::manifest::FoldRef;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::EntryRef;
use crate::format::wire::{Malformed, Reader, Writer, checksum, is_value};
use crate::format::{FORMAT_VERSION, Place};
use crate::log::Bytes;
use crate::sync::{Mutex, lock};
use crate::vfs::{Map, OpenMode, Vfs, VfsFile, afresh, is_afresh};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"DCRSfld\n";
/// Bytes before the table.
pub(crate) const FOLD_HEAD_LEN: usize = 56;
/// Open fold files that are kept.
const OPEN_MAX: usize = 256;

/// Collects the items of a fold.
#[derive(Debug, Default)]
pub(crate) struct FoldBuilder {
    table: Vec<(u64, u64)>,
    items: Vec<u8>,
    last: Option<(u64, bool)>,
}

/// Returns the order of items in a fold: by address; an entry without bytes in the log (a number, a blob, an empty value) has the address of
/// what follows it, and comes before that, so that the last of an address is the one whose bytes are there.
pub(crate) const fn fold_order(entry: &EntryRef<'_>) -> (u64, bool) {
    (entry.entry.addr, matches!(entry.entry.value.place, Place::Log) && entry.entry.value.len > 0)
}

impl FoldBuilder {
    /// Adds a live entry, in the order of [`fold_order`]. `value` are the stored bytes, if they are in the log.
    pub(crate) fn push(&mut self, entry: &EntryRef<'_>, value: &[u8], seed: u64) {
        debug_assert!(self.last.is_none_or(|last| last <= fold_order(entry)), "items come in their order");
        self.last = Some(fold_order(entry));
        self.table.push((entry.entry.addr, self.items.len() as u64));
        entry.put(&mut self.items, seed);
        self.items.extend_from_slice(value);
    }

    /// Returns the file's bytes and its head's checksum; it covers the addresses `from..to`.
    ///
    /// # Panics
    /// With more than 2^32 items.
    #[must_use]
    pub(crate) fn finish(self, from: u64, to: u64, seed: u64) -> (Vec<u8>, u64) {
        let items_at = (FOLD_HEAD_LEN + self.table.len() * 16) as u64;
        let mut table = Vec::with_capacity(self.table.len() * 16);
        for (addr, offset) in &self.table {
            table.put_u64(*addr);
            table.put_u64(items_at + offset);
        }
        let mut out = Vec::with_capacity(FOLD_HEAD_LEN + table.len() + self.items.len());
        out.extend_from_slice(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u32(u32::try_from(self.table.len()).expect("far fewer"));
        for word in [from, to, items_at + self.items.len() as u64, checksum(&table, seed)] {
            out.put_u64(word);
        }
        let sum = checksum(&out, seed);
        out.put_u64(sum);
        out.extend_from_slice(&table);
        out.extend_from_slice(&self.items);
        (out, sum)
    }
}

/// The checked head and table of a fold file.
#[derive(Debug)]
struct Table {
    rows: Box<[(u64, u64)]>,
}

impl Table {
    /// Checks the head against what the log says of the file, and returns how long head and table are together.
    fn len_of(head: &[u8], fold: &FoldRef, seed: u64) -> std::result::Result<usize, Malformed> {
        let mut r = Reader::new(head);
        if r.take(8)? != MAGIC {
            return Err(Malformed::Magic);
        }
        let version = r.u32()?;
        let count = r.u32()?;
        let (from, to, len) = (r.u64()?, r.u64()?, r.u64()?);
        r.u64()?;
        let covered = r.position();
        let sum = r.u64()?;
        if sum != checksum(&head[..covered], seed) || sum != fold.sum {
            return Err(Malformed::Checksum);
        }
        if version != FORMAT_VERSION {
            return Err(Malformed::Version(version));
        }
        if (from, to, len) != (fold.from, fold.to, fold.len) || u64::from(count) * 16 > len {
            return Err(Malformed::Field("fold head"));
        }
        Ok(FOLD_HEAD_LEN + count as usize * 16)
    }

    /// Reads the table from bytes whose head [`Self::len_of`] has checked.
    fn parse(bytes: &[u8], seed: u64) -> std::result::Result<Self, Malformed> {
        let table = bytes.get(FOLD_HEAD_LEN..).ok_or(Malformed::Short)?;
        let mut sum = Reader::new(&bytes[40..48]);
        if sum.u64()? != checksum(table, seed) {
            return Err(Malformed::Checksum);
        }
        let mut rows = Vec::with_capacity(table.len() / 16);
        let mut r = Reader::new(table);
        while !r.is_at_end() {
            rows.push((r.u64()?, r.u64()?));
        }
        Ok(Self { rows: rows.into() })
    }

    /// Makes the table anew of the rows that lead to an item of the same address; every item carries its own checksum. `None` if there is
    /// no such row.
    fn salvage(bytes: &[u8], fold: &FoldRef, seed: u64) -> Option<Self> {
        let mut rows: Vec<(u64, u64)> = Vec::new();
        let mut items_at = bytes.len();
        let mut at = FOLD_HEAD_LEN;
        while at + 16 <= items_at {
            let mut r = Reader::new(&bytes[at..at + 16]);
            let (Ok(addr), Ok(offset)) = (r.u64(), r.u64()) else { break };
            let entry =
                usize::try_from(offset).ok().filter(|o| *o >= at + 16).and_then(|o| bytes.get(o..)).map(|b| EntryRef::parse(b, seed));
            let ascends = rows.last().is_none_or(|(last, _)| *last <= addr);
            if let Some(Ok((found, _))) = entry
                && found.entry.addr == addr
                && ascends
                && (fold.from..fold.to).contains(&addr)
            {
                items_at = items_at.min(usize::try_from(offset).unwrap_or(usize::MAX));
                rows.push((addr, offset));
            }
            at += 16;
        }
        (!rows.is_empty()).then(|| Self { rows: rows.into() })
    }

    /// Returns where the item is whose bytes lay at an address: the last one of that address.
    fn offset(&self, addr: u64) -> Option<u64> {
        let after = self.rows.partition_point(|row| row.0 <= addr);
        self.rows[..after].last().filter(|row| row.0 == addr).map(|row| row.1)
    }
}

/// Why a table could not be had.
enum TableFault {
    Malformed(Malformed),
    Io(std::io::Error),
}

impl From<Malformed> for TableFault {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

impl From<std::io::Error> for TableFault {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof { Self::Malformed(Malformed::Short) } else { Self::Io(error) }
    }
}

#[derive(Debug)]
enum Source {
    Mapped(Arc<Map>),
    Read(Arc<dyn VfsFile>),
}

/// An open fold file.
#[derive(Debug)]
pub(crate) struct FoldFile {
    path: PathBuf,
    table: Table,
    source: Source,
    len: u64,
    seed: u64,
    /// Head or table are damaged: the table was made anew from the items.
    salvaged: bool,
}

impl FoldFile {
    /// Returns whether all of it is what was written.
    pub(crate) fn is_whole(&self, fold: &FoldRef) -> bool {
        let mut whole = !self.salvaged && self.len == fold.len;
        let lost = self.items(|entry, value| {
            let meta = entry.entry.value;
            whole &= !matches!(meta.place, Place::Log) || is_value(value, self.seed, meta.sum);
        });
        whole && lost == 0
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Bytes> {
        let damaged = || Error::new(ErrorKind::Damaged, format!("{len} bytes at offset {offset} are gone from")).at(&self.path);
        let (at, size) = (usize::try_from(offset).map_err(|_| damaged())?, usize::try_from(len).map_err(|_| damaged())?);
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(damaged());
        }
        match &self.source {
            Source::Mapped(map) => Bytes::mapped(map, at, size).ok_or_else(damaged),
            Source::Read(file) => {
                let mut buf = vec![0; size];
                match file.read_exact_at(&mut buf, offset) {
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(damaged()),
                    Err(e) => Err(Error::io("read", &self.path, e)),
                    Ok(()) => Ok(buf.into()),
                }
            }
        }
    }

    /// Returns the stored value of the entry at an address. Its length says where in the item it ends, so the entry is read first.
    fn value(&self, addr: u64, key_and_tag: u64, len: u64) -> Result<Bytes> {
        let offset =
            self.table.offset(addr).ok_or_else(|| Error::new(ErrorKind::Damaged, format!("no address {addr} in")).at(&self.path))?;
        self.bytes(offset + crate::format::entry::ENTRY_FIXED_LEN as u64 + key_and_tag, len)
    }

    /// Walks the items: entry and value. What cannot be read is counted and left out.
    pub(crate) fn items(&self, mut take: impl FnMut(EntryRef<'_>, &[u8])) -> u64 {
        let mut lost = 0;
        let ends = self.table.rows.iter().skip(1).map(|row| row.1).chain([self.len]);
        for ((_, offset), end) in self.table.rows.iter().zip(ends) {
            let over_network = matches!(self.source, Source::Read(_));
            let mut read = || {
                let bytes = end.checked_sub(*offset).and_then(|len| self.bytes(*offset, len).ok())?;
                let (entry, len) = EntryRef::parse(&bytes, self.seed).ok()?;
                let value = if matches!(entry.entry.value.place, Place::Log) { bytes.get(len..)? } else { &[] };
                if value.len() as u64 != entry.entry.value.len && !value.is_empty() {
                    return None;
                }
                let meta = entry.entry.value;
                if over_network && !is_afresh() && matches!(meta.place, Place::Log) && !is_value(value, self.seed, meta.sum) {
                    return None;
                }
                take(entry, value);
                Some(())
            };
            let read = read().or_else(|| if over_network { afresh(&mut read) } else { None });
            lost += u64::from(read.is_none());
        }
        lost
    }
}

/// The fold files of a cache, opened when they are first needed.
#[derive(Debug)]
pub(crate) struct FoldFiles {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    seed: u64,
    mapped: bool,
    /// In order, so that they are closed in the same order each time.
    open: Mutex<BTreeMap<u64, Arc<FoldFile>>>,
}

impl FoldFiles {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, cache_dir: &Path, seed: u64, mapped: bool) -> Self {
        Self { vfs, dir: cache_dir.join("fold"), seed, mapped, open: Mutex::default() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:016x}"))
    }

    /// Returns the first fold that covers one of the addresses `from..to`.
    pub(crate) fn meeting(folds: &[FoldRef], from: u64, to: u64) -> Option<FoldRef> {
        let at = folds.partition_point(|fold| fold.to <= from);
        folds.get(at).filter(|fold| fold.from < to).copied()
    }

    /// Returns the fold that covers an address.
    pub(crate) fn covering(folds: &[FoldRef], addr: u64) -> Option<FoldRef> {
        let at = folds.partition_point(|fold| fold.to <= addr);
        folds.get(at).filter(|fold| fold.from <= addr).copied()
    }

    /// Returns `len` stored bytes of the value at `addr`, whose entry has so many bytes of key and tag.
    pub(crate) fn value(&self, fold: &FoldRef, addr: u64, key_and_tag: u64, len: u64) -> Result<Bytes> {
        match self.file(fold)?.value(addr, key_and_tag, len) {
            // A kept descriptor may be dead for ever while the file is well: sshfs answers EIO on every one from before it reconnected.
            Err(error) if error.raw_os_error().is_some() && !self.mapped => {
                lock(&self.open).remove(&fold.id);
                self.file(fold)?.value(addr, key_and_tag, len)
            }
            other => other,
        }
    }

    /// Opens a fold file and checks that it is the one that the log names.
    pub(crate) fn file(&self, fold: &FoldRef) -> Result<Arc<FoldFile>> {
        if let Some(file) = lock(&self.open).get(&fold.id).filter(|_| !is_afresh()) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.load(fold)?);
        let mut open = lock(&self.open);
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(fold.id, Arc::clone(&file));
        Ok(file)
    }

    fn load(&self, fold: &FoldRef) -> Result<FoldFile> {
        let path = self.path(fold.id);
        let damaged = |what: &dyn std::fmt::Display| Error::new(ErrorKind::Damaged, format!("{what}: the folded segment")).at(&path);
        let file = match self.vfs.open(&path, OpenMode::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(damaged(&e)),
            other => other.map_err(|e| Error::io("open", &path, e))?,
        };
        let real = file.len().map_err(|e| Error::io("look at", &path, e))?.min(fold.len);
        let table = match self.table(&*file, fold, real) {
            Err(TableFault::Malformed(_)) if !self.mapped => afresh(|| self.table(&*file, fold, real)),
            other => other,
        };
        let (table, salvaged) = match table {
            Ok(table) => (table, false),
            Err(TableFault::Io(e)) => return Err(Error::io("read", &path, e)),
            Err(TableFault::Malformed(why)) => {
                let mut bytes = vec![0; usize::try_from(real).map_err(|e| damaged(&e))?];
                file.read_exact_at(&mut bytes, 0).map_err(|e| Error::io("read", &path, e))?;
                (Table::salvage(&bytes, fold, self.seed).ok_or_else(|| damaged(&why))?, true)
            }
        };
        let source = if self.mapped {
            let len = usize::try_from(real).map_err(|e| damaged(&e))?;
            Source::Mapped(file.map(len, false).map_err(|e| Error::io("map", &path, e))?)
        } else {
            Source::Read(file)
        };
        Ok(FoldFile { path, table, source, len: real, seed: self.seed, salvaged })
    }

    fn table(&self, file: &dyn VfsFile, fold: &FoldRef, real: u64) -> std::result::Result<Table, TableFault> {
        let mut bytes = vec![0; FOLD_HEAD_LEN];
        file.read_exact_at(&mut bytes, 0)?;
        let len = Table::len_of(&bytes, fold, self.seed)?;
        if len as u64 > real {
            return Err(Malformed::Short.into()); // what a head claims is not allocated before it is there
        }
        bytes.resize(len, 0);
        file.read_exact_at(&mut bytes[FOLD_HEAD_LEN..], FOLD_HEAD_LEN as u64)?;
        Ok(Table::parse(&bytes, self.seed)?)
    }

    /// Writes a fold file under a new id, whole and durable before anybody can name it.
    pub(crate) fn write(&self, id: u64, bytes: &[u8]) -> Result<()> {
        write_new(&*self.vfs, &self.dir, &self.path(id), bytes)
    }

    /// Closes what is not among `folds`.
    pub(crate) fn retain(&self, folds: &[FoldRef]) {
        lock(&self.open).retain(|id, _| folds.iter().any(|fold| fold.id == *id));
    }
}

/// Writes a file of a new name, syncs and closes it, every result checked; makes the directory if need be.
pub(crate) fn write_new(vfs: &dyn Vfs, dir: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let file = match vfs.open(path, OpenMode::CreateNew) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            match vfs.create_dir(dir) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io("create", dir, e)),
                // What is synced in it must not vanish with its name.
                _ => dir.parent().map_or(Ok(()), |parent| vfs.sync_dir(parent)).map_err(|e| Error::io("sync the directory of", dir, e))?,
            }
            vfs.open(path, OpenMode::CreateNew)
        }
        other => other,
    }
    .map_err(|e| Error::io("create", path, e))?;
    file.write_all_at(bytes, 0).map_err(|e| Error::io("write to", path, e))?;
    file.sync().map_err(|e| Error::io("sync", path, e))?;
    file.close().map_err(|e| Error::io("close", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Entry;
    use crate::format::{Codec, KeyRef, ValueKind, ValueMeta};
    use crate::vfs::MemVfs;
    use crate::vfs::mem::{Effect, Fault, Step};

    fn fold_of(count: u64) -> (Vec<u8>, FoldRef) {
        let mut builder = FoldBuilder::default();
        for i in 0..count {
            let value = format!("value {i}");
            let sum = checksum(value.as_bytes(), 5);
            let meta = ValueMeta { kind: ValueKind::Text, codec: Codec::None, place: Place::Log, len: value.len() as u64, sum };
            let entry = Entry { tombstone: false, value: meta, addr: 100 + i * 50, ..Entry::tombstone(i) };
            let key = format!("k{i:03}");
            builder.push(&EntryRef { key: KeyRef::text(&key), tag: None, entry }, value.as_bytes(), 5);
        }
        let (bytes, sum) = builder.finish(100, 10_000, 5);
        let len = bytes.len() as u64;
        (bytes, FoldRef { id: 3, from: 100, to: 10_000, len, live: 0, sum })
    }

    #[test]
    fn a_fold_file_keeps_its_bytes() {
        let hex: String = fold_of(1).0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "44435253666c640a020000000100000064000000000000001027000000000000af00000000000000ed35a3681af3e2ffee62692686d8ecf06400000000000000480000000000000013540b64040000000000020000020001000000000000000007000000000000004bba97c1f4e26d5c00000000000000000000000000000000640000000000000000000000000000000000000000000000000000000000f07f000000006b30303076616c75652030",
            "format changed: raise FORMAT_VERSION"
        );
    }

    #[test]
    fn every_value_is_found_by_its_address_and_nothing_else_is() {
        let vfs = Arc::new(MemVfs::new());
        let (bytes, fold) = fold_of(20);
        for mapped in [false, true] {
            let dir = PathBuf::from(if mapped { "/a" } else { "/b" });
            vfs.create_dir(&dir).unwrap();
            let files = FoldFiles::new(vfs.clone(), &dir, 5, mapped);
            files.write(3, &bytes).unwrap();
            for i in 0..20 {
                let want = format!("value {i}");
                assert_eq!(&*files.value(&fold, 100 + i * 50, 4, want.len() as u64).unwrap(), want.as_bytes());
            }
            assert_eq!(files.value(&fold, 101, 4, 7).unwrap_err().kind(), ErrorKind::Damaged);
            let mut seen = 0;
            assert_eq!(files.file(&fold).unwrap().items(|_, _| seen += 1), 0);
            assert_eq!(seen, 20);
            let other = FoldRef { sum: 1, ..fold };
            assert!(!files.load(&other).unwrap().is_whole(&other), "a head that the log does not name is damage");
            let elsewhere = FoldRef { from: 5_000, ..other };
            assert_eq!(files.load(&elsewhere).unwrap_err().kind(), ErrorKind::Damaged, "no item of that part of the log");
        }
        assert_eq!(FoldFiles::covering(&[fold], 99), None);
        assert_eq!(FoldFiles::covering(&[fold], 9_999), Some(fold));
        assert_eq!(FoldFiles::covering(&[fold], 10_000), None);
    }

    #[test]
    fn a_descriptor_that_died_is_replaced_by_a_new_one() {
        let vfs = Arc::new(MemVfs::new());
        vfs.create_dir(Path::new("/c")).unwrap();
        let (bytes, fold) = fold_of(3);
        let files = FoldFiles::new(vfs.clone(), Path::new("/c"), 5, false);
        files.write(3, &bytes).unwrap();
        assert_eq!(&*files.value(&fold, 100, 4, 7).unwrap(), b"value 0");
        let opened = vfs.counts()[&Step::Open];
        for errno in [libc::EIO, libc::ESTALE, libc::EBADF, libc::ENOTCONN] {
            vfs.fail(Fault { step: Step::Read, nth: 1, lasting: false, errno, effect: Effect::None });
            assert_eq!(&*files.value(&fold, 150, 4, 7).unwrap(), b"value 1", "errno {errno}");
        }
        assert_eq!(vfs.counts()[&Step::Open], opened + 4);
        vfs.fail(Fault { step: Step::Read, nth: 1, lasting: true, errno: libc::EIO, effect: Effect::None });
        assert!(files.value(&fold, 100, 4, 7).is_err(), "a drive that is broken is not asked for ever");
        vfs.heal();
        assert_eq!(&*files.value(&fold, 100, 4, 7).unwrap(), b"value 0", "nor is that remembered");
    }

    #[test]
    fn a_flipped_byte_or_a_cut_costs_at_most_the_items_it_hits() {
        let (bytes, fold) = fold_of(10);
        for at in 0..bytes.len() {
            for cut in [false, true] {
                let vfs = Arc::new(MemVfs::new());
                vfs.create_dir(Path::new("/c")).unwrap();
                let files = FoldFiles::new(vfs, Path::new("/c"), 5, true);
                let mut bad = bytes.clone();
                if cut {
                    bad.truncate(at);
                } else {
                    bad[at] ^= 0x40;
                }
                files.write(3, &bad).unwrap();
                match files.file(&fold) {
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "at {at}"),
                    Ok(file) => {
                        let found = (0..10)
                            .filter(|i| file.value(100 + i * 50, 4, 7).is_ok_and(|v| *v == *format!("value {i}").as_bytes()))
                            .count();
                        assert!(cut || found >= 9, "one flip at {at} left {found}");
                        assert!(cut || !file.is_whole(&fold), "the flip at {at} is found");
                        if !file.salvaged {
                            let mut seen = 0;
                            let lost = file.items(|_, _| seen += 1);
                            assert_eq!(seen + lost, 10, "at {at}");
                        }
                    }
                }
            }
        }
    }
}
