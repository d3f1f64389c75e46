//! The right to do maintenance: one thread of one process of a host has it at a time, by a lock that guards nothing else and that nobody who
//! writes waits for. It is gone with the process that has it.

use crate::cache::engine::Engine;
use crate::clock::Deadline;
use crate::sync::{Ordering, lock};
use crate::vfs::{OpenMode, VfsFile};
use std::sync::Arc;
use std::time::Duration;

/// How long a caller that asked for maintenance waits for its turn, and how it looks.
const TURN_WAIT: Duration = Duration::from_secs(2);
const TURN_PAUSE: Duration = Duration::from_micros(500);

/// The right to do maintenance.
pub(crate) struct Turn<'a> {
    engine: &'a Engine,
    file: Option<Arc<dyn VfsFile>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // A lock that cannot be given back is gone with its descriptor.
            *lock(&self.engine.maintenance.lock_file) = file.unlock().ok().map(|()| Arc::clone(file));
        }
        self.engine.maintenance.busy.store(false, Ordering::Release);
    }
}

impl Engine {
    /// Returns whether a thread of this process is doing maintenance.
    pub(crate) fn is_maintaining(&self) -> bool {
        self.maintenance.busy.load(Ordering::Acquire)
    }

    pub(crate) fn take_turn(&self) -> Option<Turn<'_>> {
        if self.maintenance.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        let mut turn = Turn { engine: self, file: None };
        if !self.is_local() {
            return Some(turn);
        }
        let kept = lock(&self.maintenance.lock_file).take();
        let file = match kept {
            Some(file) => file,
            None => self.open_turn_file()?,
        };
        match file.try_lock() {
            Ok(true) => {
                turn.file = Some(file);
                Some(turn)
            }
            Ok(false) => {
                *lock(&self.maintenance.lock_file) = Some(file);
                None
            }
            Err(_) => None,
        }
    }

    /// Opens the file whose lock says who does maintenance; a forked child loses it, and with it the lock.
    fn open_turn_file(&self) -> Option<Arc<dyn VfsFile>> {
        let hold = crate::fork::hold();
        let file = self.vfs.open(&self.dir.join("maintain"), OpenMode::Create).ok()?;
        if let Some(fd) = file.raw_fd() {
            crate::fork::close_in_child(fd).ok()?;
        }
        drop(hold);
        Some(file)
    }

    /// Waits a little for the right to do maintenance: a thread of this process, or another process, may be at it.
    pub(super) fn wait_for_turn(&self) -> Option<Turn<'_>> {
        let deadline = Deadline::after(&*self.clock, TURN_WAIT);
        loop {
            if let Some(turn) = self.take_turn() {
                return Some(turn);
            }
            if deadline.passed(&*self.clock) {
                return None;
            }
            self.clock.sleep(TURN_PAUSE);
        }
    }
}
