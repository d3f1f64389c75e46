//! Crashes at every I/O step of a workload, on a simulated disk that keeps any mixture of what was not synced.
//!
//! After a power failure the cache opens without an error and without damage and holds a state of its history: under
//! `Durability::Process` that after some of the acknowledged operations (a prefix), under `Durability::Host` and in shared mode that
//! after all of them. (Under `Process`, large values that no checkpoint has synced yet may be counted misses.) After the death of a process all of them are there, and nothing is repaired. An operation that was under way may
//! or may not have taken effect, whole.
//!
//! `DISKCACHE_CRASH_SEED` runs one seed; `DISKCACHE_CRASH_STEPS` says how many steps of each are tried (0: all of them).
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use diskcache_core::chance::SeededChance;
use diskcache_core::clock::ManualClock;
use diskcache_core::vfs::Vfs;
use diskcache_core::vfs::mem::MemVfs;
use diskcache_core::{Cache, Durability, ErrorKind, KeyOrder, KeyRef, Number, NumberKey, Options, ProfileOverride, Put, Result, Setting};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What is visible, by key: the bytes of values, the digits of numbers.
type Visible = BTreeMap<Vec<u8>, Vec<u8>>;

const DISK: &str = "/cache";
const OPERATIONS: usize = 70;

#[derive(Debug, Clone, Copy)]
struct Setup {
    mode: ProfileOverride,
    durability: Durability,
    /// Values from this length on get files.
    blob_len_min: i64,
}

impl Setup {
    fn open(&self, vfs: &MemVfs, boot: u64, chance: &Arc<SeededChance>) -> Result<Cache> {
        let chance = Arc::<SeededChance>::clone(chance);
        let settings = vec![
            ("disk_min_file_size".to_owned(), Setting::Int(self.blob_len_min)),
            ("garbage_percent".to_owned(), Setting::Int(5)),
            ("cull_limit".to_owned(), Setting::Int(0)),
        ];
        let options = Options {
            profile: Some(self.mode),
            durability: self.durability,
            delta_entries_max: 6,
            garbage_len_min: 64 << 10,
            tail_len_max: 4 << 10,
            checkpoint_commits: 12,
            fold_commits: 20,
            settings,
            chance,
            ..Options::default()
        };
        Cache::open_on(Arc::new(vfs.clone()), Arc::new(ManualClock::default()), Path::new(DISK), options, boot)
    }

    /// Whether what is acknowledged survives a power failure.
    fn is_durable(&self) -> bool {
        self.mode == ProfileOverride::Shared || self.durability == Durability::Host
    }

    /// Whether `visible` is that state; large values that no checkpoint had synced yet may be misses after a power failure.
    fn is_state(&self, state: &Visible, visible: &Visible, unreadable: &[Vec<u8>]) -> bool {
        let large = |key: &Vec<u8>| state.get(key).is_some_and(|value| value.len() as i64 >= self.blob_len_min);
        let mut state_left = state.clone();
        unreadable.iter().filter(|key| large(key)).for_each(|key| drop(state_left.remove(key)));
        state_left == *visible && unreadable.iter().all(large)
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The value of the operation with this number: no other one's.
fn value(number: usize, random: u64) -> Vec<u8> {
    let len = [10, 40, 150, 600, 20_000][usize::try_from(random % 5).unwrap()];
    format!("{number}:").bytes().cycle().take(len).collect()
}

/// Does operation `number` on the cache and on what should be visible after it.
fn operate(cache: &Cache, number: usize, rng: &mut u64, visible: &mut Visible, is_down: &dyn Fn() -> bool) -> Result<()> {
    let (kind, key, content) = (random(rng) % 16, random(rng) % 9, value(number, random(rng)));
    let key = format!("k{key}");
    let set = |cache: &Cache, visible: &mut Visible, key: &str| {
        visible.insert(key.as_bytes().to_vec(), content.clone());
        cache.set(KeyRef::text(key), Put::bytes(&content))
    };
    match kind {
        0..=5 => set(cache, visible, &key),
        6 | 7 => {
            let was = visible.remove(key.as_bytes()).is_some();
            // (Of a host that went down meanwhile no answer counts.)
            cache.delete(KeyRef::text(&key)).map(|is| assert!(is == was || is_down()))
        }
        8 | 9 => {
            let sum = visible.get(b"n".as_slice()).map_or(0, |n| String::from_utf8_lossy(n).parse::<i64>().unwrap()) + 3;
            visible.insert(b"n".to_vec(), sum.to_string().into_bytes());
            let got = cache.incr(KeyRef::text("n"), Number::Int(3), Some(Number::Int(0)))?;
            assert!(got == Some(Number::Int(sum)) || is_down());
            Ok(())
        }
        10 | 11 => {
            let last = visible.keys().rfind(|key| key.starts_with(b"q-")).cloned();
            let next = last.map_or(500_000_000_000_000, |key| String::from_utf8_lossy(&key[2..]).parse::<i64>().unwrap() + 1);
            visible.insert(format!("q-{next:015}").into_bytes(), content.clone());
            cache.push(Some("q"), false, Put::bytes(&content)).map(drop)
        }
        12 => {
            if let Some(first) = visible.keys().find(|key| key.starts_with(b"q-")).cloned() {
                visible.remove(&first);
            }
            cache.pull(Some("q"), true).map(drop)
        }
        13 | 14 => {
            cache.transact_begin(None)?;
            let mut inside = visible.clone();
            set(cache, &mut inside, &key)?;
            set(cache, &mut inside, "k0")?;
            if kind == 13 {
                *visible = inside;
                return cache.transact_commit();
            }
            cache.transact_rollback()
        }
        _ if number.is_multiple_of(5) => {
            visible.clear();
            cache.clear().map(drop)
        }
        _ => set(cache, visible, &key),
    }
}

/// Reads everything. What has no readable value is in the second list.
fn look(cache: &Cache) -> Result<(Visible, Vec<Vec<u8>>)> {
    let (mut visible, mut unreadable) = (Visible::new(), Vec::new());
    let mut keys = cache.keys(KeyOrder::Key, false);
    loop {
        let batch = cache.next_keys(&mut keys, 16)?;
        if batch.is_empty() {
            return Ok((visible, unreadable));
        }
        for key in batch {
            match cache.get(key.as_ref())? {
                Some(value) => {
                    let number = value.as_number().map(|number| match number {
                        Number::Int(i) => i.to_string().into_bytes(),
                        Number::Float(f) => panic!("nobody stored the float {f}"),
                    });
                    match number.map_or_else(|| value.bytes().map(|bytes| bytes.into_owned()), Ok) {
                        Ok(bytes) => drop(visible.insert(key.bytes.to_vec(), bytes)),
                        // A large value is checked as it is read.
                        Err(error) if error.kind() == ErrorKind::Damaged => unreadable.push(key.bytes.to_vec()),
                        Err(error) => return Err(error),
                    }
                }
                None => unreadable.push(key.bytes.to_vec()),
            }
        }
    }
}

/// The states that the workload went through, one after each acknowledged operation, and that of the one under way.
struct History {
    states: Vec<Visible>,
    acknowledged: usize,
    /// The workload came to its end.
    is_complete: bool,
}

/// Runs the workload until its end or its first failure.
fn run(setup: &Setup, vfs: &MemVfs, seed: u64) -> History {
    let mut history = History { states: vec![Visible::new()], acknowledged: 0, is_complete: false };
    let chance = Arc::new(SeededChance::new(seed));
    let Ok(mut cache) = setup.open(vfs, 1, &chance) else { return history };
    let mut rng = seed;
    for number in 0..OPERATIONS {
        let mut visible = history.states[number].clone();
        let done = operate(&cache, number, &mut rng, &mut visible, &|| vfs.is_frozen() || vfs.stat(Path::new("/")).is_err());
        history.states.push(visible);
        if done.is_err() {
            return history;
        }
        history.acknowledged = number + 1;
        if number % 23 == 22 {
            let _ = cache.close();
            match setup.open(vfs, 1, &chance) {
                Ok(again) => cache = again,
                Err(_) => return history,
            }
        }
    }
    history.is_complete = true;
    history
}

/// Asserts that a cache opens on `vfs` and holds the state after at least `least` operations, and that it goes on working.
fn assert_history(at: &str, setup: &Setup, vfs: &MemVfs, boot: u64, history: &History, least: usize, may_miss: bool) {
    // After a crash: other names than those before it.
    let chance = Arc::new(SeededChance::new(!boot));
    let cache = setup.open(vfs, boot, &chance).unwrap_or_else(|error| panic!("{at}: does not open: {error}"));
    let (visible, unreadable) = look(&cache).unwrap_or_else(|error| panic!("{at}: cannot be read: {error}"));
    assert!(unreadable.is_empty() || may_miss, "{at}: values are damaged: {unreadable:?}");
    let is_state = |state: &Visible| setup.is_state(state, &visible, &unreadable);
    let Some(first) = (least..history.states.len()).find(|operations| is_state(&history.states[*operations])) else {
        panic!(
            "{at}: {} operations were acknowledged, at least {least} must be there, but the state is none of those after them: {}",
            history.acknowledged,
            shown(&visible)
        )
    };
    assert_eq!(cache.len().unwrap(), (visible.len() + unreadable.len()) as u64, "{at}");
    assert_eq!(cache.check(false).unwrap().entries_lost, unreadable.len() as u64, "{at}");
    // It goes on: enough writes for a checkpoint, seen after another opening. What was under way may come to light only now.
    for i in 0..12 {
        cache.set(NumberKey::int(i).as_ref(), Put::text("after")).unwrap_or_else(|error| panic!("{at}: cannot be written: {error}"));
    }
    drop(cache);
    let cache = setup.open(vfs, boot, &chance).unwrap();
    let (mut again, unreadable_again) = look(&cache).unwrap();
    (0..12).for_each(|i| assert!(again.remove(NumberKey::int(i).as_ref().bytes).is_some(), "{at}: {i} was written afterwards"));
    let under_way = history.states.get(first.max(history.acknowledged)..).unwrap_or_default();
    assert!(
        (again == visible && unreadable_again == unreadable) || under_way.iter().any(|s| setup.is_state(s, &again, &unreadable_again)),
        "{at}: once written to, the state of {first} operations became {}, not {}",
        shown(&again),
        shown(&visible)
    );
    assert_eq!(cache.len().unwrap(), (again.len() + unreadable_again.len()) as u64 + 12, "{at}: after it was written again");
}

fn shown(visible: &Visible) -> String {
    let start = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(6)]).into_owned();
    visible.iter().map(|(key, value)| format!("{}={} ", String::from_utf8_lossy(key), start(value))).collect()
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Crashes the workload of some seeds at a sample of steps, each followed by `check`.
fn sweep(test: &str, setups: &[Setup], seeds: u64, steps: u64, check: impl Fn(&str, &Setup, &MemVfs, &History, u64)) {
    let one = number_of("DISKCACHE_CRASH_SEED");
    let steps = number_of("DISKCACHE_CRASH_STEPS").unwrap_or(steps);
    for setup in setups {
        for seed in one.map_or(1..seeds + 1, |seed| seed..seed + 1) {
            let counted = MemVfs::new();
            let whole = run(setup, &counted, seed);
            assert!(whole.is_complete, "the workload of seed {seed} fails without a crash: {setup:?}");
            let total = counted.steps();
            let stride = total.checked_div(steps).unwrap_or(1).max(1);
            let mut rng = seed;
            let mut step = 1 + random(&mut rng) % stride;
            while step <= total {
                let vfs = MemVfs::new();
                let process = vfs.process();
                vfs.freeze_at(step);
                let history = run(setup, &process, seed);
                let at = format!(
                    "step {step} of {total}, {setup:?}; replay: DISKCACHE_CRASH_SEED={seed} DISKCACHE_CRASH_STEPS=0 cargo test -p diskcache-core --test crash {test}"
                );
                check(&at, setup, &vfs, &history, random(&mut rng));
                step += stride;
            }
        }
    }
}

const NO_BLOBS: i64 = 1 << 30;

fn setups(durability: Durability, blob_len_min: i64) -> [Setup; 1] {
    [Setup { mode: ProfileOverride::Local, durability, blob_len_min }]
}

fn after_power_failure(at: &str, setup: &Setup, vfs: &MemVfs, history: &History, seed: u64) {
    let least = if setup.is_durable() { history.acknowledged } else { 0 };
    for seed in [seed, seed ^ 1, seed ^ 2] {
        let after = vfs.crash(seed);
        assert_history(&format!("crash {seed:#x} at {at}"), setup, &after, 2, history, least, !setup.is_durable());
    }
}

#[test]
fn after_a_power_failure_a_local_cache_is_a_state_of_its_history() {
    let name = "after_a_power_failure_a_local_cache_is_a_state_of_its_history";
    sweep(name, &setups(Durability::Process, NO_BLOBS), 3, 60, after_power_failure);
}

#[test]
fn after_a_power_failure_large_values_that_were_not_synced_are_misses_and_never_wrong() {
    let name = "after_a_power_failure_large_values_that_were_not_synced_are_misses_and_never_wrong";
    sweep(name, &setups(Durability::Process, 200), 3, 60, after_power_failure);
}

#[test]
fn after_a_power_failure_a_host_durable_cache_has_all_that_was_acknowledged() {
    let name = "after_a_power_failure_a_host_durable_cache_has_all_that_was_acknowledged";
    sweep(name, &setups(Durability::Host, 200), 3, 60, after_power_failure);
}

#[test]
fn after_a_power_failure_a_shared_cache_has_all_that_was_acknowledged() {
    let name = "after_a_power_failure_a_shared_cache_has_all_that_was_acknowledged";
    let shared = Setup { mode: ProfileOverride::Shared, durability: Durability::Process, blob_len_min: 200 };
    sweep(name, &[shared], 2, 60, after_power_failure);
}

#[test]
fn after_a_process_was_killed_everything_acknowledged_is_there_and_nothing_needs_repair() {
    let name = "after_a_process_was_killed_everything_acknowledged_is_there_and_nothing_needs_repair";
    let both =
        [ProfileOverride::Local, ProfileOverride::Shared].map(|mode| Setup { mode, durability: Durability::Process, blob_len_min: 200 });
    let one = number_of("DISKCACHE_CRASH_SEED");
    let steps = number_of("DISKCACHE_CRASH_STEPS").unwrap_or(60);
    for setup in both {
        for seed in one.map_or(1..3, |seed| seed..seed + 1) {
            let counted = MemVfs::new();
            assert!(run(&setup, &counted, seed).is_complete);
            let stride = counted.steps().checked_div(steps).unwrap_or(1).max(1);
            for step in (1..=counted.steps()).step_by(usize::try_from(stride).unwrap()) {
                let vfs = MemVfs::new();
                let process = vfs.process();
                vfs.kill_at(step);
                let history = run(&setup, &process, seed);
                process.kill();
                let at = format!(
                    "killed at step {step}, {setup:?}; replay: DISKCACHE_CRASH_SEED={seed} cargo test -p diskcache-core --test crash {name}"
                );
                // The same kernel: what it holds is believed.
                assert_history(&at, &setup, &vfs.process(), 1, &history, history.acknowledged, false);
            }
        }
    }
}
