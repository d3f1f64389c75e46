//! Checkpoints of several processes that know of each other late. (Handles of one process stand for processes: each has a state of its own.)
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

use diskcache_core::{Cache, NumberKey, Options, ProfileOverride, Put};
use std::path::Path;

/// More than a process leaves to be replayed when it closes.
const MANY: i64 = 2500;

fn open(dir: &Path, profile: ProfileOverride) -> Cache {
    Cache::open(dir, Options { profile: Some(profile), ..Options::default() }).unwrap()
}

fn set(cache: &Cache, key: i64) {
    cache.set(NumberKey::int(key).as_ref(), Put::bytes(&[1; 128])).unwrap();
}

/// Processes that closed one right after another each left a checkpoint, made before they knew of the others'. Who replayed these at once took
/// the last for the newest; who had adopted one before refused it. The files of one or the other were removed.
#[test]
fn of_checkpoints_that_know_nothing_of_each_other_everybody_takes_the_same() {
    for profile in [ProfileOverride::Local, ProfileOverride::Shared] {
        let dir = tempfile::tempdir().unwrap();
        let processes: Vec<Cache> = (0..6).map(|_| open(dir.path(), profile)).collect();
        let (watcher, late) = (open(dir.path(), profile), open(dir.path(), profile));
        for key in 0..MANY {
            set(&processes[0], key);
        }
        set(&processes[1], MANY);
        // The others know all of it, and the one that closes first not the last write.
        for process in processes[2..].iter().chain([&watcher, &late]) {
            assert_eq!(process.len().unwrap(), u64::try_from(MANY + 1).unwrap());
        }
        for process in &processes {
            process.close().unwrap();
            watcher.len().unwrap();
        }
        for (process, name) in [(&watcher, "who watched"), (&late, "who looked late")] {
            for key in 0..=MANY {
                assert!(process.get(NumberKey::int(key).as_ref()).unwrap().is_some(), "{profile:?}: {key} is lost to {name}");
            }
        }
        set(&late, 0);
        let report = late.check(false).unwrap();
        assert!(report.problems.is_empty(), "{profile:?}: {report:?}");
        let newcomer = open(dir.path(), profile);
        assert_eq!(newcomer.len().unwrap(), u64::try_from(MANY + 1).unwrap(), "{profile:?}");
        assert!(newcomer.check(false).unwrap().problems.is_empty(), "{profile:?}");
    }
}

/// A write was made on a state whose newest checkpoint, just replayed, had taken away the files that the state needs.
#[test]
fn a_process_that_meets_others_checkpoints_where_it_writes_is_told_what_came_of_the_write() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = Options { profile: Some(ProfileOverride::Local), delta_entries_max: 64, ..Options::default() };
        Cache::open(dir.path(), options).unwrap()
    };
    let (busy, idle) = (open(), open());
    for round in 0..8 {
        // Many checkpoints and merges.
        for key in 0..500 {
            set(&busy, key % 100 + round);
        }
        for key in 0..5 {
            set(&idle, key * 7 + round);
        }
    }
    assert!(idle.check(false).unwrap().problems.is_empty());
    assert!(busy.check(false).unwrap().problems.is_empty());
}
