//! Whatever becomes of the bytes of run files: no panic, and never a wrong answer. What is damaged is said to be.

use crate::common::{ACCESSES, Facts, SEED, Subject, assert_same_all, is_same, key};
use diskcache_core::format::wire::Reader;
use diskcache_core::index::run::{Head, RunFile, Source};
use diskcache_core::index::{Access, Direction, Levels, Lookup, Order, Span, file_name};
use diskcache_core::vfs::{OpenMode, Vfs};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const KEYS: u16 = 48;

/// Three runs on top of each other, with a merge under way below them.
fn subject(access: Access) -> Subject {
    let mut s = Subject::new(access);
    let mut n = 0_u16;
    for round in 0..7_u8 {
        for i in 0..14_u16 {
            n += 1;
            let facts = Facts {
                value: i64::from(n),
                time: (n % 200) as u8,
                expire: if n.is_multiple_of(3) { Some((n % 100) as u8) } else { None },
                tag: if n.is_multiple_of(2) { Some((n % 4) as u8) } else { None },
            };
            let k = key((n * 7 + u16::from(round)) % KEYS);
            if i % 5 == 4 { s.delete(&k) } else { s.put(&k, facts) }
        }
        let _ = s.flush(8);
        if round == 3 {
            let _ = s.merge(20, false);
        }
    }
    s
}

fn path(file: u64) -> PathBuf {
    Path::new("/run").join(file_name(file))
}

fn read(s: &Subject, file: u64) -> Vec<u8> {
    let file = s.vfs.open(&path(file), OpenMode::Read).expect("it is there");
    let mut bytes = vec![0; file.len().expect("a healthy drive") as usize];
    file.read_exact_at(&mut bytes, 0).expect("a healthy drive");
    bytes
}

fn write(s: &Subject, file: u64, bytes: &[u8]) {
    s.vfs.unlink(&path(file)).expect("it is there");
    s.store(file, bytes);
}

/// How much may be missing in silence.
#[derive(Clone, Copy, PartialEq)]
enum Silence {
    /// Nothing: damage is said to be.
    None,
    /// What was lost before.
    Lost,
}

/// Checks that every answer is right or says that it is damaged; returns how many say that.
fn check(s: &Subject, silence: Silence) -> u64 {
    let deltas = [&s.delta];
    let layers = s.layers(&deltas);
    let mut damaged = 0;
    for k in (0..KEYS + 2).map(key) {
        match (layers.lookup(k.as_ref().hash(), k.as_ref()).expect("a healthy drive"), s.truth.get(&k)) {
            (Lookup::Found(found), Some(e)) => assert!(is_same(&found.to_owned(), e), "{k:?}: answered {found:?}, but it is {e:?}"),
            (Lookup::Found(found), None) => panic!("{k:?}: answered {found:?}, but it is gone"),
            (Lookup::Damaged(_), _) => damaged += 1,
            (Lookup::Missing, truth) => assert!(truth.is_none() || silence == Silence::Lost, "{k:?} is missing in silence"),
        }
    }
    for order in Order::ALL {
        for direction in [Direction::Forward, Direction::Backward] {
            let (walked, passed_over) = s.collect(Span::all(order), direction);
            let truth = s.ordered(order, direction);
            let mut rest = truth.iter();
            for e in &walked {
                assert!(rest.any(|t| is_same(e, t)), "{order:?} {direction:?}: {e:?} is wrong or out of order");
            }
            let said = walked.len() == truth.len() || passed_over > 0 || silence == Silence::Lost;
            assert!(said, "{order:?} {direction:?}: {} of {} without a word", walked.len(), truth.len());
        }
    }
    damaged
}

/// Merges to the end over the damage, checking after each step.
fn check_merges(s: &mut Subject) {
    // Enough runs on top that everything is due.
    for n in 0..4 {
        s.put(&key(n), Facts { value: -1, time: 1, expire: None, tag: None });
        let _ = s.flush(8);
    }
    while s.merge(25, true).is_some() {
        let _ = check(s, Silence::Lost);
    }
}

fn files(s: &Subject) -> Vec<u64> {
    let mut files: Vec<u64> = s.levels.files().collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// Damages one file in every way that `change` knows (until it returns `None`), and checks each time.
fn sweep(access: Access, merge_every: usize, change: impl Fn(&[u8], usize) -> Option<Vec<u8>>) {
    let whole = subject(access);
    assert_eq!(check(&whole, Silence::None), 0);
    let mut noticed = 0;
    for file in files(&whole) {
        let bytes = read(&whole, file);
        for step in 0.. {
            let Some(changed) = change(&bytes, step) else { break };
            let context = format!("access {access:?}, file {file}, change {step}");
            let result = std::panic::catch_unwind(|| {
                if step % merge_every == 0 {
                    let mut s = subject(access);
                    write(&s, file, &changed);
                    s.reopen();
                    check_merges(&mut s);
                }
            });
            assert!(result.is_ok(), "merging over damage: {context}");
            let mut s = Subject { truth: whole.truth.clone(), ..subject_on(&whole) };
            write(&s, file, &changed);
            s.reopen();
            noticed += check(&s, Silence::None);
            write(&s, file, &bytes);
        }
    }
    assert!(noticed > 0, "the damage was met");
}

/// Another opening of the same drive.
fn subject_on(whole: &Subject) -> Subject {
    let mut s = Subject::new(whole.access);
    s.vfs = whole.vfs.clone();
    s.levels = whole.levels.clone();
    s
}

/// Takes few of the bytes of the padding, and all others.
fn offset(bytes: &[u8], step: usize, stride: usize) -> Option<usize> {
    let mut offsets = (0..bytes.len()).filter(|at| *at % stride == 0 && (bytes[*at] != 0 || *at % 61 == 0));
    offsets.nth(step)
}

#[test]
fn no_flipped_bit_makes_a_wrong_answer() {
    for access in ACCESSES {
        sweep(access, 20, |bytes, step| {
            let at = offset(bytes, step, 37)?;
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << (at % 8);
            Some(changed)
        });
    }
}

#[test]
fn no_truncation_makes_a_wrong_answer() {
    for access in ACCESSES {
        sweep(access, 5, |bytes, step| {
            let len = step * 577;
            if len < bytes.len() { Some(bytes[..len].to_vec()) } else { None }
        });
    }
}

#[test]
fn no_zeroed_stretch_makes_a_wrong_answer() {
    for access in ACCESSES {
        sweep(access, 5, |bytes, step| {
            let start = step * 613;
            if start >= bytes.len() {
                return None;
            }
            let mut changed = bytes.to_vec();
            let end = (start + 512).min(bytes.len());
            changed[start..end].fill(0);
            Some(changed)
        });
    }
}

#[test]
fn a_missing_file_or_another_one_in_its_place_makes_no_wrong_answer() {
    for access in ACCESSES {
        let whole = subject(access);
        for file in files(&whole) {
            for other in [None, files(&whole).into_iter().find(|f| *f != file)] {
                let mut s = subject(access);
                match other {
                    None => s.vfs.unlink(&path(file)).expect("it is there"),
                    Some(other) => write(&s, file, &read(&whole, other)),
                }
                s.reopen();
                let _ = check(&s, Silence::None);
                check_merges(&mut s);
            }
        }
    }
}

#[test]
fn damage_of_one_block_of_the_tables_costs_nothing_as_the_rest_of_the_file_tells() {
    for access in ACCESSES {
        let mut whole = Subject::new(access);
        for n in 0..1200_u16 {
            whole.put(&key(n), Facts { value: 1, time: (n * 31 % 251) as u8, expire: Some((n % 90) as u8), tag: Some((n % 7) as u8) });
        }
        let _ = whole.flush(5000);
        let file = files(&whole)[0];
        let bytes = read(&whole, file);
        let blocks = bytes.windows(8).position(|w| w == b"kkkkkkkk").expect("the first entries") / 4096;
        assert!(blocks > 10, "{blocks} blocks");
        for block in 0..blocks {
            let mut changed = bytes.clone();
            changed[block * 4096 + 100] ^= 0x10;
            let mut s = Subject { truth: whole.truth.clone(), ..subject_on(&whole) };
            write(&s, file, &changed);
            s.reopen();
            for k in (0..1200).map(key) {
                let answer = s.layers(&[]).lookup(k.as_ref().hash(), k.as_ref()).expect("a healthy drive");
                assert!(matches!(&answer, Lookup::Found(f) if is_same(&f.to_owned(), &s.truth[&k])), "block {block}: {k:?}: {answer:?}");
            }
            for order in Order::ALL {
                let (walked, passed_over) = s.collect(Span::all(order), Direction::Forward);
                assert_same_all(&walked, &s.ordered(order, Direction::Forward), &format!("block {block}, {order:?}"));
                assert_eq!(passed_over, 0, "block {block}, {order:?}");
            }
            write(&s, file, &bytes);
        }
    }
}

proptest! {
    #[test]
    fn hostile_lists_of_levels_are_refused_without_a_panic(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<proptest::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        subject(ACCESSES[0]).levels.encode(&mut bytes);
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(levels) = Levels::parse(&mut Reader::new(&bytes)) {
            let mut again = Vec::new();
            levels.encode(&mut again);
            prop_assert_eq!(Levels::parse(&mut Reader::new(&again)).expect("what was encoded"), levels);
        }
    }

    #[test]
    fn random_bytes_are_no_levels_and_no_head(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Levels::parse(&mut Reader::new(&bytes));
        prop_assert!(Head::parse(&bytes, SEED).is_err());
        prop_assert!(RunFile::open(Source::Memory(bytes.clone().into()), bytes.len(), bytes.len() as u64, 0, SEED).is_err());
    }
}
