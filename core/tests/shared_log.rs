//! The shared log on a drive that does what it says, or fails in one chosen way: each test is a promise of `log/shared`.

mod shared_support;

use diskcache_core::clock::{Clock, Deadline, ManualClock};
use diskcache_core::format::{FORMAT_VERSION, Record};
use diskcache_core::log::{ADDR_OFFSET_BITS, Commit, Log, Look, Progress, Proposal, Published, Replay, SharedLog, SharedOptions};
use diskcache_core::vfs::mem::{Effect, Fault, Step};
use diskcache_core::vfs::{MemVfs, OpenMode, OsVfs, Vfs};
use diskcache_core::{Error, ErrorKind};
use shared_support::{MARKER, Process, body_of, within};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const EIO: i32 = 5;
const EEXIST: i32 = 17;
const ETIMEDOUT: i32 = 110;

trait Set {
    fn set(&mut self, name: &str, deadline: Deadline) -> Result<u64, Error>;
}

impl Set for Process {
    /// Publishes one operation and returns its position.
    fn set(&mut self, name: &str, deadline: Deadline) -> Result<u64, Error> {
        let body = body_of(&[name]);
        loop {
            match self.publish_body(&body, None, deadline)? {
                Published::At(n) => return Ok(n),
                Published::Behind => self.start(deadline)?,
                Published::Held => unreachable!("nothing replayed here holds anybody"),
            }
        }
    }
}

struct Rig {
    vfs: MemVfs,
    clock: ManualClock,
    options: SharedOptions,
}

impl Rig {
    fn new(look: Look) -> Self {
        let rig = Self {
            vfs: MemVfs::new(),
            clock: ManualClock::default(),
            options: SharedOptions { look, readers: 1, ..SharedOptions::default() },
        };
        rig.vfs.create_dir(Path::new("/c")).expect("a sound drive");
        SharedLog::create(Arc::new(rig.vfs.clone()), Arc::new(rig.clock.clone()), Path::new("/c"), MARKER, rig.options.clone(), rig.soon())
            .expect("a sound drive");
        rig
    }

    fn soon(&self) -> Deadline {
        within(&self.clock, 60)
    }

    fn process(&self) -> Process {
        let (vfs, clock) = (Arc::new(self.vfs.process()), Arc::new(self.clock.clone()));
        let mut process = Process::new(SharedLog::open(vfs, clock, Path::new("/c"), MARKER, self.options.clone()));
        process.start(self.soon()).expect("a sound drive");
        process
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let mut names = self.vfs.read_dir(&Path::new("/c").join(dir)).expect("a sound drive");
        names.sort();
        names
    }

    fn commit(n: u64) -> PathBuf {
        PathBuf::from(format!("/c/log/{n:012x}"))
    }

    fn fault(&self, step: Step, nth: u64, errno: i32, effect: Effect) {
        self.vfs.fail(Fault { step, nth, lasting: false, errno, effect });
    }
}

#[test]
fn what_one_process_publishes_every_other_replays_in_the_same_order() {
    for look in [Look::Statx, Look::Reopen] {
        let rig = Rig::new(look);
        let (mut a, mut b) = (rig.process(), rig.process());
        for i in 0..40 {
            let n = if i % 3 == 0 { &mut b } else { &mut a }.set(&format!("op{i}"), rig.soon()).unwrap();
            assert_eq!(n, i + 1);
        }
        a.catch_up(rig.soon()).unwrap();
        b.catch_up(rig.soon()).unwrap();
        let expected: Vec<String> = (0..40).map(|i| format!("op{i}")).collect();
        assert_eq!(a.state.names, expected);
        assert_eq!(b.state, a.state);
        assert!(!a.log.is_behind(a.cursor, rig.soon()).unwrap());
        let mut late = rig.process();
        assert!(late.log.is_behind(late.cursor, rig.soon()).unwrap());
        late.catch_up(rig.soon()).unwrap();
        assert_eq!(late.state, a.state);
    }
}

/// A state in which a name `hold` asks others to hold.
struct Holding(Vec<u64>, bool);

impl Replay for Holding {
    fn commit(&mut self, commit: &Commit<'_>) {
        let names = commit.body.records().filter_map(|(record, _)| if let Record::Setting(name, _) = record { Some(name) } else { None });
        self.1 = names.last() == Some("hold");
        self.0.push(commit.position);
    }

    fn damaged(&mut self, position: u64, _next: u64, _why: &Error) {
        self.0.push(position);
    }

    fn may_publish(&self) -> bool {
        !self.1
    }
}

/// A hold counted only for who lost the race for a number to it: who had replayed it before published right after it, and the transaction was
/// lost.
#[test]
fn whoever_has_replayed_a_hold_publishes_nothing_however_it_came_by_it() {
    let rig = Rig::new(Look::Statx);
    let (mut a, b) = (rig.process(), rig.process());
    let mut cursor = b.cursor;
    let mut state = Holding(Vec::new(), false);
    let body = body_of(&["b"]);
    let proposal = |checkpoint| Proposal { body: &body, decided_on: None, durable: true, quiet: false, checkpoint };
    a.set("hold", rig.soon()).unwrap();
    let before = rig.names("log");
    assert_eq!(b.log.publish(&mut cursor, proposal(0), &mut state, rig.soon()).unwrap(), Published::Held, "a lost race");
    assert_eq!(b.log.publish(&mut cursor, proposal(0), &mut state, rig.soon()).unwrap(), Published::Held, "replayed before");
    assert_eq!((rig.names("log"), state.0.as_slice()), (before, &[1][..]));
    a.set("over", rig.soon()).unwrap();
    b.log.catch_up(&mut cursor, &mut state, rig.soon()).unwrap();
    assert_eq!(b.log.publish(&mut cursor, proposal(0), &mut state, rig.soon()).unwrap(), Published::At(3));
}

#[test]
fn many_commits_are_read_by_several_threads_in_order() {
    let mut rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    for i in 0..300 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    rig.options.readers = 8;
    let mut b = rig.process();
    b.catch_up(rig.soon()).unwrap();
    assert_eq!(b.state, a.state);
}

#[test]
fn a_small_set_is_six_requests_of_an_nfs_client_and_an_idle_look_is_one() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    let set = |a: &mut Process, count: u64| {
        let before = rig.vfs.counts();
        for i in 0..count {
            a.set(&format!("op{i}"), rig.soon()).unwrap();
            rig.clock.advance(Duration::from_secs(5));
        }
        let after = rig.vfs.counts();
        move |step: Step| after.get(&step).copied().unwrap_or(0) - before.get(&step).copied().unwrap_or(0)
    };
    drop(set(&mut a, 100));
    let made = set(&mut a, 600);
    // OPEN; WRITE, of which the sync is a part; CLOSE; LINK; WRITE of the bell; REMOVE. (And the bell is opened again now and then.)
    assert_eq!((made(Step::Write), made(Step::Sync), made(Step::Close), made(Step::Link)), (1200, 1200, 600, 600));
    assert_eq!(made(Step::Unlink), 600, "as many go as come");
    assert!((600..=920).contains(&made(Step::Open)), "{}", made(Step::Open));
    for step in [Step::Stat, Step::ReadDir, Step::Read, Step::Len, Step::LenFresh, Step::SyncDir] {
        assert_eq!(made(step), 0, "{step:?}");
    }
    a.catch_up(rig.soon()).unwrap();
    let before = rig.vfs.steps();
    assert!(!a.log.is_behind(a.cursor, rig.soon()).unwrap());
    a.catch_up(rig.soon()).unwrap();
    assert_eq!(rig.vfs.steps() - before, 2);
}

#[test]
fn opening_takes_few_requests_and_ends_at_the_newest_checkpoint() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    for i in 0..30 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
        if i % 10 == 9 {
            assert!(matches!(a.checkpoint(rig.soon()).unwrap(), Published::At(_)));
        }
    }
    a.set("last", rig.soon()).unwrap();
    let before = rig.vfs.steps();
    let mut b = rig.process();
    assert_eq!(b.cursor.position, 33, "the third checkpoint covers what is before 33");
    b.catch_up(rig.soon()).unwrap();
    assert_eq!(b.state.names, a.state.names);
    assert!(rig.vfs.steps() - before <= 20, "{} steps", rig.vfs.steps() - before);
}

#[test]
fn a_lost_reply_to_the_link_is_neither_a_second_commit_nor_a_failure() {
    for errno in [EEXIST, EIO, ETIMEDOUT, 1, 2] {
        let rig = Rig::new(Look::Statx);
        let (mut a, mut b) = (rig.process(), rig.process());
        a.set("one", rig.soon()).unwrap();
        rig.fault(Step::Link, 1, errno, Effect::Done);
        assert_eq!(a.set("two", rig.soon()).unwrap(), 2);
        rig.fault(Step::Link, 1, errno, Effect::None);
        assert_eq!(a.set("three", rig.soon()).unwrap(), 3);
        b.catch_up(rig.soon()).unwrap();
        assert_eq!(b.state.names, ["one", "two", "three"]);
    }
}

#[test]
fn one_failure_at_any_step_of_a_set_is_survived_and_the_set_takes_effect_once() {
    for effect in [Effect::None, Effect::Done] {
        for step in [Step::Open, Step::Write, Step::Sync, Step::Close, Step::Link, Step::Unlink] {
            for nth in 1..=3 {
                let rig = Rig::new(Look::Statx);
                let (mut a, mut b) = (rig.process(), rig.process());
                a.set("one", rig.soon()).unwrap();
                rig.fault(step, nth, EIO, effect);
                a.set("two", rig.soon()).unwrap();
                a.set("three", rig.soon()).unwrap();
                rig.vfs.heal();
                b.catch_up(rig.soon()).unwrap();
                assert_eq!(b.state.names, ["one", "two", "three"], "{step:?} {nth} {effect:?}");
            }
        }
    }
}

#[test]
fn a_dead_drive_ends_every_call_by_its_deadline_with_the_right_kind() {
    for (step, kind) in [(Step::Write, ErrorKind::Timeout), (Step::Link, ErrorKind::OutcomeUnknown), (Step::LenFresh, ErrorKind::Timeout)] {
        let rig = Rig::new(Look::Statx);
        let mut a = rig.process();
        a.set("one", rig.soon()).unwrap();
        rig.vfs.fail(Fault { step, nth: 1, lasting: true, errno: EIO, effect: Effect::None });
        let (began, deadline) = (rig.clock.boot(), rig.soon());
        let failed = if step == Step::LenFresh { a.catch_up(deadline).unwrap_err() } else { a.set("two", deadline).unwrap_err() };
        assert_eq!(failed.kind(), kind, "{step:?}: {failed}");
        assert_eq!(rig.clock.boot() - began, Duration::from_secs(60), "{step:?}");
        rig.vfs.heal();
        a.set("three", rig.soon()).unwrap();
        assert_eq!(a.state.names, ["one", "three"], "{step:?}");
    }
}

#[test]
fn a_ring_that_fails_leaves_the_outcome_unknown_and_the_next_one_shows_the_commit() {
    let rig = Rig::new(Look::Statx);
    let (mut a, mut b) = (rig.process(), rig.process());
    a.set("one", rig.soon()).unwrap();
    rig.vfs.fail(Fault { step: Step::Write, nth: 2, lasting: true, errno: EIO, effect: Effect::None });
    let failed = a.set("two", within(&rig.clock, 5)).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(a.cursor.position, 2, "the cursor has not passed it");
    rig.vfs.heal();
    b.catch_up(rig.soon()).unwrap();
    assert_eq!(b.state.names, ["one"], "nobody shows it before it is rung");
    assert_eq!(b.set("three", rig.soon()).unwrap(), 3);
    a.catch_up(rig.soon()).unwrap();
    assert_eq!(a.state.names, ["one", "two", "three"]);
}

#[test]
fn a_full_drive_is_told_at_once_and_nothing_took_effect() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    a.set("one", rig.soon()).unwrap();
    rig.vfs.set_free(Some(0));
    let began = rig.clock.boot();
    let failed = a.set("two", rig.soon()).unwrap_err();
    assert_eq!((failed.kind(), failed.raw_os_error()), (ErrorKind::Io, Some(28)));
    assert!(rig.clock.boot() - began < Duration::from_secs(1));
    rig.vfs.set_free(None);
    a.set("three", rig.soon()).unwrap();
    assert_eq!(a.state.names, ["one", "three"]);
}

#[test]
fn values_are_read_back_by_address_from_memory_and_from_the_drive() {
    let mut rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    let n = a.set("one", rig.soon()).unwrap();
    let file = rig.vfs.open(&Rig::commit(n), OpenMode::Read).unwrap();
    let mut whole = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut whole, 0).unwrap();
    let addr = (n << ADDR_OFFSET_BITS) | 90;
    let before = rig.vfs.steps();
    assert_eq!(a.log.read(addr, 20, rig.soon()).unwrap()[..], whole[90..110]);
    assert_eq!(rig.vfs.steps(), before, "a fresh value costs no request");
    rig.options.recent_bytes = 0;
    let b = rig.process();
    assert_eq!(b.log.read(addr, 20, rig.soon()).unwrap()[..], whole[90..110]);
    for (addr, len) in [(addr, 1 << 20), ((n + 1) << ADDR_OFFSET_BITS, 1), (addr, u64::MAX)] {
        assert_eq!(b.log.read(addr, len, rig.soon()).unwrap_err().kind(), ErrorKind::Damaged);
    }
}

#[test]
fn a_commit_decided_on_another_position_is_replayed_as_nothing() {
    let rig = Rig::new(Look::Statx);
    let (mut a, mut b) = (rig.process(), rig.process());
    let decided_on = Some(a.cursor.position);
    assert_eq!(a.publish_body(&body_of(&["first"]), decided_on, rig.soon()).unwrap(), Published::At(1));
    assert_eq!(b.publish_body(&body_of(&["second"]), decided_on, rig.soon()).unwrap(), Published::At(2));
    a.catch_up(rig.soon()).unwrap();
    assert_eq!((&a.state.names, &b.state.names), (&vec!["first".to_owned()], &vec!["first".to_owned()]));
}

#[test]
fn damaged_and_missing_commits_cost_only_themselves() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    for i in 1..=6 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    rig.vfs.open(&Rig::commit(2), OpenMode::ReadWrite).unwrap().write_all_at(b"?", 40).unwrap();
    rig.vfs.open(&Rig::commit(3), OpenMode::ReadWrite).unwrap().set_len(0).unwrap();
    rig.vfs.unlink(&Rig::commit(5)).unwrap();
    let mut b = rig.process();
    b.catch_up(rig.soon()).unwrap();
    assert_eq!(b.state.names, ["op1", "op4", "op6"]);
    assert_eq!(b.state.damaged, [(2, 3), (3, 4), (5, 6)]);
    assert_eq!(b.set("op7", rig.soon()).unwrap(), 7);
}

#[test]
fn a_newer_format_is_refused_and_not_taken_for_damage() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    a.set("one", rig.soon()).unwrap();
    let newer = FORMAT_VERSION.to_le_bytes()[0] + 1;
    rig.vfs.open(&Rig::commit(1), OpenMode::ReadWrite).unwrap().write_all_at(&[newer, 0, 0, 0, 1], 8).unwrap();
    let (vfs, clock) = (Arc::new(rig.vfs.process()), Arc::new(rig.clock.clone()));
    let mut b = Process::new(SharedLog::open(vfs, clock, Path::new("/c"), MARKER, rig.options.clone()));
    assert_eq!(b.catch_up(rig.soon()).unwrap_err().kind(), ErrorKind::Incompatible);
}

#[test]
fn a_damaged_checkpoint_leads_to_the_one_before_and_then_to_the_beginning() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    let mut checkpoints = Vec::new();
    for i in 0..20 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
        if i % 7 == 6 {
            let Published::At(n) = a.checkpoint(rig.soon()).unwrap() else { panic!("not behind") };
            checkpoints.push(n);
        }
    }
    for n in checkpoints.into_iter().rev() {
        let mut b = rig.process();
        assert_eq!(b.cursor.position, n, "started from the checkpoint at {n}");
        b.catch_up(rig.soon()).unwrap();
        assert_eq!(b.state.names, a.state.names);
        rig.vfs.open(&Rig::commit(n), OpenMode::ReadWrite).unwrap().set_len(50).unwrap();
    }
    let mut b = rig.process();
    assert_eq!(b.cursor.position, 1);
    b.catch_up(rig.soon()).unwrap();
    assert_eq!(b.state.names, a.state.names);
}

#[test]
fn a_bell_that_is_lost_or_lies_hangs_nobody_and_is_restored() {
    for look in [Look::Statx, Look::Reopen] {
        let rig = Rig::new(look);
        let mut a = rig.process();
        for i in 0..5 {
            a.set(&format!("op{i}"), rig.soon()).unwrap();
        }
        rig.vfs.unlink(Path::new("/c/bell")).unwrap();
        let mut b = rig.process();
        b.catch_up(rig.soon()).unwrap();
        assert_eq!(b.state.names.len(), 5, "lost: {look:?}");
        rig.clock.advance(Duration::from_secs(7)); // Kept descriptors are older than that by then.
        a.set("op5", rig.soon()).unwrap();
        b.catch_up(rig.soon()).unwrap();
        assert_eq!(b.state.names.len(), 6, "found again: {look:?}");

        rig.vfs.open(Path::new("/c/bell"), OpenMode::ReadWrite).unwrap().set_len(1 << 20).unwrap();
        b.catch_up(rig.soon()).unwrap();
        let (began, before) = (rig.clock.boot(), rig.vfs.steps());
        b.catch_up(rig.soon()).unwrap();
        assert!(rig.clock.boot() == began && rig.vfs.steps() - before <= 4, "a known lie costs little: {look:?}");
        assert_eq!(a.set("op6", rig.soon()).unwrap(), 7);
        b.catch_up(rig.soon()).unwrap();
        assert_eq!(b.state.names.len(), 7, "despite the lie: {look:?}");
        assert_eq!(rig.process().cursor.position, 1);
    }
}

#[test]
fn collecting_waits_for_the_grace_and_goes_oldest_first() {
    let rig = Rig::new(Look::Statx);
    let (mut a, mut old) = (rig.process(), rig.process());
    for i in 0..10 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    old.catch_up(rig.soon()).unwrap();
    assert!(matches!(a.checkpoint(rig.soon()).unwrap(), Published::At(11)));
    assert_eq!(a.log.collect(0, 11), 0);
    rig.clock.advance(Duration::from_secs(599));
    assert_eq!(a.log.collect(0, 11), 0, "the grace is not over");
    rig.clock.advance(Duration::from_secs(1));
    rig.fault(Step::Unlink, 5, EIO, Effect::None);
    assert_eq!(a.log.collect(0, 11), 4);
    assert_eq!(rig.names("log").first().map(String::as_str), Some("000000000004"), "oldest first, and it waits");
    rig.vfs.heal();
    assert_eq!(a.log.collect(0, 11), 6);
    assert_eq!(rig.names("log"), ["00000000000a", "00000000000b"], "the last one before the checkpoint vouches for it");

    let mut new = rig.process();
    new.catch_up(rig.soon()).unwrap();
    assert_eq!(new.state.names, a.state.names);
    assert_eq!(new.set("new", rig.soon()).unwrap(), 12);
}

#[test]
fn commits_collect_what_was_noted_so_that_a_busy_log_does_not_grow() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    for i in 0..200 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    a.checkpoint(rig.soon()).unwrap();
    assert_eq!(a.log.collect(0, 201), 0);
    rig.clock.advance(Duration::from_secs(600));
    for i in 0..120 {
        a.set(&format!("more{i}"), rig.soon()).unwrap();
    }
    assert_eq!(rig.names("log").first().map(String::as_str), Some("0000000000c8"), "200 vouches for what the checkpoint does not cover");
    assert_eq!(rig.names("log").len(), 122);
}

#[test]
fn a_view_as_old_as_the_grace_never_acknowledges_what_is_not_in_the_log() {
    let rig = Rig::new(Look::Statx);
    let (mut a, mut old) = (rig.process(), rig.process());
    old.set("op0", rig.soon()).unwrap();
    for i in 1..10 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    a.checkpoint(rig.soon()).unwrap();
    a.log.collect(0, 11);
    rig.clock.advance(Duration::from_secs(600));
    assert_eq!(a.log.collect(0, 11), 10);

    // It notices by itself, because its view is old.
    assert_eq!(old.publish_body(&body_of(&["x"]), None, rig.soon()).unwrap(), Published::Behind);
    let mut again = old;
    assert_eq!(again.set("x", rig.soon()).unwrap(), 12);
    assert_eq!(again.state.names.len(), 11);

    // And if it did not notice: a name that was collected is won falsely, and its predecessor tells.
    let (vfs, clock) = (Arc::new(rig.vfs.process()), Arc::new(rig.clock.clone()));
    let mut ancient = Process::new(SharedLog::open(vfs, clock, Path::new("/c"), MARKER, rig.options.clone()));
    ancient.log.is_behind(diskcache_core::log::Cursor { position: 13, chain: 0 }, rig.soon()).unwrap();
    ancient.cursor.position = 5;
    let failed = ancient.publish_body(&body_of(&["y"]), None, rig.soon()).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::OutcomeUnknown);
    a.catch_up(rig.soon()).unwrap();
    assert!(!a.state.names.contains(&"y".to_owned()));
    ancient.catch_up(rig.soon()).unwrap();
    assert_eq!(ancient.state.names, a.state.names);
}

#[test]
fn a_reader_that_finds_its_next_commit_collected_starts_again_from_the_checkpoint() {
    let rig = Rig::new(Look::Statx);
    let (mut a, mut old) = (rig.process(), rig.process());
    for i in 0..10 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    a.checkpoint(rig.soon()).unwrap();
    a.log.collect(0, 11);
    rig.clock.advance(Duration::from_secs(600));
    a.log.collect(0, 11);
    let progress = old.log.catch_up(&mut old.cursor, &mut old.state, rig.soon()).unwrap();
    assert_eq!(progress, Progress::Gone);
    let progress = old.log.catch_up(&mut old.cursor, &mut old.state, rig.soon()).unwrap();
    assert_eq!(progress, Progress::Gone, "as long as it does not start again");
    old.catch_up(rig.soon()).unwrap();
    assert_eq!(old.state.names, a.state.names);
    assert!(old.state.damaged.is_empty());
}

#[test]
fn staged_names_are_removed_late_by_their_owner_and_by_age_after_its_death() {
    let rig = Rig::new(Look::Statx);
    let (mut a, b) = (rig.process(), rig.process());
    for i in 0..100 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    assert_eq!(rig.names("stage").len(), 100, "a reader's client may still have a delegation on them");
    rig.clock.advance(rig.options.linger);
    for i in 0..20 {
        a.set(&format!("more{i}"), rig.soon()).unwrap();
    }
    assert_eq!(rig.names("stage").len(), 80, "two a commit");
    assert_eq!(a.log.tidy(10, Duration::MAX), 10);
    drop(rig.process());
    std::mem::forget(a); // Killed.
    b.log.collect(0, 0);
    rig.clock.advance(Duration::from_secs(599));
    b.log.collect(0, 0);
    assert_eq!(rig.names("stage").len(), 70);
    rig.clock.advance(Duration::from_secs(301));
    b.log.collect(0, 0);
    b.log.collect(0, 0);
    assert!(rig.names("stage").len() <= 6, "64 names a call");
    assert_eq!(rig.names("log").len(), 121);
}

/// A process that commits a lot and is killed leaves a staged name for each commit of the last minutes. Only 64 of them were removed in
/// five minutes, so where processes were killed often, the folder (and the bytes that the names kept) grew for ever.
#[test]
fn staged_names_that_killed_processes_left_go_as_fast_as_others_commit() {
    let rig = Rig::new(Look::Statx);
    for _ in 0..3 {
        let mut killed = rig.process();
        for i in 0..100 {
            killed.set(&format!("op{i}"), rig.soon()).unwrap();
        }
        std::mem::forget(killed);
    }
    let mut a = rig.process();
    a.log.collect(0, 0);
    rig.clock.advance(rig.options.grace);
    a.log.collect(0, 0);
    let left = rig.names("stage").len();
    assert_eq!(left, 300 - 64, "64 names a call");
    for i in 0..50 {
        a.set(&format!("more{i}"), rig.soon()).unwrap();
    }
    assert_eq!(rig.names("stage").len(), left + 50 - 2 * 50, "two more go beside each commit");
    a.log.collect(0, 0);
    a.log.collect(0, 0);
    a.log.collect(0, 0);
    assert_eq!(rig.names("stage").len(), 50, "its own stay until they have lingered");
}

#[test]
fn closing_removes_staged_names() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    for i in 0..100 {
        a.set(&format!("op{i}"), rig.soon()).unwrap();
    }
    drop(a);
    assert_eq!(rig.names("stage").len(), 0);
}

#[test]
fn a_staged_file_that_another_host_removed_is_staged_again_for_the_same_number() {
    let rig = Rig::new(Look::Statx);
    let mut a = rig.process();
    a.set("one", rig.soon()).unwrap();
    // The drive denies the staged name for a while: two tries fail with ENOENT, then another file is staged.
    for nth in 1..=2 {
        rig.fault(Step::Link, nth, 2, Effect::None);
    }
    assert_eq!(a.set("two", rig.soon()).unwrap(), 2);
    assert_eq!(rig.process().log.start(rig.soon()).unwrap().at, 1);
    assert_eq!(a.state.names, ["one", "two"]);
    assert_eq!(rig.names("stage").len(), 3, "one staged name for the first set, two for the second");
}

#[test]
fn acknowledged_commits_survive_a_power_loss_of_a_local_disk() {
    for seed in 0..200 {
        let mut rig = Rig::new(Look::Statx);
        rig.options.sync_names = true;
        rig.vfs = MemVfs::new();
        rig.vfs.create_dir(Path::new("/c")).unwrap();
        rig.vfs.sync_dir(Path::new("/")).unwrap();
        let (vfs, clock) = (Arc::new(rig.vfs.clone()), Arc::new(rig.clock.clone()));
        SharedLog::create(vfs, clock, Path::new("/c"), MARKER, rig.options.clone(), rig.soon()).unwrap();
        let mut a = rig.process();
        let count = seed % 7;
        for i in 0..count {
            a.set(&format!("op{i}"), rig.soon()).unwrap();
        }
        rig.vfs = rig.vfs.crash(seed);
        let mut b = rig.process();
        b.catch_up(rig.soon()).unwrap();
        assert_eq!(b.state.names.len() as u64, count, "seed {seed}: cargo test -p diskcache-core --test shared_log power");
        b.set("more", rig.soon()).unwrap();
    }
}

#[test]
fn threads_on_a_real_disk_commit_each_operation_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(diskcache_core::clock::OsClock);
    let options = SharedOptions { sync_names: true, ..SharedOptions::default() };
    let open = || SharedLog::open(Arc::new(OsVfs), clock.clone(), dir.path(), MARKER, options.clone());
    SharedLog::create(Arc::new(OsVfs), clock.clone(), dir.path(), MARKER, options.clone(), within(&*clock, 60)).unwrap();
    std::thread::scope(|scope| {
        for who in 0..4 {
            let (open, clock) = (&open, &clock);
            scope.spawn(move || {
                let mut process = Process::new(open());
                for i in 0..50 {
                    process.set(&format!("{who}-{i}"), within(&**clock, 60)).unwrap();
                    assert!(process.state.names.iter().filter(|name| **name == format!("{who}-{i}")).count() == 1);
                }
            });
        }
    });
    let mut reader = Process::new(open());
    reader.catch_up(within(&*clock, 60)).unwrap();
    let mut names = reader.state.names;
    assert_eq!(names.len(), 200);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 200);
}
