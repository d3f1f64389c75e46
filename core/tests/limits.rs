//! What a commit can hold is no concern of the caller: large batches, transactions and removals, on a local disk and between hosts.
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use diskcache_core::cache::{Change, Changed};
use diskcache_core::clock::ManualClock;
use diskcache_core::vfs::Vfs;
use diskcache_core::vfs::mem::MemVfs;
use diskcache_core::{Cache, ErrorKind, KeyOrder, KeyRef, NumberKey, Options, ProfileOverride, Put, Setting};
use std::path::Path;
use std::sync::Arc;

const MODES: [ProfileOverride; 2] = [ProfileOverride::Local, ProfileOverride::Shared];

fn options(mode: ProfileOverride) -> Options {
    let settings = [("cull_limit", 0), ("size_limit", 1 << 40), ("disk_min_file_size", 256 << 10)];
    let settings = settings.map(|(name, value)| (name.to_owned(), Setting::Int(value))).to_vec();
    Options { profile: Some(mode), settings, ..Options::default() }
}

/// Gives `test` a way to open one cache again and again, for both modes.
fn for_both(test: impl Fn(&dyn Fn() -> Cache)) {
    for mode in MODES {
        let (vfs, clock) = (MemVfs::new(), ManualClock::default());
        test(&|| Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/cache"), options(mode), 7).unwrap());
    }
}

/// Values of a batch of 64 MiB: short ones, empty ones, and those that just miss a file of their own.
fn large_batch() -> Vec<Vec<u8>> {
    let value = |n: u32| n.to_le_bytes().into_iter().cycle().take([30_000, 100, 0, 32_000, 7][n as usize % 5]).collect();
    let values: Vec<Vec<u8>> = (0..5500).map(value).collect();
    assert!(values.iter().map(Vec::len).sum::<usize>() > 64 << 20);
    values
}

fn expect_all(cache: &Cache, values: &[Vec<u8>], at: &str) {
    assert_eq!(cache.len().unwrap(), values.len() as u64, "{at}");
    // Of every length some, from the first to the last.
    for (n, value) in (0..).zip(values).step_by(3) {
        let found = cache.get(NumberKey::int(n).as_ref()).unwrap().unwrap_or_else(|| panic!("{n} is missing {at}"));
        assert!(*found.bytes().unwrap() == **value, "{n} is another one {at}");
    }
}

#[test]
fn a_batch_of_64_mib_takes_effect_as_one() {
    let values = large_batch();
    for_both(|open| {
        let (cache, other) = (open(), open());
        let keys: Vec<NumberKey> = (0..values.len() as i64).map(NumberKey::int).collect();
        let mut changes: Vec<Change<'_>> =
            keys.iter().zip(&values).map(|(key, value)| Change::Set(key.as_ref(), Put::bytes(value))).collect();
        changes.push(Change::Pop(keys[0].as_ref()));
        changes.push(Change::Set(keys[0].as_ref(), Put::bytes(&values[0])));
        let changed = cache.write_many(&mut changes).unwrap();
        assert!(matches!(&changed[values.len()], Changed::Popped(Some(hit)) if *hit.value.bytes().unwrap() == *values[0]));
        expect_all(&cache, &values, "for its writer");
        expect_all(&other, &values, "for another host");
        drop((cache, other)); // which leaves a checkpoint
        let cache = open();
        expect_all(&cache, &values, "after a checkpoint");
        assert!(cache.delete(keys[1].as_ref()).unwrap() && cache.get(keys[1].as_ref()).unwrap().is_none());
        assert!(cache.check(false).unwrap().problems.is_empty());
    });
}

#[test]
fn a_transaction_of_64_mib_reads_what_it_wrote_and_takes_effect_as_one() {
    let values = large_batch();
    for_both(|open| {
        let (cache, other) = (open(), open());
        cache.transact_begin(None).unwrap();
        for (n, value) in (0..).zip(&values) {
            cache.set(NumberKey::int(n).as_ref(), Put::bytes(value)).unwrap();
        }
        for n in [0, 1, 3, values.len() - 2] {
            let found = cache.get(NumberKey::int(n as i64).as_ref()).unwrap().unwrap();
            assert!(*found.bytes().unwrap() == *values[n], "{n} within the transaction");
        }
        assert_eq!(other.len().unwrap(), 0);
        cache.transact_commit().unwrap();
        expect_all(&other, &values, "for another host");
        expect_all(&cache, &values, "for its writer");
        drop((cache, other));
        expect_all(&open(), &values, "after a checkpoint");
    });
}

/// Values that fill a commit get files of their own, as many as it takes.
#[test]
fn what_does_not_fit_into_one_commit_goes_beside_it_and_still_takes_effect_as_one() {
    let (vfs, clock) = (MemVfs::new(), ManualClock::default());
    let mut options = options(ProfileOverride::Local);
    options.settings.push(("disk_min_file_size".to_owned(), Setting::Int(8 << 20)));
    let open = || Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/cache"), options.clone(), 7).unwrap();
    let (cache, value) = (open(), vec![7; 1 << 20]);
    let keys: Vec<NumberKey> = (0..200).map(NumberKey::int).collect();
    let mut batch: Vec<Change<'_>> = keys.iter().map(|key| Change::Set(key.as_ref(), Put::bytes(&value))).collect();
    cache.write_many(&mut batch).unwrap();
    cache.transact_begin(None).unwrap();
    for n in 200..270 {
        cache.set(NumberKey::int(n).as_ref(), Put::bytes(&value)).unwrap();
    }
    cache.transact_commit().unwrap();
    let (cache, files) = (open(), vfs.read_dir(Path::new("/cache/blob")).unwrap().len());
    assert!((9..=20).contains(&files), "{files} values of 270 have files of their own");
    assert_eq!(cache.len().unwrap(), 270);
    assert!((0..270).step_by(10).all(|n| *cache.get(NumberKey::int(n).as_ref()).unwrap().unwrap().bytes().unwrap() == *value));
    assert_eq!(cache.clear().unwrap(), 270);
}

#[test]
fn what_cannot_be_one_commit_says_how_much_was_asked_what_the_limit_is_and_what_to_do() {
    for_both(|open| {
        let (cache, key) = (open(), vec![b'k'; KEY_LEN]);
        let count = (300 << 20) / KEY_LEN;
        let mut too_much: Vec<Change<'_>> = (0..count).map(|_| Change::Set(KeyRef::bytes(&key), Put::text("v"))).collect();
        let error = cache.write_many(&mut too_much).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let (asked, limit) = ((count * (KEY_LEN + 256 + 32)).to_string(), (192 << 20).to_string());
        assert!([&*asked, &*limit, "several"].iter().all(|part| error.to_string().contains(part)), "{error}");
        cache.transact_begin(None).unwrap();
        let failed = (0..count).find_map(|_| cache.set(KeyRef::bytes(&key), Put::text("v")).err()).unwrap();
        assert_eq!(failed.kind(), ErrorKind::Invalid);
        assert!([&*(256 << 20).to_string(), "several"].iter().all(|part| failed.to_string().contains(part)), "{failed}");
        cache.transact_rollback().unwrap();
        assert_eq!(open().len().unwrap(), 0);
    });
}

const KEY_LEN: usize = 1 << 20;

/// Removals need not be one commit, and are as many as it takes. (The keys of one of 512 entries did not fit into a commit.)
#[test]
fn a_thousand_long_keys_are_evicted_between_hosts() {
    const KEYS: usize = 1000;
    let (vfs, clock) = (MemVfs::new(), ManualClock::default());
    let options = options(ProfileOverride::Shared);
    let open = || Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/cache"), options.clone(), 7).unwrap();
    let cache = open();
    for part in 0..5 {
        let keys: Vec<String> = (0..KEYS / 5).map(|n| format!("{part}:{n:03};").repeat(100 * 1024 / 6)).collect();
        let put = || Put::text("v").tagged(KeyRef::text("tag"));
        let mut batch: Vec<Change<'_>> = keys.iter().map(|key| Change::Set(KeyRef::text(key), put())).collect();
        cache.write_many(&mut batch).unwrap();
    }
    assert_eq!(cache.len().unwrap(), KEYS as u64);
    assert_eq!(cache.evict(KeyRef::text("tag")).unwrap(), KEYS as u64);
    assert_eq!(open().len().unwrap(), 0);
}

/// What a write removes along the way is bounded in bytes, not in number only.
#[test]
fn long_keys_expire_are_culled_and_cleared_whatever_the_settings_let_one_write_remove() {
    for_both(|open| {
        let cache = open();
        cache.reset_setting("cull_limit", &Setting::Int(1_000_000)).unwrap();
        let fill = |expire: Option<f64>| {
            for n in 0..40_u8 {
                let put = Put { expire, ..Put::text("v") };
                cache.set(KeyRef::bytes(&vec![n; KEY_LEN]), put).unwrap();
            }
        };
        fill(Some(1e6));
        assert_eq!(cache.expire(Some(f64::MAX)).unwrap(), 40);
        fill(None);
        assert_eq!(cache.clear().unwrap(), 40);
        fill(None);
        cache.reset_setting("size_limit", &Setting::Int(10 << 20)).unwrap();
        for n in 0..60 {
            cache.set(NumberKey::int(n).as_ref(), Put::text("v")).unwrap();
        }
        assert!(cache.len().unwrap() < 80, "{} entries", cache.len().unwrap());
        cache.reset_setting("size_limit", &Setting::Int(0)).unwrap();
        assert!(cache.cull().unwrap() > 0);
        assert_eq!(open().len().unwrap(), 0);
    });
}

/// A queue's keys are longer than its name: the longest name must leave room for what comes behind it.
#[test]
fn the_longest_name_of_a_queue_makes_keys_that_can_be_used() {
    for_both(|open| {
        let (cache, name) = (open(), "q".repeat(KEY_LEN_MAX - 16));
        let key = cache.push(Some(&name), false, Put::text("one")).unwrap();
        assert_eq!(key.bytes.len(), KEY_LEN_MAX);
        assert!(open().get(key.as_ref()).unwrap().is_some());
        assert!(cache.pull(Some(&name), true).unwrap().is_some());
        for name in [format!("{name}q"), "q".repeat(KEY_LEN_MAX)] {
            assert_eq!(cache.push(Some(&name), false, Put::text("one")).unwrap_err().kind(), ErrorKind::Invalid);
            assert_eq!(cache.pull(Some(&name), true).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(cache.check(false).unwrap().problems.is_empty());
    });
}

const KEY_LEN_MAX: usize = diskcache_core::format::KEY_LEN_MAX;

/// Returns key number `n`, of 5 MiB, or of as much as a key can have. They differ at their ends only.
fn long_key(n: u32) -> Vec<u8> {
    let mut key = vec![b'k'; if n == 0 { KEY_LEN_MAX } else { 5 << 20 }];
    let end = key.len() - 4;
    key[end..].copy_from_slice(&n.to_le_bytes());
    key
}

/// Keys of any length up to the limit go every way that a key goes: log, index, runs and their merges, folds, other hosts.
#[test]
fn keys_of_5_mib_and_more_are_keys_like_others() {
    for mode in MODES {
        let (vfs, clock) = (MemVfs::new(), ManualClock::default());
        let often = Options { delta_entries_max: 4000, fold_commits: 3, garbage_len_min: 1 << 20, ..options(mode) };
        let open = || Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/cache"), often.clone(), 7).unwrap();
        let files = |dir: &str| vfs.read_dir(&Path::new("/cache").join(dir)).map_or(0, |names| names.len());
        let (cache, other) = (open(), open());
        let keys: Vec<Vec<u8>> = (0..6).map(long_key).collect();
        let value = |turn: u8, n: usize| vec![turn + n as u8; 2000];
        for turn in 0..3 {
            for (n, key) in keys.iter().enumerate() {
                let tag = NumberKey::int(n as i64 / 2);
                cache.set(KeyRef::bytes(key), Put::bytes(&value(turn, n)).tagged(tag.as_ref())).unwrap();
            }
        }
        let (filler, mut turns) = (vec![7; 200 << 10], 0);
        // (On a local disk such keys have segments of their own, which go as a whole and are never folded.)
        let is_folded = || matches!(mode, ProfileOverride::Local) || files("fold") > 0;
        while !(is_folded() && files("run") > 0) && turns < 300 {
            cache.set(KeyRef::text("filler"), Put::bytes(&filler)).unwrap();
            turns += 1;
        }
        assert_eq!(cache.delete(KeyRef::text("filler")).unwrap(), turns > 0);
        assert!(files("run") > 0 && is_folded(), "{mode:?}: {} runs, {} folds", files("run"), files("fold"));
        let expect = |cache: &Cache, there: &[usize], at: &str| {
            for (n, key) in keys.iter().enumerate() {
                let found = cache.get(KeyRef::bytes(key)).unwrap().map(|found| found.bytes().unwrap().to_vec());
                assert!(found == there.contains(&n).then(|| value(2, n)), "{mode:?}: key {n} {at}");
            }
            let (mut walk, mut walked) = (cache.keys(KeyOrder::Key, false), Vec::new());
            while let Some(key) = cache.next_keys(&mut walk, 1).unwrap().pop() {
                walked.push(keys.iter().position(|other| **other == *key.bytes).unwrap());
            }
            walked.sort_unstable();
            assert_eq!(walked, there, "{mode:?} {at}");
        };
        expect(&cache, &[0, 1, 2, 3, 4, 5], "for its writer");
        expect(&other, &[0, 1, 2, 3, 4, 5], "for another host");
        assert!(cache.delete(KeyRef::bytes(&keys[1])).unwrap());
        assert!(other.add(KeyRef::bytes(&keys[1]), Put::bytes(&value(2, 1))).unwrap());
        assert_eq!(cache.evict(NumberKey::int(1).as_ref()).unwrap(), 2);
        assert!(cache.pop(KeyRef::bytes(&keys[0])).unwrap().is_some());
        drop((cache, other));
        expect(&open(), &[1, 4, 5], "after it was opened again");
        let cache = open();
        let mut too_long = long_key(0);
        too_long.push(0);
        for error in [
            cache.set(KeyRef::bytes(&too_long), Put::text("v")).unwrap_err(),
            cache.delete(KeyRef::bytes(&too_long)).unwrap_err(),
            cache.write_many(&mut [Change::Set(KeyRef::bytes(&too_long), Put::text("v"))]).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(
                error.to_string().contains(&KEY_LEN_MAX.to_string()) && error.to_string().contains(&too_long.len().to_string()),
                "{error}"
            );
        }
        let report = cache.check(true).unwrap();
        assert!(report.problems.is_empty() && report.entries == 3, "{mode:?}: {report:?}");
    }
}

#[test]
fn walks_give_long_keys_in_small_pieces() {
    for_both(|open| {
        let cache = open();
        let names: Vec<String> = (0..30).map(|n| n.to_string().repeat(KEY_LEN / 2)).collect();
        for name in &names {
            cache.set(KeyRef::text(name), Put::text("v")).unwrap();
        }
        let (mut walk, mut found) = (cache.keys(KeyOrder::Insertion, false), Vec::new());
        loop {
            let batch = cache.next_keys(&mut walk, 1000).unwrap();
            assert!(batch.iter().map(|key| key.bytes.len()).sum::<usize>() <= 6 << 20);
            if batch.is_empty() {
                break;
            }
            found.extend(batch.into_iter().map(|key| key.bytes));
        }
        assert!(found.iter().map(|key| &**key).eq(names.iter().map(String::as_bytes)));
    });
}
