//! What fuzzing does with bytes; the same functions run on the stored seeds as plain tests.
//!
//! Raw bytes hardly ever have the right checksums, so each target also makes them right: then what is read was written by nobody, and
//! must still neither panic, nor hang, nor keep a cache from being used.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

#[path = "../operations/mod.rs"]
mod operations;

use diskcache_core::clock::ManualClock;
use diskcache_core::format::body::head_sum;
use diskcache_core::format::frame::{FRAME_HEADER_LEN, Frame, SegmentHeader};
use diskcache_core::format::marker::Mode;
use diskcache_core::format::wire::{Reader, checksum};
use diskcache_core::format::{BodyBuilder, CommitTerms, Marker, Record, encode_commit, parse_commit};
use diskcache_core::index::Levels;
use diskcache_core::index::run::Head;
use diskcache_core::vfs::mem::MemVfs;
use diskcache_core::vfs::{OpenMode, Vfs};
use diskcache_core::{Cache, KeyOrder, KeyRef, Options, ProfileOverride, Put, probe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A function that takes any bytes, by its name.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 4] = [("segment", segment), ("checkpoint", checkpoint), ("commit", commit), ("operations", operations)];

/// Operations that one input stands for at most.
const WORDS_MAX: usize = 400;

const fn marker(mode: Mode) -> Marker {
    Marker { mode, id: 0x5eed, created: 1.0 }
}

fn write(vfs: &MemVfs, path: &str, bytes: &[u8]) {
    vfs.open(Path::new(path), OpenMode::CreateNew).and_then(|file| file.write_all_at(bytes, 0)).unwrap();
}

/// Makes the directory of a cache with these files, opens it, reads everything, and writes to it. `hostile`: checksums were made right.
fn use_cache(mode: Mode, files: &[(&str, &[u8])], hostile: bool) {
    let vfs = MemVfs::new();
    for dir in ["/cache", "/cache/seg", "/cache/log", "/cache/stage"] {
        vfs.create_dir(Path::new(dir)).unwrap();
    }
    write(&vfs, "/cache/CACHE", &marker(mode).encode());
    for (name, bytes) in files {
        write(&vfs, &format!("/cache/{name}"), bytes);
    }
    let profile = Some(if mode == Mode::Local { ProfileOverride::Local } else { ProfileOverride::Shared });
    let options = Options { profile, timeout: Duration::from_secs(2), delta_entries_max: 20, ..Options::default() };
    let open = || Cache::open_on(Arc::new(vfs.clone()), Arc::new(ManualClock::default()), Path::new("/cache"), options.clone(), 1);
    let Ok(cache) = open() else { return };
    read_all(&cache);
    let stored = (0..30).all(|i| cache.set(KeyRef::text(&format!("own{i}")), Put::text("value")).is_ok());
    drop(cache.check(true));
    drop(cache);
    let again = open().expect("what opened once opens again");
    // Whoever makes checksums right can lie about the values of others, but not by damage alone.
    if stored && !hostile {
        let value = again.get(KeyRef::text("own29")).expect("readable").expect("just stored");
        assert_eq!(&*value.bytes().expect("whole"), b"value");
    }
    read_all(&again);
}

fn read_all(cache: &Cache) {
    for order in [KeyOrder::Insertion, KeyOrder::Key] {
        let mut keys = cache.keys(order, false);
        while let Ok(batch) = cache.next_keys(&mut keys, 50) {
            if batch.is_empty() {
                break;
            }
            for key in &batch {
                if let Ok(Some(value)) = cache.get(key.as_ref()) {
                    drop(value.bytes().map(|bytes| bytes.len()));
                }
            }
        }
    }
}

/// Cuts bytes into parts of the lengths that they say.
fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((&len, rest)) = data.split_first() {
        let (part, rest) = rest.split_at(rest.len().min(usize::from(len)));
        parts.push(part);
        data = rest;
    }
    parts
}

/// A segment of a local log: frames, and recovery from them.
pub(crate) fn segment(data: &[u8]) {
    let seed = marker(Mode::Local).seed();
    let _ = SegmentHeader::parse(data, seed);
    let _ = Frame::parse(data, 64, seed).map(|frame| frame.body.map(|body| body.records().count()));
    let header = SegmentHeader { start: 64, capacity: 1 << 16, checkpoint: 64 * u64::from(data.len().is_multiple_of(3)) }.encode(seed);
    let mut whole = header.clone();
    let mut previous = 0;
    for part in parts(data) {
        let position = 64 + (whole.len() - header.len()) as u64;
        let mut frame = Vec::new();
        frame.extend_from_slice(&u32::try_from(FRAME_HEADER_LEN + part.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(&0_u32.to_le_bytes());
        frame.extend_from_slice(&position.to_le_bytes());
        frame.extend_from_slice(&u64::to_le_bytes(previous));
        previous = head_sum(part, checksum(&frame, seed)).unwrap_or(0) & !(1 << 63);
        frame.extend_from_slice(&previous.to_le_bytes());
        frame.extend_from_slice(part);
        frame.resize(frame.len().next_multiple_of(8), 0);
        whole.extend_from_slice(&frame);
    }
    let name = "seg/0000000000000040";
    use_cache(Mode::Local, &[(name, &whole)], true);
    use_cache(Mode::Local, &[(name, &[&header[..], data].concat())], false);
    use_cache(Mode::Local, &[(name, data), ("tail", data)], false);
}

/// What a checkpoint names: manifests, lists of runs, run files, folds.
pub(crate) fn checkpoint(data: &[u8]) {
    let seed = marker(Mode::Shared).seed();
    if let Some(again) = probe::manifest(data) {
        assert_eq!(probe::manifest(&again), Some(again.clone()), "a manifest encodes to what it was parsed from");
    }
    if let Some(again) = probe::fold_note(data) {
        assert_eq!(again, data, "a fold note has one encoding");
    }
    let _ = probe::fold_file(data, seed);
    let mut fold = data.to_vec();
    if fold.len() >= 56 {
        // Make the head's sums right.
        let count = usize::try_from(u32::from_le_bytes(fold[12..16].try_into().unwrap())).unwrap().min((fold.len() - 56) / 16);
        let table_sum = checksum(&fold[56..56 + count * 16], seed).to_le_bytes();
        fold[40..48].copy_from_slice(&table_sum);
        let sum = checksum(&fold[..48], seed).to_le_bytes();
        fold[48..56].copy_from_slice(&sum);
        let _ = probe::fold_file(&fold, seed);
    }
    let _ = Head::parse(data, seed);
    if let Ok(levels) = Levels::parse(&mut Reader::new(data)) {
        let mut again = Vec::new();
        levels.encode(&mut again);
        assert_eq!(Levels::parse(&mut Reader::new(&again)), Ok(levels), "a list of runs is read as it was written");
    }
    for record in [Record::Checkpoint(data), Record::Fold(data), Record::Levels(data)] {
        let mut body = BodyBuilder::default();
        body.push(&record);
        let terms = CommitTerms { nonce: 1, checkpoint: 0, decided_on: None };
        shared_log(&encode_commit(&marker(Mode::Shared), &terms, &body), true);
    }
}

fn shared_log(commit: &[u8], hostile: bool) {
    use_cache(Mode::Shared, &[("log/000000000000", b""), ("log/000000000001", commit), ("bell", b"\0\0")], hostile);
}

/// Commit files of a shared log.
pub(crate) fn commit(data: &[u8]) {
    let marker = marker(Mode::Shared);
    let _ = parse_commit(data, &marker).map(|(_, body)| body.records().count());
    shared_log(data, false);
    let terms = CommitTerms {
        nonce: 1,
        checkpoint: u64::from(data.len().is_multiple_of(2)),
        decided_on: (data.len().is_multiple_of(5)).then_some(1),
    };
    let mut whole = encode_commit(&marker, &terms, &BodyBuilder::default());
    whole.truncate(diskcache_core::format::COMMIT_HEADER_LEN);
    whole.extend_from_slice(data);
    whole[64..72].copy_from_slice(&(data.len() as u64).to_le_bytes());
    whole[72..80].copy_from_slice(&head_sum(data, marker.seed()).unwrap_or(0).to_le_bytes());
    let sum = checksum(&whole[..80], marker.seed());
    whole[80..88].copy_from_slice(&sum.to_le_bytes());
    shared_log(&whole, true);
}

/// Operations on the engine and on a sorted map.
pub(crate) fn operations(data: &[u8]) {
    let Some((seed, words)) = data.split_first_chunk::<2>() else { return };
    let words: Vec<operations::Word> =
        words.chunks_exact(4).take(WORDS_MAX).map(|word| (word[0], word[1], u16::from_le_bytes([word[2], word[3]]))).collect();
    operations::run(u16::from_le_bytes(*seed), &words);
}
