//! What a local cache takes on a real disk: blocks of its files and folders, as `du` counts them.
//!
//! `size_limit` holds within a tenth at every moment, however it is written to, and what lives fills most of it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: helpers panic, and look at real files")]

use diskcache_core::{Cache, Companion, NumberKey, Options, ProfileOverride, Put, Setting};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const MIB: u64 = 1 << 20;
/// The test that child processes run again, and where they are told what to do.
const CHILD: &str = "several_processes_that_write_at_once_keep_the_size_limit_together";
const CHILD_DIR: &str = "DISKCACHE_SPACE_DIR";
const CHILD_SEED: &str = "DISKCACHE_SPACE_SEED";

/// A pseudo-random sequence (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// A length from 128 bytes to 256 KiB, each doubling as likely.
    fn len(&mut self) -> u64 {
        let doubling = 128 << self.below(11);
        doubling + self.below(doubling)
    }
}

/// Returns what is on the disk under a path. What goes meanwhile is not there.
fn on_disk(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    let within = std::fs::read_dir(path).into_iter().flatten().flatten();
    meta.blocks() * 512 + within.map(|entry| on_disk(&entry.path())).sum::<u64>()
}

fn open(dir: &Path, limit: u64, policy: &str) -> Cache {
    open_with(dir, limit, policy, None)
}

fn open_with(dir: &Path, limit: u64, policy: &str, companion: Option<Arc<dyn Companion>>) -> Cache {
    let settings = vec![
        ("size_limit".to_owned(), Setting::Int(limit.try_into().unwrap())),
        ("eviction_policy".to_owned(), Setting::Text(policy.to_owned())),
    ];
    Cache::open(dir, Options { settings, profile: Some(ProfileOverride::Local), companion, ..Options::default() }).unwrap()
}

/// A cache that is watched while it is written to.
struct Watched {
    dir: tempfile::TempDir,
    cache: Cache,
    limit: u64,
    written: u64,
    looked: u64,
    most: u64,
}

impl Watched {
    fn new(limit: u64, policy: &str) -> Self {
        Self::with(limit, policy, None)
    }

    fn with(limit: u64, policy: &str, companion: Option<Arc<dyn Companion>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = open_with(dir.path(), limit, policy, companion);
        Self { dir, cache, limit, written: 0, looked: 0, most: 0 }
    }

    fn set(&mut self, key: u64, len: u64) {
        let value = vec![u8::try_from(key % 251).unwrap(); usize::try_from(len).unwrap()];
        self.cache.set(NumberKey::int(key.cast_signed()).as_ref(), Put::bytes(&value)).unwrap();
        self.written += len;
        if self.written - self.looked > self.limit / 64 {
            self.looked = self.written;
            self.most = self.most.max(on_disk(self.dir.path()));
        }
    }

    /// Returns the bytes of the values that are there.
    fn live(&self, keys: u64) -> u64 {
        let len =
            |key: u64| self.cache.get(NumberKey::int(key.cast_signed()).as_ref()).unwrap().map_or(0, |value| value.bytes().unwrap().len());
        (0..keys).map(|key| len(key) as u64).sum()
    }

    /// Asserts that the limit was kept, and that values took at least so many hundredths of it in the end.
    fn judge(mut self, what: &str, keys: u64, percent: u64) {
        let last = on_disk(self.dir.path());
        self.most = self.most.max(last);
        let live = self.live(keys);
        let of = |bytes: u64| bytes * 100 / self.limit;
        println!("{what}: at most {} %, in the end {} %, live {} %", of(self.most), of(last), of(live));
        assert!(self.most <= self.limit / 10 * 11, "{what}: {} bytes on disk, the limit is {}", self.most, self.limit);
        assert!(of(live) >= percent, "{what}: only {} % of the limit lives", of(live));
        // The thread may be at it still, and take files away between the two looks.
        let look = || (self.cache.volume().unwrap(), on_disk(self.dir.path()));
        let is_near = |(says, is): (u64, u64)| says.abs_diff(is) <= is / 10;
        for _ in 0..50 {
            if is_near(look()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let last = look();
        assert!(is_near(last), "{what}: `volume` and the disk say {last:?}");
        self.cache.close().unwrap();
        assert!(on_disk(self.dir.path()) <= self.limit / 10 * 11, "{what}: closed, {} bytes", on_disk(self.dir.path()));
    }
}

#[test]
fn large_values_in_the_order_of_their_keys_keep_the_size_limit() {
    let mut cache = Watched::new(32 * MIB, "least-recently-stored");
    let keys = 3 * 32 * MIB / 65536;
    (0..keys).for_each(|key| cache.set(key, 65536));
    cache.judge("in order, 64 KiB", keys, 70);
}

#[test]
fn small_values_in_the_order_of_their_keys_keep_the_size_limit() {
    let mut cache = Watched::new(8 * MIB, "least-recently-stored");
    let keys = 3 * 8 * MIB / 512;
    (0..keys).for_each(|key| cache.set(key, 512));
    cache.judge("in order, 512 bytes", keys, 45);
}

#[test]
fn values_that_are_overwritten_at_random_keep_the_size_limit() {
    let mut cache = Watched::new(32 * MIB, "least-recently-stored");
    let keys = 32 * MIB * 3 / 2 / 65536;
    let mut random = Random(1);
    (0..keys * 4).for_each(|_| cache.set(random.below(keys), 65536));
    cache.judge("overwritten at random, 64 KiB", keys, 70);
}

#[test]
fn values_of_mixed_lengths_keep_the_size_limit() {
    let mut cache = Watched::new(32 * MIB, "least-recently-stored");
    let mut random = Random(2);
    let mut keys = 0;
    while cache.written < 4 * 32 * MIB {
        let key = if random.below(3) == 0 { random.below(keys + 1) } else { keys };
        keys += 1;
        cache.set(key, random.len());
    }
    cache.judge("mixed lengths", keys, 65);
}

/// What the thread evicts at a time is a small part of the limit, however few entries that are.
#[test]
fn a_small_cache_is_not_emptied_at_one_go() {
    let mut cache = Watched::new(8 * MIB, "least-recently-stored");
    for key in 0..3200 {
        cache.set(key, 10_000);
        let count = cache.cache.len().unwrap();
        assert!(key < 400 || count > 320, "{count} entries are left after {key} were stored");
    }
    cache.judge("a small cache", 3200, 45);
}

/// Who sets `cull_limit` below its default wants no write to evict more, nor anybody beside the writes.
#[test]
fn no_more_is_evicted_than_a_low_cull_limit_allows() {
    let mut cache = Watched::new(8 * MIB, "least-recently-stored");
    cache.cache.reset_setting("cull_limit", &Setting::Int(2)).unwrap();
    (0..8000).for_each(|key| cache.set(key, 1000));
    for key in 8000..8020 {
        let before = cache.cache.len().unwrap();
        cache.set(key, MIB);
        let after = cache.cache.len().unwrap();
        assert!(after + 1 >= before, "{before} entries were {after} after one write");
    }
}

/// A few small values make no room for a large one: as many must go as it takes, and what they took must go from the disk as fast.
fn large_after_small(mut cache: Watched, what: &str) {
    let small = 75_000;
    (0..small).for_each(|key| cache.set(key, 100));
    (small..small + 150).for_each(|key| cache.set(key, MIB / 4));
    cache.judge(what, small + 150, 65);
}

#[test]
fn large_values_after_very_many_small_ones_keep_the_size_limit() {
    large_after_small(Watched::new(16 * MIB, "least-recently-stored"), "large after small");
}

/// Is told of values that are gone, none of which is its own.
#[derive(Debug)]
struct Listener;

impl Companion for Listener {
    fn listens(&self) -> bool {
        true
    }

    fn removed(&self, _value: &[u8]) {
        unreachable!("no value was stored by it");
    }
}

/// Only calls evict where a companion is to be told, and not the thread beside them.
#[test]
fn a_cache_with_a_companion_keeps_the_size_limit() {
    large_after_small(Watched::with(16 * MIB, "least-recently-stored", Some(Arc::new(Listener))), "with a companion");
}

fn child(dir: &Path, seed: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD]).env(CHILD_DIR, dir).env(CHILD_SEED, seed.to_string());
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn several_processes_that_write_at_once_keep_the_size_limit_together() {
    let limit = 32 * MIB;
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let cache = open(Path::new(&dir), limit, "least-recently-stored");
        let mut random = Random(std::env::var(CHILD_SEED).unwrap().parse().unwrap());
        for _ in 0..1000 {
            let value = vec![7; usize::try_from(random.len()).unwrap()];
            cache.set(NumberKey::int(random.below(2000).cast_signed()).as_ref(), Put::bytes(&value)).unwrap();
        }
        // It stops at once: nothing is closed, nobody waits for the thread.
        std::process::exit(0);
    }
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), limit, "least-recently-stored"));
    let mut children: Vec<Child> = (10..13).map(|seed| child(dir.path(), seed)).collect();
    let mut most = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        most = most.max(on_disk(dir.path()));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let last = on_disk(dir.path());
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    println!("three processes: at most {} %, in the end {} %", most * 100 / limit, last * 100 / limit);
    assert!(most.max(last) <= limit / 10 * 11, "{most} bytes on disk, {last} in the end, the limit is {limit}");
    let report = open(dir.path(), limit, "least-recently-stored").check(false).unwrap();
    assert_eq!(report.entries_lost, 0, "{report:?}");
}

/// Few keys that are overwritten for long: writers at full speed are some checkpoints ahead of what can go, and no more.
#[test]
fn garbage_of_a_few_keys_that_are_overwritten_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 1 << 30, "least-recently-stored");
    let value = vec![7; 65536];
    let mut looks = Vec::new();
    for n in 0..8000_i64 {
        cache.set(NumberKey::int(n % 100).as_ref(), Put::bytes(&value)).unwrap();
        if n % 50 == 49 {
            looks.push(on_disk(dir.path()));
        }
    }
    looks.sort_unstable();
    let (median, most) = (looks[looks.len() / 2], looks[looks.len() - 1]);
    println!("6.5 MB live: mostly {} MiB, at most {} MiB", median / MIB, most / MIB);
    assert!(median < 56 * MIB && most < 128 * MIB, "mostly {} MiB on disk, at most {} MiB", median / MIB, most / MIB);
}

/// Values in files of their own leave no garbage. What evicts must take no more than it needs to: they are large.
#[test]
fn a_cache_of_large_values_stays_nearly_as_full_as_its_limit_allows() {
    const LEN: u64 = MIB;
    const LIMIT: u64 = 40 * MIB;
    let mut watched = Watched::new(LIMIT, "least-recently-stored");
    for key in 0..120 {
        watched.set(key, LEN);
        let live = watched.live(120);
        let stored = (key + 1) * LEN;
        assert!(live >= stored.min(LIMIT - LIMIT / 3), "{} MiB of {} MiB live after {} values", live / MIB, LIMIT / MIB, key + 1);
    }
    assert!(watched.most <= LIMIT + LIMIT / 10, "{} bytes of {LIMIT}", watched.most);
    // The same by hand.
    watched.cache.reset_setting("size_limit", &Setting::Int((LIMIT / 2).cast_signed())).unwrap();
    watched.cache.cull().unwrap();
    assert!(watched.cache.volume().unwrap() <= LIMIT / 2);
    let live = watched.live(120);
    assert!((LIMIT / 2 - LIMIT / 10..=LIMIT / 2).contains(&live), "{} MiB live after cull", live / MIB);
}
