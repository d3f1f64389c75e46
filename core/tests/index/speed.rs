//! Prints how long the index takes. Asserts nothing, so it is run by hand:
//! `cargo test --release -p diskcache-core --test index speed -- --ignored --nocapture`.

use crate::common::{Facts, Subject};
use diskcache_core::clock::{Clock, OsClock};
use diskcache_core::format::entry::OwnedEntry;
use diskcache_core::format::{Entry, KeyRef, Number, ValueMeta};
use diskcache_core::index::{Access, Delta, Direction, Layers, Levels, Lookup, Order, RunFiles, Slice, Span, VfsRunDir, Walker};
use diskcache_core::index::{file_name, flush};
use diskcache_core::vfs::{OsVfs, Vfs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn name(n: u64) -> String {
    format!("key-{n:012}")
}

fn entry(n: u64) -> Entry {
    Entry {
        tombstone: false,
        value: ValueMeta::number(Number::Int(7)),
        rowid: n,
        version: n,
        addr: n,
        store_time: 1.7e9 + n as f64,
        access_time: 0.0,
        expire_time: f64::INFINITY,
        access_count: 0,
    }
}

fn timed(what: &str, count: u64, work: impl FnOnce()) -> Duration {
    let start = OsClock.boot();
    work();
    let took = OsClock.boot().saturating_sub(start);
    println!("{what:<44} {:>9.0} ns each, {:>8.2} ms in all", took.as_nanos() as f64 / count as f64, took.as_secs_f64() * 1e3);
    took
}

fn scattered(count: u64, of: u64) -> Vec<u64> {
    (0..count).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % of).collect()
}

#[test]
#[ignore = "a measurement"]
fn a_delta() {
    let names: Vec<String> = (0..16384).map(name).collect();
    let mut delta = Delta::new();
    let put = |delta: &mut Delta| {
        for (n, name) in (0..).zip(&names) {
            let key = KeyRef::text(name);
            let _ = delta.put(key.hash(), diskcache_core::format::entry::EntryRef { key, tag: None, entry: entry(n) });
        }
    };
    put(&mut delta);
    delta.clear();
    timed("delta: put of a new key", 16384, || put(&mut delta));
    timed("delta: put of a known key", 16384, || put(&mut delta));
    let mut hits = 0;
    timed("delta: get", 16384, || {
        for name in &names {
            let key = KeyRef::text(name);
            hits += u64::from(delta.get(key.hash(), key).is_some());
        }
    });
    assert_eq!(hits, 16384);
    timed("delta: first walk in key order", 1, || _ = delta.first(&Span::all(Order::Key), Direction::Forward));
    timed("delta: put of a known key, one view kept", 16384, || put(&mut delta));
    timed("delta: flush, an entry", 16384, || assert!(!flush(&delta, 1, |_| true).is_empty()));
}

/// An index of `count` entries on a real drive.
fn build(dir: &Path, count: u64) -> (RunFiles, Levels) {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let files = RunFiles::new(Arc::new(VfsRunDir::new(vfs, dir.to_owned())), Access::Mapped, 1);
    let (mut levels, mut delta, mut next_file) = (Levels::default(), Delta::new(), 1);
    let (mut flushes, mut flush_time, mut steps, mut step_time, mut longest, mut runs) =
        (0_u32, Duration::ZERO, 0_u32, Duration::ZERO, Duration::ZERO, 0);
    let store = |file: u64, bytes: &[u8]| {
        let file = OsVfs.open(&dir.join(file_name(file)), diskcache_core::vfs::OpenMode::CreateNew).expect("a new file");
        file.write_all_at(bytes, 0).expect("room on the drive");
    };
    for n in 0..count {
        let name = name(n);
        let key = KeyRef::text(&name);
        let _ = delta.put(key.hash(), OwnedEntry { key: key.to_owned(), tag: None, entry: entry(n) }.as_ref());
        if delta.len() == 16384 || n + 1 == count {
            let start = OsClock.boot();
            let built = flush(&delta, 1, |_| true);
            flush_time += OsClock.boot().saturating_sub(start);
            flushes += 1;
            levels = levels.push(built.iter().zip(next_file..).map(|(b, file)| Slice::of(file, b)).collect());
            built.iter().for_each(|b| {
                store(next_file, &b.bytes);
                next_file += 1;
            });
            delta.clear();
            for _ in 0..10 {
                let Some(step) = levels.plan() else { break };
                let start = OsClock.boot();
                let result = step.execute(&files, next_file, false).expect("a healthy drive");
                let took = OsClock.boot().saturating_sub(start);
                (steps, step_time, longest) = (steps + 1, step_time + took, longest.max(took));
                if let Some((file, bytes)) = &result.file {
                    store(*file, bytes);
                    next_file += 1;
                }
                levels = levels.apply(&result).expect("nothing changed");
            }
            runs = runs.max(levels.runs().len());
            files.retain(levels.files());
        }
    }
    println!(
        "{count} entries: {flushes} flushes of {:?}, {steps} steps of {:?} (longest {longest:?}), at most {runs} runs, now {}",
        flush_time / flushes.max(1),
        step_time / steps.max(1),
        levels.runs().len()
    );
    (files, levels)
}

#[test]
#[ignore = "a measurement"]
fn a_million_entries() {
    for count in [10_000, 1_000_000] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (files, levels) = build(dir.path(), count);
        let mut bytes = Vec::new();
        levels.encode(&mut bytes);
        println!("levels take {} bytes, {} files", bytes.len(), levels.files().count());
        let layers = Layers { deltas: &[], levels: &levels, files: &files };
        let wanted: Vec<String> = scattered(200_000, count).into_iter().map(name).collect();
        let absent: Vec<String> = scattered(200_000, count).into_iter().map(|n| name(n + count)).collect();
        let look = |names: &[String], hit: bool| {
            for name in names {
                let key = KeyRef::text(name);
                let answer = layers.lookup(key.hash(), key).expect("a healthy drive");
                assert_eq!(matches!(answer, Lookup::Found(_)), hit);
            }
        };
        look(&wanted, true);
        timed("get hit", 200_000, || look(&wanted, true));
        timed("get miss", 200_000, || look(&absent, false));
        for order in [Order::Insertion, Order::Key] {
            let mut walker = Walker::new(Span::all(order), Direction::Forward);
            timed("walk: first entry", 1, || assert!(layers.next(&mut walker).expect("a healthy drive").is_some()));
            let rest = count.min(100_000) - 1;
            timed("walk: further entries", rest, || {
                for _ in 0..rest {
                    assert!(layers.next(&mut walker).expect("a healthy drive").is_some());
                }
            });
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn taking_from_the_front() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (files, levels) = build(dir.path(), 300_000);
    let mut delta = Delta::new();
    for batch in 0..3 {
        timed(&format!("take the first again and again, batch {batch}"), 5000, || {
            for _ in 0..5000 {
                let deltas = [&delta];
                let layers = Layers { deltas: &deltas, levels: &levels, files: &files };
                let mut walker = Walker::new(Span::all(Order::StoreTime), Direction::Forward);
                let first = layers.next(&mut walker).expect("a healthy drive").expect("plenty are left").to_owned();
                let mark = OwnedEntry { entry: Entry::tombstone(1), ..first };
                let _ = delta.put(mark.key.as_ref().hash(), mark.as_ref());
            }
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn hits_in_one_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (files, levels) = build(dir.path(), 10_000);
    let layers = Layers { deltas: &[], levels: &levels, files: &files };
    let wanted: Vec<String> = (0..10_000).map(name).collect();
    timed("get hit, in order", 2_000_000, || {
        for _ in 0..200 {
            for name in &wanted {
                let key = KeyRef::text(name);
                assert!(matches!(layers.lookup(key.hash(), key).expect("a healthy drive"), Lookup::Found(_)));
            }
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn a_paged_index() {
    let mut subject = Subject::new(Access::PAGED);
    for n in 0..50_000 {
        subject.put(&KeyRef::text(&name(n)).to_owned(), Facts { value: 1, time: 0, expire: None, tag: None });
        if n % 16384 == 0 {
            let _ = subject.flush(16384);
        }
    }
    let _ = subject.flush(16384);
    let wanted: Vec<String> = scattered(100_000, 50_000).into_iter().map(name).collect();
    let look = || {
        for name in &wanted {
            let key = KeyRef::text(name);
            assert!(matches!(subject.layers(&[]).lookup(key.hash(), key).expect("a healthy drive"), Lookup::Found(_)));
        }
    };
    look();
    timed("paged: get hit, pages cached", 100_000, look);
}
