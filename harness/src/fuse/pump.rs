//! Requests that cannot be answered at once.
//!
//! A job is a step that is run until it is done; between its steps it sleeps without holding a thread of the session.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a step of a job wants.
pub(super) enum Step {
    /// It is finished (and has answered).
    Done,
    /// Run it again after this long.
    Again(Duration),
}

/// A job: `FnMut` so that it can be run again.
pub(super) type Job = Box<dyn FnMut() -> Step + Send>;

struct Waiting {
    due: Instant,
    order: u64,
    job: Job,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

#[derive(Default)]
struct Queue {
    waiting: BinaryHeap<Reverse<Waiting>>,
    order: u64,
}

/// A few threads and the jobs that wait for their time.
pub(super) struct Pump {
    queue: Mutex<Queue>,
    more: Condvar,
}

impl Pump {
    /// Starts the threads. They live as long as the process: it exists for these mounts only.
    pub(super) fn start(threads: usize) -> std::io::Result<Arc<Pump>> {
        let pump = Arc::new(Pump { queue: Mutex::new(Queue::default()), more: Condvar::new() });
        for number in 0..threads {
            let pump = Arc::clone(&pump);
            std::thread::Builder::new().name(format!("pump-{number}")).spawn(move || pump.work())?;
        }
        Ok(pump)
    }

    /// Adds a job, to be run after a time.
    pub(super) fn add(&self, after: Duration, job: Job) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.order += 1;
        let order = queue.order;
        queue.waiting.push(Reverse(Waiting { due: Instant::now() + after, order, job }));
        drop(queue);
        self.more.notify_one();
    }

    fn work(&self) -> ! {
        loop {
            let mut job = self.next();
            match job() {
                Step::Done => {}
                Step::Again(after) => self.add(after, job),
            }
        }
    }

    fn next(&self) -> Job {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            let wait = match queue.waiting.peek() {
                Some(Reverse(first)) if first.due <= now => {
                    if let Some(Reverse(first)) = queue.waiting.pop() {
                        return first.job;
                    }
                    continue;
                }
                Some(Reverse(first)) => first.due - now,
                None => Duration::from_secs(3600),
            };
            queue = self.more.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
