//! What opening a cache costs: little, and not more the more was written. And what is not opened.

use diskcache_core::chance::SeededChance;
use diskcache_core::clock::OsClock;
use diskcache_core::format::FORMAT_VERSION;
use diskcache_core::format::wire::checksum;
use diskcache_core::vfs::{MemVfs, OpenMode, OsVfs, Vfs};
use diskcache_core::{Cache, ErrorKind, KeyRef, Options, ProfileOverride, Put};
use std::path::Path;
use std::sync::Arc;

/// The last write of a process may itself have made the checkpoint that was due. Nobody named it then: the next to open the cache read all
/// commits since the one before.
#[test]
fn opening_a_shared_cache_that_was_closed_takes_few_requests_however_many_commits_there_are() {
    const REQUESTS_MAX: u64 = 20;
    for seed in 0..4 {
        for commits in 1..50 {
            let vfs = MemVfs::new();
            let open = |seed| {
                let options = Options {
                    profile: Some(ProfileOverride::Shared),
                    chance: Arc::new(SeededChance::new(seed)),
                    checkpoint_commits: 16,
                    ..Options::default()
                };
                Cache::open_on(Arc::new(vfs.process()), Arc::new(OsClock), Path::new("/c"), options, 1).unwrap()
            };
            let cache = open(2 * seed);
            for i in 0..commits {
                cache.set(KeyRef::text(&(i % 16).to_string()), Put::bytes(b"value")).unwrap();
            }
            cache.close().unwrap();
            let before = vfs.steps();
            let again = open(2 * seed + 1);
            let requests = vfs.steps() - before;
            assert!(requests <= REQUESTS_MAX, "seed {seed}: {requests} requests after {commits} commits");
            assert_eq!(again.len().unwrap(), commits.min(16));
        }
    }
}

/// Most programs never close: what they wrote was replayed by everybody who opened the cache afterwards, and what they had counted was lost.
#[test]
fn dropping_the_last_handle_of_a_local_cache_closes_it() {
    const ENTRIES: u32 = 5000;
    let dir = tempfile::tempdir().unwrap();
    let open = || Cache::open(dir.path(), Options::default()).unwrap();
    let cache = open();
    cache.stats(true, true).unwrap();
    for i in 0..ENTRIES {
        cache.set(KeyRef::text(&i.to_string()), Put::bytes(b"value")).unwrap();
    }
    assert!(cache.get(KeyRef::text("0")).unwrap().is_some());
    assert!(cache.get(KeyRef::text("none")).unwrap().is_none());
    let other = cache.clone();
    drop(cache);
    assert!(!dir.path().join("run").exists(), "one more handle: nothing was due");
    drop(other);
    assert!(!OsVfs.read_dir(&dir.path().join("run")).unwrap().is_empty(), "no checkpoint: all is replayed");
    let again = open();
    assert_eq!(again.stats(true, false).unwrap(), (1, 1));
    assert_eq!(again.len().unwrap(), u64::from(ENTRIES));
}

#[test]
fn a_transaction_that_nobody_ended_is_dropped_with_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), Options::default()).unwrap();
    cache.set(KeyRef::text("a"), Put::bytes(b"before")).unwrap();
    cache.transact_begin(None).unwrap();
    cache.set(KeyRef::text("a"), Put::bytes(b"never committed")).unwrap();
    drop(cache);
    let again = Cache::open(dir.path(), Options::default()).unwrap();
    assert_eq!(again.get(KeyRef::text("a")).unwrap().unwrap().bytes().unwrap().as_ref(), b"before");
    again.set(KeyRef::text("b"), Put::bytes(b"the lock is free")).unwrap();
}

#[test]
fn a_cache_of_another_format_is_refused_in_words_and_left_as_it_is() {
    for (version, words) in [(FORMAT_VERSION - 1, "made by an earlier version"), (FORMAT_VERSION + 1, "made by a newer version")] {
        let vfs = MemVfs::new();
        let open = || {
            let options = Options { profile: Some(ProfileOverride::Local), ..Options::default() };
            Cache::open_on(Arc::new(vfs.process()), Arc::new(OsClock), Path::new("/c"), options, 1)
        };
        open().unwrap().set(KeyRef::text("k"), Put::bytes(b"value")).unwrap();
        for name in ["/c/CACHE", "/c/CACHE.copy"] {
            let file = vfs.open(Path::new(name), OpenMode::ReadWrite).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes[12..16].copy_from_slice(&version.to_le_bytes());
            let summed = bytes.len() - 8;
            let sum = checksum(&bytes[..summed], 0);
            bytes[summed..].copy_from_slice(&sum.to_le_bytes());
            file.write_all_at(&bytes, 0).unwrap();
        }
        let names = || {
            let mut names = vfs.read_dir(Path::new("/c")).unwrap();
            names.sort_unstable();
            names
        };
        let before = names();
        let error = open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(names(), before);
    }
}

#[test]
fn a_shared_cache_that_is_opened_to_read_writes_nothing() {
    let vfs = MemVfs::new();
    let open = |read_only| {
        let options = Options { profile: Some(ProfileOverride::Shared), read_only, ..Options::default() };
        Cache::open_on(Arc::new(vfs.process()), Arc::new(OsClock), Path::new("/c"), options, 1)
    };
    let writer = open(false).unwrap();
    for n in 0..10 {
        writer.set(KeyRef::text(&n.to_string()), Put::bytes(b"value")).unwrap();
    }
    // The newest commit is not rung for: its writer died.
    let bell = vfs.open(Path::new("/c/bell"), OpenMode::ReadWrite).unwrap();
    bell.set_len(bell.len().unwrap() - 1).unwrap();
    let all = || {
        let names = |dir: &str| vfs.read_dir(Path::new(dir)).unwrap().into_iter().collect::<std::collections::BTreeSet<_>>();
        (names("/c"), names("/c/log"), names("/c/stage"), bell.len().unwrap())
    };
    let before = all();
    let reader = open(true).unwrap();
    assert_eq!(reader.get(KeyRef::text("3")).unwrap().unwrap().bytes().unwrap().as_ref(), b"value");
    assert!(reader.set(KeyRef::text("k"), Put::bytes(b"value")).is_err());
    reader.close().unwrap();
    assert_eq!(all(), before);
}
