//! What the façade promises, on a real local disk and in shared mode on one.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: helpers panic, and look at real files")]

use diskcache_core::cache::{Change, Changed};
use diskcache_core::clock::{ManualClock, OsClock};
use diskcache_core::format::KEY_LEN_MAX;
use diskcache_core::vfs::mem::MemVfs;
use diskcache_core::vfs::{OsVfs, Vfs};
use diskcache_core::{Attempt, Cache, ErrorKind, Hit, KeyOrder, KeyRef, Number, NumberKey, Options, ProfileOverride, Put, Setting};
use std::path::Path;
use std::sync::Arc;

fn options(mode: ProfileOverride) -> Options {
    Options { profile: Some(mode), ..Options::default() }
}

fn for_both(test: impl Fn(&Cache, &dyn Fn() -> Cache)) {
    for mode in [ProfileOverride::Local, ProfileOverride::Shared] {
        let dir = tempfile::tempdir().unwrap();
        let open = || Cache::open(dir.path(), options(mode)).unwrap();
        test(&open(), &open);
    }
}

fn text(cache: &Cache, key: &str) -> Option<String> {
    cache.get(KeyRef::text(key)).unwrap().map(|v| String::from_utf8(v.bytes().unwrap().into_owned()).unwrap())
}

#[test]
fn what_was_set_is_got_by_every_handle_and_after_reopening() {
    for_both(|cache, open| {
        let other = open();
        cache.set(KeyRef::text("a"), Put::text("one")).unwrap();
        assert_eq!(text(&other, "a").as_deref(), Some("one"));
        other.set(KeyRef::text("a"), Put::text("two")).unwrap();
        assert_eq!(text(cache, "a").as_deref(), Some("two"));
        assert_eq!(text(&open(), "a").as_deref(), Some("two"));
        assert_eq!(text(cache, "b"), None);
        assert!(cache.delete(KeyRef::text("a")).unwrap() && !cache.delete(KeyRef::text("a")).unwrap());
        assert_eq!(text(&other, "a"), None);
        assert_eq!(other.len().unwrap(), 0);
    });
}

#[test]
fn counting_is_exact_and_refuses_what_is_no_number() {
    for_both(|cache, open| {
        let key = KeyRef::text("n");
        assert_eq!(cache.incr(key, Number::Int(1), None).unwrap(), None);
        assert_eq!(cache.incr(key, Number::Int(2), Some(Number::Int(0))).unwrap(), Some(Number::Int(2)));
        assert_eq!(open().incr(key, Number::Int(-5), None).unwrap(), Some(Number::Int(-3)));
        assert_eq!(cache.incr(key, Number::Float(0.5), None).unwrap(), Some(Number::Float(-2.5)));
        cache.set(key, Put::text("x")).unwrap();
        assert_eq!(cache.incr(key, Number::Int(1), None).unwrap_err().kind(), ErrorKind::WrongType);
    });
}

#[test]
fn queues_give_each_item_once_in_order() {
    for_both(|cache, open| {
        let first = cache.push(None, false, Put::text("b")).unwrap();
        assert!(first.as_ref().same(&NumberKey::int(500_000_000_000_000).as_ref()));
        cache.push(None, false, Put::text("c")).unwrap();
        cache.push(None, true, Put::text("a")).unwrap();
        cache.push(Some("q"), false, Put::text("other")).unwrap();
        let other = open();
        let pull = |front| other.pull(None, front).unwrap().map(|h| String::from_utf8(h.value.bytes().unwrap().into_owned()).unwrap());
        assert_eq!(cache.peek(None, true).unwrap().unwrap().value.bytes().unwrap().as_ref(), b"a");
        assert_eq!((pull(true), pull(false), pull(true), pull(true)), (Some("a".into()), Some("c".into()), Some("b".into()), None));
        assert_eq!(cache.pull(Some("q"), true).unwrap().unwrap().key.as_ref().bytes, b"q-500000000000000");
        assert!(cache.is_empty().unwrap());
    });
}

#[test]
fn iteration_keeps_insertion_order_through_overwrites_and_key_order_is_by_kind() {
    for_both(|cache, _| {
        for key in ["c", "a", "b"] {
            cache.set(KeyRef::text(key), Put::text("1")).unwrap();
        }
        cache.set(KeyRef::text("c"), Put::text("2")).unwrap();
        cache.set(NumberKey::int(5).as_ref(), Put::text("n")).unwrap();
        let keys = |order, reverse| {
            let mut walk = cache.keys(order, reverse);
            let mut all = Vec::new();
            loop {
                let batch = cache.next_keys(&mut walk, 2).unwrap();
                if batch.is_empty() {
                    return all;
                }
                all.extend(
                    batch
                        .iter()
                        .map(|k| k.as_ref().number().map_or_else(|| String::from_utf8_lossy(&k.bytes).into_owned(), |n| format!("{n:?}"))),
                );
            }
        };
        assert_eq!(keys(KeyOrder::Insertion, false), ["c", "a", "b", "Int(5)"]);
        assert_eq!(keys(KeyOrder::Insertion, true), ["Int(5)", "b", "a", "c"]);
        assert_eq!(keys(KeyOrder::Key, false), ["Int(5)", "a", "b", "c"]);
    });
}

#[test]
fn a_transaction_takes_effect_whole_or_not_at_all() {
    for_both(|cache, open| {
        let other = open();
        cache.set(KeyRef::text("a"), Put::text("0")).unwrap();
        cache.transact_begin(None).unwrap();
        cache.set(KeyRef::text("a"), Put::text("1")).unwrap();
        cache.incr(KeyRef::text("n"), Number::Int(1), Some(Number::Int(0))).unwrap();
        assert_eq!(text(cache, "a").as_deref(), Some("1"), "its own writes are seen inside");
        assert_eq!(text(&other, "a").as_deref(), Some("0"), "and by nobody else");
        cache.transact_commit().unwrap();
        assert_eq!(text(&other, "a").as_deref(), Some("1"));
        cache.transact_begin(None).unwrap();
        cache.clear().unwrap();
        assert_eq!(cache.len().unwrap(), 0);
        cache.transact_rollback().unwrap();
        assert_eq!(other.len().unwrap(), 2);
    });
}

#[test]
fn large_values_have_files_of_their_own_which_go_with_them() {
    for_both(|cache, open| {
        let big = vec![7_u8; 1 << 20];
        let blobs = || std::fs::read_dir(cache.directory().join("blob")).map_or(0, Iterator::count);
        cache.set(KeyRef::text("big"), Put::bytes(&big)).unwrap();
        assert_eq!(blobs(), 1);
        assert_eq!(open().get(KeyRef::text("big")).unwrap().unwrap().bytes().unwrap(), big);
        assert_eq!(cache.pop(KeyRef::text("big")).unwrap().unwrap().value.bytes().unwrap().len(), big.len());
        cache.close().unwrap();
    });
}

#[test]
fn settings_are_stored_with_the_cache() {
    for_both(|cache, open| {
        cache.reset_setting("size_limit", &Setting::Int(12345)).unwrap();
        assert_eq!(open().setting("size_limit").unwrap(), Some(Setting::Int(12345)));
        assert!(cache.reset_setting("eviction_policy", &Setting::Text("nonsense".into())).is_err());
    });
}

#[test]
fn many_entries_survive_checkpoints_merges_and_folds() {
    for mode in [ProfileOverride::Local, ProfileOverride::Shared] {
        let dir = tempfile::tempdir().unwrap();
        let small = Options { delta_entries_max: 100, garbage_len_min: 64 << 10, ..options(mode) };
        let cache = Cache::open(dir.path(), small.clone()).unwrap();
        let other = Cache::open(dir.path(), small.clone()).unwrap();
        let rounds = if mode == ProfileOverride::Local { 30 } else { 3 };
        for round in 0..rounds {
            for i in 0..300_i64 {
                let value = format!("{round}-{i}-{}", "x".repeat(usize::try_from(i).unwrap()));
                cache.set(NumberKey::int(i).as_ref(), Put::text(&value)).unwrap();
                if i % 7 == 0 {
                    other.delete(NumberKey::int(i - 1).as_ref()).unwrap();
                }
            }
        }
        for handle in [&cache, &other, &Cache::open(dir.path(), small).unwrap()] {
            for i in 0..300_i64 {
                let got = handle.get(NumberKey::int(i).as_ref()).unwrap().map(|v| v.bytes().unwrap().into_owned());
                let want = (i % 7 != 6 || i == 299)
                    .then(|| format!("{}-{i}-{}", rounds - 1, "x".repeat(usize::try_from(i).unwrap())).into_bytes());
                assert_eq!(got, want, "key {i} in {mode:?}");
            }
            assert_eq!(handle.damaged_reads().unwrap(), 0);
        }
    }
}

/// Keys that are only overwritten do not lengthen the delta, so its length alone must not decide when the log is folded.
#[test]
fn overwriting_a_few_keys_does_not_let_the_log_grow() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options { garbage_len_min: 64 << 10, tail_len_max: 256 << 10, ..options(ProfileOverride::Local) };
    let cache = Cache::open(dir.path(), small).unwrap();
    let value = "x".repeat(1000);
    let mut most = 0;
    for round in 0..20_000_i64 {
        cache.set(NumberKey::int(round % 10).as_ref(), Put::text(&value)).unwrap();
        most = most.max(cache.volume().unwrap());
    }
    // What follows the newest checkpoint but one is needed after a power failure, and writers may be ahead of the thread that folds.
    assert!(most < 5 << 20, "20 MB were written, 10 kB live, and the cache took {most} bytes");
    assert_eq!(cache.len().unwrap(), 10);
}

/// Maintenance that comes with the removal itself may fold the log and leave the removed entry out.
#[test]
fn what_is_popped_is_read_even_if_it_is_folded_away_at_once() {
    for mode in [ProfileOverride::Local, ProfileOverride::Shared] {
        let options = Options { delta_entries_max: 30, garbage_len_min: 0, tail_len_max: 256 << 10, fold_commits: 60, ..options(mode) };
        let clock = Arc::new(ManualClock::default());
        let cache = Cache::open_on(Arc::new(MemVfs::new()), clock, Path::new("/cache"), options, 1).unwrap();
        let value = |i: i64| format!("{i} {}", "x".repeat(500));
        let content = |hit: Hit| String::from_utf8(hit.value.bytes().unwrap().into_owned()).unwrap();
        for i in 0..1500 {
            cache.set(NumberKey::int(i).as_ref(), Put::text(&value(i))).unwrap();
            cache.push(Some("queue"), false, Put::text(&value(i))).unwrap();
        }
        for i in 0..1500 {
            assert_eq!(cache.pop(NumberKey::int(i).as_ref()).unwrap().map(content), Some(value(i)), "key {i} in {mode:?}");
            assert_eq!(cache.pull(Some("queue"), true).unwrap().map(content), Some(value(i)), "item {i} in {mode:?}");
        }
        assert_eq!((cache.len().unwrap(), cache.damaged_reads().unwrap()), (0, 0));
    }
}

#[test]
fn a_batch_is_one_commit_of_all_its_changes_in_their_order() {
    for_both(|cache, open| {
        let large = vec![7; 400_000];
        cache.set(KeyRef::text("old"), Put::bytes(&large)).unwrap();
        let mut changes = [
            Change::Set(KeyRef::text("a"), Put::text("one")),
            Change::Set(KeyRef::text("b"), Put::bytes(&large)),
            Change::Set(KeyRef::text("a"), Put::text("two")),
            Change::Push { prefix: None, front: false, put: Put::text("item") },
            Change::Delete(KeyRef::text("none")),
            Change::Pop(KeyRef::text("old")),
            Change::Delete(KeyRef::text("b")),
        ];
        let changed = cache.write_many(&mut changes).unwrap();
        let [
            Changed::Set,
            Changed::Set,
            Changed::Set,
            Changed::Pushed(key),
            Changed::Deleted(false),
            Changed::Popped(Some(hit)),
            Changed::Deleted(true),
        ] = &changed[..]
        else {
            panic!("{changed:?}")
        };
        assert!(key.as_ref().same(&NumberKey::int(500_000_000_000_000).as_ref()));
        assert_eq!(hit.value.bytes().unwrap().len(), large.len());
        let other = open();
        assert_eq!((text(&other, "a").as_deref(), other.len().unwrap()), (Some("two"), 2));
        let values = other.get_many(&[KeyRef::text("b"), KeyRef::text("a"), KeyRef::text("old")]).unwrap();
        assert_eq!(values.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
        assert!(cache.write_many(&mut []).unwrap().is_empty());
    });
}

#[test]
fn a_batch_that_cannot_be_leaves_nothing_behind() {
    for_both(|cache, open| {
        let (large, long) = (vec![7; 400_000], vec![b'k'; KEY_LEN_MAX + 1]);
        let mut bad_key = [Change::Set(KeyRef::text("a"), Put::bytes(&large)), Change::Delete(KeyRef::bytes(&long))];
        assert_eq!(cache.write_many(&mut bad_key).unwrap_err().kind(), ErrorKind::Invalid);
        let long = &long[1..];
        let mut too_much: Vec<Change<'_>> = (0..30).map(|_| Change::Set(KeyRef::bytes(long), Put::bytes(b"short"))).collect();
        too_much.insert(0, Change::Set(KeyRef::text("a"), Put::bytes(&large)));
        assert_eq!(cache.write_many(&mut too_much).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(open().len().unwrap(), 0);
        assert!(cache.check(false).unwrap().problems.is_empty());
    });
}

/// What cull evicts frees nothing by itself: the log kept it until later writes folded it away, and the files stayed over the limit.
#[test]
fn after_cull_the_files_are_within_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let setting = |name: &str, value| (name.to_owned(), Setting::Int(value));
    let settings = vec![setting("size_limit", 512 << 10), setting("cull_limit", 0)];
    let cache = Cache::open(dir.path(), Options { settings, ..options(ProfileOverride::Local) }).unwrap();
    for n in 0..5000 {
        cache.set(NumberKey::int(n).as_ref(), Put::bytes(&[7; 100])).unwrap();
    }
    assert!(cache.volume().unwrap() > 512 << 10);
    assert!(cache.cull().unwrap() > 0);
    assert!(cache.volume().unwrap() <= 512 << 10, "{} bytes", cache.volume().unwrap());
    assert!(cache.len().unwrap() > 0);
}

#[test]
fn the_folder_of_large_values_goes_with_the_last_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), options(ProfileOverride::Local)).unwrap();
    for turn in 0..3 {
        for key in ["a", "b"] {
            cache.set(KeyRef::text(key), Put::bytes(&vec![turn; 400_000])).unwrap();
        }
        assert!(cache.delete(KeyRef::text("a")).unwrap());
        assert!(dir.path().join("blob").exists());
        assert!(cache.delete(KeyRef::text("b")).unwrap());
        assert!(!dir.path().join("blob").exists());
    }
}

/// In a batch an empty value, a number and a large one have the address of the value after them; a fold must tell them apart.
#[test]
fn values_that_share_an_address_are_all_found_in_a_fold() {
    for mode in [ProfileOverride::Local, ProfileOverride::Shared] {
        let options = Options {
            delta_entries_max: 20,
            garbage_len_min: 0,
            tail_len_max: 64 << 10,
            checkpoint_commits: 20,
            fold_commits: 10,
            ..options(mode)
        };
        let (vfs, clock) = (Arc::new(MemVfs::new()), Arc::new(ManualClock::default()));
        let cache = Cache::open_on(vfs.clone(), clock, Path::new("/cache"), options, 1).unwrap();
        let (large, name) = (vec![7; 300_000], "a longer name than the item after it has bytes ".repeat(3));
        cache
            .write_many(&mut [
                Change::Set(KeyRef::text("number"), Put::number(Number::Int(5))),
                Change::Set(KeyRef::text("large"), Put::bytes(&large)),
                Change::Set(KeyRef::text(&name), Put::text("")),
                Change::Set(KeyRef::text("t"), Put::text("x")),
            ])
            .unwrap();
        for i in 0..2000_i64 {
            cache.set(NumberKey::int(i % 50).as_ref(), Put::bytes(&[1; 400])).unwrap();
        }
        // Nothing lives after the batch, so that its last item is the last of a fold.
        for i in 0..50_i64 {
            cache.delete(NumberKey::int(i).as_ref()).unwrap();
        }
        for i in 0..2000_i64 {
            cache.set(NumberKey::int(0).as_ref(), Put::bytes(&[1; 400])).unwrap();
            cache.delete(NumberKey::int(i % 2).as_ref()).unwrap();
        }
        assert!(vfs.read_dir(Path::new("/cache/fold")).is_ok_and(|names| !names.is_empty()), "folded in {mode:?}");
        assert_eq!(text(&cache, "t").as_deref(), Some("x"), "{mode:?}");
        assert_eq!(text(&cache, &name).as_deref(), Some(""), "{mode:?}");
        assert_eq!(cache.get(KeyRef::text("number")).unwrap().and_then(|v| v.bits()), Some(5));
        assert_eq!(cache.get(KeyRef::text("large")).unwrap().unwrap().bytes().unwrap().len(), large.len());
        assert_eq!(cache.damaged_reads().unwrap(), 0);
    }
}

#[test]
fn a_look_at_a_queue_that_never_waits_finds_what_one_that_may_wait_finds_or_says_that_it_would() {
    for_both(|cache, _| {
        let is_local = cache.options().profile == Some(ProfileOverride::Local);
        let key_of = |hit: Option<Hit>| hit.map(|hit| (hit.key, hit.value.bytes().unwrap().into_owned()));
        let looks = |expected: bool| {
            for (prefix, front) in [(None, true), (None, false), (Some("jobs"), true), (Some("jobs"), false)] {
                match cache.try_peek(prefix, front).unwrap() {
                    Attempt::Done(found) if is_local && expected => {
                        assert_eq!(key_of(found), key_of(cache.peek(prefix, front).unwrap()), "{prefix:?} {front}");
                    }
                    Attempt::WouldBlock => assert!(!is_local || !expected, "{prefix:?} {front}"),
                    Attempt::Done(_) => panic!("it answered {prefix:?} {front} though it had to wait"),
                }
            }
        };
        looks(true);
        for prefix in [None, Some("jobs")] {
            for text in ["a", "b", "c"] {
                cache.push(prefix, false, Put::text(text)).unwrap();
            }
        }
        looks(true);
        // Both ends: what has expired is to be removed (no other write does), a large value has to be read from its file.
        cache.reset_setting("cull_limit", &Setting::Int(0)).unwrap();
        for prefix in [None, Some("jobs")] {
            cache.push(prefix, true, Put::text("over").expiring(-1.0)).unwrap();
            cache.push(prefix, false, Put::bytes(&vec![7; 1 << 20])).unwrap();
        }
        looks(false);
    });
}

/// Whoever opens a cache replays what no checkpoint covers: ten thousand entries took as long to open as a million.
#[test]
fn a_local_cache_leaves_a_checkpoint_when_it_is_closed_if_much_would_be_replayed() {
    for (entries, leaves) in [(100, false), (3000, true)] {
        let dir = tempfile::tempdir().unwrap();
        let open = || Cache::open(dir.path(), options(ProfileOverride::Local)).unwrap();
        let cache = open();
        for i in 0..entries {
            cache.set(NumberKey::int(i).as_ref(), Put::text("v")).unwrap();
        }
        cache.close().unwrap();
        let runs = std::fs::read_dir(dir.path().join("run")).map_or(0, Iterator::count);
        assert_eq!(runs > 0, leaves, "{runs} index runs for {entries} entries");
        let again = open();
        assert_eq!(again.len().unwrap(), u64::try_from(entries).unwrap());
        assert!((0..entries).all(|i| again.get(NumberKey::int(i).as_ref()).unwrap().is_some()));
    }
}

/// A writer was killed after it had made the next segment of the log and before it wrote that one's header. Nothing was lost, but `check`
/// called the file damaged, and went on to do so when others had written to it.
#[test]
fn a_writer_killed_between_making_a_segment_and_writing_its_header_leaves_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let boot = |boot| Cache::open_on(Arc::new(OsVfs), Arc::new(OsClock), dir.path(), options(ProfileOverride::Local), boot).unwrap();
    let segments = || {
        let names = std::fs::read_dir(dir.path().join("seg")).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = names.collect();
        paths.sort();
        paths
    };
    let cache = boot(1);
    let value = vec![7; 10_000];
    let mut stored = 0;
    while segments().len() < 2 {
        cache.set(KeyRef::text(&stored.to_string()), Put::bytes(&value)).unwrap();
        stored += 1;
    }
    drop(cache);
    // What the killed one left: the segment before is sealed, and this one is room and nothing else. Its first commit never was.
    let newest = segments().pop().unwrap();
    let len = std::fs::metadata(&newest).unwrap().len();
    std::fs::write(&newest, vec![0; usize::try_from(len).unwrap()]).unwrap();
    let cache = boot(2); // after a restart the log's end is found anew
    let problems = || cache.check(false).unwrap().problems.into_iter().map(|p| p.what).collect::<Vec<_>>();
    assert_eq!(problems(), Vec::<String>::new());
    assert!(cache.get(KeyRef::text(&(stored - 2).to_string())).unwrap().is_some());
    cache.set(KeyRef::text("next"), Put::bytes(&value)).unwrap();
    assert_eq!(segments().pop().unwrap(), newest, "the room that is there is used");
    assert_eq!(problems(), Vec::<String>::new());
    drop(cache);
    assert!(boot(3).get(KeyRef::text("next")).unwrap().is_some());
}
