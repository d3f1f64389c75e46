//! Every interleaving of what the threads of a process tell each other, with the engine's own steps (`src/publish.rs`, this very file).
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release --target-dir target/loom -p diskcache-core --test loom`
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

#[path = "../src/publish.rs"]
mod publish;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex, RwLock};
use loom::thread;
use publish::{Gate, Replayed, publish as publish_end, published};
use std::collections::BTreeMap;

/// Frames of one word each; the word is its own position plus one.
const FRAMES: usize = 3;

/// The bytes of a log: loom finds every read that is not ordered after the write of what it reads.
struct Bytes([UnsafeCell<u64>; FRAMES]);

// SAFETY: loom's cells check on every access that no other one runs at the same time.
#[expect(unsafe_code, reason = "cells that loom watches are shared on purpose")]
unsafe impl Sync for Bytes {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "cells that loom watches are shared on purpose")]
unsafe impl Send for Bytes {}

impl Bytes {
    fn new() -> Self {
        Self(std::array::from_fn(|_| UnsafeCell::new(0)))
    }

    #[expect(unsafe_code, reason = "loom's cells have no safe access")]
    fn write(&self, frame: usize) {
        // SAFETY: loom panics if another access runs at the same time.
        self.0[frame].with_mut(|word| unsafe { *word = frame as u64 + 1 });
    }

    #[expect(unsafe_code, reason = "loom's cells have no safe access")]
    fn read(&self, frame: usize) -> u64 {
        // SAFETY: loom panics if another access runs at the same time.
        self.0[frame].with(|word| unsafe { *word })
    }
}

#[test]
fn who_sees_an_end_sees_every_frame_before_it_whole() {
    loom::model(|| {
        let log = Arc::new((Bytes::new(), AtomicU64::new(0)));
        let writer = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for frame in 0..FRAMES {
                    log.0.write(frame);
                    publish_end(&log.1, frame as u64 + 1);
                }
            })
        };
        let mut replayed = 0;
        for _ in 0..2 {
            let end = published(&log.1);
            assert!(end >= replayed, "the end never goes back");
            for frame in replayed..end {
                assert_eq!(log.0.read(frame as usize), frame + 1);
            }
            replayed = end;
        }
        writer.join().unwrap();
        assert_eq!(published(&log.1), FRAMES as u64);
    });
}

#[test]
fn two_writers_behind_the_gate_lose_no_frame_and_overwrite_none() {
    loom::model(|| {
        let log = Arc::new((Gate::default(), Bytes::new(), AtomicU64::new(0)));
        // (A thread that finds it taken gives up instead of trying for ever: loom would follow every one of its tries.)
        let append = |log: &(Gate, Bytes, AtomicU64)| {
            if !log.0.try_enter() {
                return 0;
            }
            assert!(log.0.is_taken());
            let end = published(&log.2);
            log.1.write(usize::try_from(end).unwrap());
            publish_end(&log.2, end + 1);
            log.0.leave();
            1
        };
        let other = {
            let log = Arc::clone(&log);
            thread::spawn(move || append(&log))
        };
        let appended = append(&log) + append(&log) + other.join().unwrap();
        assert!(appended >= 1, "whoever finds the gate taken finds somebody inside who appends");
        assert_eq!(published(&log.2), appended);
        (0..appended).for_each(|frame| assert_eq!(log.1.read(frame as usize), frame + 1));
    });
}

/// A state as the engine keeps it: what was replayed, and the parts of the log that it would read values from.
#[derive(Debug, Clone)]
struct State {
    position: u64,
    /// Whether a checkpoint was swapped in.
    swapped: bool,
    part: u64,
}

struct Process {
    end: AtomicU64,
    replayed: Replayed,
    state: RwLock<State>,
    cursor: Mutex<u64>,
    /// The parts of the log whose files are there.
    parts: RwLock<BTreeMap<u64, Arc<u64>>>,
}

impl Process {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            end: AtomicU64::new(0),
            replayed: Replayed::default(),
            state: RwLock::new(State { position: 0, swapped: false, part: 0 }),
            cursor: Mutex::new(0),
            parts: RwLock::new(BTreeMap::from([(0, Arc::new(7))])),
        })
    }

    /// As the engine catches up: whoever has the cursor replays, one commit at a time.
    fn catch_up(&self) {
        let mut cursor = self.cursor.lock().unwrap();
        let end = published(&self.end);
        while *cursor < end {
            let mut state = self.state.write().unwrap();
            state.position = *cursor + 1;
            *cursor += 1;
            self.replayed.reached(*cursor);
        }
    }

    /// As the engine reads: no lock but the state's if nothing is new.
    fn read(&self) -> (u64, State) {
        if !self.replayed.has_all(|| published(&self.end)) {
            self.catch_up();
        }
        let position = self.replayed.position();
        (position, self.state.read().unwrap().clone())
    }
}

#[test]
fn a_reader_answers_from_all_that_was_published_before_it_asked() {
    loom::model(|| {
        let process = Process::new();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writer = {
            let (process, acknowledged) = (Arc::clone(&process), Arc::clone(&acknowledged));
            thread::spawn(move || {
                publish_end(&process.end, 1);
                acknowledged.store(1, loom::sync::atomic::Ordering::Release);
                process.catch_up();
            })
        };
        let before = acknowledged.load(loom::sync::atomic::Ordering::Acquire);
        let (position, state) = process.read();
        assert!(state.position >= position, "the state has what is said to be replayed");
        assert!(state.position >= before, "what was acknowledged before is seen");
        writer.join().unwrap();
        assert_eq!(process.read().1.position, 1);
    });
}

#[test]
fn a_checkpoint_that_is_swapped_in_never_takes_a_reader_back() {
    loom::model(|| {
        let process = Process::new();
        publish_end(&process.end, 1);
        let swapper = {
            let process = Arc::clone(&process);
            thread::spawn(move || {
                // As the engine adopts: under the cursor, all of it replayed again, then put in place as one.
                process.catch_up();
                let cursor = process.cursor.lock().unwrap();
                let mut state = process.state.write().unwrap();
                *state = State { position: *cursor, swapped: true, part: 0 };
                process.replayed.reached(*cursor);
            })
        };
        let first = process.read().1;
        let second = process.read().1;
        assert!(first.position == 1 && second.position == 1, "{first:?} {second:?}");
        assert!(second.swapped || !first.swapped, "{first:?} {second:?}");
        swapper.join().unwrap();
        assert!(process.read().1.swapped);
    });
}

#[test]
fn a_reader_whose_part_of_the_log_is_folded_away_finds_the_value_on_the_second_look() {
    loom::model(|| {
        let process = Process::new();
        let folder = {
            let process = Arc::clone(&process);
            thread::spawn(move || {
                process.parts.write().unwrap().insert(1, Arc::new(7));
                // The fold counts before the part that it replaces goes.
                process.state.write().unwrap().part = 1;
                process.parts.write().unwrap().remove(&0);
            })
        };
        let look = || {
            let part = process.state.read().unwrap().part;
            process.parts.read().unwrap().get(&part).cloned()
        };
        let value = look().or_else(look).expect("only the first look may come too late");
        assert_eq!(*value, 7);
        folder.join().unwrap();
    });
}
