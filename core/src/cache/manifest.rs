//! The payload of a checkpoint record: where replay goes on, what the index consists of, and the running totals.
//!
//! ```text
//! manifest := position(u64) chain(u64) counters(9 x u64) settings usage folds levels
//! settings := count(u32) { name-len(u32) name value-len(u32) value }
//! usage    := count(u32) { part(u64) bytes(u64) }    -- by the address where each part of the log starts that something lives in
//! folds    := count(u32) { id(u64) from(u64) to(u64) len(u64) live(u64) sum(u64) }
//! levels   := len(u32) bytes                       -- see `index::levels`
//! ```

use crate::cache::options::Setting;
use crate::format::wire::{Malformed, Reader, Writer};
use crate::log::Cursor;
use std::collections::BTreeMap;

/// Running totals of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Entries, expired ones included.
    pub(crate) count: u64,
    /// The newest entry's place in insertion order.
    pub(crate) next_rowid: u64,
    /// Entries that expire.
    pub(crate) expiring: u64,
    /// Entries with a blob.
    pub(crate) blobs: u64,
    /// Bytes of blobs.
    pub(crate) blob_bytes: u64,
    /// Bytes that live entries cost.
    pub(crate) live_bytes: u64,
    /// Hits counted.
    pub(crate) hits: u64,
    /// Misses counted.
    pub(crate) misses: u64,
    /// Entries ever lost to damage.
    pub(crate) damaged: u64,
}

impl Counters {
    const fn words(&self) -> [u64; 9] {
        [self.count, self.next_rowid, self.expiring, self.blobs, self.blob_bytes, self.live_bytes, self.hits, self.misses, self.damaged]
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            count: r.u64()?,
            next_rowid: r.u64()?,
            expiring: r.u64()?,
            blobs: r.u64()?,
            blob_bytes: r.u64()?,
            live_bytes: r.u64()?,
            hits: r.u64()?,
            misses: r.u64()?,
            damaged: r.u64()?,
        })
    }
}

/// A folded segment: the live entries of a part of the log, in one immutable file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoldRef {
    /// Its file's id.
    pub(crate) id: u64,
    /// The first address that it covers.
    pub(crate) from: u64,
    /// The address after the last that it covers.
    pub(crate) to: u64,
    /// Its file's length in bytes.
    pub(crate) len: u64,
    /// Bytes of the log that its entries kept alive when it was made.
    pub(crate) live: u64,
    /// Its head's checksum.
    pub(crate) sum: u64,
}

/// How many live bytes lie in each part of the log, by the address where it starts: in local mode a segment or what a fold covers, in shared
/// mode 64 commits. A part lasts until the next one starts. One of nothing means what no entry means: nothing of it lives.
pub(crate) type Usage = BTreeMap<u64, u64>;

/// Returns the parts that something lives in.
pub(crate) fn in_use(usage: &Usage) -> Usage {
    usage.iter().filter(|(_, bytes)| **bytes > 0).map(|(part, bytes)| (*part, *bytes)).collect()
}

/// Returns whether two say the same.
pub(crate) fn same_use(a: &Usage, b: &Usage) -> bool {
    a.iter().filter(|(_, bytes)| **bytes > 0).eq(b.iter().filter(|(_, bytes)| **bytes > 0))
}

/// Everything that a checkpoint says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Manifest {
    /// Where replay goes on.
    pub(crate) cursor: Cursor,
    pub(crate) counters: Counters,
    pub(crate) settings: BTreeMap<String, Setting>,
    pub(crate) usage: Usage,
    pub(crate) folds: Vec<FoldRef>,
    /// The index's runs, encoded.
    pub(crate) levels: Vec<u8>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.usage.len() * 16 + self.folds.len() * 48 + self.levels.len());
        out.put_u64(self.cursor.position);
        out.put_u64(self.cursor.chain);
        for word in self.counters.words() {
            out.put_u64(word);
        }
        put_len(&mut out, self.settings.len());
        for (name, value) in &self.settings {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, &value.encode());
        }
        put_len(&mut out, self.usage.len());
        for (bucket, bytes) in &self.usage {
            out.put_u64(*bucket);
            out.put_u64(*bytes);
        }
        put_folds(&mut out, &self.folds);
        put_bytes(&mut out, &self.levels);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let mut manifest =
            Self { cursor: Cursor { position: r.u64()?, chain: r.u64()? }, counters: Counters::parse(&mut r)?, ..Self::default() };
        for _ in 0..r.u32()? {
            let name = std::str::from_utf8(take_bytes(&mut r)?).map_err(|_| Malformed::Field("setting"))?;
            let value = Setting::parse(take_bytes(&mut r)?)?;
            manifest.settings.insert(name.to_owned(), value);
        }
        for _ in 0..r.u32()? {
            let bucket = r.u64()?;
            manifest.usage.insert(bucket, r.u64()?);
        }
        manifest.folds = take_folds(&mut r)?;
        manifest.levels = take_bytes(&mut r)?.to_vec();
        if r.is_at_end() { Ok(manifest) } else { Err(Malformed::Field("manifest length")) }
    }
}

fn put_folds(out: &mut Vec<u8>, folds: &[FoldRef]) {
    put_len(out, folds.len());
    for fold in folds {
        for word in [fold.id, fold.from, fold.to, fold.len, fold.live, fold.sum] {
            out.put_u64(word);
        }
    }
}

fn take_folds(r: &mut Reader<'_>) -> Result<Vec<FoldRef>, Malformed> {
    let mut folds: Vec<FoldRef> = Vec::new();
    for _ in 0..r.u32()? {
        let fold = FoldRef { id: r.u64()?, from: r.u64()?, to: r.u64()?, len: r.u64()?, live: r.u64()?, sum: r.u64()? };
        if fold.from >= fold.to || folds.last().is_some_and(|last| last.to > fold.from) {
            return Err(Malformed::Field("fold range"));
        }
        folds.push(fold);
    }
    Ok(folds)
}

/// What a fold record says: the new fold, and the ids of those that it takes the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoldNote {
    pub(crate) fold: FoldRef,
    pub(crate) replaces: Vec<u64>,
}

impl FoldNote {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_folds(&mut out, &[self.fold]);
        put_len(&mut out, self.replaces.len());
        for id in &self.replaces {
            out.put_u64(*id);
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let folds = take_folds(&mut r)?;
        let mut replaces = Vec::new();
        for _ in 0..r.u32()? {
            replaces.push(r.u64()?);
        }
        match (&folds[..], r.is_at_end()) {
            ([fold], true) => Ok(Self { fold: *fold, replaces }),
            _ => Err(Malformed::Field("fold")),
        }
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.put_u32(u32::try_from(len).expect("far fewer"));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let len = r.u32()? as usize;
    r.take(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            cursor: Cursor { position: 9, chain: 8 },
            counters: Counters { count: 1, live_bytes: 2, ..Counters::default() },
            settings: [("a".to_owned(), Setting::Int(1)), ("b".to_owned(), Setting::Null)].into(),
            usage: [(3, 4), (5, 6)].into(),
            folds: vec![
                FoldRef { id: 1, from: 0, to: 10, len: 3, live: 2, sum: 7 },
                FoldRef { id: 2, from: 10, to: 20, len: 3, live: 2, sum: 7 },
            ],
            levels: b"levels".to_vec(),
        }
    }

    #[test]
    fn a_manifest_comes_back_and_no_prefix_of_it_parses() {
        let bytes = sample().encode();
        assert_eq!(Manifest::parse(&bytes), Ok(sample()));
        for len in 0..bytes.len() {
            assert!(Manifest::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn a_manifest_and_a_fold_note_keep_their_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let note = FoldNote { fold: sample().folds[0], replaces: vec![4] };
        assert_eq!(
            hex(&sample().encode()),
            "09000000000000000800000000000000010000000000000000000000000000000000000000000000000000000000000000000000000000000200000000000000000000000000000000000000000000000000000000000000020000000100000061090000000201000000000000000100000062010000000002000000030000000000000004000000000000000500000000000000060000000000000002000000010000000000000000000000000000000a0000000000000003000000000000000200000000000000070000000000000002000000000000000a000000000000001400000000000000030000000000000002000000000000000700000000000000060000006c6576656c73",
            "format changed: raise FORMAT_VERSION"
        );
        assert_eq!(
            hex(&note.encode()),
            "01000000010000000000000000000000000000000a00000000000000030000000000000002000000000000000700000000000000010000000400000000000000",
            "format changed: raise FORMAT_VERSION"
        );
        let kinds =
            [Setting::Null, Setting::Bool(true), Setting::Int(-5), Setting::Float(0.5), Setting::Text("t".into()), Setting::Bytes(vec![1])];
        assert_eq!(
            hex(&kinds.iter().flat_map(Setting::encode).collect::<Vec<u8>>()),
            "00010102fbffffffffffffff03000000000000e03f04740501",
            "format changed: raise FORMAT_VERSION"
        );
    }

    #[test]
    fn folds_that_overlap_are_refused() {
        let mut bad = sample();
        bad.folds[1].from = 9;
        assert!(Manifest::parse(&bad.encode()).is_err());
        let note = FoldNote { fold: sample().folds[0], replaces: vec![4, 5] };
        assert_eq!(FoldNote::parse(&note.encode()), Ok(note));
        assert!(FoldNote::parse(b"").is_err());
    }
}
