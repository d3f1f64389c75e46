//! What a transaction did in passing: blobs of what it removed, its own entries that it removed again, other hosts' holds.
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use diskcache_core::clock::{Clock, ManualClock};
use diskcache_core::vfs::mem::MemVfs;
use diskcache_core::{Cache, ErrorKind, KeyRef, NumberKey, Options, ProfileOverride, Put, Setting};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

fn for_both(test: impl Fn(&Cache, &dyn Fn() -> Cache)) {
    for mode in [ProfileOverride::Local, ProfileOverride::Shared] {
        let (vfs, clock) = (MemVfs::new(), ManualClock::default());
        let open = || {
            let options = Options { profile: Some(mode), ..Options::default() };
            Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/cache"), options, 7).unwrap()
        };
        test(&open(), &open);
    }
}

#[test]
fn a_rolled_back_removal_keeps_the_large_values_that_it_removed() {
    type Removal = (&'static str, fn(&Cache));
    let removals: [Removal; 5] = [
        ("clear", |cache| assert_eq!(cache.clear().unwrap(), 1)),
        ("delete", |cache| assert!(cache.delete(KeyRef::text("big")).unwrap())),
        ("pop", |cache| assert!(cache.pop(KeyRef::text("big")).unwrap().is_some())),
        ("evict", |cache| assert_eq!(cache.evict(KeyRef::text("tag")).unwrap(), 1)),
        ("set", |cache| cache.set(KeyRef::text("big"), Put::text("small")).unwrap()),
    ];
    for_both(|cache, open| {
        let big = vec![7_u8; 1 << 20];
        cache.set(KeyRef::text("big"), Put::bytes(&big).tagged(KeyRef::text("tag"))).unwrap();
        for (name, remove) in &removals {
            cache.transact_begin(None).unwrap();
            remove(cache);
            cache.transact_rollback().unwrap();
            let value = open().get(KeyRef::text("big")).unwrap().unwrap_or_else(|| panic!("lost by {name}"));
            assert_eq!(value.bytes().unwrap(), big, "{name}");
        }
    });
}

#[test]
fn what_a_transaction_stored_and_removed_again_is_not_there_after_it() {
    for_both(|cache, open| {
        cache.transact_begin(None).unwrap();
        cache.set(KeyRef::text("a"), Put::text("x").tagged(KeyRef::text("tag"))).unwrap();
        cache.set(KeyRef::text("b"), Put::text("x").expiring(0.0)).unwrap();
        assert_eq!((cache.evict(KeyRef::text("tag")).unwrap(), cache.expire(None).unwrap()), (1, 1));
        cache.transact_commit().unwrap();
        assert_eq!(open().len().unwrap(), 0);
    });
}

/// Nothing was evicted and nothing that had expired was removed for a program that writes in transactions alone.
#[test]
fn transactions_keep_the_size_limit_and_remove_what_expired_as_other_writes_do() {
    for_both(|cache, _| {
        cache.reset_setting("size_limit", &Setting::Int(1 << 20)).unwrap();
        let value = vec![7_u8; 10_000];
        for turn in 0..30 {
            cache.transact_begin(None).unwrap();
            for number in 0..20 {
                let key = NumberKey::int(turn * 20 + number);
                cache.set(key.as_ref(), Put::bytes(&value)).unwrap();
            }
            cache.transact_commit().unwrap();
        }
        let count = cache.len().unwrap();
        assert!((30..=105).contains(&count), "{count} entries of 10,000 bytes are left in 1 MiB");
        assert!(cache.get(NumberKey::int(599).as_ref()).unwrap().is_some(), "the newest is there");
        cache.reset_setting("cull_limit", &Setting::Int(2)).unwrap();
        let larger = vec![7_u8; 100_000];
        for number in 600..605 {
            let before = cache.len().unwrap();
            cache.transact_begin(None).unwrap();
            cache.set(NumberKey::int(number).as_ref(), Put::bytes(&larger)).unwrap();
            cache.transact_commit().unwrap();
            assert!(cache.len().unwrap() + 1 >= before, "one write evicted more than two");
        }
        let before = cache.len().unwrap();
        for key in ["brief", "next"] {
            cache.transact_begin(None).unwrap();
            cache.set(KeyRef::text(key), Put::text("x").expiring(0.0)).unwrap();
            cache.transact_commit().unwrap();
        }
        assert!(cache.len().unwrap() <= before + 1, "what expired stays");
    });
}

/// The hold of a killed host was counted anew by whoever replayed it again, or for the first time, though others had written since: waits for
/// one dead host added up.
#[test]
fn a_hold_that_somebody_has_waited_for_is_waited_for_by_nobody_again() {
    let (vfs, clock) = (MemVfs::new(), ManualClock::default());
    let options = Options { profile: Some(ProfileOverride::Shared), delta_entries_max: 4, ..Options::default() };
    let open = || Cache::open_on(Arc::new(vfs.process()), Arc::new(clock.clone()), Path::new("/cache"), options.clone(), 7).unwrap();
    let (dead, first, second) = (open(), open(), open());
    dead.transact_begin(None).unwrap();
    std::mem::forget(dead); // killed: nothing of it is released
    let waited = |cache: &Cache, key: &str| {
        let began = clock.boot();
        cache.set(KeyRef::text(key), Put::text("v")).unwrap();
        clock.boot() - began
    };
    let (least, most) = (Duration::from_millis(4900), Duration::from_millis(5100));
    let once = waited(&first, "a");
    assert!((least..most).contains(&once), "{once:?}");
    let moment = Duration::from_millis(100);
    assert!(waited(&second, "b") < moment, "somebody wrote behind the hold: it has run out");
    assert!(waited(&open(), "c") < moment, "a newcomer replays it, and what came behind it");
    for key in ["d", "e", "f", "g", "h", "i"] {
        assert!(waited(&first, key) < moment, "checkpoints replay it again");
    }
    // Two at once: the second one waits for what the first one takes, and no longer.
    let dead = open();
    dead.transact_begin(None).unwrap();
    std::mem::forget(dead);
    let began = clock.boot();
    first.transact_begin(None).unwrap();
    first.transact_commit().unwrap();
    second.set(KeyRef::text("z"), Put::text("v")).unwrap();
    assert!((least..most).contains(&(clock.boot() - began)));
}

#[test]
fn a_writer_waits_for_another_hosts_transaction_no_longer_than_its_hold() {
    let (vfs, clock) = (MemVfs::new(), ManualClock::default());
    let options = Options { profile: Some(ProfileOverride::Shared), ..Options::default() };
    let open = || Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/cache"), options.clone(), 7).unwrap();
    let (holder, writer) = (open(), open());
    holder.transact_begin(None).unwrap();
    holder.set(KeyRef::text("a"), Put::text("held")).unwrap();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(writer.set(KeyRef::text("a"), Put::text("written"))));
    is_done.recv_timeout(Duration::from_secs(30)).expect("the writer hangs").unwrap();
    assert!(holder.transact_commit().is_err(), "its hold has run out, and somebody wrote");
    assert_eq!(&*open().get(KeyRef::text("a")).unwrap().unwrap().bytes().unwrap(), b"written");
}

/// What it read is of one state, whoever wrote meanwhile; a transaction that writes must be run again.
#[test]
fn a_transaction_that_only_reads_outlives_its_hold() {
    let (vfs, clock) = (MemVfs::new(), ManualClock::default());
    let open = || {
        let options = Options { profile: Some(ProfileOverride::Shared), ..Options::default() };
        Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/cache"), options, 7).unwrap()
    };
    let (reader, writer) = (open(), open());
    for writes in [false, true] {
        writer.set(KeyRef::text("a"), Put::text("before")).unwrap();
        reader.transact_begin(None).unwrap();
        let read = || reader.get(KeyRef::text("a")).unwrap().unwrap().bytes().unwrap().into_owned();
        assert_eq!(read(), b"before");
        clock.advance(Duration::from_secs(60));
        writer.set(KeyRef::text("a"), Put::text("after")).unwrap();
        assert_eq!(read(), b"before");
        if writes {
            reader.set(KeyRef::text("b"), Put::text("x")).unwrap();
            assert_eq!(reader.transact_commit().unwrap_err().kind(), ErrorKind::Conflict);
        } else {
            reader.transact_commit().unwrap();
        }
        assert_eq!(read(), b"after");
        assert!(reader.get(KeyRef::text("b")).unwrap().is_none());
    }
}
