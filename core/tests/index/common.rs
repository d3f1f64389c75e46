//! An index beside a plain map that says what it should hold.

use diskcache_core::format::entry::OwnedEntry;
use diskcache_core::format::key::NumberKey;
use diskcache_core::format::{Entry, Key, KeyRef, Number, ValueMeta};
use diskcache_core::index::flush::flush_in_parts;
use diskcache_core::index::{Access, Delta, Direction, Layers, Levels, Lookup, Order, RunFiles, Slice, Span, VfsRunDir, Walker, file_name};
use diskcache_core::vfs::{MemVfs, OpenMode, Vfs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const SEED: u64 = 0x5eed;
pub(crate) const ACCESSES: [Access; 2] = [Access::Mapped, Access::Paged { cache: 8 * 16384, handles: 2 }];

/// The index under test, and the truth.
pub(crate) struct Subject {
    pub(crate) vfs: MemVfs,
    pub(crate) access: Access,
    pub(crate) files: RunFiles,
    pub(crate) levels: Levels,
    pub(crate) delta: Delta,
    pub(crate) truth: BTreeMap<Key, OwnedEntry>,
    pub(crate) next_file: u64,
    pub(crate) next_row: u64,
    pub(crate) version: u64,
}

/// What an entry is given besides its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) value: i64,
    pub(crate) time: u8,
    pub(crate) expire: Option<u8>,
    pub(crate) tag: Option<u8>,
}

/// Keys of every class, of several lengths.
pub(crate) fn key(n: u16) -> Key {
    let text = format!("{n}{}", "k".repeat(usize::from(n % 5) * 7));
    match n % 4 {
        0 => NumberKey::int(i64::from(n) - 40).as_ref().to_owned(),
        1 => KeyRef::text(&text).to_owned(),
        2 => KeyRef::bytes(text.as_bytes()).to_owned(),
        _ => KeyRef::opaque(text.as_bytes()).to_owned(),
    }
}

fn files(vfs: &MemVfs, access: Access) -> RunFiles {
    RunFiles::new(Arc::new(VfsRunDir::new(Arc::new(vfs.clone()), PathBuf::from("/run"))), access, SEED)
}

impl Subject {
    pub(crate) fn new(access: Access) -> Self {
        let vfs = MemVfs::new();
        vfs.create_dir(Path::new("/run")).expect("a fresh drive");
        let files = files(&vfs, access);
        let (levels, delta) = (Levels::default(), Delta::new());
        Self { vfs, access, files, levels, delta, truth: BTreeMap::new(), next_file: 1, next_row: 1, version: 1 }
    }

    pub(crate) fn layers<'a>(&'a self, deltas: &'a [&'a Delta]) -> Layers<'a> {
        Layers { deltas, levels: &self.levels, files: &self.files }
    }

    pub(crate) fn put(&mut self, key: &Key, facts: Facts) {
        self.version += 1;
        let rowid = self.truth.get(key).map_or(self.next_row, |old| old.entry.rowid);
        self.next_row += u64::from(rowid == self.next_row);
        let entry = Entry {
            tombstone: false,
            value: ValueMeta::number(Number::Int(facts.value)),
            rowid,
            version: self.version,
            addr: 0,
            store_time: f64::from(facts.time),
            access_time: f64::from(facts.time / 2),
            expire_time: facts.expire.map_or(f64::INFINITY, f64::from),
            access_count: u32::from(facts.time % 3),
        };
        let tag = facts.tag.map(|t| Box::new(KeyRef::text(&format!("t{t}")).to_owned()));
        let new = OwnedEntry { key: key.clone(), tag, entry };
        let _ = self.delta.put(key.as_ref().hash(), new.as_ref());
        self.truth.insert(key.clone(), new);
    }

    /// Notes an access, as replay does: by changing the delta, where the entry is brought first if need be.
    pub(crate) fn access(&mut self, key: &Key, time: u8) {
        let Some(e) = self.truth.get_mut(key) else { return };
        e.entry.access_time = f64::from(time);
        e.entry.access_count += 1;
        let entry = e.entry;
        let hash = key.as_ref().hash();
        if !self.delta.update(hash, key.as_ref(), |old| *old = entry) {
            let _ = self.delta.put(hash, e.as_ref());
        }
    }

    pub(crate) fn delete(&mut self, key: &Key) {
        self.version += 1;
        self.truth.remove(key);
        let hash = key.as_ref().hash();
        if self.layers(&[]).runs_may_hold(hash) {
            let mark = OwnedEntry { key: key.clone(), tag: None, entry: Entry::tombstone(self.version) };
            let _ = self.delta.put(hash, mark.as_ref());
        } else {
            let _ = self.delta.remove(hash, key.as_ref());
        }
    }

    pub(crate) fn store(&self, file: u64, bytes: &[u8]) {
        let path = Path::new("/run").join(file_name(file));
        let file = self.vfs.open(&path, OpenMode::CreateNew).expect("a new name");
        file.write_all_at(bytes, 0).expect("a healthy drive");
    }

    /// Flushes the delta and returns it as it was.
    pub(crate) fn flush(&mut self, rows: usize) -> Delta {
        let built = flush_in_parts(&self.delta, SEED, rows, |hash| self.layers(&[]).runs_may_hold(hash));
        let mut slices = Vec::new();
        for built in &built {
            self.store(self.next_file, &built.bytes);
            slices.push(Slice::of(self.next_file, built));
            self.next_file += 1;
        }
        self.levels = self.levels.push(slices);
        std::mem::take(&mut self.delta)
    }

    /// Makes one step, if one is due; returns how many entries it found to be lost.
    pub(crate) fn merge(&mut self, rows: usize, lossy: bool) -> Option<u64> {
        let step = self.levels.plan()?.limited_to(rows);
        let result = step.execute(&self.files, self.next_file, lossy).expect("a step on a healthy drive");
        if let Some((file, bytes)) = &result.file {
            self.store(*file, bytes);
            self.next_file += 1;
        }
        self.levels = self.levels.apply(&result).expect("nothing changed meanwhile");
        Some(result.lost)
    }

    /// Forgets everything that is not on the drive, deltas apart, and opens it again.
    pub(crate) fn reopen(&mut self) {
        let mut bytes = Vec::new();
        self.levels.encode(&mut bytes);
        self.levels = Levels::parse(&mut diskcache_core::format::wire::Reader::new(&bytes)).expect("what was encoded");
        self.files = files(&self.vfs, self.access);
    }

    /// What a walk over all of an order should give.
    pub(crate) fn ordered(&self, order: Order, direction: Direction) -> Vec<&OwnedEntry> {
        let mut all: Vec<_> = self.truth.values().filter_map(|e| order.position(&e.as_ref()).map(|p| (p, e))).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        if direction == Direction::Backward {
            all.reverse();
        }
        all.into_iter().map(|(_, e)| e).collect()
    }

    /// Compares everything, as all of it should be there.
    pub(crate) fn check(&self, keys: impl Iterator<Item = Key>) {
        let deltas = [&self.delta];
        let layers = self.layers(&deltas);
        for key in keys {
            match (layers.lookup(key.as_ref().hash(), key.as_ref()).expect("a healthy drive"), self.truth.get(&key)) {
                (Lookup::Found(found), Some(e)) => assert_same(&found.to_owned(), e),
                (Lookup::Missing, None) => {}
                (answer, truth) => panic!("{key:?}: answered {answer:?}, but it is {truth:?}"),
            }
        }
        for order in Order::ALL {
            for direction in [Direction::Forward, Direction::Backward] {
                let walked: Vec<_> = layers.walk(Span::all(order), direction).map(|f| f.expect("a healthy drive").to_owned()).collect();
                assert_same_all(&walked, &self.ordered(order, direction), &format!("{order:?} {direction:?}"));
            }
        }
    }

    /// Walks a span to its end.
    pub(crate) fn collect(&self, span: Span, direction: Direction) -> (Vec<OwnedEntry>, u64) {
        let deltas = [&self.delta];
        let layers = self.layers(&deltas);
        let mut walker = Walker::new(span, direction);
        let mut out = Vec::new();
        while let Some(found) = layers.next(&mut walker).expect("a healthy drive") {
            out.push(found.to_owned());
        }
        (out, walker.damaged())
    }
}

pub(crate) fn is_same(a: &OwnedEntry, b: &OwnedEntry) -> bool {
    a.key == b.key && a.tag == b.tag && a.entry == b.entry
}

fn assert_same(a: &OwnedEntry, b: &OwnedEntry) {
    assert!(is_same(a, b), "answered {a:?}, but it is {b:?}");
}

pub(crate) fn assert_same_all(walked: &[OwnedEntry], truth: &[&OwnedEntry], what: &str) {
    let keys = |all: &[OwnedEntry]| all.iter().map(|e| e.key.clone()).collect::<Vec<_>>();
    let same = walked.len() == truth.len() && walked.iter().zip(truth).all(|(a, b)| is_same(a, b));
    assert!(same, "{what}: walked {:?}, but it is {:?}", keys(walked), truth.iter().map(|e| e.key.clone()).collect::<Vec<_>>());
}
