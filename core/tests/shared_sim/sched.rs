//! One process runs at a time; who is next is drawn at every I/O step. Time is virtual and moves with the steps and the sleeps.
//!
//! Each simulated process is a thread of its own and runs the real code; it waits here until it is its turn. Since nothing else
//! in the code under test depends on threads, a seed fixes the whole run.

use diskcache_core::clock::Clock;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A small random number generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Ready,
    Asleep(u64),
    Done,
}

#[derive(Debug)]
struct Inner {
    dice: Dice,
    micros: u64,
    running: Option<usize>,
    tasks: Vec<Task>,
    steps: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    inner: Mutex<Inner>,
    turns: Vec<Condvar>,
}

impl Scheduler {
    pub fn new(seed: u64, tasks: usize) -> Self {
        let mut inner = Inner { dice: Dice::new(seed), micros: 0, running: None, tasks: vec![Task::Ready; tasks], steps: 0 };
        inner.choose();
        Self { inner: Mutex::new(inner), turns: (0..tasks).map(|_| Condvar::new()).collect() }
    }

    /// Waits for the first turn of `me`.
    pub fn begin(&self, me: usize) {
        let inner = self.lock();
        drop(self.wait(inner, me));
    }

    /// Lets anybody else run first.
    pub fn step(&self, me: usize) {
        let mut inner = self.lock();
        inner.steps += 1;
        inner.micros += 20 + inner.dice.below(400);
        self.pass_on(inner, me);
    }

    /// Lets `span` pass for `me`.
    pub fn sleep(&self, me: usize, span: Duration) {
        let mut inner = self.lock();
        let until = inner.micros + u64::try_from(span.as_micros()).expect("a sleep of less than an age").max(1);
        inner.tasks[me] = Task::Asleep(until);
        self.pass_on(inner, me);
    }

    /// Ends `me`.
    pub fn done(&self, me: usize) {
        let mut inner = self.lock();
        inner.tasks[me] = Task::Done;
        inner.choose();
        if let Some(next) = inner.running {
            self.turns[next].notify_one();
        }
    }

    pub fn micros(&self) -> u64 {
        self.lock().micros
    }

    /// Tells two runs apart.
    pub fn fingerprint(&self) -> (u64, u64, u64) {
        let mut inner = self.lock();
        (inner.steps, inner.micros, inner.dice.roll())
    }

    fn pass_on(&self, mut inner: MutexGuard<'_, Inner>, me: usize) {
        inner.choose();
        if inner.running == Some(me) {
            return;
        }
        if let Some(next) = inner.running {
            self.turns[next].notify_one();
        }
        drop(self.wait(inner, me));
    }

    fn wait<'a>(&self, mut inner: MutexGuard<'a, Inner>, me: usize) -> MutexGuard<'a, Inner> {
        while inner.running != Some(me) {
            inner = self.turns[me].wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Draws who runs next; if all sleep, time passes.
    fn choose(&mut self) {
        loop {
            for task in &mut self.tasks {
                if matches!(*task, Task::Asleep(until) if until <= self.micros) {
                    *task = Task::Ready;
                }
            }
            let ready: Vec<usize> = (0..self.tasks.len()).filter(|&i| self.tasks[i] == Task::Ready).collect();
            if !ready.is_empty() {
                self.running = Some(ready[self.dice.below(ready.len() as u64) as usize]);
                return;
            }
            let wakes = self.tasks.iter().filter_map(|task| if let Task::Asleep(until) = task { Some(*until) } else { None });
            match wakes.min() {
                Some(until) => self.micros = until,
                None => {
                    self.running = None;
                    return;
                }
            }
        }
    }
}

/// The clock of one simulated process.
#[derive(Debug, Clone)]
pub struct SimClock {
    pub scheduler: Arc<Scheduler>,
    pub me: usize,
}

impl Clock for SimClock {
    fn wall(&self) -> f64 {
        1.0e9 + self.boot().as_secs_f64()
    }

    fn boot(&self) -> Duration {
        Duration::from_micros(self.scheduler.micros())
    }

    fn sleep(&self, span: Duration) {
        if !std::thread::panicking() {
            self.scheduler.sleep(self.me, span);
        }
    }
}
