//! Group commit between the threads of one process, in shared mode: whoever finds nobody publishing takes along what waits.

use crate::cache::engine::{Committed, Engine};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BodyBuilder;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, lock};
use std::time::Duration;

/// The longest wait before a thread looks at its deadline again.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How long a commit waits for threads that are about to write: a part of what the last one took, and this at most.
const GATHER_PART: u32 = 8;
const GATHER_MAX: Duration = Duration::from_millis(10);

/// Bytes that a commit of several threads has at most. (One thread alone may commit more.)
const GROUP_LEN_MAX: usize = 8 << 20;

/// What threads of this process want published.
#[derive(Debug, Default)]
pub(crate) struct Group {
    waiting: Mutex<Waiting>,
    done: Condvar,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    leading: bool,
    queue: Vec<Arc<Ticket>>,
    /// Threads that wrote when the last commit ended: those that it answered, and those that waited meanwhile.
    active: usize,
    /// How long the last commit took.
    took: Duration,
}

#[derive(Debug)]
struct Ticket {
    body: BodyBuilder,
    result: Mutex<Option<Result<Committed>>>,
}

impl Group {
    /// Publishes `body`, alone or together with others, and returns what came of it.
    pub(crate) fn commit(&self, engine: &Engine, body: &BodyBuilder, deadline: Deadline) -> Result<Committed> {
        let ticket = Arc::new(Ticket { body: body.clone(), result: Mutex::new(None) });
        let mut waiting = lock(&self.waiting);
        waiting.queue.push(Arc::clone(&ticket));
        self.arrived.notify_one();
        loop {
            if let Some(result) = lock(&ticket.result).take() {
                return result;
            }
            if !waiting.leading {
                waiting.leading = true;
                waiting = self.gather(waiting);
                let batch = take_batch(&mut waiting.queue);
                drop(waiting);
                let began = engine.clock.boot();
                let published = publish(engine, &batch, deadline);
                settle(&batch, published);
                waiting = lock(&self.waiting);
                waiting.took = engine.clock.boot().saturating_sub(began);
                waiting.active = batch.len() + waiting.queue.len();
                waiting.leading = false;
                self.done.notify_all();
                continue;
            }
            if deadline.passed(&*engine.clock) {
                return Err(give_up(&mut waiting.queue, &ticket, engine));
            }
            waiting = self.done.wait_timeout(waiting, WAIT_MAX).map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
        }
    }
}

impl Group {
    /// Waits a moment for the threads that the last commit has just answered: they are about to write again, and would else go with every other commit
    /// only. One thread alone waits for nobody.
    fn gather<'a>(&self, waiting: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        let patience = (waiting.took / GATHER_PART).min(GATHER_MAX);
        let active = waiting.active;
        let gathered = self.arrived.wait_timeout_while(waiting, patience, |waiting| waiting.queue.len() < active);
        gathered.map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard)
    }
}

/// Takes as many as fit into one commit, in the order in which they came.
fn take_batch(queue: &mut Vec<Arc<Ticket>>) -> Vec<Arc<Ticket>> {
    let mut len = 0;
    let fits = queue.iter().take_while(|ticket| {
        len += ticket.body.len();
        len <= GROUP_LEN_MAX
    });
    let count = fits.count().max(1).min(queue.len());
    queue.drain(..count).collect()
}

fn publish(engine: &Engine, batch: &[Arc<Ticket>], deadline: Deadline) -> Result<Committed> {
    engine.honour_hold(deadline)?;
    match batch {
        [one] => engine.publish(&one.body, None, deadline),
        several => {
            let mut body = BodyBuilder::default();
            several.iter().for_each(|ticket| body.append(&ticket.body));
            engine.publish(&body, None, deadline)
        }
    }
}

fn settle(batch: &[Arc<Ticket>], published: Result<Committed>) {
    match published {
        Ok(Committed { outcomes, void, folds }) => {
            let mut outcomes = outcomes.into_iter();
            for ticket in batch {
                let own = outcomes.by_ref().take(ticket.body.count() as usize).collect();
                *lock(&ticket.result) = Some(Ok(Committed { outcomes: own, void, folds: folds.clone() }));
            }
        }
        Err(error) => batch.iter().for_each(|ticket| *lock(&ticket.result) = Some(Err(error.clone()))),
    }
}

fn give_up(queue: &mut Vec<Arc<Ticket>>, ticket: &Arc<Ticket>, engine: &Engine) -> Error {
    let before = queue.len();
    queue.retain(|other| !Arc::ptr_eq(other, ticket));
    if queue.len() < before {
        Error::new(ErrorKind::Timeout, "other threads' commits took the whole timeout:").at(&engine.dir)
    } else {
        let what = "the commit that this write went along with did not end in time; it may or may not take effect:";
        Error::new(ErrorKind::OutcomeUnknown, what).at(&engine.dir)
    }
}
