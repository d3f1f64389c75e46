//! What a local log makes of a power cut and of damage where one segment ends and the next one begins.
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use diskcache_core::clock::{Deadline, ManualClock};
use diskcache_core::error::{Error, ErrorKind};
use diskcache_core::format::body::{Item, RecordValue};
use diskcache_core::format::marker::Mode;
use diskcache_core::format::wire::checksum;
use diskcache_core::format::{BodyBuilder, Codec, KeyRef, Marker, Place, Record, ValueKind, ValueMeta};
use diskcache_core::log::local::{LocalLog, LocalOptions};
use diskcache_core::log::{Commit, Cursor, Log, Proposal, Published, Replay};
use diskcache_core::vfs::mem::{Effect, Fault, MemVfs, Step};
use diskcache_core::vfs::{OpenMode, Vfs};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const MARKER: Marker = Marker { mode: Mode::Local, id: 0x77, created: 1.0 };
const DIR: &str = "/c";

/// The numbers of the commits that were replayed, and how often damage was met.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Seen {
    numbers: Vec<u64>,
    damaged: usize,
}

impl Replay for Seen {
    fn commit(&mut self, commit: &Commit<'_>) {
        for (record, _) in commit.body.records() {
            let Record::Set(_, item) = record else { panic!("nobody wrote {record:?}") };
            self.numbers.push(item.now as u64);
        }
    }

    fn damaged(&mut self, _position: u64, _next: u64, _why: &Error) {
        self.damaged += 1;
    }
}

/// A process with the log open, which has replayed it.
struct Process {
    log: LocalLog,
    cursor: Cursor,
    seen: Seen,
}

impl Process {
    fn open(vfs: &MemVfs, boot: u64) -> Self {
        let options = LocalOptions { boot, read_only: false };
        let log =
            LocalLog::open(Arc::new(vfs.process()), Arc::new(ManualClock::default()), Path::new(DIR), &MARKER, &options, Deadline::NEVER);
        let log = log.unwrap();
        let start = log.start(Deadline::NEVER).unwrap();
        let mut process = Self { log, cursor: Cursor { position: start.at, chain: 0 }, seen: Seen::default() };
        process.catch_up();
        process
    }

    fn catch_up(&mut self) {
        self.log.catch_up(&mut self.cursor, &mut self.seen, Deadline::NEVER).unwrap();
    }

    /// Appends commit `number`, with a value of `len` bytes: the same bytes whoever does it, and whenever.
    fn try_append(&mut self, number: u64, len: usize) -> diskcache_core::Result<()> {
        let value = vec![number as u8 | 1; len];
        let meta = ValueMeta {
            kind: ValueKind::Bytes,
            codec: Codec::None,
            place: Place::Log,
            len: len as u64,
            sum: checksum(&value, MARKER.seed()),
        };
        let mut body = BodyBuilder::default();
        let value = RecordValue { meta, bytes: &value };
        body.push(&Record::Set(KeyRef::text("k"), Item { value, tag: None, expire: f64::INFINITY, now: number as f64 }));
        let proposal = Proposal { body: &body, decided_on: None, durable: false, quiet: false, checkpoint: 0 };
        self.log.begin_exclusive(Deadline::NEVER, &|| false)?;
        let published = self.log.publish(&mut self.cursor, proposal, &mut self.seen, Deadline::NEVER);
        self.log.end_exclusive();
        assert!(matches!(published?, Published::At(_)));
        Ok(())
    }

    fn append(&mut self, number: u64, len: usize) {
        self.try_append(number, len).unwrap();
    }
}

fn new_disk() -> MemVfs {
    let vfs = MemVfs::new();
    vfs.create_dir(Path::new(DIR)).unwrap();
    LocalLog::prepare(&vfs, Path::new(DIR)).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    vfs
}

/// Returns where the segments on disk start.
fn starts(vfs: &MemVfs) -> Vec<u64> {
    let mut starts: Vec<u64> =
        vfs.read_dir(&Path::new(DIR).join("seg")).unwrap().iter().map(|name| u64::from_str_radix(name, 16).unwrap()).collect();
    starts.sort_unstable();
    starts
}

/// Commits of this length fill the first segment with seven, so that it is soon sealed.
const LEN: usize = 35_000;

fn len_of(number: u64) -> usize {
    LEN + (number as usize % 3) * 8
}

/// A power cut may keep a segment and lose the seal of the one before it, or keep a commit and tear the one before it. What was lost once
/// must not come back behind other commits, nor lie where these go on; whatever was cut off, and wherever the recovery itself was cut off.
#[test]
fn what_a_power_cut_took_never_comes_back_behind_what_is_written_next() {
    let (mut lost, mut cut_recoveries) = (0, 0);
    for seed in 0..150_u64 {
        let vfs = new_disk();
        let mut first = Process::open(&vfs, 1);
        let synced = seed % 5;
        for number in 0..12 {
            first.append(number, len_of(number));
            if number + 1 == synced {
                first.log.sync().unwrap();
            }
        }
        let mut after = vfs.crash(seed);
        if seed % 3 == 0 {
            // The power goes once more, during the recovery.
            let total = {
                let counted = vfs.crash(seed);
                drop(Process::open(&counted, 2));
                counted.steps()
            };
            after.freeze_at(1 + seed % total);
            let options = LocalOptions { boot: 2, read_only: false };
            let (cut, clock) = (Arc::new(after.process()), Arc::new(ManualClock::default()));
            cut_recoveries += usize::from(LocalLog::open(cut, clock, Path::new(DIR), &MARKER, &options, Deadline::NEVER).is_err());
            after = after.crash(seed ^ 9);
        }
        let mut second = Process::open(&after, 3);
        let kept = second.seen.numbers.len() as u64;
        let at = format!("seed {seed}: {kept} commits survived");
        assert!(second.seen.damaged == 0 && kept >= synced && second.seen.numbers.iter().copied().eq(0..kept), "{at}: {:?}", second.seen);
        assert!(starts(&after).iter().all(|start| *start <= second.log.end()), "{at}: {:?} beyond {}", starts(&after), second.log.end());
        lost += usize::from(kept < 12);
        // The very commit that was lost first is made again, and the power goes before another one is.
        second.append(kept, len_of(kept));
        if seed % 2 == 0 {
            second.log.sync().unwrap();
        }
        let mut third = Process::open(&after.crash(seed ^ 5), 4);
        let found = third.seen.numbers.len() as u64;
        let least = if seed % 2 == 0 { kept + 1 } else { synced };
        assert!(third.seen.damaged == 0 && third.seen.numbers.iter().copied().eq(0..found), "{at}, then {:?}", third.seen);
        assert!((least..=kept + 1).contains(&found), "{at}, one was added, and after another power cut there are {found}");
        // It goes on through several segments, seen the same by whoever was there and whoever comes.
        let mut watcher = Process::open(&after, 3);
        for number in kept + 1..kept + 25 {
            second.append(number, len_of(number));
            third.append(number, len_of(number));
        }
        watcher.catch_up();
        for seen in [&second.seen, &watcher.seen, &Process::open(&after, 3).seen] {
            assert!(seen.damaged == 0 && seen.numbers.iter().copied().eq(0..kept + 25), "{at}: {seen:?}");
        }
    }
    assert!(lost > 50 && cut_recoveries > 10, "{lost} power cuts took something, {cut_recoveries} recoveries were cut off");
}

/// Flips a bit of the byte at a position of the log.
fn damage(vfs: &MemVfs, position: u64) {
    let start = starts(vfs).into_iter().rfind(|start| *start <= position).unwrap();
    let file = vfs.open(&Path::new(DIR).join(format!("seg/{start:016x}")), OpenMode::ReadWrite).unwrap();
    let (at, mut byte) = (64 + position - start, [0]);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// A damaged seal costs nothing but itself: the commits of the next segment were all passed over.
#[test]
fn behind_a_damaged_seal_replay_goes_on_in_the_next_segment() {
    let vfs = new_disk();
    let mut writer = Process::open(&vfs, 1);
    let mut old = Process::open(&vfs, 1);
    (0..20).for_each(|number| writer.append(number, len_of(number)));
    for (_, next) in writer.log.sealed() {
        damage(&vfs, next - 32 + 8);
    }
    let seals = writer.log.sealed().len();
    let newcomer = Process::open(&vfs, 1);
    old.catch_up();
    for seen in [&newcomer.seen, &old.seen] {
        assert!(seen.numbers.iter().copied().eq(0..20) && seen.damaged == seals, "{seen:?} of 20, and {seals} seals");
    }
}

/// A writer that meets damage right before the end cannot know whether that was a seal: had it gone on in the segment, those that had read
/// the seal before would have looked elsewhere.
#[test]
fn behind_a_damaged_end_a_writer_begins_another_segment_that_everybody_finds() {
    for cut in [false, true] {
        let vfs = new_disk();
        let mut knows = Process::open(&vfs, 1);
        (0..6).for_each(|number| knows.append(number, len_of(number)));
        let mut last = knows.log.end();
        knows.append(6, len_of(6));
        if cut {
            // The segment is sealed, and its writer dies before the next one is there.
            let (before, mut dying) = (knows.log.end(), Process::open(&vfs, 1));
            vfs.fail(Fault { step: Step::Open, nth: 1, lasting: false, errno: libc::EIO, effect: Effect::None });
            assert!(dying.try_append(7, len_of(7)).is_err());
            vfs.heal();
            assert_eq!((knows.log.end(), starts(&vfs).len()), (before + 32, 1), "it died between the seal and the next segment");
            last = before;
        }
        knows.catch_up();
        damage(&vfs, last + 8);
        let mut damaged = Process::open(&vfs, 1);
        assert_eq!(damaged.seen, Seen { numbers: (0..if cut { 7 } else { 6 }).collect(), damaged: 1 });
        damaged.append(100, 500);
        knows.catch_up();
        knows.append(101, 500);
        damaged.catch_up();
        let newcomer = Process::open(&vfs, 1);
        for seen in [&knows.seen, &damaged.seen, &newcomer.seen] {
            assert!(seen.numbers.ends_with(&[100, 101]), "{seen:?}");
        }
        assert_eq!(knows.seen.damaged, 0);
    }
}

/// Two processes: one syncs for both, and must sync segments too that the other made after it last looked.
#[test]
fn who_syncs_for_others_syncs_the_segments_that_they_made() {
    let mut kept = 0;
    for seed in 0..20 {
        let vfs = new_disk();
        let (mut one, mut other) = (Process::open(&vfs, 1), Process::open(&vfs, 1));
        one.append(0, LEN);
        (1..20).for_each(|number| other.append(number, len_of(number)));
        one.log.sync().unwrap();
        other.log.sync().unwrap(); // somebody else's sync covered it
        let after = Process::open(&vfs.crash(seed), 2);
        assert!(after.seen.numbers.iter().copied().eq(0..20), "seed {seed}: {:?}", after.seen);
        kept += 1;
    }
    assert_eq!(kept, 20);
}

/// A waiter that finds something to do each time it looks must end by its deadline all the same.
#[test]
fn who_waits_for_the_lock_has_time_to_replay_and_no_more_than_the_deadline() {
    let (vfs, clock) = (new_disk(), ManualClock::default());
    let holder = Process::open(&vfs, 1);
    let options = LocalOptions { boot: 1, read_only: false };
    let waiter =
        LocalLog::open(Arc::new(vfs.process()), Arc::new(clock.clone()), Path::new(DIR), &MARKER, &options, Deadline::NEVER).unwrap();
    let looks = Cell::new(0);
    let look = || {
        looks.set(looks.get() + 1);
        clock.advance(Duration::from_millis(1));
        true
    };
    holder.log.begin_exclusive(Deadline::NEVER, &|| false).unwrap();
    let error = waiter.begin_exclusive(Deadline::after(&clock, Duration::from_millis(100)), &look).unwrap_err();
    assert_eq!((error.kind(), looks.replace(0)), (ErrorKind::Timeout, 100));
    let look_and_free = || {
        if looks.get() == 50 {
            holder.log.end_exclusive();
        }
        look()
    };
    waiter.begin_exclusive(Deadline::NEVER, &look_and_free).unwrap();
    assert_eq!(looks.get(), 51);
    waiter.end_exclusive();
}
