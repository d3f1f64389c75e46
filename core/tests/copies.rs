//! What a process keeps in memory of short values and of entries in runs is a copy: it dies with the entry, whoever changes it.
#![expect(clippy::unwrap_used, reason = "a test: helpers panic")]

use diskcache_core::clock::ManualClock;
use diskcache_core::{Cache, ErrorKind, KeyRef, Number, Options, ProfileOverride, Put};
use std::collections::BTreeMap;
use std::sync::Arc;

const KEYS: u64 = 150;

/// Numbers that look random; the same seed gives the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What a key should hold: bytes, or a number.
#[derive(Debug, Clone, PartialEq)]
enum Held {
    Bytes(Vec<u8>),
    Number(i64),
}

struct Subject {
    handles: Vec<Cache>,
    truth: BTreeMap<u64, (Held, Option<u64>)>,
    dice: Dice,
    written: u64,
}

fn name(key: u64) -> String {
    // Every ninth key is too long for a cell.
    if key.is_multiple_of(9) { format!("{key}-{}", "long".repeat(60)) } else { format!("key-{key}") }
}

impl Subject {
    fn value(&mut self) -> Vec<u8> {
        self.written += 1;
        let len = [0, 5, 60, 128, 170, 400, 5000][usize::try_from(self.dice.below(7)).unwrap()];
        let mut value = format!("{}:", self.written).into_bytes();
        value.resize(value.len().max(len), b'.');
        if len == 0 { Vec::new() } else { value }
    }

    fn get(&mut self, key: u64, what: &str) {
        let at = usize::try_from(self.dice.below(self.handles.len() as u64)).unwrap();
        let found = self.handles[at].get(KeyRef::text(&name(key))).unwrap();
        let held = found.map(|value| match value.as_number() {
            Some(Number::Int(n)) => Held::Number(n),
            _ => Held::Bytes(value.bytes().unwrap().into_owned()),
        });
        assert_eq!(held, self.truth.get(&key).map(|(held, _)| held.clone()), "key {key} by handle {at} {what}");
    }

    /// Stores, within a transaction or not.
    fn set(&mut self, handle: &Cache, key: u64) {
        let (value, tag) = (self.value(), self.dice.below(4));
        let tag_name = format!("tag {tag}");
        let put = Put::bytes(&value);
        let put = if tag < 3 { put.tagged(KeyRef::text(&tag_name)) } else { put };
        handle.set(KeyRef::text(&name(key)), put).unwrap();
        self.truth.insert(key, (Held::Bytes(value.clone()), (tag < 3).then_some(tag)));
    }

    fn step(&mut self) -> String {
        let handle = self.handles[usize::try_from(self.dice.below(self.handles.len() as u64)).unwrap()].clone();
        let key = self.dice.below(KEYS);
        let text = name(key);
        let action = self.dice.below(1000);
        match action {
            0..400 => self.set(&handle, key),
            400..560 => assert_eq!(handle.delete(KeyRef::text(&text)).unwrap(), self.truth.remove(&key).is_some(), "delete of {key}"),
            560..700 => {
                let sum = handle.incr(KeyRef::text(&text), Number::Int(1), Some(Number::Int(10)));
                match self.truth.get(&key).cloned() {
                    None => {
                        assert_eq!(sum.unwrap(), Some(Number::Int(11)));
                        self.truth.insert(key, (Held::Number(11), None));
                    }
                    Some((Held::Number(n), tag)) => {
                        assert_eq!(sum.unwrap(), Some(Number::Int(n + 1)));
                        self.truth.insert(key, (Held::Number(n + 1), tag));
                    }
                    Some((Held::Bytes(_), _)) => assert_eq!(sum.unwrap_err().kind(), ErrorKind::WrongType),
                }
            }
            700..780 => {
                let popped = handle.pop(KeyRef::text(&text)).unwrap();
                assert_eq!(popped.is_some(), self.truth.remove(&key).is_some(), "pop of {key}");
            }
            780..850 => {
                assert_eq!(handle.touch(KeyRef::text(&text), Some(3600.0)).unwrap(), self.truth.contains_key(&key), "touch of {key}");
            }
            850..900 => {
                // It expires at once.
                handle.touch(KeyRef::text(&text), Some(-1.0)).unwrap();
                self.truth.remove(&key);
            }
            900..980 => {
                let before = self.truth.clone();
                handle.transact_begin(None).unwrap();
                for _ in 0..3 {
                    let key = self.dice.below(KEYS);
                    self.set(&handle, key);
                }
                handle.delete(KeyRef::text(&text)).unwrap();
                self.truth.remove(&key);
                if action.is_multiple_of(2) {
                    handle.transact_commit().unwrap();
                } else {
                    handle.transact_rollback().unwrap();
                    self.truth = before;
                }
            }
            980..995 => {
                let tag = self.dice.below(3);
                handle.evict(KeyRef::text(&format!("tag {tag}"))).unwrap();
                self.truth.retain(|_, (_, has)| *has != Some(tag));
            }
            _ => {
                handle.clear().unwrap();
                self.truth.clear();
            }
        }
        format!("after {action} of {key}")
    }
}

fn subject(seed: u64, handles: Vec<Cache>) -> Subject {
    Subject { handles, truth: BTreeMap::new(), dice: Dice(seed), written: 0 }
}

/// Runs with the seed that `DISKCACHE_SEED` names, or a few.
fn with_seeds(steps: u64, open: impl Fn() -> (tempfile::TempDir, Vec<Cache>)) {
    let seeds: Vec<u64> = std::env::var("DISKCACHE_SEED").ok().map_or_else(|| (1..=3).collect(), |seed| vec![seed.parse().unwrap()]);
    for seed in seeds {
        let (_dir, handles) = open();
        let mut subject = subject(seed, handles);
        for step in 0..steps {
            let what = subject.step();
            // Twice each, so that what lies in runs is worth a copy.
            for key in [subject.dice.below(KEYS), step % KEYS].into_iter().flat_map(|key| [key, key]) {
                subject.get(key, &format!("{what}, step {step}; run again: DISKCACHE_SEED={seed}"));
            }
        }
        for handle in &subject.handles {
            assert_eq!(handle.damaged_reads().unwrap(), 0, "DISKCACHE_SEED={seed}");
        }
    }
}

/// A key that was deleted came back from memory after a checkpoint that had been made of an older state: the delta of before was taken over
/// with it. Here a thread makes the checkpoints while three handles write and read.
#[test]
fn a_copy_in_memory_never_outlives_its_entry_while_a_thread_makes_checkpoints() {
    with_seeds(4000, || {
        let dir = tempfile::tempdir().unwrap();
        let small = || Options {
            profile: Some(ProfileOverride::Local),
            delta_entries_max: 60,
            garbage_len_min: 64 << 10,
            tail_len_max: 128 << 10,
            ..Options::default()
        };
        let handles = (0..3).map(|_| Cache::open(dir.path(), small()).unwrap()).collect();
        (dir, handles)
    });
}

/// The same with maintenance inside the writes: every checkpoint is of the newest state, whose delta becomes copies as it is.
#[test]
fn a_copy_in_memory_never_outlives_its_entry_when_writes_make_checkpoints() {
    with_seeds(4000, || {
        let dir = tempfile::tempdir().unwrap();
        let small = || Options {
            profile: Some(ProfileOverride::Local),
            delta_entries_max: 40,
            garbage_len_min: 64 << 10,
            tail_len_max: 128 << 10,
            ..Options::default()
        };
        let open = || {
            let clock = Arc::new(ManualClock::default());
            Cache::open_on(Arc::new(diskcache_core::vfs::OsVfs), clock, dir.path(), small(), 1).unwrap()
        };
        let handles = (0..3).map(|_| open()).collect();
        (dir, handles)
    });
}
