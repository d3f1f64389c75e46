//! Who goes on: a scheduler of simulated processes in virtual time.
//!
//! Each process is a thread of this program and has a time of its own. One of them runs at any moment: the one whose time is least.
//! Before each I/O step a process gives the turn back, so that steps interleave in the order of their times; how long a step
//! takes is drawn from the seed. No two threads ever touch the drive at once, and a run is the same each time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::drive::Drive;
use crate::drive::rng::Rng;

/// The number of a process.
pub(super) type Task = usize;

/// See the module.
#[derive(Debug)]
pub(super) struct Sched {
    drive: Arc<Mutex<Drive>>,
    state: Mutex<State>,
    turns: Vec<Condvar>,
    /// A step takes up to so much longer than the drive says.
    jitter_ns: u64,
}

#[derive(Debug)]
struct State {
    /// When each waiting process goes on; what is drawn decides between those of one time.
    waiting: BinaryHeap<Reverse<(u64, u64, Task)>>,
    running: Option<Task>,
    rng: Rng,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sched {
    /// A scheduler of so many processes, which begin at the drive's present time. Task 0 has the turn.
    pub(super) fn new(drive: Arc<Mutex<Drive>>, tasks: usize, jitter_us: u64, mut rng: Rng) -> Sched {
        let now = guard(&drive).now();
        let waiting = (1..tasks).map(|task| Reverse((now, rng.next_u64(), task))).collect();
        let state = Mutex::new(State { waiting, running: Some(0), rng });
        Sched { drive, state, turns: (0..tasks).map(|_| Condvar::new()).collect(), jitter_ns: jitter_us * 1000 }
    }

    /// The time of the process that runs, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        guard(&self.drive).now()
    }

    /// To be called first by the thread of a process: waits for its turn.
    pub(super) fn enter(&self, me: Task) {
        self.await_turn(guard(&self.state), me);
    }

    /// Lets others go on until the time is reached.
    pub(super) fn wait_until(&self, me: Task, when: u64) {
        let when = when.max(self.now());
        let mut state = guard(&self.state);
        let dice = state.rng.next_u64();
        if state.waiting.peek().is_none_or(|Reverse(next)| (when, dice, me) < *next) {
            guard(&self.drive).set_now(when);
            return;
        }
        state.waiting.push(Reverse((when, dice, me)));
        self.pass_on(&mut state);
        self.await_turn(state, me);
    }

    /// Before an I/O step: lets those go on whose time is less; not before `not_before`.
    pub(super) fn step(&self, me: Task, not_before: u64) {
        let more = guard(&self.state).rng.below(self.jitter_ns + 1);
        self.wait_until(me, self.now().max(not_before) + more);
    }

    /// To be called last by the thread of a process.
    pub(super) fn leave(&self) {
        self.pass_on(&mut guard(&self.state));
    }

    /// Gives the turn to whoever is least far, and sets the drive's clock to its time.
    fn pass_on(&self, state: &mut State) {
        let Some(Reverse((when, _, next))) = state.waiting.pop() else {
            state.running = None;
            return;
        };
        guard(&self.drive).set_now(when);
        state.running = Some(next);
        self.turns[next].notify_one();
    }

    fn await_turn(&self, mut state: MutexGuard<'_, State>, me: Task) {
        while state.running != Some(me) {
            state = self.turns[me].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Gives the turn on when a process's thread ends, however it ends.
pub(super) struct Leave<'s>(pub(super) &'s Sched);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
