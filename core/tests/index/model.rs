//! The index against a plain map: whatever is put, deleted, flushed, merged and opened again, look-ups and walks agree.

use crate::common::{ACCESSES, Facts, Subject, assert_same_all, key};
use diskcache_core::format::KeyRef;
use diskcache_core::index::{Delta, Direction, Layers, Lookup, Order, Span, Walker};
use proptest::prelude::*;
use std::ops::Bound;

const KEYS: u16 = 60;

#[derive(Debug, Clone)]
enum Op {
    Put(u16, Facts),
    Access(u16, u8),
    Delete(u16),
    Flush(usize),
    Merge(usize),
    Reopen,
}

fn facts() -> impl Strategy<Value = Facts> {
    (any::<i64>(), any::<u8>(), proptest::option::of(any::<u8>()), proptest::option::of(0..4_u8))
        .prop_map(|(value, time, expire, tag)| Facts { value, time, expire, tag })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..KEYS, facts()).prop_map(|(k, f)| Op::Put(k, f)),
        3 => (0..KEYS, any::<u8>()).prop_map(|(k, t)| Op::Access(k, t)),
        5 => (0..KEYS).prop_map(Op::Delete),
        3 => (2..30_usize).prop_map(Op::Flush),
        4 => (1..20_usize).prop_map(Op::Merge),
        1 => Just(Op::Reopen),
    ]
}

fn make(subject: &mut Subject, op: &Op) {
    match op {
        Op::Put(k, facts) => subject.put(&key(*k), *facts),
        Op::Access(k, time) => subject.access(&key(*k), *time),
        Op::Delete(k) => subject.delete(&key(*k)),
        Op::Flush(rows) => _ = subject.flush(*rows),
        Op::Merge(rows) => _ = subject.merge(*rows, false),
        Op::Reopen => subject.reopen(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn lookups_and_walks_agree_with_a_plain_map(ops in proptest::collection::vec(op(), 1..250), access in 0..2_usize) {
        let mut subject = Subject::new(ACCESSES[access]);
        for (n, op) in ops.iter().enumerate() {
            make(&mut subject, op);
            if n % 16 == 0 {
                subject.check((0..KEYS + 4).map(key));
            }
        }
        subject.check((0..KEYS + 4).map(key));
        while subject.merge(7, false).is_some() {
            subject.check((0..KEYS + 4).map(key));
        }
        prop_assert!(subject.levels.runs().len() <= 3, "all merges are made");
    }

    #[test]
    fn spans_give_what_lies_in_them(
        ops in proptest::collection::vec(op(), 1..150),
        (a, b, now, tag) in (0..KEYS, 0..KEYS, any::<u8>(), 0..4_u8),
    ) {
        let mut subject = Subject::new(ACCESSES[0]);
        ops.iter().for_each(|op| make(&mut subject, op));
        for direction in [Direction::Forward, Direction::Backward] {
            let name = format!("t{tag}");
            let tagged: Vec<_> = subject.ordered(Order::Tag, direction).into_iter()
                .filter(|e| e.tag.as_ref().is_some_and(|t| t.as_ref().as_ref().same(&KeyRef::text(&name)))).collect();
            assert_same_all(&subject.collect(Span::tagged(KeyRef::text(&name)), direction).0, &tagged, "tagged");
            let expired: Vec<_> = subject.ordered(Order::Expire, direction).into_iter()
                .filter(|e| e.entry.expire_time <= f64::from(now)).collect();
            assert_same_all(&subject.collect(Span::expired(f64::from(now)), direction).0, &expired, "expired");
            let (low, high) = (key(a), key(b));
            let between: Vec<_> = subject.ordered(Order::Key, direction).into_iter().filter(|e| low <= e.key && e.key < high).collect();
            let span = Span::keys(Bound::Included(low.as_ref()), Bound::Excluded(high.as_ref()));
            assert_same_all(&subject.collect(span, direction).0, &between, "between keys");
            let rows: Vec<_> = subject.ordered(Order::Insertion, direction).into_iter()
                .filter(|e| e.entry.rowid > u64::from(a) && e.entry.rowid < u64::from(b)).collect();
            assert_same_all(&subject.collect(Span::rows(Some(u64::from(a)), Some(u64::from(b))), direction).0, &rows, "rows");
        }
    }

    #[test]
    fn a_walk_goes_on_across_changes_and_gives_what_stays_exactly_once(
        before in proptest::collection::vec(op(), 50..150),
        during in proptest::collection::vec(op(), 1..120),
        order in 0..Order::COUNT,
        forward in any::<bool>(),
    ) {
        let order = Order::ALL[order];
        let direction = if forward { Direction::Forward } else { Direction::Backward };
        let mut subject = Subject::new(ACCESSES[1]);
        before.iter().for_each(|op| make(&mut subject, op));
        let stay = |k: u16| k.is_multiple_of(3);
        let steady: Vec<_> =
            subject.ordered(order, direction).into_iter().filter(|e| (0..KEYS).any(|k| stay(k) && key(k) == e.key)).cloned().collect();
        let mut walker = Walker::new(Span::all(order), direction);
        let mut walked = Vec::new();
        let mut take = |subject: &Subject| {
            let deltas = [&subject.delta];
            let found = subject.layers(&deltas).next(&mut walker).expect("a healthy drive");
            walked.extend(found.map(|f| f.to_owned()));
        };
        for op in &during {
            if !matches!(op, Op::Put(k, _) | Op::Access(k, _) | Op::Delete(k) if stay(*k)) {
                make(&mut subject, op);
            }
            take(&subject);
        }
        for _ in 0..KEYS * 2 {
            take(&subject);
        }
        walked.retain(|e| steady.iter().any(|s| s.key == e.key));
        assert_same_all(&walked, &steady.iter().collect::<Vec<_>>(), "what stayed");
    }

    #[test]
    fn a_transaction_over_the_main_delta_sees_its_own_changes_and_leaves_no_trace(
        ops in proptest::collection::vec(op(), 1..100),
        own in proptest::collection::vec((0..KEYS, proptest::option::of(facts())), 1..40),
    ) {
        let mut subject = Subject::new(ACCESSES[0]);
        ops.iter().for_each(|op| make(&mut subject, op));
        let mut inside = Subject::new(ACCESSES[0]);
        inside.truth = subject.truth.clone();
        inside.levels = subject.levels.clone();
        inside.next_row = subject.next_row;
        for (k, facts) in &own {
            match facts {
                Some(facts) => inside.put(&key(*k), *facts),
                None => {
                    inside.truth.remove(&key(*k));
                    let mark = diskcache_core::format::entry::OwnedEntry {
                        key: key(*k),
                        tag: None,
                        entry: diskcache_core::format::Entry::tombstone(9),
                    };
                    let _ = inside.delta.put(key(*k).as_ref().hash(), mark.as_ref());
                }
            }
        }
        let deltas: [&Delta; 2] = [&inside.delta, &subject.delta];
        let layers = Layers { deltas: &deltas, levels: &subject.levels, files: &subject.files };
        for k in (0..KEYS).map(key) {
            let found = matches!(layers.lookup(k.as_ref().hash(), k.as_ref()).expect("a healthy drive"), Lookup::Found(_));
            prop_assert_eq!(found, inside.truth.contains_key(&k));
        }
        for order in [Order::Key, Order::StoreTime, Order::Tag] {
            let walked: Vec<_> =
                layers.walk(Span::all(order), Direction::Forward).map(|f| f.expect("a healthy drive").to_owned()).collect();
            assert_same_all(&walked, &inside.ordered(order, Direction::Forward), "inside");
        }
        subject.check((0..KEYS).map(key));
    }
}

#[test]
fn a_large_index_keeps_few_runs_and_every_entry_through_tiers_of_merges() {
    let mut subject = Subject::new(ACCESSES[0]);
    let mut most = 0;
    for round in 0..28_u32 {
        for i in 0..4096_u32 {
            let n = (round * 4096 + i).wrapping_mul(2_654_435_761) % 60_000;
            let k = KeyRef::text(&format!("key {n}")).to_owned();
            if i % 16 == 0 {
                subject.delete(&k);
            } else {
                subject.put(&k, Facts { value: i64::from(i), time: 0, expire: None, tag: None });
            }
        }
        let _ = subject.flush(1000);
        for _ in 0..4 {
            let _ = subject.merge(4096, false);
        }
        most = most.max(subject.levels.runs().len());
    }
    assert!(most <= 12, "{most} runs at a time");
    while subject.merge(4096, false).is_some() {}
    let mut tiers: Vec<u64> = subject.levels.runs().iter().map(diskcache_core::index::Run::rows).collect();
    assert!(tiers.len() <= 6, "{tiers:?}");
    let oldest = tiers.pop().expect("a run");
    assert!(oldest > 32_768, "the oldest run has {oldest} rows");
    subject.reopen();
    let (walked, damaged) = subject.collect(Span::all(Order::Insertion), Direction::Forward);
    assert_same_all(&walked, &subject.ordered(Order::Insertion, Direction::Forward), "in insertion order");
    assert_eq!(damaged, 0);
    for k in (0..60_000).step_by(7).map(|n| KeyRef::text(&format!("key {n}")).to_owned()) {
        let answer = subject.layers(&[]).lookup(k.as_ref().hash(), k.as_ref()).expect("a healthy drive");
        assert_eq!(matches!(answer, Lookup::Found(_)), subject.truth.contains_key(&k), "{k:?}");
    }
}

/// Takes from the front of an order as a queue, an eviction policy or an expiry does: with a new walk each time.
#[test]
fn taking_from_an_end_again_and_again_always_takes_the_first_that_lives() {
    for (order, direction) in
        [(Order::Insertion, Direction::Forward), (Order::Key, Direction::Backward), (Order::StoreTime, Direction::Forward)]
    {
        let mut s = Subject::new(ACCESSES[0]);
        for n in 0..3000_u32 {
            let k = KeyRef::text(&format!("{:05}", n.wrapping_mul(7919) % 3000)).to_owned();
            s.put(&k, Facts { value: 1, time: (n % 250) as u8, expire: None, tag: None });
            if n % 400 == 399 {
                let before = s.levels.clone();
                let flushed = s.flush(500);
                s.levels.inherit(&before, Some(&flushed));
            }
            if n % 90 == 0 {
                let _ = s.merge(150, false);
            }
            if n % 4 != 0 && n > 600 {
                let expected = s.ordered(order, direction).first().map(|e| e.key.clone());
                let deltas = [&s.delta];
                let taken = s.layers(&deltas).next(&mut Walker::new(Span::all(order), direction)).expect("a healthy drive");
                let taken = taken.map(|f| f.to_owned().key);
                assert_eq!(taken, expected, "{order:?}, {n}");
                s.delete(&taken.expect("some are left"));
            }
            if n % 700 == 0 {
                // What lay dead is stored again, at places that were passed over.
                for old in 0..5 {
                    s.put(&KeyRef::text(&format!("{old:05}")).to_owned(), Facts { value: 2, time: 0, expire: None, tag: None });
                }
            }
        }
    }
}

/// Where most rows are dead each step of a merge made a file of its own for the few that live, each a block or more on the disk.
#[test]
fn what_little_lives_of_many_rows_is_not_scattered_over_many_files() {
    const STEP: usize = 500;
    for access in ACCESSES {
        let mut subject = Subject::new(access);
        for round in 0..4_u16 {
            for n in round * 5000..(round + 1) * 5000 {
                subject.put(&key(n), Facts { value: 1, time: 1, expire: None, tag: None });
            }
            subject.flush(2000);
        }
        for n in (0..20_000).filter(|n| n % 40 != 0) {
            subject.delete(&key(n));
        }
        subject.flush(2000);
        while subject.merge(STEP, false).is_some() {}
        let (rows, files) = (subject.levels.rows(), subject.levels.files().count() as u64);
        assert_eq!((subject.truth.len(), rows), (500, 500));
        // A step reads up to eight times as many rows as it is asked to.
        assert!(files <= (20_000 + 19_500) / (8 * STEP as u64) + 1, "{files} files for {rows} rows");
        subject.check((0..20_000).map(key));
    }
}
