//! The thread that does maintenance beside the writes of a local cache, so that no write waits for a sync or a merge.
//!
//! It lives only while something is due: the write that finds something due starts it, and it ends when nothing is. It may die with
//! its process at any instruction, as maintenance always may. A forked child has none and starts its own. Closing and dropping the
//! cache wait for the step at hand.

use crate::cache::engine::Engine;
use crate::clock::Deadline;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};
use std::sync::{OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a writer that is far ahead of the thread looks whether the thread is at work.
const WAIT: Duration = Duration::from_micros(200);
/// The longest pause of the thread between looks whether it is its turn.
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// How long the thread waits for the host's lock at a time: closing the cache waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether and by whom maintenance is done beside the writes.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// The engine itself, for the thread to hold; unset: maintenance is done inside the writes.
    engine: OnceLock<Weak<Engine>>,
    running: AtomicBool,
    stopped: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// Lets maintenance be done by a thread from now on.
    pub(crate) fn enable(engine: &Arc<Engine>) {
        // Set once, where the engine was made.
        drop(engine.worker.engine.set(Arc::downgrade(engine)));
    }

    /// Starts the thread unless it runs. `false` if there is none: the caller does the work itself.
    pub(crate) fn start(&self) -> bool {
        let Some(engine) = self.engine.get() else { return false };
        if self.stopped.load(Ordering::Acquire) {
            return false;
        }
        if self.running.swap(true, Ordering::AcqRel) {
            return true;
        }
        let Some(engine) = engine.upgrade() else { return false };
        let name = std::thread::Builder::new().name("diskcache".to_owned());
        match name.spawn(move || work(&engine)) {
            Ok(thread) => {
                *lock(&self.thread) = Some(thread);
                true
            }
            Err(_) => {
                self.running.store(false, Ordering::Release);
                false // no thread to be had
            }
        }
    }

    /// Waits for the step at hand; nothing is started any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic in it was said on standard error, and maintenance may end anywhere.
            drop(thread.join());
        }
    }

    /// Returns whether a thread does the maintenance.
    pub(crate) fn is_enabled(&self) -> bool {
        self.engine.get().is_some()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Says that the thread has ended, also when it panicked.
struct Ended<'a>(&'a Worker);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

fn work(engine: &Engine) {
    let ended = Ended(&engine.worker);
    let mut pause = WAIT;
    while engine.maintenance.is_due() && !engine.worker.is_stopped() {
        // What another process did meanwhile is no longer due.
        let fresh = engine.freshen(Deadline::after(&*engine.clock, PATIENCE));
        if fresh.is_ok() && engine.maintain(Deadline::after(&*engine.clock, PATIENCE)) {
            pause = WAIT;
        } else {
            engine.clock.sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
    drop(ended);
}

impl Engine {
    /// Returns whether a write would have to see to maintenance: some is due, and no thread is at it, or writers are too far ahead of that.
    #[inline]
    pub(crate) fn wants_maintenance(&self) -> bool {
        self.maintenance.is_due() && (!self.worker.running.load(Ordering::Acquire) || self.patience().is_some())
    }

    /// Has the thread do what is due, if there is one. A writer that is far ahead of it waits, the longer the further: longest while the thread is at
    /// work, and less while the thread waits for another process, which may be stopped.
    pub(crate) fn maintain_beside(&self, deadline: Deadline) -> bool {
        if !self.worker.start() {
            return false;
        }
        let begun = self.clock.boot();
        let mut seen_at_work = begun;
        while self.worker.running.load(Ordering::Acquire) && !deadline.passed(&*self.clock) {
            let Some(patience) = self.patience() else { break };
            let now = self.clock.boot();
            if self.is_maintaining() {
                seen_at_work = now;
            }
            if now.saturating_sub(seen_at_work) >= patience.for_others || now.saturating_sub(begun) >= patience.for_thread {
                break;
            }
            self.clock.sleep(WAIT);
        }
        true
    }
}
