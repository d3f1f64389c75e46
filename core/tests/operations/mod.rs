//! Runs operations on a cache in memory and on the reference, and compares every answer.
//!
//! Two handles share the cache; small limits make checkpoints, merges, folds and blobs happen within few operations. With
//! `cull_limit` 0 nothing is removed that was not asked for, and everything must be equal, order included; else expired entries may
//! go at any time, and what is live must be equal.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod op;
mod reference;

pub(crate) use op::Word;
use op::{Op, op};
use reference::{Content, Item, Name, Reference, Sum};

use diskcache_core::chance::SeededChance;
use diskcache_core::clock::{Clock, ManualClock};
use diskcache_core::verify::ProblemKind;
use diskcache_core::vfs::mem::MemVfs;
use diskcache_core::{
    Cache, ErrorKind, Hit, Key, KeyOrder, KeyRef, Number, NumberKey, NumberValue, Options, ProfileOverride, Put, Setting, Value, ValueKind,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Identifies the simulated kernel.
const BOOT: u64 = 7;
/// Handles on the cache.
const HANDLES: usize = 2;

/// How the cache is made.
#[derive(Debug, Clone, Copy)]
struct Config {
    shared: bool,
    exact: bool,
    big: bool,
    delta_entries_max: usize,
    blob_len_min: i64,
    lz4: bool,
    policy: &'static str,
}

impl Config {
    fn of(seed: u16) -> Self {
        Self {
            shared: seed & 1 == 1,
            exact: seed & 6 != 6,
            big: seed & 8 == 8,
            delta_entries_max: [6, 20, 100][usize::from(seed >> 4 & 3) % 3],
            blob_len_min: [200, 1_000, 1 << 20][usize::from(seed >> 6 & 3) % 3],
            lz4: seed >> 8 & 3 == 3,
            policy: ["least-recently-stored", "none", "least-recently-used", "sieve"][usize::from(seed >> 10 & 3)],
        }
    }

    fn options(&self, chance: Arc<SeededChance>) -> Options {
        let text = |text: &str| Setting::Text(text.to_owned());
        let settings = [
            ("cull_limit", Setting::Int(if self.exact { 0 } else { 10 })),
            ("disk_min_file_size", Setting::Int(self.blob_len_min)),
            ("compression", text(if self.lz4 { "lz4" } else { "none" })),
            ("eviction_policy", text(self.policy)),
            ("garbage_percent", Setting::Int(5)),
        ];
        Options {
            profile: Some(if self.shared { ProfileOverride::Shared } else { ProfileOverride::Local }),
            delta_entries_max: self.delta_entries_max,
            garbage_len_min: 64 << 10,
            tail_len_max: 4 << 10,
            checkpoint_commits: 12,
            fold_commits: 20,
            settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            chance,
            ..Options::default()
        }
    }
}

struct World {
    config: Config,
    vfs: MemVfs,
    clock: ManualClock,
    chance: Arc<SeededChance>,
    handles: Vec<Cache>,
    committed: Reference,
    /// The handle with a transaction, and what it sees.
    transaction: Option<(usize, Reference)>,
}

/// Runs the operations that the words stand for, on a cache that `seed` configures.
///
/// # Panics
/// If the cache answers otherwise than the reference.
pub(crate) fn run(seed: u16, words: &[Word]) {
    let config = Config::of(seed);
    let (vfs, clock) = (MemVfs::new(), ManualClock::default());
    let chance = Arc::new(SeededChance::new(seed.into()));
    let mut world = World { config, vfs, clock, chance, handles: Vec::new(), committed: Reference::default(), transaction: None };
    for _ in 0..HANDLES {
        world.handles.push(world.open());
    }
    for (step, word) in words.iter().enumerate() {
        let op = op(*word, config.big, config.exact);
        world.step(&format!("step {step}, {op:?}, {config:?}"), &op, usize::from(word.1 & 1));
    }
    world.finish(&format!("the end, {config:?}"));
}

impl World {
    fn open(&self) -> Cache {
        let options = self.config.options(Arc::clone(&self.chance));
        Cache::open_on(Arc::new(self.vfs.clone()), Arc::new(self.clock.clone()), Path::new("/cache"), options, BOOT).unwrap()
    }

    fn now(&self) -> f64 {
        self.clock.wall()
    }

    /// Returns what a handle sees.
    fn view(&mut self, handle: usize) -> &mut Reference {
        match &mut self.transaction {
            Some((owner, view)) if *owner == handle => view,
            _ => &mut self.committed,
        }
    }

    fn step(&mut self, at: &str, op: &Op, handle: usize) {
        let handle = self.transaction.as_ref().map_or(handle, |(owner, _)| *owner);
        match op {
            Op::Begin | Op::Commit | Op::Rollback | Op::Reopen { .. } | Op::Advance(_) | Op::Compare => self.control(at, op, handle),
            Op::Expire | Op::Evict(_) | Op::Cull | Op::Clear => self.bulk(at, op, handle),
            Op::Push(..) | Op::Pull(..) | Op::Peek(..) | Op::PeekItem(_) => self.ordered(at, op, handle),
            _ => self.single(at, op, handle),
        }
    }

    fn single(&mut self, at: &str, op: &Op, handle: usize) {
        let (now, cache) = (self.now(), self.handles[handle].clone());
        let view = self.view(handle);
        let after = |expire: &Option<f64>| expire.map(|seconds| now + seconds);
        match op {
            Op::Set(name, content, expire, tag) => {
                keyed(name, |key| cache.set(key, put(content, *expire, tag.as_deref()))).unwrap();
                view.set(name, content.clone(), after(expire), tag.clone());
            }
            Op::Add(name, content, expire, tag) => {
                let added = keyed(name, |key| cache.add(key, put(content, *expire, tag.as_deref()))).unwrap();
                assert_eq!(added, view.live(name, now).is_none(), "{at}");
                if added {
                    view.set(name, content.clone(), after(expire), tag.clone());
                }
            }
            Op::Get(name) => {
                let got = keyed(name, |key| cache.get(key)).unwrap();
                assert_eq!(got.as_ref().map(content_of), view.live(name, now).map(|item| item.content.clone()), "{at}");
            }
            Op::Contains(name) => {
                assert_eq!(keyed(name, |key| cache.contains(key)).unwrap(), view.live(name, now).is_some(), "{at}");
            }
            Op::Incr(name, delta, default) => {
                let sum = match keyed(name, |key| cache.incr(key, Number::Int(*delta), default.map(Number::Int))) {
                    Ok(Some(Number::Int(sum))) => Sum::Is(sum),
                    Ok(None) => Sum::Missing,
                    Err(error) if error.kind() == ErrorKind::WrongType => Sum::WrongType,
                    other => panic!("{at}: {other:?}"),
                };
                assert_eq!(sum, view.incr(name, *delta, *default, now), "{at}");
            }
            Op::Touch(name, expire) => {
                let touched = keyed(name, |key| cache.touch(key, *expire)).unwrap();
                assert_eq!(touched, view.touch(name, after(expire), now), "{at}");
            }
            Op::Delete(name) => {
                assert_eq!(keyed(name, |key| cache.delete(key)).unwrap(), view.take(name, now).is_some(), "{at}");
            }
            Op::Pop(name) => {
                let hit = keyed(name, |key| cache.pop(key)).unwrap();
                assert_same_hit(at, hit.as_ref(), view.take(name, now).map(|item| (name.clone(), item)));
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn ordered(&mut self, at: &str, op: &Op, handle: usize) {
        let (now, cache, exact) = (self.now(), self.handles[handle].clone(), self.config.exact);
        let view = self.view(handle);
        match op {
            Op::Push(prefix, front, content, expire, tag) => {
                let key = cache.push(*prefix, *front, put(content, *expire, tag.as_deref())).unwrap();
                let name = view.push(*prefix, *front, content.clone(), expire.map(|seconds| now + seconds), tag.clone());
                assert_eq!(name_of(&key), name, "{at}");
            }
            Op::Pull(prefix, front) => {
                let hit = cache.pull(*prefix, *front).unwrap();
                assert_same_hit(at, hit.as_ref(), view.queue_end(*prefix, *front, now, true));
            }
            Op::Peek(prefix, front) => {
                let hit = cache.peek(*prefix, *front).unwrap();
                assert_same_hit(at, hit.as_ref(), view.queue_end(*prefix, *front, now, false));
            }
            Op::PeekItem(last) => {
                let hit = cache.peekitem(*last).unwrap();
                let mut expected = view.edge(*last, now, exact);
                if let (false, Some(hit)) = (exact, &hit) {
                    // A key that expired may or may not have kept its place.
                    let name = name_of(&hit.key);
                    expected = view.live(&name, now).map(|item| (name, item.clone()));
                }
                assert_same_hit(at, hit.as_ref(), expected);
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn bulk(&mut self, at: &str, op: &Op, handle: usize) {
        let (now, cache, exact) = (self.now(), self.handles[handle].clone(), self.config.exact);
        let view = self.view(handle);
        let live = |view: &Reference| view.items.values().filter(|item| item.is_live(now)).count() as u64;
        let live_before = live(view);
        let (count, expected) = match op {
            Op::Expire => (cache.expire(None), view.remove_where(|item| !item.is_live(now))),
            Op::Cull => (cache.cull(), view.remove_where(|item| !item.is_live(now))),
            Op::Evict(tag) => (cache.evict(KeyRef::text(tag)), view.remove_where(|item| item.tag.as_ref() == Some(tag))),
            _ => (cache.clear(), view.remove_where(|_| true)),
        };
        let count = count.unwrap();
        let least = if exact { expected } else { live_before - live(view) };
        assert!(count >= least && count <= expected, "{at}: {count} were removed, expected {least} to {expected}");
    }

    fn control(&mut self, at: &str, op: &Op, handle: usize) {
        let cache = self.handles[handle].clone();
        match op {
            // Transactions do not nest here: a level deeper changes nothing.
            Op::Begin if self.transaction.is_none() => {
                cache.transact_begin(None).unwrap();
                self.transaction = Some((handle, self.committed.clone()));
            }
            Op::Commit => {
                if let Some((_, view)) = self.transaction.take() {
                    cache.transact_commit().unwrap();
                    self.committed = view;
                }
            }
            Op::Rollback => {
                let open = self.transaction.take();
                if open.is_some() {
                    cache.transact_rollback().unwrap();
                }
            }
            Op::Reopen { close } => {
                if self.transaction.take().is_some() {
                    cache.transact_rollback().unwrap();
                }
                if *close {
                    cache.close().unwrap();
                    assert_eq!(cache.len().unwrap_err().kind(), ErrorKind::Closed, "{at}");
                }
                drop(cache);
                self.handles[handle] = self.open();
            }
            Op::Advance(ms) => self.clock.advance(Duration::from_millis(*ms)),
            Op::Compare => (0..HANDLES).for_each(|handle| self.compare(at, handle)),
            _ => {}
        }
    }

    /// Compares everything that a handle sees.
    fn compare(&mut self, at: &str, handle: usize) {
        let (now, cache, exact) = (self.now(), self.handles[handle].clone(), self.config.exact);
        let view = self.view(handle).clone();
        let len = cache.len().unwrap();
        let live = view.items.values().filter(|item| item.is_live(now)).count() as u64;
        assert!(len <= view.items.len() as u64 && len >= if exact { view.items.len() as u64 } else { live }, "{at}: {len} entries");
        for (order, expected) in [(KeyOrder::Insertion, view.in_order()), (KeyOrder::Key, view.items.keys().cloned().collect())] {
            for reverse in [false, true] {
                let mut expected = expected.clone();
                if reverse {
                    expected.reverse();
                }
                let mut names = walk(&cache, order, reverse);
                if !exact {
                    names.retain(|name| view.live(name, now).is_some());
                    expected.retain(|name| view.live(name, now).is_some());
                    names.sort_unstable();
                    expected.sort_unstable();
                }
                assert_eq!(names, expected, "{at}: {order:?}, reverse {reverse}, handle {handle}");
            }
        }
        for name in view.items.keys() {
            let hit = keyed(name, |key| cache.get_full(key)).unwrap();
            assert_same_hit(at, hit.as_ref(), view.live(name, now).map(|item| (name.clone(), item.clone())));
        }
        assert_eq!(cache.damaged_reads().unwrap(), 0, "{at}: handle {handle}");
    }

    fn finish(&mut self, at: &str) {
        (0..HANDLES).for_each(|handle| self.compare(at, handle));
        if let Some((owner, _)) = self.transaction.take() {
            self.handles[owner].transact_rollback().unwrap();
            self.compare(&format!("{at}, rolled back"), owner);
        }
        self.handles[0].close().unwrap();
        self.handles[0] = self.open();
        self.compare(&format!("{at}, reopened"), 0);
        let report = self.handles[0].check(false).unwrap();
        // Runs and folds that others replaced stay until the next checkpoint; a value's file goes with its entry.
        let waits = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("run") || dir.ends_with("fold"));
        let problems: Vec<_> = report.problems.iter().filter(|p| p.kind != ProblemKind::Leftover || !waits(&p.path)).collect();
        assert!(problems.is_empty() && report.entries_lost == 0, "{at}: {problems:?}");
    }
}

fn keyed<T>(name: &Name, act: impl FnOnce(KeyRef<'_>) -> T) -> T {
    match name {
        Name::Int(i) => act(NumberKey::int(*i).as_ref()),
        Name::Text(text) => act(KeyRef::text(text)),
        Name::Bytes(bytes) => act(KeyRef::bytes(bytes)),
    }
}

fn name_of(key: &Key) -> Name {
    match key.as_ref().number() {
        Some(NumberValue::Int(i)) => Name::Int(i),
        Some(NumberValue::Float(f)) => panic!("no key is the float {f}"),
        None if key.as_ref().tag_byte() == KeyRef::text("").tag_byte() => Name::Text(String::from_utf8(key.bytes.to_vec()).unwrap()),
        None => Name::Bytes(key.bytes.to_vec()),
    }
}

fn put<'a>(content: &'a Content, expire: Option<f64>, tag: Option<&'a str>) -> Put<'a> {
    let put = match content {
        Content::Int(i) => Put::number(Number::Int(*i)),
        Content::Text(text) => Put::text(text),
        Content::Bytes(bytes) => Put::bytes(bytes),
    };
    Put { expire, tag: tag.map(KeyRef::text), ..put }
}

fn content_of(value: &Value) -> Content {
    match (value.as_number(), value.kind()) {
        (Some(Number::Int(i)), _) => Content::Int(i),
        (None, ValueKind::Text) => Content::Text(String::from_utf8(value.bytes().unwrap().into_owned()).unwrap()),
        (None, ValueKind::Bytes) => Content::Bytes(value.bytes().unwrap().into_owned()),
        other => panic!("no value is {other:?}"),
    }
}

fn assert_same_hit(at: &str, hit: Option<&Hit>, expected: Option<(Name, Item)>) {
    let found = hit.map(|hit| {
        let tag = hit.tag.as_ref().map(|tag| String::from_utf8(tag.bytes.to_vec()).unwrap());
        (name_of(&hit.key), content_of(&hit.value), hit.expire, tag)
    });
    assert_eq!(found, expected.map(|(name, item)| (name, item.content, item.expire, item.tag)), "{at}");
}

fn walk(cache: &Cache, order: KeyOrder, reverse: bool) -> Vec<Name> {
    let mut keys = cache.keys(order, reverse);
    let mut names = Vec::new();
    loop {
        let batch = cache.next_keys(&mut keys, 7).unwrap();
        if batch.is_empty() {
            return names;
        }
        names.extend(batch.iter().map(name_of));
    }
}
